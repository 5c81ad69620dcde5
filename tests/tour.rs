//! The commands of the README, run as they stand there: each shown line has to come out, times, sizes, ids
//! and most numbers aside.
//!
//! In a block of the README a line after `$ ` is a command, ended by `\` it goes on; what follows is output.
//! `…` alone stands for any lines, within a line for any text. Lines may come in another order: much happens
//! at once.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::pack;
use crate::scene::{Scene, needs, number};

/// What a machine must have of its own, or does for long: `.ci/run` does it.
const NOT_RUN: [&str; 5] = [
    "./testdata/pack/demo.sh",
    "./tests/run.sh",
    "cargo install --path .",
    "dist/package.sh",
    "dpkg -i target/dist/shipway_*.deb",
];

/// The sections whose commands are run, each by a test below.
const RUN: [&str; 7] = [
    "A tour",
    "Launching",
    "image build",
    "On CI: build nothing that anyone has built",
    "The store",
    "Events for programs",
    "Reasons for programs",
];

/// A command and the lines that the README shows of it.
struct Shown {
    command: String,
    lines: Vec<String>,
}

/// The README's sections with their commands.
fn readme() -> Vec<(String, Vec<Shown>)> {
    let mut sections: Vec<(String, Vec<Shown>)> = vec![(String::new(), Vec::new())];
    let (mut inside, mut goes_on) = (false, false);
    for line in include_str!("../README.md").lines() {
        if let Some(name) = line.strip_prefix("## ").filter(|_| !inside) {
            sections.push((name.to_owned(), Vec::new()));
        }
        if line.starts_with("```") {
            inside = line == "```console";
            continue;
        }
        let commands = &mut sections.last_mut().unwrap().1;
        match line.strip_prefix("$ ").filter(|_| inside) {
            Some(command) => commands.push(Shown { command: command.to_owned(), lines: Vec::new() }),
            None if !inside => {}
            None if goes_on => {
                let command = &mut commands.last_mut().unwrap().command;
                *command = format!("{command}\n{line}");
            }
            None => commands.last_mut().unwrap().lines.push(line.to_owned()),
        }
        goes_on = inside && line.ends_with('\\');
    }
    sections
}

/// What is the same in every run, and so has its count compared.
const COUNTED: [&str; 6] = ["step", "steps", "hit", "hits", "ran", "failed"];

/// A text without what differs from run to run: other numbers, ids and how long ago something was.
fn plain(line: &str) -> String {
    let line = line.replace("Less than a second", "0 seconds").replace("About a minute", "0 seconds");
    let mut plain = String::new();
    let words: Vec<&str> = line.split_whitespace().collect();
    for (index, &word) in words.iter().enumerate() {
        let next = words.get(index + 1).map(|next| next.trim_end_matches([',', ':']));
        if next.is_some_and(|next| COUNTED.contains(&next)) && word.bytes().all(|byte| byte.is_ascii_digit())
        {
            plain.push_str(&format!("{word} "));
            continue;
        }
        // Units go with their numbers.
        let word = match word {
            "second" | "minute" | "minutes" => "seconds",
            word => word,
        };
        let mut rest = word;
        while let Some(letter) = rest.chars().next() {
            let id = rest.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(rest.len());
            let is_id = id >= 8 && rest[..id].contains(|letter: char| letter.is_ascii_digit());
            let number =
                rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
            if is_id {
                plain.push('0');
                rest = &rest[id..];
            } else if letter.is_ascii_digit() {
                plain.push('0');
                rest = rest[number..].trim_start_matches(['k', 'M', 'G']);
            } else {
                plain.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
        plain.push(' ');
    }
    plain.trim_end().to_owned()
}

/// Whether a line is what is shown; both are plain.
fn is_shown(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut ends_open = false;
    for part in parts {
        ends_open = part.is_empty();
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    ends_open || rest.is_empty()
}

#[test]
fn lines_are_compared_without_what_differs() {
    let same = |shown: &str, line: &str| is_shown(&plain(shown), &plain(line));
    assert!(same("load pack-flask:latest  132MB done", "load pack-flask:latest  7.17kB done"));
    assert!(same("Image 86bd6776e465  built", "Image c0ffee123456  built"));
    assert!(same("… because never built", "#10 [a] RUN x  because never built"));
    assert!(same("a  6 seconds ago   Up 5 seconds", "a  Less than a second ago   Up 1 second"));
    assert!(same(
        "pushed a as sha256:3bee92e58ab7…: 3 uploaded",
        "pushed a as sha256:00112233445566: 9 uploaded"
    ));
    assert!(!same("3 steps: 1 hit, 2 ran in 0.1s", "3 steps: 2 hits, 1 ran in 0.1s"));
    assert!(!same("#4 [flask] COPY . .  done in 0.0s", "#4 [nginx] COPY . .  done in 0.0s"));
    assert!(!same("Image 86bd6776e465  built", "Image 86bd6776e465  built twice"));
}

/// Runs the commands of a section in the project of a scene. `others` are texts of the README and what
/// stands for them here.
fn run(section: &str, scene: &Scene, others: &[(&str, &str)]) {
    let sections = readme();
    let (_, commands) = sections.iter().find(|(name, _)| name == section).expect("the section");
    assert!(RUN.contains(&section) && !commands.is_empty());
    let mut wrong = String::new();
    for Shown { command, lines } in commands {
        let here = others.iter().fold(command.clone(), |text, (shown, here)| text.replace(shown, here));
        let (out, succeeded) = out(scene, &here);
        let out = others.iter().fold(out, |text, (shown, here)| text.replace(here, shown));
        let said: Vec<String> = out.lines().map(plain).collect();
        let missing: Vec<&String> = lines
            .iter()
            .filter(|line| *line != "…" && !line.is_empty())
            .filter(|line| !said.iter().any(|said| is_shown(&plain(line), said)))
            .collect();
        let fails = lines.iter().any(|line| line.starts_with("error: "));
        if !missing.is_empty() || succeeded == fails {
            wrong.push_str(&format!("\n$ {command}\nmissing: {missing:#?}\nsucceeded: {succeeded}\n{out}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What a command prints on both streams, and whether it succeeds.
fn out(scene: &Scene, command: &str) -> (String, bool) {
    let program = scene.command(&[]);
    let folder = Path::new(program.get_program()).parent().unwrap().to_str().unwrap().to_owned();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec 2>&1\n{command}")]).current_dir(scene.project()).env_clear();
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", path);
    let output = shell.stdin(Stdio::null()).output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

#[test]
fn every_command_of_the_readme_is_run() {
    for (section, commands) in readme() {
        let here = RUN.contains(&section.as_str());
        for Shown { command, .. } in commands.iter().filter(|_| !here) {
            let known = NOT_RUN.iter().any(|known| command.starts_with(known));
            assert!(known, "no test runs `{command}` of the section {section}");
        }
    }
}

#[test]
fn the_tour() {
    let _ports = pack::ports();
    let Some(tar) = needs("SHIPWAY_TEST_DEBIAN_TAR", "SHIPWAY_TEST_DEBIAN_TAR") else { return };
    let Some(scene) = Scene::with_engine("tour") else { return };
    pack::copy_to(&scene);
    symlink(tar, scene.project().join("debian-bookworm-slim.tar")).unwrap();
    run("A tour", &scene, &[("pack", scene.name())]);
}

#[test]
fn launching() {
    let Some(scene) = Scene::with_engine("told") else { return };
    let text = "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    init: true\n    \
                environment: {MODE: \"${MODE:-one}\"}\n  migrate:\n    image: busybox\n    \
                command: sh -c 'echo migrating; exit ${MIGRATE:-0}'\n  \
                api:\n    image: busybox\n    command: sleep 1000\n    init: true\n    \
                depends_on: {migrate: {condition: service_completed_successfully}}\n";
    scene.write("compose.yaml", text);
    scene.shipway(&["up", "-d", "web"]).ok();
    run("Launching", &scene, &[("shop", scene.name())]);
}

#[test]
fn image_build() {
    let Some(registry) = needs("SHIPWAY_TEST_REGISTRY", "a registry (SHIPWAY_TEST_REGISTRY)") else { return };
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("app/Dockerfile", "FROM busybox\nCOPY hello /bin/hello\n").write("app/hello", "echo hello\n");
    let here = format!("{registry}/tour-{}-{}", std::process::id(), number());
    let arguments = [("registry.example", here.as_str()), ("shipway ", "shipway --engine none ")];
    run("image build", &scene, &arguments);
}

#[test]
fn a_shared_cache() {
    let Some(registry) = needs("SHIPWAY_TEST_REGISTRY", "a registry (SHIPWAY_TEST_REGISTRY)") else { return };
    let Some(scene) = Scene::with_busybox() else { return };
    let here = format!("{registry}/tour-{}-{}", std::process::id(), number());
    let service = |name: &str| {
        format!(
            "  {name}:\n    image: {here}/shop/{name}\n    build: {{dockerfile_inline: \"FROM {registry}/library/busybox\\nRUN echo {name} > /name\\n\"}}\n"
        )
    };
    scene.write("compose.yaml", &format!("services:\n{}{}", service("web"), service("api")));
    let cache = format!("type=registry,ref={here}/shop/cache:main");
    scene.shipway(&["--engine", "none", "build", "--push", "--cache-to", &cache]).ok();
    std::fs::remove_dir_all(scene.store()).unwrap();
    run("On CI: build nothing that anyone has built", &scene, &[("registry.example", &here)]);
}

#[test]
fn the_store() {
    let Some(scene) = Scene::with_busybox() else { return };
    let service = |name: &str| {
        format!(
            "  {name}: {{build: {{dockerfile_inline: \"FROM busybox\\nRUN --mount=type=cache,target=/c head -c 2000000 /dev/urandom | tee /c/x > /x-{name}\\n\"}}}}\n"
        )
    };
    scene.write("compose.yaml", &format!("name: shop\nservices:\n{}{}", service("web"), service("api")));
    scene.shipway(&["--engine", "none", "build"]).ok();
    scene.shipway(&["--engine", "none", "build", "--no-cache"]).ok();
    run("The store", &scene, &[]);
}

#[test]
fn events_and_reasons() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("greeting", "hello\n").write(
        "compose.yaml",
        "services:\n  hello: {build: {context: ., dockerfile_inline: \"FROM busybox\\nCOPY greeting /\\nRUN cat greeting\\n\"}}\n",
    );
    scene.shipway(&["--engine", "none", "build"]).ok();
    run("Events for programs", &scene, &[]);
    run("Reasons for programs", &scene, &[]);
}
