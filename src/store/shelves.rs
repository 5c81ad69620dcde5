//! Shelves: small values of other modules under names of theirs, one JSON file each.
//!
//! A value is replaced as a whole. What cannot be read, because it is torn or of another version, is not
//! there. Values that keep pieces of the store alive list them in a field `holds` (an array of [`Held`]),
//! which the collector reads.
//!
//! [`Held`]: super::Held

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::fs::PathError;

use super::snapshots::encode;
use super::{Result, Store};

/// Which shelf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket<'a> {
    /// Image names of this store.
    Names,
    /// What names of images, repositories and addresses resolved to.
    Pins,
    /// Per step of the project of this name: what the last build that ran something did.
    History(&'a str),
    /// What was handed to the engine of this identifier.
    Handover(&'a str),
}

/// One shelf of a store.
#[derive(Debug)]
pub struct Shelf<'s> {
    store: &'s Store,
    folder: PathBuf,
}

#[derive(Serialize)]
struct Put<'a, T> {
    key: &'a str,
    value: &'a T,
}

#[derive(Deserialize)]
struct Got<T> {
    key: String,
    value: T,
}

impl Store {
    /// The shelf `bucket`. Nothing is read or written yet.
    pub fn shelf(&self, bucket: Bucket<'_>) -> Shelf<'_> {
        let folder = match bucket {
            Bucket::Names => self.path("names-v1"),
            Bucket::Pins => self.path("pins-v1"),
            Bucket::History(project) => self.path("history-v1").join(file_name(project)),
            Bucket::Handover(engine) => self.path("handover-v1").join(file_name(engine)),
        };
        Shelf { store: self, folder }
    }
}

impl Store {
    /// Every value that can be read of all histories, with its key.
    pub fn histories<T: DeserializeOwned>(&self) -> Vec<(String, T)> {
        let folders = std::fs::read_dir(self.path("history-v1")).into_iter().flatten().flatten();
        folders.flat_map(|folder| Shelf { store: self, folder: folder.path() }.list()).collect()
    }
}

impl Shelf<'_> {
    /// The value under `key`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        read::<T>(self.path(key)).filter(|got| got.key == key).map(|got| got.value)
    }

    /// Whether something lies under `key`, readable or not.
    pub fn has(&self, key: &str) -> bool {
        self.path(key).exists()
    }

    /// Puts `value` under `key`, in place of what was there.
    pub fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<()> {
        let text = encode(&Put { key, value }, key)?;
        self.store.put(&self.path(key), &text)
    }

    /// Every value that can be read, with its key, sorted by the key.
    pub fn list<T: DeserializeOwned>(&self) -> Vec<(String, T)> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let read = entries.filter_map(|entry| read::<T>(entry.path()));
        let mut values: Vec<_> = read.map(|got| (got.key, got.value)).collect();
        values.sort_by(|one, other| one.0.cmp(&other.0));
        values
    }

    /// Takes the value under `key` away; false if there was none.
    pub fn remove(&self, key: &str) -> Result<bool> {
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(PathError::new("remove", path, error).into()),
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{}.json", file_name(key)))
    }
}

/// Keys have any length and any letters; file names have not.
fn file_name(key: &str) -> String {
    Digest::of(key).hex()
}

fn read<T: DeserializeOwned>(path: PathBuf) -> Option<Got<T>> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
