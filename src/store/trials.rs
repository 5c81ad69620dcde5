//! Trials of the store: many threads and processes at once, death at every point of a publish, and the
//! rules of a record's validity against a model of them.
//!
//! A trial starts this test binary again with one test selected, `child`, which takes its role from the
//! environment and does nothing in an ordinary run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::base::digest::{CanonicalKey, DefinitionKey, Digest, ResultId};

const ROLE: &str = "SHIPWAY_STORE_TRIAL";

fn key<'a>(name: &str, inputs: &'a [(DefinitionKey, ResultId)], recipe: &'a RawValue) -> Key<'a> {
    let canonical = CanonicalKey(Digest::of(format!("canonical {name} {inputs:?}")));
    Key { definition: definition(name), canonical, inputs, recipe }
}

fn definition(name: &str) -> DefinitionKey {
    DefinitionKey(Digest::of(format!("definition {name}")))
}

fn record(result: ResultId, key: &Key<'_>) -> Record {
    let (recipe, inputs) = (key.recipe.to_owned(), key.inputs.to_vec());
    Record { recipe, result, inputs, holds: Vec::new(), took_ms: 0, created: Stamp::now() }
}

/// The step called `name` over `inputs`, run if it has to be; each run leaves one letter in the counter.
fn step(store: &Store, counters: &Path, name: &str, inputs: &[(DefinitionKey, ResultId)]) -> ResultId {
    let recipe = RawValue::from_string("{}".to_owned()).unwrap();
    let key = key(name, inputs, &recipe);
    let claim = match store.lookup(&key).unwrap() {
        Lookup::Hit(record) => return record.result,
        Lookup::Miss(claim) => claim,
    };
    let mut counter = std::fs::File::options().append(true).create(true).open(counters.join(name)).unwrap();
    counter.write_all(b"x").unwrap();
    let mut blob = store.write_blob().unwrap();
    blob.write_all(name.as_bytes()).unwrap();
    let (blob, _) = blob.finish(None).unwrap();
    let staging = store.stage().unwrap();
    std::fs::create_dir_all(staging.work().unwrap().join("work")).unwrap();
    std::fs::write(staging.tree().join("file"), name).unwrap();
    let snapshot = store.publish_snapshot(staging, inputs.first().map(|input| input.1)).unwrap();
    let record = Record { holds: vec![Held::Blob(blob)], ..record(snapshot.id, &key) };
    claim.publish(record).unwrap().result
}

/// A chain of steps, each over the one before.
fn chain(store: &Store, counters: &Path, name: &str) -> ResultId {
    let mut inputs = Vec::new();
    for depth in 0..4 {
        let name = format!("{name}-{depth}");
        inputs = vec![(definition(&name), step(store, counters, &name, &inputs))];
    }
    inputs[0].1
}

/// Four threads that walk the same chains in different orders.
fn hammer(root: &Path, counters: &Path) {
    let store = Store::open(root).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for turn in 0..6 {
                    chain(store, counters, &format!("chain{}", (thread * 5 + turn) % 6));
                }
            });
        }
    });
    store.sync().unwrap();
}

/// Everything that no name holds goes.
const ALL: Limits = Limits { keep_bytes: None, unused_for: None, all: true };

/// Short runs, each of which must keep everything that it met or made until it ends, and trims the store
/// then.
fn visit(root: &Path, counters: &Path) {
    for turn in 0..60_u64 {
        let store = Store::open(root).unwrap();
        let name = format!("chain{}", turn % 3);
        let top = chain(&store, counters, &name);
        std::thread::yield_now();
        let found = store.chain(top).unwrap();
        for (depth, snapshot) in found.iter().enumerate() {
            let content = std::fs::read_to_string(snapshot.tree.join("file")).unwrap();
            assert_eq!(content, format!("{name}-{depth}"));
        }
        assert_eq!((found.len(), chain(&store, counters, &name)), (4, top));
        store.sync().unwrap();
        store.trim(&|_| Some(40_000)).unwrap();
        drop(store);
        std::thread::sleep(std::time::Duration::from_millis(turn % 7 * 3));
    }
}

/// Starts this binary again in the given role.
fn start(role: &str, folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "store::trials::child", "--quiet"]);
    command.env(ROLE, format!("{role} {}", folder.display())).stdout(std::process::Stdio::null());
    command.spawn().unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tells a child of a trial from an ordinary run of the tests")]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (role, folder) = role.split_once(' ').unwrap();
    let (root, counters) = folders(Path::new(folder));
    if let Some(count) = role.strip_prefix("prune-") {
        let store = Store::open(&root).unwrap();
        chain(&store, &counters, "fragile");
        store.sync().unwrap();
        fault::arm(count.parse().unwrap());
        store.prune(&ALL, &Vec::new, Patience::NONE).unwrap().unwrap();
    } else if role == "visit" {
        visit(&root, &counters);
    } else if let Some(count) = role.strip_prefix("die-after-") {
        let store = Store::open(&root).unwrap();
        fault::arm(count.parse().unwrap());
        chain(&store, &counters, "fragile");
        store.sync().unwrap();
    } else {
        hammer(&root, &counters);
    }
}

fn folders(folder: &Path) -> (PathBuf, PathBuf) {
    let (root, counters) = (folder.join("store"), folder.join("counters"));
    std::fs::create_dir_all(&counters).unwrap();
    (root, counters)
}

#[test]
fn equal_work_is_done_once_by_all_threads_and_processes() {
    let folder = tempfile::tempdir().unwrap();
    let (root, counters) = folders(folder.path());
    let children: Vec<_> = (0..3).map(|_| start("hammer", folder.path())).collect();
    hammer(&root, &counters);
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let runs: Vec<_> = std::fs::read_dir(&counters).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(runs.len(), 24);
    for counter in runs {
        assert_eq!(std::fs::read_to_string(&counter).unwrap(), "x", "{}", counter.display());
    }
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn no_run_loses_what_it_met_to_a_collector() {
    let folder = tempfile::tempdir().unwrap();
    let (root, counters) = folders(folder.path());
    let mut children: Vec<_> = (0..3).map(|_| start("visit", folder.path())).collect();
    let patience = Patience { limit: std::time::Duration::from_millis(200), waiting: &|_| {} };
    let (mut pruned, mut running) = (0, true);
    while running {
        let store = Store::open(&root).unwrap();
        pruned += usize::from(store.prune(&ALL, &Vec::new, patience).unwrap().is_some());
        running = children.iter_mut().any(|child| child.try_wait().unwrap().is_none());
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert!(pruned > 0);
    let store = Store::open(&root).unwrap();
    assert_eq!(store.damage(&store.inventory().unwrap(), &mut |_| {}).unwrap().steps, []);
    // Whoever collects is in the way of no run: what went was made again.
    let runs = std::fs::read(counters.join("chain0-0")).unwrap().len();
    assert!(runs > 1, "{runs} runs beside {pruned} prunes");
}

#[test]
fn death_at_any_point_of_a_prune_leaves_a_store_that_works() {
    use std::os::unix::process::ExitStatusExt;
    let folder = tempfile::tempdir().unwrap();
    for points in 0.. {
        let (root, counters) = folders(&folder.path().join(points.to_string()));
        let status = start(&format!("prune-{points}"), root.parent().unwrap()).wait().unwrap();
        check_survivors(&root);
        let store = Store::open(&root).unwrap();
        let top = chain(&store, &counters, "fragile");
        assert_eq!(store.chain(top).unwrap().len(), 4);
        assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
        let found = store.damage(&store.inventory().unwrap(), &mut |_| {}).unwrap();
        assert_eq!(found.steps, [], "{found}");
        if status.success() {
            assert!(points > 10, "the trial ended after {points} points");
            return;
        }
        assert_eq!(status.signal(), Some(9));
    }
}

#[test]
fn death_at_any_point_of_a_publish_leaves_a_store_that_works() {
    use std::os::unix::process::ExitStatusExt;
    let folder = tempfile::tempdir().unwrap();
    for points in 0.. {
        let (root, counters) = folders(&folder.path().join(points.to_string()));
        let status = start(&format!("die-after-{points}"), root.parent().unwrap()).wait().unwrap();
        check_survivors(&root);
        let store = Store::open(&root).unwrap();
        let top = chain(&store, &counters, "fragile");
        assert_eq!(store.chain(top).unwrap().len(), 4);
        assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
        if status.success() {
            assert!(points > 20, "the trial ended after {points} points");
            return;
        }
        assert_eq!(status.signal(), Some(9));
    }
}

/// Whatever counts after a death has its whole content.
fn check_survivors(root: &Path) {
    let store = Store::open(root).unwrap();
    for depth in 0..4 {
        let name = format!("fragile-{depth}");
        let Some(record) = store.peek(definition(&name)) else { continue };
        let chain = store.chain(record.result).unwrap();
        assert_eq!(chain.len(), depth + 1);
        assert_eq!(std::fs::read_to_string(chain[depth].tree.join("file")).unwrap(), name);
    }
}

/// What may happen to a store, on a small fixed graph of steps.
#[derive(Debug, Clone)]
enum Happening {
    /// The step is forced over the results that its inputs have now.
    Publish(usize),
    /// Its record goes.
    Forget(usize),
    /// The snapshot of its record goes.
    Lose(usize),
    Sync,
    Reboot,
}

/// The inputs of each step, the parent first.
const GRAPH: &[&[usize]] = &[&[], &[0], &[1], &[], &[3, 1], &[4, 2]];

fn happening() -> impl Strategy<Value = Happening> {
    let node = 0..GRAPH.len();
    prop_oneof![
        6 => node.clone().prop_map(Happening::Publish),
        1 => node.clone().prop_map(Happening::Forget),
        1 => node.prop_map(Happening::Lose),
        1 => Just(Happening::Sync),
        1 => Just(Happening::Reboot),
    ]
}

#[derive(Debug, Clone)]
struct Expected {
    result: ResultId,
    inputs: Vec<(usize, ResultId)>,
    boot: u32,
    durable: bool,
}

/// The rules, written down a second time.
#[derive(Default)]
struct Model {
    records: std::collections::BTreeMap<usize, Expected>,
    /// Parent, boot and durability of each snapshot that is there.
    snapshots: std::collections::BTreeMap<ResultId, (Option<ResultId>, u32, bool)>,
    boot: u32,
}

impl Model {
    fn whole(&self, id: ResultId) -> bool {
        let Some(&(mut parent, boot, durable)) = self.snapshots.get(&id) else { return false };
        let mut whole = durable || boot == self.boot;
        while let Some(id) = parent {
            let below = self.snapshots.get(&id);
            whole &= below.is_some();
            parent = below.and_then(|below| below.0);
        }
        whole
    }

    fn survived(&self, node: usize) -> Option<&Expected> {
        self.records.get(&node).filter(|record| record.durable || record.boot == self.boot)
    }

    fn stands(&self, record: &Expected) -> bool {
        record.inputs.iter().all(|(node, result)| match self.survived(*node) {
            Some(input) => input.result == *result && self.stands(input),
            None => true,
        })
    }

    fn peek(&self, node: usize) -> Option<ResultId> {
        let record = self.survived(node)?;
        (self.whole(record.result) && self.stands(record)).then_some(record.result)
    }
}

/// Does to the store and to the model what happens.
fn happen(store: &mut Store, model: &mut Model, happening: &Happening) {
    let root = store.root().to_owned();
    match happening {
        Happening::Publish(node) => publish(store, model, *node),
        Happening::Forget(node) => {
            model.records.remove(node);
            let path = records::definition_path(store, definition(&node.to_string()));
            let _ = std::fs::remove_file(path);
        }
        Happening::Lose(node) => {
            let Some(record) = model.records.get(node) else { return };
            model.snapshots.remove(&record.result);
            let folder = root.join("snapshots-v1").join(record.result.0.hex());
            let _ = remove::remove_tree(&folder);
        }
        Happening::Sync => {
            store.sync().unwrap();
            let boot = model.boot;
            model.records.values_mut().for_each(|record| record.durable |= record.boot == boot);
            model.snapshots.values_mut().for_each(|snapshot| snapshot.2 |= snapshot.1 == boot);
        }
        Happening::Reboot => {
            model.boot += 1;
            *store = Store::open_at_boot(&root, &model.boot.to_string()).unwrap();
        }
    }
}

fn publish(store: &Store, model: &mut Model, node: usize) {
    let results: Vec<_> = GRAPH[node].iter().map(|input| model.peek(*input)).collect();
    if results.contains(&None) {
        return;
    }
    let inputs: Vec<_> = GRAPH[node].iter().copied().zip(results.into_iter().flatten()).collect();
    let named: Vec<_> =
        inputs.iter().map(|(node, result)| (definition(&node.to_string()), *result)).collect();
    let recipe = RawValue::from_string("{}".to_owned()).unwrap();
    let key = key(&node.to_string(), &named, &recipe);
    let parent = inputs.first().map(|input| input.1);
    let result = store.publish_snapshot(store.stage().unwrap(), parent).unwrap().id;
    store.claim(&key).unwrap().publish(record(result, &key)).unwrap();
    model.snapshots.insert(result, (parent, model.boot, false));
    model.records.insert(node, Expected { result, inputs, boot: model.boot, durable: false });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_count_by_the_rules(happenings in prop::collection::vec(happening(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open_at_boot(folder.path(), "0").unwrap();
        let mut model = Model::default();
        for happening in &happenings {
            happen(&mut store, &mut model, happening);
            for node in 0..GRAPH.len() {
                let found = store.peek(definition(&node.to_string())).map(|record| record.result);
                prop_assert_eq!(found, model.peek(node), "step {} after {:?}", node, happening);
            }
        }
    }
}
