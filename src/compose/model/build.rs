//! How a service's image is built, and what is watched while developing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::service::{Hook, Ulimit};
use super::values::ByteSize;
use super::{Extensions, is_false};

/// `services.NAME.build`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// An absolute folder, or a URL (`https://…`, `git@…`, `github.com/…`); see [`Build::is_remote`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Relative to the context, or absolute; `Dockerfile` unless given or inline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// The Dockerfile's text, instead of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile_inline: Option<String>,
    /// Extra privileges that the build asks for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entitlements: Vec<String>,
    /// Build arguments; `None`: passed without a value because the caller's environment has none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Option<String>>,
    /// Provenance attestation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
    /// Bill-of-materials attestation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbom: Option<String>,
    /// ssh agents and keys: id (`default`) to path, empty for the agent of the caller.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<String>,
    /// Labels of the image.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where layers may be taken from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_from: Vec<String>,
    /// Where layers are stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_to: Vec<String>,
    /// Use nothing that was built before.
    #[serde(skip_serializing_if = "is_false")]
    pub no_cache: bool,
    /// Stages that use nothing that was built before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_cache_filter: Vec<String>,
    /// Named contexts: an absolute folder, a URL, `docker-image://NAME`, `service:NAME`, `oci-layout://…`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub additional_contexts: BTreeMap<String, String>,
    /// Ask for newer base images.
    #[serde(skip_serializing_if = "is_false")]
    pub pull: bool,
    /// `HOST=ADDRESS` lines for the steps' hosts file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<String>,
    /// Isolation technology of the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// Network of the steps: `default`, `none`, `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The stage to build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Secrets that steps may mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretUse>,
    /// Size of `/dev/shm` in steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<ByteSize>,
    /// Further names of the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Limits of the steps' processes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Platforms to build for; contains the service's `platform`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// Run steps with every capability.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// `x-*` keys.
    #[serde(skip)]
    pub extensions: Extensions,
}

impl Build {
    /// Whether the context comes from a network and is no folder.
    pub fn is_remote(&self) -> bool {
        self.context.as_deref().is_some_and(crate::compose::paths::is_remote_context)
    }
}

/// A secret given to a build.
pub type SecretUse = super::storage::FileUse;

/// `services.NAME.develop`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watch {
    /// What to do when files change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub watch: Vec<Trigger>,
    /// `x-*` keys.
    #[serde(skip)]
    pub extensions: Extensions,
}

/// One watched path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trigger {
    /// Absolute.
    pub path: String,
    /// What happens.
    pub action: WatchAction,
    /// Where files are copied to in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What to run in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Hook>,
    /// Patterns to watch alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Patterns to pass over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Copy everything once at the beginning.
    #[serde(skip_serializing_if = "is_false")]
    pub initial_sync: bool,
}

/// What a change sets off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchAction {
    /// Copy the files.
    #[default]
    #[serde(rename = "sync")]
    Sync,
    /// Build and recreate.
    #[serde(rename = "rebuild")]
    Rebuild,
    /// Restart.
    #[serde(rename = "restart")]
    Restart,
    /// Copy, then restart.
    #[serde(rename = "sync+restart")]
    SyncRestart,
    /// Copy, then run a command.
    #[serde(rename = "sync+exec")]
    SyncExec,
}
