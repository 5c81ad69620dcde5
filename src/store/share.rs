//! A tree that has the files of another one: a snapshot laid over a parent that it was not made on.
//!
//! Folders are made anew with all that they have, everything else is a further name of the same file:
//! published trees never change, so nobody sees that they share it. Where a file system allows no more
//! names of one file, that file is copied.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::Result as Stored;
use crate::base::fs::PathError;

/// Fills the empty folder `to` with what is in `from`, on the same file system.
pub(super) fn share_tree(from: &Path, to: &Path) -> Stored<()> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| PathError::new("open", path, error))
    };
    let mut sharing = Sharing { shown: to, copies: HashMap::new() };
    let (from, to) = (open(from)?, open(to)?);
    sharing.folder(&from, &to, Path::new(""))?;
    Ok(())
}

struct Sharing<'a> {
    /// The folder that is filled, for messages.
    shown: &'a Path,
    /// Files that had to be copied: where the copy lies, for their further names.
    copies: HashMap<(u64, u64), OwnedFd>,
}

impl Sharing<'_> {
    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<(), PathError> {
        let failed = |error: Errno| PathError::new("read", self.shown.join(path), error);
        let entries: Vec<_> = Dir::read_from(from).map_err(failed)?.collect();
        for entry in entries {
            let entry = entry.map_err(|error| PathError::new("read", self.shown.join(path), error))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                self.entry(from, to, name, &path.join(name))?;
            }
        }
        dress(from, to).map_err(|error| PathError::new("set the attributes of", self.shown.join(path), error))
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), PathError> {
        let failed = |error: io::Error| PathError::new("share", self.shown.join(path), error);
        match rustix::fs::linkat(from, name, to, name, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            // A folder has one name only.
            Err(Errno::PERM) => {}
            Err(Errno::MLINK) => return self.copy(from, to, name).map_err(failed),
            Err(error) => return Err(failed(error.into())),
        }
        let make = || {
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
            Ok((open_folder(from, name)?, open_folder(to, name)?))
        };
        let (inner, made) = make().map_err(|error: Errno| failed(error.into()))?;
        self.folder(&inner, &made, path)
    }

    /// A copy of a file that has all the names that it can have.
    fn copy(&mut self, from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::MLINK.into());
        }
        if let Some(copy) = self.copies.get(&(stat.st_dev, stat.st_ino)) {
            return Ok(rustix::fs::linkat(copy, "", to, name, AtFlags::EMPTY_PATH)?);
        }
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut source = File::from(rustix::fs::openat(from, name, read, Mode::empty())?);
        let mut target = File::from(rustix::fs::openat(to, name, write, Mode::RUSR | Mode::WUSR)?);
        io::copy(&mut source, &mut target)?;
        let target = OwnedFd::from(target);
        dress(&source.into(), &target)?;
        self.copies.insert((stat.st_dev, stat.st_ino), target);
        Ok(())
    }
}

fn open_folder(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Gives a file or folder the owner, mode, extended attributes and times of another, in this order: each
/// may undo one before it.
fn dress(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let stat: Stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    attributes(from, to)?;
    let time = |seconds, nanoseconds: i64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    rustix::fs::futimens(
        to,
        &Timestamps {
            last_access: time(stat.st_atime, i64::try_from(stat.st_atime_nsec).unwrap_or(0)),
            last_modification: time(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        },
    )
}

/// All extended attributes, overlay's own ones too.
fn attributes(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    // The kernel's limit for a value and for a list of names.
    let mut buffer = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(from, &mut buffer) {
        Err(Errno::NOTSUP) => return Ok(()),
        length => length?,
    };
    let names = buffer[..length].to_vec();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let length = rustix::fs::fgetxattr(from, name, &mut buffer)?;
        rustix::fs::fsetxattr(to, name, &buffer[..length], XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_shared_tree_is_the_same_tree() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("from/a/b")).unwrap();
        std::fs::create_dir(at("to")).unwrap();
        std::fs::write(at("from/a/f"), "text").unwrap();
        symlink("nowhere", at("from/a/l")).unwrap();
        std::fs::set_permissions(at("from/a/b"), std::fs::Permissions::from_mode(0o1750)).unwrap();
        let attribute = rustix::fs::setxattr(at("from/a/b"), "user.note", b"x", XattrFlags::empty());
        File::open(at("from/a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        share_tree(&at("from"), &at("to")).unwrap();
        let meta = |path: &str| std::fs::symlink_metadata(at(path)).unwrap();
        assert_eq!(meta("from/a/f").ino(), meta("to/a/f").ino());
        assert_eq!(std::fs::read_link(at("to/a/l")).unwrap().to_str(), Some("nowhere"));
        assert_eq!(meta("to/a/b").mode() & 0o7777, 0o1750);
        assert_eq!(meta("to/a").mtime(), 0);
        if attribute.is_ok() {
            let mut value = [0; 8];
            assert_eq!(rustix::fs::getxattr(at("to/a/b"), "user.note", &mut value), Ok(1));
        }
    }

    #[test]
    fn a_file_with_all_its_names_is_copied_with_its_further_ones() {
        let folder = tempfile::tempdir().unwrap();
        let open =
            |path: &Path| rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join("one"), "text").unwrap();
        std::fs::hard_link(from.join("one"), from.join("two")).unwrap();
        std::fs::set_permissions(from.join("one"), std::fs::Permissions::from_mode(0o640)).unwrap();
        let mut sharing = Sharing { shown: &to, copies: HashMap::new() };
        for name in ["one", "two"] {
            sharing.copy(&open(&from), &open(&to), OsStr::new(name)).unwrap();
        }
        let meta = |path: &Path| std::fs::metadata(path).unwrap();
        assert_eq!(std::fs::read(to.join("two")).unwrap(), b"text");
        assert_eq!(meta(&to.join("one")).ino(), meta(&to.join("two")).ino());
        assert_ne!(meta(&to.join("one")).ino(), meta(&from.join("one")).ino());
        assert_eq!(meta(&to.join("one")).mode() & 0o7777, 0o640);
    }
}
