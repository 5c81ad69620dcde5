//! Writing images for others: an archive in one pass and without temporary files, or an OCI layout as a
//! folder, beside the images that are in it already.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::base::digest::{Digest, DigestWriter};
use crate::base::fs::{AtPath, PathError, write_atomic};

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
    let writer = Writer::new(io::BufWriter::with_capacity(1 << 17, out));
    let mut archive = Archive { sink: Tar { writer }, present: BTreeSet::new() };
    for folder in ["blobs/", "blobs/sha256/"] {
        archive.sink.writer.append_bytes(&Member::new(folder, Kind::Directory), b"").map_err(written)?;
    }
    let (saved, manifests, result) = archive.images(images)?;
    archive.file("index.json", &Index::new(manifests).to_json())?;
    if kind == ArchiveKind::Docker {
        let saved = serde_json::to_vec(&saved).expect("plain fields have a JSON form");
        archive.file("manifest.json", &saved)?;
    }
    archive.file("oci-layout", LAYOUT.as_bytes())?;
    archive.sink.writer.finish().and_then(|mut out| out.flush()).map_err(written)?;
    Ok(result)
}

/// Writes `images` into the OCI layout in `folder`, which is made if it is missing. Images that it has keep
/// their place, but for those of the same names.
pub fn write_layout(folder: &Path, images: &[ArchiveImage<'_>]) -> Result<Vec<WrittenImage>, OciError> {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).at_path("create", &blobs)?;
    let sink = Layout { folder: folder.to_owned() };
    let mut archive = Archive { sink, present: BTreeSet::new() };
    let (_, manifests, result) = archive.images(images)?;
    let path = folder.join("index.json");
    let before = match std::fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice::<Index>(&bytes)
                .map_err(|error| OciError::Archive { problem: format!("{}: {error}", path.display()) })?
                .manifests
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(PathError::new("read", path, error).into()),
    };
    let index = Index::new(beside(before, manifests));
    archive.file("oci-layout", LAYOUT.as_bytes())?;
    write_atomic(&path, &index.to_json())?;
    Ok(result)
}

/// The entries of an index with new ones, which take the place of those of the same name.
fn beside(before: Vec<Descriptor>, new: Vec<Descriptor>) -> Vec<Descriptor> {
    let names = |entry: &Descriptor| {
        let name = |key: &str| entry.annotations.get(key).cloned();
        (name(CONTAINERD_NAME), name(REF_NAME))
    };
    let same = |one: &Descriptor, other: &Descriptor| match (names(one), names(other)) {
        ((None, None), (None, None)) => one.digest == other.digest,
        // Others name an image by its tag alone.
        ((Some(name), _), (Some(other), _)) => name == other,
        ((_, tag), (_, other)) => tag.is_some() && tag == other,
    };
    let kept = before.into_iter().filter(|entry| !new.iter().any(|new| same(entry, new)));
    kept.chain(new.iter().cloned()).collect()
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

/// Takes the files of a layout.
trait Sink {
    /// Writes a file; `content` writes exactly `size` bytes.
    fn file(
        &mut self,
        path: &str,
        size: u64,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()>;
}

/// Into a tar.
struct Tar<W> {
    writer: Writer<W>,
}

impl<W: Write> Sink for Tar<W> {
    fn file(
        &mut self,
        path: &str,
        size: u64,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.writer.append(&Member { size, ..Member::new(path, Kind::File) }, content)
    }
}

/// Into a folder.
struct Layout {
    folder: PathBuf,
}

impl Sink for Layout {
    fn file(
        &mut self,
        path: &str,
        size: u64,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = self.folder.join(path);
        let is_there = std::fs::metadata(&path).is_ok_and(|found| found.len() == size);
        if is_there && path.starts_with(self.folder.join("blobs")) {
            return Ok(());
        }
        let unfinished = path.with_extension("unfinished");
        let mut file = io::BufWriter::with_capacity(1 << 17, File::create(&unfinished)?);
        let written = content(&mut file).and_then(|()| file.flush());
        let finished = written.and_then(|()| std::fs::rename(&unfinished, &path));
        if finished.is_err() {
            // The first error says more than one about the rest of it.
            let _ = std::fs::remove_file(&unfinished);
        }
        finished
    }
}

/// What [`Archive::images`] wrote: entries of `manifest.json`, of the index, and what is told.
type Written = (Vec<SavedImage>, Vec<Descriptor>, Vec<WrittenImage>);

struct Archive<S> {
    sink: S,
    /// The blobs that are in already.
    present: BTreeSet<Digest>,
}

impl<S: Sink> Archive<S> {
    /// Writes the blobs of images.
    fn images(&mut self, images: &[ArchiveImage<'_>]) -> Result<Written, OciError> {
        let (mut saved, mut manifests, mut result) = (Vec::new(), Vec::new(), Vec::new());
        for image in images {
            image.layers.iter().try_for_each(|layer| self.layer(layer))?;
            let layers = image.layers.iter().map(|layer| layer.descriptor.clone()).collect();
            let Formed { config, manifest, document } = image.form.manifest(&image.config, layers);
            self.document(&config, &image.config)?;
            self.document(&manifest, &document)?;
            saved.push(saved_image(image, &config));
            manifests.extend(named(&manifest, &image.tags));
            result.push(WrittenImage { manifest, config });
        }
        Ok((saved, manifests, result))
    }

    fn layer(&mut self, layer: &ArchiveLayer<'_>) -> Result<(), OciError> {
        let Some(content) = &layer.content else { return Ok(()) };
        let Descriptor { digest, size, .. } = layer.descriptor;
        if !self.present.insert(digest) {
            return Ok(());
        }
        let (mut failed, mut found) = (None, None);
        let mut digested = |out: &mut dyn Write| {
            let mut writer = DigestWriter::new(out);
            if let Err(error) = content(&mut writer) {
                failed = Some(error);
                return Err(io::Error::other("the layer could not be written"));
            }
            found = Some(writer.finish().1);
            Ok(())
        };
        let result = self.sink.file(&blob_path(&digest), size, &mut digested);
        match failed {
            // The layer's own error says more than the archive's.
            Some(error) => return Err(error),
            None => result.map_err(written)?,
        }
        match found {
            Some(found) if found != digest => {
                Err(OciError::Mismatch { what: format!("the layer {digest}"), expected: digest, found })
            }
            _ => Ok(()),
        }
    }

    fn document(&mut self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), OciError> {
        if self.present.insert(descriptor.digest) {
            self.file(&blob_path(&descriptor.digest), bytes)
        } else {
            Ok(())
        }
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), OciError> {
        self.sink.file(path, bytes.len() as u64, &mut |out| out.write_all(bytes)).map_err(written)
    }
}
