//! The final file system of an image, as a folder or as a tar.
//!
//! Both are read from the merged view of the image's layers. With a `SOURCE_DATE_EPOCH` every entry gets
//! that time, as BuildKit's local and tar outputs have it.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::super::Builder;
use super::super::error::BuildError;
use super::super::export::{self, Exported};
use super::Place;
use crate::base::fs::{AtPath, RootDir};
use crate::oci::{Times, copy_tree, write_tree};

/// Writes the files of `image` into `folder`; they belong to the caller afterwards.
pub(super) fn folder(builder: &Builder<'_>, image: &Exported, folder: &Path) -> Result<(), BuildError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).at_path("create", folder)?;
    let Some(root) = root(builder, image)? else { return Ok(()) };
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Ok(copy_tree(&root, &RootDir::open(folder)?, owner, times(image), builder.cancel)?)
}

/// Writes the files of `image` as a tar.
pub(super) fn tar(
    builder: &Builder<'_>,
    image: &Exported,
    place: &Place,
    stdout: &mut dyn Write,
) -> Result<(), BuildError> {
    let root = root(builder, image)?;
    place.write(stdout, builder.cancel, |out| match &root {
        Some(root) => Ok(write_tree(root, out, times(image)).map(drop)?),
        None => {
            // Two empty blocks are a tar without members.
            out.write_all(&[0; 1024]).at_path("write", "the tar")?;
            Ok(())
        }
    })
}

/// The merged view of the image's layers; `None` if it has none.
fn root(builder: &Builder<'_>, image: &Exported) -> Result<Option<RootDir>, BuildError> {
    let chain = export::chain(builder, image.result)?;
    Ok(export::merged(builder, &chain)?)
}

fn times(image: &Exported) -> Times {
    image.epoch.map_or(Times::Own, |epoch| Times::All(epoch.seconds()))
}
