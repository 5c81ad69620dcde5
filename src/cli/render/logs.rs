//! Log lines of containers with their names in front, as compose prints them. Pure.
//!
//! The name is padded to the longest and one more, then `| `; each container has a colour of its own.
//! Standard output and standard error stay apart.

#![cfg_attr(not(test), expect(dead_code, reason = "read by commands that are being wired"))]

/// The colours of names, in compose's order: cyan, yellow, green, magenta, blue, then their bright kin.
const CYCLE: &[&str] = &["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];

/// Puts names in front of the log lines of one container.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Prefix {
    text: String,
}

impl Prefix {
    /// The prefixes of containers by their `names` (without the project's), in that order.
    pub(in crate::cli) fn all(names: &[&str], colour: bool) -> Vec<Self> {
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) + 1;
        let coloured = |(place, name): (usize, &&str)| {
            let text = format!("{name:width$} | ");
            let code = CYCLE[place % CYCLE.len()];
            Self { text: if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text } }
        };
        names.iter().enumerate().map(coloured).collect()
    }

    /// No name.
    pub(in crate::cli) const fn none() -> Self {
        Self { text: String::new() }
    }

    /// The lines of `bytes` with the name in front of each; a last line without a newline gets one.
    pub(in crate::cli) fn lines(&self, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len() + self.text.len() + 1);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            text.extend_from_slice(self.text.as_bytes());
            text.extend_from_slice(line);
            if !line.ends_with(b"\n") {
                text.push(b'\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_to_the_longest() {
        let prefixes = Prefix::all(&["web-1", "mysql-1"], false);
        assert_eq!(prefixes[0].lines(b"one\ntwo"), b"web-1    | one\nweb-1    | two\n");
        assert_eq!(prefixes[1].lines(b"\n"), b"mysql-1  | \n");
        assert_eq!(Prefix::none().lines(b"x\n"), b"x\n");
        assert_eq!(Prefix::all(&["a-1"], true)[0].lines(b"x\n"), b"\x1b[36ma-1  | \x1b[0mx\n");
    }
}
