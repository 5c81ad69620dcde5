//! Waiting for containers: until healthy, until ended, until ready.

use std::thread;
use std::time::{Duration, Instant};

use crate::base::event::Event;
use crate::engine::{Health, LogChunk, LogOptions, State, Status};

use super::super::error::UpError;
use super::super::plan::{Target, Until};
use super::Execution;

/// The first pause between two questions; each further one is longer by half.
const FIRST: Duration = Duration::from_millis(50);

/// The longest pause.
const LONGEST: Duration = Duration::from_millis(500);

/// What a container's state means for who waits.
#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    Fulfilled,
    NotYet,
    Never(String),
}

/// Lines of a container's log that an error shows.
const SHOWN: u64 = 10;

/// What is waited for.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) until: Until,
    /// Whether a failure is an error; else it is a warning.
    pub(super) required: bool,
    /// How long at most.
    pub(super) within: Option<Duration>,
}

/// Waits for each of `containers` (with their ids).
pub(super) fn wait(
    with: &Execution<'_>,
    containers: &[(Target, String)],
    waiting: Waiting,
) -> Result<(), UpError> {
    let begun = Instant::now();
    for (target, id) in containers {
        match wait_for_one(with, target, id, waiting, begun) {
            Err(error @ UpError::Dependency { .. }) if !waiting.required => {
                with.events.emit(Event::Warning(format!("going on without what is not required: {error}")));
            }
            result => result?,
        }
    }
    Ok(())
}

fn wait_for_one(
    with: &Execution<'_>,
    target: &Target,
    id: &str,
    waiting: Waiting,
    begun: Instant,
) -> Result<(), UpError> {
    let failed = |problem: String| UpError::Dependency {
        service: target.service.clone(),
        container: target.name.clone(),
        until: waiting.until,
        problem,
        log: last_lines(with, id),
    };
    let mut pause = FIRST;
    loop {
        if with.cancel.is_cancelled() {
            return Err(UpError::Cancelled);
        }
        match with.engine.status(id)? {
            None => return Err(failed("is gone".to_owned())),
            Some(status) => match judge(&status, waiting.until) {
                Verdict::Fulfilled => return Ok(()),
                Verdict::Never(problem) => return Err(failed(problem)),
                Verdict::NotYet => {}
            },
        }
        if let Some(within) = waiting.within.filter(|within| begun.elapsed() >= *within) {
            return Err(failed(format!("did not get there within {} s", within.as_secs())));
        }
        thread::sleep(pause);
        pause = (pause * 3 / 2).min(LONGEST);
    }
}

/// The end of a container's log; empty where there is none to be had.
fn last_lines(with: &Execution<'_>, id: &str) -> String {
    let options = LogOptions { tail: Some(SHOWN), ..LogOptions::default() };
    let mut text = Vec::new();
    let mut take = |chunk: LogChunk| {
        text.extend_from_slice(&chunk.bytes);
        Ok(())
    };
    // The failure that is being told matters more than one in telling it.
    let _ = with.engine.logs(id, &options, &mut take, with.cancel);
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

fn judge(status: &Status, until: Until) -> Verdict {
    let ended = || {
        let why = status.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        Verdict::Never(format!("exited with code {}{why}", status.exit_code))
    };
    match (status.state, until) {
        (State::Exited, Until::Completed) if status.exit_code == 0 => Verdict::Fulfilled,
        (State::Exited | State::Dead | State::Removing, _) => ended(),
        (State::Paused, _) => Verdict::Never("is paused".to_owned()),
        (State::Created | State::Restarting, _) | (State::Running, Until::Completed) => Verdict::NotYet,
        (State::Running, Until::Healthy | Until::Ready) => match (status.health, until) {
            (Some(Health::Healthy), _) | (None, Until::Ready) => Verdict::Fulfilled,
            (Some(Health::Starting), _) => Verdict::NotYet,
            (Some(Health::Unhealthy), _) => {
                let last = status.health_output.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
                Verdict::Never(format!("is unhealthy{last}"))
            }
            (None, _) => Verdict::Never("has no health check".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State, exit_code: i64, health: Option<Health>) -> Status {
        Status { state, exit_code, health, health_output: None, error: None, started: None }
    }

    #[test]
    fn each_condition_has_its_verdict() {
        let running = |health| status(State::Running, 0, health);
        assert_eq!(judge(&running(Some(Health::Healthy)), Until::Healthy), Verdict::Fulfilled);
        assert_eq!(judge(&running(Some(Health::Starting)), Until::Healthy), Verdict::NotYet);
        assert_eq!(judge(&running(None), Until::Ready), Verdict::Fulfilled);
        assert_eq!(judge(&running(None), Until::Completed), Verdict::NotYet);
        assert_eq!(judge(&status(State::Exited, 0, None), Until::Completed), Verdict::Fulfilled);
        let never = |verdict| matches!(verdict, Verdict::Never(_));
        assert!(never(judge(&running(None), Until::Healthy)));
        assert!(never(judge(&running(Some(Health::Unhealthy)), Until::Ready)));
        assert!(never(judge(&status(State::Exited, 1, None), Until::Completed)));
        assert!(never(judge(&status(State::Exited, 0, None), Until::Healthy)));
    }
}
