//! What can go wrong with images, layers, registries and archives.

use std::path::PathBuf;

use crate::base::digest::Digest;
use crate::base::fs::PathError;
use crate::store::StoreError;

use super::tarball::DamagedTar;

/// An operation on an image that failed. No variant ever holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// What lies below a layer could not be shown.
    #[error("cannot show what lies below the layer: {0}")]
    Lower(String),
    /// The file system refused.
    #[error(transparent)]
    Path(#[from] PathError),
    /// What should be a tar cannot be read.
    #[error("cannot read {what}: {source}")]
    Tar {
        /// Which one: `the layer`, `the archive`.
        what: &'static str,
        /// Why.
        source: DamagedTar,
    },
    /// A layer has an entry that is refused.
    #[error("`{}` in the layer is refused: {problem}", path.display())]
    Entry {
        /// Its name in the tar.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A layer is beyond the limits against decompression bombs.
    #[error("the layer has more than {limit} {what}")]
    Limit {
        /// `bytes`, `entries`.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Bytes could not be written where the caller wanted them.
    #[error("cannot write {what}: {source}")]
    Write {
        /// What was being written: `the layer`, `the archive`.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// An archive is not what it claims to be.
    #[error("the archive cannot be used: {problem}")]
    Archive {
        /// What is wrong with it.
        problem: String,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Bytes that should be in the store are not there.
    #[error("the blob {0} is not in the store")]
    MissingBlob(Digest),
    /// Bytes are in a compression that is not understood.
    #[error("not supported yet: {0} compression")]
    Compression(&'static str),
    /// Bytes have another digest than the one under which they were asked for.
    #[error("{what} should have the digest {expected} but has {found}")]
    Mismatch {
        /// What it is.
        what: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
}
