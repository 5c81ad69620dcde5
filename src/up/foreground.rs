//! `up` in the foreground: carries a plan out, shows the logs of what it started, and stops the project
//! when the user says so.
//!
//! The first stop (`cancel`) ends the containers in good order while their logs go on; a second one
//! (`force`) kills them. Both are about the services of this run alone: neither others of the project nor
//! containers of `run`. What is started by somebody else meanwhile, again or anew, is followed as well.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::cancel::Cancel;
use crate::base::event::{Event, Events};
use crate::compose::Project;
use crate::engine::{Container, Engine, EngineError, Happening, LogOptions, State};

use super::down;
use super::error::UpError;
use super::execute::{Execution, Started, execute};
use super::follow::{self, Running, hear};
use super::logs::{Ended, LineSink, Lines, Mark, Reader, Source, source};
use super::observe::{Observed, is_oneoff, observe, service_of};
use super::plan::{Plan, Target};

/// How often it is looked whether all have ended or the user wants to stop.
const LOOK: Duration = Duration::from_millis(50);

/// How long a container that somebody else stopped may take to start again, as in a restart, before its end
/// counts.
const RETURN: Duration = Duration::from_secs(3);

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
    /// Set when the plan is not to go on.
    halt: Cancel,
    state: Mutex<Followed>,
}

struct Followed {
    running: Running,
    /// The containers that were sent a signal.
    signalled: BTreeSet<String>,
    /// When each container that has ended did so.
    gone: BTreeMap<String, Instant>,
    ended: Vec<Ended>,
    /// What hooks printed that is no whole line yet, by container.
    hooks: BTreeMap<String, Lines>,
    error: Option<UpError>,
}

/// Begins to follow a container.
type Begin<'a> = dyn Fn(Source, Mark) + Sync + 'a;

/// Carries `plan` out and follows the logs of the project's containers until all have ended, or the user
/// or [`Abort`] stops the project.
pub fn foreground(plan: &Plan, with: &Foreground<'_>, sink: &mut LineSink<'_>) -> Result<Finished, UpError> {
    let flag = || Cancel::new().map_err(EngineError::Runtime);
    let state = Followed {
        running: Running::new(&[]),
        signalled: BTreeSet::new(),
        gone: BTreeMap::new(),
        ended: Vec::new(),
        hooks: BTreeMap::new(),
        error: None,
    };
    let (sink, state) = (Mutex::new(sink), Mutex::new(state));
    let followed = Following { with, sink, done: flag()?, halt: flag()?, state };
    let following = &followed;
    let listed = now();
    let others = following.look()?;
    let stopped = thread::scope(|scope| {
        let begin = |source: Source, mark: Mark| {
            scope.spawn(move || following.follow(&source, mark));
        };
        let (sender, news) = mpsc::channel();
        scope.spawn(move || following.listen(listed, &sender));
        scope.spawn(move || {
            let begin = |source: Source, mark: Mark| {
                scope.spawn(move || following.follow(&source, mark));
            };
            following.attend(&news, &begin);
        });
        let result = following.run(plan, &others, &begin);
        following.done.cancel();
        result
    })?;
    let state = followed.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    match state.error {
        Some(error) if !stopped => Err(error),
        _ => Ok(Finished { ended: state.ended, stopped }),
    }
}

impl Following<'_, '_> {
    fn state(&self) -> std::sync::MutexGuard<'_, Followed> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Carries the plan out, waits for the end, and stops what is to be stopped; whether the user wanted it.
    fn run(&self, plan: &Plan, others: &[Container], begin: &Begin<'_>) -> Result<bool, UpError> {
        let run = Execution {
            engine: self.with.engine,
            events: self.with.events,
            cancel: &self.halt,
            parallel: self.with.parallel,
            kill_when_cancelled: false,
            started: &|started: Started| self.begin(&started.id, &started.name, &started.service, begin),
            said: &|target: &Target, bytes: &[u8]| self.hook(target, bytes),
        };
        let stopped = match execute(plan, &run) {
            Ok(()) => {
                // The plan may have made others of them.
                for container in others {
                    self.begin(&container.id, &container.name, service_of(container), begin);
                }
                self.last()
            }
            Err(UpError::Cancelled) => self.with.cancel.is_cancelled(),
            Err(error) => return Err(error),
        };
        if stopped || self.aborts() {
            self.stop()?;
        }
        Ok(stopped)
    }

    /// Whether a container belongs to the services that this is about.
    fn is_ours(&self, container: &Container) -> bool {
        !is_oneoff(container) && self.with.services.iter().any(|name| name == service_of(container))
    }

    /// The project as it is, as far as this is about it.
    fn ours(&self) -> Result<Observed, EngineError> {
        let mut seen = observe(self.with.engine, &self.with.project.name)?;
        seen.containers.retain(|one| self.is_ours(one));
        Ok(seen)
    }

    /// Notes how far the logs of the containers that are there have come: only what they say from now on is
    /// shown. Gives those that run.
    fn look(&self) -> Result<Vec<Container>, EngineError> {
        let mut others = Vec::new();
        for container in self.ours()?.containers {
            let runs = matches!(container.state, State::Running | State::Restarting | State::Paused);
            let mut mark = match self.with.attached.contains(service_of(&container)) {
                true => Mark::at_end(self.with.engine, &container.id, self.with.cancel),
                false => Mark::default(),
            };
            if runs {
                others.push(container.clone());
            } else {
                mark.started = self.with.engine.status(&container.id)?.and_then(|status| status.started);
            }
            self.state().running.mark(&container.id, mark);
        }
        Ok(others)
    }

    /// Follows a container unless that is done already.
    fn begin(&self, id: &str, name: &str, service: &str, begin: &Begin<'_>) {
        let project = &self.with.project.name;
        let found = self.state().running.begin(self.with.engine, project, id, name, service);
        if let Some((source, mark)) = found {
            begin(source, mark.unwrap_or_default());
        }
    }

    /// Tells what happens to the containers that this is about.
    fn listen(&self, listed: i64, sender: &mpsc::Sender<Happening>) {
        let (project, services) = (self.with.project.name.as_str(), self.with.services);
        let about = follow::Following { project, services, number: None, sources: &[], listed };
        let mut tell = |happening: Happening| match follow::asked_for(&about, &happening) {
            true => sender.send(happening).map_err(|_| io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        };
        if let Err(error) = hear(self.with.engine, project, listed, &mut tell, &self.done) {
            self.state().error.get_or_insert(UpError::Engine(error));
        }
    }

    /// Follows what is started, by the plan or by somebody else, and ends the plan when the user or the end
    /// of a container says so.
    fn attend(&self, news: &mpsc::Receiver<Happening>, begin: &Begin<'_>) {
        while !self.done.is_cancelled() {
            match news.recv_timeout(LOOK) {
                Ok(happening) => self.happened(happening, begin),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // Nobody listens any more; the user may still want to stop.
                Err(mpsc::RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
            }
            if self.with.cancel.is_cancelled() || self.aborts() {
                self.halt.cancel();
            }
        }
    }

    fn happened(&self, happening: Happening, begin: &Begin<'_>) {
        let label = |name| happening.attributes.get(name).map_or("", String::as_str);
        match happening.action.as_str() {
            "start" => {
                let name = follow::without_old_id(label("name"));
                self.begin(&happening.container, name, label(super::names::SERVICE), begin);
            }
            "kill" => drop(self.state().signalled.insert(happening.container)),
            _ => {}
        }
    }

    /// Shows what a hook of a container printed.
    fn hook(&self, target: &Target, bytes: &[u8]) {
        if !self.with.attached.contains(&target.service) {
            return;
        }
        let options = LogOptions::default();
        let reader =
            Reader { engine: self.with.engine, options: &options, sink: &self.sink, cancel: &self.done };
        let mut state = self.state();
        let index = state.running.index(&target.service);
        let mut lines = state.hooks.remove(&target.name).unwrap_or_default();
        drop(state);
        let source = source(&self.with.project.name, "", &target.name, &target.service, index);
        // A reader of our output that went away is noticed with the next line of a container.
        let _ = reader.hook(&source, &mut lines, bytes);
        self.state().hooks.insert(target.name.clone(), lines);
    }

    /// Follows one container to its end.
    fn follow(&self, source: &Source, mut mark: Mark) {
        let options = LogOptions { follow: true, timestamps: self.with.timestamps, ..LogOptions::default() };
        let reader =
            Reader { engine: self.with.engine, options: &options, sink: &self.sink, cancel: &self.done };
        let result = match self.with.attached.contains(&source.service) {
            true => reader.follow(source, &mut mark),
            false => reader.watch(source, &mut mark),
        };
        let mut state = self.state();
        state.running.ended(&source.id, mark);
        state.gone.insert(source.id.clone(), Instant::now());
        match result {
            Ok(ended) => state.ended.extend(ended),
            Err(error) => drop(state.error.get_or_insert(UpError::Engine(error))),
        }
    }

    /// Waits for the end: true if the user wants to stop.
    fn last(&self) -> bool {
        loop {
            if self.with.cancel.is_cancelled() {
                return true;
            }
            let state = self.state();
            let over = state.error.is_some() || (state.running.is_idle() && !state.may_return());
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

    /// Stops the containers while their logs go on.
    fn stop(&self) -> Result<(), UpError> {
        let text = "stopping the containers; press Ctrl-C again to kill them";
        self.with.events.emit(Event::Notice(text.to_owned()));
        let seen = self.ours()?;
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
        for container in self.ours()?.containers.iter().filter(|one| one.state == State::Running) {
            // One that has just ended cannot be killed, which is what was wanted.
            let _ = self.with.engine.kill(&container.id, "SIGKILL");
        }
        Ok(())
    }
}

impl Followed {
    /// Whether one that has ended may start again: somebody stopped it a moment ago, or, if that was just
    /// now, that may not have been heard yet.
    fn may_return(&self) -> bool {
        self.gone.iter().any(|(id, gone)| {
            let patience = if self.signalled.contains(id) { RETURN } else { LOOK };
            gone.elapsed() < patience
        })
    }
}

/// The present time in nanoseconds since 1970.
fn now() -> i64 {
    i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;
    use crate::base::event::Recorded;
    use crate::engine::ContainerSpec;
    use crate::engine::fake::Fake;

    fn running(engine: &Fake, name: &str, service: &str, oneoff: &str) {
        let labels = [(names::PROJECT, "p"), (names::SERVICE, service), (names::ONEOFF, oneoff)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        engine.create(name, &ContainerSpec { labels, ..ContainerSpec::default() }).unwrap();
        engine.start(name).unwrap();
    }

    #[test]
    fn a_stop_is_about_the_services_of_this_run() {
        let engine = Fake::default();
        running(&engine, "p-web-1", "web", "False");
        running(&engine, "p-web-run-1", "web", "True");
        running(&engine, "p-other-1", "other", "False");
        let project = Project { name: "p".to_owned(), ..Project::default() };
        let (services, attached) = (["web".to_owned()], BTreeSet::from(["web".to_owned()]));
        let (cancel, force) = (Cancel::new().unwrap(), Cancel::new().unwrap());
        cancel.cancel();
        let with = Foreground {
            engine: &engine,
            project: &project,
            services: &services,
            attached: &attached,
            events: &Recorded::default(),
            cancel: &cancel,
            force: &force,
            parallel: 1,
            timeout: None,
            timestamps: false,
            abort: Abort::Never,
        };
        let finished = foreground(&Plan::default(), &with, &mut |_| Ok(())).unwrap();
        assert!(finished.stopped);
        let state = |name: &str| (name.to_owned(), State::Running);
        let stopped = ("p-web-1".to_owned(), State::Exited);
        assert_eq!(engine.names(), [stopped, state("p-web-run-1"), state("p-other-1")]);
    }
}
