//! What a tree contains, one line an entry: the value that explains why a copy came out differently.
//!
//! `context` makes a [`Listing`] of what a COPY selects; it is stored as text beside the recipe, read
//! again in a later run and compared with [`Listing::diff`]. Paths and link targets are bytes in the file
//! system and escaped text here, so that every listing is valid UTF-8 and one entry is one line. It holds
//! no mtimes, inode numbers or host paths, and decides nothing about keys.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    const ALL: [(Self, char, &'static str); 6] = [
        (Self::File, 'f', "file"),
        (Self::Directory, 'd', "folder"),
        (Self::Link, 'l', "symbolic link"),
        (Self::Fifo, 'p', "named pipe"),
        (Self::CharacterDevice, 'c', "character device"),
        (Self::BlockDevice, 'b', "block device"),
    ];

    /// The letter of the text form.
    pub fn letter(self) -> char {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or('?', |(_, letter, _)| *letter)
    }

    /// The word that people use.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("entry", |(.., word)| *word)
    }

    fn from_letter(letter: &str) -> Option<Self> {
        let mut letters = letter.chars();
        let (first, rest) = (letters.next()?, letters.next());
        Self::ALL.iter().find(|(_, known, _)| rest.is_none() && *known == first).map(|(kind, ..)| *kind)
    }
}

/// What an entry holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Content {
    /// Nothing of its own: a directory, a pipe.
    Nothing,
    /// The bytes of a file.
    Bytes(Digest),
    /// Where a symbolic link points, escaped (see [`escape`]).
    Target(String),
    /// Major and minor number of a device.
    Device(u32, u32),
}

/// One entry of a tree.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Item {
    /// Its path, relative, escaped (see [`escape`]).
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky (`mode & 0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file, else 0.
    pub size: u64,
    /// What it holds.
    pub content: Content,
    /// The digest of its extended attributes, if it has any that count.
    pub attributes: Option<Digest>,
    /// The path of the first entry of its hard-link group, if it is a further one.
    pub same_as: Option<String>,
}

/// The entries of a tree, sorted by path (bytewise, of the escaped form).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Listing {
    items: Vec<Item>,
}

/// A line that is not of the text form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not an entry of a listing: `{text}`")]
pub struct InvalidListing {
    /// From 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

/// How an entry differs from what it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It was not there.
    Added,
    /// It is gone.
    Removed,
    /// Its bytes, link target, device number, attributes or hard-link group.
    Content,
    /// Its permission bits: before and after.
    Mode(u32, u32),
    /// Owner and group: before and after.
    Owner((u32, u32), (u32, u32)),
    /// A file became a folder, say.
    Kind(Kind, Kind),
}

/// One difference between two listings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Path of the entry, escaped.
    pub path: String,
    /// What differs.
    #[serde(flatten)]
    pub what: What,
}

impl fmt::Display for Change {
    /// One clause without a full stop: `` `app.py` modified ``.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` ", self.path)?;
        match self.what {
            What::Added => formatter.write_str("added"),
            What::Removed => formatter.write_str("removed"),
            What::Content => formatter.write_str("modified"),
            What::Mode(before, after) => write!(formatter, "mode changed from {before:04o} to {after:04o}"),
            What::Owner(before, after) => {
                write!(formatter, "owner changed from {}:{} to {}:{}", before.0, before.1, after.0, after.1)
            }
            What::Kind(before, after) => {
                write!(formatter, "changed from a {} to a {}", before.word(), after.word())
            }
        }
    }
}

impl Listing {
    /// A listing of `items` in any order. Of two with one path the later stays, as when both are copied.
    pub fn new(mut items: Vec<Item>) -> Self {
        items.sort_by(|left, right| left.path.cmp(&right.path));
        items.reverse();
        items.dedup_by(|earlier, kept| earlier.path == kept.path);
        items.reverse();
        Self { items }
    }

    /// The entries, sorted by path.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What has to be said to get from `before` to `after`, by path. An entry that changed in several ways
    /// is named once for each, kind alone if that differs. Empty only if the listings are equal.
    pub fn diff(before: &Self, after: &Self) -> Vec<Change> {
        let (mut old, mut new) = (before.items.iter().peekable(), after.items.iter().peekable());
        let mut changes = Vec::new();
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.path.cmp(&new.path),
            };
            let gone = if order.is_le() { old.next() } else { None };
            let come = if order.is_ge() { new.next() } else { None };
            match (gone, come) {
                (Some(old), Some(new)) => compare(old, new, &mut changes),
                (Some(old), None) => changes.push(Change { path: old.path.clone(), what: What::Removed }),
                (None, Some(new)) => changes.push(Change { path: new.path.clone(), what: What::Added }),
                (None, None) => return changes,
            }
        }
    }
}

fn compare(old: &Item, new: &Item, changes: &mut Vec<Change>) {
    let mut push = |what| changes.push(Change { path: new.path.clone(), what });
    if old.kind != new.kind {
        return push(What::Kind(old.kind, new.kind));
    }
    let content = |item: &Item| (item.size, item.content.clone(), item.attributes, item.same_as.clone());
    if content(old) != content(new) {
        push(What::Content);
    }
    if old.mode != new.mode {
        push(What::Mode(old.mode, new.mode));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        push(What::Owner((old.uid, old.gid), (new.uid, new.gid)));
    }
}

impl fmt::Display for Listing {
    /// One line an entry, fields separated by tabs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.iter().try_for_each(|item| writeln!(formatter, "{item}"))
    }
}

impl fmt::Display for Item {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mode, uid, gid, size, path, .. } = self;
        write!(formatter, "{}\t{mode:04o}\t{uid}:{gid}\t{size}\t", kind.letter())?;
        match &self.content {
            Content::Nothing => formatter.write_str("-")?,
            Content::Bytes(digest) => formatter.write_str(&digest.hex())?,
            Content::Target(target) => write!(formatter, ">{target}")?,
            Content::Device(major, minor) => write!(formatter, "{major}:{minor}")?,
        }
        write!(formatter, "\t{path}")?;
        if self.attributes.is_some() || self.same_as.is_some() {
            let attributes = self.attributes.map_or_else(|| "-".to_owned(), |digest| digest.hex());
            write!(formatter, "\t{attributes}")?;
        }
        self.same_as.as_ref().map_or(Ok(()), |first| write!(formatter, "\t{first}"))
    }
}

impl FromStr for Listing {
    type Err = InvalidListing;

    fn from_str(text: &str) -> Result<Self, InvalidListing> {
        let lines = text.lines().enumerate();
        let read = |(index, line): (usize, &str)| {
            parse(line).ok_or_else(|| InvalidListing { line: index + 1, text: line.to_owned() })
        };
        lines.map(read).collect::<Result<_, _>>().map(Self::new)
    }
}

fn parse(line: &str) -> Option<Item> {
    let mut fields = line.split('\t');
    let kind = Kind::from_letter(fields.next()?)?;
    let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
    let (uid, gid) = fields.next()?.split_once(':')?;
    let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
    let size = fields.next()?.parse().ok()?;
    let content = parse_content(fields.next()?)?;
    let path = fields.next()?.to_owned();
    let attributes = match fields.next() {
        None | Some("-") => None,
        Some(hex) => Some(Digest::from_hex(hex).ok()?),
    };
    let same_as = fields.next().map(str::to_owned);
    Some(Item { path, kind, mode, uid, gid, size, content, attributes, same_as })
}

fn parse_content(field: &str) -> Option<Content> {
    if field == "-" {
        return Some(Content::Nothing);
    }
    if let Some(target) = field.strip_prefix('>') {
        return Some(Content::Target(target.to_owned()));
    }
    match field.split_once(':') {
        Some((major, minor)) => Some(Content::Device(major.parse().ok()?, minor.parse().ok()?)),
        None => Digest::from_hex(field).ok().map(Content::Bytes),
    }
}

impl Serialize for Listing {
    /// As its text form.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listing {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A path or link target as text, without loss: control characters, backslashes and bytes that are not
/// UTF-8 become `\xNN`. Text without any of these stays as it is.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter == '\\' || letter.is_ascii_control() {
                text.push_str(&format!("\\x{:02x}", u32::from(letter)));
            } else {
                text.push(letter);
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, bytes: &str) -> Item {
        Item {
            path: path.to_owned(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: bytes.len() as u64,
            content: Content::Bytes(Digest::of(bytes)),
            attributes: None,
            same_as: None,
        }
    }

    #[test]
    fn differences_are_named_by_path() {
        let before = Listing::new(vec![file("gone", ""), file("kept", ""), file("lock", "1"), file("x", "")]);
        let mut mode = file("x", "");
        mode.mode = 0o4755;
        mode.uid = 33;
        let link = Item { kind: Kind::Link, content: Content::Target("a".into()), ..file("kept", "") };
        let after = Listing::new(vec![mode, link, file("lock", "2"), file("new", "")]);
        let said: Vec<_> = Listing::diff(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "`gone` removed",
                "`kept` changed from a file to a symbolic link",
                "`lock` modified",
                "`new` added",
                "`x` mode changed from 0644 to 4755",
                "`x` owner changed from 0:0 to 33:0",
            ]
        );
        assert_eq!(Listing::diff(&after, &after), []);
    }

    #[test]
    fn the_later_of_two_entries_stays() {
        let listing = Listing::new(vec![file("a", "1"), file("b", ""), file("a", "2")]);
        assert_eq!(listing.items(), [file("a", "2"), file("b", "")]);
    }

    #[test]
    fn foreign_lines_are_refused_with_their_number() {
        let good = Listing::new(vec![file("a", "")]).to_string();
        for bad in ["", "f", "q\t0644\t0:0\t0\t-\ta", "f\t9\t0:0\t0\t-\ta", "f\t0644\t0:0\t0\tzz\ta"] {
            let error = format!("{good}{bad}\n").parse::<Listing>().unwrap_err();
            assert_eq!((error.line, error.text.as_str()), (2, bad));
        }
    }

    fn item() -> impl Strategy<Value = Item> {
        let content = prop_oneof![
            Just((Kind::Directory, Content::Nothing)),
            any::<u64>().prop_map(|seed| (Kind::File, Content::Bytes(Digest::of(seed.to_le_bytes())))),
            any::<Vec<u8>>().prop_map(|target| (Kind::Link, Content::Target(escape(&target)))),
            any::<(u32, u32)>().prop_map(|(a, b)| (Kind::BlockDevice, Content::Device(a, b))),
        ];
        let rest = (any::<Vec<u8>>(), 0..0o10000u32, any::<[u32; 2]>(), any::<u64>(), any::<Option<u8>>());
        (content, rest, any::<Option<Vec<u8>>>()).prop_map(
            |((kind, content), (path, mode, [uid, gid], size, seed), first)| {
                let attributes = seed.map(|seed| Digest::of([seed]));
                let same_as = first.map(|first| escape(&first));
                Item { path: escape(&path), kind, mode, uid, gid, size, content, attributes, same_as }
            },
        )
    }

    proptest! {
        #[test]
        fn text_form_round_trips(items in prop::collection::vec(item(), 0..8)) {
            let listing = Listing::new(items);
            prop_assert_eq!(listing.to_string().parse::<Listing>(), Ok(listing));
        }

        #[test]
        fn escaping_loses_nothing(left: Vec<u8>, right: Vec<u8>) {
            prop_assert_eq!(left == right, escape(&left) == escape(&right));
            prop_assert!(!escape(&left).contains(['\t', '\n', '\r']));
        }
    }
}
