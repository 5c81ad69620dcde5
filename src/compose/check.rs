//! Judging the merged tree: what may not be empty, what is missing, what could not be interpolated.
//!
//! Also the lists that the attribute table's [`State`] column is for: keys that are not honoured yet and
//! keys that have an effect elsewhere only. References between services and resources are checked later, on
//! the typed project ([`super::meaning`]).

use std::collections::BTreeSet;

use super::attrs::{self, Object, Shape, State};
use super::shape::{told, was_told};
use super::tree::{Kind, Node};
use crate::base::diag::{Diagnostic, Span};

/// Everything that is wrong with the shape of a merged project. What is told is marked as told, so that
/// later stages pass it over.
pub(super) fn check(tree: &mut Node) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    node(tree, Shape::Object(&attrs::TOP), false, "", &mut found);
    found
}

/// Tells a mistake about a node, once.
fn tell(tree: &mut Node, message: String, place: Span, found: &mut Vec<Diagnostic>) {
    found.push(Diagnostic::error(message).at(place, ""));
    tree.fault = Some(Box::new(told()));
}

fn node(tree: &mut Node, shape: Shape, empty: bool, path: &str, found: &mut Vec<Diagnostic>) {
    if let Some(fault) = &mut tree.fault {
        if !was_told(fault) {
            found.push(std::mem::replace(fault, told()));
        }
        return;
    }
    match (&mut tree.kind, shape) {
        (Kind::Null, shape) if empty || may_be_empty(shape) => {}
        (Kind::Null, shape) => {
            let message = format!("`{path}` is empty; it must be {}", expectation(shape));
            tell(tree, message, tree.span.clone(), found);
        }
        (_, Shape::Short(_, inner)) => node(tree, *inner, empty, path, found),
        (Kind::Map(_), Shape::Object(object)) => self::object(tree, object, path, found),
        (Kind::Map(map), Shape::Named(_) | Shape::Map(_) | Shape::Pairs(_)) => {
            let (inner, empty) = match shape {
                Shape::Named(object) => (Shape::Object(object), false),
                Shape::Map(inner) => (*inner, false),
                _ => (Shape::Any, true),
            };
            map.iter_mut()
                .for_each(|(key, entry)| node(&mut entry.node, inner, empty, &join(path, key), found));
        }
        (Kind::List(items), Shape::List(_) | Shape::OneOrMany(_) | Shape::Command) => {
            let inner = match shape {
                Shape::List(Shape::Short(_, inner)) | Shape::OneOrMany(Shape::Short(_, inner)) => inner,
                Shape::List(inner) | Shape::OneOrMany(inner) => inner,
                _ => &Shape::Text,
            };
            for (at, item) in items.iter_mut().enumerate() {
                node(item, *inner, false, &join(path, &at.to_string()), found);
            }
        }
        _ => {}
    }
}

fn object(tree: &mut Node, object: &Object, path: &str, found: &mut Vec<Diagnostic>) {
    let Some(map) = tree.as_map_mut() else { return };
    for (key, entry) in map.iter_mut() {
        let Some(attr) = object.attr(key) else { continue };
        let path = join(path, key);
        let empty = entry.node.is_null() && entry.node.fault.is_none();
        if empty && !attr.empty && !may_be_empty(attr.shape) {
            let message = format!("`{path}` is empty; it must be {}", expectation(attr.shape));
            tell(&mut entry.node, message, entry.key.clone(), found);
        } else {
            node(&mut entry.node, attr.shape, attr.empty, &path, found);
        }
    }
    let broken = |key: &str| map.get(key).is_some_and(|entry| entry.node.fault.is_some());
    let missing: Vec<_> = object.required.iter().filter(|key| !map.contains_key(**key)).collect();
    let is_broken = object.required.iter().any(|key| broken(key));
    for key in missing {
        tell(tree, format!("`{path}` needs `{key}`"), tree.span.clone(), found);
    }
    if is_broken {
        tree.fault = Some(Box::new(told()));
    }
}

/// Whether a shape has a meaning when it is empty.
fn may_be_empty(shape: Shape) -> bool {
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

/// The services and resources (`services.web`) about which some mistake was told already, so that what they
/// lack may be said by it.
pub(super) fn unclear(tree: &Node) -> BTreeSet<String> {
    let mut unclear = BTreeSet::new();
    for (section, entry) in tree.as_map().into_iter().flatten() {
        let Some(Shape::Named(object)) = attrs::TOP.attr(section).map(|attr| attr.shape) else { continue };
        for (name, entry) in entry.node.as_map().into_iter().flatten() {
            let keys = entry.node.as_map().into_iter().flatten();
            let unknown = |key: &str| object.attr(key).is_none() && !key.starts_with("x-");
            if has_fault(&entry.node) || keys.into_iter().any(|(key, _)| unknown(key)) {
                unclear.insert(format!("{section}.{name}"));
            }
        }
    }
    unclear
}

/// Whether a whole section could not be read, so that references into it cannot be judged.
pub(super) fn lacks_a_section(tree: &Node) -> bool {
    let sections = tree.as_map().into_iter().flatten();
    sections.into_iter().any(|(key, entry)| {
        let named = attrs::TOP.attr(key).is_some_and(|attr| matches!(attr.shape, Shape::Named(_)));
        entry.node.fault.is_some() || (named && entry.node.as_map().is_none())
    })
}

fn has_fault(node: &Node) -> bool {
    let inner = match &node.kind {
        Kind::Map(map) => map.values().any(|entry| has_fault(&entry.node)),
        Kind::List(items) => items.iter().any(has_fault),
        _ => false,
    };
    inner || node.fault.is_some()
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
        if attr.state == state {
            found.push((join(path, key), entry));
        } else if has_rows(attr.shape) {
            inside(&entry.node, attr.shape, state, &join(path, key), found);
        }
    }
}

/// Whether there are rows of the table inside of a shape.
fn has_rows(shape: Shape) -> bool {
    match shape {
        Shape::Object(_) | Shape::Named(_) => true,
        Shape::Short(_, inner) | Shape::Map(inner) | Shape::List(inner) | Shape::OneOrMany(inner) => {
            has_rows(*inner)
        }
        _ => false,
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
