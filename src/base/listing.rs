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

/// In what an entry differs from what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It was not there.
    Added,
    /// It is gone.
    Removed,
    /// The bytes of a file; the values are their digests.
    Content,
    /// Permission bits, octal.
    Mode,
    /// Owner and group: `0:0`.
    Owner,
    /// A file became a folder, say; the values are the words for them.
    Type,
    /// Where a symbolic link points.
    Target,
    /// Major and minor number of a device: `1:3`.
    Device,
    /// Extended attributes; the values are digests over all of them.
    Attributes,
    /// Of which file it is a further hard link.
    HardLink,
}

/// One difference between two listings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Path of the entry, escaped.
    pub path: String,
    /// What differs.
    pub what: What,
    /// The value before, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The value now, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl fmt::Display for Change {
    /// One clause without a full stop: `` `app.py` modified ``.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` ", self.path)?;
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let (before, after) = (value(&self.before), value(&self.after));
        match self.what {
            What::Added => formatter.write_str("added"),
            What::Removed => formatter.write_str("removed"),
            What::Content => formatter.write_str("modified"),
            What::Mode => write!(formatter, "mode changed from {before} to {after}"),
            What::Owner => write!(formatter, "owner changed from {before} to {after}"),
            What::Type => write!(formatter, "changed from a {before} to a {after}"),
            What::Target => write!(formatter, "points to `{after}`, not to `{before}`"),
            What::Device => write!(formatter, "is device {after}, not {before}"),
            What::Attributes => formatter.write_str("extended attributes changed"),
            What::HardLink => match (&self.before, &self.after) {
                (_, Some(first)) => write!(formatter, "is a hard link to `{first}` now"),
                (_, None) => write!(formatter, "is no hard link to `{before}` any more"),
            },
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

    /// The entry of this path (escaped).
    pub fn get(&self, path: &str) -> Option<&Item> {
        let at = self.items.binary_search_by(|item| item.path.as_str().cmp(path)).ok()?;
        self.items.get(at)
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
                (Some(old), None) => changes.push(whole(old, What::Removed)),
                (None, Some(new)) => changes.push(whole(new, What::Added)),
                (None, None) => return changes,
            }
        }
    }
}

/// An entry that came or went.
fn whole(item: &Item, what: What) -> Change {
    Change { path: item.path.clone(), what, before: None, after: None }
}

fn compare(old: &Item, new: &Item, changes: &mut Vec<Change>) {
    let mut push = |what, before: Option<String>, after: Option<String>| {
        if before != after {
            changes.push(Change { path: new.path.clone(), what, before, after });
        }
    };
    if old.kind != new.kind {
        return push(What::Type, Some(old.kind.word().to_owned()), Some(new.kind.word().to_owned()));
    }
    if (old.size, &old.content) != (new.size, &new.content) {
        let what = match new.content {
            Content::Target(_) => What::Target,
            Content::Device(..) => What::Device,
            Content::Nothing | Content::Bytes(_) => What::Content,
        };
        push(what, value(old), value(new));
    }
    if old.attributes != new.attributes {
        let text = |item: &Item| item.attributes.map(|digest| digest.to_string());
        push(What::Attributes, text(old), text(new));
    }
    if old.same_as != new.same_as {
        push(What::HardLink, old.same_as.clone(), new.same_as.clone());
    }
    if old.mode != new.mode {
        let text = |item: &Item| Some(format!("{:04o}", item.mode));
        push(What::Mode, text(old), text(new));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        let text = |item: &Item| Some(format!("{}:{}", item.uid, item.gid));
        push(What::Owner, text(old), text(new));
    }
}

/// What an entry holds, as text.
fn value(item: &Item) -> Option<String> {
    match &item.content {
        // Only a size that is not of the content's making can differ then.
        Content::Nothing => Some(format!("{} bytes", item.size)),
        Content::Bytes(digest) => Some(digest.to_string()),
        Content::Target(target) => Some(target.clone()),
        Content::Device(major, minor) => Some(format!("{major}:{minor}")),
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
        let link = |path, target: &str| Item {
            kind: Kind::Link,
            content: Content::Target(target.into()),
            ..file(path, "")
        };
        let before = Listing::new([before.items, vec![link("to", "a"), file("twin", "")]].concat());
        let twin = Item { same_as: Some("new".into()), attributes: Some(Digest::of("")), ..file("twin", "") };
        let rest = vec![link("to", "b"), twin];
        let after = vec![mode, link("kept", "a"), file("lock", "2"), file("new", "")];
        let after = Listing::new([after, rest].concat());
        let said: Vec<_> = Listing::diff(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "`gone` removed",
                "`kept` changed from a file to a symbolic link",
                "`lock` modified",
                "`new` added",
                "`to` points to `b`, not to `a`",
                "`twin` extended attributes changed",
                "`twin` is a hard link to `new` now",
                "`x` mode changed from 0644 to 4755",
                "`x` owner changed from 0:0 to 33:0",
            ]
        );
        assert_eq!(Listing::diff(&after, &after), []);
    }

    #[test]
    fn differences_have_a_form_for_programs() {
        let before = Listing::new(vec![file("a", "1"), file("b", "")]);
        let after = Listing::new(vec![file("a", "2"), Item { mode: 0o755, ..file("b", "") }, file("c", "")]);
        let changes = Listing::diff(&before, &after);
        let digests = [Digest::of("1"), Digest::of("2")].map(|digest| digest.to_string());
        let expected = serde_json::json!([
            {"path": "a", "what": "content", "before": digests[0], "after": digests[1]},
            {"path": "b", "what": "mode", "before": "0644", "after": "0755"},
            {"path": "c", "what": "added"},
        ]);
        assert_eq!(serde_json::to_value(&changes).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Vec<Change>>(expected).unwrap(), changes);
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
