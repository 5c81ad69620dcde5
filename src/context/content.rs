//! What a regular file holds: its digest, taken at one moment, with the state under which it was taken.
//!
//! A file is read between two looks at its stamp; a difference means that it changed meanwhile, and it is
//! read again, a few times. Whether the stamp was settled before the read began goes with the digest:
//! only then may it be kept, and only then may a copy believe the stamp alone. See `stamp`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::ContextError;
use super::stamp::{self, Meta, Trust};
use super::tree::{Node, Tree};
use crate::base::digest::{Digest, DigestWriter};
use crate::base::fs::{AtPath, PathError};

/// The content of a file at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    pub(super) digest: Digest,
    /// The state under which it was read; later than that of the walk if the file changed in between.
    pub(super) meta: Meta,
    /// Whether a later write would show in the stamp.
    pub(super) settled: bool,
}

const ATTEMPTS: usize = 5;

/// The content of the regular file `path`, read at most once; `None` if it is no longer there.
pub(super) fn content(tree: &Tree, path: &[u8], node: &Node) -> Result<Option<Content>, ContextError> {
    if let Some(content) = node.content.get() {
        return Ok(Some(*content));
    }
    let content = read(tree, path)?;
    Ok(content.map(|content| *node.content.get_or_init(|| content)))
}

fn read(tree: &Tree, path: &[u8]) -> Result<Option<Content>, ContextError> {
    for _ in 0..ATTEMPTS {
        let moment = stamp::now();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match tree.open(path, flags) {
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
        let (digest, size) = digest(&file, meta.stamp.size).at_path("read", tree.shown(path))?;
        if stat()?.stamp == meta.stamp && size == meta.stamp.size {
            let trusted = tree.trust(&meta, file.as_fd()) != Trust::Nothing;
            let settled = trusted && meta.stamp.settled(moment);
            tree.learned.fetch_or(settled, Ordering::Relaxed);
            return Ok(Some(Content { digest, meta, settled }));
        }
    }
    Err(ContextError::Unstable { path: tree.shown(path) })
}

/// Digest and number of the bytes of `file`, which is about `size` long.
pub(super) fn digest(mut file: &File, size: u64) -> io::Result<(Digest, u64)> {
    const LARGEST: u64 = 256 << 10;
    // One more than there should be, so that the end shows in the first read.
    let length = size.saturating_add(1).min(LARGEST);
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(1)];
    let mut writer = DigestWriter::new(io::sink());
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => io::Write::write_all(&mut writer, &buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let (_, digest, size) = writer.finish();
    Ok((digest, size))
}
