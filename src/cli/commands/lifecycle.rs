//! `stop`, `start`, `restart`, `kill`, `pause` and `unpause`: containers that exist change whether they run. Nothing is built.

use std::process::ExitCode;

use crate::cli::args::{Kill, Services, Start, Stop};
use crate::cli::signals::Interrupts;
use crate::compose::Project;
use crate::up::{self, Observed, Plan, observe};

use super::down::{carry_out, timeout};
use super::{Context, Ended};

/// Stops containers, dependents first.
pub(in crate::cli) fn stop(context: &mut Context<'_>, flags: &Stop) -> Ended {
    let timeout = timeout(flags.timeout)?;
    change(context, &flags.services, |project, seen| up::stop(project, seen, &flags.services, timeout))
}

/// Starts containers that do not run, dependencies first.
pub(in crate::cli) fn start(context: &mut Context<'_>, flags: &Start) -> Ended {
    change(context, &flags.services, |_, seen| up::start(seen, &flags.services))
}

/// Stops containers and starts them again.
pub(in crate::cli) fn restart(context: &mut Context<'_>, flags: &Stop) -> Ended {
    let timeout = timeout(flags.timeout)?;
    change(context, &flags.services, |project, seen| up::restart(project, seen, &flags.services, timeout))
}

/// Sends a signal to containers that run.
pub(in crate::cli) fn kill(context: &mut Context<'_>, flags: &Kill) -> Ended {
    let (services, signal, orphans) = (&flags.services, &flags.signal, flags.remove_orphans);
    change(context, services, |project, seen| up::kill(project, seen, services, signal, orphans))
}

/// Freezes containers that run.
pub(in crate::cli) fn pause(context: &mut Context<'_>, flags: &Services) -> Ended {
    change(context, &flags.services, |_, seen| up::pause(seen, &flags.services))
}

/// Lets frozen containers go on.
pub(in crate::cli) fn unpause(context: &mut Context<'_>, flags: &Services) -> Ended {
    change(context, &flags.services, |_, seen| up::unpause(seen, &flags.services))
}

/// Plans a change of what is there and carries it out.
fn change(
    context: &mut Context<'_>,
    services: &[String],
    plan: impl FnOnce(Option<&Project>, &Observed) -> Plan,
) -> Ended {
    let (name, project) = context.named(services)?;
    let engine = context.needed_engine()?;
    let seen = observe(&engine, &name)?;
    let plan = plan(project.as_ref(), &seen);
    if context.settings.dry_run {
        context.screen.result(&plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    carry_out(context, &plan, &engine, &Interrupts::catch(1)?.stop)?;
    Ok(ExitCode::SUCCESS)
}
