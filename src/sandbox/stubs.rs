//! Mount points in a root file system: made where they are missing, removed again afterwards.
//!
//! All paths resolve inside the root, so a link in an image that points outward leads to a place in the
//! image. What exists is used as it is; what is missing is made empty and remembered in a [`Stub`], with
//! the modification time of the folder that it was made in, so that a layer does not show that anything
//! was mounted.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::wire::{Failure, What};
use crate::base::fs::RootDir;

/// Whether a mount point is to be a folder or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Folder,
    File,
}

/// Something that was made only to be mounted on.
#[derive(Debug)]
pub(super) struct Stub {
    parent: OwnedFd,
    name: OsString,
    kind: Kind,
    /// The folder's modification time before the stub was made, and because of it.
    before: Timespec,
    after: Timespec,
}

/// Most links that are followed from one mount point to the next.
const MOST_LINKS: usize = 40;

/// Makes sure that something of each kind lies at each path; returns what it made, in that order.
pub(super) fn make(root: &RootDir, points: &[(PathBuf, Kind)]) -> Result<Vec<Stub>, Failure> {
    let mut made = Vec::new();
    for (path, kind) in points {
        let result = make_one(root, path, *kind, &mut made);
        if let Err(error) = result {
            remove(made);
            return Err(Failure::new(What::MountPoint(path.to_owned()), error));
        }
    }
    Ok(made)
}

/// Removes what was made, as far as nothing was put into it, and sets the folders' times back where
/// nothing else changed them.
pub(super) fn remove(stubs: Vec<Stub>) {
    for stub in stubs.into_iter().rev() {
        // What cannot be removed (the command put something into a folder) belongs to the step now.
        let _ = stub.remove();
    }
}

impl Stub {
    fn remove(&self) -> io::Result<()> {
        let found = modified(&rustix::fs::fstat(&self.parent)?);
        let flags = match self.kind {
            Kind::Folder => AtFlags::REMOVEDIR,
            Kind::File => AtFlags::empty(),
        };
        rustix::fs::unlinkat(&self.parent, &self.name, flags)?;
        let time = if same(found, self.after) { self.before } else { found };
        set_modified(&self.parent, time)
    }
}

fn make_one(root: &RootDir, path: &Path, kind: Kind, made: &mut Vec<Stub>) -> io::Result<()> {
    let path = through_links(root, path)?;
    if is_there(root, &path, kind)? {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_one(root, parent, Kind::Folder, made)?;
    }
    // A path that ends with `..` is there as soon as what it leads through is.
    if !is_there(root, &path, kind)? {
        made.push(create(root, &path, kind)?);
    }
    Ok(())
}

/// Whether something lies at `path`; of another kind than wanted is an error.
fn is_there(root: &RootDir, path: &Path, kind: Kind) -> io::Result<bool> {
    let Some(stat) = root.stat(path, false).map_err(|error| error.source)? else { return Ok(false) };
    match (kind, FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
        (Kind::Folder, false) => Err(Errno::NOTDIR.into()),
        (Kind::File, true) => Err(Errno::ISDIR.into()),
        _ => Ok(true),
    }
}

/// Where `path` leads when its last component is a link, perhaps to something that does not exist. What
/// lies on the way there is left to the kernel, `..` included. A chain without an end is an error.
fn through_links(root: &RootDir, path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entry = match root.open_at(&path, flags, Mode::empty()) {
            Ok(entry) => entry,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error.source),
        };
        let stat = rustix::fs::fstat(&entry)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(path);
        }
        let target = rustix::fs::readlinkat(&entry, c"", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    Err(Errno::LOOP.into())
}

fn create(root: &RootDir, path: &Path, kind: Kind) -> io::Result<Stub> {
    let (parent, name) = root.parent(path).map_err(|error| error.source)?;
    let before = modified(&rustix::fs::fstat(&parent)?);
    let mode = Mode::from_raw_mode(if kind == Kind::Folder { 0o755 } else { 0o644 });
    match kind {
        Kind::Folder => rustix::fs::mkdirat(&parent, &name, mode)?,
        Kind::File => {
            rustix::fs::mknodat(&parent, &name, FileType::RegularFile, mode, 0)?;
        }
    }
    let (owner, group) = (Uid::from_raw(0), Gid::from_raw(0));
    rustix::fs::chownat(&parent, &name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    let after = modified(&rustix::fs::fstat(&parent)?);
    Ok(Stub { parent, name, kind, before, after })
}

fn modified(stat: &Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ }
}

fn same(one: Timespec, other: Timespec) -> bool {
    (one.tv_sec, one.tv_nsec) == (other.tv_sec, other.tv_nsec)
}

/// `folder` may be opened for its path only, so it is named through its own `.`.
fn set_modified(folder: &OwnedFd, time: Timespec) -> io::Result<()> {
    let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let times = Timestamps { last_access: keep, last_modification: time };
    Ok(rustix::fs::utimensat(folder, ".", &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
