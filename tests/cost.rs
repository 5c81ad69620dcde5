//! What a build costs: what one in which nothing changed asks of the kernel, seen in a trace of the real
//! program, and the memory that one takes, however large the files are. No test here measures time.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::scene::{Ran, Scene, has_strace, ran};

const BUILD: [&str; 5] = ["--engine", "none", "--progress", "plain", "build"];

/// What the program asked of the kernel, one call a line, descriptors with their paths.
struct Calls(Vec<String>);

impl Calls {
    fn of(scene: &Scene, arguments: &[&str]) -> (Ran, Self) {
        let file = scene.store().with_file_name("calls");
        let options = ["-f", "-y", "-qq", "-s", "200", "-o", file.to_str().unwrap()];
        let ran = scene.under_strace(&options, arguments);
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
        // What is remembered of contexts is enough.
        let trees: Vec<_> = opens.iter().filter(|call| call.contains("/trees-v1/")).collect();
        let enough = |call: &&&&str| [".walk-", ".git\""].iter().any(|kind| call.contains(kind));
        assert_eq!(trees.iter().filter(|call| !enough(call)).count(), 0, "{trees:?}");
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
    command.args(["--exact", "cost::measured", "--nocapture"]);
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
