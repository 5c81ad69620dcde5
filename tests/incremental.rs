//! The incremental core on the real program: every step once however many build, death at any moment, the
//! bounds, and what a build in which nothing changed asks of the kernel.
//!
//! Steps leave a trace in a cache mount, which outlives them and enters no key: a line a run. So what ran
//! is counted where it ran, and not by what the program says of itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::scene::{Ran, Scene, mounts, number, ran, skip, until};

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

/// After a death: nothing runs or is mounted, the next build works and leaves nothing in `tmp`.
fn recovers(scene: &Scene, nonce: &str) {
    until("all is gone", || users(scene.store()).is_empty());
    assert_eq!(mounts(scene.store()), [""; 0]);
    scene.shipway(&[&DOZEN[..], &["."]].concat()).ok();
    check(scene, nonce);
    assert_eq!(std::fs::read_dir(scene.store().join("tmp")).unwrap().count(), 0);
    let before = trace(scene).len();
    scene.shipway(&[&DOZEN[..], &["."]].concat()).ok();
    assert_eq!(trace(scene).len(), before);
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
            let ended = under_strace(&scene, &options, &[&DOZEN[..], &["."]].concat());
            recovers(&scene, &nonce);
            if ended.code == Some(0) {
                break;
            }
            deaths += 1;
            // Each of the first eight, then fewer: later calls are those of later steps of the same kinds.
            count += 1 + count / 8;
        }
    }
    assert!(deaths > 40, "only {deaths} deaths");
}

fn has_strace() -> bool {
    let there = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    if !there {
        skip("strace");
    }
    there
}

/// Runs `shipway` under strace.
fn under_strace(scene: &Scene, options: &[&str], arguments: &[&str]) -> Ran {
    let plain = scene.command(arguments);
    let mut command = Command::new("strace");
    command.args(options).arg(plain.get_program()).args(plain.get_args());
    command.current_dir(plain.get_current_dir().unwrap()).env_clear().stdin(Stdio::null());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    ran(&command.output().unwrap())
}

/// What the program asked of the kernel, one call a line, descriptors with their paths.
struct Calls(Vec<String>);

impl Calls {
    fn of(scene: &Scene, arguments: &[&str]) -> (Ran, Self) {
        let file = scene.store().with_file_name("calls");
        let options = ["-f", "-y", "-qq", "-s", "200", "-o", file.to_str().unwrap()];
        let ran = under_strace(scene, &options, arguments);
        let text = std::fs::read_to_string(&file).unwrap();
        // Of an absolute path it says nothing where the program stands.
        let here = format!("AT_FDCWD<{}>, \"/", scene.project().display());
        let text = text.replace(&here, "AT_FDCWD, \"/");
        let call = |line: &str| line.split_once(' ').map(|(_, call)| call.trim_start().to_owned());
        let calls = text.lines().filter_map(call).filter(|call| !call.starts_with(['<', '+', '-']));
        (ran, Self(calls.collect()))
    }

    /// Those with one of these names.
    fn named(&self, names: &[&str]) -> Vec<&str> {
        let is_named = |call: &&String| names.contains(&call.split('(').next().unwrap_or_default());
        self.0.iter().filter(is_named).map(String::as_str).collect()
    }

    /// Fails unless nothing was started, mounted, written but what is shown, or read of the project but
    /// what says how to build.
    fn are_of_a_no_op(&self, scene: &Scene) {
        let starts = self.named(&["fork", "vfork", "clone", "clone3"]);
        assert!(starts.iter().all(|call| call.contains("CLONE_THREAD")), "{starts:?}");
        assert_eq!(self.named(&["execve", "execveat"]).len(), 1);
        assert_eq!(self.named(&CHANGING), [""; 0]);
        let shown = |call: &&&str| ["(1<", "(2<", "[eventfd]", "socket:["].iter().any(|to| call.contains(to));
        let written = self.named(&["write", "writev", "pwrite64", "pwritev"]);
        assert_eq!(written.iter().filter(|call| !shown(call)).count(), 0, "{written:?}");
        let opens = self.named(&["open", "openat", "openat2", "creat"]);
        let writing = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"];
        let open_to_write = opens.iter().filter(|call| writing.iter().any(|flag| call.contains(flag)));
        assert_eq!(open_to_write.count(), 0, "{opens:?}");
        let project = scene.project().display().to_string();
        let of_files = opens.iter().filter(|call| call.contains(&project) && !call.contains("O_DIRECTORY"));
        let says_how = ["compose.yaml", ".env", "Dockerfile", ".dockerignore"];
        let others: Vec<_> = of_files
            .filter(|call| !says_how.iter().any(|name| call.contains(&format!("{name}\""))))
            .collect();
        assert!(others.is_empty(), "{others:?}");
        // Names of folders that stand are not read again.
        let listed = self.named(&["getdents64"]);
        assert!(listed.iter().all(|call| !call.contains(&project)), "{listed:?}");
    }
}

/// What a no-op must not call at all.
const CHANGING: [&str; 44] = [
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mknod",
    "mknodat",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "fchownat",
    "lchown",
    "utime",
    "utimes",
    "utimensat",
    "truncate",
    "ftruncate",
    "fallocate",
    "setxattr",
    "fsetxattr",
    "lsetxattr",
    "removexattr",
    "copy_file_range",
    "sendfile",
    "fsync",
    "fdatasync",
    "syncfs",
    "sync",
    "mount",
    "umount2",
    "fsopen",
    "fsmount",
    "move_mount",
    "unshare",
    "setns",
];

/// A project whose second build is a no-op, with everything old enough to be believed.
fn settled(scene: &Scene, arguments: &[&str]) {
    scene.write(
        "compose.yaml",
        "services:\n  one:\n    build: ./one\n  two:\n    build:\n      context: .\n      dockerfile: two/Dockerfile\n",
    );
    scene
        .write("one/Dockerfile", "FROM busybox\nCOPY data /data\nRUN cat /data/sub/3\n")
        .write("one/.dockerignore", "**/*.log\n")
        .write("one/data/sub/ignored.log", "x")
        .write("two/Dockerfile", "FROM busybox\nCOPY one/data/*1 two/f /\nRUN true\n")
        .write("two/f", "f");
    for file in 1..30 {
        scene.write(&format!("one/data/{file}"), "x").write(&format!("one/data/sub/{file}"), "x");
    }
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..2 {
        scene.shipway(arguments).ok();
    }
}

#[test]
fn a_no_op_asks_the_kernel_for_nothing_but_stats() {
    let Some(scene) = Scene::with_busybox() else { return };
    if !has_strace() {
        return;
    }
    settled(&scene, &BUILD);
    let (ran, calls) = Calls::of(&scene, &BUILD);
    ran.ok().says(&["nothing changed"]);
    calls.are_of_a_no_op(&scene);
    let network = ["socket", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg"];
    assert_eq!(calls.named(&network), [""; 0]);
    // But every selected file is looked at.
    let stats = calls.named(&["newfstatat", "statx"]);
    for file in 1..30 {
        let looked = format!("/one/data/sub>, \"{file}\"");
        assert!(stats.iter().any(|call| call.contains(&looked)), "{file}: {stats:?}");
    }
    assert!(!calls.0.iter().any(|call| call.contains("ignored.log")));
}

#[test]
fn a_no_op_asks_the_engine_one_question() {
    let Some(scene) = Scene::with_engine("noop") else { return };
    if !has_strace() {
        return;
    }
    let arguments = ["--progress", "plain", "build"];
    settled(&scene, &arguments);
    let (ran, calls) = Calls::of(&scene, &arguments);
    ran.ok().says(&["nothing changed"]);
    calls.are_of_a_no_op(&scene);
    // Whether somebody is there is found out first; nothing is asked then.
    assert!(calls.named(&["connect"]).iter().all(|call| call.contains("AF_UNIX")));
    let asked: Vec<_> = calls.0.iter().filter(|call| call.contains(" HTTP/1.1")).collect();
    let sent: Vec<_> =
        asked.iter().filter(|call| !call.starts_with("read") && !call.starts_with("recv")).collect();
    assert_eq!(sent.len(), 1, "{asked:?}");
    assert!(sent[0].contains("GET /images/json"), "{sent:?}");
}

const MEGABYTE: u64 = 1 << 20;

/// A file of `size` bytes, and a tar that holds one of the same.
fn large(scene: &Scene, size: u64) {
    let made = |name: &str| File::create(scene.project().join(name)).unwrap();
    made("big").set_len(size).unwrap();
    let mut header =
        format!("{:\0<100}0000644\00000000\00000000\0{size:011o}\000000000000\0", "inside").into_bytes();
    let sum: u32 =
        header.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ') + u32::from(b'0');
    header.extend(format!("{sum:06o}\0 0").into_bytes());
    let mut tar = made("big.tar");
    tar.write_all(&header).unwrap();
    // The rest of the header, the content in whole blocks, the end.
    tar.set_len(512 + size.next_multiple_of(512) + 1024).unwrap();
}

const MEASURED: &str = "SHIPWAY_TEST_MEASURED";

/// Runs `shipway`; the most memory in bytes that it or a process that it waited for had.
///
/// A process that was just started counts as its own what its parent had at that moment, so it is started
/// from a small one: this program again, with one test selected.
fn memory(scene: &Scene, arguments: &[&str]) -> u64 {
    let plain = scene.command(arguments);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "incremental::measured", "--nocapture"]);
    command.current_dir(plain.get_current_dir().unwrap()).env_clear().stdin(Stdio::null());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = ran(&command.env(MEASURED, arguments.join("\n")).output().unwrap()).ok();
    let peak = ran.out.split("peak ").nth(1).and_then(|text| text.split_whitespace().next());
    peak.unwrap_or_else(|| panic!("{ran:?}")).parse().unwrap()
}

#[test]
#[expect(clippy::zombie_processes, reason = "it is waited for, with what it used")]
fn measured() {
    let Some(arguments) = std::env::var_os(MEASURED) else { return };
    let mut command = Command::new(env!("CARGO_BIN_EXE_shipway"));
    command.args(arguments.to_str().unwrap().lines()).env_remove(MEASURED).stdout(Stdio::null());
    let child = command.spawn().unwrap();
    let (mut status, pid) = (0, i32::try_from(child.id()).unwrap());
    // SAFETY: the structure is plain numbers, which the call fills in.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid, and nobody else waits for the child.
    assert_eq!(unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) }, pid);
    assert_eq!(status, 0, "{arguments:?}");
    println!("peak {}", u64::try_from(usage.ru_maxrss).unwrap() * 1024);
}

/// Whatever a file's size, it goes through in pieces: COPY, ADD of an archive, COPY --from, both archives.
#[test]
fn memory_does_not_grow_with_files() {
    const COLD: [&str; 6] = ["--engine", "none", "image", "build", "-t", "large"];
    let mut most = Vec::new();
    for size in [3 * MEGABYTE, 300 * MEGABYTE] {
        let Some(scene) = Scene::with_busybox() else { return };
        scene.write("Dockerfile", "FROM busybox AS made\nCOPY big /big\nADD big.tar /there/\nFROM scratch\nCOPY --from=made /big /big\nCOPY --from=made /there /there\n");
        large(&scene, size);
        let build = |more: &[&str]| memory(&scene, &[&COLD[..], more, &["."]].concat());
        most.push([
            build(&[]),
            build(&[]),
            build(&["-o", "type=oci,dest=../made.oci"]),
            build(&["-o", "type=docker,dest=../made.docker"]),
            build(&["-o", "type=tar,dest=../made.tar"]),
            memory(&scene, &["image", "save", "large", "-o", "../saved"]),
        ]);
    }
    println!("{most:?}");
    for (small, large) in most[0].iter().zip(&most[1]) {
        assert!(*large < 150 * MEGABYTE && *large < small + 24 * MEGABYTE, "{most:?}");
    }
}

/// The same for what an engine gets.
#[test]
fn memory_of_a_hand_over_does_not_grow_with_files() {
    let mut most = Vec::new();
    for size in [3 * MEGABYTE, 300 * MEGABYTE] {
        let Some(scene) = Scene::with_engine("large") else { return };
        scene.write("compose.yaml", "services: {a: {build: .}}\n");
        scene.write("Dockerfile", "FROM scratch\nCOPY big /big\n");
        large(&scene, size);
        most.push([memory(&scene, &["build"]), memory(&scene, &["build"])]);
    }
    println!("{most:?}");
    for (small, large) in most[0].iter().zip(&most[1]) {
        assert!(*large < 150 * MEGABYTE && *large < small + 24 * MEGABYTE, "{most:?}");
    }
}
