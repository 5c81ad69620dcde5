//! Moving the bytes of one file, and making sure that they are the ones that were digested.
//!
//! `copy_file_range` for large files (it shares blocks where the file system can), reading and writing for
//! small ones and where the kernel refuses it between two file systems. Afterwards the source must have the
//! stamp under which it was digested; if it has not, or that stamp was too young to prove anything, the
//! bytes that arrived are digested themselves, and only another digest is a change. Modes, owners and times
//! are `copy`'s matter.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::content;
use super::select::{Held, Picked};
use super::stamp::Meta;
use super::tree::{READ, open_to_read, split};
use super::{Context, CopyError, Selection};
use crate::base::digest::{Digest, DigestWriter};
use crate::base::fs::{AtPath, PathError};

/// Up to so many bytes go through a buffer: that is faster than what the kernel does for a range.
const SMALL: u64 = 16 << 10;

/// What is being moved, and what was found out on the way.
pub(super) struct Transfer<'a> {
    context: &'a Context,
    /// Whether the kernel refused to copy between these file systems.
    plain: AtomicBool,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context, plain: AtomicBool::new(false) }
    }

    /// Writes what `entry`, a name in `folder`, holds into the new file `target`, shown as `shown`.
    pub(super) fn file(
        &self,
        folder: &OwnedFd,
        entry: &Picked,
        target: &File,
        shown: &Path,
    ) -> Result<(), CopyError> {
        let tree = &self.context.tree;
        let Held::Bytes { digest, settled } = &entry.held else { return Ok(()) };
        let changed = || CopyError::Changed { path: shown_source(entry) };
        let source = match open_to_read(folder, split(&entry.path).1) {
            Ok(source) => File::from(source),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(changed()),
            Err(error) => return Err(PathError::new("open", tree.shown(&entry.path), error).into()),
        };
        let stat = || {
            rustix::fs::fstat(&source).map(|stat| Meta::from(&stat)).at_path("stat", tree.shown(&entry.path))
        };
        let digested = &entry.meta().stamp;
        let moved = self.bytes(&source, target, digested.size);
        let after = stat()?;
        if after.kind() != FileType::RegularFile {
            return Err(changed());
        }
        moved.at_path("copy to", shown)?;
        if *settled && after.stamp == *digested {
            return Ok(());
        }
        let mut written = target;
        written.rewind().at_path("read", shown)?;
        let (arrived, _) = content::digest(target, digested.size, &mut Vec::new()).at_path("read", shown)?;
        if arrived == *digest { Ok(()) } else { Err(changed()) }
    }

    /// Everything in `source`, about `size` bytes, into the empty `target`.
    fn bytes(&self, source: &File, target: &File, size: u64) -> io::Result<()> {
        if size > SMALL && !self.plain.load(Ordering::Relaxed) {
            match ranges(source, target, size) {
                Ok(()) => return Ok(()),
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                    self.plain.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        plain(source, target, size)
    }
}

/// Copies inside the kernel, from both files' positions. An error leaves both where they were.
fn ranges(source: &File, target: &File, size: u64) -> Result<(), Errno> {
    let mut moved = 0u64;
    while moved < size {
        let left = usize::try_from(size - moved).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(source, None, target, None, left) {
            // Shorter than it was: the stamp tells.
            Ok(0) => break,
            Ok(count) => moved += count as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn plain(mut source: &File, mut target: &File, size: u64) -> io::Result<()> {
    const LARGEST: u64 = 128 << 10;
    let length = usize::try_from(size.saturating_add(1).min(LARGEST)).unwrap_or(1);
    let (mut buffer, mut moved) = (vec![0; length], 0);
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                target.write_all(&buffer[..count])?;
                moved += count as u64;
                // Less than was asked for, and all that there should be: the end needs no read of its own.
                if count < length && moved == size {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The path of an entry in its tree, for messages.
pub(super) fn shown_source(entry: &Picked) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(&entry.path))
}

/// A selected file that is being read: ADD looks into it and unpacks it. Call [`Verified::finish`] when
/// done; until then what was read may not be what was digested.
pub struct Verified {
    file: DigestReader,
    path: PathBuf,
    expected: Digest,
}

struct DigestReader {
    file: File,
    seen: DigestWriter<io::Sink>,
}

impl Read for DigestReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.seen.write_all(&buffer[..count])?;
        Ok(count)
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Verified {
    /// Reads the rest, and fails if the whole was not what was selected.
    pub fn finish(mut self) -> Result<(), CopyError> {
        io::copy(&mut self.file, &mut io::sink()).at_path("read", &self.path)?;
        let (_, digest, _) = self.file.seen.finish();
        if digest == self.expected { Ok(()) } else { Err(CopyError::Changed { path: self.path }) }
    }
}

impl Context {
    /// The file that `selection` is, if it is a single regular one.
    pub fn open_file(&self, selection: &Selection) -> Result<Option<Verified>, CopyError> {
        let [part] = selection.parts.as_slice() else { return Ok(None) };
        let Some(entry) = part.single_file() else { return Ok(None) };
        let Held::Bytes { digest: expected, .. } = entry.held else { return Ok(None) };
        let path = shown_source(entry);
        let file = match self.tree.open(&entry.path, READ) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(CopyError::Changed { path }),
            Err(error) => return Err(PathError::new("open", self.tree.shown(&entry.path), error).into()),
        };
        let file = DigestReader { file, seen: DigestWriter::new(io::sink()) };
        Ok(Some(Verified { file, path, expected }))
    }
}
