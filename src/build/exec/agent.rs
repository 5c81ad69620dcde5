//! An ssh agent for one command: a socket of our own before the user's.
//!
//! The command must not see a folder of the host, and the socket must have the owner and mode that the
//! Dockerfile asks for; so each command gets a new socket in a staging folder, and what connects to it is
//! passed on to the user's agent, byte for byte, in both directions. No message is read or kept here.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::super::error::StepError;
use crate::base::fs::AtPath;
use crate::graph::FileAttributes;
use crate::store::Staging;

/// A socket that leads to the user's agent while the value lives.
pub(super) struct Agent {
    path: PathBuf,
    /// Dropping it ends the thread.
    stop: Option<io::PipeWriter>,
    accepting: Option<JoinHandle<()>>,
    _staging: Staging,
}

impl Agent {
    /// Listens in `staging` and passes on to the agent at `socket`.
    pub(super) fn start(
        staging: Staging,
        socket: &Path,
        attributes: FileAttributes,
    ) -> Result<Self, StepError> {
        let path = staging.path().join("agent");
        let listener = listen(&staging, &path)?;
        let owner = (Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)));
        rustix::fs::chownat(rustix::fs::CWD, &path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
            .at_path("chown", &path)?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(attributes.mode)).at_path("chmod", &path)?;
        if !std::fs::metadata(socket).at_path("stat", socket)?.file_type().is_socket() {
            let what = format!("the ssh key {}\nhelp: add it to an ssh-agent", socket.display());
            return Err(StepError::Unsupported(what));
        }
        // An agent that is not there is a mistake of the user's, best seen before the command starts.
        drop(UnixStream::connect(socket).at_path("connect to the ssh agent", socket)?);
        let (stopped, stop) = io::pipe().at_path("make a pipe for", &path)?;
        let socket = socket.to_owned();
        let accepting = std::thread::spawn(move || accept(&listener, &stopped, &socket));
        Ok(Self { path, stop: Some(stop), accepting: Some(accepting), _staging: staging })
    }

    /// The socket.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop = None;
        // The thread does nothing that could panic.
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

/// Binds through a descriptor of the folder: a socket's path may have 108 bytes at most.
fn listen(staging: &Staging, path: &Path) -> Result<UnixListener, StepError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(staging.path(), flags, Mode::empty()).at_path("open", staging.path())?;
    let short = format!("/proc/self/fd/{}/agent", folder.as_raw_fd());
    Ok(UnixListener::bind(short).at_path("listen at", path)?)
}

/// Accepts until the pipe is closed.
fn accept(listener: &UnixListener, stopped: &io::PipeReader, socket: &Path) {
    loop {
        let mut waiting = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Ok(_) if !waiting[1].revents().is_empty() => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        // Who hung up meanwhile is no connection; an agent that is gone closes it, as ssh expects.
        if let Ok((client, _)) = listener.accept()
            && let Ok(agent) = UnixStream::connect(socket)
        {
            std::thread::spawn(move || pass_on(&client, &agent));
        }
    }
}

/// Both directions, until both ends are closed.
fn pass_on(client: &UnixStream, agent: &UnixStream) {
    let one_way = |mut from: &UnixStream, mut to: &UnixStream| {
        // A broken connection is a closed one.
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| one_way(client, agent));
        one_way(agent, client);
    });
}
