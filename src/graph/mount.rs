//! What a RUN mounts: typed, with the part of it that enters a key.
//!
//! A [`RunMount`] is a value of the graph and of recipes alike. Its text form is what golden tests show and
//! what explains a changed mount. What a bind or a cache reads from a node is one of the node's sources,
//! in the order of the mounts; the node's identity enters the key there, not here. Ids, names and settings
//! are in here, never the bytes of a secret and never the content of a cache.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::digest::FieldHasher;

/// Something that is mounted for one command.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct RunMount {
    /// Where, absolute; a secret that is a variable alone has no place.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// What it is.
    #[serde(flatten)]
    pub kind: RunMountKind,
}

/// What is mounted.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum RunMountKind {
    /// Files of a stage, an image or the build context. What is written to it is thrown away.
    Bind {
        /// Path in the source's file system; `None` for an empty folder (`from=scratch`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// A folder that outlives the build.
    Cache {
        /// Under which it is found again, namespace included. Outside every key.
        id: String,
        /// Who may use it at once. Outside every key.
        sharing: CacheSharing,
        /// Path in the source's file system whose content it begins with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Mode and owner of the folder when it is made; `None` is 0755 and root's, or the source's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attributes: Option<FileAttributes>,
    },
    /// An empty folder in memory.
    Tmpfs {
        /// Its size in bytes; `None` is what the kernel gives.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// A secret that the user hands in.
    Secret {
        /// Its id.
        id: String,
        /// Mode and owner of the file.
        attributes: FileAttributes,
        /// The variable that holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        env: Option<String>,
        /// Whether the step fails without it.
        required: bool,
    },
    /// The socket of an ssh agent.
    Ssh {
        /// The agent's id.
        id: String,
        /// Mode and owner of the socket.
        attributes: FileAttributes,
        /// Whether the step fails without it.
        required: bool,
    },
    /// A folder with one executable file whose text stands in the Dockerfile.
    Script {
        /// Its name.
        name: String,
        /// Its text.
        content: String,
    },
}

/// Mode and owner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct FileAttributes {
    /// Permission bits.
    pub mode: u32,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Who may use a cache at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheSharing {
    /// All at once.
    Shared,
    /// Each its own copy.
    Private,
    /// One after the other.
    Locked,
}

impl RunMount {
    /// The path that it takes from one of the node's sources, if it has one there.
    pub fn source(&self) -> Option<&str> {
        match &self.kind {
            RunMountKind::Bind { source } | RunMountKind::Cache { source, .. } => source.as_deref(),
            _ => None,
        }
    }

    /// Its part of a key.
    pub(super) fn hash(&self, hasher: &mut FieldHasher) {
        hasher.field(self.kind.name()).field(&self.target).number(u64::from(self.read_only));
        hasher.number(u64::from(self.source().is_some()));
        match &self.kind {
            RunMountKind::Bind { .. } => {}
            RunMountKind::Cache { attributes, .. } => {
                hasher.number(u64::from(attributes.is_some()));
                attributes.iter().for_each(|attributes| attributes.hash(hasher));
            }
            RunMountKind::Tmpfs { size } => {
                hasher.number(u64::from(size.is_some())).number(size.unwrap_or(0));
            }
            RunMountKind::Secret { id, attributes, env, required } => {
                hasher.field(id).number(u64::from(*required));
                attributes.hash(hasher);
                hasher.number(u64::from(env.is_some())).field(env.as_deref().unwrap_or_default());
            }
            RunMountKind::Ssh { id, attributes, required } => {
                hasher.field(id).number(u64::from(*required));
                attributes.hash(hasher);
            }
            RunMountKind::Script { name, content } => {
                hasher.field(name).field(content);
            }
        }
    }

    /// Whether a key cannot tell the two apart.
    pub(super) fn counts_as(&self, other: &Self) -> bool {
        let digest = |mount: &Self| {
            let mut hasher = FieldHasher::new("mount");
            mount.hash(&mut hasher);
            hasher.finish()
        };
        digest(self) == digest(other)
    }
}

impl FileAttributes {
    fn hash(self, hasher: &mut FieldHasher) {
        hasher.number(u64::from(self.mode)).number(u64::from(self.uid)).number(u64::from(self.gid));
    }
}

impl RunMountKind {
    const fn name(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
            Self::Cache { .. } => "cache",
            Self::Tmpfs { .. } => "tmpfs",
            Self::Secret { .. } => "secret",
            Self::Ssh { .. } => "ssh",
            Self::Script { .. } => "script",
        }
    }
}

/// `cache id=/c shared mode 0755 owner 0:0 at /c`.
impl fmt::Display for RunMount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind.name())?;
        match &self.kind {
            RunMountKind::Bind { source: Some(path) } => write!(formatter, " {path}")?,
            RunMountKind::Bind { source: None } => formatter.write_str(" of nothing")?,
            RunMountKind::Cache { id, sharing, source, attributes } => {
                write!(formatter, " id={id} {}", sharing.name())?;
                attributes.iter().try_for_each(|attributes| write!(formatter, " {attributes}"))?;
                source.iter().try_for_each(|path| write!(formatter, " from {path}"))?;
            }
            RunMountKind::Tmpfs { size } => {
                size.iter().try_for_each(|size| write!(formatter, " {size} bytes"))?;
            }
            RunMountKind::Secret { id, attributes, env, required } => {
                write!(formatter, " id={id}{}", if *required { " required" } else { "" })?;
                env.iter().try_for_each(|env| write!(formatter, " env={env}"))?;
                if !self.target.is_empty() {
                    write!(formatter, " {attributes}")?;
                }
            }
            RunMountKind::Ssh { id, attributes, required } => {
                write!(formatter, " id={id}{} {attributes}", if *required { " required" } else { "" })?;
            }
            RunMountKind::Script { name, content } => write!(formatter, " {name}={content:?}")?,
        }
        if !self.target.is_empty() {
            write!(formatter, " at {}", self.target)?;
        }
        formatter.write_str(if self.read_only { " ro" } else { "" })
    }
}

impl fmt::Display for FileAttributes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "mode {:04o} owner {}:{}", self.mode, self.uid, self.gid)
    }
}

impl CacheSharing {
    /// Its name in Dockerfiles.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Locked => "locked",
        }
    }
}

/// A pattern of a COPY that matches `path` alone.
pub fn literal(path: &str) -> String {
    let mut pattern = String::new();
    for letter in path.chars() {
        if matches!(letter, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
