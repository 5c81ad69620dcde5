//! Results that other machines made: found by key, fetched when a step needs them, exported for others.
//!
//! ```text
//! keys without a record ── find ──► Found      one small question a key, from the roots down
//! Found that is needed ─── bring ─► snapshot   its layers fetched, unpacked and filed like results of our own
//! Found that is not ──────────────► image      config and layers are known: nothing is fetched
//! results of the build ─── export ► places     layers while steps still run, entries in the end
//! ```
//!
//! `entry` is what is kept of a chain of steps, `place` where. A cache never fails a build: what a place
//! cannot give is a miss, and a place that does not answer is left alone for the rest of the build, both said
//! once. What comes from a place is verified by digest; whoever may write to a place is trusted with what a
//! key means, as with every shared build cache.

mod bring;
mod entry;
mod export;
mod place;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Builder;
use super::error::BuildError;
use super::solve::{Demand, Keyed, moved};
use crate::base::digest::{BlobId, DefinitionKey, Digest, ResultId};
use crate::base::event::Event;
use crate::graph::{
    BaseImage, BuildRequest, CachePlace, CacheTarget, Epoch, ImageName, Node, NodeId, Op, Recipe,
};
use crate::oci::{Descriptor, ImageConfig, LayerTar, OciError, Reference, Times};
use crate::store::Stamp;

use entry::{BaseEntry, Entry, EntryLayer, EntryRecord, Read};
use place::Place;

pub(super) use export::{Export, in_images};

/// How many questions are under way at once.
const AT_ONCE: usize = 16;

/// The caches of a build.
pub(super) struct Caches<'b> {
    builder: &'b Builder<'b>,
    places: BTreeMap<CachePlace, Place>,
    /// By service, in the order in which they are asked.
    sources: HashMap<String, Vec<CachePlace>>,
    targets: HashMap<String, Vec<CacheTarget>>,
    seen: Mutex<Seen>,
    /// One layer is brought by one thread.
    layers: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
    export: Mutex<export::Progress>,
}

/// What was learned in this build.
#[derive(Default)]
struct Seen {
    /// Entries by the key that was asked for.
    found: HashMap<DefinitionKey, Found>,
    /// Names that a place does not have.
    absent: HashSet<(CachePlace, String)>,
    /// Places that do not answer.
    silent: HashSet<CachePlace>,
    /// Blobs that an entry names and that are not to be had.
    lost: BTreeSet<Digest>,
    /// Base images that a place knew as they are.
    bases: HashSet<(CachePlace, String)>,
}

/// A step's result in a place.
#[derive(Clone, Debug)]
pub struct Found {
    read: Arc<Read>,
    record: EntryRecord,
    recipe: Recipe,
    place: CachePlace,
}

impl Found {
    /// The result's identifier where it was made.
    pub(super) fn result(&self) -> ResultId {
        self.read.entry.layers[self.record.layers - 1].result
    }

    fn layers(&self) -> impl Iterator<Item = (&EntryLayer, &Descriptor)> {
        self.read.entry.layers.iter().zip(&self.read.blobs).take(self.record.layers)
    }

    /// What its layers are as plain tars, bottom first.
    pub(super) fn tars(&self) -> Vec<LayerTar> {
        self.layers().map(|(layer, _)| layer.tar()).collect()
    }

    /// When the step of each layer ran.
    pub(super) fn times(&self) -> Vec<Option<Stamp>> {
        self.layers().map(|(layer, _)| layer.created).collect()
    }

    /// Its layers as blobs of the place.
    pub(super) fn blobs(&self) -> Vec<Descriptor> {
        self.layers().map(|(_, blob)| blob.clone()).collect()
    }

    /// Whether its layers are as a build with this `SOURCE_DATE_EPOCH` writes them, or wants them kept.
    pub(super) fn suits(&self, epoch: Option<Epoch>) -> bool {
        self.layers().all(|(layer, _)| keeps_blob(layer, epoch))
    }
}

/// Whether a layer stays the blob that it is in a build with this epoch. Times that an earlier epoch cut stay cut.
const fn keeps_blob(layer: &EntryLayer, epoch: Option<Epoch>) -> bool {
    match (layer.times, epoch) {
        _ if layer.base => true,
        _ if layer.draft => false,
        (_, None) => true,
        (Times::Own, Some(_)) | (Times::NoLater(_), Some(Epoch::Everywhere { .. })) => false,
        (Times::NoLater(cut) | Times::All(cut), Some(epoch)) => cut <= epoch.seconds(),
    }
}

impl<'b> Caches<'b> {
    /// The caches that `requests` name. Registries are left out where none may be asked.
    pub(super) fn new(builder: &'b Builder<'b>, requests: &[BuildRequest]) -> Self {
        let usable =
            |place: &CachePlace| builder.registries.is_some() || matches!(place, CachePlace::Folder(..));
        let (mut places, mut sources, mut targets) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        for request in requests {
            let from = request.cache_from.iter().map(|source| source.place.clone());
            let from: Vec<CachePlace> = from.filter(|place| usable(place)).collect();
            let to = request.cache_to.iter().filter(|target| usable(&target.place)).cloned();
            let to: Vec<CacheTarget> = to.collect();
            for place in from.iter().chain(to.iter().map(|target| &target.place)) {
                places.entry(place.clone()).or_insert_with(|| Place::open(place));
            }
            sources.insert(request.service.clone(), from);
            targets.insert(request.service.clone(), to);
        }
        let seen = Mutex::new(Seen { lost: builder.options.lost.clone(), ..Seen::default() });
        let (layers, export) = (Mutex::default(), Mutex::default());
        Self { builder, places, sources, targets, seen, layers, export }
    }

    /// The repositories that get what a service's image is made of.
    pub(super) fn repositories(&self, service: &str) -> Vec<Reference> {
        let targets = self.targets.get(service).into_iter().flatten();
        let repositories = targets.filter_map(|target| match &target.place {
            CachePlace::Registry(reference) => Some(reference.clone()),
            CachePlace::Folder(..) => None,
        });
        repositories.collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody can be asked.
    fn asks(&self) -> bool {
        self.sources.values().any(|sources| !sources.is_empty())
    }

    /// The places that are asked for a node: those of the services that need it.
    fn sources_of(&self, node: &Node) -> Vec<&Place> {
        let mut sources: Vec<&Place> = Vec::new();
        for service in node.services() {
            for place in self.sources.get(&service).into_iter().flatten() {
                let Some(place) = self.places.get(place) else { continue };
                if !sources.iter().any(|known| known.place == place.place) {
                    sources.push(place);
                }
            }
        }
        sources
    }

    /// What places have of the steps that are needed, from the roots down: below a step that was found
    /// nobody is asked, and nothing is needed. Steps that are forced, and those above them, are never found.
    ///
    /// The roots are asked for first: where nothing changed that is all. From then on each round goes deeper
    /// than the one before, so that it takes few of them: a question too many costs less than a round more.
    pub(super) fn find(
        &self,
        keyed: &Keyed<'_>,
        demand: Demand,
        forced: &dyn Fn(NodeId) -> bool,
    ) -> Result<(Demand, BTreeMap<NodeId, Found>), BuildError> {
        let mut found = BTreeMap::new();
        if !self.asks() || demand.needed.is_empty() {
            return Ok((demand, found));
        }
        let moved = moved(keyed, forced);
        let inputs = |id: NodeId| keyed.inputs(id).filter(|input| demand.needed.contains(input));
        let mut needed = BTreeSet::new();
        let roots = keyed.graph.roots.iter().filter_map(|root| root.node).map(|node| keyed.first[node.0]);
        let mut open: BTreeSet<NodeId> = roots.filter(|id| demand.needed.contains(id)).collect();
        let mut deep = 1;
        while !open.is_empty() {
            let within = within(&open, deep, |id| inputs(id).filter(|id| !needed.contains(id)));
            let (asked, others): (Vec<NodeId>, Vec<NodeId>) =
                within.into_iter().partition(|id| !moved.contains(id) && is_kept(keyed.graph.node(*id)));
            let answers = self.ask(keyed, &asked)?;
            let answers = answers.into_iter().chain(others.into_iter().map(|id| (id, None)));
            let mut answers: BTreeMap<NodeId, Option<Found>> = answers.collect();
            let mut reached: Vec<NodeId> = std::mem::take(&mut open).into_iter().collect();
            while let Some(id) = reached.pop() {
                match answers.remove(&id) {
                    Some(Some(answer)) => drop(found.insert(id, answer)),
                    Some(None) => {
                        needed.insert(id);
                        reached.extend(inputs(id));
                    }
                    None if found.contains_key(&id) || needed.contains(&id) => {}
                    None => drop(open.insert(id)),
                }
            }
            deep *= 2;
        }
        Ok((Demand { needed, ..demand }, found))
    }

    /// Asks for several steps at once.
    fn ask(&self, keyed: &Keyed<'_>, ids: &[NodeId]) -> Result<Vec<(NodeId, Option<Found>)>, BuildError> {
        in_parallel(ids, |&id| Ok((id, self.ask_one(keyed, id)?)))
    }

    fn ask_one(&self, keyed: &Keyed<'_>, id: NodeId) -> Result<Option<Found>, BuildError> {
        let key = keyed.keys[id.0];
        let Some(recipe) = keyed.recipes[id.0].clone() else { return Ok(None) };
        let known = self.seen().found.get(&key).cloned();
        if let Some(known) = known.filter(|known| self.counts(known)) {
            return Ok(Some(known));
        }
        for place in self.sources_of(keyed.graph.node(id)) {
            let name = entry::step_name(place.place.tag(), key);
            let Some(document) = self.document(place, &name)? else { continue };
            let read = match Entry::read(&document) {
                Ok(read) => read,
                Err(problem) => {
                    self.warn(format!("{}: {name} is of no use: {problem}", place.place.shown()));
                    continue;
                }
            };
            let Some(record) = read.entry.record(key).cloned() else { continue };
            let place = place.place.clone();
            let found = Found { read: Arc::new(read), record, recipe: recipe.clone(), place };
            if self.counts(&found) {
                self.seen().found.insert(key, found.clone());
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whether what was found serves: nothing of it is lost, and the store has no other result of a step that
    /// it stands on.
    fn counts(&self, found: &Found) -> bool {
        let is_there = {
            let seen = self.seen();
            !seen.silent.contains(&found.place)
                && !found.layers().any(|(_, blob)| seen.lost.contains(&blob.digest))
        };
        is_there && self.builder.store.agrees(&found.record.inputs)
    }

    /// A document of a place; `None` where it has none or does not answer.
    fn document(&self, place: &Place, name: &str) -> Result<Option<Vec<u8>>, BuildError> {
        {
            let seen = self.seen();
            if seen.silent.contains(&place.place)
                || seen.absent.contains(&(place.place.clone(), name.to_owned()))
            {
                return Ok(None);
            }
        }
        match place.document(self.builder, name) {
            Ok(Some(document)) => Ok(Some(document)),
            Ok(None) => {
                self.seen().absent.insert((place.place.clone(), name.to_owned()));
                Ok(None)
            }
            Err(BuildError::Oci(OciError::Cancelled)) => Err(BuildError::Cancelled),
            // One document that is damaged says nothing about the others.
            Err(BuildError::Oci(error @ OciError::Mismatch { .. })) => {
                self.warn(format!("{}: {name} is of no use: {error}", place.place.shown()));
                self.seen().absent.insert((place.place.clone(), name.to_owned()));
                Ok(None)
            }
            Err(error) => {
                self.silence(&place.place, &error);
                Ok(None)
            }
        }
    }

    /// Leaves a place alone from now on; said once.
    fn silence(&self, place: &CachePlace, error: &BuildError) {
        if self.seen().silent.insert(place.clone()) {
            self.warn(format!("going on without the cache {}: {error}", place.shown()));
        }
    }

    fn warn(&self, text: String) {
        self.builder.events.emit(Event::Warning(text));
    }

    /// What a base image's name means, from a place that knew it, if it still means that: one question to
    /// the place and one to the name's registry. A registry that does not answer leaves it as it was.
    pub(super) fn base(
        &self,
        wanted: &ImageName,
    ) -> Result<Option<(BaseImage, Digest, Vec<u8>)>, BuildError> {
        let Some(registries) = self.builder.registries else { return Ok(None) };
        let all: BTreeSet<&CachePlace> = self.sources.values().flatten().collect();
        for place in all.into_iter().filter_map(|place| self.places.get(place)) {
            let name = entry::base_name(place.place.tag(), &wanted.name.to_string(), &wanted.platform);
            let Some(document) = self.document(place, &name)? else { continue };
            let Ok((base, layers)) = BaseEntry::read(&document) else { continue };
            let Ok(config) = ImageConfig::from_json(base.config.as_bytes()) else { continue };
            let now = match registries.get()?.digest(&wanted.name, self.builder.cancel) {
                Ok(now) => now,
                Err(OciError::Cancelled) => return Err(BuildError::Cancelled),
                Err(error) => {
                    let text = format!("going on with {} as it was: {error}", wanted.name.familiar());
                    self.builder.events.emit(Event::Notice(text));
                    base.digest
                }
            };
            if now == base.digest {
                self.seen().bases.insert((place.place.clone(), name));
                return Ok(Some((BaseImage { config, layers }, base.digest, base.config.into_bytes())));
            }
        }
        Ok(None)
    }

    /// Says how much came from where.
    pub(super) fn tell(&self, found: &BTreeMap<NodeId, Found>) {
        let mut places: BTreeMap<&CachePlace, usize> = BTreeMap::new();
        for found in found.values() {
            *places.entry(&found.place).or_default() += 1;
        }
        for (place, count) in places {
            let steps = if count == 1 { "a step".to_owned() } else { format!("{count} steps") };
            let text = format!("{steps} found in the cache {}", place.shown());
            self.builder.events.emit(Event::Notice(text));
        }
    }

    /// Brings blobs of what was found into the store.
    fn fetch(&self, found: &Found, blobs: &[&Descriptor]) -> Result<(), OciError> {
        let place = self.places.get(&found.place).ok_or_else(|| lost(blobs))?;
        place.fetch(self.builder, blobs)
    }
}

fn lost(blobs: &[&Descriptor]) -> OciError {
    OciError::MissingBlob(blobs.first().map_or_else(|| Digest::of(""), |blob| blob.digest))
}

/// Brings a layer of an image that stayed elsewhere into the store, for whoever needs its bytes after all.
pub(super) fn fetch_layer(builder: &Builder<'_>, found: &Found, blob: &Descriptor) -> Result<(), BuildError> {
    if builder.store.has_blob(BlobId(blob.digest)) {
        return Ok(());
    }
    match Place::open(&found.place).fetch(builder, &[blob]) {
        Ok(()) => Ok(()),
        Err(OciError::Cancelled) => Err(BuildError::Cancelled),
        Err(error) => Err(BuildError::LostBlob { digest: blob.digest, problem: error.to_string() }),
    }
}

/// The repository in which the layers of what was found are.
pub(super) fn repository(found: &Found) -> Option<&Reference> {
    match &found.place {
        CachePlace::Registry(reference) => Some(reference),
        CachePlace::Folder(..) => None,
    }
}

/// The steps of so many levels, the given ones being the first.
fn within<I: Iterator<Item = NodeId>>(
    first: &BTreeSet<NodeId>,
    levels: usize,
    inputs: impl Fn(NodeId) -> I,
) -> BTreeSet<NodeId> {
    let (mut within, mut level) = (first.clone(), first.clone());
    for _ in 1..levels {
        level = level.into_iter().flat_map(&inputs).filter(|id| !within.contains(id)).collect();
        within.extend(&level);
    }
    within
}

/// Whether results of the node are kept in caches. Base images are found by their names.
const fn is_kept(node: &Node) -> bool {
    !matches!(node.op, Op::Pull(_) | Op::Local(_))
}

/// Does something for each of `items`, several at a time; the first error ends it.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    act: impl Fn(&T) -> Result<R, BuildError> + Sync,
) -> Result<Vec<R>, BuildError> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut done = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let result = act(item);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            done.push(result);
        }
        done
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..items.len().min(AT_ONCE)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(super::joined).collect()
    });
    results.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 and 1 are roots; each step stands on the next even or odd one, and all on 9.
    #[test]
    fn rounds_reach_as_deep_as_they_say() {
        let inputs =
            |id: NodeId| [id.0 + 2].into_iter().filter(|next| *next < 10).map(NodeId).chain([NodeId(9)]);
        let roots: BTreeSet<NodeId> = [NodeId(0), NodeId(1)].into();
        let within = |levels| within(&roots, levels, inputs).iter().map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(within(1), [0, 1]);
        assert_eq!(within(2), [0, 1, 2, 3, 9]);
        assert_eq!(within(4), [0, 1, 2, 3, 4, 5, 6, 7, 9]);
        assert_eq!(within(99), (0..10).collect::<Vec<_>>());
    }
}
