//! Unpacks base images: each layer once, whatever image it belongs to.
//!
//! Layers are found by the chain ID of everything up to them, so images that share their lowest layers
//! share the snapshots. Only the topmost layer is the graph's own step; the ones below are looked up,
//! claimed and published here under the same kind of recipe.

use super::Builder;
use super::error::StepError;
use super::solve::Produced;
use crate::base::digest::{BlobId, DefinitionKey, ResultId};
use crate::graph::{BaseImage, Recipe};
use crate::oci::{self, UnpackLimits};
use crate::sandbox::Layers;
use crate::store::{Held, Key, Lookup, Record, Stamp};

/// The topmost layer of `image`, with everything below it in place.
pub(super) fn base(builder: &Builder<'_>, image: &BaseImage) -> Result<Produced, StepError> {
    let chain = image.config.rootfs.chain_ids();
    let platform = image.config.platform().to_string();
    let mut below: Option<(DefinitionKey, ResultId)> = None;
    let Some(top) = chain.len().checked_sub(1) else { return Err(StepError::NoResult) };
    for (index, &chain_id) in chain[..top].iter().enumerate() {
        let recipe = Recipe::of_chain(chain_id, &platform);
        let definition = recipe.definition_key();
        let canonical = recipe.canonical_key().ok_or(StepError::NoResult)?;
        let raw = serde_json::value::to_raw_value(&recipe).map_err(StepError::Recipe)?;
        let inputs: Vec<_> = below.into_iter().collect();
        let key = Key { definition, canonical, inputs: &inputs, recipe: &raw };
        let result = match builder.store.lookup(&key)? {
            Lookup::Hit(record) => record.result,
            Lookup::Miss(claim) => {
                let made = layer(builder, image, index, below.map(|(_, result)| result))?;
                let (holds, created) = (made.holds, Stamp::now());
                let record =
                    Record { recipe: raw.clone(), result: made.result, inputs, holds, took_ms: 0, created };
                claim.publish(record)?.result
            }
        };
        below = Some((definition, result));
    }
    layer(builder, image, top, below.map(|(_, result)| result))
}

/// Unpacks one layer over the one below it. What comes out must be what the config says.
fn layer(
    builder: &Builder<'_>,
    image: &BaseImage,
    index: usize,
    below: Option<ResultId>,
) -> Result<Produced, StepError> {
    let expected = image.config.rootfs.diff_ids[index];
    let descriptor = image.layers.get(index).ok_or(StepError::MissingLayer(expected))?;
    if !builder.store.has_blob(BlobId(descriptor.digest)) {
        return Err(StepError::MissingLayer(expected));
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
    Ok(Produced { result: snapshot.id, holds: vec![Held::Blob(BlobId(descriptor.digest))], listing: None })
}
