//! Judging the merged tree: what may not be empty, what is missing, what could not be interpolated.
//!
//! Also the lists that the attribute table's [`State`] column is for: keys that are not honoured yet and
//! keys that have an effect elsewhere only. References between services and resources are checked later, on
//! the typed project ([`super::meaning`]).

use super::attrs::{self, Object, Shape, State};
use super::shape::was_told;
use super::tree::{Kind, Node};
use crate::base::diag::Diagnostic;

/// Everything that is wrong with the shape of a merged project.
pub(super) fn check(tree: &Node) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    node(tree, Shape::Object(&attrs::TOP), false, "", &mut found);
    found
}

fn node(tree: &Node, shape: Shape, empty: bool, path: &str, found: &mut Vec<Diagnostic>) {
    if let Some(fault) = &tree.fault {
        if !was_told(fault) {
            found.push((**fault).clone());
        }
        return;
    }
    match (&tree.kind, shape) {
        (Kind::Null, Shape::Any | Shape::Pairs(_)) if path.contains('.') && empty => {}
        (Kind::Null, Shape::Object(object)) if object.empty || empty => {}
        (Kind::Null, Shape::Any) => {}
        (Kind::Null, _) if empty => {}
        (Kind::Null, shape) => {
            let message = format!("`{path}` is empty; it must be {}", expectation(shape));
            found.push(Diagnostic::error(message).at(tree.span.clone(), ""));
        }
        (_, Shape::Short(_, inner)) => node(tree, *inner, empty, path, found),
        (Kind::Map(_), Shape::Object(object)) => self::object(tree, object, path, found),
        (Kind::Map(map), Shape::Named(object)) => {
            for (key, entry) in map {
                node(&entry.node, Shape::Object(object), false, &join(path, key), found);
            }
        }
        (Kind::Map(map), Shape::Map(inner)) => {
            map.iter().for_each(|(key, entry)| node(&entry.node, *inner, false, &join(path, key), found));
        }
        (Kind::Map(map), Shape::Pairs(_)) => {
            map.iter().for_each(|(key, entry)| node(&entry.node, Shape::Any, true, &join(path, key), found));
        }
        (Kind::List(items), Shape::List(inner) | Shape::OneOrMany(inner)) => {
            let inner = match inner {
                Shape::Short(_, inner) => inner,
                inner => inner,
            };
            for (at, item) in items.iter().enumerate() {
                node(item, *inner, false, &join(path, &at.to_string()), found);
            }
        }
        (Kind::List(items), Shape::Command) => {
            for (at, item) in items.iter().enumerate() {
                node(item, Shape::Text, false, &join(path, &at.to_string()), found);
            }
        }
        _ => {}
    }
}

fn object(tree: &Node, object: &Object, path: &str, found: &mut Vec<Diagnostic>) {
    let Some(map) = tree.as_map() else { return };
    for (key, entry) in map {
        if let Some(attr) = object.attr(key) {
            if entry.node.is_null()
                && !attr.empty
                && entry.node.fault.is_none()
                && !object_may_be_empty(attr.shape)
            {
                let message =
                    format!("`{}` is empty; it must be {}", join(path, key), expectation(attr.shape));
                found.push(Diagnostic::error(message).at(entry.key.clone(), ""));
                continue;
            }
            node(&entry.node, attr.shape, attr.empty, &join(path, key), found);
        }
    }
    for key in object.required {
        if !map.contains_key(*key) {
            let message = format!("`{path}` needs `{key}`");
            found.push(Diagnostic::error(message).at(tree.span.clone(), ""));
        }
    }
}

fn object_may_be_empty(shape: Shape) -> bool {
    matches!(shape, Shape::Any) || matches!(shape, Shape::Object(object) if object.empty)
}

/// What a shape is, in words.
fn expectation(shape: Shape) -> &'static str {
    match shape {
        Shape::Text | Shape::Word(_) => "a string",
        Shape::TextLike => "a string, number or boolean",
        Shape::TextOrNumber => "a string or a number",
        Shape::Bool => "true or false",
        Shape::Whole | Shape::WholeOnly => "a whole number",
        Shape::Number => "a number",
        Shape::Size | Shape::SizeText => "a number of bytes such as `64m`",
        Shape::Duration => "a duration such as `1m30s`",
        Shape::Command | Shape::OneOrMany(_) => "a string or a list",
        Shape::List(_) => "a list",
        Shape::Pairs(_) => "a mapping or a list",
        Shape::Map(_) | Shape::Named(_) | Shape::Object(_) => "a mapping",
        Shape::Short(_, inner) => expectation(*inner),
        Shape::Any => "a value",
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The keys of a part of the project whose row says `state`: path and node of each.
pub(super) fn with_state<'a>(
    tree: &'a Node,
    object: &'static Object,
    state: State,
    path: &str,
    found: &mut Vec<(String, &'a super::tree::Entry)>,
) {
    let Some(map) = tree.as_map() else { return };
    for (key, entry) in map {
        let Some(attr) = object.attr(key) else { continue };
        let path = join(path, key);
        if attr.state == state {
            found.push((path, entry));
        } else {
            inside(&entry.node, attr.shape, state, &path, found);
        }
    }
}

fn inside<'a>(
    tree: &'a Node,
    shape: Shape,
    state: State,
    path: &str,
    found: &mut Vec<(String, &'a super::tree::Entry)>,
) {
    match (&tree.kind, shape) {
        (_, Shape::Short(_, inner)) => inside(tree, *inner, state, path, found),
        (_, Shape::Object(object)) => with_state(tree, object, state, path, found),
        (Kind::Map(map), Shape::Named(object)) => {
            for (key, entry) in map {
                with_state(&entry.node, object, state, &join(path, key), found);
            }
        }
        (Kind::Map(map), Shape::Map(inner)) => {
            map.iter().for_each(|(key, entry)| inside(&entry.node, *inner, state, &join(path, key), found));
        }
        (Kind::List(items), Shape::List(inner) | Shape::OneOrMany(inner)) => {
            for (at, item) in items.iter().enumerate() {
                inside(item, *inner, state, &join(path, &at.to_string()), found);
            }
        }
        _ => {}
    }
}
