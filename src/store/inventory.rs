//! Reading what lies in a store: the input of every decision about it.
//!
//! [`Store::inventory`] may run beside builds. The size of a snapshot is found once and noted beside it; a
//! cache mount's is found whenever it has been used since the last time somebody was alone in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use crate::base::digest::{BlobId, Digest, ResultId};
use crate::base::fs::AtPath;

use super::collect::{Inventory, Kept, Piece};
use super::{Bucket, Held, Result, Store, records, snapshots};

/// The note that remembers a snapshot's size.
const SIZE: &str = "disk-bytes";

/// The file that remembers the size of a copy of a cache mount.
const MOUNT_SIZE: &str = "bytes";

/// Before the name of what is only remembered; no image name has a blank.
pub(super) const PIN: &str = "pin of ";

/// How the size of a copy of a cache mount is found, from its folder and its last use.
pub(super) type MountBytes<'a> = dyn FnMut(&Path, SystemTime) -> Result<u64> + 'a;

/// What the store takes on the disk, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Steps whose results are known.
    pub records: usize,
    /// Trees.
    pub snapshots: usize,
    /// Bytes of all trees.
    pub snapshot_bytes: u64,
    /// Blobs.
    pub blobs: usize,
    /// Bytes of all blobs.
    pub blob_bytes: u64,
    /// Cache mounts.
    pub mounts: usize,
    /// Bytes of all cache mounts.
    pub mount_bytes: u64,
    /// Bytes of everything else: records, shelves, stat caches.
    pub other_bytes: u64,
    /// Bytes that a prune without limits would free.
    pub reclaimable_bytes: u64,
    /// Bytes that it would free if what last builds need may go too, and cache mounts.
    pub all_reclaimable_bytes: u64,
}

impl Usage {
    /// All bytes.
    pub const fn bytes(&self) -> u64 {
        self.snapshot_bytes + self.blob_bytes + self.mount_bytes + self.other_bytes
    }
}

/// The part of a shelf's value that the collector understands.
#[derive(Deserialize)]
struct Rooted {
    #[serde(default)]
    holds: Vec<Held>,
}

impl Store {
    /// Everything that lies in the store, with sizes; its owners are for others to fill in.
    pub fn inventory(&self) -> Result<Inventory> {
        self.inventory_with(&mut |folder, used| self.mount_bytes(folder, used))
    }

    /// The same for who is alone in the store: the sizes of cache mounts are noted.
    pub(super) fn inventory_alone(&self) -> Result<Inventory> {
        self.inventory_with(&mut |folder, used| {
            let bytes = self.mount_bytes(folder, used)?;
            self.put(&folder.join(MOUNT_SIZE), bytes.to_string().as_bytes())?;
            Ok(bytes)
        })
    }

    fn inventory_with(&self, mount_bytes: &mut MountBytes<'_>) -> Result<Inventory> {
        let mut inventory = Inventory::default();
        self.add_snapshots(&mut inventory)?;
        self.add_blobs(&mut inventory)?;
        self.add_records(&mut inventory)?;
        inventory.mounts = self.cache_mounts(mount_bytes)?;
        inventory.trees = self.trees()?;
        let names = self.shelf(Bucket::Names).list::<Rooted>();
        inventory.names = names.into_iter().map(|(name, value)| (name, value.holds)).collect();
        // Without what a pin holds, a build in which nothing changed would have to ask the network.
        let pins = self.shelf(Bucket::Pins).list::<Rooted>().into_iter();
        let pins = pins.filter(|(_, value)| !value.holds.is_empty());
        inventory.names.extend(pins.map(|(name, value)| (format!("{PIN}{name}"), value.holds)));
        for bucket in
            ["records-v1", "canonical-v1", "names-v1", "pins-v1", "history-v1", "handover-v1", "trees-v1"]
        {
            inventory.other_bytes += disk_bytes(&self.path(bucket));
        }
        Ok(inventory)
    }

    /// What is known of contexts, with the last use of each: reading counts, where the file system notes it. The
    /// file that a context's other files are named after is used whenever one of them is, but not always read.
    fn trees(&self) -> Result<Vec<(PathBuf, SystemTime)>> {
        let (mut files, mut contexts) = (Vec::new(), BTreeMap::<_, SystemTime>::new());
        for (name, path) in entries(&self.trees_folder())? {
            let Ok(stat) = std::fs::symlink_metadata(&path) else { continue };
            let Some(used) = stat.accessed().into_iter().chain(stat.modified()).max() else { continue };
            let context = self.trees_folder().join(name.split('.').next().unwrap_or_default());
            let last = contexts.entry(context).or_insert(used);
            *last = used.max(*last);
            files.push((path, used));
        }
        let last_use = |(path, used): (PathBuf, SystemTime)| {
            let last = contexts.get(&path).copied().unwrap_or(used);
            (path, last)
        };
        Ok(files.into_iter().map(last_use).collect())
    }

    /// Bytes of a snapshot or blob; none if it is gone.
    pub(super) fn piece_bytes(&self, held: Held) -> Result<u64> {
        match held {
            Held::Snapshot(id) if snapshots::meta_path(self, id).exists() => self.snapshot_bytes(id),
            Held::Snapshot(_) => Ok(0),
            Held::Blob(id) => Ok(disk_bytes(&self.blob_path(id))),
        }
    }

    fn add_snapshots(&self, inventory: &mut Inventory) -> Result<()> {
        for (name, _) in entries(&self.path("snapshots-v1"))? {
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            let id = ResultId(digest);
            // What cannot be read has no chain: nothing that counts stands on it.
            let chain = self.chain(id).unwrap_or_default();
            let mut chain: Vec<_> = chain.into_iter().map(|snapshot| snapshot.id).collect();
            let whole = chain.pop().is_some();
            let bytes =
                if whole { self.snapshot_bytes(id)? } else { disk_bytes(&snapshots::folder(self, id)) };
            inventory.pieces.insert(Held::Snapshot(id), Piece { bytes, chain });
        }
        Ok(())
    }

    fn snapshot_bytes(&self, id: ResultId) -> Result<u64> {
        let noted = self.note(id, SIZE).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        if let Some(bytes) = noted {
            return Ok(bytes);
        }
        let bytes = disk_bytes(&snapshots::folder(self, id));
        self.set_note(id, SIZE, &bytes.to_le_bytes())?;
        Ok(bytes)
    }

    /// Bytes of a copy of a cache mount, from the note if nobody has used it since `used`.
    fn mount_bytes(&self, folder: &Path, used: SystemTime) -> Result<u64> {
        let note = folder.join(MOUNT_SIZE);
        let noted = std::fs::metadata(&note).and_then(|note| note.modified());
        if noted.is_ok_and(|noted| noted > used)
            && let Some(bytes) = std::fs::read_to_string(&note).ok().and_then(|text| text.parse().ok())
        {
            return Ok(bytes);
        }
        Ok(disk_bytes(folder))
    }

    fn add_blobs(&self, inventory: &mut Inventory) -> Result<()> {
        for (name, path) in entries(&self.path("blobs-v1/sha256"))? {
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            let piece = Piece { bytes: disk_bytes(&path), chain: Vec::new() };
            inventory.pieces.insert(Held::Blob(BlobId(digest)), piece);
        }
        Ok(())
    }

    fn add_records(&self, inventory: &mut Inventory) -> Result<()> {
        let mut kept: BTreeMap<ResultId, Kept> = BTreeMap::new();
        for bucket in ["records-v1", "canonical-v1"] {
            for (_, folder) in entries(&self.path(bucket))? {
                for (_, file) in entries(&folder)? {
                    let used = std::fs::metadata(&file).and_then(|metadata| metadata.modified());
                    let (Some(found), Ok(used)) = (records::read(&file), used) else {
                        inventory.unreadable.push(file);
                        continue;
                    };
                    let result = found.record.result;
                    let (files, holds) = (Vec::new(), BTreeSet::from([Held::Snapshot(result)]));
                    let entry = kept.entry(result).or_insert(Kept { result, files, holds, used });
                    entry.files.push(file);
                    entry.holds.extend(found.record.holds);
                    entry.used = entry.used.max(used);
                }
            }
        }
        inventory.records = kept.into_values().collect();
        Ok(())
    }
}

impl Inventory {
    /// What the store takes, by kind.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage {
            records: self.records.len(),
            mounts: self.mounts.len(),
            mount_bytes: self.mounts.iter().map(|mount| mount.bytes).sum(),
            other_bytes: self.other_bytes,
            reclaimable_bytes: self.reclaimable_bytes(false),
            all_reclaimable_bytes: self.reclaimable_bytes(true),
            ..Usage::default()
        };
        for (held, piece) in &self.pieces {
            let (count, bytes) = match held {
                Held::Snapshot(_) => (&mut usage.snapshots, &mut usage.snapshot_bytes),
                Held::Blob(_) => (&mut usage.blobs, &mut usage.blob_bytes),
            };
            *count += 1;
            *bytes += piece.bytes;
        }
        usage
    }
}

/// Name and path of everything in `folder`, sorted.
pub(super) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).at_path("read", folder)? {
        let entry = entry.at_path("read", folder)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(found)
}

/// Bytes that `path` and everything below it take on the disk; a file with several names counts once, and once
/// for each snapshot that shares it. What vanishes meanwhile counts nothing.
pub(super) fn disk_bytes(path: &Path) -> u64 {
    let (mut bytes, mut seen, mut left) = (0, BTreeSet::new(), vec![path.to_owned()]);
    while let Some(path) = left.pop() {
        let Ok(stat) = std::fs::symlink_metadata(&path) else { continue };
        if stat.nlink() < 2 || stat.is_dir() || seen.insert((stat.dev(), stat.ino())) {
            bytes += stat.blocks() * 512;
        }
        if stat.is_dir() {
            left.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    bytes
}
