//! A build as a timeline: events with their moments go in, Chrome's trace-event JSON comes out, which
//! chrome://tracing and Perfetto open. Pure.
//!
//! Lanes (threads, to the viewers): the parts of the build; the steps, one lane a slot; steps that did not
//! run; transfers; actions on the engine. What overlaps within a kind gets a lane more. Times are
//! microseconds since the command began. What has not ended when the command does, ends there.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::event::{Event, Outcome, StepNumber};

use super::json::end;

/// What kinds of lanes there are, in the order in which viewers show them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Phases,
    Steps,
    NotRun,
    Transfers,
    Engine,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Phases => "build",
            Self::Steps => "steps",
            Self::NotRun => "steps that did not run",
            Self::Transfers => "transfers",
            Self::Engine => "engine",
        }
    }
}

/// Something that took time, or (where it ends as it begins and is of [`Kind::NotRun`]) happened.
struct Span {
    kind: Kind,
    begin: Duration,
    end: Duration,
    name: String,
    args: Value,
}

/// What began and has not ended.
#[derive(Default)]
struct Open {
    phases: Vec<(&'static str, Duration)>,
    steps: BTreeMap<StepNumber, (Duration, String, Value)>,
    transfers: BTreeMap<String, (Duration, u64)>,
    actions: BTreeMap<String, (Duration, String)>,
    spans: Vec<Span>,
}

/// Whether an event has a place in the timeline.
pub(super) const fn counts(event: &Event) -> bool {
    !matches!(event, Event::StepOutput { .. } | Event::Warning(_) | Event::Finding(_) | Event::Notice(_))
}

/// The trace of a command's events, each with its moment, that took so long altogether.
pub(super) fn trace(moments: &[(Duration, Event)], ended: Duration) -> String {
    let mut open = Open::default();
    for (at, event) in moments {
        open.take(*at, event);
    }
    open.close(ended);
    let mut spans = open.spans;
    spans.sort_by_key(|span| (span.kind, span.begin));
    let lanes = lanes(&spans);
    let mut events = vec![metadata("process_name", 0, json!({"name": "shipway"}))];
    let mut known: Vec<(Kind, usize)> =
        spans.iter().zip(&lanes).map(|(span, lane)| (span.kind, *lane)).collect();
    known.sort_unstable();
    known.dedup();
    for (number, (kind, lane)) in known.iter().enumerate() {
        let several = known.iter().filter(|(other, _)| other == kind).count() > 1 || *kind == Kind::Steps;
        let name = if several { format!("{} {}", kind.name(), lane + 1) } else { kind.name().to_owned() };
        events.push(metadata("thread_name", number + 1, json!({"name": name})));
        events.push(metadata("thread_sort_index", number + 1, json!({"sort_index": number + 1})));
    }
    for (span, lane) in spans.iter().zip(&lanes) {
        let tid = known.iter().position(|known| *known == (span.kind, *lane)).map_or(0, |at| at + 1);
        events.push(span.event(tid));
    }
    let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
    format!("{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{}\n]}}\n", lines.join(",\n"))
}

/// For each span its lane among those of its kind: the lowest that is free when it begins. `spans` are
/// sorted by kind and beginning.
fn lanes(spans: &[Span]) -> Vec<usize> {
    let mut free: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
    let mut lane = |span: &Span| {
        let lanes = free.entry(span.kind).or_default();
        // What did not run takes no time, so one lane holds all of it; and parts follow each other.
        let found = lanes.iter().position(|until| *until <= span.begin);
        let found = found.unwrap_or_else(|| {
            lanes.push(Duration::ZERO);
            lanes.len() - 1
        });
        lanes[found] = span.end;
        found
    };
    spans.iter().map(&mut lane).collect()
}

fn metadata(name: &str, tid: usize, args: Value) -> Value {
    json!({"ph": "M", "name": name, "pid": 1, "tid": tid, "args": args})
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Span {
    fn event(&self, tid: usize) -> Value {
        let Self { kind, begin, end, name, args } = self;
        let (ts, cat) = (micros(*begin), kind.name());
        if *kind == Kind::NotRun {
            return json!({
                "ph": "i", "s": "t", "name": name, "cat": cat, "pid": 1, "tid": tid, "ts": ts, "args": args,
            });
        }
        let dur = micros(*end).saturating_sub(ts);
        json!({
            "ph": "X", "name": name, "cat": cat, "pid": 1, "tid": tid, "ts": ts, "dur": dur, "args": args,
        })
    }
}

impl Open {
    fn take(&mut self, at: Duration, event: &Event) {
        match event {
            Event::PhaseStarted(phase) => self.phases.push((phase.name(), at)),
            Event::PhaseFinished { phase, .. } => {
                if let Some(index) = self.phases.iter().rposition(|(name, _)| *name == phase.name()) {
                    let (name, begin) = self.phases.remove(index);
                    self.push(Kind::Phases, begin, at, name.to_owned(), json!({}));
                }
            }
            Event::StepStarted { step, services, name, reason, key, .. } => {
                let args = json!({"step": step.0, "services": services, "key": key, "reason": reason});
                self.steps.insert(*step, (at, name.clone(), args));
            }
            Event::StepFinished { step, services, name, outcome, .. } => {
                self.step_ended(at, *step, services, name, outcome);
            }
            Event::Transfer { what, done, total } => {
                let (begin, _) = self.transfers.remove(what).unwrap_or((at, 0));
                if total.is_some_and(|total| *done >= total) {
                    self.push(Kind::Transfers, begin, at, what.clone(), json!({"bytes": done}));
                } else {
                    self.transfers.insert(what.clone(), (begin, *done));
                }
            }
            Event::ActionStarted { what, cause } => {
                self.actions.insert(what.clone(), (at, cause.clone()));
            }
            Event::ActionFinished { what, ok, .. } => {
                if let Some((begin, cause)) = self.actions.remove(what) {
                    self.push(Kind::Engine, begin, at, what.clone(), json!({"cause": cause, "ok": ok}));
                }
            }
            Event::Planned { .. } | Event::StepOutput { .. } => {}
            Event::Warning(_) | Event::Finding(_) | Event::Notice(_) => {}
        }
    }

    fn step_ended(
        &mut self,
        at: Duration,
        step: StepNumber,
        services: &[String],
        name: &str,
        outcome: &Outcome,
    ) {
        let (outcome, reason) = end(outcome);
        match self.steps.remove(&step) {
            Some((begin, name, mut args)) => {
                args["outcome"] = json!(outcome);
                self.push(Kind::Steps, begin, at, name, args);
            }
            None => {
                let args = json!({
                    "step": step.0, "services": services, "reason": reason, "outcome": outcome,
                });
                self.push(Kind::NotRun, at, at, name.to_owned(), args);
            }
        }
    }

    /// Ends what has not ended.
    fn close(&mut self, ended: Duration) {
        for (name, begin) in std::mem::take(&mut self.phases) {
            self.push(Kind::Phases, begin, ended, name.to_owned(), json!({}));
        }
        for (_, (begin, name, mut args)) in std::mem::take(&mut self.steps) {
            args["outcome"] = json!("stopped");
            self.push(Kind::Steps, begin, ended, name, args);
        }
        for (what, (begin, bytes)) in std::mem::take(&mut self.transfers) {
            self.push(Kind::Transfers, begin, ended, what, json!({"bytes": bytes}));
        }
        for (what, (begin, cause)) in std::mem::take(&mut self.actions) {
            self.push(Kind::Engine, begin, ended, what, json!({"cause": cause, "ok": false}));
        }
    }

    fn push(&mut self, kind: Kind, begin: Duration, end: Duration, name: String, args: Value) {
        self.spans.push(Span { kind, begin, end: end.max(begin), name, args });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::Phase;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn started(step: usize, name: &str) -> Event {
        let (services, reason, key) =
            (vec!["web".to_owned()], "never built".to_owned(), format!("key{step}"));
        let (step, name) = (StepNumber(step), name.to_owned());
        Event::StepStarted { step, services, name, reason, key, expected: None, left: None }
    }

    fn finished(step: usize, name: &str, outcome: Outcome) -> Event {
        let (services, took) = (vec!["web".to_owned()], Duration::ZERO);
        Event::StepFinished { step: StepNumber(step), services, name: name.to_owned(), outcome, took }
    }

    fn transfer(done: u64) -> Event {
        Event::Transfer { what: "load web".to_owned(), done, total: Some(10) }
    }

    /// A failing build of two slots, with everything that a trace shows.
    fn moments() -> Vec<(Duration, Event)> {
        let ran = || Outcome::Ran { reason: "never built".to_owned() };
        let failed = Outcome::Failed { reason: "never built".to_owned() };
        let what = || "Container web-1  Create".to_owned();
        vec![
            (ms(1), Event::PhaseStarted(Phase::ReadFiles)),
            (ms(3), Event::PhaseFinished { phase: Phase::ReadFiles, took: ms(2) }),
            (ms(3), finished(0, "FROM busybox", Outcome::Hit)),
            (ms(4), Event::PhaseStarted(Phase::RunSteps)),
            (ms(5), started(1, "COPY . .")),
            (ms(6), started(2, "RUN make")),
            (ms(9), finished(1, "COPY . .", ran())),
            (ms(10), started(3, "RUN ls")),
            (ms(12), finished(3, "RUN ls", failed)),
            (ms(13), finished(4, "RUN last", Outcome::Cancelled)),
            (ms(14), transfer(0)),
            (ms(15), transfer(5)),
            (ms(16), Event::ActionStarted { what: what(), cause: "it does not exist".to_owned() }),
            (ms(18), transfer(10)),
            (ms(19), Event::ActionFinished { what: what(), took: ms(3), ok: true }),
        ]
    }

    /// `testdata/trace/expected.json` is what viewers are given; `UPDATE_GOLDEN=1` writes what came out.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the switch that rewrites golden files")]
    fn a_build_as_a_trace() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/trace/expected.json");
        let actual = trace(&moments(), ms(20));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &actual).unwrap();
        }
        assert_eq!(actual, std::fs::read_to_string(file).unwrap());
    }

    /// What the trace-event format asks for, and no two spans of one lane that overlap.
    #[test]
    fn a_trace_has_the_fields_that_viewers_need() {
        let value: Value = serde_json::from_str(&trace(&moments(), ms(20))).unwrap();
        let events = value["traceEvents"].as_array().unwrap();
        let mut until: BTreeMap<u64, u64> = BTreeMap::new();
        let named: Vec<u64> = events
            .iter()
            .filter(|event| event["name"] == "thread_name")
            .map(|event| event["tid"].as_u64().unwrap())
            .collect();
        for event in events {
            let tid = event["tid"].as_u64().unwrap();
            assert!(
                event["name"].is_string() && event["pid"].is_u64() && event["args"].is_object(),
                "{event}"
            );
            match event["ph"].as_str().unwrap() {
                "M" => continue,
                "i" => assert!(event["s"] == "t" && event["ts"].is_u64(), "{event}"),
                "X" => {
                    let (begin, took) = (event["ts"].as_u64().unwrap(), event["dur"].as_u64().unwrap());
                    assert!(begin >= until.insert(tid, begin + took).unwrap_or(0), "{event}");
                }
                other => panic!("{other}"),
            }
            assert!(named.contains(&tid), "{event}");
        }
    }
}
