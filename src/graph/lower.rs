//! Lowering: all Dockerfiles of a command to one graph.
//!
//! [`lower`] walks each requested target and only the stages that it reaches. A name after `FROM` or
//! `COPY --from=` is looked up in this order: an earlier stage; a named context (which also stands in for
//! a stage of its name); an image that another request of the same command builds (an edge, built first);
//! the images handed in. What none of these knows comes back as [`Lowered::Wanted`]: the caller resolves them and lowers again, until a graph comes out. All
//! mistakes of all Dockerfiles are collected before any is returned.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::rc::Rc;

use super::Root;
use super::elsewhere::{Given, Place};
use super::instruction;
use super::named::RemoteContext;
use super::op::{BaseImage, ContextSpec, Graph, Node, NodeId, Op, Origin, Pull};
use super::request::BuildRequest;
use super::stage::StageState;
use super::wanted::{ImageName, Known, Wanted};
use crate::base::diag::{Diagnostic, Span};
use crate::dockerfile::{Beginning, Dockerfile, Facts, Instruction, PlatformMismatch, Word, words};
use crate::oci::{Platform, Reference};
use crate::remote::{Checkout, GitSource};

/// A request with its Dockerfile.
#[derive(Clone, Debug)]
pub struct Source {
    /// What is to be built.
    pub request: BuildRequest,
    /// Its Dockerfile.
    pub dockerfile: Dockerfile,
    /// The ignore file's shown name and text.
    pub ignore: Option<(String, String)>,
    /// The ignore files of the folders that have names of their own.
    pub ignores: BTreeMap<PathBuf, (String, String)>,
    /// What the context is if it is a repository.
    pub checkout: Option<Checkout>,
    /// Whether its image is wanted for itself, or only if another one stands on it.
    pub selected: bool,
}

impl Source {
    /// The repository that its context is, if it is one.
    pub fn repository(&self) -> Option<&GitSource> {
        match &self.request.remote {
            Some(RemoteContext::Git(source)) => Some(source),
            _ => None,
        }
    }

    /// The folder that its build context is, if it is no remote one.
    pub fn folder(&self) -> ContextSpec {
        let (folder, ignore) = (self.request.context.clone(), self.ignore.clone());
        ContextSpec { folder, ignore, modes: self.request.modes }
    }
}

/// What lowering came to.
#[derive(Debug)]
pub enum Lowered {
    /// The graph, what is worth saying about the Dockerfiles, and for the checks of each source what its
    /// stages begin with.
    Graph(Box<Graph>, Vec<Diagnostic>, Vec<Facts>),
    /// These are needed first; each with the first place that names it.
    Wanted(BTreeMap<Wanted, Span>),
}

/// Which stages of the selected sources are lowered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// Those that the target needs.
    Target,
    /// All of them where no target is named, as BuildKit checks a file.
    Everything,
}

/// Lowers every selected source and what it stands on.
pub fn lower(sources: &[Source], known: &Known, extent: Extent) -> Result<Lowered, Vec<Diagnostic>> {
    let mut lowering = Lowering {
        sources,
        known,
        graph: Graph::default(),
        wanted: BTreeMap::new(),
        mistakes: Vec::new(),
        warnings: Vec::new(),
        facts: sources.iter().map(facts).collect(),
        globals: HashMap::new(),
        finished: HashMap::new(),
        path: Vec::new(),
    };
    for (index, source) in sources.iter().enumerate().filter(|(_, source)| source.selected) {
        if extent == Extent::Everything && source.request.target.is_none() {
            (0..source.dockerfile.stages.len()).for_each(|stage| drop(lowering.stage((index, stage))));
        }
        lowering.root(index, source);
    }
    if !lowering.mistakes.is_empty() {
        return Err(lowering.mistakes);
    }
    if !lowering.wanted.is_empty() {
        return Ok(Lowered::Wanted(lowering.wanted));
    }
    Ok(Lowered::Graph(Box::new(lowering.graph), lowering.warnings, lowering.facts))
}

/// What the checks of a source are told before any of its stages is reached.
pub fn facts(source: &Source) -> Facts {
    Facts {
        arguments: source.request.arguments.clone(),
        platform: platform_arguments(source),
        stages: vec![None; source.dockerfile.stages.len()],
    }
}

/// A stage of a source.
pub(super) type StageId = (usize, usize);

pub(super) struct Lowering<'a> {
    sources: &'a [Source],
    pub(super) known: &'a Known,
    pub(super) graph: Graph,
    wanted: BTreeMap<Wanted, Span>,
    mistakes: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// For the checks, one a source.
    facts: Vec<Facts>,
    /// What `FROM` sees, by source, once it was asked for.
    globals: HashMap<usize, Rc<BTreeMap<String, String>>>,
    /// Stages that are done; `None` where something in them is wrong or wanted.
    finished: HashMap<StageId, Option<Rc<StageState>>>,
    /// Stages that are being lowered, outermost first, to see cycles between services.
    path: Vec<StageId>,
}

impl<'a> Lowering<'a> {
    fn root(&mut self, index: usize, source: &'a Source) {
        let Some(target) = self.target(source) else { return };
        if let Some(state) = self.stage((index, target)) {
            let mut draft = state.draft(&source.request.labels);
            // A platform that was asked for is the image's, whatever it stands on.
            if source.request.platform != Platform::host() {
                draft.platform = source.request.platform.clone();
            }
            let epoch = self.epoch(index);
            self.graph.roots.push(Root { source: index, node: state.node, draft, epoch });
        }
        self.unused_arguments(source);
    }

    /// The stage that a request asks for.
    fn target(&mut self, source: &Source) -> Option<usize> {
        let Some(wanted) = &source.request.target else {
            return source.dockerfile.stages.len().checked_sub(1);
        };
        let found = source.dockerfile.stage(wanted);
        if found.is_none() {
            let names = source.dockerfile.stages.iter().filter_map(|stage| stage.name.as_ref());
            let names: Vec<&str> = names.map(|name| name.text.as_str()).collect();
            let service = &source.request.service;
            let message =
                format!("{service}: there is no stage `{wanted}` in {}", source.dockerfile.file.name);
            let place = source.request.span.clone();
            let mistake = Diagnostic::error(message).did_you_mean(wanted, names.iter().copied());
            let mistake = match names.is_empty() {
                true => mistake.note("no stage of it has a name"),
                false => mistake.note(format!("its stages: {}", names.join(", "))),
            };
            self.mistakes.push(match place {
                Some(span) => mistake.at(span, ""),
                None => mistake,
            });
        }
        found
    }

    /// A stage's final state; `None` where something is wrong or wanted, which has been noted.
    fn stage(&mut self, id: StageId) -> Option<Rc<StageState>> {
        if let Some(done) = self.finished.get(&id) {
            return done.clone();
        }
        if self.path.contains(&id) {
            self.cycle(id);
            return None;
        }
        self.path.push(id);
        let state = self.lower_stage(id).map(Rc::new);
        self.path.pop();
        self.finished.insert(id, state.clone());
        state
    }

    fn lower_stage(&mut self, id: StageId) -> Option<StageState> {
        let source = self.source(id.0);
        let stage = &source.dockerfile.stages[id.1];
        // A context of the stage's own name stands in for all of it (BuildKit, "named contexts").
        if let Some((name, named)) =
            stage.name.as_ref().and_then(|name| Some((name, self.named(id, &name.text)?)))
        {
            return self.begun_with(id, &named, Place { span: &name.span, text: &stage.text });
        }
        let mut state = self.base(id)?;
        let (mut triggers, mut whole) = (Vec::new(), true);
        for trigger in std::mem::take(&mut state.config.on_build) {
            match instruction::trigger(&trigger) {
                Ok(instructions) => triggers.extend(instructions),
                Err(mistakes) => self.mistakes.extend(mistakes),
            }
        }
        self.begin(id, &state, &triggers);
        for instruction in &triggers {
            whole &= instruction::apply(self, id, &mut state, instruction);
        }
        for instruction in &stage.instructions {
            whole &= instruction::apply(self, id, &mut state, instruction);
        }
        whole.then_some(state)
    }

    /// Notes what a stage begins with, for its checks.
    fn begin(&mut self, id: StageId, state: &StageState, triggers: &[Instruction]) {
        let source = self.source(id.0);
        let base = &source.dockerfile.stages[id.1].base.text;
        let wanted = self.platform(id).unwrap_or_else(|| source.request.platform.clone());
        let globals = self.globals(id.0);
        let name = words::expand(base, &|name| globals.get(name).cloned(), source.dockerfile.escape());
        let differs =
            (&wanted.os, &wanted.architecture) != (&state.platform.os, &state.platform.architecture);
        self.facts[id.0].stages[id.1] = Some(Beginning {
            stage: name.ok().and_then(|name| source.dockerfile.stage_before(id.1, &name)),
            variables: state.variables.clone(),
            has_shell: !state.config.shell.is_empty(),
            triggers: triggers.to_vec(),
            mismatch: differs.then(|| PlatformMismatch {
                expected: wanted.to_string(),
                actual: state.platform.to_string(),
            }),
        });
    }

    /// What `FROM` names.
    fn base(&mut self, id: StageId) -> Option<StageState> {
        let source = self.source(id.0);
        let stage = &source.dockerfile.stages[id.1];
        let globals = self.globals(id.0);
        let lookup = |name: &str| globals.get(name).cloned();
        let platform = self.platform(id)?;
        let name = self.expand(source, &stage.base, &lookup)?;
        if name.is_empty() {
            let message =
                format!("the base image `{}` is empty once its variables are put in", stage.base.text);
            let help = "give the ARG before the first FROM a default value, or pass it as a build argument";
            self.mistake(Diagnostic::error(message).at(stage.base.span.clone(), "").help(help));
            return None;
        }
        if let Some(earlier) = source.dockerfile.stage_before(id.1, &name) {
            return self.stage((id.0, earlier)).map(|state| state.child());
        }
        if name == "scratch" {
            return Some(StageState::scratch(&source.request.platform));
        }
        let place = Place { span: &stage.base.span, text: &stage.text };
        match self.named(id, &name) {
            Some(named) => self.begun_with(id, &named, place),
            None => self.image(id, &name, platform, place),
        }
    }

    /// The platform of a stage: that of its `FROM`, else the request's.
    fn platform(&mut self, id: StageId) -> Option<Platform> {
        let source = self.source(id.0);
        let Some(word) = &source.dockerfile.stages[id.1].platform else {
            return Some(source.request.platform.clone());
        };
        let globals = self.globals(id.0);
        let text = self.expand(source, word, &|name| globals.get(name).cloned())?;
        match text.parse::<Platform>() {
            Ok(platform) if source.request.platform.accepts(&platform) => {
                Some(source.request.platform.clone())
            }
            Ok(platform) => Some(platform),
            Err(error) => {
                self.mistake(Diagnostic::error(error.to_string()).at(word.span.clone(), ""));
                None
            }
        }
    }

    /// The state that an image by name begins with.
    fn image(&mut self, id: StageId, name: &str, platform: Platform, place: Place<'_>) -> Option<StageState> {
        match Reference::parse(name) {
            Ok(name) => self.image_of(id, &ImageName { name: name.with_default_tag(), platform }, place),
            Err(error) => {
                self.mistake(Diagnostic::error(error.to_string()).at(place.span.clone(), ""));
                None
            }
        }
    }

    /// The state that an image begins with: another request's, or one that was handed in.
    pub(super) fn image_of(&mut self, id: StageId, name: &ImageName, place: Place<'_>) -> Option<StageState> {
        if let Some(other) = self.builder_of(&name.name, id.0) {
            let state = self.built_by(other)?;
            return Some(state.built(&self.source(other).request.labels));
        }
        let Some(image) = self.known.images.get(name) else {
            self.want(Wanted::Image(name.clone()), place.span);
            return None;
        };
        Some(self.pulled(id, image, place))
    }

    /// Asks for something that is not known yet.
    pub(super) fn want(&mut self, wanted: Wanted, span: &Span) {
        self.wanted.entry(wanted).or_insert_with(|| span.clone());
    }

    /// What another request builds.
    pub(super) fn built_by(&mut self, other: usize) -> Option<Rc<StageState>> {
        let target = self.target(self.source(other))?;
        self.stage((other, target))
    }

    /// The request of a service.
    pub(super) fn request_of(&self, service: &str) -> Option<usize> {
        self.sources.iter().position(|source| source.request.service == service)
    }

    /// The state that an image begins with which was handed in.
    pub(super) fn pulled(&mut self, id: StageId, image: &BaseImage, place: Place<'_>) -> StageState {
        let node = image.chain().map(|chain| {
            let origin = self.origin(id, 0, place.text, Some(place.span.clone()));
            self.graph.add(Node {
                op: Op::Pull(Pull { chain }),
                parent: None,
                sources: Vec::new(),
                platform: image.config.platform(),
                origins: vec![origin],
                unkeyed_environment: BTreeMap::new(),
            })
        });
        StageState::image(node, image)
    }

    /// The request that builds an image, unless it is the one that asks.
    fn builder_of(&self, reference: &Reference, asking: usize) -> Option<usize> {
        let builds = |source: &Source| source.request.names.contains(reference);
        (0..self.sources.len()).find(|&index| index != asking && builds(&self.sources[index]))
    }

    /// What `COPY --from=` names: its node, or `Some(None)` for `scratch` and an image without layers.
    pub(super) fn copy_source(&mut self, id: StageId, from: &Word, text: &str) -> Option<Option<NodeId>> {
        let source = self.source(id.0);
        let earlier = source
            .dockerfile
            .stage_before(id.1, &from.text)
            .or_else(|| from.text.parse().ok().filter(|&number: &usize| number < id.1));
        if let Some(earlier) = earlier {
            return self.stage((id.0, earlier)).map(|state| state.node);
        }
        if from.text == "scratch" {
            return Some(None);
        }
        if let Ok(number) = from.text.parse::<usize>() {
            let message = format!("COPY --from={number}: there is no earlier stage with that number");
            self.mistake(Diagnostic::error(message).at(from.span.clone(), ""));
            return None;
        }
        let place = Place { span: &from.span, text };
        match self.named(id, &from.text) {
            Some(named) => self.given(id, &named, place).map(|given| match given {
                Given::Files(files) => Some(files),
                Given::Image(state) => state.node,
            }),
            None => {
                let platform = source.request.platform.clone();
                self.image(id, &from.text, platform, place).map(|state| state.node)
            }
        }
    }

    pub(super) fn source(&self, index: usize) -> &'a Source {
        &self.sources[index]
    }

    pub(super) fn origin(&self, id: StageId, ordinal: usize, text: &str, span: Option<Span>) -> Origin {
        let source = self.source(id.0);
        let stage = &source.dockerfile.stages[id.1];
        let name = stage.name.as_ref().map_or_else(|| id.1.to_string(), |name| name.text.to_lowercase());
        Origin { service: source.request.service.clone(), stage: name, ordinal, text: text.to_owned(), span }
    }

    /// The variables that FROM sees, and that an ARG without a value takes: the platform's, then the
    /// global arguments with what the request gives (dockerfile reference, "Understand how ARG and FROM
    /// interact").
    pub(super) fn globals(&mut self, index: usize) -> Rc<BTreeMap<String, String>> {
        if let Some(known) = self.globals.get(&index) {
            return Rc::clone(known);
        }
        let source = self.source(index);
        let mut globals = platform_arguments(source);
        for (name, default) in source.dockerfile.global_args() {
            let value = match (source.request.arguments.get(&name.text), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(word)) => self.expand(source, word, &|name| globals.get(name).cloned()),
                (None, None) => None,
            };
            globals.extend(value.map(|value| (name.text.clone(), value)));
        }
        let globals = Rc::new(globals);
        self.globals.insert(index, Rc::clone(&globals));
        globals
    }

    /// Puts variables into a word; a mistake is noted.
    pub(super) fn expand(
        &mut self,
        source: &Source,
        word: &Word,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Option<String> {
        match words::expand(&word.text, lookup, source.dockerfile.escape()) {
            Ok(text) => Some(text),
            Err(error) => {
                self.mistake(error.diagnostic(word));
                None
            }
        }
    }

    /// Notes a mistake, once.
    pub(super) fn mistake(&mut self, mistake: Diagnostic) {
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    /// Notes something worth saying, once.
    pub(super) fn warning(&mut self, warning: Diagnostic) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Stages of one file refer to earlier ones only, so a cycle runs through images of several requests.
    fn cycle(&mut self, id: StageId) {
        let start = self.path.iter().position(|known| *known == id).unwrap_or(0);
        let mut services: Vec<&str> = Vec::new();
        for (source, _) in self.path[start..].iter().chain([&id]) {
            let service = self.sources[*source].request.service.as_str();
            if services.last() != Some(&service) {
                services.push(service);
            }
        }
        let text = format!("images are built from each other in a circle: {}", services.join(" → "));
        let stage = &self.source(id.0).dockerfile.stages[id.1];
        let place = stage.base.span.clone();
        self.mistake(Diagnostic::error(text).at(place, "").help("make one of them start from another image"));
    }

    /// BuildKit: "One or more build-args were not consumed".
    fn unused_arguments(&mut self, source: &Source) {
        let globals = source.dockerfile.global_args();
        let in_stages = source.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        let declared: BTreeSet<&str> = globals
            .chain(in_stages.flat_map(Instruction::declared))
            .map(|(name, _)| name.text.as_str())
            .collect();
        let platform = platform_arguments(source);
        for (name, value) in &source.request.arguments {
            let service = &source.request.service;
            if let Some(why) = instruction::without_effect(name, value) {
                let message = format!("{service}: the build argument `{name}` has no effect: {why}");
                self.warning(Diagnostic::warning(message));
            }
            let known = instruction::is_predefined(name)
                || instruction::is_read_by_builder(name)
                || instruction::is_without_effect(name)
                || platform.contains_key(name);
            if !declared.contains(name.as_str()) && !known {
                let message = format!("{service}: the build argument `{name}` is declared by no ARG");
                self.warning(Diagnostic::warning(message).did_you_mean(name, declared.iter().copied()));
            }
        }
    }
}

/// `TARGETPLATFORM` and its kin (dockerfile reference, "Automatic platform ARGs in the global scope") and
/// `TARGETSTAGE`; a build argument of the same name takes the place of each.
fn platform_arguments(source: &Source) -> BTreeMap<String, String> {
    let mut arguments = BTreeMap::new();
    for (prefix, platform) in [("TARGET", &source.request.platform), ("BUILD", &Platform::host())] {
        let variant = platform.variant.clone().unwrap_or_default();
        let mut add = |suffix: &str, value: String| arguments.insert(format!("{prefix}{suffix}"), value);
        add("PLATFORM", platform.to_string());
        add("OS", platform.os.clone());
        add("ARCH", platform.architecture.clone());
        add("VARIANT", variant);
    }
    let last = || source.dockerfile.stages.last()?.name.as_ref().map(|name| name.text.to_lowercase());
    let target = source.request.target.clone().or_else(last).unwrap_or_else(|| "default".to_owned());
    arguments.insert("TARGETSTAGE".to_owned(), target);
    for (name, value) in &mut arguments {
        if let Some(given) = source.request.arguments.get(name) {
            value.clone_from(given);
        }
    }
    arguments
}
