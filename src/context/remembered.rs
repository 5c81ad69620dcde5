//! What earlier selections came to, so that nothing needs to be selected where nothing changed.
//!
//! Beside the stat cache lies a file for each way in which a context is shown (its ignore file, where modes
//! come from): the digest that each request had, and everything that those digests depend on, namely the
//! stamp of each folder that was looked at, with its names, the stamp of each file whose content is known,
//! and what git said. If all of that stands, every digest in it does, and neither the stat cache is read nor
//! a value made of any entry. If one thing does not, nothing of it is believed.
//!
//! It only ever holds what was settled when it was seen (see `stamp`). Where a digest depends on something that
//! no stamp vouches for ([`Tree::fleets`], pipes and devices, single links in folders that were not listed), nothing
//! is remembered and the context is walked each time. A file that is missing, of another version or damaged
//! remembers nothing.
//!
//! Layout, little-endian: magic, digest of all rules, git's answers (a byte whether they count, a byte
//! whether modes on the disk were trusted if that was asked, their number, path and digest of each), number of
//! selections, digest of request and selection of each, folders, digest of all before it. A folder is: length
//! of its path, length of its entries, whether its stamp counts, stamp, path, entries. An entry is: length of its
//! name, stamp, name. Paths and names of entries end with a zero byte.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, OFlags};

use super::cache::{Reader, put_stamp, seal, unsealed};
use super::folder::{Folder, Node};
use super::ignore::Ignore;
use super::select::{RULES, Selection};
use super::stamp::{Meta, Stamp, Trust};
use super::tracked::{Modes, Said};
use super::tree::{Single, Tree, join, split};
use super::{Context, Request};
use crate::base::digest::{Digest, FieldHasher};
use crate::base::fs::{PathError, write_atomic};

const MAGIC: &[u8; 16] = b"shipway-walk-1\n\0";

/// About what an entry takes in the file.
const ENTRY: usize = 80;

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
    /// Whether that is over.
    forgotten: AtomicBool,
}

/// What digests depend on.
#[derive(Default)]
struct Evidence<'a> {
    folders: BTreeMap<&'a [u8], Seen<'a>>,
}

/// What was seen of one folder.
#[derive(Default)]
struct Seen<'a> {
    /// `None` where only single files in it were looked at.
    stamp: Option<Stamp>,
    files: BTreeMap<&'a [u8], Stamp>,
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

/// Something that a digest depends on and that may change without showing.
struct Fleeting;

impl Context {
    /// The same context with what is remembered of it, which is looked at now: one look at each file that an
    /// earlier selection took. To be asked for by [`Context::remembered`].
    #[must_use]
    pub fn recalled(mut self) -> Self {
        let Some(bytes) = self.remembered_file().and_then(|path| std::fs::read(path).ok()) else {
            return self;
        };
        match Record::parse(&bytes).filter(|record| record.stands(&self.tree)) {
            Some(Record { digests, digest, .. }) => {
                self.remembered = Remembered { digests, file: Some(digest), ..Remembered::default() };
            }
            // What git said to find that out is of an earlier moment than what is selected.
            None => self.tree.modes = self.tree.modes.take().map(Modes::anew),
        }
        self
    }

    /// The digest that [`Context::select`] would give, if that is remembered. What the selection holds is not.
    pub fn remembered(&self, request: &Request) -> Option<Digest> {
        if self.remembered.digests.is_empty() || self.remembered.forgotten.load(Ordering::Relaxed) {
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
            self.tree.fleets();
        }
        self.remembered.selected().insert(request.digest(), selection.digest());
    }

    /// Writes what was selected in this run, if it is not remembered already and can be.
    pub(super) fn save_remembered(&self) -> Result<(), PathError> {
        let Some(path) = self.remembered_file() else { return Ok(()) };
        let known = &self.remembered.digests;
        let mut digests = self.remembered.selected().clone();
        let is_new = |(request, digest): (&Digest, &Digest)| known.get(request) != Some(digest);
        if !digests.iter().any(is_new) || self.tree.fleeting.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (folders, single) = self.tree.all_seen();
        let Some((mut evidence, mut said)) = self.depends(&folders, &single) else { return Ok(()) };
        let there = std::fs::read(&path).unwrap_or_default();
        let before = self.remembered.file.and_then(|_| Record::parse(&there));
        if let Some(before) = before.filter(|before| Some(before.digest) == self.remembered.file) {
            let same_said = said.as_mut().zip(before.said.as_ref()).is_none_or(|(said, more)| said.add(more));
            if same_said && evidence.add(&before) {
                before.digests.iter().for_each(|(request, digest)| {
                    digests.entry(*request).or_insert(*digest);
                });
            } else {
                // It stood when the build began, and something in it is otherwise now.
                let Some(now) = self.depends(&folders, &single) else { return Ok(()) };
                (evidence, said) = now;
            }
        }
        let bytes = evidence.encode(rules(&self.tree.ignore), said.as_ref(), &digests);
        if bytes == there {
            return Ok(());
        }
        write_atomic(&path, &bytes)
    }

    /// What the selections of this run depend on; `None` if something of it may change without showing.
    fn depends<'a>(
        &self,
        folders: &'a [Arc<Folder>],
        single: &'a [Single],
    ) -> Option<(Evidence<'a>, Option<Said>)> {
        let evidence = Evidence::of(folders, single).ok()?;
        match &self.tree.modes {
            Some(modes) => Some((evidence, Some(modes.said()?))),
            None => Some((evidence, None)),
        }
    }

    /// Where it is kept: each way to show a folder has its own file. Those of ignore files that were edited
    /// since go with what the store no longer needs.
    fn remembered_file(&self) -> Option<PathBuf> {
        let mut way = FieldHasher::new("shipway walk");
        way.field(rules(&self.tree.ignore).as_bytes()).number(u64::from(self.tree.modes.is_some()));
        let extension = format!("walk-{}", &way.finish().hex()[..16]);
        self.tree.cache.file().map(|file| file.with_extension(extension))
    }
}

/// Of everything that makes other digests of the same tree and the same requests.
fn rules(ignore: &Ignore) -> Digest {
    let mut rules = FieldHasher::new("shipway walk rules");
    rules.field(env!("CARGO_PKG_VERSION")).field(RULES).field(ignore.digest().as_bytes()).finish()
}

impl Remembered {
    fn selected(&self) -> MutexGuard<'_, Digests> {
        self.selected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets it, and what this run selected.
    pub(super) fn forget(&self) {
        self.selected().clear();
        self.forgotten.store(true, Ordering::Relaxed);
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

impl<'a> Evidence<'a> {
    /// Of everything that was looked at.
    fn of(folders: &'a [Arc<Folder>], single: &'a [Single]) -> Result<Self, Fleeting> {
        let paths: HashMap<&[u8], &Arc<Folder>> =
            folders.iter().map(|folder| (&*folder.path, folder)).collect();
        let mut evidence = Self::default();
        for folder in folders {
            let mut seen = Seen { stamp: Some(folder.meta.stamp), files: BTreeMap::new() };
            for entry in folder.entries() {
                let Some(node) = entry.node() else { continue };
                match node.meta.kind() {
                    FileType::RegularFile => match known(node)? {
                        // The stat cache believes no other file system's stamps in a folder.
                        Some(stamp) if stamp.dev != folder.meta.stamp.dev => return Err(Fleeting),
                        Some(stamp) => drop(seen.files.insert(entry.name, stamp)),
                        // Nothing was selected that depends on it.
                        None => {}
                    },
                    FileType::Directory => match paths.get(&*join(&folder.path, entry.name)) {
                        Some(inner) if inner.meta != node.meta => return Err(Fleeting),
                        _ => {}
                    },
                    FileType::Symlink => {}
                    _ => return Err(Fleeting),
                }
            }
            if !folder.settled {
                return Err(Fleeting);
            }
            evidence.folders.insert(&folder.path, seen);
        }
        for (path, node) in single {
            let (parent, name) = split(path);
            let listed = paths.get(parent).and_then(|folder| folder.entry(name)?.node());
            if listed.is_some_and(|listed| listed.meta == node.meta) && !node.meta.is_folder() {
                // What was found out of it may be more than the folder knows.
                if let Some(stamp) = known(node)? {
                    evidence.file(parent, name, stamp)?;
                }
                continue;
            }
            match node.meta.kind() {
                FileType::RegularFile => evidence.file(parent, name, known(node)?.ok_or(Fleeting)?)?,
                // The way to something else, or where `..` leads back from.
                FileType::Directory => drop(evidence.folders.entry(path).or_default()),
                _ => return Err(Fleeting),
            }
        }
        Ok(evidence)
    }

    /// Adds a file, unless it was seen otherwise.
    fn file(&mut self, folder: &'a [u8], name: &'a [u8], stamp: Stamp) -> Result<(), Fleeting> {
        if self.folders.entry(folder).or_default().add(name, stamp) { Ok(()) } else { Err(Fleeting) }
    }

    /// Adds that of an earlier run, unless they contradict each other.
    fn add(&mut self, before: &Record<'a>) -> bool {
        before.folders.iter().all(|folder| {
            let seen = self.folders.entry(folder.path.to_bytes()).or_default();
            if seen.stamp.is_some() && folder.stamp.is_some() && seen.stamp != folder.stamp {
                return false;
            }
            seen.stamp = seen.stamp.or(folder.stamp);
            folder.files().all(|(name, stamp)| seen.add(name.to_bytes(), stamp))
        })
    }

    fn encode(&self, rules: Digest, said: Option<&Said>, digests: &Digests) -> Vec<u8> {
        let files: usize = self.folders.values().map(|seen| seen.files.len() + 2).sum();
        let mut bytes = Vec::with_capacity(files * ENTRY);
        bytes.extend(MAGIC);
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
        seal(&mut bytes);
        bytes
    }
}

/// What the digest of a file's content depends on; `None` if that is not known.
fn known(node: &Node) -> Result<Option<Stamp>, Fleeting> {
    match node.content.get() {
        None => Ok(None),
        Some(content) if content.settled && *content.meta(&node.meta) == node.meta => {
            Ok(Some(node.meta.stamp))
        }
        Some(_) => Err(Fleeting),
    }
}

impl<'a> Seen<'a> {
    /// Adds a file, unless it was seen otherwise.
    fn add(&mut self, name: &'a [u8], stamp: Stamp) -> bool {
        *self.files.entry(name).or_insert(stamp) == stamp
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
            bytes.extend_from_slice(&(name.len() as u32 + 1).to_le_bytes());
            put_stamp(bytes, stamp);
            bytes.extend_from_slice(name);
            bytes.push(0);
        }
        let length = (bytes.len() - first) as u32;
        bytes[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    }
}

impl<'a> Record<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader { rest: unsealed(bytes, MAGIC)? };
        let digest = Digest::from_bytes(*bytes.last_chunk()?);
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
            && self.rules == rules(&tree.ignore)
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
    fn files(&self) -> impl Iterator<Item = (&'a CStr, Stamp)> + use<'a> {
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
