//! Hands images to the engine: nothing that is there, no layer that it has, names last.
//!
//! What the engine has was asked beside the walk ([`Engine::images`]). An image that is there under its
//! name costs nothing; one that is there without it gets the name; one that is missing is sent. Docker's
//! own store looks layers up by chain ID, so a prefix of the chain that an image in the engine has is left
//! out; should the engine have lost it in between, everything is sent once. Other stores get complete
//! archives (DESIGN section 8). Afterwards the engine is asked what it has.

use std::collections::HashMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::Builder;
use super::error::BuildError;
use super::export::{self, Exported};
use super::image::NamedImage;
use super::resolve::StoredImage;
use crate::base::digest::{BlobId, DiffId, Digest};
use crate::base::event::Event;
use crate::engine::{Engine, EngineError, Image as EngineImage, ImageStore};
use crate::oci::{
    self, ArchiveImage, ArchiveKind, ArchiveLayer, Descriptor, ImageForm, LayerOptions, LayerTar, Reference,
    WrittenImage, media,
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
    for image in images {
        if builder.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let handed = state.image(image)?;
        match done.get_mut(&image.id) {
            Some(known) => known.sent |= handed.sent,
            None => {
                done.insert(image.id, handed);
            }
        }
    }
    Ok(done)
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
    fn image(&mut self, image: &Exported) -> Result<HandedOver, BuildError> {
        let known: Option<Handed> = self.shelf.get(&image.id.to_string());
        let expected = known.map_or(image.id.0, |known| known.id);
        let (id, sent) = match self.listed.iter().any(|listed| listed.id == expected) {
            true => (expected, false),
            false => (self.send(image)?, true),
        };
        for name in &image.names {
            self.name(id, name)?;
        }
        Ok(HandedOver { id, sent })
    }

    /// Gives the image a name if it does not have it.
    fn name(&mut self, id: Digest, name: &Reference) -> Result<(), BuildError> {
        let familiar = name.familiar();
        if self.listed.iter().any(|listed| listed.id == id && listed.tags.contains(&familiar)) {
            return Ok(());
        }
        self.engine.tag(&id.to_string(), &familiar)?;
        for listed in &mut self.listed {
            listed.tags.retain(|tag| *tag != familiar);
            if listed.id == id {
                listed.tags.push(familiar.clone());
            }
        }
        Ok(())
    }

    /// Sends an image; its id in the engine.
    fn send(&mut self, image: &Exported) -> Result<Digest, BuildError> {
        let chain = export::chain(self.builder, image.result)?;
        let tars = export::layers(self.builder, &chain, &image.layer_options())?;
        let diff_ids: Vec<DiffId> = tars.iter().map(|tar| tar.diff_id).collect();
        let (shelf, listed) = (&self.shelf, &self.listed);
        let handed = self.handed.get_or_insert_with(|| still_there(shelf, listed));
        let store = match self.store.or_else(|| handed.iter().find_map(|handed| handed.store)) {
            Some(store) => store,
            None => self.engine.identity()?.store,
        };
        let there = if store == ImageStore::Graph { prefix(handed, &diff_ids) } else { 0 };
        self.store = Some(store);
        let mut sent = self.load(image, &chain, &tars, there);
        if there > 0 && matches!(sent, Err(BuildError::Engine(EngineError::LoadFailed { .. }))) {
            sent = self.load(image, &chain, &tars, 0);
        }
        let id = sent?;
        let handed = Handed { id, diff_ids, store: Some(store) };
        self.shelf.put(&image.id.to_string(), &handed)?;
        self.handed.get_or_insert_default().push(handed);
        self.listed.push(EngineImage {
            id,
            tags: Vec::new(),
            repo_digests: Vec::new(),
            labels: Vec::new(),
            created: 0,
            size: 0,
        });
        Ok(id)
    }

    fn load(
        &self,
        image: &Exported,
        chain: &[Snapshot],
        tars: &[LayerTar],
        there: usize,
    ) -> Result<Digest, BuildError> {
        let builder = self.builder;
        let config =
            super::resolve::read_blob(builder, image.id)?.ok_or_else(|| export::vanished(builder))?;
        let name = image.names.first().map_or_else(|| image.id.to_string(), Reference::familiar);
        let total: u64 = tars[there..].iter().map(|tar| tar.size).sum();
        let what = format!("load {name}");
        let mut written = Vec::new();
        let loaded = self.engine.load(&mut |out| {
            let mut counted = Counted { out, events: builder.events, what: &what, done: 0, told: 0, total };
            let layers = (0..chain.len())
                .map(|index| archived(builder, chain, tars, index, image.layer_options(), index < there));
            let (config, tags, layers) = (config.clone(), Vec::new(), layers.collect());
            let images = [ArchiveImage { config, tags, layers, form: ImageForm::default() }];
            written =
                oci::write_archive(&mut counted, &images, ArchiveKind::Docker).map_err(io::Error::other)?;
            Ok(())
        });
        builder.events.emit(Event::Transfer { what, done: total, total: Some(total) });
        loaded?;
        self.confirm(&written, name)
    }

    /// The id under which the engine has the image now: its config's digest, or its manifest's.
    fn confirm(&self, written: &[WrittenImage], name: String) -> Result<Digest, BuildError> {
        for written in written {
            for id in [written.config.digest, written.manifest.digest] {
                if self.engine.image(&id.to_string())?.is_some() {
                    return Ok(id);
                }
            }
        }
        let expected = written.first().map_or_else(String::new, |written| written.config.digest.to_string());
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
    chain: &'a [Snapshot],
    tars: &[LayerTar],
    index: usize,
    options: LayerOptions,
    omitted: bool,
) -> ArchiveLayer<'a> {
    let plain = || Descriptor::new(media::LAYER, tars[index].diff_id.0, tars[index].size);
    let descriptor = oci::layer_blob(builder.store, chain[index].id).unwrap_or_else(plain);
    let write = move |out: &mut dyn io::Write| export::write_layer(builder, chain, index, &options, out);
    ArchiveLayer { descriptor, content: if omitted { None } else { Some(Box::new(write)) } }
}

/// Counts what goes to the engine and says so now and then.
struct Counted<'a> {
    out: &'a mut dyn io::Write,
    events: &'a dyn crate::base::event::Events,
    what: &'a str,
    done: u64,
    told: u64,
    total: u64,
}

impl io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const STEP: u64 = 4 << 20;
        let count = self.out.write(bytes)?;
        self.done += count as u64;
        if self.done >= self.told + STEP {
            self.told = self.done;
            let (what, total) = (self.what.to_owned(), Some(self.total.max(self.done + 1)));
            self.events.emit(Event::Transfer { what, done: self.done, total });
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
