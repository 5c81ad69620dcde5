//! Printing a project as `config` does: JSON, and YAML in Docker Compose's layout.
//!
//! Every literal dollar of a value is doubled, so that what is printed loads to the same project. In JSON the keys of
//! extensions below the top level are left out and empty objects stay, in YAML it is the other way round, as
//! with Docker Compose.

use serde_json::{Map, Value};

use super::model::{Extensions, Project};

/// The project as JSON, indented by two spaces, with a final newline.
pub fn to_json(project: &Project) -> String {
    let mut text = serde_json::to_string_pretty(&Value::Object(sections(project, false))).unwrap_or_default();
    text.push('\n');
    text
}

/// The project as YAML.
pub fn to_yaml(project: &Project) -> String {
    super::yaml::emit(&Value::Object(sections(project, true)))
}

/// Any value in the same layout, its dollars as they are: for an [`Outline`](super::Outline).
pub fn value_to_yaml(value: &Value) -> String {
    super::yaml::emit(value)
}

/// The sections in the order in which they are printed; with extensions for YAML.
fn sections(project: &Project, extensions: bool) -> Map<String, Value> {
    let mut all = match serde_json::to_value(project) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let mut result = Map::new();
    let order: &[&str] = if extensions {
        &["name", "services", "networks", "volumes", "secrets", "configs", "models"]
    } else {
        &["configs", "models", "name", "networks", "secrets", "services", "volumes"]
    };
    for key in order {
        if let Some(value) = all.shift_remove(*key) {
            result.insert((*key).to_owned(), value);
        }
    }
    result.extend(all);
    if extensions {
        extend(project, &mut result);
    } else {
        watch_hooks(&mut result);
    }
    result.values_mut().for_each(double_dollars);
    result
}

/// Doubles the dollars of all texts; keys are not interpolated and stay.
fn double_dollars(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Value::Array(items) => items.iter_mut().for_each(double_dollars),
        Value::Object(map) => map.values_mut().for_each(double_dollars),
        _ => {}
    }
}

/// In JSON every watch has a hook, if only an empty one.
fn watch_hooks(result: &mut Map<String, Value>) {
    let services = result.get_mut("services").and_then(Value::as_object_mut);
    for service in services.into_iter().flat_map(Map::values_mut) {
        let watch = service.pointer_mut("/develop/watch").and_then(Value::as_array_mut);
        for trigger in watch.into_iter().flatten().filter_map(Value::as_object_mut) {
            trigger.entry("exec").or_insert_with(|| serde_json::json!({ "command": null }));
        }
    }
}

/// Adds the extensions and takes away what YAML leaves out.
fn extend(project: &Project, result: &mut Map<String, Value>) {
    fn section<'a>(
        result: &'a mut Map<String, Value>,
        section: &str,
        key: &str,
    ) -> Option<&'a mut Map<String, Value>> {
        result.get_mut(section)?.get_mut(key)?.as_object_mut()
    }
    for (name, service) in &project.services {
        let Some(printed) = section(result, "services", name) else { continue };
        for key in ["command", "entrypoint"] {
            if printed.get(key).is_some_and(Value::is_null) {
                printed.shift_remove(key);
            }
        }
        add(printed, "build", service.build.as_ref().map(|part| &part.extensions));
        add(printed, "deploy", service.deploy.as_ref().map(|part| &part.extensions));
        add(printed, "develop", service.develop.as_ref().map(|part| &part.extensions));
        add(printed, "healthcheck", service.healthcheck.as_ref().map(|part| &part.extensions));
        add(printed, "logging", service.logging.as_ref().map(|part| &part.extensions));
        if let Some(deploy) = printed.get_mut("deploy").and_then(Value::as_object_mut) {
            for key in ["resources", "placement"] {
                if deploy.get(key).and_then(Value::as_object).is_some_and(Map::is_empty) {
                    deploy.shift_remove(key);
                }
            }
        }
        printed.extend(service.extensions.clone());
    }
    for (name, network) in &project.networks {
        let Some(printed) = section(result, "networks", name) else { continue };
        if printed.get("ipam").and_then(Value::as_object).is_some_and(Map::is_empty) {
            printed.shift_remove("ipam");
        }
        printed.extend(network.extensions.clone());
    }
    let others = [
        ("volumes", project.volumes.iter().map(|(key, one)| (key, &one.extensions)).collect::<Vec<_>>()),
        ("configs", project.configs.iter().map(|(key, one)| (key, &one.extensions)).collect()),
        ("secrets", project.secrets.iter().map(|(key, one)| (key, &one.extensions)).collect()),
        ("models", project.models.iter().map(|(key, one)| (key, &one.extensions)).collect()),
    ];
    for (name, entries) in others {
        for (key, extensions) in entries {
            if let Some(printed) = section(result, name, key) {
                printed.extend(extensions.clone());
            }
        }
    }
}

fn add(printed: &mut Map<String, Value>, key: &str, extensions: Option<&Extensions>) {
    if let (Some(extensions), Some(Value::Object(part))) = (extensions, printed.get_mut(key)) {
        part.extend(extensions.clone());
    }
}
