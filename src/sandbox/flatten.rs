//! Layers without overlayfs: what a chain looks like as one tree, and what a changed tree adds to it.
//!
//! [`merge`] copies a chain into one folder, applying whiteouts as overlayfs would show them.
//! [`keep_difference`] is its opposite: it takes a full tree that a step has changed and removes from it
//! what equals the tree below, so that the rest is a layer in overlay form. Both serve where no overlay can
//! be mounted, and [`merge`] also where there are more layers than overlayfs stacks.
//!
//! Everything goes by descriptor and never through a link, so it does not matter what the trees contain.
//! Whiteouts have overlayfs's form. A file system that is an overlay itself refuses to make them; then
//! [`keep_difference`] fails with [`Whiteouts`](Trouble::Whiteouts) rather than lose a deletion.

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, openat,
};
use rustix::io::Errno;

/// The attribute that makes a folder opaque for overlayfs.
const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";
/// Attributes of overlayfs's own.
const OVERLAY_ATTRIBUTES: &[u8] = b"trusted.overlay.";

/// Copies the chain `layers` (bottom first) into the empty folder `into`, owners, times, attributes and
/// hard links included.
pub(super) fn merge(layers: &[PathBuf], into: &Path) -> io::Result<()> {
    let into = open_folder(rustix::fs::CWD, into.as_os_str())?;
    for layer in layers {
        let layer = open_folder(rustix::fs::CWD, layer.as_os_str())?;
        let mut copy = Copy { links: HashMap::new(), top: into.as_fd() };
        copy.folder(&layer, &into, Path::new(""))?;
    }
    Ok(())
}

/// The copying of one layer.
struct Copy<'a> {
    /// Where the first name of a file with several has gone, by its inode.
    links: HashMap<u64, PathBuf>,
    top: BorrowedFd<'a>,
}

impl Copy<'_> {
    /// Copies what is in `from` over what is in `into`, then the folder's own attributes.
    fn folder(&mut self, from: &OwnedFd, into: &OwnedFd, path: &Path) -> io::Result<()> {
        if is_opaque(from)? {
            for name in entries(into)? {
                remove(into, &name)?;
            }
        }
        for name in entries(from)? {
            self.entry(from, into, path, &name)?;
        }
        copy_attributes(from, into)
    }

    fn entry(&mut self, from: &OwnedFd, into: &OwnedFd, path: &Path, name: &OsStr) -> io::Result<()> {
        let stat = stat(from, name)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice if stat.st_rdev == 0 => remove(into, name),
            FileType::Directory => {
                if !matches!(kind(into, name)?, Some(FileType::Directory)) {
                    remove(into, name)?;
                    rustix::fs::mkdirat(into, name, Mode::from_raw_mode(0o700))?;
                }
                self.folder(&open_folder(from, name)?, &open_folder(into, name)?, &path.join(name))
            }
            _ => {
                remove(into, name)?;
                self.leaf(from, into, &path.join(name), name, &stat)
            }
        }
    }

    /// Copies anything but a folder to where nothing is.
    fn leaf(
        &mut self,
        from: &OwnedFd,
        into: &OwnedFd,
        path: &Path,
        name: &OsStr,
        stat: &Stat,
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                return Ok(rustix::fs::linkat(self.top, first, into, name, AtFlags::empty())?);
            }
            self.links.insert(stat.st_ino, path.to_owned());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut source = File::from(openat(from, name, OFlags::RDONLY | flags, Mode::empty())?);
                let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | flags;
                let mut target = File::from(openat(into, name, new, Mode::from_raw_mode(0o600))?);
                io::copy(&mut source, &mut target)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target.as_c_str(), into, name)?;
            }
            kind => {
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(into, name, kind, mode, stat.st_rdev)?;
            }
        }
        copy_attributes(&open_path(from, name)?, &open_path(into, name)?)
    }
}

/// Why a difference could not be kept.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Something was removed and this file system refuses to hold whiteouts.
    Whiteouts,
    /// The system refused something else.
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Removes from the full tree `changed` everything that equals what is in `below`, and puts a whiteout where
/// something of `below` is missing from it.
pub(super) fn keep_difference(changed: &Path, below: &Path) -> Result<(), Trouble> {
    let changed = open_folder(rustix::fs::CWD, changed.as_os_str())?;
    reduce(&changed, &open_folder(rustix::fs::CWD, below.as_os_str())?)
}

fn reduce(changed: &OwnedFd, below: &OwnedFd) -> Result<(), Trouble> {
    let before = rustix::fs::fstat(changed)?;
    let (present, expected) = (entries(changed)?, entries(below)?);
    for name in &present {
        if kind(below, name)?.is_some() {
            reduce_entry(changed, below, name)?;
        }
    }
    for name in expected.iter().filter(|name| !present.contains(name)) {
        put_whiteout(changed, name)?;
    }
    Ok(set_times(changed, &before)?)
}

/// An entry that both have.
fn reduce_entry(changed: &OwnedFd, below: &OwnedFd, name: &OsStr) -> Result<(), Trouble> {
    let folders = [kind(changed, name)?, kind(below, name)?] == [Some(FileType::Directory); 2];
    if folders {
        reduce(&open_folder(changed, name)?, &open_folder(below, name)?)?;
        if !entries(&open_folder(changed, name)?)?.is_empty() {
            return Ok(());
        }
    }
    if same(changed, below, name)? {
        remove(changed, name)?;
    }
    Ok(())
}

/// Whether the entry is the same in both trees, apart from what is in a folder.
fn same(changed: &OwnedFd, below: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let (one, other) = (stat(changed, name)?, stat(below, name)?);
    let of_inode = |stat: &Stat| {
        (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev, stat.st_mtime, stat.st_mtime_nsec)
    };
    let kind = FileType::from_raw_mode(one.st_mode);
    let of_leaf = |stat: &Stat| (kind != FileType::Directory).then_some((stat.st_size, stat.st_nlink));
    if of_inode(&one) != of_inode(&other) || of_leaf(&one) != of_leaf(&other) {
        return Ok(false);
    }
    if attributes(&open_path(changed, name)?)? != attributes(&open_path(below, name)?)? {
        return Ok(false);
    }
    match kind {
        FileType::RegularFile => same_content(changed, below, name),
        FileType::Symlink => Ok(rustix::fs::readlinkat(changed, name, Vec::new())?
            == rustix::fs::readlinkat(below, name, Vec::new())?),
        _ => Ok(true),
    }
}

fn same_content(changed: &OwnedFd, below: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let open = |folder: &OwnedFd| -> io::Result<_> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(BufReader::with_capacity(64 << 10, File::from(openat(folder, name, flags, Mode::empty())?)))
    };
    let (mut one, mut other) = (open(changed)?, open(below)?);
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let count = left.len().min(right.len());
        if left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(left.len() == right.len());
        }
        one.consume(count);
        other.consume(count);
    }
}

fn put_whiteout(folder: &OwnedFd, name: &OsStr) -> Result<(), Trouble> {
    match rustix::fs::mknodat(folder, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM) => Err(Trouble::Whiteouts),
        result => Ok(result?),
    }
}

fn open_folder(at: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

fn open_path(at: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn stat(at: &OwnedFd, name: &OsStr) -> io::Result<Stat> {
    Ok(rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// What lies there, if anything does.
fn kind(at: &OwnedFd, name: &OsStr) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The names in a folder, sorted.
fn entries(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort();
    Ok(names)
}

/// Removes what lies there with everything below it; nothing is fine.
fn remove(at: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = match kind(at, name)? {
        None => return Ok(()),
        Some(FileType::Directory) => {
            let folder = open_folder(at, name)?;
            for below in entries(&folder)? {
                remove(&folder, &below)?;
            }
            AtFlags::REMOVEDIR
        }
        Some(_) => AtFlags::empty(),
    };
    Ok(rustix::fs::unlinkat(at, name, flags)?)
}

fn is_opaque(folder: &OwnedFd) -> io::Result<bool> {
    let mut value = [0; 8];
    match rustix::fs::fgetxattr(folder, OPAQUE_ATTRIBUTE, &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Owner, mode, extended attributes and times, in an order in which none undoes another.
fn copy_attributes(from: &OwnedFd, into: &OwnedFd) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(into, "", Some(owner), Some(group), AtFlags::EMPTY_PATH)?;
    let path = through(into);
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rustix::fs::chmod(&path, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    }
    let wanted = attributes(from)?;
    for (name, _) in attributes(into)? {
        if !wanted.iter().any(|(kept, _)| *kept == name) {
            rustix::fs::removexattr(&path, &name)?;
        }
    }
    for (name, value) in wanted {
        rustix::fs::setxattr(&path, &name, &value, XattrFlags::empty())?;
    }
    set_times(into, &stat)
}

fn set_times(into: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
    };
    Ok(rustix::fs::utimensat(into, "", &times, AtFlags::EMPTY_PATH)?)
}

/// A path to what a descriptor refers to, for calls that take no descriptor that was opened for its path.
fn through(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

/// The extended attributes that belong to the tree, sorted.
fn attributes(of: &OwnedFd) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let path = through(of);
    let names = match grown(|buffer| rustix::fs::listxattr(&path, buffer)) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    for name in names.filter(|name| !name.starts_with(OVERLAY_ATTRIBUTES)) {
        let name = CString::new(name)?;
        let value = grown(|buffer| rustix::fs::getxattr(&path, &name, buffer))?;
        found.push((name, value));
    }
    found.sort();
    Ok(found)
}

/// Calls with larger and larger buffers until the answer fits.
fn grown(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 1 << 10];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::base::testing::available;

    fn folder(at: &Path, name: &str) -> PathBuf {
        let path = at.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_chain_is_merged_as_an_overlay_shows_it() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) = (folder(place.path(), "one"), folder(place.path(), "two"));
        folder(&one, "kept/below");
        folder(&one, "hidden");
        std::fs::write(one.join("gone"), "1").unwrap();
        std::fs::write(one.join("hidden/file"), "1").unwrap();
        std::fs::write(one.join("becomes-folder"), "1").unwrap();
        symlink("/etc", one.join("kept/link")).unwrap();
        folder(&two, "hidden");
        std::fs::write(two.join("hidden/new"), "2").unwrap();
        let hidden = open_folder(rustix::fs::CWD, two.join("hidden").as_os_str()).unwrap();
        let upper = open_folder(rustix::fs::CWD, two.as_os_str()).unwrap();
        let opaque = rustix::fs::fsetxattr(&hidden, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty());
        let fits = opaque.is_ok() && put_whiteout(&upper, "gone".as_ref()).is_ok();
        if !available(fits, "root and a file system that is no overlay") {
            return;
        }
        folder(&two, "becomes-folder/x");
        folder(&two, "kept");
        std::fs::write(two.join("kept/first"), "same").unwrap();
        std::fs::hard_link(two.join("kept/first"), two.join("kept/second")).unwrap();
        std::fs::set_permissions(two.join("kept"), PermissionsExt::from_mode(0o750)).unwrap();
        let into = folder(place.path(), "into");
        merge(&[one, two], &into).unwrap();
        let names = |path: &str| entries(&open_folder(rustix::fs::CWD, into.join(path).as_os_str()).unwrap());
        assert_eq!(names("").unwrap(), ["becomes-folder", "hidden", "kept"]);
        assert_eq!(names("hidden").unwrap(), ["new"]);
        assert_eq!(names("kept").unwrap(), ["below", "first", "link", "second"]);
        let inode = |name: &str| std::fs::metadata(into.join(name)).unwrap().ino();
        assert_eq!(inode("kept/first"), inode("kept/second"));
        assert_eq!(std::fs::metadata(into.join("kept")).unwrap().mode() & 0o7777, 0o750);
    }

    #[test]
    fn only_the_difference_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let below = folder(place.path(), "below");
        folder(&below, "same/deep");
        folder(&below, "changed");
        for name in ["same/deep/file", "changed/file", "changed/gone", "equal-time", "link-target"] {
            std::fs::write(below.join(name), "1").unwrap();
        }
        symlink("link-target", below.join("link")).unwrap();
        let changed = folder(place.path(), "changed");
        merge(std::slice::from_ref(&below), &changed).unwrap();
        let time = std::fs::metadata(below.join("equal-time")).unwrap().modified().unwrap();
        std::fs::write(changed.join("equal-time"), "2").unwrap();
        File::options().write(true).open(changed.join("equal-time")).unwrap().set_modified(time).unwrap();
        std::fs::write(changed.join("changed/new"), "2").unwrap();
        std::fs::remove_file(changed.join("changed/gone")).unwrap();
        match keep_difference(&changed, &below) {
            Err(Trouble::Whiteouts) => {
                available(false, "a file system that is no overlay");
                return;
            }
            result => result.unwrap(),
        }
        let names =
            |path: &str| entries(&open_folder(rustix::fs::CWD, changed.join(path).as_os_str()).unwrap());
        assert_eq!(names("").unwrap(), ["changed", "equal-time"]);
        assert_eq!(names("changed").unwrap(), ["gone", "new"]);
        let gone = std::fs::symlink_metadata(changed.join("changed/gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    }
}
