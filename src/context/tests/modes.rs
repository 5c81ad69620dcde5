//! The modes of what git tracks: whatever happens to a repository and to its files between two selections,
//! the next one sees what `git ls-files` says, and what a look without anything kept sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::super::*;
use super::changes::{NAMES, apply, change};
use super::{Place, request, settle};
use crate::base::testing::git;

fn repository(folder: &Path) -> bool {
    git(folder, &["init", "--quiet"])
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Path and mode of everything that the whole context selects.
fn modes(context: &Context) -> Vec<String> {
    let selection = context.select(&request(&["."])).unwrap();
    let items = selection.listing();
    items.items().iter().map(|item| format!("{} {:o}", item.path, item.mode)).collect()
}

fn context(place: &Place) -> Context {
    place.context("**/.git\n").with_git_modes()
}

/// What the context selects, as a new process with what was kept sees it, and as one without.
fn look(place: &Place) -> Vec<String> {
    let kept = context(place).recalled();
    let fresh = Context::open(&place.path("context"), kept.tree.ignore.clone(), None).unwrap();
    let (all, fresh) = (request(&["."]), fresh.with_git_modes());
    let (seen, expected) = (modes(&kept), modes(&fresh));
    assert_eq!(seen, expected);
    if let Some(remembered) = kept.remembered(&all) {
        assert_eq!(remembered, fresh.select(&all).unwrap().digest(), "what is remembered");
    }
    kept.save_cache().unwrap();
    seen
}

#[test]
fn what_is_tracked_has_the_modes_that_git_keeps() {
    let place = Place::new();
    let root = place.path("context");
    if !repository(&root) {
        return;
    }
    for path in ["plain", "tool", "bare", "d/e/a", "d/loose", "loose/a"] {
        place.write(path, path);
    }
    place.link("link", "plain");
    git(&root, &["add", "plain", "tool", "bare", "link", "d/e"]);
    for (path, to) in [("plain", 0o600), ("tool", 0o700), ("bare", 0o4711), ("d/e/a", 0o466), ("d", 0o2700)] {
        mode(&root.join(path), to);
    }
    for (path, to) in [("d/e", 0o750), ("d/loose", 0o640), ("loose", 0o700), ("loose/a", 0o710)] {
        mode(&root.join(path), to);
    }
    let expected = [
        "bare 755",
        "d 755",
        "d/e 755",
        "d/e/a 644",
        "d/loose 640",
        "link 777",
        "loose 700",
        "loose/a 710",
        "plain 644",
        "tool 755",
    ];
    assert_eq!(look(&place), expected);
    settle();
    (0..3).for_each(|_| assert_eq!(look(&place), expected));
    let disk = modes(&place.context(".git\n"));
    assert_eq!(disk[..2], ["bare 4711", "d 2700"]);
    git(&root, &["config", "core.fileMode", "false"]);
    mode(&root.join("plain"), 0o755);
    mode(&root.join("tool"), 0o644);
    let untrusting = look(&place);
    assert!(untrusting.contains(&"plain 644".to_owned()), "{untrusting:?}");
    assert!(untrusting.contains(&"tool 644".to_owned()), "it was added as 0644");
    git(&root, &["update-index", "--chmod=+x", "tool"]);
    assert!(look(&place).contains(&"tool 755".to_owned()));
}

#[test]
fn symbolic_modes_go_on_top() {
    let place = Place::new();
    let root = place.path("context");
    if !repository(&root) {
        return;
    }
    place.write("a", "a");
    git(&root, &["add", "a"]);
    mode(&root.join("a"), 0o600);
    let chmod = Some("g+w".parse().unwrap());
    let request = Request { chmod, ..request(&["a"]) };
    let mode = |context: Context| context.select(&request).unwrap().listing().items()[0].mode;
    assert_eq!((mode(context(&place)), mode(place.context(""))), (0o664, 0o620));
}

/// git makes no hard links: where somebody has made some of what it tracks, nothing changes.
#[test]
fn tracked_files_stand_for_themselves() {
    let place = Place::new();
    let root = place.path("context");
    if !repository(&root) {
        return;
    }
    ["a", "b", "d/c", "x", "y"].iter().for_each(|path| place.write(path, "1"));
    git(&root, &["add", "a", "b", "d"]);
    let digest = || context(&place).select(&request(&["."])).unwrap().digest();
    let before = digest();
    for other in ["b", "d/c"] {
        fs::remove_file(root.join(other)).unwrap();
        fs::hard_link(root.join("a"), root.join(other)).unwrap();
    }
    assert_eq!(digest(), before);
    let groups = || {
        let selection = context(&place).select(&request(&["."])).unwrap();
        let listing = selection.listing();
        listing
            .items()
            .iter()
            .filter_map(|item| Some((item.path.clone(), item.same_as.clone()?)))
            .collect::<Vec<_>>()
    };
    assert!(groups().is_empty());
    for other in ["x", "y"] {
        fs::remove_file(root.join(other)).unwrap();
        fs::hard_link(root.join("a"), root.join(other)).unwrap();
    }
    assert_eq!(groups(), [("y".to_owned(), "x".to_owned())]);
    assert_ne!(digest(), before);
}

/// The innermost repository decides, wherever the context lies in the outer one.
#[test]
fn each_file_belongs_to_its_innermost_repository() {
    let place = Place::new();
    let (outer, root) = (place.folder.path(), place.path("context"));
    if !repository(outer) {
        return;
    }
    ["a", "sub/b", "sub/loose", "linked/x"].iter().for_each(|path| place.write(path, "1"));
    repository(&root.join("sub"));
    git(&root.join("sub"), &["add", "b"]);
    git(outer, &["add", "context/a", "context/linked"]);
    git(outer, &["commit", "--quiet", "-m", "1"]);
    fs::remove_dir_all(root.join("linked")).unwrap();
    git(outer, &["worktree", "add", "--quiet", "context/linked"]);
    for path in ["a", "sub/b", "sub/loose", "linked/context/a"] {
        mode(&root.join(path), 0o600);
    }
    let seen = look(&place);
    for expected in ["a 644", "sub/b 644", "sub/loose 600", "linked/context/a 644", "sub 755"] {
        assert!(seen.contains(&expected.to_owned()), "{expected}: {seen:?}");
    }
    settle();
    (0..2).for_each(|_| assert_eq!(look(&place), seen));
    // A `.git` that is no repository belongs to nobody; what is in it belongs to the outer one.
    fs::rename(root.join("sub/.git/HEAD"), root.join("sub/.git/other")).unwrap();
    assert!(look(&place).contains(&"sub/b 600".to_owned()));
    fs::rename(root.join("sub/.git/other"), root.join("sub/.git/HEAD")).unwrap();
    assert_eq!(look(&place), seen);
}

#[test]
fn a_broken_index_is_said_and_the_disk_counts() {
    let place = Place::new();
    let root = place.path("context");
    if !repository(&root) {
        return;
    }
    place.write("a", "a");
    git(&root, &["add", "a"]);
    fs::write(root.join(".git/index"), "no index").unwrap();
    assert_eq!(context(&place).problem(), None);
    modes(&context(&place));
    let usual = context(&place);
    modes(&usual);
    assert_eq!(usual.problem(), None, "nothing had to be read");
    mode(&root.join("a"), 0o600);
    let broken = context(&place);
    assert_eq!(modes(&broken), ["a 600"]);
    let problem = broken.problem().unwrap();
    assert!(
        problem.ends_with("it does not begin as an index does; its files count with their modes on the disk")
    );
    git(&root, &["read-tree", "--empty"]);
    git(&root, &["add", "a"]);
    assert_eq!(look(&place), ["a 644"]);
}

/// Once it was kept, no file of the repository is opened and nothing is written; not even looked at where
/// all modes are usual.
#[test]
fn a_second_look_reads_no_index() {
    let place = Place::new();
    let root = place.path("context");
    if !repository(&root) {
        return;
    }
    ["a", "d/b"].iter().for_each(|path| place.write(path, "1"));
    git(&root, &["add", "."]);
    mode(&root.join("d/b"), 0o600);
    settle();
    look(&place);
    let file = context(&place).tree.cache.file().unwrap().with_extension("git");
    let before = fs::metadata(&file).unwrap();
    // Who reads them would be told that there is nothing.
    let accessed = |name: &str| fs::metadata(root.join(".git").join(name)).unwrap();
    let index = accessed("index");
    for _ in 0..2 {
        let kept = context(&place);
        assert_eq!(modes(&kept), ["a 644", "d 755", "d/b 644"]);
        assert!(!kept.tree.modes.as_ref().unwrap().has_read(), "the index was read");
        kept.save_cache().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().ino(), before.ino(), "nothing is written");
    }
    assert_eq!(accessed("index").ctime_nsec(), index.ctime_nsec());
}

/// What is done to a repository.
#[derive(Clone, Debug)]
enum GitChange {
    /// Something that has nothing to do with git.
    Tree(super::changes::Change),
    Add(usize),
    Uncache(usize),
    Chmod(usize, u32),
    Executable(usize, bool),
    FileMode(bool),
    Inner,
    Look,
}

fn git_change() -> impl Strategy<Value = GitChange> {
    let name = || 0..NAMES.len();
    let modes = prop_oneof![Just(0o600), Just(0o700), Just(0o644), Just(0o755), Just(0o664), Just(0o2711)];
    prop_oneof![
        6 => change().prop_map(GitChange::Tree),
        4 => name().prop_map(GitChange::Add),
        2 => name().prop_map(GitChange::Uncache),
        5 => (name(), modes).prop_map(|(name, mode)| GitChange::Chmod(name, mode)),
        1 => (name(), any::<bool>()).prop_map(|(name, executable)| GitChange::Executable(name, executable)),
        1 => any::<bool>().prop_map(GitChange::FileMode),
        1 => Just(GitChange::Inner),
        4 => Just(GitChange::Look),
    ]
}

/// Runs git, which may refuse.
fn try_git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent");
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

fn act(root: &Path, change: &GitChange) {
    match change {
        GitChange::Tree(change) => drop(apply(root, change)),
        GitChange::Add(name) => drop(try_git(root, &["add", "--", NAMES[*name]])),
        GitChange::Uncache(name) => drop(try_git(root, &["rm", "-r", "-q", "--cached", "--", NAMES[*name]])),
        // Through no link: what it leads to may be anything.
        GitChange::Chmod(name, to)
            if root.join(NAMES[*name]).canonicalize().ok() == Some(root.join(NAMES[*name])) =>
        {
            // Folders stay open to whoever runs the tests.
            let to = if root.join(NAMES[*name]).is_dir() { to | 0o700 } else { *to };
            mode(&root.join(NAMES[*name]), to);
        }
        GitChange::Executable(name, executable) => {
            let flag = if *executable { "--chmod=+x" } else { "--chmod=-x" };
            try_git(root, &["update-index", flag, "--", NAMES[*name]]);
        }
        GitChange::FileMode(trusted) => {
            git(root, &["config", "core.fileMode", &trusted.to_string()]);
        }
        // Another repository comes and goes.
        GitChange::Inner if root.join("d/.git").exists() => drop(fs::remove_dir_all(root.join("d/.git"))),
        GitChange::Inner
            if root.join("d").canonicalize().ok() == Some(root.join("d")) && root.join("d").is_dir() =>
        {
            repository(&root.join("d"));
            try_git(&root.join("d"), &["add", "a"]);
        }
        _ => {}
    }
}

/// One repository, by git's own word.
struct Told {
    /// Its root below the context, with a slash at the end; empty for the context itself.
    root: String,
    /// Whether what is tracked is executable, by path in the context.
    files: BTreeMap<String, bool>,
    folders: BTreeSet<String>,
    trusted: bool,
}

fn told(context: &Path, root: &str) -> Told {
    let folder = context.join(root);
    let trusted = try_git(&folder, &["config", "core.fileMode"]).trim() != "false";
    let (mut files, mut folders) = (BTreeMap::new(), BTreeSet::new());
    for line in try_git(&folder, &["ls-files", "--stage", "-z"]).split_terminator('\0') {
        let (stage, path) = line.split_once('\t').unwrap();
        let path = format!("{root}{path}");
        folders.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        if stage.starts_with("160000") {
            folders.insert(path);
        } else {
            files.insert(path, stage.starts_with("100755"));
        }
    }
    Told { root: root.to_owned(), files, folders, trusted }
}

/// The modes that everything should have.
fn expected(root: &Path) -> Vec<String> {
    let there = super::tree_text(root);
    let fields = |line: &str| {
        let mut fields = line.split(' ');
        let (path, mode) = (fields.next().unwrap(), fields.next().unwrap());
        (path.to_owned(), u32::from_str_radix(mode, 8).unwrap())
    };
    let there: Vec<(String, u32)> = there.lines().map(fields).collect();
    let heads = there.iter().filter_map(|(path, _)| path.strip_suffix(".git/HEAD"));
    let repositories: Vec<Told> = heads.map(|inner| told(root, inner)).collect();
    let line = |(path, on_disk): &(String, u32)| {
        let kind = root.join(path).symlink_metadata().unwrap();
        let inside = if kind.is_dir() { format!("{path}/") } else { path.clone() };
        let around = repositories.iter().filter(|told| inside.starts_with(&told.root));
        let told = around.max_by_key(|told| told.root.len()).unwrap();
        let usual = |executable: bool| if executable { 0o755 } else { 0o644 };
        let mode = match told.files.get(path) {
            _ if kind.is_symlink() => 0o777,
            _ if kind.is_dir() && told.folders.contains(path) => 0o755,
            Some(_) if kind.is_file() && told.trusted => usual(on_disk & 0o100 != 0),
            Some(executable) if kind.is_file() => usual(*executable),
            _ => *on_disk,
        };
        format!("{path} {mode:o}")
    };
    let shown = |(path, _): &&(String, u32)| !path.split('/').any(|part| part == ".git");
    let mut lines: Vec<String> = there.iter().filter(shown).map(line).collect();
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_modes_are_those_that_git_tells(changes in prop::collection::vec(git_change(), 10..50)) {
        let place = Place::new();
        let root = place.path("context").canonicalize().unwrap();
        if !repository(&root) {
            return Ok(());
        }
        for change in &changes {
            act(&root, change);
            if matches!(change, GitChange::Look) {
                let mut seen = look(&place);
                seen.sort();
                prop_assert_eq!(seen, expected(&root));
            } else {
                let (kept, all) = (context(&place).recalled(), request(&["."]));
                let fresh = Context::open(&root, kept.tree.ignore.clone(), None).unwrap().with_git_modes();
                prop_assert_eq!(modes(&kept), modes(&fresh));
                let remembered = kept.remembered(&all);
                prop_assert!(remembered.is_none_or(|digest| digest == fresh.select(&all).unwrap().digest()));
            }
        }
        look(&place);
        settle();
        let mut seen = look(&place);
        prop_assert_eq!(&seen, &look(&place));
        seen.sort();
        prop_assert_eq!(seen, expected(&root));
    }
}
