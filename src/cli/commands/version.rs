//! `version`.

use std::process::ExitCode;

use crate::cli::args::{Version, VersionFormat};
use crate::sandbox::probe;

use super::{Context, Ended};

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
        Err(failure) => format!("store: {failure}"),
    }
}
