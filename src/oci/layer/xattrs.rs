//! Extended attributes of a file of any kind: which are kept in a layer, reading and setting them.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Extended attributes by name.
pub(super) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Whether a layer has this attribute: what a user or `setcap` and `setfacl` set. The labels of security
/// modules belong to a machine, overlay's own ones to a mount.
pub(super) fn is_kept(name: &[u8]) -> bool {
    let acl = name == b"system.posix_acl_access" || name == b"system.posix_acl_default";
    let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    let trusted = name.starts_with(b"trusted.") && !name.starts_with(b"trusted.overlay.");
    acl || user || trusted || name == b"security.capability"
}

/// A path by which the entry `name` of the open folder is reached without following it.
fn path(folder: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)
}

/// The kept attributes of the entry `name` of `folder`. File systems without attributes have none.
pub(super) fn read(folder: impl AsFd, name: &OsStr) -> Result<Xattrs, Errno> {
    let path = path(folder.as_fd(), name);
    let names = match growing(|buffer| rustix::fs::llistxattr(&path, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(Xattrs::new()),
        names => names?,
    };
    let mut found = Xattrs::new();
    for name in names.split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let key = OsString::from_vec(name.to_vec());
        match growing(|buffer| rustix::fs::lgetxattr(&path, &key, buffer)) {
            // Gone since the names were listed, or only for the privileged.
            Err(Errno::NODATA) => {}
            value => drop(found.insert(name.to_vec(), value?)),
        }
    }
    Ok(found)
}

/// Whether the folder `name` of `parent` is opaque.
pub(super) fn is_opaque(parent: impl AsFd, name: &OsStr) -> Result<bool, Errno> {
    let mut value = [0; 1];
    match rustix::fs::lgetxattr(path(parent.as_fd(), name), super::OPAQUE_XATTR, value.as_mut_slice()) {
        Ok(length) => Ok(length == 1 && value == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Marks the folder `name` of `parent` as opaque.
pub(super) fn set_opaque(parent: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    rustix::fs::lsetxattr(path(parent.as_fd(), name), super::OPAQUE_XATTR, b"y", XattrFlags::empty())
}

/// Sets those of `xattrs` that are kept. What the file system or the kind of file cannot have is left out,
/// as Docker does.
pub(super) fn set(folder: impl AsFd, name: &OsStr, xattrs: &Xattrs) -> Result<(), Errno> {
    let path = path(folder.as_fd(), name);
    for (key, value) in xattrs.iter().filter(|(key, _)| is_kept(key)) {
        // A name with a zero byte cannot come from any file system.
        let Ok(key) = CString::new(key.as_slice()) else { continue };
        match rustix::fs::lsetxattr(&path, &key, value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Calls with a larger buffer until the value fits.
fn growing(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // The kernel's own limit for a list or a value is 64 KiB.
            Err(Errno::RANGE) if buffer.len() < 1 << 17 => buffer = vec![0; buffer.len() * 8],
            Err(error) => return Err(error),
        }
    }
}
