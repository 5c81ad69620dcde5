//! Why a step had to run.
//!
//! [`Recipe::diff`](super::Recipe::diff) compares a step's recipe with the one of the last build that ran
//! something and returns everything that differs, the most telling difference first. What a recipe does not
//! know (that a step was forced, that its result is gone, that the instruction is new), the caller says.
//! [`MissReason`] has a text form, which users read, and a JSON form, which programs read and the history
//! keeps; neither contains secrets, because recipes never do. [`first_cause`] follows reasons down to the
//! step that made all others run. What differs between recipes is found in `diff`, said in `text`.

mod diff;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::op::{Graph, NodeId};
use crate::base::listing::Change;

/// One reason why no result served. In JSON an object with its name as `kind` beside its fields.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MissReason {
    /// No build of this step is known.
    NeverBuilt,
    /// The stage was built before, without this instruction.
    NewInstruction,
    /// It ran in the last build and failed.
    Failed,
    /// The user asked to build it again.
    Forced,
    /// It was built before and its result is gone.
    Evicted,
    /// The builder's own format changed.
    Format,
    /// The instruction says something else than before.
    Instruction {
        /// What it said.
        before: String,
        /// What it says.
        after: String,
    },
    /// A variable that the command sees changed: of ENV, of ARG or of the base image.
    Variable {
        /// Its name.
        name: String,
        /// Its value before; `None` if it was not there.
        before: Option<String>,
        /// Its value now; `None` if it is gone.
        after: Option<String>,
    },
    /// A setting of the step changed: user, working directory, network, owner, mode, platform.
    Setting {
        /// Which.
        what: String,
        /// Before.
        before: String,
        /// Now.
        after: String,
    },
    /// Something is mounted in another way.
    Mount {
        /// How it was; `None` if it was not there.
        before: Option<String>,
        /// How it is; `None` if it is gone.
        after: Option<String>,
    },
    /// The base image has other layers.
    Base {
        /// Its name, where it has one.
        image: Option<String>,
        /// The first digits of the digest of its layers before.
        before: String,
        /// The same now.
        after: String,
    },
    /// What comes from elsewhere is something else there now.
    Fetched {
        /// What: `file NAME`, `commit`, `archive`.
        what: String,
        /// What it was.
        before: String,
        /// What it is.
        after: String,
    },
    /// Files that are copied or mounted changed.
    Files {
        /// The changes, by path.
        changes: Vec<Change>,
        /// How many more there are.
        #[serde(default, skip_serializing_if = "is_zero")]
        more: usize,
    },
    /// The same, and which cannot be told.
    FilesUntold {
        /// Why not.
        why: Untold,
    },
    /// The step that it starts from has to run, or is a hit that differs from the last build.
    Parent,
    /// The same of a stage or image that it copies from or mounts.
    Stage,
    /// It starts from another step than before, which does not differ itself.
    OtherParent {
        /// The instruction of the one before, where that is known.
        before: Option<String>,
        /// The instruction of the one now; `None` if it starts from nothing.
        after: Option<String>,
    },
    /// It reads from another stage than before, which does not differ itself.
    OtherStage,
}

/// Why it cannot be told which files changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Untold {
    /// The list of what was copied before went with its result.
    ListGone,
    /// It was not a context that was read before.
    NoList,
    /// The files are the same; they are selected or placed in another way.
    SameFiles,
}

/// The step that made another one run, and why it had to run itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cause {
    /// A service whose Dockerfile has it.
    pub service: String,
    /// Stage and number: `build/3`.
    pub step: String,
    /// The instruction as the user wrote it.
    pub text: String,
    /// Why it had to run.
    pub reason: MissReason,
}

impl MissReason {
    /// Whether it lies in what the step stands on, not in the step itself.
    pub const fn is_inherited(&self) -> bool {
        matches!(self, Self::Parent | Self::Stage)
    }

    /// The same with at most `most` files by name.
    #[must_use]
    pub fn with_files(mut self, most: usize) -> Self {
        if let Self::Files { changes, more } = &mut self {
            *more += changes.len().saturating_sub(most);
            changes.truncate(most);
        }
        self
    }
}

const fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Why steps have no result, and how inputs are found among them.
#[derive(Debug, Default)]
pub struct Reasons {
    /// The reasons of every step that has to run. None is empty.
    pub by_step: BTreeMap<NodeId, Vec<MissReason>>,
    /// In what hits differ from the last build that such steps stand on. None is empty.
    pub below: BTreeMap<NodeId, Vec<MissReason>>,
    /// For each node the one that stands for it: equal work is done once.
    pub first: Vec<NodeId>,
}

impl Reasons {
    /// Everything that differs in a step, its own differences first.
    pub fn of(&self, id: NodeId) -> &[MissReason] {
        let first = self.first.get(id.0).copied().unwrap_or(id);
        self.by_step.get(&first).or_else(|| self.below.get(&first)).map_or(&[], Vec::as_slice)
    }

    /// The step that made `id` run, and why it ran itself: a step that only stands on something that ran is
    /// explained by what made *that* run. `None` only for a step without reasons.
    pub fn first_cause(&self, graph: &Graph, id: NodeId) -> Option<(NodeId, &MissReason)> {
        let (mut at, mut found) = (id, None);
        loop {
            let own = self.of(at);
            let Some(reason) = own.iter().find(|reason| !reason.is_inherited()).or(own.first()) else {
                return found;
            };
            found = Some((at, reason));
            let node = graph.node(at);
            let mut known = node.sources.iter().copied().filter(|source| !self.of(*source).is_empty());
            let input = match reason {
                MissReason::Stage => known.next(),
                MissReason::Parent => node.parent,
                _ => return found,
            };
            match input {
                Some(input) => at = input,
                None => return found,
            }
        }
    }

    /// The reason of a step in one line, down to the first cause.
    pub fn line(&self, graph: &Graph, id: NodeId) -> String {
        match self.first_cause(graph, id) {
            None => MissReason::Evicted.to_string(),
            Some((at, reason)) if at == id => reason.to_string(),
            Some((at, reason)) => format!("`{}`: {reason}", graph.node(at).text()),
        }
    }

    /// The first cause as a value, named after `service` where that has the step.
    pub fn cause(&self, graph: &Graph, id: NodeId, service: Option<&str>) -> Option<Cause> {
        let (at, reason) = self.first_cause(graph, id)?;
        let origins = &graph.node(at).origins;
        let own = origins.iter().find(|origin| Some(origin.service.as_str()) == service);
        let origin = own.or_else(|| origins.first())?;
        Some(Cause {
            service: origin.service.clone(),
            step: origin.place(),
            text: origin.text.clone(),
            reason: reason.clone(),
        })
    }
}
