//! Binding: the merged, checked tree becomes the typed project, the places of its keys a side table.
//!
//! What compose leaves out when it is empty is left out here, so that `config` prints the same. Nothing is
//! decided: a value that does not fit its type was refused before.

use serde::de::DeserializeOwned;
use serde_json::{Map as Object, Number, Value};

use super::attrs::{self, Shape};
use super::model::{Extensions, Inner, Place, Project, Service, Spans};
use super::tree::{Entry, Kind, Map, Node};
use crate::base::diag::{Diagnostic, Span};

/// Keys whose zero or `false` says something else than their absence.
const SAYS_ZERO: &[&str] = &[
    "attach",
    "create_host_path",
    "enable_ipv4",
    "enable_ipv6",
    "hard",
    "init",
    "max_attempts",
    "parallelism",
    "replicas",
    "required",
    "retries",
    "scale",
    "soft",
    "target",
    "weight",
];

/// The typed form of a merged tree.
///
/// # Errors
/// A value that the checks let through and the types do not; each with its place.
pub(super) fn bind(tree: &Node) -> Result<Project, Vec<Diagnostic>> {
    let mut project = Project::default();
    let mut mistakes = Vec::new();
    let Some(top) = tree.as_map() else { return Ok(project) };
    project.extensions = extensions(tree);
    project.name = tree.get_text("name").unwrap_or_default().to_owned();
    section(top, "services", &attrs::SERVICE, &mut project.services, &mut mistakes, extend_service);
    section(top, "networks", &attrs::NETWORK, &mut project.networks, &mut mistakes, |network, node| {
        network.extensions = extensions(node);
    });
    section(top, "volumes", &attrs::VOLUME, &mut project.volumes, &mut mistakes, |volume, node| {
        volume.extensions = extensions(node);
    });
    section(top, "configs", &attrs::CONFIG, &mut project.configs, &mut mistakes, |config, node| {
        config.extensions = extensions(node);
    });
    section(top, "secrets", &attrs::SECRET, &mut project.secrets, &mut mistakes, |secret, node| {
        secret.extensions = extensions(node);
    });
    section(top, "models", &attrs::MODEL, &mut project.models, &mut mistakes, |model, node| {
        model.extensions = extensions(node);
    });
    project.spans = Spans::new(places(tree, None));
    if mistakes.is_empty() { Ok(project) } else { Err(mistakes) }
}

/// Binds one section, name by name.
fn section<T: DeserializeOwned + Default>(
    top: &Map,
    name: &str,
    object: &'static attrs::Object,
    into: &mut std::collections::BTreeMap<String, T>,
    mistakes: &mut Vec<Diagnostic>,
    finish: impl Fn(&mut T, &Node),
) {
    let Some(entries) = top.get(name).and_then(|entry| entry.node.as_map()) else { return };
    for (key, entry) in entries {
        let value = match value(&entry.node, Shape::Object(object)) {
            Value::Null => Value::Object(Object::new()),
            value => value,
        };
        match serde_json::from_value::<T>(value) {
            Ok(mut typed) => {
                finish(&mut typed, &entry.node);
                into.insert(key.clone(), typed);
            }
            Err(error) => {
                let error = error.to_string();
                let value =
                    error.strip_prefix("invalid value: ").and_then(|rest| rest.split(", expected").next());
                let said = value.unwrap_or(&error);
                let message = format!("`{name}.{key}` holds a value out of range: {said}");
                mistakes.push(Diagnostic::error(message).at(entry.key.clone(), ""));
            }
        }
    }
}

fn extend_service(service: &mut Service, node: &Node) {
    service.extensions = extensions(node);
    let of = |key: &str| node.get(key).map(extensions).unwrap_or_default();
    if let Some(build) = &mut service.build {
        build.extensions = of("build");
    }
    if let Some(deploy) = &mut service.deploy {
        deploy.extensions = of("deploy");
    }
    if let Some(develop) = &mut service.develop {
        develop.extensions = of("develop");
    }
    if let Some(healthcheck) = &mut service.healthcheck {
        healthcheck.extensions = of("healthcheck");
    }
    if let Some(logging) = &mut service.logging {
        logging.extensions = of("logging");
    }
}

/// The `x-*` keys of a mapping.
fn extensions(node: &Node) -> Extensions {
    let entries = node.as_map().into_iter().flatten().filter(|(key, _)| key.starts_with("x-"));
    entries.map(|(key, entry)| (key.clone(), value(&entry.node, Shape::Any))).collect()
}

/// A node as JSON; keys of known objects that are empty are left out, and so are their `x-*` keys.
fn value(node: &Node, shape: Shape) -> Value {
    match (&node.kind, shape) {
        (_, Shape::Short(_, inner)) => value(node, *inner),
        (Kind::Null, _) => Value::Null,
        (Kind::Bool(truth), _) => Value::Bool(*truth),
        (Kind::Int(number), _) => Value::Number((*number).into()),
        (Kind::Float(number), _) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        (Kind::Text(text) | Kind::Date(text), _) => Value::String(text.clone()),
        (Kind::List(items), shape) => {
            let inner = match shape {
                Shape::List(inner) | Shape::OneOrMany(inner) => *inner,
                _ => Shape::Any,
            };
            let sound = items.iter().filter(|item| item.fault.is_none());
            Value::Array(sound.map(|item| value(item, inner)).collect())
        }
        (Kind::Map(map), Shape::Object(object)) => {
            let known =
                map.iter().filter(|(_, entry)| entry.node.fault.is_none()).filter_map(|(key, entry)| {
                    let attr = object.attr(key)?;
                    let value = value(&entry.node, attr.shape);
                    (!left_out(key, &value)).then(|| (key.clone(), value))
                });
            Value::Object(known.collect())
        }
        (Kind::Map(map), shape) => {
            let inner = match shape {
                Shape::Map(inner) => *inner,
                Shape::Named(object) => Shape::Object(object),
                _ => Shape::Any,
            };
            let sound = map.iter().filter(|(_, entry)| entry.node.fault.is_none());
            Value::Object(sound.map(|(key, entry)| (key.clone(), value(&entry.node, inner))).collect())
        }
    }
}

/// A whole tree as JSON, nothing left out.
pub(super) fn plain(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Bool(truth) => Value::Bool(*truth),
        Kind::Int(number) => Value::Number((*number).into()),
        Kind::Float(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Kind::Text(text) | Kind::Date(text) => Value::String(text.clone()),
        Kind::List(items) => Value::Array(items.iter().map(plain).collect()),
        Kind::Map(map) => {
            Value::Object(map.iter().map(|(key, entry)| (key.clone(), plain(&entry.node))).collect())
        }
    }
}

/// Whether a key is as good as absent.
fn left_out(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() || (text == "0" && key.starts_with("mem")),
        Value::Bool(truth) => !truth && !SAYS_ZERO.contains(&key),
        Value::Number(number) => number.as_f64() == Some(0.0) && !SAYS_ZERO.contains(&key),
        Value::Array(items) => items.is_empty() && key != "command" && key != "entrypoint",
        Value::Object(_) => false,
    }
}

/// Where each key and list item stands: a collection by its key, anything else by its value.
fn places(node: &Node, span: Option<Span>) -> Place {
    let inner = match &node.kind {
        Kind::Map(map) => {
            let place = |(key, entry): (&String, &Entry)| {
                let collection = matches!(entry.node.kind, Kind::Map(_) | Kind::List(_) | Kind::Null);
                let span = if collection { &entry.key } else { &entry.node.span };
                (key.clone(), places(&entry.node, Some(span.clone())))
            };
            Inner::Keys(map.iter().map(place).collect())
        }
        Kind::List(items) => {
            Inner::Items(items.iter().map(|item| places(item, Some(item.span.clone()))).collect())
        }
        _ => Inner::Nothing,
    };
    Place { span, inner }
}
