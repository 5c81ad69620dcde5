//! Layers as others get them: compressed, as blobs of the store.
//!
//! A layer that was pulled or imported keeps its own bytes as long as they are compressed, whatever the
//! compression: a re-made one would be another blob, which nobody has. What was built, and what came as a
//! plain tar, is packed once; the note beside its snapshot says as which blob. Such blobs are held by
//! nothing: the collector may take them, and they are packed again, to the same bytes, when they are
//! wanted again.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::base::digest::BlobId;
use crate::base::fs::RootDir;
use crate::store::{BlobWriter, Snapshot, Store};

use super::snapshot::layer_blob;
use super::{Descriptor, Encoding, GzipWriter, LayerOptions, OciError, Times, decompressed, write_layer};

/// The level of gzip where none is asked for, which is also BuildKit's.
const GZIP_LEVEL: u32 = 6;
/// The level of zstd where none is asked for.
const ZSTD_LEVEL: i32 = 3;

/// How layers are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packing {
    /// The compression of layers that have none of their own.
    pub encoding: Encoding,
    /// Its level: 0 to 9 for gzip, 0 to 22 for zstd; `None` is the usual one.
    pub level: Option<u32>,
    /// Whether layers that have another compression of their own get this one too.
    pub force: bool,
}

impl Default for Packing {
    /// gzip at its usual level.
    fn default() -> Self {
        Self { encoding: Encoding::Gzip, level: None, force: false }
    }
}

/// What is remembered of a packed snapshot, under a name for each encoding.
#[derive(Serialize, Deserialize)]
struct PackedNote {
    times: Times,
    level: Option<u32>,
    descriptor: Descriptor,
}

/// The blob of a snapshot's layer, with its OCI media type; it is in the store afterwards. `lower` gives
/// the merged view of what the snapshot stands on and is asked only if the layer has to be written.
pub fn packed_layer(
    store: &Store,
    snapshot: &Snapshot,
    lower: impl FnOnce() -> Result<Option<RootDir>, OciError>,
    options: &LayerOptions,
    packing: &Packing,
) -> Result<Descriptor, OciError> {
    let own = layer_blob(store, snapshot.id);
    if let Some(blob) = &own
        && keeps(Encoding::of_media_type(&blob.media_type), packing)
    {
        return Ok(blob.clone());
    }
    // Its own bytes fix the times of a layer that has some.
    let times = if own.is_some() { Times::Own } else { options.times };
    let name = note_name(packing.encoding);
    let known = store.note(snapshot.id, name).and_then(|note| serde_json::from_slice(&note).ok());
    if let Some(PackedNote { times: noted, level, descriptor }) = known
        && (noted, level) == (times, packing.level)
        && store.has_blob(BlobId(descriptor.digest))
    {
        return Ok(descriptor);
    }
    let descriptor = match own {
        Some(blob) => repack(store, &blob, packing)?,
        None => {
            let tree = RootDir::open(&snapshot.tree)?;
            let lower = lower()?;
            pack(store, packing, &mut |out| write_layer(&tree, lower.as_ref(), out, options).map(drop))?
        }
    };
    let note = PackedNote { times, level: packing.level, descriptor: descriptor.clone() };
    let note = serde_json::to_vec(&note).expect("plain fields always have a JSON form");
    store.set_note(snapshot.id, name, &note)?;
    Ok(descriptor)
}

/// Whether a blob in this encoding stays as it is.
const fn keeps(own: Option<Encoding>, packing: &Packing) -> bool {
    match (own, packing.encoding) {
        (Some(Encoding::Plain), Encoding::Plain)
        | (Some(Encoding::Gzip), Encoding::Gzip)
        | (Some(Encoding::Zstd), Encoding::Zstd) => true,
        (Some(Encoding::Plain), _) => false,
        // What nobody knows cannot be undone either.
        (None, _) => true,
        (Some(_), _) => !packing.force,
    }
}

const fn note_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Plain => "layer-packed-plain",
        Encoding::Gzip => "layer-packed-gzip",
        Encoding::Zstd => "layer-packed-zstd",
    }
}

/// The blob in another compression.
fn repack(store: &Store, blob: &Descriptor, packing: &Packing) -> Result<Descriptor, OciError> {
    let blob = store.blob(BlobId(blob.digest)).ok_or(OciError::MissingBlob(blob.digest))?;
    let (_, mut plain) = decompressed(blob)?;
    pack(store, packing, &mut |out| io::copy(&mut plain, out).map(drop).map_err(written))
}

/// Writes what `plain` writes as a compressed blob.
fn pack(
    store: &Store,
    packing: &Packing,
    plain: &mut dyn FnMut(&mut dyn Write) -> Result<(), OciError>,
) -> Result<Descriptor, OciError> {
    let blob = store.write_blob()?;
    let blob = match packing.encoding {
        Encoding::Plain => {
            let mut blob = blob;
            plain(&mut blob)?;
            blob
        }
        Encoding::Gzip => {
            let level = packing.level.unwrap_or(GZIP_LEVEL);
            let mut gzip = GzipWriter::new(blob, level).map_err(written)?;
            plain(&mut gzip)?;
            gzip.finish().map_err(written)?
        }
        Encoding::Zstd => zstd(blob, packing.level, plain)?,
    };
    let (id, size) = blob.finish(None)?;
    Ok(Descriptor::new(packing.encoding.media_type(), id.0, size))
}

fn zstd<'s>(
    blob: BlobWriter<'s>,
    level: Option<u32>,
    plain: &mut dyn FnMut(&mut dyn Write) -> Result<(), OciError>,
) -> Result<BlobWriter<'s>, OciError> {
    let level = level.and_then(|level| i32::try_from(level).ok()).unwrap_or(ZSTD_LEVEL);
    let mut encoder = zstd::Encoder::new(blob, level).map_err(written)?;
    plain(&mut encoder)?;
    encoder.finish().map_err(written)
}

fn written(source: io::Error) -> OciError {
    OciError::Write { what: "a compressed layer", source }
}
