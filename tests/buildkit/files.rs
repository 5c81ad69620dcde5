//! Contexts as text: one file a line, made on disk the same way everywhere.
//!
//! ```text
//! file NAME [key=value…] ["content"]     keys: mode, owner, mtime, size (zeros before the content),
//! dir NAME [key=value…]                        times (the content, several times), xattr.user.x
//! link NAME -> TARGET
//! hard NAME = OTHER
//! fifo NAME
//! char NAME device=1:3
//! tar NAME [compress=gzip|bzip2|xz|zstd]     its members follow, indented
//! ```
//!
//! Names and contents may stand in quotes, as JSON has them. Modes and times never come from the umask
//! or the clock: everything not said is 0644 or 0755, root's, and of the year 2001.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, Timespec, Timestamps, XattrFlags};

/// The time of everything that has no other.
const TIME: i64 = 1_000_000_000;

/// One line.
#[derive(Debug)]
struct Entry {
    kind: String,
    name: String,
    keys: Vec<(String, String)>,
    content: Option<String>,
    target: Option<String>,
    members: Vec<Entry>,
}

/// Makes the files that `text` describes below `folder`.
pub(crate) fn make(text: &str, folder: &Path) {
    let entries = parse(text);
    for entry in &entries {
        entry.make(folder);
    }
    // Folders last: what is made inside changes their times.
    for entry in entries.iter().rev().filter(|entry| entry.kind == "dir") {
        entry.date(&folder.join(&entry.name));
    }
}

fn parse(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let entry = Entry::parse(line.trim());
        match entries.last_mut() {
            Some(tar) if line.starts_with(' ') => tar.members.push(entry),
            _ => entries.push(entry),
        }
    }
    entries
}

/// The words of a line; those in quotes are marked.
fn words(line: &str) -> Vec<(bool, String)> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if rest.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let value = values.next().unwrap().unwrap_or_else(|error| panic!("{line}: {error}"));
            let end = values.byte_offset();
            words.push((true, value));
            rest = rest[end..].trim_start();
        } else {
            let end = rest.find(' ').unwrap_or(rest.len());
            words.push((false, rest[..end].to_owned()));
            rest = rest[end..].trim_start();
        }
    }
    words
}

impl Entry {
    fn parse(line: &str) -> Self {
        let mut words = words(line).into_iter();
        let kind = words.next().unwrap().1;
        let name = words.next().unwrap_or_else(|| panic!("no name: {line}")).1;
        let mut entry =
            Self { kind, name, keys: Vec::new(), content: None, target: None, members: Vec::new() };
        while let Some((quoted, word)) = words.next() {
            match word.split_once('=') {
                _ if quoted => entry.content = Some(word),
                _ if word == "->" || word == "=" => entry.target = words.next().map(|word| word.1),
                Some((key, value)) => entry.keys.push((key.to_owned(), value.to_owned())),
                None => panic!("what is `{word}` in: {line}"),
            }
        }
        entry
    }

    fn key(&self, name: &str) -> Option<&str> {
        self.keys.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn mode(&self) -> u32 {
        let default = if self.kind == "dir" { 0o755 } else { 0o644 };
        self.key("mode").map_or(default, |mode| u32::from_str_radix(mode, 8).unwrap())
    }

    fn owner(&self) -> (u32, u32) {
        self.key("owner").map_or((0, 0), pair)
    }

    fn mtime(&self) -> i64 {
        self.key("mtime").map_or(TIME, |time| time.parse().unwrap())
    }

    fn bytes(&self) -> Vec<u8> {
        let zeros = self.key("size").map_or(0, |size| size.parse().unwrap());
        let times = self.key("times").map_or(1, |times| times.parse().unwrap());
        let content = self.content.clone().unwrap_or_default().repeat(times);
        [vec![0; zeros], content.into_bytes()].concat()
    }

    fn target(&self) -> &str {
        self.target.as_deref().unwrap_or_else(|| panic!("{} has no target", self.name))
    }

    fn make(&self, folder: &Path) {
        let path = folder.join(&self.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match self.kind.as_str() {
            "file" => fs::write(&path, self.bytes()).unwrap(),
            "dir" => fs::create_dir_all(&path).unwrap(),
            "link" => symlink(self.target(), &path).unwrap(),
            "hard" => return fs::hard_link(folder.join(self.target()), &path).unwrap(),
            "fifo" => self.node(&path, rustix::fs::FileType::Fifo, 0),
            "char" => {
                let (major, minor) = self.key("device").map(pair).unwrap();
                self.node(&path, rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(major, minor));
            }
            "tar" => fs::write(&path, archive(&self.members, self.key("compress"))).unwrap(),
            other => panic!("what is a {other}?"),
        }
        if self.kind != "link" {
            let (user, group) = self.owner();
            chown(&path, Some(user), Some(group)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(self.mode())).unwrap();
        }
        for (key, value) in &self.keys {
            if let Some(name) = key.strip_prefix("xattr.") {
                rustix::fs::lsetxattr(&path, name, &attribute(value), XattrFlags::empty()).unwrap();
            }
        }
        self.date(&path);
    }

    fn node(&self, path: &Path, kind: rustix::fs::FileType, device: u64) {
        let mode = rustix::fs::Mode::from_raw_mode(self.mode());
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, device).unwrap();
    }

    fn date(&self, path: &Path) {
        let time = Timespec { tv_sec: self.mtime(), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// `1:2`.
fn pair(text: &str) -> (u32, u32) {
    let (first, second) = text.split_once(':').unwrap();
    (first.parse().unwrap(), second.parse().unwrap())
}

/// An extended attribute's value: text, or bytes after `0x`.
fn attribute(value: &str) -> Vec<u8> {
    value.strip_prefix("0x").map_or_else(|| value.as_bytes().to_vec(), |value| hex::decode(value).unwrap())
}

/// A tar of these members, compressed.
fn archive(members: &[Entry], compression: Option<&str>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for member in members {
        member.append(&mut builder);
    }
    let tar = builder.into_inner().unwrap();
    match compression {
        None => tar,
        Some("gzip") => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        }
        Some("bzip2") => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        }
        Some("xz") => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        }
        Some("zstd") => zstd::encode_all(tar.as_slice(), 1).unwrap(),
        Some(other) => panic!("compress={other}"),
    }
}

impl Entry {
    fn append(&self, builder: &mut tar::Builder<Vec<u8>>) {
        let attributes: Vec<(String, Vec<u8>)> = self
            .keys
            .iter()
            .filter_map(|(key, value)| Some((format!("SCHILY.xattr.{}", key.strip_prefix("xattr.")?), value)))
            .map(|(key, value)| (key, attribute(value)))
            .collect();
        builder
            .append_pax_extensions(attributes.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
            .unwrap();
        let mut header = tar::Header::new_ustar();
        let (user, group) = self.owner();
        header.set_uid(user.into());
        header.set_gid(group.into());
        header.set_mode(self.mode());
        header.set_mtime(self.mtime().try_into().unwrap());
        let content = self.bytes();
        header.set_size(if self.kind == "file" { content.len() as u64 } else { 0 });
        header.set_entry_type(match self.kind.as_str() {
            "file" => tar::EntryType::Regular,
            "dir" => tar::EntryType::Directory,
            "link" => tar::EntryType::Symlink,
            "hard" => tar::EntryType::Link,
            "fifo" => tar::EntryType::Fifo,
            "char" => tar::EntryType::Char,
            other => panic!("what is a {other} in a tar?"),
        });
        if let Some((major, minor)) = self.key("device").map(pair) {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        }
        if let Some(target) = &self.target {
            header.set_link_name_literal(target).unwrap();
        }
        // The name as it is, also one that a careful writer would not write.
        let name = self.name.as_bytes();
        assert!(name.len() < 100, "a short name");
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        builder.append(&header, content.as_slice()).unwrap();
    }
}
