//! Blobs: bytes under their digest, exactly as they came.
//!
//! A blob is written to `tmp/` while it is digested and gets its name only if the digest is the expected
//! one. Two writers of one blob do not disturb each other.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::base::digest::{BlobId, Digest, DigestWriter};
use crate::base::fs::{AtPath, PathError};

use super::root::{Provisional, is_durable};
use super::{Result, Store, StoreError, fault, temporary};

impl Store {
    /// The blob `id`, open for reading. A blob that was written before a crash of the machine is digested
    /// once before it counts.
    pub fn blob(&self, id: BlobId) -> Option<File> {
        let path = self.blob_path(id);
        let mut file = File::open(&path).ok()?;
        if is_durable(&file) || self.verified(id) {
            return Some(file);
        }
        let (found, _) = Digest::of_reader(&mut file).ok()?;
        if found != id.0 {
            return None;
        }
        self.verify(id);
        File::open(&path).ok()
    }

    /// Whether [`Store::blob`] has it.
    pub fn has_blob(&self, id: BlobId) -> bool {
        self.blob(id).is_some()
    }

    /// Where the blob `id` lies or would lie.
    pub fn blob_path(&self, id: BlobId) -> PathBuf {
        self.path("blobs-v1/sha256").join(id.0.hex())
    }

    /// A writer for a new blob. Dropped unfinished, it leaves nothing.
    pub fn write_blob(&self) -> Result<BlobWriter<'_>> {
        let (path, file) = temporary::make_file(&self.tmp())?;
        Ok(BlobWriter { store: self, temporary: Temporary(path), writer: DigestWriter::new(file) })
    }

    /// Whether something lies under the blob's name: enough where a record vouches for it.
    pub(super) fn blob_lies_there(&self, id: BlobId) -> bool {
        std::fs::symlink_metadata(self.blob_path(id)).is_ok()
    }
}

/// Takes the bytes of a new blob.
pub struct BlobWriter<'s> {
    store: &'s Store,
    temporary: Temporary,
    writer: DigestWriter<File>,
}

/// A file in `tmp/` that goes with its value; after a publish nothing lies there any more.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next writer's sweep.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl BlobWriter<'_> {
    /// Publishes the blob and returns its digest and length. Fails with [`StoreError::WrongDigest`] and
    /// keeps nothing if the digest is not the `expected` one. A blob that is there already stays.
    pub fn finish(self, expected: Option<BlobId>) -> Result<(BlobId, u64)> {
        // The file stays open, and so locked, until its entry is gone.
        let (_file, digest, size) = self.writer.finish();
        let id = BlobId(digest);
        if let Some(expected) = expected
            && expected != id
        {
            return Err(StoreError::WrongDigest { expected, found: id });
        }
        fault::point();
        publish(self.store, &self.temporary.0, id)?;
        fault::point();
        self.store.wrote(Provisional::Blob(id));
        Ok((id, size))
    }
}

fn publish(store: &Store, from: &Path, id: BlobId) -> Result<()> {
    let target = store.blob_path(id);
    match renameat_with(CWD, from, CWD, &target, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Good bytes stay, so that a mark never moves to a file that was not synced.
        Err(Errno::EXIST) if store.has_blob(id) => Ok(()),
        Err(Errno::EXIST) => Ok(std::fs::rename(from, &target).at_path("publish", &target)?),
        Err(error) => Err(PathError::new("publish", target, error).into()),
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
