//! L5: the command line. One short function a command; everything that prints is in `render`.
//!
//! [`main`] reads the arguments and the environment once, resolves them to settings, and calls the
//! command. Errors of every layer become text and an exit code here: 0 for success, 1 for any failure
//! (mistakes in the command line included), 130 when the user stopped the command, and a container's own
//! code where a command stands for it.

mod args;
#[cfg(test)]
mod catalogue;
mod commands;
mod endpoint;
mod failure;
mod manual;
mod moment;
mod outputs;
mod quantity;
#[cfg(test)]
mod reference;
mod refused;
mod render;
mod settings;
mod signals;
mod terminal;
mod trust;
mod variables;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::base::fs::{AtPath, PathError};

use args::{Arguments, Command};
use commands::Context;
use failure::Failure;
use render::Screen;
use settings::{Caller, Settings};

/// Runs the command that `arguments` (the program's name first) ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = refused::with_refused(Arguments::command());
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            render::usage(&error);
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let refusals = refused::refusals(&matches);
    if !refusals.is_empty() {
        return refuse(&refusals);
    }
    match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => run(arguments),
        Err(error) => {
            render::usage(&error);
            ExitCode::FAILURE
        }
    }
}

fn refuse(sentences: &[String]) -> ExitCode {
    let screen = Screen::default();
    sentences.iter().for_each(|sentence| screen.failure(sentence));
    ExitCode::FAILURE
}

fn run(arguments: Arguments) -> ExitCode {
    let environment = environment();
    let settings = match Settings::resolve(&arguments.global, &environment, Caller::this()) {
        Ok(settings) => settings,
        Err(sentence) => return refuse(&[sentence]),
    };
    let screen = Screen::new(settings.progress, settings.ansi, settings.status_on_stdout);
    settings.warnings.iter().for_each(|warning| screen.warning(warning));
    let folder = match working_folder(&environment) {
        Ok(folder) => folder,
        Err(error) => return Failure::from(error).report(&screen),
    };
    let mut context = Context { global: arguments.global, settings, environment, folder, screen: &screen };
    let ended = call(&mut context, arguments.command);
    screen.finish();
    let traced = screen.write_trace().map_err(|error| Failure::from(error).report(&screen));
    match (ended, traced) {
        (Ok(code), Ok(())) | (Ok(_), Err(code)) => code,
        (Err(failure), _) => failure.report(&screen),
    }
}

fn call(context: &mut Context<'_>, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Cache(args::Cache::Du(flags)) => commands::cache_du(context, &flags),
        Command::Cache(args::Cache::Prune(flags)) => commands::cache_prune(context, &flags),
        Command::Cache(args::Cache::Verify(flags)) => commands::cache_verify(context, &flags),
        Command::Completion(flags) => commands::completion(context, &flags),
        Command::Manual(flags) => commands::manual(context, &flags),
        Command::Version(flags) => commands::version(context, &flags),
        Command::Build(flags) => commands::build_services(context, &flags),
        Command::Up(flags) => commands::up(context, &flags),
        Command::Down(flags) => commands::down(context, &flags),
        Command::Stop(flags) => commands::stop(context, &flags),
        Command::Start(flags) => commands::start(context, &flags),
        Command::Restart(flags) => commands::restart(context, &flags),
        Command::Create(flags) => commands::create(context, &flags),
        Command::Scale(flags) => commands::scale(context, &flags),
        Command::Rm(flags) => commands::rm(context, &flags),
        Command::Pull(flags) => commands::pull(context, &flags),
        Command::Kill(flags) => commands::kill(context, &flags),
        Command::Ps(flags) => commands::ps(context, &flags),
        Command::Logs(flags) => commands::logs(context, &flags),
        Command::Exec(flags) => commands::exec(context, &flags),
        Command::Run(flags) => commands::run(context, &flags),
        Command::Attach(flags) => commands::attach(context, &flags),
        Command::Cp(flags) => commands::cp(context, &flags),
        Command::Ls(flags) => commands::ls(context, &flags),
        Command::Images(flags) => commands::images(context, &flags),
        Command::Volumes(flags) => commands::volumes(context, &flags),
        Command::Top(flags) => commands::top(context, &flags),
        Command::Stats(flags) => commands::stats(context, &flags),
        Command::Port(flags) => commands::port(context, &flags),
        Command::Events(flags) => commands::events(context, &flags),
        Command::Wait(flags) => commands::wait(context, &flags),
        Command::Pause(flags) => commands::pause(context, &flags),
        Command::Unpause(flags) => commands::unpause(context, &flags),
        Command::Config(flags) => commands::config(context, &flags),
        Command::Plan(flags) => commands::plan(context, &flags),
        Command::Why(flags) => commands::why(context, &flags),
        Command::Image(args::Image::Build(flags)) => commands::image_build(context, &flags),
        Command::Image(args::Image::Import(flags)) => commands::image_import(context, &flags),
        Command::Image(args::Image::Ls(flags)) => commands::image_ls(context, &flags),
        Command::Image(args::Image::Save(flags)) => commands::image_save(context, &flags),
        Command::Image(args::Image::Load(flags)) => commands::image_load(context, &flags),
        Command::Image(args::Image::Rm(flags)) => commands::image_rm(context, &flags),
        Command::Image(args::Image::Inspect(flags)) => commands::image_inspect(context, &flags),
        Command::Push(flags) => commands::push(context, &flags),
    }
}

/// The process's environment; what is not UTF-8 is kept as far as it is.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment() -> BTreeMap<String, String> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// The folder in which the caller stands: `$PWD` where that is it, so that a link's name stays.
#[expect(clippy::disallowed_methods, reason = "the one place that knows the working directory")]
fn working_folder(environment: &BTreeMap<String, String>) -> Result<PathBuf, PathError> {
    let folder = std::env::current_dir().at_path("find", "the working directory")?;
    let same = |named: &PathBuf| {
        let identity = |path: &Path| std::fs::metadata(path).map(|stat| (stat.dev(), stat.ino())).ok();
        named.is_absolute() && identity(named).is_some_and(|found| Some(found) == identity(&folder))
    };
    Ok(environment.get("PWD").map(PathBuf::from).filter(same).unwrap_or(folder))
}
