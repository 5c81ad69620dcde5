//! Mistakes in the user's files: where they are, what they mean, what to do.
//!
//! Parsers and checks return many [`Diagnostic`]s at once; each points into a [`SourceFile`] by byte
//! ranges and renders to an excerpt with carets. `cli` decides about colour and prints. Errors of the
//! machine (a full disk, a missing engine) are no diagnostics until they are shown; every layer has its own
//! error type.
//!
//! # Rules for messages
//!
//! A message says what happened, where, why, and what to do, in this order and this form:
//!
//! ```text
//! error: [web] COPY requirments.txt /app/: `requirments.txt` not found
//!  --> web/Dockerfile:3:1
//!   |
//! 3 | COPY requirments.txt /app/
//!   | ^^^^^^^^^^^^^^^^^^^^^^^^^^ this step failed
//!   |
//!   = note: why it is so
//!   = help: did you mean `requirements.txt`?
//! ```
//!
//! - **What** is one sentence in lower case without a full stop, about the user's thing and not about ours:
//!   ``cannot read the secret `s` ``, not `failed to open file`. What was attempted is said once, with the verb
//!   in it (`cannot VERB THING`), however many layers the error went through: a variant that names the
//!   action takes the bare reason of its source (`EngineError::reason`), one that adds nothing is
//!   `transparent`.
//! - **Why** follows a colon. What the system, the engine or a registry said stands there unchanged; of a
//!   registry one short line. Further reasons are `note:` lines.
//! - **Where** is `FILE:LINE:COLUMN` with an excerpt and a caret wherever the user wrote a text; the service
//!   stands in front (`service web: …`, `web: …` in a build, `[web] …` of a step) where several may be meant,
//!   the flag (`--output X: …`) where it came from the command line.
//! - **What to do** is a `help:` line, an imperative or a question: one wherever there is something that the
//!   user can do, none that only repeats the error. In the text of an error ([`std::fmt::Display`]) it is a
//!   line of its own that begins with `help: `, behind the message; [`Diagnostic::error`],
//!   [`Diagnostic::warning`] and [`Diagnostic::note`] take it out. So a text may be put behind others
//!   (`going on without it: {error}`) and nothing behind it. A word that is close to a known one gets
//!   `did you mean …?` ([`Diagnostic::did_you_mean`], [`meant`]); a short list of what there is stands in
//!   parentheses behind the message: `(there are shared, private, locked)`.
//! - Names and texts that the user wrote, keys and commands stand in backticks; paths, addresses, digests and
//!   flags stand bare, and so do services and containers where they are the place.
//! - What compose, BuildKit or docker have and shipway has not is `not supported yet: THING`. A sentence that
//!   scripts know from docker compose keeps its words.
//! - No secret, no password in an address, no token; no name of a type, no [`std::fmt::Debug`]. Paths of the
//!   store only where the user can do something there.
//! - A warning has the same form, begins with `warning:` and says what happens all the same.
//! - All mistakes that can be found at once are shown at once.
//!
//! The exit code is 1 for every error, 130 with `stopped` alone where the user wanted it, a container's own
//! where the command stands for it (`cli`).
//!
//! `testdata/errors/catalogue.txt` has every error as it is shown; a variant without an entry there does not
//! compile.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// How a line of an error's text begins that says what to do.
const HELP: &str = "help: ";

/// A text that the user wrote and the name under which the user knows it.
#[derive(PartialEq, Eq, Hash)]
pub struct SourceFile {
    /// The path as it is to be shown.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl SourceFile {
    /// A file with its shown path and its text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }

    /// Line and column (both from 1, the column in characters) of a byte offset.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.boundary(offset);
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The nearest character boundary at or before `offset`, inside the text.
    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SourceFile({})", self.name)
    }
}

/// A range of bytes in a file.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Span {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Byte offsets into its text.
    pub range: Range<usize>,
}

impl Span {
    /// The bytes `range` of `file`.
    pub fn new(file: &Arc<SourceFile>, range: Range<usize>) -> Self {
        Self { file: Arc::clone(file), range }
    }

    /// Line and column of its start, both from 1.
    pub fn position(&self) -> (usize, usize) {
        self.file.position(self.range.start)
    }

    /// The text that it covers.
    pub fn text(&self) -> &str {
        let range = self.clamped();
        &self.file.text[range]
    }

    fn clamped(&self) -> Range<usize> {
        let start = self.file.boundary(self.range.start);
        let end = self.file.boundary(self.range.end).max(start);
        start..end
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position();
        write!(formatter, "{}:{line}:{column}", self.file.name)
    }
}

/// Whether a diagnostic stops the command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Severity {
    /// Worth saying, stops nothing.
    Warning,
    /// The input cannot be used.
    Error,
}

/// An error's text without its lines of advice, and what these say. A line within backticks is what somebody
/// wrote, whatever it begins with.
fn advised(text: &str) -> (String, Vec<String>) {
    let (mut message, mut help, mut quoted) = (Vec::new(), Vec::new(), false);
    for line in text.lines() {
        match line.strip_prefix(HELP).filter(|_| !quoted) {
            Some(advice) => help.push(advice.to_owned()),
            None => {
                quoted ^= line.matches('`').count() % 2 == 1;
                message.push(line);
            }
        }
    }
    (message.join("\n"), help)
}

/// One mistake: what it is, where (one place, perhaps further ones), why, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Whether it stops the command.
    pub severity: Severity,
    /// The name of the rule that it breaks, where there is one: `StageNameCasing`.
    pub rule: Option<&'static str>,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where, with a label for the caret (may be empty).
    pub place: Option<(Span, String)>,
    /// Further places that matter, each with its label.
    pub related: Vec<(Span, String)>,
    /// Why it is so.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// A mistake that stops the command. The text may be that of an error: its lines that begin with
    /// `help: ` become advice.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, &message.into())
    }

    /// Something worth saying that stops nothing; see [`Self::error`].
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, &message.into())
    }

    fn new(severity: Severity, message: &str) -> Self {
        let (rule, place) = (None, None);
        let (message, help) = advised(message);
        Self { severity, rule, message, place, related: Vec::new(), notes: Vec::new(), help }
    }

    /// Names the rule that is broken.
    #[must_use]
    pub fn rule(mut self, rule: &'static str) -> Self {
        self.rule = Some(rule);
        self
    }

    /// Points at the place; `label` stands beside the caret and may be empty.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.place = Some((span, label.into()));
        self
    }

    /// Points at a further place.
    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// Adds a reason; advice in it is taken as in [`Self::error`].
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        let (text, help) = advised(&text.into());
        self.notes.push(text);
        self.help.extend(help);
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds `did you mean …?` where a candidate is close to `word`.
    #[must_use]
    pub fn did_you_mean<'a>(self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match closest(word, candidates) {
            Some(candidate) => self.help(format!("did you mean `{candidate}`?")),
            None => self,
        }
    }

    /// The text with excerpts and carets, without a trailing newline; `colour` adds ANSI sequences.
    pub fn render(&self, colour: bool) -> String {
        self.render_within(colour, None)
    }

    /// The same with excerpts of at most so many columns; of longer lines the part around the caret is shown.
    pub fn render_within(&self, colour: bool, columns: Option<usize>) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut title = level.primary_title(self.message.as_str());
        if let Some(rule) = self.rule {
            title = title.id(rule);
        }
        let mut group = Group::with_title(title);
        for snippet in self.snippets() {
            group = group.element(snippet);
        }
        for note in &self.notes {
            group = group.element(Level::NOTE.message(note.as_str()));
        }
        for help in &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let renderer = columns.map_or(renderer.clone(), |columns| renderer.term_width(columns));
        let text = renderer.render(&[group]);
        if self.place.is_some() || !self.related.is_empty() {
            return text;
        }
        // Without an excerpt the renderer still draws the line that leads from one to the advice.
        text.lines().filter(|line| !is_rule(line)).collect::<Vec<_>>().join("\n")
    }

    /// One excerpt a file, the first with the caret.
    fn snippets(&self) -> Vec<Snippet<'_, annotate_snippets::Annotation<'_>>> {
        let mut files: Vec<&Arc<SourceFile>> = Vec::new();
        let primary = self.place.iter().map(|(span, label)| (span, label, AnnotationKind::Primary));
        let related = self.related.iter().map(|(span, label)| (span, label, AnnotationKind::Context));
        let all: Vec<_> = primary.chain(related).collect();
        for (span, ..) in &all {
            if !files.iter().any(|file| Arc::ptr_eq(file, &span.file)) {
                files.push(&span.file);
            }
        }
        files.into_iter().map(|file| excerpt(file, &all)).collect()
    }
}

/// Whether a line holds nothing but the bar at an excerpt's left side, coloured or not.
fn is_rule(line: &str) -> bool {
    let mut colour = false;
    let mut shown = line.chars().filter(|character| {
        let escape = colour || *character == '\u{1b}';
        colour = escape && *character != 'm';
        !escape && !character.is_whitespace()
    });
    shown.next() == Some('|') && shown.next().is_none()
}

fn excerpt<'a>(
    file: &'a SourceFile,
    places: &[(&'a Span, &'a String, AnnotationKind)],
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let own = || places.iter().filter(|(span, ..)| std::ptr::eq(&*span.file, file));
    // Only the lines around the places are laid out: a file may be large and its mistakes many.
    let text = file.text.as_str();
    let from = own().map(|(span, ..)| span.clamped().start).min().unwrap_or(0);
    let to = own().map(|(span, ..)| span.clamped().end).max().unwrap_or(text.len());
    // The end of a text belongs to its last line.
    let from = if from == text.len() { file.boundary(from.saturating_sub(1)) } else { from };
    let from = text[..from].rfind('\n').map_or(0, |newline| newline + 1);
    let to = text[to..].find('\n').map_or(text.len(), |newline| (to + newline + 2).min(text.len()));
    let to = file.boundary(to).max(from);
    let line = text[..from].bytes().filter(|byte| *byte == b'\n').count() + 1;
    let mut snippet = Snippet::source(&text[from..to]).path(file.name.as_str()).line_start(line).fold(true);
    for (span, label, kind) in own() {
        let range = span.clamped();
        let annotation = kind.span(range.start - from..range.end - from);
        let labelled = if label.is_empty() { annotation } else { annotation.label(label.as_str()) };
        snippet = snippet.annotation(labelled);
    }
    snippet
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

/// A text of progress as it is shown: its advice as [`Diagnostic::render`] shows it.
pub fn shown(text: &str) -> String {
    let (message, help) = advised(text);
    help.into_iter().fold(message, |text, help| format!("{text}\n = help: {help}"))
}

/// The advice that ends an error's text where a candidate is close to `word`, else nothing.
pub fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, candidates)
        .map_or_else(String::new, |candidate| format!("\n{HELP}did you mean `{candidate}`?"))
}

/// The candidate that a typing mistake most likely meant: at most a third of the letters wrong.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    let limit = (length.max(3) / 3).min(3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *candidate != word)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance with transpositions of neighbours, letters compared without case.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().flat_map(char::to_lowercase).collect();
    let right: Vec<char> = right.chars().flat_map(char::to_lowercase).collect();
    let mut rows = vec![(0..=right.len()).collect::<Vec<_>>()];
    for (row, &letter) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, &other) in right.iter().enumerate() {
            let change = rows[row][column] + usize::from(letter != other);
            let mut best = change.min(rows[row][column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && letter == right[column - 1] && left[row - 1] == other {
                best = best.min(rows[row - 1][column - 1] + 1);
            }
            current.push(best);
        }
        rows.push(current);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Diagnostic {
        let file = SourceFile::new("compose.yml", "services:\n web:\n  mage: nginx\n  ports: []\n");
        let start = file.text.find("mage").unwrap();
        Diagnostic::error("unknown key `mage` in service `web`")
            .at(Span::new(&file, start..start + 4), "")
            .did_you_mean("mage", ["image", "build", "ports"])
    }

    #[test]
    fn excerpt_has_file_line_caret_and_advice() {
        insta::assert_snapshot!(sample().render(false), @r"
        error: unknown key `mage` in service `web`
         --> compose.yml:3:3
          |
        3 |   mage: nginx
          |   ^^^^
          |
          = help: did you mean `image`?
        ");
    }

    #[test]
    fn advice_without_a_place_has_no_bar() {
        let diagnostic = Diagnostic::error("no room").help("make some");
        assert_eq!(diagnostic.render(false), "error: no room\n = help: make some");
        assert_eq!(diagnostic.render(true).lines().count(), 2);
    }

    #[test]
    fn lines_of_a_text_that_say_what_to_do_are_advice() {
        let text = "cannot start `web`: no room\nhelp: make some\nits log:\n  full\nhelp: ask";
        insta::assert_snapshot!(Diagnostic::error(text).render(false), @r"
        error: cannot start `web`: no room
               its log:
                 full
         = help: make some
         = help: ask
        ");
    }

    #[test]
    fn what_somebody_wrote_is_no_advice() {
        let text = "unknown key `mage\nhelp: run that` in `services.web`\nhelp: leave it out";
        let Diagnostic { message, help, .. } = Diagnostic::error(text);
        assert_eq!(message, "unknown key `mage\nhelp: run that` in `services.web`");
        assert_eq!(help, ["leave it out"]);
    }

    #[test]
    fn spans_out_of_bounds_or_inside_a_character_do_not_panic() {
        let file = SourceFile::new("f", "aé");
        for range in [0..99, 2..2, 50..60, 2..3] {
            let span = Span::new(&file, range);
            assert!(!Diagnostic::warning("w").at(span, "here").render(false).is_empty());
        }
    }

    #[test]
    fn closest_word_is_found_and_strangers_are_not() {
        assert_eq!(closest("mage", ["image", "build"]), Some("image"));
        assert_eq!(closest("enviroment", ["environment", "env_file"]), Some("environment"));
        assert_eq!(closest("COPPY", ["COPY", "RUN"]), Some("COPY"));
        assert_eq!(closest("zzz", ["image", "build"]), None);
    }

    #[test]
    fn position_counts_characters() {
        let file = SourceFile::new("f", "ab\né x");
        assert_eq!(file.position(file.text.find('x').unwrap()), (2, 3));
    }
}
