//! Events as JSON, one object a line, for programs. Pure.
//!
//! Names, fields and units are part of the interface, documented in the README ("Events for programs", which
//! a test here compares): the first object says the version of the format, every object has a `time`.
//! Durations are milliseconds, sizes bytes. A field is added without a new version; what a field means, or
//! that it is there, changes only with one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::event::{Event, Outcome};

use super::summary::Summary;

/// Raised when a program that reads the stream would have to change.
const VERSION: u32 = 1;

/// A stream of objects: the first of them says what it is.
#[derive(Debug, Default)]
pub(super) struct Stream {
    opened: bool,
    summary: Summary,
}

impl Stream {
    /// The lines for `event`, which came so long after the command began.
    pub(super) fn take(&mut self, time: Duration, event: &Event) -> String {
        self.summary.take(event);
        self.line(time, object(event))
    }

    /// The lines for why the command failed.
    pub(super) fn failure(&mut self, time: Duration, message: &str) -> String {
        self.line(time, failure(message))
    }

    /// The lines that end a build; a second call begins a new count.
    pub(super) fn finish(&mut self, time: Duration) -> String {
        let summary = std::mem::take(&mut self.summary);
        summary.counts().map_or_else(String::new, |counts| self.line(time, counted(&counts)))
    }

    fn line(&mut self, time: Duration, object: Value) -> String {
        let line = format!("{}\n", at(time, object));
        if std::mem::replace(&mut self.opened, true) {
            line
        } else {
            format!("{}\n{line}", at(time, opening()))
        }
    }
}

/// An object with its time.
fn at(time: Duration, mut object: Value) -> Value {
    object["time"] = json!(milliseconds(time));
    object
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn opening() -> Value {
    json!({"event": "stream", "version": VERSION, "program": concat!("shipway ", env!("CARGO_PKG_VERSION"))})
}

fn counted(counts: &[(&str, usize)]) -> Value {
    let mut object = json!({"event": "summary"});
    counts.iter().for_each(|(name, count)| object[*name] = json!(count));
    object
}

/// The object for `event`.
fn object(event: &Event) -> Value {
    match event {
        Event::PhaseStarted(phase) => json!({"event": "phase-started", "phase": phase.name()}),
        Event::PhaseFinished { phase, took } => {
            json!({"event": "phase-finished", "phase": phase.name(), "took_ms": milliseconds(*took)})
        }
        Event::Planned { steps } => json!({"event": "planned", "steps": steps}),
        Event::StepStarted { step, services, name, reason, key, expected, left } => json!({
            "event": "step-started", "step": step.0, "services": services, "name": name, "reason": reason,
            "key": key, "expected_ms": expected.map(milliseconds), "left_ms": left.map(milliseconds),
        }),
        Event::StepOutput { step, bytes } => {
            json!({"event": "step-output", "step": step.0, "text": String::from_utf8_lossy(bytes)})
        }
        Event::StepFinished { step, services, name, outcome, took } => {
            let (end, reason) = end(outcome);
            json!({
                "event": "step-finished", "step": step.0, "services": services, "name": name,
                "outcome": end, "reason": reason, "took_ms": milliseconds(*took),
            })
        }
        Event::Transfer { what, done, total } => {
            json!({"event": "transfer", "what": what, "done": done, "total": total})
        }
        Event::ActionStarted { what, cause } => {
            json!({"event": "action-started", "what": what, "cause": cause})
        }
        Event::ActionFinished { what, took, ok } => {
            json!({"event": "action-finished", "what": what, "ok": ok, "took_ms": milliseconds(*took)})
        }
        Event::Warning(text) => json!({"event": "warning", "text": text}),
        Event::Finding(finding) => json!({"event": "warning", "text": finding.to_string()}),
        Event::Notice(text) => json!({"event": "notice", "text": text}),
    }
}

/// The word for how a step ended, and why it ran.
pub(super) const fn end(outcome: &Outcome) -> (&'static str, Option<&String>) {
    match outcome {
        Outcome::Hit => ("hit", None),
        Outcome::Ran { reason } => ("ran", Some(reason)),
        Outcome::Failed { reason } => ("failed", Some(reason)),
        Outcome::Cancelled => ("stopped", None),
    }
}

/// The object of a command that failed, with compose's `{error, message}`.
fn failure(message: &str) -> Value {
    json!({"event": "failure", "error": true, "message": message})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::diag::Diagnostic;
    use crate::base::event::{Phase, StepNumber};

    /// Fails to compile where a variant is added that [`all`] may not have.
    const fn known(event: &Event) {
        match event {
            Event::PhaseStarted(_) | Event::PhaseFinished { .. } | Event::Planned { .. } => {}
            Event::StepStarted { .. } | Event::StepOutput { .. } | Event::StepFinished { .. } => {}
            Event::Transfer { .. } | Event::ActionStarted { .. } | Event::ActionFinished { .. } => {}
            Event::Warning(_) | Event::Finding(_) | Event::Notice(_) => {}
        }
    }

    fn all() -> Vec<Event> {
        let (step, services, name) = (StepNumber(3), vec!["web".to_owned()], "RUN make".to_owned());
        let (reason, took) = ("never built".to_owned(), Duration::from_millis(1234));
        let (what, key) = ("load web".to_owned(), "c0ffee".to_owned());
        let outcome = Outcome::Ran { reason: reason.clone() };
        vec![
            Event::PhaseStarted(Phase::LookUpKeys),
            Event::PhaseFinished { phase: Phase::LookUpKeys, took },
            Event::Planned { steps: 1 },
            Event::StepStarted {
                step,
                services: services.clone(),
                name: name.clone(),
                reason,
                key,
                expected: None,
                left: Some(took),
            },
            Event::StepOutput { step, bytes: b"a\n\xff".to_vec() },
            Event::StepFinished { step, services, name, outcome, took },
            Event::Transfer { what: what.clone(), done: 1, total: Some(2) },
            Event::ActionStarted { what: what.clone(), cause: String::new() },
            Event::ActionFinished { what, took, ok: true },
            Event::Warning(String::new()),
            Event::Finding(Box::new(Diagnostic::warning("x"))),
            Event::Notice(String::new()),
        ]
    }

    #[test]
    fn every_line_is_one_object_with_an_event_and_a_time() {
        let mut stream = Stream::default();
        let time = Duration::from_millis(7);
        all().iter().for_each(known);
        let text: String = all().iter().map(|event| stream.take(time, event)).collect();
        let text = text + &stream.finish(time) + &stream.failure(time, "no");
        let lines: Vec<&str> = text.lines().collect();
        let version = env!("CARGO_PKG_VERSION");
        let first = format!(r#"{{"event":"stream","version":1,"program":"shipway {version}","time":7}}"#);
        assert_eq!(lines[0], first);
        assert_eq!(lines[5], r#"{"event":"step-output","step":3,"text":"a\n�","time":7}"#);
        assert_eq!(
            lines[6],
            r#"{"event":"step-finished","step":3,"services":["web"],"name":"RUN make","outcome":"ran","reason":"never built","took_ms":1234,"time":7}"#
        );
        let tail = [
            r#"{"event":"summary","steps":1,"hits":0,"ran":1,"failed":0,"stopped":0,"time":7}"#,
            r#"{"event":"failure","error":true,"message":"no","time":7}"#,
        ];
        assert_eq!(lines[lines.len() - 2..], tail);
        assert_eq!(stream.finish(time), "");
    }

    /// Fields by event, of everything that the stream can hold.
    fn written() -> BTreeMap<String, Vec<String>> {
        let own = [opening(), counted(&Summary::default().all_counts()), failure("")];
        let objects = all().iter().map(object).collect::<Vec<_>>().into_iter().chain(own);
        let fields = |object: Value| {
            let mut object = object.as_object().unwrap().clone();
            let event = object.remove("event").unwrap().as_str().unwrap().to_owned();
            let mut names: Vec<String> = object.into_iter().map(|(name, _)| name).collect();
            names.sort();
            (event, names)
        };
        objects.map(fields).collect()
    }

    /// The same as the README's table has it: | `event` | `field`, `field` … | meaning |
    fn documented() -> BTreeMap<String, Vec<String>> {
        let readme = include_str!("../../../README.md");
        let section = readme.split("\n## Events for programs\n").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let words =
            |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let row = |line: &str| {
            let cells: Vec<&str> = line.split('|').collect();
            let mut fields = words(cells[2]);
            fields.sort();
            (words(cells[1])[0].clone(), fields)
        };
        rows.map(row).collect()
    }

    #[test]
    fn the_readme_has_every_event_with_every_field() {
        assert_eq!(documented(), written());
    }

    #[test]
    fn the_example_of_the_readme_is_of_this_version() {
        let readme = include_str!("../../../README.md");
        let section = readme.split("\n## Events for programs\n").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let example: Vec<Value> = section
            .lines()
            .filter(|line| line.starts_with("{\"event\""))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(example[0]["version"], VERSION);
        let written = written();
        for object in &example {
            let mut names: Vec<_> = object.as_object().unwrap().keys().cloned().collect();
            names.retain(|name| !["event", "time"].contains(&name.as_str()));
            names.sort();
            assert_eq!(names, written[object["event"].as_str().unwrap()], "{object}");
        }
    }
}
