//! The command line: what it refuses and how, what goes to which stream, exit codes, variables.

use crate::scene::Scene;

const TWO: &str = "services:\n  web:\n    build: ./web\n  db:\n    image: busybox\n";

/// A project with one service to build, in a scene without an engine.
fn built() -> Option<Scene> {
    let scene = Scene::with_busybox()?;
    scene
        .write("compose.yaml", TWO)
        .write("web/Dockerfile", "FROM busybox\nCOPY page /page\nRUN cat /page\n")
        .write("web/page", "one\n")
        .age(".");
    Some(scene)
}

#[test]
fn mistakes_in_the_command_line_end_with_one() {
    let scene = Scene::empty();
    scene.shipway(&["biuld"]).fails(1, &["'biuld'", "'build'"]);
    scene.shipway(&["up", "--detatch"]).fails(1, &["--detatch", "--detach"]);
    scene.shipway(&["up", "--build", "--no-build"]).fails(1, &["cannot be used with"]);
    scene.shipway(&["--parallel", "-3", "build"]).fails(1, &["-1 or more"]);
    scene.shipway(&["up", "--watch", "--attach", "web"]).fails(1, &["not supported yet: --watch"]);
    scene.shipway(&["publish", "x"]).fails(1, &["not supported yet: `shipway publish`"]);
    let help = scene.shipway(&["up", "--help"]).ok();
    assert!(help.out.contains("--force-recreate") && help.err.is_empty());
    assert!(scene.shipway(&["version", "--short"]).ok().out.starts_with(char::is_numeric));
    let completion = scene.shipway(&["completion", "bash"]).ok().out;
    assert!(completion.contains("--force-recreate") && !completion.contains("manual"));
    assert!(!scene.store().exists(), "nothing of this needs a store");
}

#[test]
fn the_program_says_what_it_is_and_what_it_finds() {
    let scene = Scene::empty();
    let json = scene.shipway(&["version", "--format", "json"]).ok().out;
    assert_eq!(json, format!("{{\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION")));
    let told = scene.shipway(&["--engine", "none", "version"]).ok().out;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], concat!("Shipway version ", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].starts_with("store: ") && lines[1].contains("limit: "), "{told}");
    assert_eq!(lines[2], "engine: none (--engine none)");
    for fact in ["kernel: ", "layers: ", "cgroups: ", "device guard: "] {
        assert!(lines.iter().any(|line| line.starts_with(fact)), "no {fact} in {told}");
    }
}

#[test]
fn manual_pages_are_written_for_all_commands() {
    let scene = Scene::empty();
    scene.shipway(&["manual", "man/one"]).ok();
    for (page, typed) in [("shipway", "shipway"), ("shipway-up", "shipway up")] {
        let text = std::fs::read_to_string(scene.project().join(format!("man/one/{page}.1"))).unwrap();
        assert!(text.contains(typed), "{text}");
    }
    assert!(!scene.project().join("man/one/shipway-manual.1").exists());
    assert!(!scene.shipway(&["--help"]).ok().out.contains("manual"));
    scene.shipway(&["manual"]).fails(1, &["DIR"]);
}

#[test]
fn mistakes_in_files_are_shown_with_their_place() {
    let scene = Scene::empty();
    scene.shipway(&["build"]).fails(1, &["no compose file", "-f"]);
    scene.write("compose.yaml", "services:\n  web:\n    mage: busybox\n");
    scene.shipway(&["up", "-d"]).fails(1, &["`mage`", "compose.yaml:3:5", "`image`"]);
    scene.write("compose.yaml", "services:\n  web:\n    build: ./nowhere\n");
    scene.shipway(&["--engine", "none", "build"]).fails(1, &["nowhere", "compose.yaml:3"]);
}

#[test]
fn config_prints_the_project_or_its_names() {
    let scene = Scene::empty();
    scene.write("compose.yaml", TWO);
    let names = |flag| scene.shipway(&["-p", "pack", "config", flag]).ok().out;
    assert_eq!(
        (names("--services"), names("--images")),
        ("db\nweb\n".to_owned(), "busybox\npack-web\n".to_owned())
    );
    assert_eq!(names("--quiet"), "");
    let json: serde_json::Value =
        serde_json::from_str(&scene.shipway(&["config", "--format", "json"]).ok().out).unwrap();
    assert_eq!(json["services"]["db"]["image"], "busybox");
    let yaml = scene.shipway(&["config"]).ok().out;
    scene.write("again.yaml", &yaml);
    assert_eq!(scene.shipway(&["-f", "again.yaml", "config"]).ok().out, yaml);
}

#[test]
fn commands_that_need_an_engine_say_so() {
    let scene = Scene::empty();
    scene.write("compose.yaml", TWO);
    for command in [&["ps"][..], &["down"], &["logs"], &["up", "-d"]] {
        scene.shipway(command).fails(1, &["no container engine answers", "DOCKER_HOST"]);
    }
    scene.shipway(&["--engine", "none", "up"]).fails(1, &["needs a container engine"]);
}

#[test]
fn a_plan_runs_nothing_and_why_names_the_file() {
    let Some(scene) = built() else { return };
    let plan = |format| scene.shipway(&["--engine", "none", "plan", "--format", format]).ok().out;
    assert!(plan("text").contains("2 would run"), "{}", plan("text"));
    assert!(plan("dot").starts_with("digraph"));
    for line in plan("json").lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    let why = scene.shipway(&["--engine", "none", "why"]).ok().out;
    assert!(why.contains("web: not built yet") && why.contains("would run because"), "{why}");
    assert!(scene.shipway(&["--engine", "none", "--dry-run", "build"]).ok().out.contains("2 would run"));
    let built = scene.shipway(&["--engine", "none", "build"]).ok();
    assert!(built.out.contains("project-web:latest"), "{built:?}");
    scene.write("web/page", "another\n").age(".");
    scene.shipway(&["--engine", "none", "build"]).ok().says(&["`page`"]);
    let why = scene.shipway(&["why", "web"]).ok().out;
    assert!(why.contains("COPY page /page  ran because") && why.contains("`page`"), "{why}");
}

#[test]
fn progress_has_its_forms() {
    let Some(scene) = built() else { return };
    let quiet = scene.shipway(&["--engine", "none", "build", "--quiet"]).ok();
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    scene.write(".env", "COMPOSE_PROGRESS=json\nCOMPOSE_STATUS_STDOUT=1\n");
    let json = scene.shipway(&["--engine", "none", "build", "--no-cache"]).ok();
    let events = json.out.lines().filter(|line| line.starts_with('{'));
    let events: Vec<serde_json::Value> = events.map(|line| serde_json::from_str(line).unwrap()).collect();
    let outputs = events.iter().filter(|event| event["event"] == "step-output");
    let output: String = outputs.filter_map(|event| event["text"].as_str()).collect();
    assert_eq!(output, "one\n");
    assert!(events.iter().any(|event| event["event"] == "step-finished" && event["outcome"] == "ran"));
}

#[test]
fn a_failed_step_is_shown_with_its_output_and_its_line() {
    let Some(scene) = built() else { return };
    scene.write("web/Dockerfile", "FROM busybox\nRUN echo clue >&2; exit 7\n").age(".");
    let shown = ["clue", "exit code 7", "web/Dockerfile:2"];
    scene.shipway(&["--engine", "none", "build"]).fails(1, &shown);
    scene.shipway(&["--engine", "none", "--progress", "quiet", "build"]).fails(1, &shown);
    let json = scene.shipway(&["--engine", "none", "--progress", "json", "build"]).fails(1, &shown);
    let last: serde_json::Value = serde_json::from_str(json.err.lines().last().unwrap()).unwrap();
    assert_eq!(last["error"], true);
}

#[test]
fn the_cache_is_shown_and_pruned() {
    let Some(scene) = built() else { return };
    scene.shipway(&["--engine", "none", "build"]).ok();
    let usage = || -> serde_json::Value {
        serde_json::from_str(&scene.shipway(&["cache", "du", "--format", "json"]).ok().out).unwrap()
    };
    let before = usage();
    assert!(before["snapshots"]["count"].as_u64() >= Some(3), "{before}");
    scene.shipway(&["cache", "prune"]).fails(130, &["Go on?"]);
    scene.shipway(&["--dry-run", "cache", "prune"]).ok();
    assert_eq!(usage()["records"]["count"], before["records"]["count"]);
    let pruned = scene.shipway(&["cache", "prune", "--force", "--filter", "until=1h"]).ok();
    assert!(pruned.out.contains("Freed: "), "{pruned:?}");
    assert_eq!(usage()["records"]["count"], before["records"]["count"], "all was used within the hour");
    // Names keep their images, and the records that make them hits.
    scene.shipway(&["cache", "prune", "--force", "--all"]).ok();
    assert!(scene.shipway(&["image", "ls"]).ok().out.contains("project-web"));
    assert!(scene.shipway(&["--engine", "none", "build"]).ok().err.contains("nothing changed"));
    scene.shipway(&["image", "rm", "project-web"]).ok();
    let pruned = scene.shipway(&["cache", "prune", "--force", "--max-used-space", "0"]).ok();
    assert!(pruned.out.contains("Freed: "), "{pruned:?}");
    assert!(scene.shipway(&["--engine", "none", "build"]).ok().err.contains("nothing changed"));
    scene.shipway(&["image", "rm", "project-web"]).ok();
    scene.shipway(&["cache", "prune", "--force", "--all"]).ok();
    assert!(usage()["records"]["count"].as_u64() < before["records"]["count"].as_u64());
    scene.shipway(&["--engine", "none", "build"]).ok();
}
