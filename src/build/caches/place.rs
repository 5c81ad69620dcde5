//! The two kinds of places that keep entries: a repository, and an OCI layout in a folder.
//!
//! A [`Place`] gives and takes documents by name and blobs by digest. A folder's index is read once and
//! written once, in [`Place::finish`], under a lock and on top of what others wrote meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::super::Builder;
use crate::base::digest::{BlobId, Digest};
use crate::base::fs::{AtPath, FileLock, write_atomic};
use crate::graph::CachePlace;
use crate::oci::{Descriptor, Index, Manifest, OciError, Reference, Registry, Sent, Upload};
use crate::store::Stamp;

/// The annotation that names what an index lists (OCI image-spec, "pre-defined annotation keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation that says on which day since 1970 an entry was last of use.
const USED: &str = "dev.shipway.cache.used";
/// After how many days without use a folder's entry goes.
const KEPT_DAYS: u64 = 14;
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// An open place.
pub(super) struct Place {
    pub(super) place: CachePlace,
    folder: Option<Folder>,
}

/// A layout in a folder.
struct Folder {
    path: PathBuf,
    /// Documents by their names.
    index: OnceLock<BTreeMap<String, Descriptor>>,
    /// What this run used or put there.
    touched: Mutex<BTreeMap<String, Descriptor>>,
}

impl Place {
    pub(super) fn open(place: &CachePlace) -> Self {
        let folder = match place {
            CachePlace::Registry(_) => None,
            CachePlace::Folder(path, _) => {
                Some(Folder { path: path.clone(), index: OnceLock::new(), touched: Mutex::default() })
            }
        };
        Self { place: place.clone(), folder }
    }

    /// The document of this name, byte for byte.
    pub(super) fn document(&self, builder: &Builder<'_>, name: &str) -> Result<Option<Vec<u8>>, OciError> {
        match (&self.place, &self.folder) {
            (CachePlace::Registry(reference), _) => {
                registry(builder)?.document(&tagged(reference, name)?, builder.cancel)
            }
            (_, Some(folder)) => folder.document(name),
            (CachePlace::Folder(..), None) => Ok(None),
        }
    }

    /// Brings blobs into the store.
    pub(super) fn fetch(&self, builder: &Builder<'_>, blobs: &[&Descriptor]) -> Result<(), OciError> {
        match (&self.place, &self.folder) {
            (CachePlace::Registry(reference), _) => {
                let (store, events, cancel) = (builder.store, builder.events, builder.cancel);
                registry(builder)?.fetch_blobs(store, reference, blobs, events, cancel)
            }
            (_, Some(folder)) => blobs.iter().try_for_each(|blob| folder.fetch(builder, blob)),
            (CachePlace::Folder(..), None) => Ok(()),
        }
    }

    /// Makes sure that a blob is there.
    pub(super) fn upload(&self, builder: &Builder<'_>, upload: &Upload<'_>) -> Result<Sent, OciError> {
        match (&self.place, &self.folder) {
            (CachePlace::Registry(reference), _) => {
                let (store, events, cancel) = (builder.store, builder.events, builder.cancel);
                registry(builder)?.upload(store, reference, upload, events, cancel)
            }
            (_, Some(folder)) => folder.upload(builder, upload),
            (CachePlace::Folder(..), None) => Ok(Sent::There),
        }
    }

    /// Puts a document under a name; what it names is there.
    pub(super) fn put(
        &self,
        builder: &Builder<'_>,
        name: &str,
        document: (&Descriptor, &[u8]),
    ) -> Result<(), OciError> {
        match (&self.place, &self.folder) {
            (CachePlace::Registry(reference), _) => {
                registry(builder)?.put_document(&tagged(reference, name)?, document, builder.cancel)
            }
            (_, Some(folder)) => folder.put(name, document),
            (CachePlace::Folder(..), None) => Ok(()),
        }
    }

    /// Writes down what was used and what is new; entries that were of no use for long go.
    pub(super) fn finish(&self) -> Result<(), OciError> {
        self.folder.as_ref().map_or(Ok(()), Folder::finish)
    }

    /// The repository, if it is one.
    pub(super) const fn repository(&self) -> Option<&Reference> {
        match &self.place {
            CachePlace::Registry(reference) => Some(reference),
            CachePlace::Folder(..) => None,
        }
    }
}

fn registry<'b>(builder: &'b Builder<'_>) -> Result<&'b Registry, OciError> {
    match builder.registries {
        Some(registries) => registries.get(),
        None => Err(OciError::Cancelled),
    }
}

fn tagged(reference: &Reference, name: &str) -> Result<Reference, OciError> {
    reference
        .with_tag(name)
        .map_err(|error| OciError::Registry { reference: reference.familiar(), problem: error.to_string() })
}

impl Folder {
    fn blob(&self, digest: Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    fn index(&self) -> &BTreeMap<String, Descriptor> {
        self.index.get_or_init(|| named(read_index(&self.path)))
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, OciError> {
        let Some(descriptor) = self.index().get(name) else { return Ok(None) };
        let path = self.blob(descriptor.digest);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at_path("read", path)?,
        };
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            let what = format!("the file {}", path.display());
            return Err(OciError::Mismatch { what, expected: descriptor.digest, found });
        }
        self.touch(name, descriptor.clone());
        Ok(Some(bytes))
    }

    fn fetch(&self, builder: &Builder<'_>, blob: &Descriptor) -> Result<(), OciError> {
        let path = self.blob(blob.digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(OciError::MissingBlob(blob.digest));
            }
            Err(error) => return Err(error).at_path("open", path)?,
        };
        let mut into = builder.store.write_blob()?;
        std::io::copy(&mut file, &mut into).at_path("read", path)?;
        into.finish(Some(BlobId(blob.digest)))?;
        Ok(())
    }

    fn upload(&self, builder: &Builder<'_>, upload: &Upload<'_>) -> Result<Sent, OciError> {
        let digest = upload.descriptor.digest;
        let path = self.blob(digest);
        if std::fs::metadata(&path).is_ok_and(|stat| stat.len() == upload.descriptor.size) {
            return Ok(Sent::There);
        }
        match upload.bytes {
            Some(bytes) => write(&path, &mut &*bytes)?,
            None => {
                let mut blob = builder.store.blob(BlobId(digest)).ok_or(OciError::MissingBlob(digest))?;
                write(&path, &mut blob)?;
            }
        }
        Ok(Sent::Uploaded)
    }

    fn put(&self, name: &str, (descriptor, bytes): (&Descriptor, &[u8])) -> Result<(), OciError> {
        write(&self.blob(descriptor.digest), &mut &*bytes)?;
        self.touch(name, descriptor.clone());
        Ok(())
    }

    fn touch(&self, name: &str, descriptor: Descriptor) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), descriptor);
    }

    fn finish(&self) -> Result<(), OciError> {
        let touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        if touched.is_empty() {
            return Ok(());
        }
        let _lock = FileLock::exclusive(&self.path.join(".lock"))?;
        let today = Stamp::now().seconds / 86400;
        let mut all = named(read_index(&self.path));
        for (name, mut descriptor) in touched {
            descriptor.annotations =
                [(REF_NAME.to_owned(), name.clone()), (USED.to_owned(), today.to_string())]
                    .into_iter()
                    .collect();
            all.insert(name, descriptor);
        }
        let before = all.len();
        all.retain(|_, descriptor| is_kept(descriptor, today));
        write_atomic(&self.path.join("oci-layout"), LAYOUT.as_bytes())?;
        let kept = all.len();
        let index = Index::new(all.into_values().collect());
        write_atomic(&self.path.join("index.json"), &index.to_json())?;
        if kept < before {
            self.sweep(&index);
        }
        Ok(())
    }

    /// Removes blobs that nothing names. Best effort: what cannot be removed is removed the next time.
    fn sweep(&self, index: &Index) {
        let mut named: BTreeSet<String> = BTreeSet::new();
        for descriptor in &index.manifests {
            named.insert(descriptor.digest.hex());
            let Ok(bytes) = std::fs::read(self.blob(descriptor.digest)) else { return };
            let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return };
            named.extend(manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest.hex()));
        }
        for file in std::fs::read_dir(self.path.join("blobs/sha256")).into_iter().flatten().flatten() {
            if !file.file_name().to_str().is_some_and(|name| named.contains(name)) {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }
}

/// Whether an entry of a folder is still kept on this day; those of other programs always are.
fn is_kept(descriptor: &Descriptor, today: u64) -> bool {
    let used = descriptor.annotations.get(USED).and_then(|day| day.parse::<u64>().ok());
    used.is_none_or(|used| used + KEPT_DAYS >= today)
}

/// The index of a layout; what cannot be read is empty.
fn read_index(folder: &Path) -> Index {
    let bytes = std::fs::read(folder.join("index.json")).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_else(|_| Index::new(Vec::new()))
}

/// What an index lists, by name; what has none stays under its digest.
fn named(index: Index) -> BTreeMap<String, Descriptor> {
    let name = |entry: &Descriptor| {
        entry.annotations.get(REF_NAME).cloned().unwrap_or_else(|| entry.digest.to_string())
    };
    index.manifests.into_iter().map(|entry| (name(&entry), entry)).collect()
}

/// Writes a blob under its name, whole or not at all.
fn write(path: &Path, content: &mut dyn std::io::Read) -> Result<(), OciError> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).at_path("create", folder)?;
    let mut file = tempfile_in(folder)?;
    std::io::copy(content, &mut file.1).at_path("write", &file.0)?;
    file.1.flush().at_path("write", &file.0)?;
    std::fs::rename(&file.0, path).at_path("create", path)?;
    Ok(())
}

/// A new file beside the blobs; the sweep removes it if its writer dies.
fn tempfile_in(folder: &Path) -> Result<(PathBuf, File), OciError> {
    let path = folder.join(format!(".{}", crate::base::digest::ResultId::fresh().0.hex()));
    let file = File::create_new(&path).at_path("create", &path)?;
    Ok((path, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media;

    #[test]
    fn entries_go_after_two_weeks_without_use() {
        let used = |day: u64| {
            let mut entry = Descriptor::of(media::MANIFEST, b"x");
            entry.annotations.insert(USED.to_owned(), day.to_string());
            entry
        };
        assert!(is_kept(&used(100), 114) && !is_kept(&used(100), 115));
        assert!(is_kept(&Descriptor::of(media::MANIFEST, b"x"), 1000));
    }

    #[test]
    fn a_folder_keeps_what_others_wrote_and_drops_what_nothing_names() {
        let folder = tempfile::tempdir().unwrap();
        let place = CachePlace::Folder(folder.path().to_owned(), "t".to_owned());
        let put = |name: &str, text: &str| {
            let place = Place::open(&place);
            let form = crate::oci::ImageForm::default();
            let formed = form.manifest(text.as_bytes(), Vec::new());
            let open = place.folder.as_ref().unwrap();
            write(&open.blob(formed.config.digest), &mut text.as_bytes()).unwrap();
            open.put(name, (&formed.manifest, &formed.document)).unwrap();
            place.finish().unwrap();
            formed.manifest
        };
        let (one, other) = (put("one", "1"), put("other", "2"));
        let names: Vec<String> = named(read_index(folder.path())).into_keys().collect();
        assert_eq!(names, ["one", "other"]);
        let open = Place::open(&place).folder.unwrap();
        assert!(open.document("one").unwrap().is_some() && open.document("none").unwrap().is_none());
        let mut index = read_index(folder.path());
        index.manifests.retain(|entry| entry.digest == other.digest);
        open.sweep(&index);
        assert!(!open.blob(one.digest).exists() && open.blob(other.digest).exists());
        std::fs::write(open.blob(other.digest), "damaged").unwrap();
        assert!(Place::open(&place).folder.unwrap().document("other").is_err());
    }
}
