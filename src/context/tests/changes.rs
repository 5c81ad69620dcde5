//! The stat cache is never wrong: whatever happens to a tree between two selections, and however soon, the
//! next one sees what a look without any cache sees. Also for writers that do not stop while it looks.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::super::*;
use super::{Place, request, tree_text};
use crate::base::diag::SourceFile;
use crate::base::listing::{Content, Item};
use crate::base::testing::{as_root, available};

/// Few names, so that operations meet. Two differ in case alone.
pub(super) const NAMES: [&str; 8] = ["a", "b", "B", "d", "d/a", "d/e", "d/e/a", "d/e/b"];

/// What is selected: names, what is in folders that are listed by nothing else, and everything.
const SOURCES: [&str; 15] =
    ["a", "b", "B", "d", "d/a", "d/e", "d/e/a", "d/e/b", ".", "*", "d/*", "d/e/*", "b/*", "*/a", "B/e/*"];

/// What the ignore file says, from one moment on.
const IGNORES: [&str; 4] = ["", "b\nd/e\n", "d\n!d/e/b\n", "*\n!B\n!d/a\n"];

#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Replaces the content in place, with `text`.
    Write(usize, u8),
    /// The same, and puts the modification time back.
    Sneak(usize, u8),
    /// Writes beside and renames over.
    Replace(usize, u8),
    /// The same, with the modification time of what it replaces.
    SneakyReplace(usize, u8),
    Remove(usize),
    /// Removes and makes anew at once, with the size and modification time of before: most file systems
    /// give the new file the old one's inode.
    Renew(usize, u8),
    Folder(usize),
    /// Makes or removes a name and puts the modification time of its folder back.
    SneakIn(usize),
    Link(usize, usize),
    /// Replaces a link by one to somewhere else.
    Retarget(usize, usize),
    HardLink(usize, usize),
    /// Gives a file a second name outside of the tree, or edits it through that name.
    Outside(usize, u8),
    /// Moves over whatever a rename can replace, also to a name that differs in case alone.
    Rename(usize, usize),
    /// Files, folders and links change places.
    Swap(usize, usize),
    /// Moves out of the tree, or what was moved out back in.
    Away(usize),
    /// Moves in a folder with files that were there long before.
    MoveIn(usize, u8),
    Mode(usize, bool),
    Touch(usize),
    /// Gives it a modification time of long ago, the same each time.
    Backdate(usize),
    /// Another ignore file from now on.
    Ignore(usize),
    /// Waits, in milliseconds, on either side of what makes a stamp old enough.
    Wait(u64),
    /// Selects, and keeps what was learned.
    Look,
    /// The same for one of what is wanted alone.
    LookAt(usize),
}

pub(super) fn change() -> impl Strategy<Value = Change> {
    let name = || 0..NAMES.len();
    let edits = prop_oneof![
        3 => (name(), 0..4u8).prop_map(|(name, text)| Change::Write(name, text)),
        3 => (name(), 0..4u8).prop_map(|(name, text)| Change::Sneak(name, text)),
        2 => (name(), 0..4u8).prop_map(|(name, text)| Change::Replace(name, text)),
        2 => (name(), 0..4u8).prop_map(|(name, text)| Change::SneakyReplace(name, text)),
        2 => (name(), 0..4u8).prop_map(|(name, text)| Change::Renew(name, text)),
        2 => (name(), 0..4u8).prop_map(|(name, text)| Change::Outside(name, text)),
        1 => (name(), any::<bool>()).prop_map(|(name, wide)| Change::Mode(name, wide)),
        1 => name().prop_map(Change::Touch),
        1 => name().prop_map(Change::Backdate),
    ];
    let moves = prop_oneof![
        1 => name().prop_map(Change::Remove),
        2 => name().prop_map(Change::Folder),
        1 => name().prop_map(Change::SneakIn),
        1 => (name(), name()).prop_map(|(name, target)| Change::Link(name, target)),
        1 => (name(), name()).prop_map(|(name, target)| Change::Retarget(name, target)),
        1 => (name(), name()).prop_map(|(name, other)| Change::HardLink(name, other)),
        2 => (name(), name()).prop_map(|(name, other)| Change::Rename(name, other)),
        2 => (name(), name()).prop_map(|(name, other)| Change::Swap(name, other)),
        2 => name().prop_map(Change::Away),
        1 => (name(), 0..4u8).prop_map(|(name, text)| Change::MoveIn(name, text)),
    ];
    let looks = prop_oneof![
        2 => prop_oneof![Just(0), Just(3), Just(30)].prop_map(Change::Wait),
        4 => Just(Change::Look),
        3 => (0..SOURCES.len() + 3).prop_map(Change::LookAt),
        1 => (0..IGNORES.len()).prop_map(Change::Ignore),
    ];
    prop_oneof![5 => edits, 4 => moves, 3 => looks]
}

fn text(letter: u8) -> String {
    format!("content {letter}")
}

/// Gives `path` the modification time that `before` tells.
fn put_back(path: &Path, before: &fs::Metadata) -> std::io::Result<()> {
    File::open(path)?.set_modified(before.modified()?)
}

/// Does it if the tree allows it.
pub(super) fn apply(root: &Path, change: &Change) -> std::io::Result<()> {
    let at = |name: usize| root.join(NAMES[name]);
    let outside = root.with_file_name("outside");
    let beside = outside.join("new");
    match *change {
        Change::Write(name, letter) => fs::write(at(name), text(letter)),
        Change::Sneak(name, letter) => {
            let before = fs::symlink_metadata(at(name))?;
            File::options().write(true).open(at(name))?.write_all(text(letter).as_bytes())?;
            put_back(&at(name), &before)
        }
        Change::Replace(name, letter) => {
            fs::write(&beside, text(letter))?;
            fs::rename(&beside, at(name))
        }
        Change::SneakyReplace(name, letter) => {
            let before = fs::metadata(at(name))?;
            fs::write(&beside, text(letter))?;
            put_back(&beside, &before)?;
            fs::rename(&beside, at(name))
        }
        Change::Renew(name, letter) => {
            let before = fs::metadata(at(name))?;
            fs::remove_file(at(name))?;
            fs::write(at(name), text(letter))?;
            put_back(&at(name), &before)
        }
        Change::Outside(name, letter) => {
            let other = outside.join(format!("other {name}"));
            match fs::write(&other, text(letter)) {
                Ok(()) if fs::metadata(&other)?.nlink() > 1 => Ok(()),
                _ => {
                    fs::remove_file(&other)?;
                    fs::hard_link(at(name), other)
                }
            }
        }
        Change::Mode(name, wide) => {
            let mode = if wide { 0o755 } else { 0o700 };
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode))
        }
        Change::Touch(name) => File::open(at(name))?.set_modified(SystemTime::now()),
        Change::Backdate(name) => File::open(at(name))?.set_modified(LONG_AGO),
        Change::Wait(milliseconds) => {
            std::thread::sleep(Duration::from_millis(milliseconds));
            Ok(())
        }
        _ => rearrange(root, change),
    }
}

const LONG_AGO: SystemTime = SystemTime::UNIX_EPOCH;

/// What is done to names and not to files.
fn rearrange(root: &Path, change: &Change) -> std::io::Result<()> {
    let at = |name: usize| root.join(NAMES[name]);
    let outside = root.with_file_name("outside");
    match *change {
        Change::Remove(name) if at(name).is_dir() => fs::remove_dir_all(at(name)),
        Change::Remove(name) => fs::remove_file(at(name)),
        Change::Folder(name) => fs::create_dir(at(name)),
        Change::SneakIn(name) => {
            let folder = at(name).parent().unwrap().to_owned();
            let before = fs::metadata(&folder)?;
            File::create_new(at(name)).map(drop).or_else(|_| fs::remove_file(at(name)))?;
            put_back(&folder, &before)
        }
        Change::Link(name, target) => symlink(NAMES[target], at(name)),
        Change::Retarget(name, target) => {
            fs::read_link(at(name))?;
            fs::remove_file(at(name))?;
            symlink(NAMES[target], at(name))
        }
        Change::HardLink(name, other) => fs::hard_link(at(name), at(other)),
        Change::Rename(name, other) => fs::rename(at(name), at(other)),
        Change::Swap(name, other) => {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            Ok(rustix::fs::renameat_with(rustix::fs::CWD, at(name), rustix::fs::CWD, at(other), flags)?)
        }
        Change::Away(name) => {
            let away = outside.join(format!("away {name}"));
            fs::rename(&away, at(name)).or_else(|_| fs::rename(at(name), &away))
        }
        Change::MoveIn(name, letter) => {
            let made = outside.join(format!("made {letter}"));
            fs::create_dir_all(made.join("e"))?;
            for path in ["a", "e/b"] {
                fs::write(made.join(path), text(letter))?;
            }
            for path in ["a", "e/b", "e", ""] {
                File::open(made.join(path))?.set_modified(LONG_AGO)?;
            }
            fs::rename(made, at(name))
        }
        _ => Ok(()),
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

/// The digest of what `source` selects, or what is said instead.
fn digest(context: &Context, source: &str) -> Result<Digest, String> {
    context.select(&request(&[source])).map(|selection| selection.digest()).map_err(|error| error.to_string())
}

/// Selects `source` through the cache as another process would and compares with a look without any. Whatever
/// is remembered must be the same.
fn compare(place: &Place, ignore: &str, source: &str) -> Context {
    let context = place.context(ignore).recalled();
    let rules = Ignore::parse(&SourceFile::new(".dockerignore", ignore)).unwrap();
    let uncached = || Context::open(&place.path("context"), rules.clone(), None).unwrap();
    for wanted in wanted() {
        if let Some(remembered) = context.remembered(&wanted) {
            let selected = uncached().select(&wanted).map(|selection| selection.digest());
            assert_eq!(Ok(remembered), selected.map_err(|error| error.to_string()), "{wanted:?}");
        }
    }
    assert_eq!(digest(&context, source), digest(&uncached(), source), "{source}");
    context
}

/// What is asked for.
fn wanted() -> Vec<Request> {
    let mut wanted: Vec<Request> = SOURCES.iter().map(|source| request(&[source])).collect();
    let excludes = vec!["a".to_owned(), "**/b".to_owned()];
    wanted.push(Request { excludes, ..request(&["."]) });
    wanted.push(Request { parents: true, ..request(&["d/./*/*"]) });
    wanted.push(Request { chmod: Some("u+x".parse().unwrap()), ..request(&["a", "d/*"]) });
    wanted
}

fn is_remembered(place: &Place, ignore: &str, source: &str) -> bool {
    place.context(ignore).recalled().remembered(&request(&[source])).is_some()
}

/// Selects everything through the cache, compares, and keeps what was learned.
fn look(place: &Place, ignore: &str) {
    let context = compare(place, ignore, ".");
    if ignore.is_empty() {
        let selection = context.select(&request(&["."])).unwrap();
        assert_eq!(selected(&selection), really_there(&place.path("context")));
    }
    keep(&context);
}

/// Selects one thing through the cache, as the only thing of a run, and keeps what was learned.
fn look_at(place: &Place, ignore: &str, wanted: &Request) {
    compare(place, ignore, "a");
    let context = place.context(ignore).recalled();
    // What is not there is not there for a while.
    let _ = context.select(wanted);
    keep(&context);
}

fn keep(context: &Context) {
    context.save_cache().unwrap();
    if context.tree.cache.file().unwrap().exists() {
        nothing_young_is_kept(context);
    }
}

/// Kernels that never give two states one stamp would hide a cache that believes young ones.
fn nothing_young_is_kept(context: &Context) {
    let nanos = |(seconds, nanos): stamp::Time| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let latest = nanos(stamp::now()) - 20_000_000;
    for (folder, known) in cache::Cache::load(context.tree.cache.file().unwrap()).folders() {
        assert!(!known.complete || nanos(known.stamp.ctime) < latest, "{folder:?}");
        let contents = known.filter_map(|entry| Some((entry.name, entry.content?)));
        contents.for_each(|(name, (stamp, _))| assert!(nanos(stamp.ctime) < latest, "{name:?}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_next_look_sees_it(changes in prop::collection::vec(change(), 10..60)) {
        let place = Place::new();
        let mut ignore = "";
        for change in &changes {
            match change {
                Change::Look => look(&place, ignore),
                Change::LookAt(which) => look_at(&place, ignore, &wanted()[*which]),
                Change::Ignore(which) => ignore = IGNORES[*which],
                // What the tree does not allow does not happen.
                change => drop(apply(&place.path("context"), change)),
            }
            // Whatever the cache holds from the looks so far, it must not mislead.
            compare(&place, ignore, ".");
        }
        look(&place, ignore);
        super::settle();
        look(&place, ignore);
        prop_assert!(is_remembered(&place, ignore, "."));
        look(&place, "");
        compare(&place, ignore, ".");
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
    look(&place, "");
    super::settle();
    look(&place, "");
    look(&place, "");
}

#[test]
fn a_settled_cache_spares_the_reading() {
    let place = Place::new();
    place.write("dir/a", "1");
    super::settle();
    look(&place, "");
    let context = place.context("");
    context.select(&request(&["dir"])).unwrap();
    let folder = context.tree.folder(b"dir", &[]).unwrap();
    let node = folder.entry(b"a").unwrap().node().unwrap();
    let content = node.content.get().unwrap();
    assert!(content.settled && content.digest == Digest::of("1"));
    assert!(!context.tree.learned.load(Ordering::Relaxed), "nothing was read, nothing was learned");
    assert_eq!(content.meta(&node.meta).stamp.ino, fs::metadata(place.path("context/dir/a")).unwrap().ino());
}

/// Runs `test` in a mount namespace of its own, which takes all mounts with it when it ends.
fn with_mounts(test: impl FnOnce() + Send) {
    let enter = || {
        // SAFETY: the descriptor table stays shared; only this thread's namespace and folder change.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        test();
    };
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap());
}

/// Another file system appears below the tree, changes and goes; a file is mounted over a file.
#[test]
fn what_is_mounted_into_a_tree_is_seen() {
    if !as_root() {
        return;
    }
    with_mounts(|| {
        let place = Place::new();
        ["d/a", "e/a", "f"].iter().for_each(|path| place.write(path, "below"));
        super::settle();
        look(&place, "");
        let without = digest(&place.context(""), ".");
        let (root, flags) = (place.path("context"), MountFlags::empty());
        mount("none", root.join("d"), "tmpfs", flags, None::<&std::ffi::CStr>).unwrap();
        look(&place, "");
        place.write("d/a", "mount");
        super::settle();
        look(&place, "");
        let before = fs::metadata(root.join("d/a")).unwrap();
        place.write("d/a", "other");
        put_back(&root.join("d/a"), &before).unwrap();
        look(&place, "");
        mount_bind(root.join("d/a"), root.join("f")).unwrap();
        mount_bind(root.join("d"), root.join("e")).unwrap();
        (0..2).for_each(|_| look(&place, ""));
        super::settle();
        (0..2).for_each(|_| look(&place, ""));
        for path in ["f", "e", "d"] {
            unmount(root.join(path), UnmountFlags::DETACH).unwrap();
            look(&place, "");
        }
        assert_eq!(digest(&place.context(""), "."), without);
        // Over something that is not shown.
        let socket = std::os::unix::net::UnixListener::bind(root.join("s")).unwrap();
        super::settle();
        (0..2).for_each(|_| keep(&compare(&place, "", ".")));
        mount_bind(place.path("outside/secret"), root.join("s")).unwrap();
        compare(&place, "", ".");
        unmount(root.join("s"), UnmountFlags::DETACH).unwrap();
        drop(socket);
    });
}

/// A merged folder of an overlay has the stamp of its topmost layer, also over other layers.
#[test]
fn another_layer_below_an_overlay_is_seen() {
    if !as_root() {
        return;
    }
    with_mounts(|| {
        let place = Place::new();
        let layers = place.path("layers");
        for path in ["top/d/a", "one/d/b", "two/d/c", "upper/x", "work/x"] {
            fs::create_dir_all(layers.join(path).parent().unwrap()).unwrap();
            fs::write(layers.join(path), "same").unwrap();
        }
        fs::remove_file(layers.join("work/x")).unwrap();
        super::settle();
        let mut seen = Vec::new();
        for lower in ["one", "two"] {
            let shown = layers.display();
            let options =
                format!("lowerdir={shown}/top:{shown}/{lower},upperdir={shown}/upper,workdir={shown}/work");
            let options = std::ffi::CString::new(options).unwrap();
            let context = place.path("context");
            if mount("none", &context, "overlay", MountFlags::empty(), options.as_c_str()).is_err() {
                available(false, "overlays here");
                return;
            }
            (0..2).for_each(|_| look(&place, ""));
            seen.push(fs::metadata(context.join("d")).map(|meta| (meta.dev(), meta.ctime_nsec())).unwrap());
            unmount(&context, UnmountFlags::DETACH).unwrap();
        }
        assert_eq!(seen[0], seen[1], "otherwise it shows nothing");
    });
}

/// A name that became something else after it was listed is not left out.
#[test]
fn what_became_a_link_meanwhile_is_not_left_out() {
    let place = Place::new();
    place.write("a", "1");
    place.link("b", "a");
    let context = place.context("");
    context.tree.below(b"", &[], &|_| false).unwrap();
    apply(&place.path("context"), &Change::Swap(0, 1)).unwrap();
    let error = context.select(&request(&["."])).unwrap_err();
    assert!(matches!(error, ContextError::Unstable { .. }), "{error}");
    look(&place, "");
}
