//! L1: the compose language. Text in, typed project out; pure.
//!
//! The files' texts, the environment and the env files are handed in, so that nothing here touches a disk
//! or a process's environment.

mod model;
mod paths;

pub use model::*;
