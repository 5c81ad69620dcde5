//! What a regular file holds: its digest, taken at one moment, with the state under which it was taken.
//!
//! A file is read between two looks at its stamp; a difference means that it changed meanwhile, and it is
//! read again, a few times. Whether the stamp was settled before the read began goes with the digest:
//! only then may it be kept, and only then may a copy believe the stamp alone. See `stamp`.
//!
//! [`read_all`] reads many files with few calls: each folder is opened once, and a file that afterwards is
//! still what the walk saw needs no look before. Whatever is not that plain is read by [`content`].

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use rayon::prelude::*;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::ContextError;
use super::folder::Node;
use super::stamp::{self, Meta, Trust};
use super::tree::{READ, Tree, open_to_read, split};
use crate::base::digest::{Digest, DigestWriter};
use crate::base::fs::{AtPath, PathError};

/// The content of a file at one moment.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) digest: Digest,
    /// Whether a later write would show in the stamp.
    pub(super) settled: bool,
    /// The state under which it was read, if the file changed since the walk.
    later: Option<Box<Meta>>,
}

impl Content {
    /// What the stat cache vouches for: read under the stamp that the walk found, and settled then.
    pub(super) fn known(digest: Digest) -> Self {
        Self { digest, settled: true, later: None }
    }

    /// The state under which it was read; `walked` is that of the walk.
    pub(super) fn meta<'a>(&'a self, walked: &'a Meta) -> &'a Meta {
        self.later.as_deref().unwrap_or(walked)
    }
}

const ATTEMPTS: usize = 5;

/// Files that one thread reads at a stretch.
const STRETCH: usize = 32;

/// Longer files are read in pieces.
const LARGEST: u64 = 256 << 10;

/// Finds the content of many regular files, several at a time, so that [`content`] has it at hand. Files
/// of one folder should follow one another.
pub(super) fn read_all(tree: &Tree, files: &[(&[u8], &Node)]) -> Result<(), ContextError> {
    let folders = files.chunk_by(|(one, _), (other, _)| split(one).0 == split(other).0);
    let stretches: Vec<_> = folders.flat_map(|folder| folder.chunks(STRETCH)).collect();
    stretches.par_iter().try_for_each(|files| {
        let folder = files.first().map_or(b"".as_slice(), |(path, _)| split(path).0);
        let folder = tree.open(folder, OFlags::PATH | OFlags::DIRECTORY);
        let mut buffer = Vec::new();
        files.iter().try_for_each(|(path, node)| {
            let plain =
                folder.as_ref().ok().and_then(|folder| read_plain(tree, folder, path, node, &mut buffer));
            match plain {
                Some(content) => drop(node.content.get_or_init(|| content)),
                None => drop(content(tree, path, node)?),
            }
            Ok(())
        })
    })
}

/// The content of a file in `folder` that is still what the walk saw after it was read: then it was that
/// while it was read. `None` if anything is otherwise.
fn read_plain(
    tree: &Tree,
    folder: &OwnedFd,
    path: &[u8],
    node: &Node,
    buffer: &mut Vec<u8>,
) -> Option<Content> {
    let moment = stamp::now();
    let file = File::from(open_to_read(folder, split(path).1).ok()?);
    let (digest, size) = digest(&file, node.meta.stamp.size, buffer).ok()?;
    let after = Meta::from(&rustix::fs::fstat(&file).ok()?);
    (after == node.meta && size == after.stamp.size).then_some(())?;
    let settled = tree.trust(&after, file.as_fd()) != Trust::Nothing && after.stamp.settled(moment);
    tree.learned.fetch_or(settled, Ordering::Relaxed);
    Some(Content { digest, settled, later: None })
}

/// The content of the regular file `path`, read at most once; `None` if it is no longer there.
pub(super) fn content<'n>(
    tree: &Tree,
    path: &[u8],
    node: &'n Node,
) -> Result<Option<&'n Content>, ContextError> {
    if let Some(content) = node.content.get() {
        return Ok(Some(content));
    }
    let content = read(tree, path, &node.meta)?;
    Ok(content.map(|content| node.content.get_or_init(|| content)))
}

fn read(tree: &Tree, path: &[u8], walked: &Meta) -> Result<Option<Content>, ContextError> {
    for _ in 0..ATTEMPTS {
        let moment = stamp::now();
        let file = match tree.open(path, READ) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            // A link lies there now: something is, so it cannot be left out.
            Err(Errno::LOOP) => break,
            Err(error) => return Err(PathError::new("open", tree.shown(path), error).into()),
        };
        let stat =
            || rustix::fs::fstat(&file).at_path("stat", tree.shown(path)).map(|stat| Meta::from(&stat));
        let meta = stat()?;
        if meta.kind() != FileType::RegularFile {
            break;
        }
        let read = digest(&file, meta.stamp.size, &mut Vec::new());
        let (digest, size) = read.at_path("read", tree.shown(path))?;
        if stat()?.stamp == meta.stamp && size == meta.stamp.size {
            let trusted = tree.trust(&meta, file.as_fd()) != Trust::Nothing;
            let settled = trusted && meta.stamp.settled(moment);
            tree.learned.fetch_or(settled, Ordering::Relaxed);
            let later = (meta != *walked).then(|| Box::new(meta));
            return Ok(Some(Content { digest, settled, later }));
        }
    }
    Err(ContextError::Unstable { path: tree.shown(path) })
}

/// Digest and number of the bytes of `file`, which is about `size` long; `buffer` may be used again.
pub(super) fn digest(mut file: &File, size: u64, buffer: &mut Vec<u8>) -> io::Result<(Digest, u64)> {
    // One more than there should be, so that the end shows in the first read.
    let length = usize::try_from(size.saturating_add(1).min(LARGEST)).unwrap_or(1);
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    let (mut writer, mut seen) = (DigestWriter::new(io::sink()), 0);
    loop {
        match file.read(&mut buffer[..length]) {
            Ok(count) => {
                io::Write::write_all(&mut writer, &buffer[..count])?;
                seen += count as u64;
                // Less than was asked for, and all that there should be: the end needs no read of its own.
                if count == 0 || (count < length && seen == size) {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let (_, digest, size) = writer.finish();
    Ok((digest, size))
}
