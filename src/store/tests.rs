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
fn a_result_found_by_the_canonical_key_is_filed_under_the_definition() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let base = publish(&store, "base", &[]);
    let result = publish(&store, "copy", &[(definition("old"), base)]);
    let recipe = RawValue::from_string("{\"op\":\"copy\"}".to_owned()).unwrap();
    let inputs = [(definition("new"), base)];
    let (definition, canonical) = (definition("other"), canonical("copy"));
    let key = Key { definition, canonical, inputs: &inputs, recipe: &recipe };
    let Lookup::Hit(hit) = store.lookup(&key).unwrap() else { panic!("a miss") };
    let filed = store.peek(key.definition).unwrap();
    for record in [hit, filed] {
        assert_eq!((record.result, &record.inputs[..]), (result, &inputs[..]));
        assert_eq!(record.recipe.get(), recipe.get());
    }
}

#[test]
fn a_claim_keeps_others_out_until_it_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (store, other) = (open(folder.path()), open(folder.path()));
    let recipe = recipe();
    let key = |definition_name: &str, canonical_name: &str| Key {
        definition: definition(definition_name),
        canonical: canonical(canonical_name),
        inputs: &[],
        recipe: &recipe,
    };
    let claim = store.claim(&key("one", "same")).unwrap();
    assert!(other.try_lookup(&key("one", "unlike")).unwrap().is_none());
    assert!(other.try_lookup(&key("two", "same")).unwrap().is_none());
    assert!(matches!(other.try_lookup(&key("two", "unlike")).unwrap(), Some(Lookup::Miss(_))));
    assert_eq!(names_in(&folder.path().join("tmp")).len(), 2);
    drop(claim);
    assert!(matches!(other.try_lookup(&key("one", "same")).unwrap(), Some(Lookup::Miss(_))));
    assert_eq!(names_in(&folder.path().join("tmp")), Vec::<String>::new());
}

#[test]
fn what_stands_on_a_forced_step_misses() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let base = publish(&store, "base", &[]);
    let middle = publish(&store, "middle", &[(definition("base"), base)]);
    let top = publish(&store, "top", &[(definition("middle"), middle)]);
    assert_eq!(store.peek(definition("top")).unwrap().result, top);
    publish(&store, "base", &[]);
    assert!(store.peek(definition("base")).is_some());
    assert!(store.peek(definition("middle")).is_none() && store.peek(definition("top")).is_none());
    // The chain itself is whole: nothing was lost.
    assert!(store.chain(top).is_some());
}

#[test]
fn blobs_are_what_they_claim_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = blob(&store, b"bytes");
    assert_eq!((id, blob(&store, b"bytes")), (BlobId(Digest::of("bytes")), id));
    let mut writer = store.write_blob().unwrap();
    writer.write_all(b"bites").unwrap();
    assert!(matches!(writer.finish(Some(id)), Err(StoreError::WrongDigest { .. })));
    drop(store.write_blob().unwrap());
    assert_eq!(names_in(&folder.path().join("tmp")), Vec::<String>::new());
    // Torn by a crash: never marked, so it is digested before it counts; written again, it is mended.
    std::fs::write(store.blob_path(id), b"byt").unwrap();
    let later = open(folder.path());
    assert!(!later.has_blob(id));
    assert_eq!(blob(&later, b"bytes"), id);
    let mut content = String::new();
    std::io::Read::read_to_string(&mut later.blob(id).unwrap(), &mut content).unwrap();
    assert_eq!(content, "bytes");
}

#[test]
fn another_boot_counts_only_what_was_marked() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let early = publish(&store, "early", &[]);
    store.sync().unwrap();
    let late = publish(&store, "late", &[(definition("early"), early)]);
    let rebooted = Store::open_at_boot(folder.path(), "the next boot").unwrap();
    assert_eq!(rebooted.peek(definition("early")).unwrap().result, early);
    assert!(rebooted.peek(definition("late")).is_none() && rebooted.snapshot(late).is_none());
    // A run that relies on what a killed run left marks that too.
    let heir = open(folder.path());
    assert!(heir.peek(definition("late")).is_some());
    publish(&heir, "heir", &[]);
    heir.sync().unwrap();
    let rebooted = Store::open_at_boot(folder.path(), "the boot after").unwrap();
    assert!(rebooted.peek(definition("late")).is_some() && rebooted.peek(definition("heir")).is_some());
}

#[test]
fn notes_and_shelves_keep_small_values() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = publish(&store, "base", &[]);
    assert_eq!(store.note(id, "diff-id"), None);
    store.set_note(id, "diff-id", b"one").unwrap();
    store.set_note(id, "diff-id", b"two").unwrap();
    assert_eq!(store.note(id, "diff-id").unwrap(), b"two");
    let torn = store.path("snapshots-v1").join(id.0.hex()).join("diff-id.note");
    std::fs::write(torn, b"torn").unwrap();
    assert_eq!(store.note(id, "diff-id"), None);
    assert!(matches!(store.set_note(ResultId::fresh(), "diff-id", b""), Err(StoreError::Incomplete(_))));

    let (one, other) = (store.shelf(Bucket::History("pack")), store.shelf(Bucket::History("pa/ck")));
    one.put("web/../RUN 1", &[1, 2]).unwrap();
    one.put("a", &[3]).unwrap();
    assert_eq!(one.get::<Vec<u8>>("web/../RUN 1").unwrap(), [1, 2]);
    assert_eq!(one.get::<String>("a"), None);
    assert_eq!(one.list::<Vec<u8>>(), [("a".to_owned(), vec![3]), ("web/../RUN 1".to_owned(), vec![1, 2])]);
    assert_eq!(other.list::<Vec<u8>>(), []);
    assert!(one.remove("a").unwrap() && !one.remove("a").unwrap());
    for bucket in [Bucket::Names, Bucket::Pins, Bucket::Handover("id")] {
        assert_eq!(store.shelf(bucket).get::<u8>("a"), None);
        store.shelf(bucket).put("a", &1).unwrap();
        assert_eq!(store.shelf(bucket).get::<u8>("a"), Some(1));
    }
}

#[test]
fn leftovers_of_the_dead_go_and_the_living_keep_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let living = open(folder.path());
    let staging = living.stage().unwrap();
    let claim_recipe = recipe();
    let key = Key {
        definition: definition("one"),
        canonical: canonical("one"),
        inputs: &[],
        recipe: &claim_recipe,
    };
    let claim = living.claim(&key).unwrap();
    let tmp = folder.path().join("tmp");
    std::fs::create_dir_all(tmp.join("dead/work-0/work")).unwrap();
    std::fs::write(tmp.join("definition-00"), "").unwrap();
    let other = open(folder.path());
    assert!(tmp.join("dead").exists());
    drop(other.write_blob().unwrap());
    assert!(!tmp.join("dead").exists() && !tmp.join("definition-00").exists());
    assert!(staging.tree().exists() && names_in(&tmp).len() == 3);
    drop((claim, staging));
    assert_eq!(names_in(&tmp), Vec::<String>::new());
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
    // What is published on it all the same does not count either.
    store.claim(&key).unwrap().publish(record(top, &[], &[])).unwrap();
    assert!(store.peek(definition("b")).is_none());
    let gone = record(ResultId::fresh(), &[], &[]);
    assert!(matches!(store.claim(&key).unwrap().publish(gone), Err(StoreError::Incomplete(_))));
}

#[test]
fn a_prune_frees_what_no_name_holds_and_only_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let base = publish(&store, "base", &[]);
    let top = publish(&store, "top", &[(definition("base"), base)]);
    let held = blob(&store, b"config");
    blob(&store, b"nobody's");
    let value = serde_json::json!({"holds": [Held::Snapshot(base), Held::Blob(held)], "more": 1});
    store.shelf(Bucket::Names).put("debian", &value).unwrap();
    std::fs::create_dir_all(store.path("records-v1/00")).unwrap();
    std::fs::write(store.path("records-v1/00/torn.json"), "{").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(90 * 24 * 3600);
    let now = std::time::SystemTime::now();
    let files = [("gone", long_ago), ("built", long_ago), ("built.walk-1", now), ("built.walk-2", long_ago)];
    for (name, used) in files {
        let file = std::fs::File::create(store.trees_folder().join(name)).unwrap();
        file.set_times(std::fs::FileTimes::new().set_accessed(used).set_modified(long_ago)).unwrap();
    }
    let usage = store.inventory().unwrap().usage();
    assert_eq!((usage.records, usage.snapshots, usage.blobs), (2, 2, 2));
    assert!(usage.reclaimable_bytes > 0 && usage.reclaimable_bytes < usage.snapshot_bytes + usage.blob_bytes);

    let other = open(folder.path());
    let prune = |store: &Store| store.prune(&Limits::default(), &Vec::new, Patience::NONE).unwrap();
    assert!(prune(&store).is_none());
    drop(other);
    let pruned = prune(&store).unwrap();
    assert_eq!(pruned.removals.steps.len(), 6, "{}", pruned.removals);
    let store = open(folder.path());
    assert_eq!(names_in(&store.trees_folder()), ["built", "built.walk-1"]);
    assert!(store.snapshot(top).is_none() && store.peek(definition("top")).is_none());
    assert!(store.snapshot(base).is_some() && store.has_blob(held));
    assert!(store.peek(definition("base")).is_some(), "a name holds all that it needs");
    let left = store.inventory().unwrap().usage();
    assert_eq!((left.reclaimable_bytes, left.snapshots), (0, 1));
    assert!(pruned.remaining >= pruned.named && pruned.named > 0);
    assert_eq!(names_in(&folder.path().join("tmp")), Vec::<String>::new());
}

#[test]
fn use_is_stamped_when_the_last_stamp_is_a_day_old() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    publish(&store, "base", &[]);
    let path = records::definition_path(&store, definition("base"));
    let stamp = || std::fs::metadata(&path).unwrap().modified().unwrap();
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    for (age, stamped) in [(day / 2, false), (day * 2, true)] {
        let before = std::time::SystemTime::now() - age;
        std::fs::File::open(&path).unwrap().set_modified(before).unwrap();
        let before = stamp();
        assert!(store.peek(definition("base")).is_some());
        store.stamp_use();
        assert_eq!(stamp() > before, stamped);
    }
}

#[test]
fn a_hit_stamps_everything_that_it_stands_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let base = publish(&store, "base", &[]);
    let stage = publish(&store, "stage", &[(definition("base"), base)]);
    publish(&store, "top", &[(definition("base"), base), (definition("stage"), stage)]);
    let paths = ["base", "stage", "top"].map(|name| records::definition_path(&store, definition(name)));
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 24 * 60 * 60);
    paths.iter().for_each(|path| std::fs::File::open(path).unwrap().set_modified(before).unwrap());
    let run = open(folder.path());
    assert!(run.peek(definition("top")).is_some(), "only the root is looked up");
    run.stamp_use();
    assert!(paths.iter().all(|path| std::fs::metadata(path).unwrap().modified().unwrap() > before));
}

#[test]
fn a_prune_waits_for_others_and_says_for_whom() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    publish(&store, "base", &[]);
    let (other, told) = (std::sync::Mutex::new(Some(open(folder.path()))), std::sync::Mutex::new(0));
    // The other one ends when it is waited for.
    let waiting = |_: &[u32]| {
        *told.lock().unwrap() += 1;
        *other.lock().unwrap() = None;
    };
    let patience = Patience { limit: std::time::Duration::from_secs(600), waiting: &waiting };
    let pruned = store.prune(&Limits::default(), &Vec::new, patience).unwrap().unwrap();
    assert_eq!((pruned.removals.steps.len(), *told.lock().unwrap()), (2, 1));
}

/// A step whose tree takes about so many bytes.
fn large(store: &Store, name: &str, bytes: usize) -> ResultId {
    let staging = store.stage().unwrap();
    std::fs::write(staging.tree().join("file"), vec![1; bytes]).unwrap();
    let result = store.publish_snapshot(staging, None).unwrap().id;
    force(store, name, &[], result);
    result
}

#[test]
fn who_published_keeps_the_store_below_its_cap() {
    const MB: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let trim = |store: &Store, most: u64| store.trim(&|_| Some(most)).unwrap();
    let fits = |store: &Store, most: u64| trim(store, most) == Trimmed::Fits;
    let age = |name: &str, hours: u64| {
        let before = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
        for path in [
            records::definition_path(&store, definition(name)),
            records::canonical_path(&store, canonical(name)),
        ] {
            std::fs::File::open(path).unwrap().set_modified(before).unwrap();
        }
    };
    for (name, hours) in [("one", 3), ("two", 1), ("three", 2)] {
        large(&store, name, 1 << 20);
        age(name, hours);
    }
    assert!(fits(&store, 4 * MB));
    assert!(fits(&store, 0), "this run has published nothing since");
    // A run of its own: 3 MB are known from the total, its own comes on top.
    let next = open(folder.path());
    large(&next, "four", 1 << 20);
    assert_eq!(next.trim(&|_| None).unwrap(), Trimmed::Fits);
    drop(next);
    let next = open(folder.path());
    large(&next, "five", 1 << 20);
    assert!(
        matches!(trim(&next, 4 * MB), Trimmed::InUse(bytes, _) if bytes > 5 * MB),
        "`store` is still there"
    );
    drop((store, next));
    let last = open(folder.path());
    large(&last, "six", 1 << 10);
    let Trimmed::Done(pruned, most) = trim(&last, 4 * MB) else { panic!("not trimmed") };
    assert_eq!(most, 4 * MB);
    let gone = |name: &str| open(folder.path()).peek(definition(name)).is_none();
    assert!(gone("one") && gone("three") && !gone("two"), "{}", pruned.removals);
    assert!(pruned.remaining <= 4 * MB - most / 10);
}

#[test]
fn a_store_that_names_keep_too_large_is_left_until_it_has_grown() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let named = large(&store, "named", 1 << 20);
    store.shelf(Bucket::Names).put("name", &serde_json::json!({"holds": [Held::Snapshot(named)]})).unwrap();
    let trim = |store: &Store| store.trim(&|_| Some(1000 * 1000)).unwrap();
    let Trimmed::Done(pruned, most) = trim(&store) else { panic!("not trimmed") };
    assert!(pruned.removals.steps.is_empty() && pruned.remaining > most && pruned.named > most);
    let (again, grown) = (open(folder.path()), open(folder.path()));
    large(&again, "small", 1 << 10);
    drop(grown);
    assert_eq!(trim(&again), Trimmed::Fits);
    let grown = open(folder.path());
    drop(again);
    large(&grown, "large", 1 << 20);
    let Trimmed::Done(pruned, _) = trim(&grown) else { panic!("not trimmed") };
    assert_eq!(pruned.removals.steps.len(), 4, "{}", pruned.removals);
    assert!(open(folder.path()).peek(definition("named")).is_some());
}

#[test]
fn damage_is_found_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let base = publish(&store, "base", &[]);
    let top = publish(&store, "top", &[(definition("base"), base)]);
    let (good, bad) = (blob(&store, b"good"), blob(&store, b"bad"));
    store.shelf(Bucket::Names).put("name", &serde_json::json!({"holds": [Held::Blob(bad)]})).unwrap();
    let find = |store: &Store| store.damage(&store.inventory().unwrap(), &mut |_| {}).unwrap();
    assert_eq!(find(&store).steps, []);
    std::fs::write(store.blob_path(bad), "bat").unwrap();
    std::fs::remove_dir_all(store.path("snapshots-v1").join(base.0.hex())).unwrap();
    let before = listing(folder.path());
    let found = find(&store);
    assert_eq!(listing(folder.path()), before, "only read");
    let mut kinds: Vec<_> =
        found.to_string().lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    kinds.sort();
    assert_eq!(kinds, ["blob", "record", "record", "snapshot"], "{found}");
    let inventory = store.inventory().unwrap();
    assert_eq!((inventory.names_of(Held::Blob(bad)), inventory.incomplete_names()), (vec!["name"], vec![]));
    assert!(store.remove(&found, Patience::NONE).unwrap());
    let store = open(folder.path());
    assert!(!store.has_blob(bad) && store.has_blob(good) && store.snapshot(top).is_none());
    assert_eq!(find(&store).steps, []);
    assert_eq!(store.inventory().unwrap().incomplete_names(), ["name"]);
}
