//! Loading a project: all stages in their order.
//!
//! Files are found ([`super::locate`]), read to shaped trees with includes and extends worked in
//! ([`super::source`]), merged, made unique, checked ([`super::check`]), bound to types ([`super::bind`]),
//! resolved ([`super::resolve`]) and checked for meaning ([`super::meaning`]). Each stage goes on as long as
//! what it found leaves the next one something to say; then all mistakes are returned at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::attrs::{self, Shape, State};
use super::bind;
use super::check;
use super::locate;
use super::meaning;
use super::merge;
use super::model::Project;
use super::resolve;
use super::source::{Context, Files, Sources};
use super::tree::{Kind, Map, Node};
use super::vars::Variables;
use crate::base::diag::{Diagnostic, SourceFile, Span};

/// What the caller wants loaded.
#[derive(Clone, Debug)]
pub struct Options {
    /// The absolute folder in which the caller stands.
    pub current_folder: PathBuf,
    /// The caller's environment; also where `COMPOSE_*` and `HOME` are looked up.
    pub environment: BTreeMap<String, String>,
    /// `-f`, in order; `-` is standard input. Empty: `COMPOSE_FILE`, else the default names.
    pub files: Vec<PathBuf>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// `--env-file`, in order. Empty: `COMPOSE_ENV_FILES`, else `.env`.
    pub env_files: Vec<PathBuf>,
    /// `--profile`; `*` is all. Those of `COMPOSE_PROFILES` come on top.
    pub profiles: Vec<String>,
    /// The services that the command names: their profiles become active.
    pub services: Vec<String>,
    /// Make relative paths absolute (`false` for `config --no-path-resolution`).
    pub resolve_paths: bool,
    /// Read `env_file` into the services (`false` for `config --no-env-resolution`; `label_file` is always).
    pub resolve_environment: bool,
    /// Fill in names, the default network and implied dependencies (`false` for `config --no-normalize`).
    pub normalize: bool,
    /// Check references between services and resources (`false` for `config --no-consistency`).
    pub consistency: bool,
    /// `--compatibility`: `_` in made-up names. `COMPOSE_COMPATIBILITY` asks for it too.
    pub compatibility: bool,
    /// `--all-resources`: keep networks and volumes that no active service uses.
    pub all_resources: bool,
}

impl Options {
    /// The defaults, for a caller that stands in a folder.
    pub fn new(current_folder: impl Into<PathBuf>) -> Self {
        Self {
            current_folder: current_folder.into(),
            environment: BTreeMap::new(),
            files: Vec::new(),
            project_name: None,
            project_directory: None,
            env_files: Vec::new(),
            profiles: Vec::new(),
            services: Vec::new(),
            resolve_paths: true,
            resolve_environment: true,
            normalize: true,
            consistency: true,
            compatibility: false,
            all_resources: false,
        }
    }
}

/// A loaded project.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the files mean.
    pub project: Project,
    /// What is worth saying and stops nothing.
    pub warnings: Vec<Diagnostic>,
    /// Keys of the project's active part that nothing honours yet: `config` may print them, every command
    /// that would have to honour them must refuse with these.
    pub unsupported: Vec<Diagnostic>,
}

/// Loads a project.
///
/// # Errors
/// Every mistake of all files, those of one file in the order of their places.
pub fn load(options: &Options, files: &dyn Files) -> Result<Loaded, Vec<Diagnostic>> {
    let mut sources = Sources::new(files, &options.current_folder, options.resolve_paths);
    let Some(mut found) = locate::find(options, &mut sources) else { return Err(sources.mistakes) };
    let name = project_name(options, &mut sources, &found);
    if let Some(name) = &name {
        found.variables.values.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    }
    let mut tree = merged(&mut sources, &found);
    merge::unique(&mut tree, &attrs::TOP, &mut sources.mistakes);
    sources.mistakes.extend(check::check(&mut tree));
    if sources.mistakes.len() > MOST_MISTAKES {
        return Err(sorted(sources.mistakes));
    }
    let mut project = match bind::bind(&tree) {
        Ok(project) if !sources.incomplete && !check::lacks_a_section(&tree) => project,
        Ok(_) => return Err(sorted(sources.mistakes)),
        Err(mistakes) => {
            sources.mistakes.extend(mistakes);
            return Err(sorted(sources.mistakes));
        }
    };
    project.name = name.unwrap_or_default();
    project.working_dir = found.folder;
    project.files = found.files;
    project.environment = found.variables.values.clone();
    project.underscores = options.compatibility || is_set(&found.variables, "COMPOSE_COMPATIBILITY");
    let profiles = active_profiles(options, &found.variables);
    sources.mistakes.extend(resolve::profiles(&mut project, &profiles, &options.services));
    if options.consistency {
        sources.mistakes.extend(meaning::before(&project, &check::unclear(&tree)));
    }
    let folder = project.working_dir.to_string_lossy().into_owned();
    resolve::defaults(&mut project, if options.resolve_paths { &folder } else { "." });
    if options.normalize {
        resolve::normalize(&mut project);
    }
    resolve::environment(&mut project, &mut sources, options.resolve_environment);
    if options.consistency {
        sources.mistakes.extend(meaning::after(&project));
    }
    resolve::unused(&mut project, options.all_resources);
    if !sources.mistakes.is_empty() {
        return Err(sorted(sources.mistakes));
    }
    let mut warnings = found.variables.warnings();
    warnings.append(&mut sources.warnings);
    warnings.extend(without_effect(listed(&tree, &project, State::Elsewhere)));
    warnings.extend(meaning::without_effect(&project));
    let unsupported = listed(&tree, &project, State::Later)
        .into_iter()
        .map(|(path, key)| Diagnostic::error(format!("not supported yet: `{path}`")).at(key, ""));
    let unsupported = unsupported.collect();
    Ok(Loaded { project, warnings, unsupported })
}

/// Whether there is any compose file for [`load`]: named by an option or a variable, or found. Commands
/// that need only a project's name can do without one.
pub fn has_file(options: &Options, files: &dyn Files) -> bool {
    let mut sources = Sources::new(files, &options.current_folder, options.resolve_paths);
    locate::find(options, &mut sources).is_some()
}

/// The project's name; a mistake is kept.
pub(super) fn project_name(
    options: &Options,
    sources: &mut Sources<'_>,
    found: &locate::Found,
) -> Option<String> {
    let mut written = None;
    for path in &found.files {
        written = sources.name_in(path, &found.variables).or(written);
    }
    match locate::name(options, &found.variables, written.as_deref(), &found.folder) {
        Ok(name) => Some(name),
        Err(mistake) => {
            sources.mistakes.push(*mistake);
            None
        }
    }
}

/// All files, merged in order.
pub(super) fn merged(sources: &mut Sources<'_>, found: &locate::Found) -> Node {
    let nowhere = Span::new(&SourceFile::new("", ""), 0..0);
    let mut whole = Node::new(Kind::Map(Map::new()), nowhere);
    for path in &found.files {
        let chain = [path.clone()];
        let context = Context { folder: &found.folder, variables: &found.variables, chain: &chain };
        for document in sources.load(path, None, context) {
            whole = merge::merge(whole, document, Shape::Object(&attrs::TOP));
        }
    }
    if whole.as_map().is_some_and(Map::is_empty) && sources.mistakes.is_empty() {
        let shown = found.files.first().map(|file| file.display().to_string()).unwrap_or_default();
        sources.mistakes.push(Diagnostic::error(format!("`{shown}` is empty")));
    }
    whole
}

fn active_profiles(options: &Options, variables: &Variables) -> Vec<String> {
    let variable = variables.values.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
    let more = variable.split(',').map(str::trim).filter(|profile| !profile.is_empty());
    options.profiles.iter().cloned().chain(more.map(str::to_owned)).collect()
}

/// Whether a variable says yes.
fn is_set(variables: &Variables, name: &str) -> bool {
    let value = variables.values.get(name).map(|value| value.to_ascii_lowercase());
    matches!(value.as_deref(), Some("1" | "t" | "true" | "y" | "yes"))
}

/// The keys of the active part of the project whose row says `state`, each with its path.
fn listed(tree: &Node, project: &Project, state: State) -> Vec<(String, Span)> {
    let mut found = Vec::new();
    check::with_state(tree, &attrs::TOP, state, "", &mut found);
    let active = |path: &str| {
        let mut parts = path.splitn(3, '.');
        match (parts.next(), parts.next()) {
            (Some("services"), Some(_)) => {
                let own = |name: &str| path["services.".len()..].strip_prefix(name);
                project.services.keys().any(|name| own(name).is_some_and(|rest| rest.starts_with('.')))
            }
            (Some("networks"), Some(name)) => project.networks.contains_key(name),
            (Some("volumes"), Some(name)) => project.volumes.contains_key(name),
            (Some("models"), _) => !project.models.is_empty(),
            _ => true,
        }
    };
    let told = found.into_iter().filter(|(path, _)| active(path));
    told.map(|(path, entry)| (path, entry.key.clone())).collect()
}

/// One warning a key, however many services have it.
fn without_effect(found: Vec<(String, Span)>) -> Vec<Diagnostic> {
    let mut by_key: BTreeMap<String, (Diagnostic, Vec<String>)> = BTreeMap::new();
    for (path, place) in found {
        let named = |(at, part): (usize, &str)| match part.parse::<usize>() {
            _ if at == 1 => "*".to_owned(),
            Ok(_) => "*".to_owned(),
            Err(_) => part.to_owned(),
        };
        let key = path.split('.').enumerate().map(named).collect::<Vec<_>>().join(".");
        let first = || {
            let warning = Diagnostic::warning(format!("`{path}` has no effect here")).at(place, "");
            (warning, Vec::new())
        };
        match by_key.entry(key) {
            std::collections::btree_map::Entry::Vacant(free) => drop(free.insert(first())),
            std::collections::btree_map::Entry::Occupied(mut told) => told.get_mut().1.push(path),
        }
    }
    let warnings = by_key.into_values().map(|(warning, others)| match others.as_slice() {
        [] => warning,
        [one] => warning.note(format!("nor has `{one}`")),
        [one, rest @ ..] => warning.note(format!("nor have `{one}` and {} others", rest.len())),
    });
    warnings.collect()
}

/// Mistakes file by file in the order of their places, those without a place first, none twice.
pub(super) fn sorted(mut mistakes: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut order: Vec<String> = Vec::new();
    for (span, _) in mistakes.iter().filter_map(|mistake| mistake.place.as_ref()) {
        if !order.contains(&span.file.name) {
            order.push(span.file.name.clone());
        }
    }
    mistakes.sort_by_key(|mistake| {
        mistake
            .place
            .as_ref()
            .map(|(span, _)| (order.iter().position(|name| *name == span.file.name), span.range.start))
    });
    let mut kept: Vec<Diagnostic> = Vec::new();
    let all = mistakes.len();
    for (at, mistake) in mistakes.into_iter().enumerate() {
        if kept.len() == MOST_MISTAKES {
            kept.push(Diagnostic::error(format!("and {} more mistakes", all - at)));
            break;
        }
        if kept.last() != Some(&mistake) {
            kept.push(mistake);
        }
    }
    kept
}

/// How many mistakes are told in one run; a file with more is no compose file.
const MOST_MISTAKES: usize = 200;

/// Files on the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        if path == Path::new("-") {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut text)?;
            return Ok(text);
        }
        std::fs::read(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
}
