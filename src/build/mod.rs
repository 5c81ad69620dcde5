//! L4: builds images: resolve names, solve the graph, carry operations out, export.
//!
//! [`build`] takes requests (from a compose project or of `image build`) through the whole path of a
//! build: read Dockerfiles, lower, find base images, select what COPYs take, derive keys, look results up,
//! run what is missing, keep the history, export, hand over to the engine. [`plan`] stops before anything
//! runs and says what would, and why. `build` knows neither compose files nor containers.
//!
//! The pieces: `sources` reads files, `resolve` finds images, `selection` walks contexts, `solve`
//! schedules (and knows nothing else), `exec` and `pull` carry out, `history` remembers, `explain` compares
//! with it (`align` finds what was what), `export` and `hand_over` make images of results, `deliver` gives
//! them away: files, archives, registries. `owners` and `damage` look at a store as a whole.

mod align;
mod caches;
mod checks;
mod damage;
mod deliver;
mod elsewhere;
mod error;
mod exec;
mod explain;
mod export;
mod hand_over;
mod history;
mod image;
mod on_demand;
mod output;
mod owners;
mod pace;
mod pull;
mod registries;
mod resolve;
mod selection;
mod solve;
mod sources;
mod users;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

pub use checks::{Checked, check, parsed, reached};
pub use damage::damage;
pub use deliver::{Archive, Delivered, Layout, Output, Package, Place, Remote, deliver, save};
pub use elsewhere::{asked_head, commit_time};
pub use error::{BuildError, StepError, StepFailure};
pub use export::Exported;
pub use hand_over::{HandedOver, came_from_registry, give, remove_untagged};
pub use history::{End, ServiceHistory, StepHistory};
pub use image::{ListedImage, LoadedImage, NamedImage, find, import, list, load, remove};
pub use on_demand::OnDemand;
pub use owners::owners;
pub use registries::Registries;
pub use resolve::{Origin, StoredImage};

use crate::base::cancel::Cancel;
use crate::base::diag::Diagnostic;
use crate::base::digest::{BlobId, Digest, ResultId};
use crate::base::event::{Event, Events, Outcome, Phase, during};
use crate::engine::{Engine, Image as EngineImage};
use crate::graph::{
    BaseImage, BuildRequest, Cause, Extent, Facts, Graph, ImageName, Known, Lowered, MissReason, Node,
    NodeId, Op, Origin as StepOrigin, Reasons, RunNetwork, Source, lower,
};
use crate::oci::Platform;
use crate::remote::GitSource;
use crate::sandbox::Sandbox;
use crate::store::{Bucket, Stamp, Store};

use caches::{Caches, Export, Found, in_images};
use elsewhere::Asked;
use exec::Executor;
use explain::Explained;
use export::Top;
use history::History;
use selection::{Ahead, Selections};
use solve::{Demand, Keyed, Settings, Solution, demand};

/// How often a build starts over because files changed under it.
const ATTEMPTS: usize = 5;
/// How many layers are packed and uploaded at once while steps run.
const EXPORTERS: usize = 8;

/// What a build works with.
pub struct Builder<'a> {
    /// Where results lie.
    pub store: &'a Store,
    /// What runs and mounts.
    pub sandbox: &'a dyn Sandbox,
    /// The engine that images come from and go to; none with `--engine none`.
    pub engine: Option<&'a dyn Engine>,
    /// The registries; none with `--offline`.
    pub registries: Option<&'a Registries>,
    /// Who is told.
    pub events: &'a dyn Events,
    /// What stops it.
    pub cancel: &'a Cancel,
    /// How to build.
    pub options: Options,
}

/// How to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// The project's name: its history is kept under it.
    pub project: String,
    /// The folder against which paths are shown.
    pub directory: PathBuf,
    /// Steps at a time.
    pub parallel: usize,
    /// Build every step again.
    pub no_cache: bool,
    /// Ask registries for newer base images.
    pub pull: bool,
    /// Say nothing about the Dockerfiles where every step is a hit.
    pub silent_hits: bool,
    /// The content of `/etc/resolv.conf` in a RUN.
    pub resolv_conf: Vec<u8>,
    /// The engine's address: what was handed to it is remembered under it.
    pub engine_name: String,
    /// Whether the engine gets the images.
    pub hand_over: bool,
    /// Services whose image is only pushed: where a cache has its layers, they need not come here.
    pub only_pushed: BTreeSet<String>,
    /// Blobs that caches name and that are not to be had.
    pub lost: BTreeSet<Digest>,
}

/// What a build came to.
#[derive(Debug)]
pub struct Built {
    /// The image of each requested service.
    pub images: BTreeMap<String, BuiltImage>,
    /// How much there was to do.
    pub summary: Summary,
}

/// A service's image.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    /// The image in the store.
    pub image: Exported,
    /// The image in the engine, if there is one.
    pub engine: Option<HandedOver>,
}

/// How much there was to do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Summary {
    /// Steps that had a result.
    pub hits: usize,
    /// Steps that ran.
    pub ran: usize,
    /// Images that were sent to the engine.
    pub handed_over: usize,
}

/// What a build would do.
#[derive(Debug)]
pub struct BuildPlan {
    /// Every step, in the order of the graph.
    pub steps: Vec<PlannedStep>,
    /// What is worth saying about the Dockerfiles.
    pub warnings: Vec<Diagnostic>,
}

/// One step of a plan.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PlannedStep {
    /// Its number in the graph.
    pub number: usize,
    /// The numbers of its inputs.
    pub inputs: Vec<usize>,
    /// The services that need it.
    pub services: Vec<String>,
    /// Stage and number.
    pub step: String,
    /// The instruction as the user wrote it.
    pub text: String,
    /// The first digits of its definition key.
    pub key: String,
    /// Why it would run; `None` if it has a result.
    pub reason: Option<String>,
    /// Everything that differs.
    pub reasons: Vec<String>,
    /// The same as values.
    pub misses: Vec<MissReason>,
    /// The step that makes it run, which may be itself.
    pub first_cause: Option<PlannedCause>,
}

/// The step of a plan that makes another one run.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PlannedCause {
    /// Its number in the graph.
    pub number: usize,
    /// What it is and why it runs itself.
    #[serde(flatten)]
    pub cause: Cause,
}

/// Builds what is requested. `requests` are all that the command knows (one may stand on another's
/// image); those whose service is in `wanted` are built for themselves, all of them if it is empty.
pub fn build(
    builder: &Builder<'_>,
    requests: &[BuildRequest],
    wanted: &[String],
) -> Result<Built, BuildError> {
    build_and_give(builder, requests, wanted, |_| ()).map(|(built, ())| built)
}

/// The same, and calls `give` with what was built, once it is in the store and in the engine. Entries go to
/// caches beside it: what is given is not taken back where a cache insists on being filled and is not (BuildKit
/// pushes images before caches).
pub fn build_and_give<T>(
    builder: &Builder<'_>,
    requests: &[BuildRequest],
    wanted: &[String],
    give: impl FnOnce(&Built) -> T,
) -> Result<(Built, T), BuildError> {
    let caches = &Caches::new(builder, requests);
    // What is asked from now on needs not be asked again.
    let (begun, listed) = (Stamp::now(), Mutex::new(None));
    std::thread::scope(|scope| {
        // The one question to the engine is asked beside the walk.
        if let Some(engine) = builder.engine {
            scope.spawn(|| {
                let answer = engine.images();
                *listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
            });
        }
        let prepared = prepare(builder, requests, wanted, Some(caches))?;
        Ok::<_, BuildError>(prepared)
    })
    .and_then(|prepared| {
        let listed = listed.into_inner().unwrap_or_else(PoisonError::into_inner).transpose()?;
        let (prepared, solved) = solved(builder, requests, wanted, caches, (begun, prepared), &listed)?;
        export_all(builder, prepared, caches, *solved, listed, give)
    })
}

/// What would be built, and why. Runs nothing and writes nothing but pins.
pub fn plan(
    builder: &Builder<'_>,
    requests: &[BuildRequest],
    wanted: &[String],
) -> Result<BuildPlan, BuildError> {
    let prepared = prepare(builder, requests, wanted, None)?;
    let keyed = prepared.keyed();
    let demand = demand_of(builder, &prepared, &keyed);
    let mut reasons = Reasons::default();
    if !demand.needed.is_empty() {
        let history = read_history(builder, &prepared, &keyed, &demand);
        reasons = explain(builder, &prepared, &history, &keyed, &demand);
    }
    let mut steps = Vec::new();
    for (id, node) in prepared.graph.nodes().filter(|(_, node)| !matches!(node.op, Op::Local(_))) {
        let first = keyed.first[id.0];
        let why = reasons.by_step.get(&first);
        steps.push(PlannedStep {
            number: id.0,
            inputs: node
                .inputs()
                .filter(|input| keyed.recipes[input.0].is_some())
                .map(|input| input.0)
                .collect(),
            services: node.services(),
            step: node.origins.first().map_or_else(String::new, StepOrigin::place),
            text: node.text().to_owned(),
            key: keyed.keys[id.0].0.short(),
            reason: why.map(|_| reasons.line(&prepared.graph, first)),
            reasons: why.into_iter().flatten().map(ToString::to_string).collect(),
            misses: why.cloned().unwrap_or_default(),
            first_cause: why.and_then(|_| planned_cause(&prepared.graph, &reasons, first)),
        });
    }
    Ok(BuildPlan { steps, warnings: prepared.warnings })
}

fn planned_cause(graph: &Graph, reasons: &Reasons, id: NodeId) -> Option<PlannedCause> {
    let (at, _) = reasons.first_cause(graph, id)?;
    Some(PlannedCause { number: at.0, cause: reasons.cause(graph, id, None)? })
}

/// What the last build of a service that ran something did.
pub fn last_build(store: &Store, project: &str, service: &str) -> Option<ServiceHistory> {
    store.shelf(Bucket::History(project)).get(service)
}

/// Base images by the chain ID of their layers, with the name by which they were found.
type Bases = BTreeMap<Digest, (Option<ImageName>, BaseImage)>;

/// Everything that is known before a key is looked up.
struct Prepared {
    sources: Vec<Source>,
    graph: Graph,
    /// What is worth saying about the Dockerfiles.
    warnings: Vec<Diagnostic>,
    bases: Bases,
    /// The base images.
    names: Vec<ImageName>,
    /// The URLs and repositories that were asked.
    asked: Asked,
    selections: Selections,
}

impl Prepared {
    fn keyed(&self) -> Keyed<'_> {
        Keyed::new(&self.graph, &|id, source| self.selections.selected((id, source)))
    }
}

fn prepare(
    builder: &Builder<'_>,
    requests: &[BuildRequest],
    wanted: &[String],
    caches: Option<&Caches<'_>>,
) -> Result<Prepared, BuildError> {
    let sources = during(builder.events, Phase::ReadFiles, || read(builder, requests, wanted))?;
    let commits: Vec<GitSource> = sources.iter().filter_map(Source::repository).cloned().collect();
    let mut known = Known::default();
    rayon::in_place_scope(|scope| {
        let ahead = Ahead::begin(scope, &sources, builder.store);
        let resolve = || lowered(builder, &sources, &mut known, Extent::Target, caches);
        let (graph, mut warnings, facts) = during(builder.events, Phase::ResolveNames, resolve)?;
        warnings.extend(sources.iter().flat_map(|source| source.request.warnings.iter().cloned()));
        warnings.extend(checks::findings(&sources, &facts));
        if checks::stops(&warnings) {
            return Err(BuildError::Mistakes(warnings));
        }
        let names = known.images.keys().cloned().collect();
        let asked = Asked {
            files: known.files.into_keys().collect(),
            commits: known.commits.into_keys().chain(commits).collect(),
        };
        let images = known.images.into_iter().map(|(name, image)| (Some(name), image));
        let layouts = known.layouts.into_values().map(|image| (None, image));
        let bases =
            layouts.chain(images).filter_map(|(name, image)| Some((image.chain()?, (name, image)))).collect();
        let walk = || Selections::read(&graph, builder.store, ahead);
        let selections = during(builder.events, Phase::WalkContexts, walk)?;
        warnings.extend(selections.problems());
        Ok(Prepared { sources, graph, warnings, bases, names, asked, selections })
    })
}

/// The requests with their files; those that are wanted for themselves are marked.
fn read(
    builder: &Builder<'_>,
    requests: &[BuildRequest],
    wanted: &[String],
) -> Result<Vec<Source>, BuildError> {
    let directory = &builder.options.directory;
    let shown = |path: &Path| {
        let shown = path.strip_prefix(directory).unwrap_or(path);
        if shown.as_os_str().is_empty() { ".".to_owned() } else { shown.display().to_string() }
    };
    let selected = |request: &BuildRequest| wanted.is_empty() || wanted.contains(&request.service);
    let mut contexts = Vec::new();
    for request in requests {
        contexts.push(elsewhere::context(builder, request)?);
    }
    sources::read(requests, contexts, &shown, &selected).map_err(BuildError::Mistakes)
}

/// Lowers the sources, finding the base images that they name.
fn lowered(
    builder: &Builder<'_>,
    sources: &[Source],
    known: &mut Known,
    extent: Extent,
    caches: Option<&Caches<'_>>,
) -> Result<(Graph, Vec<Diagnostic>, Vec<Facts>), BuildError> {
    loop {
        match lower(sources, known, extent).map_err(BuildError::Mistakes)? {
            Lowered::Graph(graph, warnings, facts) => return Ok((*graph, warnings, facts)),
            Lowered::Wanted(wanted) => {
                let first = sources.first().map(|source| source.request.platform.clone());
                let platform = first.unwrap_or_else(Platform::host);
                let secrets = elsewhere::secrets(sources.iter().map(|source| &source.request));
                resolve::resolve(builder, &wanted, &platform, &secrets, caches, known)?;
            }
        }
    }
}

/// Says what has not been said yet.
fn tell(builder: &Builder<'_>, warnings: &[Diagnostic], told: &mut Told) {
    for warning in warnings {
        if told.insert(checks::identity(warning)) {
            builder.events.emit(Event::Finding(Box::new(warning.clone())));
        }
    }
}

/// What was said already.
type Told = HashSet<(String, usize, Option<&'static str>, String)>;

fn forced(builder: &Builder<'_>, prepared: &Prepared) -> BTreeSet<NodeId> {
    let requests: HashMap<&str, &BuildRequest> =
        prepared.sources.iter().map(|source| (source.request.service.as_str(), &source.request)).collect();
    let is_forced = |origin: &StepOrigin| {
        let Some(request) = requests.get(origin.service.as_str()) else { return false };
        let named = |stage: &String| stage.eq_ignore_ascii_case(&origin.stage);
        builder.options.no_cache || request.no_cache || request.no_cache_stages.iter().any(named)
    };
    let nodes = prepared.graph.nodes().filter(|(_, node)| !matches!(node.op, Op::Pull(_) | Op::Local(_)));
    nodes.filter(|(_, node)| node.origins.iter().any(is_forced)).map(|(id, _)| id).collect()
}

fn demand_of(builder: &Builder<'_>, prepared: &Prepared, keyed: &Keyed<'_>) -> Demand {
    let forced = forced(builder, prepared);
    demand(keyed, builder.store, &|id| forced.contains(&id))
}

/// Why each needed step has no result.
fn explain(
    builder: &Builder<'_>,
    prepared: &Prepared,
    history: &History<'_>,
    keyed: &Keyed<'_>,
    demand: &Demand,
) -> Reasons {
    let forced = forced(builder, prepared);
    let listing = |id, source| Some(prepared.selections.of((id, source)).ok()?.1.listing());
    let image = |chain| prepared.bases.get(&chain)?.0.as_ref().map(|image| image.name.familiar());
    let forced = |id| forced.contains(&id);
    let (listing, image, store) = (&listing, &image, builder.store);
    Explained { history, keyed, demand, store, forced: &forced, listing, image }.reasons()
}

/// Attempts until one holds.
fn solved(
    builder: &Builder<'_>,
    requests: &[BuildRequest],
    wanted: &[String],
    caches: &Caches<'_>,
    (begun, mut prepared): (Stamp, Prepared),
    listed: &Option<Vec<EngineImage>>,
) -> Result<(Prepared, Box<Solved>), BuildError> {
    if let Some(listed) = listed
        && resolve::forget_stale(builder, &prepared.names, listed)?
    {
        prepared = prepare(builder, requests, wanted, Some(caches))?;
    }
    let (mut changing, mut told) = (String::new(), Told::new());
    let mut number = 0;
    while number < ATTEMPTS {
        match attempt(builder, &prepared, caches, begun, &mut told)? {
            Attempt::Solved(solved) => {
                prepared.selections.save()?;
                return Ok((prepared, solved));
            }
            Attempt::Moved => number += 1,
            // Each time something more is left alone, so this ends; it is never a reason to fail.
            Attempt::Lost(what) => {
                builder.events.emit(Event::Notice(format!("going on without a result: {what}")))
            }
            Attempt::Changed(what) => {
                number += 1;
                builder.events.emit(Event::Notice(format!("starting over ({number}): {what}")));
                changing = what;
            }
        }
        prepared = prepare(builder, requests, wanted, Some(caches))?;
    }
    Err(BuildError::Unstable { what: changing })
}

enum Attempt {
    Solved(Box<Solved>),
    /// A source is no longer what was digested.
    Changed(String),
    /// A cache could not give what it named; it is not asked for that again.
    Lost(String),
    /// A base image's tag means another image than it did.
    Moved,
}

/// Every root has a result, here or elsewhere.
struct Solved {
    results: BTreeMap<NodeId, ResultId>,
    /// What caches had of steps.
    found: BTreeMap<NodeId, Found>,
    /// Steps that ran.
    ran: BTreeSet<NodeId>,
    summary: Summary,
}

/// One pass over the graph.
fn attempt(
    builder: &Builder<'_>,
    prepared: &Prepared,
    caches: &Caches<'_>,
    begun: Stamp,
    told: &mut Told,
) -> Result<Attempt, BuildError> {
    let keyed = prepared.keyed();
    let forced = forced(builder, prepared);
    let is_forced = |id: NodeId| forced.contains(&id);
    let look_up = || caches.find(&keyed, demand(&keyed, builder.store, &is_forced), &is_forced);
    let (mut demand, found) = during(builder.events, Phase::LookUpKeys, look_up)?;
    caches.tell(&found);
    demand.brought = brought(builder, prepared, &keyed, &demand, &found);
    // Something has to run: a good moment to see whether base images, files and branches have moved.
    if !demand.needed.is_empty() {
        let secrets = elsewhere::secrets(prepared.sources.iter().map(|source| &source.request));
        if resolve::forget_moved(builder, &prepared.names, begun)?
            | elsewhere::forget_moved(builder, &prepared.asked, &secrets, begun)?
        {
            return Ok(Attempt::Moved);
        }
    }
    if !demand.needed.is_empty() || !builder.options.silent_hits {
        tell(builder, &prepared.warnings, told);
    }
    builder.events.emit(Event::Planned { steps: distinct(&keyed) });
    report_hits(builder, &keyed, &demand);
    if demand.needed.is_empty() && demand.brought.is_empty() {
        let summary = Summary { hits: distinct(&keyed), ..Summary::default() };
        let solved = Solved { results: demand.hits, found, ran: BTreeSet::new(), summary };
        return Ok(Attempt::Solved(Box::new(solved)));
    }
    if demand.needed.iter().any(|id| uses_network(prepared.graph.node(*id))) {
        builder.events.emit(Event::Notice("RUN uses the host's network".to_owned()));
    }
    if let Some(what) = prepared.selections.select(&demand.needed)? {
        return Ok(Attempt::Changed(what));
    }
    let (history, reasons) = during(builder.events, Phase::Explain, || {
        let history = read_history(builder, prepared, &keyed, &demand);
        let reasons = explain(builder, prepared, &history, &keyed, &demand);
        (history, reasons)
    });
    let executor = Executor {
        builder,
        graph: &prepared.graph,
        bases: &prepared.bases,
        selections: &prepared.selections,
        stages: Mutex::new(HashMap::new()),
        sources: &prepared.sources,
        begins: Mutex::new(HashMap::new()),
        caches: Mutex::new(HashMap::new()),
        shared: caches,
        found: &found,
        epochs: prepared.graph.roots.iter().map(|root| root.epoch).collect(),
        // Who has everything built anew relies on nothing that lies there.
        before: &|id| history.result(id).filter(|_| !is_forced(id)),
    };
    let in_images = in_images(&keyed);
    let settings = Settings {
        parallel: builder.options.parallel,
        forced: &is_forced,
        expected: &|id| history.expected(id),
        reason: &|id| reasons.line(&prepared.graph, id),
        done: &|_, _| {},
    };
    let run = || {
        let _writing = builder.store.write_back();
        run_steps((builder, caches), (&keyed, &in_images), demand, &executor, settings)
    };
    let solution = during(builder.events, Phase::RunSteps, run);
    if !solution.ran.is_empty() || solution.failed.iter().any(|(_, error)| error.is_failure()) {
        history.write(&keyed, &solution, &reasons, &|id, source| listing(builder, prepared, id, source))?;
    }
    let ran: BTreeSet<NodeId> = solution.ran.keys().copied().collect();
    let solved = outcome(builder, prepared, &keyed, solution);
    match solved? {
        Ended::Solved(results, summary) => {
            Ok(Attempt::Solved(Box::new(Solved { results, found, ran, summary })))
        }
        Ended::Changed(what) => Ok(Attempt::Changed(what)),
        Ended::Lost(what) => Ok(Attempt::Lost(what)),
        Ended::Failed(failures) => {
            // What is done serves the next build, wherever that is; the failure is what is told last.
            let (names, bases) = (prepared.names.as_slice(), &prepared.bases);
            let export =
                Export { keyed: &keyed, ran: &ran, found: &found, names, bases, in_images: &in_images };
            match caches.export(&export) {
                Err(BuildError::Cancelled) => return Err(BuildError::Cancelled),
                Err(error) => builder.events.emit(Event::Warning(error.to_string())),
                Ok(()) => {}
            }
            Err(BuildError::Steps(failures))
        }
    }
}

/// The histories of the services of which a step has to run.
fn read_history<'a>(
    builder: &Builder<'a>,
    prepared: &Prepared,
    keyed: &Keyed<'_>,
    demand: &Demand,
) -> History<'a> {
    let is_asked = |id: NodeId| demand.needed.contains(&keyed.first[id.0]);
    History::read(builder.store, &builder.options.project, &prepared.graph, &is_asked)
}

/// Runs what is missing; layers of what is done go to the caches beside it.
fn run_steps(
    (builder, caches): (&Builder<'_>, &Caches<'_>),
    (keyed, in_images): (&Keyed<'_>, &BTreeSet<NodeId>),
    demand: Demand,
    executor: &Executor<'_>,
    settings: Settings<'_>,
) -> Solution {
    let (done, exporting) = mpsc::channel::<(NodeId, ResultId)>();
    let exporting = Mutex::new(exporting);
    let next = || exporting.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let runs = demand.needed.iter().filter(|id| matches!(keyed.graph.node(**id).op, Op::Run(_))).count();
    std::thread::scope(|scope| {
        if runs > 0 {
            scope.spawn(move || builder.sandbox.prepare(runs));
        }
        for _ in 0..if caches.exports() { EXPORTERS } else { 0 } {
            scope.spawn(|| {
                while let Ok((id, result)) = next() {
                    caches.layer_done(keyed.graph, id, result, in_images.contains(&id));
                }
            });
        }
        // It goes with this closure, however that ends, and the exporters with it.
        let done = done;
        let tell = |id, result| {
            // Nobody listens where nothing is exported.
            let _ = done.send((id, result));
        };
        let settings = Settings { done: &tell, ..settings };
        let (store, events, cancel) = (builder.store, builder.events, builder.cancel);
        solve::run(keyed, demand, executor, store, &settings, events, cancel)
    })
}

/// The steps that others made and that are needed here: what steps that run stand on, and the roots, but for
/// images that are only pushed.
fn brought(
    builder: &Builder<'_>,
    prepared: &Prepared,
    keyed: &Keyed<'_>,
    demand: &Demand,
    found: &BTreeMap<NodeId, Found>,
) -> BTreeSet<NodeId> {
    let mut brought: BTreeSet<NodeId> =
        demand.needed.iter().flat_map(|id| keyed.inputs(*id)).filter(|id| found.contains_key(id)).collect();
    let handed_over = builder.engine.is_some() && builder.options.hand_over;
    for root in &prepared.graph.roots {
        let Some(id) = root.node.map(|node| keyed.first[node.0]) else { continue };
        let Some(found) = found.get(&id) else { continue };
        let service = &prepared.sources[root.source].request.service;
        let stays = builder.options.only_pushed.contains(service) && !handed_over && found.suits(root.epoch);
        if !stays {
            brought.insert(id);
        }
    }
    brought
}

fn uses_network(node: &Node) -> bool {
    matches!(&node.op, Op::Run(run) if run.network == RunNetwork::Default)
}

/// How many different steps the graph has.
fn distinct(keyed: &Keyed<'_>) -> usize {
    let first = |index: &usize| keyed.first[*index] == NodeId(*index) && keyed.recipes[*index].is_some();
    (0..keyed.recipes.len()).filter(first).count()
}

fn report_hits(builder: &Builder<'_>, keyed: &Keyed<'_>, demand: &Demand) {
    for (id, _) in keyed.graph.nodes() {
        let counts = keyed.first[id.0] == id && keyed.recipes[id.0].is_some();
        if counts && !demand.needed.contains(&id) && !demand.brought.contains(&id) {
            builder.events.emit(solve::finished(keyed.graph, id, Outcome::Hit, Duration::ZERO));
        }
    }
}

fn outcome(
    builder: &Builder<'_>,
    prepared: &Prepared,
    keyed: &Keyed<'_>,
    solution: Solution,
) -> Result<Ended, BuildError> {
    if builder.cancel.is_cancelled() {
        sync(builder)?;
        return Err(BuildError::Cancelled);
    }
    let (changed, failed): (Vec<_>, Vec<_>) =
        solution.failed.into_iter().partition(|(_, error)| error.is_change());
    if !failed.is_empty() {
        sync(builder)?;
        let failures = failed.into_iter().map(|(id, error)| failure(&prepared.graph, id, error)).collect();
        return Ok(Ended::Failed(failures));
    }
    let is_lost = |error: &StepError| matches!(error, StepError::Lost(_));
    if let Some((_, error)) = changed.iter().find(|(_, error)| !is_lost(error)) {
        return Ok(Ended::Changed(error.to_string()));
    }
    if let Some((_, error)) = changed.first() {
        return Ok(Ended::Lost(error.to_string()));
    }
    let ran = solution.ran.len();
    let summary = Summary { hits: distinct(keyed).saturating_sub(ran), ran, handed_over: 0 };
    Ok(Ended::Solved(solution.results, summary))
}

/// What the steps of a pass came to.
enum Ended {
    Solved(BTreeMap<NodeId, ResultId>, Summary),
    Changed(String),
    Lost(String),
    Failed(Vec<StepFailure>),
}

fn failure(graph: &Graph, id: NodeId, error: StepError) -> StepFailure {
    let node = graph.node(id);
    let span = node.origins.first().and_then(|origin| origin.span.clone());
    StepFailure { services: node.services(), text: node.text().to_owned(), span, error }
}

fn sync(builder: &Builder<'_>) -> Result<(), BuildError> {
    during(builder.events, Phase::Sync, || {
        builder.store.stamp_use();
        Ok(builder.store.sync()?)
    })
}

/// Makes every root's image, names it, hands it to the engine, and has it given away.
fn export_all<T>(
    builder: &Builder<'_>,
    prepared: Prepared,
    caches: &Caches<'_>,
    solved: Solved,
    listed: Option<Vec<EngineImage>>,
    give: impl FnOnce(&Built) -> T,
) -> Result<(Built, T), BuildError> {
    let engine = builder.engine.filter(|_| builder.options.hand_over).zip(listed);
    let given = std::thread::scope(|scope| {
        let mut exported = exported(builder, &prepared, &solved)?;
        for (service, image) in &mut exported {
            image.cached_in = caches.repositories(service);
        }
        let caching = caches.exports().then(|| scope.spawn(|| export_to_caches(&prepared, caches, &solved)));
        let handed = match engine {
            None => {
                sync(builder)?;
                HashMap::new()
            }
            Some((engine, listed)) => {
                // The disk and the engine are waited for at the same time.
                let syncing = (solved.summary.ran > 0).then(|| scope.spawn(|| sync(builder)));
                let images: Vec<&Exported> = exported.iter().map(|(_, image)| image).collect();
                let hand_over = || hand_over::hand_over(builder, engine, &images, listed);
                let handed = during(builder.events, Phase::HandOver, hand_over)?;
                match syncing {
                    Some(syncing) => joined(syncing)?,
                    None => sync(builder)?,
                }
                handed
            }
        };
        let handed_over = handed.values().filter(|handed| handed.sent).count();
        let with_engine = |(service, image): (String, Exported)| {
            let engine = handed.get(&image.id).cloned();
            (service, BuiltImage { image, engine })
        };
        let images = exported.into_iter().map(with_engine).collect();
        let built = Built { images, summary: Summary { handed_over, ..solved.summary } };
        builder.sandbox.rest();
        let given = give(&built);
        caching.map_or(Ok(()), joined)?;
        Ok::<_, BuildError>((built, given))
    })?;
    // What was seen of the contexts is large: it is freed beside what follows, or with the process.
    rayon::spawn(move || drop(prepared));
    Ok(given)
}

fn export_to_caches(prepared: &Prepared, caches: &Caches<'_>, solved: &Solved) -> Result<(), BuildError> {
    let keyed = prepared.keyed();
    let Solved { found, ran, .. } = solved;
    let (names, bases, in_images) = (prepared.names.as_slice(), &prepared.bases, &in_images(&keyed));
    caches.export(&Export { keyed: &keyed, ran, found, names, bases, in_images })
}

/// What a thread gave; its panic goes on here.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Keeps what a step takes from a context, to explain the next difference; nothing where that fails.
fn listing(builder: &Builder<'_>, prepared: &Prepared, id: NodeId, source: usize) -> Option<BlobId> {
    let (_, selection) = prepared.selections.of((id, source)).ok()?;
    exec::keep_listing(builder, selection).ok()
}

/// The image of every root in the store, by service.
fn exported(
    builder: &Builder<'_>,
    prepared: &Prepared,
    solved: &Solved,
) -> Result<Vec<(String, Exported)>, BuildError> {
    let keyed = prepared.keyed();
    let export = || export_roots(builder, prepared, &keyed, solved);
    let exported = during(builder.events, Phase::Export, export)?;
    let histories = builder.store.shelf(Bucket::History(&builder.options.project));
    if exported.iter().any(|(service, _)| !histories.has(service)) {
        // All of it was built elsewhere: the next miss is to be explained all the same.
        let project = &builder.options.project;
        let history = History::read(builder.store, project, &prepared.graph, &|_| false);
        let listing = |id, source| listing(builder, prepared, id, source);
        history.write(&keyed, &Solution::default(), &Reasons::default(), &listing)?;
    }
    Ok(exported)
}

/// The image of every root, under its service.
fn export_roots(
    builder: &Builder<'_>,
    prepared: &Prepared,
    keyed: &Keyed<'_>,
    solved: &Solved,
) -> Result<Vec<(String, Exported)>, BuildError> {
    let mut exported = Vec::new();
    for root in &prepared.graph.roots {
        let request = &prepared.sources[root.source].request;
        let top = match root.node.map(|node| keyed.first[node.0]) {
            None => Top::Nothing,
            Some(id) => match (solved.results.get(&id), solved.found.get(&id)) {
                (Some(result), _) => Top::Here(*result),
                (None, Some(found)) => Top::Elsewhere(found),
                (None, None) => return Err(export::vanished(builder)),
            },
        };
        let image = export::export(builder, &root.draft, &request.names, &top, root.epoch)?;
        exported.push((request.service.clone(), image));
    }
    Ok(exported)
}
