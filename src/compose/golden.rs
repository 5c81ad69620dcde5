//! The golden folders of `testdata/compose`: each is a project with the command that loads it.
//!
//! `expected.json` is Docker Compose's own answer, remade by `testdata/compose/remake.sh` where Docker Compose
//! is installed; `differs.txt` says why ours differs on purpose, and then `ours.json` is what we print. A
//! folder without `expected.json` is one that Docker Compose refuses, and so must we: `expected.errors` is
//! our text. `UPDATE_GOLDEN=1` rewrites what is ours, never what is Docker Compose's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Disk, Loaded, Options, load, to_json, to_yaml};
use crate::base::diag::Diagnostic;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/compose");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("command").exists())
        .collect();
    cases.sort();
    cases
}

/// The options that a `command` file stands for: `NAME=VALUE… compose OPTION…`, those of `config` last.
fn options(case: &Path) -> Options {
    let mut options = Options::new(case);
    options.environment.insert("HOME".into(), "/root".into());
    let command = std::fs::read_to_string(case.join("command")).unwrap();
    let mut words = shell_words::split(&command).unwrap().into_iter();
    for word in words.by_ref() {
        match word.split_once('=') {
            Some((name, value)) => drop(options.environment.insert(name.into(), value.into())),
            None => break,
        }
    }
    while let Some(word) = words.next() {
        match word.as_str() {
            "--no-normalize" => options.normalize = false,
            "--no-path-resolution" => options.resolve_paths = false,
            "--no-consistency" => options.consistency = false,
            _ => {}
        }
        if word.starts_with("--no-") {
            continue;
        }
        let value = words.next().unwrap();
        match word.as_str() {
            "-f" => options.files.push(value.into()),
            "-p" => options.project_name = Some(value),
            "--profile" => options.profiles.push(value),
            "--env-file" => options.env_files.push(value.into()),
            "--project-directory" => options.project_directory = Some(value.into()),
            "--from" => options.current_folder = case.join(value),
            other => panic!("{}: {other}?", case.display()),
        }
    }
    options
}

fn render(mistakes: &[Diagnostic], case: &Path) -> String {
    let all: Vec<String> = mistakes.iter().map(Diagnostic::to_string).collect();
    neutral(&all.join("\n\n"), case) + "\n"
}

/// A text without the folder in which the cases stand.
fn neutral(text: &str, case: &Path) -> String {
    let root = case.parent().unwrap().display().to_string();
    text.replace(&case.display().to_string(), "/project").replace(&root, "/cases")
}

#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Compares with a file, or rewrites it.
fn compare(case: &Path, name: &str, got: &str, wrong: &mut Vec<String>) {
    let path = case.join(name);
    if updating() {
        return std::fs::write(path, got).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected != got {
        wrong.push(format!("{}: expected\n{expected}\ngot\n{got}", path.display()));
    }
}

#[test]
fn projects_mean_what_docker_compose_says() {
    let mut wrong = Vec::new();
    for case in cases() {
        let folder = case.display().to_string();
        let result = load(&options(&case), &Disk);
        let expected = std::fs::read_to_string(case.join("expected.json")).ok();
        match (result, expected) {
            (Ok(Loaded { project, .. }), Some(expected)) => {
                let got = neutral(&to_json(&project), &case);
                if case.join("differs.txt").exists() {
                    compare(&case, "ours.json", &got, &mut wrong);
                    continue;
                }
                let got: Value = serde_json::from_str(&got).unwrap();
                let expected: Value = serde_json::from_str(&expected).unwrap();
                difference(&case, "", &expected, &got, &mut wrong);
            }
            (Ok(Loaded { project, .. }), None) if case.join("differs.txt").exists() => {
                compare(&case, "ours.json", &neutral(&to_json(&project), &case), &mut wrong);
            }
            (Ok(_), None) => wrong.push(format!("{folder}: Docker Compose refuses this, we do not")),
            (Err(mistakes), None) => compare(&case, "expected.errors", &render(&mistakes, &case), &mut wrong),
            (Err(mistakes), Some(_)) if case.join("differs.txt").exists() => {
                compare(&case, "expected.errors", &render(&mistakes, &case), &mut wrong);
            }
            (Err(mistakes), Some(_)) => {
                wrong.push(format!(
                    "{folder}: Docker Compose takes this, we say\n{}",
                    render(&mistakes, &case)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn difference(case: &Path, path: &str, expected: &Value, got: &Value, wrong: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            let keys: std::collections::BTreeSet<&String> = expected.keys().chain(got.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                match (expected.get(key), got.get(key)) {
                    (Some(expected), Some(got)) => difference(case, &path, expected, got, wrong),
                    (Some(expected), None) => {
                        wrong.push(format!("{}: {path} is missing: {expected}", case.display()))
                    }
                    (_, got) => {
                        wrong.push(format!("{}: {path} is too much: {}", case.display(), got.unwrap()))
                    }
                }
            }
        }
        (expected, got) if expected == got => {}
        (expected, got) => wrong.push(format!("{}: {path} is {got}, not {expected}", case.display())),
    }
}

/// Cases with variables that only an included file or the caller's folder sets.
const OWN_VARIABLES: &[&str] =
    &["include-01", "include-02", "include-env-file", "include-nested-env", "key-23", "where-02"];

/// Loading what is printed with the variables left in gives the project itself.
#[test]
fn an_outline_loads_to_the_same_project() {
    let mut wrong = Vec::new();
    for case in cases() {
        let options = options(&case);
        let folder = case.file_name().unwrap().to_string_lossy().into_owned();
        if OWN_VARIABLES.contains(&&*folder) {
            continue;
        }
        if !(options.normalize && options.resolve_paths && options.consistency) {
            continue;
        }
        let Ok(Loaded { project, .. }) = load(&options, &Disk) else { continue };
        let outline = match super::outline(&options, &Disk) {
            Ok(outline) => outline,
            Err(mistakes) => {
                wrong.push(format!("{folder}: {}", render(&mistakes, &case)));
                continue;
            }
        };
        let mut again = options.clone();
        again.files = vec!["-".into()];
        again.project_directory = Some(project.working_dir.clone());
        for text in [outline.model.to_string(), super::value_to_yaml(&outline.model)] {
            match load(&again, &Piped(text.clone())) {
                Ok(loaded) => {
                    let value = |project| serde_json::from_str::<Value>(&to_json(project)).unwrap();
                    difference(&case, "", &value(&project), &value(&loaded.project), &mut wrong);
                }
                Err(mistakes) => wrong.push(format!("{folder}:\n{text}\n{}", render(&mistakes, &case))),
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Files of the disk, with a text as standard input.
struct Piped(String);

impl super::Files for Piped {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        if path == Path::new("-") { Ok(self.0.clone().into_bytes()) } else { Disk.read(path) }
    }

    fn exists(&self, path: &Path) -> bool {
        Disk.exists(path)
    }
}

/// The cases where Docker Compose found them when it told their hashes.
struct Moved;

/// The folder to which `remake.sh` copies the cases.
const MOVED: &str = "/tmp/compose-cases";

impl Moved {
    fn back(path: &Path) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/compose");
        path.strip_prefix(MOVED).map_or_else(|_| path.to_owned(), |rest| root.join(rest))
    }
}

impl super::Files for Moved {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        Disk.read(&Self::back(path))
    }

    fn exists(&self, path: &Path) -> bool {
        Disk.exists(&Self::back(path))
    }
}

#[test]
fn services_have_the_hashes_that_docker_compose_gives_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/compose");
    let lines = std::fs::read_to_string(root.join("hashes.txt")).unwrap();
    let mut wrong = Vec::new();
    let mut loaded: Option<(String, super::Project)> = None;
    for line in lines.lines() {
        let [case, service, hash] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if root.join(case).join("differs.txt").exists() {
            continue;
        }
        if loaded.as_ref().is_none_or(|(name, _)| name != case) {
            let mut options = options(&root.join(case));
            let below = options.current_folder.strip_prefix(&root).map(|rest| Path::new(MOVED).join(rest));
            options.current_folder = below.unwrap();
            options.resolve_environment = false;
            let project = load(&options, &Moved).unwrap_or_else(|mistakes| {
                panic!("{case}: {}", render(&mistakes, &root.join(case)));
            });
            loaded = Some((case.to_owned(), project.project));
        }
        let project = &loaded.as_ref().unwrap().1;
        let got = project.services.get(service).map(super::service_hash);
        if got.as_deref() != Some(hash) {
            wrong.push(format!("{case}: {service}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is printed loads again to the same project: as YAML and as JSON.
#[test]
fn what_is_printed_means_the_same() {
    for case in cases() {
        let options = options(&case);
        let Ok(Loaded { project, .. }) = load(&options, &Disk) else { continue };
        if !(options.normalize && options.resolve_paths && options.consistency) {
            continue;
        }
        let whole = |name: &String| project.services.contains_key(name);
        if !project.services.values().all(|service| service.depends_on.keys().all(whole)) {
            continue;
        }
        for text in [to_json(&project), to_yaml(&project)] {
            let files = BTreeMap::from([(case.join("compose.yaml"), text.clone())]);
            let mut again = Options::new(&case);
            again.profiles.push("*".into());
            // Secrets and configs from the environment are looked up when they are used.
            again.environment = project.environment.clone();
            again.environment.remove("COMPOSE_PROJECT_NAME");
            again.environment.retain(|name, _| !name.starts_with("COMPOSE_"));
            let mut loaded = match load(&again, &files) {
                Ok(loaded) => loaded.project,
                Err(mistakes) => panic!("{}: {}\n{text}", case.display(), render(&mistakes, &case)),
            };
            loaded.files.clone_from(&project.files);
            loaded.environment.clone_from(&project.environment);
            loaded.working_dir.clone_from(&project.working_dir);
            loaded.disabled.clone_from(&project.disabled);
            if text.starts_with('{') {
                assert_eq!(to_json(&loaded), text, "{}", case.display());
            } else {
                assert_eq!(to_yaml(&loaded), text, "{}", case.display());
            }
        }
    }
}

/// Every key that a service or a build may have stands in some project that Docker Compose has answered.
#[test]
fn every_key_has_a_case() {
    let mut seen = std::collections::BTreeSet::new();
    for case in
        cases().iter().filter(|case| case.join("expected.json").exists() || case.join("ours.json").exists())
    {
        for entry in std::fs::read_dir(case).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                let text = std::fs::read_to_string(path).unwrap();
                seen.extend(
                    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').map(str::to_owned),
                );
            }
        }
    }
    let tables =
        [&super::attrs::SERVICE, &super::attrs::BUILD, &super::attrs::NETWORK, &super::attrs::VOLUME];
    let keys = tables.iter().flat_map(|object| object.attrs.iter().map(|attr| attr.key));
    let missing: Vec<_> = keys.filter(|key| !seen.contains(*key)).collect();
    assert!(missing.is_empty(), "no case has {missing:?}");
}
