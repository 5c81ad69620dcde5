//! Which image each service runs, and which must be pulled first. Deciding is pure.
//!
//! A service that was built comes with its image. One that only names an image uses what the engine has;
//! what it has not is for the caller to hand over from elsewhere or for [`pull`] to fetch with the user's
//! credentials.

use std::thread;

use crate::base::cancel::Cancel;
use crate::base::diag::Diagnostic;
use crate::base::digest::Digest;
use crate::base::event::Events;
use crate::compose::Project;
use crate::engine::{self, Credentials, Engine};

use super::reconcile::{Image, Images, order};

/// When images are pulled, against what the services say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PullPolicy {
    /// Also if the engine has one of that name.
    Always,
    /// If the engine has none of that name.
    Missing,
    /// Not at all.
    Never,
}

/// An image that is to be pulled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// Its name as the project writes it.
    pub reference: String,
    /// The platform that is asked for.
    pub platform: Option<String>,
    /// The services that run it.
    pub services: Vec<String>,
    /// Whether the engine has one of that name already.
    pub present: bool,
}

/// What is known of the services' images.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chosen {
    /// The images that are there.
    pub images: Images,
    /// The images that are to be pulled, each once.
    pub pulls: Vec<Pull>,
}

/// Chooses the image of each service of `named` (none: all) and of what those depend on. `built` has the
/// services that were built; `present` is the engine's list.
pub fn choose(
    project: &Project,
    named: &[String],
    built: &Images,
    present: &[engine::Image],
    policy: Option<PullPolicy>,
) -> Result<Chosen, Vec<Diagnostic>> {
    let mut chosen = Chosen::default();
    let mut problems = Vec::new();
    for service in order(project, named, true) {
        if let Some(image) = built.get(service) {
            chosen.images.insert(service.to_owned(), image.clone());
            continue;
        }
        let Some(reference) = project.image_of(service) else { continue };
        match policy_of(project, service, policy) {
            Ok(policy) => chosen.take(project, service, reference, policy, present, &mut problems),
            Err(problem) => problems.push(*problem),
        }
    }
    if problems.is_empty() { Ok(chosen) } else { Err(problems) }
}

impl Chosen {
    fn take(
        &mut self,
        project: &Project,
        service: &str,
        reference: String,
        policy: PullPolicy,
        present: &[engine::Image],
        problems: &mut Vec<Diagnostic>,
    ) {
        let found = find(present, &reference);
        if let Some(id) = found {
            self.images.insert(service.to_owned(), Image { reference: reference.clone(), id });
        }
        match (policy, found) {
            (PullPolicy::Always, _) | (PullPolicy::Missing, None) => {
                let platform = project.services.get(service).and_then(|service| service.platform.clone());
                let same = |pull: &&mut Pull| pull.reference == reference && pull.platform == platform;
                match self.pulls.iter_mut().find(same) {
                    Some(pull) => pull.services.push(service.to_owned()),
                    None => {
                        let (services, present) = (vec![service.to_owned()], found.is_some());
                        self.pulls.push(Pull { reference, platform, services, present });
                    }
                }
            }
            (PullPolicy::Never, None) => {
                let message = format!(
                    "the engine has no image `{reference}` for service `{service}`, and it is not to be pulled"
                );
                problems.push(at(project, service, "image", Diagnostic::error(message)));
            }
            (PullPolicy::Missing | PullPolicy::Never, Some(_)) => {}
        }
    }
}

/// The user's policy, else the service's.
fn policy_of(
    project: &Project,
    service: &str,
    policy: Option<PullPolicy>,
) -> Result<PullPolicy, Box<Diagnostic>> {
    if let Some(policy) = policy {
        return Ok(policy);
    }
    let written = project.services.get(service).and_then(|service| service.pull_policy.as_deref());
    match written {
        None | Some("missing" | "if_not_present" | "build" | "refresh") => Ok(PullPolicy::Missing),
        Some("always") => Ok(PullPolicy::Always),
        Some("never") => Ok(PullPolicy::Never),
        Some(other) => {
            let message = format!("not supported yet: `services.{service}.pull_policy: {other}`");
            Err(Box::new(at(project, service, "pull_policy", Diagnostic::error(message))))
        }
    }
}

fn at(project: &Project, service: &str, key: &str, problem: Diagnostic) -> Diagnostic {
    match project.spans.nearest(&["services", service, key]) {
        Some(span) => problem.at(span.clone(), ""),
        None => problem,
    }
}

/// The id of the image that the engine has under a name, a digest or an id.
fn find(present: &[engine::Image], reference: &str) -> Option<Digest> {
    let wanted = familiar(reference);
    let found = present.iter().find(|image| match wanted.split_once('@') {
        Some((name, digest)) => {
            // A tag beside a digest says nothing.
            let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository);
            image.repo_digests.iter().any(|known| familiar(known) == format!("{repository}@{digest}"))
        }
        None => image.tags.iter().any(|tag| familiar(tag) == wanted) || image.id.to_string() == reference,
    })?;
    Some(found.id)
}

/// A name without what Docker Hub's names leave out, and with its tag.
fn familiar(reference: &str) -> String {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let short = short.strip_prefix("library/").unwrap_or(short);
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains([':', '@']) { short.to_owned() } else { format!("{short}:latest") }
}

/// The registry of a name: what credentials are kept under.
pub fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Lets the engine pull images, all at once. `credentials` is asked with the registry's name. Where the
/// engine has an image of that name a failure is an error too: the user asked for a newer one.
pub fn pull(
    engine: &dyn Engine,
    pulls: &[Pull],
    credentials: &(dyn Fn(&str) -> Option<Credentials> + Sync),
    events: &dyn Events,
    cancel: &Cancel,
) -> engine::Result<()> {
    let one = |pull: &Pull| {
        let credentials = credentials(registry_of(&pull.reference));
        engine.pull(&pull.reference, pull.platform.as_deref(), credentials.as_ref(), events, cancel)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = pulls.iter().map(|pull| scope.spawn(move || one(pull))).collect();
        let mut result = Ok(());
        for thread in threads {
            let pulled = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(pulled);
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn present(tag: &str) -> engine::Image {
        engine::Image {
            id: Digest::of(tag),
            tags: vec![tag.to_owned()],
            repo_digests: vec![format!("redis@{}", Digest::of("manifest"))],
            labels: Vec::new(),
            created: 0,
            size: 0,
        }
    }

    fn project(services: serde_json::Value) -> Project {
        serde_json::from_value(json!({"name": "p", "services": services})).unwrap()
    }

    #[test]
    fn names_are_found_however_they_are_written() {
        let images = [present("redis:3.2"), present("web:latest")];
        let digest = Digest::of("manifest");
        for name in ["redis:3.2", "docker.io/library/redis:3.2", &format!("redis:9@{digest}")] {
            assert_eq!(find(&images, name), Some(Digest::of("redis:3.2")), "{name}");
        }
        assert_eq!(find(&images, "web"), Some(Digest::of("web:latest")));
        assert_eq!(find(&images, &Digest::of("web:latest").to_string()), Some(Digest::of("web:latest")));
        assert_eq!(find(&images, "redis"), None);
        assert_eq!(registry_of("host:5000/a"), "host:5000");
        assert_eq!(registry_of("a/b"), "docker.io");
    }

    #[test]
    fn what_is_missing_is_pulled_once() {
        let project = project(json!({"a": {"image": "new"}, "b": {"image": "new"}, "c": {"image": "web"}}));
        let images = [present("web:latest")];
        let chosen = choose(&project, &[], &Images::new(), &images, None).unwrap();
        assert_eq!(chosen.images.keys().collect::<Vec<_>>(), ["c"]);
        assert_eq!(chosen.pulls.len(), 1);
        assert_eq!(chosen.pulls[0].services, ["a", "b"]);
        let always = choose(&project, &[], &Images::new(), &images, Some(PullPolicy::Always)).unwrap();
        assert!(always.pulls.iter().any(|pull| pull.reference == "web" && pull.present));
    }

    #[test]
    fn what_may_not_be_pulled_and_what_is_not_supported_is_said() {
        let services = json!({
            "a": {"image": "new", "pull_policy": "never"},
            "b": {"image": "new", "pull_policy": "daily"},
        });
        let problems = choose(&project(services), &[], &Images::new(), &[], None).unwrap_err();
        let messages: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
        assert_eq!(
            messages,
            [
                "the engine has no image `new` for service `a`, and it is not to be pulled",
                "not supported yet: `services.b.pull_policy: daily`"
            ]
        );
    }
}
