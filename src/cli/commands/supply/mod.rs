//! The image of each service before its containers are made: built, there already, given by the store, or
//! pulled by the engine. What is to be done is decided in pure functions ([`source`]); [`pull`] lets the
//! engine fetch images.

mod pull;
mod source;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::base::cancel::Cancel;
use crate::base::digest::Digest;
use crate::base::event::{Event, Events};
use crate::build::{Builder, Built, came_from_registry, give};
use crate::cli::args::Pull;
use crate::cli::failure::Failure;
use crate::compose::{Project, Service};
use crate::engine::{Docker, Engine, EngineError, Image as Listed};
use crate::graph::BuildRequest;
use crate::oci::Reference;
use crate::store::Store;
use crate::up::{Image, Images};

use super::Context;
use super::build::{Pushing, Work, plan_only, requests, run};
use super::plan::text;

use source::{Source, When};

pub(super) use pull::{Pulling, Wanted, pull_all};

/// What the images of a command's services come from and go to.
pub(super) struct Supply<'s> {
    pub(super) store: &'s Store,
    pub(super) engine: &'s Docker,
    pub(super) project: &'s Project,
    /// The services that need an image.
    pub(super) services: &'s [String],
    pub(super) choice: Choice,
    /// How long the engine has had images, as far as that was asked for.
    pub(super) ages: RefCell<BTreeMap<String, Option<Duration>>>,
    pub(super) cancel: &'s Cancel,
}

/// What a command's flags say about where images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Choice {
    /// Build whatever the engine has under the images' names.
    pub(super) build: bool,
    /// Build nothing.
    pub(super) no_build: bool,
    /// When to pull, against what the file says.
    pub(super) pull: Option<Pull>,
    /// Show no progress of pulls.
    pub(super) quiet_pull: bool,
}

/// The images, and whether any was sent to the engine.
pub(super) struct Supplied {
    pub(super) images: Images,
    pub(super) sent: bool,
}

/// Makes sure that the engine has the image of each service.
pub(super) fn supply(context: &Context<'_>, with: &Supply<'_>) -> Result<Supplied, Failure> {
    let requests = requests(context, with.project)?;
    let (mut sources, mut listed) = (sources(with), None);
    pull_before_builds(context, with, &mut sources, &mut listed)?;
    let built = wanted(context, with, &sources, &requests, &mut listed)?;
    let mut supplied = Supplied { images: Images::new(), sent: false };
    if !built.is_empty() {
        let work = work(with, &requests, &built);
        let (engine, not_given) = (Some(with.engine), |_: &Builder<'_>, _: &Built| ());
        let (built, ()) = run(context, with.store, engine, &work, with.cancel, not_given)?;
        for (service, image) in built.images {
            let handed = image.engine.as_ref();
            supplied.sent |= handed.is_some_and(|handed| handed.sent);
            let id = handed.map_or(image.image.id.0, |handed| handed.id);
            supplied.add(with.project, &service, id);
        }
    }
    let others: Vec<_> = sources.iter().filter(|(service, _)| !built.contains(service)).collect();
    let hooks = hook_images(with, &sources);
    if others.is_empty() && hooks.is_empty() {
        return Ok(supplied);
    }
    let listed = match listed {
        Some(listed) => listed,
        None => with.engine.images()?,
    };
    fetch(context, with, &others, &listed, &mut supplied)?;
    fetch_for_hooks(context, with, hooks, &listed)?;
    Ok(supplied)
}

/// The images as far as they can be known when nothing may be done; the text says what would be built and
/// pulled.
pub(super) fn foresee(context: &Context<'_>, with: &Supply<'_>) -> Result<(Images, String), Failure> {
    let requests = requests(context, with.project)?;
    let listed = with.engine.images()?;
    let (mut sources, mut pulls) = (sources(with), BTreeSet::new());
    for (service, source) in &mut sources {
        if let Source::EngineElseBuild(when) | Source::Engine(when) = *source {
            let due = !context.settings.offline && is_due(with, service, when, &listed)?;
            if due {
                pulls.insert(with.project.image_of(service).unwrap_or_default());
            }
            if matches!(source, Source::EngineElseBuild(_)) {
                *source = if due { Source::Engine(when) } else { Source::Build };
            }
        }
    }
    let built = wanted(context, with, &sources, &requests, &mut Some(listed.clone()))?;
    let (mut supplied, mut shown) = (Supplied { images: Images::new(), sent: false }, String::new());
    let mut new = BTreeSet::new();
    if !built.is_empty() {
        let plan = plan_only(context, &work(with, &requests, &built))?;
        let missing = plan.steps.iter().filter(|step| step.reason.is_some());
        new.extend(missing.flat_map(|step| step.services.clone()));
        shown = text(&plan);
    }
    for ((name, _), when) in hook_images(with, &sources) {
        if !context.settings.offline && when.due(find(&listed, &name).is_some(), None) {
            pulls.insert(name);
        }
    }
    shown.extend(pulls.into_iter().map(|name| format!("image {name}: pull\n")));
    for service in with.services {
        let name = with.project.image_of(service).unwrap_or_default();
        let known = find(&listed, &name).filter(|_| !new.contains(service));
        // An image that does not exist yet is unlike every one that does.
        supplied.add(with.project, service, known.unwrap_or_else(|| Digest::of("not there yet")));
    }
    Ok((supplied.images, shown))
}

/// Whether the image of a service is to be pulled.
fn is_due(with: &Supply<'_>, service: &str, when: When, listed: &[Listed]) -> Result<bool, Failure> {
    let name = with.project.image_of(service).unwrap_or_default();
    let present = find(listed, &name).is_some();
    let age = match when {
        When::Older(_) if present => with.age(&name)?,
        _ => None,
    };
    Ok(when.due(present, age))
}

/// How long the engine has had an image under this name; none where it does not say.
fn age(engine: &Docker, name: &str) -> Result<Option<Duration>, Failure> {
    let tagged = engine.image(name)?.and_then(|image| image.tagged);
    let since = tagged.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
    Ok(since.and_then(|since| (OffsetDateTime::now_utc() - since).try_into().ok()))
}

/// Tries the pulls that go before a build. A service whose image was pulled is not built; one whose pull
/// failed, or is not due, is.
fn pull_before_builds(
    context: &Context<'_>,
    with: &Supply<'_>,
    sources: &mut BTreeMap<String, Source>,
    listed: &mut Option<Vec<Listed>>,
) -> Result<(), Failure> {
    let mut due = BTreeMap::new();
    for (service, source) in sources.iter_mut() {
        let Source::EngineElseBuild(when) = *source else { continue };
        *source = Source::Build;
        let listed = match listed {
            Some(listed) => listed,
            None => listed.insert(with.engine.images()?),
        };
        if !context.settings.offline && is_due(with, service, when, listed)? {
            due.insert(service.clone(), wanted_image(with.project, service));
        }
    }
    if due.is_empty() {
        return Ok(());
    }
    let pulled = pull_all(&with.pulling(context), &due.values().cloned().collect())?;
    for (service, image) in due {
        match pulled.get(&image) {
            Some(Err(EngineError::Cancelled)) => return Err(Failure::Stopped),
            Some(Err(error)) => {
                context.screen.emit(Event::Notice(format!("service {service} is built instead: {error}")));
            }
            _ => drop(sources.insert(service, Source::Engine(When::Missing))),
        }
    }
    *listed = None;
    Ok(())
}

/// The image of a service, as a pull names it.
pub(super) fn wanted_image(project: &Project, service: &str) -> Wanted {
    let platform = project.services.get(service).and_then(|service| service.platform.clone());
    (project.image_of(service).unwrap_or_default(), platform)
}

impl<'s> Supply<'s> {
    /// How long the engine has had an image under this name; none where it does not say. Asked once.
    fn age(&self, name: &str) -> Result<Option<Duration>, Failure> {
        if let Some(age) = self.ages.borrow().get(name) {
            return Ok(*age);
        }
        let found = age(self.engine, name)?;
        self.ages.borrow_mut().insert(name.to_owned(), found);
        Ok(found)
    }

    fn pulling(&self, context: &'s Context<'s>) -> Pulling<'s> {
        Pulling { context, engine: self.engine, quiet: self.choice.quiet_pull, cancel: self.cancel }
    }
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
    let pushing = Pushing::default();
    Work { project, directory, requests, wanted, no_cache, pull, hand_over, silent_hits, pushing }
}

fn sources(with: &Supply<'_>) -> BTreeMap<String, Source> {
    let services = with.services.iter().filter_map(|name| Some((name, with.project.services.get(name)?)));
    services.map(|(name, service)| (name.clone(), source::source(service, with.choice))).collect()
}

/// The services to build: those with something to build, but for images under their name that came from a
/// registry, which stay unless the user asks for a build.
fn wanted(
    context: &Context<'_>,
    with: &Supply<'_>,
    sources: &BTreeMap<String, Source>,
    requests: &[BuildRequest],
    listed: &mut Option<Vec<Listed>>,
) -> Result<Vec<String>, Failure> {
    let mut wanted: Vec<String> = sources
        .iter()
        .filter(|(service, source)| {
            **source == Source::Build && requests.iter().any(|request| request.service == **service)
        })
        .map(|(service, _)| service.clone())
        .collect();
    if with.choice.build {
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
    listed: &[Listed],
    supplied: &mut Supplied,
) -> Result<(), Failure> {
    let mut pulls = BTreeSet::new();
    for (service, source) in services {
        let wanted = wanted_image(with.project, service);
        let found = find(listed, &wanted.0);
        let when = match source {
            Source::Engine(when) | Source::EngineElseBuild(when) => *when,
            // Something to build that is not built: its image stays.
            Source::Build => When::Missing,
        };
        if !context.settings.offline && found.is_some() && is_due(with, service, when, listed)? {
            pulls.insert(wanted);
        } else if let Some(id) = found {
            supplied.add(with.project, service, id);
        } else if !context.settings.offline && when == When::Always {
            pulls.insert(wanted);
        } else if let Some(id) = give_from_store(context, with, &wanted.0)? {
            supplied.add(with.project, service, id);
            supplied.sent = true;
        } else if when == When::Never {
            return Err(absent(service, &wanted.0, "pulling and building are not allowed"));
        } else if context.settings.offline {
            return Err(absent(service, &wanted.0, "--offline forbids to pull it"));
        } else {
            pulls.insert(wanted);
        }
    }
    if pulls.is_empty() {
        return Ok(());
    }
    for result in pull_all(&with.pulling(context), &pulls)?.into_values() {
        result?;
    }
    look_again(with, services, supplied)
}

/// The images that hooks run in and that are not those of a service, with when they are pulled.
fn hook_images(with: &Supply<'_>, sources: &BTreeMap<String, Source>) -> BTreeMap<Wanted, When> {
    let of_services: BTreeSet<_> =
        with.services.iter().filter_map(|name| with.project.image_of(name)).collect();
    let services = with.services.iter().filter_map(|name| Some((name, with.project.services.get(name)?)));
    let image = |(name, service): (&String, &Service)| {
        let when = match sources.get(name) {
            Some(Source::Engine(when) | Source::EngineElseBuild(when)) => *when,
            _ => When::Missing,
        };
        let platform = service.platform.clone();
        let images: Vec<_> = service.pre_start.iter().filter_map(|hook| hook.image.clone()).collect();
        images.into_iter().map(move |image| ((image, platform.clone()), when))
    };
    services.flat_map(image).filter(|((name, _), _)| !of_services.contains(name)).collect()
}

/// Sees to it that the engine has the images that hooks run in.
fn fetch_for_hooks(
    context: &Context<'_>,
    with: &Supply<'_>,
    hooks: BTreeMap<Wanted, When>,
    listed: &[Listed],
) -> Result<(), Failure> {
    let mut pulls = BTreeSet::new();
    for (image, when) in hooks {
        let present = find(listed, &image.0).is_some();
        if present && when != When::Always || !present && give_from_store(context, with, &image.0)?.is_some()
        {
            continue;
        }
        if !context.settings.offline && when != When::Never {
            pulls.insert(image);
        } else if !present {
            let text = format!("there is no image `{}` in the engine, and pulling is not allowed", image.0);
            return Err(Failure::Usage(text));
        }
    }
    if pulls.is_empty() {
        return Ok(());
    }
    pull_all(&with.pulling(context), &pulls)?.into_values().try_for_each(|result| Ok(result?))
}

/// The images that were pulled.
fn look_again(
    with: &Supply<'_>,
    services: &[(&String, &Source)],
    supplied: &mut Supplied,
) -> Result<(), Failure> {
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
pub(super) fn find(listed: &[Listed], name: &str) -> Option<Digest> {
    let wanted = Reference::parse(name).ok()?.with_default_tag().familiar();
    let named = |image: &&Listed| image.tags.contains(&wanted) || image.repo_digests.contains(&wanted);
    listed.iter().find(named).map(|image| image.id)
}

/// Hands over an image that the store has under this name.
fn give_from_store(context: &Context<'_>, with: &Supply<'_>, name: &str) -> Result<Option<Digest>, Failure> {
    let Ok(name) = Reference::parse(name) else { return Ok(None) };
    context.with_builder(with, |builder| Ok(give(builder, with.engine, &name.with_default_tag())?))
}

#[cfg(test)]
mod tests {
    use super::*;

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
