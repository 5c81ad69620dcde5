//! The real sandbox: stacks layers, starts a monitor for each command and passes its output on.
//!
//! This side has threads, so it never forks: a monitor is our own program, executed again so that nobody
//! can write to it (`program`). A monitor gets the tree of the layers as a descriptor; the mount is detached
//! and the process watches the socket, so neither outlives shipway, however that ends.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::devices::Group;
use super::mount::{NO_DEV, permit};
use super::overlay::random_name;
use super::running::{Process, Waiting};
use super::stacks::Stacks;
use super::{Driver, Exit, Layers, RunSpec, Sandbox, SandboxError, extra, program};
use crate::base::cancel::Cancel;
use crate::base::fs::{AtPath, RootDir};

/// Runs commands in isolation on stacked layers. Needs root.
#[derive(Debug)]
pub struct Isolated {
    folder: PathBuf,
    executable: PathBuf,
    program: OnceLock<OwnedFd>,
    /// Held while the program is made ready.
    copying: Mutex<()>,
    stacks: Stacks,
    group: OnceLock<Option<Group>>,
    next: Mutex<Next>,
    /// Monitors that have reported and may not have ended.
    reported: Mutex<Vec<Process>>,
}

/// The monitor of the command that runs next: it is started while the last one runs.
#[derive(Debug, Default)]
struct Next {
    monitor: Option<Waiting>,
    /// How many commands are still to come.
    expected: usize,
}

impl Isolated {
    /// A sandbox that keeps short-lived things in a folder of its own inside `scratch`, which must exist,
    /// and removes it when it is dropped. The running program must call [`dispatch`](super::dispatch).
    pub fn new(scratch: &Path) -> Result<Self, SandboxError> {
        Self::with_program(scratch, Path::new("/proc/self/exe"))
    }

    /// The same, with another program that calls [`dispatch`](super::dispatch).
    pub fn with_program(scratch: &Path, executable: &Path) -> Result<Self, SandboxError> {
        if !rustix::process::geteuid().is_root() {
            return Err(SandboxError::NotRoot);
        }
        let name = random_name().at_path("name a folder in", scratch)?;
        let folder = scratch.join(format!("sandbox-{name}"));
        std::fs::create_dir(&folder).at_path("create", &folder)?;
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).at_path("chmod", &folder)?;
        let stacks = Stacks::new(&folder)?;
        Ok(Self {
            folder,
            executable: executable.to_owned(),
            program: OnceLock::new(),
            copying: Mutex::new(()),
            stacks,
            group: OnceLock::new(),
            next: Mutex::default(),
            reported: Mutex::default(),
        })
    }

    /// The same sandbox with `driver`, whatever would be chosen.
    #[must_use]
    pub fn with_driver(mut self, driver: Driver) -> Self {
        self.stacks.use_driver(driver);
        self
    }

    /// How layers are stacked here: what the kernel offers, asked once.
    pub fn driver(&self) -> Driver {
        self.stacks.driver()
    }

    /// Our program as commands get it.
    fn program(&self) -> Result<&OwnedFd, SandboxError> {
        let _one = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = self.program.get() {
            return Ok(program);
        }
        let made = program::unwritable(&self.executable).at_path("copy", &self.executable)?;
        Ok(self.program.get_or_init(|| made))
    }

    /// A monitor without an order.
    fn monitor(&self) -> Result<Waiting, SandboxError> {
        let waiting = {
            let mut next = self.next();
            next.expected = next.expected.saturating_sub(1);
            next.monitor.take()
        };
        // It may have been killed meanwhile.
        let waiting = waiting.and_then(|mut monitor| (!monitor.process().has_ended()).then_some(monitor));
        waiting.map_or_else(|| Waiting::start(self.program()?), Ok)
    }

    /// Starts the next monitor if another command is to come. Best effort: who needs it starts it again.
    fn make_next(&self) {
        let wanted = |next: &Next| next.expected > 0 && next.monitor.is_none();
        if !wanted(&self.next()) {
            return;
        }
        let started = self.program().and_then(Waiting::start);
        let mut next = self.next();
        if wanted(&next) {
            next.monitor = started.ok();
        }
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of commands that may not open the host's devices, where there are such groups.
    fn group(&self) -> Option<&Group> {
        self.group.get_or_init(Group::make).as_ref()
    }
}

impl Sandbox for Isolated {
    fn run(
        &self,
        spec: &RunSpec,
        output: &mut (dyn Write + Send),
        cancel: &Cancel,
    ) -> Result<Exit, SandboxError> {
        let root = self.stacks.tree(&spec.layers)?;
        let folder = File::open(&self.folder).at_path("open", &self.folder)?;
        if spec.insecure {
            permit(&root, NO_DEV).at_path("allow devices on", "/")?;
        }
        let group = if spec.insecure { None } else { self.group() };
        let extras = extra::prepare(&self.stacks, &spec.mounts)?;
        let fixed = [root.as_fd(), folder.as_fd()];
        let running = self.monitor()?.order(spec, fixed, group, extras)?;
        drop((root, folder));
        self.make_next();
        let (exit, monitor) = running.finish(output, cancel)?;
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.retain_mut(|monitor| !monitor.has_ended());
        reported.push(monitor);
        Ok(exit)
    }

    fn prepare(&self, commands: usize) {
        self.next().expected += commands;
        self.make_next();
        let _ = self.group();
    }

    fn rest(&self) {
        let unused = std::mem::take(&mut *self.next());
        let reported = std::mem::take(&mut *self.reported.lock().unwrap_or_else(PoisonError::into_inner));
        drop((unused, reported));
    }

    fn root(&self, layers: &Layers) -> Result<RootDir, SandboxError> {
        Ok(RootDir::from_fd(self.stacks.tree(layers)?))
    }

    fn finish(&self, layers: &Layers) -> Result<(), SandboxError> {
        self.stacks.finish(layers)
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        // What cannot be removed now lies in a folder that the store sweeps.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::testing::as_root;

    /// Monitors that wait are told by their process; here they are programs that wait for their input's end.
    #[test]
    fn the_next_monitor_waits_and_ends_with_its_use() {
        if !as_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Isolated::with_program(folder.path(), Path::new("/bin/cat")).unwrap();
        let next = || sandbox.next().monitor.as_mut().map(|monitor| monitor.process().id());
        let lives = |process: u32| Path::new(&format!("/proc/{process}")).exists();
        sandbox.prepare(2);
        let first = next().unwrap();
        let mut taken = sandbox.monitor().unwrap();
        assert_eq!((taken.process().id(), next()), (first, None));
        drop(taken);
        assert!(!lives(first));
        // While that one runs the other one is started, and no third.
        sandbox.make_next();
        let second = next().unwrap();
        assert_ne!(first, second);
        // One that was killed is not given an order.
        let pid = rustix::process::Pid::from_raw(i32::try_from(second).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        while Path::new(&format!("/proc/{second}/exe")).read_link().is_ok() {
            std::thread::yield_now();
        }
        let mut third = sandbox.monitor().unwrap();
        assert_ne!(third.process().id(), second);
        sandbox.make_next();
        assert_eq!(next(), None);
        // What is not needed after all does not stay.
        sandbox.prepare(1);
        let fourth = next().unwrap();
        sandbox.rest();
        assert!(!lives(fourth) && next().is_none());
    }
}
