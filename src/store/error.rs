//! What can go wrong in the store. A piece that is missing is not among it.

use std::io::ErrorKind;

use crate::base::digest::{BlobId, ResultId};
use crate::base::fs::PathError;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused an operation on a path of the store.
    #[error("the store: {error}{advice}", error = .0, advice = room_advice(.0))]
    Path(#[from] PathError),
    /// What was written is not what was announced. Nothing was kept.
    #[error("the content should have the digest {expected} but has {found}")]
    WrongDigest {
        /// What was announced.
        expected: BlobId,
        /// What came.
        found: BlobId,
    },
    /// A record or snapshot was to be published whose parts are not in the store.
    #[error("the snapshot {0} is not complete in the store")]
    Incomplete(ResultId),
    /// A value has no JSON form.
    #[error("cannot encode the value of `{key}`: {source}")]
    Encode {
        /// The key under which it was to be kept.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// What to do where there is no room.
fn room_advice(error: &PathError) -> &'static str {
    match error.source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "\nhelp: `shipway cache prune` makes room",
        _ => "",
    }
}

impl StoreError {
    /// Whether bytes came that were not the announced ones.
    pub const fn is_mismatch(&self) -> bool {
        matches!(self, Self::WrongDigest { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::{BlobId, PathError, ResultId, StoreError};
    use crate::base::digest::Digest;
    use crate::base::testing::{no_access, samples};

    samples! { StoreError:
        Path(no_access()),
        Path(PathError::new("write", "/store/tmp/a1", rustix::io::Errno::NOSPC)),
        WrongDigest { expected: BlobId(Digest::of("expected")), found: BlobId(Digest::of("found")) },
        Incomplete(ResultId(Digest::of("result"))),
        Encode { key: "pins/debian".into(), source: serde::ser::Error::custom("key must be a string") },
    }
}
