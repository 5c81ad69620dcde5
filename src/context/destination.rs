//! Where a copy goes: the destination of a COPY, resolved inside the target.
//!
//! Links of the target are followed, also a last one that leads nowhere yet, but never out of it. Folders
//! that are missing on the way are made with the owner of `--chown` and an octal mode of `--chmod`, else as
//! root's with 0755 (BuildKit, observed). What is written into the place is `copy`'s matter.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::{CopyError, Placement};
use crate::base::fs::{AtPath, RootDir};

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

/// A destination in a target.
pub(super) struct Destination<'a> {
    into: &'a RootDir,
    placement: &'a Placement,
}

impl<'a> Destination<'a> {
    pub(super) fn of(into: &'a RootDir, placement: &'a Placement) -> Self {
        Self { into, placement }
    }

    /// The folder that the content of a folder goes to, made if it is missing, its path (free of links),
    /// and whether it was missing.
    pub(super) fn folder(&self) -> Result<(OwnedFd, PathBuf, bool), CopyError> {
        let path = self.resolve(Path::new(&self.placement.destination))?;
        let (folder, made) = self.make(&path)?;
        Ok((folder, path, made))
    }

    /// The folder that a file called `name` goes to, its path, and the name that the file gets there.
    pub(super) fn file(&self, name: &[u8]) -> Result<(OwnedFd, PathBuf, Vec<u8>), CopyError> {
        let written = &self.placement.destination;
        let path = self.resolve(Path::new(written))?;
        let as_folder = written.is_empty() || written.ends_with('/') || written.ends_with("/.");
        if as_folder || self.kind(&path)? == Some(FileType::Directory) {
            return Ok((self.make(&path)?.0, path, name.to_vec()));
        }
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(last)) => {
                Ok((self.make(parent)?.0, parent.to_owned(), last.as_bytes().to_vec()))
            }
            _ => Ok((self.make(&path)?.0, path, name.to_vec())),
        }
    }

    fn kind(&self, path: &Path) -> Result<Option<FileType>, CopyError> {
        let stat = self.into.stat(path, false)?;
        Ok(stat.map(|stat| FileType::from_raw_mode(stat.st_mode)))
    }

    /// The folder `path`, free of links, and whether it was missing and had to be made.
    fn make(&self, path: &Path) -> Result<(OwnedFd, bool), CopyError> {
        match self.into.open_at(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(folder) => Ok((folder, false)),
            Err(_) if self.blocked(path)? => Err(CopyError::NotAFolder { path: path.to_owned() }),
            Err(_) => {
                let mode = self.placement.chmod.as_ref().and_then(super::Chmod::octal).unwrap_or(0o755);
                let owner = self.placement.owner.unwrap_or((0, 0));
                Ok((self.into.create_directories(path, Mode::from_raw_mode(mode), owner)?, true))
            }
        }
    }

    /// Whether something that is no folder lies at `path` or above it.
    fn blocked(&self, path: &Path) -> Result<bool, CopyError> {
        for above in path.ancestors() {
            if let Some(kind) = self.kind(above)? {
                return Ok(kind != FileType::Directory);
            }
        }
        Ok(false)
    }

    /// `path` without links: absolute, what is missing kept as it is.
    fn resolve(&self, path: &Path) -> Result<PathBuf, CopyError> {
        let mut ahead: VecDeque<OsString> = parts(path).collect();
        let (mut reached, mut links) = (PathBuf::from("/"), 0);
        while let Some(part) = ahead.pop_front() {
            if part == ".." {
                reached.pop();
                continue;
            }
            let next = reached.join(&part);
            if self.kind(&next)? != Some(FileType::Symlink) {
                reached = next;
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(CopyError::LinkLoop { path: path.to_owned() });
            }
            let target = self.read_link(&next)?;
            if target.is_absolute() {
                reached = PathBuf::from("/");
            }
            parts(&target).collect::<Vec<_>>().into_iter().rev().for_each(|part| ahead.push_front(part));
        }
        Ok(reached)
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, CopyError> {
        let (folder, name) = self.into.parent(path)?;
        let target = rustix::fs::readlinkat(folder, name, Vec::new()).at_path("read", path)?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }
}

/// Names and `..`, in order.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
