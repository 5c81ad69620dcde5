//! How large the store is, without a walk, and keeping it below a cap.
//!
//! `.size` holds a running total: the bytes that the last whole inventory found, and since then what every
//! run has published. A run measures only what it made itself, at its end, and notes each snapshot's size
//! beside it, so no inventory walks that tree again. The total is approximate: what others
//! removed or wrote elsewhere is found by the next whole inventory, at most a day later. Where the whole
//! file system holds less than the cap nothing is measured at all.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::base::fs::{AtPath, FileLock};

use super::collect::Limits;
use super::{Held, Patience, Pruned, Result, Store};

/// What [`Store::trim`] came to; the cap in bytes is beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trimmed {
    /// There was nothing to do.
    Fits,
    /// The store takes so many bytes, and others use it: who ends after us trims it.
    InUse(u64, u64),
    /// It was trimmed.
    Done(Pruned, u64),
}

/// A total that is older is counted afresh.
const DAY: u64 = 24 * 60 * 60;

/// The content of `.size`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Size {
    /// All bytes.
    bytes: u64,
    /// What was left when the collector could not make the store as small as it should be; else 0.
    stuck: u64,
    /// When it was counted: seconds since 1970.
    counted: u64,
}

impl Size {
    /// Whether a store that should stay below `most` bytes is to be trimmed. One that cannot be made small
    /// enough is tried again only when it has grown again.
    const fn is_too_much(&self, most: u64) -> bool {
        let stuck = if self.stuck == 0 { 0 } else { self.stuck.saturating_add(most / 10) };
        self.bytes > if stuck > most { stuck } else { most }
    }
}

/// What a store below `most` bytes is trimmed to, so that not every run has to trim it.
const fn target(most: u64) -> u64 {
    most - most / 10
}

impl Store {
    /// Ends a run whose store is to stay below a cap, which `most` gives for a file system of that size: if
    /// the run has published something and the store is too large by now, the least recently used goes,
    /// whatever services need it, until a tenth of the cap is free. Nobody is waited for. The shared lock is
    /// given up if it has to be.
    pub fn trim(&self, most: &dyn Fn(u64) -> Option<u64>) -> Result<Trimmed> {
        let made = self.take_made();
        if made.is_empty() {
            return Ok(Trimmed::Fits);
        }
        let (capacity, taken) = self.capacity()?;
        let Some(most) = most(capacity).filter(|most| taken > *most) else {
            // Nobody counts what this run made.
            self.forget_size()?;
            return Ok(Trimmed::Fits);
        };
        let size = self.grown(&made)?;
        if !size.is_too_much(most) {
            return Ok(Trimmed::Fits);
        }
        let limits = Limits { keep_bytes: Some(target(most)), unused_for: None, all: true };
        let Some(pruned) = self.prune(&limits, &Vec::new, Patience::NONE)? else {
            return Ok(Trimmed::InUse(size.bytes, most));
        };
        if pruned.remaining > target(most) {
            self.put_size(Size { bytes: pruned.remaining, stuck: pruned.remaining, counted: now() })?;
        }
        Ok(Trimmed::Done(pruned, most))
    }

    /// The bytes of the store's file system, and those of them that are taken.
    pub fn capacity(&self) -> Result<(u64, u64)> {
        let stat = rustix::fs::statvfs(self.root()).at_path("stat", self.root())?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok((bytes(stat.f_blocks), bytes(stat.f_blocks.saturating_sub(stat.f_bfree))))
    }

    /// The total after a whole inventory found so many bytes.
    pub(super) fn set_size(&self, bytes: u64) -> Result<()> {
        self.put_size(Size { bytes, stuck: 0, counted: now() })
    }

    /// The next one who needs the total counts afresh.
    pub(super) fn forget_size(&self) -> Result<()> {
        let path = self.path(".size");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(crate::base::fs::PathError::new("remove", path, error).into())
            }
            _ => Ok(()),
        }
    }

    /// Adds what this run made to the total.
    fn grown(&self, made: &[Held]) -> Result<Size> {
        let mut grown = 0;
        for held in made {
            grown += self.piece_bytes(*held)?;
        }
        let _lock = FileLock::exclusive(&self.path(".size-lock"))?;
        let size = match self.read_size() {
            Some(size) => Size { bytes: size.bytes.saturating_add(grown), ..size },
            None => Size { bytes: self.inventory()?.bytes(), stuck: 0, counted: now() },
        };
        self.put_size(size)?;
        Ok(size)
    }

    /// The total, unless it is missing, torn, too old or of the future.
    fn read_size(&self) -> Option<Size> {
        let size: Size = serde_json::from_slice(&std::fs::read(self.path(".size")).ok()?).ok()?;
        now().checked_sub(size.counted).is_some_and(|age| age < DAY).then_some(size)
    }

    fn put_size(&self, size: Size) -> Result<()> {
        self.put(&self.path(".size"), &super::snapshots::encode(&size, ".size")?)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_cannot_be_smaller_is_tried_again_only_when_it_has_grown() {
        let size = |bytes, stuck| Size { bytes, stuck, counted: 0 };
        assert!(size(101, 0).is_too_much(100) && !size(100, 0).is_too_much(100));
        assert!(!size(310, 300).is_too_much(100) && size(311, 300).is_too_much(100));
        assert!(!size(100, 91).is_too_much(100) && size(102, 91).is_too_much(100));
        assert_eq!((target(100), target(0)), (90, 0));
    }
}
