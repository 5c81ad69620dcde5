//! The stat cache's file: which digest a file's content had under which stamp, and which names a folder had.
//!
//! One file a tree, read whole at the start and written whole, by rename, when something was learned. It
//! only ever holds what was trustworthy when it was written (see `stamp`); the reader compares stamps. A
//! file that is missing, of another version or damaged is an empty cache. Nothing here walks or digests.
//!
//! Layout, little-endian: magic, folders, digest of all before it. A folder is: length of the path, length
//! of its entries in bytes, stamp, whether the names are complete, path, entries. An entry is: length of
//! its name, type, whether a digest follows, name, stamp, digest.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::stamp::Stamp;
use crate::base::digest::Digest;
use crate::base::fs::{PathError, write_atomic};

const MAGIC: &[u8; 16] = b"shipway-tree-1\n\0";
const STAMP: usize = 48;

/// A file that was read; folders are found by binary search, entries decoded when asked for.
#[derive(Debug, Default)]
pub(super) struct Cache {
    bytes: Vec<u8>,
    folders: Vec<FolderAt>,
}

#[derive(Debug)]
struct FolderAt {
    path: Range<usize>,
    stamp: Stamp,
    complete: bool,
    entries: Range<usize>,
}

/// One folder of a cache.
pub(super) struct Known<'a> {
    /// Of the folder when its names were read.
    pub(super) stamp: Stamp,
    /// Whether all names are there, and the stamp was settled when they were read.
    pub(super) complete: bool,
    rest: &'a [u8],
}

/// One name of a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownEntry<'a> {
    pub(super) name: &'a [u8],
    /// `DT_…`
    pub(super) kind: u8,
    pub(super) content: Option<(Stamp, Digest)>,
}

/// A folder as it is written.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) stamp: Stamp,
    pub(super) complete: bool,
    pub(super) entries: BTreeMap<Vec<u8>, RecordEntry>,
}

/// An entry as it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordEntry {
    pub(super) kind: u8,
    pub(super) content: Option<(Stamp, Digest)>,
}

/// All folders by their paths.
pub(super) type Records = BTreeMap<Vec<u8>, Record>;

impl Cache {
    /// The cache at `path`; empty if there is none that can be used.
    pub(super) fn load(path: &Path) -> Self {
        std::fs::read(path).ok().and_then(Self::parse).unwrap_or_default()
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let body = bytes.len().checked_sub(32)?;
        if !bytes.starts_with(MAGIC) || Digest::of(&bytes[..body]).as_bytes() != &bytes[body..] {
            return None;
        }
        let mut folders = Vec::new();
        let mut reader = Reader { rest: &bytes[MAGIC.len()..body] };
        while !reader.rest.is_empty() {
            let (path_length, length) = (reader.number()? as usize, reader.number()? as usize);
            let (stamp, complete) = (reader.stamp()?, reader.byte()? != 0);
            let start = body - reader.rest.len();
            reader.take(path_length.checked_add(length)?)?;
            let path = start..start + path_length;
            folders.push(FolderAt { entries: path.end..path.end + length, path, stamp, complete });
        }
        Some(Self { bytes, folders })
    }

    /// What is known about the folder `path`.
    pub(super) fn folder(&self, path: &[u8]) -> Option<Known<'_>> {
        let found = self.folders.binary_search_by(|folder| self.bytes[folder.path.clone()].cmp(path)).ok()?;
        Some(self.known(&self.folders[found]))
    }

    fn known(&self, at: &FolderAt) -> Known<'_> {
        Known { stamp: at.stamp, complete: at.complete, rest: &self.bytes[at.entries.clone()] }
    }

    /// Everything, to be changed and written again.
    pub(super) fn records(&self) -> Records {
        let record = |at: &FolderAt| {
            let entries = self.known(at);
            let (stamp, complete) = (entries.stamp, entries.complete);
            let entries = entries
                .map(|entry| (entry.name.to_vec(), RecordEntry { kind: entry.kind, content: entry.content }));
            (self.bytes[at.path.clone()].to_vec(), Record { stamp, complete, entries: entries.collect() })
        };
        self.folders.iter().map(record).collect()
    }
}

/// Replaces the cache at `path`.
pub(super) fn save(path: &Path, records: &Records) -> Result<(), PathError> {
    let mut bytes = MAGIC.to_vec();
    for (folder, record) in records {
        let entries = encode(record);
        bytes.extend((folder.len() as u32).to_le_bytes());
        bytes.extend((entries.len() as u32).to_le_bytes());
        put_stamp(&mut bytes, &record.stamp);
        bytes.push(u8::from(record.complete));
        bytes.extend(folder);
        bytes.extend(entries);
    }
    let digest = Digest::of(&bytes);
    bytes.extend(digest.as_bytes());
    write_atomic(path, &bytes)
}

fn encode(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, entry) in &record.entries {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend([entry.kind, u8::from(entry.content.is_some())]);
        bytes.extend(name);
        if let Some((stamp, digest)) = &entry.content {
            put_stamp(&mut bytes, stamp);
            bytes.extend(digest.as_bytes());
        }
    }
    bytes
}

fn put_stamp(bytes: &mut Vec<u8>, stamp: &Stamp) {
    [stamp.dev, stamp.ino, stamp.size].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    for (seconds, nanos) in [stamp.mtime, stamp.ctime] {
        bytes.extend(seconds.to_le_bytes());
        bytes.extend(nanos.to_le_bytes());
    }
}

impl<'a> Iterator for Known<'a> {
    type Item = KnownEntry<'a>;

    fn next(&mut self) -> Option<KnownEntry<'a>> {
        let mut reader = Reader { rest: self.rest };
        let entry = reader.entry();
        self.rest = if entry.is_some() { reader.rest } else { &[] };
        entry
    }
}

/// Takes values off the front; `None` where there are too few bytes.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn stamp(&mut self) -> Option<Stamp> {
        let mut reader = Reader { rest: self.take(STAMP)? };
        let (dev, ino, size) = (reader.long()?, reader.long()?, reader.long()?);
        let mut time = || Some((i64::from_le_bytes(reader.array()?), reader.number()?));
        Some(Stamp { dev, ino, size, mtime: time()?, ctime: time()? })
    }

    fn entry(&mut self) -> Option<KnownEntry<'a>> {
        let length = self.number()? as usize;
        let (kind, has_content) = (self.byte()?, self.byte()? != 0);
        let name = self.take(length)?;
        let content = match has_content {
            true => Some((self.stamp()?, Digest::from_bytes(self.array()?))),
            false => None,
        };
        Some(KnownEntry { name, kind, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Records {
        let stamp = Stamp { dev: 1, ino: 2, size: 3, mtime: (-4, 5), ctime: (6, 7) };
        let file = RecordEntry { kind: 8, content: Some((stamp, Digest::of("x"))) };
        let other = RecordEntry { kind: 4, content: None };
        let entries = BTreeMap::from([(b"a\n".to_vec(), file), (b"b".to_vec(), other)]);
        let record = Record { stamp, complete: true, entries };
        let empty = Record { complete: false, entries: BTreeMap::new(), ..record.clone() };
        BTreeMap::from([(b"".to_vec(), record), (b"b/\xff".to_vec(), empty)])
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree");
        save(&path, &records()).unwrap();
        let cache = Cache::load(&path);
        assert_eq!(format!("{:?}", cache.records()), format!("{:?}", records()));
        assert!(cache.folder(b"b").is_none());
        assert!(!cache.folder(b"b/\xff").unwrap().complete);
        let names: Vec<_> = cache.folder(b"").unwrap().map(|entry| entry.name.to_vec()).collect();
        assert_eq!(names, [b"a\n".to_vec(), b"b".to_vec()]);
    }

    #[test]
    fn damage_is_an_empty_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree");
        assert!(Cache::load(&path).folders.is_empty());
        save(&path, &records()).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(Cache::load(&path).folders.is_empty(), "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(Cache::load(&path).folders.is_empty(), "cut at {at}");
        }
    }
}
