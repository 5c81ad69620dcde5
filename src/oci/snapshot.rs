//! Layers and the store's snapshots: what makes one of the other, and what is remembered of it.
//!
//! [`publish_layer`] unpacks a blob into a snapshot. [`measured_layer`] streams a snapshot once to learn
//! its diff ID. Both note what they learned beside the snapshot, so that it is never learned twice.
//! Mounting what lies below is the caller's part.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::digest::{BlobId, DiffId, Digest, ResultId};
use crate::base::fs::RootDir;
use crate::store::{Snapshot, Staging, Store};

use super::{
    Descriptor, LayerOptions, LayerTar, OciError, Times, UnpackLimits, decompressed, unpack_layer,
    write_layer,
};

/// The note of what a snapshot's plain tar is.
const TAR_NOTE: &str = "layer-tar";
/// The note of the blob that a snapshot was unpacked from.
const BLOB_NOTE: &str = "layer-blob";

/// The content of [`TAR_NOTE`]: it holds for tars that were written with the same options.
#[derive(Serialize, Deserialize)]
struct TarNote {
    #[serde(default)]
    times: Times,
    diff_id: DiffId,
    size: u64,
}

/// The blob that a snapshot was unpacked from: its layer as it was pulled or imported. `None` for
/// snapshots that were built.
pub fn layer_blob(store: &Store, snapshot: ResultId) -> Option<Descriptor> {
    serde_json::from_slice(&store.note(snapshot, BLOB_NOTE)?).ok()
}

/// What the snapshot's plain tar is, if that was learned before.
pub fn known_layer(store: &Store, snapshot: ResultId, options: &LayerOptions) -> Option<LayerTar> {
    let note: TarNote = serde_json::from_slice(&store.note(snapshot, TAR_NOTE)?).ok()?;
    // A layer that has its own blob keeps it, whatever times would be written now.
    let same = note.times == options.times || layer_blob(store, snapshot).is_some();
    same.then_some(LayerTar { diff_id: note.diff_id, size: note.size })
}

/// With which times the snapshot's plain tar was last written; `None` if it never was.
pub fn layer_times(store: &Store, snapshot: ResultId) -> Option<Times> {
    let note: TarNote = serde_json::from_slice(&store.note(snapshot, TAR_NOTE)?).ok()?;
    Some(note.times)
}

/// What the snapshot's plain tar is; it is streamed if that was never learned. `lower` gives the merged
/// view of what the snapshot stands on and is asked only then.
pub fn measured_layer(
    store: &Store,
    snapshot: &Snapshot,
    lower: impl FnOnce() -> Result<Option<RootDir>, OciError>,
    options: &LayerOptions,
) -> Result<LayerTar, OciError> {
    if let Some(known) = known_layer(store, snapshot.id, options) {
        return Ok(known);
    }
    let tree = RootDir::open(&snapshot.tree)?;
    let layer = write_layer(&tree, lower()?.as_ref(), &mut io::sink(), options)?;
    note_tar(store, snapshot.id, layer, options)?;
    Ok(layer)
}

/// The digest that the snapshot's plain tar has now, if it is another one than was noted. A layer that has a
/// blob of its own is unpacked once more beside it, and the two trees are compared: its tar is another
/// program's. `None` too where nothing was noted or the blob is gone.
pub fn changed_layer(
    store: &Store,
    snapshot: &Snapshot,
    lower: impl FnOnce() -> Result<Option<RootDir>, OciError>,
) -> Result<Option<Digest>, OciError> {
    let note = store.note(snapshot.id, TAR_NOTE).and_then(|note| serde_json::from_slice(&note).ok());
    let Some(TarNote { times, diff_id, .. }) = note else { return Ok(None) };
    let lower = lower()?;
    let digest = |tree: &Path, times: Times| -> Result<DiffId, OciError> {
        let options = LayerOptions { times };
        Ok(write_layer(&RootDir::open(tree)?, lower.as_ref(), &mut io::sink(), &options)?.diff_id)
    };
    let mut compared = times;
    let expected = match layer_blob(store, snapshot.id) {
        None => diff_id,
        Some(layer) => {
            let Some(blob) = store.blob(BlobId(layer.digest)) else { return Ok(None) };
            let staging = store.stage()?;
            let (_, mut reader) = decompressed(blob)?;
            let (tree, limits) = (RootDir::open(&staging.tree())?, UnpackLimits::default());
            // Bytes that do not unpack are the blob's damage, which is found by its digest.
            let Ok(tar) = unpack_layer(&mut reader, &tree, lower.as_ref(), &limits) else { return Ok(None) };
            if tar.diff_id != diff_id {
                return Ok(None);
            }
            // Folders that the tar does not name have the time at which they were made.
            compared = Times::NoLater(0);
            digest(&staging.tree(), compared)?
        }
    };
    let found = digest(&snapshot.tree, compared)?;
    Ok((found != expected).then_some(found.0))
}

fn note_tar(
    store: &Store,
    snapshot: ResultId,
    layer: LayerTar,
    options: &LayerOptions,
) -> Result<(), OciError> {
    let LayerTar { diff_id, size } = layer;
    let note = TarNote { times: options.times, diff_id, size };
    Ok(store.set_note(snapshot, TAR_NOTE, &json(&note))?)
}

/// Unpacks a layer whose blob is in the store into a snapshot over `parent`. `lower` is the merged view
/// of `parent`'s chain. The plain tar must have the digest `expected` that the image's config gives.
pub fn publish_layer(
    store: &Store,
    layer: &Descriptor,
    expected: DiffId,
    parent: Option<ResultId>,
    lower: Option<&RootDir>,
    limits: &UnpackLimits,
) -> Result<Snapshot, OciError> {
    let (staging, tar) = unpacked(store, layer, expected, lower, limits)?;
    let snapshot = store.publish_snapshot(staging, parent)?;
    note_layer(store, snapshot.id, layer, tar)?;
    Ok(snapshot)
}

/// A layer that another store made of a step.
#[derive(Clone, Copy, Debug)]
pub struct Adopted<'l> {
    /// Its snapshot's identifier there.
    pub id: ResultId,
    /// Its blob, which is in this store.
    pub layer: &'l Descriptor,
    /// What its plain tar is.
    pub tar: LayerTar,
    /// How it was written.
    pub options: LayerOptions,
    /// Whether it stays this blob whatever is asked of layers; else it is written anew, as a layer that was
    /// built here.
    pub keeps_blob: bool,
    /// What else is known of it.
    pub notes: &'l [(&'static str, Vec<u8>)],
}

/// Unpacks a layer that another store made, over `parent`, under the identifier that it has there; see
/// [`publish_layer`].
pub fn adopt_layer(
    store: &Store,
    adopted: &Adopted<'_>,
    parent: Option<ResultId>,
    lower: Option<&RootDir>,
    limits: &UnpackLimits,
) -> Result<Snapshot, OciError> {
    let Adopted { layer, tar, options, .. } = *adopted;
    let (staging, _) = unpacked(store, layer, tar.diff_id, lower, limits)?;
    if adopted.keeps_blob {
        staging.note(BLOB_NOTE, &json(layer))?;
    }
    let LayerTar { diff_id, size } = tar;
    staging.note(TAR_NOTE, &json(&TarNote { times: options.times, diff_id, size }))?;
    for (name, content) in adopted.notes {
        staging.note(name, content)?;
    }
    Ok(store.adopt_snapshot(adopted.id, staging, parent)?)
}

/// The tree of a layer whose blob is in the store.
fn unpacked(
    store: &Store,
    layer: &Descriptor,
    expected: DiffId,
    lower: Option<&RootDir>,
    limits: &UnpackLimits,
) -> Result<(Staging, LayerTar), OciError> {
    let blob = store.blob(BlobId(layer.digest)).ok_or(OciError::MissingBlob(layer.digest))?;
    let staging = store.stage()?;
    let (_, mut reader) = decompressed(blob)?;
    let tar = unpack_layer(&mut reader, &RootDir::open(&staging.tree())?, lower, limits)?;
    if tar.diff_id != expected {
        let what = format!("the content of layer {}", layer.digest);
        return Err(OciError::Mismatch { what, expected: expected.0, found: tar.diff_id.0 });
    }
    Ok((staging, tar))
}

/// Remembers from which blob a snapshot came and what its plain tar is.
pub(super) fn note_layer(
    store: &Store,
    snapshot: ResultId,
    layer: &Descriptor,
    tar: LayerTar,
) -> Result<(), OciError> {
    store.set_note(snapshot, BLOB_NOTE, &json(layer))?;
    note_tar(store, snapshot, tar, &LayerOptions::default())
}

/// Whether the tree of a snapshot has this file, links not followed.
pub(super) fn has_file(tree: &RootDir, path: &str) -> bool {
    matches!(tree.stat(Path::new(path), true), Ok(Some(_)))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain fields always have a JSON form")
}

/// Keeps a small document as a blob.
pub(super) fn keep(store: &Store, bytes: &[u8], expected: Option<Digest>) -> Result<Digest, OciError> {
    let mut blob = store.write_blob()?;
    io::Write::write_all(&mut blob, bytes).map_err(|source| OciError::Write { what: "a blob", source })?;
    let (id, _) = blob.finish(expected.map(BlobId))?;
    Ok(id.0)
}
