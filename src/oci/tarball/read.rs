//! Reading tar streams of any tool, one member at a time.
//!
//! [`Reader::next`] gathers the headers that belong to one member (PAX records, GNU long names, sparse
//! maps) into a [`Member`]; its stored content is then read from the [`Reader`] itself. Sizes that a
//! hostile stream states are never believed before the bytes are there.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::{BLOCK, Kind, Member, Segment, XATTR};

/// The longest record block or long name that is read (Go's `archive/tar` has the same limit).
const LONGEST_EXTENSION: u64 = 1 << 20;
/// The most parts of a sparse file.
const MOST_SEGMENTS: usize = 1 << 20;

/// Why a stream is not a tar that can be read.
#[derive(Debug, thiserror::Error)]
pub enum DamagedTar {
    /// The bytes could not be had.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The bytes are wrong.
    #[error("damaged tar at byte {offset}: {problem}")]
    Format {
        /// Where the header lies.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Reads one tar stream. Its [`Read`] yields the stored content of the current member.
pub(in crate::oci) struct Reader<R> {
    inner: R,
    offset: u64,
    /// Stored bytes of the current member that are still to come.
    remaining: u64,
    /// Padding after them.
    padding: u64,
}

/// Key and value of a PAX record.
type Record = (Vec<u8>, Vec<u8>);

/// What extension headers say about the member that follows them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Vec<Record>,
}

impl Extensions {
    /// The last record of that name.
    fn record(&self, key: &str) -> Option<&[u8]> {
        let mut found = self.records.iter().rev().filter(|(name, _)| name == key.as_bytes());
        found.next().map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    fn number(&self, key: &str) -> Option<u64> {
        std::str::from_utf8(self.record(key)?).ok()?.parse().ok()
    }
}

/// Some tools leave numbers out that they do not need; an empty one is zero (Go's `archive/tar`).
fn fill_empty_numbers(header: &mut [u8; BLOCK]) {
    let mode_to_time = [100..108, 108..116, 116..124, 124..136, 136..148];
    for field in mode_to_time.into_iter().chain([329..337, 337..345]) {
        let field = &mut header[field];
        if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
            field[0] = b'0';
        }
    }
}

impl<R: Read> Reader<R> {
    /// Reads the tar that `inner` yields.
    pub(in crate::oci) const fn new(inner: R) -> Self {
        Self { inner, offset: 0, remaining: 0, padding: 0 }
    }

    /// The next member, or `None` at the end of the archive. What was not read of the content before is
    /// passed over.
    pub(in crate::oci) fn next(&mut self) -> Result<Option<Member>, DamagedTar> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|_| self.damaged("the size is not a number"))?;
            match header.entry_type() {
                EntryType::XHeader => extensions.records.extend(self.records(size)?),
                EntryType::GNULongName => extensions.path = Some(self.long_name(size)?),
                EntryType::GNULongLink => extensions.link = Some(self.long_name(size)?),
                // Records for the whole archive and volume labels say nothing about files.
                EntryType::XGlobalHeader => self.announce(size),
                other if other.as_byte() == b'V' => self.announce(size),
                _ => return self.member(&header, size, &extensions).map(Some),
            }
        }
    }

    /// Reads on to the end of the stream, past the archive's own end: a digest is of every byte.
    pub(in crate::oci) fn drain(mut self) -> Result<R, DamagedTar> {
        self.skip_content()?;
        io::copy(&mut self.inner, &mut io::sink())?;
        Ok(self.inner)
    }

    fn damaged(&self, problem: &'static str) -> DamagedTar {
        DamagedTar::Format { offset: self.offset, problem }
    }

    const fn announce(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK as u64).wrapping_sub(size);
    }

    fn skip_content(&mut self) -> Result<(), DamagedTar> {
        let expected = self.remaining.checked_add(self.padding).ok_or(self.damaged("the size is absurd"))?;
        let skipped = io::copy(&mut (&mut self.inner).take(expected), &mut io::sink())?;
        self.offset += skipped;
        (self.remaining, self.padding) = (0, 0);
        if skipped < expected { Err(self.damaged("it ends inside a member")) } else { Ok(()) }
    }

    /// The next header block; `None` at the end mark or at the end of the stream.
    fn header(&mut self) -> Result<Option<Header>, DamagedTar> {
        let mut header = Header::new_old();
        if !self.block(header.as_mut_bytes())? || header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = header.cksum().map_err(|_| self.damaged("the checksum is not a number"))?;
        let bytes = header.as_bytes();
        let counted = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>();
        if sum != counted + 8 * u32::from(b' ') {
            return Err(self.damaged("a header's checksum is wrong"));
        }
        fill_empty_numbers(header.as_mut_bytes());
        Ok(Some(header))
    }

    /// Reads one block; `false` if the stream ends before it.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, DamagedTar> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(self.damaged("it ends inside a block")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += BLOCK as u64;
        Ok(true)
    }

    /// The content of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, DamagedTar> {
        if size > LONGEST_EXTENSION {
            return Err(self.damaged("an extension header is larger than 1 MiB"));
        }
        self.announce(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(self.damaged("it ends inside a header")) }
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, DamagedTar> {
        let mut name = self.extension(size)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    /// PAX records: `length key=value\n`, the length counting all of it (POSIX, pax, "extended header").
    fn records(&mut self, size: u64) -> Result<Vec<Record>, DamagedTar> {
        let bytes = self.extension(size)?;
        let mut rest = bytes.as_slice();
        let mut records = Vec::new();
        while rest.iter().any(|byte| *byte != 0) {
            let (record, after) = split_record(rest).ok_or(self.damaged("a PAX record is malformed"))?;
            records.push(record);
            rest = after;
        }
        Ok(records)
    }

    fn member(
        &mut self,
        header: &Header,
        stored: u64,
        extensions: &Extensions,
    ) -> Result<Member, DamagedTar> {
        let path = self.path(header, extensions)?;
        let kind = self.kind(header, extensions, &path)?;
        let stored = extensions.number("size").unwrap_or(stored);
        self.announce(if matches!(kind, Kind::File) { stored } else { 0 });
        let (mtime, nanoseconds) = match extensions.record("mtime") {
            Some(text) => moment(text).ok_or(self.damaged("a time is not a number"))?,
            // A base-256 field holds two's complement: times before 1970 are negative.
            None => (header.mtime().map_err(|_| self.damaged("a time is not a number"))?.cast_signed(), 0),
        };
        let mut member = Member {
            mode: header.mode().map_err(|_| self.damaged("the mode is not a number"))? & 0o7777,
            uid: self.identifier(extensions.number("uid"), header.uid())?,
            gid: self.identifier(extensions.number("gid"), header.gid())?,
            mtime,
            nanoseconds,
            size: self.remaining,
            ..Member::new(path, kind)
        };
        for (key, value) in &extensions.records {
            if let Some(name) = key.strip_prefix(XATTR) {
                member.xattrs.insert(name.to_vec(), value.clone());
            }
        }
        if member.kind == Kind::File {
            self.sparse(header, extensions, &mut member)?;
        }
        Ok(member)
    }

    fn path(&self, header: &Header, extensions: &Extensions) -> Result<Vec<u8>, DamagedTar> {
        let pax = extensions.record("GNU.sparse.name").or_else(|| extensions.record("path"));
        let path = match pax.or(extensions.path.as_deref()) {
            Some(path) => path.to_vec(),
            None => header.path_bytes().into_owned(),
        };
        if path.contains(&0) { Err(self.damaged("a name has a zero byte")) } else { Ok(path) }
    }

    fn kind(&self, header: &Header, extensions: &Extensions, path: &[u8]) -> Result<Kind, DamagedTar> {
        let link = || {
            let link = extensions.record("linkpath").or(extensions.link.as_deref()).map(<[u8]>::to_vec);
            let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
            link.filter(|link| !link.is_empty() && !link.contains(&0))
                .ok_or(self.damaged("a link has no target"))
        };
        let device = || {
            let (major, minor) = (header.device_major(), header.device_minor());
            match (major, minor) {
                (Ok(major), Ok(minor)) => Ok((major.unwrap_or(0), minor.unwrap_or(0))),
                _ => Err(self.damaged("a device number is not a number")),
            }
        };
        let kind = match header.entry_type() {
            // Tars older than ustar mark folders by the slash alone.
            EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link()?),
            EntryType::Link => Kind::HardLink(link()?),
            EntryType::Char => device().map(|(major, minor)| Kind::CharacterDevice(major, minor))?,
            EntryType::Block => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
            EntryType::Fifo => Kind::Fifo,
            _ => return Err(self.damaged("a member is of a kind that is not known")),
        };
        Ok(kind)
    }

    fn identifier(&self, pax: Option<u64>, header: io::Result<u64>) -> Result<u32, DamagedTar> {
        let number = pax.map_or(header, Ok).map_err(|_| self.damaged("an owner is not a number"))?;
        u32::try_from(number).map_err(|_| self.damaged("an owner is beyond 32 bits"))
    }

    /// Fills in which parts of a sparse file are stored, if the member is one.
    fn sparse(
        &mut self,
        header: &Header,
        extensions: &Extensions,
        member: &mut Member,
    ) -> Result<(), DamagedTar> {
        let size = extensions.number("GNU.sparse.realsize").or_else(|| extensions.number("GNU.sparse.size"));
        let (size, segments) = if header.entry_type() == EntryType::GNUSparse {
            self.old_map(header)?
        } else if extensions.record("GNU.sparse.major") == Some(b"1") {
            (size.ok_or(self.damaged("a sparse file has no size"))?, self.map_before_content()?)
        } else if let Some(size) = size {
            (size, record_map(extensions).ok_or(self.damaged("a sparse map is malformed"))?)
        } else {
            return Ok(());
        };
        let mut end = 0;
        for segment in &segments {
            let next = segment.offset.checked_add(segment.length);
            end =
                next.filter(|_| segment.offset >= end).ok_or(self.damaged("a sparse map is not in order"))?;
        }
        let stored = segments.iter().map(|segment| segment.length).sum::<u64>();
        if end > size || stored != self.remaining {
            return Err(self.damaged("a sparse map does not fit its file"));
        }
        member.size = size;
        member.sparse = Some(segments);
        Ok(())
    }

    /// The map of the old GNU format: in the header and in blocks right after it.
    fn old_map(&mut self, header: &Header) -> Result<(u64, Vec<Segment>), DamagedTar> {
        let wrong = "a sparse map is malformed";
        let gnu = header.as_gnu().ok_or(self.damaged(wrong))?;
        let size = gnu.real_size().map_err(|_| self.damaged(wrong))?;
        let mut segments = Vec::new();
        let mut add = |sparse: &[tar::GnuSparseHeader]| {
            for part in sparse.iter().take_while(|part| !part.is_empty()) {
                segments.push(Segment { offset: part.offset().ok()?, length: part.length().ok()? });
            }
            (segments.len() <= MOST_SEGMENTS).then_some(())
        };
        add(&gnu.sparse).ok_or(self.damaged(wrong))?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            if !self.block(block.as_mut_bytes())? {
                return Err(self.damaged("it ends inside a sparse map"));
            }
            add(block.sparse()).ok_or(self.damaged(wrong))?;
            more = block.is_extended();
        }
        Ok((size, segments))
    }

    /// The map of PAX sparse format 1.0: decimal numbers, one a line, before the content, padded to a block.
    fn map_before_content(&mut self) -> Result<Vec<Segment>, DamagedTar> {
        let mut text = MapText { numbers: Vec::new(), current: None };
        let mut block = [0; BLOCK];
        loop {
            if self.remaining < BLOCK as u64 || !self.block(&mut block)? {
                return Err(self.damaged("a sparse map is malformed"));
            }
            self.remaining -= BLOCK as u64;
            match text.take(&block) {
                Some(Some(segments)) => return Ok(segments),
                Some(None) => {}
                None => return Err(self.damaged("a sparse map is malformed")),
            }
        }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&mut self.inner).take(self.remaining).read(buffer)?;
        if count == 0 && self.remaining > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the tar ends inside a member"));
        }
        self.remaining -= count as u64;
        self.offset += count as u64;
        Ok(count)
    }
}

/// The numbers of a sparse map as they come.
struct MapText {
    numbers: Vec<u64>,
    current: Option<u64>,
}

impl MapText {
    /// Takes one block; the segments once all are there, `None` if it is malformed.
    fn take(&mut self, block: &[u8]) -> Option<Option<Vec<Segment>>> {
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let shifted = self.current.unwrap_or(0).checked_mul(10)?;
                    self.current = Some(shifted.checked_add(u64::from(byte - b'0'))?);
                }
                b'\n' => self.numbers.push(self.current.take()?),
                _ => return None,
            }
            if let Some((&count, pairs)) = self.numbers.split_first() {
                let count = usize::try_from(count).ok().filter(|count| *count <= MOST_SEGMENTS)?;
                if pairs.len() == count * 2 {
                    return Some(Some(pairs_to_segments(pairs)));
                }
            }
        }
        Some(None)
    }
}

fn pairs_to_segments(numbers: &[u64]) -> Vec<Segment> {
    numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect()
}

/// The map of PAX sparse formats 0.0 (a record each) and 0.1 (one list).
fn record_map(extensions: &Extensions) -> Option<Vec<Segment>> {
    let parse = |value: &[u8]| std::str::from_utf8(value).ok()?.parse().ok();
    let numbers: Option<Vec<u64>> = match extensions.record("GNU.sparse.map") {
        Some(list) => list.split(|byte| *byte == b',').map(parse).collect(),
        None => {
            let wanted = |key: &[u8]| key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes";
            extensions.records.iter().filter(|(key, _)| wanted(key)).map(|(_, value)| parse(value)).collect()
        }
    };
    numbers.filter(|numbers| numbers.len() % 2 == 0).map(|numbers| pairs_to_segments(&numbers))
}

/// The first record and the bytes after it.
fn split_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?;
    let (&end, record) = record.split_last()?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let pair = (record[..equals].to_vec(), record[equals + 1..].to_vec());
    (end == b'\n').then_some((pair, &bytes[length..]))
}

/// Seconds and nanoseconds of `-12.5`; the nanoseconds count upwards.
fn moment(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    match (whole.starts_with('-'), nanoseconds) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
        _ => Some((seconds, nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_hold_any_byte() {
        let ((key, value), rest) = split_record(b"12 a.b=c\n=\0\nrest").unwrap();
        assert_eq!((key.as_slice(), value.as_slice(), rest), (&b"a.b"[..], &b"c\n=\0"[..], &b"rest"[..]));
        for text in [&b"x a=b\n"[..], b"5 a=b\n", b"99 a=b\n", b"3 =\n", b"0 a=b\n", b"6 a-b\n"] {
            assert!(split_record(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(moment(b"12"), Some((12, 0)));
        assert_eq!(moment(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(moment(b"-12.25"), Some((-13, 750_000_000)));
        assert_eq!(moment(b"12.0000000019"), Some((12, 1)));
        assert_eq!(moment(b"1e3"), None);
        assert_eq!(moment(b"1.-5"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(0u8..255, 0..2048)) {
            if bytes.len() >= BLOCK {
                // A right checksum lets the rest of the header be looked at.
                let mut header = Header::from_byte_slice(&bytes[..BLOCK]).clone();
                header.set_cksum();
                bytes[..BLOCK].copy_from_slice(header.as_bytes());
            }
            let mut reader = Reader::new(bytes.as_slice());
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}
