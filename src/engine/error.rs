//! What can go wrong between us and an engine, with the words that the user needs.
//!
//! Every variant names the action or the object. A message of the engine itself is passed on unchanged.

use std::io;

/// A question or an action that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing answers at the address.
    #[error("no container engine answers at {host}: {reason}\nhelp: {advice}")]
    NotReachable {
        /// The address as the user would write it in `DOCKER_HOST`.
        host: String,
        /// What the system said.
        reason: String,
        /// What to do, in one sentence.
        advice: &'static str,
    },
    /// An address of a kind that we cannot reach.
    #[error(
        "not supported: an engine at {host}\n\
         help: use unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST"
    )]
    UnsupportedHost {
        /// The address.
        host: String,
    },
    /// The engine is older than Docker 20.10.
    #[error(
        "the engine at {host} is too old: it speaks API {api}, and 1.41 is the least\n\
         help: install Docker Engine 20.10 or newer there"
    )]
    TooOld {
        /// The address.
        host: String,
        /// The newest API version that it speaks.
        api: String,
    },
    /// What an action needs is not there.
    #[error("cannot {action}: {message}")]
    NotFound {
        /// The action and its object: `start pack-web-1`.
        action: String,
        /// The engine's message.
        message: String,
    },
    /// The engine refused.
    #[error("cannot {action}: {message}")]
    Refused {
        /// The action and its object: `start pack-web-1`.
        action: String,
        /// The HTTP status.
        status: u16,
        /// The engine's message.
        message: String,
    },
    /// The connection broke or the answer made no sense.
    #[error("cannot {action}: the connection to the engine failed: {message}")]
    Broken {
        /// The action and its object.
        action: String,
        /// What failed.
        message: String,
    },
    /// The engine took an archive but could not make images of it.
    #[error("the engine cannot load the images: {message}{}", disk_advice(message))]
    LoadFailed {
        /// The engine's message.
        message: String,
    },
    /// The engine could not pull an image.
    #[error("cannot pull {reference}: {message}")]
    PullFailed {
        /// The image.
        reference: String,
        /// The engine's message.
        message: String,
    },
    /// Our side of a transfer failed: writing an archive, or taking what the engine sends.
    #[error("cannot {action}: {source}")]
    Transfer {
        /// The action and its object.
        action: String,
        /// What failed.
        source: io::Error,
    },
    /// Our own threads could not be started.
    #[error("cannot start the thread that speaks to the engine: {0}")]
    Runtime(io::Error),
    /// The user stopped the command.
    #[error("stopped")]
    Cancelled,
}

/// What to do when the engine's disk is full.
fn disk_advice(message: &str) -> &'static str {
    if message.contains("no space left on device") {
        "\nhelp: its disk is full: `docker system df` shows what takes the room, `docker system prune` frees some"
    } else {
        ""
    }
}

impl EngineError {
    /// Why, where what was being done is told beside it.
    pub fn reason(&self) -> String {
        match self {
            Self::NotFound { message, .. } | Self::Refused { message, .. } => message.clone(),
            Self::Broken { message, .. } => format!("the connection to the engine failed: {message}"),
            Self::Transfer { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }

    /// Whether the engine refused to remove something because it is still in use: 409, or 403 for networks.
    pub fn is_in_use(&self) -> bool {
        match self {
            Self::Refused { status: 403, message, .. } => message.contains("active endpoints"),
            other => other.is_conflict(),
        }
    }

    /// Whether a container is not there, or does not run any more.
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::NotFound { .. }) || self.is_conflict()
    }

    /// Whether the engine refused because the object is in use or exists already (HTTP 409).
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::EngineError;
    use crate::base::testing::samples;

    const ACTION: &str = "start app-web-1";

    samples! { EngineError:
        NotReachable {
            host: "unix:///var/run/docker.sock".into(),
            reason: "No such file or directory (os error 2)".into(),
            advice: "is dockerd installed and running, and is DOCKER_HOST right?",
        },
        UnsupportedHost { host: "npipe:////./pipe/docker_engine".into() },
        TooOld { host: "tcp://127.0.0.1:2375".into(), api: "1.38".into() },
        NotFound { action: ACTION.into(), message: "No such container: app-web-1".into() },
        Refused { action: ACTION.into(), status: 409, message: "Conflict. The name is in use".into() },
        Broken { action: ACTION.into(), message: "connection reset by peer".into() },
        LoadFailed { message: "invalid tar header".into() },
        LoadFailed { message: "write /blobs/x: no space left on device".into() },
        PullFailed { reference: "example.com/app:2".into(), message: "manifest unknown".into() },
        Transfer { action: "copy to app-web-1".into(), source: rustix::io::Errno::PIPE.into() },
        Runtime(rustix::io::Errno::AGAIN.into()),
        Cancelled,
    }
}
