//! The count of a build's steps, and the lines that end it. Pure.

use std::time::Duration;

use crate::base::event::{Event, Outcome};

use super::text::{duration, listed, shorten, size};

/// So many of the slowest steps are named.
const SLOWEST: usize = 3;
/// So many of the things that were moved are named; of more there is the count.
const NAMED: usize = 3;
/// So wide is the name of a step at most.
const WIDEST: usize = 24;

/// The transfers that the end tells of, by the verb of their events.
const MOVED: [(&str, &str); 3] = [("pull ", "pulled"), ("load ", "handed over"), ("push ", "pushed")];

/// How the steps of a build ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    planned: usize,
    hits: usize,
    ran: usize,
    failed: usize,
    stopped: usize,
    /// The slowest steps, the slowest first.
    slowest: Vec<(Duration, String)>,
    /// What was moved, by [`MOVED`], and its bytes.
    moved: [Vec<(String, u64)>; MOVED.len()],
}

impl Summary {
    /// Counts what `event` says.
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Planned { steps } => self.planned += steps,
            Event::StepFinished { outcome, services, name, took, .. } => {
                if matches!(outcome, Outcome::Ran { .. }) {
                    let group = super::lines::group(services);
                    let step = format!("{} {}", shorten(&group, WIDEST), shorten(name, WIDEST));
                    let place = self.slowest.partition_point(|(other, _)| other >= took);
                    self.slowest.insert(place, (*took, step));
                    self.slowest.truncate(SLOWEST);
                }
                *match outcome {
                    Outcome::Hit => &mut self.hits,
                    Outcome::Ran { .. } => &mut self.ran,
                    Outcome::Failed { .. } => &mut self.failed,
                    Outcome::Cancelled => &mut self.stopped,
                } += 1;
            }
            Event::Transfer { what, done, total: Some(total) } if done >= total => {
                for ((verb, _), moved) in MOVED.iter().zip(&mut self.moved) {
                    moved.extend(what.strip_prefix(verb).map(|name| (name.to_owned(), *done)));
                }
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

    /// What ends a build that took so long: at most five lines; nothing where nothing was planned.
    pub(super) fn text(&self, took: Duration) -> String {
        if self.planned == 0 {
            return String::new();
        }
        let mut text = format!("{} in {}\n", self.steps(), duration(took));
        if self.failed + self.stopped > 0 {
            // The failure follows, and nothing else matters.
            return text;
        }
        let slow = self.slowest.iter().filter(|(took, _)| *took >= Duration::from_millis(100));
        let slow: Vec<_> = slow.map(|(took, step)| format!("{step} {}", duration(*took))).collect();
        if !slow.is_empty() {
            text.push_str(&format!("slowest: {}\n", slow.join(", ")));
        }
        for ((_, did), moved) in MOVED.iter().zip(&self.moved) {
            if !moved.is_empty() {
                let bytes = moved.iter().map(|(_, bytes)| bytes).sum();
                let names: Vec<&str> = moved.iter().map(|(name, _)| name.as_str()).collect();
                text.push_str(&format!("{did}: {} ({})\n", listed(&names, NAMED), size(bytes)));
            }
        }
        text
    }

    /// `9 steps: 7 hits, 2 ran`
    fn steps(&self) -> String {
        let hits = self.hits();
        let steps = if self.planned == 1 { "1 step".to_owned() } else { format!("{} steps", self.planned) };
        if hits == self.planned {
            return format!("{steps}: nothing changed");
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
        format!("{steps}: {}", words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::StepNumber;

    fn text(planned: usize, hits: usize, ran: usize, failed: usize) -> String {
        let took = Duration::from_millis(1250);
        Summary { planned, hits, ran, failed, ..Summary::default() }.text(took)
    }

    #[test]
    fn the_line_says_what_happened() {
        assert_eq!(text(0, 0, 0, 0), "");
        assert_eq!(text(9, 4, 0, 0), "9 steps: nothing changed in 1.2s\n");
        assert_eq!(text(9, 4, 2, 0), "9 steps: 7 hits, 2 ran in 1.2s\n");
        assert_eq!(text(9, 1, 2, 1), "9 steps: 1 hit, 2 ran, 1 failed in 1.2s\n");
        assert_eq!(text(1, 0, 1, 0), "1 step: 1 ran in 1.2s\n");
    }

    fn ran(services: &[&str], name: &str, tenths: u64) -> Event {
        let services = services.iter().map(|service| (*service).to_owned()).collect();
        let outcome = Outcome::Ran { reason: "never built".to_owned() };
        let took = Duration::from_millis(tenths * 100);
        Event::StepFinished { step: StepNumber(1), services, name: name.to_owned(), outcome, took }
    }

    fn moved(what: &str, bytes: u64) -> Event {
        Event::Transfer { what: what.to_owned(), done: bytes, total: Some(bytes) }
    }

    #[test]
    fn the_end_names_the_slowest_steps_and_what_was_moved() {
        let mut summary = Summary::default();
        let events = [
            Event::Planned { steps: 9 },
            ran(&["web"], "COPY . .", 0),
            ran(&["api"], "RUN make", 82),
            ran(&["web"], "RUN npm ci --no-audit --no-fund --prefer-offline", 150),
            ran(&["db", "web"], "RUN true", 1),
            ran(&["db"], "RUN sleep 1", 10),
            moved("pull debian:bookworm-slim", 29_000_000),
            Event::Transfer { what: "load api:latest".to_owned(), done: 1, total: Some(10) },
            moved("load api:latest", 10_000_000),
            moved("load web:latest", 2_000_000),
            moved("load db:latest", 1),
            moved("load last:latest", 1),
            moved("export c0ffee to r.example/cache", 1),
        ];
        events.iter().for_each(|event| summary.take(event));
        let expected = "\
9 steps: 4 hits, 5 ran in 31.0s
slowest: [web] RUN npm ci --no-audit -… 15.0s, [api] RUN make 8.2s, [db] RUN sleep 1 1.0s
pulled: debian:bookworm-slim (29MB)
handed over: api:latest, web:latest, db:latest and 1 more (12MB)
";
        assert_eq!(summary.text(Duration::from_secs(31)), expected);
    }

    #[test]
    fn a_failing_build_ends_with_its_failure() {
        let mut summary = Summary::default();
        let outcome = Outcome::Failed { reason: "never built".to_owned() };
        let (services, name, took) = (vec![], "RUN false".to_owned(), Duration::from_secs(1));
        let failed = Event::StepFinished { step: StepNumber(1), services, name, outcome, took };
        let events = [Event::Planned { steps: 2 }, ran(&["api"], "RUN make", 82), moved("load a", 1), failed];
        events.iter().for_each(|event| summary.take(event));
        assert_eq!(summary.text(Duration::from_secs(9)), "2 steps: 1 ran, 1 failed in 9.0s\n");
    }
}
