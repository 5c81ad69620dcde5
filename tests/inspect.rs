//! What the engine is told, against Docker Compose: a compose file for every key that reaches the engine,
//! each with what `inspect` says of the containers, networks and volumes that Docker Compose makes of it.
//!
//! `testdata/inspect/*.txt` hold the cases (see `case` for the form, `look` for the text of a result).
//! [`containers_are_those_of_docker_compose`] makes all of them with the real program on the engine at
//! hand and compares every field with Docker Compose's on an engine of that version. Where we differ on
//! purpose stands in [`DIFFERENCES`], by case and path. `tests/inspect.sh` writes Docker Compose's results
//! anew.

mod case;
mod engine;
mod look;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use case::{Case, Cases, ENGINES};
use engine::Engine;
use look::{Words, look, parsed, text_of};

use crate::buildkit::{files, parallel};
use crate::scene::needs;

/// Where we differ from Docker Compose on purpose: case (or `*`), a part of `thing: path`, reason.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("*", "Labels.\"com.docker.compose.config-hash\" of", NO_HASH),
    (
        "*",
        "Config.ExposedPorts.",
        "`81` is `81/tcp`, and a range is its ports: the engine knows no other form",
    ),
    (
        "links",
        ".Links",
        "every container of a scaled service has its own number; Docker Compose says 1 of each",
    ),
    ("networks-addresses", "IPAM.Options.foo", "options of an address driver reach it"),
    (
        "stopping-in-part-of-a-second",
        "Config.StopTimeout",
        "a part of a second counts as one: nothing is killed early",
    ),
    (
        "devices",
        "HostConfig.Devices[1].CgroupPermissions",
        "a device without permissions has all, in both forms",
    ),
    ("binds-short-options", "Mounts.\"/private\"", SHORT),
    ("binds-short-options", "Mounts.\"/slave\"", SHORT),
    ("binds-short-options", "HostConfig.Binds", SHORT),
    ("binds-long", "Mounts.\"/propagated\"", SHORT),
    ("binds-long", "Mounts.\"/selinux\"", "Docker Compose loses the label"),
    ("binds-long", "HostConfig.Binds", SHORT),
    ("binds-recursive", "CreateMountpoint", MADE),
    ("binds-recursive-read-only", "CreateMountpoint", MADE),
    ("security-options", "HostConfig.SecurityOpt", "`:` and `=` are one option, and one container"),
    ("api-socket-started", "file /run/secrets/docker/config.json", "the same JSON without spaces"),
    (
        "network-mac-address-of-no-network",
        "Config.MacAddress",
        "no effect, with a warning by name, on every engine",
    ),
    ("volumes-from", "HostConfig.VolumesFrom", "Docker Compose loses `:ro`"),
    ("volumes-from", "Mounts.\"/c\".RW", "Docker Compose loses `:ro`"),
    ("volumes-from-container", "HostConfig.VolumesFrom", "Docker Compose loses `:ro`"),
    (
        "configs-inline-created",
        "file /one",
        "what is copied in is there from the start, not only after `start`",
    ),
];

const NO_HASH: &str = "no config-hash: a wrong one on a volume makes Docker Compose offer to delete its data";
const SHORT: &str = "the short form makes a missing folder on every engine, and says the same";
const MADE: &str = "a missing folder is made unless `create_host_path: false`, as the specification says";

/// Where one refuses what the other makes: case, engine (or `*`), reason.
const OUTCOMES: &[(&str, &str, &str)] = &[
    ("configs-inline-with-a-name-as-owner", "*", "said before anything is made"),
    ("configs-inline-empty", "*", "an empty text would mount the project's folder"),
    ("configs-unknown-variable", "*", "said before anything is made, not only at the start"),
    ("configs-with-a-template", "*", "a warning by name: nothing but a Swarm reads it"),
    ("devices-without-target", "*", "the place in the container is that on the host"),
    ("restarting-with-a-number-alone", "20.10", "this engine takes what newer ones refuse"),
    ("annotations", "20.10", IGNORED),
    ("healthcheck-start-interval", "20.10", IGNORED),
    ("network-gateway-priority", "20.10", IGNORED),
    ("network-interface-name", "20.10", IGNORED),
    ("networks-only-ipv6", "20.10", IGNORED),
    ("binds-recursive", "20.10", IGNORED),
    ("binds-recursive-read-only", "20.10", IGNORED),
    ("volumes-subpath", "20.10", IGNORED),
];

const IGNORED: &str = "this engine would ignore the setting: refused by name";

/// The case that all containers are compared with.
const PLAIN: &str = "plain";

/// Who makes the containers, and where.
struct Maker {
    engine: Engine,
    host: String,
    /// The beginning of the command line.
    command: Vec<String>,
    folder: tempfile::TempDir,
}

impl Maker {
    fn new(host: &str, command: Vec<String>, place: &Path) -> Self {
        let folder = tempfile::tempdir_in(place).unwrap();
        Self { engine: Engine::new(host), host: host.to_owned(), command, folder }
    }

    /// The version whose results count; `None` where there are none for it.
    fn version(&self) -> Option<&'static str> {
        ENGINES.into_iter().find(|version| self.engine.version.starts_with(version))
    }

    /// What becomes of a case: text, or a refusal.
    fn make(&self, case: &Case, plain: &BTreeMap<String, look::Lines>) -> String {
        let folder = self.folder.path().join(&case.name);
        let project = format!("inspect{}-{}", std::process::id(), case.name);
        let written =
            |text: &str| text.replace("PROJECT", &project).replace("FOLDER", folder.to_str().unwrap());
        fs::create_dir_all(&folder).unwrap();
        files::make(&written(case.section("files")), &folder);
        let compose = written(case.section("compose"));
        fs::write(folder.join("compose.yaml"), &compose).unwrap();
        let before = written(case.section("before"));
        self.engine.before(&before, &project);
        let files =
            case.value("look into").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let written = compose + &before;
        let words = Words { project, folder: folder.to_str().unwrap().to_owned(), written, files };
        let made = match self.run(case, &words) {
            Ok(()) => text_of(&look(&self.engine, &words), plain),
            Err(message) => format!("refused: {}\n", refusal(&message, &words)),
        };
        self.engine.remove(&words.project, &before);
        made
    }

    fn run(&self, case: &Case, words: &Words) -> Result<(), String> {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).current_dir(&words.folder).env_clear();
        for kept in ["PATH", "HOME", "TMPDIR"] {
            command.envs(std::env::var_os(kept).map(|value| (kept, value)));
        }
        command.env("DOCKER_HOST", &self.host).env("SHIPWAY_STORE", self.folder.path().join("store"));
        command.args(["-p", &words.project, "up"]);
        command.arg(if case.value("up").is_some() { "--detach" } else { "--no-start" });
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }
}

/// What Docker Compose puts before a message of the engine.
const FROM_THE_ENGINE: &str = "Error response from daemon: ";

/// The line that says why.
fn refusal(said: &str, words: &Words) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let from = lines.iter().rposition(|line| line.contains(FROM_THE_ENGINE));
    // Docker Compose says progress before the reason; we say help after it.
    let last = if said.contains("error: ") { 0 } else { lines.len().saturating_sub(1) };
    let line = lines[from.unwrap_or(last)..].join(" ");
    line.replace(&words.folder, "FOLDER").replace(&words.project, "PROJECT")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/inspect")
}

/// Every file of cases with what is in it.
fn all_files() -> BTreeMap<PathBuf, Cases> {
    let paths = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), Cases::parse(&fs::read_to_string(path).unwrap()))).collect()
}

/// The cases that `SHIPWAY_TEST_CASE` names a part of; all without it.
fn chosen(files: &BTreeMap<PathBuf, Cases>) -> Vec<&Case> {
    let only = std::env::var("SHIPWAY_TEST_CASE").unwrap_or_default();
    let cases = files.values().flat_map(|cases| &cases.cases);
    cases.filter(|case| case.name.contains(&only)).collect()
}

/// The plain case as Docker Compose makes it on an engine.
fn plain(files: &BTreeMap<PathBuf, Cases>, version: &str) -> BTreeMap<String, look::Lines> {
    let mut cases = files.values().flat_map(|cases| &cases.cases);
    let plain = cases.find(|case| case.name == PLAIN).expect("the plain case");
    plain.made.get(version).map(|text| parsed(text)).unwrap_or_default()
}

/// Why a result is not Docker Compose's; empty if it is.
fn faults(case: &Case, version: &str, expected: &str, ours: &str) -> String {
    let excepted = OUTCOMES.iter().any(|(of, on, _)| *of == case.name && (*on == "*" || *on == version));
    let refusals = (expected.strip_prefix("refused: "), ours.strip_prefix("refused: "));
    match refusals {
        (Some(expected), Some(ours)) => {
            let engine = expected.rsplit_once(FROM_THE_ENGINE).map(|(_, message)| message.trim());
            // Numbers are the machine's: how many CPUs it has.
            let words = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
            match engine {
                // Where we know the line, we say so before the engine does.
                Some(message) if !words(ours).contains(&words(message)) && !ours.contains("--> ") => {
                    format!("  Docker Compose: {message}\n  ours: {ours}")
                }
                _ => String::new(),
            }
        }
        (Some(_), None) | (None, Some(_)) if excepted => String::new(),
        (Some(expected), None) => format!("  Docker Compose refuses it: {expected}  ours:\n{ours}"),
        (None, Some(ours)) => format!("  we refuse it: {ours}"),
        (None, None) => compared(case, expected, ours),
    }
}

/// The lines that are not in both, without those that differ on purpose.
fn compared(case: &Case, expected: &str, ours: &str) -> String {
    let (theirs, mine) = (parsed_all(expected), parsed_all(ours));
    let mut text = String::new();
    let names: std::collections::BTreeSet<_> = theirs.keys().chain(mine.keys()).collect();
    for name in names {
        let (Some(theirs), Some(mine)) = (theirs.get(name), mine.get(name)) else {
            let who = if theirs.contains_key(name) { "Docker Compose" } else { "shipway" };
            text.push_str(&format!("  {name}: only {who} makes it\n"));
            continue;
        };
        let paths: std::collections::BTreeSet<_> = theirs.keys().chain(mine.keys()).collect();
        for path in paths.into_iter().filter(|path| theirs.get(*path) != mine.get(*path)) {
            let container = name.starts_with("container ");
            let place = if container { format!("{name}: {path}") } else { format!("{name}: {path} of it") };
            if DIFFERENCES
                .iter()
                .any(|(of, part, _)| (*of == "*" || *of == case.name) && place.contains(part))
            {
                continue;
            }
            let shown =
                |of: &look::Lines| of.get(path).map_or("as in the plain case", String::as_str).to_owned();
            text.push_str(&format!(
                "  {name}: {path}\n    Docker Compose: {}\n    ours:           {}\n",
                shown(theirs),
                shown(mine)
            ));
        }
    }
    text
}

/// Everything of a result, also what is there without a line and what is not there.
fn parsed_all(text: &str) -> BTreeMap<String, look::Lines> {
    let mut all = parsed(&text.replace(" is not there\n", " = not there\n"));
    let names = text.lines().filter(|line| !line.starts_with(' '));
    names.for_each(|name| {
        all.entry(name.to_owned()).or_default();
    });
    all
}

#[test]
fn containers_are_those_of_docker_compose() {
    let Some(host) = needs("SHIPWAY_TEST_DOCKER_HOST", "a Docker Engine (SHIPWAY_TEST_DOCKER_HOST)") else {
        return;
    };
    let place = std::env::var_os("SHIPWAY_TEST_SCRATCH").map_or_else(std::env::temp_dir, PathBuf::from);
    let ours = Maker::new(&host, vec![env!("CARGO_BIN_EXE_shipway").to_owned()], &place);
    let Some(version) = ours.version() else {
        println!("skipped: needs an engine of one of the versions {ENGINES:?}, not {}", ours.engine.version);
        return;
    };
    let files = all_files();
    let plain = plain(&files, version);
    let chosen = chosen(&files);
    let outcomes =
        parallel(&chosen, |case| ours.make(case, if case.name == PLAIN { &EMPTY } else { &plain }));
    let mut all = String::new();
    for (case, outcome) in chosen.iter().zip(&outcomes) {
        let found = match case.made.get(version) {
            Some(expected) => faults(case, version, expected, outcome),
            None => "  Docker Compose was not asked yet: tests/inspect.sh\n".to_owned(),
        };
        if !found.is_empty() {
            all.push_str(&format!("{}:\n{found}", case.name));
        }
    }
    assert!(all.is_empty(), "of {} cases on {version}\n{all}", chosen.len());
}

/// What the plain case itself is compared with.
static EMPTY: BTreeMap<String, look::Lines> = BTreeMap::new();

#[test]
fn the_cases_are_in_order() {
    let files = all_files();
    let cases: Vec<&Case> = files.values().flat_map(|cases| &cases.cases).collect();
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name twice");
    for (name, _, _) in DIFFERENCES.iter().chain(OUTCOMES) {
        assert!(*name == "*" || names.contains(name), "there is no case {name}");
    }
    for (path, cases) in &files {
        assert_eq!(cases.print(), fs::read_to_string(path).unwrap(), "{}", path.display());
    }
}

/// Keys that no container, network or volume shows: order, images, and how files are read.
const NOT_SHOWN: &[&str] = &[
    "build",
    "extends",
    "profiles",
    "pull_policy",
    "include",
    "version",
    "services",
    "name",
    "post_start",
    "pre_start",
    "pre_stop",
];

/// A key that the reader says is launched with, and that has no case, may never have reached an engine.
#[test]
fn every_key_that_is_launched_with_has_a_case() {
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/compose/KEYS.md");
    let keys = fs::read_to_string(keys).unwrap();
    let files = all_files();
    let cases = files.values().flat_map(|cases| &cases.cases);
    let text: String = cases.map(|case| case.section("compose")).collect();
    let words: std::collections::BTreeSet<&str> = text
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':')
        .collect();
    let rows = keys.lines().filter(|line| line.ends_with("| launched with |"));
    let paths = rows.filter_map(|row| row.split('`').nth(1));
    let shown = paths.filter(|path| !NOT_SHOWN.contains(&path.split('.').next().unwrap_or_default()));
    let missing: Vec<&str> = shown
        .filter(|path| !words.contains(format!("{}:", path.rsplit('.').next().unwrap_or_default()).as_str()))
        .collect();
    assert!(missing.is_empty(), "no case in testdata/inspect has {missing:?}");
}

/// Writes the expected results anew with the Docker Compose and the engine that `tests/inspect.sh` names.
#[test]
#[ignore = "writes into testdata; tests/inspect.sh runs it"]
fn remake() {
    let command =
        std::env::var("SHIPWAY_REMAKE_WITH").expect("tests/inspect.sh says which Docker Compose to ask");
    let host = std::env::var("SHIPWAY_TEST_DOCKER_HOST").expect("tests/inspect.sh says on which engine");
    let place = std::env::var_os("SHIPWAY_REMAKE_IN").map_or_else(std::env::temp_dir, PathBuf::from);
    let theirs = Maker::new(&host, shell_words::split(&command).unwrap(), &place);
    let version = theirs.version().expect("an engine whose results are kept");
    let mut files = all_files();
    let names: Vec<String> = chosen(&files).iter().map(|case| case.name.clone()).collect();
    remake_some(&theirs, version, &mut files, &[PLAIN.to_owned()], &EMPTY);
    let plain = plain(&files, version);
    let others: Vec<String> = names.into_iter().filter(|name| name != PLAIN).collect();
    remake_some(&theirs, version, &mut files, &others, &plain);
    for (path, cases) in &files {
        fs::write(path, cases.print()).unwrap();
    }
}

fn remake_some(
    theirs: &Maker,
    version: &str,
    files: &mut BTreeMap<PathBuf, Cases>,
    names: &[String],
    plain: &BTreeMap<String, look::Lines>,
) {
    let cases = files.values_mut().flat_map(|cases| &mut cases.cases);
    let mut cases: Vec<&mut Case> = cases.filter(|case| names.contains(&case.name)).collect();
    let made = parallel(&cases, |case| theirs.make(case, plain));
    for (case, made) in cases.iter_mut().zip(made) {
        case.made.insert(version.to_owned(), made);
    }
}
