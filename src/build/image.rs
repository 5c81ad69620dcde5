//! The store's own images: importing a root file system, loading archives, finding, listing and removing
//! names.

use std::io::Read;

use super::error::{BuildError, StepError};
use super::export::{Exported, layer_options};
use super::resolve::{Origin, StoredImage};
use super::{Builder, pull};
use crate::base::digest::{BlobId, Digest};
use crate::graph::{BaseImage, ImageName, Recipe, chain_id};
use crate::oci::{ImageConfig, Platform, Reference, UnpackLimits, import_rootfs, known_layer, read_archive};
use crate::store::{Bucket, Held, Key, Lookup, Record, Stamp, Store};

/// A line of `image ls`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ListedImage {
    /// The name with its tag.
    pub name: Reference,
    /// The digest of its config.
    pub id: Digest,
    /// When it came into the store.
    pub time: Stamp,
    /// Bytes of its layers as plain tars, where that is known.
    pub size: Option<u64>,
    /// How it came into the store.
    pub origin: Origin,
}

/// Makes an image of the root file system that `reader` yields (a tar, plain or compressed) and gives it
/// a name, in place of what had that name. Its layer is known to every later build at once.
pub fn import(
    store: &Store,
    reader: &mut (dyn Read + Send),
    name: &Reference,
    platform: &Platform,
) -> Result<StoredImage, BuildError> {
    let imported = import_rootfs(store, reader, platform, &UnpackLimits::default())?;
    let recipe = chain_id(&imported.image.rootfs.diff_ids)
        .map(|chain| Recipe::of_chain(chain, &imported.image.platform().to_string()));
    let layer = BlobId(imported.layer.digest);
    if let Some(recipe) = recipe {
        file(store, &recipe, imported.snapshot, layer).map_err(BuildError::Import)?;
    }
    let config = BlobId(imported.config.digest);
    let stored = StoredImage {
        config,
        layers: vec![imported.layer],
        origin: Origin::Imported,
        time: Stamp::now(),
        holds: vec![Held::Blob(config), Held::Blob(layer), Held::Snapshot(imported.snapshot)],
        made_from: None,
        epoch: None,
    };
    store.shelf(Bucket::Names).put(&name.to_string(), &stored)?;
    store.sync()?;
    Ok(stored)
}

/// Files a snapshot as the result of unpacking its layer.
fn file(
    store: &Store,
    recipe: &Recipe,
    result: crate::base::digest::ResultId,
    layer: BlobId,
) -> Result<(), StepError> {
    let definition = recipe.definition_key();
    let canonical = recipe.canonical_key().ok_or(StepError::NoResult)?;
    let raw = serde_json::value::to_raw_value(recipe).map_err(StepError::Recipe)?;
    let key = Key { definition, canonical, inputs: &[], recipe: &raw };
    // The same layer may have come before: its snapshot serves, and steps that stand on it stay hits.
    let Lookup::Miss(claim) = store.lookup(&key)? else { return Ok(()) };
    let (inputs, holds, created) = (Vec::new(), vec![Held::Blob(layer)], Stamp::now());
    claim.publish(Record { recipe: raw.clone(), result, inputs, holds, took_ms: 0, created })?;
    Ok(())
}

/// Every named image of the store, sorted by name.
pub fn list(store: &Store) -> Vec<ListedImage> {
    let named = store.shelf(Bucket::Names).list::<StoredImage>();
    let images = named.into_iter().filter_map(|(name, stored)| {
        let name = Reference::parse(&name).ok()?;
        let size = size(store, &stored);
        Some(ListedImage { name, id: stored.config.0, time: stored.time, size, origin: stored.origin })
    });
    images.collect()
}

/// An image of the store under one of its names.
#[derive(Clone, Debug)]
pub struct NamedImage {
    /// The name, with its tag.
    pub name: Reference,
    /// The image.
    pub stored: StoredImage,
}

impl NamedImage {
    /// The image as it can be given away; `None` if its layers are no longer unpacked in the store.
    pub fn exported(&self, store: &Store) -> Option<Exported> {
        if !store.has_blob(self.stored.config) {
            return None;
        }
        let snapshots = self.stored.holds.iter().filter_map(|held| match held {
            Held::Snapshot(id) => store.chain(*id),
            Held::Blob(_) => None,
        });
        let top = snapshots.max_by_key(Vec::len).and_then(|chain| Some(chain.last()?.id));
        let has_layers = self.stored.holds.iter().any(|held| matches!(held, Held::Snapshot(_)));
        if has_layers && top.is_none() {
            return None;
        }
        let (id, names) = (self.stored.config, vec![self.name.clone()]);
        Some(Exported {
            id,
            names,
            result: top,
            epoch: self.stored.epoch,
            elsewhere: None,
            cached_in: Vec::new(),
        })
    }

    /// The image's config; `None` if it is no longer in the store.
    pub fn config(&self, store: &Store) -> Option<ImageConfig> {
        let mut bytes = Vec::new();
        store.blob(self.stored.config)?.read_to_end(&mut bytes).ok()?;
        ImageConfig::from_json(&bytes).ok()
    }

    /// Bytes of its layers as plain tars, where that is known.
    pub fn size(&self, store: &Store) -> Option<u64> {
        size(store, &self.stored)
    }
}

/// The images that `text` means: the one of that name, else all whose id begins so.
pub fn find(store: &Store, text: &str) -> Vec<NamedImage> {
    let shelf = store.shelf(Bucket::Names);
    let named = Reference::parse(text).ok().map(Reference::with_default_tag);
    if let Some(name) = named
        && let Some(stored) = shelf.get::<StoredImage>(&name.to_string())
    {
        return vec![NamedImage { name, stored }];
    }
    let start = text.strip_prefix("sha256:").unwrap_or(text);
    if start.is_empty() {
        return Vec::new();
    }
    let all = shelf.list::<StoredImage>().into_iter();
    let meant = all.filter(|(_, stored)| stored.config.0.hex().starts_with(start));
    meant
        .filter_map(|(name, stored)| Some(NamedImage { name: Reference::parse(&name).ok()?, stored }))
        .collect()
}

/// Takes a name from an image; whether there was one. What no name and no step holds any more, the
/// collector removes.
pub fn remove(store: &Store, name: &Reference) -> Result<bool, BuildError> {
    Ok(store.shelf(Bucket::Names).remove(&name.to_string())?)
}

/// An image that was loaded.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// Its names; an image without one is in the store only until the next collection.
    pub names: Vec<Reference>,
    /// The digest of its config.
    pub id: Digest,
}

/// Takes the images of an archive (`docker save`, an OCI layout in a tar), plain or compressed, under the
/// names that they have in it.
pub fn load(builder: &Builder<'_>, reader: &mut (dyn Read + Send)) -> Result<Vec<LoadedImage>, BuildError> {
    let (mut loaded, store) = (Vec::new(), builder.store);
    for archived in read_archive(store, reader)? {
        let config = BlobId(archived.parsed.config.digest);
        let names: Vec<Reference> = archived.tags.iter().map(|tag| tag.clone().with_default_tag()).collect();
        let layers = archived.parsed.layers;
        if let Some(name) = names.first() {
            let image = BaseImage { config: archived.image, layers: layers.clone() };
            let named = ImageName { name: name.clone(), platform: image.config.platform() };
            let top = pull::whole(builder, &named, &image).map_err(BuildError::Import)?;
            let mut holds = vec![Held::Blob(config)];
            holds.extend(layers.iter().map(|layer| Held::Blob(BlobId(layer.digest))));
            holds.extend(top.map(Held::Snapshot));
            let (origin, time) = (Origin::Imported, Stamp::now());
            let stored = StoredImage { config, layers, origin, time, holds, made_from: None, epoch: None };
            for name in &names {
                store.shelf(Bucket::Names).put(&name.to_string(), &stored)?;
            }
        }
        loaded.push(LoadedImage { names, id: config.0 });
    }
    store.sync()?;
    Ok(loaded)
}

fn size(store: &Store, stored: &StoredImage) -> Option<u64> {
    let top = stored.holds.iter().find_map(|held| match held {
        Held::Snapshot(id) => Some(*id),
        Held::Blob(_) => None,
    });
    let chain = store.chain(top?)?;
    let options = layer_options(stored.epoch);
    let sizes = chain.iter().map(|layer| known_layer(store, layer.id, &options));
    sizes.map(|tar| tar.map(|tar| tar.size)).sum()
}
