//! Env files: the grammar of `.env` and `env_file`, and the raw one of `docker run --env-file`.
//!
//! A file is lines `NAME=VALUE` (also `NAME: VALUE`, `export NAME=VALUE`, or a bare `NAME` that takes the
//! caller's value). Single quotes are literal, double quotes know escapes and variables, both may span
//! lines; an unquoted value ends at ` #`. Rules of compose-go's dotenv package. Nothing here reads a disk.

use std::collections::BTreeMap;
use std::ops::Range;

use super::vars::{Lookup, VarFault, substitute};

/// A variable of a file, with the bytes of its line.
pub(super) type Found = BTreeMap<String, (String, Range<usize>)>;

/// A mistake in an env file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnvFault {
    /// Where in the text.
    pub range: Range<usize>,
    /// What is wrong.
    pub message: String,
}

impl EnvFault {
    fn new(range: Range<usize>, message: impl Into<String>) -> Self {
        Self { range, message: message.into() }
    }
}

/// Reads a file in compose's own format into `found`.
///
/// Variables in values are looked up by `lookup` first, then among what `found` has; `on_unset` hears of
/// those that neither has. A bare name that `lookup` does not have is dropped.
///
/// # Errors
/// The first mistake of the file.
pub(super) fn parse(
    text: &str,
    lookup: Lookup<'_>,
    found: &mut Found,
    on_unset: &mut dyn FnMut(&str),
) -> Result<(), EnvFault> {
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut reader = Reader { text, at: start };
    while let Some((name, line, has_value)) = reader.name()? {
        if !has_value {
            if let Some(value) = lookup(&name) {
                found.insert(name, (value, line));
            }
            continue;
        }
        let (value, expands) = reader.value()?;
        let range = line.start..reader.at.max(line.end);
        let value = if expands {
            let both = |name: &str| lookup(name).or_else(|| found.get(name).map(|(value, _)| value.clone()));
            substitute(&value, &both, on_unset).map_err(|fault| EnvFault::new(range.clone(), var(&fault)))?
        } else {
            value
        };
        reader.end_line();
        let trimmed = line.start..line.start + text[range.clone()].trim_end().len();
        found.insert(name, (value, trimmed));
    }
    Ok(())
}

fn var(fault: &VarFault) -> String {
    fault.message()
}

/// Reads a file in the raw format: no quotes, no variables, `#` only at the beginning of a line.
///
/// # Errors
/// The first name with white space, or an empty one.
pub(super) fn parse_raw(text: &str, lookup: Lookup<'_>, found: &mut Found) -> Result<(), EnvFault> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let range = at..at + line.trim_end().len();
        at += line.len();
        let line = line.trim_end_matches(['\n', '\r']).trim_start_matches('\u{feff}').trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line, lookup(line.trim())),
        };
        if name.trim().is_empty()
            || name.trim().contains(char::is_whitespace)
            || name.ends_with(char::is_whitespace)
        {
            return Err(EnvFault::new(range, format!("`{name}` is no name of a variable")));
        }
        if let Some(value) = value {
            found.insert(name.to_owned(), (value, range));
        }
    }
    Ok(())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// The next name, its place, and whether a value follows; `None` at the end.
    fn name(&mut self) -> Result<Option<(String, Range<usize>, bool)>, EnvFault> {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start().len();
            if self.rest().is_empty() {
                return Ok(None);
            }
            if !self.rest().starts_with('#') {
                break;
            }
            self.end_line();
        }
        let start = self.at;
        if let Some(after) = self.rest().strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            self.at += self.rest().len() - after.trim_start_matches([' ', '\t']).len();
        }
        let rest = self.rest();
        let end = rest.find(['=', ':', '\n']).unwrap_or(rest.len());
        let has_value = rest[end..].starts_with(['=', ':']);
        let written = &rest[..end];
        let written = if has_value { written } else { written.split('#').next().unwrap_or(written) };
        let name = written.trim().to_owned();
        let range = start..self.at + written.trim_end().len();
        if name.contains(char::is_whitespace) {
            return Err(EnvFault::new(range, "a name cannot contain a space"));
        }
        let allowed = |letter: char| letter.is_alphanumeric() || "_.-[]".contains(letter);
        if let Some(wrong) = name.chars().find(|letter| !allowed(*letter)) {
            return Err(EnvFault::new(range, format!("`{wrong}` cannot be part of a name")));
        }
        self.at += end + usize::from(has_value);
        Ok(Some((name, range, has_value)))
    }

    /// The value at the cursor, and whether its variables are to be replaced.
    fn value(&mut self) -> Result<(String, bool), EnvFault> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
        match self.rest().as_bytes().first() {
            Some(b'\'') => Ok((self.quoted('\'')?.to_owned(), false)),
            Some(b'"') => Ok((unescape(self.quoted('"')?), true)),
            _ => {
                let rest = self.rest();
                let line = rest.split(['\n', '\r']).next().unwrap_or_default();
                let length = line.len();
                let value = comment(line).map_or(line, |at| &line[..at]).trim().to_owned();
                self.at += length;
                Ok((value, true))
            }
        }
    }

    /// What stands between the quotes at the cursor, escapes untouched.
    fn quoted(&mut self, quote: char) -> Result<&str, EnvFault> {
        let start = self.at + 1;
        let mut escaped = false;
        for (offset, letter) in self.text[start..].char_indices() {
            if letter == quote && !escaped {
                self.at = start + offset + 1;
                return Ok(&self.text[start..start + offset]);
            }
            escaped = letter == '\\' && !escaped;
        }
        let line = self.rest().lines().next().unwrap_or_default().len();
        Err(EnvFault::new(self.at..self.at + line, "this quote is never closed"))
    }

    fn end_line(&mut self) {
        let rest = self.rest();
        self.at += rest.find('\n').map_or(rest.len(), |newline| newline + 1);
    }
}

/// Where the comment of an unquoted value begins.
fn comment(line: &str) -> Option<usize> {
    if line.starts_with('#') {
        return Some(0);
    }
    line.match_indices('#').map(|(at, _)| at).find(|at| line[..*at].ends_with([' ', '\t']))
}

/// The escapes of double quotes; `\$` becomes `$$`, which interpolation makes a dollar. Others stay.
fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            result.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => result.push('\n'),
            Some('r') => result.push('\r'),
            Some('t') => result.push('\t'),
            Some('a') => result.push('\u{7}'),
            Some('b') => result.push('\u{8}'),
            Some('f') => result.push('\u{c}'),
            Some('v') => result.push('\u{b}'),
            Some('$') => result.push_str("$$"),
            Some(kept @ ('"' | '\\')) => result.push(kept),
            Some(other) => result.extend(['\\', other]),
            None => result.push('\\'),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOSTV").then(|| "hv".to_owned())
    }

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let mut found = Found::new();
        parse(text, &lookup, &mut found, &mut |_| ()).map_err(|fault| fault.message)?;
        Ok(found.into_iter().map(|(name, (value, _))| (name, value)).collect())
    }

    #[test]
    fn values_are_read_as_compose_reads_them() {
        for (line, value) in [
            ("V=1", "1"),
            ("V = 2", "2"),
            ("export V=3", "3"),
            (" V=4  ", "4"),
            (r"V='single $A \n x'", r"single $A \n x"),
            (r#"V="d \n \t \" \$ \\ \q x""#, "d \n \t \" $ \\ \\q x"),
            ("V=un quoted # comment", "un quoted"),
            ("V=un#quoted", "un#quoted"),
            ("V=\"q\" # comment", "q"),
            ("V=", ""),
            ("V=\"multi\nline\"", "multi\nline"),
            ("V=${HOSTV}", "hv"),
            ("V=${U:-dflt}", "dflt"),
            ("V: yaml", "yaml"),
            ("V=a\\nb", "a\\nb"),
            ("V=a=b=c", "a=b=c"),
            ("V=\"x\"y", "x"),
            ("V=x\\", "x\\"),
            ("V=5$", "5$"),
            ("\u{feff}V=1\r\n", "1"),
        ] {
            assert_eq!(read(line), Ok(vec![("V".to_owned(), value.to_owned())]), "{line}");
        }
    }

    #[test]
    fn names_and_references() {
        assert_eq!(read("HOSTV\nK\n# c\n1A=2\nA.b-c[0]=$HOSTV").unwrap().len(), 3);
        assert_eq!(read("A=1\nB=$A$A").unwrap()[1].1, "11");
        assert!(read("A B=2").unwrap_err().contains("space"));
        assert!(read("A=\"x\nB=1").unwrap_err().contains("never closed"));
        assert!(read("A=${X:?need}").unwrap_err().contains("need"));
        assert!(read("A=${").is_err());
        assert!(read("a+b=1").is_err());
    }

    #[test]
    fn raw_files_are_taken_literally() {
        let mut found = Found::new();
        parse_raw("# c\nA=\"q\" # x\n  C=$A\nHOSTV\nK\nF=\n", &lookup, &mut found).unwrap();
        let all: Vec<_> = found.iter().map(|(name, (value, _))| format!("{name}={value}")).collect();
        assert_eq!(all, ["A=\"q\" # x", "C=$A", "F=", "HOSTV=hv"]);
        assert!(parse_raw("export D=4", &lookup, &mut found).is_err());
        assert!(parse_raw("=4", &lookup, &mut found).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z='\"\\\\$#\\n :{}é]*") {
            let _ = read(&text);
            let _ = parse_raw(&text, &lookup, &mut Found::new());
        }
    }
}
