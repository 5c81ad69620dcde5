//! What the collector removes and why: a pure function from what lies in the store to a plan.
//!
//! Names keep their pieces whatever the limits are. A record keeps its result with the whole chain and all
//! that it holds; records go least recently used first, a child never later than what it stands on. A piece
//! that neither a name nor a remaining record keeps is removed. Nothing here touches the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::base::digest::ResultId;

use super::{Held, KeptCache};

/// Everything that lies in a store and has a size or keeps something alive.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// The records, one for each result: a result may be filed under several keys.
    pub records: Vec<Kept>,
    /// The pieces with their sizes.
    pub pieces: BTreeMap<Held, Piece>,
    /// What each name of the store holds.
    pub names: Vec<(String, Vec<Held>)>,
    /// Files that are no readable record.
    pub unreadable: Vec<PathBuf>,
    /// The cache mounts, one for each copy.
    pub mounts: Vec<KeptCache>,
    /// Bytes of everything else: records, shelves, stat caches.
    pub other_bytes: u64,
}

/// One result with all the keys under which it is filed.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The result.
    pub result: ResultId,
    /// The files of its records.
    pub files: Vec<PathBuf>,
    /// What the records hold, the result itself included.
    pub holds: BTreeSet<Held>,
    /// When it was last of use, to a day.
    pub used: SystemTime,
}

/// One snapshot or blob.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    /// Bytes on the disk.
    pub bytes: u64,
    /// What a snapshot stands on, bottom first.
    pub chain: Vec<ResultId>,
}

/// How much is to stay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Remove records and cache mounts only until all takes no more than so many bytes.
    pub keep_bytes: Option<u64>,
    /// Remove only records that were of no use for so long.
    pub unused_for: Option<Duration>,
}

/// Why something goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is older than allowed, or more than fits.
    Unused(Duration),
    /// A piece that the record needs is missing.
    Broken,
    /// The file is no readable record.
    Unreadable,
    /// Neither a name nor a remaining record holds it.
    Unheld,
}

/// One removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// The files of a result's records.
    Records(ResultId, Vec<PathBuf>, Why),
    /// A file that should be a record and is none.
    File(PathBuf, Why),
    /// A snapshot or blob of so many bytes.
    Piece(Held, u64, Why),
    /// A copy of a cache mount.
    Cache(KeptCache, Why),
}

/// What the collector will do, in order: records before what they hold. Its text form has a line a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removals {
    /// The steps.
    pub steps: Vec<Removal>,
}

impl Removals {
    /// Bytes of all pieces and cache mounts that go.
    pub fn bytes(&self) -> u64 {
        let bytes = |step: &Removal| match step {
            Removal::Piece(_, bytes, _) => *bytes,
            Removal::Cache(cache, _) => cache.bytes,
            Removal::Records(..) | Removal::File(..) => 0,
        };
        self.steps.iter().map(bytes).sum()
    }
}

/// What the limits decide about.
#[derive(Clone, Copy)]
enum Candidate<'a> {
    Records(&'a Kept),
    Cache(&'a KeptCache),
}

impl Inventory {
    /// What must go so that the store is within `limits` at the moment `now`. Without any limit every
    /// record goes, and all that no name holds.
    pub fn removals(&self, limits: &Limits, now: SystemTime) -> Removals {
        let mut holders = self.holders();
        let mut steps: Vec<_> =
            self.unreadable.iter().map(|file| Removal::File(file.clone(), Why::Unreadable)).collect();
        let mut live: u64 =
            holders.keys().filter_map(|held| self.pieces.get(held)).map(|piece| piece.bytes).sum();
        live += self.mounts.iter().map(|cache| cache.bytes).sum::<u64>();
        for (used, candidate) in self.candidates() {
            let unused = now.duration_since(used).unwrap_or_default();
            let whole = match candidate {
                Candidate::Records(kept) => self.is_whole(kept),
                Candidate::Cache(_) => true,
            };
            let why = match whole {
                false => Why::Broken,
                true if limits.unused_for.is_some_and(|least| unused < least) => continue,
                true if limits.keep_bytes.is_some_and(|most| live <= most) => continue,
                true => Why::Unused(unused),
            };
            match candidate {
                Candidate::Records(kept) => {
                    live -= self.let_go(&kept.holds, &mut holders);
                    steps.push(Removal::Records(kept.result, kept.files.clone(), why));
                }
                Candidate::Cache(cache) => {
                    live -= cache.bytes;
                    steps.push(Removal::Cache(cache.clone(), why));
                }
            }
        }
        let unheld = self.pieces.iter().filter(|(held, _)| !holders.contains_key(held));
        steps.extend(unheld.map(|(held, piece)| Removal::Piece(*held, piece.bytes, Why::Unheld)));
        Removals { steps }
    }

    /// What may go, least recently used first; records in an order of their own among themselves.
    fn candidates(&self) -> Vec<(SystemTime, Candidate<'_>)> {
        let records = self.in_order().into_iter().map(|(used, kept)| (used, Candidate::Records(kept)));
        let caches = self.mounts.iter().map(|cache| (cache.used, Candidate::Cache(cache)));
        let mut candidates: Vec<_> = records.chain(caches).collect();
        candidates.sort_by_key(|(used, _)| *used);
        candidates
    }

    /// Bytes of the pieces that only records hold, or nobody: what a prune without limits frees.
    pub fn reclaimable_bytes(&self) -> u64 {
        self.removals(&Limits::default(), SystemTime::UNIX_EPOCH).bytes()
    }

    /// Every piece that `holds` keeps alive: itself and, of snapshots, the whole chain.
    fn reach<'a>(&'a self, holds: impl IntoIterator<Item = &'a Held>) -> BTreeSet<Held> {
        let mut reached = BTreeSet::new();
        for held in holds {
            reached.insert(*held);
            if let Some(piece) = self.pieces.get(held) {
                reached.extend(piece.chain.iter().map(|id| Held::Snapshot(*id)));
            }
        }
        reached
    }

    /// How many names and records hold each piece.
    fn holders(&self) -> BTreeMap<Held, usize> {
        let mut holders = BTreeMap::new();
        let names = self.names.iter().map(|(_, holds)| self.reach(holds));
        let records = self.records.iter().map(|kept| self.reach(&kept.holds));
        for held in names.chain(records).flatten() {
            *holders.entry(held).or_insert(0) += 1;
        }
        holders
    }

    /// Takes one holder away from what `holds` reaches; the bytes that nobody holds any more.
    fn let_go(&self, holds: &BTreeSet<Held>, holders: &mut BTreeMap<Held, usize>) -> u64 {
        let mut freed = 0;
        for held in self.reach(holds) {
            match holders.get_mut(&held) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    holders.remove(&held);
                    freed += self.pieces.get(&held).map_or(0, |piece| piece.bytes);
                }
            }
        }
        freed
    }

    fn is_whole(&self, kept: &Kept) -> bool {
        self.reach(&kept.holds).iter().all(|held| self.pieces.contains_key(held))
    }

    /// The records with their last use, least recently used first. What a child stands on was of use when the child was, and
    /// goes after it: alone it would free nothing and cost everything above it at the next forced step.
    fn in_order(&self) -> Vec<(SystemTime, &Kept)> {
        let mut used: BTreeMap<ResultId, SystemTime> = BTreeMap::new();
        for kept in &self.records {
            for held in self.reach(&kept.holds) {
                if let Held::Snapshot(id) = held {
                    let last = used.entry(id).or_insert(kept.used);
                    *last = (*last).max(kept.used);
                }
            }
        }
        let depth =
            |kept: &Kept| self.pieces.get(&Held::Snapshot(kept.result)).map_or(0, |piece| piece.chain.len());
        let last = |kept: &Kept| used.get(&kept.result).copied().unwrap_or(kept.used);
        let mut order: Vec<_> = self.records.iter().map(|kept| (last(kept), kept)).collect();
        order.sort_by_key(|(used, kept)| (*used, std::cmp::Reverse(depth(kept))));
        order
    }
}

impl fmt::Display for Removals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Removal::Records(id, _, why) => writeln!(formatter, "record of {}: {why}", id.0.short())?,
                Removal::Cache(cache, why) => {
                    writeln!(formatter, "cache mount {}, {} bytes: {why}", cache.id, cache.bytes)?;
                }
                Removal::File(path, why) => writeln!(formatter, "file {}: {why}", path.display())?,
                Removal::Piece(Held::Snapshot(id), bytes, why) => {
                    writeln!(formatter, "snapshot {}, {bytes} bytes: {why}", id.0.short())?;
                }
                Removal::Piece(Held::Blob(id), bytes, why) => {
                    writeln!(formatter, "blob {}, {bytes} bytes: {why}", id.0.short())?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unused(age) => write!(formatter, "not used for {} hours", age.as_secs() / 3600),
            Self::Broken => formatter.write_str("a piece that it needs is missing"),
            Self::Unreadable => formatter.write_str("not readable as a record"),
            Self::Unheld => formatter.write_str("nothing holds it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::{BlobId, Digest};

    const HOUR: Duration = Duration::from_secs(3600);

    fn id(number: u8) -> ResultId {
        ResultId(Digest::from_bytes([number; 32]))
    }

    fn snapshot(number: u8) -> Held {
        Held::Snapshot(id(number))
    }

    /// base(1) ← middle(2) ← top(3), and other(4) with a blob; each piece has ten bytes.
    fn inventory() -> Inventory {
        let kept = |number: u8, hours: u32, more: &[Held]| Kept {
            result: id(number),
            files: vec![PathBuf::from(format!("{number}.json"))],
            holds: more.iter().copied().chain([snapshot(number)]).collect(),
            used: SystemTime::UNIX_EPOCH + HOUR * hours,
        };
        let piece = |below: &[u8]| Piece { bytes: 10, chain: below.iter().map(|below| id(*below)).collect() };
        Inventory {
            records: vec![
                kept(1, 1, &[]),
                kept(2, 2, &[]),
                kept(3, 9, &[]),
                kept(4, 5, &[Held::Blob(BlobId(id(5).0))]),
            ],
            pieces: BTreeMap::from([
                (snapshot(1), piece(&[])),
                (snapshot(2), piece(&[1])),
                (snapshot(3), piece(&[1, 2])),
                (snapshot(4), piece(&[])),
                (Held::Blob(BlobId(id(5).0)), piece(&[])),
            ]),
            ..Inventory::default()
        }
    }

    fn text(inventory: &Inventory, limits: Limits) -> String {
        inventory.removals(&limits, SystemTime::UNIX_EPOCH + HOUR * 10).to_string()
    }

    #[test]
    fn the_least_recently_used_goes_first_and_a_live_child_keeps_its_chain() {
        let limits = Limits { keep_bytes: Some(30), unused_for: None };
        let expected = "record of 040404040404: not used for 5 hours\n\
            snapshot 040404040404, 10 bytes: nothing holds it\n\
            blob 050505050505, 10 bytes: nothing holds it\n";
        assert_eq!(text(&inventory(), limits), expected);
        let limits = Limits { keep_bytes: Some(20), unused_for: None };
        let expected = "record of 040404040404: not used for 5 hours\n\
            record of 030303030303: not used for 1 hours\n\
            snapshot 030303030303, 10 bytes: nothing holds it\n\
            snapshot 040404040404, 10 bytes: nothing holds it\n\
            blob 050505050505, 10 bytes: nothing holds it\n";
        assert_eq!(text(&inventory(), limits), expected);
    }

    #[test]
    fn what_was_used_lately_stays_and_so_does_what_fits() {
        let limits = Limits { keep_bytes: Some(0), unused_for: Some(HOUR * 3) };
        let expected = "record of 040404040404: not used for 5 hours\n";
        assert!(text(&inventory(), limits).starts_with(expected));
        // The top was of use an hour ago, and with it all that it stands on; their own stamps are older.
        assert!(!text(&inventory(), limits).contains("010101010101"));
        assert_eq!(text(&inventory(), Limits { keep_bytes: Some(50), unused_for: None }), "");
    }

    #[test]
    fn cache_mounts_go_by_their_last_use_among_the_records() {
        let mut inventory = inventory();
        let cache = |id: &str, hours: u32| KeptCache {
            folder: PathBuf::from(id),
            id: id.to_owned(),
            bytes: 100,
            used: SystemTime::UNIX_EPOCH + HOUR * hours,
        };
        inventory.mounts = vec![cache("/npm", 6), cache("/go", 4)];
        let limits = Limits { keep_bytes: Some(120), unused_for: None };
        let expected = "cache mount /go, 100 bytes: not used for 6 hours\n\
            record of 040404040404: not used for 5 hours\n\
            cache mount /npm, 100 bytes: not used for 4 hours\n";
        assert!(text(&inventory, limits).starts_with(expected), "{}", text(&inventory, limits));
        let limits = Limits { keep_bytes: Some(150), unused_for: None };
        assert_eq!(text(&inventory, limits), "cache mount /go, 100 bytes: not used for 6 hours\n");
    }

    #[test]
    fn names_keep_their_pieces_and_nothing_else_survives_a_full_prune() {
        let mut inventory = inventory();
        inventory.names.push(("base:latest".to_owned(), vec![snapshot(2)]));
        let removals = inventory.removals(&Limits::default(), SystemTime::UNIX_EPOCH);
        assert_eq!(removals.bytes(), 30);
        assert_eq!(inventory.reclaimable_bytes(), 30);
        assert!(
            !removals.to_string().contains("snapshot 01") && !removals.to_string().contains("snapshot 02")
        );
    }

    #[test]
    fn the_broken_and_the_unheld_go_whatever_the_limits() {
        let mut inventory = inventory();
        inventory.pieces.remove(&snapshot(2));
        inventory.records.retain(|kept| kept.result != id(4));
        inventory.unreadable.push(PathBuf::from("torn.json"));
        let expected = "file torn.json: not readable as a record\n\
            record of 030303030303: a piece that it needs is missing\n\
            record of 020202020202: a piece that it needs is missing\n\
            snapshot 030303030303, 10 bytes: nothing holds it\n\
            snapshot 040404040404, 10 bytes: nothing holds it\n\
            blob 050505050505, 10 bytes: nothing holds it\n";
        assert_eq!(text(&inventory, Limits { keep_bytes: Some(1000), unused_for: None }), expected);
    }
}
