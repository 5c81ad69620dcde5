//! OCI layouts in a folder: an image of one, taken into the store.
//!
//! The index says which images there are (OCI image-spec, "image layout"); a digest, else a tag, else the
//! only one is chosen. Documents are read each time, layers copied once, all of them verified.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::base::digest::{BlobId, Digest};
use crate::base::fs::AtPath;
use crate::store::Store;

use super::super::{Descriptor, ImageConfig, Index, Manifest, OciError, Platform, media};

/// The annotation of an index' entry that names it.
const TAG: &str = "org.opencontainers.image.ref.name";
/// The same by containerd, with the whole name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The largest document that is read.
const LARGEST_DOCUMENT: u64 = 8 << 20;
/// How deep indexes may lie in one another.
const DEEPEST_INDEX: usize = 4;

/// The image that a layout has under a digest or tag: its config and layers. The layers are in the store
/// afterwards.
pub fn read_layout(
    store: &Store,
    folder: &Path,
    tag: Option<&str>,
    digest: Option<Digest>,
    platform: &Platform,
) -> Result<(ImageConfig, Vec<Descriptor>), OciError> {
    let layout = Layout { folder };
    let index: Index = layout.parse(&folder.join("index.json"), None)?;
    let entry = match digest {
        Some(digest) => Descriptor::new(media::INDEX, digest, 0),
        None => layout.tagged(index, tag)?,
    };
    let manifest = layout.manifest(&entry, platform, 0)?;
    let config = layout.parse(&layout.blob(manifest.config.digest), Some(manifest.config.digest))?;
    for layer in &manifest.layers {
        layout.keep(store, layer.digest)?;
    }
    Ok((config, manifest.layers))
}

struct Layout<'l> {
    folder: &'l Path,
}

impl Layout<'_> {
    fn unusable(&self, problem: impl std::fmt::Display) -> OciError {
        OciError::Archive { problem: format!("{}: {problem}", self.folder.display()) }
    }

    fn blob(&self, digest: Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    /// A document, which must have the digest if one is given.
    fn parse<T: DeserializeOwned>(&self, path: &Path, digest: Option<Digest>) -> Result<T, OciError> {
        let mut bytes = Vec::new();
        let file = File::open(path).at_path("open", path)?;
        file.take(LARGEST_DOCUMENT).read_to_end(&mut bytes).at_path("read", path)?;
        let found = Digest::of(&bytes);
        if let Some(expected) = digest.filter(|expected| *expected != found) {
            return Err(OciError::Mismatch { what: path.display().to_string(), expected, found });
        }
        serde_json::from_slice(&bytes).map_err(|error| self.unusable(format!("{}: {error}", path.display())))
    }

    /// The entry of a tag; without one `latest`, else the only entry.
    fn tagged(&self, index: Index, tag: Option<&str>) -> Result<Descriptor, OciError> {
        let named = |entry: &Descriptor, tag: &str| {
            let whole = entry.annotations.get(CONTAINERD_NAME).and_then(|name| name.rsplit_once(':'));
            entry.annotations.get(TAG).is_some_and(|name| name == tag)
                || whole.is_some_and(|(_, name)| name == tag)
        };
        let wanted = tag.unwrap_or("latest");
        if let Some(entry) = index.manifests.iter().find(|entry| named(entry, wanted)) {
            return Ok(entry.clone());
        }
        match (tag, index.manifests.as_slice()) {
            (None, [only]) => Ok(only.clone()),
            _ => Err(self.unusable(format!("it has no image `{wanted}`"))),
        }
    }

    /// The manifest that a descriptor leads to, for the platform.
    fn manifest(&self, entry: &Descriptor, platform: &Platform, depth: usize) -> Result<Manifest, OciError> {
        let path = self.blob(entry.digest);
        let document: serde_json::Value = self.parse(&path, Some(entry.digest))?;
        if document.get("manifests").is_none() {
            return serde_json::from_value(document).map_err(|error| self.unusable(error));
        }
        if depth == DEEPEST_INDEX {
            return Err(self.unusable("its indexes lie too deep in one another"));
        }
        let index: Index = serde_json::from_value(document).map_err(|error| self.unusable(error))?;
        let entries: Vec<_> =
            index.manifests.into_iter().filter_map(|entry| Some((entry.platform.clone()?, entry))).collect();
        match platform.best(entries.iter().map(|(platform, _)| platform)) {
            Some(best) => self.manifest(&entries[best].1, platform, depth + 1),
            None => Err(self.unusable(format!("it has no image for {platform}"))),
        }
    }

    /// Copies a blob into the store unless it is there.
    fn keep(&self, store: &Store, digest: Digest) -> Result<(), OciError> {
        if store.has_blob(BlobId(digest)) {
            return Ok(());
        }
        let path = self.blob(digest);
        let mut file = File::open(&path).at_path("open", &path)?;
        let mut blob = store.write_blob()?;
        std::io::copy(&mut file, &mut blob).at_path("read", &path)?;
        blob.flush().at_path("write", &path)?;
        blob.finish(Some(BlobId(digest)))?;
        Ok(())
    }
}
