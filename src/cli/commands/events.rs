//! `events`. The texts are pure.

use std::io;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::Events;
use crate::cli::failure::Failure;
use crate::cli::moment;
use crate::cli::render::go;
use crate::cli::signals::Interrupts;
use crate::engine::{Engine, Happening, HappeningOptions};
use crate::store::Stamp;
use crate::up::{ServiceEvent, project_label, service_event};

use super::{Context, Ended};

/// Shows what happens to the project's containers, as it happens.
pub(in crate::cli) fn events(context: &mut Context<'_>, flags: &Events) -> Ended {
    let (name, _) = context.named(&flags.services)?;
    let now = Stamp::now();
    let moment = |text: &Option<String>| text.as_deref().map(|text| moment::moment(text, now)).transpose();
    let options = HappeningOptions {
        labels: vec![project_label(&name)],
        since: moment(&flags.since).map_err(Failure::Usage)?,
        until: moment(&flags.until).map_err(Failure::Usage)?,
    };
    let engine = context.needed_engine()?;
    let interrupts = Interrupts::catch(1)?;
    let screen = context.screen;
    let mut show = |happening: Happening| -> io::Result<()> {
        match service_event(happening, &flags.services) {
            Some(event) => screen.flow(&if flags.json { json_text(&event) } else { text(&event) }),
            None => Ok(()),
        }
    };
    engine.happenings(&options, &mut show, &interrupts.stop)?;
    if interrupts.stop.is_cancelled() {
        return Err(Failure::Stopped);
    }
    Ok(ExitCode::SUCCESS)
}

/// `TIME container ACTION ID (NAME=VALUE, …)` and, as Docker Compose does, an empty line.
fn text(event: &ServiceEvent) -> String {
    let happening = &event.happening;
    let attributes: Vec<_> =
        happening.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!(
        "{} container {} {} ({})\n\n",
        moment::micro(happening.time),
        happening.action,
        happening.container,
        attributes.join(", ")
    )
}

fn json_text(event: &ServiceEvent) -> String {
    let happening = &event.happening;
    let object = json!({
        "action": happening.action,
        "attributes": happening.attributes,
        "id": happening.container,
        "service": event.service,
        "time": moment::rfc3339(happening.time),
        "type": "container",
    });
    format!("{}\n", go::json(&object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_shown_as_compose_shows_them() {
        let attributes = [("name", "p-web-1"), ("image", "busybox:latest")];
        let happening = Happening {
            container: "ab".to_owned(),
            action: "start".to_owned(),
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            time: 1_700_000_000_120_000_500,
        };
        let event = ServiceEvent { service: "web".to_owned(), happening };
        let expected =
            "2023-11-14 22:13:20.120000 container start ab (image=busybox:latest, name=p-web-1)\n\n";
        assert_eq!(text(&event), expected);
        let expected = r#"{"action":"start","attributes":{"image":"busybox:latest","name":"p-web-1"},"id":"ab","service":"web","time":"2023-11-14T22:13:20.1200005Z","type":"container"}"#;
        assert_eq!(json_text(&event), format!("{expected}\n"));
    }
}
