//! `run`: a container that runs once, made of a service and of what the flags say.
//!
//! Images, networks, volumes and the services that it depends on come about as in `up`; then the container
//! is made, the user's streams are connected to it, and only then it is started. Signals are the
//! container's from there on. A container that never started is removed.

use std::collections::BTreeMap;
use std::process::ExitCode;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::base::cancel::Cancel;
use crate::base::event::Silent;
use crate::cli::args::{Ansi, Progress, Pull, Run};
use crate::cli::failure::Failure;
use crate::cli::signals::{Interrupts, forwarding};
use crate::cli::terminal::{self, Raw};
use crate::compose::{Project, env_file, short_mount, short_ports};
use crate::engine::{Closed, Container, DetachKeys, Docker, Engine, EngineError};
use crate::store::Store;
use crate::up::{Execution, OneOff, Options, Plan, UpError, execute, observe, post_start, reconcile_one_off};

use super::cache::keep_small;
use super::down::carry_out;
use super::project::chosen;
use super::session::{exit_code, session, wants_tty};
use super::supply::{Choice, Supply, foresee};
use super::up::{files, supplied};
use super::{Context, Ended};

/// Runs a command in a new container of a service; its exit code is ours.
pub(in crate::cli) fn run(context: &mut Context<'_>, flags: &Run) -> Ended {
    let services = &[flags.service().to_owned()];
    let described = context.project(services)?;
    if flags.quiet {
        context.screen.change(Progress::Quiet, Ansi::Auto, false);
    }
    let one = one_off(context, flags)?;
    let project = one.project(&described);
    let engine = context.needed_engine()?;
    let store = context.store()?;
    let interrupts = Interrupts::catch(1)?;
    let needed = chosen(&project, services, !flags.no_deps);
    let files = files(context, &project, &needed)?;
    let build = flags.build || flags.pull == Some(Pull::Build);
    let choice = Choice { build, no_build: false, pull: flags.pull, quiet_pull: flags.quiet_pull };
    let with = Supply {
        store: &store,
        engine: &engine,
        project: &project,
        services: &needed,
        choice,
        ages: Default::default(),
        cancel: &interrupts.stop,
    };
    let options = options(context, flags)?;
    if context.settings.dry_run {
        let (images, text) = foresee(context, &with)?;
        let seen = observe(&engine, &project.name)?;
        let plan = reconcile_one_off(&project, &images, &files, &seen, &options, &one);
        context.screen.result(&format!("{text}{}", plan.map_err(Failure::Mistakes)?));
        return Ok(ExitCode::SUCCESS);
    }
    let images = supplied(context, &with, flags.quiet || flags.quiet_build)?.images;
    if flags.quiet {
        context.screen.change(Progress::Quiet, Ansi::Auto, false);
    }
    let seen = observe(&engine, &project.name)?;
    let plan = reconcile_one_off(&project, &images, &files, &seen, &options, &one);
    let container = made(context, &plan.map_err(Failure::Mistakes)?, &engine, &one, &interrupts)?;
    let work = Work { context, engine: &engine, project: &project, one: &one, container: &container };
    if flags.detach {
        release(context, &store);
        work.start().inspect_err(|_| work.discard())?;
        context.screen.result(&format!("{}\n", container.id));
        return Ok(ExitCode::SUCCESS);
    }
    // What the process says stands after it.
    context.screen.finish();
    release(context, &store);
    interrupts.release();
    if interrupts.stop.is_cancelled() {
        work.discard();
        return Err(Failure::Stopped);
    }
    work.connected()
}

/// Lets the store go: the container may run for days.
fn release(context: &Context<'_>, store: &Store) {
    if store.has_published() {
        keep_small(context, store);
    }
    store.release();
}

/// Carries the plan out; the container that it made.
fn made(
    context: &Context<'_>,
    plan: &Plan,
    engine: &Docker,
    one: &OneOff,
    interrupts: &Interrupts,
) -> Result<Container, Failure> {
    carry_out(context, plan, engine, &interrupts.stop)?;
    let made = engine.containers(&[&one.label()])?.into_iter().next();
    made.ok_or_else(|| {
        let message = "it is gone although it was made".to_owned();
        EngineError::NotFound { action: format!("run {}", one.service), message }.into()
    })
}

/// A container that is made and has not started.
struct Work<'w> {
    context: &'w Context<'w>,
    engine: &'w Docker,
    project: &'w Project,
    one: &'w OneOff,
    container: &'w Container,
}

impl Work<'_> {
    /// Starts the container and runs what is to be run after that.
    fn start(&self) -> Result<(), Failure> {
        self.engine.start(&self.container.name)?;
        self.post_start()
    }

    fn post_start(&self) -> Result<(), Failure> {
        let cancel = Cancel::new().map_err(Failure::Signals)?;
        // The terminal is the process's: nothing is shown of a hook but its failure.
        let execution = Execution {
            engine: self.engine,
            events: &Silent,
            cancel: &cancel,
            parallel: 1,
            kill_when_cancelled: false,
            started: &|_| {},
            said: &|_, _| {},
        };
        Ok(execute(&post_start(self.project, self.container), &execution)?)
    }

    /// Removes what never started, or what is not to stay.
    fn discard(&self) {
        // The error that matters is the first one.
        let _ = self.engine.remove(&self.container.id, true, true);
    }

    /// Connects the user, starts the container and stays to its end.
    fn connected(&self) -> Ended {
        let id = &self.container.name;
        let (one, screen) = (self.one, self.context.screen);
        let mut output = |stream, bytes: &[u8]| screen.pass_on(stream, bytes);
        let session = session(&mut output, one.interactive, one.tty, DetachKeys::default(), None);
        // One that does not run yet, or no longer, needs no signal.
        let send = |signal: &str| drop(self.engine.kill(id, signal));
        let kill = || drop(self.engine.kill(id, "SIGKILL"));
        let raw = (one.tty && one.interactive).then(Raw::enter).transpose().map_err(|error| {
            self.discard();
            Failure::Terminal(error)
        })?;
        let mut started = false;
        let closed = forwarding(&send, &kill, || {
            std::thread::scope(|scope| {
                let mut hooks = None;
                let closed = self.engine.attach(id, session, &mut || {
                    self.engine.start(id)?;
                    started = true;
                    hooks = Some(scope.spawn(|| self.post_start()));
                    Ok(())
                });
                let hooks = hooks.map_or(Ok(()), |hooks| {
                    hooks.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                });
                (closed, hooks)
            })
        });
        drop(raw);
        let (closed, hooks) = closed.inspect_err(|_| self.discard())?;
        if !started || (closed.is_err() && one.remove) {
            self.discard();
        }
        match (closed?, hooks) {
            // A container that has ended before its hook was is not the hook's fault.
            (Closed::Exited(code), Ok(()) | Err(Failure::Up(UpError::Step { .. }))) => Ok(exit_code(code)),
            (Closed::Detached, Ok(())) => Ok(ExitCode::SUCCESS),
            (_, Err(failure)) => Err(failure),
        }
    }
}

fn options(context: &Context<'_>, flags: &Run) -> Result<Options, Failure> {
    Ok(Options {
        services: vec![flags.service().to_owned()],
        no_dependencies: flags.no_deps,
        remove_orphans: context.settings.orphans_go(flags.remove_orphans).map_err(Failure::Usage)?,
        ignore_orphans: context.settings.ignore_orphans,
        ..Options::default()
    })
}

/// What the flags say about the container.
fn one_off(context: &Context<'_>, flags: &Run) -> Result<OneOff, Failure> {
    let usage = Failure::Usage;
    let tty = wants_tty(context, flags.no_tty, flags.tty, flags.interactive)?;
    let entrypoint = flags
        .entrypoint
        .as_ref()
        .map(|text| shell_words::split(text).map_err(|error| usage(format!("--entrypoint {text}: {error}"))));
    let home = context.environment.get("HOME").map(String::as_str);
    let ports = flags.publish.iter().map(|text| short_ports(text)).collect::<Result<Vec<_>, _>>();
    let mounts = flags.volume.iter().map(|text| short_mount(text, &context.folder, home));
    Ok(OneOff {
        service: flags.service().to_owned(),
        slug: slug(),
        name: flags.name.clone(),
        command: flags.command().to_vec(),
        entrypoint: entrypoint.transpose()?,
        environment: environment(context, flags)?,
        user: flags.user.clone(),
        working_dir: flags.workdir.clone(),
        labels: pairs(&flags.label, &|_| Some(String::new())),
        cap_add: flags.cap_add.clone(),
        cap_drop: flags.cap_drop.clone(),
        service_ports: flags.service_ports,
        ports: ports.map_err(usage)?.concat(),
        mounts: mounts.collect::<Result<_, _>>().map_err(usage)?,
        use_aliases: flags.use_aliases,
        remove: flags.remove,
        tty,
        interactive: flags.interactive,
        size: terminal::size()(),
    })
}

/// The variables of `--env-from-file`, a later file over an earlier one, and of `-e` over them.
fn environment(context: &Context<'_>, flags: &Run) -> Result<BTreeMap<String, String>, Failure> {
    let here = |name: &str| context.environment.get(name).cloned();
    let given = pairs(&flags.env, &here);
    let mut variables = BTreeMap::new();
    for file in &flags.env_from_file {
        let path = context.absolute(file);
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::Usage(format!("--env-from-file {}: {error}", file.display()))
        };
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(&error))?;
        let lookup = |name: &str| given.get(name).cloned().or_else(|| here(name));
        variables.extend(env_file(&text, &lookup).map_err(|error| wrong(&error))?);
    }
    variables.extend(given);
    Ok(variables)
}

/// `NAME=VALUE` each; a name alone has the value that `absent` gives it, or is left out.
fn pairs(texts: &[String], absent: &dyn Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.clone(), absent(text)?)),
    };
    texts.iter().filter_map(pair).collect()
}

/// 64 random hexadecimal digits.
fn slug() -> String {
    let mut bytes = [0_u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        // The kernel gives what is asked for once it has started.
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
    }
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_values_from_the_flag_or_from_elsewhere() {
        let texts = ["A=1=2", "B", "C"].map(str::to_owned);
        let found = pairs(&texts, &|name| (name == "B").then(|| "here".to_owned()));
        assert_eq!(found, [("A", "1=2"), ("B", "here")].map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    }

    #[test]
    fn slugs_differ() {
        let (one, two) = (slug(), slug());
        assert!(one.len() == 64 && one != two);
    }
}
