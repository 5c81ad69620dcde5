//! The stat cache is never wrong: whatever happens to a tree between two selections, and however soon, the
//! next one sees what a look without any cache sees. Also for writers that do not stop while it looks.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::{Place, request, tree_text};
use crate::base::listing::{Content, Item};

/// Few names, so that operations meet.
const NAMES: [&str; 8] = ["a", "b", "B", "d", "d/a", "d/e", "d/e/a", "d/e/b"];

#[derive(Clone, Debug)]
enum Change {
    /// Replaces the content in place, with `text`.
    Write(usize, u8),
    /// The same, and puts the modification time back.
    Sneak(usize, u8),
    /// Writes beside and renames over.
    Replace(usize, u8),
    /// The same, with the modification time of what it replaces.
    SneakyReplace(usize, u8),
    Remove(usize),
    Folder(usize),
    Link(usize, usize),
    HardLink(usize, usize),
    Swap(usize, usize),
    Mode(usize, bool),
    Touch(usize),
    /// Waits, in milliseconds, on either side of what makes a stamp old enough.
    Wait(u64),
    /// Selects, and keeps what was learned.
    Look,
}

fn change() -> impl Strategy<Value = Change> {
    let name = || 0..NAMES.len();
    prop_oneof![
        3 => (name(), 0..4u8).prop_map(|(name, text)| Change::Write(name, text)),
        3 => (name(), 0..4u8).prop_map(|(name, text)| Change::Sneak(name, text)),
        2 => (name(), 0..4u8).prop_map(|(name, text)| Change::Replace(name, text)),
        2 => (name(), 0..4u8).prop_map(|(name, text)| Change::SneakyReplace(name, text)),
        1 => name().prop_map(Change::Remove),
        2 => name().prop_map(Change::Folder),
        1 => (name(), name()).prop_map(|(name, target)| Change::Link(name, target)),
        1 => (name(), name()).prop_map(|(name, other)| Change::HardLink(name, other)),
        2 => (name(), name()).prop_map(|(name, other)| Change::Swap(name, other)),
        1 => (name(), any::<bool>()).prop_map(|(name, wide)| Change::Mode(name, wide)),
        1 => name().prop_map(Change::Touch),
        2 => prop_oneof![Just(0), Just(3), Just(30)].prop_map(Change::Wait),
        5 => Just(Change::Look),
    ]
}

/// Does it if the tree allows it.
fn apply(root: &Path, change: &Change) -> std::io::Result<()> {
    let at = |name: usize| root.join(NAMES[name]);
    let text = |text: u8| format!("content {text}");
    let put_back = |path: &Path, before: fs::Metadata| {
        File::options().write(true).open(path)?.set_modified(before.modified()?)
    };
    let beside = root.with_file_name("outside").join("new");
    match *change {
        Change::Write(name, letter) => fs::write(at(name), text(letter)),
        Change::Sneak(name, letter) => {
            let before = fs::symlink_metadata(at(name))?;
            File::options().write(true).open(at(name))?.write_all(text(letter).as_bytes())?;
            put_back(&at(name), before)
        }
        Change::Replace(name, letter) => {
            fs::write(&beside, text(letter))?;
            fs::rename(&beside, at(name))
        }
        Change::SneakyReplace(name, letter) => {
            let before = fs::metadata(at(name))?;
            fs::write(&beside, text(letter))?;
            put_back(&beside, before)?;
            fs::rename(&beside, at(name))
        }
        Change::Remove(name) if at(name).is_dir() => fs::remove_dir_all(at(name)),
        Change::Remove(name) => fs::remove_file(at(name)),
        Change::Folder(name) => fs::create_dir(at(name)),
        Change::Link(name, target) => symlink(NAMES[target], at(name)),
        Change::HardLink(name, other) => fs::hard_link(at(name), at(other)),
        Change::Swap(name, other) => {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            Ok(rustix::fs::renameat_with(rustix::fs::CWD, at(name), rustix::fs::CWD, at(other), flags)?)
        }
        Change::Mode(name, wide) => {
            let mode = if wide { 0o755 } else { 0o700 };
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode))
        }
        Change::Touch(name) => File::open(at(name))?.set_modified(std::time::SystemTime::now()),
        Change::Wait(milliseconds) => {
            std::thread::sleep(Duration::from_millis(milliseconds));
            Ok(())
        }
        Change::Look => Ok(()),
    }
}

/// The selection of the whole tree as text of the same form as [`tree_text`], contents as digests.
fn selected(selection: &Selection) -> Vec<String> {
    let item = |item: &Item| {
        let held = match &item.content {
            Content::Nothing => "folder".to_owned(),
            Content::Bytes(digest) => digest.to_string(),
            Content::Target(target) => format!("-> {target}"),
            Content::Device(..) => "device".to_owned(),
        };
        format!("{} {:o} {held}", item.path, item.mode)
    };
    let mut lines: Vec<String> = selection.listing().items().iter().map(item).collect();
    lines.sort();
    lines
}

/// The same, without any of this module's code.
fn really_there(root: &Path) -> Vec<String> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        let (path, mode, held) = (fields[0], fields[1], fields[3]);
        let digest = || Digest::of(fs::read(root.join(path)).unwrap()).to_string();
        let other = held == "folder" || held.starts_with("-> ");
        format!("{path} {mode} {}", if other { held.to_owned() } else { digest() })
    };
    let mut lines: Vec<String> = tree_text(root).lines().map(line).collect();
    lines.sort();
    lines
}

/// Selects everything through the cache and compares.
fn look(place: &Place) {
    let root = place.path("context");
    let context = place.context("");
    let selection = context.select(&request(&["."])).unwrap();
    assert_eq!(selected(&selection), really_there(&root));
    let uncached = Context::open(&root, Ignore::default(), None).unwrap();
    assert_eq!(uncached.select(&request(&["."])).unwrap().digest(), selection.digest());
    if root.join("d/a").is_file() {
        let single = context.select(&request(&["d/a"])).unwrap();
        assert_eq!(uncached.select(&request(&["d/a"])).unwrap().digest(), single.digest());
    }
    context.save_cache().unwrap();
    nothing_young_is_kept(&context);
}

/// Kernels that never give two states one stamp would hide a cache that believes young ones.
fn nothing_young_is_kept(context: &Context) {
    let nanos = |(seconds, nanos): stamp::Time| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let latest = nanos(stamp::now()) - 20_000_000;
    for (folder, record) in Cache::load(context.cache_file.as_ref().unwrap()).records() {
        assert!(!record.complete || nanos(record.stamp.ctime) < latest, "{folder:?}");
        let contents = record.entries.iter().filter_map(|(name, entry)| Some((name, entry.content?)));
        contents.for_each(|(name, (stamp, _))| assert!(nanos(stamp.ctime) < latest, "{name:?}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_next_look_sees_it(changes in prop::collection::vec(change(), 10..60)) {
        let place = Place::new();
        for change in &changes {
            match change {
                Change::Look => look(&place),
                // What the tree does not allow does not happen.
                change => drop(apply(&place.path("context"), change)),
            }
        }
        look(&place);
        super::settle();
        look(&place);
        look(&place);
    }
}

/// Writes files of one size until told to stop.
fn keep_writing(paths: &[PathBuf], stop: &AtomicBool) {
    let mut round = 0u64;
    while !stop.load(Ordering::Relaxed) {
        for path in paths {
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .write_all(&round.to_le_bytes().repeat(500))
                .unwrap();
            round += 1;
        }
        if round.is_multiple_of(40) {
            // Long enough for stamps to settle, so that some of what is read is kept.
            std::thread::sleep(Duration::from_millis(35));
        }
    }
}

#[test]
fn files_that_change_while_they_are_read_are_not_mistaken() {
    let place = Place::new();
    let names: Vec<String> = (0..4).map(|number| format!("f{number}")).collect();
    names.iter().for_each(|name| place.write(name, &"x".repeat(4000)));
    let paths: Vec<PathBuf> = names.iter().map(|name| place.path("context").join(name)).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| keep_writing(&paths, &stop));
        for _ in 0..40 {
            let context = place.context("");
            match context.select(&request(&["."])) {
                Ok(_) => context.save_cache().unwrap(),
                Err(ContextError::Unstable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        stop.store(true, Ordering::Relaxed);
    });
    look(&place);
    super::settle();
    look(&place);
    look(&place);
}

#[test]
fn a_settled_cache_spares_the_reading() {
    let place = Place::new();
    place.write("dir/a", "1");
    super::settle();
    look(&place);
    let context = place.context("");
    context.select(&request(&["dir"])).unwrap();
    let folder = context.tree.folder(b"dir", &[]).unwrap();
    let node = folder.entry(b"a").unwrap().node.clone().unwrap();
    let content = node.content.get().unwrap();
    assert!(content.settled && content.digest == Digest::of("1"));
    assert!(!context.tree.learned.load(Ordering::Relaxed), "nothing was read, nothing was learned");
    assert_eq!(content.meta(&node.meta).stamp.ino, fs::metadata(place.path("context/dir/a")).unwrap().ino());
}
