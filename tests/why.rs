//! Every miss is explained: golden folders of `plan` and `why`, secrets that nobody repeats, timelines.
//!
//! `testdata/why/README.md` says what a case consists of. Keys, digests and times are replaced by words
//! before texts are compared.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::scene::{Ran, Scene, ran};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, PermissionsExt::from_mode(0o755)).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&from, &to);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(from).unwrap(), to).unwrap();
        } else {
            // A checkout has the modes of whoever made it.
            std::fs::write(&to, std::fs::read(from).unwrap()).unwrap();
            std::fs::set_permissions(&to, PermissionsExt::from_mode(0o644)).unwrap();
        }
    }
}

fn script(scene: &Scene, file: &Path) {
    if !file.exists() {
        return;
    }
    let mut command = Command::new("sh");
    command.arg("-e").arg(file).current_dir(scene.project());
    command.env("SHIPWAY", env!("CARGO_BIN_EXE_shipway")).env("SHIPWAY_STORE", scene.store());
    ran(&command.output().unwrap()).ok();
}

fn shipway(scene: &Scene, arguments: &[&str]) -> Ran {
    scene.shipway(&[&["--engine", "none"], arguments].concat())
}

/// Words in the place of keys, digests, times and ages.
fn portable(text: &str) -> String {
    let mut portable = String::new();
    let mut word = String::new();
    let end = |word: &mut String, portable: &mut String| {
        let hex = word.chars().all(|letter| letter.is_ascii_hexdigit());
        portable.push_str(match word.len() {
            12 if hex => "KEY",
            64 if hex => "DIGEST",
            _ => word,
        });
        word.clear();
    };
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() {
            word.push(letter);
        } else {
            end(&mut word, &mut portable);
            portable.push(letter);
        }
    }
    end(&mut word, &mut portable);
    let varying = [(": built ", " ago", "…"), ("\"took_ms\":", ",", "0"), ("\"built\":", ",", "0")];
    varying.iter().fold(portable, |text, (begin, until, word)| with(&text, begin, until, word))
}

/// The text with `word` for what stands between `begin` and `until`, each time; `null` stays.
fn with(text: &str, begin: &str, until: &str, word: &str) -> String {
    let mut parts = text.split(begin);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let at = part.find(until).unwrap();
        let value = if &part[..at] == "null" { "null" } else { word };
        result.push_str(&format!("{begin}{value}{}", &part[at..]));
    }
    result
}

/// What a case's commands say, by the names of the files that keep it.
fn said(case: &Path, scene: &Scene) -> Vec<(&'static str, String)> {
    let mut said = Vec::new();
    copy(&case.join("before"), &scene.project());
    scene.age(".");
    script(scene, &case.join("prepare.sh"));
    let first = shipway(scene, &["build"]);
    if case.join("first-why.txt").exists() {
        assert_eq!(first.code, Some(1), "{}: {}", case.display(), first.err);
        said.push(("first-why.txt", shipway(scene, &["why"]).ok().out));
    } else {
        first.ok();
    }
    script(scene, &case.join("change.sh"));
    said.push(("plan.txt", shipway(scene, &["plan"]).ok().out));
    said.push(("plan.json", shipway(scene, &["plan", "--format", "json"]).ok().out));
    let arguments = std::fs::read_to_string(case.join("arguments")).unwrap_or_default();
    let arguments: Vec<&str> = ["build"].into_iter().chain(arguments.split_whitespace()).collect();
    shipway(scene, &arguments).ok();
    said.push(("why.txt", shipway(scene, &["why"]).ok().out));
    said.push(("why.json", shipway(scene, &["why", "--format", "json"]).ok().out));
    said
}

#[test]
fn golden_folders() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/why");
    let mut cases: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|case| case.is_dir());
    cases.sort();
    let mut wrong = Vec::new();
    for case in cases {
        let Some(scene) = Scene::with_busybox() else { return };
        for (name, text) in said(&case, &scene) {
            let (file, text) = (case.join(name), portable(&text));
            // The JSON is kept where it shows something of its own.
            if name.ends_with(".json") && !file.exists() {
                continue;
            }
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&file, &text).unwrap();
            }
            if std::fs::read_to_string(&file).unwrap_or_default() != text {
                wrong.push(format!("{}:\n{text}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every step that ran has a reason in every form, and the forms agree.
#[test]
fn programs_get_what_people_read() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("compose.yaml", "services:\n  app:\n    build: .\n");
    scene.write("Dockerfile", "FROM busybox\nCOPY file /\nRUN cat file\n").write("file", "1\n").age(".");
    let steps = |text: &str| -> Vec<Value> {
        let service: Value = serde_json::from_str(text).unwrap();
        service["steps"].as_array().unwrap().clone()
    };
    let before = steps(&shipway(&scene, &["why", "--format", "json"]).ok().out);
    assert!(before.iter().all(|step| step["outcome"] == "would-run" || step["reason"].is_null()));
    shipway(&scene, &["build"]).ok();
    scene.write("file", "2\n");
    shipway(&scene, &["build"]).ok();
    let after = steps(&shipway(&scene, &["why", "--format", "json"]).ok().out);
    for step in &after {
        let ran = step["outcome"] == "ran";
        assert_eq!(ran, step["reason"].is_string() && step["first_cause"].is_object(), "{step}");
        assert_eq!(ran, !step["misses"].as_array().unwrap().is_empty(), "{step}");
    }
    assert_eq!(after[2]["first_cause"]["text"], "COPY file /");
    assert_eq!(after[2]["first_cause"]["reason"]["changes"][0]["path"], "file");
}

/// A history that an older program wrote has texts only; it is read all the same.
#[test]
fn histories_without_values_are_read() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("compose.yaml", "services:\n  app:\n    build: .\n");
    scene.write("Dockerfile", "FROM busybox\nRUN echo > /x\n").age(".");
    shipway(&scene, &["build"]).ok();
    for file in histories(&scene) {
        let mut history: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for step in history["value"]["steps"].as_array_mut().unwrap() {
            for field in ["end", "misses", "first_cause"] {
                step.as_object_mut().unwrap().remove(field);
            }
        }
        std::fs::write(file, history.to_string()).unwrap();
    }
    let told = shipway(&scene, &["why"]).ok().out;
    assert!(told.contains("RUN echo > /x  ran because never built"), "{told}");
    scene.write("Dockerfile", "FROM busybox\nRUN echo 1 > /x\n");
    let told = shipway(&scene, &["plan"]).ok().out;
    assert!(told.contains("because instruction changed: `RUN echo > /x` → `RUN echo 1 > /x`"), "{told}");
}

fn histories(scene: &Scene) -> Vec<std::path::PathBuf> {
    let projects = std::fs::read_dir(scene.store().join("history-v1")).unwrap();
    let files = projects.flat_map(|project| std::fs::read_dir(project.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

/// The value of a secret is in no text, no JSON, no trace and no file of the store.
#[test]
fn secrets_are_not_repeated() {
    let Some(scene) = Scene::with_busybox() else { return };
    let compose = "services:\n  app:\n    build:\n      context: .\n      secrets: [one, two]\nsecrets:\n  \
        one:\n    file: one\n  two:\n    environment: TWO\n";
    scene.write("compose.yaml", compose);
    let steps = "RUN --mount=type=secret,id=one,env=ONE --mount=type=secret,id=two test -n \"$ONE\"\n";
    scene.write("Dockerfile", &format!("FROM busybox\n{steps}RUN false\n"));
    let shipway = |arguments: &[&str], two: &str| {
        let mut command = scene.command(&[&["--engine", "none"], arguments].concat());
        ran(&command.env("TWO", two).output().unwrap())
    };
    let mut all = String::new();
    for (one, two) in [("hunter-one", "hunter-two"), ("hunter-three", "hunter-four")] {
        scene.write("one", one);
        for arguments in [
            &["plan"][..],
            &["plan", "--format", "json"],
            &["--progress", "json", "build", "--trace", "trace.json"],
            &["--progress", "plain", "build", "--no-cache"],
            &["why"],
            &["why", "--format", "json"],
        ] {
            let ran = shipway(arguments, two);
            all += &ran.out;
            all += &ran.err;
        }
    }
    all += &std::fs::read_to_string(scene.project().join("trace.json")).unwrap();
    for file in histories(&scene) {
        all += &std::fs::read_to_string(file).unwrap();
    }
    assert!(all.contains("secret"), "{all}");
    assert!(!all.contains("hunter"), "{all}");
    let grep = Command::new("grep").args(["-r", "hunter"]).arg(scene.store()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
}

fn trace(scene: &Scene) -> Vec<Value> {
    let text = std::fs::read_to_string(scene.project().join("trace.json")).unwrap();
    let trace: Value = serde_json::from_str(&text).unwrap();
    trace["traceEvents"].as_array().unwrap().clone()
}

#[test]
fn a_build_leaves_a_timeline() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("compose.yaml", "services:\n  app:\n    build: .\n");
    scene.write("Dockerfile", "FROM busybox\nRUN echo > /x\nRUN exit 3\n");
    shipway(&scene, &["build", "--trace", "trace.json"]).fails(1, &["exit code 3"]);
    let events = trace(&scene);
    let find = |name: &str| events.iter().find(|event| event["name"] == name).unwrap();
    let (ran, failed) = (find("RUN echo > /x"), find("RUN exit 3"));
    assert_eq!((&ran["ph"], &ran["args"]["outcome"]), (&"X".into(), &"ran".into()));
    assert_eq!(
        (&failed["args"]["outcome"], &failed["args"]["reason"]),
        (&"failed".into(), &"never built".into())
    );
    let end = |event: &Value| event["ts"].as_u64().unwrap() + event["dur"].as_u64().unwrap();
    for phase in ["read-files", "resolve-names", "walk-contexts", "look-up-keys", "run-steps", "sync"] {
        assert_eq!(find(phase)["ph"], "X", "{phase}");
    }
    assert!(
        end(find("run-steps")) >= end(failed) && find("look-up-keys")["ts"].as_u64() <= ran["ts"].as_u64()
    );

    scene.write("Dockerfile", "FROM busybox\nRUN echo > /x\n");
    let arguments = ["--engine", "none", "image", "build", "-t", "x", "--trace", "trace.json", "."];
    scene.shipway(&arguments).ok();
    assert_eq!(trace(&scene).iter().filter(|event| event["name"] == "export").count(), 1);
}

#[test]
fn up_leaves_a_timeline_of_transfers_and_of_the_engine() {
    let Some(scene) = Scene::with_engine("timeline") else { return };
    scene.write("compose.yaml", "services:\n  app:\n    build: .\n    command: [sleep, '60']\n");
    scene.write("Dockerfile", "FROM busybox\nRUN echo > /x\n");
    scene.shipway(&["up", "-d", "--trace", "trace.json"]).ok();
    let events = trace(&scene);
    let lanes = |category: &str| -> Vec<u64> {
        let of = events.iter().filter(|event| event["cat"] == category);
        of.map(|event| event["tid"].as_u64().unwrap()).collect()
    };
    let (transfers, engine) = (lanes("transfers"), lanes("engine"));
    assert!(!transfers.is_empty() && !engine.is_empty(), "{events:?}");
    assert!(transfers.iter().all(|lane| !engine.contains(lane)), "{events:?}");
    let container = events
        .iter()
        .find(|event| event["cat"] == "engine" && event["name"].as_str().unwrap().starts_with("Container "));
    assert_eq!(container.unwrap()["args"]["ok"], true);
    assert!(events.iter().any(|event| event["name"] == "hand-over"), "{events:?}");
}

#[test]
fn a_trace_that_cannot_be_written_is_refused_first() {
    let Some(scene) = Scene::as_root() else { return };
    scene
        .write("compose.yaml", "services:\n  app:\n    build: .\n")
        .write("Dockerfile", "FROM scratch\nCOPY x /\n");
    scene.write("x", "");
    std::os::unix::fs::symlink("/dev/null", scene.project().join("link")).unwrap();
    for path in ["missing/trace.json", ".", "link", "x/trace.json"] {
        let refused = shipway(&scene, &["build", "--trace", path]).fails(1, &["cannot write"]);
        assert!(!refused.err.contains("COPY"), "{}", refused.err);
    }
    let left = std::fs::read_dir(scene.project()).unwrap().count();
    assert_eq!(left, 4, "files in the project");
}

/// The stream of `--progress json` begins with its version, and its times never go back.
#[test]
fn the_stream_of_events_says_what_it_is() {
    let Some(scene) = Scene::as_root() else { return };
    scene.write("Dockerfile", "FROM scratch\nCOPY x /\nCOPY y /\n").write("x", "");
    let arguments = ["--engine", "none", "--progress", "json", "image", "build", "."];
    let failed = scene.shipway(&arguments);
    scene.write("y", "");
    for (text, last) in [(failed.err, "failure"), (scene.shipway(&arguments).ok().err, "summary")] {
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["event"], &lines[0]["version"]), (&"stream".into(), &1.into()));
        assert_eq!(lines.last().unwrap()["event"], last, "{text}");
        let times: Vec<u64> = lines.iter().map(|line| line["time"].as_u64().unwrap()).collect();
        assert!(times.is_sorted(), "{text}");
    }
}
