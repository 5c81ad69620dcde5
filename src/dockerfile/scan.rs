//! From text to logical lines: comments, directives, continuations, heredoc bodies.
//!
//! Physical lines are read once from the top. Comments and blank lines are passed over, lines that end in
//! the escape character are joined with the next, and where the joined line is an instruction that may
//! have heredocs, their bodies are taken from the lines below. A [`Line`] can tell the place in the file of
//! each part of its text. What an instruction means is not known here beyond its name and form.

use std::ops::Range;
use std::sync::Arc;

use crate::base::diag::{Diagnostic, SourceFile, Span};

use super::ast::{Heredoc, Word};
use super::directives::{Directives, Reader};
use super::heredoc::{self, Mark};
use super::syntax::{self, Mistake, Statement};

/// The longest physical line that BuildKit reads, in bytes without its newline.
const LONGEST_LINE: usize = 65535;

/// What a file holds, line by line.
pub(super) struct Scanned {
    pub(super) directives: Directives,
    pub(super) lines: Vec<Line>,
}

/// One instruction on one line.
pub(super) struct Line {
    file: Arc<SourceFile>,
    /// The physical lines joined, without escape characters, comments and blank lines between them.
    pub(super) text: String,
    /// Where each joined part begins: in `text`, in the file.
    parts: Vec<(usize, usize)>,
    /// The place in the file, heredoc bodies included.
    pub(super) place: Range<usize>,
    /// The comments directly above, without `#`.
    pub(super) comments: Vec<Word>,
    /// Blank lines inside.
    pub(super) gaps: Vec<Span>,
    /// The line taken apart.
    pub(super) statement: Result<Statement, Mistake>,
    /// The bodies that its marks open, in order.
    pub(super) heredocs: Vec<Heredoc>,
}

impl Line {
    /// The place of a part of the text.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let start = self.locate(range.start);
        let end = if range.is_empty() { start } else { self.locate(range.end - 1) + 1 };
        Span::new(&self.file, start..end)
    }

    /// The place of the whole.
    pub(super) fn whole(&self) -> Span {
        Span::new(&self.file, self.place.clone())
    }

    /// A part of the text as it is.
    pub(super) fn word(&self, range: Range<usize>) -> Word {
        Word::new(&self.text[range.clone()], self.span(range))
    }

    /// The text from `from` on for people: each continuation is one blank, or nothing where there is none.
    pub(super) fn shown(&self, from: usize) -> String {
        let mut shown = String::new();
        for (index, (start, _)) in self.parts.iter().enumerate() {
            let end = self.parts.get(index + 1).map_or(self.text.len(), |(next, _)| *next);
            if end <= from {
                continue;
            }
            let part = &self.text[(*start).max(from)..end];
            let trimmed = part.trim_start();
            let blank = trimmed.len() < part.len() || shown.ends_with(char::is_whitespace);
            shown.truncate(shown.trim_end().len());
            if blank && !shown.is_empty() {
                shown.push(' ');
            }
            shown.push_str(trimmed);
        }
        shown.truncate(shown.trim_end().len());
        shown
    }

    /// The offset in the file of a byte of the text.
    fn locate(&self, offset: usize) -> usize {
        let after = self.parts.partition_point(|(start, _)| *start <= offset);
        match after.checked_sub(1).map(|index| self.parts[index]) {
            Some((start, place)) => place + (offset - start),
            None => self.place.start,
        }
    }
}

/// Reads a whole file. Mistakes go to `wrong`; what can be read is returned nevertheless.
pub(super) fn scan(file: &Arc<SourceFile>, wrong: &mut Vec<Diagnostic>) -> Scanned {
    let start = if file.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut scanner = Scanner {
        file,
        at: start,
        reader: Reader::default(),
        comments: Vec::new(),
        lost_heredoc: false,
        wrong,
    };
    let mut lines = Vec::new();
    while let Some(physical) = scanner.next() {
        lines.extend(scanner.line(physical));
    }
    Scanned { directives: scanner.reader.directives, lines }
}

struct Scanner<'a> {
    file: &'a Arc<SourceFile>,
    at: usize,
    reader: Reader,
    comments: Vec<Word>,
    /// A body was searched for an unknown instruction and not found: it is not searched again.
    lost_heredoc: bool,
    wrong: &'a mut Vec<Diagnostic>,
}

impl<'a> Scanner<'a> {
    /// The place of the next line of the file, without its newline.
    fn next(&mut self) -> Option<Range<usize>> {
        let text = &self.file.text[self.at..];
        if text.is_empty() {
            return None;
        }
        let length = text.find('\n').unwrap_or(text.len());
        let next = self.at + (length + 1).min(text.len());
        let end = self.at + text[..length].trim_end_matches(['\r', '\n']).len();
        let physical = self.at..end;
        if length > LONGEST_LINE {
            let message = format!("this line is longer than the {LONGEST_LINE} bytes that a line may have");
            let start = Span::new(self.file, self.at..self.at);
            self.wrong.push(Diagnostic::error(message).at(start, ""));
        }
        self.at = next;
        Some(physical)
    }

    fn text(&self, physical: &Range<usize>) -> &'a str {
        &self.file.text[physical.clone()]
    }

    /// The logical line that begins here, if one does.
    fn line(&mut self, physical: Range<usize>) -> Option<Line> {
        let text = self.text(&physical);
        let start = physical.end - text.trim_start().len();
        let text = text.trim_start();
        if text.starts_with('#') {
            let word = Word::new(text, Span::new(self.file, start..physical.end));
            self.comment(&word);
            return None;
        }
        self.reader.end();
        if text.is_empty() {
            self.comments.clear();
            return None;
        }
        let mut line = self.join(start, physical);
        if line.text.trim().is_empty() {
            self.wrong
                .push(Diagnostic::error("this line continuation continues nothing").at(line.whole(), ""));
            return None;
        }
        self.bodies(&mut line);
        Some(line)
    }

    fn comment(&mut self, line: &Word) {
        if self.reader.comment(line, self.wrong) {
            return;
        }
        self.reader.end();
        let text = line.text[1..].trim();
        if text.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(Word::new(text, line.span.clone()));
        }
    }

    /// Joins a line with those that continue it.
    fn join(&mut self, start: usize, first: Range<usize>) -> Line {
        let escape = self.reader.directives.escape;
        let (mut text, mut parts, mut gaps) = (String::new(), Vec::new(), Vec::new());
        let mut end = first.end;
        let mut append = |file: &SourceFile, range: Range<usize>| {
            let (part, continues) = continuation(&file.text[range.clone()], escape);
            parts.push((text.len(), range.start));
            text.push_str(part);
            continues
        };
        let mut continues = append(self.file, start..end);
        while continues {
            let Some(physical) = self.next() else { break };
            let content = self.file.text[physical.clone()].trim_start();
            if content.is_empty() {
                gaps.push(Span::new(self.file, physical.clone()));
            } else if !content.starts_with('#') {
                end = physical.end;
                continues = append(self.file, physical);
            }
        }
        let statement = syntax::split(&text, escape);
        let comments = std::mem::take(&mut self.comments);
        let file = Arc::clone(self.file);
        Line { file, text, parts, place: start..end, comments, gaps, statement, heredocs: Vec::new() }
    }

    /// Takes the bodies of a line's heredocs. An unknown instruction gets them too where they end, so that
    /// a misspelt `RUN` does not make a mistake of each line of its script.
    fn bodies(&mut self, line: &mut Line) {
        let known = match &line.statement {
            Ok(statement) if statement.is_unknown() => false,
            Ok(statement) if statement.may_have_heredocs() => true,
            _ => return,
        };
        if !known && self.lost_heredoc {
            return;
        }
        let mut search = 0;
        for mark in heredoc::marks(&line.text) {
            let found = line.text[search..].find("<<").map_or(search, |at| search + at);
            search = (found + 2).min(line.text.len());
            let before = self.at;
            match self.body(&mark) {
                Some(heredoc) => {
                    line.place.end = heredoc.span.range.end;
                    line.heredocs.push(heredoc);
                }
                None if known => {
                    let mistake = self.endless(&mark, line.span(found..search), before);
                    self.wrong.push(mistake);
                    return;
                }
                None => {
                    self.at = before;
                    self.lost_heredoc = true;
                    return;
                }
            }
        }
    }

    /// A heredoc whose terminator is missing, or is there with blanks around it.
    fn endless(&self, mark: &Mark, place: Span, body: usize) -> Diagnostic {
        let name = syntax::short(&mark.name);
        let mistake = Diagnostic::error(format!("the heredoc `{name}` does not end"))
            .at(place, "begins here")
            .help(format!("end it with a line that is exactly `{name}`"));
        let mut start = body;
        for line in self.file.text[body..].split_inclusive('\n') {
            if line.trim() == mark.name {
                let end = start + line.trim_end_matches(['\r', '\n']).len();
                return mistake.also(Span::new(self.file, start..end), "there are blanks around it");
            }
            start += line.len();
        }
        mistake
    }

    /// Everything up to the line that is the mark's name.
    fn body(&mut self, mark: &Mark) -> Option<Heredoc> {
        let start = self.at;
        loop {
            let physical = self.next()?;
            let mut text = self.text(&physical);
            if mark.strip_tabs {
                text = text.trim_start_matches('\t');
            }
            if text == mark.name {
                let raw = self.file.text[start..physical.start].to_owned();
                return Some(Heredoc {
                    name: mark.name.clone(),
                    content: if mark.strip_tabs { heredoc::without_tabs(&raw) } else { raw.clone() },
                    raw,
                    expand: mark.expand,
                    strip_tabs: mark.strip_tabs,
                    descriptor: mark.descriptor,
                    span: Span::new(self.file, start..physical.end),
                });
            }
        }
    }
}

/// The line without the escape character that ends it, and whether there is one: the last character but
/// blanks and tabs, and not itself escaped.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}
