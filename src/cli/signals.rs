//! Ctrl-C and SIGTERM.
//!
//! The first signal asks the command to stop and the second to hurry (for `up`: to kill containers instead
//! of stopping them). Whoever sends one more than the command is prepared for ends the process at once;
//! what it was doing is then cleaned up by the kernel and by the next run.

use std::io;
use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::base::cancel::Cancel;

use super::failure::{Failure, STOPPED};

/// The flags that signals set, in order.
#[derive(Debug, Clone)]
pub(super) struct Interrupts {
    /// Set by the first.
    pub(super) stop: Arc<Cancel>,
    /// Set by the second.
    pub(super) hurry: Arc<Cancel>,
}

impl Interrupts {
    /// Catches the signals from now on; `served` of them set flags (1 or 2), the next ends the process.
    pub(super) fn catch(served: usize) -> Result<Self, Failure> {
        Self::try_catch(served).map_err(Failure::Signals)
    }

    fn try_catch(served: usize) -> io::Result<Self> {
        let flags = Self { stop: Arc::new(Cancel::new()?), hurry: Arc::new(Cancel::new()?) };
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
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
}

#[expect(clippy::exit, reason = "the user asked again: now means now")]
fn leave() {
    std::process::exit(i32::from(STOPPED));
}
