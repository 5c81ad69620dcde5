//! What a failure or a stop left half done: decided from the plan and from which steps were done.
//!
//! A container that was made and not started is removed; one that was stopped so that another could take
//! its place, or only for a while, is started again; a replacement whose new container runs is finished.

use std::collections::BTreeMap;
use std::fmt;

use crate::engine::{Attachment, Engine, Result};

use super::super::names;
use super::super::plan::{Action, Creation, Handle, Plan, StepId};
use super::inherit;

/// One action that puts something right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Undo {
    /// Removes a container that was made in vain.
    Discard { id: String, name: String },
    /// Connects a container again to a network that was not removed.
    Reconnect { id: String, name: String, attachment: Box<Attachment> },
    /// Starts a container again.
    Revive { id: String, name: String },
    /// Removes the container that another one has replaced.
    RemoveOld { id: String, name: String },
    /// Gives the new container its name.
    Rename { id: String, name: String },
}

impl fmt::Display for Undo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discard { name, .. } => write!(formatter, "remove the unfinished container {name}"),
            Self::Reconnect { name, attachment, .. } => {
                write!(formatter, "connect container {name} to network {} again", attachment.network)
            }
            Self::Revive { name, .. } => write!(formatter, "start container {name} again"),
            Self::RemoveOld { name, .. } => write!(formatter, "remove the replaced container {name}"),
            Self::Rename { name, .. } => write!(formatter, "rename a container to {name}"),
        }
    }
}

/// What is to be put right, in this order.
pub(super) fn decide(plan: &Plan, done: &[bool], made: &BTreeMap<StepId, String>) -> Vec<Undo> {
    let seen = Seen { plan, done };
    let mut undo = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let (Action::Create(creation), Some(id)) = (&step.action, made.get(&StepId(index))) else { continue };
        let handle = Handle::MadeBy(StepId(index));
        let old_is_gone = creation.replaces.as_ref().is_some_and(|old| seen.removed(old));
        if seen.started(&handle) || (old_is_gone && !seen.starts(&handle)) {
            undo.extend(seen.complete(creation, id, &handle));
        } else if seen.starts(&handle) || creation.temporary.is_some() || is_one_off(creation) {
            undo.push(Undo::Discard { id: id.clone(), name: creation.name.clone() });
        }
    }
    undo.extend(seen.reconnected());
    undo.extend(seen.revived());
    undo
}

/// Whether a container is that of one run, which is started after its plan: nobody will start it now.
fn is_one_off(creation: &Creation) -> bool {
    creation.spec.labels.get(names::ONEOFF).is_some_and(|value| value == "True")
}

/// A plan and which of its steps were done.
struct Seen<'a> {
    plan: &'a Plan,
    done: &'a [bool],
}

impl Seen<'_> {
    /// The actions that were done (or not).
    fn actions(&self, done: bool) -> impl Iterator<Item = &Action> {
        let steps = self.plan.steps.iter().zip(self.done);
        steps.filter(move |(_, one)| **one == done).map(|(step, _)| &step.action)
    }

    fn started(&self, handle: &Handle) -> bool {
        self.actions(true).any(|action| matches!(action, Action::Start(target) if target.handle == *handle))
    }

    fn starts(&self, handle: &Handle) -> bool {
        let start = |action: &Action| matches!(action, Action::Start(target) if target.handle == *handle);
        self.plan.steps.iter().any(|step| start(&step.action))
    }

    fn removed(&self, id: &str) -> bool {
        let handle = Handle::Id(id.to_owned());
        self.actions(true)
            .any(|action| matches!(action, Action::Remove { container, .. } if container.handle == handle))
    }

    /// The rest of a replacement whose new container is in its place.
    fn complete(&self, creation: &Creation, id: &str, handle: &Handle) -> Vec<Undo> {
        let mut rest = Vec::new();
        let name = creation.name.clone();
        for action in self.actions(false) {
            match action {
                Action::Remove { container, .. }
                    if creation.replaces.as_deref() == id_of(&container.handle) =>
                {
                    let old = creation.replaces.clone().unwrap_or_default();
                    rest.push(Undo::RemoveOld { id: old, name: container.name.clone() });
                }
                Action::Rename { container, .. } if container.handle == *handle => {
                    rest.push(Undo::Rename { id: id.to_owned(), name: name.clone() });
                }
                _ => {}
            }
        }
        rest
    }

    /// Containers that were taken off a network that is still there.
    fn reconnected(&self) -> Vec<Undo> {
        let removed: Vec<&String> = self
            .actions(true)
            .filter_map(|action| match action {
                Action::RemoveNetwork { name, .. } => Some(name),
                _ => None,
            })
            .collect();
        let mut again = Vec::new();
        for action in self.actions(true) {
            let Action::Disconnect { container, network } = action else { continue };
            let Some(id) = id_of(&container.handle).filter(|_| !removed.contains(&network)) else { continue };
            let planned = self.plan.steps.iter().find_map(|step| match &step.action {
                Action::Connect { container: other, attachment }
                    if other.handle == container.handle && attachment.network == *network =>
                {
                    Some(attachment.clone())
                }
                _ => None,
            });
            let attachment = planned.unwrap_or_else(|| {
                let aliases = vec![container.name.clone(), container.service.clone()];
                Box::new(Attachment { network: network.clone(), aliases, ..Attachment::default() })
            });
            again.push(Undo::Reconnect { id: id.to_owned(), name: container.name.clone(), attachment });
        }
        again
    }

    /// Containers that were stopped, stay, and were to run again, or whose replacement did not start.
    fn revived(&self) -> Vec<Undo> {
        let mut revived = Vec::new();
        for action in self.actions(true) {
            let Action::Stop { container, .. } = action else { continue };
            let Some(id) = id_of(&container.handle) else { continue };
            if self.wanted(id) && !self.removed(id) && !self.started(&container.handle) {
                revived.push(Undo::Revive { id: id.to_owned(), name: container.name.clone() });
            }
        }
        revived
    }

    /// Whether the plan starts this container again, or starts one in its place and has not yet.
    fn wanted(&self, id: &str) -> bool {
        self.plan.steps.iter().enumerate().any(|(index, step)| match &step.action {
            Action::Start(target) => id_of(&target.handle) == Some(id),
            Action::Create(creation) => {
                creation.replaces.as_deref() == Some(id) && !self.started(&Handle::MadeBy(StepId(index)))
            }
            _ => false,
        })
    }
}

fn id_of(handle: &Handle) -> Option<&str> {
    match handle {
        Handle::Id(id) => Some(id),
        Handle::MadeBy(_) => None,
    }
}

/// Puts one thing right.
pub(super) fn act(engine: &dyn Engine, undo: &Undo) -> Result<()> {
    match undo {
        Undo::Discard { id, .. } | Undo::RemoveOld { id, .. } => inherit::remove(engine, id),
        Undo::Reconnect { id, attachment, .. } => engine.connect(&attachment.network, id, attachment),
        Undo::Revive { id, .. } => engine.start(id),
        Undo::Rename { id, name } => engine.rename(id, name),
    }
}
