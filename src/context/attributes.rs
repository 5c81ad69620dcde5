//! Extended attributes that a copy out of a root file system keeps.
//!
//! Capabilities, ACLs and the user's own are kept, as BuildKit keeps them. Labels of the host's security
//! module and the marks of overlay file systems say nothing about the content and are left out. Those of a
//! build context are dropped altogether (BuildKit, observed), so nobody asks for them here.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{OFlags, XattrFlags};
use rustix::io::Errno;

use super::tree::{Tree, split};
use crate::base::digest::{Digest, FieldHasher};
use crate::base::fs::{AtPath, PathError};

/// Names and values, sorted by name.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Their digest, if there are any.
pub(super) fn digest(attributes: &Attributes) -> Option<Digest> {
    let mut hasher = FieldHasher::new("extended attributes");
    for (name, value) in attributes {
        hasher.field(name).field(value);
    }
    (!attributes.is_empty()).then(|| hasher.finish())
}

/// The attributes of `path`, a link itself included.
pub(super) fn read(tree: &Tree, path: &[u8]) -> Result<Attributes, PathError> {
    let (parent, name) = split(path);
    let folder = tree.open(parent, OFlags::PATH | OFlags::DIRECTORY).at_path("open", tree.shown(parent))?;
    let entry = through_folder(&folder, name);
    read_at(&entry).at_path("read the attributes of", tree.shown(path))
}

fn read_at(path: &[u8]) -> Result<Attributes, Errno> {
    let names = match filled(|buffer| rustix::fs::llistxattr(path, buffer)) {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(Attributes::new()),
        Err(error) => return Err(error),
    };
    let mut attributes = Attributes::new();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if kept(name.to_bytes()) {
            match filled(|buffer| rustix::fs::lgetxattr(path, name, buffer)) {
                Ok(value) => attributes.push((name.to_bytes().to_vec(), value)),
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error),
            }
        }
    }
    attributes.sort_unstable();
    Ok(attributes)
}

fn kept(name: &[u8]) -> bool {
    let dropped: [&[u8]; 6] = [
        b"security.selinux",
        b"security.apparmor",
        b"security.ima",
        b"security.evm",
        b"trusted.overlay.",
        b"user.overlay.",
    ];
    !dropped.iter().any(|start| name.starts_with(start))
}

/// Gives `entry`, the name `name` in `folder`, its attributes.
pub(super) fn write(folder: &OwnedFd, name: &[u8], attributes: &Attributes) -> Result<(), Errno> {
    let path = through_folder(folder, name);
    for (name, value) in attributes {
        rustix::fs::lsetxattr(&*path, &**name, value, XattrFlags::empty())?;
    }
    Ok(())
}

/// The access list that a folder gives to what is made in it, if it has one.
pub(super) fn inherited(folder: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    let path = through_folder(folder, b"");
    match filled(|buffer| rustix::fs::lgetxattr(&*path, c"system.posix_acl_default", buffer)) {
        Ok(list) => Ok(Some(list)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A path to `name` through a held descriptor: these calls have no form relative to one.
fn through_folder(folder: &OwnedFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend(if name.is_empty() { b"." } else { name });
    path
}

/// Calls `read` with a buffer that is large enough.
fn filled(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    // The kernel's limit for a value and for a list of names.
    const LARGEST: usize = 64 << 10;
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(count) => {
                buffer.truncate(count);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < LARGEST => buffer.resize(LARGEST, 0),
            Err(error) => return Err(error),
        }
    }
}
