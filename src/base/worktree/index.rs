//! A repository's index: which paths git tracks, and which of them are executable.
//!
//! Pure: bytes in, [`Tracked`] out. Only names and modes are read (git's `index-format`, versions 2 to 4). A
//! split index and whatever else changes what the entries mean is an error, never a guess.

use std::collections::HashMap;
use std::sync::Arc;

/// The type of a submodule in an index.
const SUBMODULE: u32 = 0o160_000;
/// The type of a folder of which a sparse index says nothing more.
const FOLDER: u32 = 0o040_000;

/// What an index tracks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tracked {
    /// Every folder that holds something that is tracked, by its path: the files in it. The work tree itself
    /// is the empty path.
    folders: HashMap<Vec<u8>, Arc<Names>>,
}

/// The tracked files in one folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Names {
    /// Sorted by name; whether each is executable.
    names: Vec<(Box<[u8]>, bool)>,
}

/// Why an index cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the index of the git repository cannot be read: {0}")]
pub struct InvalidIndex(pub String);

impl Names {
    /// Whether a file is tracked, and executable.
    pub fn file(&self, name: &[u8]) -> Option<bool> {
        let found = self.names.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(self.names[found].1)
    }

    /// All names, sorted, and whether each is executable.
    pub fn all(&self) -> impl ExactSizeIterator<Item = (&[u8], bool)> {
        self.names.iter().map(|(name, executable)| (&**name, *executable))
    }
}

impl FromIterator<(Box<[u8]>, bool)> for Names {
    fn from_iter<I: IntoIterator<Item = (Box<[u8]>, bool)>>(names: I) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup_by(|(one, _), (other, _)| one == other);
        Self { names }
    }
}

impl Tracked {
    /// The tracked files in the folder at `path`; `None` if nothing in or below it is tracked.
    pub fn folder(&self, path: &[u8]) -> Option<&Arc<Names>> {
        self.folders.get(path)
    }

    /// All folders that hold something, in no order.
    pub fn folders(&self) -> impl ExactSizeIterator<Item = (&[u8], &Names)> {
        self.folders.iter().map(|(path, names)| (path.as_slice(), &**names))
    }

    /// Reads an index whose object names have `id` bytes.
    pub fn read(bytes: &[u8], id: usize) -> Result<Self, InvalidIndex> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(4)? != b"DIRC" {
            return Err(InvalidIndex("it does not begin as an index does".to_owned()));
        }
        let version = reader.number()?;
        if !(2..=4).contains(&version) {
            return Err(InvalidIndex(format!("not supported yet: version {version}")));
        }
        let mut folders = Found::new();
        let mut before: Vec<u8> = Vec::new();
        for _ in 0..reader.number()? {
            let (mode, path) = reader.entry(version, id, &before)?;
            add(&mut folders, mode, &path);
            before = path;
        }
        reader.extensions(id)?;
        let names = |names: Vec<_>| Arc::new(names.into_iter().collect::<Names>());
        Ok(Self { folders: folders.into_iter().map(|(path, found)| (path, names(found))).collect() })
    }
}

/// Folders with the files in them, in any order.
type Found = HashMap<Vec<u8>, Vec<(Box<[u8]>, bool)>>;

fn add(folders: &mut Found, mode: u32, path: &[u8]) {
    let mut path = path;
    match mode & 0o170_000 {
        FOLDER => path = path.strip_suffix(b"/").unwrap_or(path),
        SUBMODULE => {}
        _ => {
            let (folder, name) = split(path);
            let file = (name.into(), mode & 0o100 != 0);
            if let Some(names) = folders.get_mut(folder) {
                return names.push(file);
            }
            folders.insert(folder.to_vec(), vec![file]);
            path = folder;
        }
    }
    loop {
        folders.entry(path.to_vec()).or_default();
        if path.is_empty() || folders.contains_key(split(path).0) {
            return;
        }
        path = split(path).0;
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Bytes that are read one piece after the other.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], InvalidIndex> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| InvalidIndex("it ends too early".to_owned()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, InvalidIndex> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Bytes up to a zero, which is taken too.
    fn text(&mut self) -> Result<&'b [u8], InvalidIndex> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or_else(|| InvalidIndex("a name has no end".to_owned()))?)?;
        self.take(1)?;
        Ok(text)
    }

    /// An entry's mode and path; in version 4 the path goes on from the one before.
    fn entry(&mut self, version: u32, id: usize, before: &[u8]) -> Result<(u32, Vec<u8>), InvalidIndex> {
        let begin = self.at;
        self.take(24)?;
        let mode = self.number()?;
        self.take(12 + id)?;
        let flags = self.take(2)?[0];
        if version >= 3 && flags & 0x40 != 0 {
            self.take(2)?;
        }
        if version == 4 {
            let dropped = self.varint()?;
            let kept = before.len().checked_sub(dropped);
            let kept = kept.ok_or_else(|| InvalidIndex("a name drops too much".to_owned()))?;
            let path = [&before[..kept], self.text()?].concat();
            return Ok((mode, path));
        }
        let path = self.text()?.to_vec();
        // One to eight zeros in all make the entry's length a multiple of eight.
        let length = self.at - begin;
        self.take(length.next_multiple_of(8) - length)?;
        Ok((mode, path))
    }

    /// A number as packs have it ("offset encoding").
    fn varint(&mut self) -> Result<usize, InvalidIndex> {
        let mut byte = self.take(1)?[0];
        let mut number = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.take(1)?[0];
            let next = number.checked_add(1).and_then(|number| number.checked_mul(128));
            let next = next.and_then(|number| number.checked_add(usize::from(byte & 0x7f)));
            number = next.ok_or_else(|| InvalidIndex("a number is too large".to_owned()))?;
        }
        Ok(number)
    }

    /// Looks for extensions that change what the entries mean. At the end stands a checksum.
    fn extensions(&mut self, id: usize) -> Result<(), InvalidIndex> {
        while self.bytes.len() - self.at > id {
            let name = self.take(4)?;
            let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
            self.take(length)?;
            // Those that must be understood have small letters; a sparse index only has folders as entries.
            if name.first().is_some_and(u8::is_ascii_lowercase) && name != b"sdir" {
                let name = String::from_utf8_lossy(name);
                return Err(InvalidIndex(format!("not supported yet: its extension `{name}`")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// An index as git writes it, made from paths in their order and their modes.
    fn index(version: u32, id: usize, entries: &BTreeMap<Vec<u8>, u32>) -> Vec<u8> {
        let mut bytes = b"DIRC".to_vec();
        bytes.extend(version.to_be_bytes());
        bytes.extend((entries.len() as u32).to_be_bytes());
        let mut before: &[u8] = b"";
        for (path, mode) in entries {
            let begin = bytes.len();
            bytes.extend([7; 24]);
            bytes.extend(mode.to_be_bytes());
            bytes.extend(vec![7; 12 + id]);
            let extended = version >= 3 && path.len() % 2 == 0;
            bytes.extend((path.len().min(0xfff) as u16 | if extended { 0x4000 } else { 0 }).to_be_bytes());
            bytes.extend(if extended { vec![0x20, 0] } else { vec![] });
            if version == 4 {
                let shared = path.iter().zip(before).take_while(|(one, other)| one == other).count();
                bytes.extend(offset(before.len() - shared));
                bytes.extend(&path[shared..]);
                bytes.push(0);
            } else {
                bytes.extend(path);
                let length = bytes.len() - begin;
                bytes.extend(vec![0; 8 - length % 8]);
            }
            before = path;
        }
        bytes.extend(b"TREE\0\0\0\x02xy");
        bytes.extend(vec![9; id]);
        bytes
    }

    /// Git's "offset encoding".
    fn offset(mut number: usize) -> Vec<u8> {
        let mut bytes = vec![(number & 0x7f) as u8];
        while number > 0x7f {
            number = (number >> 7) - 1;
            bytes.insert(0, 0x80 | (number & 0x7f) as u8);
        }
        bytes
    }

    fn component() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'.'), Just(0xff)], 1..4),
            1 => prop::collection::vec(1..b'/', 1..4),
            1 => Just(vec![b'x'; 300]),
        ]
    }

    fn entries() -> impl Strategy<Value = BTreeMap<Vec<u8>, u32>> {
        let path = prop::collection::vec(component(), 1..4).prop_map(|parts| parts.join(&b'/'));
        let mode = prop_oneof![Just(0o100_644), Just(0o100_755), Just(0o120_000), Just(0o160_000)];
        prop::collection::btree_map(path, mode, 0..20)
    }

    proptest! {
        /// What stands in an index is found, in every version, and nothing else.
        #[test]
        fn every_entry_is_found(entries in entries(), version in 2..5u32, id in prop_oneof![Just(20usize), Just(32)]) {
            let tracked = Tracked::read(&index(version, id, &entries), id).unwrap();
            let mut folders = BTreeSet::new();
            for (path, mode) in &entries {
                let (folder, name) = split(path);
                let found = tracked.folder(folder).and_then(|names| names.file(name));
                prop_assert_eq!(found, (*mode != SUBMODULE).then_some(*mode == 0o100_755));
                let submodule = (*mode == SUBMODULE).then_some(path.as_slice());
                let mut above = submodule.unwrap_or(folder);
                folders.insert(above.to_vec());
                while !above.is_empty() {
                    above = split(above).0;
                    folders.insert(above.to_vec());
                }
            }
            prop_assert_eq!(tracked.folders().map(|(path, _)| path.to_vec()).collect::<BTreeSet<_>>(), folders);
            let files: usize = tracked.folders().map(|(_, names)| names.all().len()).sum();
            prop_assert_eq!(files, entries.values().filter(|mode| **mode != SUBMODULE).count());
        }

        /// An index that ends anywhere too early is refused, and so is any rubbish; reading ends.
        #[test]
        fn any_bytes_are_read_or_refused(entries in entries(), version in 2..5u32, cut in 0..4000usize, flip in any::<(u16, u8)>()) {
            let mut bytes = index(version, 20, &entries);
            if cut < bytes.len() - 30 {
                prop_assert!(Tracked::read(&bytes[..cut], 20).is_err());
            }
            let at = usize::from(flip.0) % bytes.len();
            bytes[at] ^= flip.1;
            let _ = Tracked::read(&bytes, 20);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let none = BTreeMap::new();
        for (version, extension, said) in
            [(5, "TREE", "version 5"), (2, "link", "its extension `link`"), (3, "\x01dif", "ends too early")]
        {
            let mut bytes = index(version, 20, &none);
            let at = bytes.len() - 30;
            bytes[at..at + 4].copy_from_slice(extension.as_bytes());
            if said.contains("early") {
                bytes[at + 4] = 0xff;
            }
            let error = Tracked::read(&bytes, 20).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let mut sparse = index(2, 20, &BTreeMap::from([(b"a/b/".to_vec(), FOLDER)]));
        let at = sparse.len() - 30;
        sparse[at..at + 4].copy_from_slice(b"sdir");
        let tracked = Tracked::read(&sparse, 20).unwrap();
        assert!(tracked.folder(b"a/b").is_some() && tracked.folder(b"a").is_some());
    }
}
