//! Reading `docker save` archives and OCI layouts in a tar into the store.
//!
//! One pass: every file is kept, small ones in memory as well because they may be documents; what is a
//! config, a manifest or a layer shows only at the end. Files that turn out to be nothing stay in the
//! store until the collector takes them.

use std::collections::HashMap;
use std::io::{Read, Write};

use crate::base::digest::{BlobId, Digest};
use crate::store::Store;

use super::super::snapshot::keep;
use super::super::tarball::{Kind, Reader};
use super::super::{Descriptor, ImageConfig, Index, Manifest, OciError, Reference, decompressed, media};
use super::{CONTAINERD_NAME, SavedImage, blob_path};

/// The largest file that may be a document.
const LARGEST_DOCUMENT: u64 = 8 << 20;
/// How many links a name may lead through.
const MOST_LINKS: usize = 8;
/// How deep indexes may lie in one another.
const DEEPEST_INDEX: usize = 4;

/// An image that an archive has. All of it is in the store.
#[derive(Clone, Debug)]
pub struct ArchivedImage {
    /// Its names.
    pub tags: Vec<Reference>,
    /// Its manifest's descriptor; made here if the archive has none.
    pub manifest: Descriptor,
    /// Its manifest.
    pub parsed: Manifest,
    /// Its config.
    pub image: ImageConfig,
}

/// Takes every image of the archive that `reader` yields, plain or compressed, into the store.
pub fn read_archive(store: &Store, reader: &mut (dyn Read + Send)) -> Result<Vec<ArchivedImage>, OciError> {
    let (_, plain) = decompressed(reader)?;
    let files = Files::read(store, plain)?;
    let images = if files.documents.contains_key("index.json") {
        files.layout_images(store)?
    } else {
        files.saved_images(store)?
    };
    if images.is_empty() { Err(damaged("it has no image")) } else { Ok(images) }
}

fn damaged(problem: impl Into<String>) -> OciError {
    OciError::Archive { problem: problem.into() }
}

/// What the archive has, by path.
#[derive(Default)]
struct Files {
    blobs: HashMap<String, (Digest, u64)>,
    documents: HashMap<String, Vec<u8>>,
    links: HashMap<String, String>,
}

impl Files {
    fn read(store: &Store, plain: impl Read) -> Result<Self, OciError> {
        let unreadable = |source| OciError::Tar { what: "the archive", source };
        let mut files = Self::default();
        let mut reader = Reader::new(std::io::BufReader::with_capacity(1 << 17, plain));
        while let Some(member) = reader.next().map_err(unreadable)? {
            let path = clean(&String::from_utf8_lossy(&member.path), "");
            match &member.kind {
                Kind::File => {
                    let document = (member.size <= LARGEST_DOCUMENT).then(Vec::new);
                    files.file(store, path, &mut reader, document)?;
                }
                // `docker save` of old engines links layers that two images have.
                Kind::Symlink(target) => {
                    let target = clean(&String::from_utf8_lossy(target), &path);
                    files.links.insert(path, target);
                }
                Kind::HardLink(target) => {
                    files.links.insert(path, clean(&String::from_utf8_lossy(target), ""));
                }
                _ => {}
            }
        }
        Ok(files)
    }

    /// Keeps one file; what lies under a digest must have it.
    fn file(
        &mut self,
        store: &Store,
        path: String,
        reader: &mut dyn Read,
        mut document: Option<Vec<u8>>,
    ) -> Result<(), OciError> {
        let expected = path.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok());
        let mut blob = store.write_blob()?;
        let mut buffer = vec![0; 1 << 17];
        loop {
            let unreadable =
                |error: std::io::Error| OciError::Tar { what: "the archive", source: error.into() };
            let count = reader.read(&mut buffer).map_err(unreadable)?;
            if count == 0 {
                break;
            }
            let written = blob.write_all(&buffer[..count]);
            written.map_err(|source| OciError::Write { what: "a blob", source })?;
            if let Some(document) = &mut document {
                document.extend_from_slice(&buffer[..count]);
            }
        }
        let (id, size) = blob.finish(expected.map(BlobId))?;
        if let Some(document) = document {
            self.documents.insert(path.clone(), document);
        }
        self.blobs.insert(path, (id.0, size));
        Ok(())
    }

    /// The file that a name means, through links.
    fn resolve<'n>(&'n self, name: &'n str) -> &'n str {
        let mut name = name;
        for _ in 0..MOST_LINKS {
            match self.links.get(name) {
                Some(target) => name = target,
                None => break,
            }
        }
        name
    }

    fn document(&self, name: &str) -> Result<&[u8], OciError> {
        let found = self.documents.get(self.resolve(name));
        found.map(Vec::as_slice).ok_or_else(|| damaged(format!("`{name}` is missing in it")))
    }

    fn layout_images(&self, store: &Store) -> Result<Vec<ArchivedImage>, OciError> {
        let mut images: Vec<ArchivedImage> = Vec::new();
        let mut ahead: Vec<(Descriptor, Vec<Reference>, usize)> = Vec::new();
        let index: Index = parse("index.json", self.document("index.json")?)?;
        ahead.extend(index.manifests.into_iter().rev().map(|entry| (entry, Vec::new(), 0)));
        while let Some((entry, mut tags, depth)) = ahead.pop() {
            let name = entry.annotations.get(CONTAINERD_NAME);
            tags.extend(name.and_then(|name| Reference::parse(name).ok()));
            let path = blob_path(&entry.digest);
            if matches!(entry.media_type.as_str(), media::INDEX | media::DOCKER_INDEX) {
                if depth == DEEPEST_INDEX {
                    return Err(damaged("its indexes lie too deep in one another"));
                }
                let index: Index = parse(&path, self.document(&path)?)?;
                // Platforms that were not saved are only mentioned; attestations are no images.
                let here = |entry: &Descriptor| self.documents.contains_key(&blob_path(&entry.digest));
                let known = |entry: &Descriptor| entry.platform.as_ref().is_none_or(|p| p.os != "unknown");
                let inner = index.manifests.into_iter().filter(|entry| here(entry) && known(entry));
                ahead.extend(inner.map(|entry| (entry, tags.clone(), depth + 1)));
                continue;
            }
            if let Some(before) = images.iter_mut().find(|image| image.manifest.digest == entry.digest) {
                tags.retain(|tag| !before.tags.contains(tag));
                before.tags.extend(tags);
                continue;
            }
            images.push(self.layout_image(store, &entry, tags)?);
        }
        Ok(images)
    }

    fn layout_image(
        &self,
        store: &Store,
        entry: &Descriptor,
        tags: Vec<Reference>,
    ) -> Result<ArchivedImage, OciError> {
        let path = blob_path(&entry.digest);
        let bytes = self.document(&path)?;
        let parsed: Manifest = parse(&path, bytes)?;
        let config = blob_path(&parsed.config.digest);
        let image = config_of(&config, self.document(&config)?)?;
        for layer in &parsed.layers {
            // A layer may have been left out because the receiver has it.
            if !self.blobs.contains_key(&blob_path(&layer.digest)) && !store.has_blob(BlobId(layer.digest)) {
                return Err(OciError::MissingBlob(layer.digest));
            }
        }
        let manifest = Descriptor { annotations: Default::default(), ..entry.clone() };
        Ok(ArchivedImage { tags, manifest, parsed, image })
    }

    fn saved_images(&self, store: &Store) -> Result<Vec<ArchivedImage>, OciError> {
        let saved: Vec<SavedImage> = parse("manifest.json", self.document("manifest.json")?)?;
        saved.iter().map(|saved| self.saved_image(store, saved)).collect()
    }

    fn saved_image(&self, store: &Store, saved: &SavedImage) -> Result<ArchivedImage, OciError> {
        let bytes = self.document(&saved.config)?;
        let image = config_of(&saved.config, bytes)?;
        if image.rootfs.diff_ids.len() != saved.layers.len() {
            return Err(damaged(format!("`{}` has another number of layers", saved.config)));
        }
        let layers =
            saved.layers.iter().map(|path| self.saved_layer(store, path)).collect::<Result<_, _>>()?;
        let parsed = Manifest::new(Descriptor::of(media::CONFIG, bytes), layers);
        let document = parsed.to_json();
        let manifest = Descriptor::of(media::MANIFEST, &document);
        keep(store, &document, Some(manifest.digest))?;
        let tags = saved.repo_tags.iter().flatten();
        let tags = tags.map(|tag| Reference::parse(tag)).collect::<Result<_, _>>();
        Ok(ArchivedImage { tags: tags.map_err(|error| damaged(error.to_string()))?, manifest, parsed, image })
    }

    fn saved_layer(&self, store: &Store, path: &str) -> Result<Descriptor, OciError> {
        let found = self.blobs.get(self.resolve(path));
        let &(digest, size) = found.ok_or_else(|| damaged(format!("`{path}` is missing in it")))?;
        let blob = store.blob(BlobId(digest)).ok_or(OciError::MissingBlob(digest))?;
        let (encoding, _) = decompressed(blob)?;
        Ok(Descriptor::new(encoding.media_type(), digest, size))
    }
}

fn parse<'d, T: serde::Deserialize<'d>>(name: &str, bytes: &'d [u8]) -> Result<T, OciError> {
    serde_json::from_slice(bytes).map_err(|error| damaged(format!("`{name}` in it: {error}")))
}

fn config_of(name: &str, bytes: &[u8]) -> Result<ImageConfig, OciError> {
    ImageConfig::from_json(bytes).map_err(|error| damaged(format!("`{name}` in it: {error}")))
}

/// A path of the archive without `.` and `..`; a relative link is of the folder of `link`.
fn clean(path: &str, link: &str) -> String {
    let base =
        if path.starts_with('/') { "" } else { link.rsplit_once('/').map_or("", |(folder, _)| folder) };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
