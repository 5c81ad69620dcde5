//! Writing an archive for an engine, in one pass and without temporary files.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::base::digest::{Digest, DigestWriter};

use super::super::form::{Formed, ImageForm};
use super::super::tarball::{Kind, Member, Writer};
use super::super::{Descriptor, Index, OciError, Reference};
use super::{CONTAINERD_NAME, LAYOUT, REF_NAME, SavedImage, blob_path};

/// Writes a layer's bytes.
pub type LayerContent<'a> = Box<dyn Fn(&mut dyn Write) -> Result<(), OciError> + 'a>;

/// A layer of an image to be archived.
pub struct ArchiveLayer<'a> {
    /// Which bytes; for a layer that was built, its plain tar.
    pub descriptor: Descriptor,
    /// What writes them; `None` leaves them out because the engine has the layer.
    pub content: Option<LayerContent<'a>>,
}

/// An image to be archived.
pub struct ArchiveImage<'a> {
    /// Its config, byte for byte.
    pub config: Vec<u8>,
    /// Its names, each with a tag. An image without names is loaded untagged.
    pub tags: Vec<Reference>,
    /// Its layers, bottom first, as many as the config has diff IDs.
    pub layers: Vec<ArchiveLayer<'a>>,
    /// What its manifest looks like.
    pub form: ImageForm,
}

/// What an archive is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArchiveKind {
    /// An OCI layout and nothing else.
    Oci,
    /// An OCI layout that `docker load` takes as well, of every age.
    Docker,
}

/// What was written for an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrittenImage {
    /// Its manifest; by its digest the containerd image store knows the image.
    pub manifest: Descriptor,
    /// Its config; by its digest Docker's own store knows the image.
    pub config: Descriptor,
}

/// Writes an archive of `images`. Blobs that several of them have are written once. Fails if what a
/// content writes has not the digest and size of its descriptor.
pub fn write_archive(
    out: &mut dyn Write,
    images: &[ArchiveImage<'_>],
    kind: ArchiveKind,
) -> Result<Vec<WrittenImage>, OciError> {
    let mut archive =
        Archive { writer: Writer::new(io::BufWriter::with_capacity(1 << 17, out)), present: BTreeSet::new() };
    for folder in ["blobs/", "blobs/sha256/"] {
        archive.writer.append_bytes(&Member::new(folder, Kind::Directory), b"").map_err(written)?;
    }
    let (mut saved, mut manifests, mut result) = (Vec::new(), Vec::new(), Vec::new());
    for image in images {
        image.layers.iter().try_for_each(|layer| archive.layer(layer))?;
        let layers = image.layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let Formed { config, manifest, document } = image.form.manifest(&image.config, layers);
        archive.document(&config, &image.config)?;
        archive.document(&manifest, &document)?;
        saved.push(saved_image(image, &config));
        manifests.extend(named(&manifest, &image.tags));
        result.push(WrittenImage { manifest, config });
    }
    archive.file("index.json", &Index::new(manifests).to_json())?;
    if kind == ArchiveKind::Docker {
        let saved = serde_json::to_vec(&saved).expect("plain fields have a JSON form");
        archive.file("manifest.json", &saved)?;
    }
    archive.file("oci-layout", LAYOUT.as_bytes())?;
    archive.writer.finish().and_then(|mut out| out.flush()).map_err(written)?;
    Ok(result)
}

fn written(source: io::Error) -> OciError {
    OciError::Write { what: "the archive", source }
}

fn saved_image(image: &ArchiveImage<'_>, config: &Descriptor) -> SavedImage {
    let tags: Vec<_> = image.tags.iter().map(Reference::familiar).collect();
    SavedImage {
        config: blob_path(&config.digest),
        repo_tags: Some(tags).filter(|tags| !tags.is_empty()),
        layers: image.layers.iter().map(|layer| blob_path(&layer.descriptor.digest)).collect(),
        layer_sources: None,
    }
}

/// The index entries of an image: one a name, as the containerd image store wants them.
fn named(manifest: &Descriptor, tags: &[Reference]) -> Vec<Descriptor> {
    if tags.is_empty() {
        return vec![manifest.clone()];
    }
    let entry = |reference: &Reference| {
        let mut entry = manifest.clone();
        entry.annotations.insert(CONTAINERD_NAME.to_owned(), reference.to_string());
        if let Some(tag) = reference.tag() {
            entry.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
        }
        entry
    };
    tags.iter().map(entry).collect()
}

struct Archive<W: Write> {
    writer: Writer<W>,
    /// The blobs that are in already.
    present: BTreeSet<Digest>,
}

impl<W: Write> Archive<W> {
    fn layer(&mut self, layer: &ArchiveLayer<'_>) -> Result<(), OciError> {
        let Some(content) = &layer.content else { return Ok(()) };
        let Descriptor { digest, size, .. } = layer.descriptor;
        if !self.present.insert(digest) {
            return Ok(());
        }
        let member = Member { size, ..Member::new(blob_path(&digest), Kind::File) };
        let (mut failed, mut found) = (None, digest);
        let mut digested = |out: &mut dyn Write| {
            let mut writer = DigestWriter::new(out);
            if let Err(error) = content(&mut writer) {
                failed = Some(error);
                return Err(io::Error::other("the layer could not be written"));
            }
            found = writer.finish().1;
            Ok(())
        };
        let result = self.writer.append(&member, &mut digested);
        match failed {
            // The layer's own error says more than the archive's.
            Some(error) => return Err(error),
            None => result.map_err(written)?,
        }
        if size > 0 && found != digest {
            let what = format!("the layer {digest}");
            return Err(OciError::Mismatch { what, expected: digest, found });
        }
        Ok(())
    }

    fn document(&mut self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), OciError> {
        if self.present.insert(descriptor.digest) {
            self.file(&blob_path(&descriptor.digest), bytes)
        } else {
            Ok(())
        }
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), OciError> {
        self.writer.append_bytes(&Member::new(path, Kind::File), bytes).map_err(written)
    }
}
