//! `version`.

use std::process::ExitCode;

use crate::cli::args::{Version, VersionFormat};

use super::{Context, Ended};

/// Prints the version.
pub(in crate::cli) fn version(context: &Context<'_>, flags: &Version) -> Ended {
    let version = env!("CARGO_PKG_VERSION");
    let text = match (flags.short, flags.format) {
        (true, _) => format!("{version}\n"),
        (false, VersionFormat::Json) => format!("{}\n", serde_json::json!({ "version": version })),
        (false, VersionFormat::Pretty) => format!("Shipway version {version}\n"),
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}
