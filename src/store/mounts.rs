//! Cache mounts: folders that steps share from build to build and that no key contains.
//!
//! A cache has an identity (a digest that the caller derives from its id and from what it begins with) and
//! one or more *copies*, `mounts-v1/IDENTITY/N/`, each with its lock. Sharing users take the shared lock of
//! a copy, others the exclusive one; who finds all copies taken makes a further copy, or, if it must be
//! alone, waits for the first. A copy is finished in `tmp` and renamed, so that there is a whole one or none;
//! what steps write in it later is theirs. The lock's time is the last use; the collector goes by it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::base::digest::Digest;
use crate::base::fs::{AtPath, FileLock};

use super::inventory::MountBytes;
use super::{Store, StoreError, temporary};

/// The bucket.
pub(super) const BUCKET: &str = "mounts-v1";

/// How a step wants a cache.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CacheUse {
    /// Together with others.
    Shared,
    /// Alone; while another uses it, a further copy.
    Private,
    /// Alone; while another uses it, not at all.
    Locked,
}

/// A cache in use; dropping it lets others in.
#[derive(Debug)]
pub struct CacheMount {
    folder: PathBuf,
    _lock: FileLock,
}

impl CacheMount {
    /// The folder to mount; absolute.
    pub fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }
}

/// A copy of a cache as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCache {
    /// Its folder.
    pub folder: PathBuf,
    /// The id under which the user knows it.
    pub id: String,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

impl Store {
    /// A copy of the cache `identity`, whose id is `id`; `None` if it must be alone and another uses it.
    /// A copy that has to be made is an empty folder, mode 0755, that `fill` then may fill.
    pub fn try_cache_mount<E: From<StoreError>>(
        &self,
        identity: Digest,
        id: &str,
        wanted: CacheUse,
        fill: &dyn Fn(&Path) -> Result<(), E>,
    ) -> Result<Option<CacheMount>, E> {
        let cache = self.path(BUCKET).join(identity.hex());
        let mut number = 0;
        loop {
            let folder = cache.join(number.to_string());
            if !folder.exists() {
                self.make_copy(&folder, id, fill)?;
            }
            if let Some(lock) = take(&folder, wanted)? {
                return Ok(Some(CacheMount { folder, _lock: lock }));
            }
            if wanted == CacheUse::Locked {
                return Ok(None);
            }
            number += 1;
        }
    }

    /// Makes the copy at `folder`; that another process made it meanwhile is as good.
    fn make_copy<E: From<StoreError>>(
        &self,
        folder: &Path,
        id: &str,
        fill: &dyn Fn(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let (away, lock) = temporary::make_folder(&self.tmp()).map_err(StoreError::from)?;
        let made = blank(&away, id).map_err(E::from).and_then(|()| fill(&away.join("tree")));
        let renamed = made.and_then(|()| match temporary::rename(&away, folder) {
            Err(_) if folder.exists() => Ok(false),
            result => result.map(|()| true).map_err(|error| StoreError::from(error).into()),
        });
        drop(lock);
        if !matches!(renamed, Ok(true)) {
            // What cannot be removed now is removed by the next writer's sweep.
            let _ = super::remove::remove_tree(&away);
        }
        renamed.map(|_| ())
    }

    /// Every copy of every cache, by path.
    pub(super) fn cache_mounts(&self, bytes: &mut MountBytes<'_>) -> Result<Vec<KeptCache>, StoreError> {
        let mut found = Vec::new();
        for (_, cache) in super::inventory::entries(&self.path(BUCKET))? {
            for (_, folder) in super::inventory::entries(&cache)? {
                let used = std::fs::metadata(folder.join("lock")).and_then(|lock| lock.modified());
                let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
                let id = std::fs::read_to_string(folder.join("id")).unwrap_or_default();
                found.push(KeptCache { id, bytes: bytes(&folder, used)?, used, folder });
            }
        }
        Ok(found)
    }
}

/// What a copy has before it is filled.
fn blank(folder: &Path, id: &str) -> Result<(), StoreError> {
    let tree = folder.join("tree");
    std::fs::create_dir(&tree).at_path("create", &tree)?;
    std::fs::set_permissions(&tree, PermissionsExt::from_mode(0o755)).at_path("chmod", &tree)?;
    for (name, text) in [("id", id), ("lock", "")] {
        let path = folder.join(name);
        std::fs::write(&path, text).at_path("write", &path)?;
    }
    Ok(())
}

/// The lock of a copy, if it is free for that use; its time becomes now.
fn take(folder: &Path, wanted: CacheUse) -> Result<Option<FileLock>, StoreError> {
    let path = folder.join("lock");
    let lock = match wanted {
        CacheUse::Shared => FileLock::try_shared(&path)?,
        CacheUse::Private | CacheUse::Locked => FileLock::try_exclusive(&path)?,
    };
    if lock.is_some() {
        let now = std::fs::File::options().write(true).open(&path);
        // A time that could not be set makes the cache look older than it is, nothing worse.
        let _ = now.and_then(|file| file.set_modified(SystemTime::now()));
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(store: &Store, wanted: CacheUse) -> Option<CacheMount> {
        let fill = |tree: &Path| {
            std::fs::write(tree.join("initial"), "x").unwrap();
            Ok::<_, StoreError>(())
        };
        store.try_cache_mount(Digest::of("one"), "/root/.cache", wanted, &fill).unwrap()
    }

    #[test]
    fn each_use_shares_as_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (first, second) = (taken(&store, CacheUse::Shared), taken(&store, CacheUse::Shared));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.tree(), second.tree());
        assert!(taken(&store, CacheUse::Locked).is_none());
        let private = taken(&store, CacheUse::Private).unwrap();
        assert_ne!(private.tree(), first.tree());
        assert!(private.tree().join("initial").exists());
        drop((first, second));
        let locked = taken(&store, CacheUse::Locked).unwrap();
        assert!(taken(&store, CacheUse::Locked).is_none());
        // Both copies are taken by somebody who is alone there.
        let third = taken(&store, CacheUse::Shared).unwrap();
        assert_eq!(store.inventory().unwrap().mounts.len(), 3);
        drop((locked, private, third));
        assert!(taken(&store, CacheUse::Private).unwrap().tree().ends_with("0/tree"));
    }

    #[test]
    fn what_a_step_wrote_stays_and_a_failed_filling_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let fail = |_: &Path| Err(StoreError::Incomplete(crate::base::digest::ResultId::fresh()));
        assert!(store.try_cache_mount(Digest::of("one"), "a", CacheUse::Shared, &fail).is_err());
        assert!(store.inventory().unwrap().mounts.is_empty());
        std::fs::write(taken(&store, CacheUse::Shared).unwrap().tree().join("kept"), "1").unwrap();
        let again = Store::open(folder.path()).unwrap();
        assert!(taken(&again, CacheUse::Private).unwrap().tree().join("kept").exists());
        let kept = again.inventory().unwrap().mounts;
        assert_eq!((kept.len(), kept[0].id.as_str()), (1, "/root/.cache"));
        assert!(kept[0].bytes > 0);
    }
}
