//! The count of a build's steps, and the line that ends it. Pure.

use crate::base::event::{Event, Outcome};

/// How the steps of a build ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    planned: usize,
    hits: usize,
    ran: usize,
    failed: usize,
    stopped: usize,
}

impl Summary {
    /// Counts what `event` says.
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Planned { steps } => self.planned += steps,
            Event::StepFinished { outcome, .. } => {
                *match outcome {
                    Outcome::Hit => &mut self.hits,
                    Outcome::Ran { .. } => &mut self.ran,
                    Outcome::Failed { .. } => &mut self.failed,
                    Outcome::Cancelled => &mut self.stopped,
                } += 1;
            }
            _ => {}
        }
    }

    /// The steps that had a result. Below a hit nothing is looked at; those steps stand unchanged.
    fn hits(&self) -> usize {
        let ended = self.hits + self.ran + self.failed + self.stopped;
        let unasked = self.planned.saturating_sub(ended);
        self.hits + if self.failed + self.stopped == 0 { unasked } else { 0 }
    }

    /// The counts by name, or nothing where nothing was planned.
    pub(super) fn counts(&self) -> Option<[(&'static str, usize); 5]> {
        (self.planned > 0).then(|| self.all_counts())
    }

    /// The counts by name.
    pub(super) fn all_counts(&self) -> [(&'static str, usize); 5] {
        [
            ("steps", self.planned),
            ("hits", self.hits()),
            ("ran", self.ran),
            ("failed", self.failed),
            ("stopped", self.stopped),
        ]
    }

    /// One line, or nothing where nothing was planned.
    pub(super) fn text(&self) -> String {
        if self.planned == 0 {
            return String::new();
        }
        let hits = self.hits();
        let steps = if self.planned == 1 { "1 step".to_owned() } else { format!("{} steps", self.planned) };
        if hits == self.planned {
            return format!("{steps}: nothing changed\n");
        }
        let counts = [(hits, "hit"), (self.ran, "ran"), (self.failed, "failed"), (self.stopped, "stopped")];
        let mut words: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| match *word {
                "hit" if *count > 1 => format!("{count} hits"),
                word => format!("{count} {word}"),
            })
            .collect();
        if words.is_empty() {
            words.push("none ended".to_owned());
        }
        format!("{steps}: {}\n", words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(planned: usize, hits: usize, ran: usize, failed: usize) -> String {
        Summary { planned, hits, ran, failed, stopped: 0 }.text()
    }

    #[test]
    fn the_line_says_what_happened() {
        assert_eq!(text(0, 0, 0, 0), "");
        assert_eq!(text(9, 4, 0, 0), "9 steps: nothing changed\n");
        assert_eq!(text(9, 4, 2, 0), "9 steps: 7 hits, 2 ran\n");
        assert_eq!(text(9, 1, 2, 1), "9 steps: 1 hit, 2 ran, 1 failed\n");
        assert_eq!(text(1, 0, 1, 0), "1 step: 1 ran\n");
    }
}
