//! Small pieces of text as people read them: durations, sizes, clean lines. Pure.

use std::borrow::Cow;
use std::time::Duration;

use unicode_width::UnicodeWidthStr;

/// `0.3s`, `12.4s`, `3m 05s`, `2h 05m`.
pub(in crate::cli) fn duration(took: Duration) -> String {
    let seconds = took.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", (took.as_secs_f64() * 10.0).floor() / 10.0),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A size in decimal units with docker's precision: `0B`, `1.24kB`, `117MB`.
pub(in crate::cli) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        value if unit == 0 || value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let number = format!("{value:.decimals$}");
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", units[unit])
}

/// What a terminal would show of a line: escape sequences and other control characters gone, and of parts
/// that overwrite each other (`\r`) the last.
pub(in crate::cli) fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\r', '\n']);
    let last = text.rsplit('\r').next().unwrap_or_default();
    let mut clean = String::with_capacity(last.len());
    let mut letters = last.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => skip_sequence(&mut letters),
            '\t' => clean.push('\t'),
            letter if letter.is_control() => {}
            letter => clean.push(letter),
        }
    }
    clean
}

/// A text that moves no cursor and changes no colour, whoever wrote it: control characters are replaced. Tabs
/// and ends of lines stay.
pub(in crate::cli) fn visible(text: &str) -> Cow<'_, str> {
    let is_control = |letter: char| letter.is_control() && !matches!(letter, '\t' | '\n');
    if text.contains(is_control) {
        Cow::Owned(text.replace(is_control, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Passes over the rest of an escape sequence (ECMA-48: CSI to its final byte, OSC to BEL or ESC \).
fn skip_sequence(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match letters.next() {
        Some('[') => {
            letters.find(|letter| ('\u{40}'..='\u{7e}').contains(letter));
        }
        Some(']') => while letters.next_if(|letter| !matches!(letter, '\u{7}' | '\u{1b}')).is_some() {},
        _ => {}
    }
}

/// How many columns of a terminal a text without control characters takes.
pub(in crate::cli) fn width(text: &str) -> usize {
    text.width()
}

/// At most `columns` columns of a terminal, the last an ellipsis if something was cut off.
pub(in crate::cli) fn shorten(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    for letter in text.chars() {
        kept.push(letter);
        // Of a whole text: letters that join are narrower than one by one.
        if kept.width() >= columns {
            kept.pop();
            break;
        }
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// `a, b, c and 2 more`: of more than `most` names the first of them and the count of the others.
pub(in crate::cli) fn listed(names: &[&str], most: usize) -> String {
    let shown = &names[..names.len().min(most)];
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        let seconds = Duration::from_secs_f64;
        let shown = [0.04, 0.36, 59.99, 65.0, 7500.0].map(|time| duration(seconds(time)));
        assert_eq!(shown, ["0.0s", "0.3s", "59.9s", "1m 05s", "2h 05m"]);
        let shown = [0, 999, 1240, 1500, 116_700_000, 2_000_000_000].map(size);
        assert_eq!(shown, ["0B", "999B", "1.24kB", "1.5kB", "117MB", "2GB"]);
    }

    #[test]
    fn nobody_moves_the_cursor() {
        assert_eq!(visible("RUN echo \u{1b}[2J\r\tx"), "RUN echo \u{fffd}[2J\u{fffd}\tx");
        assert_eq!(visible("RUN é\n"), "RUN é\n");
    }

    #[test]
    fn of_many_names_the_first_are_listed() {
        assert_eq!(listed(&["a", "b"], 2), "a, b");
        assert_eq!(listed(&["a", "b", "c", "d"], 2), "a, b and 2 more");
    }

    #[test]
    fn lines_are_clean() {
        assert_eq!(clean(b"\x1b[31;1mred\x1b[0m \x1b]0;title\x07done\r\n"), "red done");
        assert_eq!(clean(b"10%\r50%\r100%\n"), "100%");
        assert_eq!(clean(b"a\x00\x08b\tc\xff"), "ab\tc\u{fffd}");
        assert_eq!(
            ["abcdef", "abcd", "", "日本語日本"].map(|text| shorten(text, 4)),
            ["abc…", "abcd", "", "日…"]
        );
        assert_eq!(shorten("abc", 0), "");
    }
}
