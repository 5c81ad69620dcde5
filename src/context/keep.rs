//! What the stat cache's file holds after a run: what was seen, and what it held of the rest.
//!
//! Nothing is written unless something was learned. The file is read again first, because another context
//! over the same folder, or another process, may have written it meanwhile; of two that write at the same
//! time one wins, which costs the next run some reading. Folders that are gone are dropped, folders that
//! this run had no reason to look at are kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::FileType;

use super::Context;
use super::cache::{self, Cache, Record, RecordEntry, Records};
use super::stamp::Stamp;
use super::tree::{Folder, Node, split, to_raw};
use crate::base::digest::Digest;
use crate::base::fs::PathError;

impl Context {
    /// Writes the stat cache, if something worth keeping was learned since it was read. A build in which
    /// nothing changed writes nothing.
    pub fn save_cache(&self) -> Result<(), PathError> {
        let Some(path) = &self.cache_file else { return Ok(()) };
        if !self.tree.learned.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let mut records = Cache::load(path).records();
        let (folders, single) = self.tree.all_seen();
        for folder in &folders {
            let record = record(folder, records.get(&folder.path));
            records.insert(folder.path.clone(), record);
        }
        for (path, node) in &single {
            add(&mut records, path, node);
        }
        let seen: HashMap<&[u8], &Arc<Folder>> =
            folders.iter().map(|folder| (&*folder.path, folder)).collect();
        records.retain(|path, _| !is_gone(&seen, path));
        cache::save(path, &records)
    }
}

/// The digest of a node, where it can be believed later.
fn kept(node: &Node) -> Option<(Stamp, Digest)> {
    let content = node.content.get().filter(|content| content.settled)?;
    Some((content.meta(&node.meta).stamp, content.digest))
}

fn record(folder: &Folder, before: Option<&Record>) -> Record {
    let entry = |entry: &super::tree::Entry| {
        let new = entry.node.as_deref().and_then(kept);
        let old = || before.and_then(|before| before.entries.get(&*entry.name)).and_then(|old| old.content);
        let content = new.or_else(old);
        (entry.name.to_vec(), RecordEntry { kind: to_raw(entry.kind), content })
    };
    let entries = folder.entries.iter().map(entry).collect();
    Record { stamp: folder.meta.stamp, complete: folder.settled, entries }
}

/// Adds a path that was looked at without its folder.
fn add(records: &mut Records, path: &[u8], node: &Node) {
    let Some(content) = kept(node) else { return };
    let (parent, name) = split(path);
    // The stamp means nothing while the names are not complete.
    let fresh = || Record { stamp: node.meta.stamp, complete: false, entries: BTreeMap::new() };
    let record = records.entry(parent.to_vec()).or_insert_with(fresh);
    let entry = RecordEntry { kind: to_raw(FileType::RegularFile), content: Some(content) };
    if !record.complete || record.entries.contains_key(name) {
        record.entries.insert(name.to_vec(), entry);
    }
}

/// Whether a folder above `path` was looked at and leads to it no more.
fn is_gone(seen: &HashMap<&[u8], &Arc<Folder>>, path: &[u8]) -> bool {
    let mut path = path;
    while !path.is_empty() {
        let (parent, name) = split(path);
        let folder = |folder: &&Arc<Folder>| {
            folder
                .entry(name)
                .is_some_and(|entry| matches!(entry.kind, FileType::Directory | FileType::Unknown))
        };
        if seen.get(parent).is_some_and(|parent| !folder(parent)) {
            return true;
        }
        path = parent;
    }
    false
}
