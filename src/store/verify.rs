//! Looking for damage: what lies in the store and is not what it should be.
//!
//! [`Store::damage`] digests every blob and follows every record to its pieces. What it finds is a plan of
//! removals: carried out ([`Store::remove`]), everything damaged is a miss and is made again. The trees of
//! snapshots are others' business, who know how a layer is digested. Nothing here writes.

use std::fs::File;
use std::path::PathBuf;

use crate::base::digest::{BlobId, Digest, ResultId};
use crate::base::fs::AtPath;

use super::inventory::PIN;
use super::{Held, Inventory, Removal, Removals, Result, Store, Why};

impl Store {
    /// What is damaged or incomplete of what `inventory` lists: blobs whose bytes have another digest,
    /// records whose pieces are missing, files that are no records. `seen` is told each piece that was read.
    pub fn damage(&self, inventory: &Inventory, seen: &mut dyn FnMut(u64)) -> Result<Removals> {
        let file = |file: &PathBuf| Removal::File(file.clone(), Why::Unreadable);
        let mut steps: Vec<_> = inventory.unreadable.iter().map(file).collect();
        steps.extend(
            inventory
                .records
                .iter()
                .filter(|kept| !self.is_complete(&kept.holds))
                .map(|kept| Removal::Records(kept.result, kept.files.clone(), Why::Broken)),
        );
        for (held, piece) in &inventory.pieces {
            match held {
                Held::Blob(id) => {
                    if let Some(found) = self.other_digest(*id)? {
                        steps.push(Removal::Piece(*held, piece.bytes, Why::Damaged(found)));
                    }
                    seen(piece.bytes);
                }
                Held::Snapshot(id) if self.chain(*id).is_none() => {
                    steps.push(Removal::Piece(*held, piece.bytes, Why::Broken));
                }
                Held::Snapshot(_) => {}
            }
        }
        Ok(Removals { steps })
    }

    fn is_complete<'h>(&self, holds: impl IntoIterator<Item = &'h Held>) -> bool {
        holds.into_iter().all(|held| match held {
            Held::Snapshot(id) => self.chain(*id).is_some(),
            Held::Blob(id) => self.blob_lies_there(*id),
        })
    }

    /// The digest of a blob's bytes, if it is not the one that it should have.
    fn other_digest(&self, id: BlobId) -> Result<Option<Digest>> {
        let path = self.blob_path(id);
        let mut file = File::open(&path).at_path("open", &path)?;
        let (found, _) = Digest::of_reader(&mut file).at_path("read", &path)?;
        Ok((found != id.0).then_some(found))
    }
}

impl Inventory {
    /// The image names that need a piece which is missing: what stands under them cannot be given away.
    pub fn incomplete_names(&self) -> Vec<&str> {
        let missing = |held: &Held| !self.pieces.contains_key(held);
        let incomplete = self.names.iter().filter(|(_, holds)| self.reach(holds).iter().any(missing));
        incomplete.filter(|(name, _)| !name.starts_with(PIN)).map(|(name, _)| name.as_str()).collect()
    }

    /// The names that hold this snapshot or something that stands on it, or this blob.
    pub fn names_of(&self, held: Held) -> Vec<&str> {
        let holding = self.names.iter().filter(|(_, holds)| self.reach(holds).contains(&held));
        holding.map(|(name, _)| name.as_str()).collect()
    }

    /// The snapshots, those below first.
    pub fn snapshots(&self) -> Vec<ResultId> {
        let mut found: Vec<_> = self
            .pieces
            .iter()
            .filter_map(|(held, piece)| match held {
                Held::Snapshot(id) => Some((piece.chain.len(), *id)),
                Held::Blob(_) => None,
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, id)| id).collect()
    }
}
