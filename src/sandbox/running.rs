//! One running command, seen from shipway: its monitor, its output and its lifeline.
//!
//! Output is read while the command runs and handed on in the order of writing; the report comes over the
//! socket. Shutting the socket down is how a command is killed.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::devices::Group;
use super::wire::{Extra, Order, Report, receive, send};
use super::{Exit, RunSpec, SandboxError, monitor};
use crate::base::cancel::Cancel;

/// A command and the process that watches it.
#[derive(Debug)]
pub(super) struct Running {
    // First: without it a monitor ends, which the process waits for.
    socket: UnixStream,
    output: io::PipeReader,
    process: Process,
}

/// A monitor's process. Dropping it waits for its end.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Its number.
    #[cfg(test)]
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whoever wants to know how it ended has asked before.
        let _ = self.0.wait();
    }
}

/// A monitor that waits for its order; it ends with this value.
#[derive(Debug)]
pub(super) struct Waiting(Running);

impl Waiting {
    /// Starts a monitor from `program`.
    pub(super) fn start(program: &OwnedFd) -> Result<Self, SandboxError> {
        let (socket, theirs) = UnixStream::pair().map_err(failed("make a socket"))?;
        let (output, writer) = io::pipe().map_err(failed("make a pipe"))?;
        let second = writer.try_clone().map_err(failed("make a pipe"))?;
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.arg0(monitor::ROLE).env_clear();
        command.stdin(OwnedFd::from(theirs)).stdout(writer).stderr(second);
        let process = Process(command.spawn().map_err(failed("start the monitor"))?);
        // The command still holds the other ends of the socket and of the pipe.
        drop(command);
        Ok(Self(Running { socket, output, process }))
    }

    /// Its process.
    pub(super) fn process(&mut self) -> &mut Process {
        &mut self.0.process
    }

    /// Gives the monitor its order.
    pub(super) fn order(
        self,
        spec: &RunSpec,
        [root, scratch]: [BorrowedFd<'_>; 2],
        group: Option<&Group>,
        extras: Vec<(Extra, OwnedFd)>,
    ) -> Result<Running, SandboxError> {
        let group = group.map(Group::handle);
        let (extras, mounts): (Vec<Extra>, Vec<OwnedFd>) = extras.into_iter().unzip();
        let order = Order { spec: spec.clone(), group: group.map(|(version, _)| version), extras };
        let fixed = [root, scratch].into_iter().chain(group.map(|(_, descriptor)| descriptor));
        let descriptors: Vec<_> = fixed.chain(mounts.iter().map(AsFd::as_fd)).collect();
        send(&self.0.socket, &order, &descriptors).map_err(failed("send the order to the monitor"))?;
        Ok(self.0)
    }
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> SandboxError {
    move |source: io::Error| SandboxError::Isolation { action: action.to_owned(), source }
}

impl Running {
    /// Passes the output on until the command is over. The monitor's process is given back where it reported:
    /// all that it had to do is done then, and nobody needs to wait for its end.
    pub(super) fn finish(
        mut self,
        output: &mut (dyn Write + Send),
        cancel: &Cancel,
    ) -> Result<(Exit, Process), SandboxError> {
        let passed = self.pass_on(output, cancel);
        if passed.is_err() {
            self.kill();
        }
        let report = receive::<Report>(&self.socket);
        if let (Ok(()), Ok(Some((Report::Ended(exit), _)))) = (&passed, &report) {
            return Ok((*exit, self.process));
        }
        let status = self.process.0.wait();
        passed?;
        match (report, status) {
            (Ok(Some((Report::Failed(failure), _))), _) => Err(failure.into()),
            (_, Ok(status)) => Err(SandboxError::MonitorLost(status.to_string())),
            (_, Err(error)) => Err(SandboxError::MonitorLost(error.to_string())),
        }
    }

    /// Until nobody can write any more and a report is there.
    fn pass_on(&mut self, output: &mut (dyn Write + Send), cancel: &Cancel) -> Result<(), SandboxError> {
        let mut buffer = vec![0; 64 << 10];
        let mut open = true;
        loop {
            let [report, readable, cancelled] = self.wait(open, cancel)?;
            if cancelled {
                return Err(SandboxError::Cancelled);
            }
            if readable {
                match self.output.read(&mut buffer) {
                    Ok(0) => open = false,
                    Ok(count) => output.write_all(&buffer[..count]).map_err(SandboxError::Output)?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(SandboxError::Output(error)),
                }
            } else if report {
                return Ok(());
            }
        }
    }

    /// Waits until something happens: a report (or the monitor's end), output (while `open`), a cancel.
    fn wait(&self, open: bool, cancel: &Cancel) -> Result<[bool; 3], SandboxError> {
        let mut waiting = vec![
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::new(cancel, PollFlags::IN),
            PollFd::new(&self.output, PollFlags::IN),
        ];
        waiting.truncate(if open { 3 } else { 2 });
        loop {
            match poll(&mut waiting, None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(SandboxError::Output(error.into())),
            }
        }
        let happened = |at: usize| waiting.get(at).is_some_and(|poll| !poll.revents().is_empty());
        Ok([happened(0), happened(2), happened(1)])
    }

    /// Cuts the lifeline; the monitor kills everything and then reports.
    fn kill(&self) {
        // A socket that is shut already is as good.
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}
