//! Guards the import rule of the house: a module of `src/` imports only from the layers below it.
//!
//! It reads every `crate::MODULE` in `src/` (also inside expressions), so a forbidden edge fails however
//! it is written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which modules each module may import from, besides `base` and itself.
const ALLOWED: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("dockerfile", &[]),
    ("compose", &[]),
    ("store", &[]),
    ("oci", &["store"]),
    ("context", &["store"]),
    ("sandbox", &[]),
    ("engine", &[]),
    ("remote", &[]),
    ("graph", &["compose", "dockerfile", "oci", "remote"]),
    ("build", &["graph", "context", "oci", "remote", "sandbox", "store", "engine"]),
    ("up", &["compose", "engine"]),
    (
        "cli",
        &["dockerfile", "compose", "store", "oci", "context", "sandbox", "engine", "graph", "build", "up"],
    ),
];

#[test]
fn imports_run_downward_only() {
    let mut wrong = Vec::new();
    let mut edges = BTreeSet::new();
    for file in rust_files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let Some(from) = module_of(&file) else { continue };
        for to in imports(&std::fs::read_to_string(&file).unwrap()) {
            if to == from || to == "base" {
                continue;
            }
            edges.insert(format!("{from} -> {to}"));
            let allowed = ALLOWED.iter().find(|(name, _)| *name == from).map_or(&[][..], |(_, to)| *to);
            if !allowed.contains(&to.as_str()) {
                wrong.push(format!("{}: {from} -> {to}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden imports:\n{}\nall edges: {edges:?}", wrong.join("\n"));
}

#[test]
fn every_file_explains_itself() {
    let without: Vec<_> = rust_files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")))
        .into_iter()
        .filter(|file| !std::fs::read_to_string(file).unwrap().starts_with("//!"))
        .collect();
    assert!(without.is_empty(), "files without a header: {without:?}");
}

/// The module of `src/` that a file belongs to; `lib.rs` and `main.rs` belong to none.
fn module_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
    let first = inside.components().next()?.as_os_str().to_str()?;
    (first != "lib.rs" && first != "main.rs").then(|| first.trim_end_matches(".rs").to_owned())
}

/// Every module that follows `crate::` in code; lines that are comments are passed over.
fn imports(text: &str) -> Vec<String> {
    let code =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.push(identifier(rest)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// The first identifiers of the items of a `{…}` group.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut start) = (0, Vec::new(), true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            letter if start && letter.is_alphabetic() => {
                heads.push(identifier(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
