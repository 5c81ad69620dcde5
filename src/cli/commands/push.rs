//! `push`, and what `build --push` does after the build: images of services to their registries.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::build::{Builder, Exported, OnDemand, Output, Package, Remote, deliver, find};
use crate::cli::args::{Ansi, Progress, Push};
use crate::cli::failure::Failure;
use crate::cli::signals::Interrupts;
use crate::compose::{Project, Service};
use crate::oci::Reference;

use super::cache::keep_small;
use super::machine::Parts;
use super::project::chosen;
use super::{Context, Ended};

/// How many images are pushed at once.
const AT_ONCE: usize = 4;

/// Pushes the images that services build and name.
pub(in crate::cli) fn push(context: &mut Context<'_>, flags: &Push) -> Ended {
    let project = context.project(&flags.services)?;
    if flags.quiet {
        context.screen.change(Progress::Quiet, Ansi::Auto, false);
    }
    let store = context.store()?;
    let mut images = Vec::new();
    for service in chosen(&project, &flags.services, flags.include_deps) {
        let names = names(&project, &service)?;
        let Some(first) = names.first() else { continue };
        let image = find(&store, &first.to_string()).into_iter().next();
        match image.and_then(|image| image.exported(&store)) {
            Some(image) => images.push((image, names)),
            None => {
                let text = format!(
                    "service {service}: the store has no image `{}`; build it first",
                    first.familiar()
                );
                return Err(Failure::Usage(text));
            }
        }
    }
    if context.settings.dry_run {
        let lines = images.iter().flat_map(|(_, names)| names);
        context.screen.result(&lines.map(|name| format!("push {}\n", name.familiar())).collect::<String>());
        return Ok(ExitCode::SUCCESS);
    }
    let cancel = Interrupts::catch(1)?.stop;
    let images: Vec<_> = images.iter().map(|(image, names)| (image, names.clone())).collect();
    let (sandbox, registries) = (OnDemand::new(&store), context.registries());
    let (store, cancel) = (&store, &cancel);
    let parts = Parts { store, sandbox: &sandbox, engine: None, registries: registries.as_ref(), cancel };
    for pushed in push_images(&context.builder(&parts, "", &context.folder)?, &images) {
        match pushed {
            Err(failure) if flags.ignore_push_failures && !matches!(failure, Failure::Stopped) => {
                context.screen.warning(&failure.to_string());
            }
            pushed => pushed?,
        }
    }
    context.screen.finish();
    // Layers were packed for it.
    keep_small(context, store);
    Ok(ExitCode::SUCCESS)
}

/// The names under which the image of a service is pushed: `image` and `build.tags`, none if the service
/// builds nothing or its image has no name of its own (as with compose).
pub(super) fn names(project: &Project, service: &str) -> Result<Vec<Reference>, Failure> {
    match project.services.get(service) {
        Some(Service { build: Some(build), image: Some(image), .. }) => {
            let all = std::iter::once(image).chain(&build.tags);
            let parsed = all.map(|name| Ok(Reference::parse(name)?.with_default_tag()));
            parsed
                .collect::<Result<_, _>>()
                .map_err(|error: crate::oci::InvalidReference| Failure::Usage(error.to_string()))
        }
        _ => Ok(Vec::new()),
    }
}

/// Pushes images under these names, several at a time; what each came to.
pub(super) fn push_images(
    builder: &Builder<'_>,
    images: &[(&Exported, Vec<Reference>)],
) -> Vec<Result<(), Failure>> {
    let push = |(image, names): &(&Exported, Vec<Reference>)| {
        let output = Output::Remote(Remote { names: names.clone(), package: Package::default() });
        deliver(builder, image, &output, &mut std::io::sink())?;
        Ok(())
    };
    let images: Vec<_> = images.iter().filter(|(_, names)| !names.is_empty()).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(image) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
            let pushed = push(image);
            done.lock().unwrap_or_else(PoisonError::into_inner).push(pushed);
        }
    };
    std::thread::scope(|scope| {
        (0..images.len().min(AT_ONCE)).for_each(|_| drop(scope.spawn(work)));
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}
