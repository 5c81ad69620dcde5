//! Tests of selecting and copying on real folders. Copies need root, because they set owners.

mod changes;
mod earlier;
mod modes;
mod remembered;

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::*;
use crate::base::testing::{no_access, samples};

samples! { ContextError:
    Missing { pattern: "requirments.txt".into(), ignored: None, similar: Some("requirements.txt".into()) },
    Missing {
        pattern: "notes.log".into(),
        ignored: Some(Rule { file: ".dockerignore".into(), line: 3, text: "*.log".into() }),
        similar: None,
    },
    Missing { pattern: "src/".into(), ignored: None, similar: None },
    Pattern { pattern: "src/[a".into(), reason: "a bracket is not closed" },
    LinkLoop { pattern: "current/app".into() },
    Unstable { path: "data/log.txt".into() },
    Path(no_access()),
}

samples! { CopyError:
    Changed { path: "src/main.py".into() },
    NotAFolder { path: "/app/bin".into() },
    ReplacesFolder { path: "/app/data".into() },
    LinkLoop { path: "/app/current".into() },
    Path(no_access()),
}
use crate::base::diag::SourceFile;
use crate::base::listing::{Listing, escape};
use crate::base::testing::as_root;

/// A context, a place for its stat cache, and a target.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        ["context", "caches", "target", "outside"]
            .iter()
            .for_each(|name| fs::create_dir(place.folder.path().join(name)).unwrap());
        fs::write(place.folder.path().join("outside/secret"), "host").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path("context").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.path("context").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn context(&self, ignore: &str) -> Context {
        let ignore = Ignore::parse(&SourceFile::new(".dockerignore", ignore)).unwrap();
        Context::open(&self.path("context"), ignore, Some(self.path("caches"))).unwrap()
    }

    fn target(&self) -> RootDir {
        RootDir::open(&self.path("target")).unwrap()
    }

    /// Copies `sources` to `destination` from a fresh context.
    fn copy(&self, sources: &[&str], destination: &str) -> Result<(), CopyError> {
        let context = self.context("");
        let selection = context.select(&request(sources)).unwrap();
        context.copy(&selection, &self.target(), &placement(destination))
    }

    /// The target as text.
    fn written(&self) -> String {
        tree_text(&self.path("target"))
    }
}

fn request(sources: &[&str]) -> Request {
    Request { sources: sources.iter().map(ToString::to_string).collect(), ..Request::default() }
}

fn placement(destination: &str) -> Placement {
    Placement { destination: destination.to_owned(), ..Placement::default() }
}

/// Path, kind, mode, owner and content of all below `root`, a line each, made with the standard library.
fn tree_text(root: &Path) -> String {
    let mut lines = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let shown = escape(path.strip_prefix(root).unwrap().as_os_str().as_bytes());
            let kind = meta.file_type();
            let held = match () {
                () if kind.is_dir() => {
                    pending.push(path);
                    "folder".to_owned()
                }
                () if kind.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()),
                () if kind.is_file() => escape(&fs::read(&path).unwrap()),
                () if kind.is_fifo() => "fifo".to_owned(),
                () => format!("device {}", meta.rdev()),
            };
            let mode = if kind.is_symlink() { 0o777 } else { meta.mode() & 0o7777 };
            lines.push(format!("{shown} {mode:o} {}:{} {held}\n", meta.uid(), meta.gid()));
        }
    }
    lines.sort();
    lines.concat()
}

/// Makes what was written so far old enough for its stamps to be believed, by the clock that stamps.
fn settle() {
    let milliseconds = |(seconds, nanos): stamp::Time| seconds * 1000 + i64::from(nanos / 1_000_000);
    let start = milliseconds(stamp::now());
    while milliseconds(stamp::now()) < start + 60 {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn paths(selection: &Selection) -> Vec<String> {
    selection.listing().items().iter().map(|item| item.path.clone()).collect()
}

#[test]
fn sources_are_found_as_in_buildkit() {
    let place = Place::new();
    for path in ["a.txt", "b.txt", "dir/c.txt", "dir/sub/d.txt", "other/c.txt", "[x]"] {
        place.write(path, path);
    }
    place.link("dir/link", "c.txt");
    let context = place.context("");
    let select = |sources: &[&str]| paths(&context.select(&request(sources)).unwrap());
    assert_eq!(select(&["a.txt"]), ["a.txt"]);
    assert_eq!(select(&["/../a.txt", "./b.txt"]), ["a.txt", "b.txt"]);
    assert_eq!(select(&["*.txt"]), ["a.txt", "b.txt"]);
    assert_eq!(select(&["*/c.txt"]), ["dir/c.txt", "other/c.txt"]);
    assert_eq!(select(&["d*"]), ["dir/c.txt", "dir/link", "dir/sub", "dir/sub/d.txt"]);
    assert_eq!(select(&["dir/sub/"]), ["dir/sub/d.txt"]);
    assert_eq!(select(&["[[]x]"]), ["[x]"]);
    assert_eq!(select(&["nothing*", "none/*"]), [""; 0]);
    assert_eq!(select(&["."]).len(), 10);
    let refused = context.select(&request(&["[a"])).unwrap_err().to_string();
    assert_eq!(refused, "`[a` is not a valid pattern: a `[` is not closed");
}

#[test]
fn what_is_missing_is_explained() {
    let place = Place::new();
    for path in ["package.json", "node_modules/x/y", "src/app.py", "notes.md"] {
        place.write(path, path);
    }
    place.link("circle", "circle");
    place.link("dangling", "nowhere");
    let context = place.context("# rules\nnode_modules\n*.md\n");
    let say = |source: &str| context.select(&request(&[source])).unwrap_err().to_string();
    assert_eq!(say("pakage.json"), "`pakage.json` not found\nhelp: did you mean `package.json`?");
    assert_eq!(say("src/App.py"), "`src/App.py` not found\nhelp: did you mean `src/app.py`?");
    assert_eq!(say("zzz"), "`zzz` not found");
    assert_eq!(
        say("notes.md"),
        "`notes.md` not found: rule `*.md` (.dockerignore:3) excludes it\n\
                help: take that rule out, or write `!notes.md` below it"
    );
    let rule = "`node_modules/x` not found: rule `node_modules` (.dockerignore:2) excludes it\n";
    assert!(say("node_modules/x").starts_with(rule));
    assert_eq!(say("package.json/x"), "`package.json/x` not found");
    assert_eq!(say("circle"), "`circle` leads through too many symbolic links");
    assert_eq!(say("dangling"), "`dangling` not found");
    assert_eq!(say("dang*"), "`dang*` not found");
    assert!(Context::open(&place.path("nowhere"), Ignore::default(), None).is_err());
}

#[test]
fn links_of_the_context_never_lead_out_of_it() {
    let place = Place::new();
    place.write("real/file", "inside");
    place.write("secret", "inside too");
    place.link("absolute", "/real");
    place.link("real/up", "../../../../secret");
    place.link("out", "../outside/secret");
    place.link("far", place.path("outside").to_str().unwrap());
    let context = place.context("");
    let listing = |source: &str| context.select(&request(&[source])).map(|found| found.listing().to_string());
    assert!(listing("absolute/file").unwrap().contains("real/file"));
    assert_eq!(listing("real/up").unwrap(), listing("secret").unwrap());
    assert!(listing("out").is_err());
    assert!(listing("far").is_err());
    assert!(listing("far/secret").is_err());
}

#[test]
fn only_what_the_rules_show_is_selected() {
    let place = Place::new();
    for path in ["a", "b.log", "skip/x", "skip/keep/y", "skip/keep/z.log", "empty/b.log", ".wh.a"] {
        place.write(path, path);
    }
    let context = place.context("*.log\nskip\n!skip/keep/y\nempty/*\n");
    let all = paths(&context.select(&request(&["."])).unwrap());
    assert_eq!(all, ["a", "empty", "skip", "skip/keep", "skip/keep/y"]);
    assert_eq!(paths(&context.select(&request(&["skip"])).unwrap()), ["skip/keep", "skip/keep/y"]);
    assert!(context.select(&request(&["skip/x"])).is_err());
    assert!(context.select(&request(&[".wh.a"])).is_err());
}

#[test]
fn ignored_folders_are_not_entered() {
    let place = Place::new();
    place.write("a", "");
    place.write("deep/x/y", "");
    place.write("way/in/file", "");
    let context = place.context("deep\nway\n!way/in\n");
    context.select(&request(&["."])).unwrap();
    let (folders, _) = context.tree.all_seen();
    let mut seen: Vec<_> = folders.iter().map(|folder| escape(&folder.path)).collect();
    seen.sort();
    assert_eq!(seen, ["", "way", "way/in"]);
}

#[test]
fn literal_sources_look_only_at_themselves() {
    let place = Place::new();
    place.write("a", "1");
    place.write("dir/b", "2");
    let context = place.context("");
    context.select(&request(&["a", "dir/b"])).unwrap();
    assert!(context.tree.all_seen().0.is_empty());
}

#[test]
fn the_digest_is_of_what_is_written_and_nothing_else() {
    let place = Place::new();
    place.write("dir/a", "1");
    place.write("dir/sub/b", "2");
    let digest = |request: &Request| place.context("").select(request).unwrap().digest();
    let (folder, file) = (request(&["dir"]), request(&["dir/a"]));
    let chmod = Request { chmod: Some("755".parse().unwrap()), ..folder.clone() };
    let before = (digest(&folder), digest(&chmod));
    let a = place.path("context/dir/a");
    File::open(&a).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(digest(&folder), before.0, "times do not count");
    fs::rename(place.path("context/dir"), place.path("context/renamed")).unwrap();
    assert_eq!(digest(&request(&["renamed"])), before.0, "the name of a copied folder does not count");
    fs::rename(place.path("context/renamed"), place.path("context/dir")).unwrap();
    fs::set_permissions(place.path("context/dir"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(digest(&folder), before.0, "nor does its mode");
    fs::set_permissions(&a, fs::Permissions::from_mode(0o600)).unwrap();
    assert_ne!(digest(&folder), before.0, "the mode of a file counts");
    assert_eq!(digest(&chmod), before.1, "unless --chmod sets it");
    fs::set_permissions(place.path("context/dir/sub"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_ne!(digest(&folder), before.0, "the mode of a folder in it counts");
    let single = digest(&file);
    fs::rename(&a, place.path("context/dir/c")).unwrap();
    assert_ne!(digest(&request(&["dir/c"])), single, "the name of a file counts");
}

#[test]
fn hard_links_count_as_groups() {
    let place = Place::new();
    place.write("dir/a", "1");
    place.write("dir/b", "1");
    let digest = || place.context("").select(&request(&["dir"])).unwrap().digest();
    let separate = digest();
    fs::hard_link(place.path("context/dir/a"), place.path("outside/a")).unwrap();
    assert_eq!(digest(), separate, "a link from outside is none");
    fs::remove_file(place.path("context/dir/b")).unwrap();
    fs::hard_link(place.path("context/dir/a"), place.path("context/dir/b")).unwrap();
    assert_ne!(digest(), separate);
}

#[test]
fn excludes_and_parents_filter() {
    let place = Place::new();
    for path in ["hom.txt", "home", "x/a/keep", "x/a/drop.md", "x/b/only.md", "y/a/keep"] {
        place.write(path, path);
    }
    let context = place.context("");
    let select = |sources: &[&str], excludes: &[&str], parents| {
        let excludes = excludes.iter().map(ToString::to_string).collect();
        context.select(&Request { excludes, parents, ..request(sources) }).unwrap()
    };
    let shown = |selection: &Selection| -> Vec<String> {
        selection
            .parts
            .iter()
            .flat_map(|part| part.entries.iter().map(|entry| escape(part.relative(entry))))
            .collect()
    };
    assert_eq!(shown(&select(&["hom*"], &["*.txt"], false)), ["hom.txt", "home"], "not what is named itself");
    assert_eq!(shown(&select(&["x"], &["*/*.md"], false)), ["a", "a/keep", "b"]);
    assert_eq!(shown(&select(&["x"], &["*", "!a/keep"], false)), ["a", "a/keep"]);
    assert_eq!(shown(&select(&["x/a/keep"], &[], true)), ["x", "x/a", "x/a/keep"]);
    assert_eq!(shown(&select(&["x/./a/*.md"], &[], true)), ["a", "a/drop.md"]);
    assert_eq!(shown(&select(&["**/keep"], &[], true)), ["x", "x/a", "x/a/keep", "y", "y/a", "y/a/keep"]);
    let missing = Request { parents: true, ..request(&["x/none"]) };
    assert!(context.select(&missing).is_err());
}

#[test]
fn the_cache_is_written_only_when_something_was_learned() {
    let place = Place::new();
    place.write("a", "1");
    place.write("dir/b", "2");
    settle();
    let run = || {
        let context = place.context("");
        let digest = context.select(&request(&["."])).unwrap().digest();
        context.save_cache().unwrap();
        digest
    };
    let stamp = |remembered: bool| {
        let entries = fs::read_dir(place.path("caches")).unwrap().map(Result::unwrap);
        let mut entries = entries.filter(|entry| entry.path().extension().is_some() == remembered);
        let meta = entries.next().unwrap().metadata().unwrap();
        (meta.ino(), meta.mtime_nsec())
    };
    let first = run();
    let (cache, remembered) = (stamp(false), stamp(true));
    assert_eq!(run(), first);
    assert_eq!((stamp(false), stamp(true)), (cache, remembered), "nothing changed, nothing written");
    let context = place.context("").recalled();
    assert_eq!(context.remembered(&request(&["."])), Some(first));
    context.select(&request(&["a"])).unwrap();
    context.save_cache().unwrap();
    assert_eq!(stamp(false), cache);
    let context = place.context("").recalled();
    assert!(["a", "."].iter().all(|source| context.remembered(&request(&[source])).is_some()));
    assert_eq!(context.remembered(&request(&["dir"])), None);
    place.write("a", "3");
    settle();
    assert_ne!(run(), first);
    assert_ne!(stamp(false), cache);
}

#[test]
fn folders_that_are_gone_leave_the_cache() {
    let place = Place::new();
    place.write("dir/sub/b", "2");
    place.write("skip/c", "2");
    settle();
    let run = |ignore: &str| {
        let context = place.context(ignore);
        context.select(&request(&["."])).unwrap();
        context.save_cache().unwrap();
        let cache = cache::Cache::load(context.tree.cache.file().unwrap());
        cache.folders().map(|(path, _)| escape(path)).collect::<Vec<_>>()
    };
    assert_eq!(run(""), ["", "dir", "dir/sub", "skip"]);
    fs::remove_dir_all(place.path("context/dir")).unwrap();
    settle();
    assert_eq!(run("skip"), ["", "skip"], "what is only ignored stays");
}

#[test]
fn copies_arrive_as_buildkit_makes_them() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    place.write("a", "1");
    place.write("b", "2");
    place.write("dir/sub/c", "3");
    place.link("dir/link", "/etc/passwd");
    let set = |path: &str, mode| {
        fs::set_permissions(place.path("context").join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("a", 0o4755);
    set("dir", 0o700);
    set("dir/sub", 0o750);
    std::os::unix::fs::chown(place.path("context/b"), Some(12), Some(34)).unwrap();
    set("b", 0o640);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.path("context/dir/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.path("context/dir/socket")).unwrap();
    place.copy(&["a", "b"], "/d/").unwrap();
    place.copy(&["a", "b"], "/e").unwrap();
    place.copy(&["dir"], "/f/g").unwrap();
    place.copy(&["none*"], "/never/").unwrap();
    assert_eq!(
        place.written(),
        "d 755 0:0 folder\nd/a 4755 0:0 1\nd/b 640 0:0 2\ne 640 0:0 2\nf 755 0:0 folder\n\
         f/g 755 0:0 folder\nf/g/link 777 0:0 -> /etc/passwd\nf/g/pipe 400 0:0 fifo\n\
         f/g/sub 750 0:0 folder\nf/g/sub/c 644 0:0 3\n"
    );
}

#[test]
fn existing_folders_keep_their_attributes_and_nested_ones_do_not() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    place.write("dir/sub/c", "3");
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let sub = place.path("context/dir/sub");
    File::open(sub.join("c")).unwrap().set_modified(old).unwrap();
    File::open(&sub).unwrap().set_modified(old).unwrap();
    let top = place.path("target/top");
    fs::create_dir_all(top.join("sub")).unwrap();
    for path in [&top, &top.join("sub")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
        std::os::unix::fs::chown(path, Some(5), Some(6)).unwrap();
    }
    fs::write(top.join("sub/c"), "old").unwrap();
    place.copy(&["dir"], "/top").unwrap();
    assert_eq!(place.written(), "top 711 5:6 folder\ntop/sub 755 0:0 folder\ntop/sub/c 644 0:0 3\n");
    for path in ["top/sub", "top/sub/c"] {
        let meta = fs::metadata(place.path("target").join(path)).unwrap();
        assert_eq!(meta.modified().unwrap(), old, "{path}");
    }
}

/// `tree_text` with the modification times that were given, not those of what was just made.
fn dated_text(root: &Path) -> String {
    let text = tree_text(root);
    let dated = text.lines().map(|line| {
        let path = line.split(' ').next().unwrap();
        let meta = fs::symlink_metadata(root.join(path)).unwrap();
        let given = meta.mtime() < 1_000_000;
        format!("{line} {}\n", if given { meta.mtime() } else { -1 })
    });
    dated.collect()
}

/// What a copy puts past an overlay lies as if it had gone through it.
#[test]
fn a_copy_in_two_halves_is_the_same_copy() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    for (path, mode) in [("a", 0o644), ("dir/b", 0o4755), ("dir/sub/c", 0o600), ("dir/sub/deep/d", 0o664)] {
        place.write(path, path);
        let file = place.path("context").join(path);
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        File::open(&file).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(7)).unwrap();
    }
    place.link("dir/link", "sub/c");
    for (folder, seconds) in [("dir/sub/deep", 8), ("dir/sub", 9), ("dir", 10)] {
        let folder = File::open(place.path("context").join(folder)).unwrap();
        folder.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }
    settle();
    type Case<'a> = (&'a [&'a str], &'a str, Option<(u32, u32)>);
    let cases: [Case<'_>; 6] = [
        (&["."], "/new/below", None),
        (&["."], "/there", None),
        (&["dir"], "/there", Some((3, 4))),
        (&["dir", "a"], "/there/", None),
        (&["a"], "/new", None),
        (&["dir/sub"], "/there/dir/sub", None),
    ];
    for (sources, destination, owner) in cases {
        let fresh = |name: &str| {
            let target = place.path(name);
            let _ = fs::remove_dir_all(&target);
            fs::create_dir_all(target.join("there/dir/sub")).unwrap();
            fs::write(target.join("there/dir/sub/c"), "old").unwrap();
            for folder in ["there/dir/sub", "there/dir", "there"] {
                File::open(target.join(folder)).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
            target
        };
        let (whole, halves) = (fresh("whole"), fresh("halves"));
        let context = place.context("");
        let selection = context.select(&request(sources)).unwrap();
        let placement = Placement { owner, ..placement(destination) };
        context.copy(&selection, &RootDir::open(&whole).unwrap(), &placement).unwrap();
        let rest = context.begin_copy(&selection, &RootDir::open(&halves).unwrap(), &placement).unwrap();
        rest.write(&RootDir::open(&halves).unwrap(), None).unwrap();
        assert_eq!(dated_text(&halves), dated_text(&whole), "{sources:?} {destination}");
    }
}

#[test]
fn owner_and_mode_of_the_flags_also_hold_for_new_parents() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    place.write("dir/sub/c", "3");
    let context = place.context("");
    for (chmod, destination) in [("711", "/octal/x/"), ("u=rwX,go=", "/symbolic/x/")] {
        let chmod = Some(chmod.parse().unwrap());
        let selection = context.select(&Request { chmod: chmod.clone(), ..request(&["dir"]) }).unwrap();
        let destination = destination.to_owned();
        context
            .copy(&selection, &place.target(), &Placement { destination, owner: Some((7, 8)), chmod })
            .unwrap();
    }
    assert_eq!(
        place.written(),
        "octal 711 7:8 folder\noctal/x 711 7:8 folder\noctal/x/sub 711 7:8 folder\noctal/x/sub/c 711 7:8 3\n\
         symbolic 755 7:8 folder\nsymbolic/x 755 7:8 folder\nsymbolic/x/sub 700 7:8 folder\n\
         symbolic/x/sub/c 600 7:8 3\n"
    );
}

#[test]
fn hostile_links_of_the_target_lead_nowhere_else() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    place.write("file", "new");
    place.write("dir/sub/c", "3");
    let target = place.path("target");
    symlink("/../../outside", target.join("out")).unwrap();
    symlink("../../../outside/secret", target.join("secret")).unwrap();
    symlink("/real/folder", target.join("dangling")).unwrap();
    symlink("loop", target.join("loop")).unwrap();
    fs::create_dir_all(target.join("top")).unwrap();
    symlink("/", target.join("top/sub")).unwrap();
    place.copy(&["file"], "/out/").unwrap();
    place.copy(&["file"], "/secret").unwrap();
    place.copy(&["file"], "/dangling/x/").unwrap();
    let nested = place.copy(&["dir"], "/top").unwrap_err().to_string();
    assert_eq!(nested, "cannot copy a folder onto /top/sub, which is not a folder");
    assert!(matches!(place.copy(&["file"], "/loop/x"), Err(CopyError::LinkLoop { .. })));
    assert_eq!(fs::read_to_string(place.path("outside/secret")).unwrap(), "host");
    assert_eq!(fs::read_dir(place.path("outside")).unwrap().count(), 1);
    for path in ["outside/file", "outside/secret", "real/folder/x/file"] {
        assert_eq!(fs::read_to_string(target.join(path)).unwrap(), "new", "{path}");
    }
}

#[test]
fn files_and_folders_do_not_replace_each_other() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    place.write("file", "1");
    place.write("dir/file", "2");
    fs::create_dir_all(place.path("target/d/file")).unwrap();
    fs::write(place.path("target/plain"), "").unwrap();
    assert!(matches!(place.copy(&["file"], "/d"), Err(CopyError::ReplacesFolder { .. })));
    assert!(matches!(place.copy(&["dir"], "/plain"), Err(CopyError::NotAFolder { .. })));
    assert!(matches!(place.copy(&["file"], "/plain/x/"), Err(CopyError::NotAFolder { .. })));
    symlink("/nowhere", place.path("target/link")).unwrap();
    fs::remove_dir_all(place.path("target/d")).unwrap();
    place.copy(&["file"], "/plain").unwrap();
    assert_eq!(fs::read_to_string(place.path("target/plain")).unwrap(), "1");
}

/// Neither digesting nor copying a file writes to it.
#[test]
fn access_times_stay_as_they_are() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    place.write("dir/a", "1");
    let path = place.path("context/dir/a");
    // Older than the last change: the next plain reading would bring it forward.
    let accessed = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let times = fs::FileTimes::new().set_accessed(accessed);
    File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    let context = place.context("");
    let selection = context.select(&request(&["dir"])).unwrap();
    context.copy(&selection, &place.target(), &placement("/")).unwrap();
    assert_eq!(fs::read_to_string(place.path("target/a")).unwrap(), "1");
    assert_eq!(fs::metadata(&path).unwrap().accessed().unwrap(), accessed);
}

#[test]
fn a_source_that_changed_is_not_copied() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    place.write("dir/a", "1");
    place.write("dir/b", "2");
    let copy = |change: &dyn Fn()| {
        let context = place.context("");
        let selection = context.select(&request(&["dir"])).unwrap();
        change();
        context.copy(&selection, &place.target(), &placement("/"))
    };
    let a = place.path("context/dir/a");
    let changed = |result: Result<(), CopyError>| match result {
        Err(CopyError::Changed { path }) => path == Path::new("dir/a"),
        _ => false,
    };
    assert!(changed(copy(&|| fs::write(&a, "3").unwrap())), "young, same size");
    settle();
    assert!(changed(copy(&|| {
        let time = fs::metadata(&a).unwrap().modified().unwrap();
        fs::write(&a, "4").unwrap();
        File::options().write(true).open(&a).unwrap().set_modified(time).unwrap();
    })));
    assert!(changed(copy(&|| fs::write(&a, "longer").unwrap())));
    assert!(changed(copy(&|| fs::remove_file(&a).unwrap())));
    place.write("dir/a", "5");
    assert!(changed(copy(&|| {
        fs::remove_file(&a).unwrap();
        symlink(place.path("outside/secret"), &a).unwrap();
    })));
    fs::remove_file(&a).unwrap();
    place.write("dir/a", "6");
    settle();
    assert!(
        copy(&|| fs::set_permissions(&a, fs::Permissions::from_mode(0o600)).unwrap()).is_ok(),
        "same bytes"
    );
    assert_eq!(place.written(), "a 644 0:0 6\nb 644 0:0 2\n", "as it was selected");
    let context = place.context("");
    let before = context.select(&request(&["dir"])).unwrap().digest();
    place.write("dir/a", "7");
    assert_eq!(context.select(&request(&["dir"])).unwrap().digest(), before, "looked at once");
    context.forget();
    assert_ne!(context.select(&request(&["dir"])).unwrap().digest(), before);
}

#[test]
fn hard_links_stay_together() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    place.write("dir/a", "1");
    fs::create_dir(place.path("context/dir/z")).unwrap();
    fs::hard_link(place.path("context/dir/a"), place.path("context/dir/z/b")).unwrap();
    fs::create_dir_all(place.path("target/z")).unwrap();
    fs::write(place.path("target/z/b"), "old").unwrap();
    place.copy(&["dir"], "/").unwrap();
    let inode = |path: &str| fs::metadata(place.path("target").join(path)).unwrap().ino();
    assert_eq!(inode("a"), inode("z/b"));
    let listing = place.context("").select(&request(&["dir"])).unwrap().listing().to_string();
    assert!(listing.ends_with("dir/z/b\t-\tdir/a\n"), "{listing}");
    assert_eq!(listing.parse::<Listing>().unwrap().to_string(), listing);
}

#[test]
fn copies_from_a_root_file_system_keep_owners_and_capabilities() {
    if !as_root() {
        return;
    }
    let place = Place::new();
    place.write("bin/ping", "elf");
    let ping = place.path("context/bin/ping");
    std::os::unix::fs::chown(&ping, Some(3), Some(4)).unwrap();
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&ping, "security.capability", &capability, flags).unwrap();
    let capability_of = |path: &str| {
        let mut buffer = [0; 64];
        let path = place.path("target").join(path);
        rustix::fs::getxattr(path, "security.capability", &mut buffer).map(|count| buffer[..count].to_vec())
    };
    let rootfs = Context::rootfs(RootDir::open(&place.path("context")).unwrap());
    let selection = rootfs.select(&request(&["/bin"])).unwrap();
    rootfs.copy(&selection, &place.target(), &placement("/kept/")).unwrap();
    let owner = Some((9, 9));
    rootfs.copy(&selection, &place.target(), &Placement { owner, ..placement("/given/") }).unwrap();
    place.copy(&["bin"], "/dropped/").unwrap();
    assert_eq!(capability_of("kept/ping").unwrap(), capability);
    assert_eq!(capability_of("given/ping").unwrap(), capability);
    assert!(capability_of("dropped/ping").is_err());
    let lines = place.written();
    assert!(
        lines.contains("kept/ping 644 3:4 elf\n") && lines.contains("given/ping 644 9:9 elf\n"),
        "{lines}"
    );
    assert!(
        lines.contains("dropped/ping 644 0:0 elf\n") && lines.contains("kept 755 0:0 folder\n"),
        "{lines}"
    );
    let given = rootfs.select(&Request { chown: true, ..request(&["/bin"]) }).unwrap();
    let changes = Listing::diff(&selection.listing(), &given.listing());
    let said: Vec<_> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["`bin/ping` owner changed from 3:4 to 0:0"]);
}

#[test]
fn single_files_can_be_read_and_are_verified() {
    let place = Place::new();
    place.write("a.tar", "archive");
    place.write("dir/b", "2");
    let context = place.context("");
    let parts = context.select(&request(&["a.tar", "dir"])).unwrap().split();
    assert!(context.open_file(&parts[1]).unwrap().is_none());
    let read = || {
        let mut file = context.open_file(&parts[0]).unwrap().unwrap();
        let mut start = [0; 4];
        std::io::Read::read_exact(&mut file, &mut start).unwrap();
        assert_eq!(&start, b"arch");
        file.finish()
    };
    read().unwrap();
    place.write("a.tar", "archivE");
    assert!(matches!(read(), Err(CopyError::Changed { .. })));
}
