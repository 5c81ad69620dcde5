//! `wait`.

use std::process::ExitCode;

use crate::cli::args::Wait;
use crate::cli::failure::Failure;
use crate::cli::signals::Interrupts;
use crate::up::{DownOptions, down, observe, ps, wait_all};

use super::down::carry_out;
use super::{Context, Ended};

/// Waits until the running containers of the services have ended; their last exit code is the command's.
pub(in crate::cli) fn wait(context: &mut Context<'_>, flags: &Wait) -> Ended {
    let (name, project) = context.named(&flags.services)?;
    let engine = context.needed_engine()?;
    let seen = observe(&engine, &name)?;
    let running = ps(&seen.containers, &flags.services, false);
    if running.is_empty() {
        let services = flags.services.join(", ");
        return Err(Failure::Usage(format!("project {name} has no running container of {services}")));
    }
    if context.settings.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let interrupts = Interrupts::catch(1)?;
    let ids: Vec<_> = running.iter().map(|row| row.id.as_str()).collect();
    let screen = context.screen;
    let mut told =
        |id: &str, code: i64| screen.result(&format!("container \"{id}\" exited with status code {code}\n"));
    let Some(code) = wait_all(&engine, &ids, &mut told, &interrupts.stop)? else {
        return Err(Failure::Stopped);
    };
    if flags.down_project {
        let options = DownOptions { remove_orphans: true, ..DownOptions::default() };
        let plan = down(&name, project.as_ref(), &observe(&engine, &name)?, &options);
        carry_out(context, &plan, &engine, &interrupts.stop)?;
    }
    Ok(ExitCode::from(u8::try_from(code.rem_euclid(256)).unwrap_or(1)))
}
