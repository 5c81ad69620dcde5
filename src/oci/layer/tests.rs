//! Trees described as text, written, unpacked and compared; hostile tars.
//!
//! A line of a description: `PATH KIND [MODE UID:GID MTIME] [content, target, numbers]`, see [`Node`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use super::super::tarball::{Kind, Member, Reader, Writer};
use super::super::{LayerOptions, LayerTar, OciError, Times, UnpackLimits, unpack_layer, write_layer};
use super::xattrs::Xattrs;
use crate::base::fs::RootDir;
use crate::base::testing::{as_root, available, golden, variable};

/// One file of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    /// `file`, `dir`, `opaque` (a folder that is), `link`, `hard`, `char`, `block`, `fifo`, `socket`, `gone`.
    kind: String,
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
    /// The content, the target, or `major,minor`.
    text: String,
    xattrs: Xattrs,
}

type Tree = BTreeMap<String, Node>;

fn parse(text: &str) -> Tree {
    let number = |word: Option<&str>, radix| u32::from_str_radix(word.unwrap_or("0"), radix).unwrap();
    let mut tree = Tree::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.splitn(6, ' ');
        let (path, kind) = (words.next().unwrap(), words.next().unwrap().to_owned());
        let mode = number(words.next(), 8);
        let owner = words.next().unwrap_or("0:0").split_once(':').unwrap();
        let owner = (owner.0.parse().unwrap(), owner.1.parse().unwrap());
        let mtime = words.next().unwrap_or("0").parse().unwrap();
        let mut text = format!(" {}", words.next().unwrap_or(""));
        let mut xattrs = Xattrs::new();
        while let Some((rest, xattr)) = text.clone().rsplit_once(" @") {
            let (key, value) = xattr.split_once('=').unwrap();
            xattrs.insert(key.into(), hex::decode(value).unwrap());
            text = rest.to_owned();
        }
        let text = text.trim_start().to_owned();
        tree.insert(path.to_owned(), Node { kind, mode, owner, mtime, text, xattrs });
    }
    tree
}

fn print(tree: &Tree) -> String {
    let mut text = String::new();
    for (path, node) in tree {
        let Node { kind, mode, owner: (uid, gid), mtime, text: detail, xattrs } = node;
        text.push_str(format!("{path} {kind} {mode:04o} {uid}:{gid} {mtime} {detail}").trim_end());
        for (key, value) in xattrs {
            write!(text, " @{}={}", String::from_utf8_lossy(key), hex::encode(value)).unwrap();
        }
        text.push('\n');
    }
    text
}

/// Makes the files of a description, hard links last, times of folders at the very end.
fn make(tree: &Tree) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let cwd = rustix::fs::CWD;
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (links, files): (Vec<_>, Vec<_>) = tree.iter().partition(|(_, node)| node.kind == "hard");
    for (path, node) in files.iter().chain(&links) {
        let node_at = |kind, device| rustix::fs::mknodat(cwd, at(path), kind, Mode::empty(), device).unwrap();
        match node.kind.as_str() {
            "file" => std::fs::write(at(path), &node.text).unwrap(),
            "dir" | "opaque" => std::fs::create_dir(at(path)).unwrap(),
            "link" => std::os::unix::fs::symlink(&node.text, at(path)).unwrap(),
            "hard" => std::fs::hard_link(at(&node.text), at(path)).unwrap(),
            "fifo" => node_at(FileType::Fifo, 0),
            "socket" => node_at(FileType::Socket, 0),
            "gone" => node_at(FileType::CharacterDevice, 0),
            kind => {
                let (major, minor) = node.text.split_once(',').unwrap();
                let device = rustix::fs::makedev(major.parse().unwrap(), minor.parse().unwrap());
                let block = kind == "block";
                node_at(if block { FileType::BlockDevice } else { FileType::CharacterDevice }, device);
            }
        }
        if matches!(node.kind.as_str(), "hard" | "gone") {
            continue;
        }
        let (uid, gid) = (Uid::from_raw(node.owner.0), Gid::from_raw(node.owner.1));
        rustix::fs::chownat(cwd, at(path), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        for (key, value) in &node.xattrs {
            rustix::fs::lsetxattr(at(path), OsStr::from_bytes(key), value, XattrFlags::empty()).unwrap();
        }
        if node.kind == "opaque" {
            rustix::fs::lsetxattr(at(path), super::OPAQUE_XATTR, b"y", XattrFlags::empty()).unwrap();
        }
        if node.kind != "link" {
            rustix::fs::chmodat(cwd, at(path), Mode::from_raw_mode(node.mode), AtFlags::empty()).unwrap();
        }
    }
    for (path, node) in tree.iter().rev().filter(|(_, node)| node.kind != "hard" && node.kind != "gone") {
        let time = Timespec { tv_sec: node.mtime, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(cwd, at(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    folder
}

/// Describes the files of a folder.
fn scan(root: &Path) -> Tree {
    fn walk(root: &Path, folder: &Path, first: &mut BTreeMap<u64, String>, tree: &mut Tree) {
        let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let meta = path.symlink_metadata().unwrap();
            let device = || (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
            let kind = meta.file_type();
            let mut node = Node {
                kind: String::new(),
                mode: meta.mode() & 0o7777,
                owner: (meta.uid(), meta.gid()),
                mtime: meta.mtime(),
                text: String::new(),
                xattrs: super::xattrs::read(std::fs::File::open(folder).unwrap(), path.file_name().unwrap())
                    .unwrap(),
            };
            let earlier = first.entry(meta.ino()).or_insert_with(|| name.clone());
            let words = if !kind.is_dir() && *earlier != name {
                node = Node { mode: 0, owner: (0, 0), mtime: 0, xattrs: Xattrs::new(), ..node };
                ("hard", earlier.clone())
            } else if kind.is_dir() {
                let name = path.file_name().unwrap();
                let opaque = super::xattrs::is_opaque(std::fs::File::open(folder).unwrap(), name).unwrap();
                (if opaque { "opaque" } else { "dir" }, String::new())
            } else if kind.is_symlink() {
                node.mode = 0;
                ("link", std::fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else if kind.is_file() {
                ("file", String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned())
            } else if kind.is_fifo() {
                ("fifo", String::new())
            } else if kind.is_socket() {
                ("socket", String::new())
            } else if meta.rdev() == 0 {
                node = Node { mode: 0, owner: (0, 0), mtime: 0, ..node };
                ("gone", String::new())
            } else {
                let (major, minor) = device();
                (if kind.is_block_device() { "block" } else { "char" }, format!("{major},{minor}"))
            };
            (node.kind, node.text) = (words.0.to_owned(), words.1);
            tree.insert(name, node);
            if kind.is_dir() {
                walk(root, &path, first, tree);
            }
        }
    }
    let mut tree = Tree::new();
    walk(root, root, &mut BTreeMap::new(), &mut tree);
    tree
}

/// What an overlay shows; links are told by their content, times of folders left out.
fn merged(lower: &Tree, upper: &Tree) -> Tree {
    let resolve = |tree: &Tree| -> Tree {
        let plain = |node: &Node| if node.kind == "hard" { tree[&node.text].clone() } else { node.clone() };
        tree.iter().map(|(path, node)| (path.clone(), plain(node))).collect()
    };
    let (mut view, upper) = (resolve(lower), resolve(upper));
    for (path, node) in &upper {
        let merges = node.kind == "dir" && view.get(path).is_some_and(|below| below.kind == "dir");
        if !merges {
            let below = format!("{path}/");
            view.retain(|other, _| other != path && !other.starts_with(&below));
        }
        if node.kind != "gone" && node.kind != "socket" && !path.contains(".wh.") {
            view.insert(path.clone(), node.clone());
        }
    }
    for node in view.values_mut().filter(|node| node.kind == "opaque" || node.kind == "dir") {
        (node.kind, node.mtime) = ("dir".to_owned(), 0);
    }
    view.values_mut().filter(|node| node.kind == "link").for_each(|node| node.mode = 0);
    view
}

fn write(upper: &Path, lower: Option<&Path>, options: LayerOptions) -> (Vec<u8>, LayerTar) {
    let lower = lower.map(|lower| RootDir::open(lower).unwrap());
    let mut bytes = Vec::new();
    let layer = write_layer(&RootDir::open(upper).unwrap(), lower.as_ref(), &mut bytes, &options).unwrap();
    (bytes, layer)
}

fn unpack(bytes: &[u8], lower: Option<&Path>) -> (tempfile::TempDir, Result<LayerTar, OciError>) {
    let tree = tempfile::tempdir().unwrap();
    let lower = lower.map(|lower| RootDir::open(lower).unwrap());
    let root = RootDir::open(tree.path()).unwrap();
    let result = unpack_layer(&mut &bytes[..], &root, lower.as_ref(), &UnpackLimits::default());
    (tree, result)
}

/// The members of a tar as text.
fn listing(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut reader = Reader::new(bytes);
    while let Some(member) = reader.next().unwrap() {
        let mut content = String::new();
        reader.read_to_string(&mut content).unwrap();
        let (kind, detail) = match &member.kind {
            Kind::File => ("file", content),
            Kind::Directory => ("dir", String::new()),
            Kind::Symlink(target) => ("link", String::from_utf8_lossy(target).into_owned()),
            Kind::HardLink(target) => ("hard", String::from_utf8_lossy(target).into_owned()),
            Kind::CharacterDevice(major, minor) => ("char", format!("{major},{minor}")),
            Kind::BlockDevice(major, minor) => ("block", format!("{major},{minor}")),
            Kind::Fifo => ("fifo", String::new()),
        };
        let path = String::from_utf8_lossy(&member.path).into_owned();
        let Member { mode, uid, gid, mtime, .. } = member;
        let mut line = format!("{path} {kind} {mode:04o} {uid}:{gid} {mtime} {detail}").trim_end().to_owned();
        for (key, value) in &member.xattrs {
            write!(line, " @{}={}", String::from_utf8_lossy(key), hex::encode(value)).unwrap();
        }
        writeln!(text, "{line}").unwrap();
    }
    text
}

#[test]
fn layers_hold_exactly_what_a_tree_changes() {
    if !as_root() {
        return;
    }
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/layer");
    let mut seen = 0;
    for case in std::fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()) {
        let read = |name: &str| std::fs::read_to_string(case.join(name)).ok().map(|text| parse(&text));
        let (tree, lower) = (read("tree.txt").unwrap(), read("lower.txt"));
        let (upper, below) = (make(&tree), lower.as_ref().map(make));
        let (bytes, layer) = write(upper.path(), below.as_ref().map(|b| b.path()), LayerOptions::default());
        assert_eq!(layer.size, bytes.len() as u64);
        let name = case.file_name().unwrap().to_str().unwrap();
        golden(&format!("testdata/layer/{name}/layer.txt"), &listing(&bytes));
        let (unpacked, result) = unpack(&bytes, below.as_ref().map(|b| b.path()));
        assert_eq!(result.unwrap(), layer);
        let below = lower.unwrap_or_default();
        assert_eq!(
            print(&merged(&below, &scan(unpacked.path()))),
            print(&merged(&below, &scan(upper.path()))),
            "{name}"
        );
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn no_time_is_later_than_the_source_date() {
    if !as_root() {
        return;
    }
    let tree = make(&parse("d dir 0755 0:0 500\nd/f file 0644 0:0 99\nl link 0777 0:0 101 x\n"));
    let (bytes, _) = write(tree.path(), None, LayerOptions { times: Times::NoLater(100) });
    assert_eq!(listing(&bytes), "d/ dir 0755 0:0 100\nd/f file 0644 0:0 99\nl link 0777 0:0 100 x\n");
}

#[test]
fn sparse_files_are_read_and_restored() {
    if !as_root() {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let mut content = vec![0; 3 << 20];
    content[(1 << 20)..(1 << 20) + 5].copy_from_slice(b"hello");
    let file = std::fs::File::create(tree.path().join("sparse")).unwrap();
    file.set_len(content.len() as u64).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"hello", 1 << 20).unwrap();
    let (bytes, _) = write(tree.path(), None, LayerOptions::default());
    let mut reader = Reader::new(bytes.as_slice());
    reader.next().unwrap().unwrap();
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read == content);

    for format in [
        "--format=gnu",
        "--format=pax --sparse-version=0.0",
        "--format=pax --sparse-version=0.1",
        "--format=pax",
    ] {
        let (folder, mut tar) = (tree.path(), Command::new("tar"));
        tar.arg("-S").args(format.split(' ')).arg("-C").arg(folder).args(["-cf", "-", "sparse"]);
        let bytes = tar.output().unwrap().stdout;
        assert!(bytes.len() < 1 << 20, "{format}");
        let (unpacked, result) = unpack(&bytes, None);
        result.unwrap();
        let path = unpacked.path().join("sparse");
        assert!(std::fs::read(&path).unwrap() == content, "{format}");
        assert!(path.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}

#[test]
fn what_gnu_tar_writes_is_unpacked_as_gnu_tar_unpacks_it() {
    let has_tar = available(Command::new("tar").arg("--version").output().is_ok(), "GNU tar");
    if !has_tar || !as_root() {
        return;
    }
    let long = "n".repeat(150);
    let text = format!(
        "d dir 2775 5:6 1000\nd/f file 4755 7:8 2000 text\nd/{long} file 0600 0:0 3000 long @user.x=0a00ff\n\
         d/link link 0000 9:9 4000 {long}{long}\nd/null char 0666 0:6 5000 1,3\nd/pipe fifo 0622 0:0 6000\nz hard 0000 0:0 0 d/f\n"
    );
    let tree = make(&parse(&text));
    for format in ["gnu", "pax"] {
        let mut tar = Command::new("tar");
        let xattrs: &[&str] = if format == "pax" { &["--xattrs"] } else { &[] };
        tar.args(xattrs).args(["--numeric-owner", "--format", format, "-C"]).arg(tree.path());
        let bytes = tar.args(["-cf", "-", "."]).output().unwrap().stdout;
        let (unpacked, result) = unpack(&bytes, None);
        result.unwrap();
        let mut expected = scan(tree.path());
        if format != "pax" {
            expected.values_mut().for_each(|node| node.xattrs.clear());
        }
        assert_eq!(print(&scan(unpacked.path())), print(&expected), "{format}");
        assert_eq!(unpacked.path().metadata().unwrap().mode() & 0o7777, 0o755);
    }
}

/// Kind, mode, owner, time and content of a file.
type Told = (Kind, u32, (u32, u32), i64, Vec<u8>);

/// What a tar says of each file; a further name of a file counts as the file itself.
fn contents(bytes: &[u8]) -> BTreeMap<String, Told> {
    let mut files = BTreeMap::new();
    let mut reader = Reader::new(bytes);
    while let Some(member) = reader.next().unwrap() {
        let path = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.trim_start_matches("./").trim_end_matches('/').to_owned()
        };
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        let name = path(&member.path);
        let Member { kind, mode, uid, gid, mtime, .. } = member;
        let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { mode };
        let file = match &kind {
            Kind::HardLink(target) => BTreeMap::get(&files, &path(target)).cloned().unwrap(),
            _ => (kind, mode, (uid, gid), mtime, content),
        };
        if !name.is_empty() {
            files.insert(name, file);
        }
    }
    files
}

#[test]
fn a_real_root_file_system_survives_the_way_there_and_back() {
    let path = variable("SHIPWAY_TEST_BUSYBOX_TAR");
    if !available(path.is_some(), "a tar in SHIPWAY_TEST_BUSYBOX_TAR") || !as_root() {
        return;
    }
    let bytes = std::fs::read(path.unwrap()).unwrap();
    let (tree, result) = unpack(&bytes, None);
    assert_eq!(result.unwrap().diff_id.0, crate::base::digest::Digest::of(&bytes));
    let (written, _) = write(tree.path(), None, LayerOptions::default());
    assert!(contents(&written) == contents(&bytes));
    let (nothing, layer) = write(tree.path(), Some(tree.path()), LayerOptions::default());
    // Files that have several names are told again, because links do not reach into lower layers.
    let linked = contents(&nothing).into_values().filter(|file| file.0 == Kind::File).count();
    assert!(linked < contents(&bytes).len() && layer.size < 2 * bytes.len() as u64);
}

/// A tar of these members, files with the content `x`.
fn tar(members: &[(&str, Kind)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, kind) in members {
        let content: &[u8] = if *kind == Kind::File { b"x" } else { b"" };
        writer.append_bytes(&Member::new(*path, kind.clone()), content).unwrap();
    }
    writer.finish().unwrap()
}

fn link(target: &str) -> Kind {
    Kind::Symlink(target.as_bytes().to_vec())
}

fn hard(target: &str) -> Kind {
    Kind::HardLink(target.as_bytes().to_vec())
}

/// Unpacks into a folder beside which lies a secret; nothing outside may change.
fn unpack_guarded(members: &[(&str, Kind)], lower: Option<&Path>) -> (Tree, Result<LayerTar, OciError>) {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "host").unwrap();
    let inside = outside.path().join("tree");
    std::fs::create_dir(&inside).unwrap();
    let lower = lower.map(|lower| RootDir::open(lower).unwrap());
    let root = RootDir::open(&inside).unwrap();
    let result = unpack_layer(&mut &tar(members)[..], &root, lower.as_ref(), &UnpackLimits::default());
    assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "host");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 2);
    (scan(&inside), result)
}

#[test]
fn hostile_names_and_links_stay_inside() {
    if !as_root() {
        return;
    }
    for (members, expected) in [
        (vec![("/secret", Kind::File)], "secret file"),
        (vec![("../../secret", Kind::File)], "secret file"),
        (vec![("a/../../secret", Kind::File)], "secret file"),
        (vec![("l", link("..")), ("l/secret", Kind::File)], "l link\nsecret file"),
        (vec![("l", link("/")), ("l/secret", Kind::File)], "l link\nsecret file"),
        (vec![("l", link("../../..")), ("l/x/secret", Kind::File)], "l link\nx dir\nx/secret file"),
        (
            vec![("l", link("/new/deep")), ("l/f", Kind::File)],
            "l link\nnew dir\nnew/deep dir\nnew/deep/f file",
        ),
        (vec![("l", link("../secret")), ("l", Kind::File)], "l file"),
        (vec![("l", link("../secret")), ("h", hard("l"))], "h link\nl hard"),
        (vec![("l", Kind::Directory), ("l", link("..")), ("l/f", Kind::File)], "f file\nl link"),
    ] {
        let (tree, result) = unpack_guarded(&members, None);
        result.unwrap();
        let short: Vec<_> = tree.iter().map(|(path, node)| format!("{path} {}", node.kind)).collect();
        assert_eq!(short.join("\n"), expected, "{members:?}");
    }
    for members in [
        vec![("h", hard("../secret"))],
        vec![("h", hard("/secret"))],
        vec![("l", link("..")), ("h", hard("l/secret"))],
        vec![("d", Kind::Directory), ("h", hard("d"))],
        vec![("a", link("b")), ("b", link("a")), ("a/f", Kind::File)],
        vec![("f", Kind::File), ("f/g", Kind::File)],
        vec![("n", Kind::CharacterDevice(0, 0))],
        vec![("d/.wh..", Kind::File)],
        vec![("d/.wh...", Kind::File)],
        vec![(".wh.", Kind::File)],
        vec![(".", Kind::File)],
    ] {
        let (_, result) = unpack_guarded(&members, None);
        assert!(result.is_err(), "{members:?}");
    }
}

#[test]
fn later_entries_win_and_whiteouts_spare_their_own_layer() {
    if !as_root() {
        return;
    }
    let below = "d dir 0711 1:2 9 @user.k=31\nd/e dir 0700 3:4 8\nd/e/f file 0644 0:0 7 x\n";
    let lower = make(&parse(below));
    for (members, expected) in [
        (vec![("f", Kind::Directory), ("f", Kind::File)], "f file"),
        (vec![("f/g", Kind::File), ("f", Kind::File), ("f", Kind::Directory)], "f dir"),
        (vec![(".wh.d", Kind::File)], "d gone"),
        (vec![(".wh.d", Kind::File), ("d/x", Kind::File)], "d opaque\nd/x file"),
        (vec![("d/x", Kind::File), (".wh.d", Kind::File)], "d opaque\nd/x file"),
        (vec![("d/x", Kind::File), ("d/.wh..wh..opq", Kind::File)], "d opaque\nd/x file"),
        (vec![("d/.wh..wh..opq", Kind::File)], "d opaque"),
        (vec![(".wh..wh..opq", Kind::File), ("n", Kind::File)], "d gone\nn file"),
        (vec![("d", Kind::File), (".wh.d", Kind::File)], "d file"),
        (vec![(".wh..wh.plnk/1.2", Kind::File), (".wh..wh.aufs", Kind::File)], ""),
        (vec![(".wh.d/x", Kind::File)], ""),
    ] {
        let (tree, result) = unpack_guarded(&members, Some(lower.path()));
        result.unwrap();
        let short: Vec<_> = tree.iter().map(|(path, node)| format!("{path} {}", node.kind)).collect();
        assert_eq!(short.join("\n"), expected, "{members:?}");
    }
    let (tree, result) = unpack_guarded(&[("d/e/new", Kind::File)], Some(lower.path()));
    result.unwrap();
    let expected = "d dir 0711 1:2 9 @user.k=31\nd/e dir 0700 3:4 8\nd/e/new file 0644 0:0 0 x\n";
    assert_eq!(print(&tree), expected);
}

#[test]
fn bombs_are_stopped() {
    if !as_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = RootDir::open(folder.path()).unwrap();
    let bytes = tar(&[("a", Kind::File), ("b", Kind::File)]);
    for limits in [UnpackLimits { bytes: 1, entries: 9 }, UnpackLimits { bytes: 9, entries: 1 }] {
        let error = unpack_layer(&mut &bytes[..], &root, None, &limits).unwrap_err();
        assert!(matches!(error, OciError::Limit { limit: 1, .. }), "{error}");
        let _ = std::fs::remove_file(folder.path().join("a"));
    }
    for damaged in [&bytes[..700], &[1; 512], &bytes[..512]] {
        assert!(matches!(unpack(damaged, None).1, Err(OciError::Tar { .. })));
    }
}

/// Trees with few names, so that the two share many of them.
fn trees() -> impl Strategy<Value = Tree> {
    let node = (0..9usize, 0..3u32, 0..3i64, "[ab]{0,2}", any::<bool>());
    proptest::collection::btree_map("[a-c](/[a-c]){0,3}", node, 0..12).prop_map(|paths| {
        let mut tree = Tree::new();
        for (path, (kind, number, mtime, text, xattr)) in paths {
            let parents: Vec<_> = Path::new(&path).ancestors().skip(1).map(Path::to_path_buf).collect();
            for parent in parents.into_iter().rev().filter(|parent| parent != &PathBuf::new()) {
                let folder =
                    tree.entry(parent.to_str().unwrap().to_owned()).or_insert_with(|| node_of("dir", 0));
                if folder.kind != "opaque" {
                    *folder = node_of("dir", folder.owner.0);
                }
            }
            let kinds = ["file", "file", "dir", "opaque", "link", "fifo", "char", "gone", "socket"];
            let mut node = Node { mtime, ..node_of(kinds[kind], number) };
            if xattr && matches!(node.kind.as_str(), "file" | "dir" | "opaque") {
                node.xattrs.insert(b"user.k".to_vec(), vec![0, b'\n', 0xff]);
            }
            node.text = match kinds[kind] {
                "file" => text,
                "link" => format!("t{text}"),
                "char" => "1,3".to_owned(),
                _ => String::new(),
            };
            let empty = !tree.keys().any(|other| other.starts_with(&format!("{path}/")));
            if empty {
                tree.insert(path, node);
            }
        }
        // A folder that came to hold files later stays one.
        let folders: Vec<_> =
            tree.keys().filter_map(|path| Some(path.rsplit_once('/')?.0.to_owned())).collect();
        for folder in folders {
            if tree[&folder].kind != "opaque" {
                tree.insert(folder, node_of("dir", 1));
            }
        }
        tree
    })
}

fn node_of(kind: &str, number: u32) -> Node {
    let (mode, mtime) = (if kind == "link" { 0 } else { 0o640 + number }, 1);
    let (kind, text, xattrs) = (kind.to_owned(), String::new(), Xattrs::new());
    Node { kind, mode, owner: (number, number), mtime, text, xattrs }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn unpacking_what_was_written_shows_the_same(mut lower in trees(), upper in trees()) {
        if !as_root() {
            return Ok(());
        }
        lower.values_mut().for_each(|node| if node.kind == "opaque" { node.kind = "dir".into() });
        lower.retain(|_, node| node.kind != "gone" && node.kind != "socket");
        let (above, below) = (make(&upper), make(&lower));
        let (bytes, layer) = write(above.path(), Some(below.path()), LayerOptions::default());
        let (again, _) = write(above.path(), Some(below.path()), LayerOptions::default());
        prop_assert!(bytes == again);
        let (unpacked, result) = unpack(&bytes, Some(below.path()));
        prop_assert_eq!(result.unwrap(), layer);
        let (seen, wanted) = (merged(&lower, &scan(unpacked.path())), merged(&lower, &upper));
        prop_assert_eq!(print(&seen), print(&wanted), "{}", listing(&bytes));
    }

    #[test]
    fn no_sequence_of_entries_reaches_outside(
        entries in proptest::collection::vec((0..12usize, 0..12usize, 0..4usize), 1..12),
    ) {
        if !as_root() {
            return Ok(());
        }
        let names = [
            "a", "b", "a/b", "a/b/c", "/a", "../secret", "a/../../secret", "./b/", ".wh.a", "a/.wh.b",
            "a/.wh..wh..opq", "b/secret",
        ];
        let targets = ["a", "b", "..", "../secret", "/", "/secret", "a/b", "../..", "b/../..", ".", "c", "a/.."];
        let members: Vec<_> = entries
            .into_iter()
            .map(|(name, target, kind)| {
                let kinds = [Kind::File, Kind::Directory, link(targets[target]), hard(targets[target])];
                (names[name], kinds[kind].clone())
            })
            .collect();
        let lower = make(&parse("a dir 0755 0:0 1\na/b file 0644 0:0 1 x\nb link 0777 0:0 1 a\n"));
        // Whether it is refused or not: what lies outside is checked in there.
        let (tree, _) = unpack_guarded(&members, Some(lower.path()));
        prop_assert!(tree.values().all(|node| node.text != "host"));
    }
}

/// Snapshots share files: only names in the tree itself are hard links.
#[test]
fn a_name_outside_of_the_tree_makes_no_difference() {
    if !as_root() {
        return;
    }
    let lower = make(&parse("a file 644 0:0 5 same\nb file 644 0:0 5 same\nc file 644 0:0 5 same\n"));
    let tree =
        parse("a file 644 0:0 5 same\nb file 644 0:0 5 same\nd hard 0 0:0 0 b\ne file 644 0:0 5 new\n");
    let upper = make(&tree);
    let written = || {
        let mut tar = Vec::new();
        let (tree, below) = (RootDir::open(upper.path()).unwrap(), RootDir::open(lower.path()).unwrap());
        write_layer(&tree, Some(&below), &mut tar, &LayerOptions::default()).unwrap();
        tar
    };
    let alone = written();
    let (mut reader, mut names) = (Reader::new(alone.as_slice()), Vec::new());
    while let Some(member) = reader.next().unwrap() {
        names.push(String::from_utf8(member.path).unwrap());
    }
    assert_eq!(names, ["b", "d", "e"]);
    let elsewhere = tempfile::tempdir_in(upper.path().parent().unwrap()).unwrap();
    for name in ["a", "b", "e"] {
        std::fs::hard_link(upper.path().join(name), elsewhere.path().join(name)).unwrap();
    }
    assert!(written() == alone);
}
