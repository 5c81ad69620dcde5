//! `image import` and `image ls`: the images of the store.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use crate::base::fs::AtPath;
use crate::build::{ListedImage, import, list};
use crate::cli::args::{ImageImport, ImageLs, TableFormat};
use crate::cli::failure::Failure;
use crate::cli::render::Table;
use crate::cli::render::text::size;
use crate::oci::Reference;
use crate::store::Stamp;
use crate::up::human_duration;

use super::build::platform;
use super::cache::keep_small;
use super::{Context, Ended};

/// Makes a base image of a root file system.
pub(in crate::cli) fn image_import(context: &Context<'_>, flags: &ImageImport) -> Ended {
    if let Some(change) = flags.changes.first() {
        return Err(Failure::Usage(format!("not supported yet: --change {change}")));
    }
    context.needs_root()?;
    let name = Reference::parse(&flags.name).map_err(|error| Failure::Usage(error.to_string()))?;
    let platform = platform(flags.platform.as_deref())?;
    let store = context.store()?;
    let mut reader: Box<dyn Read + Send> = match flags.archive.as_path() {
        path if path == Path::new("-") => Box::new(std::io::stdin()),
        path => Box::new(File::open(context.absolute(path)).at_path("open", path)?),
    };
    let stored = import(&store, &mut reader, &name.with_default_tag(), &platform)?;
    context.screen.result(&format!("{}\n", stored.config));
    keep_small(context, &store);
    Ok(ExitCode::SUCCESS)
}

/// Lists the images that have a name in the store.
pub(in crate::cli) fn image_ls(context: &Context<'_>, flags: &ImageLs) -> Ended {
    let images = list(&context.store()?);
    let text = match (flags.quiet, flags.format) {
        (true, _) => images.iter().map(|image| id(image, flags.no_trunc) + "\n").collect(),
        (false, TableFormat::Table) => table(&images, flags.no_trunc, Stamp::now()),
        (false, TableFormat::Json) => images.iter().map(json).collect(),
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

fn table(images: &[ListedImage], whole: bool, now: Stamp) -> String {
    let mut table = Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    for image in images {
        let age = format!("{} ago", human_duration(now.seconds.saturating_sub(image.time.seconds)));
        let size = image.size.map_or_else(|| "unknown".to_owned(), size);
        let tag = image.name.tag().unwrap_or("<none>").to_owned();
        table.row(vec![image.name.familiar_name(), tag, id(image, whole), age, size]);
    }
    table.text()
}

fn json(image: &ListedImage) -> String {
    let object = serde_json::json!({
        "Repository": image.name.familiar_name(),
        "Tag": image.name.tag(),
        "ID": image.id.to_string(),
        "Created": image.time.seconds,
        "Size": image.size,
        "Origin": image.origin,
    });
    format!("{object}\n")
}

fn id(image: &ListedImage, whole: bool) -> String {
    if whole { image.id.to_string() } else { image.id.short() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::build::Origin;

    #[test]
    fn images_are_shown_as_docker_shows_them() {
        let image = ListedImage {
            name: Reference::parse("debian:bookworm-slim").unwrap(),
            id: Digest::of("config"),
            time: Stamp { seconds: 1000, nanos: 0 },
            size: Some(78_000_000),
            origin: Origin::Imported,
        };
        let now = Stamp { seconds: 1000 + 7200, nanos: 0 };
        let shown = table(std::slice::from_ref(&image), false, now);
        let expected = format!(
            "REPOSITORY   TAG             IMAGE ID       CREATED       SIZE\n\
            debian       bookworm-slim   {}   2 hours ago   78MB\n",
            Digest::of("config").short()
        );
        assert_eq!(shown, expected);
        assert!(json(&image).starts_with(r#"{"Repository":"debian","Tag":"bookworm-slim","ID":"sha256:"#));
    }
}
