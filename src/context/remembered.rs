//! What earlier selections came to, so that nothing needs to be selected where nothing changed.
//!
//! Beside the stat cache lies a file for each way in which a context is shown (its ignore file, where modes
//! come from): the digest that each request had, and everything that those digests depend on, namely the
//! stamp of each folder that was looked at, with its names, the stamp of each file whose content is known,
//! and what git said. If all of that stands, every digest in it does, and neither the stat cache is read nor
//! a value made of any entry. If one thing does not, nothing of it is believed.
//!
//! It only ever holds what was settled when it was seen (see `stamp`). A context with something whose mode no
//! settled stamp vouches for, or in which a single path led through a link, is not remembered but walked each time. A
//! file that is missing, of another version or damaged remembers nothing.
//!
//! Layout, little-endian: magic, digest of the ignore rules, git's answers (a byte whether they count, a byte
//! whether modes on the disk were trusted if that was asked, their number, path and digest of each), number of
//! selections, digest of request and selection of each, folders, digest of all before it. A folder is: length
//! of its path, length of its entries, whether its stamp counts, stamp, path, entries. An entry is: length of its
//! name, stamp, name. Paths and names of entries end with a zero byte.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, OFlags};

use super::cache::{Reader, put_stamp};
use super::folder::{Folder, Node};
use super::select::Selection;
use super::stamp::{Meta, Stamp, Trust};
use super::tracked::Said;
use super::tree::{Single, Tree, join, split};
use super::{Context, Request};
use crate::base::digest::{Digest, FieldHasher};
use crate::base::fs::{PathError, write_atomic};

const MAGIC: &[u8; 16] = b"shipway-walk-1\n\0";

/// Folders that one thread looks at in a stretch.
const STRETCH: usize = 8;

/// The digests of selections, by those of their requests.
type Digests = BTreeMap<Digest, Digest>;

/// What is remembered of one context, and what this run adds.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// What an earlier run knew and still holds.
    digests: Digests,
    /// The digest of the file that says so.
    file: Option<Digest>,
    /// What was selected in this run.
    selected: Mutex<Digests>,
    /// Whether something was selected that cannot be remembered.
    fleeting: AtomicBool,
}

/// What digests depend on.
#[derive(PartialEq, Eq, Default)]
struct Evidence {
    folders: BTreeMap<Vec<u8>, Seen>,
}

/// What was seen of one folder.
#[derive(PartialEq, Eq, Default)]
struct Seen {
    /// `None` where only single files in it were looked at.
    stamp: Option<Stamp>,
    files: BTreeMap<Vec<u8>, Stamp>,
}

/// A file that was read.
struct Record<'a> {
    rules: Digest,
    said: Option<Said>,
    digests: Digests,
    folders: Vec<FolderAt<'a>>,
    digest: Digest,
}

struct FolderAt<'a> {
    path: &'a CStr,
    stamp: Option<Stamp>,
    entries: &'a [u8],
}

impl Context {
    /// The same context with what is remembered of it, which is looked at now: one look at each file that an
    /// earlier selection took. To be asked for by [`Context::remembered`].
    #[must_use]
    pub fn recalled(mut self) -> Self {
        let Some(path) = self.remembered_file() else { return self };
        let Ok(bytes) = std::fs::read(&path) else { return self };
        if let Some(record) = Record::parse(&bytes).filter(|record| record.stands(&self.tree)) {
            self.remembered =
                Remembered { digests: record.digests, file: Some(record.digest), ..Remembered::default() };
        }
        self
    }

    /// The digest that [`Context::select`] would give, if that is remembered. What the selection holds is not.
    pub fn remembered(&self, request: &Request) -> Option<Digest> {
        if self.remembered.digests.is_empty() {
            return None;
        }
        self.remembered.digests.get(&request.digest()).copied()
    }

    /// Forgets for good what is remembered: something contradicts it.
    pub fn distrust(&self) {
        if let Some(path) = self.remembered_file() {
            // What cannot be removed contradicts itself again.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Notes what a request selected.
    pub(super) fn remember(&self, request: &Request, selection: &Selection) {
        if self.tree.cache.file().is_none() {
            return;
        }
        let entered = |path: &[u8]| self.tree.seen(path).is_some();
        if !selection.folders().all(entered) {
            self.remembered.fleeting.store(true, Ordering::Relaxed);
        }
        self.remembered.selected().insert(request.digest(), selection.digest());
    }

    /// Writes what was selected in this run, if it is not remembered already and can be.
    pub(super) fn save_remembered(&self) -> Result<(), PathError> {
        let Some(path) = self.remembered_file() else { return Ok(()) };
        let known = &self.remembered.digests;
        let selected = self.remembered.selected().clone();
        let is_new = |(request, digest): (&Digest, &Digest)| known.get(request) != Some(digest);
        if !selected.iter().any(is_new) || self.remembered.fleeting.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some((mut evidence, mut said)) = self.depends() else { return Ok(()) };
        let mut digests = selected.clone();
        let before = std::fs::read(&path).ok();
        let before = before.as_deref().and_then(Record::parse);
        if let Some(before) = before.as_ref().filter(|before| Some(before.digest) == self.remembered.file) {
            let same_said = said.as_mut().zip(before.said.as_ref()).is_none_or(|(said, more)| said.add(more));
            if same_said && evidence.add(before) {
                before.digests.iter().for_each(|(request, digest)| {
                    digests.entry(*request).or_insert(*digest);
                });
            } else {
                // It stood when the build began, and something in it is otherwise now.
                let Some(now) = self.depends() else { return Ok(()) };
                (evidence, said) = now;
            }
        }
        let bytes = evidence.encode(self.tree.ignore.digest(), said.as_ref(), &digests);
        if before.is_some_and(|before| bytes.ends_with(before.digest.as_bytes())) {
            return Ok(());
        }
        write_atomic(&path, &bytes)
    }

    /// What the selections of this run depend on; `None` if something of it may change without showing.
    fn depends(&self) -> Option<(Evidence, Option<Said>)> {
        let (folders, single) = self.tree.all_seen();
        let evidence = Evidence::of(&folders, &single)?;
        match &self.tree.modes {
            Some(modes) => Some((evidence, Some(modes.said()?))),
            None => Some((evidence, None)),
        }
    }

    /// Where it is kept: each way to show a folder has its own file.
    fn remembered_file(&self) -> Option<PathBuf> {
        let mut name = FieldHasher::new("shipway walk");
        name.field(self.tree.ignore.name()).number(u64::from(self.tree.modes.is_some()));
        let extension = format!("walk-{}", &name.finish().hex()[..16]);
        self.tree.cache.file().map(|file: &Path| file.with_extension(extension))
    }
}

impl Remembered {
    fn selected(&self) -> MutexGuard<'_, Digests> {
        self.selected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what this run selected.
    pub(super) fn forget(&self) {
        self.selected().clear();
        self.fleeting.store(false, Ordering::Relaxed);
    }
}

impl Request {
    /// Of everything that a selection depends on besides the tree.
    fn digest(&self) -> Digest {
        let mut hasher = FieldHasher::new("shipway request 1");
        let Self { sources, chmod, chown, excludes, parents } = self;
        for texts in [sources, excludes] {
            hasher.number(texts.len() as u64);
            for text in texts {
                hasher.field(text);
            }
        }
        hasher.field(chmod.as_ref().map_or("", |chmod| chmod.text()));
        hasher.number(u64::from(*chown)).number(u64::from(*parents));
        hasher.finish()
    }
}

impl Evidence {
    /// Of everything that was looked at; `None` if something of it may change without showing.
    fn of(folders: &[Arc<Folder>], single: &[Single]) -> Option<Self> {
        let paths: HashMap<&[u8], &Arc<Folder>> =
            folders.iter().map(|folder| (&*folder.path, folder)).collect();
        let mut evidence = Self::default();
        for folder in folders {
            let mut files = BTreeMap::new();
            for entry in folder.entries() {
                let Some(node) = entry.node() else { continue };
                match node.meta.kind() {
                    FileType::RegularFile => {
                        files.extend(stamp(node)?.map(|stamp| (entry.name.to_vec(), stamp)));
                    }
                    FileType::Directory => {
                        let inner = paths.get(&*join(&folder.path, entry.name));
                        inner.is_none_or(|inner| inner.meta == node.meta).then_some(())?;
                    }
                    FileType::Symlink => {}
                    _ => return None,
                }
            }
            let one_device = files.values().all(|stamp| stamp.dev == folder.meta.stamp.dev);
            (folder.settled && one_device).then_some(())?;
            evidence.folders.insert(folder.path.clone(), Seen { stamp: Some(folder.meta.stamp), files });
        }
        for (path, node) in single {
            let (folder, name) = split(path);
            match node.meta.kind() {
                FileType::RegularFile => {
                    let Some(stamp) = stamp(node)? else { continue };
                    evidence.folders.entry(folder.to_vec()).or_default().add(name, stamp).then_some(())?;
                }
                FileType::Directory => {}
                _ => return None,
            }
        }
        Some(evidence)
    }

    /// Adds that of an earlier run, unless they contradict each other.
    fn add(&mut self, before: &Record<'_>) -> bool {
        before.folders.iter().all(|folder| {
            let seen = self.folders.entry(folder.path.to_bytes().to_vec()).or_default();
            if seen.stamp.is_some() && folder.stamp.is_some() && seen.stamp != folder.stamp {
                return false;
            }
            seen.stamp = seen.stamp.or(folder.stamp);
            folder.files().all(|(name, stamp)| seen.add(name.to_bytes(), stamp))
        })
    }

    fn encode(&self, rules: Digest, said: Option<&Said>, digests: &Digests) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(rules.as_bytes());
        bytes.push(u8::from(said.is_some()));
        if let Some(said) = said {
            bytes.push(said.trusted.map_or(2, u8::from));
            bytes.extend((said.answers.len() as u32).to_le_bytes());
            for (path, digest) in &said.answers {
                bytes.extend((path.len() as u32).to_le_bytes());
                bytes.extend(path);
                bytes.extend(digest.as_bytes());
            }
        }
        bytes.extend((digests.len() as u32).to_le_bytes());
        for (request, digest) in digests {
            bytes.extend(request.as_bytes());
            bytes.extend(digest.as_bytes());
        }
        self.folders.iter().for_each(|(path, seen)| seen.encode(path, &mut bytes));
        let digest = Digest::of(&bytes);
        bytes.extend(digest.as_bytes());
        bytes
    }
}

/// What a file's digest depends on, `Some(None)` if its content is not known and so nothing depends on it; `None` if
/// that may change without showing.
fn stamp(node: &Node) -> Option<Option<Stamp>> {
    match node.content.get() {
        None => Some(None),
        Some(content) if content.settled && *content.meta(&node.meta) == node.meta => {
            Some(Some(node.meta.stamp))
        }
        Some(_) => None,
    }
}

impl Seen {
    /// Adds a file, unless it was seen otherwise.
    fn add(&mut self, name: &[u8], stamp: Stamp) -> bool {
        *self.files.entry(name.to_vec()).or_insert(stamp) == stamp
    }

    fn encode(&self, path: &[u8], bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.extend((path.len() as u32 + 1).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.push(u8::from(self.stamp.is_some()));
        let none = Stamp { dev: 0, ino: 0, size: 0, mtime: (0, 0), ctime: (0, 0) };
        put_stamp(bytes, self.stamp.as_ref().unwrap_or(&none));
        bytes.extend(path);
        bytes.push(0);
        let first = bytes.len();
        for (name, stamp) in &self.files {
            bytes.extend((name.len() as u32 + 1).to_le_bytes());
            put_stamp(bytes, stamp);
            bytes.extend(name);
            bytes.push(0);
        }
        let length = (bytes.len() - first) as u32;
        bytes[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    }
}

impl<'a> Record<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let body = bytes.len().checked_sub(32)?;
        let digest = Digest::of(&bytes[..body]);
        if !bytes.starts_with(MAGIC) || digest.as_bytes() != &bytes[body..] {
            return None;
        }
        let mut reader = Reader { rest: bytes.get(MAGIC.len()..body)? };
        let rules = Digest::from_bytes(reader.array()?);
        let said = match reader.byte()? {
            0 => None,
            _ => Some(said(&mut reader)?),
        };
        let mut digests = Digests::new();
        for _ in 0..reader.number()? {
            digests.insert(Digest::from_bytes(reader.array()?), Digest::from_bytes(reader.array()?));
        }
        let mut folders = Vec::new();
        while !reader.rest.is_empty() {
            let (path, entries) = (reader.number()? as usize, reader.number()? as usize);
            let (counts, stamp) = (reader.byte()? != 0, reader.stamp()?);
            let path = CStr::from_bytes_with_nul(reader.take(path)?).ok()?;
            folders.push(FolderAt { path, stamp: counts.then_some(stamp), entries: reader.take(entries)? });
        }
        Some(Self { rules, said, digests, folders, digest })
    }

    /// Whether everything still is as it says.
    fn stands(&self, tree: &Tree) -> bool {
        let same_said = match (&tree.modes, &self.said) {
            (None, None) => true,
            (Some(modes), Some(said)) => modes.still_say(tree, said),
            _ => false,
        };
        same_said
            && self.rules == tree.ignore.digest()
            && self.folders.par_chunks(STRETCH).all(|folders| folders.iter().all(|at| at.stands(tree)))
    }
}

fn said(reader: &mut Reader<'_>) -> Option<Said> {
    let trusted = match reader.byte()? {
        2 => None,
        trusted => Some(trusted != 0),
    };
    let mut answers = BTreeMap::new();
    for _ in 0..reader.number()? {
        let length = reader.number()? as usize;
        answers.insert(reader.take(length)?.to_vec(), Digest::from_bytes(reader.array()?));
    }
    Some(Said { trusted, answers })
}

impl<'a> FolderAt<'a> {
    /// Its files with their stamps, as far as they can be read.
    fn files(&self) -> impl Iterator<Item = (&'a CStr, Stamp)> {
        let mut reader = Reader { rest: self.entries };
        std::iter::from_fn(move || file(&mut reader))
    }

    fn stands(&self, tree: &Tree) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let Ok(folder) = tree.open(self.path.to_bytes(), flags) else { return false };
        let Ok(stat) = rustix::fs::fstat(&folder) else { return false };
        let meta = Meta::from(&stat);
        if self.stamp.is_some_and(|stamp| stamp != meta.stamp)
            || tree.trust(&meta, folder.as_fd()) != Trust::Names
        {
            return false;
        }
        let mut reader = Reader { rest: self.entries };
        while !reader.rest.is_empty() {
            let Some((name, stamp)) = file(&mut reader) else { return false };
            match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if Meta::from(&stat).stamp == stamp => {}
                _ => return false,
            }
        }
        true
    }
}

fn file<'a>(reader: &mut Reader<'a>) -> Option<(&'a CStr, Stamp)> {
    let (length, stamp) = (reader.number()? as usize, reader.stamp()?);
    let name = CStr::from_bytes_with_nul(reader.take(length)?).ok()?;
    Some((name, stamp))
}
