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
use std::sync::{Mutex, OnceLock, PoisonError};

use super::devices::Group;
use super::mount::{NO_DEV, permit};
use super::overlay::random_name;
use super::stacks::Stacks;
use super::{Driver, Exit, Layers, RunSpec, Sandbox, SandboxError, extra, program, running};
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
        let running = running::start(self.program()?, spec, fixed, group, extras)?;
        drop((root, folder));
        running.finish(output, cancel)
    }

    fn prepare(&self) {
        let _ = (self.program(), self.group());
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
