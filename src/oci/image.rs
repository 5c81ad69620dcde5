//! Images as JSON: config, manifest, index, descriptor.
//!
//! [`ImageConfig`] is the document whose digest is the image ID. It has every field that BuildKit keeps;
//! what BuildKit drops from a base's config (`container_config`, `Hostname` …) is dropped here too.
//! [`ImageConfig::to_json`] writes the fields in the order in which BuildKit's exporter leaves them, with
//! empty ones left out. Documents of others are kept as bytes by whoever read them, because a digest is
//! of bytes; the types here are only for looking in. Timestamps stay texts for the same reason.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::base::digest::{DiffId, Digest};

use super::Platform;

/// Media types (OCI image-spec "media-types", Docker "manifest v2, schema 2").
pub mod media {
    /// An image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// A list of manifests, one a platform.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An image config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer as a plain tar.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer as a tar in gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer as a tar in zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's list of manifests.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer in gzip.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer as a plain tar.
    pub const DOCKER_LAYER_PLAIN: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker's layer in zstd.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
}

/// Says which bytes are meant (OCI image-spec, "descriptor").
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    pub media_type: String,
    /// Their digest.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Remarks.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: for which platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor without annotations and platform.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, annotations: BTreeMap::new(), platform: None }
    }

    /// The descriptor of `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }
}

/// An image of one platform: its config and its layers, bottom first (OCI image-spec, "manifest").
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Remarks.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// The OCI manifest of these pieces.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let (media_type, annotations) = (media::MANIFEST.to_owned(), BTreeMap::new());
        Self { schema_version: 2, media_type, config, layers, annotations }
    }

    /// Its bytes.
    pub fn to_json(&self) -> Vec<u8> {
        json(self)
    }
}

/// A list of manifests, one a platform (OCI image-spec, "image index").
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The OCI index of these manifests.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: media::INDEX.to_owned(), manifests }
    }

    /// Its bytes.
    pub fn to_json(&self) -> Vec<u8> {
        json(self)
    }
}

/// The image config (OCI image-spec "config", with Docker's additions).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Go's name of the processor.
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    /// Who made it (`MAINTAINER`).
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// What a container of it gets.
    #[serde(deserialize_with = "or_default")]
    pub config: ContainerConfig,
    /// When it was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// How it was made, oldest first.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Go's name of the system.
    #[serde(deserialize_with = "or_default")]
    pub os: String,
    /// What the system must offer.
    #[serde(rename = "os.features", deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// The system's version.
    #[serde(
        rename = "os.version",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// The layers.
    #[serde(deserialize_with = "or_default")]
    pub rootfs: RootFs,
    /// The processor's generation.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl ImageConfig {
    /// The config from which `FROM scratch` starts: a platform and nothing else. (BuildKit gives it a
    /// `PATH` and `WorkingDir: "/"`; that is the builder's decision.)
    pub fn empty(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Reads a config, fields that are `null` or missing being empty ones.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Its bytes; their digest is the image ID.
    pub fn to_json(&self) -> Vec<u8> {
        json(self)
    }

    /// The platform that it says it is for.
    pub fn platform(&self) -> Platform {
        let variant = Some(self.variant.as_str()).filter(|variant| !variant.is_empty());
        let mut platform = Platform::new(&self.os, &self.architecture, variant);
        platform.os_version = Some(self.os_version.clone()).filter(|version| !version.is_empty());
        platform
    }
}

/// What a container gets unless it is told otherwise. The field names are Docker's.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `user`, `uid`, `user:group` …
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`.
    #[serde(with = "set_as_map", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is run, before the command.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The command or the entrypoint's arguments.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Paths that get an anonymous volume.
    #[serde(with = "set_as_map", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Where the command starts.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM`, `9`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Whether the command is one escaped string; only Windows looks at it.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// How to see whether a container is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions that run first in a build that starts from this image.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// What shell-form instructions run in.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// How to see whether a container is well. Durations are nanoseconds; 0 inherits.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`; empty inherits.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// For one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// After the start, in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks in that time.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// How many failures in a row make it unwell.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// One line of an image's history.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which instruction.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// By whom.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// By which builder (BuildKit writes `buildkit.dockerfile.v0`).
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether it made no layer.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

/// The layers of a config, bottom first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    /// The digests of their plain tars.
    #[serde(deserialize_with = "or_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

impl RootFs {
    /// The chain IDs of its layers, bottom first: by them Docker's overlay2 store finds layers (OCI
    /// image-spec, "Layer ChainID").
    pub fn chain_ids(&self) -> Vec<Digest> {
        let mut chain: Vec<Digest> = Vec::with_capacity(self.diff_ids.len());
        for diff_id in &self.diff_ids {
            let next = chain.last().map_or(diff_id.0, |below| Digest::of(format!("{below} {diff_id}")));
            chain.push(next);
        }
        chain
    }
}

/// The text of a moment as image configs hold it: RFC 3339 in UTC, without trailing zeros of the fraction.
pub fn timestamp(seconds: i64, nanoseconds: u32) -> String {
    let moment = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let moment = OffsetDateTime::from_unix_timestamp_nanos(moment).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    moment.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

/// Whether the moment that `text` says in RFC 3339 is later than so many seconds after 1970. What cannot be
/// read is not.
pub fn is_later(text: &str, seconds: i64) -> bool {
    let latest = i128::from(seconds) * 1_000_000_000;
    OffsetDateTime::parse(text, &Rfc3339).is_ok_and(|moment| moment.unix_timestamp_nanos() > latest)
}

/// Bytes of a document that has only string keys, which cannot fail.
fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("maps have string keys and writing to memory succeeds")
}

/// `null` counts as the empty value, as in Go.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// A set that is written as a map to empty objects.
mod set_as_map {
    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|name| (name, serde_json::Map::new())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_written_as_buildkit_leaves_it() {
        let mut config = ImageConfig::empty(&Platform::new("linux", "amd64", None));
        config.config.env = vec!["PATH=/bin".into()];
        config.config.cmd = vec!["sh".into()];
        config.config.exposed_ports.insert("80/tcp".into());
        config.config.args_escaped = true;
        config.config.on_build = vec!["RUN x".into()];
        config.created = Some(timestamp(1, 500_000_000));
        config.history.push(History { created_by: "CMD".into(), empty_layer: true, ..History::default() });
        config.rootfs.diff_ids.push(DiffId(Digest::of("")));
        insta::assert_snapshot!(String::from_utf8(config.to_json()).unwrap(), @r#"{"architecture":"amd64","config":{"ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin"],"Cmd":["sh"],"ArgsEscaped":true,"OnBuild":["RUN x"]},"created":"1970-01-01T00:00:01.5Z","history":[{"created_by":"CMD","empty_layer":true}],"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#);
        assert_eq!(ImageConfig::from_json(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn nulls_and_foreign_fields_are_read() {
        let text = r#"{"os":"linux","architecture":"arm","variant":"v7","docker_version":"1",
            "container_config":{"Hostname":"h"},
            "config":{"Hostname":"","Env":null,"Cmd":["a"],"Volumes":null,"Entrypoint":null,"OnBuild":null,
            "Labels":null,"ExposedPorts":{"1/udp":{}},"Healthcheck":{"Test":["NONE"],"Interval":5}},
            "history":null,"rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ImageConfig::from_json(text.as_bytes()).unwrap();
        assert_eq!(config.config.cmd, ["a"]);
        assert_eq!(config.config.healthcheck.as_ref().unwrap().interval, 5);
        assert_eq!(config.platform().to_string(), "linux/arm/v7");
        assert!(!String::from_utf8(config.to_json()).unwrap().contains("ostname"));
    }

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let ids = |names: &[&str]| names.iter().map(|name| DiffId(Digest::of(name))).collect::<Vec<_>>();
        let rootfs = RootFs { diff_ids: ids(&["a", "b"]), ..RootFs::default() };
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        assert_eq!(rootfs.chain_ids(), [a, Digest::of(format!("{a} {b}"))]);
    }

    #[test]
    fn manifests_round_trip() {
        let manifest =
            Manifest::new(Descriptor::of(media::CONFIG, b"{}"), vec![Descriptor::of(media::LAYER, b"x")]);
        assert_eq!(serde_json::from_slice::<Manifest>(&manifest.to_json()).unwrap(), manifest);
        assert!(
            String::from_utf8(manifest.to_json()).unwrap().starts_with(r#"{"schemaVersion":2,"mediaType""#)
        );
    }
}
