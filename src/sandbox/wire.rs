//! What shipway and the monitor of a command say to each other.
//!
//! Over one socket pair go an [`Order`] with descriptors (the root file system, the scratch folder,
//! perhaps a control group, and what is mounted besides), then nothing, then a [`Report`]. The socket is the lifeline too: when the monitor reads its
//! end before the command is over, shipway is gone or wants the command dead, which is the same to it.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::devices::Version;
use super::stubs::Kind;
use super::{Exit, RunSpec, SandboxError};

/// The largest message that is read: environments are the only large thing in one.
const LIMIT: u64 = 64 << 20;

/// Most descriptors of one message (`SCM_MAX_FD`).
const DESCRIPTORS: usize = 253;

/// What the monitor is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The command. The layers are not sent: their tree is one of the descriptors.
    pub(super) spec: RunSpec,
    /// The kind of the device control group, whose descriptor is the third.
    pub(super) group: Option<Version>,
    /// What is mounted besides, in the order of the further descriptors.
    pub(super) extras: Vec<Extra>,
}

/// Something that is mounted for the command alone; a descriptor after the others is the detached mount.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Extra {
    pub(super) target: PathBuf,
    /// The part of the mount that is wanted; `None` is all of it.
    pub(super) inside: Option<PathBuf>,
    pub(super) kind: Kind,
    pub(super) read_only: bool,
    /// Whether nothing on it may be executed.
    pub(super) inert: bool,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The command ran.
    Ended(Exit),
    /// It could not be started.
    Failed(Failure),
}

/// Why a command could not be started, as it crosses process boundaries.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) what: What,
    /// The kernel's error number; 0 where there is only a text.
    pub(super) errno: i32,
    /// The error as text where there is no number.
    pub(super) text: String,
}

/// Which step failed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    Command(String),
    WorkingDirectory(PathBuf),
    MountPoint(PathBuf),
    Namespaces,
    Isolation(String),
}

impl Failure {
    pub(super) fn new(what: What, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let errno = error.raw_os_error().unwrap_or(0);
        let text = if errno == 0 { error.to_string() } else { String::new() };
        Self { what, errno, text }
    }
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        let source = match failure.errno {
            0 => io::Error::other(failure.text),
            errno => io::Error::from_raw_os_error(errno),
        };
        match failure.what {
            What::Command(command) => Self::Command { command, source },
            What::WorkingDirectory(path) => Self::WorkingDirectory { path, source },
            What::MountPoint(path) => Self::MountPoint { path, source },
            What::Namespaces => Self::Missing { feature: "namespaces of its own to a process", source },
            What::Isolation(action) => Self::Isolation { action, source },
        }
    }
}

/// Says what was being done when something failed.
pub(super) trait Doing<T> {
    /// An error here is an isolation that failed while doing `action`.
    fn doing(self, action: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, action: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(What::Isolation(action.to_owned()), error))
    }
}

/// Sends `message` with its length before it; `descriptors` travel with the length.
pub(super) fn send(
    socket: &UnixStream,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let length = (bytes.len() as u64).to_ne_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors in one message"));
    }
    sendmsg(socket, &[IoSlice::new(&length)], &mut ancillary, SendFlags::NOSIGNAL)?;
    let mut socket = socket;
    socket.write_all(&bytes)
}

/// Receives what [`send`] sent; `None` if the other end was closed instead.
pub(super) fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut length = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let received = recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut length)], &mut ancillary, flags)?;
    if received.bytes != length.len() {
        return Ok(None);
    }
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    let length = u64::from_ne_bytes(length);
    if length > LIMIT {
        return Err(io::Error::other("a message is too long"));
    }
    let mut bytes = Vec::new();
    let mut limited = socket.take(length);
    limited.read_to_end(&mut bytes)?;
    Ok(Some((serde_json::from_slice(&bytes)?, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_with_their_descriptors() {
        let (here, there) = UnixStream::pair().unwrap();
        let (read, write) = std::io::pipe().unwrap();
        send(&here, &Report::Ended(Exit::Signal(9)), &[write.as_fd()]).unwrap();
        let (report, descriptors) = receive::<Report>(&there).unwrap().unwrap();
        assert!(matches!(report, Report::Ended(Exit::Signal(9))));
        drop(write);
        std::fs::File::from(descriptors.into_iter().next().unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        { read }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn a_closed_end_is_no_message() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(here);
        assert!(receive::<Report>(&there).unwrap().is_none());
    }

    #[test]
    fn failures_keep_their_error_number() {
        let failure = Failure::new(What::Command("x".into()), rustix::io::Errno::NOENT);
        assert_eq!((failure.errno, failure.text.as_str()), (libc::ENOENT, ""));
        let error = SandboxError::from(failure).to_string();
        assert_eq!(error, "cannot start `x` in the image: No such file or directory (os error 2)");
    }
}
