//! Looking for damage in a whole store: what the store itself can tell, and the trees of its snapshots.
//!
//! Of a snapshot whose layer was written before, the digest of that layer is remembered; it is written once
//! more, to nowhere, and compared. Of one that is the content of a folder it is known what its files held,
//! also of those that it shares with others. Any other that nobody has asked for a layer has nothing to
//! compare with. What stands on something damaged is not called damaged: it becomes a miss with it.

use super::error::BuildError;
use super::exec::changed_copy;
use super::export;
use crate::base::digest::{Digest, ResultId};
use crate::oci;
use crate::sandbox::{Layers, Sandbox};
use crate::store::{Held, Inventory, Removal, Removals, Store, Why};

/// What is damaged of what `inventory` lists. `seen` is told the bytes of each piece that was read.
pub fn damage(
    store: &Store,
    sandbox: &dyn Sandbox,
    inventory: &Inventory,
    seen: &mut dyn FnMut(u64),
) -> Result<Removals, BuildError> {
    let mut removals = store.damage(inventory, seen)?;
    for id in inventory.snapshots() {
        let held = Held::Snapshot(id);
        let bytes = inventory.pieces.get(&held).map_or(0, |piece| piece.bytes);
        if let Some(found) = changed(store, sandbox, id)? {
            removals.steps.push(Removal::Piece(held, bytes, Why::Damaged(found)));
        }
        seen(bytes);
    }
    Ok(removals)
}

/// The digest of the snapshot's layer if it is another one than it was.
fn changed(store: &Store, sandbox: &dyn Sandbox, id: ResultId) -> Result<Option<Digest>, BuildError> {
    // What has lost a part of its chain was found by the store.
    let Some(chain) = store.chain(id) else { return Ok(None) };
    let Some((top, below)) = chain.split_last() else { return Ok(None) };
    if let Some(found) = changed_copy(store, top)? {
        return Ok(Some(found));
    }
    let alone = export::stands_alone(store, id);
    let lower = || {
        if below.is_empty() || alone {
            return Ok(None);
        }
        let lowers = below.iter().map(|snapshot| snapshot.tree.clone()).collect();
        let root = sandbox.root(&Layers { lowers, writable: None });
        root.map(Some).map_err(|error| oci::OciError::Lower(error.to_string()))
    };
    Ok(oci::changed_layer(store, top, lower)?)
}
