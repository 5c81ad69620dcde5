//! `up` in the foreground: carries a plan out, shows the logs of what it started, and stops the project
//! when the user says so.
//!
//! The first stop (`cancel`) ends the containers in good order while their logs go on; a second one
//! (`force`) kills them.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::base::event::{Event, Events};
use crate::compose::Project;
use crate::engine::{Engine, LogOptions, State};

use super::down;
use super::error::UpError;
use super::execute::{Execution, Started, execute};
use super::logs::{Ended, LineSink, Reader, Source, source};
use super::observe::{is_oneoff, observe, service_of};
use super::plan::{Plan, Target};

/// How often it is looked whether all have ended or the user wants to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What ends the whole project.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Abort {
    /// Only the end of all containers.
    #[default]
    Never,
    /// The end of any container (`--abort-on-container-exit`).
    OnExit,
    /// The end of any container with a code other than 0 (`--abort-on-container-failure`).
    OnFailure,
}

/// What `up` in the foreground works with.
pub struct Foreground<'a> {
    /// The engine.
    pub engine: &'a dyn Engine,
    /// The project.
    pub project: &'a Project,
    /// The services whose end counts.
    pub services: &'a [String],
    /// Those whose logs are shown.
    pub attached: &'a BTreeSet<String>,
    /// Who is told of each step.
    pub events: &'a dyn Events,
    /// Stops the project.
    pub cancel: &'a Cancel,
    /// Kills the project.
    pub force: &'a Cancel,
    /// How many steps at once.
    pub parallel: usize,
    /// How long a container may take to stop, against its own time.
    pub timeout: Option<Duration>,
    /// Whether log lines begin with their time.
    pub timestamps: bool,
    /// What ends the whole project.
    pub abort: Abort,
}

/// How it came to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// The containers that ended, in order.
    pub ended: Vec<Ended>,
    /// Whether the user stopped it.
    pub stopped: bool,
}

/// What the threads share.
struct Following<'a, 'b> {
    with: &'a Foreground<'a>,
    sink: Mutex<&'a mut LineSink<'b>>,
    /// Set when nothing more is to be followed.
    done: Cancel,
    state: Mutex<Followed>,
}

#[derive(Default)]
struct Followed {
    sources: Vec<Source>,
    open: usize,
    ended: Vec<Ended>,
    error: Option<UpError>,
}

/// Carries `plan` out and follows the logs of the project's containers until all have ended, or the user
/// or [`Abort`] stops the project.
pub fn foreground(plan: &Plan, with: &Foreground<'_>, sink: &mut LineSink<'_>) -> Result<Finished, UpError> {
    let done = Cancel::new().map_err(crate::engine::EngineError::Runtime)?;
    let followed = Following { with, sink: Mutex::new(sink), done, state: Mutex::new(Followed::default()) };
    let following = &followed;
    let result = thread::scope(|scope| {
        let started = |started: Started| {
            let source = following.open(&started.id, &started.name, &started.service);
            scope.spawn(move || following.follow(source, None));
        };
        let said = |target: &Target, bytes: &[u8]| following.hook(target, bytes);
        let run = Execution {
            engine: with.engine,
            events: with.events,
            cancel: with.cancel,
            parallel: with.parallel,
            kill_when_cancelled: false,
            started: &started,
            said: &said,
        };
        let result = execute(plan, &run).and_then(|()| {
            for (source, since) in following.others()? {
                scope.spawn(move || following.follow(source, Some(since)));
            }
            Ok(following.last())
        });
        let stopped = match result {
            Ok(stopped) => stopped,
            Err(UpError::Cancelled) => true,
            Err(error) => {
                following.done.cancel();
                return Err(error);
            }
        };
        let result = if stopped || following.aborts() { following.stop() } else { Ok(()) };
        following.done.cancel();
        result.map(|()| stopped)
    });
    let state = followed.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let stopped = result?;
    match state.error {
        Some(error) if !stopped => Err(error),
        _ => Ok(Finished { ended: state.ended, stopped }),
    }
}

impl Following<'_, '_> {
    fn state(&self) -> std::sync::MutexGuard<'_, Followed> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn open(&self, id: &str, name: &str, service: &str) -> Source {
        let mut state = self.state();
        let source = source(&self.with.project.name, id, name, service, state.sources.len());
        state.sources.push(source.clone());
        state.open += 1;
        source
    }

    /// Shows what a hook of a container printed.
    fn hook(&self, target: &Target, bytes: &[u8]) {
        if !self.with.attached.contains(&target.service) {
            return;
        }
        let options = LogOptions::default();
        let reader =
            Reader { engine: self.with.engine, options: &options, sink: &self.sink, cancel: &self.done };
        let source = source(&self.with.project.name, "", &target.name, &target.service, 0);
        // A reader of our output that went away is noticed with the next line of a container.
        let _ = reader.hook(&source, bytes);
    }

    /// Follows one container to its end.
    fn follow(&self, source: Source, since: Option<i64>) {
        let options =
            LogOptions { follow: true, timestamps: self.with.timestamps, since, ..LogOptions::default() };
        let reader =
            Reader { engine: self.with.engine, options: &options, sink: &self.sink, cancel: &self.done };
        let result = match self.with.attached.contains(&source.service) {
            true => reader.follow(&source),
            false => reader.watch(&source),
        };
        let mut state = self.state();
        state.open -= 1;
        match result {
            Ok(ended) => state.ended.extend(ended),
            Err(error) => drop(state.error.get_or_insert(UpError::Engine(error))),
        }
    }

    /// Running containers that were not started now: what they say from now on.
    fn others(&self) -> Result<Vec<(Source, i64)>, UpError> {
        let seen = observe(self.with.engine, &self.with.project.name)?;
        let mut others = Vec::new();
        for container in &seen.containers {
            let known = self.state().sources.iter().any(|source| source.id == container.id);
            let follows = !known
                && !is_oneoff(container)
                && matches!(container.state, State::Running | State::Restarting)
                && self.with.services.iter().any(|name| name == service_of(container));
            if follows {
                let source = self.open(&container.id, &container.name, service_of(container));
                others.push((source, now()));
            }
        }
        Ok(others)
    }

    /// Waits for the end: true if the user wants to stop.
    fn last(&self) -> bool {
        loop {
            if self.with.cancel.is_cancelled() {
                return true;
            }
            let state = self.state();
            let over = state.open == 0 || state.error.is_some();
            drop(state);
            if over || self.aborts() {
                return false;
            }
            thread::sleep(LOOK);
        }
    }

    /// Whether a container's end ends the project.
    fn aborts(&self) -> bool {
        let state = self.state();
        match self.with.abort {
            Abort::Never => false,
            Abort::OnExit => !state.ended.is_empty(),
            Abort::OnFailure => state.ended.iter().any(|ended| ended.code != 0),
        }
    }

    /// Stops the project's containers while their logs go on.
    fn stop(&self) -> Result<(), UpError> {
        let text = "stopping the containers; press Ctrl-C again to kill them";
        self.with.events.emit(Event::Notice(text.to_owned()));
        let seen = observe(self.with.engine, &self.with.project.name)?;
        let plan = down::stop(Some(self.with.project), &seen, &[], self.with.timeout);
        let run = Execution {
            engine: self.with.engine,
            events: self.with.events,
            cancel: self.with.force,
            parallel: self.with.parallel,
            kill_when_cancelled: true,
            started: &|_| {},
            said: &|target, bytes| self.hook(target, bytes),
        };
        match execute(&plan, &run) {
            Err(UpError::Cancelled) => self.kill(),
            result => result,
        }
    }

    /// Kills what still runs.
    fn kill(&self) -> Result<(), UpError> {
        let seen = observe(self.with.engine, &self.with.project.name)?;
        for container in seen.containers.iter().filter(|one| one.state == State::Running) {
            // One that has just ended cannot be killed, which is what was wanted.
            let _ = self.with.engine.kill(&container.id, "SIGKILL");
        }
        Ok(())
    }
}

/// The present time in Unix seconds.
fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}
