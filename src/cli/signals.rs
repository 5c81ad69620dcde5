//! Ctrl-C and SIGTERM.
//!
//! The first signal asks the command to stop and the second to hurry (for `up`: to kill containers instead
//! of stopping them). Whoever sends one more than the command is prepared for ends the process at once;
//! what it was doing is then cleaned up by the kernel and by the next run.

use std::io;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};

use crate::base::cancel::Cancel;

use super::failure::{Failure, STOPPED};
use super::terminal;

/// The signals that a process in a container gets instead of us, by the names that an engine knows.
const FORWARDED: [(i32, &str); 6] = [
    (SIGHUP, "SIGHUP"),
    (SIGINT, "SIGINT"),
    (SIGQUIT, "SIGQUIT"),
    (SIGTERM, "SIGTERM"),
    (SIGUSR1, "SIGUSR1"),
    (SIGUSR2, "SIGUSR2"),
];

/// How often a process may be asked to end before it is no longer asked.
const PATIENCE: usize = 3;

/// The flags that signals set, in order.
#[derive(Debug, Clone)]
pub(super) struct Interrupts {
    /// Set by the first.
    pub(super) stop: Arc<Cancel>,
    /// Set by the second.
    pub(super) hurry: Arc<Cancel>,
    caught: Handle,
}

impl Interrupts {
    /// Catches the signals from now on; `served` of them set flags (1 or 2), the next ends the process.
    pub(super) fn catch(served: usize) -> Result<Self, Failure> {
        Self::try_catch(served).map_err(Failure::Signals)
    }

    fn try_catch(served: usize) -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let caught = signals.handle();
        let flags = Self { stop: Arc::new(Cancel::new()?), hurry: Arc::new(Cancel::new()?), caught };
        let set = [Arc::clone(&flags.stop), Arc::clone(&flags.hurry)];
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for count in 0.. {
                if signals.forever().next().is_none() {
                    return;
                }
                match set.iter().take(served).nth(count) {
                    Some(flag) => flag.cancel(),
                    None => leave(),
                }
            }
        })?;
        Ok(flags)
    }

    /// Catches them no longer: from now on they are somebody else's.
    pub(super) fn release(&self) {
        self.caught.close();
    }
}

/// Passes signals on by `send` while `work` runs, which do not end us then. Who has asked for the end three times is not asked to
/// wait any longer: `give_up` is called then.
pub(super) fn forwarding<T>(
    send: &(dyn Fn(&str) + Sync),
    give_up: &(dyn Fn() + Sync),
    work: impl FnOnce() -> T,
) -> Result<T, Failure> {
    let mut signals = Signals::new(FORWARDED.map(|(signal, _)| signal)).map_err(Failure::Signals)?;
    let caught = signals.handle();
    Ok(std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut ends = 0;
            for signal in signals.forever() {
                ends += usize::from(matches!(signal, SIGINT | SIGTERM));
                let name = FORWARDED.iter().find(|(number, _)| *number == signal).map(|(_, name)| *name);
                match name {
                    _ if ends >= PATIENCE => give_up(),
                    Some(name) => send(name),
                    None => {}
                }
            }
        });
        let closed = (terminal::Spared::begin(), Closes(caught));
        let result = work();
        drop(closed);
        result
    }))
}

/// Ends the thread that waits for signals, also when `work` panics.
struct Closes(Handle);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[expect(clippy::exit, reason = "the user asked again: now means now")]
fn leave() {
    terminal::restore();
    std::process::exit(i32::from(STOPPED));
}
