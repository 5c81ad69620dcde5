//! What the stat cache's file holds after a run: what was seen, and what it held of the rest.
//!
//! Nothing is written unless something was learned. The file is read again first, because another context
//! over the same folder, or another process, may have written it meanwhile; of two that write at the same
//! time one wins, which costs the next run some reading. Folders that are gone are dropped, folders that
//! this run had no reason to look at are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::FileType;

use super::Context;
use super::cache::{Known, KnownEntry, Writer};
use super::folder::{Folder, Node};
use super::stamp::Stamp;
use super::tracked::Modes;
use super::tree::{Single, split, to_raw};
use crate::base::digest::Digest;
use crate::base::fs::PathError;

/// About what an entry with its digest takes in the file.
const ENTRY: usize = 128;

/// What is known of single files, by the folder that they are in.
type Singles<'a> = BTreeMap<&'a [u8], BTreeMap<&'a [u8], KnownEntry<'a>>>;

impl Context {
    /// Writes the stat cache and what is remembered of selections, where something worth keeping was learned
    /// since they were read. A build in which nothing changed writes nothing.
    pub fn save_cache(&self) -> Result<(), PathError> {
        let Some(path) = self.tree.cache.file() else { return Ok(()) };
        self.tree.modes.as_ref().map_or(Ok(()), Modes::save)?;
        self.save_remembered()?;
        if !self.tree.learned.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let changed = self.tree.cache.changed();
        let before = changed.as_ref().unwrap_or_else(|| self.tree.cache.get());
        let (folders, single) = self.tree.all_seen();
        let seen: HashMap<&[u8], &Arc<Folder>> =
            folders.iter().map(|folder| (&*folder.path, folder)).collect();
        let singles = singles(&single);
        let kept = before.folders().map(|(path, _)| path);
        let kept = kept.chain(singles.keys().copied()).filter(|path| !is_gone(&seen, path));
        let paths: BTreeSet<&[u8]> = kept.chain(seen.keys().copied()).collect();
        let entries: usize = folders.iter().map(|folder| folder.len()).sum();
        let mut writer = Writer::new(entries * ENTRY);
        for path in paths {
            let (before, singles) = (before.folder(path), singles.get(path));
            match (seen.get(path), before) {
                (Some(folder), before) => write_seen(&mut writer, folder, before, singles),
                (None, before) => write_unseen(&mut writer, path, before, singles),
            }
        }
        writer.finish(path)
    }
}

/// The digest of a node, where it can be believed later.
fn kept(node: &Node) -> Option<(Stamp, Digest)> {
    let content = node.content.get().filter(|content| content.settled)?;
    Some((content.meta(&node.meta).stamp, content.digest))
}

fn singles(single: &[Single]) -> Singles<'_> {
    let mut singles = Singles::new();
    for (path, node) in single {
        let Some(content) = kept(node) else { continue };
        let (folder, name) = split(path);
        let entry = KnownEntry { name, kind: to_raw(FileType::RegularFile), content: Some(content) };
        singles.entry(folder).or_default().insert(name, entry);
    }
    singles
}

/// A folder that was looked at: its names, with what was found out now, else with what was known.
fn write_seen(
    writer: &mut Writer,
    folder: &Folder,
    before: Option<Known<'_>>,
    singles: Option<&BTreeMap<&[u8], KnownEntry<'_>>>,
) {
    let mut before = before.into_iter().flatten().peekable();
    let entries = folder.entries().map(|entry| {
        let name = entry.name;
        while before.next_if(|before| before.name < name).is_some() {}
        let before = before.next_if(|before| before.name == name).and_then(|before| before.content);
        let alone = singles.and_then(|singles| singles.get(name)).and_then(|single| single.content);
        let now = alone.or_else(|| entry.node().and_then(kept));
        KnownEntry { name, kind: to_raw(entry.kind), content: now.or(before) }
    });
    writer.folder(&folder.path, (&folder.meta.stamp, folder.settled), entries);
}

/// A folder that only single files were looked at in, if any. Where its names are complete no name is added.
fn write_unseen(
    writer: &mut Writer,
    path: &[u8],
    before: Option<Known<'_>>,
    singles: Option<&BTreeMap<&[u8], KnownEntry<'_>>>,
) {
    let complete = before.as_ref().is_some_and(|before| before.complete);
    let alone = || singles.into_iter().flat_map(BTreeMap::values);
    let first = alone().find_map(|entry| entry.content).map(|(stamp, _)| stamp);
    // The stamp means nothing while the names are not complete.
    let Some(stamp) = before.as_ref().map(|before| before.stamp).or(first) else { return };
    let mut entries: BTreeMap<&[u8], KnownEntry<'_>> =
        before.into_iter().flatten().map(|entry| (entry.name, entry)).collect();
    for entry in alone() {
        if !complete || entries.contains_key(entry.name) {
            entries.insert(entry.name, *entry);
        }
    }
    writer.folder(path, (&stamp, complete), entries.into_values());
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
