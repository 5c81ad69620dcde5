//! Reading what lies in a store, and carrying out what the collector decided.
//!
//! [`Store::inventory`] and [`Store::usage`] may run beside builds. [`Store::prune`] needs the store alone:
//! it gives up its shared lock and takes the exclusive one, or says that the store is in use. What goes is
//! first renamed away, so that nobody ever sees a part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::base::digest::{BlobId, Digest, ResultId};
use crate::base::fs::{AtPath, FileLock};

use super::collect::{Inventory, Kept, Limits, Piece, Removal, Removals};
use super::{Bucket, Held, Result, Store, records, remove, snapshots, temporary};

/// The note that remembers a snapshot's size.
const SIZE: &str = "disk-bytes";

/// How often the store is trimmed at most.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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
}

/// The part of a shelf's value that the collector understands.
#[derive(Deserialize)]
struct Rooted {
    #[serde(default)]
    holds: Vec<Held>,
}

impl Store {
    /// Everything that lies in the store, with sizes. The size of a snapshot is found once and noted.
    pub fn inventory(&self) -> Result<Inventory> {
        let mut inventory = Inventory::default();
        self.add_snapshots(&mut inventory)?;
        self.add_blobs(&mut inventory)?;
        self.add_records(&mut inventory)?;
        inventory.mounts = self.cache_mounts()?;
        let names = self.shelf(Bucket::Names).list::<Rooted>();
        inventory.names = names.into_iter().map(|(name, value)| (name, value.holds)).collect();
        for bucket in
            ["records-v1", "canonical-v1", "names-v1", "pins-v1", "history-v1", "handover-v1", "trees-v1"]
        {
            inventory.other_bytes += disk_bytes(&self.path(bucket));
        }
        Ok(inventory)
    }

    /// What the store takes, by kind.
    pub fn usage(&self) -> Result<Usage> {
        let inventory = self.inventory()?;
        let mut usage = Usage {
            records: inventory.records.len(),
            mounts: inventory.mounts.len(),
            mount_bytes: inventory.mounts.iter().map(|mount| mount.bytes).sum(),
            other_bytes: inventory.other_bytes,
            reclaimable_bytes: inventory.reclaimable_bytes(),
            ..Usage::default()
        };
        for (held, piece) in &inventory.pieces {
            let (count, bytes) = match held {
                Held::Snapshot(_) => (&mut usage.snapshots, &mut usage.snapshot_bytes),
                Held::Blob(_) => (&mut usage.blobs, &mut usage.blob_bytes),
            };
            *count += 1;
            *bytes += piece.bytes;
        }
        Ok(usage)
    }

    /// Removes what does not fit into `limits` and returns what was removed; `None` if another run uses the
    /// store. The shared lock is given up for good: this store can be asked nothing afterwards.
    pub fn prune(&self, limits: &Limits) -> Result<Option<Removals>> {
        self.release();
        let Some(_alone) = FileLock::try_exclusive(&self.path(".lock"))? else { return Ok(None) };
        temporary::sweep(&self.path("tmp"));
        let removals = self.inventory()?.removals(limits, SystemTime::now());
        for removal in &removals.steps {
            self.carry_out(removal)?;
        }
        Ok(Some(removals))
    }

    /// Keeps the store below `most` bytes: [`Store::prune`] at most once a day, and only where nobody else
    /// uses the store at that moment. The shared lock is given up as there.
    pub fn trim(&self, most: u64) -> Result<Option<Removals>> {
        let stamp = self.path(".collected");
        let age = std::fs::metadata(&stamp).and_then(|stat| stat.modified()).map(|at| at.elapsed());
        if let Ok(age) = age {
            // A stamp of the future is as good as none.
            if age.is_ok_and(|age| age < DAY) {
                return Ok(None);
            }
            let removals = self.prune(&Limits { keep_bytes: Some(most), unused_for: None })?;
            if removals.is_none() {
                return Ok(None);
            }
            self.put(&stamp, b"")?;
            return Ok(removals);
        }
        self.put(&stamp, b"")?;
        Ok(None)
    }

    /// The cap that holds by default: a quarter of the file system.
    pub fn default_cap(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(self.root()).at_path("stat", self.root())?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize) / 4)
    }

    fn carry_out(&self, removal: &Removal) -> Result<()> {
        match removal {
            Removal::Records(_, files, _) => files.iter().try_for_each(|file| Ok(remove::remove_tree(file)?)),
            Removal::File(file, _) => Ok(remove::remove_tree(file)?),
            Removal::Piece(Held::Blob(id), ..) => Ok(remove::remove_tree(&self.blob_path(*id))?),
            Removal::Piece(Held::Snapshot(id), ..) => self.remove_folder(&snapshots::folder(self, *id)),
            Removal::Cache(cache, _) => {
                self.remove_folder(&cache.folder)?;
                // Other copies of the cache may be there.
                let _ = cache.folder.parent().map(std::fs::remove_dir);
                Ok(())
            }
        }
    }

    /// Renames a folder away, so that nobody sees a part of it, and removes it.
    fn remove_folder(&self, folder: &Path) -> Result<()> {
        let (away, _lock) = temporary::make_folder(&self.path("tmp"))?;
        temporary::rename(folder, &away.join("gone"))?;
        Ok(remove::remove_tree(&away)?)
    }

    fn add_snapshots(&self, inventory: &mut Inventory) -> Result<()> {
        for (name, _) in entries(&self.path("snapshots-v1"))? {
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            let id = ResultId(digest);
            // What cannot be read has no chain: nothing that counts stands on it.
            let chain = self.chain(id).unwrap_or_default();
            let mut chain: Vec<_> = chain.into_iter().map(|snapshot| snapshot.id).collect();
            let whole = chain.pop().is_some();
            let bytes = if whole { self.snapshot_bytes(id)? } else { 0 };
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

/// Bytes that `path` and everything below it take on the disk; a file with several names counts once.
/// What vanishes meanwhile counts nothing.
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
