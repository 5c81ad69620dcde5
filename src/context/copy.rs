//! Writing a selection into a root file system, by BuildKit's rules for COPY.
//!
//! The destination is resolved inside the target (`destination`), folders are made from the top down, files
//! are written in parallel, hard links after them, and folders get their attributes last, from the bottom
//! up, because every entry made in them changes their time. Below the destination no link of the target is
//! ever followed. An existing destination folder keeps its attributes but for the time, which is the copied
//! folder's; folders below it take all of the source's.
//! Everything but the bytes of files comes from the selection, so only those need to be verified
//! (`transfer`). A failed copy leaves its target half written: the caller throws that away.
//!
//! An overlay makes every new file dear. [`Context::begin_copy`] therefore writes through the merged tree
//! only what meets something there: the way to the destination, what lies in folders that were there, and
//! the topmost of the folders that are new. What is in new folders meets nothing of the layers below, so
//! [`Rest::write`] puts it into the bare upper, once the overlay over it is gone. There it takes from what an
//! earlier copy wrote (`earlier`) the files that are the same.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::attributes;
use super::destination::Destination;
use super::earlier::{Before, Earlier, Mapping};
use super::select::{Held, Part, Picked};
use super::stamp::Meta;
use super::transfer::{Transfer, shown_source};
use super::tree::{open_beneath, split};
use super::{Context, CopyError, Placement, Selection};
use crate::base::fs::{AtPath, PathError, RootDir};
use crate::base::listing::{Kind, escape};

/// Files that one thread writes at a stretch.
const STRETCH: usize = 32;

impl Context {
    /// Writes `selection`, which this context made, into `into`. Fails with [`CopyError::Changed`] if a file
    /// no longer holds what was digested.
    pub fn copy(
        &self,
        selection: &Selection,
        into: &RootDir,
        placement: &Placement,
    ) -> Result<(), CopyError> {
        selection.parts.iter().try_for_each(|part| {
            let mut copier = Copier::new(self, part, into, placement)?;
            copier.make_folders(false)?;
            copier.write_half(Half::Merged, None)
        })
    }

    /// Begins [`Context::copy`] into `into`, the merged tree over an upper. When that tree is no longer
    /// mounted, [`Rest::write`] has to end it.
    pub fn begin_copy<'a>(
        &'a self,
        selection: &'a Selection,
        into: &RootDir,
        placement: &'a Placement,
    ) -> Result<Rest<'a>, CopyError> {
        let [part] = selection.parts.as_slice() else {
            // Of several parts each may meet what the last one made.
            self.copy(selection, into, placement)?;
            return Ok(Rest { copier: None });
        };
        let mut copier = Copier::new(self, part, into, placement)?;
        copier.make_folders(part.is_folder() && part.entries.iter().all(is_plain))?;
        copier.write_half(Half::Merged, None)?;
        Ok(Rest { copier: copier.has_rest().then_some(copier) })
    }
}

/// What a copy still has to write: the content of the folders that it made.
#[must_use]
pub struct Rest<'a> {
    copier: Option<Copier<'a>>,
}

impl Rest<'_> {
    /// Where the copy takes from and puts what there is still to write; `None` if that is nothing.
    pub fn mapping(&self) -> Option<Mapping> {
        let copier = self.copier.as_ref()?;
        let (from, to) = (escape(copier.part.taken_from()), escape(copier.target()));
        Some(Mapping { from, to })
    }

    /// Writes it into `upper`, which lay under the tree that the copy began in, and over which nothing is
    /// mounted any more. `earlier` is what a copy with the same mapping wrote.
    pub fn write(self, upper: &RootDir, earlier: Option<&Earlier>) -> Result<(), CopyError> {
        let Some(mut copier) = self.copier else { return Ok(()) };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        copier.folder = open_beneath(upper, copier.target(), flags).at_path("open", &copier.shown)?;
        copier.make_folders_inside()?;
        copier.write_half(Half::Bare, earlier)
    }
}

/// Whether an entry is written into a bare upper as into a merged tree. A device may mean something else to
/// an overlay, and hard links may lead from one half of a copy into the other.
fn is_plain(entry: &Picked) -> bool {
    matches!(entry.kind, Kind::File | Kind::Directory | Kind::Link) && entry.same_as.is_none()
}

/// The folder that a destination means to whoever fills it otherwise (ADD of an archive), made where it is
/// missing as for the content of a folder.
pub fn destination_folder(into: &RootDir, placement: &Placement) -> Result<OwnedFd, CopyError> {
    Ok(Destination::of(into, placement).folder()?.0)
}

/// Writes a file that has no source in any tree (a heredoc of a COPY) by the same rules as a file of one:
/// what is there is replaced and no link followed, a folder never replaced.
pub fn write_file(
    into: &RootDir,
    placement: &Placement,
    name: &str,
    content: &[u8],
) -> Result<(), CopyError> {
    let (folder, shown, name) = Destination::of(into, placement).file(name.as_bytes())?;
    let shown = shown.join(OsStr::from_bytes(&name));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(&folder, &*name, flags, Mode::RUSR | Mode::WUSR);
    let file = match open() {
        Err(Errno::EXIST) if is_folder(&folder, &name) => {
            return Err(CopyError::ReplacesFolder { path: shown });
        }
        Err(Errno::EXIST) => rustix::fs::unlinkat(&folder, &*name, AtFlags::empty()).and_then(|()| open()),
        opened => opened,
    };
    let mut file = File::from(file.at_path("create", &shown)?);
    file.write_all(content).at_path("write", &shown)?;
    let (uid, gid) = placement.owner.unwrap_or((0, 0));
    let mode = placement.chmod.as_ref().map_or(0o644, |chmod| chmod.apply(0o644, false));
    let dressed = rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .and_then(|()| rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)));
    Ok(dressed.at_path("set the attributes of", shown)?)
}

/// The halves of a copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    /// Through the merged tree: what meets something there.
    Merged,
    /// What is in new folders.
    Bare,
}

/// Writing one part.
struct Copier<'a> {
    context: &'a Context,
    transfer: Transfer<'a>,
    part: &'a Part,
    placement: &'a Placement,
    /// In the target.
    folder: OwnedFd,
    shown: PathBuf,
    /// The name that a single file gets.
    renamed: Option<Vec<u8>>,
    /// Whether the folder in the target is new.
    made: bool,
    /// The folders below it whose content is left to the second half.
    new: HashSet<&'a [u8]>,
}

impl<'a> Copier<'a> {
    /// Finds the destination, making what is missing on the way.
    fn new(
        context: &'a Context,
        part: &'a Part,
        into: &RootDir,
        placement: &'a Placement,
    ) -> Result<Self, CopyError> {
        let destination = Destination::of(into, placement);
        let (folder, shown, renamed, made) = match part.is_folder() {
            true => {
                let (folder, shown, made) = destination.folder()?;
                (folder, shown, None, made)
            }
            false => {
                let name = part.entries.first().map_or(b"".as_slice(), |entry| part.relative(entry));
                let (folder, shown, name) = destination.file(name)?;
                (folder, shown, Some(name), false)
            }
        };
        let (transfer, new) = (Transfer::new(context), HashSet::new());
        Ok(Self { context, transfer, part, placement, folder, shown, renamed, made, new })
    }

    fn folders(&self) -> impl DoubleEndedIterator<Item = &'a Picked> + use<'a> {
        self.part.entries.iter().filter(|entry| entry.kind == Kind::Directory)
    }

    /// Makes the folders, from the top down; if `in_halves`, of those that are new only the topmost.
    fn make_folders(&mut self, in_halves: bool) -> Result<(), CopyError> {
        self.made &= in_halves;
        for entry in self.folders() {
            if self.half(entry) == Half::Bare || (self.make_folder(entry)? && in_halves) {
                self.new.insert(self.part.relative(entry));
            }
        }
        Ok(())
    }

    /// Makes the folders in new folders, each after the one that it lies in.
    fn make_folders_inside(&self) -> Result<(), CopyError> {
        let mut levels: BTreeMap<usize, Vec<&Picked>> = BTreeMap::new();
        for entry in self.folders().filter(|entry| self.half(entry) == Half::Bare) {
            let depth = entry.path.iter().filter(|byte| **byte == b'/').count();
            levels.entry(depth).or_default().push(entry);
        }
        let make = |entry: &&Picked| self.make_folder(entry).map(drop);
        levels.values().try_for_each(|level| level.par_iter().with_min_len(STRETCH / 4).try_for_each(make))
    }

    /// The half that writes `entry`: the second one if it lies in a new folder.
    fn half(&self, entry: &Picked) -> Half {
        let folder = split(self.relative(entry)).0;
        let bare = if folder.is_empty() { self.made } else { self.new.contains(folder) };
        if bare { Half::Bare } else { Half::Merged }
    }

    fn has_rest(&self) -> bool {
        self.made || !self.new.is_empty()
    }

    /// Writes what is no folder, and gives folders their attributes: new ones in the second half.
    fn write_half(&self, half: Half, earlier: Option<&Earlier>) -> Result<(), CopyError> {
        let mut groups: BTreeMap<&[u8], Vec<&Picked>> = BTreeMap::new();
        for entry in &self.part.entries {
            if entry.kind != Kind::Directory && entry.same_as.is_none() && self.half(entry) == half {
                groups.entry(split(self.relative(entry)).0).or_default().push(entry);
            }
        }
        let stretches: Vec<_> = groups.values().flat_map(|group| group.chunks(STRETCH)).collect();
        match stretches.as_slice() {
            [single] => self.write(single, earlier)?,
            many => many.par_iter().try_for_each(|group| self.write(group, earlier))?,
        }
        if half == Half::Merged {
            self.part.entries.iter().try_for_each(|entry| self.link(entry))?;
        }
        let is_new = |entry: &Picked| self.new.contains(self.relative(entry));
        let mut folders = self.folders().rev().filter(|entry| is_new(entry) == (half == Half::Bare));
        folders.try_for_each(|entry| self.finish_folder(entry))?;
        if self.made == (half == Half::Bare) { self.date_folder() } else { Ok(()) }
    }

    /// Gives the folder that took a folder's content that folder's time.
    fn date_folder(&self) -> Result<(), CopyError> {
        let Some(meta) = &self.part.folder else { return Ok(()) };
        let dated = rustix::fs::utimensat(&self.folder, ".", &times(meta), AtFlags::empty());
        Ok(dated.at_path("set the time of", &self.shown)?)
    }

    /// The target folder's path below the root of the target.
    fn target(&self) -> &[u8] {
        self.shown.strip_prefix("/").unwrap_or(&self.shown).as_os_str().as_bytes()
    }

    /// Where `entry` comes to lie below the target folder.
    fn relative<'e>(&'e self, entry: &'e Picked) -> &'e [u8] {
        self.renamed.as_deref().unwrap_or_else(|| self.part.relative(entry))
    }

    fn shown(&self, entry: &Picked) -> PathBuf {
        self.shown.join(OsStr::from_bytes(self.relative(entry)))
    }

    /// The folder of the target that `entry` lies in, and its name there.
    fn place<'e>(&'e self, entry: &'e Picked) -> Result<(OwnedFd, &'e [u8]), CopyError> {
        let (parent, name) = split(self.relative(entry));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let folder = open_beneath(&self.folder, parent, flags).at_path("open", self.shown(entry))?;
        Ok((folder, name))
    }

    /// Makes a folder; whether it was missing.
    fn make_folder(&self, entry: &Picked) -> Result<bool, CopyError> {
        let (parent, name) = self.place(entry)?;
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) if is_folder(&parent, name) => Ok(false),
            Err(Errno::EXIST) => Err(CopyError::NotAFolder { path: self.shown(entry) }),
            Err(error) => Err(PathError::new("create", self.shown(entry), error).into()),
        }
    }

    /// Writes entries of one folder.
    fn write(&self, entries: &[&Picked], earlier: Option<&Earlier>) -> Result<(), CopyError> {
        let Some(first) = entries.first() else { return Ok(()) };
        let (target, _) = self.place(first)?;
        let parent = split(&first.path).0;
        let source = self.context.tree.open(parent, OFlags::PATH | OFlags::DIRECTORY);
        let source = source.map_err(|_| CopyError::Changed { path: shown_source(first) })?;
        let before = earlier.and_then(|earlier| {
            let path = split(self.relative(first)).0;
            earlier.folder(self.target(), path, &target)
        });
        let is_shared = |entry: &Picked| {
            let name = split(self.relative(entry)).1;
            let share =
                |before: &Before<'_>| before.share((self.part, entry), self.owner(entry), name, &target);
            before.as_ref().is_some_and(share)
        };
        let mut unshared = entries.iter().filter(|entry| !is_shared(entry));
        unshared.try_for_each(|entry| self.write_one(&source, &target, entry))
    }

    fn write_one(&self, source: &OwnedFd, target: &OwnedFd, entry: &Picked) -> Result<(), CopyError> {
        let name = split(self.relative(entry)).1;
        let create = |action: &dyn Fn() -> Result<(), Errno>| self.create(target, entry, action);
        match (&entry.kind, &entry.held) {
            (Kind::File, _) => return self.write_file(source, target, entry),
            (Kind::Link, Held::Target(link)) => {
                create(&|| rustix::fs::symlinkat(&**link, target, name))?;
            }
            (Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo, held) => {
                let device = if let Held::Device(device) = held { *device } else { 0 };
                let kind = match entry.kind {
                    Kind::Fifo => FileType::Fifo,
                    Kind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::CharacterDevice,
                };
                create(&|| rustix::fs::mknodat(target, name, kind, Mode::RUSR, device))?;
            }
            _ => return Ok(()),
        }
        self.dress(target, name, entry).at_path("set the attributes of", self.shown(entry))?;
        Ok(())
    }

    /// Makes an entry with `action`, in the place of one that is there and is no folder.
    fn create(
        &self,
        target: &OwnedFd,
        entry: &Picked,
        action: &dyn Fn() -> Result<(), Errno>,
    ) -> Result<(), CopyError> {
        let name = split(self.relative(entry)).1;
        match action() {
            Err(Errno::EXIST) if is_folder(target, name) => {
                Err(CopyError::ReplacesFolder { path: self.shown(entry) })
            }
            Err(Errno::EXIST) => {
                let replaced = rustix::fs::unlinkat(target, name, AtFlags::empty()).and_then(|()| action());
                Ok(replaced.at_path("replace", self.shown(entry))?)
            }
            result => Ok(result.at_path("create", self.shown(entry))?),
        }
    }

    fn write_file(&self, source: &OwnedFd, target: &OwnedFd, entry: &Picked) -> Result<(), CopyError> {
        let name = split(self.relative(entry)).1;
        let made = std::cell::RefCell::new(None);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.create(target, entry, &|| {
            let file = rustix::fs::openat(target, name, flags, mode)?;
            made.replace(Some(File::from(file)));
            Ok(())
        })?;
        let Some(file) = made.into_inner() else { return Ok(()) };
        let shown = self.shown(entry);
        self.transfer.file(source, entry, &file, &shown)?;
        let dressed = self
            .own(&file, entry)
            .and_then(|()| attributes::write(target, name, &entry.attributes))
            .and_then(|()| rustix::fs::futimens(&file, &times(entry.meta())));
        dressed.map_err(|error| PathError::new("set the attributes of", shown, error).into())
    }

    /// Gives a new file its owner and mode. Most have them by being made, and setting them costs a write.
    fn own(&self, file: &File, entry: &Picked) -> Result<(), Errno> {
        let (uid, gid) = self.owner(entry);
        let is = rustix::fs::fstat(file)?;
        let owned = is.st_uid == uid.as_raw() && is.st_gid == gid.as_raw();
        if !owned {
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        if !owned || Meta::from(&is).permissions() != entry.mode {
            rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
        }
        Ok(())
    }

    fn link(&self, entry: &Picked) -> Result<(), CopyError> {
        let Some(first) = entry.same_as.map(|first| &self.part.entries[first]) else { return Ok(()) };
        let (from, from_name) = self.place(first)?;
        let (to, to_name) = self.place(entry)?;
        self.create(&to, entry, &|| rustix::fs::linkat(&from, from_name, &to, to_name, AtFlags::empty()))
    }

    fn finish_folder(&self, entry: &Picked) -> Result<(), CopyError> {
        let (parent, name) = self.place(entry)?;
        Ok(self.dress(&parent, name, entry).at_path("set the attributes of", self.shown(entry))?)
    }

    fn owner(&self, entry: &Picked) -> (Uid, Gid) {
        let (uid, gid) = self.placement.owner.unwrap_or((entry.uid, entry.gid));
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }

    /// Owner, mode, extended attributes and times of what is no regular file, in this order: each may undo
    /// one before it.
    fn dress(&self, folder: &OwnedFd, name: &[u8], entry: &Picked) -> Result<(), Errno> {
        let (uid, gid) = self.owner(entry);
        rustix::fs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if entry.kind != Kind::Link {
            rustix::fs::chmodat(folder, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        attributes::write(folder, name, &entry.attributes)?;
        rustix::fs::utimensat(folder, name, &times(entry.meta()), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// The modification time of the source; the access time stays.
fn times(meta: &Meta) -> Timestamps {
    let (seconds, nanos) = meta.stamp.mtime;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
    }
}

fn is_folder(parent: &OwnedFd, name: &[u8]) -> bool {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| Meta::from(&stat).is_folder())
}
