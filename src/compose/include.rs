//! `include`: other compose files, each read as a project of its own, whose resources join this one.
//!
//! An included file counts its relative paths from its own folder (or `project_directory`) and sees the
//! variables of the includer over those of its own env files. What both define must be the same. Includes are
//! worked in before `extends`, so that a service can extend an included one (as Docker Compose 5.5 does).

use std::path::{Path, PathBuf};

use super::attrs::{self, Shape};
use super::environment;
use super::merge;
use super::source::{Context, Sources};
use super::tree::{Kind, Mark, Node};
use crate::base::diag::Diagnostic;

/// The sections that an include brings along.
const SECTIONS: &[&str] = &["services", "networks", "volumes", "configs", "secrets", "models"];

/// How many files may include each other one by one.
const MOST_DEPTH: usize = 50;

/// Works the includes of a shaped document in.
pub(super) fn apply(sources: &mut Sources<'_>, document: &mut Node, context: Context<'_>) {
    let Some(include) = document.as_map_mut().and_then(|map| map.remove("include")) else { return };
    let Kind::List(items) = include.node.kind else {
        if !include.node.is_null() {
            let message = format!("`include` must be a list, not {}", include.node.kind_name());
            sources.mistakes.push(Diagnostic::error(message).at(include.node.span, ""));
        }
        return;
    };
    for (at, item) in items.into_iter().enumerate() {
        if let Some(included) = one(sources, item, &format!("include.{at}"), context) {
            join(sources, document, included);
        }
    }
}

/// Reads one entry.
fn one(sources: &mut Sources<'_>, mut item: Node, path: &str, context: Context<'_>) -> Option<Node> {
    sources.settle(&mut item, context.variables);
    if let Kind::Text(text) = &item.kind {
        item = Node {
            fault: item.fault,
            ..Node::map([("path", Node::text(text.clone(), &item.span))], &item.span)
        };
    }
    let keep = std::mem::replace(&mut sources.resolve_paths, true);
    sources.shape(&mut item, Shape::Object(&attrs::INCLUDE), path, context);
    sources.resolve_paths = keep;
    let files: Vec<&Node> = item.get("path").and_then(Node::as_list)?.iter().collect();
    let first = PathBuf::from(files.first()?.as_text()?);
    if files.iter().any(|file| {
        file.as_text().is_some_and(|text| file.span.text().contains("://") || text.contains("://"))
    }) {
        sources
            .mistakes
            .push(Diagnostic::error("not supported yet: a remote `include`").at(item.span.clone(), ""));
        return None;
    }
    let folder = match item.get_text("project_directory") {
        Some(folder) => PathBuf::from(folder),
        None => first.parent().unwrap_or(Path::new("/")).to_owned(),
    };
    let env_files: Option<Vec<PathBuf>> = item
        .get("env_file")
        .and_then(Node::as_list)
        .map(|list| list.iter().filter_map(Node::as_text).map(PathBuf::from).collect());
    let variables =
        environment::included(sources, context.variables, env_files.as_deref(), &folder, &item.span);
    let mut whole = Node::map([], &item.span);
    for file in files {
        let path = PathBuf::from(file.as_text()?);
        if context.chain.contains(&path) {
            sources
                .mistakes
                .push(cycle(sources, context.chain, &path).at(file.span.clone(), "back to the first"));
            return None;
        }
        if context.chain.len() >= MOST_DEPTH {
            let message = format!("more than {MOST_DEPTH} files include each other one by one");
            sources.mistakes.push(Diagnostic::error(message).at(file.span.clone(), ""));
            return None;
        }
        let mut chain = context.chain.to_vec();
        chain.push(path.clone());
        let inner = Context { folder: &folder, variables: &variables, chain: &chain };
        for document in sources.load(&path, Some(&file.span), inner) {
            whole = merge::merge(whole, document, Shape::Object(&attrs::TOP));
        }
    }
    sources.warnings.append(&mut variables.warnings());
    Some(whole)
}

fn cycle(sources: &Sources<'_>, chain: &[PathBuf], path: &Path) -> Diagnostic {
    let start = chain.iter().position(|file| file == path).unwrap_or(0);
    let shown = |file: &Path| file.strip_prefix(sources.shown_from).unwrap_or(file).display().to_string();
    let mut names: Vec<String> = chain[start..].iter().map(|file| shown(file)).collect();
    names.push(shown(path));
    Diagnostic::error(format!("files include each other in a circle: {}", names.join(" -> ")))
}

/// Adds what was included; two different definitions of one name are a mistake.
fn join(sources: &mut Sources<'_>, document: &mut Node, mut included: Node) {
    let Some(from) = included.as_map_mut() else { return };
    let Some(into) = document.as_map_mut() else { return };
    for section in SECTIONS {
        let Some(mut entry) = from.remove(*section) else { continue };
        let Some(target) = into.get_mut(*section) else {
            into.insert((*section).to_owned(), entry);
            continue;
        };
        let (Some(target), Some(found)) = (target.node.as_map_mut(), entry.node.as_map_mut()) else {
            continue;
        };
        for (name, value) in std::mem::take(found) {
            match target.get(&name) {
                Some(own) if own.node.mark == Mark::None && !merge::same(&own.node, &value.node) => {
                    let message =
                        format!("`{section}.{name}` is defined here and, differently, in an included file");
                    let mistake = Diagnostic::error(message)
                        .at(own.key.clone(), "here")
                        .also(value.key, "and there")
                        .help("change an included service in an override file, or include the files with one `path` list");
                    sources.mistakes.push(mistake);
                }
                Some(_) => {}
                None => drop(target.insert(name, value)),
            }
        }
    }
}
