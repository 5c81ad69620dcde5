//! YAML out: JSON values in the layout that go-yaml gives them, two spaces a level, lists indented.
//!
//! Text is quoted when it would be read back as something else; text with line breaks becomes a literal
//! block. A writer of our own because serde-saphyr indents and quotes otherwise than Docker Compose does.

use serde_json::Value;

use super::scalar::{self, Scalar};

/// A value as a YAML document with a final newline.
pub(super) fn emit(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => entries(map, 0, &mut out),
        Value::Array(items) if !items.is_empty() => list(items, 0, &mut out),
        scalar => {
            inline(scalar, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

fn entries(map: &serde_json::Map<String, Value>, level: usize, out: &mut String) {
    for (at, (key, value)) in map.iter().enumerate() {
        if at > 0 {
            indent(level, out);
        }
        text(key, level, out);
        out.push(':');
        nested(value, level, out);
    }
}

fn list(items: &[Value], level: usize, out: &mut String) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            indent(level, out);
        }
        out.push('-');
        match item {
            Value::Object(map) if !map.is_empty() => {
                out.push(' ');
                entries(map, level + 1, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push(' ');
                list(items, level + 1, out);
            }
            scalar => {
                out.push(' ');
                inline(scalar, level + 1, out);
                out.push('\n');
            }
        }
    }
}

/// A value after `KEY:`.
fn nested(value: &Value, level: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            indent(level + 1, out);
            entries(map, level + 1, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            indent(level + 1, out);
            list(items, level + 1, out);
        }
        scalar => {
            out.push(' ');
            inline(scalar, level + 1, out);
            out.push('\n');
        }
    }
}

fn inline(value: &Value, level: usize, out: &mut String) {
    match value {
        Value::String(string) => text(string, level, out),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        other => out.push_str(&other.to_string()),
    }
}

fn indent(level: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", level));
}

/// Text, plain where it reads back as itself.
fn text(string: &str, level: usize, out: &mut String) {
    if string.contains('\n') && is_block(string) {
        block(string, level, out);
    } else if is_plain(string) {
        out.push_str(string);
    } else if !string.chars().any(char::is_control) && is_text(string) {
        out.push('\'');
        out.push_str(&string.replace('\'', "''"));
        out.push('\'');
    } else {
        // JSON's escapes are a part of YAML's.
        out.push_str(&Value::String(string.to_owned()).to_string());
    }
}

fn is_block(string: &str) -> bool {
    let good = |letter: char| letter == '\n' || letter == '\t' || !letter.is_control();
    !string.starts_with([' ', '\n', '\t']) && string.chars().all(good) && !string.contains(" \n")
}

fn block(string: &str, level: usize, out: &mut String) {
    out.push_str(match string {
        _ if string.ends_with("\n\n") => "|+",
        _ if string.ends_with('\n') => "|",
        _ => "|-",
    });
    let body = string.strip_suffix('\n').unwrap_or(string);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(level.max(1), out);
            out.push_str(line);
        }
    }
}

fn is_plain(string: &str) -> bool {
    let Some(first) = string.chars().next() else { return false };
    let indicator = "-?:,[]{}#&*!|>'\"%@`".contains(first);
    let harmless_start = match first {
        '-' | '?' | ':' => string.chars().nth(1).is_some_and(|second| !second.is_whitespace()),
        _ => !indicator,
    };
    harmless_start
        && !string.starts_with("---")
        && !string.starts_with("...")
        && !first.is_whitespace()
        && !string.ends_with(char::is_whitespace)
        && !string.ends_with(':')
        && !string.contains(": ")
        && !string.contains(" #")
        && !string.chars().any(char::is_control)
        && !string.contains('\u{feff}')
        && is_text(string)
}

/// Whether a reader of any YAML takes the bare text for text.
fn is_text(string: &str) -> bool {
    let number = string.starts_with(|letter: char| letter.is_ascii_digit()) && string.parse::<f64>().is_ok();
    matches!(scalar::plain(string), Scalar::Text(_)) && !number && !is_old_word(string)
}

/// Words that older YAML reads as booleans, and numbers in base 60: quoted for the sake of other readers.
fn is_old_word(string: &str) -> bool {
    const WORDS: &[&str] = &["y", "yes", "on", "n", "no", "off"];
    let sixty = string.contains(':')
        && string.starts_with(|letter: char| letter.is_ascii_digit() || "+-".contains(letter))
        && string.chars().all(|letter| letter.is_ascii_digit() || ":_+-.".contains(letter))
        && string.split(':').skip(1).all(|part| part.parse::<u32>().is_ok_and(|part| part < 60));
    WORDS.iter().any(|word| string.eq_ignore_ascii_case(word)) || sixty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_only_where_it_must_be() {
        for (string, printed) in [
            ("a", "a"),
            ("", "\"\""),
            ("1", "\"1\""),
            ("true", "\"true\""),
            ("null", "\"null\""),
            ("yes", "\"yes\""),
            ("8000:80", "8000:80"),
            ("22:22", "\"22:22\""),
            ("a: b", "'a: b'"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("it's", "it's"),
            ("'q'", "'''q'''"),
            ("a\nb", "|-\n  a\n  b"),
            (" a\nb", "\" a\\nb\""),
            ("2024-01-01", "\"2024-01-01\""),
            ("*", "'*'"),
        ] {
            assert_eq!(emit(&Value::String(string.into())).trim_end_matches('\n'), printed, "{string:?}");
        }
    }
}
