//! Carrying out what the collector decided, alone in the store.
//!
//! A build holds the store's shared lock from its beginning to its end and is sure of every piece that it
//! met or made. Who removes gives up its own shared lock and takes the exclusive one: a build that runs has
//! precedence, so the remover waits, as long as its [`Patience`] lasts. The lock is held only while
//! the plan is made and everything that goes is renamed away, so that nobody ever sees a part of it; the
//! long work, removing the trees, comes after it, beside whoever runs by then.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::base::fs::FileLock;

use super::collect::Limits;
use super::{Held, Owner, Removal, Removals, Result, Store, fault, remove, snapshots, temporary};

/// How often a waiting remover looks: often enough to find the moment between two short runs.
const POLL: Duration = Duration::from_millis(5);

/// How long to wait for others who use the store.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// So long at most.
    pub limit: Duration,
    /// Told once, before the first wait: the processes that are waited for, as far as they are known.
    pub waiting: &'a dyn Fn(&[u32]),
}

impl Patience<'static> {
    /// Nobody is waited for.
    pub const NONE: Self = Self { limit: Duration::ZERO, waiting: &|_| {} };
}

/// What a prune came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// What was removed.
    pub removals: Removals,
    /// Bytes that are left.
    pub remaining: u64,
    /// Those of them that names hold.
    pub named: u64,
}

impl Store {
    /// Removes what does not fit into `limits`; `None` if others still use the store when the patience is
    /// at its end. `owners` is asked when nobody else is there any more. The shared lock is given up for
    /// good: this store can be asked nothing about pieces afterwards.
    pub fn prune(
        &self,
        limits: &Limits,
        owners: &dyn Fn() -> Vec<Owner>,
        patience: Patience<'_>,
    ) -> Result<Option<Pruned>> {
        let Some(alone) = self.alone(patience)? else { return Ok(None) };
        temporary::sweep(&self.path("tmp"));
        let mut inventory = self.inventory_alone()?;
        inventory.owners = owners();
        let removals = inventory.removals(limits, SystemTime::now());
        self.carry_out(&removals, alone)?;
        let remaining = inventory.bytes().saturating_sub(removals.bytes());
        self.set_size(remaining)?;
        Ok(Some(Pruned { removals, remaining, named: inventory.named_bytes() }))
    }

    /// Removes exactly this, as [`Store::prune`] does; false if others still use the store.
    pub fn remove(&self, removals: &Removals, patience: Patience<'_>) -> Result<bool> {
        let Some(alone) = self.alone(patience)? else { return Ok(false) };
        self.carry_out(removals, alone)?;
        self.forget_size()?;
        Ok(true)
    }

    /// The processes that hold the store open, this one not counted; none where the system does not say.
    pub fn users(&self) -> Vec<u32> {
        let Ok(lock) = std::fs::metadata(self.path(".lock")) else { return Vec::new() };
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        let mut users = holders(&locks, lock.ino());
        users.retain(|pid| *pid != std::process::id());
        users
    }

    /// The exclusive lock, once nobody else uses the store.
    fn alone(&self, patience: Patience<'_>) -> Result<Option<FileLock>> {
        self.release();
        let (path, begun) = (self.path(".lock"), Instant::now());
        let mut told = false;
        loop {
            if let Some(lock) = FileLock::try_exclusive(&path)? {
                return Ok(Some(lock));
            }
            if begun.elapsed() >= patience.limit {
                return Ok(None);
            }
            if !std::mem::replace(&mut told, true) {
                (patience.waiting)(&self.users());
            }
            std::thread::sleep(POLL.min(patience.limit));
        }
    }

    /// Renames everything away that goes, lets others in, and removes it.
    fn carry_out(&self, removals: &Removals, alone: FileLock) -> Result<()> {
        let (away, _lock) = temporary::make_folder(&self.path("tmp"))?;
        let mut moved = Ok(());
        for (number, removal) in removals.steps.iter().enumerate() {
            fault::point();
            moved = self.set_aside(removal, &away.join(number.to_string()));
            if moved.is_err() {
                break;
            }
        }
        fault::point();
        drop(alone);
        // What cannot be removed now is removed by the next writer's sweep.
        let removed = remove::remove_tree(&away);
        moved?;
        Ok(removed?)
    }

    fn set_aside(&self, removal: &Removal, aside: &Path) -> Result<()> {
        match removal {
            Removal::Records(_, files, _) => files.iter().try_for_each(|file| Ok(remove::remove_tree(file)?)),
            Removal::File(file, _) => Ok(remove::remove_tree(file)?),
            Removal::Piece(Held::Blob(id), ..) => move_away(&self.blob_path(*id), aside),
            Removal::Piece(Held::Snapshot(id), ..) => move_away(&snapshots::folder(self, *id), aside),
            Removal::Cache(cache, _) => {
                move_away(&cache.folder, aside)?;
                // Other copies of the cache may be there.
                let _ = cache.folder.parent().map(std::fs::remove_dir);
                Ok(())
            }
        }
    }
}

/// Nothing at `path` is no error: it is away.
fn move_away(path: &Path, aside: &Path) -> Result<()> {
    match temporary::rename(path, aside) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        moved => Ok(moved?),
    }
}

/// The processes that hold a lock on the file of this inode, by the text of `/proc/locks`.
fn holders(locks: &str, inode: u64) -> Vec<u32> {
    let holder = |line: &str| {
        // `1: FLOCK  ADVISORY  READ 1234 fe:01:5678 0 EOF`; one who waits has a `->` after the number.
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
        (file.rsplit(':').next()?.parse() == Ok(inode)).then_some(pid.parse().ok()?)
    };
    let mut holders: Vec<u32> = locks.lines().filter_map(holder).collect();
    holders.sort_unstable();
    holders.dedup();
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_read_from_the_table_of_locks() {
        let locks = "1: FLOCK  ADVISORY  READ 77 fe:01:5678 0 EOF\n\
            2: POSIX  ADVISORY  WRITE 78 fe:01:5678 0 EOF\n\
            3: FLOCK  ADVISORY  READ 21 fe:01:5678 0 EOF\n\
            3: -> FLOCK  ADVISORY  WRITE 99 fe:01:5678 0 EOF\n\
            4: FLOCK  ADVISORY  READ 80 fe:01:15678 0 EOF\n\
            5: FLOCK  ADVISORY  READ -1 fe:01:5678 0 EOF\n";
        assert_eq!(holders(locks, 5678), [21, 77]);
    }
}
