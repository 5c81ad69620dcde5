//! The incremental core on the real program: every step once however many build, the bounds and the order,
//! death at any moment.
//!
//! Steps leave a trace in a cache mount, which outlives them and enters no key: a line a run. So what ran
//! is counted where it ran, and not by what the program says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use crate::scene::{Ran, Scene, has_strace, mounts, number, ran, until};

/// A RUN that leaves `name` in the trace and does `more`.
fn traced(name: &str, more: &str) -> String {
    format!("RUN --mount=type=cache,id=trace,target=/t echo {name} >> /t/trace; {more}\n")
}

/// What was traced, in its order.
fn trace(scene: &Scene) -> Vec<String> {
    let mut lines = Vec::new();
    for cache in std::fs::read_dir(scene.store().join("mounts-v1")).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(cache.path().join("0/tree/trace")).unwrap_or_default();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines
}

/// How often each name was traced.
fn counted(scene: &Scene) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    trace(scene).into_iter().for_each(|name| *counted.entry(name).or_default() += 1);
    counted
}

fn once(names: &[&str]) -> BTreeMap<String, usize> {
    names.iter().map(|name| ((*name).to_owned(), 1)).collect()
}

const BUILD: [&str; 5] = ["--engine", "none", "--progress", "plain", "build"];

fn build(scene: &Scene, more: &[&str]) -> Ran {
    scene.shipway(&[&BUILD, more].concat())
}

fn finished(child: Child) -> Ran {
    ran(&child.wait_with_output().unwrap())
}

/// Two services with a common beginning, a stage of their own each, and copies from it.
fn two_services(scene: &Scene) -> [&'static str; 7] {
    scene.write("compose.yaml", "services:\n  one:\n    build: ./one\n  two:\n    build: ./two\n");
    for name in ["one", "two"] {
        let text = format!(
            "FROM busybox AS make\n{}{}FROM busybox\n{}COPY f /f\nCOPY --from=make /made /made\n{}",
            traced("common", "echo common > /common"),
            traced(&format!("{name}-make"), &format!("echo {name} > /made")),
            traced("other", "sleep 0.1"),
            traced(&format!("{name}-end"), "cat /made"),
        );
        scene.write(&format!("{name}/Dockerfile"), &text).write(&format!("{name}/f"), name);
    }
    ["common", "one-make", "two-make", "other", "one-end", "two-end", ""]
}

#[test]
fn two_processes_at_once_run_every_step_once() {
    let Some(scene) = Scene::with_busybox() else { return };
    let names = two_services(&scene);
    let started: Vec<Child> = (0..3).map(|_| scene.start(&BUILD)).collect();
    started.into_iter().for_each(|child| drop(finished(child).ok()));
    assert_eq!(counted(&scene), once(&names[..6]));
    build(&scene, &[]).ok().says(&["nothing changed"]);
    assert_eq!(trace(&scene).len(), 6);
    // Both forced: each runs everything for itself, and what is there afterwards is a hit.
    let started = [0, 1].map(|_| scene.start(&[&BUILD[..], &["--no-cache"]].concat()));
    started.into_iter().for_each(|child| drop(finished(child).ok()));
    assert!(counted(&scene).values().all(|count| *count == 3), "{:?}", counted(&scene));
    build(&scene, &[]).ok().says(&["nothing changed"]);
}

#[test]
fn projects_at_once_share_what_they_have_in_common() {
    let Some(scene) = Scene::with_busybox() else { return };
    let projects = ["red", "green", "blue"];
    for name in projects {
        let text = format!(
            "FROM busybox\n{}COPY same /same\n{}{}",
            traced("first", "sleep 0.1"),
            traced("second", "cat /same"),
            traced(name, "true"),
        );
        scene.write(
            &format!("{name}/compose.yaml"),
            &format!("name: {name}\nservices: {{a: {{build: .}}}}\n"),
        );
        scene.write(&format!("{name}/Dockerfile"), &text).write(&format!("{name}/same"), "the same");
    }
    let arguments = |name: &str| -> Vec<String> {
        let file = ["-f".to_owned(), format!("{name}/compose.yaml")];
        file.into_iter().chain(BUILD.map(str::to_owned)).collect()
    };
    let start = |name: &str| scene.start(&arguments(name).iter().map(String::as_str).collect::<Vec<_>>());
    projects.map(start).into_iter().for_each(|child| drop(finished(child).ok()));
    assert_eq!(counted(&scene), once(&["first", "second", "red", "green", "blue"]));
    projects.map(start).into_iter().for_each(|child| drop(finished(child).ok().says(&["nothing changed"])));
    assert_eq!(trace(&scene).len(), 5);
}

/// Services that become equal only by what their stages came to are one build from there on.
#[test]
fn services_that_become_equal_are_one_from_there() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("compose.yaml", "services:\n  one: {build: one}\n  two: {build: two}\n");
    let dockerfile = |name: &str| {
        let make = traced(name, "sleep 0.1; echo same > /made; touch -d @1 /made");
        let end = traced("end", "cat /made");
        format!("FROM busybox AS make\n{make}FROM busybox\nCOPY --from=make /made /made\n{end}")
    };
    for name in ["one", "two"] {
        scene.write(&format!("{name}/Dockerfile"), &dockerfile(name));
    }
    build(&scene, &["--quiet"]).ok();
    assert_eq!(counted(&scene), once(&["one", "two", "end"]));
    // Early stop: the stage changes, what copies from it does not run again.
    scene.write("one/Dockerfile", &dockerfile("uno"));
    build(&scene, &[]).ok();
    assert_eq!(counted(&scene), once(&["one", "two", "uno", "end"]));
    build(&scene, &[]).ok().says(&["nothing changed"]);
}

/// `count` stages that wait until `together` of them run at once, each of which leaves how many it saw.
fn meeting(count: usize, together: usize) -> String {
    let stage = |number: usize| {
        let seen = "n=$(ls /t/now | wc -l); echo $n >> /t/trace";
        let wait = format!("[ -e /t/met ] || [ $(ls /t/now | wc -l) -ge {together} ] && break; sleep 0.02");
        format!(
            "FROM busybox AS s{number}\nRUN --mount=type=cache,id=trace,target=/t mkdir -p /t/now/{number}; \
             {seen}; for i in $(seq 500); do {wait}; done; touch /t/met; {seen}; rmdir /t/now/{number}; \
             echo {number} > /done\n"
        )
    };
    let stages: String = (0..count).map(stage).collect();
    let copies: String =
        (0..count).map(|number| format!("COPY --from=s{number} /done /{number}\n")).collect();
    format!("{stages}FROM busybox\n{copies}")
}

#[test]
fn limits_bound_what_runs_at_once() {
    let cases: [(&[&str], &str, usize); 4] = [
        (&["--parallel", "1"], "", 1),
        (&["--parallel", "3"], "", 3),
        (&[], "2", 2),
        (&["--parallel", "2"], "5", 2),
    ];
    for (arguments, limit, most) in cases {
        let Some(scene) = Scene::with_busybox() else { return };
        scene.write("compose.yaml", "services: {a: {build: .}}\n").write("Dockerfile", &meeting(6, most));
        let mut command = scene.command(&[arguments, &BUILD].concat());
        if !limit.is_empty() {
            command.env("COMPOSE_PARALLEL_LIMIT", limit);
        }
        ran(&command.output().unwrap()).ok();
        let seen: Vec<usize> = trace(&scene).iter().map(|line| line.trim().parse().unwrap()).collect();
        assert_eq!(seen.len(), 12);
        assert_eq!(seen.iter().max(), Some(&most), "{arguments:?} {limit:?} {seen:?}");
    }
}

/// What took longest the last time begins first.
#[test]
fn recorded_times_drive_the_order() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("compose.yaml", "services:\n  a: {build: a}\n  b: {build: b}\n");
    let (quick, slow) = (traced("quick", "true"), traced("way", "true") + &traced("slow", "sleep 0.7"));
    scene.write("a/Dockerfile", &format!("FROM busybox\n{quick}"));
    scene.write("b/Dockerfile", &format!("FROM busybox\n{slow}"));
    for _ in 0..2 {
        scene.shipway(&[&["--parallel", "1"], &BUILD[..], &["--no-cache"]].concat()).ok();
    }
    assert_eq!(trace(&scene)[3..], ["way", "slow", "quick"]);
}

/// A dozen steps of every kind; each adds to `/log` what it is.
fn dozen(scene: &Scene) {
    let steps: String =
        (1..=5).map(|step| traced(&format!("step{step}"), &format!("echo {step} >> /log"))).collect();
    let text = format!(
        "FROM busybox AS base\nCOPY nonce /log\n{steps}WORKDIR /made/here\n\
         FROM busybox AS other\nCOPY nonce /nonce\n{}\
         FROM base\nCOPY --from=other /out /out\nCOPY <<end /text\nwritten\nend\n{}",
        traced("other", "mkdir /out && cp /nonce /out/n"),
        traced("last", "cat /out/n /text >> /log"),
    );
    scene.write("Dockerfile", &text);
}

/// Fails unless the image is what its steps make of `nonce`.
fn check(scene: &Scene, nonce: &str) {
    let out = format!("type=local,dest=../out{}", number());
    let folder = scene.project().join(out.split_once('=').unwrap().1.split_once('=').unwrap().1);
    scene.shipway(&["--engine", "none", "image", "build", "-o", &out, "."]).ok();
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    assert_eq!(log, format!("{nonce}\n1\n2\n3\n4\n5\n{nonce}\nwritten\n"));
    assert!(folder.join("made/here").is_dir());
    std::fs::remove_dir_all(folder).unwrap();
}

/// Processes that have a file or a mount of this folder.
fn users(folder: &Path) -> Vec<String> {
    let name = folder.to_str().unwrap();
    let uses = |process: &Path| {
        let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        targets.any(|target| target.starts_with(name))
            || std::fs::read_to_string(process.join("mountinfo")).is_ok_and(|text| text.contains(name))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbered =
        processes.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    numbered
        .map(|entry| entry.path())
        .filter(|path| uses(path))
        .map(|path| path.display().to_string())
        .collect()
}

const DOZEN: [&str; 8] = ["--engine", "none", "--parallel", "2", "image", "build", "-t", "made"];

/// After a death: nothing runs or is mounted, the next build works, and the next that writes leaves nothing
/// in `tmp`. (Where all was published before the death, the next build finds nothing to do and writes
/// nothing.)
fn recovers(scene: &Scene, nonce: &str) {
    until("all is gone", || users(scene.store()).is_empty());
    assert_eq!(mounts(scene.store()), [""; 0]);
    scene.shipway(&[&DOZEN[..], &["."]].concat()).ok();
    let before = trace(scene).len();
    // Nothing has to run for it again.
    check(scene, nonce);
    assert_eq!(trace(scene).len(), before);
    assert_eq!(std::fs::read_dir(scene.store().join("tmp")).unwrap().count(), 0);
}

#[test]
fn kill_9_at_any_moment_leaves_a_store_that_works() {
    let Some(scene) = Scene::with_busybox() else { return };
    dozen(&scene);
    for round in 0..200u32 {
        let nonce = format!("nonce {round}");
        scene.write("nonce", &format!("{nonce}\n"));
        let before = trace(&scene).len();
        let mut child = scene.start(&[&DOZEN[..], &["."]].concat());
        // Later each time, by a sixteenth: soon enough in the beginning, not for ever in the end.
        std::thread::sleep(Duration::from_millis(u64::from(round * 8 + round * round / 4)));
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        recovers(&scene, &nonce);
        // What had been published did not run again: a step that was being made may have.
        let ran = trace(&scene).len() - before;
        assert!((7..=9).contains(&ran), "{ran} of 7 steps in round {round}");
        if ended.success() {
            assert!(round > 4, "it was never killed in the middle");
            return;
        }
    }
    panic!("it never came to its end");
}

/// Calls that change a store, mount or start something.
const CALLS: [&str; 7] = [
    "rename,renameat,renameat2",
    "mkdir,mkdirat",
    "fchmod,fchmodat,chmod",
    "unlink,unlinkat,rmdir",
    "syncfs",
    "fsmount,move_mount,mount",
    "clone,clone3,vfork,execve",
];

/// Kills the program at the n-th of such calls that one of its threads makes.
#[test]
fn death_at_any_call_leaves_a_store_that_works() {
    let Some(scene) = Scene::with_busybox() else { return };
    if !has_strace() {
        return;
    }
    dozen(&scene);
    let mut deaths = 0;
    for calls in CALLS {
        let mut count = 1;
        loop {
            let nonce = format!("{calls} {count}");
            scene.write("nonce", &format!("{nonce}\n"));
            let trace = format!("trace={calls}");
            let inject = format!("inject={calls}:signal=SIGKILL:when={count}");
            let options = ["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let ended = scene.under_strace(&options, &[&DOZEN[..], &["."]].concat());
            recovers(&scene, &nonce);
            if ended.code == Some(0) {
                break;
            }
            deaths += 1;
            // Each of the first four, then fewer: later calls are those of later steps of the same kinds.
            count += 1 + count / 4;
        }
    }
    assert!(deaths > 30, "only {deaths} deaths");
}

/// The inodes that `path` has in the snapshots of the store, each once.
fn inodes(scene: &Scene, path: &str) -> BTreeSet<u64> {
    let snapshots = std::fs::read_dir(scene.store().join("snapshots-v1")).unwrap();
    let files = snapshots.map(|snapshot| snapshot.unwrap().path().join("tree").join(path));
    files.filter_map(|file| Some(std::fs::metadata(file).ok()?.ino())).collect()
}

/// A copy that runs again shares the files that are what they were with the last one, and what comes of it
/// is what comes of a build that shares nothing.
#[test]
fn a_copy_shares_what_is_the_same() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("compose.yaml", "services: {a: {build: .}}\n");
    let dockerfile = "FROM busybox\nCOPY . /app\nRUN cat /app/src/*/f > /all; stat -c %s /app/src/b/f\n";
    scene.write("Dockerfile", dockerfile).write(".dockerignore", "compose.yaml\nDockerfile\n");
    let names = ["src/a/f", "src/b/f", "src/b/deep/g", "src/c/f"];
    for name in names {
        scene.write(name, "one\n").age(name);
    }
    let built = |more: &[&str]| {
        let mut command = scene.command(&[&BUILD, more].concat());
        let ran = ran(&command.env("SOURCE_DATE_EPOCH", "1000").output().unwrap()).ok();
        ran.out.lines().find(|line| line.starts_with("Image ")).unwrap().to_owned()
    };
    let first = built(&[]);
    // Another content, another mode, another time; one goes and one comes.
    scene.write("src/a/f", "two\n").age("src/a/f").write("src/d/f", "new\n").age("src/d/f");
    std::fs::remove_file(scene.project().join("src/c/f")).unwrap();
    let second = built(&[]);
    assert_ne!(first, second);
    let shared: Vec<usize> = names.iter().map(|name| inodes(&scene, &format!("app/{name}")).len()).collect();
    assert_eq!(shared, [2, 1, 1, 1]);
    assert_eq!(built(&["--no-cache"]), second);
    assert_eq!(inodes(&scene, "app/src/b/f").len(), 2, "who forces everything shares nothing");
    // Back to what it was: a hit. And what is gone from the store is missed, not shared.
    scene.write("src/a/f", "one\n").age("src/a/f").write("src/c/f", "one\n").age("src/c/f");
    std::fs::remove_dir_all(scene.project().join("src/d")).unwrap();
    assert_eq!(built(&[]), first);
    scene.shipway(&["cache", "prune", "--all", "--force"]).ok();
    scene.write("src/a/f", "three\n").age("src/a/f");
    let third = built(&[]);
    assert_eq!(built(&["--no-cache"]), third);
}

/// What is remembered of a context is enough where nothing runs. A step that runs takes what is there, and
/// where that is not what was remembered, the build starts over.
#[test]
fn what_is_remembered_of_a_context_is_not_what_is_copied() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("compose.yaml", "services: {a: {build: .}}\n").write("src/f", "one\n").age("src/f");
    let dockerfile = |more: &str| format!("FROM busybox\n{more}COPY src /src\nRUN echo have $(cat /src/*)\n");
    scene.write("Dockerfile", &dockerfile(""));
    std::thread::sleep(Duration::from_millis(50));
    build(&scene, &[]).ok().says(&["have one"]);
    build(&scene, &[]).ok().says(&["nothing changed"]);
    scene.write("Dockerfile", &dockerfile("WORKDIR /x\n"));
    build(&scene, &[]).ok().says(&["have one", "3 ran"]);
    build(&scene, &[]).ok().says(&["nothing changed"]);
    // A memory that is wrong, although it is whole.
    let trees = std::fs::read_dir(scene.store().join("trees-v1")).unwrap();
    let paths = trees.map(|entry| entry.unwrap().path());
    let walk = paths.into_iter().find(|path| path.to_string_lossy().contains(".walk-")).unwrap();
    let mut bytes = std::fs::read(&walk).unwrap();
    let body = bytes.len() - 32;
    // Magic, rules, what git said, how many there are, the request; see `context::remembered`.
    let digest = 16 + 32 + 6 + 4 + 32;
    bytes[digest] ^= 1;
    let whole = shipway::base::digest::Digest::of(&bytes[..body]);
    bytes[body..].copy_from_slice(whole.as_bytes());
    std::fs::write(&walk, bytes).unwrap();
    build(&scene, &[]).ok().says(&["starting over (1)", "#3 [a] COPY src /src  hit"]);
    build(&scene, &[]).ok().says(&["nothing changed"]);
}
