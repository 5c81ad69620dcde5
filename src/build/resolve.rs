//! From image names to base images: what is remembered, the engine's own images, a registry.
//!
//! A name is looked up in this order: the store's own names (built, imported), what the name resolved to
//! before (a pin), the engine's images, the registry (DESIGN section 7, "Names"). A pin says where the
//! image came from, which one it was and when, so that a rebuild needs no network. Whoever cannot be
//! found is reported with everything that was tried, at the place that names it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use serde::{Deserialize, Serialize};

use super::Builder;
use super::caches::Caches;
use super::elsewhere::{self, Secrets};
use super::error::{BuildError, StepError};
use crate::base::diag::{Diagnostic, Span};
use crate::base::digest::{BlobId, Digest};
use crate::base::event::Event;
use crate::base::fs::AtPath;
use crate::engine::Engine;
use crate::graph::{BaseImage, Epoch, ImageName, Known, Wanted};
use crate::oci::{self, Descriptor, ImageConfig, OciError, Platform, Reference, Resolved};
use crate::remote::RemoteError;
use crate::store::{Bucket, Held, Stamp};

/// An image that the store knows by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredImage {
    /// Its config's bytes.
    pub config: BlobId,
    /// Its layers as blobs, bottom first; empty for an image whose layers are snapshots that were built.
    pub layers: Vec<Descriptor>,
    /// How it came here.
    pub origin: Origin,
    /// When.
    pub time: Stamp,
    /// What the collector must keep for it.
    pub holds: Vec<Held>,
    /// What it was made from, if it was built: it is exported again only when that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_from: Option<Digest>,
    /// The `SOURCE_DATE_EPOCH` that it was built with: its layers are written with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

/// How an image came into the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Origin {
    /// It was built.
    Built,
    /// It was imported from a root file system.
    Imported,
    /// A registry gave it.
    Registry {
        /// The name with the digest that its tag meant.
        reference: Reference,
    },
    /// The engine had it.
    Engine {
        /// Its id there.
        id: Digest,
    },
}

/// Finds everything that is wanted and adds it to `known`; mistakes are collected.
pub(super) fn resolve(
    builder: &Builder<'_>,
    wanted: &BTreeMap<Wanted, Span>,
    platform: &Platform,
    secrets: &Secrets<'_>,
    caches: Option<&Caches<'_>>,
    known: &mut Known,
) -> Result<(), BuildError> {
    let mut mistakes = Vec::new();
    for (wanted, span) in wanted {
        let found = match wanted {
            Wanted::Image(name) => {
                let mut tried = Vec::new();
                match find(builder, name, caches, &mut tried)? {
                    Some(image) => drop(known.images.insert(name.clone(), image)),
                    None => mistakes.push(unknown(&name.name, span, &tried)),
                }
                Ok(())
            }
            Wanted::Layout(layout) => elsewhere::layout(builder, layout, platform).map(|image| {
                known.layouts.insert(layout.clone(), image);
            }),
            Wanted::File(source) => elsewhere::file(builder, source, secrets).map(|file| {
                known.files.insert(source.clone(), file);
            }),
            Wanted::Commit(source) => elsewhere::commit(builder, source).map(|commit| {
                known.commits.insert(source.clone(), commit);
            }),
        };
        match found {
            Ok(()) => {}
            Err(StepError::Remote(RemoteError::Cancelled) | StepError::Cancelled) => {
                return Err(BuildError::Cancelled);
            }
            Err(StepError::Store(error)) => return Err(error.into()),
            Err(error) => mistakes.push(Diagnostic::error(error.to_string()).at(span.clone(), "")),
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(BuildError::Mistakes(mistakes)) }
}

fn unknown(name: &Reference, span: &Span, tried: &[String]) -> Diagnostic {
    let familiar = name.familiar();
    let mut mistake = Diagnostic::error(format!("cannot find the image `{familiar}`")).at(span.clone(), "");
    for note in tried {
        mistake = mistake.note(note.as_str());
    }
    mistake.help(format!(
        "`shipway image import ROOTFS.tar {familiar}` makes it from the tar of a root file system"
    ))
}

fn find(
    builder: &Builder<'_>,
    wanted: &ImageName,
    caches: Option<&Caches<'_>>,
    tried: &mut Vec<String>,
) -> Result<Option<BaseImage>, BuildError> {
    if !builder.options.pull {
        if let Some(image) = remembered(builder, wanted)? {
            return Ok(Some(image));
        }
        tried.push(format!("shipway's store does not have it{}", for_platform(&wanted.platform)));
        // An engine's images are for its own machine.
        if is_own(&wanted.platform)
            && let Some(image) = from_engine(builder, wanted, tried)?
        {
            return Ok(Some(image));
        }
    }
    if let Some(image) = from_cache(builder, wanted, caches)? {
        return Ok(Some(image));
    }
    if let Some(image) = from_registry(builder, wanted, tried)? {
        return Ok(Some(image));
    }
    // With `--pull` a registry that does not answer is no reason to fail while the image is here.
    if !builder.options.pull {
        return Ok(None);
    }
    let image = remembered(builder, wanted)?;
    if image.is_some() {
        let text = format!("{}: {}; using the image that is here", wanted.name.familiar(), tried.join("; "));
        builder.events.emit(Event::Warning(text));
    }
    Ok(image)
}

/// A name of the store if its image is for that platform, or a pin.
fn remembered(builder: &Builder<'_>, wanted: &ImageName) -> Result<Option<BaseImage>, BuildError> {
    for (bucket, key) in [(Bucket::Names, wanted.name.to_string()), (Bucket::Pins, pin_key(wanted))] {
        let named = matches!(bucket, Bucket::Names);
        if let Some(stored) = builder.store.shelf(bucket).get::<StoredImage>(&key)
            && let Some(image) = base_image(builder, &stored)?
            && (!named || wanted.platform.accepts(&image.config.platform()))
        {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

/// Under which name a pin is kept: for this machine's platform under the image's.
pub(super) fn pin_key(wanted: &ImageName) -> String {
    format!("{}{}", wanted.name, for_platform(&wanted.platform))
}

/// What is said of a platform that is not this machine's.
fn for_platform(platform: &Platform) -> String {
    if is_own(platform) { String::new() } else { format!(" for {platform}") }
}

fn is_own(platform: &Platform) -> bool {
    Platform::host().accepts(platform)
}

/// The image as a base, if its config is still in the store.
fn base_image(builder: &Builder<'_>, stored: &StoredImage) -> Result<Option<BaseImage>, BuildError> {
    let Some(bytes) = read_blob(builder, stored.config)? else { return Ok(None) };
    let Ok(config) = ImageConfig::from_json(&bytes) else { return Ok(None) };
    Ok(Some(BaseImage { config, layers: stored.layers.clone() }))
}

/// Forgets the pins of images that have another id in the engine by now; whether there was one. A name
/// that the engine has lost keeps its pin.
pub(super) fn forget_stale(
    builder: &Builder<'_>,
    names: &[ImageName],
    listed: &[crate::engine::Image],
) -> Result<bool, BuildError> {
    let (store, mut stale) = (builder.store, false);
    for wanted in names {
        let (key, familiar) = (pin_key(wanted), wanted.name.familiar());
        if store.shelf(Bucket::Names).get::<StoredImage>(&key).is_some() {
            continue;
        }
        let pin: Option<StoredImage> = store.shelf(Bucket::Pins).get(&key);
        let Some(Origin::Engine { id }) = pin.map(|pin| pin.origin) else { continue };
        let now = listed.iter().find(|image| image.tags.contains(&familiar));
        if now.is_some_and(|now| now.id != id) {
            stale |= store.shelf(Bucket::Pins).remove(&key)?;
        }
    }
    Ok(stale)
}

/// A small blob's bytes.
pub(super) fn read_blob(builder: &Builder<'_>, id: BlobId) -> Result<Option<Vec<u8>>, BuildError> {
    let Some(mut file) = builder.store.blob(id) else { return Ok(None) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).at_path("read", builder.store.blob_path(id))?;
    Ok(Some(bytes))
}

fn from_engine(
    builder: &Builder<'_>,
    wanted: &ImageName,
    tried: &mut Vec<String>,
) -> Result<Option<BaseImage>, BuildError> {
    let name = &wanted.name;
    let Some(engine) = builder.engine else {
        tried.push("no container engine was asked".to_owned());
        return Ok(None);
    };
    let details = match engine.image(&name.familiar()) {
        Ok(Some(details)) => details,
        Ok(None) => {
            tried.push("the container engine does not have it".to_owned());
            return Ok(None);
        }
        Err(error) => {
            tried.push(error.to_string());
            return Ok(None);
        }
    };
    let familiar = name.familiar();
    builder.events.emit(Event::Notice(format!("taking {familiar} over from the container engine")));
    let Some(archived) = saved(builder, engine, &familiar)? else { return Ok(None) };
    let origin = Origin::Engine { id: details.id };
    let config = BlobId(archived.parsed.config.digest);
    pin(builder, wanted, config, archived.parsed.layers, origin).map(Some)
}

/// Takes an image out of the engine into the store.
fn saved(
    builder: &Builder<'_>,
    engine: &dyn Engine,
    name: &str,
) -> Result<Option<oci::ArchivedImage>, BuildError> {
    let (mut reader, writer) = std::io::pipe().at_path("open", "a pipe")?;
    let (read, written) = std::thread::scope(|scope| {
        let saving = scope.spawn(move || {
            let mut writer = writer;
            engine.save(&[name], &mut writer)
        });
        let read = oci::read_archive(builder.store, &mut reader);
        // Whoever still writes gets an error instead of waiting for ever.
        drop(reader);
        (read, saving.join())
    });
    match written {
        Ok(Err(error)) if read.is_err() => return Err(error.into()),
        _ => {}
    }
    Ok(read?.into_iter().next())
}

/// What a cache knows of the name, if that is still so at the name's registry: that saves reading it there.
fn from_cache(
    builder: &Builder<'_>,
    wanted: &ImageName,
    caches: Option<&Caches<'_>>,
) -> Result<Option<BaseImage>, BuildError> {
    let Some((image, digest, bytes)) = caches.map_or(Ok(None), |caches| caches.base(wanted))? else {
        return Ok(None);
    };
    let mut blob = builder.store.write_blob()?;
    blob.write_all(&bytes).at_path("write", "the image's config")?;
    let (config, _) = blob.finish(None)?;
    let origin = Origin::Registry { reference: wanted.name.with_digest(digest) };
    pin(builder, wanted, config, image.layers, origin).map(Some)
}

fn from_registry(
    builder: &Builder<'_>,
    wanted: &ImageName,
    tried: &mut Vec<String>,
) -> Result<Option<BaseImage>, BuildError> {
    let ImageName { name, platform } = wanted;
    let Some(registries) = builder.registries else {
        tried.push("no registry was asked (--offline)".to_owned());
        return Ok(None);
    };
    let resolved = match registries.get()?.resolve(name, platform, builder.cancel) {
        Ok(resolved) => resolved,
        Err(OciError::Cancelled) => return Err(BuildError::Cancelled),
        Err(error) => {
            tried.push(error.to_string());
            return Ok(None);
        }
    };
    let Resolved { reference, config, parsed, .. } = resolved;
    let mut blob = builder.store.write_blob()?;
    blob.write_all(&config.bytes).at_path("write", "the image's config")?;
    let (config, _) = blob.finish(Some(BlobId(config.descriptor.digest)))?;
    pin(builder, wanted, config, parsed.layers, Origin::Registry { reference }).map(Some)
}

/// Where the layers of a remembered image can be fetched: its name with a digest.
pub(super) fn fetched_from(builder: &Builder<'_>, image: &ImageName) -> Option<Reference> {
    let pin: StoredImage = builder.store.shelf(Bucket::Pins).get(&pin_key(image))?;
    match pin.origin {
        Origin::Registry { reference } => Some(reference),
        _ => None,
    }
}

/// Forgets the pins of images whose tag means another one in the registry by now; whether there was one.
/// Asked only when something must run anyway. A registry that does not answer changes nothing.
pub(super) fn forget_moved(
    builder: &Builder<'_>,
    names: &[ImageName],
    since: Stamp,
) -> Result<bool, BuildError> {
    let Some(registries) = builder.registries else { return Ok(false) };
    let (shelf, mut moved) = (builder.store.shelf(Bucket::Pins), false);
    for wanted in names.iter().filter(|wanted| wanted.name.digest().is_none()) {
        let (name, key) = (&wanted.name, pin_key(wanted));
        let named = builder.store.shelf(Bucket::Names).get::<StoredImage>(&key).is_some();
        let Some(pin) = shelf.get::<StoredImage>(&key).filter(|pin| !named && pin.time < since) else {
            continue;
        };
        let Origin::Registry { reference } = &pin.origin else { continue };
        match registries.get()?.digest(name, builder.cancel) {
            Ok(digest) if reference.digest() == Some(&digest) => {
                shelf.put(&key, &StoredImage { time: Stamp::now(), ..pin })?;
            }
            Ok(_) => moved |= shelf.remove(&key)?,
            Err(OciError::Cancelled) => return Err(BuildError::Cancelled),
            Err(error) => {
                let text = format!("going on with {} as it was: {error}", name.familiar());
                builder.events.emit(Event::Notice(text));
            }
        }
    }
    Ok(moved)
}

/// Remembers what a name resolved to.
fn pin(
    builder: &Builder<'_>,
    wanted: &ImageName,
    config: BlobId,
    layers: Vec<Descriptor>,
    origin: Origin,
) -> Result<BaseImage, BuildError> {
    let holds = vec![Held::Blob(config)];
    let stored =
        StoredImage { config, layers, origin, time: Stamp::now(), holds, made_from: None, epoch: None };
    builder.store.shelf(Bucket::Pins).put(&pin_key(wanted), &stored)?;
    base_image(builder, &stored)?
        .ok_or_else(|| BuildError::Vanishing { store: builder.store.root().display().to_string() })
}
