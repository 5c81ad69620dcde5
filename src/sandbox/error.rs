//! What can go wrong in a sandbox. A command that ran and failed is no error but an
//! [`Exit`](super::Exit).

use std::io;
use std::path::PathBuf;

use crate::base::fs::PathError;

/// Why a command could not be run or a stack of layers not be shown.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Mounting and isolating need privileges that the program does not have.
    #[error("building needs root (rootless builds are not supported yet)\nhelp: run it as root or with sudo")]
    NotRoot,
    /// The kernel lacks something that there is no way around.
    #[error(
        "this kernel or container does not offer {feature}: {source}\n\
         help: inside a container, start that one with `--privileged`"
    )]
    Missing {
        /// What is missing, as words: `mount namespaces`.
        feature: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The layers could not be put on top of each other.
    #[error("cannot stack {} layers, the last of them {}: {source}", layers, last.display())]
    Overlay {
        /// How many there are, the upper included.
        layers: usize,
        /// The upper, or the topmost lower.
        last: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step removed something of the layers below, and the store lies where that cannot be expressed.
    #[error(
        "the step removed files of its base, and the file system of {} cannot say so (it is an overlay \
         itself)\nhelp: put the store on another file system: set SHIPWAY_STORE",
        upper.display()
    )]
    Whiteouts {
        /// The step's upper.
        upper: PathBuf,
    },
    /// A tree could not be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The command is not there or cannot be executed, inside.
    #[error("cannot start `{command}` in the image: {source}")]
    Command {
        /// The first word of the command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// The working directory is not there or not a directory, inside.
    #[error("cannot enter the working directory {} of the image: {source}", path.display())]
    WorkingDirectory {
        /// The path inside.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in the image lies where a file system must be mounted.
    #[error("cannot mount over {} of the image: {source}", path.display())]
    MountPoint {
        /// The path inside.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is to be mounted could not be made.
    #[error("cannot make what is mounted on {}: {source}", target.display())]
    MountSource {
        /// The path inside.
        target: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A path that is to be mounted does not exist in its source.
    #[error("cannot mount {}: it does not exist in the source of the mount", path.display())]
    NothingToMount {
        /// The path in the source.
        path: PathBuf,
    },
    /// One step of preparing the isolation failed.
    #[error("cannot {action} to isolate the command: {source}")]
    Isolation {
        /// What was being done: `set the limit nofile`.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The output of the command could not be passed on.
    #[error("cannot pass on the output of the command: {0}")]
    Output(io::Error),
    /// The process that watches the command ended without a result (someone killed it).
    #[error("the process that watched the command ended before it ({0})")]
    MonitorLost(String),
    /// The step was stopped because the build is.
    #[error("stopped")]
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::SandboxError;
    use crate::base::testing::{denied, no_access, samples};

    samples! { SandboxError:
        NotRoot,
        Missing { feature: "mount namespaces", source: denied() },
        Overlay { layers: 3, last: "/store/snapshots/a1/fs".into(), source: denied() },
        Whiteouts { upper: "/store/tmp/a1".into() },
        Path(no_access()),
        Command { command: "make".into(), source: rustix::io::Errno::NOENT.into() },
        WorkingDirectory { path: "/app".into(), source: rustix::io::Errno::NOTDIR.into() },
        MountPoint { path: "/proc".into(), source: rustix::io::Errno::NOTDIR.into() },
        MountSource { target: "/run/secrets/token".into(), source: denied() },
        NothingToMount { path: "/dist".into() },
        Isolation { action: "set the limit nofile".into(), source: denied() },
        Output(rustix::io::Errno::PIPE.into()),
        MonitorLost("signal 9".into()),
        Cancelled,
    }
}
