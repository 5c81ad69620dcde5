//! The solver over small and random graphs, with a fake in the place of all work and a real store. What the
//! order of completion may and may not change is `solve_order_tests`'s matter.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

#[path = "solve_order_tests.rs"]
mod order;

use super::*;
use crate::base::digest::Digest;
use crate::base::event::{Recorded, Silent};
use crate::graph::{Copy, ImageDraft, Origin, Root, Run, RunNetwork, Take};
use crate::oci::{ContainerConfig, Platform};

/// Publishes empty snapshots, counts, and waits, fails or selects as it is told.
struct FakeWork<'a> {
    store: &'a Store,
    /// Steps in the order in which they began.
    began: Mutex<Vec<NodeId>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    fails: BTreeSet<NodeId>,
    /// What a COPY selects from any result: a constant models a stage that comes out the same.
    selection: Option<Digest>,
    /// What each result holds: it follows from the step and what it stands on.
    contents: Mutex<HashMap<ResultId, Digest>>,
    /// Called while a step runs.
    during: Box<dyn Fn(NodeId) + Sync + 'a>,
    /// Whether a step gets what it needs beyond a slot.
    reserves: Box<dyn Fn(NodeId) -> bool + Sync + 'a>,
}

impl<'a> FakeWork<'a> {
    fn new(store: &'a Store) -> Self {
        Self {
            store,
            began: Mutex::default(),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            fails: BTreeSet::new(),
            selection: None,
            contents: Mutex::default(),
            during: Box::new(|_| {}),
            reserves: Box::new(|_| true),
        }
    }

    /// Steps that ran since the last question, with how often.
    fn runs(&self) -> BTreeMap<NodeId, usize> {
        let mut runs = BTreeMap::new();
        self.order().into_iter().for_each(|id| *runs.entry(id).or_default() += 1);
        runs
    }

    /// The same in the order in which they began.
    fn order(&self) -> Vec<NodeId> {
        std::mem::take(&mut self.began.lock().unwrap())
    }

    fn content(&self, result: ResultId) -> Digest {
        self.contents.lock().unwrap()[&result]
    }
}

impl Work for FakeWork<'_> {
    fn select(&self, id: NodeId, source: usize, result: ResultId) -> Result<Selected, StepError> {
        let own = Digest::of(format!("{} {source} {}", id.0, self.content(result)));
        Ok(Selected { digest: self.selection.unwrap_or(own), listing: None })
    }

    fn reserve(&self, id: NodeId) -> Result<bool, StepError> {
        Ok((self.reserves)(id))
    }

    fn run(
        &self,
        id: NodeId,
        parent: Option<ResultId>,
        sources: &[Option<ResultId>],
    ) -> Result<Produced, StepError> {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        self.began.lock().unwrap().push(id);
        (self.during)(id);
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        if self.fails.contains(&id) {
            return Err(StepError::Unsupported("told to fail".into()));
        }
        let snapshot = self.store.publish_snapshot(self.store.stage()?, parent)?;
        let below: Vec<_> =
            sources.iter().chain([&parent]).map(|result| result.map(|result| self.content(result))).collect();
        self.contents.lock().unwrap().insert(snapshot.id, Digest::of(format!("{} {below:?}", id.0)));
        Ok(Produced { result: snapshot.id, holds: Vec::new(), listings: Vec::new() })
    }

    fn bring(&self, id: NodeId) -> Result<ResultId, StepError> {
        if self.fails.contains(&id) {
            return Err(StepError::Lost("a cache".into()));
        }
        let snapshot = self.store.publish_snapshot(self.store.stage()?, None)?;
        self.contents.lock().unwrap().insert(snapshot.id, Digest::of(format!("{} elsewhere", id.0)));
        Ok(snapshot.id)
    }
}

/// A graph of RUNs and COPYs between them; `shape` gives each node's parent and source as distances back.
fn graph(shape: &[(u8, u8)]) -> Graph {
    let mut graph = Graph::default();
    let mut ids: Vec<NodeId> = Vec::new();
    for (index, &(parent, source)) in shape.iter().enumerate() {
        let back = |distance: u8| {
            index.checked_sub(usize::from(distance)).filter(|_| distance > 0).map(|at| ids[at])
        };
        let (parent, source) = (back(parent), back(source));
        ids.push(graph.add(node(&format!("step {index}"), parent, source)));
    }
    // Everything that nothing stands on is a root.
    let used: BTreeSet<NodeId> =
        graph.nodes().flat_map(|(_, node)| node.inputs().collect::<Vec<_>>()).collect();
    let roots: Vec<NodeId> = graph.nodes().map(|(id, _)| id).filter(|id| !used.contains(id)).collect();
    graph.roots = roots.into_iter().map(root).collect();
    graph
}

fn node(text: &str, parent: Option<NodeId>, source: Option<NodeId>) -> Node {
    let op = match source {
        Some(_) => Op::Copy(Copy {
            takes: vec![Take { patterns: vec![text.into()], unpack: false }],
            files: Vec::new(),
            destination: "/".into(),
            owner: None,
            mode: None,
            excludes: Vec::new(),
            parents: false,
        }),
        None => Op::Run(Run {
            argv: vec![text.into()],
            environment: BTreeMap::new(),
            directory: "/".into(),
            user: String::new(),
            network: RunNetwork::Default,
            extra_hosts: Vec::new(),
            shm_size: 0,
            mounts: Vec::new(),
            insecure: false,
            hostname: crate::graph::HOSTNAME.to_owned(),
        }),
    };
    let origin = Origin { service: "s".into(), stage: "0".into(), ordinal: 0, text: text.into(), span: None };
    let (platform, unkeyed_environment) = (Platform::new("linux", "amd64", None), BTreeMap::new());
    Node {
        op,
        parent,
        sources: source.into_iter().collect(),
        platform,
        origins: vec![origin],
        unkeyed_environment,
    }
}

fn root(node: NodeId) -> Root {
    let draft = ImageDraft {
        platform: Platform::new("linux", "amd64", None),
        author: String::new(),
        config: ContainerConfig::default(),
        history: Vec::new(),
    };
    Root { source: 0, node: Some(node), draft, epoch: None }
}

fn keyed(graph: &Graph) -> Keyed<'_> {
    Keyed::new(graph, &|_, _| unreachable!("no contexts"))
}

struct Bench {
    _folder: tempfile::TempDir,
    store: Store,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    Bench { _folder: folder, store }
}

fn solve_with(graph: &Graph, work: &FakeWork<'_>, parallel: usize, forced: bool) -> Solution {
    let expected = |id: NodeId| Some(Duration::from_millis(id.0 as u64 % 7));
    solve_expecting(graph, work, parallel, forced, &expected)
}

fn solve_expecting(
    graph: &Graph,
    work: &FakeWork<'_>,
    parallel: usize,
    forced: bool,
    expected: &(dyn Fn(NodeId) -> Option<Duration> + Sync),
) -> Solution {
    let keyed = keyed(graph);
    let demand = demand(&keyed, work.store, &|_| forced);
    let reason = |_| "test".to_owned();
    let settings = Settings { parallel, forced: &|_| forced, expected, reason: &reason, done: &|_, _| {} };
    let cancel = Cancel::new().unwrap();
    run(&keyed, demand, work, work.store, &settings, &Silent, &cancel)
}

fn solve(graph: &Graph, work: &FakeWork<'_>) -> Solution {
    solve_with(graph, work, 3, false)
}

fn shapes(most: usize) -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0..12u8, prop_oneof![3 => Just(0u8), 1 => 1..12u8]), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Forced steps run although everything is there, and what is built next is a hit again.
    #[test]
    fn forcing_runs_everything_once(shape in shapes(40)) {
        let (bench, graph) = (bench(), graph(&shape));
        let work = FakeWork::new(&bench.store);
        solve(&graph, &work);
        work.runs();
        prop_assert_eq!(solve_with(&graph, &work, 2, true).ran.len(), graph.nodes().len());
        prop_assert!(solve(&graph, &work).ran.is_empty());
    }
}

/// A stage that ran again and came out with the same bytes stops the rebuild at what copies from it.
#[test]
fn an_equal_stage_stops_early() {
    let bench = bench();
    let build = |first: &str| {
        let mut graph = Graph::default();
        let stage = graph.add(node(first, None, None));
        let copied = graph.add(node("copy", None, Some(stage)));
        let after = graph.add(node("after", Some(copied), None));
        graph.roots = vec![root(after)];
        graph
    };
    let mut work = FakeWork::new(&bench.store);
    work.selection = Some(Digest::of("the same bytes"));
    solve(&build("one"), &work);
    assert_eq!(work.runs().len(), 3);
    let graph = build("two");
    let solution = solve(&graph, &work);
    assert_eq!(work.runs().into_keys().collect::<Vec<_>>(), [NodeId(0)]);
    assert_eq!(solution.ran.len(), 1);
    assert!(solve(&graph, &work).ran.is_empty());
    assert!(work.runs().is_empty());
}

/// What stands FROM a stage that ran again runs again, even if the stage's bytes are the same.
#[test]
fn a_step_on_a_new_result_runs() {
    let bench = bench();
    let build = |first: &str| {
        let mut graph = Graph::default();
        let stage = graph.add(node(first, None, None));
        let after = graph.add(node("after", Some(stage), None));
        graph.roots = vec![root(after)];
        graph
    };
    let work = FakeWork::new(&bench.store);
    solve(&build("one"), &work);
    work.runs();
    solve(&build("two"), &work);
    assert_eq!(work.runs().len(), 2);
}

/// Two solvers on one store share the work.
#[test]
fn equal_work_of_two_runs_is_done_once() {
    let (bench, graph) = (bench(), graph(&[(0, 0), (1, 0), (1, 0), (2, 1), (1, 0)]));
    let mut work = FakeWork::new(&bench.store);
    work.during = Box::new(|_| std::thread::sleep(Duration::from_millis(5)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(solve(&graph, &work).failed.is_empty()));
        }
    });
    assert!(work.runs().values().all(|runs| *runs == 1));
}

/// Two steps at a time, nothing forced, nothing known and nobody told.
fn quiet() -> Settings<'static> {
    Settings {
        parallel: 2,
        forced: &|_| false,
        expected: &|_| None,
        reason: &|_| String::new(),
        done: &|_, _| {},
    }
}

#[test]
fn a_cancelled_build_runs_nothing_more() {
    let (bench, graph) = (bench(), graph(&[(0, 0), (1, 0), (1, 0)]));
    let work = FakeWork::new(&bench.store);
    let (keyed, events) = (keyed(&graph), Recorded::default());
    let cancel = Cancel::new().unwrap();
    cancel.cancel();
    let settings = quiet();
    let demand = demand(&keyed, &bench.store, &|_| false);
    let solution = run(&keyed, demand, &work, &bench.store, &settings, &events, &cancel);
    assert!(solution.ran.is_empty() && work.runs().is_empty());
    let cancelled = |event: &Event| matches!(event, Event::StepFinished { outcome: Outcome::Cancelled, .. });
    assert_eq!(events.take().iter().filter(|event| cancelled(event)).count(), 3);
}

/// What others made begins at once, nothing below it runs, and what stands on it waits for it.
#[test]
fn what_others_made_is_brought_and_nothing_below_it_runs() {
    let bench = bench();
    let mut graph = Graph::default();
    let below = graph.add(node("below", None, None));
    let elsewhere = graph.add(node("elsewhere", Some(below), None));
    let after = graph.add(node("after", Some(elsewhere), None));
    graph.roots = vec![root(after)];
    let keyed = keyed(&graph);
    let settings = quiet();
    let solved = |work: &FakeWork<'_>| {
        let demand = Demand {
            needed: BTreeSet::from([after]),
            brought: BTreeSet::from([elsewhere]),
            ..Demand::default()
        };
        let cancel = Cancel::new().unwrap();
        run(&keyed, demand, work, &bench.store, &settings, &Silent, &cancel)
    };
    let mut work = FakeWork::new(&bench.store);
    work.fails = BTreeSet::from([elsewhere]);
    let solution = solved(&work);
    assert!(work.order().is_empty() && solution.failed.iter().all(|(_, error)| error.is_change()));
    work.fails.clear();
    let solution = solved(&work);
    assert_eq!(work.order(), [after]);
    assert!(solution.results.contains_key(&elsewhere) && solution.results.contains_key(&after));
    assert!(!solution.ran.contains_key(&elsewhere));
}
