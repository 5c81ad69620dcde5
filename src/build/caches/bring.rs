//! From what a place has to a result of the store.
//!
//! Layers are fetched and unpacked once, whichever steps and images need them. Those of base images are
//! filed by their chain ID, as if they had been pulled; those of steps keep the identifier that they have
//! where they were made, so that what stands on them elsewhere stands on them here.

use std::sync::{Arc, PoisonError};

use super::super::error::StepError;
use super::super::exec::{ALONE, CREATED};
use super::{Caches, Descriptor, EntryLayer, Found, keeps_blob};
use crate::base::digest::{BlobId, DefinitionKey, Digest, ResultId};
use crate::base::fs::RootDir;
use crate::graph::{Epoch, Recipe};
use crate::oci::{self, Adopted, LayerOptions, OciError, UnpackLimits};
use crate::sandbox::Layers;
use crate::store::{Held, Key, Lookup, Record, Stamp};

impl Caches<'_> {
    /// Brings the result of a step into the store, as a record of it. What is lost in its place is
    /// remembered, so that the build can start over without it. `epochs` are those of the build's images.
    pub(in crate::build) fn bring(
        &self,
        found: &Found,
        epochs: &[Option<Epoch>],
    ) -> Result<ResultId, StepError> {
        match self.bring_all(found, epochs) {
            Err(StepError::Oci(OciError::Cancelled)) => Err(StepError::Cancelled),
            Err(StepError::Oci(error)) => Err(self.lose(found, &error)),
            Err(StepError::Store(error)) if error.is_mismatch() => Err(self.lose(found, &error.into())),
            brought => brought,
        }
    }

    /// Remembers what of `found` is not to be had.
    fn lose(&self, found: &Found, error: &OciError) -> StepError {
        let place = found.place.shown();
        self.warn(format!("the cache {place} cannot give a layer: {error}"));
        let missing = |blob: &&Descriptor| !self.builder.store.has_blob(BlobId(blob.digest));
        let blobs = found.blobs();
        let mut lost: Vec<Digest> = Vec::new();
        for blob in blobs.iter().filter(missing) {
            // One at a time this time, to see which.
            if self.fetch(found, &[blob]).is_err() {
                lost.push(blob.digest);
            }
        }
        if lost.is_empty() {
            // All can be had, so what was had was of no use.
            lost.extend(blobs.last().map(|blob| blob.digest));
        }
        self.seen().lost.extend(lost);
        StepError::Lost(place)
    }

    fn bring_all(&self, found: &Found, epochs: &[Option<Epoch>]) -> Result<ResultId, StepError> {
        self.fetch_missing(found)?;
        let platform = found.recipe.platform.clone();
        let (mut below, mut chain): (Option<(DefinitionKey, ResultId)>, Option<Digest>) = (None, None);
        let mut top = None;
        for (layer, blob) in found.layers() {
            let id = chain.map_or(layer.diff_id.0, |below| Digest::of(format!("{below} {}", layer.diff_id)));
            chain = Some(id);
            let lock = if layer.base { id } else { layer.result.0 };
            let lock = {
                let mut locks = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(locks.entry(lock).or_default())
            };
            let _one = lock.lock().unwrap_or_else(PoisonError::into_inner);
            let result = if layer.base {
                let recipe = Recipe::of_chain(id, &platform);
                let filed = self.base_layer(&recipe, (layer, blob), below)?;
                below = Some((recipe.definition_key(), filed));
                filed
            } else {
                let keeps = epochs.iter().all(|epoch| keeps_blob(layer, *epoch));
                self.step_layer((layer, blob), top, keeps)?
            };
            top = Some(result);
        }
        let result = top.ok_or(StepError::NoResult)?;
        let recipe = serde_json::value::to_raw_value(&found.recipe).map_err(StepError::Recipe)?;
        let holds = found.layers().map(|(_, blob)| Held::Blob(BlobId(blob.digest))).collect();
        let (inputs, took_ms, created) =
            (found.record.inputs.clone(), found.record.took_ms, found.record.created);
        let record = Record { recipe, result, inputs, holds, took_ms, created };
        Ok(self.builder.store.adopt(found.record.key, record)?.result)
    }

    /// Fetches the layers that the store lacks: neither unpacked nor as blobs.
    fn fetch_missing(&self, found: &Found) -> Result<(), OciError> {
        let store = self.builder.store;
        let mut missing: Vec<&Descriptor> = Vec::new();
        for (_, blob) in found.layers() {
            let known = missing.iter().any(|other| other.digest == blob.digest);
            if !known && !store.has_blob(BlobId(blob.digest)) {
                missing.push(blob);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        // Two steps of a place rarely lack different layers, and never the same one twice this way.
        let lock = {
            let mut locks = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(Digest::of(found.place.shown())).or_default())
        };
        let _one = lock.lock().unwrap_or_else(PoisonError::into_inner);
        missing.retain(|blob| !store.has_blob(BlobId(blob.digest)));
        if missing.is_empty() { Ok(()) } else { self.fetch(found, &missing) }
    }

    /// A layer of a base image over the one below it.
    fn base_layer(
        &self,
        recipe: &Recipe,
        (layer, blob): (&EntryLayer, &Descriptor),
        below: Option<(DefinitionKey, ResultId)>,
    ) -> Result<ResultId, StepError> {
        let store = self.builder.store;
        let canonical = recipe.canonical_key().ok_or(StepError::NoResult)?;
        let raw = serde_json::value::to_raw_value(recipe).map_err(StepError::Recipe)?;
        let inputs: Vec<_> = below.into_iter().collect();
        let definition = recipe.definition_key();
        let key = Key { definition, canonical, inputs: &inputs, recipe: &raw };
        let claim = match store.lookup(&key)? {
            Lookup::Hit(record) => return Ok(record.result),
            Lookup::Miss(claim) => claim,
        };
        let parent = below.map(|(_, result)| result);
        let lower = self.lower(parent)?;
        let limits = UnpackLimits::default();
        let made = oci::publish_layer(store, blob, layer.diff_id, parent, lower.as_ref(), &limits)?;
        let holds = vec![Held::Blob(BlobId(blob.digest))];
        let (result, created) = (made.id, Stamp::now());
        Ok(claim.publish(Record { recipe: raw, result, inputs, holds, took_ms: 0, created })?.result)
    }

    /// A layer of a step over the one below it.
    fn step_layer(
        &self,
        (layer, blob): (&EntryLayer, &Descriptor),
        parent: Option<ResultId>,
        keeps_blob: bool,
    ) -> Result<ResultId, StepError> {
        let store = self.builder.store;
        if let Some(snapshot) = store.snapshot(layer.result) {
            return Ok(snapshot.id);
        }
        let mut notes = Vec::new();
        if let Some(created) = layer.created {
            notes.push((CREATED, serde_json::to_vec(&created).map_err(StepError::Recipe)?));
        }
        if layer.alone {
            notes.push((ALONE, Vec::new()));
        }
        let adopted = Adopted {
            id: layer.result,
            layer: blob,
            tar: layer.tar(),
            options: LayerOptions { times: layer.times },
            keeps_blob,
            notes: &notes,
        };
        let lower = self.lower(parent)?;
        Ok(oci::adopt_layer(store, &adopted, parent, lower.as_ref(), &UnpackLimits::default())?.id)
    }

    /// The merged view of what a layer stands on.
    fn lower(&self, parent: Option<ResultId>) -> Result<Option<RootDir>, StepError> {
        let Some(parent) = parent else { return Ok(None) };
        let chain = self.builder.store.chain(parent).ok_or(StepError::Vanished)?;
        let lowers = chain.into_iter().map(|snapshot| snapshot.tree).collect();
        Ok(Some(self.builder.sandbox.root(&Layers { lowers, writable: None })?))
    }
}
