//! `stop`, `start`, `restart`, `kill`, `pause`, `unpause` and `rm`: containers that exist change whether they
//! run, or go. Nothing is built.

use std::process::ExitCode;
use std::time::Duration;

use crate::base::diag::Diagnostic;
use crate::base::event::{Event, Events};
use crate::cli::args::{Kill, Restart, Rm, Services, Start, Stop};
use crate::cli::failure::Failure;
use crate::cli::signals::Interrupts;
use crate::compose::Project;
use crate::up::{self, Action, Observed, Plan, StartOptions, observe};

use super::down::{carry_out, timeout};
use super::{Context, Ended};

/// Stops containers, dependents first.
pub(in crate::cli) fn stop(context: &mut Context<'_>, flags: &Stop) -> Ended {
    let timeout = timeout(flags.timeout);
    change(context, &flags.services, |project, seen| Ok(up::stop(project, seen, &flags.services, timeout)))
}

/// Starts containers that do not run, dependencies first.
pub(in crate::cli) fn start(context: &mut Context<'_>, flags: &Start) -> Ended {
    let options = StartOptions {
        services: flags.services.clone(),
        wait: flags.wait,
        wait_timeout: flags.wait_timeout.map(Duration::from_secs),
    };
    change(context, &flags.services, |project, seen| up::start(project, seen, &options))
}

/// Stops containers and starts them again.
pub(in crate::cli) fn restart(context: &mut Context<'_>, flags: &Restart) -> Ended {
    let (timeout, dependents) = (timeout(flags.timeout), !flags.no_deps);
    change(context, &flags.services, |project, seen| {
        Ok(up::restart(project, seen, &flags.services, dependents, timeout))
    })
}

/// Sends a signal to containers that run.
pub(in crate::cli) fn kill(context: &mut Context<'_>, flags: &Kill) -> Ended {
    let (services, signal, orphans) = (&flags.services, &flags.signal, flags.remove_orphans);
    change(context, services, |project, seen| Ok(up::kill(project, seen, services, signal, orphans)))
}

/// Freezes containers that run.
pub(in crate::cli) fn pause(context: &mut Context<'_>, flags: &Services) -> Ended {
    change(context, &flags.services, |_, seen| Ok(up::pause(seen, &flags.services)))
}

/// Lets frozen containers go on.
pub(in crate::cli) fn unpause(context: &mut Context<'_>, flags: &Services) -> Ended {
    change(context, &flags.services, |_, seen| Ok(up::unpause(seen, &flags.services)))
}

/// Removes containers that do not run, after asking.
pub(in crate::cli) fn rm(context: &mut Context<'_>, flags: &Rm) -> Ended {
    let (name, project) = context.named(&flags.services)?;
    let engine = context.needed_engine()?;
    let seen = observe(&engine, &name)?;
    let plan = up::remove(project.as_ref(), &seen, &flags.services, flags.stop, flags.volumes);
    if context.settings.dry_run {
        context.screen.result(&plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let going: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Remove { container, .. } => Some(container.name.as_str()),
            _ => None,
        })
        .collect();
    if going.is_empty() {
        context.screen.emit(Event::Notice("there are no stopped containers".to_owned()));
        return Ok(ExitCode::SUCCESS);
    }
    let question = format!("Going to remove {}\nAre you sure? [yN] ", going.join(", "));
    if !flags.force && !context.screen.confirm(&question)? {
        return Ok(ExitCode::SUCCESS);
    }
    carry_out(context, &plan, &engine, &Interrupts::catch(1)?.stop)?;
    Ok(ExitCode::SUCCESS)
}

/// Plans a change of what is there and carries it out.
fn change(
    context: &mut Context<'_>,
    services: &[String],
    plan: impl FnOnce(Option<&Project>, &Observed) -> Result<Plan, Vec<Diagnostic>>,
) -> Ended {
    let (name, project) = context.named(services)?;
    let engine = context.needed_engine()?;
    let seen = observe(&engine, &name)?;
    let plan = plan(project.as_ref(), &seen).map_err(Failure::Mistakes)?;
    if context.settings.dry_run {
        context.screen.result(&plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    carry_out(context, &plan, &engine, &Interrupts::catch(1)?.stop)?;
    Ok(ExitCode::SUCCESS)
}
