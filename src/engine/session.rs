//! The user's side of a process in a container: what it reads, where its output goes, how large its
//! terminal is, and the keys that leave it. Plain data and pure functions; [`docker`](super::docker) moves
//! the bytes, `cli` owns the terminal.

use std::io::{self, Read};
use std::sync::Arc;

use crate::base::cancel::Cancel;

use super::LogStream;

/// Takes each piece of output as it comes. Where the process has a terminal everything is
/// [`LogStream::Stdout`]. An error that it returns ends the session.
pub type Output<'a> = dyn FnMut(LogStream, &[u8]) -> io::Result<()> + 'a;

/// Tells how large the user's terminal is now; `None` where that is not known.
pub type AskSize = Arc<dyn Fn() -> Option<TerminalSize> + Send + Sync>;

/// The size of a terminal in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct TerminalSize {
    /// Characters a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// The user's side of a process.
pub struct Session<'s> {
    /// What the process reads; `None`: its standard input is not connected. It is read by a thread of its
    /// own that nobody waits for: a read that blocks outlives the session and keeps nothing alive.
    pub input: Option<Box<dyn Read + Send>>,
    /// Where its output goes.
    pub output: &'s mut Output<'s>,
    /// Whether it gets a terminal. Its output is one stream then.
    pub tty: bool,
    /// Asked at the beginning and a few times a second; a change is sent to the process's terminal.
    pub size: Option<AskSize>,
    /// Keys that leave a process with a terminal behind.
    pub detach: DetachKeys,
    /// What ends the session, but not the process.
    pub cancel: Option<&'s Cancel>,
}

impl<'s> Session<'s> {
    /// A session that only takes output.
    pub fn output(output: &'s mut Output<'s>) -> Self {
        Self { input: None, output, tty: false, size: None, detach: DetachKeys::none(), cancel: None }
    }
}

/// How a session came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// The process ended with this code.
    Exited(i64),
    /// The process goes on without us: it was started in the background, or the user left it.
    Detached,
}

/// A sequence of keys that leaves a session; empty: none does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// No keys.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Reads `ctrl-p,ctrl-q`, `a,DEL`: single characters, `ctrl-` with a letter or one of `@ [ \ ] ^ _`,
    /// and `DEL`. The error is the part that is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(|key| code(key).ok_or_else(|| key.to_owned())).collect::<Result<_, _>>().map(Self)
    }

    /// The keys as an engine is told them.
    pub(super) fn text(&self) -> String {
        let key = |byte: &u8| match byte {
            0..=31 => format!("ctrl-{}", char::from(byte + b'@').to_ascii_lowercase()),
            127 => "DEL".to_owned(),
            other => char::from(*other).to_string(),
        };
        self.0.iter().map(key).collect::<Vec<_>>().join(",")
    }
}

impl Default for DetachKeys {
    /// `ctrl-p,ctrl-q`, as docker has it.
    fn default() -> Self {
        Self(vec![16, 17])
    }
}

fn code(key: &str) -> Option<u8> {
    let control = key.strip_prefix("ctrl-").map(str::as_bytes);
    match (control, key.as_bytes()) {
        (Some([letter @ (b'a'..=b'z' | b'A'..=b'Z')]), _) => Some(letter.to_ascii_uppercase() - b'@'),
        (Some([sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]), _) => Some(sign - b'@'),
        (Some(_), _) => None,
        (None, b"DEL") => Some(127),
        (None, [one]) if one.is_ascii() => Some(*one),
        (None, _) => None,
    }
}

/// Looks for [`DetachKeys`] in what is typed. A beginning of the sequence is held back until the next key
/// shows whether it goes on.
pub(super) struct DetachWatch {
    keys: Vec<u8>,
    held: usize,
}

impl DetachWatch {
    pub(super) fn new(keys: DetachKeys) -> Self {
        Self { keys: keys.0, held: 0 }
    }

    /// What of `typed` goes on to the process, and whether the sequence is complete; what follows it is
    /// dropped then.
    pub(super) fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (typed.to_vec(), false);
        }
        let mut passed = Vec::with_capacity(typed.len());
        for byte in typed {
            if *byte != self.keys[self.held] {
                passed.extend_from_slice(&self.keys[..self.held]);
                self.held = 0;
            }
            if *byte != self.keys[self.held] {
                passed.push(*byte);
                continue;
            }
            self.held += 1;
            if self.held == self.keys.len() {
                return (passed, true);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_names() {
        assert_eq!(DetachKeys::parse("ctrl-p,ctrl-q"), Ok(DetachKeys::default()));
        assert_eq!(
            DetachKeys::parse("a,DEL,ctrl-@,ctrl-\\,ctrl-_"),
            Ok(DetachKeys(vec![97, 127, 0, 28, 31]))
        );
        assert_eq!(DetachKeys::parse("ctrl-p,wrong"), Err("wrong".to_owned()));
        assert!(DetachKeys::parse("").is_err() && DetachKeys::parse("ctrl-").is_err());
        for text in ["ctrl-p,ctrl-q", "x,DEL,ctrl-@,ctrl-_,ctrl-["] {
            assert_eq!(DetachKeys::parse(text).unwrap().text(), text);
        }
    }

    #[test]
    fn the_sequence_is_found_across_pieces_and_nothing_else_is_lost() {
        let mut watch = DetachWatch::new(DetachKeys::default());
        assert_eq!(watch.take(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(watch.take(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(watch.take(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(watch.take(b"\x11rest"), (Vec::new(), true));
        let mut none = DetachWatch::new(DetachKeys::none());
        assert_eq!(none.take(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
