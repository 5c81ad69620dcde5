//! `up`: images first, then one plan for everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use crate::build::remove_untagged;
use crate::cli::args::{Ansi, Create, Progress, Pull, Scale, Up};
use crate::cli::failure::{Failure, STOPPED};
use crate::cli::render::LogView;
use crate::cli::signals::Interrupts;
use crate::compose::{MOST_REPLICAS, Project};
use crate::engine::Docker;
use crate::oci::Credentials;
use crate::store::Store;
use crate::up::{
    Abort, Files, Finished, Foreground, Options, Plan, Recreate, foreground, observe, reconcile,
};

use super::cache::keep_small;
use super::down::{carry_out, timeout};
use super::project::chosen;
use super::supply::{Choice, Supplied, Supply, foresee, supply};
use super::{Context, Ended};

/// Builds what changed, and makes the engine's containers what the project says.
pub(in crate::cli) fn up(context: &mut Context<'_>, flags: &Up) -> Ended {
    context.trace(flags.trace.as_ref())?;
    if flags.menu == Some(true) {
        return Err(Failure::Usage("not supported yet: --menu".to_owned()));
    }
    let project = context.project(&flags.services)?;
    let options = options(context, flags)?;
    let engine = context.needed_engine()?;
    let store = context.store()?;
    let in_background = flags.detach || flags.no_start || flags.wait;
    let interrupts = Interrupts::catch(if in_background { 1 } else { 2 })?;
    let services = chosen(&project, &flags.services, !flags.no_deps);
    let files = files(context, &project, &services)?;
    let attached = attached_services(&project, &services, flags)?;
    let supply_with = Supply {
        store: &store,
        engine: &engine,
        project: &project,
        services: &services,
        choice: choice(flags),
        ages: Default::default(),
        cancel: &interrupts.stop,
    };
    if context.settings.dry_run {
        let (images, text) = foresee(context, &supply_with)?;
        let seen = observe(&engine, &project.name)?;
        let plan = reconcile(&project, &images, &files, &seen, &options).map_err(Failure::Mistakes)?;
        context.screen.result(&format!("{text}{plan}"));
        return Ok(ExitCode::SUCCESS);
    }
    let supplied = supplied(context, &supply_with, flags.quiet_build)?;
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
        let shown = Shown { services: &services, attached: &attached };
        in_foreground(context, &project, &plan, &engine, &interrupts, flags, &shown)
    })?;
    if supplied.sent && !flags.keep_old {
        forget_old(context, &store, &engine)?;
    }
    Ok(code)
}

/// Makes the containers and starts none.
pub(in crate::cli) fn create(context: &mut Context<'_>, flags: &Create) -> Ended {
    let flags = Up {
        no_start: true,
        build: flags.build,
        no_build: flags.no_build,
        force_recreate: flags.force_recreate,
        no_recreate: flags.no_recreate,
        pull: flags.pull,
        quiet_pull: flags.quiet_pull,
        remove_orphans: flags.remove_orphans,
        scale: flags.scale.clone(),
        yes: flags.yes,
        services: flags.services.clone(),
        ..Up::default()
    };
    up(context, &flags)
}

/// Changes how many containers services have.
pub(in crate::cli) fn scale(context: &mut Context<'_>, flags: &Scale) -> Ended {
    let services = scales(&flags.scales)?.into_keys().collect();
    let scale = flags.scales.clone();
    up(context, &Up { detach: true, no_deps: flags.no_deps, scale, services, ..Up::default() })
}

/// Where the images come from.
fn choice(flags: &Up) -> Choice {
    let build = flags.build || flags.pull == Some(Pull::Build);
    Choice { build, no_build: flags.no_build, pull: flags.pull, quiet_pull: flags.quiet_pull }
}

/// The services that `up` is about.
struct Shown<'s> {
    /// Those whose end counts.
    services: &'s [String],
    /// Those whose logs are shown.
    attached: &'s BTreeSet<String>,
}

/// The services whose logs are shown: those of `--attach`, else the named ones (none: all) but for those
/// with `attach: false`; less those of `--no-attach`.
fn attached_services(
    project: &Project,
    services: &[String],
    flags: &Up,
) -> Result<BTreeSet<String>, Failure> {
    let named = flags.attach.iter().chain(&flags.no_attach).chain(&flags.exit_code_from);
    if let Some(name) = named.into_iter().find(|name| !services.contains(*name)) {
        return Err(Failure::Usage(format!("`{name}` is none of the services that are started")));
    }
    let mut attached: BTreeSet<String> = if !flags.attach.is_empty() {
        flags.attach.iter().cloned().collect()
    } else {
        let named = match flags.services.as_slice() {
            [] => services.to_vec(),
            _ if flags.attach_dependencies => services.to_vec(),
            named => named.to_vec(),
        };
        let opted_out =
            |name: &String| project.services.get(name).is_some_and(|service| service.attach == Some(false));
        named.into_iter().filter(|name| !opted_out(name)).collect()
    };
    attached.retain(|name| !flags.no_attach.contains(name));
    Ok(attached)
}

/// The images of the services; `quiet`: without showing how they come about.
pub(super) fn supplied(context: &Context<'_>, with: &Supply<'_>, quiet: bool) -> Result<Supplied, Failure> {
    if quiet {
        context.screen.change(Progress::Quiet, Ansi::Auto, false);
    }
    let supplied = supply(context, with);
    if supplied.is_err() {
        keep_small(context, with.store);
    }
    let supplied = supplied?;
    if quiet {
        let settings = &context.settings;
        context.screen.change(settings.progress, settings.ansi, settings.status_on_stdout);
    }
    // What follows is not the build's; its summary stands before it.
    context.screen.finish();
    Ok(supplied)
}

/// What containers get from the project's files, and the user's logins where a service asks for them.
pub(super) fn files(context: &Context<'_>, project: &Project, services: &[String]) -> Result<Files, Failure> {
    let mut files = Files::read(project, services).map_err(Failure::Mistakes)?;
    if Files::needs_logins(project, services) {
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
        wait_timeout: flags.wait_timeout.map(Duration::from_secs),
        all_resources: context.global.all_resources,
        scale: scales(&flags.scale)?,
        timeout: timeout(flags.timeout),
    })
}

/// Carries the plan out and shows the containers' logs until they end or the user stops them.
fn in_foreground(
    context: &Context<'_>,
    project: &Project,
    plan: &Plan,
    engine: &Docker,
    interrupts: &Interrupts,
    flags: &Up,
    shown: &Shown<'_>,
) -> Ended {
    let view = LogView {
        width: longest(project, shown.attached),
        names: !flags.no_log_prefix,
        colour: !flags.no_color && context.screen.colours_stdout(),
    };
    let with = Foreground {
        engine,
        project,
        services: shown.services,
        attached: shown.attached,
        events: context.screen,
        cancel: &interrupts.stop,
        force: &interrupts.hurry,
        parallel: context.actions(engine),
        timeout: timeout(flags.timeout),
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
        (Some(service), _) => ended.iter().find(|ended| ended.source.service == *service),
        (None, Abort::OnExit) => ended.first(),
        (None, Abort::OnFailure) => ended.iter().find(|ended| ended.code != 0),
        (None, Abort::Never) => None,
    };
    // An exit code has eight bits.
    decisive.map(|ended| (ended.code & 0xff) as u8)
}

/// `SERVICE=N` each.
fn scales(texts: &[String]) -> Result<BTreeMap<String, u32>, Failure> {
    let pair = |text: &String| {
        let (service, count) = text.split_once('=')?;
        Some((service.to_owned(), count.parse().ok()?))
    };
    let wrong = |text: &String| Failure::Usage(format!("{text} is not of the form SERVICE=N"));
    let counted: BTreeMap<String, u32> =
        texts.iter().map(|text| pair(text).ok_or_else(|| wrong(text))).collect::<Result<_, _>>()?;
    match counted.iter().find(|(_, count)| **count > MOST_REPLICAS) {
        Some((service, count)) => Err(Failure::Usage(format!(
            "{service}={count} is more than {MOST_REPLICAS} containers of one service\nhelp: ask for fewer"
        ))),
        None => Ok(counted),
    }
}

/// The width of the longest name that a container of the project shows in the logs.
fn longest(project: &Project, attached: &BTreeSet<String>) -> usize {
    let services = project.services.iter().filter(|(name, _)| attached.contains(*name));
    let names = services.map(|(name, service)| match &service.container_name {
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
            source: Source {
                id: String::new(),
                label: label.to_owned(),
                service: label.rsplit_once('-').unwrap().0.to_owned(),
                index: 0,
            },
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
    fn logs_are_shown_of_what_was_asked_for() {
        let mut project = Project::default();
        for (name, attach) in [("db", None), ("web", None), ("quiet", Some(false))] {
            let service = crate::compose::Service { attach, ..Default::default() };
            project.services.insert(name.to_owned(), service);
        }
        let services = ["db", "quiet", "web"].map(str::to_owned);
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let shown = |flags: Up| {
            let attached = attached_services(&project, &services, &flags);
            attached.map(|names| names.into_iter().collect::<Vec<_>>().join(" ")).ok()
        };
        let web = || list(&["web"]);
        assert_eq!(shown(Up::default()).unwrap(), "db web");
        assert_eq!(shown(Up { services: web(), ..Up::default() }).unwrap(), "web");
        let with = Up { services: web(), attach_dependencies: true, ..Up::default() };
        assert_eq!(shown(with).unwrap(), "db web");
        assert_eq!(shown(Up { attach: list(&["quiet", "db"]), ..Up::default() }).unwrap(), "db quiet");
        assert_eq!(shown(Up { no_attach: list(&["db"]), ..Up::default() }).unwrap(), "web");
        assert_eq!(shown(Up { attach: list(&["nope"]), ..Up::default() }), None);
    }

    #[test]
    fn scales_are_pairs() {
        let texts = |texts: &[&str]| scales(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(texts(&["web=3"]).unwrap()["web"], 3);
        assert!(texts(&["web"]).is_err() && texts(&["web=-1"]).is_err());
        assert_eq!(texts(&["web=10000"]).unwrap()["web"], 10_000);
        assert!(texts(&["web=4294967295"]).is_err());
    }
}
