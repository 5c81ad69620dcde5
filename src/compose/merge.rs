//! Merging: what a later file, or the child of `extends`, changes.
//!
//! Both sides are shaped, so each key has one form; the rule of each key is in the attribute table. A node
//! marked `!reset` takes the earlier value away, `!override` replaces it. Nodes keep the places they came
//! from, so that a mistake made by two files can show both. [`unique`] then drops the items of lists that
//! repeat earlier ones. Which files are merged in which order is not decided here.

use std::collections::HashMap;

use super::attrs::{Attr, Merge, Object, Shape, Unique};
use super::tree::{Kind, Map, Mark, Node};
use crate::base::diag::Diagnostic;

/// What `base` becomes when `over`, of shape `shape`, is laid over it.
pub(super) fn merge(base: Node, over: Node, shape: Shape) -> Node {
    merge_by(base, over, shape, Merge::Natural)
}

fn merge_by(base: Node, over: Node, shape: Shape, rule: Merge) -> Node {
    if over.mark == Mark::Override {
        return settle(over).unwrap_or(base);
    }
    if over.is_null() && rule != Merge::Replace && over.fault.is_none() {
        return base;
    }
    if rule == Merge::Replace || (rule == Merge::SameDriver && !same_driver(&base, &over)) {
        return settle(over).unwrap_or(base);
    }
    match (base.kind, over.kind) {
        (Kind::Map(mut under), Kind::Map(over)) => {
            for (key, entry) in over {
                lay(&mut under, key, entry, shape);
            }
            Node { kind: Kind::Map(under), span: base.span, mark: Mark::None, fault: base.fault }
        }
        (Kind::List(mut items), Kind::List(more)) => {
            let more = more.into_iter().filter_map(settle);
            match rule {
                Merge::BySubnet => by_subnet(&mut items, more.collect(), item_of(shape)),
                Merge::Union => union(&mut items, more),
                _ => items.extend(more),
            }
            Node { kind: Kind::List(items), span: base.span, mark: Mark::None, fault: base.fault }
        }
        (under, kind) => {
            let before = Node { kind: under, span: base.span, mark: Mark::None, fault: base.fault };
            let over = Node { kind, span: over.span, mark: over.mark, fault: over.fault };
            settle(over).unwrap_or(before)
        }
    }
}

/// Lays one entry of a later mapping over an earlier mapping.
fn lay(under: &mut Map, key: String, mut entry: super::tree::Entry, shape: Shape) {
    if entry.node.mark == Mark::Reset {
        under.remove(&key);
        return;
    }
    let (inner, rule) = rule_of(shape, &key);
    entry.node = match under.remove(&key) {
        Some(before) => {
            let replaced = entry.node.is_null() && rule != Merge::Replace;
            if replaced {
                entry.key = before.key.clone();
            }
            merge_by(before.node, entry.node, inner, rule)
        }
        None => match settle(entry.node) {
            Some(node) => node,
            None => return,
        },
    };
    under.insert(key, entry);
}

/// The shape and the rule of a key inside of a shape.
fn rule_of(shape: Shape, key: &str) -> (Shape, Merge) {
    match shape {
        Shape::Object(object) => match object.attr(key) {
            Some(attr) => (attr.shape, attr.merge),
            None => (Shape::Any, Merge::Natural),
        },
        Shape::Named(object) => (Shape::Object(object), Merge::Natural),
        Shape::Map(inner) => (*inner, Merge::Natural),
        Shape::Short(_, inner) => rule_of(*inner, key),
        Shape::Pairs(_) => (Shape::Any, Merge::Replace),
        _ => (Shape::Any, Merge::Natural),
    }
}

fn item_of(shape: Shape) -> Shape {
    match shape {
        Shape::List(item) | Shape::OneOrMany(item) => *item,
        Shape::Short(_, inner) => item_of(*inner),
        _ => Shape::Any,
    }
}

/// A value that meets no earlier one: marks have done their work, what is reset is not there.
pub(super) fn settle(node: Node) -> Option<Node> {
    if node.mark == Mark::Reset {
        return None;
    }
    if !has_marks(&node) {
        return Some(node);
    }
    let kind = match node.kind {
        Kind::Map(map) => {
            let entries = map.into_iter().filter_map(|(key, mut entry)| {
                entry.node = settle(entry.node)?;
                Some((key, entry))
            });
            Kind::Map(entries.collect())
        }
        Kind::List(items) => Kind::List(items.into_iter().filter_map(settle).collect()),
        kind => kind,
    };
    Some(Node { kind, mark: Mark::None, ..node })
}

/// Whether there is any mark in a node.
fn has_marks(node: &Node) -> bool {
    node.mark != Mark::None
        || match &node.kind {
            Kind::Map(map) => map.values().any(|entry| has_marks(&entry.node)),
            Kind::List(items) => items.iter().any(has_marks),
            _ => false,
        }
}

fn same_driver(base: &Node, over: &Node) -> bool {
    match (base.get_text("driver"), over.get_text("driver")) {
        (Some(before), Some(after)) => before == after,
        _ => true,
    }
}

fn by_subnet(items: &mut Vec<Node>, more: Vec<Node>, shape: Shape) {
    for item in more {
        let same = items.iter().position(|before| {
            before.get_text("subnet").is_some() && before.get_text("subnet") == item.get_text("subnet")
        });
        match same {
            Some(at) => {
                let span = items[at].span.clone();
                let before = std::mem::replace(&mut items[at], Node::new(Kind::Null, span));
                items[at] = merge(before, item, shape);
            }
            None => items.push(item),
        }
    }
}

fn union(items: &mut Vec<Node>, more: impl Iterator<Item = Node>) {
    for item in more {
        if !items.iter().any(|before| before.as_text() == item.as_text()) {
            items.push(item);
        }
    }
}

/// Whether two values mean the same, wherever they were written.
pub(super) fn same(left: &Node, right: &Node) -> bool {
    match (&left.kind, &right.kind) {
        (Kind::Null, Kind::Null) => true,
        (Kind::Bool(left), Kind::Bool(right)) => left == right,
        (Kind::Int(left), Kind::Int(right)) => left == right,
        (Kind::Float(left), Kind::Float(right)) => left == right,
        (Kind::Text(left), Kind::Text(right)) | (Kind::Date(left), Kind::Date(right)) => left == right,
        (Kind::List(left), Kind::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Kind::Map(left), Kind::Map(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|((key, entry), (other, value))| key == other && same(&entry.node, &value.node))
        }
        _ => false,
    }
}

/// Applies the rules of uniqueness to a merged object; repeated items that may not be are told.
pub(super) fn unique(node: &mut Node, object: &Object, mistakes: &mut Vec<Diagnostic>) {
    let Some(map) = node.as_map_mut() else { return };
    for (key, entry) in map {
        let Some(attr) = object.attr(key) else { continue };
        unique_items(&mut entry.node, attr, mistakes);
        match inner(attr.shape) {
            Shape::Object(object) => unique(&mut entry.node, object, mistakes),
            Shape::Named(object) => {
                let children = entry.node.as_map_mut().into_iter().flat_map(|map| map.values_mut());
                children.for_each(|child| unique(&mut child.node, object, mistakes));
            }
            _ => {}
        }
    }
}

fn inner(shape: Shape) -> Shape {
    match shape {
        Shape::Short(_, inner) => *inner,
        shape => shape,
    }
}

fn unique_items(node: &mut Node, attr: &Attr, mistakes: &mut Vec<Diagnostic>) {
    let Kind::List(items) = &mut node.kind else { return };
    match attr.unique {
        Unique::Keep => {}
        Unique::By(identity) => {
            let mut seen: HashMap<String, usize> = HashMap::new();
            let mut kept: Vec<Node> = Vec::with_capacity(items.len());
            for item in items.drain(..) {
                match identity(&item) {
                    Some(identity) => match seen.get(&identity) {
                        Some(at) => kept[*at] = item,
                        None => {
                            seen.insert(identity, kept.len());
                            kept.push(item);
                        }
                    },
                    None => kept.push(item),
                }
            }
            *items = kept;
        }
        Unique::Refuse => {
            let mut seen: HashMap<String, &Node> = HashMap::new();
            for item in items.iter() {
                let Some(text) = item.scalar_text() else { continue };
                if let Some(first) = seen.get(&text) {
                    let mistake = Diagnostic::error(format!("`{text}` stands twice in `{}`", attr.key))
                        .at(item.span.clone(), "again here")
                        .also(first.span.clone(), "first here");
                    mistakes.push(mistake);
                }
                seen.insert(text, item);
            }
        }
    }
}
