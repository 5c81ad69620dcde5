//! The solver in whatever order steps end: what runs, what comes out, who goes first, how many at once.
//!
//! Graphs have up to a thousand nodes; steps take random times, so that they end in any order. Where the
//! order itself is what is tested, the fake waits for what must happen and not for time to pass.

use std::sync::mpsc::{RecvTimeoutError, channel};

use super::*;

/// A step's time in the order that `seed` stands for: from none to a third of a millisecond.
fn takes(seed: u64, id: NodeId) {
    let drawn = Digest::of(format!("{seed} {}", id.0)).as_bytes()[0];
    match drawn % 4 {
        0 => {}
        1 => std::thread::yield_now(),
        _ => std::thread::sleep(Duration::from_micros(u64::from(drawn))),
    }
}

/// What each node came to: nothing of an order or a run shows in it.
fn contents(work: &FakeWork<'_>, solution: &Solution) -> BTreeMap<NodeId, Digest> {
    solution.results.iter().map(|(id, result)| (*id, work.content(*result))).collect()
}

/// The nodes that stand on one of `below`, those included.
fn above(graph: &Graph, below: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let mut above = below.clone();
    for (id, node) in graph.nodes() {
        if node.inputs().any(|input| above.contains(&input)) {
            above.insert(id);
        }
    }
    above
}

/// Ends a solver that would otherwise wait for ever, so that the test fails.
fn rescued<T: Send>(cancel: &Cancel, solve: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let (done, ended) = channel::<()>();
        scope.spawn(move || {
            if ended.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
                cancel.cancel();
            }
        });
        let solved = solve();
        drop(done);
        solved
    })
}

fn solve_rescued(
    graph: &Graph,
    work: &FakeWork<'_>,
    parallel: usize,
    forced: bool,
    expected: &(dyn Fn(NodeId) -> Option<Duration> + Sync),
) -> Solution {
    let keyed = keyed(graph);
    let demand = demand(&keyed, work.store, &|_| forced);
    let reason = |_| String::new();
    let settings = Settings { parallel, forced: &|_| forced, expected, reason: &reason, done: &|_, _| {} };
    let cancel = Cancel::new().unwrap();
    let solution = rescued(&cancel, || run(&keyed, demand, work, work.store, &settings, &Silent, &cancel));
    assert!(!cancel.is_cancelled(), "it waited for ever");
    solution
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    /// Whatever the order, every step runs once and comes to the same, and the second build runs nothing.
    #[test]
    fn a_no_op_never_runs_a_step(shape in shapes(1000), parallel in 1..=8usize, seed: u64) {
        let graph = graph(&shape);
        let all: BTreeMap<NodeId, usize> = graph.nodes().map(|(id, _)| (id, 1)).collect();
        let mut came = Vec::new();
        for (parallel, seed) in [(parallel, seed), (9 - parallel, !seed)] {
            let bench = bench();
            let mut work = FakeWork::new(&bench.store);
            work.during = Box::new(move |id| takes(seed, id));
            let solution = solve_with(&graph, &work, parallel, false);
            prop_assert!(solution.failed.is_empty());
            prop_assert_eq!(&work.runs(), &all);
            prop_assert!(work.most_at_once.load(Ordering::SeqCst) <= parallel);
            let again = solve_with(&graph, &work, parallel, false);
            prop_assert!(again.ran.is_empty() && again.failed.is_empty());
            prop_assert!(work.runs().is_empty());
            // A hit is where the walk ends, so the second time only roots have a result.
            prop_assert!(again.results.iter().all(|(id, result)| solution.results[id] == *result));
            prop_assert_eq!(again.results.len(), graph.roots.len());
            came.push(contents(&work, &solution));
        }
        prop_assert_eq!(&came[0], &came[1]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// What depends on a failed step does not run, everything else does and is a hit afterwards.
    #[test]
    fn a_failure_stops_only_what_stands_on_it(
        shape in shapes(300),
        failing in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        parallel in 1..=8usize,
        seed: u64,
    ) {
        let (bench, graph) = (bench(), graph(&shape));
        let mut work = FakeWork::new(&bench.store);
        work.during = Box::new(move |id| takes(seed, id));
        work.fails = failing.iter().map(|index| NodeId(index.index(graph.nodes().len()))).collect();
        let stopped = above(&graph, &work.fails);
        let reached = |id: &NodeId| !graph.node(*id).inputs().any(|input| stopped.contains(&input));
        let fail: BTreeSet<NodeId> = work.fails.iter().copied().filter(reached).collect();
        let rest: BTreeSet<NodeId> =
            graph.nodes().map(|(id, _)| id).filter(|id| !stopped.contains(id)).collect();
        let solution = solve_with(&graph, &work, parallel, false);
        prop_assert_eq!(solution.failed.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(), fail);
        prop_assert_eq!(solution.ran.keys().copied().collect::<BTreeSet<_>>(), rest);
        work.runs();
        work.fails.clear();
        prop_assert!(solve_with(&graph, &work, parallel, false).failed.is_empty());
        prop_assert_eq!(work.runs().into_keys().collect::<BTreeSet<_>>(), stopped);
        prop_assert!(solve_with(&graph, &work, parallel, false).ran.is_empty());
    }

    /// After any steps were made anew, what ran comes to what it would from nothing, and the next is a no-op.
    #[test]
    fn what_is_made_anew_comes_to_the_same(shape in shapes(200), parallel in 1..=8usize, seed: u64) {
        let (bench, graph) = (bench(), graph(&shape));
        let mut work = FakeWork::new(&bench.store);
        work.during = Box::new(move |id| takes(seed, id));
        let first = solve_with(&graph, &work, parallel, false);
        work.runs();
        let anew = solve_with(&graph, &work, parallel, true);
        prop_assert!(work.runs().values().all(|runs| *runs == 1));
        prop_assert!(work.most_at_once.load(Ordering::SeqCst) <= parallel);
        prop_assert_eq!(contents(&work, &first), contents(&work, &anew));
        prop_assert!(anew.results.iter().all(|(id, result)| first.results[id] != *result));
        prop_assert!(solve_with(&graph, &work, parallel, false).ran.is_empty());
    }
}

#[test]
fn a_thousand_nodes_twice() {
    let shape: Vec<(u8, u8)> =
        (0..1000u32).map(|n| ((n * 7 % 11) as u8, if n % 5 == 0 { 3 } else { 0 })).collect();
    let (bench, graph) = (bench(), graph(&shape));
    let work = FakeWork::new(&bench.store);
    assert_eq!(solve(&graph, &work).ran.len(), graph.nodes().len());
    assert!(solve(&graph, &work).ran.is_empty());
}

/// Two services whose stages differ and come out with the same bytes: what copies from them is one step.
#[test]
fn steps_that_become_equal_run_once() {
    for parallel in [1, 4] {
        let bench = bench();
        let mut graph = Graph::default();
        for service in ["one", "two", "three", "four"] {
            let stage = graph.add(node(service, None, None));
            let copied = graph.add(node("copy", None, Some(stage)));
            let after = graph.add(node("after", Some(copied), None));
            graph.roots.push(root(after));
        }
        let mut work = FakeWork::new(&bench.store);
        work.selection = Some(Digest::of("the same bytes"));
        work.during = Box::new(|_| std::thread::sleep(Duration::from_millis(2)));
        let solution = solve_with(&graph, &work, parallel, false);
        assert_eq!(solution.results.len(), 12);
        let ran: Vec<&str> = work.order().iter().map(|id| graph.node(*id).text()).collect();
        for (text, times) in [("copy", 1), ("after", 1), ("one", 1), ("two", 1)] {
            assert_eq!(ran.iter().filter(|ran| **ran == text).count(), times, "{text} of {ran:?}");
        }
        let roots: BTreeSet<ResultId> =
            graph.roots.iter().map(|root| solution.results[&root.node.unwrap()]).collect();
        assert_eq!(roots.len(), 1);
        assert!(solve(&graph, &work).ran.is_empty());
    }
}

/// `text` with its time in milliseconds, and what it stands on.
fn timed(steps: &[(&str, u64, Option<usize>)]) -> (Graph, BTreeMap<NodeId, Duration>) {
    let (mut graph, mut ids, mut times) = (Graph::default(), Vec::new(), BTreeMap::new());
    for (text, milliseconds, parent) in steps {
        let id = graph.add(node(text, parent.map(|parent: usize| ids[parent]), None));
        times.insert(id, Duration::from_millis(*milliseconds));
        ids.push(id);
    }
    let used: BTreeSet<usize> = steps.iter().filter_map(|step| step.2).collect();
    graph.roots =
        (0..ids.len()).filter(|index| !used.contains(index)).map(|index| root(ids[index])).collect();
    (graph, times)
}

#[test]
fn the_longest_remaining_path_goes_first() {
    let (graph, times) = timed(&[
        ("quick", 1, None),
        ("long", 500, None),
        ("short way", 2, None),
        ("to the slow end", 1, Some(2)),
        ("slow end", 900, Some(3)),
        ("after long", 2, Some(1)),
    ]);
    let bench = bench();
    let work = FakeWork::new(&bench.store);
    solve_expecting(&graph, &work, 1, false, &|id| Some(times[&id]));
    let order: Vec<&str> = work.order().iter().map(|id| graph.node(*id).text()).collect();
    let expected = ["short way", "to the slow end", "slow end", "long", "after long", "quick"];
    assert_eq!(order, expected);
}

/// As many run at once as may, and never more.
#[test]
fn all_slots_are_used_and_no_more() {
    for parallel in 1..=8 {
        let (bench, graph) = (bench(), graph(&[(0, 0); 24]));
        let begun = (Mutex::new(0), Condvar::new());
        let mut work = FakeWork::new(&bench.store);
        // The first ones do not end before all slots are taken.
        work.during = Box::new(|_| {
            let mut count = begun.0.lock().unwrap();
            *count += 1;
            begun.1.notify_all();
            let patience = Duration::from_secs(60);
            drop(begun.1.wait_timeout_while(count, patience, |count| *count < parallel).unwrap());
        });
        assert_eq!(solve_with(&graph, &work, parallel, false).ran.len(), 24);
        assert_eq!(work.most_at_once.load(Ordering::SeqCst), parallel);
    }
}

/// Long enough for a step that polls to take what it waits for.
const POLLS: Duration = Duration::from_millis(120);

/// While another process makes a step, its slot is another step's; afterwards it waits for a slot again.
#[test]
fn a_step_that_waits_for_another_process_gives_its_slot_back() {
    for forced in [false, true] {
        let (graph, times) = timed(&[("theirs", 900, None), ("ours", 1, None)]);
        let bench = bench();
        let other = Store::open(bench.store.root()).unwrap();
        let recipe = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
        let definition = keyed(&graph).keys[0];
        let canonical = crate::base::digest::CanonicalKey(Digest::of("theirs"));
        let key = Key { definition, canonical, inputs: &[], recipe: &recipe };
        let claim = Mutex::new(Some(other.claim(&key).unwrap()));
        let mut work = FakeWork::new(&bench.store);
        work.during = Box::new(|id| {
            if id == NodeId(1) {
                drop(claim.lock().unwrap().take());
                std::thread::sleep(POLLS);
            }
        });
        let solution = solve_rescued(&graph, &work, 1, forced, &|id| Some(times[&id]));
        assert_eq!(work.order(), [NodeId(1), NodeId(0)]);
        assert_eq!(solution.ran.len(), 2);
        assert_eq!(work.most_at_once.load(Ordering::SeqCst), 1);
    }
}

/// The same for what a step needs beyond a slot.
#[test]
fn a_step_that_waits_for_a_cache_gives_its_slot_back() {
    let (graph, times) = timed(&[("locked", 900, None), ("free", 1, None), ("last", 0, None)]);
    let (bench, free) = (bench(), std::sync::atomic::AtomicBool::new(false));
    let mut work = FakeWork::new(&bench.store);
    work.reserves = Box::new(|id| id != NodeId(0) || free.load(Ordering::SeqCst));
    work.during = Box::new(|id| {
        if id == NodeId(1) {
            free.store(true, Ordering::SeqCst);
            std::thread::sleep(POLLS);
        }
    });
    let solution = solve_rescued(&graph, &work, 1, false, &|id| Some(times[&id]));
    assert_eq!(solution.ran.len(), 3);
    // It comes before what never had a slot.
    assert_eq!(work.order(), [NodeId(1), NodeId(0), NodeId(2)]);
    assert_eq!(work.most_at_once.load(Ordering::SeqCst), 1);
}
