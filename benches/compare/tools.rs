//! Those who are measured: shipway, and the peer, each as a whole process from exec to exit.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One measured process.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) wall: Duration,
    /// The largest resident set of it and of what it waited for, in bytes.
    pub(crate) memory: u64,
}

/// Runs a command whose output goes to a file; its failure ends the bench with that output.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it, and tells what it used")]
pub(crate) fn measure(command: &mut Command, log: &Path) -> Measured {
    let out = File::create(log).unwrap();
    command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
    let begun = Instant::now();
    let child = command.spawn().unwrap();
    let (status, usage) = wait(child.id());
    let wall = begun.elapsed();
    if status != 0 {
        let said = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
        panic!("{command:?} failed:\n{said}");
    }
    Measured { wall, memory: usage }
}

/// Waits for a child. Returns its wait status and its largest resident set in bytes.
fn wait(pid: u32) -> (i32, u64) {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value of that plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the types that wait4(2) writes.
    let waited = unsafe { libc::wait4(pid as i32, &mut status, 0, &mut usage) };
    assert_eq!(waited, pid as i32);
    (status, usage.ru_maxrss as u64 * 1024)
}

/// Shipway with a store of its own.
pub(crate) struct Ours {
    pub(crate) store: PathBuf,
    /// The address of the engine that images are handed to.
    pub(crate) engine: Option<String>,
    pub(crate) base: PathBuf,
    pub(crate) log: PathBuf,
}

impl Ours {
    /// The program with its arguments, to be run in `folder`.
    pub(crate) fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shipway"));
        command.args(arguments).current_dir(folder).env_clear().env("SHIPWAY_STORE", &self.store);
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", "/root").env("COMPOSE_PROJECT_NAME", "bench-ours");
        command.envs(self.engine.as_ref().map(|engine| ("DOCKER_HOST", engine)));
        command
    }

    /// Measures one run.
    pub(crate) fn run(&self, folder: &Path, arguments: &[&str]) -> Measured {
        measure(&mut self.command(folder, arguments), &self.log)
    }

    /// Empties the store, but for the base image.
    pub(crate) fn forget(&self) {
        let _ = fs::remove_dir_all(&self.store);
        let base = self.base.to_str().unwrap();
        self.run(Path::new("/"), &["--engine", "none", "image", "import", base, "busybox:latest"]);
        settle();
    }
}

/// Docker Compose with BuildKit.
pub(crate) struct Peer {
    /// What stands before every command: nothing, or a command that enters the peer's surroundings.
    pub(crate) enter: Vec<String>,
    pub(crate) log: PathBuf,
}

impl Peer {
    /// A command in `folder`.
    pub(crate) fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let words: Vec<&str> =
            self.enter.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(folder).env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
        command.process_group(0);
        command
    }

    /// Measures one run.
    pub(crate) fn run(&self, folder: &Path, arguments: &[&str]) -> Measured {
        measure(&mut self.command(folder, arguments), &self.log)
    }

    /// What a command prints.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.command(Path::new("/"), arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Empties the build cache and removes images whose names begin with one of these.
    pub(crate) fn forget(&self, prefixes: &[&str]) {
        let listed = self.says(&["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]);
        let names: Vec<&str> = listed
            .lines()
            .filter(|name| prefixes.iter().any(|prefix| name.starts_with(&format!("{prefix}/"))))
            .collect();
        for some in names.chunks(50) {
            self.says(&[&["docker", "rmi", "-f"], some].concat());
        }
        self.says(&["docker", "builder", "prune", "-af"]);
        self.says(&["docker", "image", "prune", "-f"]);
        settle();
    }
}

/// Lets the machine come to rest, so that nobody pays for what another one wrote, nor for what an engine
/// goes on with after it has answered. If it does not rest, that is so for all.
pub(crate) fn settle() {
    rustix::fs::sync();
    for _ in 0..50 {
        let before = busy();
        std::thread::sleep(Duration::from_millis(200));
        if busy() - before <= 2 {
            break;
        }
    }
}

/// How long all processors were busy since the start, in hundredths of a second.
fn busy() -> u64 {
    let all = fs::read_to_string("/proc/stat").unwrap();
    let numbers: Vec<u64> =
        all.lines().next().unwrap().split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq
    [0, 1, 2, 5, 6].iter().map(|index| numbers[*index]).sum()
}
