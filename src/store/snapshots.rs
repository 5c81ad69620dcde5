//! Snapshots: the trees that steps made, and the staging folders in which they are made.
//!
//! [`Store::stage`] gives an empty tree (an overlay's upper) and fresh workdirs beside it.
//! [`Store::publish_snapshot`] drops the workdirs, writes `meta.json` and renames the whole folder to the
//! snapshot's place: from then on the tree is read-only by agreement. What the files mean is not known
//! here.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::digest::{Digest, ResultId};
use crate::base::fs::AtPath;

use super::root::{Provisional, is_durable};
use super::{Result, Store, StoreError, fault, remove, temporary};

/// A published tree: one layer over its parent's chain. It is not changed any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its identifier, drawn when it was published.
    pub id: ResultId,
    /// What it stands on.
    pub parent: Option<ResultId>,
    /// The layer's own files in overlay form; absolute.
    pub tree: PathBuf,
}

/// What lies beside a tree.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    /// The boot in which it was written.
    boot: String,
    /// Everything that it stands on, bottom first.
    chain: Vec<ResultId>,
}

/// A folder to work in, on the store's file system. It goes with its value unless it is published, and
/// with the next writer's sweep if the process dies.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    workdirs: std::sync::atomic::AtomicU32,
    published: bool,
    _lock: File,
}

impl Staging {
    /// The tree that will be published: an overlay's upper, at first empty, mode 0755.
    pub fn tree(&self) -> PathBuf {
        self.path.join("tree")
    }

    /// A new empty overlay workdir; each mount needs its own.
    pub fn work(&self) -> Result<PathBuf> {
        let count = self.workdirs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.path.join(format!("work-{count}"));
        std::fs::DirBuilder::new().mode(0o700).create(&path).at_path("create", &path)?;
        Ok(path)
    }

    /// Fills the tree, which must be empty, with the files of a published one, without copying them.
    pub fn share(&self, snapshot: &Snapshot) -> Result<()> {
        super::share::share_tree(&snapshot.tree, &self.tree())
    }

    /// Notes a small fact that will lie beside the snapshot, as [`Store::set_note`] does afterwards.
    pub fn note(&self, name: &'static str, content: &[u8]) -> Result<()> {
        let path = self.path.join(note_name(name));
        Ok(std::fs::write(&path, note_bytes(content)).at_path("write", &path)?)
    }

    /// The folder itself, for files that are not to be published. Names that begin with `work-` or end with
    /// `.note` are taken.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes everything but the tree and the notes.
    fn clear(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.path).at_path("read", &self.path)? {
            let path = entry.at_path("read", &self.path)?.path();
            if path != self.tree() && path.extension() != Some(OsStr::new("note")) {
                remove::remove_tree(&path)?;
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is removed by the next writer's sweep.
            let _ = remove::remove_tree(&self.path);
        }
    }
}

impl Store {
    /// A new folder to work in.
    pub fn stage(&self) -> Result<Staging> {
        let (path, lock) = temporary::make_folder(&self.tmp())?;
        let staging = Staging { path, workdirs: 0.into(), published: false, _lock: lock };
        let tree = staging.tree();
        std::fs::create_dir(&tree).at_path("create", &tree)?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&tree, permissions).at_path("set the mode of", &tree)?;
        Ok(staging)
    }

    /// Makes the staging's tree a snapshot over `parent`'s chain, under a fresh identifier. Atomic: there
    /// is the whole snapshot or none. Nothing may be mounted on or write into the staging any more. Fails
    /// with [`StoreError::Incomplete`] if the parent is missing; whether all below it is there is asked when
    /// the chain is used.
    pub fn publish_snapshot(&self, staging: Staging, parent: Option<ResultId>) -> Result<Snapshot> {
        self.publish_snapshot_as(ResultId::fresh(), staging, parent)
    }

    /// [`Store::publish_snapshot`] for a tree that another store published as `id`. If this one has it
    /// already, or something unusable in its place, the tree stays what it is: the snapshot that is there, or
    /// one under a fresh identifier.
    pub fn adopt_snapshot(
        &self,
        id: ResultId,
        staging: Staging,
        parent: Option<ResultId>,
    ) -> Result<Snapshot> {
        if let Some(snapshot) = self.snapshot(id) {
            return Ok(snapshot);
        }
        let taken = std::fs::symlink_metadata(folder(self, id)).is_ok();
        let id = if taken { ResultId::fresh() } else { id };
        // Another process may have been faster.
        self.publish_snapshot_as(id, staging, parent).or_else(|error| self.snapshot(id).ok_or(error))
    }

    fn publish_snapshot_as(
        &self,
        id: ResultId,
        mut staging: Staging,
        parent: Option<ResultId>,
    ) -> Result<Snapshot> {
        let mut chain = Vec::new();
        if let Some(parent) = parent {
            chain = self.read_meta(parent).ok_or(StoreError::Incomplete(parent))?.chain;
            chain.push(parent);
        }
        let meta = Meta { boot: self.boot().to_owned(), chain };
        staging.clear()?;
        fault::point();
        let text = encode(&meta, "meta.json")?;
        let path = staging.path.join("meta.json");
        std::fs::write(&path, text).at_path("write", &path)?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(super::root::PROVISIONAL);
        std::fs::set_permissions(&path, permissions).at_path("set the mode of", &path)?;
        fault::point();
        temporary::rename(&staging.path, &folder(self, id))?;
        staging.published = true;
        fault::point();
        self.wrote(Provisional::Snapshot(id));
        Ok(Snapshot { id, parent, tree: folder(self, id).join("tree") })
    }

    /// The snapshot `id` if all of it is there, its chain included.
    pub fn snapshot(&self, id: ResultId) -> Option<Snapshot> {
        self.chain(id)?.pop()
    }

    /// The snapshot `id` and everything that it stands on, bottom first; `None` if a piece is missing.
    pub fn chain(&self, id: ResultId) -> Option<Vec<Snapshot>> {
        let below = self.read_meta(id)?.chain;
        let mut parent = None;
        let mut snapshots = Vec::with_capacity(below.len() + 1);
        for id in below.into_iter().chain([id]) {
            let tree = folder(self, id).join("tree");
            // The top was written after all below it, so what is known of the top holds for them.
            std::fs::symlink_metadata(&tree).ok()?.is_dir().then_some(())?;
            snapshots.push(Snapshot { id, parent, tree });
            parent = Some(id);
        }
        Some(snapshots)
    }

    /// Whether the snapshot `id` itself is there, whatever it stands on.
    pub(super) fn lies_there(&self, id: ResultId) -> bool {
        self.read_meta(id).is_some()
    }

    /// A small fact remembered beside a snapshot; `None` if it was never noted or did not survive.
    pub fn note(&self, id: ResultId, name: &'static str) -> Option<Vec<u8>> {
        let bytes = std::fs::read(note_path(self, id, name)).ok()?;
        let (digest, content) = bytes.split_at_checked(32)?;
        (Digest::of(content).as_bytes() == digest).then(|| content.to_vec())
    }

    /// Remembers a small fact beside a snapshot, in place of the last one of that name.
    pub fn set_note(&self, id: ResultId, name: &'static str, content: &[u8]) -> Result<()> {
        if std::fs::symlink_metadata(meta_path(self, id)).is_err() {
            return Err(StoreError::Incomplete(id));
        }
        self.put(&note_path(self, id, name), &note_bytes(content))
    }

    /// The meta of a snapshot that can be relied upon.
    fn read_meta(&self, id: ResultId) -> Option<Meta> {
        let mut file = File::open(meta_path(self, id)).ok()?;
        let durable = is_durable(&file);
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut text).ok()?;
        let meta: Meta = serde_json::from_slice(&text).ok()?;
        if !durable {
            (meta.boot == self.boot()).then_some(())?;
            self.met_provisional(Provisional::Snapshot(id));
        }
        Some(meta)
    }
}

/// The JSON form of `value`.
pub(super) fn encode<T: Serialize>(value: &T, key: &str) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| StoreError::Encode { key: key.to_owned(), source })
}

pub(super) fn meta_path(store: &Store, id: ResultId) -> PathBuf {
    folder(store, id).join("meta.json")
}

fn note_path(store: &Store, id: ResultId, name: &str) -> PathBuf {
    folder(store, id).join(note_name(name))
}

fn note_name(name: &str) -> String {
    format!("{name}.note")
}

/// A note as it lies on the disk: what it says, behind its digest.
fn note_bytes(content: &[u8]) -> Vec<u8> {
    [Digest::of(content).as_bytes(), content].concat()
}

pub(super) fn folder(store: &Store, id: ResultId) -> PathBuf {
    store.path("snapshots-v1").join(id.0.hex())
}
