//! The solver: which steps of a graph have a result, and running those that have none.
//!
//! [`demand`] goes from the roots down and stops at every hit, so that a chain of hits costs a few file
//! reads and unpacks nothing. What it found missing is the work of [`run`]: a step starts when its inputs
//! have results, at most `parallel` at a time, the longest remaining path first. Before a step runs its
//! canonical key is tried: a stage that came out with the same bytes stops the rebuild there. A failing
//! step cancels what depends on it; the rest finishes, and what finished stays in the store. The solver
//! knows nothing of files, processes or layers: [`Work`] does the work, so tests replace it.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::error::StepError;
use super::pace::Pace;
use crate::base::cancel::Cancel;
use crate::base::digest::{BlobId, DefinitionKey, ResultId};
use crate::base::event::{Event, Events, Outcome, StepNumber};
use crate::graph::{Graph, Node, NodeId, Op, Recipe, Role, Selected, with_results};
use crate::store::{Held, Key, Lookup, Record, Stamp, Store};

/// What the solver has others do. Called from several threads at once.
pub(super) trait Work: Sync {
    /// What a step selects from the result of one of its sources, which is number `source` of them.
    fn select(&self, id: NodeId, source: usize, result: ResultId) -> Result<Selected, StepError>;
    /// Takes what a step needs for itself beyond a slot (cache mounts, in a fixed order) and keeps it until
    /// the step has run; false if somebody else has it now: then it is asked again.
    fn reserve(&self, id: NodeId) -> Result<bool, StepError>;
    /// Runs a step on its inputs' results and publishes its snapshot. `sources` are the results of the
    /// step's sources in their order; a context has none.
    fn run(
        &self,
        id: NodeId,
        parent: Option<ResultId>,
        sources: &[Option<ResultId>],
    ) -> Result<Produced, StepError>;
    /// Brings the result of a step that others made into the store.
    fn bring(&self, id: NodeId) -> Result<ResultId, StepError>;
}

/// What running a step gave.
pub(super) struct Produced {
    /// The published snapshot.
    pub(super) result: ResultId,
    /// What else must stay in the store with it.
    pub(super) holds: Vec<Held>,
    /// For each source in its order the blob that lists what was taken from it, if it is a context.
    pub(super) listings: Vec<Option<BlobId>>,
}

/// A graph with its keys.
pub(super) struct Keyed<'g> {
    pub(super) graph: &'g Graph,
    /// By node; `None` for contexts, which have no result.
    pub(super) recipes: Vec<Option<Recipe>>,
    pub(super) keys: Vec<DefinitionKey>,
    /// The first node with the same key: equal work from different folders is done once.
    pub(super) first: Vec<NodeId>,
}

impl<'g> Keyed<'g> {
    /// `recipes` in the order of the nodes, derived by [`crate::graph::recipe`].
    pub(super) fn new(graph: &'g Graph, selected: &dyn Fn(NodeId, usize) -> Selected) -> Self {
        let mut recipes = Vec::new();
        let mut keys: Vec<DefinitionKey> = Vec::new();
        let mut by_key: HashMap<DefinitionKey, NodeId> = HashMap::new();
        let mut first = Vec::new();
        for (id, _) in graph.nodes() {
            let recipe = crate::graph::recipe(graph, id, &|input| keys[input.0], selected);
            let key = recipe.as_ref().map_or(
                DefinitionKey(crate::base::digest::Digest::from_bytes([0; 32])),
                Recipe::definition_key,
            );
            first.push(if recipe.is_some() { *by_key.entry(key).or_insert(id) } else { id });
            recipes.push(recipe);
            keys.push(key);
        }
        Self { graph, recipes, keys, first }
    }

    /// The nodes whose results a node needs, equal ones replaced by the first of them.
    pub(super) fn inputs(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let inputs = self.graph.node(id).inputs().map(|input| self.first[input.0]);
        inputs.filter(|input| self.recipes[input.0].is_some())
    }

    /// The node that stands for a source; none for a context.
    fn source(&self, source: NodeId) -> Option<NodeId> {
        let source = self.first[source.0];
        (!matches!(self.graph.node(source).op, Op::Local(_))).then_some(source)
    }
}

/// What has a result and what has to be made.
#[derive(Default, Debug)]
pub(super) struct Demand {
    /// Results that stand.
    pub(super) hits: BTreeMap<NodeId, ResultId>,
    /// Steps that have none and are needed.
    pub(super) needed: BTreeSet<NodeId>,
    /// Steps whose results others have and that are needed here.
    pub(super) brought: BTreeSet<NodeId>,
}

/// The forced steps and all that stand on one: they have no result before they ran.
pub(super) fn moved(keyed: &Keyed<'_>, forced: &dyn Fn(NodeId) -> bool) -> BTreeSet<NodeId> {
    let mut moved: BTreeSet<NodeId> = BTreeSet::new();
    for (id, _) in keyed.graph.nodes() {
        if forced(id) || keyed.inputs(id).any(|input| moved.contains(&input)) {
            moved.insert(id);
        }
    }
    moved
}

/// Looks the graph's roots up, and below every miss its inputs. `forced` steps are never hits, and what
/// stands on one is looked up again when its inputs are known. Writes nothing.
pub(super) fn demand(keyed: &Keyed<'_>, store: &Store, forced: &dyn Fn(NodeId) -> bool) -> Demand {
    let mut demand = Demand::default();
    let moved = moved(keyed, forced);
    let roots = keyed.graph.roots.iter().filter_map(|root| root.node);
    let mut open: BTreeSet<NodeId> = roots.map(|node| keyed.first[node.0]).collect();
    while !open.is_empty() {
        let look = |&id: &NodeId| {
            let record = if moved.contains(&id) { None } else { store.peek(keyed.keys[id.0]) };
            (id, record.map(|record| record.result))
        };
        // Each look reads a few small files: several at a time.
        let looked: Vec<_> = open.par_iter().map(look).collect();
        open.clear();
        for (id, result) in looked {
            match result {
                Some(result) => drop(demand.hits.insert(id, result)),
                None => {
                    demand.needed.insert(id);
                    open.extend(keyed.inputs(id));
                }
            }
        }
        open.retain(|id| !demand.hits.contains_key(id) && !demand.needed.contains(id));
    }
    demand
}

/// How the solver runs.
pub(super) struct Settings<'a> {
    /// Steps at a time; at least one.
    pub(super) parallel: usize,
    /// Steps that run although something equal is there.
    pub(super) forced: &'a (dyn Fn(NodeId) -> bool + Sync),
    /// How long a step took the last time, if there was one.
    pub(super) expected: &'a (dyn Fn(NodeId) -> Option<Duration> + Sync),
    /// Why a step has to run, in one line.
    pub(super) reason: &'a (dyn Fn(NodeId) -> String + Sync),
    /// Told of every step that ran, as soon as it is done.
    pub(super) done: &'a (dyn Fn(NodeId, ResultId) + Sync),
}

/// What a run came to.
#[derive(Default, Debug)]
pub(super) struct Solution {
    /// The result of every node that has one, below a hit excepted.
    pub(super) results: BTreeMap<NodeId, ResultId>,
    /// Steps that ran, with the recipe as it was filed and how long they took.
    pub(super) ran: BTreeMap<NodeId, (Recipe, Duration)>,
    /// Steps that failed.
    pub(super) failed: Vec<(NodeId, StepError)>,
}

/// Runs what [`demand`] found missing.
pub(super) fn run(
    keyed: &Keyed<'_>,
    demand: Demand,
    work: &dyn Work,
    store: &Store,
    settings: &Settings<'_>,
    events: &dyn Events,
    cancel: &Cancel,
) -> Solution {
    let brought = demand.brought.clone();
    let board = Mutex::new(Board::new(keyed, demand, settings.expected));
    let changed = Condvar::new();
    let solver = Solver { keyed, work, store, settings, events, cancel, board, changed, brought };
    std::thread::scope(|scope| {
        let mut board = solver.board();
        loop {
            while let Some(id) = board.next(settings.parallel, cancel.is_cancelled()) {
                let solver = &solver;
                scope.spawn(move || solver.step(id));
            }
            if board.alive == 0 {
                break;
            }
            board = solver.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    });
    let board = solver.board.into_inner().unwrap_or_else(PoisonError::into_inner);
    report_cancelled(keyed, &board, events);
    board.solution
}

fn report_cancelled(keyed: &Keyed<'_>, board: &Board, events: &dyn Events) {
    let done = |id: &NodeId| board.solution.results.contains_key(id);
    let failed = |id: &NodeId| board.solution.failed.iter().any(|(failed, _)| failed == id);
    for &id in board.remaining.keys().filter(|id| !done(id) && !failed(id)) {
        events.emit(finished(keyed.graph, id, Outcome::Cancelled, Duration::ZERO));
    }
}

/// What a step counts for that never ran, where steps are put in order.
const UNKNOWN: Duration = Duration::from_millis(100);

/// What the threads share.
struct Board {
    solution: Solution,
    /// Inputs that a needed step still waits for; steps stay in it after they ended.
    remaining: HashMap<NodeId, usize>,
    dependents: HashMap<NodeId, Vec<NodeId>>,
    ready: BinaryHeap<(Duration, std::cmp::Reverse<NodeId>)>,
    /// Expected time from the beginning of a step to the end of everything that stands on it.
    path: HashMap<NodeId, Duration>,
    pace: Pace,
    /// Steps that hold a slot.
    running: usize,
    /// Steps that gave their slot back and wait for one again: they come before new ones.
    returning: usize,
    /// Threads, those that wait for another process included.
    alive: usize,
}

impl Board {
    fn new(keyed: &Keyed<'_>, demand: Demand, expected: &dyn Fn(NodeId) -> Option<Duration>) -> Self {
        let mut remaining = HashMap::new();
        let mut dependents: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        let mut path: HashMap<NodeId, Duration> = HashMap::new();
        for &id in &demand.needed {
            let made = |input: &NodeId| demand.needed.contains(input) || demand.brought.contains(input);
            let open: BTreeSet<NodeId> = keyed.inputs(id).filter(made).collect();
            remaining.insert(id, open.len());
            for input in open {
                dependents.entry(input).or_default().push(id);
            }
        }
        remaining.extend(demand.brought.iter().map(|id| (*id, 0)));
        let all: BTreeSet<NodeId> = demand.needed.union(&demand.brought).copied().collect();
        let mut steps = HashMap::new();
        for &id in all.iter().rev() {
            let above = dependents.get(&id).into_iter().flatten().filter_map(|above| path.get(above)).max();
            let own = if demand.brought.contains(&id) { Some(Duration::ZERO) } else { expected(id) };
            path.insert(id, own.unwrap_or(UNKNOWN) + above.copied().unwrap_or_default());
            steps.insert(id, own);
        }
        let pace = Pace::new(steps);
        let solution = Solution { results: demand.hits, ..Solution::default() };
        let ready = BinaryHeap::new();
        let mut board =
            Self { solution, remaining, dependents, ready, path, pace, running: 0, returning: 0, alive: 0 };
        let free: Vec<NodeId> =
            board.remaining.iter().filter(|(_, open)| **open == 0).map(|(id, _)| *id).collect();
        free.into_iter().for_each(|id| board.push(id));
        board
    }

    fn push(&mut self, id: NodeId) {
        self.ready.push((self.path[&id], std::cmp::Reverse(id)));
    }

    /// The next step to start, if there is one and a slot for it.
    fn next(&mut self, parallel: usize, cancelled: bool) -> Option<NodeId> {
        if cancelled || self.running + self.returning >= parallel.max(1) {
            return None;
        }
        let (_, std::cmp::Reverse(id)) = self.ready.pop()?;
        self.running += 1;
        self.alive += 1;
        self.pace.begin(id, Instant::now());
        Some(id)
    }

    /// What a step took the last time, and a guess of what is left of the run.
    fn pace(&self, id: NodeId, parallel: usize) -> (Option<Duration>, Option<Duration>) {
        let waiting = self.ready.peek().map(|(path, _)| *path).unwrap_or_default();
        let left = self.pace.left(Instant::now(), parallel, waiting, |id| self.path[&id]);
        (self.pace.expected(id), left)
    }

    fn done(&mut self, id: NodeId, result: ResultId) {
        self.pace.end(id);
        self.solution.results.insert(id, result);
        for above in self.dependents.remove(&id).unwrap_or_default() {
            if let Some(open) = self.remaining.get_mut(&above) {
                *open -= 1;
                if *open == 0 {
                    self.push(above);
                }
            }
        }
    }
}

struct Solver<'a, 'g> {
    keyed: &'a Keyed<'g>,
    work: &'a dyn Work,
    store: &'a Store,
    settings: &'a Settings<'a>,
    events: &'a dyn Events,
    cancel: &'a Cancel,
    board: Mutex<Board>,
    changed: Condvar,
    brought: BTreeSet<NodeId>,
}

/// The results that a step stands on.
struct Inputs {
    parent: Option<ResultId>,
    /// One for each source; a context has none.
    sources: Vec<Option<ResultId>>,
    /// Each input's key with its result, for the record.
    keys: Vec<(DefinitionKey, ResultId)>,
}

/// A step that ended well.
struct Ended {
    result: ResultId,
    /// The recipe and the time, if it ran.
    ran: Option<(Recipe, Duration)>,
}

impl Solver<'_, '_> {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step's thread, from its slot to its result.
    fn step(&self, id: NodeId) {
        let begun = Instant::now();
        let ended = match self.brought.contains(&id) {
            true => self.work.bring(id).map(|result| Ended { result, ran: None }),
            false => self.solve(id),
        };
        let mut board = self.board();
        board.running -= 1;
        board.alive -= 1;
        match ended {
            Ok(ended) => {
                if ended.ran.is_none() {
                    self.events.emit(finished(self.keyed.graph, id, Outcome::Hit, Duration::ZERO));
                }
                board.solution.ran.extend(ended.ran.map(|ran| (id, ran)));
                board.done(id, ended.result);
            }
            Err(error) => {
                let outcome = match error {
                    StepError::Cancelled => Outcome::Cancelled,
                    _ => Outcome::Failed { reason: (self.settings.reason)(id) },
                };
                self.events.emit(finished(self.keyed.graph, id, outcome, begun.elapsed()));
                board.solution.failed.push((id, error));
            }
        }
        self.changed.notify_all();
    }

    fn solve(&self, id: NodeId) -> Result<Ended, StepError> {
        let node = self.keyed.graph.node(id);
        let Inputs { parent, sources, keys: inputs } = self.inputs(id, node);
        let select = |(index, result): (usize, &Option<ResultId>)| {
            result.map(|result| self.work.select(id, index, result)).transpose()
        };
        let selected: Vec<Option<Selected>> =
            sources.iter().enumerate().map(select).collect::<Result<_, _>>()?;
        let recipe = self.keyed.recipes[id.0].clone().ok_or(StepError::NoResult)?;
        let recipe = with_results(recipe, parent, &selected);
        let canonical = recipe.canonical_key().ok_or(StepError::NoResult)?;
        let raw = raw_of(&recipe)?;
        let key = Key { definition: self.keyed.keys[id.0], canonical, inputs: &inputs, recipe: &raw };
        let claim = match self.look(id, &key)? {
            Lookup::Hit(record) => return Ok(Ended { result: record.result, ran: None }),
            Lookup::Miss(claim) => claim,
        };
        self.reserve(id)?;
        if self.cancel.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let reason = (self.settings.reason)(id);
        let pace = self.board().pace(id, self.settings.parallel);
        self.events.emit(started(self.keyed, id, reason.clone(), pace));
        let begun = Instant::now();
        let produced = self.work.run(id, parent, &sources)?;
        let took = begun.elapsed();
        let recipe = with_listings(recipe, &produced.listings);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (result, holds, created) = (produced.result, produced.holds, Stamp::now());
        let record = Record { recipe: raw_of(&recipe)?, result, inputs, holds, took_ms, created };
        claim.publish(record)?;
        (self.settings.done)(id, result);
        self.events.emit(finished(self.keyed.graph, id, Outcome::Ran { reason }, took));
        Ok(Ended { result, ran: Some((recipe, took)) })
    }

    /// The results of a step's inputs. They are there: the step was ready.
    fn inputs(&self, id: NodeId, node: &Node) -> Inputs {
        let board = self.board();
        let result = |input: NodeId| board.solution.results.get(&self.keyed.first[input.0]).copied();
        let parent = node.parent.and_then(result);
        let sources = node.sources.iter().map(|source| self.keyed.source(*source).and_then(result)).collect();
        let keys = self
            .keyed
            .inputs(id)
            .filter_map(|input| Some((self.keyed.keys[input.0], result(input)?)))
            .collect();
        Inputs { parent, sources, keys }
    }

    /// Looks a key up. While somebody else makes it, this step's slot is given to another one.
    fn look(&self, id: NodeId, key: &Key<'_>) -> Result<Lookup<'_>, StepError> {
        let forced = (self.settings.forced)(id);
        let attempt = || match forced {
            true => Ok(self.store.try_claim(key)?.map(Lookup::Miss)),
            false => Ok(self.store.try_lookup(key)?),
        };
        self.without_slot(attempt, |found| matches!(found, Lookup::Miss(_)))
    }

    fn reserve(&self, id: NodeId) -> Result<(), StepError> {
        self.without_slot(|| Ok(self.work.reserve(id)?.then_some(())), |()| true)
    }

    /// What `attempt` gives at once, or else later, while another step has the slot. If there is something
    /// to work on then, this waits for a slot: nobody who has one waits for what was found.
    fn without_slot<T>(
        &self,
        attempt: impl Fn() -> Result<Option<T>, StepError>,
        works: impl Fn(&T) -> bool,
    ) -> Result<T, StepError> {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        self.board().running -= 1;
        self.changed.notify_all();
        let found = self.wait_for(attempt);
        let mut board = self.board();
        board.returning += 1;
        while found.as_ref().is_ok_and(&works) && board.running >= self.settings.parallel.max(1) {
            board = self.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
        board.returning -= 1;
        board.running += 1;
        found
    }

    fn wait_for<T>(&self, attempt: impl Fn() -> Result<Option<T>, StepError>) -> Result<T, StepError> {
        let mut pause = Duration::from_millis(1);
        loop {
            if self.cancel.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            if let Some(found) = attempt()? {
                return Ok(found);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

fn with_listings(mut recipe: Recipe, listings: &[Option<BlobId>]) -> Recipe {
    let sources = recipe.inputs.iter_mut().filter(|input| input.role != Role::Parent);
    for (input, listing) in sources.zip(listings) {
        input.listing = listing.or(input.listing);
    }
    recipe
}

fn raw_of(recipe: &Recipe) -> Result<Box<serde_json::value::RawValue>, StepError> {
    serde_json::value::to_raw_value(recipe).map_err(StepError::Recipe)
}

fn started(
    keyed: &Keyed<'_>,
    id: NodeId,
    reason: String,
    (expected, left): (Option<Duration>, Option<Duration>),
) -> Event {
    let node = keyed.graph.node(id);
    let (step, services, name) = (StepNumber(id.0), node.services(), node.text().to_owned());
    Event::StepStarted { step, services, name, reason, key: keyed.keys[id.0].0.short(), expected, left }
}

/// The event of a step's end.
pub(super) fn finished(graph: &Graph, id: NodeId, outcome: Outcome, took: Duration) -> Event {
    let node = graph.node(id);
    let (services, name) = (node.services(), node.text().to_owned());
    Event::StepFinished { step: StepNumber(id.0), services, name, outcome, took }
}

#[cfg(test)]
#[path = "solve_tests.rs"]
mod tests;
