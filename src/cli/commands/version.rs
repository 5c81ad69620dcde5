//! `version` and `completion`: what the program says of itself.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::args::{Arguments, Completion, Version, VersionFormat};
use crate::sandbox::probe;

use super::{Context, Ended};

/// Prints a shell's completion script.
pub(in crate::cli) fn completion(context: &Context<'_>, flags: &Completion) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut Arguments::command(), "shipway", &mut script);
    context.screen.result_bytes(&script);
    Ok(ExitCode::SUCCESS)
}

/// Prints the version and, for reading, what the machine offers.
pub(in crate::cli) fn version(context: &Context<'_>, flags: &Version) -> Ended {
    let version = env!("CARGO_PKG_VERSION");
    let text = match (flags.short, flags.format) {
        (true, _) => format!("{version}\n"),
        (false, VersionFormat::Json) => format!("{}\n", serde_json::json!({ "version": version })),
        (false, VersionFormat::Pretty) => format!("Shipway version {version}\n{}\n", machine(context)),
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

/// What a build would find here. A store that cannot be used is a fact like others.
fn machine(context: &Context<'_>) -> String {
    let staged = context.store().and_then(|store| Ok(store.stage()?));
    match staged {
        Ok(staging) => format!("store: {}\n{}", context.settings.store.display(), probe(staging.path())),
        Err(failure) => failure.to_string(),
    }
}
