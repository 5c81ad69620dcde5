//! `up`: images first, then one plan for everything else.

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::build::remove_untagged;
use crate::cli::args::{Ansi, Progress, Up};
use crate::cli::failure::{Failure, STOPPED};
use crate::cli::render::LogView;
use crate::cli::signals::Interrupts;
use crate::compose::Project;
use crate::engine::Docker;
use crate::oci::Credentials;
use crate::store::Store;
use crate::up::{
    Abort, Files, Finished, Foreground, Options, Plan, Recreate, foreground, observe, reconcile,
};

use super::cache::keep_small;
use super::down::{carry_out, timeout};
use super::images::{Supply, foresee, supply};
use super::project::chosen;
use super::{Context, Ended};

/// Builds what changed, and makes the engine's containers what the project says.
pub(in crate::cli) fn up(context: &mut Context<'_>, flags: &Up) -> Ended {
    context.trace(flags.trace.as_ref())?;
    let project = context.project(&flags.services)?;
    let options = options(context, flags)?;
    let files = files(context, &project)?;
    let engine = context.needed_engine()?;
    let store = context.store()?;
    let in_background = flags.detach || flags.no_start || flags.wait;
    let interrupts = Interrupts::catch(if in_background { 1 } else { 2 })?;
    let services = chosen(&project, &flags.services, !flags.no_deps);
    let supply_with = Supply {
        store: &store,
        engine: &engine,
        project: &project,
        services: &services,
        cancel: &interrupts.stop,
    };
    if context.settings.dry_run {
        let (images, text) = foresee(context, &supply_with, flags)?;
        let seen = observe(&engine, &project.name)?;
        let plan = reconcile(&project, &images, &files, &seen, &options).map_err(Failure::Mistakes)?;
        context.screen.result(&format!("{text}{plan}"));
        return Ok(ExitCode::SUCCESS);
    }
    if flags.quiet_build {
        context.screen.change(Progress::Quiet, Ansi::Auto, false);
    }
    let supplied = match supply(context, &supply_with, flags) {
        Ok(supplied) => supplied,
        Err(failure) => {
            keep_small(context, &store);
            return Err(failure);
        }
    };
    if flags.quiet_build {
        let settings = &context.settings;
        context.screen.change(settings.progress, settings.ansi, settings.status_on_stdout);
    }
    // What follows is not the build's; its summary stands before it.
    context.screen.finish();
    let seen = observe(&engine, &project.name)?;
    let plan = reconcile(&project, &supplied.images, &files, &seen, &options).map_err(Failure::Mistakes)?;
    let context = &*context;
    let code = std::thread::scope(|scope| {
        // A collector need not wait for what follows, and nothing below needs a piece of the store.
        if store.has_published() {
            scope.spawn(|| {
                keep_small(context, &store);
                store.release();
            });
        } else {
            store.release();
        }
        if in_background {
            carry_out(context, &plan, &engine, &interrupts.stop)?;
            return Ok(ExitCode::SUCCESS);
        }
        attached(context, &project, &plan, &engine, &interrupts, flags)
    })?;
    if supplied.sent && !flags.keep_old {
        forget_old(context, &store, &engine)?;
    }
    Ok(code)
}

/// What containers get from the project's files, and the user's logins where a service asks for them.
pub(super) fn files(context: &Context<'_>, project: &Project) -> Result<Files, Failure> {
    let mut files = Files::read(project).map_err(Failure::Mistakes)?;
    if Files::needs_logins(project) {
        let folder = context.settings.docker_config.as_deref();
        let logins = folder.map_or_else(Credentials::none, Credentials::from_folder);
        files.give_logins(logins.as_config()?);
    }
    Ok(files)
}

fn options(context: &Context<'_>, flags: &Up) -> Result<Options, Failure> {
    let recreate = |always| match (always, flags.no_recreate) {
        (true, _) => Recreate::Always,
        (_, true) => Recreate::Never,
        _ => Recreate::Diverged,
    };
    Ok(Options {
        services: flags.services.clone(),
        no_dependencies: flags.no_deps,
        recreate: recreate(flags.force_recreate),
        recreate_dependencies: recreate(flags.always_recreate_deps),
        renew_anonymous_volumes: flags.renew_anon_volumes,
        remove_orphans: context.settings.orphans_go(flags.remove_orphans).map_err(Failure::Usage)?,
        ignore_orphans: context.settings.ignore_orphans,
        start: !flags.no_start,
        wait: flags.wait,
        scale: scale(&flags.scale)?,
        timeout: timeout(flags.timeout)?,
    })
}

/// Carries the plan out and shows the containers' logs until they end or the user stops them.
fn attached(
    context: &Context<'_>,
    project: &Project,
    plan: &Plan,
    engine: &Docker,
    interrupts: &Interrupts,
    flags: &Up,
) -> Ended {
    let view = LogView {
        width: longest(project),
        names: !flags.no_log_prefix,
        colour: !flags.no_color && context.screen.colours_stdout(),
    };
    let with = Foreground {
        engine,
        project,
        services: &flags.services,
        events: context.screen,
        cancel: &interrupts.stop,
        force: &interrupts.hurry,
        parallel: context.parallel(),
        timeout: timeout(flags.timeout)?,
        timestamps: flags.timestamps,
        abort: abort(flags),
    };
    let finished = foreground(plan, &with, &mut |line| context.screen.log(&view, &line))?;
    let code = exit_code(&finished, flags);
    Ok(code
        .map_or(if finished.stopped { ExitCode::from(STOPPED) } else { ExitCode::SUCCESS }, ExitCode::from))
}

/// What ends the whole project.
const fn abort(flags: &Up) -> Abort {
    if flags.abort_on_container_exit || flags.exit_code_from.is_some() {
        Abort::OnExit
    } else if flags.abort_on_container_failure {
        Abort::OnFailure
    } else {
        Abort::Never
    }
}

/// The code of the container that the command stands for, where the flags name one: that of a service, or
/// of the container whose end ended everything.
fn exit_code(finished: &Finished, flags: &Up) -> Option<u8> {
    let ended = &finished.ended;
    let decisive = match (&flags.exit_code_from, abort(flags)) {
        (Some(service), _) => ended.iter().find(|ended| {
            let label = &ended.source.label;
            label.rsplit_once('-').map_or(label.as_str(), |(name, _)| name) == service
        }),
        (None, Abort::OnExit) => ended.first(),
        (None, Abort::OnFailure) => ended.iter().find(|ended| ended.code != 0),
        (None, Abort::Never) => None,
    };
    // An exit code has eight bits.
    decisive.map(|ended| (ended.code & 0xff) as u8)
}

/// `SERVICE=N` each.
fn scale(texts: &[String]) -> Result<BTreeMap<String, u32>, Failure> {
    let pair = |text: &String| {
        let (service, count) = text.split_once('=')?;
        Some((service.to_owned(), count.parse().ok()?))
    };
    let wrong = |text: &String| Failure::Usage(format!("--scale {text} is not of the form SERVICE=N"));
    texts.iter().map(|text| pair(text).ok_or_else(|| wrong(text))).collect()
}

/// The width of the longest name that a container of the project shows in the logs.
fn longest(project: &Project) -> usize {
    let names = project.services.iter().map(|(name, service)| match &service.container_name {
        Some(name) => name.chars().count(),
        None => name.chars().count() + "-1".len(),
    });
    names.max().unwrap_or(0)
}

/// Removes the images that new ones took the names of.
fn forget_old(context: &Context<'_>, store: &Store, engine: &Docker) -> Result<(), Failure> {
    remove_untagged(store, engine, &context.engine_name())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::{Ended, Source};

    #[test]
    fn the_exit_code_is_that_of_the_container_that_was_named() {
        let ended = |label: &str, code| Ended {
            source: Source { id: String::new(), label: label.to_owned(), index: 0 },
            code,
        };
        let finished = Finished { ended: vec![ended("db-1", 0), ended("my-web-2", 3)], stopped: false };
        let code = |flags: Up| exit_code(&finished, &flags);
        assert_eq!(code(Up::default()), None);
        assert_eq!(code(Up { abort_on_container_exit: true, ..Up::default() }), Some(0));
        assert_eq!(code(Up { abort_on_container_failure: true, ..Up::default() }), Some(3));
        assert_eq!(code(Up { exit_code_from: Some("my-web".to_owned()), ..Up::default() }), Some(3));
    }

    #[test]
    fn scales_are_pairs() {
        let texts = |texts: &[&str]| scale(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(texts(&["web=3"]).unwrap()["web"], 3);
        assert!(texts(&["web"]).is_err() && texts(&["web=-1"]).is_err());
    }
}
