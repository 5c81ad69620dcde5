//! The commands that look at containers: what they print is what Docker Compose prints of the same project.
//!
//! What that was is recorded in `testdata/watch/docker-compose.txt` (`record.sh` records it anew), with times,
//! ids, sizes and process numbers made equal, and with the order made equal where Docker Compose has none.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::scene::{Ran, Scene, ran, until};

const NAME: &str = "st-watch-golden";

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/watch").join(name)
}

fn cases() -> Vec<String> {
    std::fs::read_to_string(testdata("cases")).unwrap().lines().map(str::to_owned).collect()
}

/// A program with its first arguments, run in a folder against an engine.
struct Program {
    words: Vec<String>,
    folder: PathBuf,
    host: String,
    store: PathBuf,
}

impl Program {
    fn run(&self, arguments: &[String]) -> Ran {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(arguments).current_dir(&self.folder);
        command.env("DOCKER_HOST", &self.host).env("SHIPWAY_STORE", &self.store).env("NO_COLOR", "1");
        ran(&command.env_remove("COMPOSE_PROJECT_NAME").output().unwrap())
    }

    /// Every case with its output, made comparable.
    fn told(&self) -> String {
        let one = |case: &String| {
            let mut arguments = vec!["-p".to_owned(), NAME.to_owned()];
            arguments.extend(shell_words::split(case).unwrap());
            let ran = self.run(&arguments);
            // Docker Compose ends with an error (`EOF`) where it was to end.
            let code = if case.starts_with("events") { 0 } else { ran.code.unwrap() };
            format!("=== {case}: {code}\n{}", comparable(case, &ran.out, &self.folder))
        };
        cases().iter().map(one).collect()
    }
}

/// Launches the project with shipway, and takes it down in the end.
struct Launched(Program);

impl Launched {
    fn on(host: &str, folder: &Path) -> Self {
        std::fs::copy(testdata("compose.yaml"), folder.join("compose.yaml")).unwrap();
        let program = Program {
            words: vec![env!("CARGO_BIN_EXE_shipway").to_owned()],
            folder: folder.to_owned(),
            host: host.to_owned(),
            store: folder.join("store"),
        };
        let launched = Self(program);
        launched.shipway(&["up", "-d"]).ok();
        until("one has ended and one has spoken", || {
            let ended = launched.shipway(&["ps", "-q", "--status", "exited"]).ok().out.lines().count() == 1;
            ended && launched.shipway(&["logs", "web"]).ok().out.contains("two & three")
        });
        launched
    }

    fn shipway(&self, arguments: &[&str]) -> Ran {
        let mut all = vec!["-p".to_owned(), NAME.to_owned()];
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self.0.run(&all)
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        self.shipway(&["down", "-v", "-t", "0"]);
    }
}

#[track_caller]
fn assert_same(ours: &str, theirs: &str) {
    let sections = |text: &str| -> Vec<String> { text.split("=== ").map(str::to_owned).collect() };
    for (ours, theirs) in sections(ours).iter().zip(sections(theirs)) {
        assert_eq!(*ours, theirs, "\nours:\n{ours}\nDocker Compose's:\n{theirs}");
    }
    assert_eq!(sections(ours).len(), sections(theirs).len());
}

#[test]
fn shipway_prints_what_docker_compose_printed() {
    let Some(scene) = Scene::with_engine("golden") else { return };
    let host = std::env::var("SHIPWAY_TEST_DOCKER_HOST").unwrap();
    let launched = Launched::on(&host, &scene.project());
    let recorded = std::fs::read_to_string(testdata("docker-compose.txt")).unwrap();
    assert_same(&launched.0.told(), &recorded);
}

/// Beside the real one, where it is given (see `record.sh`).
#[test]
fn shipway_prints_what_docker_compose_prints() {
    let given = |name: &str| std::env::var(format!("SHIPWAY_TEST_COMPOSE{name}")).ok();
    let (Some(compose), Some(host), Some(folder)) = (given(""), given("_HOST"), given("_FOLDER")) else {
        return println!("skipped: needs Docker Compose (SHIPWAY_TEST_COMPOSE)");
    };
    let folder = tempfile::tempdir_in(folder).unwrap();
    let launched = Launched::on(&host, folder.path());
    let words = shell_words::split(&compose).unwrap();
    let compose = Program { words, folder: folder.path().to_owned(), host, store: PathBuf::new() };
    let theirs = compose.told();
    if std::env::var_os("SHIPWAY_TEST_RECORD").is_some() {
        std::fs::write(testdata("docker-compose.txt"), &theirs).unwrap();
    }
    assert_same(&launched.0.told(), &theirs);
}

// --- making outputs comparable ---------------------------------------------------------------------------

fn comparable(case: &str, output: &str, folder: &Path) -> String {
    let command = case.split(' ').next().unwrap();
    let text = output.replace(folder.to_str().unwrap(), "/project");
    if text.starts_with('[') {
        return format!("{}\n", objects(&text));
    }
    let mut lines: Vec<String> = text.lines().map(|line| line_of(command, line)).collect();
    if command == "events" {
        lines.retain(|line| line.contains("\"start\""));
    }
    // Docker Compose asks the engine, which has no order, or several containers at once.
    let headline =
        usize::from(command == "stats" && lines.first().is_some_and(|line| line.starts_with("CONT")));
    if matches!(command, "volumes" | "stats" | "events" | "logs") {
        let mut rest = lines.split_off(headline.min(lines.len()));
        rest.sort();
        lines.extend(rest);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn line_of(command: &str, line: &str) -> String {
    if let Ok(Value::Object(object)) = serde_json::from_str(line) {
        return value(Value::Object(object)).to_string();
    }
    let line = match line.split_once("labels: ") {
        Some((before, labels)) => format!("{before}labels: {}", sorted(labels)),
        None => line.to_owned(),
    };
    let line = timeless(&line);
    match command {
        // The widths of columns follow the numbers in them.
        "top" | "stats" => squeezed(&numberless(&line)),
        "ps" | "images" => squeezed(&line),
        _ => line,
    }
}

/// An array of objects in the order of their texts.
fn objects(text: &str) -> String {
    let Value::Array(items) = serde_json::from_str(text).unwrap() else { panic!("{text}") };
    let mut items: Vec<_> = items.into_iter().map(|item| value(item).to_string()).collect();
    items.sort();
    items.join("\n")
}

fn value(value_: Value) -> Value {
    let Value::Object(mut object) = value_ else { return value_ };
    // 2.40 does not read it, 5.5 does.
    object.remove("Created");
    for (name, value) in &mut object {
        let Value::String(text) = value else {
            if name == "Size" {
                *value = 0.into();
            }
            continue;
        };
        *text = match name.as_str() {
            "Labels" => timeless(&sorted(text)),
            "Mountpoint" => text.split_once("/volumes/").unwrap().1.to_owned(),
            "CPUPerc" | "MemPerc" | "MemUsage" | "NetIO" | "BlockIO" | "PIDs" => numberless(text),
            _ => timeless(text),
        };
    }
    if let Some(Value::Object(attributes)) = object.get_mut("attributes") {
        attributes.values_mut().for_each(|text| *text = timeless(text.as_str().unwrap()).into());
    }
    Value::Object(object)
}

fn sorted(list: &str) -> String {
    let mut items: Vec<_> = list.split(',').collect();
    items.sort_unstable();
    items.join(",")
}

fn squeezed(line: &str) -> String {
    let mut text = String::new();
    for letter in line.chars() {
        if letter != ' ' || !text.ends_with("  ") {
            text.push(letter);
        }
    }
    text.trim_end().to_owned()
}

/// Numbers with their units as one sign.
fn numberless(line: &str) -> String {
    let mut text = String::new();
    for word in line.split_inclusive(' ') {
        let bare = word.trim_end_matches(' ');
        let number = bare.starts_with(|letter: char| letter.is_ascii_digit());
        text.push_str(if number { "N" } else { bare });
        text.push_str(&word[bare.len()..]);
    }
    text
}

/// Ids, digests, moments and durations as one sign each.
fn timeless(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (sign, length) =
            match moment(rest).or_else(|| hexadecimal(rest, &text)).or_else(|| duration(rest)) {
                Some(found) => found,
                None => {
                    text.push(first);
                    rest = &rest[first.len_utf8()..];
                    continue;
                }
            };
        text.push_str(sign);
        rest = &rest[length..];
    }
    text
}

/// `2026-01-02T03:04:05.678Z`, `2026-01-02 03:04:05 +0000 UTC`.
fn moment(text: &str) -> Option<(&'static str, usize)> {
    let shape = "dddd-dd-dd?dd:dd:dd";
    let fits = |(letter, form): (char, char)| match form {
        'd' => letter.is_ascii_digit(),
        '?' => letter == 'T' || letter == ' ',
        form => letter == form,
    };
    let head: String = text.chars().take(shape.len()).collect();
    if head.len() != shape.len() || !head.chars().zip(shape.chars()).all(fits) {
        return None;
    }
    let tail = &text[shape.len()..];
    let end = tail.find(|letter: char| !(letter == '.' || letter.is_ascii_digit())).unwrap_or(tail.len());
    let zone = ["Z", " +0000 UTC"].iter().find(|zone| tail[end..].starts_with(**zone));
    Some(("<moment>", shape.len() + end + zone.map_or(0, |zone| zone.len())))
}

fn hexadecimal(text: &str, before: &str) -> Option<(&'static str, usize)> {
    let length = text.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
    let inside = before.ends_with(|letter: char| letter.is_ascii_alphanumeric());
    let goes_on = text[length..].starts_with(|letter: char| letter.is_ascii_alphanumeric());
    let id = match length {
        64 => "<id>",
        12 => "<short id>",
        8 => "<part>",
        _ => return None,
    };
    (!inside && !goes_on).then_some((id, length))
}

fn duration(text: &str) -> Option<(&'static str, usize)> {
    let named = ["Less than a second", "About a minute", "About an hour"];
    if let Some(name) = named.iter().find(|name| text.starts_with(**name)) {
        return Some(("<time>", name.len()));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let units = [" seconds", " second", " minutes", " hours", " days", " weeks"];
    let unit = units.iter().find(|unit| digits > 0 && text[digits..].starts_with(**unit))?;
    Some(("<time>", digits + unit.len()))
}

// --- what moves --------------------------------------------------------------------------------------------

fn project(name: &str) -> Option<Scene> {
    let scene = Scene::with_engine(name)?;
    scene.write(
        "compose.yaml",
        "services:\n  web:\n    image: busybox\n    command: sh -c 'echo web speaks; exec sleep 86400'\n    init: true\n  \
         late:\n    image: busybox\n    command: sh -c 'echo late speaks; exit 4'\n",
    );
    Some(scene)
}

#[test]
fn logs_follow_what_starts_later_and_end_with_the_last() {
    let Some(scene) = project("follow") else { return };
    scene.shipway(&["up", "-d", "web"]).ok();
    let follower = scene.start(&["logs", "-f"]);
    until("the follower is there", || !crate::scene::processes("logs\0-f").is_empty());
    scene.shipway(&["up", "-d", "late"]).ok();
    until("late has ended", || !scene.shipway(&["ps", "-q", "--status", "exited"]).ok().out.is_empty());
    // A second start of the same container is read too.
    scene.shipway(&["start", "late"]).ok();
    until("late has ended again", || !scene.shipway(&["ps", "-q", "--status", "exited"]).ok().out.is_empty());
    scene.shipway(&["stop", "-t", "0", "web"]).ok();
    let told = ran(&follower.wait_with_output().unwrap()).ok().out;
    for expected in ["web-1", "web speaks", "late-1", "late speaks", "late-1 exited with code 4"] {
        assert!(told.contains(expected), "`{expected}` is not in:\n{told}");
    }
}

#[test]
fn pause_freezes_and_unpause_lets_go_on() {
    let Some(scene) = project("pause") else { return };
    scene.shipway(&["up", "-d", "web"]).ok();
    let states = || scene.shipway(&["ps", "--format", "{{.Service}} {{.State}}"]).ok().out;
    let dry = scene.shipway(&["--dry-run", "pause"]).ok();
    assert!(dry.out.contains("web-1: pause (it is to pause)"), "{}", dry.out);
    assert_eq!(states(), "web running\n");
    scene.shipway(&["pause", "web"]).ok();
    assert_eq!(states(), "web paused\n");
    // Again: there is nothing to do, and that is no error.
    scene.shipway(&["pause"]).ok();
    scene.shipway(&["unpause"]).ok();
    assert_eq!(states(), "web running\n");
    scene.shipway(&["pause", "nope"]).fails(1, &["nope"]);
}

#[test]
fn wait_has_the_code_of_the_container_and_may_take_the_project_down() {
    let Some(scene) = project("wait") else { return };
    scene.write(
        "compose.yaml",
        "services:\n  job:\n    image: busybox\n    command: sh -c 'until [ -e /go ]; do sleep 0.1; done; exit 7'\n    init: true\n",
    );
    scene.shipway(&["up", "-d"]).ok();
    let job = scene.container("job").unwrap();
    let waiting = scene.start(&["wait", "job", "--down-project"]);
    scene.docker(&["exec", &job, "touch", "/go"]).ok();
    let waited = ran(&waiting.wait_with_output().unwrap());
    assert_eq!(waited.code, Some(7), "{waited:?}");
    assert_eq!(waited.out, format!("container \"{job}\" exited with status code 7\n"));
    assert_eq!(scene.container("job"), None);
    scene.shipway(&["wait", "job"]).fails(1, &["no running container of job"]);
}

#[test]
fn kill_reaches_orphans_only_when_told_to() {
    let Some(scene) = project("orphans") else { return };
    scene.write(
        "compose.yaml",
        "services:\n  old:\n    image: busybox\n    command: sleep 86400\n    init: true\n",
    );
    scene.shipway(&["up", "-d"]).ok();
    scene.write("compose.yaml", "services:\n  new:\n    image: busybox\n");
    let running = || scene.shipway(&["ps", "-q"]).ok().out.lines().count();
    scene.shipway(&["kill"]).ok();
    assert_eq!(running(), 1);
    assert_eq!(scene.shipway(&["ps", "-q", "--orphans=false"]).ok().out, "");
    scene.shipway(&["kill", "--remove-orphans"]).ok();
    until("the orphan has ended", || running() == 0);
}

#[test]
fn stats_go_on_until_they_are_stopped() {
    let Some(scene) = project("stats") else { return };
    scene.shipway(&["up", "-d", "web"]).ok();
    let mut child = scene.start(&["stats", "--format", "{{.Name}} {{.PIDs}}"]);
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    // The init and what it runs; what is not known yet is `--`.
    assert!(lines.map_while(Result::ok).any(|line| line.ends_with("-web-1 2")));
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = ran(&child.wait_with_output().unwrap());
    // Stopped by the user, or by the reader who has gone away.
    assert!(matches!(ended.code, Some(0 | 130)), "{ended:?}");
}

/// Counts the connections that are made to an engine: each question has one of its own.
fn counting(engine: &str, folder: &Path) -> (String, Arc<AtomicUsize>) {
    let (path, count) = (folder.join("count.sock"), Arc::new(AtomicUsize::new(0)));
    let listener = UnixListener::bind(&path).unwrap();
    let (engine, counter) = (engine.strip_prefix("unix://").unwrap().to_owned(), Arc::clone(&count));
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            counter.fetch_add(1, Ordering::SeqCst);
            let far = UnixStream::connect(&engine).unwrap();
            for (mut from, mut to) in [
                (near.try_clone().unwrap(), far.try_clone().unwrap()),
                (far.try_clone().unwrap(), near.try_clone().unwrap()),
            ] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (format!("unix://{}", path.display()), count)
}

#[test]
fn more_services_are_no_more_questions() {
    let questions = |services: usize| {
        let scene = Scene::with_engine(&format!("many{services}"))?;
        let host = std::env::var("SHIPWAY_TEST_DOCKER_HOST").unwrap();
        let (host, count) = counting(&host, &scene.project());
        let one = |number| {
            format!("  s{number}:\n    image: busybox:latest\n    command: sleep 86400\n    init: true\n")
        };
        let all: String = (0..services).map(one).collect();
        scene.write("compose.yaml", &format!("services:\n{all}"));
        scene.shipway(&["up", "-d"]).ok();
        let asked = |arguments: &[&str]| {
            let before = count.load(Ordering::SeqCst);
            let told = ran(&scene.command(arguments).env("DOCKER_HOST", &host).output().unwrap()).ok();
            (told, count.load(Ordering::SeqCst) - before)
        };
        let (listed, ps) = asked(&["ps", "-q"]);
        assert_eq!(listed.out.lines().count(), services);
        let (again, up) = asked(&["--progress", "plain", "up", "-d"]);
        assert!(!again.err.contains("done in"), "{}", again.err);
        Some((ps, up))
    };
    let (Some(few), Some(many)) = (questions(2), questions(9)) else { return };
    assert_eq!(few, many);
    // One that opens the connection, one for the containers.
    assert_eq!(few.0, 2);
}

#[test]
fn a_project_without_its_file_is_looked_at_by_name() {
    let Some(scene) = project("named") else { return };
    scene.shipway(&["up", "-d", "web"]).ok();
    std::fs::rename(scene.project().join("compose.yaml"), scene.project().join("elsewhere")).unwrap();
    for (command, expected) in [
        (&["ps", "--services"][..], "web\n"),
        (&["images", "-q"], ""),
        (&["top"], "SERVICE"),
        (&["volumes"], "DRIVER"),
        (&["logs"], "web speaks"),
        (&["events", "--since", "10m", "--until", "0s"], "container start"),
    ] {
        let out = scene.shipway(command).ok().out;
        assert!(out.contains(expected), "{command:?}: {out}");
    }
    scene.shipway(&["pause", "web"]).ok();
    scene.shipway(&["unpause"]).ok();
    scene.shipway(&["kill"]).ok();
    std::fs::rename(scene.project().join("elsewhere"), scene.project().join("compose.yaml")).unwrap();
}
