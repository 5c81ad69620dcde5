//! `pull`: the engine pulls the images that services name.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use crate::base::diag::Diagnostic;
use crate::base::event::{Event, Events};
use crate::cli::args::{PullImages, PullPolicy};
use crate::cli::failure::Failure;
use crate::cli::signals::Interrupts;
use crate::compose::{Project, Service};
use crate::engine::{Engine, EngineError};

use super::project::chosen;
use super::supply::{Pulling, Wanted, find, pull_all, wanted_image};
use super::{Context, Ended};

/// Lets the engine pull the images of services, each image once.
pub(in crate::cli) fn pull(context: &mut Context<'_>, flags: &PullImages) -> Ended {
    let project = context.project(&flags.services)?;
    let services = chosen(&project, &flags.services, flags.include_deps);
    if context.settings.offline {
        return Err(Failure::Usage("--offline forbids to pull\nhelp: leave it out".to_owned()));
    }
    let engine = context.needed_engine()?;
    let listed = engine.images()?;
    let present = |name: &str| find(&listed, name).is_some();
    let (pulls, skipped) = choose(&project, &services, flags, &present);
    skipped.into_iter().for_each(|text| context.screen.emit(Event::Notice(text)));
    if context.settings.dry_run {
        let text: String = pulls.keys().map(|(name, _)| format!("image {name}: pull\n")).collect();
        context.screen.result(&text);
        return Ok(ExitCode::SUCCESS);
    }
    let interrupts = Interrupts::catch(1)?;
    let with = Pulling { context, engine: &engine, quiet: flags.quiet, cancel: &interrupts.stop };
    let results = pull_all(&with, &pulls.keys().cloned().collect())?;
    verdict(context, &project, &pulls, results, flags.ignore_pull_failures)
}

/// The images to pull, each with the services that use it; and a sentence for each service that needs none.
fn choose(
    project: &Project,
    services: &[String],
    flags: &PullImages,
    present: &dyn Fn(&str) -> bool,
) -> (BTreeMap<Wanted, BTreeSet<String>>, Vec<String>) {
    let (mut pulls, mut skipped) = (BTreeMap::<_, BTreeSet<_>>::new(), Vec::new());
    for name in services {
        let Some(service) = project.services.get(name) else { continue };
        let wanted = wanted_image(project, name);
        match skip(service, flags, present(&wanted.0)) {
            Some(why) => skipped.push(format!("service {name} is skipped: {why}")),
            None => drop(pulls.entry(wanted).or_default().insert(name.clone())),
        }
        for image in service.pre_start.iter().filter_map(|hook| hook.image.clone()) {
            if flags.policy != Some(PullPolicy::Missing) || !present(&image) {
                pulls.entry((image, service.platform.clone())).or_default().insert(name.clone());
            }
        }
    }
    (pulls, skipped)
}

/// Why the image of a service is not pulled.
fn skip(service: &Service, flags: &PullImages, present: bool) -> Option<&'static str> {
    let policy = match flags.policy {
        Some(PullPolicy::Missing) => Some("missing"),
        Some(PullPolicy::Always) => Some("always"),
        None => service.pull_policy.as_deref(),
    };
    match policy {
        _ if service.image.is_none() => Some("its image has no name, so it is only built"),
        _ if flags.ignore_buildable && service.build.is_some() => Some("its image can be built"),
        Some("never") => Some("its policy is `never`"),
        Some("build") if service.build.is_some() => Some("its policy is `build`"),
        Some("missing") if present => Some("the engine has its image"),
        _ => None,
    }
}

/// What the results mean: a failure is none where the image can be built, or failures are to be ignored.
fn verdict(
    context: &Context<'_>,
    project: &Project,
    pulls: &BTreeMap<Wanted, BTreeSet<String>>,
    results: BTreeMap<Wanted, Result<(), EngineError>>,
    ignore: bool,
) -> Ended {
    let (mut failed, mut to_build) = (Vec::new(), Vec::new());
    for (image, result) in results {
        let Err(error) = result else { continue };
        if matches!(error, EngineError::Cancelled) {
            return Err(Failure::Stopped);
        }
        let services = &pulls[&image];
        let buildable =
            |name: &String| project.services.get(name).is_some_and(|service| service.build.is_some());
        let names = services.iter().cloned().collect::<Vec<_>>().join(", ");
        let text = format!("service {names}: {error}");
        match (services.iter().all(buildable), ignore) {
            (true, _) => {
                context.screen.warning(&text);
                to_build.extend(services.iter().cloned());
            }
            (false, true) => context.screen.warning(&text),
            (false, false) => failed.push(Diagnostic::error(text)),
        }
    }
    if !to_build.is_empty() {
        let names = to_build.join(" ");
        context.screen.warning(&format!("some images must be built: shipway build {names}"));
    }
    match failed.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(Failure::Mistakes(failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> Project {
        serde_json::from_str(
            r#"{"name": "p", "services": {
                "a": {"image": "redis"}, "b": {"image": "redis"}, "built": {"build": {"context": "."}},
                "both": {"image": "here/both", "build": {"context": "."}},
                "never": {"image": "n", "pull_policy": "never"},
                "hooked": {"image": "redis", "pre_start": [{"command": ["x"], "image": "tool"}]}}}"#,
        )
        .unwrap()
    }

    fn chosen(flags: &PullImages, present: &[&str]) -> String {
        let services: Vec<_> = project().services.keys().cloned().collect();
        let (pulls, skipped) = choose(&project(), &services, flags, &|name| present.contains(&name));
        let pulls: Vec<_> = pulls
            .into_iter()
            .map(|((name, _), services)| format!("{name} for {}", Vec::from_iter(services).join(" ")))
            .collect();
        [pulls, skipped].concat().join("\n")
    }

    #[test]
    fn each_image_is_pulled_once_and_what_need_not_be_is_said() {
        insta::assert_snapshot!(chosen(&PullImages::default(), &[]), @r"
        here/both for both
        redis for a b hooked
        tool for hooked
        service built is skipped: its image has no name, so it is only built
        service never is skipped: its policy is `never`
        ");
        let missing =
            PullImages { policy: Some(PullPolicy::Missing), ignore_buildable: true, ..PullImages::default() };
        insta::assert_snapshot!(chosen(&missing, &["redis", "tool"]), @r"
        n for never
        service a is skipped: the engine has its image
        service b is skipped: the engine has its image
        service both is skipped: its image can be built
        service built is skipped: its image has no name, so it is only built
        service hooked is skipped: the engine has its image
        ");
    }
}
