//! `version`, `completion` and `manual`: what the program says of itself.

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use clap::{Args, Command, CommandFactory};

use crate::base::fs::{AtPath, write_atomic};
use crate::cli::args::{Arguments, Completion, EngineChoice, Global, Manual, Version, VersionFormat};
use crate::cli::failure::Failure;
use crate::cli::manual;
use crate::cli::render::text::size;
use crate::engine::{Docker, Endpoint, Engine, EngineError, Identity, ImageStore};
use crate::sandbox::probe;

use super::{Context, Ended};

/// How long an engine has for its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same where ssh leads to it, which gives up by itself before that.
const PATIENCE_WITH_SSH: Duration = Duration::from_secs(35);

/// Prints a shell's completion script.
pub(in crate::cli) fn completion(context: &Context<'_>, flags: &Completion) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut shown(), "shipway", &mut script);
    context.screen.result_bytes(&script);
    Ok(ExitCode::SUCCESS)
}

/// Writes the manual pages of all commands.
pub(in crate::cli) fn manual(context: &Context<'_>, flags: &Manual) -> Ended {
    let folder = context.absolute(&flags.folder);
    std::fs::create_dir_all(&folder).at_path("make", &folder)?;
    for page in manual::pages(shown()).at_path("write the pages for", &folder)? {
        write_atomic(&folder.join(page.file), &page.text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the version and, for reading, what the machine offers.
pub(in crate::cli) fn version(context: &Context<'_>, flags: &Version) -> Ended {
    let version = env!("CARGO_PKG_VERSION");
    let text = match (flags.short, flags.format) {
        (true, _) => format!("{version}\n"),
        (false, VersionFormat::Json) => format!("{}\n", serde_json::json!({ "version": version })),
        (false, VersionFormat::Pretty) => {
            let engine = engine_text(&asked(context));
            let (store, machine) = machine(context);
            format!("Shipway version {version}\n{store}\n{engine}{machine}")
        }
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

/// What a build would find here: the line about the store, and those about the machine. A store that cannot
/// be used is a fact like others.
fn machine(context: &Context<'_>) -> (String, String) {
    let staged = context.store().and_then(|store| Ok((store.stage()?, store.capacity()?.0)));
    match staged {
        Ok((staging, capacity)) => {
            let limit = context.settings.cache_limit.bytes(capacity);
            (store_text(&context.settings.store, limit), format!("{}\n", probe(staging.path())))
        }
        Err(failure) => (fact(&failure), String::new()),
    }
}

/// Why something is not there, in one line.
fn fact(failure: &Failure) -> String {
    failure.to_string().lines().map(|line| line.trim_start_matches("help: ")).collect::<Vec<_>>().join("; ")
}

fn store_text(path: &Path, limit: Option<u64>) -> String {
    let limit = limit.map_or("no limit".to_owned(), |limit| format!("limit: {}", size(limit)));
    format!("store: {} ({limit})", path.display())
}

/// What came of asking for the engine.
enum Asked {
    /// The user wants none.
    Unwanted,
    /// It is not known where one is.
    Nowhere(String),
    /// It said nothing for too long.
    Silent { host: String },
    /// It cannot be reached, or said no.
    Failed(EngineError),
    /// It answered.
    Found { host: String, identity: Identity },
}

/// Asks the engine who it is, for a short time.
fn asked(context: &Context<'_>) -> Asked {
    if context.settings.engine == EngineChoice::None {
        return Asked::Unwanted;
    }
    match context.endpoint() {
        Ok(endpoint) if endpoint.host.starts_with("ssh://") => ask(endpoint, PATIENCE_WITH_SSH),
        Ok(endpoint) => ask(endpoint, PATIENCE),
        Err(failure) => Asked::Nowhere(fact(&failure)),
    }
}

/// A thread that gets no answer is left behind: it ends with the process.
fn ask(endpoint: Endpoint, patience: Duration) -> Asked {
    let host = endpoint.host.clone();
    let (sender, answer) = channel();
    std::thread::spawn(move || {
        let identity = Docker::connect(&endpoint).and_then(|engine| engine.identity());
        // Nobody waits any more: there is nobody to tell.
        let _ = sender.send(identity);
    });
    match answer.recv_timeout(patience) {
        Ok(Ok(identity)) => Asked::Found { host, identity },
        Ok(Err(error)) => Asked::Failed(error),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Asked::Silent { host },
    }
}

/// The lines about the engine.
fn engine_text(asked: &Asked) -> String {
    match asked {
        Asked::Unwanted => "engine: none (--engine none)\n".to_owned(),
        Asked::Nowhere(why) => format!("engine: not reachable: {why}\n"),
        Asked::Silent { host } => {
            format!("engine: not reachable: {host} did not answer within {} seconds\n", PATIENCE.as_secs())
        }
        Asked::Failed(EngineError::NotReachable { host, reason, .. }) => {
            format!("engine: not reachable: {host}: {reason}\n")
        }
        Asked::Failed(error) => format!("engine: not usable: {}\n", error.to_string().replace('\n', "; ")),
        Asked::Found { host, identity } => {
            let name = match identity.store {
                ImageStore::Podman => "Podman",
                ImageStore::Graph | ImageStore::Containerd => "Docker Engine",
            };
            let Identity { version, os, architecture, driver, .. } = identity;
            let store = match identity.store {
                ImageStore::Containerd => " (containerd's image store)",
                ImageStore::Graph | ImageStore::Podman => "",
            };
            format!(
                "engine: {host}, {name} {version}, {os}/{architecture}\nengine's storage driver: {driver}{store}\n"
            )
        }
    }
}

/// The tree of commands without those that are hidden, which the scripts of shells would offer.
fn shown() -> Command {
    let all = Arguments::command();
    let bare = Command::new("shipway").version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    let bare = Global::augment_args(bare.subcommand_required(true))
        .about(all.get_about().cloned().unwrap_or_default());
    bare.subcommands(all.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn engines_are_told_with_their_driver() {
        let identity = Identity {
            id: "x".to_owned(),
            store: ImageStore::Containerd,
            driver: "overlayfs".to_owned(),
            version: "28.5.1".to_owned(),
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
        };
        let found = Asked::Found { host: "unix:///run/docker.sock".to_owned(), identity };
        insta::assert_snapshot!(engine_text(&found), @r"
        engine: unix:///run/docker.sock, Docker Engine 28.5.1, linux/amd64
        engine's storage driver: overlayfs (containerd's image store)
        ");
        assert_eq!(engine_text(&Asked::Unwanted), "engine: none (--engine none)\n");
    }

    #[test]
    fn an_engine_that_is_missing_or_silent_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let endpoint = Endpoint::at(&format!("unix://{}", socket.display()));
        let missing = engine_text(&ask(endpoint.clone(), PATIENCE));
        assert!(missing.contains("not reachable") && missing.contains("No such file"), "{missing}");
        let _listens = UnixListener::bind(&socket).unwrap();
        let silent = engine_text(&ask(endpoint, Duration::from_millis(50)));
        assert!(silent.contains("did not answer within"), "{silent}");
    }

    #[test]
    fn what_is_shown_is_the_whole_command_line_but_for_what_is_hidden() {
        let (all, shown) = (Arguments::command(), shown());
        let flags = |command: &Command| -> Vec<String> {
            command.get_arguments().map(|arg| arg.get_id().to_string()).collect()
        };
        assert_eq!(flags(&all), flags(&shown));
        let names = |command: &Command| -> Vec<String> {
            command.get_subcommands().map(|command| command.get_name().to_owned()).collect()
        };
        assert_eq!(
            names(&all).into_iter().filter(|name| name != "manual").collect::<Vec<_>>(),
            names(&shown)
        );
        shown.debug_assert();
    }

    #[test]
    fn the_store_is_told_with_its_limit() {
        assert_eq!(store_text(Path::new("/s"), Some(20_000_000_000)), "store: /s (limit: 20GB)");
        assert_eq!(store_text(Path::new("/s"), None), "store: /s (no limit)");
    }
}
