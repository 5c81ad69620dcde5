//! Texts that Docker's commands, which are written in Go, print in their own way: quoted strings, JSON,
//! sizes. Pure.

use serde_json::Value;

/// As Go's `%q`: in double quotes, with escapes for quotes, backslashes and control characters.
pub(in crate::cli) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            letter if letter.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// JSON as Go's encoder writes it: what could end a script in HTML is escaped.
pub(in crate::cli) fn json(value: &Value) -> String {
    let mut text = String::new();
    // None of these stands outside of a string.
    for letter in value.to_string().chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => text.push(letter),
        }
    }
    text
}

/// A size in binary units with four digits: `1.387MiB`, `464KiB`, `0B`.
pub(in crate::cli) fn binary_size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let whole = if value >= 1000.0 {
        4
    } else if value >= 100.0 {
        3
    } else if value >= 10.0 {
        2
    } else {
        1
    };
    let number = format!("{value:.*}", 4 - whole);
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_and_json_is_escaped() {
        assert_eq!(quoted("a \"b\" \\ \n\u{1} é"), "\"a \\\"b\\\" \\\\ \\n\\x01 é\"");
        assert_eq!(
            json(&serde_json::json!({"a": "1->2 & <3>"})),
            r#"{"a":"1-\u003e2 \u0026 \u003c3\u003e"}"#
        );
    }

    #[test]
    fn sizes_have_four_digits() {
        let shown = [0, 475_136, 1_454_080, 25_276_121_088, 1_073_741_824, 1023].map(binary_size);
        assert_eq!(shown, ["0B", "464KiB", "1.387MiB", "23.54GiB", "1GiB", "1023B"]);
    }
}
