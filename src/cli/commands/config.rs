//! `config`: the project as it is understood.

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::base::fs::AtPath;
use crate::cli::args::{Config, ConfigFormat};
use crate::cli::failure::Failure;
use crate::compose::{Project, to_json, to_yaml};

use super::{Context, Ended};

/// Prints the project, or one kind of its names.
pub(in crate::cli) fn config(context: &mut Context<'_>, flags: &Config) -> Ended {
    if let Some(service) = flags.only.first() {
        return Err(Failure::Usage(format!("not supported yet: config {service} (leave out the services)")));
    }
    let project = context.described(&[])?.project;
    if flags.quiet {
        return Ok(ExitCode::SUCCESS);
    }
    let text = match names(&project, flags) {
        Some(names) => names.into_iter().map(|name| name + "\n").collect(),
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
    } else if flags.profiles {
        let services = project.services.values().chain(project.disabled.values());
        services.flat_map(|service| service.profiles.iter().cloned()).collect()
    } else {
        return None;
    };
    Some(names)
}
