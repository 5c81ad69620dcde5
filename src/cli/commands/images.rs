//! The image of each service before its containers are made: built, there already, given by the store, or
//! pulled by the engine. What is to be done is decided in pure functions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::base::cancel::Cancel;
use crate::base::digest::Digest;
use crate::base::event::{Event, Events};
use crate::build::{came_from_registry, give};
use crate::cli::args::{Pull, Up};
use crate::cli::failure::Failure;
use crate::compose::{Project, Service};
use crate::engine::{Credentials, Docker, Engine, Image as Listed};
use crate::graph::BuildRequest;
use crate::oci::Reference;
use crate::store::Store;
use crate::up::{Image, Images};

use super::Context;
use super::build::{Work, plan_only, requests, run};
use super::plan::text;

/// What the images of a command's services come from and go to.
pub(super) struct Supply<'s> {
    pub(super) store: &'s Store,
    pub(super) engine: &'s Docker,
    pub(super) project: &'s Project,
    /// The services that need an image.
    pub(super) services: &'s [String],
    pub(super) cancel: &'s Cancel,
}

/// The images, and whether any was sent to the engine.
pub(super) struct Supplied {
    pub(super) images: Images,
    pub(super) sent: bool,
}

/// Where a service's image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Build,
    /// The engine, which pulls it then.
    Engine(Pull),
}

/// Makes sure that the engine has the image of each service.
pub(super) fn supply(context: &Context<'_>, with: &Supply<'_>, flags: &Up) -> Result<Supplied, Failure> {
    let requests = requests(context, with.project, &[])?;
    let sources = sources(with, flags)?;
    let mut listed = None;
    let built = wanted(context, with, &sources, &requests, flags, &mut listed)?;
    let mut supplied = Supplied { images: Images::new(), sent: false };
    if !built.is_empty() {
        let work = work(with, &requests, &built);
        for (service, image) in run(context, with.store, Some(with.engine), &work, with.cancel)?.images {
            let handed = image.engine.as_ref();
            supplied.sent |= handed.is_some_and(|handed| handed.sent);
            let id = handed.map_or(image.image.id.0, |handed| handed.id);
            supplied.add(with.project, &service, id);
        }
    }
    let others: Vec<_> = sources.iter().filter(|(service, _)| !built.contains(service)).collect();
    if others.is_empty() {
        return Ok(supplied);
    }
    let listed = match listed {
        Some(listed) => listed,
        None => with.engine.images()?,
    };
    fetch(context, with, &others, listed, &mut supplied)?;
    Ok(supplied)
}

/// The images as far as they can be known when nothing may be done; the text says what would be built.
pub(super) fn foresee(
    context: &Context<'_>,
    with: &Supply<'_>,
    flags: &Up,
) -> Result<(Images, String), Failure> {
    let requests = requests(context, with.project, &[])?;
    let sources = sources(with, flags)?;
    let listed = with.engine.images()?;
    let built = wanted(context, with, &sources, &requests, flags, &mut Some(listed.clone()))?;
    let (mut supplied, mut shown) = (Supplied { images: Images::new(), sent: false }, String::new());
    let mut new = BTreeSet::new();
    if !built.is_empty() {
        let plan = plan_only(context, &work(with, &requests, &built))?;
        let missing = plan.steps.iter().filter(|step| step.reason.is_some());
        new.extend(missing.flat_map(|step| step.services.clone()));
        shown = text(&plan);
    }
    for service in with.services {
        let name = with.project.image_of(service).unwrap_or_default();
        let known = find(&listed, &name).filter(|_| !new.contains(service));
        // An image that does not exist yet is unlike every one that does.
        supplied.add(with.project, service, known.unwrap_or_else(|| Digest::of("not there yet")));
    }
    Ok((supplied.images, shown))
}

impl Supplied {
    fn add(&mut self, project: &Project, service: &str, id: Digest) {
        let reference = project.image_of(service).unwrap_or_default();
        self.images.insert(service.to_owned(), Image { reference, id });
    }
}

fn work<'w>(with: &Supply<'w>, requests: &'w [BuildRequest], wanted: &'w [String]) -> Work<'w> {
    let (project, directory): (_, &Path) = (with.project.name.as_str(), &with.project.working_dir);
    let (no_cache, pull, hand_over, silent_hits) = (false, false, true, true);
    Work { project, directory, requests, wanted, no_cache, pull, hand_over, silent_hits }
}

fn sources(with: &Supply<'_>, flags: &Up) -> Result<BTreeMap<String, Source>, Failure> {
    let services = with.services.iter().filter_map(|name| Some((name, with.project.services.get(name)?)));
    services
        .map(|(name, service)| {
            let source = source(service, flags.no_build, flags.pull);
            source.map(|source| (name.clone(), source)).map_err(Failure::Usage)
        })
        .collect()
}

/// Where the image of `service` comes from, by its file and the flags.
fn source(service: &Service, no_build: bool, flag: Option<Pull>) -> Result<Source, String> {
    let policy = service.pull_policy.as_deref();
    if service.build.is_some() {
        return match policy {
            None | Some("build" | "missing" | "if_not_present" | "never") if no_build => {
                Ok(Source::Engine(Pull::Never))
            }
            None | Some("build" | "missing" | "if_not_present" | "never") => Ok(Source::Build),
            Some(other) => Err(format!("not supported yet: `pull_policy: {other}` beside `build`")),
        };
    }
    match (flag, policy) {
        (Some(flag), _) => Ok(Source::Engine(flag)),
        (None, None | Some("missing" | "if_not_present" | "build")) => Ok(Source::Engine(Pull::Missing)),
        (None, Some("always")) => Ok(Source::Engine(Pull::Always)),
        (None, Some("never")) => Ok(Source::Engine(Pull::Never)),
        (None, Some(other)) => Err(format!("not supported yet: `pull_policy: {other}`")),
    }
}

/// The services to build: those with something to build, but for images under their name that came from a
/// registry, which stay unless the user asks for a build.
fn wanted(
    context: &Context<'_>,
    with: &Supply<'_>,
    sources: &BTreeMap<String, Source>,
    requests: &[BuildRequest],
    flags: &Up,
    listed: &mut Option<Vec<Listed>>,
) -> Result<Vec<String>, Failure> {
    let mut wanted: Vec<String> = sources
        .iter()
        .filter(|(service, source)| {
            **source == Source::Build && requests.iter().any(|request| request.service == **service)
        })
        .map(|(service, _)| service.clone())
        .collect();
    if flags.build {
        return Ok(wanted);
    }
    let named =
        |service: &String| with.project.services.get(service).and_then(|service| service.image.clone());
    if wanted.iter().all(|service| named(service).is_none()) {
        return Ok(wanted);
    }
    let listed = match listed {
        Some(listed) => listed,
        None => listed.insert(with.engine.images()?),
    };
    wanted.retain(|service| {
        let Some(name) = named(service).and_then(|name| Reference::parse(&name).ok()) else { return true };
        let foreign =
            came_from_registry(with.store, &context.engine_name(), listed, &name.with_default_tag());
        if foreign {
            let text = format!("service {service} keeps its image from a registry; build it with --build");
            context.screen.emit(Event::Notice(text));
        }
        !foreign
    });
    Ok(wanted)
}

/// The images that are not built: those that the engine has, else the store's, else pulled.
fn fetch(
    context: &Context<'_>,
    with: &Supply<'_>,
    services: &[(&String, &Source)],
    listed: Vec<Listed>,
    supplied: &mut Supplied,
) -> Result<(), Failure> {
    let mut pulls: BTreeSet<String> = BTreeSet::new();
    for (service, source) in services {
        let name = with.project.image_of(service).unwrap_or_default();
        match (source, find(&listed, &name)) {
            (Source::Engine(Pull::Always), _) if !context.settings.offline => drop(pulls.insert(name)),
            (_, Some(id)) => supplied.add(with.project, service, id),
            (_, None) => {
                let given = give_from_store(context, with, &name)?;
                match (given, source) {
                    (Some(id), _) => {
                        supplied.add(with.project, service, id);
                        supplied.sent = true;
                    }
                    (None, Source::Engine(Pull::Never)) => {
                        return Err(absent(service, &name, "pulling and building are not allowed"));
                    }
                    (None, _) if context.settings.offline => {
                        return Err(absent(service, &name, "--offline forbids to pull it"));
                    }
                    (None, _) => drop(pulls.insert(name)),
                }
            }
        }
    }
    if pulls.is_empty() {
        return Ok(());
    }
    pull(context, with, &pulls)?;
    let listed = with.engine.images()?;
    for (service, _) in services {
        if supplied.images.contains_key(*service) {
            continue;
        }
        let name = with.project.image_of(service).unwrap_or_default();
        let id = match find(&listed, &name) {
            Some(id) => Some(id),
            None => with.engine.image(&name)?.map(|image| image.id),
        };
        let id = id.ok_or_else(|| absent(service, &name, "the engine has none after pulling"))?;
        supplied.add(with.project, service, id);
    }
    Ok(())
}

fn absent(service: &str, name: &str, why: &str) -> Failure {
    Failure::Usage(format!("service {service}: there is no image `{name}` in the engine, and {why}"))
}

/// The image of that name in the engine's list, by tag or by digest.
fn find(listed: &[Listed], name: &str) -> Option<Digest> {
    let wanted = Reference::parse(name).ok()?.with_default_tag().familiar();
    let named = |image: &&Listed| image.tags.contains(&wanted) || image.repo_digests.contains(&wanted);
    listed.iter().find(named).map(|image| image.id)
}

/// Hands over an image that the store has under this name.
fn give_from_store(context: &Context<'_>, with: &Supply<'_>, name: &str) -> Result<Option<Digest>, Failure> {
    let Ok(name) = Reference::parse(name) else { return Ok(None) };
    context.with_builder(with, |builder| Ok(give(builder, with.engine, &name.with_default_tag())?))
}

/// Lets the engine pull images, all at once.
fn pull(context: &Context<'_>, with: &Supply<'_>, names: &BTreeSet<String>) -> Result<(), Failure> {
    let credentials: Vec<_> =
        names.iter().map(|name| credentials(context, name)).collect::<Result<_, _>>()?;
    let platform = context.settings.default_platform.as_deref();
    std::thread::scope(|scope| {
        let pull = |(name, login): (&String, Option<Credentials>)| {
            let name = name.clone();
            scope
                .spawn(move || with.engine.pull(&name, platform, login.as_ref(), context.screen, with.cancel))
        };
        let threads: Vec<_> = names.iter().zip(credentials).map(pull).collect();
        let mut result = Ok(());
        for thread in threads {
            result = result.and(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        Ok(result?)
    })
}

/// The user's login at the registry of `name`, for the engine.
fn credentials(context: &Context<'_>, name: &str) -> Result<Option<Credentials>, Failure> {
    let (Some(folder), Ok(name)) = (&context.settings.docker_config, Reference::parse(name)) else {
        return Ok(None);
    };
    let login = crate::oci::Credentials::from_folder(folder).for_engine(name.registry());
    let login = login.map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(login.map(|(user, password)| Credentials::Password { user, password }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::Build;

    fn service(build: bool, policy: Option<&str>) -> Service {
        let build = build.then(Build::default);
        Service { build, pull_policy: policy.map(str::to_owned), ..Service::default() }
    }

    #[test]
    fn the_source_follows_the_file_and_the_flags() {
        let engine = |pull| Ok(Source::Engine(pull));
        assert_eq!(source(&service(true, None), false, None), Ok(Source::Build));
        assert_eq!(source(&service(true, None), true, None), engine(Pull::Never));
        assert_eq!(source(&service(false, None), false, None), engine(Pull::Missing));
        assert_eq!(source(&service(false, Some("always")), false, None), engine(Pull::Always));
        assert_eq!(source(&service(false, Some("always")), false, Some(Pull::Never)), engine(Pull::Never));
        assert!(source(&service(false, Some("daily")), false, None).is_err());
        assert!(source(&service(true, Some("always")), false, None).is_err());
    }

    #[test]
    fn images_are_found_by_tag_and_by_digest() {
        let digest = Digest::of("manifest");
        let image = Listed {
            id: Digest::of("id"),
            tags: vec!["redis:3.2".to_owned()],
            repo_digests: vec![format!("redis@{digest}")],
            labels: Vec::new(),
            created: 0,
            size: 0,
        };
        let listed = [image];
        for name in ["redis:3.2", "docker.io/library/redis:3.2", &format!("redis@{digest}")] {
            assert_eq!(find(&listed, name), Some(listed[0].id), "{name}");
        }
        assert_eq!(find(&listed, "redis"), None);
    }
}
