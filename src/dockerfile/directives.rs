//! Parser directives: `# syntax=`, `# escape=`, `# check=` on the first lines.
//!
//! Known keys are read until the first line that is none; after that a directive is a comment. Each may
//! stand once. The text of `check` is read here too, also where it stands above one instruction.

use crate::base::diag::{Diagnostic, Span};

use super::ast::Word;
use super::flags::boolean;

/// What the first lines of the file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The external grammar that the file asks for; the built-in one is used all the same.
    pub syntax: Option<Word>,
    /// Escapes in words, joins lines: `\` or a backtick.
    pub escape: char,
    /// Which checks are skipped, and whether a failed check is an error.
    pub check: Option<Check>,
}

/// `# check=skip=A,B;error=true`
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Check {
    /// `skip=all`
    pub skip_all: bool,
    /// `skip=`: rule names
    pub skip: Vec<String>,
    /// `error=true`: a failed check stops the build
    pub error: bool,
    /// `experimental=all`
    pub experimental_all: bool,
    /// `experimental=`: rules that are not on by default
    pub experimental: Vec<String>,
    /// Where it stands.
    pub place: Option<Span>,
    /// What follows the first blank, which BuildKit does not read.
    pub unread: String,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

/// Takes the lines from the first on, until one is no directive.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) directives: Directives,
    seen: Vec<String>,
    done: bool,
}

impl Reader {
    /// Ends the directives: a blank line, an instruction, another comment.
    pub(super) fn end(&mut self) {
        self.done = true;
    }

    /// Takes a comment line, from its `#` on. Tells whether it is a directive.
    pub(super) fn comment(&mut self, line: &Word, wrong: &mut Vec<Diagnostic>) -> bool {
        if self.done {
            return false;
        }
        let Some((name, value)) = split(line) else {
            self.done = true;
            return false;
        };
        if self.seen.contains(&name) {
            let message = format!("only one `{name}` parser directive can be used");
            wrong.push(Diagnostic::error(message).at(line.span.clone(), ""));
            return true;
        }
        match name.as_str() {
            "syntax" => self.directives.syntax = Some(value),
            "escape" => self.escape(&value, wrong),
            _ => match Check::of_comment(&value) {
                Ok(check) => self.directives.check = Some(check),
                Err(mistake) => wrong.push(*mistake),
            },
        }
        self.seen.push(name);
        true
    }

    fn escape(&mut self, value: &Word, wrong: &mut Vec<Diagnostic>) {
        match value.text.as_str() {
            "\\" => self.directives.escape = '\\',
            "`" => self.directives.escape = '`',
            other => wrong.push(
                Diagnostic::error(format!("invalid escape character `{other}`"))
                    .at(value.span.clone(), "must be \\ or a backtick"),
            ),
        }
    }
}

/// Name (in lower case) and value of a known directive.
fn split(line: &Word) -> Option<(String, Word)> {
    let (name, value) = line.text.strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    if !["syntax", "escape", "check"].contains(&name.as_str()) || value.is_empty() {
        return None;
    }
    let trimmed = if value.trim().is_empty() { value } else { value.trim() };
    let start = line.span.range.start + line.text.find('=')? + 1 + value.find(trimmed)?;
    Some((name, Word::new(trimmed, Span::new(&line.span.file, start..start + trimmed.len()))))
}

impl Check {
    /// Reads what stands in a comment: up to the first blank.
    pub(super) fn of_comment(value: &Word) -> Result<Self, Box<Diagnostic>> {
        let (read, unread) = value.text.split_once(' ').unwrap_or((&value.text, ""));
        let check = Self::parse(&Word::new(read, value.span.clone()))?;
        Ok(Self { unread: unread.to_owned(), ..check })
    }

    /// Reads `skip=A,B;error=true`; the mistake points at the whole.
    pub(super) fn parse(value: &Word) -> Result<Self, Box<Diagnostic>> {
        let mut check = Self { place: Some(value.span.clone()), ..Self::default() };
        if value.text.trim().is_empty() {
            return Ok(check);
        }
        for option in value.text.trim().split(';') {
            let Some((key, text)) = option.split_once('=').map(|(key, text)| (key.trim(), text.trim()))
            else {
                return Err(wrong_option(value, option, option.trim()));
            };
            let names = || text.split(',').map(|name| name.trim().to_owned()).collect();
            match key {
                "skip" if text == "all" => check.skip_all = true,
                "skip" => check.skip = names(),
                "experimental" if text == "all" => check.experimental_all = true,
                "experimental" => check.experimental = names(),
                "error" => match boolean(text) {
                    Some(error) => check.error = error,
                    None => return Err(wrong_option(value, option, key)),
                },
                _ => return Err(wrong_option(value, option, key)),
            }
        }
        Ok(check)
    }

    /// Whether this says that a rule is not to be applied.
    pub fn skips(&self, rule: &str) -> bool {
        self.skip_all || self.skip.iter().any(|name| name == rule)
    }

    /// Whether this turns on a rule that is off by default.
    pub fn enables(&self, rule: &str) -> bool {
        self.experimental_all || self.experimental.iter().any(|name| name == rule)
    }

    /// The rules that it names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.skip.iter().chain(&self.experimental).map(String::as_str).filter(|name| !name.is_empty())
    }
}

fn wrong_option(value: &Word, option: &str, key: &str) -> Box<Diagnostic> {
    Diagnostic::error(format!("invalid check option `{}`", option.trim()))
        .at(value.span.clone(), "")
        .note("there are skip=RULE,…, skip=all, error=true, experimental=RULE,… and experimental=all")
        .did_you_mean(key, ["skip", "error", "experimental"])
        .into()
}
