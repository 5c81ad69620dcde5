//! The real sandbox: stacks layers, starts a monitor for each command and passes its output on.
//!
//! This side has threads, so it never forks: a monitor is our own program, executed again from a sealed
//! copy in memory. A monitor gets the tree of the layers as a descriptor; the mount is detached and the
//! process watches the socket, so neither outlives shipway, however that ends.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::overlay::{self, Way};
use super::{Exit, Layers, RunSpec, Sandbox, SandboxError, Writable, program, running};
use crate::base::cancel::Cancel;
use crate::base::fs::{AtPath, RootDir};

/// Runs commands in isolation on stacked layers. Needs root.
#[derive(Debug)]
pub struct Isolated {
    scratch: PathBuf,
    executable: PathBuf,
    program: OnceLock<OwnedFd>,
    way: OnceLock<Way>,
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
        let name = overlay::random_name().at_path("name a folder in", scratch)?;
        let scratch = scratch.join(format!("sandbox-{name}"));
        for empty in ["lower-0", "lower-1"] {
            let empty = scratch.join(empty);
            std::fs::create_dir_all(&empty).at_path("create", &empty)?;
            std::fs::set_permissions(&empty, PermissionsExt::from_mode(0o755)).at_path("chmod", &empty)?;
        }
        Ok(Self {
            scratch,
            executable: executable.to_owned(),
            program: OnceLock::new(),
            way: OnceLock::new(),
        })
    }

    fn program(&self) -> Result<&OwnedFd, SandboxError> {
        if let Some(program) = self.program.get() {
            return Ok(program);
        }
        let made = program::sealed(&self.executable).at_path("copy", &self.executable)?;
        // Another thread may have been faster; then that copy serves.
        Ok(self.program.get_or_init(|| made))
    }

    /// How this kernel stacks layers: asked once.
    fn way(&self) -> Way {
        *self.way.get_or_init(|| {
            let empty = ["lower-0", "lower-1"].map(|name| self.scratch.join(name));
            match overlay::stack(Way::OneByOne, &empty, None, &self.scratch) {
                Ok(_) => Way::OneByOne,
                Err(_) => Way::OldCall,
            }
        })
    }

    fn overlay(&self, layers: &Layers) -> Result<OwnedFd, SandboxError> {
        let mut lowers = layers.lowers.clone();
        let writable = layers.writable.as_ref();
        let least = if writable.is_some() { 1 } else { 2 };
        for number in lowers.len()..least {
            lowers.insert(0, self.scratch.join(format!("lower-{number}")));
        }
        if let Some(writable) = writable {
            prepare_upper(writable, layers.lowers.last())?;
        }
        overlay::stack(self.way(), &lowers, writable, &self.scratch).map_err(|source| {
            let last =
                writable.map_or_else(|| lowers.last().cloned(), |writable| Some(writable.upper.clone()));
            let layers = lowers.len() + usize::from(writable.is_some());
            SandboxError::Overlay { layers, last: last.unwrap_or_default(), source }
        })
    }
}

impl Sandbox for Isolated {
    fn run(
        &self,
        spec: &RunSpec,
        output: &mut (dyn Write + Send),
        cancel: &Cancel,
    ) -> Result<Exit, SandboxError> {
        let root = self.root(&spec.layers)?;
        let scratch = File::open(&self.scratch).at_path("open", &self.scratch)?;
        let running = running::start(self.program()?, spec, [root.as_fd(), scratch.as_fd()])?;
        drop((root, scratch));
        running.finish(output, cancel)
    }

    fn root(&self, layers: &Layers) -> Result<RootDir, SandboxError> {
        Ok(RootDir::from_fd(self.overlay(layers)?))
    }

    fn finish(&self, _: &Layers) -> Result<(), SandboxError> {
        Ok(())
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        // What cannot be removed now lies in a folder that the store sweeps.
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

/// The root folder of a merged tree has the attributes of the upper's own: a new upper takes them from the
/// layer below, so that a step does not change its root by existing.
fn prepare_upper(writable: &Writable, below: Option<&PathBuf>) -> Result<(), SandboxError> {
    let upper = &writable.upper;
    if std::fs::read_dir(upper).at_path("read", upper)?.next().is_some() {
        return Ok(());
    }
    let folder = File::open(upper).at_path("open", upper)?;
    let Some(below) = below else {
        std::fs::set_permissions(upper, PermissionsExt::from_mode(0o755)).at_path("chmod", upper)?;
        return Ok(std::os::unix::fs::fchown(&folder, Some(0), Some(0)).at_path("chown", upper)?);
    };
    let model = std::fs::metadata(below).at_path("stat", below)?;
    std::os::unix::fs::fchown(&folder, Some(model.uid()), Some(model.gid())).at_path("chown", upper)?;
    let mode = PermissionsExt::from_mode(model.mode() & 0o7777);
    std::fs::set_permissions(upper, mode).at_path("chmod", upper)?;
    let time = |seconds, nanoseconds: i64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: time(model.atime(), model.atime_nsec()),
        last_modification: time(model.mtime(), model.mtime_nsec()),
    };
    rustix::fs::utimensat(&folder, ".", &times, AtFlags::empty()).at_path("set the times of", upper)?;
    Ok(())
}
