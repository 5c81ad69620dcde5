//! The build graph: a closed set of operations, equal ones stored once.
//!
//! [`Graph::add`] is the only way in. It returns the node that is there already when an equal operation
//! with equal inputs was added before, so equal work of several services is one node *by construction*.
//! Nodes are numbered in the order in which they were added; inputs always have smaller numbers, so the
//! order of the numbers is a topological order. Nothing here runs, reads or hashes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;

use super::mount::RunMount;
use super::settings::FileModes;
use crate::base::diag::Span;
use crate::base::digest::Digest;
use crate::oci::{Descriptor, Platform};
use crate::remote::{Checkout, shown_url};

/// A node's number in its graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub usize);

/// What a node does. Everything that can change its result is in here or in its inputs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// The file system of a base image.
    Pull(Pull),
    /// What a build takes from elsewhere, as a file system: a file, a repository, an archive.
    Fetch(Fetch),
    /// A build context: a folder of the host behind its ignore rules. It has no result of its own; what a
    /// COPY selects from it enters that COPY's key.
    Local(Local),
    /// A command in the file system so far.
    Run(Run),
    /// Files from contexts, other stages and the Dockerfile itself.
    Copy(Copy),
    /// A directory that is made where it is missing.
    Directory(Directory),
    /// The files of its only source over those of its parent, as they are (`COPY --link`).
    Merge,
}

/// See [`Op::Pull`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pull {
    /// The chain ID of its layers (OCI image-spec, "Layer ChainID"): what every step above can see.
    pub chain: Digest,
}

/// See [`Op::Fetch`]. What is fetched has been asked for before, so that it is known exactly.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Fetch {
    /// A file in the root folder, root's, 0600 (as BuildKit has it).
    File {
        /// Where it comes from.
        url: String,
        /// Its name.
        name: String,
        /// The digest of its bytes, which are a blob of the store.
        digest: Digest,
        /// Its modification time in seconds since 1970.
        modified: i64,
    },
    /// The files of a commit.
    Git(Checkout),
    /// The members of an archive, which is a blob of the store.
    Archive {
        /// The digest of its bytes.
        digest: Digest,
    },
}

/// See [`Op::Local`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Local {
    /// Index into [`Graph::contexts`].
    pub context: usize,
}

/// See [`Op::Run`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Run {
    /// The command with its arguments; the first is looked up in `PATH` of `environment`.
    pub argv: Vec<String>,
    /// The whole environment, sorted. Undeclared proxy variables are in [`Node::unkeyed_environment`].
    pub environment: BTreeMap<String, String>,
    /// The working directory, absolute.
    pub directory: String,
    /// `user[:group]` by name or number; empty is root.
    pub user: String,
    /// Which network the command sees.
    pub network: RunNetwork,
    /// Further lines of `/etc/hosts`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// What is mounted, in the order of attaching. Those that read a node (see [`RunMount::source`]) stand
    /// for [`Node::sources`], in the same order.
    pub mounts: Vec<RunMount>,
    /// Whether it runs with all privileges (`--security=insecure`).
    pub insecure: bool,
    /// The hostname that the command sees.
    pub hostname: String,
}

impl Run {
    /// The mount that reads source number `source` of the node.
    pub fn mount_of(&self, source: usize) -> Option<&RunMount> {
        self.mounts.iter().filter(|mount| mount.source().is_some()).nth(source)
    }
}

/// Which network a command sees.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunNetwork {
    /// The builder's usual network.
    Default,
    /// Loopback only.
    None,
    /// The host's, without the limits of the usual one.
    Host,
}

/// See [`Op::Copy`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Copy {
    /// What is taken from each of [`Node::sources`], in the same order. One source more, if there is one, is
    /// the file system whose accounts the owner is looked up in instead of the parent's.
    pub takes: Vec<Take>,
    /// Files that are written after them.
    pub files: Vec<WrittenFile>,
    /// Absolute path; a trailing slash means a directory.
    pub destination: String,
    /// `user[:group]` by name or number, resolved in the target's file system.
    pub owner: Option<String>,
    /// The mode that everything gets, octal or symbolic.
    pub mode: Option<String>,
    /// Patterns of what is left out, relative to each source.
    pub excludes: Vec<String>,
    /// Whether the sources keep their paths.
    pub parents: bool,
}

/// What a COPY takes from one source.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Take {
    /// Patterns relative to the root of the source.
    pub patterns: Vec<String>,
    /// Whether archives among them are unpacked (`ADD`).
    pub unpack: bool,
}

/// See [`Op::Directory`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Directory {
    /// An absolute path.
    pub path: String,
    /// The user that owns what is made, as `USER` has it; empty is root.
    pub user: String,
}

/// A file whose bytes stand in the Dockerfile.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WrittenFile {
    /// Its name below the destination.
    pub name: String,
    /// Its content.
    pub content: String,
}

/// Where in the user's project a node comes from. One node may come from several places.
#[derive(Clone, PartialEq, Debug)]
pub struct Origin {
    /// The service whose Dockerfile it is.
    pub service: String,
    /// The stage, by name or number.
    pub stage: String,
    /// Its number among the stage's steps, from 1; the base image is 0.
    pub ordinal: usize,
    /// The instruction as a user recognises it: `RUN npm ci`.
    pub text: String,
    /// Where it stands.
    pub span: Option<Span>,
}

impl Origin {
    /// The stable name under which the history keeps the step.
    pub fn step_name(&self) -> String {
        format!("{}/{}", self.service, self.place())
    }

    /// Stage and number: `build/3`.
    pub fn place(&self) -> String {
        format!("{}/{}", self.stage, self.ordinal)
    }
}

/// An operation with its inputs.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// The node whose file system it starts from; none is the empty file system.
    pub parent: Option<NodeId>,
    /// What it reads besides, in the order in which the operation counts them.
    pub sources: Vec<NodeId>,
    /// For which platform.
    pub platform: Platform,
    /// Where it comes from, in the order in which it was met.
    pub origins: Vec<Origin>,
    /// Environment that a command sees and no key contains: undeclared proxy variables.
    pub unkeyed_environment: BTreeMap<String, String>,
}

impl Node {
    /// The nodes that must have a result before this one can run.
    pub fn inputs(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.parent.into_iter().chain(self.sources.iter().copied())
    }

    /// The instruction as a user recognises it.
    pub fn text(&self) -> &str {
        self.origins.first().map_or("", |origin| origin.text.as_str())
    }

    /// The services that need it, each once.
    pub fn services(&self) -> Vec<String> {
        let mut services: Vec<String> = Vec::new();
        for origin in &self.origins {
            if !services.contains(&origin.service) {
                services.push(origin.service.clone());
            }
        }
        services
    }
}

/// A folder of the host and the rules for what of it may be used.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ContextSpec {
    /// The folder, absolute.
    pub folder: PathBuf,
    /// The ignore file's name as it is to be shown, and its text.
    pub ignore: Option<(String, String)>,
    /// Which modes its files count with.
    pub modes: FileModes,
}

/// A base image as the lowering needs it: what it is, not where it lies.
#[derive(Clone, PartialEq, Debug)]
pub struct BaseImage {
    /// Its configuration.
    pub config: crate::oci::ImageConfig,
    /// Its layers as blobs, bottom first, as many as the configuration has diff IDs; empty for an image
    /// whose layers lie in the store as snapshots only.
    pub layers: Vec<Descriptor>,
}

impl BaseImage {
    /// The chain ID of its topmost layer; none for an image without layers.
    pub fn chain(&self) -> Option<Digest> {
        chain_id(&self.config.rootfs.diff_ids)
    }
}

/// The chain ID of a list of layers, bottom first (OCI image-spec, "Layer ChainID").
pub fn chain_id(layers: &[crate::base::digest::DiffId]) -> Option<Digest> {
    layers.iter().fold(None, |below: Option<Digest>, layer| {
        Some(below.map_or(layer.0, |below| Digest::of(format!("{below} {layer}"))))
    })
}

/// All builds of one command as one graph.
#[derive(Default, Debug)]
pub struct Graph {
    nodes: Vec<Node>,
    index: HashMap<(Op, Option<NodeId>, Vec<NodeId>, Platform), NodeId>,
    /// The contexts that its [`Op::Local`]s name.
    pub contexts: Vec<ContextSpec>,
    /// What each build results in, in the order of the requests.
    pub roots: Vec<super::Root>,
}

impl Graph {
    /// The node for this operation on these inputs: a new one, or the equal one that is there, which then
    /// has a further origin.
    pub fn add(&mut self, node: Node) -> NodeId {
        let key = (node.op.clone(), node.parent, node.sources.clone(), node.platform.clone());
        if let Some(&id) = self.index.get(&key) {
            let origins = &mut self.nodes[id.0].origins;
            for origin in node.origins {
                if !origins.contains(&origin) {
                    origins.push(origin);
                }
            }
            return id;
        }
        let id = NodeId(self.nodes.len());
        self.nodes.push(node);
        self.index.insert(key, id);
        id
    }

    /// The number of a context, added if it is new.
    pub fn context(&mut self, spec: ContextSpec) -> usize {
        self.contexts.iter().position(|known| *known == spec).unwrap_or_else(|| {
            self.contexts.push(spec);
            self.contexts.len() - 1
        })
    }

    /// A node of this graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// All nodes; every node comes after its inputs.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> + ExactSizeIterator {
        self.nodes.iter().enumerate().map(|(number, node)| (NodeId(number), node))
    }
}

/// One line a node, then one a root: what golden tests compare.
impl fmt::Display for Graph {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, node) in self.nodes() {
            write!(formatter, "{id} {}", node.op)?;
            if let Some(parent) = node.parent {
                write!(formatter, " on {parent}")?;
            }
            for (index, source) in node.sources.iter().enumerate() {
                write!(formatter, "{} {source}", if index == 0 { " from" } else { "," })?;
            }
            let origins: Vec<String> = node.origins.iter().map(Origin::step_name).collect();
            writeln!(formatter, "  [{}]", origins.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{}", self.0)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pull(pull) => write!(formatter, "pull {}", pull.chain.short()),
            Self::Local(local) => write!(formatter, "context {}", local.context),
            Self::Fetch(fetch) => fetch.fmt(formatter),
            Self::Run(run) => {
                write!(formatter, "run {:?} in {}", run.argv, run.directory)?;
                if !run.user.is_empty() {
                    write!(formatter, " as {}", run.user)?;
                }
                if run.network != RunNetwork::Default {
                    write!(formatter, " network {}", run.network.name())?;
                }
                formatter.write_str(if run.insecure { " insecure" } else { "" })?;
                run.mounts.iter().try_for_each(|mount| write!(formatter, " mount [{mount}]"))?;
                let variables = run.environment.iter().filter(|(name, _)| *name != "PATH");
                variables.into_iter().try_for_each(|(name, value)| write!(formatter, " {name}={value:?}"))
            }
            Self::Copy(copy) => {
                formatter.write_str("copy")?;
                for take in &copy.takes {
                    let unpack = if take.unpack { " unpacked" } else { "" };
                    write!(formatter, " {:?}{unpack}", take.patterns)?;
                }
                for file in &copy.files {
                    write!(formatter, " {}={:?}", file.name, file.content)?;
                }
                write!(formatter, " to {}", copy.destination)?;
                flags(formatter, copy.owner.as_ref(), copy.mode.as_ref())?;
                let excludes = copy.excludes.iter();
                excludes.into_iter().try_for_each(|exclude| write!(formatter, " exclude {exclude}"))?;
                formatter.write_str(if copy.parents { " parents" } else { "" })
            }
            Self::Merge => formatter.write_str("merge"),
            Self::Directory(directory) => {
                write!(formatter, "directory {}", directory.path)?;
                match directory.user.as_str() {
                    "" => Ok(()),
                    user => write!(formatter, " owner {user}"),
                }
            }
        }
    }
}

impl fmt::Display for Fetch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { url, name, digest, modified } => {
                write!(formatter, "file {name} {} of {modified} from {}", digest.short(), shown_url(url))
            }
            Self::Git(checkout) => {
                write!(formatter, "commit {} of {}", checkout.commit, shown_url(&checkout.remote))?;
                if !checkout.folder.is_empty() {
                    write!(formatter, " folder {}", checkout.folder)?;
                }
                formatter.write_str(if checkout.keep_git_dir { " with .git" } else { "" })?;
                formatter.write_str(if checkout.submodules { "" } else { " without submodules" })
            }
            Self::Archive { digest } => write!(formatter, "archive {}", digest.short()),
        }
    }
}

fn flags(formatter: &mut fmt::Formatter<'_>, owner: Option<&String>, mode: Option<&String>) -> fmt::Result {
    owner.into_iter().try_for_each(|owner| write!(formatter, " owner {owner}"))?;
    mode.into_iter().try_for_each(|mode| write!(formatter, " mode {mode}"))
}
