//! One logical line taken apart: keyword, flags, arguments in the form that the keyword asks for.
//!
//! This is the first of BuildKit's two layers: a form, not a meaning. A misspelt keyword, an unknown flag
//! or a wrong number of arguments passes here and is refused in `instructions`; only what has no form at
//! all (`ENV name`, an array of numbers) is a [`Mistake`]. All places are byte ranges of the line's text.

use std::ops::Range;

/// A part of a line with its text, which differs from the line's where quotes or escapes were removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

/// What has no form, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) message: String,
    pub(super) range: Range<usize>,
}

/// A line in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) keyword: Range<usize>,
    /// The keyword in upper case, where it is known.
    pub(super) name: Option<&'static str>,
    /// `--name`, `--name=value`; quotes removed.
    pub(super) flags: Vec<Piece>,
    /// What follows the flags.
    pub(super) rest: Range<usize>,
    pub(super) arguments: Arguments,
}

/// The arguments in their form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arguments {
    /// None, or the keyword is unknown.
    None,
    /// A JSON array of strings.
    Json(Vec<Piece>),
    /// Words between blanks; quotes stay.
    Words(Vec<Piece>),
    /// All of it.
    Text(Piece),
    /// `name=value …`
    Pairs(Vec<(Piece, Piece)>),
    /// `name value`
    Legacy(Piece, Piece),
    /// The first word and a command.
    Typed(Piece, Box<Arguments>),
    /// An instruction of its own.
    Trigger(Box<Statement>),
}

#[derive(Clone, Copy)]
enum Form {
    JsonOrText,
    JsonOrWords,
    Text,
    Words,
    QuotedWords,
    Pairs,
    Typed,
    Trigger,
}

/// Every instruction and the form of its arguments.
const INSTRUCTIONS: [(&str, Form); 18] = [
    ("ADD", Form::JsonOrWords),
    ("ARG", Form::QuotedWords),
    ("CMD", Form::JsonOrText),
    ("COPY", Form::JsonOrWords),
    ("ENTRYPOINT", Form::JsonOrText),
    ("ENV", Form::Pairs),
    ("EXPOSE", Form::Words),
    ("FROM", Form::Words),
    ("HEALTHCHECK", Form::Typed),
    ("LABEL", Form::Pairs),
    ("MAINTAINER", Form::Text),
    ("ONBUILD", Form::Trigger),
    ("RUN", Form::JsonOrText),
    ("SHELL", Form::JsonOrText),
    ("STOPSIGNAL", Form::Text),
    ("USER", Form::Text),
    ("VOLUME", Form::JsonOrWords),
    ("WORKDIR", Form::Text),
];

/// The keywords, in upper case.
pub(super) fn keywords() -> impl Iterator<Item = &'static str> {
    INSTRUCTIONS.iter().map(|(name, _)| *name)
}

impl Statement {
    /// The keyword is none that there is.
    pub(super) fn is_unknown(&self) -> bool {
        self.name.is_none()
    }

    /// `RUN`, `COPY` or `ADD`, perhaps behind `ONBUILD`, and not in JSON form.
    pub(super) fn may_have_heredocs(&self) -> bool {
        match (&self.arguments, self.name) {
            (Arguments::Trigger(inner), _) => inner.may_have_heredocs(),
            (Arguments::Json(_), _) => false,
            (_, name) => matches!(name, Some("RUN" | "COPY" | "ADD")),
        }
    }
}

/// At most the first forty characters, for messages.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Takes a line apart.
pub(super) fn split(line: &str, escape: char) -> Result<Statement, Mistake> {
    statement(line, trimmed(line, 0..line.len()), escape, true)
}

fn statement(line: &str, range: Range<usize>, escape: char, outer: bool) -> Result<Statement, Mistake> {
    let text = &line[range.clone()];
    let keyword = range.start..range.start + text.find(is_blank).unwrap_or(text.len());
    let (flags, start) = flags(line, keyword.end, range.end);
    let rest = trimmed(line, start..range.end);
    let found = INSTRUCTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&line[keyword.clone()]));
    let arguments = match found {
        Some((_, Form::Trigger)) if !outer => Arguments::None,
        Some((name, form)) => arguments(*form, name, line, rest.clone(), escape)?,
        None => Arguments::None,
    };
    Ok(Statement { keyword, name: found.map(|(name, _)| *name), flags, rest, arguments })
}

fn arguments(
    form: Form,
    name: &str,
    line: &str,
    rest: Range<usize>,
    escape: char,
) -> Result<Arguments, Mistake> {
    if rest.is_empty() {
        return Ok(Arguments::None);
    }
    let text = |range: Range<usize>| Arguments::Text(piece(line, range));
    Ok(match form {
        Form::Text => text(rest),
        Form::Words => Arguments::Words(blank_separated(line, rest)),
        Form::QuotedWords => Arguments::Words(quoted_words(line, rest, escape)),
        Form::JsonOrText => json(line, rest.clone())?.unwrap_or_else(|| text(rest)),
        Form::JsonOrWords => match json(line, rest.clone())? {
            Some(array) => array,
            None => Arguments::Words(blank_separated(line, rest)),
        },
        Form::Pairs => pairs(name, line, rest, escape)?,
        Form::Typed => typed(line, rest)?,
        Form::Trigger => Arguments::Trigger(Box::new(statement(line, rest, escape, false)?)),
    })
}

/// Blanks between words are these; a newline never is inside a line.
fn is_blank(letter: char) -> bool {
    matches!(letter, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

fn piece(line: &str, range: Range<usize>) -> Piece {
    Piece { text: line[range.clone()].to_owned(), range }
}

fn trimmed(line: &str, range: Range<usize>) -> Range<usize> {
    let text = &line[range.clone()];
    let start = range.end - text.trim_start().len();
    start..start + text.trim().len()
}

/// The words that begin with `--` at the start of the arguments, and where the rest begins. A lone `--`
/// ends them. Quotes are removed; the escape character is a backslash whatever the directive says.
fn flags(line: &str, start: usize, end: usize) -> (Vec<Piece>, usize) {
    let mut flags = Vec::new();
    let mut at = start;
    loop {
        at = end - line[at..end].trim_start().len();
        if !line[at..end].starts_with("--") {
            return (flags, at);
        }
        let (flag, length) = flag(&line[at..end]);
        let range = at..at + length;
        at = range.end;
        if flag == "--" {
            return (flags, at);
        }
        flags.push(Piece { text: flag, range });
    }
}

/// One flag up to the first blank outside quotes, and how much of the text it takes.
fn flag(text: &str) -> (String, usize) {
    let (mut flag, mut quote) = (String::new(), None);
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            _ if quote == Some(letter) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(letter),
            '\\' => flag.extend(letters.next().map(|(_, escaped)| escaped)),
            _ if quote.is_none() && letter.is_whitespace() => return (flag, at),
            _ => flag.push(letter),
        }
    }
    (flag, text.len())
}

fn blank_separated(line: &str, range: Range<usize>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let text = &line[at..range.end];
        let length = text.find(is_blank).unwrap_or(text.len());
        if length > 0 {
            pieces.push(piece(line, at..at + length));
        }
        at += length;
        at += line[at..range.end].chars().next().map_or(0, char::len_utf8);
    }
    pieces
}

/// Words between blanks, where quotes and escapes hold a word together and stay in its text.
fn quoted_words(line: &str, range: Range<usize>, escape: char) -> Vec<Piece> {
    let (mut words, mut start, mut quote) = (Vec::new(), None, None);
    let mut letters = line[range.clone()].char_indices().map(|(at, letter)| (range.start + at, letter));
    let mut end = range.end;
    while let Some((at, letter)) = letters.next() {
        if quote.is_none() && letter.is_whitespace() {
            words.extend(start.take().map(|start| piece(line, start..at)));
            continue;
        }
        start.get_or_insert(at);
        match letter {
            _ if quote == Some(letter) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(letter),
            _ if letter == escape && quote != Some('\'') && letters.next().is_none() => end = at,
            _ => {}
        }
    }
    words.extend(start.map(|start| piece(line, start..end)));
    words.retain(|word| !word.range.is_empty());
    words
}

/// `name=value …`, or `name value` where the first word has no `=`.
fn pairs(name: &str, line: &str, rest: Range<usize>, escape: char) -> Result<Arguments, Mistake> {
    let words = quoted_words(line, rest.clone(), escape);
    let Some(first) = words.first() else { return Ok(Arguments::None) };
    if !first.text.contains('=') {
        return legacy(name, line, rest);
    }
    let split = |word: Piece| match word.text.find('=') {
        Some(at) => {
            let middle = word.range.start + at;
            Ok((piece(line, word.range.start..middle), piece(line, middle + 1..word.range.end)))
        }
        None => {
            let message = format!("there is no `=` in `{}`: it must be name=value", short(&word.text));
            Err(Mistake { message, range: word.range })
        }
    };
    words.into_iter().map(split).collect::<Result<_, _>>().map(Arguments::Pairs)
}

fn legacy(name: &str, line: &str, rest: Range<usize>) -> Result<Arguments, Mistake> {
    let text = &line[rest.clone()];
    let Some(length) = text.find(is_blank) else {
        let message = format!("{name} needs a name and a value: `{name} NAME=value`");
        return Err(Mistake { message, range: rest });
    };
    let start = rest.end - text[length..].trim_start_matches(is_blank).len();
    Ok(Arguments::Legacy(piece(line, rest.start..rest.start + length), piece(line, start..rest.end)))
}

fn typed(line: &str, rest: Range<usize>) -> Result<Arguments, Mistake> {
    let text = &line[rest.clone()];
    let length = text.find(char::is_whitespace).unwrap_or(text.len());
    let first = piece(line, rest.start..rest.start + length);
    let command = trimmed(line, rest.start + length..rest.end);
    let command = match command.is_empty() {
        true => Arguments::None,
        false => json(line, command.clone())?.unwrap_or_else(|| Arguments::Text(piece(line, command))),
    };
    Ok(Arguments::Typed(first, Box::new(command)))
}

/// A JSON array of strings; `None` where it is no JSON array at all, and then it is plain text.
fn json(line: &str, range: Range<usize>) -> Result<Option<Arguments>, Mistake> {
    let text = &line[range.clone()];
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    let mut places = strings(text).map(|place| range.start + place.start..range.start + place.end);
    let string = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => {
            Ok(Piece { text, range: places.next().unwrap_or_else(|| range.clone()) })
        }
        _ => Err(Mistake {
            message: "the elements of an array must all be strings".into(),
            range: range.clone(),
        }),
    };
    values.into_iter().map(string).collect::<Result<_, _>>().map(|pieces| Some(Arguments::Json(pieces)))
}

/// The places of the string literals of a valid JSON text, quotes included.
fn strings(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut letters = text.char_indices();
    std::iter::from_fn(move || {
        let (start, _) = letters.find(|(_, letter)| *letter == '"')?;
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => drop(letters.next()),
                '"' => return Some(start..at + 1),
                _ => {}
            }
        }
        None
    })
}
