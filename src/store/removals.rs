//! What goes from a store, as values: one [`Removal`] a piece, each with its reason, and the text that
//! shows them.
//!
//! The collector and `verify` decide what goes; whoever carries it out (`prune`) only follows the steps.
//! Nothing here decides or touches the disk.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::digest::{Digest, ResultId};

use super::{Held, KeptCache};

/// Why something goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is older than allowed, or more than fits, or nobody needs it.
    Unused(Duration),
    /// A piece that the record needs is missing.
    Broken,
    /// The file is no readable record.
    Unreadable,
    /// Neither a name nor a remaining record holds it.
    Unheld,
    /// Its content is not what it was; the digest that it has now.
    Damaged(Digest),
}

/// One removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// The files of a result's records.
    Records(ResultId, Vec<PathBuf>, Why),
    /// A file that should be a record and is none, or what is known of a context.
    File(PathBuf, Why),
    /// A snapshot or blob of so many bytes.
    Piece(Held, u64, Why),
    /// A copy of a cache mount.
    Cache(KeptCache, Why),
}

/// What is to go, in order: records before what they hold, snapshots before what they stand
/// on. Its text form has a line a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removals {
    /// The steps.
    pub steps: Vec<Removal>,
}

impl Removals {
    /// Bytes of all pieces and cache mounts that go.
    pub fn bytes(&self) -> u64 {
        let bytes = |step: &Removal| match step {
            Removal::Piece(_, bytes, _) => *bytes,
            Removal::Cache(cache, _) => cache.bytes,
            Removal::Records(..) | Removal::File(..) => 0,
        };
        self.steps.iter().map(bytes).sum()
    }

    /// A line a step; `size` is how bytes are shown.
    pub fn text(&self, size: &dyn Fn(u64) -> String) -> String {
        self.steps.iter().map(|step| format!("{}\n", step.text(size))).collect()
    }
}

impl Removal {
    fn text(&self, size: &dyn Fn(u64) -> String) -> String {
        match self {
            Self::Records(id, _, why) => format!("record of {}: {why}", id.0.short()),
            Self::File(path, why) => format!("file {}: {why}", path.display()),
            Self::Piece(Held::Snapshot(id), bytes, why) => {
                format!("snapshot {}, {}: {why}", id.0.short(), size(*bytes))
            }
            Self::Piece(Held::Blob(id), bytes, why) => {
                format!("blob {}, {}: {why}", id.0.short(), size(*bytes))
            }
            Self::Cache(cache, why) => format!("cache mount {}, {}: {why}", cache.id, size(cache.bytes)),
        }
    }
}

impl fmt::Display for Removals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text(&|bytes| format!("{bytes} bytes")))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unused(age) => match age.as_secs() {
                seconds if seconds < 3600 => formatter.write_str("not needed, used within the last hour"),
                seconds => write!(formatter, "not used for {} hours", seconds / 3600),
            },
            Self::Broken => formatter.write_str("a piece that it needs is missing"),
            Self::Unreadable => formatter.write_str("not readable as a record"),
            Self::Unheld => formatter.write_str("nothing holds it"),
            Self::Damaged(found) => write!(formatter, "its content has the digest {} now", found.short()),
        }
    }
}
