//! L1: the compose language. Text in, typed project out; pure.
//!
//! The files' texts, the environment and the env files are handed in, so that nothing here touches a disk
//! or a process's environment.

mod attrs;
mod bind;
mod check;
mod dotenv;
mod environment;
mod extends;
mod flags;
mod forms;
mod hash;
mod include;
mod load;
mod locate;
mod meaning;
mod merge;
mod model;
mod outline;
mod paths;
mod print;
mod resolve;
mod scalar;
mod shape;
mod source;
mod specs;
mod tree;
mod vars;
mod words;
mod yaml;

pub use flags::{env_file, short_mount, short_ports};
pub use hash::service_hash;
pub use load::{Disk, Loaded, Options, has_file, load};
pub use meaning::MOST_REPLICAS;
pub use model::*;
pub use outline::{Outline, outline};
pub use print::{to_json, to_yaml, value_to_yaml};
pub use source::Files;
pub use vars::Variable;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod properties;
