//! The user's terminal: its size, and raw mode while keys belong to a process in a container.
//!
//! In raw mode every key goes to that process, Ctrl-C too. The settings of before are kept in one place and
//! put back on every way out: when [`Raw`] is dropped, in a panic, on a signal that ends us, and by
//! [`restore`], which whoever leaves the process at once calls first. Signals that are passed on to a
//! process in a container do not end us: [`Spared`] says so.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGQUIT};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::engine::{AskSize, TerminalSize};

/// The settings of before, while the terminal is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// How many [`Spared`] live.
static SPARED: AtomicUsize = AtomicUsize::new(0);

/// Whether somebody types on a terminal.
pub(super) fn stdin_is_terminal() -> bool {
    isatty(io::stdin())
}

/// Asks for the size of the terminal that the output goes to.
pub(super) fn size() -> AskSize {
    Arc::new(|| {
        let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
        let known = size.ws_col > 0 && size.ws_row > 0;
        known.then_some(TerminalSize { columns: size.ws_col, rows: size.ws_row })
    })
}

/// A terminal in raw mode for as long as this lives.
#[derive(Debug)]
pub(super) struct Raw(());

impl Raw {
    /// Makes the terminal of standard input raw; nothing happens where it is none.
    pub(super) fn enter() -> io::Result<Self> {
        if !stdin_is_terminal() {
            return Ok(Self(()));
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        watch()?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the settings of before back, if there are any.
pub(super) fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Where the terminal is gone there is nothing to put right.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// While this lives, SIGHUP and SIGQUIT are somebody else's and do not end the process. To be made after
/// that somebody listens, and to be dropped before they stop.
#[derive(Debug)]
pub(super) struct Spared(());

impl Spared {
    /// Leaves the signals to somebody else.
    pub(super) fn begin() -> Self {
        SPARED.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Spared {
    fn drop(&mut self) {
        SPARED.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether the signals that end us are somebody else's now.
fn spared() -> bool {
    SPARED.load(Ordering::SeqCst) > 0
}

/// Sees to it, once, that a panic and the signals that nobody else catches do not leave a raw terminal.
fn watch() -> io::Result<()> {
    static WATCHED: Once = Once::new();
    let mut result = Ok(());
    WATCHED.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            told(panic);
        }));
        result = Signals::new([SIGHUP, SIGQUIT]).and_then(|mut signals| {
            let wait = move || {
                for signal in signals.forever().filter(|_| !spared()) {
                    restore();
                    let _ = emulate_default_handler(signal);
                }
            };
            std::thread::Builder::new().name("terminal".to_owned()).spawn(wait).map(drop)
        });
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_spared_until_the_last_one_is_dropped() {
        let (first, second) = (Spared::begin(), Spared::begin());
        drop(first);
        assert!(spared());
        drop(second);
        assert!(!spared());
    }
}
