//! Events as lines: the view of pipes, files and CI. Pure: an event goes in, text comes out.
//!
//! Each step has a line when it begins and one when it ends, hits one. The output of steps is shown as it
//! comes (`plain`), or only its end when the step fails.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use crate::base::diag::{Diagnostic, shown};
use crate::base::event::{Event, Outcome, StepNumber};

use super::summary::Summary;
use super::text::{clean, duration, shorten, size};

/// So many last lines of a failed step are shown.
const LAST_LINES: usize = 40;
/// So many lines after it a failure is out of sight.
const LONG_AGO: usize = 5;
/// So many bytes without a newline make a line.
const LONGEST_LINE: usize = 16 * 1024;

/// What one step has printed so far: whole lines (the last ones only) and a begun one.
#[derive(Debug, Default)]
pub(super) struct Output {
    begun: Vec<u8>,
    last: VecDeque<String>,
}

impl Output {
    /// Takes bytes as they come and returns the lines that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") || self.begun.len() > LONGEST_LINE {
                lines.push(clean(&std::mem::take(&mut self.begun)));
            }
        }
        for line in &lines {
            self.last.push_back(line.clone());
        }
        let surplus = self.last.len().saturating_sub(LAST_LINES);
        self.last.drain(..surplus);
        lines
    }

    /// At most so many last lines, the begun one included; they stay.
    fn tail(&self, count: usize) -> Vec<String> {
        let begun = (!self.begun.is_empty()).then(|| clean(&self.begun));
        let all = self.last.iter().cloned().chain(begun).filter(|line| !line.trim().is_empty());
        let all: Vec<String> = all.collect();
        all[all.len().saturating_sub(count)..].to_vec()
    }

    /// The line that was begun and not ended, if any.
    pub(super) fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.is_empty()).then(|| clean(&rest))
    }

    /// The last lines, the begun one included.
    pub(super) fn ending(&mut self) -> Vec<String> {
        let rest = self.rest();
        self.last.drain(..).chain(rest).collect()
    }
}

/// Turns events into lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// Whether the output of every step is shown as it comes.
    verbose: bool,
    /// The widest name of a step.
    widest: usize,
    outputs: BTreeMap<StepNumber, Output>,
    transfers: BTreeMap<String, u64>,
    summary: Summary,
    /// How many lines came after the end of the first step that failed.
    since_failure: Option<usize>,
}

impl Lines {
    pub(super) fn new(verbose: bool) -> Self {
        let (outputs, transfers, summary) = (BTreeMap::new(), BTreeMap::new(), Summary::default());
        Self { verbose, widest: usize::MAX, outputs, transfers, summary, since_failure: None }
    }

    /// For a terminal: names of steps and services are cut off where they are longer than `widest` columns.
    pub(super) fn narrow(widest: usize) -> Self {
        Self { widest, ..Self::new(false) }
    }

    /// What is to be printed for `event`: whole lines, or nothing.
    pub(super) fn take(&mut self, event: &Event) -> String {
        self.summary.take(event);
        let mut text = String::new();
        match event {
            Event::StepStarted { step, services, name, reason, .. } => {
                let _ = writeln!(text, "{}  because {reason}", self.headline(*step, services, name));
            }
            Event::StepOutput { step, bytes } => {
                let lines = self.outputs.entry(*step).or_default().push(bytes);
                if self.verbose {
                    output(&mut text, *step, &lines);
                }
            }
            Event::StepFinished { step, services, name, outcome, took } => {
                self.ending(&mut text, *step, outcome);
                let end = match outcome {
                    Outcome::Hit => "hit".to_owned(),
                    Outcome::Ran { .. } => format!("done in {}", duration(*took)),
                    Outcome::Failed { .. } => format!("failed after {}", duration(*took)),
                    Outcome::Cancelled => "stopped".to_owned(),
                };
                let _ = writeln!(text, "{}  {end}", self.headline(*step, services, name));
            }
            Event::Transfer { what, done, total } => self.transfer(&mut text, what, *done, *total),
            _ => text = other(event),
        }
        text
    }

    /// The text of an event was shown.
    pub(super) fn showed(&mut self, event: &Event, text: &str) {
        let failed = matches!(event, Event::StepFinished { outcome: Outcome::Failed { .. }, .. });
        match &mut self.since_failure {
            Some(since) => *since += text.lines().count(),
            None if failed => self.since_failure = Some(0),
            None => {}
        }
    }

    /// Whether the output of a step that failed was shown so long ago that it has to be shown again.
    pub(super) fn failed_long_ago(&self) -> bool {
        self.since_failure.is_some_and(|since| since > LONG_AGO)
    }

    /// The lines that end what was shown so far and took so long; a second call begins a new count.
    pub(super) fn finish(&mut self, took: Duration) -> String {
        std::mem::take(&mut self.summary).text(took)
    }

    /// At most so many last lines that a running step printed.
    pub(super) fn tail(&self, step: StepNumber, count: usize) -> Vec<String> {
        self.outputs.get(&step).map_or_else(Vec::new, |output| output.tail(count))
    }

    /// `#3 [flask, web] RUN make`
    fn headline(&self, step: StepNumber, services: &[String], name: &str) -> String {
        let (group, name) = (shorten(&group(services), self.widest), shorten(name, self.widest));
        format!("#{} {group} {name}", step.0)
    }

    /// What a step printed and was not shown yet: of a failed step its last lines, else the begun one.
    fn ending(&mut self, text: &mut String, step: StepNumber, outcome: &Outcome) {
        let Some(mut printed) = self.outputs.remove(&step) else { return };
        match (self.verbose, outcome) {
            (true, _) => output(text, step, &printed.rest().into_iter().collect::<Vec<_>>()),
            (false, Outcome::Failed { .. }) => output(text, step, &printed.ending()),
            (false, _) => {}
        }
    }

    /// A line when a transfer begins and one when it ends.
    fn transfer(&mut self, text: &mut String, what: &str, done: u64, total: Option<u64>) {
        let ended = total.is_some_and(|total| done >= total);
        let began = self.transfers.insert(what.to_owned(), done).is_none();
        if began && !ended {
            let of = total.map(|total| format!("  {}", size(total))).unwrap_or_default();
            let _ = writeln!(text, "{what}{of}");
        }
        if ended {
            self.transfers.remove(what);
            let _ = writeln!(text, "{what}  {} done", size(done));
        }
    }
}

/// Events that need nothing but themselves.
pub(super) fn other(event: &Event) -> String {
    match event {
        Event::ActionStarted { what, cause } if cause.is_empty() => format!("{what}\n"),
        Event::ActionStarted { what, cause } => format!("{what}  because {cause}\n"),
        Event::ActionFinished { what, took, ok: true } => format!("{what}  done in {}\n", duration(*took)),
        Event::ActionFinished { what, took, ok: false } => {
            format!("{what}  failed after {}\n", duration(*took))
        }
        Event::Warning(text) => format!("{}\n", Diagnostic::warning(text)),
        Event::Finding(finding) => format!("{finding}\n"),
        Event::Notice(text) => format!("{}\n", shown(text)),
        _ => String::new(),
    }
}

/// The services that a step serves: `[flask, nginx]`.
pub(super) fn group(services: &[String]) -> String {
    format!("[{}]", services.join(", "))
}

fn output(text: &mut String, step: StepNumber, lines: &[String]) {
    for line in lines {
        let _ = writeln!(text, "#{} | {line}", step.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn started(step: usize, name: &str, reason: &str) -> Event {
        let (services, name, reason) = (services(&["flask", "web"]), name.to_owned(), reason.to_owned());
        let (step, key) = (StepNumber(step), "c0ffee".to_owned());
        Event::StepStarted { step, services, name, reason, key, expected: None, left: None }
    }

    fn finished(step: usize, name: &str, outcome: Outcome, seconds: u64) -> Event {
        let (services, name, took) = (services(&["flask"]), name.to_owned(), Duration::from_secs(seconds));
        Event::StepFinished { step: StepNumber(step), services, name, outcome, took }
    }

    fn said(step: usize, bytes: &[u8]) -> Event {
        Event::StepOutput { step: StepNumber(step), bytes: bytes.to_vec() }
    }

    fn build() -> Vec<Event> {
        let ran = Outcome::Ran { reason: "app.py modified".to_owned() };
        vec![
            Event::Planned { steps: 4 },
            Event::Notice("RUN uses the host's network".to_owned()),
            finished(1, "FROM debian", Outcome::Hit, 0),
            Event::Transfer { what: "pull redis:3.2".to_owned(), done: 0, total: Some(2_000_000) },
            Event::Transfer { what: "pull redis:3.2".to_owned(), done: 1_000_000, total: Some(2_000_000) },
            Event::Transfer { what: "pull redis:3.2".to_owned(), done: 2_000_000, total: Some(2_000_000) },
            started(2, "COPY . /app", "app.py modified"),
            finished(2, "COPY . /app", ran, 1),
            started(3, "RUN make", "COPY . /app changed"),
            said(3, b"cc -c"),
            said(3, b" a.c\nerror: \x1b[31mno\x1b[0m\nmake: ***"),
            finished(3, "RUN make", Outcome::Failed { reason: "COPY . /app changed".to_owned() }, 75),
            finished(4, "RUN ls", Outcome::Cancelled, 0),
            Event::Warning("no .dockerignore".to_owned()),
        ]
    }

    fn text(verbose: bool, events: &[Event]) -> String {
        let mut lines = Lines::new(verbose);
        let mut text: String = events.iter().map(|event| lines.take(event)).collect();
        text.push_str(&lines.finish(Duration::from_secs(77)));
        text
    }

    const BEGIN: &str = "RUN uses the host's network\n\
        #1 [flask] FROM debian  hit\n\
        pull redis:3.2  2MB\n\
        pull redis:3.2  2MB done\n\
        #2 [flask, web] COPY . /app  because app.py modified\n\
        #2 [flask] COPY . /app  done in 1.0s\n\
        #3 [flask, web] RUN make  because COPY . /app changed\n\
        #3 | cc -c a.c\n\
        #3 | error: no\n\
        #3 | make: ***\n\
        #3 [flask] RUN make  failed after 1m 15s\n\
        #4 [flask] RUN ls  stopped\n\
        warning: no .dockerignore\n\
        4 steps: 1 hit, 1 ran, 1 failed, 1 stopped in 1m 17s\n";

    #[test]
    fn a_build_in_lines() {
        assert_eq!(text(true, &build()), BEGIN);
        assert_eq!(text(false, &build()), BEGIN);
    }

    #[test]
    fn output_of_steps_that_succeed_is_shown_only_if_asked_for() {
        let ran = Outcome::Ran { reason: String::new() };
        let events = [said(3, b"one\ntwo"), finished(3, "RUN ls", ran, 0)];
        let quiet = "#3 [flask] RUN ls  done in 0.0s\n";
        assert_eq!(text(false, &events), quiet);
        assert_eq!(text(true, &events), format!("#3 | one\n#3 | two\n{quiet}"));
    }

    #[test]
    fn actions_have_a_line_at_each_end() {
        let what = "Container pack-flask-1  Recreate".to_owned();
        let events = [
            Event::ActionStarted { what: what.clone(), cause: "its image changed".to_owned() },
            Event::ActionFinished { what: what.clone(), took: Duration::from_millis(1250), ok: true },
            Event::ActionFinished { what, took: Duration::from_secs(2), ok: false },
        ];
        let expected = "Container pack-flask-1  Recreate  because its image changed\n\
            Container pack-flask-1  Recreate  done in 1.2s\n\
            Container pack-flask-1  Recreate  failed after 2.0s\n";
        assert_eq!(text(false, &events), expected);
    }

    #[test]
    fn a_failure_goes_out_of_sight() {
        let mut lines = Lines::new(false);
        let failed = || Outcome::Failed { reason: String::new() };
        let show = |lines: &mut Lines, event: Event| {
            let text = lines.take(&event);
            lines.showed(&event, &text);
        };
        show(&mut lines, finished(1, "RUN a", failed(), 0));
        for step in 2..=6 {
            show(&mut lines, finished(step, "RUN b", Outcome::Hit, 0));
        }
        assert!(!lines.failed_long_ago());
        show(&mut lines, finished(7, "RUN c", failed(), 0));
        assert!(lines.failed_long_ago());
    }

    #[test]
    fn a_failed_steps_output_is_limited_to_its_end() {
        let mut output = Output::default();
        for line in 0..100 {
            output.push(format!("{line}\n").as_bytes());
        }
        let ending = output.ending();
        assert_eq!((ending.len(), ending[0].as_str()), (LAST_LINES, "60"));
    }
}
