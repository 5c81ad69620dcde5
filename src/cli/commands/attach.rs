//! `attach`: the main process of a running container.

use crate::base::cancel::Cancel;
use crate::cli::args::Attach;
use crate::cli::failure::Failure;
use crate::cli::signals::{Interrupts, forwarding};
use crate::cli::terminal::Raw;
use crate::engine::{Closed, Container, DetachKeys, Docker, Engine, EngineError, State};
use crate::up::observe;

use super::session::{cut_off, ended, running, session};
use super::{Context, Ended};

/// Connects the user with a service's container; its exit code is ours.
pub(in crate::cli) fn attach(context: &mut Context<'_>, flags: &Attach) -> Ended {
    let (name, _) = context.named(&[])?;
    let keys = keys(flags.detach_keys.as_deref())?;
    let engine = context.needed_engine()?;
    let container = running(&observe(&engine, &name)?.containers, &flags.service, flags.index)?;
    match container.state {
        State::Paused => return Err(cannot("paused", "unpause it first")),
        State::Restarting => return Err(cannot("restarting", "wait until it is running")),
        _ => {}
    }
    if context.settings.dry_run {
        context.screen.result(&format!("container {}: attach (it was asked for)\n", container.name));
        return Ok(std::process::ExitCode::SUCCESS);
    }
    let context = &*context;
    match connect(context, &engine, &container, flags, keys) {
        Ok(closed) => ended(context, closed),
        Err(Failure::Engine(EngineError::Cancelled)) => Ok(cut_off()),
        Err(failure) => Err(failure),
    }
}

fn connect(
    context: &Context<'_>,
    engine: &Docker,
    container: &Container,
    flags: &Attach,
    keys: DetachKeys,
) -> Result<Closed, Failure> {
    let terminal = engine.terminal(&container.id)?;
    let input = terminal.stdin_open && !flags.no_stdin;
    let mut output = |stream, bytes: &[u8]| context.screen.pass_on(stream, bytes);
    if terminal.tty || !flags.sig_proxy {
        // Keys reach the process as they are, or signals are only about us.
        let interrupts = Interrupts::catch(1)?;
        let session = session(&mut output, input, terminal.tty, keys, Some(&interrupts.stop));
        let raw = (terminal.tty && input).then(Raw::enter).transpose().map_err(Failure::Terminal)?;
        let closed = engine.attach(&container.id, session, &mut || Ok(()));
        drop(raw);
        return Ok(closed?);
    }
    let leave = Cancel::new().map_err(Failure::Terminal)?;
    // One that has just ended needs no signal any more.
    let send = |signal: &str| drop(engine.kill(&container.id, signal));
    let session = session(&mut output, input, false, keys, Some(&leave));
    Ok(forwarding(&send, &|| leave.cancel(), || engine.attach(&container.id, session, &mut || Ok(())))??)
}

fn keys(text: Option<&str>) -> Result<DetachKeys, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(DetachKeys::default()) };
    DetachKeys::parse(text).map_err(|key| {
        Failure::Usage(format!(
            "--detach-keys {text}: `{key}` is no key (a letter, `ctrl-` with a letter, DEL)"
        ))
    })
}

fn cannot(state: &str, advice: &str) -> Failure {
    Failure::Usage(format!("You cannot attach to a {state} container, {advice}"))
}
