//! What is to be done: steps with their causes, and their text. Values only; nothing here acts.
//!
//! A step names the steps that must have succeeded before it. The text form is what `--dry-run` prints
//! and what the tests compare:
//!
//! ```text
//! 1. network pack_default: create (it does not exist)
//! 2. container pack-web-1: create (it does not exist) after 1
//! ```

use std::fmt;
use std::time::Duration;

use crate::base::diag::Diagnostic;
use crate::compose::{DependencyCondition, Hook, Service};
use crate::engine::{Attachment, ContainerSpec, NetworkSpec, VolumeSpec};

use super::spec::Copy;

/// A step's place in its plan, from 0. A step comes after every step that it waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StepId(pub usize);

/// Everything that is to be done, in an order that is possible, and what the user should know.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What is worth saying and stops nothing.
    pub warnings: Vec<String>,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Why.
    pub cause: Cause,
    /// What must have succeeded before.
    pub after: Vec<StepId>,
}

/// A container that exists, or that an earlier step of the plan makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The name by which the user knows it, which may be its name only at the end.
    pub name: String,
    /// Its service.
    pub service: String,
    /// How the engine finds it.
    pub handle: Handle,
}

/// How the engine finds a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Handle {
    /// By its id.
    Id(String),
    /// By the id that this step gets when it makes it.
    MadeBy(StepId),
}

/// What a container is made of.
#[derive(Clone, Debug)]
pub struct Creation {
    /// The name by which the user will know it.
    pub name: String,
    /// The name at first: another one if it replaces a container.
    pub temporary: Option<String>,
    /// Its service.
    pub service: String,
    /// What the engine is told.
    pub spec: Box<ContainerSpec>,
    /// Files that are copied into it.
    pub copies: Vec<Copy>,
    /// The id of the container that it replaces.
    pub replaces: Option<String>,
    /// Whether it takes over that one's anonymous volumes.
    pub inherits: bool,
    /// The containers whose namespaces or volumes it shares, by service.
    pub shares: Vec<(String, Target)>,
    /// The service if it shares something: Docker Compose's digest of it has the ids of the containers.
    pub(super) hashed: Option<Box<Service>>,
}

/// A container that runs to its end before another one starts, and is removed then.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// Its name.
    pub name: String,
    /// The container whose volumes it shares and that is to start.
    pub container: Target,
    /// What the engine is told, but for the volumes.
    pub spec: ContainerSpec,
    /// Files that are copied into it.
    pub copies: Vec<Copy>,
    /// The containers whose namespaces it shares, by service.
    pub shares: Vec<(String, Target)>,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Makes a network.
    CreateNetwork(Box<NetworkSpec>),
    /// Removes a network by id.
    RemoveNetwork {
        /// Whether it is an error if it is still in use; else it stays with a warning.
        required: bool,
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// Takes a container off a network.
    Disconnect {
        /// The container.
        container: Target,
        /// The network's name.
        network: String,
    },
    /// Connects a container to a network.
    Connect {
        /// The container.
        container: Target,
        /// Its place there.
        attachment: Box<Attachment>,
    },
    /// Makes a volume.
    CreateVolume(Box<VolumeSpec>),
    /// Removes a volume.
    RemoveVolume {
        /// Its name.
        name: String,
    },
    /// Makes a container.
    Create(Box<Creation>),
    /// Copies files into a container.
    Fill {
        /// The container.
        container: Target,
        /// The files.
        copies: Vec<Copy>,
    },
    /// Starts a container.
    Start(Target),
    /// Stops a container.
    Stop {
        /// The container.
        container: Target,
        /// How long it may take, where that is not its own time.
        timeout: Option<Duration>,
    },
    /// Sends a signal to a container.
    Kill {
        /// The container.
        container: Target,
        /// The signal.
        signal: String,
    },
    /// Freezes a container.
    Pause(Target),
    /// Lets a frozen container go on.
    Unpause(Target),
    /// Removes a container that does not run.
    Remove {
        /// The container.
        container: Target,
        /// Whether its anonymous volumes go with it.
        volumes: bool,
    },
    /// Gives a container its name.
    Rename {
        /// The container.
        container: Target,
        /// The name.
        to: String,
    },
    /// Waits for the containers of a service.
    Wait {
        /// The service.
        service: String,
        /// Its containers.
        containers: Vec<Target>,
        /// For what.
        until: Until,
        /// Whether it is an error if that does not happen.
        required: bool,
        /// How long at most.
        within: Option<Duration>,
    },
    /// Runs a command to its end in a container of its own that shares volumes and networks with one that
    /// is about to start (`pre_start`).
    Prepare(Box<Preparation>),
    /// Runs a command in a container.
    Hook {
        /// The container.
        container: Target,
        /// `post_start`, `pre_stop`.
        when: &'static str,
        /// The command.
        hook: Box<Hook>,
    },
    /// Removes an image's name.
    RemoveImage {
        /// The name.
        name: String,
    },
}

/// What a wait is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Until {
    /// All are healthy.
    Healthy,
    /// All have ended with code 0.
    Completed,
    /// All run, and are healthy if anything checks them.
    Ready,
}

impl From<DependencyCondition> for Until {
    fn from(condition: DependencyCondition) -> Self {
        match condition {
            DependencyCondition::Started => Self::Ready,
            DependencyCondition::Healthy => Self::Healthy,
            DependencyCondition::Completed => Self::Completed,
        }
    }
}

/// Why a step is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It does not exist.
    Missing,
    /// The user asked for it, in these words.
    Asked(&'static str),
    /// Its image is another one now.
    NewImage,
    /// These keys of its service changed.
    Changed(Vec<String>),
    /// The content of a config or secret changed.
    NewContent,
    /// It was made by Docker Compose.
    Foreign,
    /// A container whose namespace or volumes it shares is replaced.
    Shares(String),
    /// It is not attached to this network.
    Detached(String),
    /// It has another name.
    Misnamed(String),
    /// It is to be replaced.
    Replaced,
    /// It takes the place of this container.
    Replaces(String),
    /// It is new.
    New,
    /// It does not run: the engine's word for its state.
    NotRunning(String),
    /// A service that it depends on, with `restart: true`, is replaced.
    Restarted(String),
    /// This service depends on it.
    NeededBy(String),
    /// There are more than so many.
    Surplus(u32),
    /// The project has no such service.
    Orphan,
    /// The network is made anew.
    NetworkReplaced(String),
    /// Nothing uses it any more.
    Unused,
}

impl Plan {
    /// Adds a step.
    pub(super) fn add(&mut self, action: Action, cause: Cause, mut after: Vec<StepId>) -> StepId {
        after.sort_unstable();
        after.dedup();
        self.steps.push(Step { action, cause, after });
        StepId(self.steps.len() - 1)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(formatter, "{}. {step}", index + 1)?;
        }
        for warning in &self.warnings {
            writeln!(formatter, "{}", Diagnostic::warning(warning))?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.action, self.cause)?;
        if !self.after.is_empty() {
            let after: Vec<_> = self.after.iter().map(|step| (step.0 + 1).to_string()).collect();
            write!(formatter, " after {}", after.join(", "))?;
        }
        Ok(())
    }
}

impl Preparation {
    /// The command, in one line.
    pub fn command(&self) -> String {
        self.spec.command.as_deref().unwrap_or_default().join(" ")
    }
}

impl Action {
    /// What it acts upon, as `Container pack-web-1`.
    pub fn subject(&self) -> String {
        match self {
            Self::CreateNetwork(spec) => format!("Network {}", spec.name),
            Self::RemoveNetwork { name, .. } => format!("Network {name}"),
            Self::CreateVolume(spec) => format!("Volume {}", spec.name),
            Self::RemoveVolume { name, .. } => format!("Volume {name}"),
            Self::Create(creation) => format!("Container {}", creation.name),
            Self::Start(container)
            | Self::Fill { container, .. }
            | Self::Remove { container, .. }
            | Self::Pause(container)
            | Self::Unpause(container)
            | Self::Stop { container, .. }
            | Self::Kill { container, .. }
            | Self::Rename { container, .. }
            | Self::Disconnect { container, .. }
            | Self::Connect { container, .. }
            | Self::Hook { container, .. } => format!("Container {}", container.name),
            Self::Prepare(preparation) => format!("Container {}", preparation.container.name),
            Self::Wait { service, .. } => format!("Service {service}"),
            Self::RemoveImage { name } => format!("Image {name}"),
        }
    }

    /// What it does, in a few words: `create`, `connect to network pack_back`.
    pub fn verb(&self) -> String {
        match self {
            Self::CreateNetwork(_) | Self::CreateVolume(_) => "create".to_owned(),
            Self::RemoveNetwork { .. } | Self::RemoveVolume { .. } | Self::RemoveImage { .. } => {
                "remove".to_owned()
            }
            Self::Create(creation) => match &creation.temporary {
                Some(name) => format!("create as {name}"),
                None => "create".to_owned(),
            },
            Self::Start(_) => "start".to_owned(),
            Self::Fill { .. } => "copy its configs and secrets".to_owned(),
            Self::Remove { volumes: true, .. } => "remove".to_owned(),
            Self::Remove { volumes: false, .. } => "remove, but not its anonymous volumes".to_owned(),
            Self::Prepare(preparation) => format!("run pre_start `{}`", preparation.command()),
            Self::Pause(_) => "pause".to_owned(),
            Self::Unpause(_) => "unpause".to_owned(),
            Self::Stop { .. } => "stop".to_owned(),
            Self::Kill { signal, .. } => format!("send {signal}"),
            Self::Rename { to, .. } => format!("rename to {to}"),
            Self::Disconnect { network, .. } => format!("disconnect from network {network}"),
            Self::Connect { attachment, .. } => format!("connect to network {}", attachment.network),
            Self::Wait { until, required, within, .. } => {
                let least = if *required { "" } else { ", if possible" };
                let most = within.map(|most| format!(", at most {} s", most.as_secs())).unwrap_or_default();
                format!("wait until {until}{least}{most}")
            }
            Self::Hook { when, hook, .. } => format!("run {when} `{}`", hook.command.join(" ")),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.subject();
        let (kind, name) = subject.split_once(' ').unwrap_or((&subject, ""));
        write!(formatter, "{} {name}: {}", kind.to_lowercase(), self.verb())
    }
}

impl fmt::Display for Until {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Healthy => "healthy",
            Self::Completed => "completed",
            Self::Ready => "running or healthy",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter.write_str("it does not exist"),
            Self::Asked(what) => formatter.write_str(what),
            Self::NewImage => formatter.write_str("its image changed"),
            Self::Changed(keys) => write!(formatter, "{} changed", keys.join(", ")),
            Self::NewContent => formatter.write_str("the content of a config or secret changed"),
            Self::Foreign => formatter.write_str("it was made by Docker Compose"),
            Self::Shares(service) => write!(formatter, "it shares with {service}, which is replaced"),
            Self::Detached(network) => write!(formatter, "it is not on network {network}"),
            Self::Misnamed(name) => write!(formatter, "it is called {name}"),
            Self::Replaced => formatter.write_str("it is replaced"),
            Self::Replaces(id) => write!(formatter, "it replaces {}", &id[..id.len().min(12)]),
            Self::New => formatter.write_str("it is new"),
            Self::NotRunning(state) => write!(formatter, "it is {state}"),
            Self::Restarted(service) => write!(formatter, "{service} is replaced"),
            Self::NeededBy(service) => write!(formatter, "{service} depends on it"),
            Self::Surplus(most) => write!(formatter, "there are more than {most}"),
            Self::Orphan => formatter.write_str("the project has no such service"),
            Self::NetworkReplaced(network) => write!(formatter, "network {network} is made anew"),
            Self::Unused => formatter.write_str("nothing uses it any more"),
        }
    }
}
