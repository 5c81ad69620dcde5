//! The flags of an instruction: which ones it takes, and which of them take a value.
//!
//! Every mistake is reported: an unknown flag (with the closest known one), one given twice, a missing or
//! wrong value. What a value means is read by those who ask for it.

use crate::base::diag::{Diagnostic, Span, closest};

use super::ast::Word;
use super::scan::Line;
use super::syntax::{Piece, short};

/// What follows a flag's name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, `=true` or `=false`.
    Switch,
    /// `=value`, once.
    Value,
    /// `=value`, any number of times.
    Values,
}

/// The flags that an instruction has.
pub(super) type Allowed = &'static [(&'static str, Takes)];

/// The flags that are given, in order.
pub(super) struct Flags(Vec<Given>);

struct Given {
    name: &'static str,
    value: Option<Word>,
    span: Span,
}

impl Flags {
    /// Checks the flags of a line against those that its instruction has.
    pub(super) fn read(
        line: &Line,
        instruction: &str,
        flags: &[Piece],
        allowed: Allowed,
        wrong: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut given: Vec<Given> = Vec::new();
        for flag in flags {
            match read(line, instruction, flag, allowed, &given) {
                Ok(flag) => given.push(flag),
                Err(mistake) => wrong.push(*mistake),
            }
        }
        Self(given)
    }

    /// The value of a flag; an empty one counts as not given.
    pub(super) fn value(&self, name: &str) -> Option<Word> {
        self.values(name).into_iter().next()
    }

    /// All values of a flag, empty ones left out.
    pub(super) fn values(&self, name: &str) -> Vec<Word> {
        let values = self.0.iter().filter(|flag| flag.name == name).filter_map(|flag| flag.value.clone());
        values.filter(|word| !word.text.is_empty()).collect()
    }

    /// The place of a flag that is given with an empty value.
    pub(super) fn empty(&self, name: &str) -> Option<&Span> {
        let empty = |flag: &&Given| flag.value.as_ref().is_some_and(|word| word.text.is_empty());
        self.0.iter().filter(|flag| flag.name == name).find(empty).map(|flag| &flag.span)
    }

    /// The state of a switch, where it is given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        let flag = self.0.iter().find(|flag| flag.name == name)?;
        Some(!flag.value.as_ref().is_some_and(|word| word.text.eq_ignore_ascii_case("false")))
    }

    /// The place of each flag by its name.
    pub(super) fn places(&self) -> Vec<(&'static str, Span)> {
        self.0.iter().map(|flag| (flag.name, flag.span.clone())).collect()
    }
}

fn read(
    line: &Line,
    instruction: &str,
    flag: &Piece,
    allowed: Allowed,
    earlier: &[Given],
) -> Result<Given, Box<Diagnostic>> {
    let span = line.span(flag.range.clone());
    let text = flag.text.strip_prefix("--").unwrap_or(&flag.text);
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let refuse = |message: String| Diagnostic::error(message).at(span.clone(), "");
    let shown = short(name);
    let Some(&(name, takes)) = allowed.iter().find(|(known, _)| *known == name) else {
        let mistake = refuse(format!("{instruction} has no flag `--{shown}`"));
        let meant = closest(&shown, allowed.iter().map(|(known, _)| *known));
        let meant = meant.map(|known| format!("did you mean `--{known}`?"));
        return Err(Diagnostic { help: meant.into_iter().collect(), ..mistake }.into());
    };
    if takes != Takes::Values && earlier.iter().any(|flag| flag.name == name) {
        return Err(refuse(format!("the flag `--{name}` is given twice")).into());
    }
    match (takes, value) {
        (Takes::Value | Takes::Values, None) => {
            return Err(refuse(format!("the flag `--{name}` needs a value: `--{name}=…`")).into());
        }
        (Takes::Switch, Some(value))
            if !["true", "false"].iter().any(|known| known.eq_ignore_ascii_case(value)) =>
        {
            return Err(
                refuse(format!("the flag `--{name}` is true or false, not `{}`", short(value))).into()
            );
        }
        _ => {}
    }
    let value = value.map(|value| Word::new(value, value_span(line, flag, value)));
    Ok(Given { name, value, span })
}

/// The place of a flag's value; the whole flag's where quotes or escapes were removed.
fn value_span(line: &Line, flag: &Piece, value: &str) -> Span {
    match line.text[flag.range.clone()] == flag.text {
        true => line.span(flag.range.end - value.len()..flag.range.end),
        false => line.span(flag.range.clone()),
    }
}

/// Go's `strconv.ParseBool`.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
