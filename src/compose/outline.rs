//! The project with its variables left as they are written: `config --no-interpolate` and `--variables`.
//!
//! The same stages as [`super::load`], up to the merged tree; a value with a variable cannot be judged or
//! typed, so the outline stays a tree and is given out as JSON, not as a `Project`. Every other value has its
//! long form. Which files are read (`include`, `extends`, the project's name) is decided with the variables
//! replaced. Loading the printed outline gives the project itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::attrs;
use super::bind;
use super::check;
use super::load::{self, Options};
use super::locate;
use super::merge;
use super::resolve;
use super::source::{Files, Sources};
use super::tree::{Kind, Node};
use super::vars::{self, Variable};
use crate::base::diag::Diagnostic;

/// A project whose variables are not replaced.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The whole project, services of all profiles, with every key in alphabetical order.
    pub model: Value,
    /// The variables that its values refer to, by name.
    pub variables: BTreeMap<String, Variable>,
    /// What is worth saying and stops nothing.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a project without replacing its variables. Of the options, `consistency`, `resolve_environment` and
/// the profiles say nothing here.
///
/// # Errors
/// Every mistake of all files that does not depend on a variable.
pub fn outline(options: &Options, files: &dyn Files) -> Result<Outline, Vec<Diagnostic>> {
    let mut sources = Sources::new(files, &options.current_folder, options.resolve_paths);
    sources.interpolate = false;
    let Some(found) = locate::find(options, &mut sources) else { return Err(sources.mistakes) };
    let name = load::project_name(options, &mut sources, &found).unwrap_or_default();
    let mut tree = load::merged(&mut sources, &found);
    merge::unique(&mut tree, &attrs::TOP, &mut sources.mistakes);
    sources.mistakes.extend(check::check(&mut tree));
    if !sources.mistakes.is_empty() {
        return Err(load::sorted(sources.mistakes));
    }
    let mut variables = BTreeMap::new();
    collect(&tree, &mut variables);
    let Value::Object(mut model) = bind::plain(&tree) else { return Err(Vec::new()) };
    model.remove("version");
    model.insert("name".to_owned(), Value::String(name.clone()));
    if options.normalize {
        let folder = if options.resolve_paths { found.folder.to_string_lossy() } else { ".".into() };
        normalize(&mut model, &name, &folder);
    }
    model.sort_keys();
    Ok(Outline { model: Value::Object(model), variables, warnings: sources.warnings })
}

/// The variables of all values, in the order of the keys; the first mention that says something counts.
fn collect(node: &Node, found: &mut BTreeMap<String, Variable>) {
    match &node.kind {
        Kind::Text(text) => vars::declared(text, found),
        Kind::List(items) => items.iter().for_each(|item| collect(item, found)),
        Kind::Map(map) => map.values().for_each(|entry| collect(&entry.node, found)),
        _ => {}
    }
}

/// What [`resolve::normalize`] does, as far as it does not depend on variables.
fn normalize(model: &mut Map<String, Value>, project: &str, folder: &str) {
    let mut uses_default = false;
    let services = model.get_mut("services").and_then(Value::as_object_mut);
    for service in services.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        uses_default |= normalize_service(service, folder);
    }
    if uses_default {
        let networks = model.entry("networks").or_insert_with(|| json!({}));
        if let Some(networks) = networks.as_object_mut() {
            networks.entry("default").or_insert(Value::Null);
            networks.sort_keys();
        }
    }
    for section in ["networks", "volumes", "configs", "secrets"] {
        let entries = model.get_mut(section).and_then(Value::as_object_mut);
        for (key, entry) in entries.into_iter().flatten() {
            if entry.is_null() {
                *entry = json!({});
            }
            let Some(map) = entry.as_object_mut() else { continue };
            let external = map.get("external") == Some(&Value::Bool(true));
            let name = if external { key.clone() } else { format!("{project}_{key}") };
            map.entry("name").or_insert(Value::String(name));
        }
    }
}

/// Normalises one service; whether it is in the default network.
fn normalize_service(service: &mut Map<String, Value>, folder: &str) -> bool {
    let is_empty = |value: Option<&Value>| match value {
        Some(Value::Object(map)) => map.is_empty(),
        Some(value) => value.is_null(),
        None => true,
    };
    if let Some(build) = service.get_mut("build").and_then(Value::as_object_mut) {
        build.entry("context").or_insert_with(|| Value::String(folder.to_owned()));
        if !build.contains_key("dockerfile_inline") {
            build.entry("dockerfile").or_insert_with(|| json!("Dockerfile"));
        }
        build.sort_keys();
    }
    if service.get("pull_policy") == Some(&json!("if_not_present")) {
        service.insert("pull_policy".to_owned(), json!("missing"));
    }
    for (name, restart) in implied(service) {
        let needs = service.entry("depends_on").or_insert_with(|| json!({}));
        let need = || json!({ "condition": "service_started", "required": true, "restart": restart });
        if let Some(needs) = needs.as_object_mut() {
            needs.entry(name).or_insert_with(need);
        }
    }
    let alone = service.contains_key("network_mode") || service.contains_key("provider");
    if !alone && is_empty(service.get("networks")) {
        service.insert("networks".to_owned(), json!({ "default": null }));
    }
    service.sort_keys();
    service.get("networks").is_some_and(|networks| networks.get("default").is_some())
}

/// The services that a service names in other keys than `depends_on`, except by variables.
fn implied(service: &Map<String, Value>) -> Vec<(String, bool)> {
    let texts = |key: &str| -> Vec<String> {
        let list = service.get(key).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mode = |key: &&str| service.get(*key).and_then(Value::as_str).map(str::to_owned);
    let modes: Vec<String> = resolve::SHARING.iter().filter_map(mode).collect();
    let mut found = resolve::needs(&texts("links"), &modes, &texts("volumes_from"));
    found.retain(|(name, _)| !name.contains('$'));
    found
}
