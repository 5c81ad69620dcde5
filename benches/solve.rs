//! Keys and the solver on a graph of a thousand steps, with a sandbox in which every command does nothing.
//!
//! `cargo bench --bench solve`. *Deep* is one service whose steps stand on each other, *wide* a thousand
//! services of one step. A build in which nothing changed is Dockerfiles, keys and look-ups; one in which
//! all is forced is all that a step costs besides its command: claim, staging, publishing, record.

use std::fmt::Write;
use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use shipway::base::cancel::Cancel;
use shipway::base::digest::{DefinitionKey, Digest};
use shipway::base::event::Silent;
use shipway::build::{Builder, Options, build, plan};
use shipway::graph::{
    BuildRequest, DockerfileSource, Graph, Node, Op, Origin, Run, RunNetwork, Selected, recipe,
};
use shipway::oci::{Platform, Reference};
use shipway::sandbox::Fake;
use shipway::store::Store;

const STEPS: usize = 1000;

fn main() {
    divan::main();
}

/// A store, a context, and what is built from it.
struct Project {
    folder: tempfile::TempDir,
    store: Store,
    sandbox: Fake,
    cancel: Cancel,
    requests: Vec<BuildRequest>,
}

impl Project {
    fn new(dockerfiles: Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("context")).unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let context = folder.path().join("context");
        let request = |(number, text): (usize, String)| {
            let name: Reference = format!("bench/s{number}").parse().unwrap();
            let mut request = BuildRequest::new(&format!("s{number}"), &context, vec![name]);
            request.dockerfile = DockerfileSource::Inline(text);
            request
        };
        let requests = dockerfiles.into_iter().enumerate().map(request).collect();
        Self { folder, store, sandbox: Fake::new(), cancel: Cancel::new().unwrap(), requests }
    }

    fn deep() -> Self {
        let step = |mut text: String, number: usize| {
            writeln!(text, "RUN [\"step\", \"{number}\"]").unwrap();
            text
        };
        Self::new(vec![(0..STEPS).fold("FROM scratch\n".to_owned(), step)])
    }

    fn wide() -> Self {
        let dockerfile = |number: usize| format!("FROM scratch\nRUN [\"step\", \"{number}\"]\n");
        Self::new((0..STEPS).map(dockerfile).collect())
    }

    fn builder(&self, no_cache: bool) -> Builder<'_> {
        Builder {
            store: &self.store,
            sandbox: &self.sandbox,
            engine: None,
            registries: None,
            events: &Silent,
            cancel: &self.cancel,
            options: Options {
                project: "bench".to_owned(),
                directory: Path::new("/").to_owned(),
                parallel: std::thread::available_parallelism().map_or(1, usize::from),
                no_cache,
                pull: false,
                silent_hits: true,
                resolv_conf: Vec::new(),
                engine_name: String::new(),
                hand_over: false,
                only_pushed: std::collections::BTreeSet::new(),
                lost: std::collections::BTreeSet::new(),
            },
        }
    }

    /// Builds; how many steps ran.
    fn build(&self, no_cache: bool) -> usize {
        build(&self.builder(no_cache), &self.requests, &[]).unwrap().summary.ran
    }

    fn measure_no_op(&self, bencher: Bencher<'_, '_>) {
        assert!(self.folder.path().exists());
        assert_eq!(self.build(false), STEPS);
        bencher.counter(ItemsCount::new(STEPS)).bench(|| assert_eq!(self.build(false), 0));
    }

    fn measure_all(&self, bencher: Bencher<'_, '_>) {
        bencher.counter(ItemsCount::new(STEPS)).bench(|| assert_eq!(self.build(true), STEPS));
    }
}

#[divan::bench(sample_count = 10)]
fn nothing_changed_deep(bencher: Bencher<'_, '_>) {
    Project::deep().measure_no_op(bencher);
}

#[divan::bench(sample_count = 10)]
fn nothing_changed_wide(bencher: Bencher<'_, '_>) {
    Project::wide().measure_no_op(bencher);
}

#[divan::bench(sample_count = 1, sample_size = 1)]
fn everything_runs_deep(bencher: Bencher<'_, '_>) {
    Project::deep().measure_all(bencher);
}

#[divan::bench(sample_count = 1, sample_size = 1)]
fn everything_runs_wide(bencher: Bencher<'_, '_>) {
    Project::wide().measure_all(bencher);
}

/// What `plan` says of a project that was never built: every step with its reason.
#[divan::bench(sample_count = 10)]
fn plan_of_all_missing(bencher: Bencher<'_, '_>) {
    let project = Project::deep();
    let builder = project.builder(false);
    let plan = || plan(&builder, &project.requests, &[]).unwrap().steps.len();
    assert_eq!(plan(), STEPS);
    bencher.counter(ItemsCount::new(STEPS)).bench(plan);
}

/// Recipes and definition keys of a chain of RUNs with ten variables each.
#[divan::bench(sample_count = 50)]
fn recipe_keys(bencher: Bencher<'_, '_>) {
    let graph = chain();
    let none = |_, _| Selected { digest: Digest::of(""), listing: None };
    bencher.counter(ItemsCount::new(STEPS)).bench(|| {
        let mut keys: Vec<DefinitionKey> = Vec::new();
        for (id, _) in graph.nodes() {
            let recipe = recipe(&graph, id, &|input| keys[input.0], &none);
            keys.extend(recipe.map(|recipe| recipe.definition_key()));
        }
        assert_eq!(keys.len(), STEPS);
        keys
    });
}

fn chain() -> Graph {
    let mut graph = Graph::default();
    let mut parent = None;
    for number in 0..STEPS {
        let run = Run {
            argv: ["/bin/sh".to_owned(), "-c".to_owned(), format!("make part{number}")].to_vec(),
            environment: (0..10).map(|name| (format!("NAME_{name}"), format!("value of {name}"))).collect(),
            directory: "/src".to_owned(),
            user: String::new(),
            network: RunNetwork::Default,
            extra_hosts: Vec::new(),
            shm_size: 64 << 20,
            mounts: Vec::new(),
            insecure: false,
            hostname: shipway::graph::HOSTNAME.to_owned(),
        };
        let origin = Origin {
            service: "s".to_owned(),
            stage: "0".to_owned(),
            ordinal: number,
            text: format!("RUN make part{number}"),
            span: None,
        };
        parent = Some(graph.add(Node {
            op: Op::Run(run),
            parent,
            sources: Vec::new(),
            platform: Platform::host(),
            origins: vec![origin],
            unkeyed_environment: Default::default(),
        }));
    }
    graph
}
