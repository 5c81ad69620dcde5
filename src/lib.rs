//! Shipway builds the images of a compose project and launches its containers: one binary, no build
//! daemon. This page is the map of the house; each module's own page goes on from here.
//!
//! # The path of the data
//!
//! ```text
//! compose files ── compose::load ──────────► Project       text → typed model, or all diagnostics   pure
//! Dockerfiles ──── dockerfile::parse ──────► stages                                                 pure
//! names ────────── build::resolve ─────────► base images   name → config and layers; remembered as pins
//! all of these ─── graph::lower ───────────► Graph         one graph for all services               pure
//! contexts ─────── context::select ────────► selections    digest of exactly what a COPY writes
//! Graph ────────── build::solve ───────────► results       key → hit, or run and publish
//! roots ────────── build::export, hand_over► images        named in the store, sent to the engine
//! Project, images─ up::observe, reconcile ─► Plan          desired × observed → steps with causes   pure
//! Plan ─────────── up::execute ────────────► containers
//! ```
//!
//! `build` and `up` do not know each other: `cli` passes a map from service to image. `compose` and
//! `dockerfile` do not know each other: `graph::lower` alone reads both. Every step emits
//! [`base::event::Event`]s; `cli::render` alone prints. How a message is written: [`base::diag`].
//!
//! # The house
//!
//! ```text
//! L5  ┌───────────────────── cli ─────────────────────┐   arguments, printing
//! L4  │      up       │            build              │   containers │ images
//! L3  │               │            graph              │   what is to be built, and its keys
//! L2  │     engine    │ sandbox  context  oci  remote │   the world outside
//! L1  │    compose    │     dockerfile       store    │   the two languages, the disk
//! L0  └───────────────────── base ────────────────────┘   what all stand on
//! ```
//!
//! | layer | module | what it does | where a change goes |
//! | --- | --- | --- | --- |
//! | L5 | [`cli`] | arguments, one short function a command, the only code that prints | a flag: `cli::args`; how something looks: `cli::render` |
//! | L4 | [`up`] | observe, reconcile (pure), plan, execute; logs; lists of what is there | a compose key that reaches the engine: `up::spec`; when something is recreated: `up::reconcile`; what commands show of containers: `up::lists`, `up::logs` |
//! | L4 | [`build`] | resolve, solve, execute, explain, export, hand over | an operation: `build::exec`; scheduling: `build::solve`; caches that machines share: `build::caches` |
//! | L3 | [`graph`] | operations, lowering, recipes, reasons; pure | an instruction: `graph::instruction`; what enters a key: `graph::recipe` |
//! | L2 | [`engine`] | the container engine behind a trait | another engine: a second implementation of [`engine::Engine`]; another way to reach docker: `engine::docker`'s `transport` |
//! | L2 | [`sandbox`] | the only code that starts a process of an image or mounts | isolation, limits, overlay |
//! | L2 | [`context`] | ignore files, stat cache, selection digests, copying | what a COPY selects or writes; modes of what git tracks: `context::tracked` |
//! | L2 | [`oci`] | references, images, layers, archives, registries | formats and protocols of images |
//! | L2 | [`remote`] | files behind URLs, git repositories | protocols, how a repository is named |
//! | L1 | [`store`] | blobs, snapshots, records, shelves, the collector; knows no OCI | the disk; what goes when it is full: `store::collect` |
//! | L1 | [`compose`] | the compose language; pure | a compose key: a row of the attribute table `compose::attrs` |
//! | L1 | [`dockerfile`] | the Dockerfile language; pure | grammar, words, build checks |
//! | L0 | [`base`] | digests, diagnostics, file system primitives, events, cancelling | |
//!
//! Imports run downward only: `context` → `store`, `oci` → `store`, `graph` → `compose`, `dockerfile`,
//! `oci`, `remote`; `build` → `graph`, `context`, `oci`, `remote`, `sandbox`, `store`, `engine`; `up` → `compose`, `engine`;
//! `cli` → all; everything → `base`. `tests/layers.rs` fails on any other edge.
//!
//! # Keys
//!
//! A step has two keys, both derived from one stored value, its [`graph::Recipe`]. The *definition* key is
//! known before anything runs; the *canonical* key is over what the inputs turned out to be and stops a
//! rebuild where a stage came out with the same bytes. A key is not a result: every published snapshot has
//! a fresh [`base::digest::ResultId`], and keys point at it.
//!
//! | operation | what enters its key |
//! | --- | --- |
//! | pull | the chain ID of the base image's layers, the platform |
//! | COPY, ADD from a context | digest of exactly what is written, except mtimes: names, type, effective mode, content, link target, hard-link groups (of what git does not track); destination, owner and mode flags; names and bytes of heredocs |
//! | COPY `--from` | the same over the stage's files, with their own owners and modes; before the stage is there, its definition key and the patterns |
//! | COPY, ADD with `--link` | the same, but nothing of what lies below; with a named owner the digest of its accounts |
//! | what is fetched | a URL: name and digest of the file, `Last-Modified`; a repository: commit, folder, whether `.git` is kept; a tar: its digest |
//! | RUN | argv, environment (sorted, undeclared proxy variables out), working directory, user, platform, network and security mode, hostname, extra hosts, shm size; of each mount its type, target, ro or rw, size, id of a secret or agent with variable, required, mode and owner, text of a script, and the digest of what it reads |
//! | WORKDIR | path, user |
//!
//! An effective mode is the one on the disk; of what git tracks it is the one that git keeps, so that a
//! checkout's umask makes no difference; nor do hard links among such files.
//!
//! Never: mtimes, paths of the host, inode numbers, names of stages and services, comments, limits, the
//! clock, values of secrets, ids, sharing and contents of cache mounts. The image's config is carried beside
//! the graph and makes no node.
//!
//! # How to add something
//!
//! **A key of compose files**
//!
//! 1. A row in the table [`compose`]`::attrs` (shape, merging, paths, state) and a field in `compose::model`;
//!    `UPDATE_GOLDEN=1 cargo test --lib compose::keys` writes `testdata/compose/KEYS.md` anew. What is to be
//!    launched with but is not yet has `.later()`, and is refused by name.
//! 2. What comes of it: of `build`, a field of [`graph::BuildRequest`]; of a container, a line in `up::spec`, which
//!    fills [`engine::ContainerSpec`], and from there in `engine::docker`'s `create`. What an older engine
//!    would pass over in silence is refused in `least`, beside it.
//! 3. A case in `testdata/inspect` (`tests/inspect.sh` asks Docker Compose what it makes of it, once for each
//!    engine); a test fails on a key that counts and has none.
//!
//! **A flag or an instruction of Dockerfiles**
//!
//! 1. The grammar, in [`dockerfile`]: a flag is a row of its instruction's list (`copy`, `mount`,
//!    `instructions`) and a field of the tree; an instruction is a [`dockerfile::Kind`] too.
//! 2. What it does, in `graph::instruction`: a field of [`graph::Op`]; what changes the result goes into
//!    `graph::recipe`, which makes the key, and into `graph::reason`, which says why a step ran. Raise
//!    [`graph::FORMAT`] where equal recipes would mean something else. Then `build::exec` carries it out.
//! 3. A case in `testdata/buildkit` (`tests/buildkit.sh` asks BuildKit what it makes of it), and one in
//!    `testdata/graph` for its key.
//!
//! **Another container engine**
//!
//! 1. A folder beside `engine::docker` with a type that implements [`engine::Engine`]: plain types in and out,
//!    every method blocks, what is not there is `None` or [`engine::EngineError::NotFound`].
//! 2. Its name in `cli::args`' `EngineChoice`, and the choice in `cli::commands`' `machine`, which makes the
//!    engine; nothing above knows which one it is, but for how images are kept: [`engine::ImageStore`].
//! 3. The tests with an engine, with `SHIPWAY_TEST_DOCKER_HOST` at the new one; `engine::fake` is the smallest
//!    example.
//!
//! # Invariants
//!
//! - A no-op starts no process, asks no network but the engine once, writes nothing, and reads no file
//!   that its stamp vouches for.
//! - Whatever is published is whole: it is finished in `tmp`, renamed, and its record comes last. A
//!   missing or unfinished piece is a miss, never an error and never a wrong result.
//! - After a COPY each source is still what was digested, or the step starts over.
//! - Every miss has a reason.
//! - Nothing is left behind after Ctrl-C or `kill -9`: mounts are detached, processes have a monitor,
//!   staging folders are locked while their owner lives and swept when it is dead.

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
pub mod remote;
pub mod sandbox;
pub mod store;
pub mod up;
