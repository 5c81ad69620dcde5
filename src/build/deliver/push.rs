//! An image to registries, under each of its names.
//!
//! Layers of a base image that came from the same registry need not be uploaded: the pins say from which
//! repository they came. What was pushed to one repository is taken from there for the next.

use std::collections::BTreeMap;

use super::super::Builder;
use super::super::caches;
use super::super::error::BuildError;
use super::super::export::Exported;
use super::super::resolve::{Origin, StoredImage};
use super::image::{delivered, packed};
use super::{Delivered, Remote};
use crate::base::digest::Digest;
use crate::base::event::Event;
use crate::oci::{OciError, Push, PushLayer, Pushed, Reference};
use crate::store::Bucket;

/// Pushes `image` as `remote` says.
pub(super) fn push(
    builder: &Builder<'_>,
    image: &Exported,
    remote: &Remote,
) -> Result<Delivered, BuildError> {
    let registries = builder.registries.ok_or(BuildError::NoRegistries)?.get()?;
    let packed = packed(builder, image, &remote.package)?;
    let formed = packed.formed();
    let pins = builder.store.shelf(Bucket::Pins).list::<StoredImage>();
    let pins: Vec<StoredImage> = pins.into_iter().map(|(_, pin)| pin).collect();
    let mut before: Vec<&Reference> = Vec::new();
    for names in repositories(&remote.names).values() {
        let Some(first) = names.first() else { continue };
        let cached = image.elsewhere.as_deref().and_then(caches::repository).into_iter();
        let mut cached = cached.chain(&image.cached_in).filter(|cached| is_other(cached, first));
        let cached = cached.next();
        let layer = |descriptor: &crate::oci::Descriptor| PushLayer {
            known_in: cached.cloned().or_else(|| known_in(&pins, &before, first, descriptor.digest)),
            descriptor: descriptor.clone(),
        };
        let push = Push {
            names,
            manifest: (&formed.manifest, &formed.document),
            config: (&formed.config, &packed.config),
            layers: &packed.layers.iter().map(layer).collect::<Vec<_>>(),
        };
        let pushed = loop {
            match registries.push(builder.store, &push, builder.events, builder.cancel) {
                // It could not be mounted from the cache, so it goes through here.
                Err(OciError::MissingBlob(digest)) => {
                    let found = image.elsewhere.as_deref().ok_or(OciError::MissingBlob(digest))?;
                    let blob = packed.layers.iter().find(|layer| layer.digest == digest);
                    caches::fetch_layer(builder, found, blob.ok_or(OciError::MissingBlob(digest))?)?;
                }
                pushed => break pushed?,
            }
        };
        builder.events.emit(Event::Notice(told(names, formed.manifest.digest, pushed)));
        before.push(first);
    }
    Ok(delivered(formed, remote.names.clone()))
}

/// The names by repository.
fn repositories(names: &[Reference]) -> BTreeMap<(&str, &str), Vec<Reference>> {
    let mut repositories: BTreeMap<_, Vec<Reference>> = BTreeMap::new();
    for name in names {
        repositories.entry((name.registry(), name.repository())).or_default().push(name.clone());
    }
    repositories
}

/// Another repository of the registry of `to` that has the blob, as far as is known: one that the image was
/// just pushed to, or one that a base image came from.
pub(in crate::build) fn known_in(
    pins: &[StoredImage],
    before: &[&Reference],
    to: &Reference,
    blob: Digest,
) -> Option<Reference> {
    let other = |known: &Reference| is_other(known, to);
    if let Some(known) = before.iter().find(|known| other(known)) {
        return Some((*known).clone());
    }
    pins.iter().find_map(|pin| match &pin.origin {
        Origin::Registry { reference } if other(reference) => {
            pin.layers.iter().any(|layer| layer.digest == blob).then(|| reference.clone())
        }
        _ => None,
    })
}

/// Whether it is another repository of the same registry.
fn is_other(known: &Reference, to: &Reference) -> bool {
    known.registry() == to.registry() && known.repository() != to.repository()
}

fn told(names: &[Reference], digest: Digest, pushed: Pushed) -> String {
    let names: Vec<_> = names.iter().map(Reference::familiar).collect();
    let Pushed { uploaded, mounted } = pushed;
    let blobs = match (uploaded, mounted) {
        (0, 0) => "nothing to upload".to_owned(),
        (uploaded, 0) => format!("{uploaded} uploaded"),
        (uploaded, mounted) => format!("{uploaded} uploaded, {mounted} taken from another repository"),
    };
    format!("pushed {} as {digest}: {blobs}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::BlobId;
    use crate::oci::{Descriptor, media};
    use crate::store::Stamp;

    fn name(text: &str) -> Reference {
        Reference::parse(text).unwrap()
    }

    fn pin(origin: Origin, layer: &str) -> StoredImage {
        StoredImage {
            config: BlobId(Digest::of("config")),
            layers: vec![Descriptor::of(media::LAYER_GZIP, layer.as_bytes())],
            origin,
            time: Stamp::now(),
            holds: Vec::new(),
            made_from: None,
            epoch: None,
        }
    }

    #[test]
    fn layers_are_known_where_their_image_came_from() {
        let from = |text: &str| Origin::Registry { reference: name(text) };
        let pins = [
            pin(Origin::Imported, "a"),
            pin(from("other.example/base:1"), "a"),
            pin(from("r.example/own:1"), "a"),
            pin(from("r.example/base:1"), "a"),
        ];
        let known = |before: &[&Reference], blob: &str| {
            let found = known_in(&pins, before, &name("r.example/own:2"), Digest::of(blob));
            found.map(|found| found.repository().to_owned())
        };
        assert_eq!(known(&[], "a").as_deref(), Some("base"));
        assert_eq!(known(&[], "b"), None);
        let (near, far) = (name("r.example/near:1"), name("far.example/x:1"));
        assert_eq!(known(&[&far, &near], "b").as_deref(), Some("near"));
    }

    #[test]
    fn names_are_pushed_by_repository() {
        let names = [name("r.example/b:1"), name("a:1"), name("r.example/b:2")];
        let grouped: Vec<usize> = repositories(&names).values().map(Vec::len).collect();
        assert_eq!(grouped, [1, 2]);
    }

    #[test]
    fn a_push_says_what_it_moved() {
        let digest = Digest::of("m");
        let told = |uploaded, mounted| told(&[name("a:1")], digest, Pushed { uploaded, mounted });
        assert_eq!(told(0, 0), format!("pushed a:1 as {digest}: nothing to upload"));
        assert!(told(2, 1).ends_with(": 2 uploaded, 1 taken from another repository"));
    }
}
