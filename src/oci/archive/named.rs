//! An OCI layout in a folder as a place for documents under names, with the blobs that they name.
//!
//! What [`super::super::registry::Registry::document`] and its kin are for a repository, this is for a folder.
//! The index is read once and written once, in [`NamedLayout::finish`], under a lock and on top of what others
//! wrote meanwhile. Each entry bears the day of its last use; those that were of no use for long go then, and
//! with them the blobs that nothing names any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::super::registry::{Sent, Upload};
use super::super::{Descriptor, Index, Manifest, OciError};
use super::{LAYOUT, REF_NAME, blob_path};
use crate::base::digest::{BlobId, Digest, ResultId};
use crate::base::fs::{AtPath, FileLock, write_atomic};
use crate::store::{Stamp, Store};

/// The annotation that says on which day since 1970 an entry was last of use.
const USED: &str = "dev.shipway.cache.used";
/// After how many days without use an entry goes.
const KEPT_DAYS: u64 = 14;
/// Nobody writes a file for so long: its writer is dead.
const UNFINISHED: Duration = Duration::from_secs(24 * 3600);

/// A layout in a folder. Several threads and processes may use it at once.
#[derive(Debug)]
pub struct NamedLayout {
    path: PathBuf,
    /// Documents by their names.
    index: OnceLock<BTreeMap<String, Descriptor>>,
    /// What was used or put here.
    touched: Mutex<BTreeMap<String, Descriptor>>,
}

impl NamedLayout {
    /// The layout in this folder. Nothing is read or written yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), index: OnceLock::new(), touched: Mutex::default() }
    }

    fn blob(&self, digest: Digest) -> PathBuf {
        self.path.join(blob_path(&digest))
    }

    fn index(&self) -> &BTreeMap<String, Descriptor> {
        self.index.get_or_init(|| named(read_index(&self.path)))
    }

    /// The document of this name, byte for byte; `None` if there is none.
    pub fn document(&self, name: &str) -> Result<Option<Vec<u8>>, OciError> {
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

    /// Brings a blob into the store.
    pub fn fetch(&self, store: &Store, blob: &Descriptor) -> Result<(), OciError> {
        let path = self.blob(blob.digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(OciError::MissingBlob(blob.digest));
            }
            Err(error) => return Err(error).at_path("open", path)?,
        };
        let mut into = store.write_blob()?;
        std::io::copy(&mut file, &mut into).at_path("read", path)?;
        into.finish(Some(BlobId(blob.digest)))?;
        Ok(())
    }

    /// Makes sure that a blob is here; one that was just made takes the place of what is, which may be damaged.
    pub fn upload(&self, store: &Store, upload: &Upload<'_>) -> Result<Sent, OciError> {
        let digest = upload.descriptor.digest;
        let path = self.blob(digest);
        let is_whole = |stat: Metadata| stat.len() == upload.descriptor.size;
        if !upload.is_new && std::fs::metadata(&path).is_ok_and(is_whole) {
            return Ok(Sent::There);
        }
        match upload.bytes {
            Some(bytes) => write(&path, &mut &*bytes)?,
            None => {
                let mut blob = store.blob(BlobId(digest)).ok_or(OciError::MissingBlob(digest))?;
                write(&path, &mut blob)?;
            }
        }
        Ok(Sent::Uploaded)
    }

    /// Puts a document under a name; what it names is here.
    pub fn put(&self, name: &str, (descriptor, bytes): (&Descriptor, &[u8])) -> Result<(), OciError> {
        write(&self.blob(descriptor.digest), &mut &*bytes)?;
        self.touch(name, descriptor.clone());
        Ok(())
    }

    fn touch(&self, name: &str, descriptor: Descriptor) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), descriptor);
    }

    /// Writes down what was used and what is new; what was of no use for long goes. Nothing if nothing was used.
    pub fn finish(&self) -> Result<(), OciError> {
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
        self.sweep_unfinished();
        if kept < before {
            self.sweep(&index);
        }
        Ok(())
    }

    /// Removes what dead writers left. Best effort, as with what nothing names.
    fn sweep_unfinished(&self) {
        for file in self.files() {
            let hidden = file.file_name().to_str().is_some_and(|name| name.starts_with('.'));
            let written = file.metadata().and_then(|stat| stat.modified());
            let age = written.ok().and_then(|written| written.elapsed().ok());
            if hidden && age.is_some_and(|age| age > UNFINISHED) {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }

    fn files(&self) -> impl Iterator<Item = std::fs::DirEntry> {
        std::fs::read_dir(self.path.join("blobs/sha256")).into_iter().flatten().flatten()
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
        for file in self.files() {
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
fn write(path: &Path, content: &mut dyn Read) -> Result<(), OciError> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).at_path("create", folder)?;
    let unfinished = folder.join(format!(".{}", ResultId::fresh().0.hex()));
    let mut file = File::create_new(&unfinished).at_path("create", &unfinished)?;
    let written = std::io::copy(content, &mut file).and_then(|_| std::fs::rename(&unfinished, path));
    if written.is_err() {
        // The first error says more than one about the rest of it.
        let _ = std::fs::remove_file(&unfinished);
    }
    Ok(written.at_path("write", path)?)
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
        let open = || NamedLayout::new(folder.path());
        let put = |name: &str, text: &str| {
            let form = crate::oci::ImageForm::default();
            let formed = form.manifest(text.as_bytes(), Vec::new());
            let layout = open();
            write(&layout.blob(formed.config.digest), &mut text.as_bytes()).unwrap();
            layout.put(name, (&formed.manifest, &formed.document)).unwrap();
            layout.finish().unwrap();
            formed.manifest
        };
        let (one, other) = (put("one", "1"), put("other", "2"));
        let names: Vec<String> = named(read_index(folder.path())).into_keys().collect();
        assert_eq!(names, ["one", "other"]);
        let layout = open();
        assert!(layout.document("one").unwrap().is_some() && layout.document("none").unwrap().is_none());
        let mut index = read_index(folder.path());
        index.manifests.retain(|entry| entry.digest == other.digest);
        layout.sweep(&index);
        assert!(!layout.blob(one.digest).exists() && layout.blob(other.digest).exists());
        std::fs::write(layout.blob(other.digest), "damaged").unwrap();
        assert!(open().document("other").is_err());
    }
}
