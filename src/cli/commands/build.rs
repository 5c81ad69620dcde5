//! `image build`.

use std::path::Path;
use std::process::ExitCode;

use crate::build::{Built, OnDemand, build};
use crate::cli::args::ImageBuild;
use crate::cli::failure::Failure;
use crate::cli::signals::Interrupts;
use crate::graph::{BuildRequest, DockerfileSource};
use crate::oci::{Platform, Reference};

use super::machine::Parts;
use super::{Context, Ended};

/// The history of images that belong to no project is kept under this name, which no project can have.
const NO_PROJECT: &str = "";

/// Builds one image from a Dockerfile.
pub(in crate::cli) fn image_build(context: &Context<'_>, flags: &ImageBuild) -> Ended {
    let request = request(context, flags)?;
    let store = context.store()?;
    let sandbox = OnDemand::new(&store);
    let engine = context.engine()?;
    let interrupts = Interrupts::catch(1)?;
    let registries = context.registries();
    let parts = Parts {
        store: &store,
        sandbox: &sandbox,
        engine: engine.as_ref(),
        registries: registries.as_ref(),
        cancel: &interrupts.stop,
    };
    let mut builder = context.builder(&parts, NO_PROJECT, &context.folder)?;
    (builder.options.no_cache, builder.options.pull) = (flags.no_cache, flags.pull);
    let built = build(&builder, std::slice::from_ref(&request), &[])?;
    context.screen.diagnostics(&built.warnings);
    context.screen.finish();
    context.screen.result(&result(&built, flags.quiet));
    Ok(ExitCode::SUCCESS)
}

/// What is printed in the end: the id, and unless only that is wanted the names.
fn result(built: &Built, quiet: bool) -> String {
    let line = |built: &crate::build::BuiltImage| {
        let id = built.engine.as_ref().map_or(built.image.id.0, |handed| handed.id);
        let names: Vec<_> = built.image.names.iter().map(Reference::familiar).collect();
        match (quiet, names.is_empty()) {
            (true, _) => format!("{id}\n"),
            (false, true) => format!("Image {}  built\n", id.short()),
            (false, false) => format!("Image {}  {}  built\n", id.short(), names.join(", ")),
        }
    };
    built.images.values().map(line).collect()
}

fn request(context: &Context<'_>, flags: &ImageBuild) -> Result<BuildRequest, Failure> {
    let folder = context.absolute(&flags.context);
    let mut names = Vec::new();
    for tag in &flags.tags {
        let name = Reference::parse(tag).map_err(|error| Failure::Usage(error.to_string()))?;
        names.push(name.with_default_tag());
    }
    let shown = names.first().map_or_else(|| shown_name(&folder), Reference::familiar);
    let mut request = BuildRequest::new(&shown, &folder, names);
    if let Some(file) = &flags.file {
        request.dockerfile = DockerfileSource::Path(context.absolute(file));
    }
    request.target = flags.target.clone();
    request.labels = pairs("--label", &flags.labels, &|_| None)?;
    let environment = |name: &str| context.environment.get(name).cloned();
    request.arguments = pairs("--build-arg", &flags.build_args, &environment)?;
    request.platform = platform(flags.platform.as_deref().or(context.settings.default_platform.as_deref()))?;
    if let Some(first) = flags.build_contexts.first() {
        return Err(Failure::Usage(format!("not supported yet: --build-context {first}")));
    }
    Ok(request)
}

/// The name of a folder, for steps of an image without a name.
fn shown_name(folder: &Path) -> String {
    folder.file_name().map_or_else(|| "image".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// `NAME=VALUE` each; a bare name takes its value from `bare`, and is left out if there is none.
pub(super) fn pairs(
    flag: &str,
    texts: &[String],
    bare: &dyn Fn(&str) -> Option<String>,
) -> Result<std::collections::BTreeMap<String, String>, Failure> {
    let mut pairs = std::collections::BTreeMap::new();
    for text in texts {
        match text.split_once('=') {
            Some(("", _)) => return Err(Failure::Usage(format!("{flag} {text} has no name"))),
            Some((name, value)) => pairs.insert(name.to_owned(), value.to_owned()),
            None => bare(text).and_then(|value| pairs.insert(text.clone(), value)),
        };
    }
    Ok(pairs)
}

/// The platform that was asked for, if this machine can build for it.
pub(super) fn platform(wanted: Option<&str>) -> Result<Platform, Failure> {
    let host = Platform::host();
    let Some(wanted) = wanted else { return Ok(host) };
    let parsed: Platform = wanted.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    if host.accepts(&parsed) {
        return Ok(host);
    }
    Err(Failure::Usage(format!("not supported yet: building for {parsed} on {host}")))
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
