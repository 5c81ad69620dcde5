//! The two kinds of places that keep entries: a repository, and an OCI layout in a folder.
//!
//! A [`Place`] gives and takes documents by name and blobs by digest, whichever kind it is.

use super::super::Builder;
use super::super::error::BuildError;
use crate::graph::CachePlace;
use crate::oci::{Descriptor, NamedLayout, OciError, Reference, Registry, Sent, Upload};

/// An open place.
pub(super) struct Place {
    pub(super) place: CachePlace,
    kind: Kind,
}

enum Kind {
    Repository(Reference),
    Folder(NamedLayout),
}

impl Place {
    pub(super) fn open(place: &CachePlace) -> Self {
        let kind = match place {
            CachePlace::Registry(reference) => Kind::Repository(reference.clone()),
            CachePlace::Folder(path, _) => Kind::Folder(NamedLayout::new(path)),
        };
        Self { place: place.clone(), kind }
    }

    /// The document of this name, byte for byte.
    pub(super) fn document(&self, builder: &Builder<'_>, name: &str) -> Result<Option<Vec<u8>>, BuildError> {
        Ok(match &self.kind {
            Kind::Repository(repository) => {
                registry(builder)?.document(&tagged(repository, name)?, builder.cancel)?
            }
            Kind::Folder(layout) => layout.document(name)?,
        })
    }

    /// Brings blobs into the store.
    pub(super) fn fetch(&self, builder: &Builder<'_>, blobs: &[&Descriptor]) -> Result<(), OciError> {
        let Builder { store, events, cancel, .. } = *builder;
        match &self.kind {
            Kind::Repository(repository) => match builder.registries {
                Some(registries) => registries.get()?.fetch_blobs(store, repository, blobs, events, cancel),
                None => Err(super::lost(blobs)),
            },
            Kind::Folder(layout) => blobs.iter().try_for_each(|blob| layout.fetch(store, blob)),
        }
    }

    /// Makes sure that a blob is there.
    pub(super) fn upload(&self, builder: &Builder<'_>, upload: &Upload<'_>) -> Result<Sent, BuildError> {
        let Builder { store, events, cancel, .. } = *builder;
        Ok(match &self.kind {
            Kind::Repository(repository) => {
                registry(builder)?.upload(store, repository, upload, events, cancel)?
            }
            Kind::Folder(layout) => layout.upload(store, upload)?,
        })
    }

    /// Puts a document under a name; what it names is there.
    pub(super) fn put(
        &self,
        builder: &Builder<'_>,
        name: &str,
        document: (&Descriptor, &[u8]),
    ) -> Result<(), BuildError> {
        match &self.kind {
            Kind::Repository(repository) => {
                registry(builder)?.put_document(&tagged(repository, name)?, document, builder.cancel)?;
            }
            Kind::Folder(layout) => layout.put(name, document)?,
        }
        Ok(())
    }

    /// Writes down what was used and what is new; entries that were of no use for long go.
    pub(super) fn finish(&self) -> Result<(), OciError> {
        match &self.kind {
            Kind::Repository(_) => Ok(()),
            Kind::Folder(layout) => layout.finish(),
        }
    }

    /// The repository, if it is one.
    pub(super) const fn repository(&self) -> Option<&Reference> {
        match &self.kind {
            Kind::Repository(repository) => Some(repository),
            Kind::Folder(_) => None,
        }
    }
}

fn registry<'b>(builder: &'b Builder<'_>) -> Result<&'b Registry, BuildError> {
    Ok(builder.registries.ok_or(BuildError::NoRegistries)?.get()?)
}

fn tagged(reference: &Reference, name: &str) -> Result<Reference, OciError> {
    reference
        .with_tag(name)
        .map_err(|error| OciError::Registry { reference: reference.familiar(), problem: error.to_string() })
}
