//! Results of a build to the places that keep them for others.
//!
//! A layer is packed and uploaded as soon as its step is done, beside the steps that still run
//! ([`Caches::layer_done`]). In the end [`Caches::export`] goes down from the roots: below a step that a
//! place has, it has everything. Steps that stand on each other share one entry, which goes under the key of
//! each. Blobs that are there are not sent, those that a base image's repository has are mounted, and
//! manifests come last. What fails is a warning, unless the target insists.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::super::Bases;
use super::super::deliver::known_in;
use super::super::error::BuildError;
use super::super::exec::CREATED;
use super::super::export::{self, chain, layer_options, stands_alone};
use super::super::resolve::{Origin, StoredImage, pin_key, read_blob};
use super::super::solve::Keyed;
use super::entry::{self, BaseEntry, Entry, EntryLayer, EntryRecord};
use super::place::Place;
use super::{Caches, Found, in_parallel, is_kept};
use crate::base::digest::{DefinitionKey, Digest, ResultId};
use crate::base::event::Event;
use crate::graph::{CachePlace, CacheTarget, Epoch, Graph, ImageName, NodeId, Op};
use crate::oci::{
    self, Descriptor, Encoding, Formed, LayerOptions, OciError, Packing, Reference, Sent, Upload,
};
use crate::store::{Bucket, Snapshot, Stamp};

/// What of a build goes to caches.
pub(in crate::build) struct Export<'e, 'g> {
    pub(in crate::build) keyed: &'e Keyed<'g>,
    /// Steps that ran.
    pub(in crate::build) ran: &'e BTreeSet<NodeId>,
    /// Steps that came from a place.
    pub(in crate::build) found: &'e BTreeMap<NodeId, Found>,
    /// The base images.
    pub(in crate::build) names: &'e [ImageName],
    /// What they are.
    pub(in crate::build) bases: &'e Bases,
    /// The steps whose layers are in images.
    pub(in crate::build) in_images: &'e BTreeSet<NodeId>,
}

/// How far the export of this build has come.
#[derive(Default)]
pub(super) struct Progress {
    /// Each blob goes to a place once.
    sending: HashMap<(CachePlace, Digest), Arc<Mutex<()>>>,
    /// Blobs that are in their places.
    there: HashSet<(CachePlace, Digest)>,
    /// Places that take nothing.
    refusing: HashSet<CachePlace>,
    counts: BTreeMap<CachePlace, Counts>,
}

/// What went to a place.
#[derive(Clone, Copy, Default)]
struct Counts {
    steps: usize,
    uploaded: usize,
    bytes: u64,
    mounted: usize,
}

/// How layers are packed that no image has: they are many, and the build waits.
const DRAFT: Packing = Packing { encoding: Encoding::Gzip, level: Some(1), force: false };

/// What is remembered of a root that a place has.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    key: DefinitionKey,
    result: ResultId,
}

/// Layers of a result as a place has them.
struct Packed {
    layers: Vec<EntryLayer>,
    blobs: Vec<Descriptor>,
}

/// An entry whose blobs a place has.
struct Filed {
    /// The names that it gets.
    names: Vec<String>,
    formed: Formed,
}

impl Caches<'_> {
    /// Whether results go anywhere.
    pub(in crate::build) fn exports(&self) -> bool {
        self.targets.values().any(|targets| !targets.is_empty())
    }

    /// The targets of the services that need a node.
    fn targets_of(&self, graph: &Graph, id: NodeId) -> Vec<&CacheTarget> {
        let mut targets: Vec<&CacheTarget> = Vec::new();
        for service in graph.node(id).services() {
            for target in self.targets.get(&service).into_iter().flatten() {
                if !targets.iter().any(|known| known.place == target.place) {
                    targets.push(target);
                }
            }
        }
        targets
    }

    /// Packs and uploads the layer of a step that is done. What fails here fails again in the end, and is
    /// told then.
    pub(in crate::build) fn layer_done(
        &self,
        graph: &Graph,
        id: NodeId,
        result: ResultId,
        is_in_image: bool,
    ) {
        if !is_kept(graph.node(id)) {
            return;
        }
        let options = layer_options(epoch(graph));
        for target in self.targets_of(graph, id) {
            let Some(place) = self.places.get(&target.place) else { continue };
            let send = || {
                let chain = chain(self.builder, Some(result))?;
                let index = chain.len().checked_sub(1).ok_or_else(|| export::vanished(self.builder))?;
                let packing = if is_in_image { target.packing } else { drafted(target.packing) };
                let blob = self.pack(&chain, index, options, packing)?;
                self.send(place, &Upload { descriptor: &blob, bytes: None, known_in: None, is_new: true })
            };
            let _ = send();
        }
    }

    /// Exports what the targets do not have.
    pub(in crate::build) fn export(&self, export: &Export<'_, '_>) -> Result<(), BuildError> {
        let mut targets: BTreeMap<&CachePlace, &CacheTarget> = BTreeMap::new();
        for target in self.targets.values().flatten() {
            targets.entry(&target.place).or_insert(target);
        }
        for (place, target) in targets {
            let Some(place) = self.places.get(place) else { continue };
            match self.export_to(export, place, target.packing) {
                Ok(()) => {}
                Err(BuildError::Cancelled | BuildError::Oci(OciError::Cancelled)) => {
                    return Err(BuildError::Cancelled);
                }
                Err(error) if target.insists => {
                    let place = place.place.shown();
                    return Err(BuildError::CacheExport { place, problem: error.to_string() });
                }
                Err(error) => {
                    self.warn(format!("the cache {} was not filled: {error}", place.place.shown()));
                }
            }
        }
        Ok(())
    }

    fn export_to(&self, export: &Export<'_, '_>, place: &Place, packing: Packing) -> Result<(), BuildError> {
        let keyed = export.keyed;
        let goes_there =
            |id: NodeId| self.targets_of(keyed.graph, id).iter().any(|target| target.place == place.place);
        let shelf = format!("cache {} {}", place.place.shown(), place.place.tag());
        let shelf = self.builder.store.shelf(Bucket::Handover(&shelf));
        let mut roots: BTreeMap<NodeId, Kept> = BTreeMap::new();
        for id in keyed.graph.roots.iter().filter_map(|root| root.node).map(|node| keyed.first[node.0]) {
            let key = keyed.keys[id.0];
            let result = match export.found.get(&id) {
                Some(found) => Some(found.result()),
                None => self.builder.store.peek(key).map(|record| record.result),
            };
            if let Some(result) = result.filter(|_| goes_there(id)) {
                roots.insert(id, Kept { key, result });
            }
        }
        let known = |kept: &Kept| shelf.get::<Kept>(&kept.key.0.hex()).as_ref() == Some(kept);
        if export.ran.is_empty() && roots.values().all(known) {
            return Ok(());
        }
        let wanted = self.wanted(export, place, &goes_there)?;
        let mut entries = in_parallel(&wanted.copied, |id| self.copy_to(export, place, *id))?;
        let chains = chains(keyed, &wanted.steps);
        let bases = self.origins();
        entries.extend(in_parallel(&chains, |chain| self.chain_to(export, (place, packing), &bases, chain))?);
        let entries: Vec<Filed> = entries.into_iter().flatten().collect();
        let names =
            entries.iter().flat_map(|filed| filed.names.iter().map(move |name| (name, &filed.formed)));
        in_parallel(&names.collect::<Vec<_>>(), |(name, formed)| {
            place.put(self.builder, name, (&formed.manifest, &formed.document))?;
            let mut progress = self.export.lock().unwrap_or_else(PoisonError::into_inner);
            progress.counts.entry(place.place.clone()).or_default().steps += 1;
            Ok(())
        })?;
        if !chains.is_empty() || !wanted.copied.is_empty() {
            self.bases_to(export, place)?;
        }
        place.finish()?;
        for kept in roots.values() {
            shelf.put(&kept.key.0.hex(), kept)?;
        }
        self.tell_export(&place.place);
        Ok(())
    }

    /// What a place lacks, from the roots down.
    fn wanted(
        &self,
        export: &Export<'_, '_>,
        place: &Place,
        goes_there: &dyn Fn(NodeId) -> bool,
    ) -> Result<Wanted, BuildError> {
        let (keyed, store) = (export.keyed, self.builder.store);
        let mut wanted = Wanted::default();
        let mut seen: BTreeSet<NodeId> = BTreeSet::new();
        let mut open: Vec<NodeId> = keyed.graph.roots.iter().filter_map(|root| root.node).collect();
        while let Some(id) = open.pop() {
            let id = keyed.first[id.0];
            if keyed.recipes[id.0].is_none() || !goes_there(id) || !seen.insert(id) {
                continue;
            }
            if let Some(found) = export.found.get(&id) {
                if !found.place.shares_blobs(&place.place) {
                    wanted.copied.push(id);
                }
                continue;
            }
            let name = entry::step_name(place.place.tag(), keyed.keys[id.0]);
            if is_kept(keyed.graph.node(id)) {
                let is_new = export.ran.contains(&id);
                if !is_new && self.document(place, &name)?.is_some() {
                    continue;
                }
                if store.peek(keyed.keys[id.0]).is_some() {
                    wanted.steps.insert(id);
                }
            }
            open.extend(keyed.inputs(id));
        }
        Ok(wanted)
    }

    /// Copies what an entry needs that was found in another place.
    fn copy_to(
        &self,
        export: &Export<'_, '_>,
        place: &Place,
        id: NodeId,
    ) -> Result<Option<Filed>, BuildError> {
        let Some(found) = export.found.get(&id) else { return Ok(None) };
        let name = entry::step_name(place.place.tag(), export.keyed.keys[id.0]);
        if self.document(place, &name)?.is_some() {
            return Ok(None);
        }
        let from = super::repository(found);
        for blob in found.blobs() {
            let upload = Upload { descriptor: &blob, bytes: None, known_in: from, is_new: false };
            match self.send(place, &upload) {
                Err(BuildError::Oci(OciError::MissingBlob(_))) => {
                    super::fetch_layer(self.builder, found, &blob)?;
                    self.send(place, &upload)?;
                }
                sent => sent?,
            }
        }
        let layers = found.layers().map(|(layer, _)| layer.clone()).collect();
        let entry = Entry::new(layers, vec![found.record.clone()]);
        self.file(export, place, (&entry, found.blobs()), &[id])
    }

    /// Uploads what the entry of steps needs that stand on each other, the topmost first.
    fn chain_to(
        &self,
        export: &Export<'_, '_>,
        (place, packing): (&Place, Packing),
        bases: &[StoredImage],
        steps: &[NodeId],
    ) -> Result<Option<Filed>, BuildError> {
        let (keyed, store) = (export.keyed, self.builder.store);
        let Some(top) = steps.first() else { return Ok(None) };
        let Some(record) = store.peek(keyed.keys[top.0]) else { return Ok(None) };
        let snapshots = chain(self.builder, Some(record.result))?;
        let base = base_layers(keyed.graph, export.bases, *top);
        // From the chain's end downward: what images have begins somewhere and goes on to the base.
        let chain = std::iter::successors(Some(*top), |id| parent(keyed, *id));
        let drafts = chain.take_while(|id| !export.in_images.contains(id)).count();
        let drafts = snapshots.len().saturating_sub(drafts).max(base);
        let packed = self.packed(keyed.graph, (base, drafts), &snapshots, packing)?;
        let (mut records, mut ids) = (Vec::new(), Vec::new());
        for (id, count) in steps.iter().copied().zip((1..=snapshots.len()).rev()) {
            let record = store.peek(keyed.keys[id.0]);
            let Some(record) = record.filter(|record| record.result == snapshots[count - 1].id) else {
                break;
            };
            let (inputs, took_ms, created) = (record.inputs, record.took_ms, record.created);
            records.push(EntryRecord { key: keyed.keys[id.0], layers: count, inputs, took_ms, created });
            ids.push(id);
        }
        let send = |blob: &Descriptor| {
            let known = place.repository().and_then(|to| known_in(bases, &[], to, blob.digest));
            self.send(
                place,
                &Upload { descriptor: blob, bytes: None, known_in: known.as_ref(), is_new: false },
            )
        };
        packed.blobs.iter().try_for_each(send)?;
        self.file(export, place, (&Entry::new(packed.layers, records), packed.blobs), &ids)
    }

    /// The layers of a chain as blobs of the store: where those of the base image end, and where those begin
    /// that no image has.
    fn packed(
        &self,
        graph: &Graph,
        (base, drafts): (usize, usize),
        snapshots: &[Snapshot],
        packing: Packing,
    ) -> Result<Packed, BuildError> {
        let options = layer_options(epoch(graph));
        let tars = export::layers(self.builder, snapshots, &options)?;
        let (mut layers, mut blobs) = (Vec::new(), Vec::new());
        for (index, (snapshot, tar)) in snapshots.iter().zip(tars).enumerate() {
            let own = oci::layer_blob(self.builder.store, snapshot.id).is_some();
            let draft = index >= drafts && !own;
            let packing = if draft { drafted(packing) } else { packing };
            blobs.push(self.pack(snapshots, index, options, packing)?);
            let note = self.builder.store.note(snapshot.id, CREATED);
            let created: Option<Stamp> = note.and_then(|note| serde_json::from_slice(&note).ok());
            let times = oci::layer_times(self.builder.store, snapshot.id).unwrap_or(options.times);
            layers.push(EntryLayer {
                diff_id: tar.diff_id,
                size: tar.size,
                result: snapshot.id,
                times,
                created,
                alone: stands_alone(self.builder.store, snapshot.id),
                draft,
                base: index < base,
            });
        }
        Ok(Packed { layers, blobs })
    }

    fn pack(
        &self,
        chain: &[Snapshot],
        index: usize,
        options: LayerOptions,
        packing: Packing,
    ) -> Result<Descriptor, BuildError> {
        if self.builder.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let lower = || export::below(self.builder, chain, index);
        Ok(oci::packed_layer(self.builder.store, &chain[index], lower, &options, &packing)?)
    }

    /// Sends a blob unless it was sent in this build.
    fn send(&self, place: &Place, upload: &Upload<'_>) -> Result<(), BuildError> {
        let key = (place.place.clone(), upload.descriptor.digest);
        let sending = {
            let mut export = self.export.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(export.sending.entry(key.clone()).or_default())
        };
        let _one = sending.lock().unwrap_or_else(PoisonError::into_inner);
        let near = self.near(place, upload);
        // What a place could not give is not asked for there: it gets it again.
        let lost = self.seen().lost.contains(&upload.descriptor.digest);
        let known_in = near.as_ref().or(upload.known_in).filter(|_| !lost);
        let upload = &Upload { known_in, is_new: upload.is_new || lost, ..*upload };
        {
            let export = self.export.lock().unwrap_or_else(PoisonError::into_inner);
            if export.there.contains(&key) {
                return Ok(());
            }
            if export.refusing.contains(&place.place) {
                return Err(BuildError::Refused { place: place.place.shown() });
            }
        }
        let sent = match place.upload(self.builder, upload) {
            Ok(sent) => sent,
            Err(error @ BuildError::Oci(OciError::Denied { .. } | OciError::Unreachable { .. })) => {
                let mut export = self.export.lock().unwrap_or_else(PoisonError::into_inner);
                export.refusing.insert(place.place.clone());
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let mut export = self.export.lock().unwrap_or_else(PoisonError::into_inner);
        export.there.insert(key);
        let counts = export.counts.entry(place.place.clone()).or_default();
        match sent {
            Sent::There => {}
            Sent::Mounted => counts.mounted += 1,
            Sent::Uploaded => {
                counts.uploaded += 1;
                counts.bytes += upload.descriptor.size;
            }
        }
        Ok(())
    }

    /// Another repository of the registry to which this build sent the same blob.
    fn near(&self, place: &Place, upload: &Upload<'_>) -> Option<Reference> {
        let to = place.repository()?;
        let export = self.export.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(place, digest): &(CachePlace, Digest)| match place {
            CachePlace::Registry(other) if *digest == upload.descriptor.digest => {
                (other.registry() == to.registry() && other.repository() != to.repository())
                    .then(|| other.clone())
            }
            _ => None,
        };
        export.there.iter().find_map(known)
    }

    /// The entry of these steps, its config uploaded.
    fn file(
        &self,
        export: &Export<'_, '_>,
        place: &Place,
        (entry, blobs): (&Entry, Vec<Descriptor>),
        ids: &[NodeId],
    ) -> Result<Option<Filed>, BuildError> {
        let Some(recipe) = ids.first().and_then(|id| export.keyed.recipes[id.0].as_ref()) else {
            return Ok(None);
        };
        let platform = recipe.platform.parse().unwrap_or_else(|_| crate::oci::Platform::host());
        let (formed, config) = entry.document(&platform, blobs);
        self.put_config(place, &formed, &config)?;
        let name = |id: &NodeId| entry::step_name(place.place.tag(), export.keyed.keys[id.0]);
        Ok(Some(Filed { names: ids.iter().map(name).collect(), formed }))
    }

    fn put_config(&self, place: &Place, formed: &Formed, config: &[u8]) -> Result<(), BuildError> {
        let upload = Upload { descriptor: &formed.config, bytes: Some(config), known_in: None, is_new: true };
        place.upload(self.builder, &upload).map(drop)
    }

    /// Exports what the names of the base images mean, as far as a registry said so and the place does not
    /// know.
    fn bases_to(&self, export: &Export<'_, '_>, place: &Place) -> Result<(), BuildError> {
        for wanted in export.names {
            let pin: Option<StoredImage> = self.builder.store.shelf(Bucket::Pins).get(&pin_key(wanted));
            let Some(pin) = pin else { continue };
            let Origin::Registry { reference } = &pin.origin else { continue };
            let Some(digest) = reference.digest().copied() else { continue };
            let name = entry::base_name(place.place.tag(), &wanted.name.to_string(), &wanted.platform);
            let known = self
                .seen()
                .bases
                .iter()
                .any(|(known, base)| known.shares_blobs(&place.place) && *base == name);
            if known {
                continue;
            }
            if let Some(document) = self.document(place, &name)?
                && BaseEntry::read(&document).is_ok_and(|(base, _)| base.digest == digest)
            {
                continue;
            }
            let Some(config) = read_blob(self.builder, pin.config)? else { continue };
            let Ok(config) = String::from_utf8(config) else { continue };
            let uploads = pin.layers.iter().map(|layer| {
                self.send(
                    place,
                    &Upload { descriptor: layer, bytes: None, known_in: Some(reference), is_new: false },
                )
            });
            // Layers that are nowhere near are no reason to go without: the entry is for who finds all else.
            if uploads.collect::<Result<Vec<_>, _>>().is_err() {
                continue;
            }
            let formed = BaseEntry::new(digest, config.clone()).document(pin.layers.clone());
            self.put_config(place, &formed, config.as_bytes())?;
            place.put(self.builder, &name, (&formed.manifest, &formed.document))?;
        }
        Ok(())
    }

    /// The base images that are known.
    fn origins(&self) -> Vec<StoredImage> {
        let pins = self.builder.store.shelf(Bucket::Pins).list::<StoredImage>();
        pins.into_iter().map(|(_, pin)| pin).collect()
    }

    fn tell_export(&self, place: &CachePlace) {
        let counts = {
            let progress = self.export.lock().unwrap_or_else(PoisonError::into_inner);
            progress.counts.get(place).copied().unwrap_or_default()
        };
        if counts.steps > 0 {
            self.builder.events.emit(Event::Notice(told(place, counts)));
        }
    }
}

/// What a place lacks.
#[derive(Default)]
struct Wanted {
    /// Steps with a record of the store.
    steps: BTreeSet<NodeId>,
    /// Steps that another place has.
    copied: Vec<NodeId>,
}

/// The steps as chains, each topmost first, each step in one chain.
fn chains(keyed: &Keyed<'_>, wanted: &BTreeSet<NodeId>) -> Vec<Vec<NodeId>> {
    let parents: BTreeSet<NodeId> = wanted.iter().filter_map(|id| parent(keyed, *id)).collect();
    let mut left = wanted.clone();
    let mut chains = Vec::new();
    for top in wanted.iter().filter(|id| !parents.contains(id)) {
        let steps = std::iter::successors(Some(*top), |id| parent(keyed, *id));
        chains.push(steps.take_while(|id| left.remove(id)).collect());
    }
    chains
}

/// The steps whose layers are in images.
pub(in crate::build) fn in_images(keyed: &Keyed<'_>) -> BTreeSet<NodeId> {
    let mut in_images = BTreeSet::new();
    for root in keyed.graph.roots.iter().filter_map(|root| root.node) {
        let top = keyed.first[root.0];
        in_images.extend(std::iter::successors(Some(top), |id| parent(keyed, *id)));
    }
    in_images
}

/// The step that a step starts from.
fn parent(keyed: &Keyed<'_>, id: NodeId) -> Option<NodeId> {
    keyed.graph.node(id).parent.map(|parent| keyed.first[parent.0])
}

/// How a layer is packed that no image has: in haste, unless something was asked for.
fn drafted(packing: Packing) -> Packing {
    if packing == Packing::default() { DRAFT } else { packing }
}

/// How many of a node's lowest layers are those of its base image.
fn base_layers(graph: &Graph, bases: &Bases, id: NodeId) -> usize {
    let mut node = Some(id);
    while let Some(id) = node {
        if let Op::Pull(base) = &graph.node(id).op {
            return bases.get(&base.chain).map_or(0, |(_, image)| image.config.rootfs.diff_ids.len());
        }
        node = graph.node(id).parent;
    }
    0
}

/// The `SOURCE_DATE_EPOCH` of the build, if all of its images have the same.
fn epoch(graph: &Graph) -> Option<Epoch> {
    let first = graph.roots.first().and_then(|root| root.epoch);
    first.filter(|first| graph.roots.iter().all(|root| root.epoch == Some(*first)))
}

fn told(place: &CachePlace, counts: Counts) -> String {
    let Counts { steps, uploaded, bytes, mounted } = counts;
    let steps = if steps == 1 { "a step".to_owned() } else { format!("{steps} steps") };
    let mut text = format!("exported {steps} to the cache {}: {uploaded} layers uploaded", place.shown());
    if uploaded > 0 {
        text.push_str(&format!(" ({} kB)", bytes.div_ceil(1000)));
    }
    if mounted > 0 {
        text.push_str(&format!(", {mounted} taken from another repository"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_says_what_it_moved() {
        let place = CachePlace::Registry(Reference::parse("r.example/c:main").unwrap());
        let counts = Counts { steps: 3, uploaded: 2, bytes: 1500, mounted: 1 };
        let expected = "exported 3 steps to the cache r.example/c:main: 2 layers uploaded (2 kB), 1 taken from \
                        another repository";
        assert_eq!(told(&place, counts), expected);
        let counts = Counts { steps: 1, ..Counts::default() };
        assert_eq!(told(&place, counts), "exported a step to the cache r.example/c:main: 0 layers uploaded");
    }
}
