//! `image save`, `image load`, `image rm`, `image inspect`: images of the store by their names.

use std::fs::File;
use std::io::Read;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::base::diag::meant;
use crate::base::fs::AtPath;
use crate::build::{BuildError, Builder, Exported, NamedImage, OnDemand, Place, find, load, remove, save};
use crate::cli::args::{ImageInspect, ImageLoad, ImageRm, ImageSave};
use crate::cli::failure::Failure;
use crate::cli::signals::Interrupts;
use crate::oci::{ImageConfig, Reference};
use crate::store::Store;

use super::cache::keep_small;
use super::machine::Parts;
use super::{Context, Ended};

/// Writes images of the store into an archive.
pub(in crate::cli) fn image_save(context: &Context<'_>, flags: &ImageSave) -> Ended {
    let place = match &flags.output {
        Some(path) => Place::File(context.absolute(path)),
        None if context.screen.stdout_is_terminal() => {
            let text = "refusing to write an image to the terminal; name a file with -o";
            return Err(Failure::Usage(text.to_owned()));
        }
        None => Place::Output,
    };
    let store = context.store()?;
    let mut images: Vec<Exported> = Vec::new();
    for text in &flags.names {
        for named in wanted(&store, text)? {
            let gone = || BuildError::Vanishing { store: store.root().display().to_string() };
            let image = named.exported(&store).ok_or_else(gone)?;
            match images.iter_mut().find(|other| other.id == image.id) {
                Some(other) => other.names.extend(image.names),
                None => images.push(image),
            }
        }
    }
    with_builder(context, &store, |builder| save(builder, &images, &place, &mut context.screen.output()))?;
    Ok(ExitCode::SUCCESS)
}

/// Takes the images of an archive into the store.
pub(in crate::cli) fn image_load(context: &Context<'_>, flags: &ImageLoad) -> Ended {
    context.needs_root()?;
    let mut reader: Box<dyn Read + Send> = match &flags.input {
        Some(path) => Box::new(File::open(context.absolute(path)).at_path("open", path)?),
        None => Box::new(std::io::stdin()),
    };
    let store = context.store()?;
    let loaded = with_builder(context, &store, |builder| load(builder, &mut reader))?;
    for image in loaded {
        if image.names.is_empty() {
            context.screen.warning(&format!("{} has no name in the archive and is not kept", image.id));
        }
        for name in image.names.iter().filter(|_| !flags.quiet) {
            context.screen.result(&format!("Loaded image: {}\n", name.familiar()));
        }
    }
    keep_small(context, &store);
    Ok(ExitCode::SUCCESS)
}

/// Takes names from images; the collector removes what nothing holds any more.
pub(in crate::cli) fn image_rm(context: &Context<'_>, flags: &ImageRm) -> Ended {
    let store = context.store()?;
    let mut failed = false;
    for text in &flags.names {
        match wanted(&store, text) {
            Ok(images) => {
                for image in images {
                    remove(&store, &image.name)?;
                    context.screen.result(&format!("Untagged: {}\n", image.name.familiar()));
                }
            }
            Err(_) if flags.force => {}
            Err(failure) => {
                context.screen.failure(&failure.to_string());
                failed = true;
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints what the store knows of images, as `docker image inspect` does.
pub(in crate::cli) fn image_inspect(context: &Context<'_>, flags: &ImageInspect) -> Ended {
    let store = context.store()?;
    let mut shown = Vec::new();
    for text in &flags.names {
        let images = wanted(&store, text)?;
        let mut ids: Vec<_> = images.iter().map(|image| image.stored.config).collect();
        ids.dedup();
        for id in ids {
            let all = find(&store, &id.0.hex());
            let gone = || BuildError::Vanishing { store: store.root().display().to_string() };
            let config = all.first().and_then(|image| image.config(&store)).ok_or_else(gone)?;
            let size = all.first().and_then(|image| image.size(&store));
            let names: Vec<&Reference> = all.iter().map(|image| &image.name).collect();
            shown.push(inspected(&id.to_string(), &names, &config, size));
        }
    }
    let text = serde_json::to_string_pretty(&shown).unwrap_or_default();
    context.screen.result(&format!("{text}\n"));
    Ok(ExitCode::SUCCESS)
}

/// An image in the words of `docker image inspect`.
fn inspected(id: &str, names: &[&Reference], config: &ImageConfig, size: Option<u64>) -> Value {
    let mut names: Vec<_> = names.iter().map(|name| name.familiar()).collect();
    names.sort();
    json!({
        "Id": id,
        "RepoTags": names,
        "RepoDigests": [],
        "Created": config.created,
        "Author": config.author,
        "Config": config.config,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": size,
        "RootFS": { "Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids },
    })
}

/// The images that a word means; a sentence with the nearest name if there is none.
fn wanted(store: &Store, text: &str) -> Result<Vec<NamedImage>, Failure> {
    let found = find(store, text);
    if !found.is_empty() {
        return Ok(found);
    }
    let known: Vec<String> = crate::build::list(store).iter().map(|image| image.name.familiar()).collect();
    let hint = meant(text, known.iter().map(String::as_str));
    Err(Failure::Usage(format!("the store has no image `{text}`{hint}")))
}

fn with_builder<T>(
    context: &Context<'_>,
    store: &Store,
    act: impl FnOnce(&Builder<'_>) -> Result<T, BuildError>,
) -> Result<T, Failure> {
    let (sandbox, registries, cancel) =
        (OnDemand::new(store), context.registries(), Interrupts::catch(1)?.stop);
    let parts =
        Parts { store, sandbox: &sandbox, engine: None, registries: registries.as_ref(), cancel: &cancel };
    Ok(act(&context.builder(&parts, "", &context.folder)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Platform;

    #[test]
    fn an_image_is_shown_in_dockers_words() {
        let mut config = ImageConfig::empty(&Platform::new("linux", "amd64", None));
        config.config.cmd = vec!["sh".into()];
        let names = [Reference::parse("b:1").unwrap(), Reference::parse("r.example/a:1").unwrap()];
        let shown = inspected("sha256:1", &names.iter().collect::<Vec<_>>(), &config, Some(7));
        insta::assert_snapshot!(shown.to_string(), @r#"{"Id":"sha256:1","RepoTags":["b:1","r.example/a:1"],"RepoDigests":[],"Created":null,"Author":"","Config":{"Cmd":["sh"]},"Architecture":"amd64","Variant":"","Os":"linux","Size":7,"RootFS":{"Type":"layers","Layers":[]}}"#);
    }
}
