//! The stat cache's file: which digest a file's content had under which stamp, and which names a folder had.
//!
//! One file a tree, read whole at the start and written whole, by rename, when something was learned. It
//! only ever holds what was trustworthy when it was written (see `stamp`); the reader compares stamps. A
//! file that is missing, of another version or damaged is an empty cache. Nothing here walks or digests.
//!
//! Layout, little-endian: magic, folders, digest of all before it. A folder is: length of the path, length
//! of its entries in bytes, stamp, whether the names are complete, path, entries. An entry is: length of
//! its name, type, whether a digest follows, name, stamp, digest.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::stamp::Stamp;
use crate::base::digest::Digest;
use crate::base::fs::{PathError, write_atomic};

const MAGIC: &[u8; 16] = b"shipway-tree-1\n\0";
const STAMP: usize = 48;
/// About the length of an entry with a digest.
const ABOUT: usize = 96;

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

/// The cache of a tree, read when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct Lazy {
    file: Option<PathBuf>,
    read: OnceLock<Cache>,
}

/// One folder of a cache: its entries, sorted by name.
pub(super) struct Known<'a> {
    /// Of the folder when its names were read.
    pub(super) stamp: Stamp,
    /// Whether all names are there, and the stamp was settled when they were read.
    pub(super) complete: bool,
    rest: &'a [u8],
}

/// One name of a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KnownEntry<'a> {
    pub(super) name: &'a [u8],
    /// `DT_…`
    pub(super) kind: u8,
    pub(super) content: Option<(Stamp, Digest)>,
}

impl Lazy {
    /// The cache that `file` holds; without a file an empty one.
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file, read: OnceLock::new() }
    }

    /// Where it is kept.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What the file holds now, if that is not what was read.
    pub(super) fn changed(&self) -> Option<Cache> {
        let now = self.file().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        (now != self.get().bytes).then(|| Cache::parse(now).unwrap_or_default())
    }

    /// What it holds.
    pub(super) fn get(&self) -> &Cache {
        self.read.get_or_init(|| self.file().map(Cache::load).unwrap_or_default())
    }
}

impl Cache {
    /// The cache at `path`; empty if there is none that can be used.
    pub(super) fn load(path: &Path) -> Self {
        std::fs::read(path).ok().and_then(Self::parse).unwrap_or_default()
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let mut reader = Reader { rest: unsealed(&bytes, MAGIC)? };
        let body = MAGIC.len() + reader.rest.len();
        let mut folders = Vec::new();
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

    /// How many bytes it is long.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What is known about the folder `path`.
    pub(super) fn folder(&self, path: &[u8]) -> Option<Known<'_>> {
        let found = self.folders.binary_search_by(|folder| self.bytes[folder.path.clone()].cmp(path)).ok()?;
        Some(self.known(&self.folders[found]))
    }

    fn known(&self, at: &FolderAt) -> Known<'_> {
        Known { stamp: at.stamp, complete: at.complete, rest: &self.bytes[at.entries.clone()] }
    }

    /// All folders with their paths, sorted.
    pub(super) fn folders(&self) -> impl Iterator<Item = (&[u8], Known<'_>)> {
        self.folders.iter().map(|at| (&self.bytes[at.path.clone()], self.known(at)))
    }
}

/// A cache in the making.
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A cache of no folders; about `size` bytes will follow.
    pub(super) fn new(size: usize) -> Self {
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(MAGIC);
        Self { bytes }
    }

    /// Adds a folder. Folders come in the order of their paths, entries in that of their names.
    pub(super) fn folder<'e>(
        &mut self,
        path: &[u8],
        (stamp, complete): (&Stamp, bool),
        entries: impl Iterator<Item = KnownEntry<'e>>,
    ) {
        let start = self.bytes.len();
        self.bytes.extend((path.len() as u32).to_le_bytes());
        self.bytes.extend([0; 4]);
        put_stamp(&mut self.bytes, stamp);
        self.bytes.push(u8::from(complete));
        self.bytes.extend(path);
        let first = self.bytes.len();
        entries.for_each(|entry| self.entry(&entry));
        let length = (self.bytes.len() - first) as u32;
        self.bytes[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    }

    fn entry(&mut self, entry: &KnownEntry<'_>) {
        self.bytes.extend_from_slice(&(entry.name.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&[entry.kind, u8::from(entry.content.is_some())]);
        self.bytes.extend_from_slice(entry.name);
        if let Some((stamp, digest)) = &entry.content {
            put_stamp(&mut self.bytes, stamp);
            self.bytes.extend_from_slice(digest.as_bytes());
        }
    }

    /// Replaces the cache at `path`.
    pub(super) fn finish(mut self, path: &Path) -> Result<(), PathError> {
        seal(&mut self.bytes);
        write_atomic(path, &self.bytes)
    }
}

/// Ends a file that began with its magic: with the digest of all of it.
pub(super) fn seal(bytes: &mut Vec<u8>) {
    let digest = Digest::of(&bytes);
    bytes.extend(digest.as_bytes());
}

/// What lies between magic and digest of a file that is whole.
pub(super) fn unsealed<'a>(bytes: &'a [u8], magic: &[u8]) -> Option<&'a [u8]> {
    let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    body.strip_prefix(magic).filter(|_| Digest::of(body).as_bytes() == digest)
}

/// Appends a stamp as [`Reader::stamp`] takes it.
pub(super) fn put_stamp(bytes: &mut Vec<u8>, stamp: &Stamp) {
    for number in [stamp.dev, stamp.ino, stamp.size] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for (seconds, nanos) in [stamp.mtime, stamp.ctime] {
        bytes.extend_from_slice(&seconds.to_le_bytes());
        bytes.extend_from_slice(&nanos.to_le_bytes());
    }
}

impl Known<'_> {
    /// About how many entries follow.
    pub(super) fn about(&self) -> usize {
        self.rest.len() / ABOUT
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
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn stamp(&mut self) -> Option<Stamp> {
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

    fn entries() -> [KnownEntry<'static>; 2] {
        let stamp = Stamp { dev: 1, ino: 2, size: 3, mtime: (-4, 5), ctime: (6, 7) };
        [
            KnownEntry { name: b"a\n", kind: 8, content: Some((stamp, Digest::of("x"))) },
            KnownEntry { name: b"b", kind: 4, content: None },
        ]
    }

    fn write(path: &Path) {
        let stamp = Stamp { dev: 9, ino: 8, size: 7, mtime: (6, 5), ctime: (4, 3) };
        let mut writer = Writer::new(0);
        writer.folder(b"", (&stamp, true), entries().into_iter());
        writer.folder(b"b/\xff", (&stamp, false), std::iter::empty());
        writer.finish(path).unwrap();
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree");
        write(&path);
        let cache = Cache::load(&path);
        let root = cache.folder(b"").unwrap();
        assert!(root.complete && root.stamp.ino == 8);
        assert_eq!(root.collect::<Vec<_>>(), entries());
        assert!(cache.folder(b"b").is_none());
        assert!(!cache.folder(b"b/\xff").unwrap().complete);
        let paths: Vec<_> = cache.folders().map(|(path, _)| path.to_vec()).collect();
        assert_eq!(paths, [b"".to_vec(), b"b/\xff".to_vec()]);
    }

    #[test]
    fn damage_is_an_empty_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree");
        assert!(Cache::load(&path).folders.is_empty());
        write(&path);
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
