//! The capability tests: each module is one capability, shown on the real program.
mod add;
mod build;
mod buildkit;
mod checks;
mod command_line;
mod config;
mod copy;
mod elsewhere;
mod image_flags;
mod launch;
mod outputs;
mod pack;
mod rebuild_rules;
mod run_mounts;
mod sandbox;
mod scene;
mod up;
