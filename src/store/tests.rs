//! Tests of the store as a whole: what counts and what does not, many users at once, death at any point.

use std::io::Write;
use std::path::Path;

use serde_json::value::RawValue;

use super::*;
use crate::base::digest::{BlobId, CanonicalKey, DefinitionKey, Digest, ResultId};

const BOOT: &str = "this boot";

fn definition(name: &str) -> DefinitionKey {
    DefinitionKey(Digest::of(format!("definition {name}")))
}

fn canonical(name: &str) -> CanonicalKey {
    CanonicalKey(Digest::of(format!("canonical {name}")))
}

fn recipe() -> Box<RawValue> {
    RawValue::from_string(r#"{"op":"run"}"#.to_owned()).unwrap()
}

fn open(root: &Path) -> Store {
    Store::open_at_boot(root, BOOT).unwrap()
}

fn snapshot(store: &Store, parent: Option<ResultId>, content: &str) -> Snapshot {
    let staging = store.stage().unwrap();
    std::fs::create_dir_all(staging.work().unwrap().join("work")).unwrap();
    std::fs::write(staging.tree().join("file"), content).unwrap();
    store.publish_snapshot(staging, parent).unwrap()
}

fn record(result: ResultId, inputs: &[(DefinitionKey, ResultId)], holds: &[Held]) -> Record {
    let (inputs, holds) = (inputs.to_vec(), holds.to_vec());
    Record { recipe: recipe(), result, inputs, holds, took_ms: 7, created: Stamp::now() }
}

/// Publishes a step called `name` over `inputs`; the first input is the parent.
fn publish(store: &Store, name: &str, inputs: &[(DefinitionKey, ResultId)]) -> ResultId {
    let result = snapshot(store, inputs.first().map(|input| input.1), name).id;
    force(store, name, inputs, result);
    result
}

/// Files `result` under the step called `name`, whatever is there.
fn force(store: &Store, name: &str, inputs: &[(DefinitionKey, ResultId)], result: ResultId) {
    let recipe = recipe();
    let key = Key { definition: definition(name), canonical: canonical(name), inputs, recipe: &recipe };
    store.claim(&key).unwrap().publish(record(result, inputs, &[])).unwrap();
}

fn blob(store: &Store, bytes: &[u8]) -> BlobId {
    let mut writer = store.write_blob().unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish(None).unwrap().0
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every path below `root` with its size and times, to see whether anything was written.
fn listing(root: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let stat = std::fs::symlink_metadata(&path).unwrap();
        found.push(format!("{} {} {}.{}", path.display(), stat.size(), stat.ctime(), stat.ctime_nsec()));
        if stat.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

#[test]
fn what_was_published_is_found_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let base = publish(&store, "base", &[]);
    let top = publish(&store, "top", &[(definition("base"), base)]);
    let found = store.peek(definition("top")).unwrap();
    assert_eq!((found.result, found.took_ms, found.recipe.get()), (top, 7, recipe().get()));
    let chain = store.chain(top).unwrap();
    assert_eq!(chain.iter().map(|piece| piece.id).collect::<Vec<_>>(), [base, top]);
    assert_eq!(chain[1].parent, Some(base));
    assert_eq!(std::fs::read_to_string(chain[0].tree.join("file")).unwrap(), "base");
    assert_eq!(names_in(&folder.path().join("tmp")), Vec::<String>::new());
    assert_eq!(names_in(chain[0].tree.parent().unwrap()), ["meta.json", "tree"]);
}

#[test]
fn a_run_of_hits_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    publish(&open(folder.path()), "base", &[]);
    let before = listing(folder.path());
    let store = open(folder.path());
    assert!(store.peek(definition("base")).is_some() && store.peek(definition("other")).is_none());
    store.stamp_use();
    store.sync().unwrap();
    drop(store);
    assert_eq!(listing(folder.path()), before);
}

#[test]
fn a_missing_piece_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let base = publish(&store, "base", &[]);
    let top = publish(&store, "top", &[(definition("base"), base)]);
    let held = blob(&store, b"layer");
    let recipe = recipe();
    let key = Key { definition: definition("b"), canonical: canonical("b"), inputs: &[], recipe: &recipe };
    store.claim(&key).unwrap().publish(record(base, &[], &[Held::Blob(held)])).unwrap();
    assert!(store.peek(definition("b")).is_some());
    std::fs::remove_file(store.blob_path(held)).unwrap();
    assert!(store.peek(definition("b")).is_none() && store.recall(definition("b")).is_some());
    assert!(store.peek(definition("top")).is_some());
    std::fs::remove_dir_all(store.snapshot(base).unwrap().tree).unwrap();
    assert!(store.peek(definition("top")).is_none() && store.snapshot(top).is_none());
    assert!(matches!(
        store.claim(&key).unwrap().publish(record(top, &[], &[])),
        Err(StoreError::Incomplete(_))
    ));
}
