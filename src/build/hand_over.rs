//! Hands images to the engine: nothing that is there, no layer that it has, names last.
//!
//! What the engine has was asked beside the walk ([`Engine::images`]). An image that is there under its
//! name costs nothing; one that is there without it gets the name; those that are missing are sent, small
//! ones together. Docker's own store looks layers up by chain ID, so a prefix of the chain that an image in
//! the engine has is left out; should the engine have lost it in between, everything is sent once. Other
//! stores get complete archives (DESIGN section 8). Afterwards the engine is asked what it has.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::Builder;
use super::error::BuildError;
use super::export::{self, Exported};
use super::image::NamedImage;
use super::resolve::StoredImage;
use crate::base::digest::{BlobId, DiffId, Digest};
use crate::base::event::{Event, Events};
use crate::engine::{Engine, EngineError, Image as EngineImage, ImageStore};
use crate::oci::{
    self, ArchiveImage, ArchiveKind, ArchiveLayer, Descriptor, ImageForm, LayerTar, Reference, WrittenImage,
    media,
};
use crate::store::{Bucket, Shelf, Snapshot, Store};

/// An image in the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandedOver {
    /// The engine's id for it.
    pub id: Digest,
    /// Whether it had to be sent.
    pub sent: bool,
}

/// What is remembered of an image that was handed to an engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Handed {
    /// The engine's id for it.
    id: Digest,
    /// Its layers.
    diff_ids: Vec<DiffId>,
    /// How the engine kept images then.
    #[serde(default)]
    store: Option<ImageStore>,
}

/// So many bytes of layers go over in one archive, or one image if that is larger. The engine unpacks an
/// archive beside its own files before it takes anything from it.
const BATCH: u64 = 64 << 20;

/// Makes sure that the engine has every image under all its names. By image: what the engine has.
pub(super) fn hand_over(
    builder: &Builder<'_>,
    engine: &dyn Engine,
    images: &[&Exported],
    listed: Vec<EngineImage>,
) -> Result<HashMap<BlobId, HandedOver>, BuildError> {
    let shelf = builder.store.shelf(Bucket::Handover(&builder.options.engine_name));
    let mut state = State { builder, engine, listed, shelf, handed: None, store: None };
    let mut done: HashMap<BlobId, HandedOver> = HashMap::new();
    let mut parcels: Vec<Parcel<'_>> = Vec::new();
    for image in images {
        match parcels.iter_mut().find(|parcel| parcel.image.id == image.id) {
            Some(parcel) => parcel.names.extend(&image.names),
            None => match state.has(image) {
                Some(id) if state.is_named(id, &image.names)? => {
                    done.insert(image.id, HandedOver { id, sent: false });
                }
                _ => parcels.push(Parcel::of(builder, image)?),
            },
        }
    }
    for batch in batches(parcels) {
        if builder.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        for (parcel, id) in batch.iter().zip(state.send(&batch)?) {
            let names: Vec<Reference> = parcel.names.iter().copied().cloned().collect();
            state.name(id, &names)?;
            done.insert(parcel.image.id, HandedOver { id, sent: true });
        }
    }
    Ok(done)
}

/// An image that has to be sent.
struct Parcel<'i> {
    image: &'i Exported,
    /// The names that services give it.
    names: Vec<&'i Reference>,
    chain: Vec<Snapshot>,
    tars: Vec<LayerTar>,
}

impl<'i> Parcel<'i> {
    fn of(builder: &Builder<'_>, image: &'i Exported) -> Result<Self, BuildError> {
        let chain = export::chain(builder, image.result)?;
        let tars = export::layers(builder, &chain, &image.layer_options())?;
        Ok(Self { image, names: image.names.iter().collect(), chain, tars })
    }

    fn diff_ids(&self) -> Vec<DiffId> {
        self.tars.iter().map(|tar| tar.diff_id).collect()
    }

    fn bytes(&self) -> u64 {
        self.tars.iter().map(|tar| tar.size).sum()
    }

    /// What it is called while it is sent.
    fn shown(&self) -> String {
        self.names.first().map_or_else(|| self.image.id.to_string(), |name| name.familiar())
    }
}

/// Parcels that go over together. Layers that several of them have count once.
fn batches(parcels: Vec<Parcel<'_>>) -> Vec<Vec<Parcel<'_>>> {
    let (mut batches, mut bytes): (Vec<Vec<Parcel<'_>>>, u64) = (Vec::new(), 0);
    for parcel in parcels {
        let last = batches.last().and_then(|batch| batch.last());
        let before = last.map_or(&[][..], |last| &last.tars);
        let shared = before.iter().zip(&parcel.tars).take_while(|(one, other)| one.diff_id == other.diff_id);
        let more = parcel.bytes() - shared.map(|(tar, _)| tar.size).sum::<u64>();
        match batches.last_mut().filter(|_| bytes + more <= BATCH) {
            Some(batch) => {
                bytes += more;
                batch.push(parcel);
            }
            None => {
                bytes = parcel.bytes();
                batches.push(vec![parcel]);
            }
        }
    }
    batches
}

/// Removes the images that were handed over to this engine, have lost their last name and are used by no
/// container: what a rebuild leaves behind. Their ids.
pub fn remove_untagged(
    store: &Store,
    engine: &dyn Engine,
    engine_name: &str,
) -> Result<Vec<Digest>, BuildError> {
    let shelf = store.shelf(Bucket::Handover(engine_name));
    let listed = engine.images()?;
    let mut removed = Vec::new();
    for (key, handed) in shelf.list::<Handed>() {
        match listed.iter().find(|image| image.id == handed.id) {
            Some(image) if image.tags.is_empty() && image.repo_digests.is_empty() => {}
            _ => continue,
        }
        match engine.remove_image(&handed.id.to_string(), false) {
            Ok(_) => {
                shelf.remove(&key)?;
                removed.push(handed.id);
            }
            // A container still uses it.
            Err(EngineError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}

/// Hands the engine an image that the store has under `name` with all its layers; its id in the engine.
/// `None` if the store has no such image.
pub fn give(
    builder: &Builder<'_>,
    engine: &dyn Engine,
    name: &Reference,
) -> Result<Option<Digest>, BuildError> {
    let stored: Option<StoredImage> = builder.store.shelf(Bucket::Names).get(&name.to_string());
    let named = stored.map(|stored| NamedImage { name: name.clone(), stored });
    let Some(image) = named.and_then(|named| named.exported(builder.store)) else { return Ok(None) };
    if image.result.is_none() {
        return Ok(None);
    }
    let handed = hand_over(builder, engine, &[&image], engine.images()?)?;
    Ok(handed.get(&image.id).map(|handed| handed.id))
}

/// Whether the image that the engine has under `name` came from a registry and not from us.
pub fn came_from_registry(
    store: &Store,
    engine_name: &str,
    listed: &[EngineImage],
    name: &Reference,
) -> bool {
    let familiar = name.familiar();
    let Some(image) = listed.iter().find(|image| image.tags.contains(&familiar)) else { return false };
    let repository = format!("{}@", name.familiar_name());
    let known = image.repo_digests.iter().any(|digest| digest.starts_with(&repository));
    let handed = store.shelf(Bucket::Handover(engine_name)).list::<Handed>();
    known && !handed.iter().any(|(_, handed)| handed.id == image.id)
}

struct State<'a, 'b> {
    builder: &'a Builder<'b>,
    engine: &'a dyn Engine,
    /// What the engine has, kept up to date with what is done here.
    listed: Vec<EngineImage>,
    /// What was handed over is remembered here.
    shelf: Shelf<'a>,
    /// What was handed over and is still there, once that was looked up. That it is there tells how the
    /// engine keeps images, too: each way has ids of its own.
    handed: Option<Vec<Handed>>,
    /// How the engine keeps images, once that is known.
    store: Option<ImageStore>,
}

impl State<'_, '_> {
    /// The engine's id of an image that it has.
    fn has(&self, image: &Exported) -> Option<Digest> {
        let known: Option<Handed> = self.shelf.get(&image.id.to_string());
        let expected = known.map_or(image.id.0, |known| known.id);
        self.listed.iter().any(|listed| listed.id == expected).then_some(expected)
    }

    /// Gives an image that the engine listed its names; false if the engine has lost it since: another command
    /// may have removed it.
    fn is_named(&mut self, id: Digest, names: &[Reference]) -> Result<bool, BuildError> {
        match self.name(id, names) {
            Err(BuildError::Engine(error)) if error.is_gone() => {
                self.listed.retain(|listed| listed.id != id);
                Ok(false)
            }
            named => named.map(|()| true),
        }
    }

    /// Gives an image the names that it does not have.
    fn name(&mut self, id: Digest, names: &[Reference]) -> Result<(), BuildError> {
        for name in names {
            let familiar = name.familiar();
            if !self.listed.iter().any(|listed| listed.id == id && listed.tags.contains(&familiar)) {
                self.engine.tag(&id.to_string(), &familiar)?;
                self.note_name(id, familiar);
            }
        }
        Ok(())
    }

    /// Notes that the engine knows an image by this name, and no other.
    fn note_name(&mut self, id: Digest, familiar: String) {
        for listed in &mut self.listed {
            listed.tags.retain(|tag| *tag != familiar);
            if listed.id == id {
                listed.tags.push(familiar.clone());
            }
        }
    }

    /// Sends images; their ids in the engine.
    fn send(&mut self, batch: &[Parcel<'_>]) -> Result<Vec<Digest>, BuildError> {
        let (shelf, listed) = (&self.shelf, &self.listed);
        let handed = self.handed.get_or_insert_with(|| still_there(shelf, listed));
        let store = match self.store.or_else(|| handed.iter().find_map(|handed| handed.store)) {
            Some(store) => store,
            None => self.engine.identity()?.store,
        };
        let there: Vec<usize> = match store {
            ImageStore::Graph => batch.iter().map(|parcel| prefix(handed, &parcel.diff_ids())).collect(),
            ImageStore::Containerd | ImageStore::Podman => vec![0; batch.len()],
        };
        self.store = Some(store);
        let mut sent = self.load(batch, &there, store);
        let omitted = there.iter().any(|there| *there > 0);
        if omitted && matches!(sent, Err(BuildError::Engine(EngineError::LoadFailed { .. }))) {
            sent = self.load(batch, &vec![0; batch.len()], store);
        }
        let ids = sent?;
        for (parcel, id) in batch.iter().zip(&ids) {
            let handed = Handed { id: *id, diff_ids: parcel.diff_ids(), store: Some(store) };
            self.shelf.put(&parcel.image.id.to_string(), &handed)?;
            self.handed.get_or_insert_default().push(handed);
            let (tags, repo_digests, labels) = Default::default();
            self.listed.push(EngineImage { id: *id, tags, repo_digests, labels, created: 0, size: 0 });
            if store == ImageStore::Graph {
                parcel.names.iter().for_each(|name| self.note_name(*id, name.familiar()));
            }
        }
        Ok(ids)
    }

    /// Loads images without so many of their lowest layers each. Docker's own store gives an image the names
    /// of the archive when it has all of it; of others that is not sure.
    fn load(
        &self,
        batch: &[Parcel<'_>],
        there: &[usize],
        store: ImageStore,
    ) -> Result<Vec<Digest>, BuildError> {
        let builder = self.builder;
        let config = |parcel: &Parcel<'_>| {
            super::resolve::read_blob(builder, parcel.image.id)?.ok_or_else(|| export::vanished(builder))
        };
        let configs: Vec<Vec<u8>> = batch.iter().map(config).collect::<Result<_, _>>()?;
        let progress: Vec<Progress<'_>> =
            batch.iter().zip(there).map(|(parcel, there)| Progress::of(builder, parcel, *there)).collect();
        let mut written = Vec::new();
        let loaded = self.engine.load(&mut |out| {
            let image = |number: usize| {
                let (parcel, there) = (&batch[number], there[number]);
                let layers = (0..parcel.chain.len())
                    .map(|index| archived(builder, parcel, index, index < there, &progress[number]));
                let tags = match store {
                    ImageStore::Graph => parcel.names.iter().copied().cloned().collect(),
                    ImageStore::Containerd | ImageStore::Podman => Vec::new(),
                };
                let (config, layers) = (configs[number].clone(), layers.collect());
                ArchiveImage { config, tags, layers, form: ImageForm::default() }
            };
            let images: Vec<_> = (0..batch.len()).map(image).collect();
            written = oci::write_archive(out, &images, ArchiveKind::Docker).map_err(io::Error::other)?;
            Ok(())
        });
        progress.iter().for_each(Progress::end);
        loaded?;
        let both = batch.iter().zip(&written);
        both.map(|(parcel, written)| self.confirm(written, parcel.shown())).collect()
    }

    /// The id under which the engine has the image now: its config's digest, or its manifest's.
    fn confirm(&self, written: &WrittenImage, name: String) -> Result<Digest, BuildError> {
        for id in [written.config.digest, written.manifest.digest] {
            if self.engine.image(&id.to_string())?.is_some() {
                return Ok(id);
            }
        }
        let expected = written.config.digest.to_string();
        Err(BuildError::HandOver { name, expected, found: "nothing".to_owned() })
    }
}

/// What was handed over before and is still there.
fn still_there(shelf: &Shelf<'_>, listed: &[EngineImage]) -> Vec<Handed> {
    let there = |handed: &Handed| listed.iter().any(|listed| listed.id == handed.id);
    shelf.list::<Handed>().into_iter().map(|(_, handed)| handed).filter(there).collect()
}

/// How many of the lowest layers an image in the engine has for sure.
fn prefix(handed: &[Handed], diff_ids: &[DiffId]) -> usize {
    let same = |handed: &Handed| {
        handed.diff_ids.iter().zip(diff_ids).take_while(|(left, right)| left == right).count()
    };
    handed.iter().map(same).max().unwrap_or(0)
}

/// One layer of an archive.
fn archived<'a>(
    builder: &'a Builder<'_>,
    parcel: &'a Parcel<'_>,
    index: usize,
    omitted: bool,
    progress: &'a Progress<'_>,
) -> ArchiveLayer<'a> {
    let tar = &parcel.tars[index];
    let plain = || Descriptor::new(media::LAYER, tar.diff_id.0, tar.size);
    let descriptor = oci::layer_blob(builder.store, parcel.chain[index].id).unwrap_or_else(plain);
    let options = parcel.image.layer_options();
    let write = move |out: &mut dyn io::Write| {
        export::write_layer(builder, &parcel.chain, index, &options, &mut Counted { out, progress })
    };
    ArchiveLayer { descriptor, content: if omitted { None } else { Some(Box::new(write)) } }
}

/// How much of an image went to the engine, told now and then.
struct Progress<'a> {
    events: &'a dyn Events,
    what: String,
    total: u64,
    done: Cell<u64>,
    told: Cell<u64>,
}

impl<'a> Progress<'a> {
    fn of(builder: &Builder<'a>, parcel: &Parcel<'_>, there: usize) -> Self {
        let total = parcel.tars[there..].iter().map(|tar| tar.size).sum();
        let what = format!("load {}", parcel.shown());
        Self { events: builder.events, what, total, done: Cell::new(0), told: Cell::new(0) }
    }

    fn count(&self, bytes: u64) {
        const STEP: u64 = 4 << 20;
        self.done.set(self.done.get() + bytes);
        if self.done.get() >= self.told.get() + STEP {
            self.told.set(self.done.get());
            let (what, total) = (self.what.clone(), Some(self.total.max(self.done.get() + 1)));
            self.events.emit(Event::Transfer { what, done: self.done.get(), total });
        }
    }

    fn end(&self) {
        let (what, total) = (self.what.clone(), self.total);
        self.events.emit(Event::Transfer { what, done: total, total: Some(total) });
    }
}

/// Counts what is written.
struct Counted<'a, 'p> {
    out: &'a mut dyn io::Write,
    progress: &'a Progress<'p>,
}

impl io::Write for Counted<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.progress.count(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Exported {
        Exported {
            id: BlobId(Digest::of("image")),
            names: Vec::new(),
            result: None,
            epoch: None,
            elsewhere: None,
            cached_in: Vec::new(),
        }
    }

    fn parcel<'i>(image: &'i Exported, layers: &[(&str, u64)]) -> Parcel<'i> {
        let tar = |(name, size): &(&str, u64)| LayerTar { diff_id: DiffId(Digest::of(name)), size: *size };
        Parcel { image, names: Vec::new(), chain: Vec::new(), tars: layers.iter().map(tar).collect() }
    }

    #[test]
    fn small_images_go_over_together_and_shared_layers_count_once() {
        let image = image();
        let base = ("base", BATCH - 10);
        let parcels = vec![
            parcel(&image, &[base, ("one", 4)]),
            parcel(&image, &[base, ("two", 6)]),
            parcel(&image, &[base, ("three", 1)]),
            parcel(&image, &[("large", BATCH * 2)]),
            parcel(&image, &[("small", 1)]),
        ];
        let counts: Vec<usize> = batches(parcels).iter().map(Vec::len).collect();
        assert_eq!(counts, [2, 1, 1, 1]);
        assert!(batches(Vec::new()).is_empty());
    }

    #[test]
    fn a_prefix_is_what_an_image_in_the_engine_has() {
        let ids = |names: &[&str]| names.iter().map(|name| DiffId(Digest::of(name))).collect::<Vec<_>>();
        let handed = |names: &[&str]| Handed { id: Digest::of("id"), diff_ids: ids(names), store: None };
        let there = [handed(&["base", "other"]), handed(&["base", "a", "b"]), handed(&["a"])];
        assert_eq!(prefix(&there, &ids(&["base", "a", "c"])), 2);
        assert_eq!(prefix(&there, &ids(&["c", "base"])), 0);
        assert_eq!(prefix(&[], &ids(&["base"])), 0);
    }
}
