//! Why steps have no result: what is there now against what the last build had. Writes nothing.
//!
//! Each step that has to run is compared with the step that it was ([`History`]). Where it only stands on
//! something else than before and that is a hit (another service built it, say), the hit is compared too,
//! down to the one that differs by itself. Lists of files are read and made only for what differs.

use std::io::Read as _;

use rayon::prelude::*;

use super::history::{Before, End, History, StepHistory};
use super::solve::{Demand, Keyed};
use crate::base::digest::{BlobId, Digest};
use crate::base::listing::Listing;
use crate::graph::{Input, MissReason, NodeId, Op, Reasons, Role, Untold};
use crate::store::Store;

/// A listing that is larger is not read to explain something.
const LIMIT: u64 = 64 << 20;

/// What an explanation is made from.
pub(super) struct Explained<'e> {
    pub(super) history: &'e History<'e>,
    pub(super) keyed: &'e Keyed<'e>,
    pub(super) demand: &'e Demand,
    pub(super) store: &'e Store,
    /// Whether a step is run although it has a result.
    pub(super) forced: &'e (dyn Fn(NodeId) -> bool + Sync),
    /// What a step selects from one of its sources, by that source's number, if it is a context.
    pub(super) listing: &'e (dyn Fn(NodeId, usize) -> Option<Listing> + Sync),
    /// The name of the base image with these layers.
    pub(super) image: &'e (dyn Fn(Digest) -> Option<String> + Sync),
}

impl Explained<'_> {
    /// Why each step that is needed has no result.
    pub(super) fn reasons(&self) -> Reasons {
        let mut reasons = Reasons { first: self.keyed.first.clone(), ..Reasons::default() };
        reasons.by_step = self.demand.needed.par_iter().map(|&id| (id, self.needed(id))).collect();
        self.look_below(&mut reasons);
        for id in reasons.below.keys().chain(reasons.by_step.keys()).copied().collect::<Vec<_>>() {
            self.settle(&mut reasons, id);
        }
        reasons.below.retain(|_, why| !why.is_empty());
        reasons
    }

    fn needed(&self, id: NodeId) -> Vec<MissReason> {
        if (self.forced)(id) {
            return vec![MissReason::Forced];
        }
        let step = match self.history.before(id, self.keyed.graph.node(id)) {
            Before::Step(step) if step.end != End::NeverReached => step,
            Before::Nothing | Before::Step(_) => return vec![MissReason::NeverBuilt],
            Before::Stage => return vec![MissReason::NewInstruction],
        };
        let why = self.compare(id, step);
        match step.end {
            _ if !why.is_empty() => why,
            End::Failed => vec![MissReason::Failed],
            _ => vec![self.inherited(id)],
        }
    }

    /// Nothing in the step itself differs: what it stands on has to run, or its result is gone.
    fn inherited(&self, id: NodeId) -> MissReason {
        let node = self.keyed.graph.node(id);
        let needed = |input: &NodeId| self.demand.needed.contains(&self.keyed.first[input.0]);
        if node.sources.iter().any(needed) {
            MissReason::Stage
        } else if node.parent.as_ref().is_some_and(needed) {
            MissReason::Parent
        } else {
            MissReason::Evicted
        }
    }

    /// Everything in which a step differs from what it was.
    fn compare(&self, id: NodeId, step: &StepHistory) -> Vec<MissReason> {
        let Some(recipe) = &self.keyed.recipes[id.0] else { return Vec::new() };
        let node = self.keyed.graph.node(id);
        let parents = usize::from(node.parent.is_some());
        let files = |index: usize, before: Option<&Input>| self.files(id, index - parents, before);
        let mut why = recipe.diff(&step.recipe, &files);
        if let Op::Pull(pull) = &node.op {
            for reason in &mut why {
                if let MissReason::Base { image, .. } = reason {
                    *image = (self.image)(pull.chain);
                }
            }
        }
        let text = self.history.text_now(id, node);
        let own = |reason: &MissReason| !matches!(reason, MissReason::Parent | MissReason::Format);
        if text != step.text && why.iter().any(own) {
            why.retain(|reason| !matches!(reason, MissReason::Instruction { .. }));
            let (before, after) = (step.text.clone(), text.to_owned());
            why.insert(0, MissReason::Instruction { before, after });
        }
        why
    }

    /// Which files differ in what a step selects from a context.
    fn files(&self, id: NodeId, source: usize, before: Option<&Input>) -> MissReason {
        let Some(before) = before else { return MissReason::FilesUntold { why: Untold::NoList } };
        let old = before.listing.and_then(|blob| stored_listing(self.store, blob));
        let both = old.and_then(|old| Some((old, (self.listing)(id, source)?)));
        let Some((old, new)) = both else { return MissReason::FilesUntold { why: Untold::ListGone } };
        match Listing::diff(&old, &new) {
            changes if changes.is_empty() => MissReason::FilesUntold { why: Untold::SameFiles },
            changes => MissReason::Files { changes, more: 0 },
        }
    }

    /// Compares the hits that steps stand on and that are not those of the last build.
    fn look_below(&self, reasons: &mut Reasons) {
        let mut open: Vec<NodeId> = reasons.by_step.keys().copied().collect();
        while let Some(id) = open.pop() {
            if !reasons.of(id).iter().any(MissReason::is_inherited) {
                continue;
            }
            for input in self.keyed.inputs(id) {
                if reasons.by_step.contains_key(&input) || reasons.below.contains_key(&input) {
                    continue;
                }
                let why = match self.history.before(input, self.keyed.graph.node(input)) {
                    Before::Step(step) => self.compare(input, step),
                    Before::Stage => vec![MissReason::NewInstruction],
                    Before::Nothing => Vec::new(),
                };
                reasons.below.insert(input, why);
                open.push(input);
            }
        }
    }

    /// A step that stands on something else than before, where that is no other by itself, says so.
    fn settle(&self, reasons: &mut Reasons, id: NodeId) {
        let node = self.keyed.graph.node(id);
        let explained = |input: &NodeId| !reasons.of(*input).is_empty();
        let parent = node.parent.as_ref().is_some_and(explained);
        let stage = node.sources.iter().any(explained);
        let why = match reasons.by_step.get_mut(&id) {
            Some(why) => Some(why),
            None => reasons.below.get_mut(&id),
        };
        for reason in why.into_iter().flatten() {
            match reason {
                MissReason::Parent if !parent => {
                    let after = node.parent.map(|parent| self.keyed.graph.node(parent).text().to_owned());
                    *reason = MissReason::OtherParent { before: self.parent_before(id), after };
                }
                MissReason::Stage if !stage => *reason = MissReason::OtherStage,
                _ => {}
            }
        }
    }

    /// The instruction of the step that a step stood on in the last build.
    fn parent_before(&self, id: NodeId) -> Option<String> {
        let Before::Step(step) = self.history.before(id, self.keyed.graph.node(id)) else { return None };
        let parent = step.recipe.inputs.iter().find(|input| input.role == Role::Parent)?;
        self.history.text_of(parent.definition)
    }
}

/// The listing that a blob of the store holds.
pub(super) fn stored_listing(store: &Store, blob: BlobId) -> Option<Listing> {
    let mut text = String::new();
    store.blob(blob)?.take(LIMIT).read_to_string(&mut text).ok()?;
    // One that is longer would end in the middle of a line.
    let whole = text.is_empty() || text.ends_with('\n');
    text.parse().ok().filter(|_| whole)
}
