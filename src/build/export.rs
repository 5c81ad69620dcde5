//! From results to images: config, diff IDs, names.
//!
//! An image is the chain of its root's snapshots and a config. Layers that were built have no blob; their
//! diff ID is streamed once and remembered beside the snapshot. Times come from the snapshots, so an image
//! made wholly of hits has the digest that it had. When neither draft nor result differ from what a name
//! stands for already, nothing is read but that name.

use std::io::Write as _;
use std::sync::Arc;

use rayon::prelude::*;

use super::Builder;
use super::caches::Found;
use super::error::BuildError;
use super::exec::{ALONE, CREATED};
use super::resolve::{Origin, StoredImage};
use crate::base::digest::{BlobId, Digest, FieldHasher, ResultId};
use crate::base::fs::{AtPath, RootDir};
use crate::graph::{Epoch, ImageDraft, Made};
use crate::oci::{
    self, History, ImageConfig, LayerOptions, LayerTar, OciError, Reference, Times, is_later, timestamp,
};
use crate::sandbox::Layers;
use crate::store::{Bucket, Held, Snapshot, Stamp, Store};

/// What BuildKit writes beside each history line of a Dockerfile.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// An image that is in the store under its names.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The digest of its config: its id.
    pub id: BlobId,
    /// Its names.
    pub names: Vec<Reference>,
    /// The topmost snapshot; none for an image without layers, and none while a cache has them.
    pub result: Option<ResultId>,
    /// The build's `SOURCE_DATE_EPOCH`.
    pub epoch: Option<Epoch>,
    /// Who has its layers if they are not here.
    pub elsewhere: Option<Arc<Found>>,
    /// Repositories that have its layers, as far as is known.
    pub cached_in: Vec<Reference>,
}

/// What an image's layers are.
pub(super) enum Top<'t> {
    /// There are none.
    Nothing,
    /// A snapshot with all below it.
    Here(ResultId),
    /// What a cache has.
    Elsewhere(&'t Found),
}

/// What a config says of layers, bottom first.
struct Layered {
    tars: Vec<LayerTar>,
    /// When the step of each ran.
    times: Vec<Option<Stamp>>,
}

impl Exported {
    /// How the layers that were built for it are written.
    pub(super) fn layer_options(&self) -> LayerOptions {
        layer_options(self.epoch)
    }
}

/// Which times layers get that are made for images of this epoch.
pub(super) fn layer_options(epoch: Option<Epoch>) -> LayerOptions {
    LayerOptions { times: epoch.map_or(Times::Own, Epoch::times) }
}

/// Gives a root's image its names in the store, making the config if that is not there yet.
pub(super) fn export(
    builder: &Builder<'_>,
    draft: &ImageDraft,
    names: &[Reference],
    top: &Top<'_>,
    epoch: Option<Epoch>,
) -> Result<Exported, BuildError> {
    let result = match top {
        Top::Nothing => None,
        Top::Here(result) => Some(*result),
        Top::Elsewhere(found) => {
            let layered = Layered { tars: found.tars(), times: found.times() };
            let id = write_config(builder, draft, &layered, epoch)?;
            let elsewhere = Some(Arc::new((*found).clone()));
            return Ok(Exported {
                id,
                names: names.to_vec(),
                result: None,
                epoch,
                elsewhere,
                cached_in: Vec::new(),
            });
        }
    };
    let made_from = identity(draft, result, epoch)?;
    let shelf = builder.store.shelf(Bucket::Names);
    let current = |name: &Reference| -> Option<StoredImage> {
        let stored: StoredImage = shelf.get(&name.to_string())?;
        (stored.made_from == Some(made_from) && builder.store.has_blob(stored.config)).then_some(stored)
    };
    let known: Vec<Option<StoredImage>> = names.iter().map(current).collect();
    let there = known.iter().flatten().next().cloned();
    let stored = match there {
        Some(stored) => stored,
        None => make(builder, draft, result, made_from, epoch)?,
    };
    for (name, known) in names.iter().zip(&known) {
        if known.is_none() {
            shelf.put(&name.to_string(), &stored)?;
        }
    }
    Ok(Exported {
        id: stored.config,
        names: names.to_vec(),
        result,
        epoch,
        elsewhere: None,
        cached_in: Vec::new(),
    })
}

/// What an image is made from, as one digest.
fn identity(
    draft: &ImageDraft,
    result: Option<ResultId>,
    epoch: Option<Epoch>,
) -> Result<Digest, BuildError> {
    let mut hasher = FieldHasher::new("image");
    hasher.field(serde_json::to_vec(draft).map_err(BuildError::Draft)?);
    match result {
        Some(result) => hasher.field(result.0.as_bytes()),
        None => hasher.number(0),
    };
    if let Some(epoch) = epoch {
        hasher.field(epoch.seconds().to_be_bytes());
        if let Epoch::Everywhere { .. } = epoch {
            hasher.field("everywhere");
        }
    }
    Ok(hasher.finish())
}

fn make(
    builder: &Builder<'_>,
    draft: &ImageDraft,
    result: Option<ResultId>,
    made_from: Digest,
    epoch: Option<Epoch>,
) -> Result<StoredImage, BuildError> {
    let chain = chain(builder, result)?;
    let tars = layers(builder, &chain, &layer_options(epoch))?;
    let times = chain.iter().map(|layer| time_of(builder, layer.id)).collect();
    let config = write_config(builder, draft, &Layered { tars, times }, epoch)?;
    let mut holds = vec![Held::Blob(config)];
    holds.extend(result.map(Held::Snapshot));
    let (origin, time) = (Origin::Built, Stamp::now());
    let blobs: Option<Vec<_>> = chain.iter().map(|layer| oci::layer_blob(builder.store, layer.id)).collect();
    let layers = blobs.unwrap_or_default();
    Ok(StoredImage { config, layers, origin, time, holds, made_from: Some(made_from), epoch })
}

/// Writes the image's config into the store; its id.
fn write_config(
    builder: &Builder<'_>,
    draft: &ImageDraft,
    layered: &Layered,
    epoch: Option<Epoch>,
) -> Result<BlobId, BuildError> {
    let mut config = config(draft, layered);
    if let Some(epoch) = epoch {
        set_times(&mut config, draft, epoch.seconds());
    }
    let mut blob = builder.store.write_blob()?;
    blob.write_all(&config.to_json()).at_path("write", "the image's config")?;
    Ok(blob.finish(None)?.0)
}

/// The snapshots of an image, bottom first.
pub(super) fn chain(builder: &Builder<'_>, result: Option<ResultId>) -> Result<Vec<Snapshot>, BuildError> {
    let Some(result) = result else { return Ok(Vec::new()) };
    builder.store.chain(result).ok_or_else(|| vanished(builder))
}

pub(super) fn vanished(builder: &Builder<'_>) -> BuildError {
    BuildError::Vanishing { store: builder.store.root().display().to_string() }
}

/// What the plain tar of every layer is; those that are not known yet are streamed, several at a time.
pub(super) fn layers(
    builder: &Builder<'_>,
    chain: &[Snapshot],
    options: &LayerOptions,
) -> Result<Vec<LayerTar>, BuildError> {
    let all = (0..chain.len()).into_par_iter().map(|index| {
        let lower = || below(builder, chain, index);
        oci::measured_layer(builder.store, &chain[index], lower, options)
    });
    Ok(all.collect::<Result<Vec<_>, OciError>>()?)
}

/// What a layer of a chain is compared with: nothing if it stands alone.
pub(super) fn below(
    builder: &Builder<'_>,
    chain: &[Snapshot],
    index: usize,
) -> Result<Option<RootDir>, OciError> {
    match stands_alone(builder.store, chain[index].id) {
        true => Ok(None),
        false => merged(builder, &chain[..index]),
    }
}

/// Whether a snapshot's layer is written without a look at what lies below it.
pub(super) fn stands_alone(store: &Store, id: ResultId) -> bool {
    store.note(id, ALONE).is_some()
}

/// The merged view of a chain; `None` for an empty one.
pub(super) fn merged(builder: &Builder<'_>, chain: &[Snapshot]) -> Result<Option<RootDir>, OciError> {
    if chain.is_empty() {
        return Ok(None);
    }
    let lowers = chain.iter().map(|snapshot| snapshot.tree.clone()).collect();
    let root = builder.sandbox.root(&Layers { lowers, writable: None });
    root.map(Some).map_err(|error| OciError::Lower(error.to_string()))
}

/// Streams one layer of a chain: the blob that it came from, else its plain tar.
pub(super) fn write_layer(
    builder: &Builder<'_>,
    chain: &[Snapshot],
    index: usize,
    options: &LayerOptions,
    out: &mut dyn std::io::Write,
) -> Result<(), OciError> {
    if let Some(descriptor) = oci::layer_blob(builder.store, chain[index].id) {
        let id = BlobId(descriptor.digest);
        let mut blob = builder.store.blob(id).ok_or(OciError::MissingBlob(descriptor.digest))?;
        std::io::copy(&mut blob, out).at_path("read", builder.store.blob_path(id))?;
        return Ok(());
    }
    let lower = below(builder, chain, index)?;
    let tree = RootDir::open(&chain[index].tree)?;
    oci::write_layer(&tree, lower.as_ref(), out, options)?;
    Ok(())
}

/// The image's config.
fn config(draft: &ImageDraft, Layered { tars, times }: &Layered) -> ImageConfig {
    let made = draft.history.iter().filter(|step| step.made == Made::Layer).count();
    let mut layers = times[times.len().saturating_sub(made)..].iter();
    let mut config = ImageConfig::empty(&draft.platform);
    config.author.clone_from(&draft.author);
    config.config = draft.config.clone();
    config.rootfs.diff_ids = tars.iter().map(|tar| tar.diff_id).collect();
    let mut created: Option<String> = None;
    for step in &draft.history {
        let line = match &step.made {
            Made::Base(history) => history.clone(),
            made => {
                let layer = if *made == Made::Layer { layers.next() } else { None };
                if let Some(time) = layer {
                    created = time.and_then(text_of).or(created);
                }
                History {
                    created: created.clone(),
                    created_by: step.created_by.clone(),
                    author: String::new(),
                    comment: COMMENT.to_owned(),
                    empty_layer: layer.is_none(),
                }
            }
        };
        created = line.created.clone().or(created);
        config.history.push(line);
    }
    config.created = created;
    config
}

/// Gives everything that was made here the time of the epoch; what came with the base image keeps its own
/// unless that is later (BuildKit, `SOURCE_DATE_EPOCH`).
fn set_times(config: &mut ImageConfig, draft: &ImageDraft, epoch: i64) {
    let latest = timestamp(epoch, 0);
    for (line, step) in config.history.iter_mut().zip(&draft.history) {
        let from_base = matches!(step.made, Made::Base(_));
        if !from_base || line.created.as_deref().is_none_or(|created| is_later(created, epoch)) {
            line.created = Some(latest.clone());
        }
    }
    config.created = Some(latest);
}

/// When a snapshot's step ran.
fn time_of(builder: &Builder<'_>, id: ResultId) -> Option<Stamp> {
    serde_json::from_slice(&builder.store.note(id, CREATED)?).ok()
}

fn text_of(stamp: Stamp) -> Option<String> {
    Some(timestamp(i64::try_from(stamp.seconds).ok()?, stamp.nanos))
}
