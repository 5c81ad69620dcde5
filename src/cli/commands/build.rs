//! `build`, `image build`, and the build that `up` begins with.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use crate::base::cancel::Cancel;
use crate::base::digest::Digest;
use crate::build::{
    BuildError, BuildPlan, Builder, Built, BuiltImage, OnDemand, Options, Output, build_and_give, plan,
};
use crate::cli::args::{Ansi, Build, Call, CallMethod, ImageBuild, Progress};
use crate::cli::failure::Failure;
use crate::cli::render::text::listed;
use crate::cli::signals::Interrupts;
use crate::cli::trust::Trust;
use crate::compose::Project;
use crate::engine::Docker;
use crate::graph::{BuildRequest, RemoteContext, requests_of};
use crate::oci::{Platform, Reference};
use crate::store::Store;

use super::cache::keep_small;
use super::call::{check, outline, targets};
use super::delivery::{self, Made};
use super::machine::Parts;
use super::plan::text;
use super::project::chosen;
use super::push;
use super::timestamp::timestamp;
use super::{Context, Ended};
use super::{build_context, build_flags};

/// The history of images that belong to no project is kept under this name, which no project can have.
const NO_PROJECT: &str = "";

/// What is built, and how.
pub(super) struct Work<'w> {
    /// The project's name.
    pub(super) project: &'w str,
    /// What paths are shown against.
    pub(super) directory: &'w Path,
    /// All that can be built: one may stand on another.
    pub(super) requests: &'w [BuildRequest],
    /// The services to build for themselves; never empty.
    pub(super) wanted: &'w [String],
    /// Build every step again.
    pub(super) no_cache: bool,
    /// Ask registries for newer base images.
    pub(super) pull: bool,
    /// Whether the engine gets the images.
    pub(super) hand_over: bool,
    /// Say nothing about the Dockerfiles where nothing has to run.
    pub(super) silent_hits: bool,
    /// What is pushed afterwards.
    pub(super) pushing: Pushing,
}

/// What becomes of images that need not come here.
#[derive(Default)]
pub(super) struct Pushing {
    /// The services whose image is only pushed.
    pub(super) only: BTreeSet<String>,
    /// Blobs that caches name and that turned out not to be there.
    pub(super) lost: BTreeSet<Digest>,
}

impl Work<'_> {
    fn apply(&self, options: &mut Options) {
        (options.no_cache, options.pull) = (self.no_cache, self.pull);
        (options.hand_over, options.silent_hits) = (self.hand_over, self.silent_hits);
        options.only_pushed.clone_from(&self.pushing.only);
        options.lost.clone_from(&self.pushing.lost);
    }
}

/// Builds services of a project.
pub(in crate::cli) fn build_services(context: &mut Context<'_>, flags: &Build) -> Ended {
    context.trace(flags.trace.as_ref())?;
    let project = context.project(&flags.services)?;
    if flags.quiet {
        context.screen.change(Progress::Quiet, Ansi::Auto, false);
    }
    build_flags::refuse_attestations(flags.provenance.as_deref(), flags.sbom.as_deref(), &[])
        .map_err(Failure::Usage)?;
    let store = context.store()?;
    let cancel = Interrupts::catch(1)?.stop;
    let time = timestamp(flags.sharing.timestamp.as_deref(), &project.working_dir, &store, &cancel)?;
    let mut requests = requests_at(context, &project, &flags.build_args, time.as_ref())?;
    let trust = Trust { secrets: &[], agents: &flags.ssh, entitlements: &[] };
    for request in &mut requests {
        trust.give(request, &project.environment, &context.folder).map_err(Failure::Usage)?;
        build_flags::add_caches(request, &flags.sharing, &context.folder).map_err(Failure::Usage)?;
    }
    let mut wanted = chosen(&project, &flags.services, flags.with_dependencies);
    wanted.retain(|service| requests.iter().any(|request| request.service == *service));
    if wanted.is_empty() {
        context.screen.warning("no service has anything to build");
        return Ok(ExitCode::SUCCESS);
    }
    let mut images = BTreeMap::new();
    for service in wanted.iter().filter(|_| flags.push) {
        images.insert(service.clone(), push::names(&project, service)?);
    }
    images.retain(|_, names| !names.is_empty());
    let pushing = Pushing { only: images.keys().cloned().collect(), ..Pushing::default() };
    let mut work = Work {
        project: &project.name,
        directory: &project.working_dir,
        requests: &requests,
        wanted: &wanted,
        no_cache: flags.no_cache,
        pull: flags.pull,
        hand_over: true,
        silent_hits: false,
        pushing,
    };
    if flags.check {
        return check(context, &work, Call::default());
    }
    if context.settings.dry_run {
        let plan = plan_only(context, &work)?;
        context.screen.result(&text(&plan));
        return Ok(ExitCode::SUCCESS);
    }
    let engine = context.engine()?;
    let give = |builder: &Builder<'_>, built: &Built| {
        let named = built
            .images
            .iter()
            .map(|(service, image)| (&image.image, images.get(service).cloned().unwrap_or_default()));
        push::push_images(builder, &named.collect::<Vec<_>>()).into_iter().collect()
    };
    let ended =
        until_given(context, (&store, engine.as_ref()), &mut work, &cancel, give).map(|(built, ())| {
            context.screen.finish();
            if !flags.quiet {
                context.screen.result(&result(&built, false));
            }
            ExitCode::SUCCESS
        });
    keep_small(context, &store);
    ended
}

/// Builds one image from a Dockerfile.
pub(in crate::cli) fn image_build(context: &mut Context<'_>, flags: &ImageBuild) -> Ended {
    context.trace(flags.trace.as_ref())?;
    if flags.quiet {
        context.screen.change(Progress::Quiet, Ansi::Auto, false);
    }
    let context = &*context;
    let mut request = request(context, flags)?;
    let store = context.store()?;
    let cancel = Interrupts::catch(1)?.stop;
    let folder = match &request.remote {
        Some(RemoteContext::Git(_)) if flags.sharing.timestamp.as_deref() == Some("commit") => {
            let text = "not supported yet: --timestamp commit of a repository that is fetched";
            return Err(Failure::Usage(text.to_owned()));
        }
        // An archive is taken for one of the repository here.
        Some(_) => &context.folder,
        None => &request.context,
    };
    let time = timestamp(flags.sharing.timestamp.as_deref(), folder, &store, &cancel)?;
    made_at(&mut request, time.as_ref(), &|name| context.environment.get(name).cloned());
    let outputs = delivery::wanted(context, flags, &request.names)?;
    request.names = outputs.store.clone().unwrap_or_default();
    let mut pushing = Pushing::default();
    let pushed = |output: &Output| matches!(output, Output::Remote(_));
    if outputs.store.is_none() && !outputs.engine && outputs.others.iter().all(pushed) {
        pushing.only.insert(request.service.clone());
    }
    let mut work = Work {
        project: NO_PROJECT,
        directory: &context.folder,
        requests: std::slice::from_ref(&request),
        wanted: std::slice::from_ref(&request.service),
        no_cache: flags.no_cache,
        pull: flags.pull,
        hand_over: outputs.engine,
        silent_hits: false,
        pushing,
    };
    match if flags.check { CallMethod::Check } else { flags.call.method } {
        CallMethod::Build => {}
        CallMethod::Check => return check(context, &work, flags.call),
        CallMethod::Outline => return outline(context, &work, flags.call.json),
        CallMethod::Targets => return targets(context, &work, flags.call.json),
    }
    if context.settings.dry_run {
        let plan = plan_only(context, &work)?;
        context.screen.result(&text(&plan));
        return Ok(ExitCode::SUCCESS);
    }
    let engine = context.engine()?;
    let give = |builder: &Builder<'_>, built: &Built| {
        let images = built.images.values();
        let given = images.map(|image| delivery::deliver_all(context, builder, image, &outputs));
        given.collect::<Result<Vec<_>, Failure>>()
    };
    let given = until_given(context, (&store, engine.as_ref()), &mut work, &cancel, give);
    let ended = given.and_then(|(built, delivered)| {
        for (image, delivered) in built.images.values().zip(&delivered) {
            delivery::notes(context, flags, &Made { image, outputs: &outputs, delivered })?;
        }
        context.screen.finish();
        if !delivery::takes_stdout(&outputs) {
            context.screen.result(&result(&built, flags.quiet));
        }
        Ok(ExitCode::SUCCESS)
    });
    keep_small(context, &store);
    ended
}

/// Builds and gives the images away; again, where a cache turns out not to have a layer that it names.
fn until_given<T>(
    context: &Context<'_>,
    (store, engine): (&Store, Option<&Docker>),
    work: &mut Work<'_>,
    cancel: &Cancel,
    give: impl Fn(&Builder<'_>, &Built) -> Result<T, Failure>,
) -> Result<(Built, T), Failure> {
    loop {
        let (built, given) = run(context, store, engine, work, cancel, &give)?;
        match given {
            Err(Failure::Build(BuildError::LostBlob { digest, problem }))
                if work.pushing.lost.insert(digest) =>
            {
                let text = format!("a cache does not have the layer {digest} that it names: {problem}");
                context.screen.warning(&text);
            }
            given => return given.map(|given| (built, given)),
        }
    }
}

/// Builds and gives away; shows what is worth saying about the Dockerfiles.
pub(super) fn run<T>(
    context: &Context<'_>,
    store: &Store,
    engine: Option<&Docker>,
    work: &Work<'_>,
    cancel: &Cancel,
    give: impl FnOnce(&Builder<'_>, &Built) -> T,
) -> Result<(Built, T), Failure> {
    context.needs_root()?;
    let sandbox = OnDemand::new(store);
    let registries = context.registries();
    let parts = Parts { store, sandbox: &sandbox, engine, registries: registries.as_ref(), cancel };
    let mut builder = context.builder(&parts, work.project, work.directory)?;
    work.apply(&mut builder.options);
    Ok(build_and_give(&builder, work.requests, work.wanted, |built| give(&builder, built))?)
}

/// What would be built, and why.
pub(super) fn plan_only(context: &Context<'_>, work: &Work<'_>) -> Result<BuildPlan, Failure> {
    let planned = with_builder(context, work, |builder| plan(builder, work.requests, work.wanted))?;
    context.screen.diagnostics(&planned.warnings);
    Ok(planned)
}

/// Calls `act` with a builder that is not asked to run anything.
pub(super) fn with_builder<T>(
    context: &Context<'_>,
    work: &Work<'_>,
    act: impl FnOnce(&Builder<'_>) -> Result<T, BuildError>,
) -> Result<T, Failure> {
    let (store, engine) = (context.store()?, context.engine()?);
    let (sandbox, registries) = (OnDemand::new(&store), context.registries());
    let cancel = Interrupts::catch(1)?.stop;
    let (engine, registries) = (engine.as_ref(), registries.as_ref());
    let parts = Parts { store: &store, sandbox: &sandbox, engine, registries, cancel: &cancel };
    let mut builder = context.builder(&parts, work.project, work.directory)?;
    work.apply(&mut builder.options);
    Ok(act(&builder)?)
}

/// What the project's services ask to build.
pub(super) fn requests(context: &Context<'_>, project: &Project) -> Result<Vec<BuildRequest>, Failure> {
    requests_at(context, project, &[], None)
}

/// The same with arguments of the command line over those of the file, and the time that it gives.
fn requests_at(
    context: &Context<'_>,
    project: &Project,
    arguments: &[String],
    time: Option<&String>,
) -> Result<Vec<BuildRequest>, Failure> {
    platform(context.settings.default_platform.as_deref())?;
    let environment = |name: &str| project.environment.get(name).cloned();
    let arguments = pairs("--build-arg", arguments, &environment)?;
    let mut requests = requests_of(project).map_err(Failure::Mistakes)?;
    for request in &mut requests {
        request.arguments.extend(arguments.clone());
        made_at(request, time, &environment);
    }
    Ok(requests)
}

/// So many images have a line each in the end; of more, so many are named in one.
const LINES: usize = 2;
/// See [`LINES`].
const NAMED: usize = 4;

/// What is printed in the end: the id, and unless only that is wanted the names.
fn result(built: &Built, quiet: bool) -> String {
    let line = |built: &BuiltImage| {
        let id = built.engine.as_ref().map_or(built.image.id.0, |handed| handed.id);
        let names: Vec<_> = built.image.names.iter().map(Reference::familiar).collect();
        match (quiet, names.is_empty()) {
            (true, _) => format!("{id}\n"),
            (false, true) => format!("Image {}  built\n", id.short()),
            (false, false) => format!("Image {}  {}  built\n", id.short(), names.join(", ")),
        }
    };
    let lines = built.images.values().map(line);
    if quiet || lines.len() <= LINES {
        return lines.collect();
    }
    let names: Vec<_> = built.images.keys().map(String::as_str).collect();
    format!("{} images  of {}  built\n", names.len(), listed(&names, NAMED))
}

fn request(context: &Context<'_>, flags: &ImageBuild) -> Result<BuildRequest, Failure> {
    let mut names = Vec::new();
    for tag in &flags.tags {
        let name = Reference::parse(tag).map_err(|error| Failure::Usage(error.to_string()))?;
        names.push(name.with_default_tag());
    }
    let mut request = build_context::request(context, flags, names)?;
    let environment = |name: &str| context.environment.get(name).cloned();
    request.arguments = pairs("--build-arg", &flags.build_args, &environment)?;
    request.labels = pairs("--label", &flags.labels, &|_| Some(String::new()))?;
    request.target = flags.target.clone();
    let wanted = flags.platform.as_deref().or(context.settings.default_platform.as_deref());
    request.platform = platform(wanted)?;
    build_flags::apply(flags, &mut request).map_err(Failure::Usage)?;
    build_flags::add_caches(&mut request, &flags.sharing, &context.folder).map_err(Failure::Usage)?;
    let trust = Trust { secrets: &flags.secrets, agents: &flags.ssh, entitlements: &flags.allow };
    trust.give(&mut request, &context.environment, &context.folder).map_err(Failure::Usage)?;
    Ok(request)
}

/// Takes the time of an image from `--timestamp`, else from the environment as buildx does, where no argument
/// gives it.
fn made_at(
    request: &mut BuildRequest,
    timestamp: Option<&String>,
    environment: &dyn Fn(&str) -> Option<String>,
) {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let given = timestamp.cloned().or_else(|| environment(NAME));
    if let (Some(value), Entry::Vacant(entry)) =
        (given.filter(|value| !value.is_empty()), request.arguments.entry(NAME.to_owned()))
    {
        entry.insert(value);
        request.timestamp = timestamp.is_some();
    }
}

/// `NAME=VALUE` each; a bare name takes its value from `bare`, and is left out if there is none.
fn pairs(
    flag: &str,
    texts: &[String],
    bare: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut pairs = BTreeMap::new();
    for text in texts {
        match text.split_once('=') {
            Some(("", _)) => return Err(Failure::Usage(format!("{flag} {text} has no name"))),
            Some((name, value)) => pairs.insert(name.to_owned(), value.to_owned()),
            None => bare(text).and_then(|value| pairs.insert(text.clone(), value)),
        };
    }
    Ok(pairs)
}

/// The platform that was asked for; one that serves on this machine means the machine's own. Commands of
/// another run where the kernel knows an emulator for it.
pub(super) fn platform(wanted: Option<&str>) -> Result<Platform, Failure> {
    let host = Platform::host();
    let Some(wanted) = wanted else { return Ok(host) };
    if wanted.contains(',') {
        return Err(Failure::Usage(format!("not supported yet: an image of several platforms ({wanted})")));
    }
    let parsed: Platform = wanted.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    Ok(if host.accepts(&parsed) { host } else { parsed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_take_bare_names_from_elsewhere() {
        let texts = ["A=1", "B=x=y", "HOME", "NONE"].map(str::to_owned);
        let bare = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let found = pairs("--build-arg", &texts, &bare).unwrap();
        let expected = [("A", "1"), ("B", "x=y"), ("HOME", "/root")];
        assert!(found.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
        assert!(pairs("--label", &["=x".to_owned()], &bare).is_err());
    }
}
