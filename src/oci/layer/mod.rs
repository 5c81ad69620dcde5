//! Layers: a tree in overlay form on one side, a tar with `.wh.` entries on the other.
//!
//! [`write_layer`] streams a snapshot's own tree as a tar whose bytes follow from the tree alone;
//! [`unpack_layer`] does the reverse with tars of any origin. In the tree a deleted file is a character
//! device 0/0 and a folder that hides what lies below has `trusted.overlay.opaque`; in the tar they are
//! entries whose names begin with `.wh.` (OCI image-spec, "layer"). Compression is [`super::compress`]'s.

mod folder;
mod unpack;
mod write;
mod xattrs;

pub use folder::copy_tree;
pub use unpack::{Received, UnpackLimits, unpack_layer};
pub(super) use unpack::{unpack_copied, unpack_dated, unpack_onto};
pub use write::{LayerOptions, Times, write_layer, write_tree};

use std::io::{self, Read, Write};

use crate::base::digest::DiffId;

/// Before the name of a deleted file (OCI image-spec, "whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// The entry that hides everything that lower layers have in its folder.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that belonged to the aufs storage driver and mean nothing to others.
const AUFS: &[u8] = b".wh..wh.";
/// The attribute of an overlay folder that hides what lies below.
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// What a layer's plain tar is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LayerTar {
    /// Its digest.
    pub diff_id: DiffId,
    /// Its bytes.
    pub size: u64,
}

/// Which side of a copy failed.
enum CopyFailed {
    Reading(io::Error),
    Writing(io::Error),
}

/// Copies up to `length` bytes in large pieces; returns how many there were.
fn transfer(from: &mut dyn Read, to: &mut dyn Write, length: u64) -> Result<u64, CopyFailed> {
    let piece = usize::try_from(length.min(1 << 17)).unwrap_or(1 << 17);
    let mut buffer = vec![0; piece];
    let mut copied = 0;
    while copied < length {
        let wanted = usize::try_from(length - copied).map_or(piece, |left| left.min(piece));
        match from.read(&mut buffer[..wanted]) {
            Ok(0) => break,
            Ok(count) => {
                to.write_all(&buffer[..count]).map_err(CopyFailed::Writing)?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyFailed::Reading(error)),
        }
    }
    Ok(copied)
}

#[cfg(test)]
mod tests;
