//! What the last build that ran something did, and why a step has to run now.
//!
//! The store keeps one [`ServiceHistory`] a service: for each step, under its stable name, the recipe,
//! how it ended and, if it ran, why. `explain` compares the recipes of steps that have no result with it;
//! which step of the last build a step of today was, `align` finds out. A step that the last build did not
//! come to keeps what was known of it before. The history only explains, predicts durations and tells where
//! files lie that a copy may share; nothing is ever hit or missed because of it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::align::align;
use super::solve::{Keyed, Solution};
use crate::base::digest::{BlobId, ResultId};
use crate::graph::{Cause, FORMAT, Graph, MissReason, Node, NodeId, Origin, Reasons, Recipe, Role};
use crate::store::{Bucket, Stamp, Store, StoreError};

/// So many changed files are kept by name for each reason.
const FILES_KEPT: usize = 100;

/// What the last build that ran something did for one service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceHistory {
    /// The project; empty for an image that belongs to none.
    #[serde(default)]
    pub project: String,
    /// When it ended.
    pub built: Stamp,
    /// Its steps, in the order of the Dockerfile.
    pub steps: Vec<StepHistory>,
}

/// One step of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepHistory {
    /// Stage and number: `build/3`.
    pub name: String,
    /// The instruction as the user wrote it.
    pub text: String,
    /// What the step was when it was last tried.
    pub recipe: Recipe,
    /// If it ran in that build: why.
    pub ran: Option<String>,
    /// How long it took when it ran last, in milliseconds.
    pub took_ms: u64,
    /// How it ended in that build.
    #[serde(default)]
    pub end: End,
    /// If it ran in that build: everything that differed, its own differences first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub misses: Vec<MissReason>,
    /// If it ran in that build: the step that made it run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_cause: Option<Cause>,
}

/// How a step of a build ended.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It has a result: it ran, or it was a hit.
    #[default]
    Done,
    /// It ran and failed.
    Failed,
    /// Something before it failed, or the build was stopped. Its recipe is that of an earlier build.
    NotReached,
    /// The same, and no earlier build reached it.
    NeverReached,
}

/// Keeps what a step takes from its source of this number, and says as which blob.
pub(super) type Listings<'l> = &'l dyn Fn(NodeId, usize) -> Option<BlobId>;

/// Histories by service, where there is one.
type Services = BTreeMap<String, Option<ServiceHistory>>;

/// The histories of a project's services.
pub(super) struct History<'s> {
    store: &'s Store,
    project: String,
    services: Services,
    /// The step of the last build that a node was: its service and its place there.
    known: HashMap<NodeId, (String, usize)>,
}

/// What the last build had for a node.
pub(super) enum Before<'h> {
    /// This step.
    Step(&'h StepHistory),
    /// The stage, without the instruction.
    Stage,
    /// Nothing.
    Nothing,
}

impl<'s> History<'s> {
    /// The histories of the services of `graph` that have a node which is asked about.
    pub(super) fn read(
        store: &'s Store,
        project: &str,
        graph: &Graph,
        is_asked: &dyn Fn(NodeId) -> bool,
    ) -> Self {
        let shelf = store.shelf(Bucket::History(project));
        let mut services = Services::new();
        for (_, node) in graph.nodes().filter(|(id, _)| is_asked(*id)) {
            for origin in node.origins.iter() {
                if !services.contains_key(&origin.service) {
                    services.insert(origin.service.clone(), shelf.get(&origin.service));
                }
            }
        }
        let known = known(&services, graph);
        Self { store, project: project.to_owned(), services, known }
    }

    fn step(&self, id: NodeId) -> Option<&StepHistory> {
        let (service, index) = self.known.get(&id)?;
        self.services.get(service)?.as_ref()?.steps.get(*index)
    }

    /// The instruction of a node as it stands in the Dockerfile that its step of the last build was in.
    pub(super) fn text_now<'n>(&self, id: NodeId, node: &'n Node) -> &'n str {
        let service = self.known.get(&id).map(|(service, _)| service);
        let origin = node.origins.iter().find(|origin| Some(&origin.service) == service);
        origin.map_or_else(|| node.text(), |origin| &origin.text)
    }

    /// What the last build had for a node.
    pub(super) fn before(&self, id: NodeId, node: &Node) -> Before<'_> {
        if let Some(step) = self.step(id) {
            return Before::Step(step);
        }
        let had_stage = |origin: &Origin| {
            let history = self.services.get(&origin.service).and_then(Option::as_ref);
            history.is_some_and(|history| history.steps.iter().any(|step| step.stage() == origin.stage))
        };
        if node.origins.iter().any(had_stage) { Before::Stage } else { Before::Nothing }
    }

    /// The instruction of the step whose definition key this was.
    pub(super) fn text_of(&self, definition: crate::base::digest::Digest) -> Option<String> {
        let steps = self.services.values().flatten().flat_map(|history| &history.steps);
        let found = steps.into_iter().find(|step| step.recipe.definition_key().0 == definition);
        found.map(|step| step.text.clone())
    }

    /// How long a step took when it ran last, if it did.
    pub(super) fn expected(&self, id: NodeId) -> Option<Duration> {
        let known = self.step(id).filter(|step| step.end != End::NeverReached);
        known.map(|step| Duration::from_millis(step.took_ms))
    }

    /// What the step of the last build gave, if the store still knows and steps meant the same then. Nothing
    /// says that it is there.
    pub(super) fn result(&self, id: NodeId) -> Option<ResultId> {
        let recipe = &self.step(id).filter(|step| step.recipe.format == FORMAT)?.recipe;
        Some(self.store.recall(recipe.definition_key())?.result)
    }

    /// Writes what a build did for every service of which a step ran, or that has no history yet. `listing`
    /// keeps what a step takes from one of its contexts, where no record of the step does: what others built.
    pub(super) fn write(
        &self,
        keyed: &Keyed<'_>,
        solution: &Solution,
        reasons: &Reasons,
        listing: Listings<'_>,
    ) -> Result<(), StoreError> {
        let ends = |id: NodeId| {
            let first = keyed.first[id.0];
            let end = self.end(solution, reasons, id, first);
            (first, end, end == End::Failed || solution.ran.contains_key(&first))
        };
        let mut services = self.wanted(keyed.graph, &|id| ends(id).2);
        for (id, node) in keyed.graph.nodes() {
            let is_wanted = |origin: &Origin| services.contains_key(origin.service.as_str());
            if !node.origins.iter().any(is_wanted) {
                continue;
            }
            let (first, end, ran) = ends(id);
            let Some(step) = self.step_now((keyed, listing), solution, id, end) else { continue };
            for origin in &node.origins {
                let Some(steps) = services.get_mut(origin.service.as_str()) else { continue };
                let (name, text) = (origin.place(), origin.text.clone());
                let mut step = StepHistory { name, text, ..step.clone() };
                if ran {
                    step.ran = Some(reasons.line(keyed.graph, first));
                    step.misses = reasons.of(first).iter().cloned().map(short).collect();
                    let cause = reasons.cause(keyed.graph, first, Some(&origin.service));
                    step.first_cause = cause.map(|cause| Cause { reason: short(cause.reason), ..cause });
                }
                if end == End::NotReached
                    && let Some(before) = self.step(id)
                {
                    step.text.clone_from(&before.text);
                }
                steps.push(step);
            }
        }
        let shelf = self.store.shelf(Bucket::History(&self.project));
        for (service, steps) in services {
            let (project, built) = (self.project.clone(), Stamp::now());
            shelf.put(service, &ServiceHistory { project, built, steps })?;
        }
        Ok(())
    }

    /// The services whose history is to be written: those with a step that ran, and those that have none.
    fn wanted<'g>(
        &self,
        graph: &'g Graph,
        ran: &dyn Fn(NodeId) -> bool,
    ) -> BTreeMap<&'g str, Vec<StepHistory>> {
        let shelf = self.store.shelf(Bucket::History(&self.project));
        let mut known: BTreeMap<&str, bool> = BTreeMap::new();
        for (id, node) in graph.nodes() {
            let ran = ran(id);
            for origin in &node.origins {
                let has = || match self.services.get(&origin.service) {
                    Some(history) => history.is_some(),
                    None => shelf.has(&origin.service),
                };
                *known.entry(&origin.service).or_insert_with(|| !has()) |= ran;
            }
        }
        known.into_iter().filter(|(_, wanted)| *wanted).map(|(service, _)| (service, Vec::new())).collect()
    }

    /// How a step ended in this build. Below a hit nothing is looked at: that is done.
    fn end(&self, solution: &Solution, reasons: &Reasons, id: NodeId, first: NodeId) -> End {
        let failure = solution.failed.iter().find(|(failed, _)| *failed == first);
        if failure.is_some_and(|(_, error)| error.is_failure()) {
            return End::Failed;
        }
        if solution.results.contains_key(&first) || !reasons.by_step.contains_key(&first) {
            return End::Done;
        }
        let before = self.step(id).filter(|step| step.end != End::NeverReached);
        if before.is_some() { End::NotReached } else { End::NeverReached }
    }

    /// A step as it is to be kept, without what its origins say and without why it ran. `None` for what has
    /// no result of its own.
    fn step_now(
        &self,
        keyed: (&Keyed<'_>, Listings<'_>),
        solution: &Solution,
        id: NodeId,
        end: End,
    ) -> Option<StepHistory> {
        let first = keyed.0.first[id.0];
        let before = self.step(id);
        let recipe = match end {
            End::NotReached => before?.recipe.clone(),
            End::Done | End::Failed | End::NeverReached => self.recipe(keyed, solution, first)?,
        };
        let took =
            solution.ran.get(&first).map(|(_, took)| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let took_ms = took.or(before.map(|step| step.took_ms)).unwrap_or(0);
        let (name, text, ran, misses, first_cause) = Default::default();
        Some(StepHistory { name, text, recipe, ran, took_ms, end, misses, first_cause })
    }

    /// The recipe of a step: its definition as it is now, with what its inputs were when it was filed.
    fn recipe(
        &self,
        (keyed, listing): (&Keyed<'_>, Listings<'_>),
        solution: &Solution,
        id: NodeId,
    ) -> Option<Recipe> {
        if let Some((recipe, _)) = solution.ran.get(&id) {
            return Some(recipe.clone());
        }
        let mut recipe = keyed.recipes[id.0].clone()?;
        let filed = self.store.recall(keyed.keys[id.0]);
        let filed: Option<Recipe> = filed.and_then(|record| serde_json::from_str(record.recipe.get()).ok());
        // A result may have been filed by another way to it: only what that way selected is taken over.
        for (input, filed) in recipe.inputs.iter_mut().zip(filed.into_iter().flat_map(|filed| filed.inputs)) {
            if input.role == filed.role {
                input.canonical = input.canonical.or(filed.canonical);
                input.listing = filed.listing;
            }
        }
        let before = self.step(id).map(|step| step.recipe.inputs.as_slice()).unwrap_or_default();
        let sources = recipe.inputs.iter_mut().filter(|input| input.role != Role::Parent);
        for (source, input) in sources.enumerate().filter(|(_, input)| input.role == Role::Context) {
            let same = before.iter().find(|before| before.definition == input.definition);
            let known = input.listing.or(same.and_then(|before| before.listing));
            input.listing = known.or_else(|| listing(id, source));
        }
        Some(recipe)
    }
}

/// Which step of the last build each node was: its service and its place in that service's history.
fn known(services: &Services, graph: &Graph) -> HashMap<NodeId, (String, usize)> {
    type Of<'g> = (&'g str, &'g str, Part);
    let mut parts: BTreeMap<Of<'_>, Vec<(NodeId, &str)>> = BTreeMap::new();
    for (id, node) in graph.nodes() {
        for origin in &node.origins {
            let part = Part::of(origin.ordinal == 0, &origin.text);
            let of = (origin.service.as_str(), origin.stage.as_str(), part);
            parts.entry(of).or_default().push((id, &origin.text));
        }
    }
    let mut known = HashMap::new();
    for ((service, stage, part), nodes) in parts {
        let Some(Some(history)) = services.get(service) else { continue };
        let same_part = |step: &StepHistory| step.stage() == stage && step.part() == part;
        let before = history.steps.iter().enumerate().filter(|(_, step)| same_part(step));
        let (places, old): (Vec<usize>, Vec<&str>) =
            before.map(|(place, step)| (place, step.text.as_str())).unzip();
        let new: Vec<&str> = nodes.iter().map(|(_, text)| *text).collect();
        for ((id, text), was) in nodes.into_iter().zip(align(&old, &new)) {
            let same = |was: &usize| part != Part::Fetched || old[*was] == text;
            if let Some(was) = was.filter(same) {
                known.entry(id).or_insert_with(|| (service.to_owned(), places[was]));
            }
        }
    }
    known
}

/// What is compared with what in a stage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The base.
    Base,
    /// Images and files that instructions fetch: the same only where the instruction is.
    Fetched,
    /// The instructions in their order.
    Instructions,
}

impl Part {
    /// `fetched`: whether it is no instruction's own step.
    fn of(fetched: bool, text: &str) -> Self {
        let from = text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("FROM"));
        match (fetched, from) {
            (false, _) => Self::Instructions,
            (true, true) => Self::Base,
            (true, false) => Self::Fetched,
        }
    }
}

impl StepHistory {
    fn part(&self) -> Part {
        Part::of(self.name.ends_with("/0"), &self.text)
    }

    /// The stage that it belongs to.
    fn stage(&self) -> &str {
        self.name.rsplit_once('/').map_or("", |(stage, _)| stage)
    }
}

fn short(reason: MissReason) -> MissReason {
    reason.with_files(FILES_KEPT)
}
