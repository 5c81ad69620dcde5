//! Unpacks base images: each layer once, whatever image it belongs to.
//!
//! Layers are found by the chain ID of everything up to them, so images that share their lowest layers
//! share the snapshots. Only the topmost layer is the graph's own step; the ones below are looked up,
//! claimed and published here under the same kind of recipe.

use super::error::StepError;
use super::solve::Produced;
use super::{Builder, resolve};
use crate::base::digest::{BlobId, DefinitionKey, DiffId, ResultId};
use crate::graph::{BaseImage, ImageName, Recipe};
use crate::oci::{self, UnpackLimits};
use crate::sandbox::Layers;
use crate::store::{Held, Key, Lookup, Record, Stamp};

/// The topmost layer of `image`, with everything below it in place. Blobs that the store lacks come from
/// where `name` was resolved.
pub(super) fn base(
    builder: &Builder<'_>,
    name: Option<&ImageName>,
    image: &BaseImage,
) -> Result<Produced, StepError> {
    let layers = image.config.rootfs.diff_ids.len();
    let Some(top) = layers.checked_sub(1) else { return Err(StepError::NoResult) };
    let below = filed(builder, name, image, top)?;
    layer(builder, name, image, top, below.map(|(_, result)| result))
}

/// All layers of `image`, each filed for later builds; the topmost, if there is one.
pub(super) fn whole(
    builder: &Builder<'_>,
    name: &ImageName,
    image: &BaseImage,
) -> Result<Option<ResultId>, StepError> {
    let top = filed(builder, Some(name), image, image.config.rootfs.diff_ids.len())?;
    Ok(top.map(|(_, result)| result))
}

/// The lowest `count` layers, each as the result of its chain; the topmost of them.
fn filed(
    builder: &Builder<'_>,
    name: Option<&ImageName>,
    image: &BaseImage,
    count: usize,
) -> Result<Option<(DefinitionKey, ResultId)>, StepError> {
    let platform = image.config.platform().to_string();
    let mut below: Option<(DefinitionKey, ResultId)> = None;
    for (index, &chain_id) in image.config.rootfs.chain_ids()[..count].iter().enumerate() {
        let recipe = Recipe::of_chain(chain_id, &platform);
        let definition = recipe.definition_key();
        let canonical = recipe.canonical_key().ok_or(StepError::NoResult)?;
        let raw = serde_json::value::to_raw_value(&recipe).map_err(StepError::Recipe)?;
        let inputs: Vec<_> = below.into_iter().collect();
        let key = Key { definition, canonical, inputs: &inputs, recipe: &raw };
        let result = match builder.store.lookup(&key)? {
            Lookup::Hit(record) => record.result,
            Lookup::Miss(claim) => {
                let made = layer(builder, name, image, index, below.map(|(_, result)| result))?;
                let (holds, created) = (made.holds, Stamp::now());
                let record =
                    Record { recipe: raw.clone(), result: made.result, inputs, holds, took_ms: 0, created };
                claim.publish(record)?.result
            }
        };
        below = Some((definition, result));
    }
    Ok(below)
}

/// Unpacks one layer over the one below it. What comes out must be what the config says.
fn layer(
    builder: &Builder<'_>,
    name: Option<&ImageName>,
    image: &BaseImage,
    index: usize,
    below: Option<ResultId>,
) -> Result<Produced, StepError> {
    let expected = image.config.rootfs.diff_ids[index];
    let descriptor = image.layers.get(index).ok_or(StepError::MissingLayer(expected))?;
    if !builder.store.has_blob(BlobId(descriptor.digest)) {
        fetch(builder, name, image, expected)?;
    }
    let lower = match below {
        Some(below) => {
            let chain = builder.store.chain(below).ok_or(StepError::Vanished)?;
            let lowers = chain.into_iter().map(|snapshot| snapshot.tree).collect();
            Some(builder.sandbox.root(&Layers { lowers, writable: None })?)
        }
        None => None,
    };
    let limits = UnpackLimits::default();
    let snapshot = oci::publish_layer(builder.store, descriptor, expected, below, lower.as_ref(), &limits)?;
    Ok(Produced {
        result: snapshot.id,
        holds: vec![Held::Blob(BlobId(descriptor.digest))],
        listings: Vec::new(),
    })
}

/// Brings the image's layers into the store from where its name was resolved.
fn fetch(
    builder: &Builder<'_>,
    name: Option<&ImageName>,
    image: &BaseImage,
    expected: DiffId,
) -> Result<(), StepError> {
    let reference = name
        .and_then(|name| resolve::fetched_from(builder, name))
        .ok_or(StepError::MissingLayer(expected))?;
    let registries = builder.registries.ok_or(StepError::MissingLayer(expected))?;
    let registry = registries.get()?;
    let resolved = registry.resolve(&reference, &image.config.platform(), builder.cancel)?;
    Ok(registry.fetch(builder.store, &resolved, builder.events, builder.cancel)?)
}
