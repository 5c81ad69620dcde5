//! The process that watches one command: our own program, executed again.
//!
//! It has one thread, so it may fork without executing. It receives an order on standard input, makes the
//! mount points, starts the command as the first process of new namespaces and waits. If the other end of
//! the socket is closed before the command is over, however that came about, it kills the command by its
//! pidfd; with the first process the kernel ends every other process of the namespace, so nothing is left
//! when the wait returns. Then it removes the mount points that it made and reports.
//!
//! Its standard output and error are the command's; it says nothing there itself.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitIdStatus, getrlimit, pidfd_send_signal, setrlimit,
    setsid, waitid,
};

use super::child;
use super::devices::Version;
use super::extra;
use super::identity::reset_signals;
use super::spec::{Exit, Network};
use super::stubs::{self, Kind};
use super::wire::{Doing, Extra, Failure, Order, Report, What, receive, send};
use crate::base::fs::RootDir;

/// The name under which the program is executed to be a monitor.
pub(super) const ROLE: &str = "shipway-monitor";

/// Everything that is mounted on in the root file system itself.
const MOUNT_POINTS: [(&str, Kind); 5] = [
    ("/proc", Kind::Folder),
    ("/sys", Kind::Folder),
    ("/dev", Kind::Folder),
    ("/etc/hosts", Kind::File),
    ("/etc/resolv.conf", Kind::File),
];

/// Takes over if this process was started as a part of the sandbox: then the result is its exit code.
/// Must be called first in `main`, before any thread is started.
pub fn dispatch() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    (name == ROLE).then(monitor)
}

fn monitor() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Serves one order. An error is one of the connection: nobody is there to be told.
fn serve() -> io::Result<()> {
    // Also for this process: it could not wait for a child whose signal is ignored.
    reset_signals()?;
    let socket = take_socket()?;
    // A session of its own: what a terminal sends to its foreground is not for the command.
    let _ = setsid();
    let _ = rustix::thread::set_name(c"shipway-monitor");
    rustix::process::chdir("/")?;
    allow_enough_descriptors();
    let Some((order, descriptors)) = receive::<Order>(&socket)? else { return Ok(()) };
    let report = match Descriptors::from(descriptors, &order).and_then(|held| carry_out(order, held, &socket))
    {
        Ok(exit) => Report::Ended(exit),
        Err(failure) => Report::Failed(failure),
    };
    send(&socket, &report, &[])
}

/// The socket from standard input, out of the way of the command; every descriptor above standard error is
/// closed, whatever the caller left open.
fn take_socket() -> io::Result<UnixStream> {
    // SAFETY: nothing has been opened in this process yet that anyone holds as an owned descriptor.
    unsafe { close_above_standard_error(0)? };
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(UnixStream::from(socket))
}

/// Building a tree takes some dozens of descriptors; the command's own limits are set later.
fn allow_enough_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Not being allowed to is no reason to stop: there may be enough.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// `close_range` from 3 up: closes, or with `CLOSE_RANGE_CLOEXEC` only marks.
///
/// # Safety
/// Without that flag no owned descriptor above 2 may be in use any more.
pub(super) unsafe fn close_above_standard_error(flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the call takes numbers only; the caller answers for the descriptors.
    match unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What travels with an order.
struct Descriptors {
    root: RootDir,
    scratch: OwnedFd,
    group: Option<OwnedFd>,
    mounts: Vec<OwnedFd>,
}

impl Descriptors {
    fn from(descriptors: Vec<OwnedFd>, order: &Order) -> Result<Self, Failure> {
        let mut descriptors = descriptors.into_iter();
        match (descriptors.next(), descriptors.next()) {
            (Some(root), Some(scratch)) => {
                let group = order.group.and_then(|_| descriptors.next());
                let mounts: Vec<_> = descriptors.collect();
                if mounts.len() != order.extras.len() {
                    return Err(Errno::BADF).doing("receive what is to be mounted");
                }
                Ok(Self { root: RootDir::from_fd(root), scratch, group, mounts })
            }
            _ => Err(Errno::BADF).doing("receive the root file system"),
        }
    }
}

fn carry_out(mut order: Order, mut held: Descriptors, socket: &UnixStream) -> Result<Exit, Failure> {
    // The child finds the scratch folder, as its own mounts show it, as its working directory.
    rustix::process::fchdir(&held.scratch).doing("enter the scratch folder")?;
    let mut points: Vec<_> = MOUNT_POINTS.iter().map(|(path, kind)| (PathBuf::from(path), *kind)).collect();
    points.extend(extra::own_points(&order.extras, &MOUNT_POINTS));
    let made = stubs::make(&held.root, &points)?;
    let extras: Vec<_> = order.extras.drain(..).zip(held.mounts.drain(..)).collect();
    let ended = start(&order, &held, extras).and_then(|started| started.wait(socket));
    stubs::remove(made);
    ended
}

/// The command, started.
struct Started {
    pidfd: OwnedFd,
    failures: io::PipeReader,
}

fn start(order: &Order, held: &Descriptors, extras: Vec<(Extra, OwnedFd)>) -> Result<Started, Failure> {
    let (failures, to_monitor) = io::pipe().doing("make a pipe")?;
    let network = match order.spec.network {
        Network::Host | Network::Open => 0,
        Network::None => libc::CLONE_NEWNET,
    };
    let group = match (order.group, &held.group) {
        (Some(Version::Two), Some(folder)) => Some(folder),
        (Some(Version::One), Some(processes)) => {
            rustix::io::write(processes, b"0").doing("enter the device control group")?;
            None
        }
        _ => None,
    };
    match fork_into(network, group).map_err(|error| Failure::new(What::Namespaces, error))? {
        None => {
            drop(failures);
            become_command(order, held, &extras, to_monitor)
        }
        Some(pidfd) => {
            drop(to_monitor);
            release_output().doing("let go of the output")?;
            Ok(Started { pidfd, failures })
        }
    }
}

/// Forks, into the control group if there is one; the child (`None`) is the first process of new
/// namespaces. (That of control groups it makes itself, so that its root is the group.)
fn fork_into(network: libc::c_int, group: Option<&OwnedFd>) -> io::Result<Option<OwnedFd>> {
    const INTO_CGROUP: u64 = 1 << 33;
    let namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | network;
    let mut pidfd: RawFd = -1;
    // SAFETY: all zeroes is a valid `clone_args`.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (namespaces | libc::CLONE_PIDFD) as u64;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = group {
        arguments.flags |= INTO_CGROUP;
        arguments.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: without a stack and without shared memory this is a fork. This process has one thread, so the
    // child may go on with everything that it copied. The kernel writes the pidfd where it is told.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        // SAFETY: the kernel has just made this descriptor (close-on-exec) and nobody else knows it.
        _ => Ok(Some(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// The child's way: it becomes the command, or says why it could not and ends.
fn become_command(
    order: &Order,
    held: &Descriptors,
    extras: &[(Extra, OwnedFd)],
    mut to_monitor: io::PipeWriter,
) -> ! {
    let failure = match child::execute(&order.spec, &held.root, extras) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // If even this fails the monitor sees an exit code without a reason, and says so.
    let _ = serde_json::to_vec(&failure).map(|text| to_monitor.write_all(&text));
    // SAFETY: ends the process at once, which is always allowed.
    unsafe { libc::_exit(125) }
}

/// The monitor must not hold the output open: it ends when the command's processes have.
fn release_output() -> io::Result<()> {
    rustix::stdio::dup2_stdout(rustix::stdio::stdin())?;
    rustix::stdio::dup2_stderr(rustix::stdio::stdin())?;
    Ok(())
}

impl Started {
    /// Waits for the end, kills if the lifeline is cut before.
    fn wait(mut self, socket: &UnixStream) -> Result<Exit, Failure> {
        let over = self.watch(socket);
        if !matches!(over, Ok(true)) {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
        let status = self.reap().doing("wait for the command")?;
        let mut reason = Vec::new();
        self.failures.read_to_end(&mut reason).doing("read why the command could not be started")?;
        match serde_json::from_slice(&reason) {
            Ok(failure) => Err(failure),
            Err(_) => Ok(exit_of(&status)),
        }
    }

    /// True when the command is over, false when the lifeline is cut.
    fn watch(&self, socket: &UnixStream) -> io::Result<bool> {
        loop {
            let mut waiting = [PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
            match poll(&mut waiting, None) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) if !waiting[0].revents().is_empty() => return Ok(true),
                Ok(_) if !waiting[1].revents().is_empty() => return Ok(false),
                Ok(_) => {}
            }
        }
    }

    fn reap(&self) -> io::Result<WaitIdStatus> {
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => return Ok(status),
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn exit_of(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}
