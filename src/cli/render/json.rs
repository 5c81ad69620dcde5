//! Events as JSON, one object a line, for programs. Pure. Names and units are part of the interface:
//! durations are milliseconds, sizes bytes.

use serde_json::{Value, json};

use crate::base::event::{Event, Outcome};

/// The object for `event`.
pub(super) fn object(event: &Event) -> Value {
    match event {
        Event::Planned { steps } => json!({"event": "planned", "steps": steps}),
        Event::StepStarted { step, services, name, reason } => json!({
            "event": "step-started", "step": step.0, "services": services, "name": name, "reason": reason,
        }),
        Event::StepOutput { step, bytes } => {
            json!({"event": "step-output", "step": step.0, "text": String::from_utf8_lossy(bytes)})
        }
        Event::StepFinished { step, services, name, outcome, took } => {
            let (end, reason) = match outcome {
                Outcome::Hit => ("hit", None),
                Outcome::Ran { reason } => ("ran", Some(reason)),
                Outcome::Failed => ("failed", None),
                Outcome::Cancelled => ("stopped", None),
            };
            let took = took.as_millis() as u64;
            json!({
                "event": "step-finished", "step": step.0, "services": services, "name": name,
                "outcome": end, "reason": reason, "took_ms": took,
            })
        }
        Event::Transfer { what, done, total } => {
            json!({"event": "transfer", "what": what, "done": done, "total": total})
        }
        Event::ActionStarted { what, cause } => {
            json!({"event": "action-started", "what": what, "cause": cause})
        }
        Event::ActionFinished { what, took, ok } => {
            let took = took.as_millis() as u64;
            json!({"event": "action-finished", "what": what, "ok": ok, "took_ms": took})
        }
        Event::Warning(text) => json!({"event": "warning", "text": text}),
        Event::Finding(finding) => json!({"event": "warning", "text": finding.to_string()}),
        Event::Notice(text) => json!({"event": "notice", "text": text}),
    }
}

/// The object that ends a command which failed: compose's `{error, message}`.
pub(super) fn failure(message: &str) -> Value {
    json!({"error": true, "message": message})
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::event::StepNumber;

    #[test]
    fn every_line_is_one_object_with_an_event() {
        let step = StepNumber(3);
        let (services, name) = (vec!["web".to_owned()], "RUN make".to_owned());
        let outcome = Outcome::Ran { reason: "never built".to_owned() };
        let event = Event::StepFinished { step, services, name, outcome, took: Duration::from_millis(1234) };
        let expected = r#"{"event":"step-finished","step":3,"services":["web"],"name":"RUN make","outcome":"ran","reason":"never built","took_ms":1234}"#;
        assert_eq!(object(&event).to_string(), expected);
        let event = Event::StepOutput { step, bytes: b"a\n\xff".to_vec() };
        assert_eq!(
            object(&event).to_string(),
            "{\"event\":\"step-output\",\"step\":3,\"text\":\"a\\n\u{fffd}\"}"
        );
    }
}
