//! Carries a plan out: as many steps at once as their dependencies allow. Decides nothing about what
//! should be; what is left unfinished by a failure or a stop is undone by [`undo`].
//!
//! Starts are serialised: an engine that is asked for several port ranges at once may give one port
//! twice.

mod act;
mod inherit;
mod undo;
mod wait;

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::cancel::Cancel;
use crate::base::event::{Event, Events};
use crate::engine::Engine;

use super::error::UpError;
use super::plan::{Action, Handle, Plan, StepId, Target};

/// How often a worker that has nothing to do looks at the stop flag.
const LOOK: Duration = Duration::from_millis(50);

/// A container that a plan has started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// Its id.
    pub id: String,
    /// The name by which the user knows it.
    pub name: String,
    /// Its service.
    pub service: String,
}

/// With what a plan is carried out.
pub struct Execution<'a> {
    /// The engine.
    pub engine: &'a dyn Engine,
    /// Who is told of each step.
    pub events: &'a dyn Events,
    /// What stops it: no step begins any more, and what is half done is undone.
    pub cancel: &'a Cancel,
    /// How many steps at once.
    pub parallel: usize,
    /// Whether containers that are being stopped are killed when `cancel` is set.
    pub kill_when_cancelled: bool,
    /// Called after each start, from any thread.
    pub started: &'a (dyn Fn(Started) + Sync),
    /// Called with what hooks of a container print, from any thread; without bytes when a hook has ended.
    pub said: &'a (dyn Fn(&Target, &[u8]) + Sync),
}

/// How far a step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Waiting,
    Running,
    Done,
    Failed,
}

/// What the workers share.
struct Shared {
    progress: Vec<Progress>,
    /// The ids of the containers that steps made.
    made: BTreeMap<StepId, String>,
    error: Option<UpError>,
}

/// One run of a plan.
struct Run<'a> {
    plan: &'a Plan,
    with: &'a Execution<'a>,
    shared: Mutex<Shared>,
    changed: Condvar,
    starting: Mutex<()>,
}

/// Carries `plan` out. On an error nothing further begins, what runs is waited for, containers that were
/// made and never started are removed, and containers that were stopped for their sake are started again.
pub fn execute(plan: &Plan, with: &Execution<'_>) -> Result<(), UpError> {
    for warning in &plan.warnings {
        with.events.emit(Event::Warning(warning.clone()));
    }
    if plan.is_empty() {
        return Ok(());
    }
    let shared =
        Shared { progress: vec![Progress::Waiting; plan.steps.len()], made: BTreeMap::new(), error: None };
    let run =
        Run { plan, with, shared: Mutex::new(shared), changed: Condvar::new(), starting: Mutex::new(()) };
    thread::scope(|scope| {
        for _ in 0..with.parallel.clamp(1, plan.steps.len()) {
            scope.spawn(|| run.work());
        }
        if with.kill_when_cancelled {
            run.kill_when_cancelled();
        }
    });
    run.finish()
}

impl Run<'_> {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One worker: takes steps until there are none.
    fn work(&self) {
        while let Some(step) = self.next() {
            let result = self.perform(step);
            let mut shared = self.lock();
            match result {
                Ok(made) => {
                    shared.progress[step.0] = Progress::Done;
                    shared.made.extend(made.map(|id| (step, id)));
                }
                Err(error) => {
                    shared.progress[step.0] = Progress::Failed;
                    shared.error.get_or_insert(error);
                }
            }
            self.changed.notify_all();
        }
    }

    /// The next step that may run, waiting for one; `None` when no further step will.
    fn next(&self) -> Option<StepId> {
        let mut shared = self.lock();
        loop {
            if shared.error.is_none() && self.with.cancel.is_cancelled() {
                shared.error = Some(UpError::Cancelled);
            }
            if shared.error.is_some() || !shared.progress.contains(&Progress::Waiting) {
                return None;
            }
            if let Some(step) = self.ready(&shared) {
                shared.progress[step.0] = Progress::Running;
                return Some(step);
            }
            shared = self
                .changed
                .wait_timeout(shared, LOOK)
                .map_or_else(|error| error.into_inner().0, |out| out.0);
        }
    }

    fn ready(&self, shared: &Shared) -> Option<StepId> {
        let done = |step: &StepId| shared.progress[step.0] == Progress::Done;
        let ready = |index: &usize| {
            shared.progress[*index] == Progress::Waiting && self.plan.steps[*index].after.iter().all(done)
        };
        (0..self.plan.steps.len()).find(ready).map(StepId)
    }

    /// Runs one step and tells of it; the id of the container that it made.
    fn perform(&self, step: StepId) -> Result<Option<String>, UpError> {
        let planned = &self.plan.steps[step.0];
        let verb = match &planned.action {
            Action::Create(creation) if creation.replaces.is_some() => "recreate".to_owned(),
            action => action.verb(),
        };
        let what = format!("{}  {}", planned.action.subject(), capitalised(&verb));
        self.with.events.emit(Event::ActionStarted { what: what.clone(), cause: planned.cause.to_string() });
        let begun = Instant::now();
        let result = self.act(&planned.action);
        let (took, ok) = (begun.elapsed(), result.is_ok());
        self.with.events.emit(Event::ActionFinished { what, took, ok });
        result
    }

    /// The id of a container.
    fn id(&self, target: &Target) -> String {
        match &target.handle {
            Handle::Id(id) => id.clone(),
            // The step that makes it is among those that were waited for; a name serves as well as an id.
            Handle::MadeBy(step) => self.lock().made.get(step).unwrap_or(&target.name).clone(),
        }
    }

    /// Kills the containers whose stop is under way once the flag is set, until all workers are done.
    fn kill_when_cancelled(&self) {
        loop {
            let stopping = {
                let shared = self.lock();
                if !shared.progress.contains(&Progress::Running)
                    && (shared.error.is_some() || !shared.progress.contains(&Progress::Waiting))
                {
                    return;
                }
                self.stopping(&shared)
            };
            if self.with.cancel.is_cancelled() {
                for container in stopping {
                    // One that has just ended cannot be killed, which is what was wanted.
                    let _ = self.with.engine.kill(&container, "SIGKILL");
                }
            }
            thread::sleep(LOOK);
        }
    }

    fn stopping(&self, shared: &Shared) -> Vec<String> {
        let steps = self.plan.steps.iter().zip(&shared.progress);
        let running = steps.filter(|(_, progress)| **progress == Progress::Running);
        running
            .filter_map(|(step, _)| match &step.action {
                Action::Stop { container: Target { handle: Handle::Id(id), .. }, .. } => Some(id.clone()),
                _ => None,
            })
            .collect()
    }

    /// The result, after what a failure left has been undone.
    fn finish(self) -> Result<(), UpError> {
        let shared = self.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = shared.error else { return Ok(()) };
        let done: Vec<bool> = shared.progress.iter().map(|progress| *progress == Progress::Done).collect();
        for action in undo::decide(self.plan, &done, &shared.made) {
            if let Err(problem) = undo::act(self.with.engine, &action) {
                self.with.events.emit(Event::Warning(format!("cannot {action}: {}", problem.reason())));
            }
        }
        Err(error)
    }
}

fn capitalised(verb: &str) -> String {
    let mut letters = verb.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
