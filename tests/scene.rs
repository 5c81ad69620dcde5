//! What the capability tests stand on: a project in a folder of its own, a store of its own, the real
//! program.
//!
//! A [`Scene`] writes files and runs `shipway` there with nothing of the caller's environment but what a
//! test gives. Tests observe states (files of images, containers of the engine, exit codes), not the order
//! of lines. What a scene made is removed when it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The value of a variable of `tests/run.sh`, or `None` with a line that says what is missing.
pub(crate) fn needs(variable: &str, what: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        skip(what);
    }
    value
}

/// Says that a test cannot run here; fails where everything has to run.
pub(crate) fn skip(what: &str) {
    println!("skipped: needs {what}");
    assert!(std::env::var_os("SHIPWAY_TEST_ALL").is_none(), "needs {what}");
}

/// Whether strace is there; says so if it is not.
pub(crate) fn has_strace() -> bool {
    let there = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    if !there {
        skip("strace");
    }
    there
}

/// A project folder and a store.
pub(crate) struct Scene {
    folder: tempfile::TempDir,
    store: PathBuf,
    engine: Option<String>,
    project: Option<String>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Fails the test unless the command failed with this code and said all of this.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, said: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self.says(said)
    }

    /// Fails the test unless all of this was said on the error stream.
    #[track_caller]
    pub(crate) fn says(self, said: &[&str]) -> Self {
        for text in said {
            assert!(self.err.contains(text), "does not say `{text}`:\n{}", self.err);
        }
        self
    }
}

impl Scene {
    /// An empty project whose store has `busybox:latest`, if this can be had here.
    pub(crate) fn with_busybox() -> Option<Self> {
        let tar = needs("SHIPWAY_TEST_BUSYBOX_TAR", "SHIPWAY_TEST_BUSYBOX_TAR")?;
        if !rustix::process::geteuid().is_root() {
            skip("root");
            return None;
        }
        let scene = Self::empty();
        scene.shipway(&["image", "import", &tar, "busybox:latest"]).ok();
        Some(scene)
    }

    /// The same with an engine, and a project name that nobody else has.
    pub(crate) fn with_engine(name: &str) -> Option<Self> {
        let engine = needs("SHIPWAY_TEST_DOCKER_HOST", "a Docker Engine (SHIPWAY_TEST_DOCKER_HOST)")?;
        let mut scene = Self::with_busybox()?;
        scene.engine = Some(engine);
        scene.project = Some(format!("st-{name}-{}", std::process::id()));
        Some(scene)
    }

    /// An empty project with an empty store, for builds that need no base image.
    pub(crate) fn as_root() -> Option<Self> {
        if rustix::process::geteuid().is_root() {
            return Some(Self::empty());
        }
        skip("root");
        None
    }

    /// An empty project with an empty store.
    pub(crate) fn empty() -> Self {
        let folder = match std::env::var_os("SHIPWAY_TEST_SCRATCH") {
            Some(scratch) => tempfile::tempdir_in(scratch).unwrap(),
            None => tempfile::tempdir().unwrap(),
        };
        let store = folder.path().join("store");
        std::fs::create_dir(folder.path().join("project")).unwrap();
        Self { folder, store, engine: None, project: None }
    }

    /// The project's folder.
    pub(crate) fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// The store's folder.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// The engine's address, for a scene with one.
    pub(crate) fn engine(&self) -> Option<&str> {
        self.engine.as_deref()
    }

    /// The project's name in the engine.
    pub(crate) fn name(&self) -> &str {
        self.project.as_deref().unwrap_or("project")
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.project().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Makes everything below a path look old enough for its stamps to be trusted.
    pub(crate) fn age(&self, path: &str) -> &Self {
        set_times(&self.project().join(path), SystemTime::now() - Duration::from_secs(600));
        self
    }

    /// `shipway` in the project, ready to be changed and run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shipway"));
        command.args(arguments).current_dir(self.project()).env_clear();
        for kept in ["PATH", "HOME", "TMPDIR"] {
            command.envs(std::env::var_os(kept).map(|value| (kept, value)));
        }
        command.env("SHIPWAY_STORE", &self.store).env("NO_COLOR", "1");
        match &self.engine {
            Some(engine) => command.env("DOCKER_HOST", engine),
            None => command.env("DOCKER_HOST", format!("unix://{}/no.sock", self.folder.path().display())),
        };
        command.envs(self.project.as_ref().map(|project| ("COMPOSE_PROJECT_NAME", project)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs `shipway` in the project.
    pub(crate) fn shipway(&self, arguments: &[&str]) -> Ran {
        ran(&self.command(arguments).output().unwrap())
    }

    /// Runs `shipway` in the project with this on its standard input.
    pub(crate) fn shipway_reading(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may have refused before it has read all.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input);
        ran(&child.wait_with_output().unwrap())
    }

    /// Starts `shipway` in the project, its output kept.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs `shipway` in the project under strace with these options.
    pub(crate) fn under_strace(&self, options: &[&str], arguments: &[&str]) -> Ran {
        let plain = self.command(arguments);
        let mut command = Command::new("strace");
        command.args(options).arg(plain.get_program()).args(plain.get_args());
        command.current_dir(self.project()).env_clear().stdin(Stdio::null());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        ran(&command.output().unwrap())
    }

    /// Runs the docker client against the scene's engine.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Ran {
        let engine = self.engine.as_deref().expect("a scene with an engine");
        ran(&Command::new("docker").args(arguments).env("DOCKER_HOST", engine).output().unwrap())
    }

    /// The id of a service's only container, if there is one.
    pub(crate) fn container(&self, service: &str) -> Option<String> {
        let project = format!("label=com.docker.compose.project={}", self.name());
        let service = format!("label=com.docker.compose.service={service}");
        let listed =
            self.docker(&["ps", "-aq", "--no-trunc", "--filter", &project, "--filter", &service]).ok();
        listed.out.lines().next().map(str::to_owned)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if self.engine.is_some() {
            let ran = self.shipway(&["down", "-v", "--rmi", "local", "--remove-orphans", "-t", "1"]);
            if !std::thread::panicking() && ran.code != Some(0) {
                println!("down: {ran:?}");
            }
        }
    }
}

/// What a finished process gave.
pub(crate) fn ran(output: &Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until something holds; fails the test after a long time. Not a measurement.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(120), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose command line has this text.
pub(crate) fn processes(text: &str) -> Vec<i32> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != own && String::from_utf8_lossy(&line).contains(text) {
            found.push(pid as i32);
        }
    }
    found
}

/// Mounts that name this folder.
pub(crate) fn mounts(folder: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let name = folder.to_str().unwrap();
    mounts.lines().filter(|line| line.contains(name)).map(str::to_owned).collect()
}

fn set_times(path: &Path, time: SystemTime) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            set_times(&entry.unwrap().path(), time);
        }
    }
    if let Ok(file) = std::fs::File::open(path) {
        file.set_modified(time).unwrap();
    }
}

/// A number that no other scene of this process has had.
pub(crate) fn number() -> usize {
    static NEXT: OnceLock<std::sync::atomic::AtomicUsize> = OnceLock::new();
    NEXT.get_or_init(Default::default).fetch_add(1, std::sync::atomic::Ordering::SeqCst)
}
