//! What a running command reports, as values.
//!
//! Layers 2 to 4 emit [`Event`]s; `cli::render` alone turns them into text, a live view or JSON. An
//! event says what happened, never how it should look. Nothing here prints.

use std::time::{Duration, Instant};

use super::diag::Diagnostic;

/// One step of a build, numbered in the order of its graph. Valid for one run of the command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StepNumber(pub usize);

/// How a build step ended.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// A result was there; nothing ran.
    Hit,
    /// It ran. `reason` says in one line why no result served.
    Ran {
        /// Why no result served, in one line.
        reason: String,
    },
    /// It ran and failed; the error itself is the command's result.
    Failed {
        /// Why no result served, in one line.
        reason: String,
    },
    /// Something that it needs failed, or the user stopped the command.
    Cancelled,
}

/// A part of a build, in the order in which builds go through them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Dockerfiles and ignore files are read.
    ReadFiles,
    /// Instructions become one graph; base images are found for their names.
    ResolveNames,
    /// What COPYs select from their contexts is digested.
    WalkContexts,
    /// Results are looked up.
    LookUpKeys,
    /// What has no result is compared with the last build.
    Explain,
    /// What has no result runs.
    RunSteps,
    /// Results become images with names in the store.
    Export,
    /// Images go to the engine.
    HandOver,
    /// The store is made durable.
    Sync,
}

impl Phase {
    /// Its name, in kebab case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadFiles => "read-files",
            Self::ResolveNames => "resolve-names",
            Self::WalkContexts => "walk-contexts",
            Self::LookUpKeys => "look-up-keys",
            Self::Explain => "explain",
            Self::RunSteps => "run-steps",
            Self::Export => "export",
            Self::HandOver => "hand-over",
            Self::Sync => "sync",
        }
    }
}

/// What a running command reports.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A part of a build began. Parts follow each other; a build that starts over goes through them again.
    PhaseStarted(Phase),
    /// It ended, well or not.
    PhaseFinished {
        /// Which part.
        phase: Phase,
        /// How long it took.
        took: Duration,
    },
    /// The build graph is known: how many steps it has.
    Planned {
        /// Steps in the graph, those that will be hits included.
        steps: usize,
    },
    /// A step began to run (hits never begin).
    StepStarted {
        /// Which step.
        step: StepNumber,
        /// The services that need it, in the project's order.
        services: Vec<String>,
        /// The instruction as the user wrote it, in one line.
        name: String,
        /// Why it has to run, in one line.
        reason: String,
        /// The first digits of its definition key.
        key: String,
        /// How long it took the last time.
        expected: Option<Duration>,
        /// A guess of how long the steps of this build still take, from the last time of each; none where a
        /// step is among them that never ran.
        left: Option<Duration>,
    },
    /// A running step wrote to its standard output or error stream.
    StepOutput {
        /// Which step.
        step: StepNumber,
        /// The bytes as they came, possibly parts of lines.
        bytes: Vec<u8>,
    },
    /// A step ended.
    StepFinished {
        /// Which step.
        step: StepNumber,
        /// The services that need it, in the project's order.
        services: Vec<String>,
        /// The instruction as the user wrote it, in one line.
        name: String,
        /// How it ended.
        outcome: Outcome,
        /// How long it ran; zero for hits.
        took: Duration,
    },
    /// Bytes are moving: a pull, a load into the engine, a push. `done == total` ends it.
    Transfer {
        /// What moves, unique among the transfers that are under way: `pull debian:bookworm-slim`.
        what: String,
        /// Bytes so far.
        done: u64,
        /// All bytes, where that is known.
        total: Option<u64>,
    },
    /// An action on the engine began: `Container pack-flask-1  Recreate`.
    ActionStarted {
        /// Resource and verb, as compose prints them.
        what: String,
        /// Why, in one line.
        cause: String,
    },
    /// That action ended.
    ActionFinished {
        /// The text that its start had.
        what: String,
        /// How long it took.
        took: Duration,
        /// Whether it succeeded; the error itself is the command's result.
        ok: bool,
    },
    /// Something that the user should know and that stops nothing.
    Warning(String),
    /// The same about a place in one of the user's files.
    Finding(Box<Diagnostic>),
    /// Progress in a sentence: `using the host's network for RUN`.
    Notice(String),
}

/// Takes events from any thread. Emitting neither fails nor blocks for long.
pub trait Events: Sync {
    /// Takes one event.
    fn emit(&self, event: Event);
}

/// Does a part of a build, and says when it begins and when it ends.
pub fn during<T>(events: &dyn Events, phase: Phase, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    events.emit(Event::PhaseStarted(phase));
    let done = act();
    events.emit(Event::PhaseFinished { phase, took: begun.elapsed() });
    done
}

/// Drops every event.
pub struct Silent;

impl Events for Silent {
    fn emit(&self, _event: Event) {}
}

/// Keeps every event, for tests.
#[derive(Default)]
pub struct Recorded(std::sync::Mutex<Vec<Event>>);

impl Recorded {
    /// The events so far, in the order in which they came.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Events for Recorded {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event);
    }
}
