//! What is mounted for one command alone: made ready here, attached in [`tree`](super::tree).
//!
//! Everything arrives in the command's namespace as a detached mount, by descriptor: layers as their stack,
//! a folder of the host as a bind of its own, small files in a file system in memory that never touches a
//! disk. Nothing is attached on this side, so nothing is left behind. Links in a source resolve inside it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, mkdirat, openat};
use rustix::mount::OpenTreeFlags;

use super::mount::{Forbid, NO_DEV, NO_EXEC, NO_SUID, READ_ONLY, attach, bind, filesystem, restrict};
use super::spec::{Mount, MountSource};
use super::stacks::Stacks;
use super::stubs::{self, Kind};
use super::wire::{Doing, Extra, Failure, What};
use super::{Layers, SandboxError};
use crate::base::fs::{AtPath, RootDir};

/// The name of a file in its own file system.
const CONTENT: &str = "content";

/// `statfs` of procfs.
const PROC_MAGIC: u64 = 0x9fa0;

/// Makes everything that `mounts` name, in their order.
pub(super) fn prepare(stacks: &Stacks, mounts: &[Mount]) -> Result<Vec<(Extra, OwnedFd)>, SandboxError> {
    mounts.iter().map(|mount| prepare_one(stacks, mount)).collect()
}

fn prepare_one(stacks: &Stacks, mount: &Mount) -> Result<(Extra, OwnedFd), SandboxError> {
    let failed = |source| SandboxError::MountSource { target: mount.target.clone(), source };
    let mut extra = Extra {
        target: mount.target.clone(),
        inside: None,
        kind: Kind::Folder,
        read_only: mount.read_only,
        inert: false,
    };
    let made = match &mount.source {
        MountSource::Layers { layers, path } => return layered(stacks, layers, path, extra),
        MountSource::Folder(folder) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::open(folder, flags, Mode::empty()).at_path("open", folder)?;
            bind(&opened, "")
        }
        MountSource::Tmpfs { size } => {
            let size = size.map(|size| size.to_string());
            let mut options = vec![("mode", Some("1777"))];
            options.extend(size.as_deref().map(|size| ("size", Some(size))));
            filesystem("tmpfs", &options, NO_SUID | NO_DEV)
        }
        MountSource::File { content, mode, uid, gid } => {
            extra.inside = Some(PathBuf::from(CONTENT));
            extra.kind = Kind::File;
            extra.inert = true;
            in_memory(CONTENT, content.reveal(), *mode, (*uid, *gid))
        }
        MountSource::Script { name, content } => in_memory(name, content.as_bytes(), 0o755, (0, 0)),
        MountSource::Socket(path) => {
            extra.kind = Kind::File;
            bind_file(path)
        }
    };
    Ok((extra, made.map_err(failed)?))
}

/// A path in a stack of layers.
fn layered(
    stacks: &Stacks,
    layers: &Layers,
    path: &Path,
    mut extra: Extra,
) -> Result<(Extra, OwnedFd), SandboxError> {
    let failed = |source| SandboxError::MountSource { target: extra.target.clone(), source };
    let tree = stacks.tree(layers)?;
    let root = RootDir::from_fd(tree.try_clone().map_err(failed)?);
    let stat = root.stat(path, true)?;
    let stat = stat.ok_or_else(|| SandboxError::NothingToMount { path: path.to_owned() })?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        extra.kind = Kind::File;
    }
    extra.inside = (path != Path::new("/")).then(|| path.to_owned());
    Ok((extra, tree))
}

/// A file system in memory with one file.
fn in_memory(name: &str, content: &[u8], mode: u32, (uid, gid): (u32, u32)) -> std::io::Result<OwnedFd> {
    let root = filesystem("tmpfs", &[("mode", Some("755"))], NO_SUID | NO_DEV)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = File::from(openat(&root, name, flags, Mode::RUSR)?);
    file.write_all(content)?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(root)
}

/// A bind of a single file of the host, here a socket of our own.
fn bind_file(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    Ok(rustix::mount::open_tree(rustix::fs::CWD, path, flags)?)
}

/// The mount points that lie in the root file system itself, not in something that is mounted before.
pub(super) fn own_points(extras: &[Extra], others: &[(&str, Kind)]) -> Vec<(PathBuf, Kind)> {
    let covered = |target: &Path| {
        let folders = others.iter().map(|(path, _)| Path::new(*path));
        let mut above = folders.chain(extras.iter().map(|extra| extra.target.as_path()));
        above.any(|above| target != above && target.starts_with(above))
    };
    let own = extras.iter().filter(|extra| !covered(&extra.target));
    own.map(|extra| (extra.target.clone(), extra.kind)).collect()
}

/// Attaches everything on `root`, the tree as it is seen so far. `place` is a folder of the caller's own.
pub(super) fn attach_all(
    extras: &[(Extra, OwnedFd)],
    root: &RootDir,
    place: &OwnedFd,
) -> Result<(), Failure> {
    for (number, (extra, mount)) in extras.iter().enumerate() {
        let action = || format!("mount {}", extra.target.display());
        let piece = match &extra.inside {
            None => mount.try_clone().doing(&action())?,
            Some(path) => piece_of(mount, path, place, number).doing(&action())?,
        };
        restrict(&piece, extra.forbidden()).doing(&action())?;
        attach(&piece, target(extra, root)?).doing(&action())?;
    }
    Ok(())
}

/// A part of a detached mount. Only what is attached can be bound from before Linux 6.15.
fn piece_of(mount: &OwnedFd, path: &Path, place: &OwnedFd, number: usize) -> std::io::Result<OwnedFd> {
    let name = format!("extra-{number}");
    mkdirat(place, &name, Mode::RWXU)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    attach(mount, openat(place, &name, flags, Mode::empty())?)?;
    let root = RootDir::from_fd(openat(place, &name, flags, Mode::empty())?);
    let opened = root.open_at(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    bind(opened.map_err(|error| error.source)?, "")
}

/// Where something is mounted; made if it lies in something that is mounted already.
fn target(extra: &Extra, root: &RootDir) -> Result<OwnedFd, Failure> {
    let refused = |error: std::io::Error| Failure::new(What::MountPoint(extra.target.clone()), error);
    // What is made in the root file system itself was made, and will be removed, by the monitor.
    stubs::make(root, &[(extra.target.clone(), extra.kind)])?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let place = root.open_at(&extra.target, flags, Mode::empty()).map_err(|error| refused(error.source))?;
    let (here, top) = (rustix::fs::fstat(&place), rustix::fs::fstat(root.as_fd()));
    let (here, top) = (here.map_err(|e| refused(e.into()))?, top.map_err(|e| refused(e.into()))?);
    if (here.st_dev, here.st_ino) == (top.st_dev, top.st_ino) {
        return Err(refused(std::io::Error::other("it leads to the root")));
    }
    let found = rustix::fs::fstatfs(&place).map_err(|e| refused(e.into()))?;
    if found.f_type as u64 == PROC_MAGIC {
        return Err(refused(std::io::Error::other("it is inside /proc")));
    }
    Ok(place)
}

impl Extra {
    fn forbidden(&self) -> Forbid {
        let mut forbidden = NO_DEV;
        if self.read_only {
            forbidden |= READ_ONLY;
        }
        if self.inert {
            forbidden |= NO_SUID | NO_EXEC;
        }
        forbidden
    }
}
