//! What the last build that ran something did, and why a step has to run now.
//!
//! The store keeps one [`ServiceHistory`] a service: for each step, under its stable name, the recipe
//! and, if it ran, why. [`explain`] compares the recipes of steps that have no result with it. The history
//! only explains and predicts durations; nothing is ever hit or missed because of it.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::solve::{Demand, Keyed, Solution};
use crate::base::digest::{BlobId, Digest};
use crate::base::listing::Listing;
use crate::graph::{Graph, MissReason, NodeId, Recipe, Role, first_cause};
use crate::store::{Bucket, Stamp, Store, StoreError};

/// A listing that is larger is not read to explain something.
const LIMIT: u64 = 64 << 20;

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
    /// What the step was.
    pub recipe: Recipe,
    /// If it ran in that build: why.
    pub ran: Option<String>,
    /// How long it took when it ran last, in milliseconds.
    pub took_ms: u64,
}

/// The histories of a project's services.
pub(super) struct History<'s> {
    store: &'s Store,
    project: String,
    services: HashMap<String, Option<ServiceHistory>>,
}

impl<'s> History<'s> {
    /// The histories of the services that are in `graph`.
    pub(super) fn read(store: &'s Store, project: &str, graph: &Graph) -> Self {
        let shelf = store.shelf(Bucket::History(project));
        let mut services = HashMap::new();
        for (_, node) in graph.nodes() {
            for service in node.services() {
                let entry = services.entry(service);
                entry.or_insert_with_key(|service| shelf.get(service));
            }
        }
        Self { store, project: project.to_owned(), services }
    }

    fn step(&self, graph: &Graph, id: NodeId) -> Option<&StepHistory> {
        graph.node(id).origins.iter().find_map(|origin| {
            let name = format!("{}/{}", origin.stage, origin.ordinal);
            let service = self.services.get(&origin.service)?.as_ref()?;
            service.steps.iter().find(|step| step.name == name)
        })
    }

    /// How long a step took when it ran last.
    pub(super) fn expected(&self, graph: &Graph, id: NodeId) -> Duration {
        self.step(graph, id).map_or(Duration::from_millis(100), |step| Duration::from_millis(step.took_ms))
    }

    /// Why each step that is needed has no result. `now` lists what a step selects from one of its sources,
    /// by that source's number, if it is a context.
    pub(super) fn explain(
        &self,
        keyed: &Keyed<'_>,
        demand: &Demand,
        forced: &dyn Fn(NodeId) -> bool,
        now: &dyn Fn(NodeId, usize) -> Option<Listing>,
    ) -> BTreeMap<NodeId, Vec<MissReason>> {
        let mut reasons = BTreeMap::new();
        for &id in &demand.needed {
            let Some(mut recipe) = keyed.recipes[id.0].clone() else { continue };
            let mut current: BTreeMap<BlobId, Listing> = BTreeMap::new();
            let parents = usize::from(keyed.graph.node(id).parent.is_some());
            for (index, input) in recipe.inputs.iter_mut().skip(parents).enumerate() {
                if let Some(listing) = now(id, index).filter(|_| input.role == Role::Context) {
                    let blob = BlobId(Digest::of(listing.to_string()));
                    input.listing = Some(blob);
                    current.insert(blob, listing);
                }
            }
            let listing =
                |blob: BlobId| current.get(&blob).cloned().or_else(|| stored_listing(self.store, blob));
            let before = self.step(keyed.graph, id).map(|step| &step.recipe);
            let mut why = match before {
                _ if forced(id) => vec![MissReason::Forced],
                None => vec![MissReason::NeverBuilt],
                Some(before) => recipe.diff(before, &listing),
            };
            if why.is_empty() {
                why = inherited(keyed, demand, id);
            }
            reasons.insert(id, why);
        }
        reasons
    }

    /// Writes what a build did for every service of which a step ran, or that has no history yet.
    pub(super) fn write(
        &self,
        keyed: &Keyed<'_>,
        solution: &Solution,
        reasons: &BTreeMap<NodeId, Vec<MissReason>>,
    ) -> Result<(), StoreError> {
        let mut services: BTreeMap<&str, (Vec<StepHistory>, bool)> = BTreeMap::new();
        for (id, node) in keyed.graph.nodes() {
            let first = keyed.first[id.0];
            let Some(recipe) = self.recipe(keyed, solution, first) else { continue };
            let ran = solution.ran.get(&first);
            let before = self.step(keyed.graph, id).map_or(0, |step| step.took_ms);
            let took_ms = ran.map_or(before, |(_, took)| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            for origin in &node.origins {
                let (steps, wanted) = services.entry(&origin.service).or_default();
                *wanted |= ran.is_some() || self.services.get(&origin.service).is_none_or(Option::is_none);
                steps.push(StepHistory {
                    name: format!("{}/{}", origin.stage, origin.ordinal),
                    text: origin.text.clone(),
                    recipe: recipe.clone(),
                    ran: ran.map(|_| first_cause(keyed.graph, reasons, first)),
                    took_ms,
                });
            }
        }
        let shelf = self.store.shelf(Bucket::History(&self.project));
        for (service, (steps, _)) in services.into_iter().filter(|(_, (_, wanted))| *wanted) {
            let (project, built) = (self.project.clone(), Stamp::now());
            shelf.put(service, &ServiceHistory { project, built, steps })?;
        }
        Ok(())
    }

    /// The recipe of a step as it was filed, with the listing of what it copied.
    fn recipe(&self, keyed: &Keyed<'_>, solution: &Solution, id: NodeId) -> Option<Recipe> {
        if let Some((recipe, _)) = solution.ran.get(&id) {
            return Some(recipe.clone());
        }
        let filed = self.store.recall(keyed.keys[id.0]);
        let filed = filed.and_then(|record| serde_json::from_str(record.recipe.get()).ok());
        filed.or_else(|| keyed.recipes[id.0].clone())
    }
}

/// Nothing in the step itself differs: what it stands on has to run, or its result is gone.
fn inherited(keyed: &Keyed<'_>, demand: &Demand, id: NodeId) -> Vec<MissReason> {
    let node = keyed.graph.node(id);
    let needed = |input: &NodeId| demand.needed.contains(&keyed.first[input.0]);
    if node.sources.iter().any(needed) {
        return vec![MissReason::Stage];
    }
    if node.parent.as_ref().is_some_and(needed) {
        return vec![MissReason::Parent];
    }
    vec![MissReason::Evicted]
}

/// The listing that a blob of the store holds.
fn stored_listing(store: &Store, blob: BlobId) -> Option<Listing> {
    let mut text = String::new();
    store.blob(blob)?.take(LIMIT).read_to_string(&mut text).ok()?;
    text.parse().ok()
}
