//! Images as an engine sees them, and the engine's own identity. Plain data.

use serde::{Deserialize, Serialize};

use crate::base::digest::{DiffId, Digest};

/// Which engine this is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The engine's own id: what was handed over to it is remembered under this.
    pub id: String,
    /// How it keeps images, which decides what an archive may leave out.
    pub store: ImageStore,
    /// The driver that stacks its layers, as it calls it: `overlay2`.
    pub driver: String,
    /// The engine's version: `20.10.24`.
    pub version: String,
    /// `linux`.
    pub os: String,
    /// The architecture as images name it: `amd64`, `arm64`.
    pub architecture: String,
}

/// How an engine keeps images.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageStore {
    /// Docker's own store (overlay2 and other graph drivers): layers are looked up by chain id, so an
    /// archive may omit a prefix of the chain that is there. An image's id is its config's digest.
    Graph,
    /// Docker with containerd's store: blobs by digest. An image's id is its manifest's or index's digest.
    Containerd,
    /// Podman: wants complete archives.
    Podman,
}

/// One image of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Its id.
    pub id: Digest,
    /// Its names with tags, as the engine shows them: `redis:3.2`. Empty for an image without a name.
    pub tags: Vec<String>,
    /// Names with the digests under which registries know it: `redis@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// When it was made, in Unix seconds.
    pub created: i64,
    /// Bytes on disk.
    pub size: u64,
}

/// One image in full.
#[derive(Clone, PartialEq, Debug)]
pub struct ImageDetails {
    /// Its id.
    pub id: Digest,
    /// Its names with tags.
    pub tags: Vec<String>,
    /// Names with the digests under which registries know it.
    pub repo_digests: Vec<String>,
    /// The diff IDs of its layers, the lowest first (`RootFS.Layers`).
    pub diff_ids: Vec<DiffId>,
    /// When it was made, as RFC 3339, where the image says so.
    pub created: Option<String>,
    /// When this engine last gave it a name, as RFC 3339.
    pub tagged: Option<String>,
    /// Who made it, where the image says so.
    pub author: Option<String>,
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// `v8`, where the image has one.
    pub variant: Option<String>,
    /// The `config` object of the image config as the engine gives it (keys `Env`, `Cmd`, `Entrypoint`,
    /// `Healthcheck`, `Volumes` …); what is not set is not there.
    pub config: serde_json::Value,
    /// Bytes on disk.
    pub size: u64,
}

impl ImageDetails {
    /// The paths that the image declares as volumes, sorted.
    pub fn volumes(&self) -> Vec<String> {
        let mut paths: Vec<String> = match self.config.get("Volumes") {
            Some(serde_json::Value::Object(paths)) => paths.keys().cloned().collect(),
            _ => Vec::new(),
        };
        paths.sort();
        paths
    }

    /// Whether the image says how to check a container's health.
    pub fn has_healthcheck(&self) -> bool {
        let test = self.config.get("Healthcheck").and_then(|check| check.get("Test"));
        let first = test.and_then(|test| test.get(0)).and_then(serde_json::Value::as_str);
        first.is_some_and(|first| first != "NONE")
    }
}

/// What the engine said about an archive that it loaded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// Names of the images that it made, as it printed them.
    pub names: Vec<String>,
    /// Ids of images that it made without a name.
    pub ids: Vec<String>,
}

/// A user's access to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Password {
        /// The user's name.
        user: String,
        /// The password or access token.
        password: String,
    },
    /// An identity token.
    Token(String),
    /// A token for the registry itself.
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    /// Says the kind only: a secret never reaches a log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Password { .. } => "Credentials::Password(…)",
            Self::Token(_) => "Credentials::Token(…)",
            Self::Bearer(_) => "Credentials::Bearer(…)",
        })
    }
}
