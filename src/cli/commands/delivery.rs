//! What becomes of an image that `image build` made: outputs, `--iidfile`, `--metadata-file`.
//!
//! What is to become of it is decided in [`outputs`](crate::cli::outputs) before anything is built.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::base::digest::Digest;
use crate::base::fs::write_atomic;
use crate::build::{BuildError, Builder, BuiltImage, Delivered, Layout, Output, Place, deliver};
use crate::cli::args::ImageBuild;
use crate::cli::failure::Failure;
use crate::cli::outputs::{Outputs, Wanted, outputs, place};
use crate::oci::{Descriptor, Reference};

use super::Context;

/// What the flags ask for. Refuses what could only fail after the build.
pub(super) fn wanted(
    context: &Context<'_>,
    flags: &ImageBuild,
    names: &[Reference],
) -> Result<Outputs, Failure> {
    let (load, push, annotations) = (flags.load, flags.push, flags.annotations.as_slice());
    let wanted = Wanted { outputs: &flags.outputs, load, push, annotations, names };
    let outputs = outputs(&wanted, &context.folder).map_err(Failure::Usage)?;
    for output in &outputs.others {
        if matches!(output, Output::Remote(_)) && context.settings.offline {
            return Err(BuildError::NoRegistries.into());
        }
        if let Some(problem) = unwritable(output, context.screen.stdout_is_terminal()) {
            return Err(Failure::Usage(problem));
        }
    }
    outputs.warnings.iter().for_each(|warning| context.screen.warning(warning));
    Ok(outputs)
}

/// Why an output cannot go where it is to go.
fn unwritable(output: &Output, terminal: bool) -> Option<String> {
    match (output, place(output)?) {
        (_, Place::Output) if terminal => {
            Some("refusing to write an image to the terminal; name a file with dest=".to_owned())
        }
        (Output::Folder(path) | Output::Layout(Layout { folder: path, .. }), _)
            if path.exists() && !path.is_dir() =>
        {
            Some(format!("the output {} is not a folder", path.display()))
        }
        (Output::Tar(_) | Output::Archive(_), Place::File(path)) if path.is_dir() => {
            Some(format!("the output {} is a folder", path.display()))
        }
        _ => None,
    }
}

/// Gives the image away to every output; what each came to.
pub(super) fn deliver_all(
    context: &Context<'_>,
    builder: &Builder<'_>,
    image: &BuiltImage,
    outputs: &Outputs,
) -> Result<Vec<Delivered>, Failure> {
    let mut delivered = Vec::new();
    for output in &outputs.others {
        delivered.push(deliver(builder, &image.image, output, &mut context.screen.output())?);
    }
    Ok(delivered)
}

/// Whether standard output belongs to an output.
pub(super) fn takes_stdout(outputs: &Outputs) -> bool {
    outputs.others.iter().any(|output| place(output) == Some(Place::Output))
}

/// The files that the flags ask for.
pub(super) fn notes(context: &Context<'_>, flags: &ImageBuild, made: &Made<'_>) -> Result<(), Failure> {
    if let Some(path) = &flags.iidfile {
        write_atomic(&context.absolute(path), made.id().to_string().as_bytes())?;
    }
    if let Some(path) = &flags.metadata_file {
        let text = serde_json::to_string_pretty(&made.metadata()).unwrap_or_default();
        write_atomic(&context.absolute(Path::new(path)), text.as_bytes())?;
    }
    Ok(())
}

/// An image and what became of it.
pub(super) struct Made<'m> {
    pub(super) image: &'m BuiltImage,
    pub(super) outputs: &'m Outputs,
    pub(super) delivered: &'m [Delivered],
}

impl Made<'_> {
    /// The image's id: the engine's where it has the image, else the digest of its config.
    pub(super) fn id(&self) -> Digest {
        self.image.engine.as_ref().map_or(self.image.image.id.0, |handed| handed.id)
    }

    /// What buildx writes of it: the keys of its metadata file, but for the provenance and the reference to
    /// its own history.
    fn metadata(&self) -> Value {
        let mut metadata = Map::new();
        let mut names: Vec<String> = Vec::new();
        let mut name = |name: &Reference| {
            let name = name.to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        };
        if let Some(store) = &self.outputs.store {
            metadata
                .insert("containerimage.config.digest".to_owned(), json!(self.image.image.id.to_string()));
            metadata.insert("containerimage.digest".to_owned(), json!(self.id().to_string()));
            store.iter().for_each(&mut name);
        }
        for delivered in self.delivered {
            let (Some(manifest), Some(config)) = (&delivered.manifest, &delivered.config) else { continue };
            metadata.insert("containerimage.config.digest".to_owned(), json!(config.to_string()));
            metadata.insert("containerimage.descriptor".to_owned(), descriptor(manifest, config));
            metadata.insert("containerimage.digest".to_owned(), json!(manifest.digest.to_string()));
            delivered.names.iter().for_each(&mut name);
        }
        if !names.is_empty() {
            metadata.insert("image.name".to_owned(), json!(names.join(",")));
        }
        let mut metadata = Value::Object(metadata);
        metadata.sort_all_objects();
        metadata
    }
}

/// A manifest's descriptor as buildx writes it: with the config's digest among the annotations.
fn descriptor(manifest: &Descriptor, config: &Digest) -> Value {
    let mut annotations = manifest.annotations.clone();
    annotations.insert("config.digest".to_owned(), config.to_string());
    json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest.to_string(),
        "size": manifest.size,
        "annotations": annotations,
    })
}
