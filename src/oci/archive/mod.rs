//! Images as one tar: what `docker load` takes, what `docker save` gives, OCI layouts in a tar.
//!
//! [`write_archive`] writes both forms into one archive, an OCI layout and a `manifest.json` that points
//! at the same blobs: old engines read the second, the containerd image store and Podman the first.
//! [`read_archive`] takes either form into the store. [`NamedLayout`] keeps documents of any meaning in a layout.
//! Nothing here asks an engine anything.

mod layout;
mod named;
mod read;
mod write;

pub use layout::read_layout;
pub use named::NamedLayout;
pub use read::{ArchivedImage, read_archive};
pub use write::{
    ArchiveImage, ArchiveKind, ArchiveLayer, LayerContent, WrittenImage, write_archive, write_layout,
};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an OCI layout's `oci-layout` file says (OCI image-spec, "image layout").
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The annotation by which containerd names an image.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The annotation of an image's tag in an OCI layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An entry of `manifest.json` (Docker image specification v1.2).
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    /// For layers in another form than their plain tar: what they are, by diff ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer_sources: Option<BTreeMap<String, super::Descriptor>>,
}

/// Where an OCI layout has a blob.
fn blob_path(digest: &crate::base::digest::Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

#[cfg(test)]
mod tests;
