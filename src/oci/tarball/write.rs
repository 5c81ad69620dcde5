//! Writing tar streams: the bytes follow from the members alone.
//!
//! Each member is a ustar header; a value that does not fit there, and extended attributes, go into PAX
//! records before it, sorted by key. Times have whole seconds.

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::{BLOCK, Kind, Member, XATTR};

/// The largest numbers of ustar's octal fields of 7 and 11 digits.
const SEVEN_DIGITS: u64 = 0o7_777_777;
const ELEVEN_DIGITS: u64 = 0o77_777_777_777;

/// Writes one tar stream to `inner`.
pub(in crate::oci) struct Writer<W> {
    inner: W,
}

impl<W: Write> Writer<W> {
    /// Writes to `inner`.
    pub(in crate::oci) const fn new(inner: W) -> Self {
        Self { inner }
    }

    /// Writes a member; `content` must write exactly `member.size` bytes.
    pub(in crate::oci) fn append(
        &mut self,
        member: &Member,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let records = records(member);
        if !records.is_empty() {
            self.inner.write_all(extension_header(member, records.len() as u64).as_bytes())?;
            self.inner.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.inner.write_all(header(member).as_bytes())?;
        let size = stored_size(member);
        if size > 0 {
            let mut exact = Exactly { inner: &mut self.inner, remaining: size };
            content(&mut exact)?;
            if exact.remaining > 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the content is shorter than announced",
                ));
            }
        }
        self.pad(size)
    }

    /// Writes a file with this content.
    pub(in crate::oci) fn append_bytes(&mut self, member: &Member, bytes: &[u8]) -> io::Result<()> {
        let member = Member { size: bytes.len() as u64, ..member.clone() };
        self.append(&member, &mut |out| out.write_all(bytes))
    }

    /// Writes the end mark.
    pub(in crate::oci) fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = usize::try_from(size.next_multiple_of(BLOCK as u64) - size).unwrap_or(0);
        self.inner.write_all(&[0; BLOCK][..padding])
    }
}

/// Passes on a known number of bytes, never more.
struct Exactly<'a, W> {
    inner: &'a mut W,
    remaining: u64,
}

impl<W: Write> Write for Exactly<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.remaining {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the content is longer than announced"));
        }
        let count = self.inner.write(bytes)?;
        self.remaining -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

const fn stored_size(member: &Member) -> u64 {
    if matches!(member.kind, Kind::File) { member.size } else { 0 }
}

/// The target of a link.
fn link(member: &Member) -> &[u8] {
    match &member.kind {
        Kind::Symlink(target) | Kind::HardLink(target) => target,
        _ => b"",
    }
}

/// The main header. Values that do not fit are zero or cut; [`records`] has them.
fn header(member: &Member) -> Header {
    let kind = match member.kind {
        Kind::File => EntryType::Regular,
        Kind::Directory => EntryType::Directory,
        Kind::Symlink(_) => EntryType::Symlink,
        Kind::HardLink(_) => EntryType::Link,
        Kind::CharacterDevice(..) => EntryType::Char,
        Kind::BlockDevice(..) => EntryType::Block,
        Kind::Fifo => EntryType::Fifo,
    };
    let mut header = blank(kind, &member.path);
    fill(&mut header.as_old_mut().linkname, link(member));
    header.set_mode(member.mode);
    header.set_uid(fitting(u64::from(member.uid), SEVEN_DIGITS));
    header.set_gid(fitting(u64::from(member.gid), SEVEN_DIGITS));
    header.set_mtime(fitting(u64::try_from(member.mtime).unwrap_or(0), ELEVEN_DIGITS));
    header.set_size(fitting(stored_size(member), ELEVEN_DIGITS));
    if let Kind::CharacterDevice(major, minor) | Kind::BlockDevice(major, minor) = member.kind
        && let Some(ustar) = header.as_ustar_mut()
    {
        ustar.set_device_major(major);
        ustar.set_device_minor(minor);
    }
    header.set_cksum();
    header
}

/// The header before the records, named as Go's `archive/tar` names it.
fn extension_header(member: &Member, size: u64) -> Header {
    let path = member.path.strip_suffix(b"/").unwrap_or(&member.path);
    let base = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let name = [&path[..base], b"PaxHeaders.0/", &path[base..]].concat();
    let mut header = blank(EntryType::XHeader, &name);
    header.set_size(size);
    header.set_cksum();
    header
}

/// A ustar header with a name and zeros.
fn blank(kind: EntryType, path: &[u8]) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    fill(&mut header.as_old_mut().name, path);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.set_device_major(0);
        ustar.set_device_minor(0);
    }
    header
}

/// Puts the ASCII part of `bytes` into a field, cut where it ends.
fn fill(field: &mut [u8], bytes: &[u8]) {
    let ascii = bytes.iter().filter(|byte| byte.is_ascii());
    field.iter_mut().zip(ascii).for_each(|(place, byte)| *place = *byte);
}

const fn fitting(number: u64, limit: u64) -> u64 {
    if number > limit { 0 } else { number }
}

/// The PAX records that the member needs, sorted by key.
fn records(member: &Member) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| records.push((key.to_vec(), value.to_vec()));
    for (key, text) in [(&b"path"[..], member.path.as_slice()), (b"linkpath", link(member))] {
        if text.len() > 100 || !text.is_ascii() {
            add(key, text);
        }
    }
    for (key, number, limit) in [
        (&b"uid"[..], u64::from(member.uid), SEVEN_DIGITS),
        (b"gid", u64::from(member.gid), SEVEN_DIGITS),
        (b"size", stored_size(member), ELEVEN_DIGITS),
    ] {
        if number > limit {
            add(key, number.to_string().as_bytes());
        }
    }
    if u64::try_from(member.mtime).is_err() || member.mtime.cast_unsigned() > ELEVEN_DIGITS {
        add(b"mtime", member.mtime.to_string().as_bytes());
    }
    for (name, value) in &member.xattrs {
        add(&[XATTR, name].concat(), value);
    }
    records.sort();
    records.iter().flat_map(|(key, value)| record(key, value)).collect()
}

/// One record; its length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let without = key.len() + value.len() + 3;
    let mut length = without + without.to_string().len();
    length = without + length.to_string().len();
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::Reader;
    use super::*;

    fn members() -> Vec<(Member, Vec<u8>)> {
        let mut all = Vec::new();
        let mut plain = Member::new("a/file", Kind::File);
        (plain.mode, plain.uid, plain.gid, plain.mtime) = (0o6755, 1000, 33, 1_700_000_000);
        all.push((plain, b"hello".to_vec()));
        all.push((Member::new("a/", Kind::Directory), Vec::new()));
        let mut extreme = Member::new([b"x".repeat(101), "é".into()].concat(), Kind::File);
        (extreme.uid, extreme.gid, extreme.mtime) = (u32::MAX - 1, 3_000_000, -5);
        extreme.xattrs.insert(b"user.any".to_vec(), (0..=255).collect());
        extreme.xattrs.insert(b"security.capability".to_vec(), b"\n\0=\n".to_vec());
        all.push((extreme, b"z".repeat(512)));
        for kind in [
            Kind::Symlink(b"../".repeat(60)),
            Kind::HardLink(b"a/file".to_vec()),
            Kind::CharacterDevice(1, 3),
            Kind::BlockDevice(259, 300),
            Kind::Fifo,
        ] {
            all.push((Member::new("k", kind), Vec::new()));
        }
        all
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut writer = Writer::new(Vec::new());
        for (member, content) in members() {
            writer.append_bytes(&member, &content).unwrap();
        }
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut reader = Reader::new(bytes.as_slice());
        for (member, content) in members() {
            let read = reader.next().unwrap().unwrap();
            assert_eq!(read, Member { size: content.len() as u64, ..member });
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, content);
        }
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn content_must_have_the_size_announced() {
        let member = Member { size: 3, ..Member::new("f", Kind::File) };
        for wrong in [&b"ab"[..], b"abcd"] {
            let mut writer = Writer::new(Vec::new());
            assert!(writer.append(&member, &mut |out| out.write_all(wrong)).is_err());
        }
    }

    #[test]
    fn a_records_length_counts_its_own_digits() {
        for length in [1, 90, 91, 92, 93, 94, 95, 980, 990, 995] {
            let bytes = record(b"k", &b"v".repeat(length));
            let digits: usize =
                std::str::from_utf8(bytes.split(|b| *b == b' ').next().unwrap()).unwrap().parse().unwrap();
            assert_eq!(digits, bytes.len());
        }
    }
}
