//! Interpolation: `$NAME`, `${NAME}`, and the six forms with a default, an alternative or a demand.
//!
//! Rules of compose-go's template package: names are `[A-Za-z_][A-Za-z0-9_]*`, `$$` is a dollar, a dollar
//! that begins no name is a dollar, defaults nest. A variable that is not set is empty and told once to the
//! caller. Only values are interpolated, never keys; [`interpolate`] walks a tree, [`substitute`] one text.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Serialize;

use super::tree::{Kind, Node};
use crate::base::diag::{Diagnostic, Span};

/// How deep defaults may nest.
const MOST_DEPTH: usize = 30;

/// Finds a variable's value.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a text could not be interpolated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VarFault {
    /// A `${…}` that has none of the forms.
    Form(String),
    /// `${NAME:?message}` without a value.
    Required {
        /// The variable.
        name: String,
        /// What its author wants to be told.
        message: String,
    },
}

impl VarFault {
    /// One sentence.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Form(form) => format!("`{form}` is no interpolation that compose knows"),
            Self::Required { name, message } if message.is_empty() => {
                format!("the variable `{name}` must have a value")
            }
            Self::Required { name, message } => format!("the variable `{name}` must have a value: {message}"),
        }
    }

    /// As a mistake at `span`.
    pub(super) fn diagnostic(&self, span: &Span) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.message()).at(span.clone(), "");
        match self {
            Self::Form(_) => diagnostic.help("a `$` that is meant as such is written `$$`"),
            Self::Required { name, .. } => {
                diagnostic.help(format!("set it in the environment or in `.env`: {name}=…"))
            }
        }
    }
}

/// The variables that files may refer to, each with the place where it was set.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    /// Values by name.
    pub values: BTreeMap<String, String>,
    /// Where those that come from a file were set.
    pub places: BTreeMap<String, Span>,
    /// Names that were asked for and not set.
    unset: RefCell<BTreeMap<String, Span>>,
}

impl Variables {
    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    /// A warning for each variable that had no value, with the first place that asked.
    pub(super) fn warnings(&self) -> Vec<Diagnostic> {
        let unset = self.unset.borrow();
        unset
            .iter()
            .map(|(name, span)| {
                Diagnostic::warning(format!("the variable `{name}` is not set; it counts as empty"))
                    .at(span.clone(), "")
            })
            .collect()
    }
}

/// Replaces the variables in all texts of a tree; a text that cannot be interpolated keeps its fault.
pub(super) fn interpolate(node: &mut Node, variables: &Variables) {
    match &mut node.kind {
        Kind::Text(text) if text.contains('$') => {
            let mut unset = Vec::new();
            let result =
                substitute(text, &|name| variables.get(name), &mut |name| unset.push(name.to_owned()));
            match result {
                Ok(replaced) => *text = replaced,
                Err(fault) => node.fault = Some(Box::new(fault.diagnostic(&node.span))),
            }
            for name in unset {
                variables.unset.borrow_mut().entry(name).or_insert_with(|| node.span.clone());
            }
        }
        Kind::List(items) => items.iter_mut().for_each(|item| interpolate(item, variables)),
        Kind::Map(map) => map.values_mut().for_each(|entry| interpolate(&mut entry.node, variables)),
        _ => {}
    }
}

/// Replaces the variables of one text; `on_unset` hears of each plain reference without a value.
///
/// # Errors
/// [`VarFault`].
pub(super) fn substitute(
    text: &str,
    lookup: Lookup<'_>,
    on_unset: &mut dyn FnMut(&str),
) -> Result<String, VarFault> {
    nested(text, lookup, on_unset, 0)
}

fn nested(
    text: &str,
    lookup: Lookup<'_>,
    on_unset: &mut dyn FnMut(&str),
    depth: usize,
) -> Result<String, VarFault> {
    if depth > MOST_DEPTH {
        return Err(VarFault::Form(excerpt(text)));
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if rest.starts_with('{') {
            let end = closing(rest).ok_or_else(|| VarFault::Form(excerpt(&format!("${rest}"))))?;
            result.push_str(&braced(&rest[1..end], lookup, on_unset, depth)?);
            rest = &rest[end + 1..];
        } else {
            let length = name_length(rest);
            if length == 0 {
                result.push('$');
            } else {
                result.push_str(&plain(&rest[..length], lookup, on_unset));
            }
            rest = &rest[length..];
        }
    }
    result.push_str(rest);
    Ok(result)
}

/// What stands between the braces: a name, perhaps with an operator and its word.
fn braced(
    inner: &str,
    lookup: Lookup<'_>,
    on_unset: &mut dyn FnMut(&str),
    depth: usize,
) -> Result<String, VarFault> {
    let (name, rest) = inner.split_at(name_length(inner));
    if name.is_empty() || rest.contains('\n') {
        return Err(VarFault::Form(excerpt(&format!("${{{inner}}}"))));
    }
    if rest.is_empty() {
        return Ok(plain(name, lookup, on_unset));
    }
    let (empty_counts, rest) = match rest.strip_prefix(':') {
        Some(rest) => (false, rest),
        None => (true, rest),
    };
    let value = lookup(name).filter(|value| empty_counts || !value.is_empty());
    let word = rest.get(1..).unwrap_or_default();
    match (rest.as_bytes().first(), value) {
        (Some(b'-'), Some(value)) | (Some(b'?'), Some(value)) => Ok(value),
        (Some(b'-'), None) | (Some(b'+'), Some(_)) => nested(word, lookup, on_unset, depth + 1),
        (Some(b'+'), None) => Ok(String::new()),
        (Some(b'?'), None) => {
            let message = nested(word, lookup, on_unset, depth + 1)?;
            Err(VarFault::Required { name: name.to_owned(), message })
        }
        _ => Err(VarFault::Form(excerpt(&format!("${{{inner}}}")))),
    }
}

fn plain(name: &str, lookup: Lookup<'_>, on_unset: &mut dyn FnMut(&str)) -> String {
    lookup(name).unwrap_or_else(|| {
        on_unset(name);
        String::new()
    })
}

/// The length of the name at the beginning of a text; 0 when there is none.
pub(super) fn name_length(text: &str) -> usize {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    match text.as_bytes().first() {
        Some(first) if part(first) && !first.is_ascii_digit() => {
            text.bytes().take_while(|byte| part(byte)).count()
        }
        _ => 0,
    }
}

/// The offset of the brace that closes the one with which the text begins.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn excerpt(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(60).collect()
}

/// A variable as a project's files refer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What counts where it has no value: the word of `${NAME:-word}`.
    pub default: String,
    /// What counts where it has one: the word of `${NAME:+word}`.
    pub alternative: String,
    /// Whether it must have a value: `${NAME:?}`.
    pub required: bool,
}

/// Adds the variables of a text to `found`, those inside of defaults too. Of several mentions the first one
/// that says more than the name counts.
pub(super) fn declared(text: &str, found: &mut BTreeMap<String, Variable>) {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let braces = rest.starts_with('{').then(|| closing(rest)).flatten();
        let inner = braces.map_or_else(|| &rest[..name_length(rest)], |end| &rest[1..end]);
        rest = &rest[braces.map_or(inner.len(), |end| end + 1)..];
        let (name, operator) = inner.split_at(name_length(inner));
        if name.is_empty() {
            continue;
        }
        let mut variable = Variable { name: name.to_owned(), ..Variable::default() };
        let operator = operator.strip_prefix(':').unwrap_or(operator);
        let word = operator.get(1..).unwrap_or_default();
        match operator.as_bytes().first() {
            Some(b'?') => variable.required = true,
            Some(b'-') => variable.default = word.to_owned(),
            Some(b'+') => variable.alternative = word.to_owned(),
            _ => {}
        }
        let bare = Variable { name: name.to_owned(), ..Variable::default() };
        if found.get(name).is_none_or(|known| *known == bare) {
            found.insert(name.to_owned(), variable);
        }
        declared(word, found);
    }
}

/// The names that a text refers to, in order.
pub(super) fn references(text: &str) -> Vec<String> {
    let names = RefCell::new(Vec::new());
    let lookup = |name: &str| {
        names.borrow_mut().push(name.to_owned());
        None
    };
    // A fault ends the search; what was found before it stands.
    let _ = substitute(text, &lookup, &mut |_| ());
    names.into_inner()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("va".into()),
            "B" => Some(String::new()),
            _ => None,
        }
    }

    fn run(text: &str) -> Result<String, VarFault> {
        substitute(text, &lookup, &mut |_| ())
    }

    #[test]
    fn forms_are_those_of_compose() {
        for (text, value) in [
            ("$A", "va"),
            ("${A}", "va"),
            ("${B:-def}", "def"),
            ("${B-def}", ""),
            ("${C-def}", "def"),
            ("${C:-$A}", "va"),
            ("${C:-${A:+x${B-y}z}}", "xz"),
            ("${A:+rep}", "rep"),
            ("${B:+rep}", ""),
            ("${B+rep}", "rep"),
            ("$$A $$ 5$ $1 a$", "$A $ 5$ $1 a$"),
            ("${C:-a}b}", "ab}"),
            ("${C:-{}}", "{}"),
            ("$A_B ${A}_B", " va_B"),
            ("${C:-$$x}", "$x"),
            ("${C:-a:b-c?d+e}", "a:b-c?d+e"),
            ("$Aé", "vaé"),
        ] {
            assert_eq!(run(text).as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn other_forms_are_faults() {
        for text in ["${", "${1}", "${A/b/c}", "${A b}", "${}", "${A:-x", "${C:-a\nb}", "${A:}"] {
            assert!(matches!(run(text), Err(VarFault::Form(_))), "{text}");
        }
        let required =
            |name: &str, message: &str| VarFault::Required { name: name.into(), message: message.into() };
        assert_eq!(run("${C:?need $A}"), Err(required("C", "need va")));
        assert_eq!(run("${B:?}"), Err(required("B", "")));
        assert_eq!(run("${B?}").as_deref(), Ok(""));
        assert!(run(&"${C:-".repeat(10_000)).is_err());
        assert!(run(&format!("{}{}", "${C:-".repeat(100), "}".repeat(100))).is_err());
    }

    #[test]
    fn declared_variables_have_what_their_first_telling_mention_says() {
        let mut found = BTreeMap::new();
        declared("$A ${B:-x${C?}} ${A:-d} ${D:+y} $$E ${} ${A-no} 5$", &mut found);
        let told: Vec<_> = found
            .values()
            .map(|one| format!("{} {} {} {}", one.name, one.required, one.default, one.alternative))
            .collect();
        assert_eq!(told, ["A false d ", "B false x${C?} ", "C true  ", "D false  y"]);
    }

    #[test]
    fn references_are_found_in_order() {
        assert_eq!(references("a $X ${Y:-$Z} $$W"), ["X", "Y", "Z"]);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_dollarless_text_stays(text in ".*") {
            let result = run(&text);
            if !text.contains('$') {
                prop_assert_eq!(result, Ok(text));
            }
        }

        #[test]
        fn doubled_dollars_come_back(text in "[a$ {}]*") {
            prop_assert_eq!(run(&text.replace('$', "$$")), Ok(text));
        }
    }
}
