//! `config`: the project as it is understood.

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::base::fs::AtPath;
use crate::cli::args::{Config, ConfigFormat};
use crate::compose::{Options, Project, to_json, to_yaml};

use super::project::chosen;
use super::{Context, Ended};

/// Prints the project, or one kind of its names.
pub(in crate::cli) fn config(context: &mut Context<'_>, flags: &Config) -> Ended {
    let options = Options {
        consistency: !flags.no_consistency,
        resolve_environment: !flags.no_env_resolution,
        normalize: !flags.no_normalize,
        resolve_paths: !flags.no_path_resolution,
        ..context.load_options(&flags.only)
    };
    let mut project = context.described_with(options)?.project;
    if !flags.only.is_empty() {
        project.keep(&chosen(&project, &flags.only, true));
    }
    if flags.quiet {
        return Ok(ExitCode::SUCCESS);
    }
    let text = match names(&project, flags) {
        Some(names) => names.into_iter().map(|name| name + "\n").collect::<String>(),
        None if flags.format == ConfigFormat::Json => to_json(&project),
        None => to_yaml(&project),
    };
    match &flags.output {
        Some(path) => std::fs::write(context.absolute(path), text).at_path("write", path)?,
        None => context.screen.result(&text),
    }
    Ok(ExitCode::SUCCESS)
}

/// The names that a flag asks for.
fn names(project: &Project, flags: &Config) -> Option<BTreeSet<String>> {
    let names = if flags.services {
        project.services.keys().cloned().collect()
    } else if flags.images {
        project.services.keys().filter_map(|service| project.image_of(service)).collect()
    } else if flags.volumes {
        project.volumes.keys().cloned().collect()
    } else if flags.networks {
        project.networks.keys().cloned().collect()
    } else if flags.models {
        project.models.values().filter_map(|model| model.model.clone()).collect()
    } else if flags.environment {
        project.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()
    } else if flags.profiles {
        let services = project.services.values().chain(project.disabled.values());
        services.flat_map(|service| service.profiles.iter().cloned()).collect()
    } else {
        return None;
    };
    Some(names)
}
