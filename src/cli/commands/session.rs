//! What `exec`, `run` and `attach` have in common: which container, whether there is a terminal, and the
//! session on this side of it.

use std::io::{self, Read};
use std::process::ExitCode;

use crate::base::cancel::Cancel;
use crate::cli::failure::{Failure, STOPPED};
use crate::cli::terminal;
use crate::engine::{Closed, Container, DetachKeys, Output, Session};
use crate::up::{Members, members};

use super::{Context, Ended};

/// Whether a process gets a terminal: as the flags say, else if somebody sits before one on both sides. A
/// terminal for a process that nobody types to would take its input for keys.
pub(super) fn wants_tty(
    context: &Context<'_>,
    no_tty: bool,
    tty: Option<bool>,
    interactive: bool,
) -> Result<bool, Failure> {
    let (typed, shown) = (terminal::stdin_is_terminal(), context.screen.stdout_is_terminal());
    match (no_tty, tty) {
        (true, Some(true)) => Err(Failure::Usage("--tty and --no-tty can't be used together".to_owned())),
        (_, Some(true)) if interactive && !typed => Err(Failure::Usage(
            "the input device is not a TTY: standard input is no terminal (-T gives the command none)"
                .to_owned(),
        )),
        (_, Some(tty)) => Ok(tty),
        (true, None) => Ok(false),
        (false, None) => Ok(shown && (typed || !interactive)),
    }
}

/// The user's side of a process. `input`: whether it reads what is typed or piped.
pub(super) fn session<'s>(
    output: &'s mut Output<'s>,
    input: bool,
    tty: bool,
    detach: DetachKeys,
    cancel: Option<&'s Cancel>,
) -> Session<'s> {
    let input = input.then(|| Box::new(io::stdin()) as Box<dyn Read + Send>);
    Session { input, output, tty, size: tty.then(terminal::size), detach, cancel }
}

/// The exit code of a command that stands for a process. Whoever left it is told so.
pub(super) fn ended(context: &Context<'_>, closed: Closed) -> Ended {
    match closed {
        Closed::Exited(code) => Ok(exit_code(code)),
        Closed::Detached => {
            context.screen.error_bytes(b"read escape sequence\n");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// An exit code has eight bits.
pub(super) fn exit_code(code: i64) -> ExitCode {
    ExitCode::from((code & 0xff) as u8)
}

/// The running container of a service, by its number if that is not 0.
pub(super) fn running(containers: &[Container], service: &str, index: u32) -> Result<Container, Failure> {
    let wanted = Members { one_off: true, running: true, index };
    match members(containers, service, &wanted).into_iter().next() {
        Some(container) => Ok(container.clone()),
        None => Err(Failure::Usage(not_running(service, index))),
    }
}

/// That a service has no such container.
pub(super) fn not_running(service: &str, index: u32) -> String {
    match index {
        0 => format!("service \"{service}\" is not running"),
        index => format!("service \"{service}\" is not running container #{index}"),
    }
}

/// What a command whose session was cut off by a signal ends with.
pub(super) fn cut_off() -> ExitCode {
    ExitCode::from(STOPPED)
}
