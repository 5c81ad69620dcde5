//! What a running step writes: passed on as events, its end kept for the error message.

use std::collections::VecDeque;
use std::io;

use crate::base::event::{Event, Events, StepNumber};

/// How much of the end is kept, in bytes.
const KEPT: usize = 64 << 10;
/// How many lines of it an error shows.
const SHOWN: usize = 30;

/// Takes a step's output.
pub(super) struct Output<'a> {
    events: &'a dyn Events,
    step: StepNumber,
    kept: VecDeque<u8>,
}

impl<'a> Output<'a> {
    pub(super) fn new(events: &'a dyn Events, step: StepNumber) -> Self {
        Self { events, step, kept: VecDeque::new() }
    }

    /// The last lines.
    pub(super) fn tail(&self) -> String {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }
}

impl io::Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.events.emit(Event::StepOutput { step: self.step, bytes: bytes.to_vec() });
        self.kept.extend(bytes);
        let surplus = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..surplus);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::base::event::{Recorded, Silent};

    #[test]
    fn the_end_is_kept() {
        let mut output = Output::new(&Silent, StepNumber(1));
        for line in 0..100_000 {
            writeln!(output, "line {line}").unwrap();
        }
        let tail = output.tail();
        assert_eq!(tail.lines().count(), SHOWN);
        assert!(tail.ends_with("line 99999"));
        assert!(output.kept.len() <= KEPT);
    }

    #[test]
    fn everything_is_passed_on() {
        let events = Recorded::default();
        Output::new(&events, StepNumber(3)).write_all(b"half a li").unwrap();
        let expected = Event::StepOutput { step: StepNumber(3), bytes: b"half a li".to_vec() };
        assert_eq!(events.take(), [expected]);
    }
}
