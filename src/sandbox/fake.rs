//! A sandbox without processes, for tests of what lies above.
//!
//! A test scripts what each command does; the fake counts, writes the scripted files into the upper and
//! can hold a command back until the test lets it go, so that any order of events can be made. A command
//! that nothing is scripted for succeeds without output. [`Sandbox::root`] is the upper itself (or the
//! topmost lower), not the merged tree; a view of no layers is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Exit, Layers, RunSpec, Sandbox, SandboxError};
use crate::base::cancel::Cancel;
use crate::base::fs::{AtPath, PathError, RootDir};

/// What one command does.
#[derive(Clone, Debug)]
pub struct Scripted {
    /// How it ends.
    pub exit: Exit,
    /// What it says.
    pub output: Vec<u8>,
    /// The files that it writes: path inside and content.
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

impl Default for Scripted {
    fn default() -> Self {
        Self { exit: Exit::Code(0), output: Vec::new(), files: Vec::new() }
    }
}

impl Scripted {
    /// A command that writes one file and succeeds.
    pub fn writes(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        Self { files: vec![(path.into(), content.into())], ..Self::default() }
    }

    /// A command that says something and ends with `code`.
    pub fn fails(code: i32, output: impl Into<Vec<u8>>) -> Self {
        Self { exit: Exit::Code(code), output: output.into(), ..Self::default() }
    }
}

/// The scripted sandbox. Commands are named by their arguments joined with spaces.
#[derive(Debug, Default)]
pub struct Fake {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    scripts: BTreeMap<String, Scripted>,
    held: BTreeSet<String>,
    started: Vec<String>,
    running: Vec<String>,
    most: usize,
}

impl Fake {
    /// A fake on which every command succeeds.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `command` does that.
    pub fn script(&self, command: &str, scripted: Scripted) {
        self.state().scripts.insert(command.to_owned(), scripted);
    }

    /// From now on `command` starts and does not end before [`Fake::release`] (or its cancelling).
    pub fn hold(&self, command: &str) {
        self.state().held.insert(command.to_owned());
    }

    /// Lets `command` end.
    pub fn release(&self, command: &str) {
        self.state().held.remove(command);
        self.changed.notify_all();
    }

    /// Waits until `command` runs.
    pub fn wait_for(&self, command: &str) {
        let mut state = self.state();
        while !state.running.iter().any(|running| running == command) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Every command that was started, in that order.
    pub fn started(&self) -> Vec<String> {
        self.state().started.clone()
    }

    /// How often `command` was started.
    pub fn count(&self, command: &str) -> usize {
        self.state().started.iter().filter(|started| *started == command).count()
    }

    /// How many commands ran at once at most.
    pub fn most_at_once(&self) -> usize {
        self.state().most
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, command: &str) -> Scripted {
        let mut state = self.state();
        state.started.push(command.to_owned());
        state.running.push(command.to_owned());
        state.most = state.most.max(state.running.len());
        self.changed.notify_all();
        state.scripts.get(command).cloned().unwrap_or_default()
    }

    fn wait_while_held(&self, command: &str, cancel: &Cancel) -> Result<(), SandboxError> {
        let mut state = self.state();
        while state.held.contains(command) && !cancel.is_cancelled() {
            let waited = self.changed.wait_timeout(state, Duration::from_millis(2));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if cancel.is_cancelled() { Err(SandboxError::Cancelled) } else { Ok(()) }
    }

    fn end(&self, command: &str) {
        let mut state = self.state();
        if let Some(at) = state.running.iter().position(|running| running == command) {
            state.running.remove(at);
        }
        self.changed.notify_all();
    }
}

impl Sandbox for Fake {
    fn run(
        &self,
        spec: &RunSpec,
        output: &mut (dyn Write + Send),
        cancel: &Cancel,
    ) -> Result<Exit, SandboxError> {
        let command = spec.argv.join(" ");
        let scripted = self.start(&command);
        let ended = self.wait_while_held(&command, cancel).and_then(|()| {
            output.write_all(&scripted.output).map_err(SandboxError::Output)?;
            write_files(&self.root(&spec.layers)?, &scripted.files)
        });
        self.end(&command);
        ended.map(|()| scripted.exit)
    }

    fn root(&self, layers: &Layers) -> Result<RootDir, SandboxError> {
        let upper = layers.writable.as_ref().map(|writable| &writable.upper);
        match upper.or(layers.lowers.last()) {
            Some(top) => Ok(RootDir::open(top)?),
            None => Err(PathError::new("open", "a view of no layers", Errno::NOENT).into()),
        }
    }

    fn finish(&self, _: &Layers) -> Result<(), SandboxError> {
        Ok(())
    }
}

fn write_files(root: &RootDir, files: &[(PathBuf, Vec<u8>)]) -> Result<(), SandboxError> {
    let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    for (path, content) in files {
        let parent = path.parent().unwrap_or(Path::new("/"));
        root.create_directories(parent, Mode::from_raw_mode(0o755), owner)?;
        let file = root.open_at(path, flags, Mode::from_raw_mode(0o644))?;
        std::fs::File::from(file).write_all(content).at_path("write", path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Network, Writable};

    fn spec(upper: &Path, command: &str) -> RunSpec {
        let writable = Writable { upper: upper.to_owned(), work: upper.to_owned() };
        RunSpec {
            layers: Layers { lowers: Vec::new(), writable: Some(writable) },
            argv: command.split(' ').map(str::to_owned).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            hostname: "buildkitsandbox".to_owned(),
            network: Network::None,
            hosts: Vec::new(),
            resolv_conf: Vec::new(),
            shm_size: RunSpec::DEFAULT_SHM_SIZE,
            limits: Vec::new(),
            mounts: Vec::new(),
            insecure: false,
        }
    }

    #[test]
    fn scripted_commands_write_speak_and_are_counted() {
        let upper = tempfile::tempdir().unwrap();
        let (fake, cancel) = (Fake::new(), Cancel::new().unwrap());
        fake.script("make all", Scripted::writes("/out/made", "x"));
        fake.script("make test", Scripted::fails(2, "broken"));
        let mut output = Vec::new();
        let mut run = |command| fake.run(&spec(upper.path(), command), &mut output, &cancel).unwrap();
        assert_eq!(run("make all"), Exit::Code(0));
        assert_eq!(run("make test"), Exit::Code(2));
        assert_eq!(run("other"), Exit::Code(0));
        assert_eq!(output, b"broken");
        assert_eq!(std::fs::read(upper.path().join("out/made")).unwrap(), b"x");
        assert_eq!((fake.count("make all"), fake.most_at_once()), (1, 1));
        assert_eq!(fake.started(), ["make all", "make test", "other"]);
    }

    #[test]
    fn held_commands_wait_for_release_or_cancel() {
        let upper = tempfile::tempdir().unwrap();
        let (fake, cancel) = (Fake::new(), Cancel::new().unwrap());
        fake.hold("a");
        fake.hold("b");
        std::thread::scope(|scope| {
            let run =
                |command: &'static str| fake.run(&spec(upper.path(), command), &mut std::io::sink(), &cancel);
            let first = scope.spawn(move || run("a"));
            let second = scope.spawn(move || run("b"));
            fake.wait_for("a");
            fake.wait_for("b");
            fake.release("a");
            assert_eq!(first.join().unwrap().unwrap(), Exit::Code(0));
            cancel.cancel();
            assert!(matches!(second.join().unwrap(), Err(SandboxError::Cancelled)));
        });
        assert_eq!(fake.most_at_once(), 2);
    }
}
