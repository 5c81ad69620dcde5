//! What the collector removes and why: a pure function from what lies in the store to a plan.
//!
//! Names keep their pieces whatever the limits are, and with them the records that need nothing else: these
//! would free nothing and cost a build. Owners (services with their last builds) keep what they need unless
//! all may go, and so do cache mounts. A record keeps its result with the whole chain and all that it holds;
//! records go least recently used first, a child never later than what it stands on. A piece that neither
//! a name nor a remaining record keeps is removed. Nothing here touches the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::base::digest::ResultId;

use super::removals::{Removal, Removals, Why};
use super::{Held, KeptCache, Owner};

/// Everything that lies in a store and has a size or keeps something alive.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// The records, one for each result: a result may be filed under several keys.
    pub records: Vec<Kept>,
    /// The pieces with their sizes.
    pub pieces: BTreeMap<Held, Piece>,
    /// What each name of the store holds, those that are only remembered (pins) included.
    pub names: Vec<(String, Vec<Held>)>,
    /// The services whose last builds are known; whoever knows recipes fills them in.
    pub owners: Vec<Owner>,
    /// Files that are no readable record.
    pub unreadable: Vec<PathBuf>,
    /// The cache mounts, one for each copy.
    pub mounts: Vec<KeptCache>,
    /// What is known of contexts, with the last use of each file as far as the disk says.
    pub trees: Vec<(PathBuf, SystemTime)>,
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
    /// Remove only until all takes no more than so many bytes.
    pub keep_bytes: Option<u64>,
    /// Remove only what was of no use for so long.
    pub unused_for: Option<Duration>,
    /// Remove also what the owners need, and cache mounts.
    pub all: bool,
}

/// What is known of a context that nobody builds goes after so long, whatever the limits: nobody is told when a
/// checkout is removed. A context that is built after all is read once more.
const TREES_STAY: Duration = Duration::from_secs(60 * 24 * 3600);

/// What the limits decide about.
#[derive(Clone, Copy)]
enum Candidate<'a> {
    Records(&'a Kept),
    Cache(&'a KeptCache),
}

impl Inventory {
    /// What must go so that the store is within `limits` at the moment `now`. Without any limit all goes
    /// that no name holds and, unless that may go too, no owner.
    pub fn removals(&self, limits: &Limits, now: SystemTime) -> Removals {
        let mut holders = self.holders();
        let mut steps: Vec<_> =
            self.unreadable.iter().map(|file| Removal::File(file.clone(), Why::Unreadable)).collect();
        for (file, used) in &self.trees {
            let unused = now.duration_since(*used).unwrap_or_default();
            if unused > TREES_STAY {
                steps.push(Removal::File(file.clone(), Why::Unused(unused)));
            }
        }
        let mut live: u64 =
            holders.keys().filter_map(|held| self.pieces.get(held)).map(|piece| piece.bytes).sum();
        live += self.mounts.iter().map(|cache| cache.bytes).sum::<u64>() + self.other_bytes;
        let (named, owned) = (self.named_reach(), self.owned_reach());
        for (used, candidate) in self.candidates() {
            let unused = now.duration_since(used).unwrap_or_default();
            let (whole, stays) = match candidate {
                Candidate::Records(kept) => {
                    let needed = !limits.all && owned.contains(&Held::Snapshot(kept.result));
                    (self.is_whole(kept), needed || self.reach(&kept.holds).is_subset(&named))
                }
                Candidate::Cache(_) => (true, !limits.all),
            };
            let why = match whole {
                false => Why::Broken,
                true if stays => continue,
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
        let mut unheld: Vec<_> = self.pieces.iter().filter(|(held, _)| !holders.contains_key(held)).collect();
        // Whoever is killed on the way leaves no snapshot without what it stands on.
        unheld.sort_by_key(|(_, piece)| std::cmp::Reverse(piece.chain.len()));
        steps.extend(unheld.into_iter().map(|(held, piece)| Removal::Piece(*held, piece.bytes, Why::Unheld)));
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

    /// What a prune without limits frees; with `all` also of what the owners need, and of cache mounts.
    pub fn reclaimable_bytes(&self, all: bool) -> u64 {
        self.removals(&Limits { all, ..Limits::default() }, SystemTime::UNIX_EPOCH).bytes()
    }

    /// Bytes of everything.
    pub fn bytes(&self) -> u64 {
        let pieces: u64 = self.pieces.values().map(|piece| piece.bytes).sum();
        pieces + self.mounts.iter().map(|cache| cache.bytes).sum::<u64>() + self.other_bytes
    }

    /// Bytes of the pieces that names hold: what no limit makes smaller.
    pub fn named_bytes(&self) -> u64 {
        self.named_reach().iter().filter_map(|held| self.pieces.get(held)).map(|piece| piece.bytes).sum()
    }

    fn named_reach(&self) -> BTreeSet<Held> {
        self.reach(self.names.iter().flat_map(|(_, holds)| holds))
    }

    fn owned_reach(&self) -> BTreeSet<Held> {
        self.reach(self.owners.iter().flat_map(Owner::holds))
    }

    /// Every piece that `holds` keeps alive: itself and, of snapshots, the whole chain.
    pub(super) fn reach<'a>(&'a self, holds: impl IntoIterator<Item = &'a Held>) -> BTreeSet<Held> {
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

    /// When each piece that a record holds was last of use, to a day.
    pub(super) fn last_used(&self) -> BTreeMap<Held, SystemTime> {
        let mut used: BTreeMap<Held, SystemTime> = BTreeMap::new();
        for kept in &self.records {
            for held in self.reach(&kept.holds) {
                let last = used.entry(held).or_insert(kept.used);
                *last = (*last).max(kept.used);
            }
        }
        used
    }

    /// The records with their last use, least recently used first. What a child stands on was of use when
    /// the child was, and goes after it: alone it would free nothing and cost everything above it at the
    /// next forced step.
    fn in_order(&self) -> Vec<(SystemTime, &Kept)> {
        let used = self.last_used();
        let depth =
            |kept: &Kept| self.pieces.get(&Held::Snapshot(kept.result)).map_or(0, |piece| piece.chain.len());
        let last = |kept: &Kept| used.get(&Held::Snapshot(kept.result)).copied().unwrap_or(kept.used);
        let mut order: Vec<_> = self.records.iter().map(|kept| (last(kept), kept)).collect();
        order.sort_by_key(|(used, kept)| (*used, std::cmp::Reverse(depth(kept))));
        order
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::digest::{BlobId, Digest};

    const HOUR: Duration = Duration::from_secs(3600);

    fn id(number: u8) -> ResultId {
        ResultId(Digest::from_bytes([number; 32]))
    }

    pub(in crate::store) fn snapshot(number: u8) -> Held {
        Held::Snapshot(id(number))
    }

    #[test]
    fn what_is_known_of_contexts_goes_when_nobody_used_it_for_long() {
        let now = SystemTime::UNIX_EPOCH + HOUR * 24 * 100;
        let trees = [(50, "new"), (30, "old")];
        let trees = trees.map(|(day, name)| (PathBuf::from(name), SystemTime::UNIX_EPOCH + HOUR * 24 * day));
        let inventory = Inventory { trees: trees.to_vec(), ..Inventory::default() };
        let limits = Limits { keep_bytes: Some(u64::MAX), ..Limits::default() };
        assert_eq!(inventory.removals(&limits, now).to_string(), "file old: not used for 1680 hours\n");
    }

    /// base(1) ← middle(2) ← top(3), and other(4) with a blob; each piece has ten bytes.
    pub(in crate::store) fn inventory() -> Inventory {
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

    fn keep(bytes: u64) -> Limits {
        Limits { keep_bytes: Some(bytes), unused_for: None, all: true }
    }

    fn text(inventory: &Inventory, limits: Limits) -> String {
        inventory.removals(&limits, SystemTime::UNIX_EPOCH + HOUR * 10).to_string()
    }

    #[test]
    fn the_least_recently_used_goes_first_and_a_live_child_keeps_its_chain() {
        let limits = keep(30);
        let expected = "record of 040404040404: not used for 5 hours\n\
            snapshot 040404040404, 10 bytes: nothing holds it\n\
            blob 050505050505, 10 bytes: nothing holds it\n";
        assert_eq!(text(&inventory(), limits), expected);
        let limits = keep(20);
        let expected = "record of 040404040404: not used for 5 hours\n\
            record of 030303030303: not used for 1 hours\n\
            snapshot 030303030303, 10 bytes: nothing holds it\n\
            snapshot 040404040404, 10 bytes: nothing holds it\n\
            blob 050505050505, 10 bytes: nothing holds it\n";
        assert_eq!(text(&inventory(), limits), expected);
    }

    #[test]
    fn what_was_used_lately_stays_and_so_does_what_fits() {
        let limits = Limits { unused_for: Some(HOUR * 3), ..keep(0) };
        let expected = "record of 040404040404: not used for 5 hours\n";
        assert!(text(&inventory(), limits).starts_with(expected));
        // The top was of use an hour ago, and with it all that it stands on; their own stamps are older.
        assert!(!text(&inventory(), limits).contains("010101010101"));
        assert_eq!(text(&inventory(), keep(50)), "");
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
        let limits = keep(120);
        let expected = "cache mount /go, 100 bytes: not used for 6 hours\n\
            record of 040404040404: not used for 5 hours\n\
            cache mount /npm, 100 bytes: not used for 4 hours\n";
        assert!(text(&inventory, limits).starts_with(expected), "{}", text(&inventory, limits));
        let limits = keep(150);
        assert_eq!(text(&inventory, limits), "cache mount /go, 100 bytes: not used for 6 hours\n");
    }

    #[test]
    fn names_keep_their_pieces_and_the_records_that_need_no_more() {
        let mut inventory = inventory();
        inventory.names.push(("base:latest".to_owned(), vec![snapshot(2)]));
        let expected = "record of 040404040404: not used for 5 hours\n\
            record of 030303030303: not used for 1 hours\n\
            snapshot 030303030303, 10 bytes: nothing holds it\n\
            snapshot 040404040404, 10 bytes: nothing holds it\n\
            blob 050505050505, 10 bytes: nothing holds it\n";
        assert_eq!(text(&inventory, keep(0)), expected);
        assert_eq!(
            (inventory.reclaimable_bytes(true), inventory.named_bytes(), inventory.bytes()),
            (30, 20, 50)
        );
    }

    #[test]
    fn what_last_builds_need_and_cache_mounts_go_only_with_all() {
        let mut inventory = inventory();
        let step =
            |number| crate::store::OwnedStep { name: "base/1".to_owned(), holds: vec![snapshot(number)] };
        let (project, service) = ("pack".to_owned(), "web".to_owned());
        inventory.owners = vec![Owner { project, service, steps: vec![step(2), step(9)] }];
        let (folder, id, used) = (PathBuf::from("npm"), "/npm".to_owned(), SystemTime::UNIX_EPOCH);
        inventory.mounts = vec![KeptCache { folder, id, bytes: 5, used }];
        let expected = "record of 040404040404: not used for 5 hours\n\
            record of 030303030303: not used for 1 hours\n\
            snapshot 030303030303, 10 bytes: nothing holds it\n\
            snapshot 040404040404, 10 bytes: nothing holds it\n\
            blob 050505050505, 10 bytes: nothing holds it\n";
        assert_eq!(text(&inventory, Limits::default()), expected);
        assert_eq!(text(&inventory, Limits { keep_bytes: Some(55), ..Limits::default() }), "");
        assert_eq!((inventory.reclaimable_bytes(false), inventory.reclaimable_bytes(true)), (30, 55));
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
        assert_eq!(text(&inventory, keep(1000)), expected);
    }

    /// What a random store has: for each snapshot its parent, its size, whether a record, a name, an owner
    /// holds it, and how long ago it was used.
    type Row = (prop::sample::Index, u64, bool, bool, bool, u32);

    fn random(rows: &[Row]) -> Inventory {
        let mut inventory = Inventory { other_bytes: 3, ..Inventory::default() };
        for (number, (parent, bytes, recorded, named, owned, hours)) in (0_u8..).zip(rows) {
            let below = parent.index(usize::from(number) + 1);
            // The last index is no parent.
            let chain = match u8::try_from(below).ok().filter(|below| *below < number) {
                Some(below) => {
                    let mut chain = inventory.pieces[&snapshot(below)].chain.clone();
                    chain.push(id(below));
                    chain
                }
                None => Vec::new(),
            };
            inventory.pieces.insert(snapshot(number), Piece { bytes: *bytes, chain });
            // An owner knows a piece by its record.
            if *recorded || *owned {
                let (result, files, holds) = (id(number), Vec::new(), BTreeSet::from([snapshot(number)]));
                let used = SystemTime::UNIX_EPOCH + HOUR * *hours;
                inventory.records.push(Kept { result, files, holds, used });
            }
            if *named {
                inventory.names.push((number.to_string(), vec![snapshot(number)]));
            }
            if *owned {
                let step = crate::store::OwnedStep { name: String::new(), holds: vec![snapshot(number)] };
                inventory.owners.push(Owner { steps: vec![step], ..Owner::default() });
            }
        }
        inventory
    }

    /// The inventory after its removals.
    fn after(mut inventory: Inventory, removals: &Removals) -> Inventory {
        for step in &removals.steps {
            match step {
                Removal::Records(result, ..) => inventory.records.retain(|kept| kept.result != *result),
                Removal::Piece(held, ..) => drop(inventory.pieces.remove(held)),
                Removal::File(..) | Removal::Cache(..) => {}
            }
        }
        inventory
    }

    proptest! {
        #[test]
        fn what_stays_is_whole_and_what_may_go_goes_until_it_fits(
            rows in prop::collection::vec(
                (any::<prop::sample::Index>(), 0..100_u64, any::<bool>(), prop::bool::weighted(0.2),
                    prop::bool::weighted(0.2), 0..50_u32), 0..14),
            most in prop::option::of(0..600_u64),
            all in any::<bool>(),
        ) {
            let inventory = random(&rows);
            let limits = Limits { keep_bytes: most, unused_for: None, all };
            let now = SystemTime::UNIX_EPOCH + HOUR * 50;
            let removals = inventory.removals(&limits, now);
            let left = after(inventory.clone(), &removals);
            prop_assert_eq!(left.bytes(), inventory.bytes() - removals.bytes());
            for (_, holds) in &inventory.names {
                prop_assert!(left.reach(holds).iter().all(|held| left.pieces.contains_key(held)));
            }
            for kept in &left.records {
                prop_assert!(left.is_whole(kept), "a record without its chain");
            }
            if !all {
                for kept in inventory.records.iter().filter(|kept| inventory.owned_reach().contains(&Held::Snapshot(kept.result))) {
                    prop_assert!(left.records.iter().any(|left| left.result == kept.result));
                }
            }
            let fits = most.is_some_and(|most| left.bytes() <= most);
            let may_go = left.records.iter().filter(|kept| {
                let owned = !all && left.owned_reach().contains(&Held::Snapshot(kept.result));
                !owned && !left.reach(&kept.holds).is_subset(&left.named_reach())
            });
            prop_assert!(fits || may_go.count() == 0, "more could go");
            // Nothing more goes the second time.
            prop_assert_eq!(left.removals(&limits, now).steps, []);
        }
    }
}
