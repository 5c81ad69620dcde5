//! L1: the Dockerfile language, from text to typed stages. Pure: no file, no environment, no clock.
//!
//! [`parse`] reads a file, [`words`] has variable expansion and word splitting for when the variables are
//! known, [`lint`] the build checks; [`outline`] and [`targets`] say what can be given and built.
//! Grammar and meaning follow BuildKit's Dockerfile frontend; what is supported is decided by those who
//! carry a build out, not here.

mod ast;
mod copy;
mod directives;
mod flags;
#[cfg(test)]
mod golden;
mod healthcheck;
mod heredoc;
mod instructions;
pub mod lint;
mod mount;
mod outline;
mod parse;
mod pattern;
mod scan;
mod syntax;
mod trace;
pub mod words;

pub use ast::{
    Add, CommandLine, Copy, Dockerfile, Healthcheck, Heredoc, Instruction, Kind, OnBuild, Pair, Run, RunForm,
    RunNetwork, RunSecurity, Stage, Word,
};
pub use directives::{Check, Directives};
pub use mount::{Mount, MountKind, MountOptions, Sharing};
pub use outline::{Need, Outline, OutlineArgument, Target, outline, targets};
pub use parse::parse;
pub use trace::{Beginning, Facts, PlatformMismatch};
