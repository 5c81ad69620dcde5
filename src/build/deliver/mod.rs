//! Gives an image away: its files into a folder or a tar, itself into an archive or a registry.
//!
//! [`deliver`] takes an image that was exported to the store and one [`Output`]. `files` writes the final
//! file system, `image` packs the layers and writes archives, `push` sends them to registries. Which
//! outputs a command asks for, `cli` decides; names in the store and the engine are no outputs here,
//! `export` and `hand_over` make them.

mod files;
mod image;
mod place;
mod push;

pub(super) use push::known_in;

use std::io::Write;
use std::path::PathBuf;

use super::Builder;
use super::error::BuildError;
use super::export::Exported;
use crate::base::digest::Digest;
use crate::oci::{ArchiveKind, Descriptor, Encoding, ImageForm, OciError, Packing, Reference};

/// Where an image, or what is in it, goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Its final file system into a folder, which is made if it is missing.
    Folder(PathBuf),
    /// Its final file system as a tar.
    Tar(Place),
    /// The image as an archive.
    Archive(Archive),
    /// The image into an OCI layout.
    Layout(Layout),
    /// The image into registries.
    Remote(Remote),
}

/// An image for an OCI layout in a folder, beside what is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The folder, which is made if it is missing.
    pub folder: PathBuf,
    /// The names that the image bears in it.
    pub names: Vec<Reference>,
    /// How the image is packed.
    pub package: Package,
}

/// An image for registries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remote {
    /// The names under which it is pushed, each with a tag.
    pub names: Vec<Reference>,
    /// How the image is packed.
    pub package: Package,
}

/// An image as an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archive {
    /// For whom.
    pub kind: ArchiveKind,
    /// Where to.
    pub place: Place,
    /// The names that the image bears in it.
    pub names: Vec<Reference>,
    /// How the image is packed.
    pub package: Package,
}

/// How an image is packed for others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Package {
    /// How its layers are compressed.
    pub packing: Packing,
    /// What its manifest looks like.
    pub form: ImageForm,
}

/// Where bytes go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Into a file, which is replaced when all is written.
    File(PathBuf),
    /// To whoever reads the command's output.
    Output,
}

/// What was given away.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Delivered {
    /// The image's manifest, where there is one.
    pub manifest: Option<Descriptor>,
    /// The digest of its config, where the image itself was given away.
    pub config: Option<Digest>,
    /// The names that it bears there.
    pub names: Vec<Reference>,
}

/// Writes several images, each under its names, into one archive that `docker load` takes, with layers as
/// plain tars as `docker save` has them.
pub fn save(
    builder: &Builder<'_>,
    images: &[Exported],
    place: &Place,
    stdout: &mut dyn Write,
) -> Result<(), BuildError> {
    let packing = Packing { encoding: Encoding::Plain, level: None, force: true };
    let package = Package { packing, form: ImageForm { docker_types: true, ..ImageForm::default() } };
    image::archives(builder, images, ArchiveKind::Docker, &package, place, stdout).map(drop)
}

/// Gives `image` away as `output` says. `stdout` gets what goes to [`Place::Output`].
pub fn deliver(
    builder: &Builder<'_>,
    image: &Exported,
    output: &Output,
    stdout: &mut dyn Write,
) -> Result<Delivered, BuildError> {
    let delivered = match output {
        Output::Folder(folder) => files::folder(builder, image, folder).map(|()| Delivered::default()),
        Output::Tar(place) => files::tar(builder, image, place, stdout).map(|()| Delivered::default()),
        Output::Archive(archive) => image::archive(builder, image, archive, stdout),
        Output::Layout(layout) => image::layout(builder, image, layout),
        Output::Remote(remote) => push::push(builder, image, remote),
    };
    match delivered {
        Err(BuildError::Oci(OciError::Cancelled)) => Err(BuildError::Cancelled),
        delivered => delivered,
    }
}
