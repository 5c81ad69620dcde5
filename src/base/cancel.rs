//! One flag that stops a command: set by Ctrl-C or by a failure that makes the rest pointless.
//!
//! Work that loops asks [`Cancel::is_cancelled`]; work that waits polls the descriptor beside its own.
//! Setting it is safe in a signal handler. It is never unset.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::EventfdFlags;

/// A flag and an eventfd that becomes readable, for good, when the flag is set.
#[derive(Debug)]
pub struct Cancel {
    flag: AtomicBool,
    event: OwnedFd,
}

impl Cancel {
    /// A flag that is not set. Fails only if the process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { flag: AtomicBool::new(false), event })
    }

    /// Sets the flag. Safe in a signal handler; setting it again changes nothing.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::SeqCst);
        // A full counter means that the descriptor is readable already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }
}

impl AsFd for Cancel {
    /// Readable once the flag is set. Poll it; do not read it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::time::Timespec;

    use super::*;

    #[test]
    fn cancelling_wakes_a_poll_and_stays() {
        let cancel = Cancel::new().unwrap();
        let readable = || {
            let mut fds = [PollFd::new(&cancel, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
        };
        assert!(!cancel.is_cancelled() && !readable());
        cancel.cancel();
        cancel.cancel();
        assert!(cancel.is_cancelled() && readable() && readable());
    }
}
