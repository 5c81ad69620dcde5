//! A whole file system into a folder of the host, as BuildKit's local output writes it.
//!
//! Everything comes to belong to the one who calls; modes, times, extended attributes, links and devices
//! are the file system's. What the folder had before stays, but for entries of the same names, which are
//! replaced: a folder takes the new attributes and keeps what else is in it. No link of the folder is ever
//! followed. Sockets are left out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use crate::base::cancel::Cancel;
use crate::base::fs::{PathError, RootDir};

use super::super::OciError;
use super::write::{Times, names, open_file, open_folder};
use super::xattrs;

/// Copies the file system `tree` into `into`; everything there belongs to `owner` afterwards. What was
/// written when the user stops the command stays.
pub fn copy_tree(
    tree: &RootDir,
    into: &RootDir,
    owner: (u32, u32),
    times: Times,
    cancel: &Cancel,
) -> Result<(), OciError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = tree.open_at("/".as_ref(), flags, Mode::empty())?;
    let to = into.open_at("/".as_ref(), flags, Mode::empty())?;
    let owner = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    let root = to.try_clone().map_err(|error| PathError::new("open", "/", error))?;
    let mut copier = Copier { root, owner, times, cancel, links: HashMap::new() };
    copier.folder(&from, &to, Path::new(""))
}

struct Copier<'c> {
    /// The folder that everything goes into.
    root: OwnedFd,
    owner: (Uid, Gid),
    times: Times,
    cancel: &'c Cancel,
    /// Where the first name of each file that has several came to lie, below the root.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copier<'_> {
    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<(), OciError> {
        let all = names(from).map_err(|error| failed("read", path, error))?;
        all.iter().try_for_each(|name| self.entry(from, to, name, &path.join(name)))
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), OciError> {
        if self.cancel.is_cancelled() {
            return Err(OciError::Cancelled);
        }
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed("stat", path, error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.subfolder(from, to, name, path, &stat),
            FileType::Socket => return Ok(()),
            _ => remove(to, name).map_err(|error| failed("replace", path, error))?,
        }
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                let linked = rustix::fs::linkat(&self.root, first, to, name, AtFlags::empty());
                return linked.map_err(|error| failed("link", path, error));
            }
            self.links.insert(key, path.to_owned());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => copy(from, to, name).map_err(|error| failed("copy", path, error))?,
            kind => make(from, to, name, kind, &stat).map_err(|error| failed("create", path, error))?,
        }
        self.dress(from, to, name, &stat).map_err(|error| failed("set the attributes of", path, error))
    }

    fn subfolder(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &OsStr,
        path: &Path,
        stat: &Stat,
    ) -> Result<(), OciError> {
        let created = match rustix::fs::mkdirat(to, name, Mode::RWXU) {
            Err(Errno::EXIST) if is_folder(to, name) => Ok(()),
            Err(Errno::EXIST) => {
                remove(to, name).and_then(|()| rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(Into::into))
            }
            made => made.map_err(Into::into),
        };
        created.map_err(|error| failed("create", path, error))?;
        let opened = |error| failed("open", path, error);
        let inner = open_folder(from, name).map_err(opened)?;
        self.folder(&inner, &open_folder(to, name).map_err(opened)?, path)?;
        self.dress(from, to, name, stat).map_err(|error| failed("set the attributes of", path, error))
    }

    /// Owner, mode, extended attributes and times, in this order: each may undo one before it.
    fn dress(&self, from: &OwnedFd, to: &OwnedFd, name: &OsStr, stat: &Stat) -> Result<(), Errno> {
        rustix::fs::chownat(to, name, Some(self.owner.0), Some(self.owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
        }
        xattrs::set(to, name, &xattrs::read(from, name)?)?;
        let seconds = self.times.of(stat.st_mtime);
        let nanos = if seconds == stat.st_mtime { i64::try_from(stat.st_mtime_nsec).unwrap_or(0) } else { 0 };
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos },
        };
        rustix::fs::utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }
}

fn failed(action: &'static str, path: &Path, error: impl Into<io::Error>) -> OciError {
    PathError::new(action, Path::new("/").join(path), error.into()).into()
}

fn is_folder(parent: &OwnedFd, name: &OsStr) -> bool {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Removes what has the name in the folder, with everything in it.
fn remove(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let inner = open_folder(folder, name)?;
    for name in names(&inner)? {
        remove(&inner, &name)?;
    }
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

fn copy(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let mut source = open_file(from, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to.as_fd(), name, flags, Mode::RUSR | Mode::WUSR)?;
    io::copy(&mut source, &mut File::from(target)).map(drop)
}

/// Makes a link, a device or a pipe.
fn make(from: &OwnedFd, to: &OwnedFd, name: &OsStr, kind: FileType, stat: &Stat) -> Result<(), Errno> {
    if kind == FileType::Symlink {
        let target = rustix::fs::readlinkat(from, name, Vec::new())?;
        return rustix::fs::symlinkat(target.as_c_str(), to, name);
    }
    let device = if kind == FileType::Fifo { 0 } else { stat.st_rdev };
    rustix::fs::mknodat(to, name, kind, Mode::RUSR, device)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn roots() -> (tempfile::TempDir, tempfile::TempDir) {
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
    }

    fn copied(from: &tempfile::TempDir, to: &tempfile::TempDir, times: Times) {
        let stat = std::fs::metadata(to.path()).unwrap();
        let open = |folder: &tempfile::TempDir| RootDir::open(folder.path()).unwrap();
        let cancel = Cancel::new().unwrap();
        copy_tree(&open(from), &open(to), (stat.uid(), stat.gid()), times, &cancel).unwrap();
    }

    #[test]
    fn kinds_modes_links_and_times_are_kept() {
        let (from, to) = roots();
        let (source, target) = (from.path(), to.path());
        std::fs::create_dir(source.join("d")).unwrap();
        std::fs::write(source.join("d/f"), "text").unwrap();
        std::fs::hard_link(source.join("d/f"), source.join("g")).unwrap();
        symlink("/etc/passwd", source.join("l")).unwrap();
        let fifo = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, source.join("p"), fifo, Mode::RUSR, 0).unwrap();
        std::fs::set_permissions(source.join("d"), std::fs::Permissions::from_mode(0o1750)).unwrap();
        std::fs::set_permissions(source.join("g"), std::fs::Permissions::from_mode(0o4711)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(source.join("s")).unwrap();
        copied(&from, &to, Times::All(77));
        let stat = |name: &str| std::fs::symlink_metadata(target.join(name)).unwrap();
        assert_eq!(stat("d").mode() & 0o7777, 0o1750);
        assert_eq!((stat("g").mode() & 0o7777, stat("g").nlink()), (0o4711, 2));
        assert_eq!(stat("g").ino(), stat("d/f").ino());
        assert_eq!(std::fs::read_link(target.join("l")).unwrap(), Path::new("/etc/passwd"));
        assert!(stat("p").file_type().is_fifo());
        assert!(!target.join("s").exists());
        for name in ["d", "d/f", "l", "p"] {
            assert_eq!(stat(name).mtime(), 77, "{name}");
        }
    }

    #[test]
    fn what_was_there_is_merged_and_never_followed() {
        let (from, to) = roots();
        let outside = tempfile::tempdir().unwrap();
        for (name, text) in [("link/f", "new"), ("dir", "new"), ("kept/f", "new")] {
            std::fs::create_dir_all(from.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(from.path().join(name), text).unwrap();
        }
        symlink(outside.path(), to.path().join("link")).unwrap();
        std::fs::create_dir_all(to.path().join("dir/deep")).unwrap();
        std::fs::create_dir(to.path().join("kept")).unwrap();
        std::fs::write(to.path().join("kept/other"), "old").unwrap();
        copied(&from, &to, Times::Own);
        copied(&from, &to, Times::Own);
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        for (name, text) in [("link/f", "new"), ("dir", "new"), ("kept/f", "new"), ("kept/other", "old")] {
            assert_eq!(std::fs::read_to_string(to.path().join(name)).unwrap(), text, "{name}");
        }
    }
}
