//! L2: the only code that starts a process of an image or mounts a file system.
//!
//! A step of a build writes into an *upper* tree over its chain of *lower* trees. [`Sandbox::root`] gives
//! that stack as one directory, for copying into it and for looking users up; [`Sandbox::run`] starts a
//! command on it, isolated, and waits; [`Sandbox::finish`] makes the upper what a snapshot may hold.
//! [`Fake`] is a scripted stand-in for tests of what lies above.
//!
//! The sandbox is handed paths. It knows no store, no image and no Dockerfile, chooses no user, no
//! environment and no name, and retries nothing.

mod child;
mod devices;
mod error;
mod extra;
mod fake;
mod flatten;
mod identity;
mod isolated;
mod monitor;
mod mount;
mod network;
mod overlay;
mod probe;
mod program;
mod running;
mod seccomp;
mod spec;
mod stacks;
mod stubs;
mod tree;
mod wire;

use std::io::Write;

pub use error::SandboxError;
pub use fake::{Fake, Scripted};
pub use isolated::Isolated;
pub use monitor::dispatch;
pub use probe::{Probe, probe};
pub use spec::{Exit, Layers, Limit, Mount, MountSource, Network, Resource, RunSpec, Writable};
pub use stacks::Driver;

use crate::base::cancel::Cancel;
use crate::base::fs::RootDir;

/// Runs commands on stacks of layers. Used from many threads at once.
pub trait Sandbox: Sync {
    /// Runs `spec.argv` to its end and returns how it ended. What it and its children write to standard
    /// output and standard error arrives in `output` in the order of writing. `spec.layers` must be
    /// writable. When this returns no process of the command is left and the upper may be read. Once
    /// `cancel` is set everything is killed at once and the result is [`SandboxError::Cancelled`].
    fn run(
        &self,
        spec: &RunSpec,
        output: &mut (dyn Write + Send),
        cancel: &Cancel,
    ) -> Result<Exit, SandboxError>;

    /// Does beforehand what [`Sandbox::run`] would wait for, for so many commands. What fails here fails
    /// there again.
    fn prepare(&self, _commands: usize) {}

    /// Lets go of what it keeps for the next [`Sandbox::run`], which may be far off.
    fn rest(&self) {}

    /// The merged tree of `layers`, never attached to the file system: it is gone when the value is, also
    /// after `kill -9`. Without [`Layers::writable`] nothing can be written.
    fn root(&self, layers: &Layers) -> Result<RootDir, SandboxError>;

    /// Makes the upper of `layers` what a snapshot may hold: the difference to the lowers in the form
    /// that overlayfs reads. Call it once, after the last write and before the upper is published.
    fn finish(&self, layers: &Layers) -> Result<(), SandboxError>;
}
