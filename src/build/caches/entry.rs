//! What a cache keeps of a chain of steps, as a document: an image manifest with an annotation.
//!
//! The manifest's config is a plain image config and its layers are those of the chain, so that every
//! program that reads images reads an entry too, and a registry's collector keeps what it names. The
//! annotation says what shipway knows beyond that: which steps made the layers and what they gave. One entry
//! serves all steps of its chain: it stands under the key of each of them. Pure.

use serde::{Deserialize, Serialize};

use crate::base::digest::{DefinitionKey, DiffId, Digest, FieldHasher, ResultId};
use crate::oci::{Descriptor, Formed, ImageConfig, ImageForm, LayerTar, Manifest, Platform, Times};
use crate::store::Stamp;

/// The annotation that holds an [`Entry`].
const ENTRY: &str = "dev.shipway.cache.entry";
/// The annotation that holds a [`BaseEntry`].
const BASE: &str = "dev.shipway.cache.base";
/// Raised when entries begin to mean something else.
const VERSION: u32 = 1;
/// The longest part of a place's tag that names keep; the rest is told apart by a digest.
const LONGEST_TAG: usize = 48;

/// A chain of layers and the steps that made them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    version: u32,
    /// Bottom first, one for each layer of the manifest.
    pub(super) layers: Vec<EntryLayer>,
    pub(super) records: Vec<EntryRecord>,
}

/// What is known of a layer beyond its blob.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct EntryLayer {
    pub(super) diff_id: DiffId,
    /// Bytes of its plain tar.
    pub(super) size: u64,
    /// Its snapshot's identifier where it was made.
    pub(super) result: ResultId,
    /// The times in its tar.
    #[serde(default, skip_serializing_if = "is_own")]
    pub(super) times: Times,
    /// When its step ran; base images' layers have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<Stamp>,
    /// Whether it says all that is in it, whatever lies below.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) alone: bool,
    /// Whether it is packed in haste: no image is pushed with this blob.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) draft: bool,
    /// Whether it belongs to the base image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) base: bool,
}

impl EntryLayer {
    pub(super) const fn tar(&self) -> LayerTar {
        LayerTar { diff_id: self.diff_id, size: self.size }
    }
}

/// A step of the chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct EntryRecord {
    pub(super) key: DefinitionKey,
    /// How many of the layers are its file system.
    pub(super) layers: usize,
    /// The steps that it stood on and what they had given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) inputs: Vec<(DefinitionKey, ResultId)>,
    pub(super) took_ms: u64,
    pub(super) created: Stamp,
}

/// An entry as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Read {
    pub(super) entry: Entry,
    /// The layers' blobs.
    pub(super) blobs: Vec<Descriptor>,
    pub(super) config: Descriptor,
}

impl Entry {
    pub(super) fn new(layers: Vec<EntryLayer>, records: Vec<EntryRecord>) -> Self {
        Self { version: VERSION, layers, records }
    }

    /// The entry as a manifest, with its config.
    pub(super) fn document(&self, platform: &Platform, blobs: Vec<Descriptor>) -> (Formed, Vec<u8>) {
        let mut config = ImageConfig::empty(platform);
        config.rootfs.diff_ids = self.layers.iter().map(|layer| layer.diff_id).collect();
        annotated(ENTRY, json(self), &config.to_json(), blobs)
    }

    /// Reads a document; the error says why it is none of ours or not whole.
    pub(super) fn read(document: &[u8]) -> Result<Read, String> {
        let (text, manifest) = annotation(document, ENTRY)?;
        let entry: Self = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if entry.version != VERSION {
            return Err(format!("it has version {}", entry.version));
        }
        if entry.layers.len() != manifest.layers.len() {
            return Err("its layers do not fit its manifest".to_owned());
        }
        if entry.layers.iter().skip_while(|layer| layer.base).any(|layer| layer.base) {
            return Err("a layer of its base image lies above others".to_owned());
        }
        let whole = |record: &EntryRecord| (1..=entry.layers.len()).contains(&record.layers);
        if !entry.records.iter().all(whole) {
            return Err("a step of it has layers that it does not have".to_owned());
        }
        Ok(Read { entry, blobs: manifest.layers, config: manifest.config })
    }

    pub(super) fn record(&self, key: DefinitionKey) -> Option<&EntryRecord> {
        self.records.iter().find(|record| record.key == key)
    }
}

/// What the name of a base image meant: what a build has to know of it before it runs anything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct BaseEntry {
    version: u32,
    /// The digest that the name meant at its registry.
    pub(super) digest: Digest,
    /// The image's config, as it is.
    pub(super) config: String,
}

impl BaseEntry {
    pub(super) const fn new(digest: Digest, config: String) -> Self {
        Self { version: VERSION, digest, config }
    }

    pub(super) fn document(&self, layers: Vec<Descriptor>) -> Formed {
        annotated(BASE, json(self), self.config.as_bytes(), layers).0
    }

    /// Reads a document: the entry and the image's layers.
    pub(super) fn read(document: &[u8]) -> Result<(Self, Vec<Descriptor>), String> {
        let (text, manifest) = annotation(document, BASE)?;
        let entry: Self = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if entry.version != VERSION {
            return Err(format!("it has version {}", entry.version));
        }
        let config = ImageConfig::from_json(entry.config.as_bytes()).map_err(|error| error.to_string())?;
        if Digest::of(&entry.config) != manifest.config.digest
            || config.rootfs.diff_ids.len() != manifest.layers.len()
        {
            return Err("its config does not fit its manifest".to_owned());
        }
        Ok((entry, manifest.layers))
    }
}

/// The name of a step's entry in a place with this tag.
pub(super) fn step_name(tag: &str, key: DefinitionKey) -> String {
    format!("{}-{}", short(tag), key.0.hex())
}

/// The name of the entry of a base image.
pub(super) fn base_name(tag: &str, image: &str, platform: &Platform) -> String {
    let mut hasher = FieldHasher::new("base image");
    hasher.field(image).field(platform.to_string());
    format!("{}-{}", short(tag), hasher.finish().hex())
}

/// A tag with room for a digest behind it.
fn short(tag: &str) -> String {
    match tag.get(..LONGEST_TAG) {
        Some(begin) if tag.len() > LONGEST_TAG => format!("{begin}-{}", &Digest::of(tag).hex()[..12]),
        _ => tag.to_owned(),
    }
}

fn annotated(name: &str, text: String, config: &[u8], blobs: Vec<Descriptor>) -> (Formed, Vec<u8>) {
    let form =
        ImageForm { annotations: [(name.to_owned(), text)].into_iter().collect(), ..ImageForm::default() };
    (form.manifest(config, blobs), config.to_vec())
}

fn annotation(document: &[u8], name: &str) -> Result<(String, Manifest), String> {
    let mut manifest: Manifest = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let text = manifest.annotations.remove(name).ok_or("it is nothing that shipway keeps")?;
    Ok((text, manifest))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain fields always have a JSON form")
}

fn is_own(times: &Times) -> bool {
    *times == Times::Own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media;

    fn digest(text: &str) -> Digest {
        Digest::of(text)
    }

    fn entry() -> Entry {
        let layer = |name: &str, base| EntryLayer {
            diff_id: DiffId(digest(name)),
            size: 7,
            result: ResultId(digest(&format!("result of {name}"))),
            times: if base { Times::Own } else { Times::NoLater(5) },
            created: (!base).then_some(Stamp { seconds: 3, nanos: 4 }),
            alone: false,
            draft: false,
            base,
        };
        let record = EntryRecord {
            key: DefinitionKey(digest("key")),
            layers: 2,
            inputs: vec![(DefinitionKey(digest("below")), ResultId(digest("r")))],
            took_ms: 12,
            created: Stamp { seconds: 3, nanos: 4 },
        };
        Entry::new(vec![layer("base", true), layer("top", false)], vec![record])
    }

    fn blobs() -> Vec<Descriptor> {
        ["a", "b"].map(|name| Descriptor::of(media::LAYER_GZIP, name.as_bytes())).to_vec()
    }

    #[test]
    fn an_entry_comes_back_from_its_document() {
        let (formed, config) = entry().document(&Platform::host(), blobs());
        assert_eq!(formed.config.digest, Digest::of(&config));
        let read = Entry::read(&formed.document).unwrap();
        assert_eq!((&read.entry, &read.blobs, &read.config), (&entry(), &blobs(), &formed.config));
        assert!(read.entry.record(DefinitionKey(digest("key"))).is_some());
        assert!(read.entry.record(DefinitionKey(digest("other"))).is_none());
    }

    #[test]
    fn what_is_no_entry_or_not_whole_is_told() {
        let told = |entry: &Entry, blobs| Entry::read(&entry.document(&Platform::host(), blobs).0.document);
        let plain = ImageForm::default().manifest(b"{}", Vec::new()).document;
        assert_eq!(Entry::read(&plain).unwrap_err(), "it is nothing that shipway keeps");
        assert!(Entry::read(b"{").is_err());
        assert_eq!(told(&entry(), Vec::new()).unwrap_err(), "its layers do not fit its manifest");
        for layers in [0, 3] {
            let mut entry = entry();
            entry.records[0].layers = layers;
            assert!(told(&entry, blobs()).is_err());
        }
        let mut upside_down = entry();
        upside_down.layers.reverse();
        let problem = "a layer of its base image lies above others";
        assert_eq!(told(&upside_down, blobs()).unwrap_err(), problem);
        let newer = Entry { version: 2, ..entry() };
        assert_eq!(told(&newer, blobs()).unwrap_err(), "it has version 2");
    }

    proptest::proptest! {
        /// Whatever a place gives, reading it ends.
        #[test]
        fn any_document_is_read_or_refused(cut in 0..2000usize, byte: u8) {
            let mut document = entry().document(&Platform::host(), blobs()).0.document;
            let at = cut % document.len();
            document[at] = byte;
            let _ = (Entry::read(&document), BaseEntry::read(&document));
            let _ = Entry::read(&document[..at]);
        }
    }

    #[test]
    fn a_base_comes_back_from_its_document() {
        let mut config = ImageConfig::empty(&Platform::host());
        config.rootfs.diff_ids = vec![DiffId(digest("1")), DiffId(digest("2"))];
        let text = String::from_utf8(config.to_json()).unwrap();
        let base = BaseEntry::new(digest("index"), text);
        assert_eq!(BaseEntry::read(&base.document(blobs()).document).unwrap(), (base.clone(), blobs()));
        assert!(BaseEntry::read(&base.document(Vec::new()).document).is_err());
    }

    #[test]
    fn names_fit_into_tags() {
        let key = DefinitionKey(digest("key"));
        let long = "b".repeat(128);
        for tag in ["main", &long, &"c".repeat(49)] {
            let name = step_name(tag, key);
            assert!(name.len() <= 128 && name.starts_with(&tag[..4]), "{name}");
        }
        assert_ne!(step_name(&long, key), step_name(&format!("{}c", &long[..127]), key));
        let base = |platform: &str| base_name("main", "docker.io/library/a:1", &platform.parse().unwrap());
        assert_ne!(base("linux/amd64"), base("linux/arm64"));
    }
}
