//! Which files make a project, and what it is called.
//!
//! Docker Compose's order of precedence throughout: options, then `COMPOSE_*` variables (also those of
//! `.env`), then what is found: the default names, searched from the current folder upward.

use std::path::{Path, PathBuf};

use super::environment;
use super::load::Options;
use super::paths;
use super::source::Sources;
use super::vars::Variables;
use crate::base::diag::Diagnostic;

const NAMES: &[&str] = &["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const OVERRIDES: &[&str] = &[
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// The files of a project and the folder that it stands in.
pub(super) struct Found {
    /// Absolute, in the order in which they are merged; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// Absolute.
    pub folder: PathBuf,
    /// What the files may refer to.
    pub variables: Variables,
}

/// Finds the files, and reads the env files on the way.
pub(super) fn find(options: &Options, sources: &mut Sources<'_>) -> Option<Found> {
    let mut variables = Variables::default();
    variables.values.clone_from(&options.environment);
    let here = &options.current_folder;
    let given = options.project_directory.as_ref().map(|folder| join(here, folder));
    let before = given.clone().unwrap_or_else(|| match options.files.first() {
        Some(first) if first != Path::new("-") => folder_of(&join(here, first)),
        _ => here.clone(),
    });
    let explicit = env_files(options, &variables);
    if let Some(files) = &explicit {
        let files: Vec<_> = files.iter().map(|file| join(here, file)).collect();
        environment::read(sources, &mut variables, &files);
    } else if !is_true(variables.values.get("COMPOSE_DISABLE_ENV_FILE")) {
        dotenv(sources, &mut variables, &before);
    }
    let files = listed(options, &variables).or_else(|| search(sources, &before))?;
    let first = files.first()?;
    let folder =
        given.unwrap_or_else(|| if first == Path::new("-") { here.clone() } else { folder_of(first) });
    if explicit.is_none() && folder != before && !is_true(variables.values.get("COMPOSE_DISABLE_ENV_FILE")) {
        dotenv(sources, &mut variables, &folder);
    }
    Some(Found { files, folder, variables })
}

fn dotenv(sources: &mut Sources<'_>, variables: &mut Variables, folder: &Path) {
    let file = folder.join(".env");
    if sources.files.exists(&file) {
        environment::read(sources, variables, &[file]);
    }
}

fn env_files(options: &Options, variables: &Variables) -> Option<Vec<PathBuf>> {
    if !options.env_files.is_empty() {
        return Some(options.env_files.clone());
    }
    let listed = variables.values.get("COMPOSE_ENV_FILES").filter(|text| !text.is_empty())?;
    Some(listed.split(',').map(PathBuf::from).collect())
}

/// The files that were named by option or variable.
fn listed(options: &Options, variables: &Variables) -> Option<Vec<PathBuf>> {
    let here = &options.current_folder;
    if !options.files.is_empty() {
        return Some(options.files.iter().map(|file| join(here, file)).collect());
    }
    let listed = variables.values.get("COMPOSE_FILE").filter(|text| !text.is_empty())?;
    let separator = variables.values.get("COMPOSE_PATH_SEPARATOR").map_or(":", String::as_str);
    let parts: Vec<&str> =
        if separator.is_empty() { vec![listed] } else { listed.split(separator).collect() };
    Some(parts.into_iter().map(|file| join(here, Path::new(file))).collect())
}

/// The default names, in `folder` and above it.
fn search(sources: &mut Sources<'_>, folder: &Path) -> Option<Vec<PathBuf>> {
    for folder in folder.ancestors() {
        let found = |names: &[&str]| -> Vec<PathBuf> {
            names.iter().map(|name| folder.join(name)).filter(|path| sources.files.exists(path)).collect()
        };
        let files = found(NAMES);
        let Some(first) = files.first() else { continue };
        let overrides = found(OVERRIDES);
        for several in [&files, &overrides].into_iter().filter(|several| several.len() > 1) {
            let names: Vec<_> = several.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            let message = format!(
                "several compose files stand side by side ({}); `{}` is used",
                names.join(", "),
                names[0]
            );
            sources.warnings.push(Diagnostic::warning(message));
        }
        return Some(std::iter::once(first.clone()).chain(overrides.into_iter().take(1)).collect());
    }
    let message = format!("there is no compose file in `{}` or above it", folder.display());
    sources
        .mistakes
        .push(Diagnostic::error(message).help(format!("name one with `-f`, or write {}", NAMES.join(", "))));
    None
}

/// The name of the project: `-p`, `COMPOSE_PROJECT_NAME`, the last `name:`, the folder.
///
/// # Errors
/// A name that was given and is none, or a folder whose name leaves nothing.
pub(super) fn name(
    options: &Options,
    variables: &Variables,
    written: Option<&str>,
    folder: &Path,
) -> Result<String, Box<Diagnostic>> {
    let variable = variables.values.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
    if let Some(given) = options.project_name.as_ref().filter(|name| !name.is_empty()).or(variable) {
        if *given == normal(given) {
            return Ok(given.clone());
        }
        let mistake = Diagnostic::error(format!("`{given}` cannot be the name of a project"));
        let rule = "it has lower-case letters, digits, `-` and `_`, and begins with a letter or a digit";
        return Err(Box::new(mistake.note(rule)));
    }
    let written = written.map(normal).filter(|name| !name.is_empty());
    let base = folder.file_name().map(|name| normal(&name.to_string_lossy())).unwrap_or_default();
    match written.unwrap_or(base) {
        name if name.is_empty() => {
            let message = format!("the folder `{}` gives the project no name", folder.display());
            let help = "give one with `-p NAME`, or with `name:` in the file";
            Err(Box::new(Diagnostic::error(message).help(help)))
        }
        name => Ok(name),
    }
}

/// Lower case, only letters, digits, `_` and `-`, and a letter or digit first.
fn normal(name: &str) -> String {
    let lower = name.to_lowercase();
    let kept: String = lower
        .chars()
        .filter(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-".contains(*letter))
        .collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

/// Whether a variable switches something on.
fn is_true(value: Option<&String>) -> bool {
    value.is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "1" | "t" | "true" | "y" | "yes"))
}

fn join(folder: &Path, file: &Path) -> PathBuf {
    if file == Path::new("-") {
        return file.to_owned();
    }
    PathBuf::from(paths::clean(&folder.join(file).to_string_lossy()))
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_is_allowed() {
        for (name, kept) in [("My App", "myapp"), ("__x-1", "x-1"), ("ÄB", "b"), ("...", "")] {
            assert_eq!(normal(name), kept, "{name}");
        }
    }
}
