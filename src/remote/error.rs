//! Why something cannot be had from elsewhere.

use crate::base::fs::PathError;

/// A download or checkout that failed. Addresses in it are shown without their passwords.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody answers there.
    #[error("cannot reach {url}: {problem}")]
    Unreachable {
        /// The address.
        url: String,
        /// What the system said.
        problem: String,
    },
    /// The server has another answer than the file.
    #[error("{url} answers {status}")]
    Status {
        /// The address.
        url: String,
        /// Code and name: `404 Not Found`.
        status: String,
    },
    /// An answer that ended early or never came.
    #[error("cannot read {url}: {problem}")]
    Read {
        /// The address.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// The bytes are not those that were asked for.
    #[error(
        "{url} has the digest {found}, not {expected}\n\
         help: is it the right file? write its digest into `--checksum` only if you trust it"
    )]
    Checksum {
        /// The address.
        url: String,
        /// What `--checksum` says.
        expected: String,
        /// What came.
        found: String,
    },
    /// The `git` command is missing or cannot be started.
    #[error("cannot start the `git` command, which is needed for {remote}: {problem}\nhelp: install git")]
    NoGit {
        /// The repository.
        remote: String,
        /// What the system said.
        problem: std::io::Error,
    },
    /// The `git` command failed.
    #[error("git cannot {action} {remote}: {problem}")]
    Git {
        /// `ask`, `fetch from`, `check out of`.
        action: &'static str,
        /// The repository.
        remote: String,
        /// The last of what it said.
        problem: String,
    },
    /// A branch, tag or commit that is not there.
    #[error("{remote} has no branch, tag or commit `{reference}`")]
    NoReference {
        /// The repository.
        remote: String,
        /// What was asked for.
        reference: String,
    },
    /// A folder that the commit does not have.
    #[error("{remote} has no folder `{folder}` in {commit}")]
    NoFolder {
        /// The repository.
        remote: String,
        /// What was asked for.
        folder: String,
        /// The commit.
        commit: String,
    },
    /// The machine has no certificates by which servers could be trusted.
    #[error("cannot use HTTPS: {0}\nhelp: install the package `ca-certificates`")]
    NoCertificates(String),
    /// The system refused threads or descriptors for the network.
    #[error("cannot use the network: {0}")]
    Network(std::io::Error),
    /// A file of this machine.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The user stopped the command.
    #[error("stopped")]
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::RemoteError;
    use crate::base::testing::{denied, no_access, samples};

    const URL: &str = "https://example.com/tool.tar.gz";
    const REMOTE: &str = "https://example.com/app.git";

    samples! { RemoteError:
        Unreachable { url: URL.into(), problem: "the name cannot be resolved".into() },
        Status { url: URL.into(), status: "404 Not Found".into() },
        Read { url: URL.into(), problem: "the answer ended early".into() },
        Checksum { url: URL.into(), expected: "sha256:aa".into(), found: "sha256:bb".into() },
        NoGit { remote: REMOTE.into(), problem: rustix::io::Errno::NOENT.into() },
        Git { action: "fetch from", remote: REMOTE.into(), problem: "fatal: early EOF".into() },
        NoReference { remote: REMOTE.into(), reference: "v9".into() },
        NoFolder { remote: REMOTE.into(), folder: "services/web".into(), commit: "1f0c2a7".into() },
        NoCertificates("no root certificates were found".into()),
        Network(denied()),
        Path(no_access()),
        Cancelled,
    }
}
