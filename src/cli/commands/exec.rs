//! `exec`: a command in a running container.

use std::process::ExitCode;

use crate::cli::args::Exec;
use crate::cli::failure::Failure;
use crate::cli::signals::Interrupts;
use crate::cli::terminal::Raw;
use crate::engine::{Closed, DetachKeys, Engine, EngineError, ExecSpec};
use crate::up::observe;

use super::session::{cut_off, ended, running, session, wants_tty};
use super::{Context, Ended};

/// Runs a command in a service's container; its exit code is ours.
pub(in crate::cli) fn exec(context: &mut Context<'_>, flags: &Exec) -> Ended {
    let (name, _) = context.named(&[])?;
    if context.settings.dry_run {
        return Err(Failure::Usage("interactive exec is not supported in dry-run mode".to_owned()));
    }
    let engine = context.needed_engine()?;
    let container = running(&observe(&engine, &name)?.containers, flags.service(), flags.index)?;
    let tty = wants_tty(context, flags.no_tty, flags.tty, flags.interactive && !flags.detach)?;
    let spec = spec(flags, &|name| context.environment.get(name).cloned());
    let interrupts = Interrupts::catch(1)?;
    let mut output = |stream, bytes: &[u8]| context.screen.pass_on(stream, bytes);
    let input = flags.interactive && !flags.detach;
    let session = session(&mut output, input, tty, DetachKeys::default(), Some(&interrupts.stop));
    let raw = (tty && input).then(Raw::enter).transpose().map_err(Failure::Terminal)?;
    let closed = engine.exec(&container.name, &spec, session);
    drop(raw);
    match closed {
        Ok(Closed::Detached) if flags.detach => Ok(ExitCode::SUCCESS),
        Ok(closed) => ended(context, closed),
        Err(EngineError::Cancelled) => Ok(cut_off()),
        Err(error) => Err(error.into()),
    }
}

fn spec(flags: &Exec, variable: &dyn Fn(&str) -> Option<String>) -> ExecSpec {
    // A name that is set nowhere is taken away.
    let one = |text: &String| match (text.contains('='), variable(text)) {
        (false, Some(value)) => format!("{text}={value}"),
        _ => text.clone(),
    };
    ExecSpec {
        command: flags.command().to_vec(),
        env: flags.env.iter().map(one).collect(),
        user: flags.user.clone(),
        working_dir: flags.workdir.clone(),
        privileged: flags.privileged,
        detach: flags.detach,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_alone_take_their_values_from_here() {
        let env = ["A=1", "HOME", "NONE"].map(str::to_owned).to_vec();
        let flags = Exec { env, ..Exec::default() };
        let found = spec(&flags, &|name| (name == "HOME").then(|| "/h".to_owned()));
        assert_eq!(found.env, ["A=1", "HOME=/h", "NONE"]);
    }
}
