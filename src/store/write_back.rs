//! Writing to the disk beside a build.
//!
//! A result counts after a crash of the machine only once it is on the disk, so who publishes something
//! waits for that in the end ([`Store::sync`]). What was published while steps run is therefore on its way
//! there before: while the next step runs, disks and processors have time for it.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Store;

/// How long after one writing the next one begins at the earliest.
const PAUSE: Duration = Duration::from_millis(250);

/// How much a run has published, and who waits for more.
#[derive(Debug, Default)]
pub(super) struct Published {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Counts {
    published: u64,
    /// How many writers were begun and ended.
    turns: u64,
}

impl Published {
    /// Notes that something was published.
    pub(super) fn more(&self) {
        self.counts().published += 1;
        self.changed.notify_all();
    }

    /// Waits until more than `written` was published: how much that is. `None` once the turn is over.
    fn wait(&self, turn: u64, written: u64) -> Option<u64> {
        let waiting = |counts: &mut Counts| counts.turns == turn && counts.published <= written;
        let counts = self.changed.wait_while(self.counts(), waiting).unwrap_or_else(PoisonError::into_inner);
        (counts.turns == turn).then_some(counts.published)
    }

    /// Waits for a while, or until the turn is over.
    fn pause(&self, turn: u64) {
        // The guard and whether the time is up tell nothing new.
        drop(self.changed.wait_timeout_while(self.counts(), PAUSE, |counts| counts.turns == turn));
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has what is published written to the disk, until it is dropped; see [`Store::write_back`].
pub struct WriteBack {
    published: Arc<Published>,
    turn: u64,
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        let mut counts = self.published.counts();
        // Another one may have taken over.
        counts.turns += u64::from(counts.turns == self.turn);
        self.published.changed.notify_all();
    }
}

impl Store {
    /// Has what this run publishes written to the disk at once, and then now and then, on a thread of its
    /// own, so that [`Store::sync`] has less to wait for. Marks nothing. Best effort. A second one takes over
    /// from the first.
    pub fn write_back(&self) -> Option<WriteBack> {
        let folder = File::open(self.root()).ok()?;
        let published = Arc::clone(self.published());
        let (turn, before) = {
            let mut counts = published.counts();
            counts.turns += 1;
            (counts.turns, counts.published)
        };
        let write_back = WriteBack { published: Arc::clone(&published), turn };
        let write = move || {
            let mut written = before;
            while let Some(now) = published.wait(turn, written) {
                // What could not be written back is told by the sync that counts.
                let _ = rustix::fs::syncfs(&folder);
                written = now;
                published.pause(turn);
            }
        };
        std::thread::Builder::new().name("write-back".to_owned()).spawn(write).ok()?;
        Some(write_back)
    }
}
