//! Who needs which results: the last build of every service, joined with the records of its steps.
//!
//! The history of a service keeps its steps' recipes; a recipe's key has a record, which says what the step
//! gave and holds. The store counts with that ([`Inventory::shares`]) without knowing recipes. A step whose
//! record is gone, or whose recipe has another form by now, needs nothing.
//!
//! [`Inventory::shares`]: crate::store::Inventory::shares

use std::collections::BTreeSet;

use super::history::{ServiceHistory, StepHistory};
use crate::store::{Held, OwnedStep, Owner, Store};

/// Every service of every project of which a build is known, sorted.
pub fn owners(store: &Store) -> Vec<Owner> {
    let histories = store.histories::<ServiceHistory>().into_iter();
    let mut owners: Vec<_> = histories
        .map(|(service, history)| Owner {
            project: history.project,
            service,
            steps: history.steps.iter().filter_map(|step| owned(store, step)).collect(),
        })
        .collect();
    owners.sort_by(|one, other| (&one.project, &one.service).cmp(&(&other.project, &other.service)));
    owners
}

fn owned(store: &Store, step: &StepHistory) -> Option<OwnedStep> {
    let record = store.recall(step.recipe.definition_key())?;
    let holds: BTreeSet<_> = record.holds.into_iter().chain([Held::Snapshot(record.result)]).collect();
    Some(OwnedStep { name: step.name.clone(), holds: holds.into_iter().collect() })
}
