//! Colour for lines that were made without; what others wrote into them can do nothing to the terminal. Pure.

use super::frame::{Kind, Row};
use super::text::visible;

/// ANSI sequences (ECMA-48 SGR).
const RESET: &str = "\u{1b}[0m";
const DIM: &str = "\u{1b}[2m";
const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const GREEN: &str = "\u{1b}[32m";

const BOLD: &str = "\u{1b}[1m";

/// How a line ends or begins, and the colour that this gives it.
const BY_END: &[(&str, &str)] = &[("  hit", DIM), ("  stopped", YELLOW)];

/// `line` in the colour of what it says: hits dim, failures red, warnings yellow, ends of work green.
pub(super) fn line(line: &str, colour: bool) -> String {
    let line = &*visible(line);
    if !colour {
        return line.to_owned();
    }
    let by_end = BY_END.iter().find(|(end, _)| line.ends_with(end)).map(|(_, colour)| *colour);
    let found = by_end.or(match line {
        line if line.starts_with("warning: ") => Some(YELLOW),
        line if line.contains("  failed after ") => Some(RED),
        line if line.contains("  done in ") => Some(GREEN),
        _ => None,
    });
    match found {
        Some(found) => format!("{found}{line}{RESET}"),
        None => line.to_owned(),
    }
}

/// A row of the live view: what it is about as a whole bold, what steps print dim.
pub(super) fn row(row: &Row, colour: bool) -> String {
    let text = visible(&row.text);
    match row.kind {
        Kind::Head if colour => format!("{BOLD}{text}{RESET}"),
        Kind::Output if colour => format!("{DIM}{text}{RESET}"),
        Kind::Head | Kind::Work | Kind::Output => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_added_only_if_wanted() {
        assert_eq!(line("#1 [a] RUN x  hit", false), "#1 [a] RUN x  hit");
        assert_eq!(line("#1 [a] RUN x  hit", true), "\u{1b}[2m#1 [a] RUN x  hit\u{1b}[0m");
        assert_eq!(line("#1 [a] RUN x  because y", true), "#1 [a] RUN x  because y");
        assert_eq!(line("#1 [a] RUN \u{1b}[2J  because y", false), "#1 [a] RUN \u{fffd}[2J  because y");
    }
}
