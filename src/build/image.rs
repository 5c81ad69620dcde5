//! The store's own images: importing a root file system, listing names.

use std::io::Read;

use super::error::{BuildError, StepError};
use super::resolve::{Origin, StoredImage};
use crate::base::digest::{BlobId, Digest};
use crate::graph::{Recipe, chain_id};
use crate::oci::{LayerOptions, Platform, Reference, UnpackLimits, import_rootfs, known_layer};
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

fn size(store: &Store, stored: &StoredImage) -> Option<u64> {
    let top = stored.holds.iter().find_map(|held| match held {
        Held::Snapshot(id) => Some(*id),
        Held::Blob(_) => None,
    });
    let chain = store.chain(top?)?;
    let sizes = chain.iter().map(|layer| known_layer(store, layer.id, &LayerOptions::default()));
    sizes.map(|tar| tar.map(|tar| tar.size)).sum()
}
