//! What an earlier copy wrote, to have it again without writing it.
//!
//! Most files of a context are what they were when it was copied last. Published trees never change, so a
//! file that would come out the same, to the nanosecond of its time, becomes a further name of the one that
//! lies there: nothing is read, written or sent to the disk for it. What a command of a later step could
//! see of that is the file's number of links, and that its inode number changes with the first write to it
//! (overlayfs keeps it only for files with one name), as where BuildKit merges layers (`COPY --link`); in an
//! image every file is whole.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, OFlags, Uid};
use serde::{Deserialize, Serialize};

use super::attributes;
use super::select::{Part, Picked};
use super::stamp::Meta;
use super::tree::{join, open_beneath};
use crate::base::fs::RootDir;
use crate::base::listing::{Kind, Listing, escape};

/// Where a copy takes the content of a folder from and puts it: of two copies with one mapping, what had one
/// path in the context has one path in the target.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mapping {
    /// The folder of the context, with a slash at the end unless it is the context itself; escaped.
    pub from: String,
    /// The folder of the target, no link on the way to it; escaped.
    pub to: String,
}

/// What a copy with the same [`Mapping`] wrote, from this context or from what it was then.
pub struct Earlier {
    /// Its own tree, without the layers below, on the file system of the one that is written now.
    pub tree: RootDir,
    /// What it selected.
    pub listing: Listing,
}

impl Earlier {
    /// Its folder that lies at `path` below the folder `to`, if what is made in `target`, which lies there
    /// now, gets the same access list from its folder.
    pub(super) fn folder(&self, to: &[u8], path: &[u8], target: &OwnedFd) -> Option<Before<'_>> {
        let path = if path.is_empty() { to.to_vec() } else { join(to, path) };
        let folder = open_beneath(&self.tree, &path, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let same = attributes::inherited(&folder).ok()? == attributes::inherited(target).ok()?;
        same.then_some(Before { listing: &self.listing, folder })
    }
}

/// One folder of it.
pub(super) struct Before<'a> {
    listing: &'a Listing,
    folder: OwnedFd,
}

impl Before<'_> {
    /// Gives the file that was made of `entry` the same name in `target` too; false if there is none that is
    /// what would be made of it now, or it cannot have another name.
    pub(super) fn share(
        &self,
        (part, entry): (&Part, &Picked),
        owner: (Uid, Gid),
        name: &[u8],
        target: &OwnedFd,
    ) -> bool {
        self.is(part, entry)
            && self.looks_like(entry, owner, name)
            && rustix::fs::linkat(&self.folder, name, target, name, AtFlags::empty()).is_ok()
    }

    /// Whether the earlier copy selected just this.
    fn is(&self, part: &Part, entry: &Picked) -> bool {
        let known = self.listing.get(&escape(&entry.path));
        entry.kind == Kind::File && known.is_some_and(|known| *known == entry.item(part))
    }

    /// Whether its file has what is not selected but given: owner, mode and time.
    fn looks_like(&self, entry: &Picked, (uid, gid): (Uid, Gid), name: &[u8]) -> bool {
        let Ok(stat) = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return false;
        };
        let (meta, wanted) = (Meta::from(&stat), &entry.meta().stamp);
        meta.kind() == FileType::RegularFile
            && (meta.uid, meta.gid, meta.permissions()) == (uid.as_raw(), gid.as_raw(), entry.mode)
            && (meta.stamp.size, meta.stamp.mtime) == (wanted.size, wanted.mtime)
    }
}
