//! `config`: the project as it is understood, or one kind of its names.
//!
//! Where several kinds are asked for, the first of Docker Compose's order is printed. With
//! `--no-interpolate` and `--variables` the files are read without their variables, which leaves nothing to
//! judge values by. Names of one kind come one a line in alphabetical order.

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::base::fs::AtPath;
use crate::cli::args::{Config, ConfigFormat};
use crate::cli::failure::Failure;
use crate::cli::signals::Interrupts;
use crate::compose::{
    Disk, Options, Outline, Project, Service, Variable, outline, service_hash, to_json, to_yaml,
    value_to_yaml,
};
use crate::oci::{Reference, Registry};

use super::project::chosen;
use super::{Context, Ended};

/// Prints the project, or one kind of its names.
pub(in crate::cli) fn config(context: &mut Context<'_>, flags: &Config) -> Ended {
    let options = Options {
        consistency: !flags.no_consistency,
        resolve_environment: !flags.no_env_resolution && flags.hash.is_none(),
        normalize: !flags.no_normalize,
        resolve_paths: !flags.no_path_resolution,
        ..context.load_options(&flags.only)
    };
    let text = if flags.no_interpolate || (flags.variables && !asks_for_names(flags)) {
        uninterpolated(context, flags, &options)?
    } else {
        interpolated(context, flags, options)?
    };
    match &flags.output {
        _ if flags.quiet => {}
        Some(path) => std::fs::write(context.absolute(path), text).at_path("write", path)?,
        None => context.screen.result(&text),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether one of the kinds is asked for that come before the variables.
const fn asks_for_names(flags: &Config) -> bool {
    let resources = flags.services || flags.volumes || flags.networks || flags.models;
    resources || flags.hash.is_some() || flags.profiles || flags.images
}

fn interpolated(context: &mut Context<'_>, flags: &Config, options: Options) -> Result<String, Failure> {
    let mut project = context.described_with(options)?.project;
    if !flags.only.is_empty() {
        project.keep(&chosen(&project, &flags.only, true));
    }
    if let Some(names) = names(&project, flags)? {
        return Ok(lines(names));
    }
    if flags.resolve_image_digests || flags.lock_image_digests {
        pin(context, &mut project)?;
    }
    let json = flags.format == Some(ConfigFormat::Json);
    if flags.lock_image_digests {
        let image = |service: &Service| Service { image: service.image.clone(), ..Service::default() };
        let services = project.services.iter().map(|(name, service)| (name.clone(), image(service)));
        project = Project { services: services.collect(), ..Project::default() };
    }
    Ok(if json { to_json(&project) } else { to_yaml(&project) })
}

/// The project, its services' names or its variables, with the variables as they are written.
fn uninterpolated(context: &mut Context<'_>, flags: &Config, options: &Options) -> Result<String, Failure> {
    let others = asks_for_names(flags) && !flags.services;
    if others || flags.environment || flags.resolve_image_digests || flags.lock_image_digests {
        let message = "only the project, --services and --variables can be printed with --no-interpolate";
        return Err(Failure::Usage(message.to_owned()));
    }
    let outline = outline(options, &Disk).map_err(Failure::Mistakes)?;
    context.screen.diagnostics(&outline.warnings);
    if flags.services {
        let services = outline.model.get("services").and_then(serde_json::Value::as_object);
        return Ok(lines(services.into_iter().flat_map(|map| map.keys().cloned())));
    }
    Ok(match flags.format {
        format if flags.variables => variables(&outline, format),
        Some(ConfigFormat::Json) => format!("{:#}\n", outline.model),
        _ => value_to_yaml(&outline.model),
    })
}

fn lines(names: impl IntoIterator<Item = String>) -> String {
    names.into_iter().map(|name| name + "\n").collect()
}

/// The names that a flag asks for.
fn names(project: &Project, flags: &Config) -> Result<Option<Vec<String>>, Failure> {
    let mut names: Vec<String> = if flags.services {
        project.services.keys().cloned().collect()
    } else if flags.volumes {
        project.volumes.keys().cloned().collect()
    } else if flags.networks {
        project.networks.keys().cloned().collect()
    } else if flags.models {
        project.models.values().filter_map(|model| model.model.clone()).collect()
    } else if let Some(services) = &flags.hash {
        return hashes(project, services).map(Some);
    } else if flags.profiles {
        let services = project.services.values().chain(project.disabled.values());
        let all: std::collections::BTreeSet<String> =
            services.flat_map(|service| service.profiles.iter().cloned()).collect();
        all.into_iter().collect()
    } else if flags.images {
        project.services.keys().filter_map(|service| project.image_of(service)).collect()
    } else if flags.environment {
        project.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()
    } else {
        return Ok(None);
    };
    names.sort();
    Ok(Some(names))
}

/// Docker Compose's digests of the services in a comma-separated list, or of all (`*`).
fn hashes(project: &Project, services: &str) -> Result<Vec<String>, Failure> {
    let mut names: Vec<&str> = match services {
        "*" => project.services.keys().map(String::as_str).collect(),
        listed => listed.split(',').collect(),
    };
    names.sort_unstable();
    let default_platform = project.environment.get("DOCKER_DEFAULT_PLATFORM").filter(|text| !text.is_empty());
    let hash = |name: &str| {
        let Some(service) = project.services.get(name) else {
            return Err(Failure::Usage(format!("there is no service `{name}`")));
        };
        let mut service = service.clone();
        if service.build.is_some() && service.platform.is_none() {
            service.platform = default_platform.cloned();
        }
        Ok(format!("{name} {}", service_hash(&service)))
    };
    names.into_iter().map(hash).collect()
}

/// Gives every image the digest that its registry has for its name now.
fn pin(context: &Context<'_>, project: &mut Project) -> Result<(), Failure> {
    if context.settings.offline {
        return Err(Failure::Usage(
            "image digests come from registries, and nobody is asked (--offline)\nhelp: leave out --offline"
                .to_owned(),
        ));
    }
    let registry = Registry::new(context.registry_options())?;
    let stop = Interrupts::catch(1)?.stop;
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for (name, service) in &mut project.services {
        let Some(image) = &mut service.image else { continue };
        if let Some(pinned) = known.get(image) {
            image.clone_from(pinned);
            continue;
        }
        let wrong = |problem| Failure::Usage(format!("the image of the service `{name}`: {problem}"));
        let mut reference = Reference::parse(image).map_err(wrong)?.with_default_tag();
        if reference.digest().is_none() {
            reference = reference.with_digest(registry.digest(&reference, &stop)?);
        }
        known.insert(image.clone(), reference.to_string());
        *image = reference.to_string();
    }
    Ok(())
}

/// The variables as Docker Compose prints them: a table, or their fields under its names.
fn variables(outline: &Outline, format: Option<ConfigFormat>) -> String {
    let objects = |keys: [&str; 4]| -> serde_json::Value {
        let object = |one: &Variable| {
            let values = [
                one.name.as_str().into(),
                one.default.as_str().into(),
                one.alternative.as_str().into(),
                one.required.into(),
            ];
            keys.map(str::to_owned).into_iter().zip(values).collect::<serde_json::Map<_, _>>()
        };
        outline
            .variables
            .iter()
            .map(|(name, one)| (name.clone(), serde_json::Value::Object(object(one))))
            .collect()
    };
    match format {
        Some(ConfigFormat::Json) => {
            format!("{:#}\n", objects(["Name", "DefaultValue", "PresenceValue", "Required"]))
        }
        Some(ConfigFormat::Yaml) => {
            value_to_yaml(&objects(["name", "defaultvalue", "presencevalue", "required"]))
        }
        None => table(outline.variables.values()),
    }
}

/// Columns of twenty letters, or of the longest value and three spaces.
fn table<'a>(variables: impl Iterator<Item = &'a Variable>) -> String {
    let heading = ["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"].map(str::to_owned);
    let row = |one: &Variable| {
        [one.name.clone(), one.required.to_string(), one.default.clone(), one.alternative.clone()]
    };
    let rows: Vec<[String; 4]> = std::iter::once(heading).chain(variables.map(row)).collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count() + 3).max().unwrap_or_default().max(20)
    };
    let widths = [width(0), width(1), width(2)];
    let line = |row: &[String; 4]| {
        let padded = row.iter().zip(widths).map(|(text, width)| format!("{text:width$}"));
        padded.collect::<String>() + &row[3] + "\n"
    };
    rows.iter().map(line).collect()
}
