//! Records: what a key gave, and whether that still counts.
//!
//! [`Store::peek`] applies every rule and changes nothing. A record is a miss if it is unreadable, if it
//! is of another boot and was never marked durable, if its snapshot's chain or anything that it holds is
//! missing, or if a definition that it stands on has meanwhile given another result.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::digest::{BlobId, CanonicalKey, DefinitionKey, ResultId};

use super::root::{Provisional, is_marked};
use super::snapshots::encode;
use super::temporary::KeyLock;
use super::{Result, Store, StoreError, fault};

/// A piece of the store that a record or a name keeps alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    /// A snapshot with its whole chain.
    Snapshot(ResultId),
    /// A blob.
    Blob(BlobId),
}

/// A moment: seconds since 1970 (UTC) and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// Whole seconds since 1970, UTC.
    pub seconds: u64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

impl Stamp {
    /// This moment; 1970 if the clock stands before it.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs(), nanos: since.subsec_nanos() }
    }
}

/// What running a step gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// What the step was; opaque here, compared by whoever wrote it to explain a miss.
    pub recipe: Box<RawValue>,
    /// The snapshot that it gave.
    pub result: ResultId,
    /// The steps that it stood on and what they had given.
    pub inputs: Vec<(DefinitionKey, ResultId)>,
    /// What else must be there for it to count, and stays because of it. The result and its chain need not
    /// be named.
    pub holds: Vec<Held>,
    /// How long it ran, in milliseconds.
    pub took_ms: u64,
    /// When it ended.
    pub created: Stamp,
}

/// A record as it lies on the disk.
#[derive(Debug, Serialize, Deserialize)]
struct Filed {
    /// The boot in which it was written.
    boot: String,
    record: Record,
}

/// A record that was read, with what is known of its file.
pub(super) struct Found {
    pub(super) record: Record,
    boot: String,
    durable: bool,
    /// When it was last of use, to a day.
    used: Option<SystemTime>,
}

impl Store {
    /// The record of `definition` if it counts. Takes no lock and writes nothing: a few file reads.
    pub fn peek(&self, definition: DefinitionKey) -> Option<Record> {
        let record = self.usable(&definition_path(self, definition))?;
        self.inputs_stand(&record).then_some(record)
    }

    /// The last record of `definition` whether it counts or not: only to explain, or to guess a duration.
    pub fn recall(&self, definition: DefinitionKey) -> Option<Record> {
        Some(read(&definition_path(self, definition))?.record)
    }

    /// Files what another store made for `definition`, unless something that counts is there: that is the
    /// record then. Fails with [`StoreError::Incomplete`] if its result is not in this store.
    pub fn adopt(&self, definition: DefinitionKey, record: Record) -> Result<Record> {
        let name = format!("definition-{}", definition.0.hex());
        // A waiting look always gets the lock.
        let _lock = KeyLock::take(&self.tmp(), &name, true)?;
        if let Some(found) = self.peek(definition) {
            return Ok(found);
        }
        if !self.lies_there(record.result) {
            return Err(StoreError::Incomplete(record.result));
        }
        self.file(definition_path(self, definition), &record)?;
        Ok(record)
    }

    /// The record of `canonical` if its pieces are there. Its key is made of the results that it stands
    /// on, so these need no question.
    pub(super) fn peek_canonical(&self, canonical: CanonicalKey) -> Option<Record> {
        self.usable(&canonical_path(self, canonical))
    }

    /// Puts `record` under a key.
    pub(super) fn file(&self, path: PathBuf, record: &Record) -> Result<()> {
        let filed = Filed { boot: self.boot().to_owned(), record: record.clone() };
        let text = encode(&filed, "record")?;
        fault::point();
        self.put(&path, &text)?;
        fault::point();
        self.wrote(Provisional::Record(path, record.result));
        Ok(())
    }

    /// The record at `path` if it survived and all that it names is there.
    fn usable(&self, path: &Path) -> Option<Record> {
        let found = read(path)?;
        self.survived(&found).then_some(())?;
        let (record, used) = (found.record, found.used);
        self.chain(record.result)?;
        let there = |held: &Held| match *held {
            Held::Snapshot(id) => self.chain(id).is_some(),
            Held::Blob(id) => self.blob_lies_there(id),
        };
        record.holds.iter().all(there).then_some(())?;
        self.met(path, used);
        if !found.durable {
            self.met_provisional(Provisional::Record(path.to_owned(), record.result));
        }
        Some(record)
    }

    /// Whether the record's file is known to be whole: written in this boot, or marked.
    fn survived(&self, found: &Found) -> bool {
        found.durable || found.boot == self.boot()
    }

    /// Whether each definition that `record` stands on, directly or through others, and that still has a
    /// record, still has the result on which the next one stands.
    fn inputs_stand(&self, record: &Record) -> bool {
        self.agrees(&record.inputs)
    }

    /// Whether nothing that is filed here contradicts a record that stands on `inputs`: each of these
    /// definitions, and of those below them, that has a record has this result.
    pub fn agrees(&self, inputs: &[(DefinitionKey, ResultId)]) -> bool {
        let mut left = inputs.to_vec();
        let mut seen = HashSet::new();
        while let Some((definition, result)) = left.pop() {
            if !seen.insert((definition, result)) {
                continue;
            }
            let path = definition_path(self, definition);
            let Some(found) = read(&path).filter(|found| self.survived(found)) else { continue };
            if found.record.result != result {
                return false;
            }
            self.met(&path, found.used);
            left.extend(found.record.inputs);
        }
        true
    }
}

/// The record at `path`, whether it counts or not.
pub(super) fn read(path: &Path) -> Option<Found> {
    let mut file = File::open(path).ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    let filed: Filed = serde_json::from_slice(&text).ok()?;
    let stat = file.metadata().ok()?;
    let (durable, used) = (is_marked(stat.mode()), stat.modified().ok());
    Some(Found { record: filed.record, boot: filed.boot, durable, used })
}

pub(super) fn definition_path(store: &Store, key: DefinitionKey) -> PathBuf {
    sharded(store, "records-v1", &key.0.hex())
}

pub(super) fn canonical_path(store: &Store, key: CanonicalKey) -> PathBuf {
    sharded(store, "canonical-v1", &key.0.hex())
}

fn sharded(store: &Store, bucket: &str, hex: &str) -> PathBuf {
    store.path(bucket).join(&hex[..2]).join(format!("{hex}.json"))
}
