//! L1: everything that outlives a run, as bytes and folders.
//!
//! A [`Store`] is one folder. Data enters it in one way: it is finished in `tmp/`, renamed to its place,
//! and the record that points at it comes last; whoever is killed on the way leaves something that nobody
//! sees and that the next writer removes. Data leaves it in one way too: a piece that is missing,
//! unfinished or not known to have survived a crash of the machine is *not there* (`None`, a miss), never
//! an error and never a wrong result.
//!
//! ```text
//! .lock  CACHEDIR.TAG          shared by every run, exclusive for the collector
//! tmp/RANDOM                   what is being made, locked while its maker lives; the locks of keys
//! blobs-v1/sha256/HEX          bytes under their digest
//! snapshots-v1/RESULT/         tree/ (a layer's own files, overlay-ready), meta.json, notes
//! records-v1/ab/HEX.json       definition key → record
//! canonical-v1/ab/HEX.json     canonical key → record
//! names-v1 pins-v1 history-v1 handover-v1    shelves of small named values
//! .size  .size-lock            the running total
//! trees-v1/                    stat caches and what was selected; `context` owns their format
//! mounts-v1/IDENTITY/N/        what steps share from build to build, each copy with its lock
//! ```
//!
//! [`Store::peek`] answers from the definition key alone, without a lock and without writing.
//! [`Store::lookup`] takes the key's lock and returns a [`Lookup`]: a hit, or the [`Claim`] that alone can
//! publish. [`Store::stage`] gives a folder to work in, [`Store::publish_snapshot`] makes it a
//! [`Snapshot`]. [`Shelf`]s keep the values of other modules,
//! [`CacheMount`]s what steps share from build to build. [`Store::sync`] ends a run.
//!
//! **Durability.** Nothing waits for the disk step by step; [`Store::write_back`] keeps it busy meanwhile.
//! Records and snapshots bear the boot that wrote them; after one `syncfs` the run marks its files by making
//! them read-only. A file of another boot without the mark does not count, an unmarked blob is digested
//! again before it does.
//!
//! **Collecting.** [`Inventory::removals`] decides what goes (names keep what they hold, the least recently
//! used records go first), [`Store::prune`] does it, alone in the store: a build always has precedence, a
//! collector waits or leaves it to who comes after. [`Store::trim`] keeps the store below a size: whoever
//! published something looks at the running total in the end, and the last one out removes what is too
//! much. [`Store::damage`] looks for what is damaged.
//!
//! The store knows no images, no recipes and no contexts: recipes are opaque text, and what a record
//! keeps alive is listed in it.

mod blobs;
mod claims;
mod collect;
mod error;
mod fault;
mod inventory;
mod mounts;
mod prune;
mod records;
mod removals;
mod remove;
mod root;
mod share;
mod shares;
mod shelves;
mod size;
mod snapshots;
mod temporary;
mod verify;
mod write_back;

pub use blobs::BlobWriter;
pub use claims::{Claim, Key, Lookup};
pub use collect::{Inventory, Kept, Limits, Piece};
pub use error::StoreError;
pub use inventory::Usage;
pub use mounts::{CacheMount, CacheUse, KeptCache};
pub use prune::{Patience, Pruned};
pub use records::{Held, Record, Stamp};
pub use removals::{Removal, Removals, Why};
pub use root::Store;
pub use shares::{OwnedStep, Owner, PieceKind, PieceLine, Share, Shares};
pub use shelves::{Bucket, Shelf};
pub use size::Trimmed;
pub use snapshots::{Snapshot, Staging};
pub use write_back::WriteBack;

/// What an operation of the store gives.
pub type Result<T> = std::result::Result<T, StoreError>;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trials;
