//! The walk: a tree as the ignore rules show it, each folder looked at once.
//!
//! [`Tree::folder`] reads one folder (its names from the stat cache where its own stamp stands), stats
//! what the rules show relative to the held descriptor, and keeps the result for all later selections.
//! [`Tree::below`] does so for everything below a folder, in parallel. Ignored folders are entered only if
//! a `!` rule may bring something back. Names that mean deletion in a layer (`.wh.…`) are not shown: in an
//! image they would vanish with what they name. Contents are `content`'s matter; links are never followed
//! here, `locate` does that.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use super::cache::{Known, KnownEntry, Lazy};
use super::content::Content;
use super::folder::{Entries, Entry, Folder, Node, NodeRef};
use super::ignore::{Ignore, Matched};
use super::stamp::{self, Meta, Trust};
use super::tracked::Modes;
use crate::base::fs::{AtPath, PathError, RootDir};

/// A tree and what was seen of it.
#[derive(Debug)]
pub(super) struct Tree {
    root: RootDir,
    /// To show paths with: a host folder, or `/`.
    shown: PathBuf,
    pub(super) ignore: Ignore,
    /// Whether owners and extended attributes count: a root file system, not a build context.
    pub(super) rootfs: bool,
    /// The modes of what git tracks, where they count.
    pub(super) modes: Option<Modes>,
    pub(super) cache: Lazy,
    folders: Mutex<HashMap<Vec<u8>, Slot>>,
    devices: Mutex<HashMap<u64, Trust>>,
    single: Mutex<HashMap<Vec<u8>, NodeRef>>,
    /// Whether something was seen that the stat cache did not know and can keep.
    pub(super) learned: AtomicBool,
    /// Whether a selection depends on something that no stamp vouches for: what was not there, or vanished.
    pub(super) fleeting: AtomicBool,
}

/// Held while a folder is looked at, so that nobody else looks at it at the same time.
type Slot = Arc<Mutex<Option<Arc<Folder>>>>;

/// A path that was looked at without its folder.
pub(super) type Single = (Vec<u8>, NodeRef);

/// A folder and what is below it.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) folder: Arc<Folder>,
    /// By the index of the entry.
    pub(super) below: Vec<(usize, Branch)>,
}

/// How a file is opened to be read.
pub(super) const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Which folders a walk need not enter: paths below the root of the tree.
pub(super) type Skip<'a> = dyn Fn(&[u8]) -> bool + Sync + 'a;

impl Tree {
    /// The folder `shown` of the host, as `ignore` shows it.
    pub(super) fn of_context(root: RootDir, shown: PathBuf, ignore: Ignore, cache: Lazy) -> Self {
        let (folders, devices, single) = Default::default();
        let (learned, fleeting) = Default::default();
        let (rootfs, modes) = (false, None);
        Self { root, shown, ignore, rootfs, modes, cache, folders, devices, single, learned, fleeting }
    }

    /// A root file system: all of it is shown.
    pub(super) fn of_rootfs(root: RootDir) -> Self {
        let tree = Self::of_context(root, PathBuf::from("/"), Ignore::default(), Lazy::default());
        Self { rootfs: true, ..tree }
    }

    /// Forgets what was seen.
    pub(super) fn forget(&self) {
        lock(&self.folders).clear();
        lock(&self.single).clear();
        self.modes.iter().for_each(Modes::forget);
        self.fleeting.store(false, Ordering::Relaxed);
    }

    /// Notes that what is selected now cannot be told from stamps later.
    pub(super) fn fleets(&self) {
        self.fleeting.store(true, Ordering::Relaxed);
    }

    /// A path for messages.
    pub(super) fn shown(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.shown.clone() } else { self.shown.join(OsStr::from_bytes(path)) }
    }

    /// Opens `path`, none of whose components may be a link.
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        open_beneath(&self.root, path, flags)
    }

    /// What lies at `path`, all of whose folders are known to be no links; `None` if nothing does.
    pub(super) fn stat(&self, path: &[u8]) -> Result<Option<Meta>, PathError> {
        let path_or_dot = if path.is_empty() { b".".as_slice() } else { path };
        match rustix::fs::statat(&self.root, path_or_dot, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Meta::from(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(PathError::new("stat", self.shown(path), error)),
        }
    }

    /// The target of the link at `path`.
    pub(super) fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        rustix::fs::readlinkat(&self.root, path, Vec::new()).map(std::ffi::CString::into_bytes)
    }

    /// What stamps of `meta`'s file system prove; `file` lies on it.
    pub(super) fn trust(&self, meta: &Meta, file: BorrowedFd<'_>) -> Trust {
        let mut devices = lock(&self.devices);
        *devices.entry(meta.stamp.dev).or_insert_with(|| stamp::trust(file))
    }

    /// The node of one path, looked at alone unless its folder was looked at already. Links are not
    /// followed; what the rules do not show is given as well.
    pub(super) fn node(&self, path: &[u8], above: Option<&[bool]>) -> Result<Option<NodeRef>, PathError> {
        let (parent, name) = split(path);
        if let Some(folder) = self.seen(parent)
            && let Some(node) = folder.entry(name).and_then(|entry| entry.held())
        {
            return Ok(Some(node));
        }
        if let Some(node) = lock(&self.single).get(path) {
            return Ok(Some(node.clone()));
        }
        let Some(meta) = self.stat(path)? else { return Ok(None) };
        let verdict = self.ignore.verdict(path, above);
        let (excluded, matched) = (verdict.excluded, verdict.matched);
        let node = NodeRef::alone(Node { meta, excluded, matched, content: OnceLock::new() });
        self.recall(path, &node);
        // Whoever looks at it at the same time shall see the same.
        Ok(Some(lock(&self.single).entry(path.to_vec()).or_insert(node).clone()))
    }

    /// Takes the content of a single file from the stat cache.
    fn recall(&self, path: &[u8], node: &Node) {
        let (parent, name) = split(path);
        let known =
            self.cache.get().folder(parent).and_then(|mut known| known.find(|entry| entry.name == name));
        if let Some((_, digest)) =
            known.and_then(|known| known.content.filter(|(at, _)| *at == node.meta.stamp))
        {
            // What the cache holds was settled, on a file system that keeps change times.
            node.content.get_or_init(|| Content::known(digest));
        }
    }

    /// Whether something lies at `path`, shown or not: what the walk saw, where it was there.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        let (parent, name) = split(path);
        match self.seen(parent) {
            Some(folder) => folder.entry(name).is_some(),
            None => matches!(self.stat(path), Ok(Some(_))),
        }
    }

    /// The folder at `path`, if it was looked at.
    pub(super) fn seen(&self, path: &[u8]) -> Option<Arc<Folder>> {
        let slot = lock(&self.folders).get(path).map(Arc::clone)?;
        lock(&slot).clone()
    }

    /// Everything that was looked at: whole folders, and single paths.
    pub(super) fn all_seen(&self) -> (Vec<Arc<Folder>>, Vec<Single>) {
        let slots: Vec<Slot> = lock(&self.folders).values().map(Arc::clone).collect();
        let folders = slots.iter().filter_map(|slot| lock(slot).clone()).collect();
        let single = lock(&self.single).iter().map(|(path, node)| (path.clone(), node.clone())).collect();
        (folders, single)
    }

    /// The folder at `path`, `matched` by the rules as its node says.
    pub(super) fn folder(&self, path: &[u8], matched: &[bool]) -> Result<Arc<Folder>, PathError> {
        self.folder_at(None, path, matched).map(|(folder, _)| folder)
    }

    /// The folder, and its descriptor if it was opened just now. `parent` is the descriptor of the folder
    /// that it is in.
    fn folder_at(
        &self,
        parent: Option<BorrowedFd<'_>>,
        path: &[u8],
        matched: &[bool],
    ) -> Result<(Arc<Folder>, Option<OwnedFd>), PathError> {
        let slot = Arc::clone(lock(&self.folders).entry(path.to_vec()).or_default());
        let mut slot = lock(&slot);
        if let Some(folder) = &*slot {
            return Ok((Arc::clone(folder), None));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened = match parent {
            Some(parent) => rustix::fs::openat(parent, split(path).1, flags, Mode::empty()),
            None => self.open(path, flags),
        };
        let file = opened.at_path("open", self.shown(path))?;
        let folder = Arc::new(self.look(&file, path, matched)?);
        *slot = Some(Arc::clone(&folder));
        Ok((folder, Some(file)))
    }

    fn look(&self, file: &OwnedFd, path: &[u8], matched: &[bool]) -> Result<Folder, PathError> {
        let moment = stamp::now();
        let meta = Meta::from(&rustix::fs::fstat(file).at_path("stat", self.shown(path))?);
        let trust = self.trust(&meta, file.as_fd());
        let known = if trust == Trust::Nothing { None } else { self.cache.get().folder(path) };
        let stands = |known: &Known<'_>| known.complete && known.stamp == meta.stamp;
        let names = trust == Trust::Names && known.as_ref().is_some_and(stands);
        let mut look = Look {
            tree: self,
            file,
            path: path.to_vec(),
            above: (!path.is_empty()).then_some(matched),
            dev: meta.stamp.dev,
            entries: Entries::with_capacity(known.as_ref().map_or(0, Known::about)),
        };
        let mut known = known.into_iter().flatten().peekable();
        if names {
            known.try_for_each(|entry| look.entry(entry.name, from_raw(entry.kind), Some(&entry)))?;
            // They were complete and settled when they were kept.
            return Ok(Folder::new(path, meta, true, look.entries));
        }
        for (name, kind) in list(file).at_path("read", self.shown(path))? {
            while known.next_if(|entry| entry.name < &*name).is_some() {}
            let entry = known.next_if(|entry| entry.name == &*name);
            look.entry(&name, kind, entry.as_ref())?;
        }
        let settled = trust == Trust::Names && meta.stamp.settled(moment);
        self.learned.fetch_or(settled, Ordering::Relaxed);
        Ok(Folder::new(path, meta, settled, look.entries))
    }

    /// The folder at `path` and all that is shown below it, except what `skip` names.
    pub(super) fn below(&self, path: &[u8], matched: &[bool], skip: &Skip<'_>) -> Result<Branch, PathError> {
        self.branch(None, path, matched, skip)
    }

    fn branch(
        &self,
        parent: Option<BorrowedFd<'_>>,
        path: &[u8],
        matched: &[bool],
        skip: &Skip<'_>,
    ) -> Result<Branch, PathError> {
        let (folder, file) = self.folder_at(parent, path, matched)?;
        let inner = |(index, entry): (usize, Entry<'_>)| {
            entry.node().filter(|node| node.meta.is_folder())?;
            let path = join(path, entry.name);
            if skip(&path) { None } else { Some((index, path, entry.held()?)) }
        };
        let folders: Vec<_> = folder.entries().enumerate().filter_map(inner).collect();
        let file = file.as_ref().map(AsFd::as_fd);
        let walk = |(index, path, node): (usize, Vec<u8>, NodeRef)| match self.branch(
            file,
            &path,
            &node.matched,
            skip,
        ) {
            Ok(branch) => Some(Ok((index, branch))),
            Err(error) if gone(&error.source) => {
                self.fleets();
                None
            }
            Err(error) => Some(Err(error)),
        };
        let below = match folders.len() {
            0 => Vec::new(),
            1 => folders.into_iter().filter_map(walk).collect::<Result<_, _>>()?,
            _ => folders.into_par_iter().filter_map(walk).collect::<Result<_, _>>()?,
        };
        Ok(Branch { folder, below })
    }
}

/// Looking at the entries of one folder.
struct Look<'a> {
    tree: &'a Tree,
    file: &'a OwnedFd,
    /// The folder's path; while an entry is looked at, the entry's.
    path: Vec<u8>,
    above: Option<&'a [bool]>,
    dev: u64,
    entries: Entries,
}

impl Look<'_> {
    fn entry(
        &mut self,
        name: &[u8],
        kind: FileType,
        known: Option<&KnownEntry<'_>>,
    ) -> Result<(), PathError> {
        if name.starts_with(b".wh.") {
            self.entries.push(name, kind, None);
            return Ok(());
        }
        let length = self.path.len();
        if length > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let (kind, node) = self.shown(name, kind, known)?;
        self.path.truncate(length);
        self.entries.push(name, kind, node);
        Ok(())
    }

    /// What the entry `name` at `path` stands for, if the rules show it.
    fn shown(
        &self,
        name: &[u8],
        kind: FileType,
        known: Option<&KnownEntry<'_>>,
    ) -> Result<(FileType, Option<Node>), PathError> {
        let (path, ignore) = (self.path.as_slice(), &self.tree.ignore);
        let (excluded, matched) = match kind {
            FileType::Directory | FileType::Unknown => {
                let verdict = ignore.verdict(path, self.above);
                (verdict.excluded, verdict.matched)
            }
            _ => (ignore.excludes_file(path, self.above), Matched::default()),
        };
        if excluded && (matched.is_empty() || !ignore.may_reach_below(path)) {
            return Ok((kind, None));
        }
        let meta = match rustix::fs::statat(self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Meta::from(&stat),
            Err(Errno::NOENT) => {
                self.tree.fleets();
                return Ok((kind, None));
            }
            Err(error) => return Err(PathError::new("stat", self.tree.shown(path), error)),
        };
        let matched = match meta.is_folder() && matched.is_empty() {
            // It became a folder since its name was read.
            true => ignore.verdict(path, self.above).matched,
            false => matched,
        };
        let kind = meta.kind();
        if kind == FileType::Socket {
            // Something that is shown can be mounted over it.
            self.tree.fleets();
        }
        if kind == FileType::Socket || (excluded && kind != FileType::Directory) {
            return Ok((kind, None));
        }
        let content = OnceLock::new();
        if let Some((stamp, digest)) = known.and_then(|known| known.content)
            && stamp == meta.stamp
            && stamp.dev == self.dev
        {
            content.get_or_init(|| Content::known(digest));
        }
        Ok((kind, Some(Node { meta, excluded, matched, content })))
    }
}

/// All names of a folder with their types, sorted.
fn list(file: &OwnedFd) -> io::Result<Vec<(Box<[u8]>, FileType)>> {
    let mut buffer = [MaybeUninit::uninit(); 16384];
    let mut reader = RawDir::new(file, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.into(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|(left, _): &(Box<[u8]>, _), (right, _)| left.cmp(right));
    Ok(names)
}

/// Whether a folder was removed or replaced since its name was read.
pub(super) fn gone(error: &io::Error) -> bool {
    let codes = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    codes.iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

/// Opens `path` below `root`; no component may be a link, `..` does not occur.
pub(super) fn open_beneath(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Opens the regular file `name` of `folder` to read it: what is none must neither block nor become our terminal,
/// and no link is followed. Its access time stays as it is, where we may ask for that: to write it down costs more
/// than to read a small file.
pub(super) fn open_to_read(folder: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = READ | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&folder, name, flags | OFlags::NOATIME, Mode::empty()) {
        // It belongs to somebody else.
        Err(Errno::PERM) => rustix::fs::openat(&folder, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// `folder/name`, or `name` in the root.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, name].join(&b'/') }
}

/// The folder of a path, and the last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// A type as the cache keeps it, `DT_…`.
pub(super) fn to_raw(kind: FileType) -> u8 {
    match kind {
        FileType::Fifo => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 4,
        FileType::BlockDevice => 6,
        FileType::RegularFile => 8,
        FileType::Symlink => 10,
        FileType::Socket => 12,
        FileType::Unknown => 0,
    }
}

fn from_raw(kind: u8) -> FileType {
    match kind {
        1 => FileType::Fifo,
        2 => FileType::CharacterDevice,
        4 => FileType::Directory,
        6 => FileType::BlockDevice,
        8 => FileType::RegularFile,
        10 => FileType::Symlink,
        12 => FileType::Socket,
        _ => FileType::Unknown,
    }
}

/// A lock that a panicking thread may have held: what it guards is complete at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
