//! Who needs how much of a store: pure functions from an [`Inventory`] to shares and to a line a piece.
//!
//! The store knows names and records. Who else needs a result (a step of a service's last build) is told to
//! it as [`Owner`]s, which it only compares and shows. A share counts the whole chain of every result, so
//! what two services stand on counts in both, and in the own bytes of neither.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use super::collect::Inventory;
use super::{Held, KeptCache};

/// A service and what its last build gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// The project; empty for images that belong to none.
    pub project: String,
    /// The service, or the name of an image that belongs to no project.
    pub service: String,
    /// The steps of its last build that still have a result.
    pub steps: Vec<OwnedStep>,
}

/// One step of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedStep {
    /// Stage and number: `build/3`.
    pub name: String,
    /// What it gave and what its record holds.
    pub holds: Vec<Held>,
}

impl Owner {
    /// Project and service, as they are shown: `pack/web`.
    pub fn label(&self) -> String {
        match self.project.as_str() {
            "" => self.service.clone(),
            project => format!("{project}/{}", self.service),
        }
    }

    /// Everything that its steps hold.
    pub(super) fn holds(&self) -> impl Iterator<Item = &Held> {
        self.steps.iter().flat_map(|step| &step.holds)
    }
}

/// A part of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Snapshots and blobs.
    pub pieces: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes of those that no other owner needs.
    pub own_bytes: u64,
    /// When one of them was last of use, to a day; `None` if no record says so.
    pub used: Option<SystemTime>,
}

/// What each owner needs. Its text form has a line each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shares {
    /// Label and share of each owner, in the order of the inventory's owners.
    pub owners: Vec<(String, Share)>,
    /// What none of them needs; cache mounts not counted.
    pub rest: Share,
}

/// A snapshot, a blob or a copy of a cache mount, with everybody who needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceLine<'a> {
    /// What it is.
    pub what: PieceKind<'a>,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When it was last of use, to a day; `None` if no record says so.
    pub used: Option<SystemTime>,
    /// The names that hold it.
    pub names: Vec<&'a str>,
    /// The steps that gave it (`pack/web build/3`), and the services that only stand on it (`pack/web`).
    pub steps: Vec<String>,
}

/// What a [`PieceLine`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind<'a> {
    /// A snapshot or blob.
    Held(Held),
    /// A copy of a cache mount.
    Cache(&'a KeptCache),
}

impl<'a> PieceLine<'a> {
    /// Which steps use a cache mount is not known: it is in no key.
    fn of_cache(cache: &'a KeptCache) -> Self {
        let (what, bytes, used) = (PieceKind::Cache(cache), cache.bytes, Some(cache.used));
        Self { what, bytes, used, names: Vec::new(), steps: Vec::new() }
    }
}

impl Inventory {
    /// What each owner needs, and what none does.
    pub fn shares(&self) -> Shares {
        let reaches: Vec<BTreeSet<Held>> =
            self.owners.iter().map(|owner| self.present(owner.holds())).collect();
        let mut needed: BTreeMap<Held, usize> = BTreeMap::new();
        for held in reaches.iter().flatten() {
            *needed.entry(*held).or_default() += 1;
        }
        let used = self.last_used();
        let share = |pieces: &mut dyn Iterator<Item = &Held>| {
            let mut share = Share::default();
            for held in pieces {
                let bytes = self.pieces.get(held).map_or(0, |piece| piece.bytes);
                share.pieces += 1;
                share.bytes += bytes;
                share.own_bytes += if needed.get(held).is_none_or(|count| *count == 1) { bytes } else { 0 };
                share.used = share.used.max(used.get(held).copied());
            }
            share
        };
        let owners = self.owners.iter().zip(&reaches);
        Shares {
            owners: owners.map(|(owner, reach)| (owner.label(), share(&mut reach.iter()))).collect(),
            rest: share(&mut self.pieces.keys().filter(|held| !needed.contains_key(held))),
        }
    }

    /// A line for every piece and every copy of a cache mount, the largest first.
    pub fn lines(&self) -> Vec<PieceLine<'_>> {
        let (used, names, steps) = (self.last_used(), self.named(), self.stepped());
        let piece = |(held, piece): (&Held, &super::Piece)| PieceLine {
            what: PieceKind::Held(*held),
            bytes: piece.bytes,
            used: used.get(held).copied(),
            names: names.get(held).cloned().unwrap_or_default(),
            steps: steps.get(held).cloned().unwrap_or_default(),
        };
        let mut lines: Vec<_> =
            self.pieces.iter().map(piece).chain(self.mounts.iter().map(PieceLine::of_cache)).collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.bytes));
        lines
    }

    fn present<'a>(&'a self, holds: impl IntoIterator<Item = &'a Held>) -> BTreeSet<Held> {
        let mut reached = self.reach(holds);
        reached.retain(|held| self.pieces.contains_key(held));
        reached
    }

    fn named(&self) -> BTreeMap<Held, Vec<&str>> {
        let mut named: BTreeMap<Held, Vec<&str>> = BTreeMap::new();
        for (name, holds) in &self.names {
            for held in self.reach(holds) {
                named.entry(held).or_default().push(name);
            }
        }
        named
    }

    fn stepped(&self) -> BTreeMap<Held, Vec<String>> {
        let mut stepped: BTreeMap<Held, Vec<String>> = BTreeMap::new();
        for owner in &self.owners {
            let label = owner.label();
            let mut made = BTreeSet::new();
            for step in &owner.steps {
                for held in &step.holds {
                    stepped.entry(*held).or_default().push(format!("{label} {}", step.name));
                    made.insert(*held);
                }
            }
            for held in self.reach(owner.holds()).difference(&made) {
                stepped.entry(*held).or_default().push(label.clone());
            }
        }
        stepped
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, share) in &self.owners {
            writeln!(formatter, "{label}: {share}")?;
        }
        writeln!(formatter, "nobody: {}", self.rest)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.bytes - self.own_bytes;
        write!(formatter, "{} pieces, {} bytes own, {shared} bytes shared", self.pieces, self.own_bytes)?;
        let Some(used) = self.used else { return Ok(()) };
        let since = used.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        write!(formatter, ", used at {} hours", since.as_secs() / 3600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::collect::tests::{inventory, snapshot};

    fn owner(project: &str, service: &str, steps: &[(&str, u8)]) -> Owner {
        let step = |(name, number): &(&str, u8)| OwnedStep {
            name: (*name).to_owned(),
            holds: vec![snapshot(*number)],
        };
        let (project, service) = (project.to_owned(), service.to_owned());
        Owner { project, service, steps: steps.iter().map(step).collect() }
    }

    #[test]
    fn what_two_services_stand_on_is_shared() {
        let mut inventory = inventory();
        inventory.owners = vec![
            owner("pack", "web", &[("base/1", 2), ("final/1", 3)]),
            owner("pack", "api", &[("base/1", 2), ("gone/1", 99)]),
            owner("", "tool:latest", &[]),
        ];
        let expected = "pack/web: 3 pieces, 10 bytes own, 20 bytes shared, used at 9 hours\n\
            pack/api: 2 pieces, 0 bytes own, 20 bytes shared, used at 9 hours\n\
            tool:latest: 0 pieces, 0 bytes own, 0 bytes shared\n\
            nobody: 2 pieces, 20 bytes own, 0 bytes shared, used at 5 hours\n";
        assert_eq!(inventory.shares().to_string(), expected);
    }

    #[test]
    fn every_piece_says_who_needs_it() {
        let mut inventory = inventory();
        inventory.owners = vec![owner("pack", "web", &[("base/1", 2)]), owner("pack", "api", &[("x/1", 3)])];
        inventory.names.push(("web:latest".to_owned(), vec![snapshot(2)]));
        let lines = inventory.lines();
        let of = |number| lines.iter().find(|line| line.what == PieceKind::Held(snapshot(number))).unwrap();
        assert_eq!(
            (of(1).names.as_slice(), of(1).steps.join(", ")),
            (&["web:latest"][..], "pack/web, pack/api".to_owned())
        );
        assert_eq!((of(2).names.len(), of(2).steps.join(", ")), (1, "pack/web base/1, pack/api".to_owned()));
        assert_eq!((of(3).names.len(), of(3).steps.join(", ")), (0, "pack/api x/1".to_owned()));
        assert_eq!((of(4).names.len(), of(4).steps.len()), (0, 0));
    }
}
