//! Shipway builds the images of a compose project and launches its containers: one binary, no build
//! daemon.
//!
//! # The house
//!
//! | layer | module | what it does |
//! | --- | --- | --- |
//! | L5 | `cli` | arguments, one short function a command, the only code that prints |
//! | L4 | `up` | observe, reconcile (pure), plan, execute |
//! | L4 | `build` | resolve names, solve the graph, execute its operations, export images |
//! | L3 | `graph` | operations, lowering, recipes (what a key contains), reasons (why a step ran); pure |
//! | L2 | `engine` | the container engine behind a trait |
//! | L2 | `sandbox` | the only code that starts a process or mounts |
//! | L2 | `context` | ignore files, scanning with the stat cache, selection digests, copying |
//! | L2 | `oci` | image references, images, layers, registries |
//! | L1 | `store` | blobs, snapshots, records, history, the collector; bytes and folders, knows no OCI |
//! | L1 | `compose` | the compose language: text to typed model; pure |
//! | L1 | `dockerfile` | the Dockerfile language: text to stages; pure |
//! | L0 | `base` | digests, diagnostics, file system primitives, events |
//!
//! Imports run downward only: `context` → `store`, `oci` → `store`, `graph` → `compose`, `dockerfile`,
//! `oci`; `build` → `graph`, `context`, `oci`, `sandbox`, `store`, `engine`; `up` → `compose`, `engine`;
//! `cli` → all; everything → `base`. `tests/layers.rs` fails on any other edge.

// Where tests/ may do what the library must not, the lint stands here and not in Cargo.toml.
#![warn(clippy::disallowed_methods, clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

pub mod base;
pub mod build;
pub mod cli;
pub mod compose;
pub mod context;
pub mod dockerfile;
pub mod engine;
pub mod graph;
pub mod oci;
pub mod sandbox;
pub mod store;
pub mod up;
