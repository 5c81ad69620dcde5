//! Building: the embedded builder on real files, in real isolation, without an engine.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use crate::scene::{Ran, Scene, mounts, needs, processes, ran, skip, until};

/// Builds the project without an engine.
fn build(scene: &Scene, more: &[&str]) -> Ran {
    scene.shipway(&[&["--engine", "none", "--progress", "plain", "build"], more].concat())
}

/// The steps that ran, by their text.
#[track_caller]
fn steps(ran: &Ran) -> Vec<String> {
    let lines = ran.err.lines().filter_map(|line| line.split_once("  done in ")).map(|(step, _)| step);
    let mut steps: Vec<String> =
        lines.filter_map(|step| step.split_once("] ")).map(|(_, text)| text.to_owned()).collect();
    steps.sort();
    steps
}

fn two_services(scene: &Scene) {
    scene
        .write("compose.yaml", "services:\n  one:\n    build: ./one\n  two:\n    build: ./two\n")
        .write(
            "one/Dockerfile",
            "FROM busybox\nRUN echo shared > /shared\nCOPY a.txt /a.txt\nRUN cat /a.txt\n",
        )
        .write("one/a.txt", "one\n")
        .write("one/README.md", "not copied\n")
        .write(
            "two/Dockerfile",
            "FROM busybox\nRUN echo shared > /shared\nCOPY . /src\nRUN ls /src > /list\n",
        )
        .write("two/.dockerignore", "*.log\nDockerfile\n")
        .write("two/b.txt", "two\n")
        .write("two/debug.log", "ignored\n")
        .age(".");
}

#[test]
fn equal_work_is_done_once_and_nothing_twice() {
    let Some(scene) = Scene::with_busybox() else { return };
    two_services(&scene);
    let first = build(&scene, &[]).ok();
    let expected = [
        "COPY . /src",
        "COPY a.txt /a.txt",
        "RUN cat /a.txt",
        "RUN echo shared > /shared",
        "RUN ls /src > /list",
    ];
    assert_eq!(steps(&first), expected);
    assert!(first.err.contains("[one, two] RUN echo shared"), "{}", first.err);
    let second = build(&scene, &[]).ok();
    assert_eq!(steps(&second), [""; 0]);
    assert!(second.err.contains("nothing changed"), "{}", second.err);
}

#[test]
fn only_what_changed_runs_and_says_why() {
    let Some(scene) = Scene::with_busybox() else { return };
    two_services(&scene);
    build(&scene, &[]).ok();
    scene.write("one/a.txt", "changed\n");
    let changed = build(&scene, &[]).ok().says(&["because `a.txt` modified", "because `COPY a.txt /a.txt`"]);
    assert_eq!(steps(&changed), ["COPY a.txt /a.txt", "RUN cat /a.txt"]);
    let why = scene.shipway(&["why", "one"]).ok();
    assert!(why.out.contains("`a.txt` modified"), "{}", why.out);
    scene.write(
        "two/Dockerfile",
        "FROM busybox\nRUN echo shared > /shared\nCOPY . /src\nRUN ls -l /src > /list\n",
    );
    let instruction = build(&scene, &[]).ok().says(&["instruction changed"]);
    assert_eq!(steps(&instruction), ["RUN ls -l /src > /list"]);
}

#[test]
fn what_no_step_uses_changes_nothing() {
    let Some(scene) = Scene::with_busybox() else { return };
    two_services(&scene);
    build(&scene, &[]).ok();
    scene.write("one/README.md", "edited").write("two/debug.log", "edited").write("two/new.log", "new");
    assert_eq!(steps(&build(&scene, &[]).ok()), [""; 0]);
    // Only times: everything is read again, nothing runs.
    scene.age(".");
    assert_eq!(steps(&build(&scene, &[]).ok()), [""; 0]);
    // A mode is written into the image, so it counts.
    let path = scene.project().join("two/b.txt");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    build(&scene, &[]).ok().says(&["`b.txt` mode changed from 0644 to 0755"]);
}

#[test]
fn an_edit_with_the_old_size_and_time_is_seen() {
    let Some(scene) = Scene::with_busybox() else { return };
    two_services(&scene);
    build(&scene, &[]).ok();
    let path = scene.project().join("one/a.txt");
    let before = std::fs::metadata(&path).unwrap();
    std::fs::write(&path, "two\n").unwrap();
    std::fs::File::open(&path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mtime(), before.mtime());
    assert_eq!(steps(&build(&scene, &[]).ok()), ["COPY a.txt /a.txt", "RUN cat /a.txt"]);
}

#[test]
fn a_no_op_writes_nothing() {
    let Some(scene) = Scene::with_busybox() else { return };
    two_services(&scene);
    build(&scene, &[]).ok();
    build(&scene, &[]).ok();
    let before = written(scene.store());
    build(&scene, &[]).ok();
    assert_eq!(written(scene.store()), before);
}

/// Every file and folder of a tree with its inode and the times of its content and metadata.
fn written(folder: &std::path::Path) -> Vec<(String, u64, i64, i64)> {
    let mut all = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let data = entry.path().symlink_metadata().unwrap();
            all.push((entry.path().display().to_string(), data.ino(), data.mtime_nsec(), data.ctime_nsec()));
            if data.is_dir() && !entry.path().ends_with("tree") {
                open.push(entry.path());
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_stage_with_the_same_bytes_stops_the_rebuild() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("Dockerfile", "FROM busybox AS build\nCOPY src.txt /\nRUN wc -l < /src.txt > /out\nFROM busybox\nCOPY --from=build /out /out\nRUN cat /out\n");
    scene.write("src.txt", "a\nb\n").age(".");
    let first = scene
        .shipway(&["--engine", "none", "--progress", "plain", "image", "build", "-t", "early", "."])
        .ok();
    assert_eq!(steps(&first).len(), 4);
    scene.write("src.txt", "c\nd\n");
    let second = scene
        .shipway(&["--engine", "none", "--progress", "plain", "image", "build", "-t", "early", "."])
        .ok();
    assert_eq!(steps(&second), ["COPY src.txt /", "RUN wc -l < /src.txt > /out"]);
}

#[test]
fn an_image_of_another_service_is_built_first() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene
        .write(
            "compose.yaml",
            "services:\n  app:\n    build: ./app\n  base:\n    build: ./base\n    image: company/base:1\n",
        )
        .write("app/Dockerfile", "FROM company/base:1\nRUN cat /base\n")
        .write("base/Dockerfile", "FROM busybox\nRUN echo base > /base\n");
    let built = build(&scene, &["app"]).ok();
    assert_eq!(steps(&built), ["RUN cat /base", "RUN echo base > /base"]);
}

#[test]
fn a_failing_step_shows_its_line_and_keeps_what_was_finished() {
    let Some(scene) = Scene::with_busybox() else { return };
    two_services(&scene);
    scene.write(
        "one/Dockerfile",
        "FROM busybox\nRUN echo before > /before\nRUN echo last words; exit 7\nRUN never\n",
    );
    build(&scene, &[])
        .fails(1, &["one/Dockerfile:3", "RUN echo last words; exit 7", "last words", "exit code 7"]);
    scene.write("one/Dockerfile", "FROM busybox\nRUN echo before > /before\nRUN echo mended\n");
    assert_eq!(steps(&build(&scene, &[]).ok()), ["RUN echo mended"]);
}

#[test]
fn mistakes_are_said_together_with_their_places() {
    let scene = Scene::empty();
    scene
        .write(
            "compose.yaml",
            "services:\n  a:\n    build: ./a\n  b:\n    build: ./missing\n  c:\n    build: ./c\n",
        )
        .write("a/Dockerfile", "FROM busybox\nRUNN true\nCOPPY a b\n")
        .write("c/Dockerfile", "FROM busybox\nCOPY absent.txt /\n");
    build(&scene, &[]).fails(
        1,
        &[
            "a/Dockerfile:2",
            "RUNN",
            "did you mean `RUN`?",
            "a/Dockerfile:3",
            "missing does not exist",
            "compose.yaml:5",
        ],
    );
    assert!(
        !scene.store().join("tmp").exists()
            || std::fs::read_dir(scene.store().join("tmp")).unwrap().next().is_none()
    );
}

#[test]
fn a_missing_base_says_what_was_tried() {
    let scene = Scene::empty();
    scene
        .write("compose.yaml", "services:\n  a:\n    build: .\n")
        .write("Dockerfile", "FROM nowhere.invalid/base:1\n");
    let said = ["cannot find the image `nowhere.invalid/base:1`", "Dockerfile:1:6", "image import"];
    scene.shipway(&["--engine", "none", "--offline", "build"]).fails(1, &said);
    build(&scene, &[]).fails(1, &said);
}

#[test]
fn a_base_is_pulled_once_and_remembered() {
    let Some(registry) = needs("SHIPWAY_TEST_REGISTRY", "a registry in SHIPWAY_TEST_REGISTRY") else {
        return;
    };
    if !rustix::process::geteuid().is_root() {
        return skip("root");
    }
    let scene = Scene::empty();
    let dockerfile = |last: &str| {
        let text = format!("FROM {registry}/library/busybox:latest\nRUN echo {last}\n");
        scene.write("Dockerfile", &text);
    };
    scene.write("compose.yaml", "services:\n  a:\n    build: .\n");
    dockerfile("one");
    let first = build(&scene, &[]).ok().says(&["pull "]);
    assert_eq!(steps(&first).len(), 2);
    dockerfile("two");
    let second = scene.shipway(&["--engine", "none", "--offline", "--progress", "plain", "build"]).ok();
    assert_eq!(steps(&second), ["RUN echo two"]);
}

#[test]
fn a_missing_source_names_the_rule_that_hides_it() {
    let Some(scene) = Scene::with_busybox() else { return };
    two_services(&scene);
    scene.write("two/Dockerfile", "FROM busybox\nCOPY debug.log /\nCOPY b.tx /\n");
    build(&scene, &["two"]).fails(1, &["two/Dockerfile:2", "*.log", "two/Dockerfile:3", "b.txt"]);
}

#[test]
fn what_is_left_out_is_refused_by_name() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("Dockerfile", "FROM busybox\nRUN --device=vendor.com/class=name true\n");
    scene
        .shipway(&["--engine", "none", "image", "build", "."])
        .fails(1, &["not supported yet: `RUN --device`", "Dockerfile:2"]);
}

/// A command with a mark by which its processes are found.
fn long_step(scene: &Scene) -> String {
    let mark = format!("86400.{}{}", std::process::id(), crate::scene::number());
    let text = format!("FROM busybox\nRUN echo before > /before\nRUN sleep {mark}\n");
    scene.write("compose.yaml", "services:\n  a:\n    build: .\n").write("Dockerfile", &text);
    format!("sleep\0{mark}")
}

fn finish_quickly(scene: &Scene) {
    scene.write("Dockerfile", "FROM busybox\nRUN echo before > /before\nRUN echo after\n");
    let next = build(scene, &[]).ok();
    assert_eq!(steps(&next), ["RUN echo after"]);
    assert_eq!(mounts(scene.store()), [""; 0]);
}

#[test]
fn ctrl_c_leaves_nothing_and_the_next_run_works() {
    let Some(scene) = Scene::with_busybox() else { return };
    let mark = long_step(&scene);
    let child = scene.start(&["--engine", "none", "build"]);
    until("the step runs", || !processes(&mark).is_empty());
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(ran(&child.wait_with_output().unwrap()).code, Some(130));
    assert!(processes(&mark).is_empty());
    assert_eq!(mounts(scene.store()), [""; 0]);
    finish_quickly(&scene);
}

#[test]
fn kill_9_leaves_nothing_and_the_next_run_works() {
    let Some(scene) = Scene::with_busybox() else { return };
    let mark = long_step(&scene);
    let mut child = scene.start(&["--engine", "none", "build"]);
    until("the step runs", || !processes(&mark).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    until("the step's processes are gone", || processes(&mark).is_empty());
    until("the mounts are gone", || mounts(scene.store()).is_empty());
    finish_quickly(&scene);
}

#[test]
fn two_builds_at_once_share_the_work() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("compose.yaml", "services:\n  a:\n    build: .\n");
    scene.write("Dockerfile", "FROM busybox\nRUN sleep 1 && echo one > /one\nRUN echo two > /two\n");
    let both = [0, 1].map(|_| scene.start(&["--engine", "none", "--progress", "plain", "build"]));
    let both = both.map(|child| ran(&child.wait_with_output().unwrap()).ok());
    let all: Vec<String> = both.iter().flat_map(steps).collect();
    assert_eq!(all.len(), 2, "{both:?}");
}

#[test]
fn a_file_written_during_the_build_is_not_copied_half() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("compose.yaml", "services:\n  a:\n    build: .\n");
    scene.write("Dockerfile", "FROM busybox\nCOPY data /data\nRUN md5sum /data/*\n");
    for file in 0..200 {
        scene.write(&format!("data/{file}"), &"x".repeat(4096));
    }
    let folder = scene.project().join("data");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 0;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) && turn < 40 {
                turn += 1;
                std::fs::write(folder.join("7"), turn.to_string().repeat(2000)).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let built = build(&scene, &[]);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        // Either it found a quiet moment, or it says what keeps changing.
        if built.code != Some(0) {
            built.fails(1, &["again and again"]);
        }
    });
    build(&scene, &[]).ok();
    assert_eq!(steps(&build(&scene, &[]).ok()), [""; 0]);
}
