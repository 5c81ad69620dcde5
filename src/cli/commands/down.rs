//! `down`.

use std::process::ExitCode;
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::cli::args::{Down, RemoveImages};
use crate::cli::failure::Failure;
use crate::cli::signals::Interrupts;
use crate::engine::{Docker, Engine};
use crate::up::{DownOptions, Execution, Plan, down as planned, execute, observe, removable_images};

use super::{Context, Ended};

/// Takes the project down.
pub(in crate::cli) fn down(context: &mut Context<'_>, flags: &Down) -> Ended {
    let (name, project) = context.named(&flags.services)?;
    let engine = context.needed_engine()?;
    let seen = observe(&engine, &name)?;
    let images = match (flags.rmi, &project) {
        (Some(which), Some(project)) => {
            removable_images(project, &engine.images()?, which == RemoveImages::All)
        }
        (Some(_), None) => {
            return Err(Failure::Usage("--rmi needs the compose file: it names the images".to_owned()));
        }
        (None, _) => Vec::new(),
    };
    let options = DownOptions {
        services: flags.services.clone(),
        remove_orphans: context.settings.orphans_go(flags.remove_orphans).map_err(Failure::Usage)?,
        volumes: flags.volumes,
        images,
        timeout: timeout(flags.timeout),
    };
    let plan = planned(&name, project.as_ref(), &seen, &options);
    if context.settings.dry_run {
        context.screen.result(&plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    if plan.is_empty() {
        context.screen.warning(&format!("project {name} has nothing to remove"));
    }
    let interrupts = Interrupts::catch(1)?;
    carry_out(context, &plan, &engine, &interrupts.stop)?;
    Ok(ExitCode::SUCCESS)
}

/// Carries a plan out and shows its steps.
pub(super) fn carry_out(
    context: &Context<'_>,
    plan: &Plan,
    engine: &Docker,
    cancel: &Cancel,
) -> Result<(), Failure> {
    let execution = Execution {
        engine,
        events: context.screen,
        cancel,
        parallel: context.actions(engine),
        kill_when_cancelled: false,
        started: &|_| {},
        said: &|_, _| {},
    };
    Ok(execute(plan, &execution)?)
}

/// How long a container may take to stop.
pub(super) fn timeout(seconds: Option<i64>) -> Option<Duration> {
    let seconds = seconds?;
    // A negative number, as with docker: as long as it takes.
    Some(u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs))
}
