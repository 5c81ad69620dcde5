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
    /// A layer or archive has an entry that is refused.
    #[error("`{}` in the tar is refused: {problem}", path.display())]
    Entry {
        /// Its name in the tar.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A layer or archive is beyond the limits against decompression bombs.
    #[error("the tar has more than {limit} {what}")]
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
    /// No registry answers: no network, no such host, nobody listening.
    #[error("cannot reach the registry `{registry}`: {problem}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// What the system said.
        problem: String,
    },
    /// The registry does not have it.
    #[error("`{reference}` is not in its registry\nhelp: is it written so, and was it pushed?")]
    NotFound {
        /// What was asked for.
        reference: String,
    },
    /// Something names a blob that the registry has no more.
    #[error(
        "the registry has lost {digest} of `{reference}`\nhelp: push that image again or use another one"
    )]
    Lost {
        /// What was asked for.
        reference: String,
        /// What is gone.
        digest: Digest,
    },
    /// The registry gives it to others only.
    #[error(
        "the registry denies access to `{reference}`\n\
         help: it may not exist, or it needs a login: `docker login`"
    )]
    Denied {
        /// What was asked for.
        reference: String,
    },
    /// The registry gave an answer that is of no use.
    #[error("the registry's answer about `{reference}` cannot be used: {problem}")]
    Registry {
        /// What was asked for.
        reference: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// An image has no variant for the platform.
    #[error("`{reference}` has no image for {wanted}; it has {}", offered.join(", "))]
    NoPlatform {
        /// The image.
        reference: String,
        /// The platform asked for.
        wanted: String,
        /// Those that there are.
        offered: Vec<String>,
    },
    /// The credentials for a registry cannot be had.
    #[error("cannot log in at the registry `{registry}`: {problem}")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why; never a secret.
        problem: String,
    },
    /// The certificates for a registry cannot be used.
    #[error("cannot use the certificates in {}: {problem}", path.display())]
    Certificates {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The machine has no certificates by which registries could be trusted.
    #[error("cannot ask any registry: {0}\nhelp: install the package `ca-certificates`")]
    NoCertificates(String),
    /// The system refused threads or descriptors for the network.
    #[error("cannot use the network: {0}")]
    Network(std::io::Error),
    /// The user stopped the command.
    #[error("stopped")]
    Cancelled,
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

#[cfg(test)]
mod tests {
    use super::{DamagedTar, Digest, OciError, StoreError};
    use crate::base::digest::ResultId;
    use crate::base::testing::{denied, no_access, samples};

    samples! { OciError:
        Lower("cannot open /srv/app/notes.txt: Permission denied (os error 13)".into()),
        Path(no_access()),
        Tar { what: "the layer", source: DamagedTar::Format { offset: 512, problem: "the checksum is wrong" } },
        Entry { path: "../../etc/passwd".into(), problem: "it leads out of the tree" },
        Limit { what: "bytes", limit: 1 << 40 },
        Write { what: "the archive", source: rustix::io::Errno::NOSPC.into() },
        Archive { problem: "index.json names no image".into() },
        Store(StoreError::Incomplete(ResultId(Digest::of("result")))),
        MissingBlob(Digest::of("blob")),
        Unreachable { registry: "registry.example.com".into(), problem: "it does not answer".into() },
        NotFound { reference: "example.com/app:2".into() },
        Lost { reference: "example.com/app:2".into(), digest: Digest::of("lost") },
        Denied { reference: "example.com/app:2".into() },
        Registry { reference: "example.com/app:2".into(), problem: "500 Internal Server Error".into() },
        NoPlatform {
            reference: "example.com/app:2".into(),
            wanted: "linux/arm64".into(),
            offered: vec!["linux/amd64".into(), "linux/s390x".into()],
        },
        Credentials { registry: "example.com".into(), problem: "the token server says 500".into() },
        Certificates { path: "/etc/docker/certs.d/example.com".into(), problem: "no certificate in it".into() },
        NoCertificates("no root certificates were found".into()),
        Network(denied()),
        Cancelled,
        Compression("xz"),
        Mismatch { what: "layer 2".into(), expected: Digest::of("layer"), found: Digest::of("other") },
    }

    samples! { DamagedTar:
        Io(rustix::io::Errno::IO.into()),
        Format { offset: 1024, problem: "it ends inside a header" },
    }
}
