//! `extends`: a service that begins as a copy of another one, of this file or of another file.
//!
//! Works on one shaped document: a base in the same file is looked for in that document alone, one in another
//! file is read with the variables of this one and its own folder. The child is laid over the base by the
//! ordinary rules of merging. Cycles are drawn as a path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::attrs::{self, Shape};
use super::merge;
use super::shape::told;
use super::source::{Context, Sources, locate};
use super::tree::{Entry, Kind, Map, Node};
use crate::base::diag::{Diagnostic, Span};

/// How many services may extend each other one by one.
const MOST_DEPTH: usize = 100;

/// Extends the services of a document that was read from `path`.
pub(super) fn apply(sources: &mut Sources<'_>, document: &mut Node, path: &Path, context: Context<'_>) {
    let Some(services) = services_of(document) else { return };
    if !services.values().any(|entry| entry.node.get("extends").is_some()) {
        return;
    }
    let names: Vec<String> = services.keys().cloned().collect();
    let places: Vec<Span> = services.values().map(|entry| entry.key.clone()).collect();
    let mut extender = Extender {
        sources,
        files: BTreeMap::new(),
        done: BTreeMap::new(),
        faults: BTreeMap::new(),
        stack: Vec::new(),
    };
    extender.files.insert(path.to_owned(), std::mem::take(services));
    for (name, asked) in names.iter().zip(&places) {
        extender.service(path, name, asked, context);
    }
    for (name, key) in names.into_iter().zip(places) {
        let id = (path.to_owned(), name);
        if let Some(Some(node)) = extender.done.remove(&id) {
            services.insert(id.1, Entry { key, node });
        }
    }
}

fn services_of(document: &mut Node) -> Option<&mut Map> {
    document.as_map_mut()?.get_mut("services")?.node.as_map_mut()
}

/// A file and one of its services.
type Id = (PathBuf, String);

struct Extender<'s, 'f> {
    sources: &'s mut Sources<'f>,
    /// The services of each file, not extended yet; those that are leave null behind.
    files: BTreeMap<PathBuf, Map>,
    /// Services that are extended already.
    done: BTreeMap<Id, Option<Node>>,
    /// What is wrong with services of other files that nothing has extended yet.
    faults: BTreeMap<Id, Vec<Diagnostic>>,
    /// The services being extended, each with the place that asked for it.
    stack: Vec<(Id, Span)>,
}

impl Extender<'_, '_> {
    /// Puts a service with everything that it extends among those that are done, unless it is.
    fn service(&mut self, file: &Path, name: &str, asked: &Span, context: Context<'_>) {
        let id = (file.to_owned(), name.to_owned());
        if self.done.contains_key(&id) {
            return;
        }
        if let Some(start) = self.stack.iter().position(|(other, _)| *other == id) {
            self.cycle(start, asked);
            return;
        }
        if self.stack.len() >= MOST_DEPTH {
            let message = format!("more than {MOST_DEPTH} services extend each other one by one");
            self.sources.incomplete = true;
            self.sources.mistakes.push(Diagnostic::error(message).at(asked.clone(), ""));
            return;
        }
        self.stack.push((id.clone(), asked.clone()));
        let result = self.extend(file, name, context);
        self.stack.pop();
        self.done.insert(id, result);
    }

    fn extend(&mut self, file: &Path, name: &str, context: Context<'_>) -> Option<Node> {
        let entry = self.files.get_mut(file)?.get_mut(name)?;
        let empty = Node::new(Kind::Null, entry.node.span.clone());
        let mut child = std::mem::replace(&mut entry.node, empty);
        let Some(map) = child.as_map_mut() else { return Some(child) };
        let Some(mut extends) = map.remove("extends") else { return Some(child) };
        self.sources.settle(&mut extends.node, context.variables);
        let (Some(base), file_node) = (extends.node.get("service"), extends.node.get("file")) else {
            if extends.node.fault.is_none() {
                let mistake = Diagnostic::error(format!("`services.{name}.extends` needs a `service`"));
                self.sources.mistakes.push(mistake.at(extends.key, ""));
            }
            return None;
        };
        let base_name = base.as_text()?.to_owned();
        let base = match file_node.and_then(Node::as_text) {
            None => self.find(file, &base_name, &base.span, context)?,
            Some(path) => {
                if super::paths::is_other_context(path) {
                    let message = format!("not supported yet: `extends` from `{path}`");
                    self.sources.mistakes.push(Diagnostic::error(message).at(extends.node.span.clone(), ""));
                    return None;
                }
                let path = locate(path, context);
                let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
                // A file in the same folder counts as the project itself does.
                let folder = if path == file { context.folder.to_owned() } else { folder };
                let inner = Context { folder: &folder, ..context };
                if !self.open(&path, &extends.node.span, inner) {
                    return None;
                }
                self.find(&path, &base_name, &base.span, inner)?
            }
        };
        Some(merge::merge(base, child, Shape::Object(&attrs::SERVICE)))
    }

    /// Reads the services of another file, shaping them; whether it could be read.
    fn open(&mut self, path: &Path, asked: &Span, context: Context<'_>) -> bool {
        if self.files.contains_key(path) {
            return true;
        }
        let before = self.sources.mistakes.len();
        let mut services = Map::new();
        for mut document in self.sources.documents(path, Some(asked), context.variables) {
            if let Some(found) = services_of(&mut document) {
                services.append(found);
            }
        }
        if self.sources.mistakes.len() > before {
            return false;
        }
        let mut faults = Vec::new();
        for (name, entry) in &mut services {
            let before = self.sources.mistakes.len();
            let path = format!("services.{name}");
            self.sources.shape(&mut entry.node, Shape::Object(&attrs::SERVICE), &path, context);
            // Only the mistakes of services that are extended count; they are kept until one asks.
            let found: Vec<Diagnostic> = self.sources.mistakes.drain(before..).collect();
            if !found.is_empty() {
                entry.node.fault = Some(Box::new(told()));
                faults.push((name.clone(), found));
            }
        }
        for (name, found) in faults {
            self.faults.insert((path.to_owned(), name), found);
        }
        self.files.insert(path.to_owned(), services);
        true
    }

    fn find(&mut self, file: &Path, name: &str, asked: &Span, context: Context<'_>) -> Option<Node> {
        let services = self.files.get(file)?;
        if !services.contains_key(name) {
            self.sources.incomplete = true;
            let shown = file.strip_prefix(self.sources.shown_from).unwrap_or(file).display();
            let mistake = Diagnostic::error(format!("there is no service `{name}` in `{shown}` to extend"))
                .at(asked.clone(), "")
                .did_you_mean(name, services.keys().map(String::as_str));
            self.sources.mistakes.push(mistake);
            return None;
        }
        for fault in self.faults.remove(&(file.to_owned(), name.to_owned())).unwrap_or_default() {
            self.sources.mistakes.push(fault.also(asked.clone(), format!("`{name}` is extended here")));
        }
        self.service(file, name, asked, context);
        self.done.get(&(file.to_owned(), name.to_owned()))?.clone()
    }

    /// Tells a cycle as a path.
    fn cycle(&mut self, start: usize, asked: &Span) {
        self.sources.incomplete = true;
        let mut names: Vec<&str> = self.stack[start..].iter().map(|((_, name), _)| name.as_str()).collect();
        names.push(names[0]);
        let mut mistake =
            Diagnostic::error(format!("services extend each other in a circle: {}", names.join(" -> ")))
                .at(asked.clone(), "back to the first");
        for ((_, name), span) in &self.stack[start + 1..] {
            mistake = mistake.also(span.clone(), format!("`{name}` is extended here"));
        }
        self.sources.mistakes.push(mistake);
    }
}
