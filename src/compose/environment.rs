//! Where variables come from: the caller's environment over the env files, each with the place that set it.
//!
//! Also the two things that services read from files: `env_file` and `label_file`. What a variable means in
//! a text is [`super::vars`]'s business, the grammar of the files [`super::dotenv`]'s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dotenv::{self, Found};
use super::source::Sources;
use super::vars::Variables;
use crate::base::diag::{Diagnostic, SourceFile, Span};

/// How a file of variables is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Grammar {
    /// Compose's own.
    Dotenv,
    /// That of `docker run --env-file`.
    Raw,
}

/// Adds the variables of env files to the caller's, which win; later files win over earlier ones.
pub(super) fn read(sources: &mut Sources<'_>, variables: &mut Variables, files: &[PathBuf]) {
    let mut found = Found::new();
    let mut from: BTreeMap<String, Span> = BTreeMap::new();
    for path in files {
        let Some(file) = open(sources, path, None) else { continue };
        let outer = variables.values.clone();
        let mut own = found.clone();
        let lookup = |name: &str| outer.get(name).cloned();
        if !parse(sources, &file, Grammar::Dotenv, &lookup, &mut own) {
            continue;
        }
        for (name, (value, range)) in own {
            if found.get(&name) != Some(&(value.clone(), range.clone())) {
                from.insert(name.clone(), Span::new(&file, range.clone()));
            }
            found.insert(name, (value, range));
        }
    }
    for (name, (value, _)) in found {
        if let std::collections::btree_map::Entry::Vacant(free) = variables.values.entry(name) {
            if let Some(place) = from.remove(free.key()) {
                variables.places.insert(free.key().clone(), place);
            }
            free.insert(value);
        }
    }
}

/// The variables that an included file sees: those of the includer, then those of its own env files.
pub(super) fn included(
    sources: &mut Sources<'_>,
    outer: &Variables,
    files: Option<&[PathBuf]>,
    folder: &Path,
    asked: &Span,
) -> Variables {
    let mut variables = outer.clone();
    let default = folder.join(".env");
    match files {
        Some(files) => {
            let missing: Vec<_> = files.iter().filter(|path| !sources.files.exists(path)).cloned().collect();
            for path in &missing {
                let message = format!("cannot read the env file `{}`: there is no such file", path.display());
                sources.mistakes.push(Diagnostic::error(message).at(asked.clone(), ""));
            }
            let there: Vec<_> = files.iter().filter(|path| !missing.contains(path)).cloned().collect();
            read(sources, &mut variables, &there);
        }
        None if sources.files.exists(&default) => read(sources, &mut variables, &[default]),
        None => {}
    }
    variables
}

/// Opens a file of variables; a mistake is kept, at `asked` when a compose file named it.
pub(super) fn open(sources: &mut Sources<'_>, path: &Path, asked: Option<&Span>) -> Option<Arc<SourceFile>> {
    match sources.text(path) {
        Ok(file) => Some(file),
        Err(mistake) => {
            sources.mistakes.push(match asked {
                Some(span) => mistake.at(span.clone(), ""),
                None => *mistake,
            });
            None
        }
    }
}

/// Reads a file of variables into `found`; whether it had no mistake.
pub(super) fn parse(
    sources: &mut Sources<'_>,
    file: &Arc<SourceFile>,
    grammar: Grammar,
    lookup: &dyn Fn(&str) -> Option<String>,
    found: &mut Found,
) -> bool {
    let mut unset: Vec<String> = Vec::new();
    let result = match grammar {
        Grammar::Dotenv => dotenv::parse(&file.text, lookup, found, &mut |name| unset.push(name.to_owned())),
        Grammar::Raw => dotenv::parse_raw(&file.text, lookup, found),
    };
    unset.sort();
    unset.dedup();
    for name in unset {
        let message =
            format!("the variable `{name}`, used in `{}`, is not set; it counts as empty", file.name);
        let warning = Diagnostic::warning(message);
        if !sources.warnings.contains(&warning) {
            sources.warnings.push(warning);
        }
    }
    match result {
        Ok(()) => true,
        Err(fault) => {
            let mistake = Diagnostic::error(format!("`{}` is no env file: {}", file.name, fault.message))
                .at(Span::new(file, fault.range), "");
            if !sources.mistakes.contains(&mistake) {
                sources.mistakes.push(mistake);
            }
            false
        }
    }
}
