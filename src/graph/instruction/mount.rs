//! `RUN --mount`: from options as written to typed mounts and the nodes that they read.
//!
//! Defaults are BuildKit's (`dockerfile2llb`): a cache is known by its cleaned target, a secret by its id
//! lies at `/run/secrets/ID`, an agent's socket at `/run/buildkit/ssh_agent.N`. Targets are joined with the
//! working directory, those of secrets and sockets with the root. A bind from the build context is a COPY
//! without a parent: what is mounted is that copy, never the user's folder.

use std::collections::BTreeMap;

use super::super::mount::{CacheSharing, FileAttributes, RunMount, RunMountKind, literal};
use super::super::op::{Copy, Node, NodeId, Op, Take};
use super::{Applying, join};
use crate::base::diag::Diagnostic;
use crate::dockerfile::{self as df, MountKind, MountOptions, Word};

/// Where BuildKit mounts the script of a heredoc.
const SCRIPTS: &str = "/dev/pipes";

/// The argument that keeps caches of the same id apart.
pub(super) const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// The mounts of one RUN, each with the node that it reads.
#[derive(Default)]
pub(super) struct Mounted {
    mounts: Vec<(RunMount, Option<NodeId>)>,
}

impl Mounted {
    /// Adds a heredoc that begins with `#!`; returns the command that starts it.
    pub(super) fn script(&mut self, heredoc: &df::Heredoc) -> String {
        let (name, content) = (heredoc.name.clone(), heredoc.content.clone());
        let command = format!("{SCRIPTS}/{name}");
        let kind = RunMountKind::Script { name, content };
        self.mounts.push((RunMount { target: SCRIPTS.to_owned(), read_only: true, kind }, None));
        command
    }

    /// The socket of the first agent.
    pub(super) fn agent(&self) -> Option<String> {
        let ssh = |mount: &&(RunMount, _)| matches!(mount.0.kind, RunMountKind::Ssh { .. });
        self.mounts.iter().find(ssh).map(|(mount, _)| mount.target.clone())
    }

    /// What lies above before what lies below, as BuildKit attaches them.
    pub(super) fn in_order(mut self) -> (Vec<RunMount>, Vec<NodeId>) {
        self.mounts.sort_by(|(one, _), (other, _)| one.target.cmp(&other.target));
        let sources = self.mounts.iter().filter_map(|(_, source)| *source).collect();
        (self.mounts.into_iter().map(|(mount, _)| mount).collect(), sources)
    }
}

impl Applying<'_, '_, '_> {
    /// The mounts of a RUN's flags, in the order in which they are written.
    pub(super) fn mounts(&mut self, mounts: &[df::Mount]) -> Option<Mounted> {
        let mut mounted = Mounted::default();
        let mut agents = 0;
        for mount in mounts {
            let escape = self.lowering.source(self.id.0).dockerfile.escape();
            let state = &*self.state;
            let options = match mount.resolve(&|name| state.variable(name), escape) {
                Ok(options) => options,
                Err(mistake) => {
                    self.lowering.mistake(*mistake);
                    return None;
                }
            };
            mounted.mounts.push(match options.kind {
                MountKind::Bind | MountKind::Cache | MountKind::Tmpfs => self.file_mount(mount, &options)?,
                MountKind::Secret => (self.secret(mount, &options)?, None),
                MountKind::Ssh => {
                    agents += 1;
                    (self.agent(mount, &options, agents - 1)?, None)
                }
            });
        }
        Some(mounted)
    }

    fn file_mount(
        &mut self,
        mount: &df::Mount,
        options: &MountOptions,
    ) -> Option<(RunMount, Option<NodeId>)> {
        let directory = self.state.directory();
        let target = join(&directory, options.target.as_deref().unwrap_or_default());
        self.not_the_root(mount, &target)?;
        let read = match options.kind {
            MountKind::Tmpfs => None,
            MountKind::Cache if mount.from.is_none() => None,
            _ => self.read_by(mount, options)?,
        };
        let (source, node) = read.unzip();
        let kind = match options.kind {
            MountKind::Cache => self.cache(options, source),
            MountKind::Tmpfs => RunMountKind::Tmpfs { size: options.size.filter(|size| *size > 0) },
            _ => RunMountKind::Bind { source },
        };
        Some((RunMount { target, read_only: options.read_only, kind }, node))
    }

    fn cache(&mut self, options: &MountOptions, source: Option<String>) -> RunMountKind {
        let namespace = &self.lowering.source(self.id.0).request.arguments;
        let namespace = namespace.get(CACHE_NAMESPACE).map_or("", String::as_str);
        let target = || clean(options.target.as_deref().unwrap_or_default());
        let id = options.id.clone().unwrap_or_else(target);
        let sharing = match options.sharing {
            None | Some(df::Sharing::Shared) => CacheSharing::Shared,
            Some(df::Sharing::Private) => CacheSharing::Private,
            Some(df::Sharing::Locked) => CacheSharing::Locked,
        };
        let given = options.mode.is_some() || options.uid.is_some() || options.gid.is_some();
        let attributes = given.then(|| attributes(options, 0o755));
        RunMountKind::Cache { id: format!("{namespace}/{id}"), sharing, source, attributes }
    }

    fn secret(&mut self, mount: &df::Mount, options: &MountOptions) -> Option<RunMount> {
        let target = options.target.clone();
        let id = options.source.clone().or_else(|| options.id.clone());
        let id = id.or_else(|| target.as_deref().map(base_name)).unwrap_or_default();
        let target = match (&options.env, target) {
            (_, Some(target)) => join("/", &target),
            (Some(_), None) => String::new(),
            (None, None) => format!("/run/secrets/{}", base_name(&id)),
        };
        self.not_the_root(mount, &target)?;
        let (env, required) = (options.env.clone(), options.required);
        let kind = RunMountKind::Secret { id, attributes: attributes(options, 0o400), env, required };
        Some(RunMount { target, read_only: options.read_only, kind })
    }

    fn agent(&mut self, mount: &df::Mount, options: &MountOptions, number: usize) -> Option<RunMount> {
        if options.source.is_some() {
            let message = "an ssh mount has no `source`: the agent is named with `id`";
            self.lowering.mistake(Diagnostic::error(message).at(mount.text.span.clone(), ""));
            return None;
        }
        let target = match &options.target {
            Some(target) => join("/", target),
            None => format!("/run/buildkit/ssh_agent.{number}"),
        };
        self.not_the_root(mount, &target)?;
        let id = options.id.clone().unwrap_or_else(|| "default".to_owned());
        let kind =
            RunMountKind::Ssh { id, attributes: attributes(options, 0o600), required: options.required };
        Some(RunMount { target, read_only: options.read_only, kind })
    }

    fn not_the_root(&mut self, mount: &df::Mount, target: &str) -> Option<()> {
        if target != "/" {
            return Some(());
        }
        let message = "a mount cannot replace the root\nhelp: give it a `target` below `/`";
        self.lowering.mistake(Diagnostic::error(message).at(mount.text.span.clone(), ""));
        None
    }

    /// The path that a mount reads and the node that has it; `Some(None)` if there is nothing to read.
    fn read_by(&mut self, mount: &df::Mount, options: &MountOptions) -> Option<Option<(String, NodeId)>> {
        let path = join("/", options.source.as_deref().unwrap_or_default());
        let Some(from) = &mount.from else {
            let local = self.local();
            let node = self.context_copy(local, &path);
            return Some(Some((path, node)));
        };
        let node = self.mount_source(from)?.map(|node| match self.lowering.graph.node(node).op {
            Op::Local(_) => self.context_copy(node, &path),
            _ => node,
        });
        Some(node.map(|node| (path, node)))
    }

    fn mount_source(&mut self, from: &Word) -> Option<Option<NodeId>> {
        let stages = &self.lowering.source(self.id.0).dockerfile.stages[..self.id.1];
        let named = |stage: &df::Stage| {
            stage.name.as_ref().is_some_and(|name| name.text.eq_ignore_ascii_case(&from.text))
        };
        if from.text == "scratch" && !stages.iter().any(named) {
            return Some(None);
        }
        let text = self.instruction.text.clone();
        self.lowering.copy_source(self.id, from, &text)
    }

    /// What `path` selects from a context, at the same path in a tree of its own.
    fn context_copy(&mut self, local: NodeId, path: &str) -> NodeId {
        self.state.ordinal += 1;
        let text = format!("mount {path} of the build context");
        let span = Some(self.instruction.span.clone());
        let origin = self.lowering.origin(self.id, self.state.ordinal, &text, span);
        let op = Op::Copy(Copy {
            takes: vec![Take { patterns: vec![literal(path)], unpack: false }],
            files: Vec::new(),
            destination: path.to_owned(),
            owner: None,
            mode: None,
            excludes: Vec::new(),
            parents: false,
        });
        let platform = self.state.platform.clone();
        let (sources, origins) = (vec![local], vec![origin]);
        let unkeyed_environment = BTreeMap::new();
        self.lowering.graph.add(Node { op, parent: None, sources, platform, origins, unkeyed_environment })
    }
}

/// Mode and owner as given, root's where they are not.
fn attributes(options: &MountOptions, mode: u32) -> FileAttributes {
    FileAttributes {
        mode: options.mode.unwrap_or(mode),
        uid: options.uid.unwrap_or(0),
        gid: options.gid.unwrap_or(0),
    }
}

fn base_name(path: &str) -> String {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

/// Go's `path.Clean`, as far as it makes a difference to an id.
fn clean(path: &str) -> String {
    let cleaned = join("/", path);
    if path.starts_with('/') { cleaned } else { cleaned.trim_start_matches('/').to_owned() }
}
