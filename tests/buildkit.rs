//! The Dockerfile language against BuildKit: a few hundred small Dockerfiles, each with what BuildKit
//! makes of it as text.
//!
//! `testdata/buildkit/*.txt` hold the cases (see `case` for the form, `image` for the expected text and
//! `files` for contexts). [`images_are_those_of_buildkit`] builds all of them with the real program on
//! one store and compares configs, history lines and layers entry by entry. A case that differs on
//! purpose has our own result beside BuildKit's and its reason in [`DIFFERENCES`]; one whose feature is
//! still missing stands in [`PENDING`]. `tests/buildkit.sh remake` writes BuildKit's results anew.

mod builders;
mod case;
pub(crate) mod files;
mod image;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use builders::{Ours, Theirs};
use case::{Case, Cases, Outcome};

/// Where we differ from BuildKit on purpose: case and reason. Such a case has a section `ours`.
const DIFFERENCES: &[(&str, &str)] = &[
    ("add-special-members", ATTRIBUTES),
    ("run-user-xattrs", ATTRIBUTES),
    ("run-copy-from-keeps-xattrs", ATTRIBUTES),
    ("copy-link-flag-chown", "names of owners are looked up beside --link too: in the file system below"),
    ("heredoc-json-destination", "no here-document can follow the JSON form: `<<EOF` is a file's name there"),
    ("syntax-onbuild-unknown", "a trigger that cannot run is said at once, not in the next image's build"),
    ("run-hard-links", "a further link to an old file stays a link to it instead of becoming a copy"),
    ("run-whiteout-names-vanish", "a file whose name looks like a whiteout deletes nothing"),
    ("run-hostname", "a command sees shipway's host name"),
    ("run-identity-by-default", "on the host's network a command may not open raw sockets"),
];

/// BuildKit writes no extended attribute into a layer but capabilities.
const ATTRIBUTES: &str = "a layer keeps the attributes of `user.` that a step has set";

/// Cases of features that are not there yet. One that passes fails the test: take it out of here.
const PENDING: &[(&str, &str)] = &[];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/buildkit")
}

/// Every file of cases with what is in it.
fn all_files() -> BTreeMap<PathBuf, Cases> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|end| end == "txt"));
    let files = files.filter(|path| !path.ends_with("contexts.txt"));
    files.map(|path| (path.clone(), Cases::parse(&fs::read_to_string(path).unwrap()))).collect()
}

/// The shared contexts by name.
fn contexts() -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder().join("contexts.txt")).unwrap();
    let contexts = text.split("\n=== ").skip(1).filter_map(|context| context.split_once('\n'));
    contexts.map(|(name, files)| (name.trim().to_owned(), files.to_owned())).collect()
}

/// Makes a case's context and Dockerfile below `folder`; the build's arguments.
fn lay_out(case: &Case, contexts: &BTreeMap<String, String>, folder: &Path) -> Vec<String> {
    let context = folder.join("context");
    fs::create_dir_all(&context).unwrap();
    if let Some(name) = case.value("context") {
        files::make(contexts.get(name).unwrap_or_else(|| panic!("no context {name}")), &context);
    }
    files::make(&case.section("files").unwrap_or_default(), &context);
    let dockerfile = folder.join("Dockerfile");
    fs::write(&dockerfile, case.dockerfile()).unwrap();
    let place = |path: &Path| path.to_str().unwrap().to_owned();
    let mut arguments = case.options();
    for argument in &mut arguments {
        *argument = argument.replace("@CONTEXT@", &place(&context));
    }
    arguments.extend(["--file".to_owned(), place(&dockerfile), place(&context)]);
    arguments
}

/// Calls `work` with every item, several at a time; the results in order.
pub(crate) fn parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from) * 4;
    let take = || {
        let index = next.fetch_add(1, Ordering::SeqCst);
        items.get(index).map(|item| (index, item))
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, item)) = take() {
                    let result = work(item);
                    results.lock().unwrap().insert(index, result);
                }
            });
        }
    });
    results.into_inner().unwrap().into_values().collect()
}

/// Why a case is not as it should be; `None` if it is.
fn fault(case: &Case, expected: &Outcome, ours: &Outcome) -> Option<String> {
    match (expected, ours) {
        (Outcome::Image(expected), Outcome::Image(ours)) if expected == ours => None,
        (Outcome::Image(expected), Outcome::Image(ours)) => Some(compared(expected, ours)),
        (Outcome::Image(_), Outcome::Refused(message)) => Some(format!("we refuse it:\n{message}")),
        (Outcome::Refused(_), Outcome::Image(ours)) => Some(format!("BuildKit refuses it, we make\n{ours}")),
        (Outcome::Refused(_), Outcome::Refused(ours)) => {
            let shown = ours.contains('^') || case.value("no place").is_some();
            (!shown).then(|| format!("no line with a caret in\n{ours}"))
        }
    }
}

/// The lines that are not in both.
fn compared(expected: &str, ours: &str) -> String {
    let mut text = String::new();
    let (mut left, mut right) = (expected.lines().peekable(), ours.lines().peekable());
    while left.peek().is_some() || right.peek().is_some() {
        if left.peek() == right.peek() {
            left.next();
            right.next();
            continue;
        }
        let ahead = |lines: &mut std::iter::Peekable<std::str::Lines<'_>>, line: Option<&&str>| {
            line.is_some_and(|line| lines.clone().any(|other| other == *line))
        };
        if right.peek().is_none() || (left.peek().is_some() && !ahead(&mut right, left.peek())) {
            text.push_str(&format!("  BuildKit: {}\n", left.next().unwrap()));
        } else {
            text.push_str(&format!("  ours:     {}\n", right.next().unwrap()));
        }
    }
    text
}

/// The cases that `SHIPWAY_TEST_CASE` names a part of; all without it.
fn chosen(files: &BTreeMap<PathBuf, Cases>) -> Vec<&Case> {
    let only = std::env::var("SHIPWAY_TEST_CASE").unwrap_or_default();
    let cases = files.values().flat_map(|cases| &cases.cases);
    cases.filter(|case| case.name.contains(&only)).collect()
}

#[test]
fn images_are_those_of_buildkit() {
    let Some(ours) = Ours::new() else { return };
    let (mut files, contexts) = (all_files(), contexts());
    let chosen = chosen(&files);
    let outcomes = parallel(&chosen, |case| ours.build(case, &contexts));
    let mut faults = Vec::new();
    for (case, outcome) in chosen.iter().zip(&outcomes) {
        let Some(expected) = case.ours().or_else(|| case.expected()) else {
            faults.push(format!("{}: not built by BuildKit yet: tests/buildkit.sh", case.name));
            continue;
        };
        let fault = fault(case, &expected, outcome);
        match (fault, PENDING.iter().any(|(name, _)| *name == case.name)) {
            (Some(fault), false) => faults.push(format!("{}: {fault}", case.name)),
            (None, true) => faults.push(format!("{}: passes, so it is not pending any more", case.name)),
            (None, false) | (Some(_), true) => {}
        }
    }
    let number = chosen.len();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let ours = chosen.iter().map(|case| case.name.clone()).zip(outcomes).collect();
        write_differences(&mut files, ours);
    }
    assert!(faults.is_empty(), "{} of {number} cases:\n{}", faults.len(), faults.join("\n"));
}

/// Writes down what we make of the cases in [`DIFFERENCES`].
fn write_differences(files: &mut BTreeMap<PathBuf, Cases>, mut outcomes: BTreeMap<String, Outcome>) {
    for (path, cases) in files {
        for case in &mut cases.cases {
            if let Some(outcome) = outcomes.remove(&case.name) {
                let differs = DIFFERENCES.iter().any(|(name, _)| *name == case.name);
                case.differ(differs.then_some(outcome));
            }
        }
        fs::write(path, cases.print()).unwrap();
    }
}

#[test]
fn the_cases_are_in_order() {
    let files = all_files();
    let cases: Vec<&Case> = files.values().flat_map(|cases| &cases.cases).collect();
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name twice");
    for (name, _) in DIFFERENCES.iter().chain(PENDING) {
        assert!(names.contains(name), "there is no case {name}");
    }
    let differing: Vec<&str> = DIFFERENCES.iter().map(|(name, _)| *name).collect();
    for case in cases {
        assert!(case.expected().is_some(), "{} has no result: tests/buildkit.sh", case.name);
        let differs = differing.contains(&case.name.as_str());
        assert_eq!(case.ours().is_some(), differs, "{}: `ours` and DIFFERENCES belong together", case.name);
    }
    for (path, cases) in &files {
        assert_eq!(cases.print(), fs::read_to_string(path).unwrap(), "{}", path.display());
    }
}

/// Writes the expected results anew with the BuildKit that `tests/buildkit.sh` names.
#[test]
#[ignore = "writes into testdata; tests/buildkit.sh runs it"]
fn remake() {
    let command = std::env::var("SHIPWAY_REMAKE_WITH").expect("tests/buildkit.sh says which BuildKit to ask");
    let place = std::env::var_os("SHIPWAY_REMAKE_IN").map_or_else(std::env::temp_dir, PathBuf::from);
    let theirs = Theirs::new(&command, &place);
    let (mut files, contexts) = (all_files(), contexts());
    let chosen: Vec<&Case> =
        chosen(&files).into_iter().filter(|case| case.value("by hand").is_none()).collect();
    let build = |case: &&Case| {
        let build = std::panic::AssertUnwindSafe(|| theirs.build(case, &contexts));
        (case.name.clone(), std::panic::catch_unwind(build).ok())
    };
    let mut outcomes: BTreeMap<String, Option<Outcome>> = parallel(&chosen, build).into_iter().collect();
    let unreadable: Vec<String> =
        outcomes.extract_if(.., |_, outcome| outcome.is_none()).map(|(name, _)| name).collect();
    for (path, cases) in &mut files {
        for case in &mut cases.cases {
            if let Some(Some(outcome)) = outcomes.remove(&case.name) {
                case.expect(outcome);
            }
        }
        fs::write(path, cases.print()).unwrap();
    }
    assert!(unreadable.is_empty(), "these images cannot be read: {unreadable:?}");
}
