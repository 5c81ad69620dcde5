//! An image as others take it: config, packed layers, manifest.
//!
//! Layers become blobs of the store first, several at a time: a manifest needs their digests, an archive
//! their sizes, and a registry is asked for them by digest.

use std::io::Write;

use rayon::prelude::*;

use super::super::Builder;
use super::super::error::BuildError;
use super::super::export::{self, Exported};
use super::super::resolve;
use super::{Archive, Delivered, Layout, Package, Place};
use crate::base::digest::BlobId;
use crate::base::fs::AtPath;
use crate::oci::{
    self, ArchiveImage, ArchiveKind, ArchiveLayer, Descriptor, Formed, ImageConfig, ImageForm, OciError,
    write_archive, write_layout,
};

/// The annotation that says when an image was made (OCI image-spec, "annotations").
const CREATED: &str = "org.opencontainers.image.created";

/// An image whose pieces are all blobs of the store, but for config and manifest.
pub(super) struct Packed {
    /// Its config.
    pub(super) config: Vec<u8>,
    /// Its layers with OCI media types, bottom first.
    pub(super) layers: Vec<Descriptor>,
    /// What its manifest looks like.
    pub(super) form: ImageForm,
}

impl Packed {
    /// The manifest of the image.
    pub(super) fn formed(&self) -> Formed {
        self.form.manifest(&self.config, self.layers.clone())
    }
}

/// Packs the layers of an image.
pub(super) fn packed(
    builder: &Builder<'_>,
    image: &Exported,
    package: &Package,
) -> Result<Packed, BuildError> {
    let config = resolve::read_blob(builder, image.id)?.ok_or_else(|| export::vanished(builder))?;
    let form = form(package, &config);
    if let Some(found) = &image.elsewhere {
        return Ok(Packed { config, layers: found.blobs(), form });
    }
    let chain = export::chain(builder, image.result)?;
    let options = image.layer_options();
    let layers = (0..chain.len()).into_par_iter().map(|index| {
        if builder.cancel.is_cancelled() {
            return Err(OciError::Cancelled);
        }
        let lower = || export::below(builder, &chain, index);
        oci::packed_layer(builder.store, &chain[index], lower, &options, &package.packing)
    });
    let layers = layers.collect::<Result<Vec<_>, OciError>>()?;
    Ok(Packed { config, layers, form })
}

/// What the manifest of an image with this config looks like.
fn form(package: &Package, config: &[u8]) -> ImageForm {
    let mut form = package.form.clone();
    let created = ImageConfig::from_json(config).ok().and_then(|config| config.created);
    if let Some(created) = created.and_then(|created| whole_seconds(&created)) {
        form.descriptor_annotations.entry(CREATED.to_owned()).or_insert(created);
    }
    form
}

/// Writes an image as an archive.
pub(super) fn archive(
    builder: &Builder<'_>,
    image: &Exported,
    archive: &Archive,
    stdout: &mut dyn Write,
) -> Result<Delivered, BuildError> {
    let Archive { kind, place, names, package } = archive;
    let image = Exported { names: names.clone(), ..image.clone() };
    let formed = archives(builder, std::slice::from_ref(&image), *kind, package, place, stdout)?;
    Ok(formed.into_iter().next().map_or_else(Delivered::default, |formed| delivered(formed, names.clone())))
}

/// Writes images, each under its names, as one archive; their manifests.
pub(super) fn archives(
    builder: &Builder<'_>,
    images: &[Exported],
    kind: ArchiveKind,
    package: &Package,
    place: &Place,
    stdout: &mut dyn Write,
) -> Result<Vec<Formed>, BuildError> {
    let packed = images.iter().map(|image| packed(builder, image, package)).collect::<Result<Vec<_>, _>>()?;
    let archived: Vec<_> =
        images.iter().zip(&packed).map(|(image, packed)| archived(builder, &image.names, packed)).collect();
    place.write(stdout, builder.cancel, |out| Ok(write_archive(out, &archived, kind)?))?;
    Ok(packed.iter().map(Packed::formed).collect())
}

/// Writes an image into an OCI layout.
pub(super) fn layout(
    builder: &Builder<'_>,
    image: &Exported,
    layout: &Layout,
) -> Result<Delivered, BuildError> {
    let packed = packed(builder, image, &layout.package)?;
    write_layout(&layout.folder, &[archived(builder, &layout.names, &packed)])?;
    Ok(delivered(packed.formed(), layout.names.clone()))
}

fn archived<'a>(builder: &'a Builder<'_>, names: &[oci::Reference], packed: &Packed) -> ArchiveImage<'a> {
    ArchiveImage {
        config: packed.config.clone(),
        tags: names.to_vec(),
        layers: packed.layers.iter().map(|layer| archived_layer(builder, layer.clone())).collect(),
        form: packed.form.clone(),
    }
}

fn archived_layer<'a>(builder: &'a Builder<'_>, layer: Descriptor) -> ArchiveLayer<'a> {
    let (descriptor, digest) = (layer.clone(), layer);
    let content = move |out: &mut dyn Write| write_blob(builder, &digest, out);
    ArchiveLayer { descriptor, content: Some(Box::new(content)) }
}

/// What is said of an image that was given away.
pub(super) fn delivered(formed: Formed, names: Vec<oci::Reference>) -> Delivered {
    Delivered { manifest: Some(formed.manifest), config: Some(formed.config.digest), names }
}

fn write_blob(builder: &Builder<'_>, layer: &Descriptor, out: &mut dyn Write) -> Result<(), OciError> {
    let id = BlobId(layer.digest);
    let mut blob = builder.store.blob(id).ok_or(OciError::MissingBlob(layer.digest))?;
    std::io::copy(&mut blob, out).at_path("read", builder.store.blob_path(id))?;
    Ok(())
}

/// A moment as annotations have it: without fractions of a second.
fn whole_seconds(created: &str) -> Option<String> {
    let (whole, _) = created.split_once('.').unwrap_or((created.strip_suffix('Z')?, ""));
    Some(format!("{whole}Z"))
}

#[cfg(test)]
mod tests {
    use super::whole_seconds;

    #[test]
    fn moments_lose_their_fractions() {
        for text in ["2026-11-22T17:30:06.152028995Z", "2026-11-22T17:30:06Z"] {
            assert_eq!(whole_seconds(text).as_deref(), Some("2026-11-22T17:30:06Z"));
        }
        assert_eq!(whole_seconds("yesterday"), None);
    }
}
