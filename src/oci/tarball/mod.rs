//! Tar streams, member by member: the format between [`super::layer`] and [`super::archive`] and the
//! bytes.
//!
//! [`Reader`] reads what any tool writes (ustar, PAX, GNU long names, sparse files of every kind) and
//! [`Writer`] writes ustar with PAX records where a value does not fit, as Go's `archive/tar` does for
//! BuildKit. The 512-byte blocks themselves are the `tar` crate's; its higher layers lose extended
//! attributes with a newline and sparse files. Nothing here touches a file system.

mod read;
mod write;

use std::collections::BTreeMap;

pub use read::DamagedTar;
pub(super) use read::Reader;
pub(super) use write::Writer;

/// The size of a tar block.
const BLOCK: usize = 512;
/// The PAX key before an extended attribute's name.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What a member of a tar is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    File,
    Directory,
    /// The link's text.
    Symlink(Vec<u8>),
    /// The path of the member that it is the same file as.
    HardLink(Vec<u8>),
    /// Major and minor number.
    CharacterDevice(u32, u32),
    /// Major and minor number.
    BlockDevice(u32, u32),
    Fifo,
}

/// A part of a file that is stored; between the parts there are zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    /// Where in the file it begins.
    pub(super) offset: u64,
    /// Its bytes.
    pub(super) length: u64,
}

/// A member of a tar: everything but its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// Its path as it stands in the tar.
    pub(super) path: Vec<u8>,
    /// What it is.
    pub(super) kind: Kind,
    /// Permissions with set-user-ID, set-group-ID and sticky bit.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970.
    pub(super) mtime: i64,
    /// Nanoseconds after it. The writer leaves them out, as BuildKit does.
    pub(super) nanoseconds: u32,
    /// The size of a file, holes included.
    pub(super) size: u64,
    /// Extended attributes, ACLs among them.
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The parts of a sparse file that are stored; `None`: all of it.
    pub(super) sparse: Option<Vec<Segment>>,
}

impl Member {
    /// A member without attributes.
    pub(super) fn new(path: impl Into<Vec<u8>>, kind: Kind) -> Self {
        let (path, mode) = (path.into(), if kind == Kind::Directory { 0o755 } else { 0o644 });
        Self {
            path,
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            nanoseconds: 0,
            size: 0,
            xattrs: BTreeMap::new(),
            sparse: None,
        }
    }

    /// The parts of its content that are stored, in order.
    pub(super) fn segments(&self) -> Vec<Segment> {
        self.sparse.clone().unwrap_or_else(|| vec![Segment { offset: 0, length: self.size }])
    }
}
