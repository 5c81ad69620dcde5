//! Looking a key up, and the claim that a miss gives.
//!
//! A key's lock is held from the moment at which nothing was found until something is published or the
//! [`Claim`] is dropped, so equal work is done once on a machine, whichever thread or process began it.
//! Locks are taken in a fixed order, all definitions before any canonical key: nobody who holds a
//! canonical key waits for a definition, so no two can wait for each other.

use serde_json::value::RawValue;

use crate::base::digest::{CanonicalKey, DefinitionKey, ResultId};

use super::records::{Record, canonical_path, definition_path};
use super::temporary::KeyLock;
use super::{Result, Store, StoreError, fault};

/// A step as it is looked up.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// What the step is, with everything before it.
    pub definition: DefinitionKey,
    /// What the step is, over the results that it stands on.
    pub canonical: CanonicalKey,
    /// Those results, each with its definition: a record found by the canonical key alone is filed under
    /// the definition with these.
    pub inputs: &'a [(DefinitionKey, ResultId)],
    /// The recipe, for the same purpose.
    pub recipe: &'a RawValue,
}

/// What looking a key up gives.
#[derive(Debug)]
pub enum Lookup<'s> {
    /// A result that counts.
    Hit(Record),
    /// None; the holder of the claim is the one who makes it.
    Miss(Claim<'s>),
}

/// The right to publish a key's result. While it lives, everybody else who looks the key up waits.
/// Dropping it publishes nothing.
#[derive(Debug)]
pub struct Claim<'s> {
    store: &'s Store,
    definition: DefinitionKey,
    canonical: CanonicalKey,
    _locks: [KeyLock; 2],
}

impl Claim<'_> {
    /// Files `record` under both keys, in place of what was there, and lets the waiting ones go on. Fails
    /// with [`StoreError::Incomplete`] if its result is not in the store.
    pub fn publish(self, record: Record) -> Result<Record> {
        if !self.store.lies_there(record.result) {
            return Err(StoreError::Incomplete(record.result));
        }
        fault::point();
        self.store.file(canonical_path(self.store, self.canonical), &record)?;
        self.store.file(definition_path(self.store, self.definition), &record)?;
        Ok(record)
    }
}

impl Store {
    /// Looks `key` up by its definition, then by its canonical key. Waits while somebody else holds a claim
    /// on it; the wait cannot be cancelled, so whoever must stay responsive polls [`Store::try_lookup`].
    pub fn lookup(&self, key: &Key<'_>) -> Result<Lookup<'_>> {
        match self.look(key, true, false)? {
            Some(found) => Ok(found),
            // A waiting look always finds.
            None => self.lookup(key),
        }
    }

    /// [`Store::lookup`], but `None` at once if somebody else holds a claim on the key.
    pub fn try_lookup(&self, key: &Key<'_>) -> Result<Option<Lookup<'_>>> {
        self.look(key, false, false)
    }

    /// A claim on `key` whatever is filed under it, for work that is forced. Waits like [`Store::lookup`];
    /// [`Store::try_claim`] does not.
    pub fn claim(&self, key: &Key<'_>) -> Result<Claim<'_>> {
        match self.look(key, true, true)? {
            Some(Lookup::Miss(claim)) => Ok(claim),
            // A forced look is never a hit, and a waiting one always finds.
            _ => self.claim(key),
        }
    }

    /// [`Store::claim`], but `None` at once if somebody else holds a claim on the key.
    pub fn try_claim(&self, key: &Key<'_>) -> Result<Option<Claim<'_>>> {
        Ok(self.look(key, false, true)?.and_then(|found| match found {
            Lookup::Miss(claim) => Some(claim),
            // A forced look is never a hit.
            Lookup::Hit(_) => None,
        }))
    }

    fn look(&self, key: &Key<'_>, wait: bool, forced: bool) -> Result<Option<Lookup<'_>>> {
        let tmp = self.tmp();
        let name = format!("definition-{}", key.definition.0.hex());
        let Some(definition) = KeyLock::take(&tmp, &name, wait)? else { return Ok(None) };
        if !forced && let Some(record) = self.peek(key.definition) {
            return Ok(Some(Lookup::Hit(record)));
        }
        let name = format!("canonical-{}", key.canonical.0.hex());
        let Some(canonical) = KeyLock::take(&tmp, &name, wait)? else { return Ok(None) };
        if !forced && let Some(record) = self.peek_canonical(key.canonical) {
            let record = Record { inputs: key.inputs.to_vec(), recipe: key.recipe.to_owned(), ..record };
            self.file(definition_path(self, key.definition), &record)?;
            return Ok(Some(Lookup::Hit(record)));
        }
        let locks = [definition, canonical];
        let (definition, canonical) = (key.definition, key.canonical);
        Ok(Some(Lookup::Miss(Claim { store: self, definition, canonical, _locks: locks })))
    }
}
