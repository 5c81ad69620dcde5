//! Git work trees, read from their files: where the repository of a folder is, what its index tracks, which
//! commit its HEAD is. No process is started and nothing is written.
//!
//! Only names and modes of an index are read (git's `index-format`, versions 2 to 4); a split index and what
//! is not understood are errors, never guesses. Contents of objects are not read here.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The mode of a regular file in an index, without its permissions.
const REGULAR: u32 = 0o100_000;
/// The mode of a submodule.
const SUBMODULE: u32 = 0o160_000;
/// How deep a symbolic reference may lead.
const MOST_REFERENCES: usize = 5;

/// A repository with its work tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Worktree {
    /// The work tree's folder.
    pub root: PathBuf,
    /// Where its HEAD and its index are.
    pub git: PathBuf,
    /// Where its objects, references and settings are: those of the main work tree.
    pub common: PathBuf,
}

/// What an index tracks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tracked {
    /// Regular files by their paths below the work tree; whether they are executable.
    files: HashMap<Vec<u8>, bool>,
    /// Folders that hold something that is tracked, submodules included; the work tree itself is the empty
    /// path.
    folders: HashSet<Vec<u8>>,
}

/// Why an index cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the index of the git repository cannot be read: {0}")]
pub struct InvalidIndex(pub String);

impl Worktree {
    /// The work tree whose root is exactly this folder.
    pub fn at(folder: &Path) -> Option<Self> {
        let dot = folder.join(".git");
        let kind = fs::symlink_metadata(&dot).ok()?;
        let git = if kind.is_file() {
            let text = fs::read_to_string(&dot).ok()?;
            folder.join(text.strip_prefix("gitdir:")?.trim())
        } else {
            dot
        };
        fs::symlink_metadata(git.join("HEAD")).ok()?;
        let common = fs::read_to_string(git.join("commondir"));
        let common = common.map_or_else(|_| git.clone(), |path| git.join(path.trim()));
        Some(Self { root: folder.to_owned(), git, common })
    }

    /// The innermost work tree that `folder` is in.
    pub fn of(folder: &Path) -> Option<Self> {
        folder.ancestors().find_map(Self::at)
    }

    /// What its index tracks; nothing where there is no index yet.
    pub fn tracked(&self) -> Result<Tracked, InvalidIndex> {
        let bytes = match fs::read(self.git.join("index")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tracked::default()),
            Err(error) => return Err(InvalidIndex(error.to_string())),
        };
        let id = if self.setting("objectformat").as_deref() == Some("sha256") { 32 } else { 20 };
        Tracked::read(&bytes, id)
    }

    /// Whether the permissions on the disk mean anything (`core.fileMode`).
    pub fn trusts_modes(&self) -> bool {
        self.setting("filemode").as_deref() != Some("false")
    }

    /// The commit that HEAD is, in full; `None` before the first one, and where it cannot be found.
    pub fn head(&self) -> Option<String> {
        let mut name = "HEAD".to_owned();
        for _ in 0..MOST_REFERENCES {
            let text = self.reference(&name)?;
            match text.strip_prefix("ref:") {
                Some(next) => next.trim().clone_into(&mut name),
                None => return is_id(&text).then_some(text),
            }
        }
        None
    }

    fn reference(&self, name: &str) -> Option<String> {
        if name.split('/').any(|part| part == "..") {
            return None;
        }
        for folder in [&self.git, &self.common] {
            if let Ok(text) = fs::read_to_string(folder.join(name)) {
                return Some(text.trim().to_owned());
            }
        }
        let packed = fs::read_to_string(self.common.join("packed-refs")).ok()?;
        let found = packed.lines().find_map(|line| line.split_once(' ').filter(|(_, known)| *known == name));
        found.map(|(id, _)| id.to_owned())
    }

    /// The last value of a setting of this name in the repository's own file, in lower case.
    fn setting(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.common.join("config")).ok()?.to_lowercase();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let value = pairs.filter(|(key, _)| key.trim() == name).next_back();
        value.map(|(_, value)| value.trim().to_owned())
    }
}

impl Tracked {
    /// Whether a file is tracked as a regular one, and executable.
    pub fn file(&self, path: &[u8]) -> Option<bool> {
        self.files.get(path).copied()
    }

    /// Whether a folder holds something that is tracked.
    pub fn folder(&self, path: &[u8]) -> bool {
        self.folders.contains(path)
    }

    /// Reads an index whose object identifiers have `id` bytes.
    pub fn read(bytes: &[u8], id: usize) -> Result<Self, InvalidIndex> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(4)? != b"DIRC" {
            return Err(InvalidIndex("it does not begin as an index does".to_owned()));
        }
        let version = reader.number()?;
        if !(2..=4).contains(&version) {
            return Err(InvalidIndex(format!("it has version {version}")));
        }
        let mut tracked = Self::default();
        let mut before: Vec<u8> = Vec::new();
        for _ in 0..reader.number()? {
            let (mode, path) = reader.entry(version, id, &before)?;
            tracked.add(mode, &path);
            before = path;
        }
        reader.extensions(id)?;
        Ok(tracked)
    }

    fn add(&mut self, mode: u32, path: &[u8]) {
        if mode & 0o170_000 == REGULAR {
            self.files.insert(path.to_vec(), mode & 0o100 != 0);
        }
        if mode & 0o170_000 == SUBMODULE {
            self.folders.insert(path.to_vec());
        }
        let mut path = path;
        while let Some(at) = path.iter().rposition(|byte| *byte == b'/') {
            path = &path[..at];
            if !self.folders.insert(path.to_vec()) {
                return;
            }
        }
        self.folders.insert(Vec::new());
    }
}

/// Bytes that are read one piece after the other.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], InvalidIndex> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| InvalidIndex("it ends too early".to_owned()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, InvalidIndex> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Bytes up to a zero, which is taken too.
    fn text(&mut self) -> Result<&'b [u8], InvalidIndex> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or_else(|| InvalidIndex("a name has no end".to_owned()))?)?;
        self.take(1)?;
        Ok(text)
    }

    /// An entry's mode and path; in version 4 the path goes on from the one before.
    fn entry(&mut self, version: u32, id: usize, before: &[u8]) -> Result<(u32, Vec<u8>), InvalidIndex> {
        let begin = self.at;
        self.take(24)?;
        let mode = self.number()?;
        self.take(12 + id)?;
        let flags = self.take(2)?[0];
        if version >= 3 && flags & 0x40 != 0 {
            self.take(2)?;
        }
        if version == 4 {
            let dropped = self.varint()?;
            let kept = before.len().checked_sub(dropped);
            let kept = kept.ok_or_else(|| InvalidIndex("a name drops too much".to_owned()))?;
            let path = [&before[..kept], self.text()?].concat();
            return Ok((mode, path));
        }
        let path = self.text()?.to_vec();
        // One to eight zeros in all make the entry's length a multiple of eight.
        let length = self.at - begin;
        self.take(length.next_multiple_of(8) - length)?;
        Ok((mode, path))
    }

    /// A number as packs have it ("offset encoding").
    fn varint(&mut self) -> Result<usize, InvalidIndex> {
        let mut byte = self.take(1)?[0];
        let mut number = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.take(1)?[0];
            let next = number.checked_add(1).and_then(|number| number.checked_mul(128));
            let next = next.and_then(|number| number.checked_add(usize::from(byte & 0x7f)));
            number = next.ok_or_else(|| InvalidIndex("a number is too large".to_owned()))?;
        }
        Ok(number)
    }

    /// Looks for extensions that change what the entries mean. At the end stands a checksum.
    fn extensions(&mut self, id: usize) -> Result<(), InvalidIndex> {
        while self.bytes.len() - self.at > id {
            let name = self.take(4)?;
            let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
            self.take(length)?;
            // Those that must be understood have small letters; a sparse index only has folders as entries.
            if name.first().is_some_and(u8::is_ascii_lowercase) && name != b"sdir" {
                let name = String::from_utf8_lossy(name);
                return Err(InvalidIndex(format!("not supported yet: its extension `{name}`")));
            }
        }
        Ok(())
    }
}

fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The path of `inner` below `outer`, as an index has it.
pub fn below(outer: &Path, inner: &Path) -> Option<Vec<u8>> {
    Some(inner.strip_prefix(outer).ok()?.as_os_str().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// Runs git in a folder, away from the user's settings; false where there is no git.
    fn git(folder: &Path, arguments: &[&str]) -> bool {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments).current_dir(folder);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", folder);
        match command.output() {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                true
            }
            Err(_) => false,
        }
    }

    fn repository() -> Option<tempfile::TempDir> {
        let folder = tempfile::tempdir().unwrap();
        if !git(folder.path(), &["init", "--quiet"]) {
            println!("skipped: needs git");
            return None;
        }
        fs::create_dir_all(folder.path().join("a/deep")).unwrap();
        for name in ["plain", "a/deep/tool", "a/other", "loose"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let tool = folder.path().join("a/deep/tool");
        fs::set_permissions(tool, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("plain", folder.path().join("link")).unwrap();
        git(folder.path(), &["add", "plain", "a", "link"]);
        Some(folder)
    }

    #[test]
    fn every_version_of_an_index_is_read() {
        let Some(folder) = repository() else { return };
        for version in ["2", "3", "4"] {
            git(folder.path(), &["update-index", "--index-version", version]);
            if version == "3" {
                // What version 3 has beyond 2: an entry that is only announced.
                fs::write(folder.path().join("announced"), "").unwrap();
                git(folder.path(), &["add", "--intent-to-add", "announced"]);
            }
            let tracked = Worktree::at(folder.path()).unwrap().tracked().unwrap();
            let files = ["plain", "a/deep/tool", "a/other", "loose", "link", "announced"];
            let found: Vec<_> = files.map(|path| tracked.file(path.as_bytes())).to_vec();
            let announced = (version != "2").then_some(false);
            assert_eq!(found, [Some(false), Some(true), Some(false), None, None, announced], "{version}");
            assert!(["", "a", "a/deep"].iter().all(|path| tracked.folder(path.as_bytes())));
            assert!(!tracked.folder(b"b"));
        }
    }

    #[test]
    fn heads_are_found_wherever_they_are() {
        let Some(folder) = repository() else { return };
        let worktree = Worktree::of(&folder.path().join("a/deep")).unwrap();
        assert_eq!((worktree.root.as_path(), worktree.head()), (folder.path(), None));
        git(folder.path(), &["commit", "--quiet", "-m", "one"]);
        let head = worktree.head().unwrap();
        git(folder.path(), &["pack-refs", "--all"]);
        assert_eq!(worktree.head().as_ref(), Some(&head));
        git(folder.path(), &["checkout", "--quiet", "--detach"]);
        assert_eq!(worktree.head().as_ref(), Some(&head));
        let other = folder.path().join("a/linked");
        git(folder.path(), &["worktree", "add", "--quiet", "a/linked"]);
        let linked = Worktree::of(&other.join("a")).unwrap();
        assert_eq!((linked.root.as_path(), linked.head()), (other.as_path(), Some(head)));
        assert_eq!(linked.tracked().unwrap().file(b"a/deep/tool"), Some(true));
        assert!(linked.trusts_modes());
        git(folder.path(), &["config", "core.fileMode", "false"]);
        assert!(!linked.trusts_modes());
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let Some(folder) = repository() else { return };
        git(folder.path(), &["update-index", "--split-index"]);
        let error = Worktree::at(folder.path()).unwrap().tracked().unwrap_err();
        assert!(error.to_string().contains("not supported yet: its extension `link`"), "{error}");
        for bytes in [&b"DIRC"[..], b"DIRC\0\0\0\x09\0\0\0\0", b"", b"nothing"] {
            assert!(Tracked::read(bytes, 20).is_err());
        }
        let outside = tempfile::tempdir().unwrap();
        assert_eq!(Worktree::at(outside.path()), None);
    }

    proptest! {
        /// Whatever the bytes are, reading ends.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), version in 2..5u8) {
            let mut index = vec![b'D', b'I', b'R', b'C', 0, 0, 0, version, 0, 0, 0, 3];
            index.extend(bytes);
            let _ = Tracked::read(&index, 20);
        }
    }
}
