//! Log lines of containers as compose prints them: the name in front, each container in a colour of its
//! own. Pure.

use crate::up::{LineKind, LogLine};

/// The colours of names, in compose's order: cyan, yellow, green, magenta, blue, then their bright kin.
const CYCLE: &[&str] = &["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];

/// How log lines look.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct LogView {
    /// The width of the longest name.
    pub(in crate::cli) width: usize,
    /// Whether names stand in front.
    pub(in crate::cli) names: bool,
    /// Whether names are coloured.
    pub(in crate::cli) colour: bool,
}

impl LogView {
    /// The whole line, with its newline. What the container wrote is passed on as it is.
    pub(super) fn line(&self, line: &LogLine) -> Vec<u8> {
        let prefix = if self.names { line.prefix(self.width) } else { String::new() };
        let code = CYCLE[line.source.index % CYCLE.len()];
        let mut text = match (self.colour && !prefix.is_empty(), line.kind) {
            (true, LineKind::Stdout | LineKind::Stderr) => format!("\u{1b}[{code}m{prefix}\u{1b}[0m"),
            _ => prefix,
        }
        .into_bytes();
        text.extend_from_slice(&line.bytes);
        text.push(b'\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::Source;

    #[test]
    fn names_are_padded_and_coloured_if_wanted() {
        let source =
            Source { id: "0".to_owned(), label: "web-1".to_owned(), service: "web".to_owned(), index: 0 };
        let line = LogLine { source, kind: LineKind::Stdout, bytes: b"one".to_vec() };
        let shown = |names, colour| LogView { width: 7, names, colour }.line(&line);
        assert_eq!(shown(true, false), b"web-1    | one\n");
        assert_eq!(shown(true, true), b"\x1b[36mweb-1    | \x1b[0mone\n");
        assert_eq!(shown(false, true), b"one\n");
    }
}
