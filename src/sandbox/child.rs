//! From the fork in the monitor to the command: the order of the steps and nothing else.
//!
//! Each step is in a module of its own: [`tree`](super::tree) builds what the command sees as `/`,
//! [`identity`](super::identity) makes the process what a command always is. This runs in the only thread
//! of a forked process; what fails is reported as a [`Failure`] and the process ends.

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use super::spec::RunSpec;
use super::wire::{Extra, Failure};
use super::{identity, tree};
use crate::base::fs::RootDir;

/// Becomes the command of `spec` on `root`; returns only if that fails.
pub(super) fn execute(
    spec: &RunSpec,
    root: &RootDir,
    extras: &[(Extra, OwnedFd)],
) -> Result<Infallible, Failure> {
    identity::start_session(&spec.hostname)?;
    tree::assemble(spec, root, extras)?;
    identity::open_standard_streams(spec.uid)?;
    identity::set_limits(&spec.limits)?;
    identity::enter_folder(&spec.cwd)?;
    identity::give_up_privileges(spec)?;
    identity::execute(spec)
}
