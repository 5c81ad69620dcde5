//! A repository as a place for documents: manifests under tags, with the blobs that they name.
//!
//! What the documents mean is known above. Each question is one request; what is not there is an answer, not
//! an error. Blobs are verified on their way in, by digest and size, and mounted from another repository of the
//! registry where that is known to have them.

use crate::base::cancel::Cancel;
use crate::base::event::Events;
use crate::store::Store;

use super::super::{Descriptor, OciError, Reference};
use super::Registry;
use super::fetch::Progress;
use super::push::{Came, Piece};

/// A blob on its way to a repository.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'u> {
    /// Which bytes.
    pub descriptor: &'u Descriptor,
    /// The bytes; without them they are in the store.
    pub bytes: Option<&'u [u8]>,
    /// Another repository of the same registry that has them, as far as is known.
    pub known_in: Option<&'u Reference>,
    /// Whether it was made just now, so that nobody needs to ask whether it is there.
    pub is_new: bool,
}

/// How a blob came to be in a repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// It was there.
    There,
    /// It was taken from another repository of the registry.
    Mounted,
    /// It was uploaded.
    Uploaded,
}

impl Registry {
    /// The manifest that `reference` means, byte for byte; `None` if there is none. One small request.
    pub fn document(&self, reference: &Reference, cancel: &Cancel) -> Result<Option<Vec<u8>>, OciError> {
        let session = self.session(reference, cancel)?;
        match self.runtime.block_on(session.manifest()) {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(OciError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Brings blobs of the repository of `reference` into the store, several at a time.
    pub fn fetch_blobs(
        &self,
        store: &Store,
        reference: &Reference,
        blobs: &[&Descriptor],
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<(), OciError> {
        let session = self.session(reference, cancel)?;
        self.fetch_all(store, &session, blobs, events)
    }

    /// Makes sure that the repository of `reference` has a blob. Fails with [`OciError::MissingBlob`] if it
    /// does not and the store does not either.
    pub fn upload(
        &self,
        store: &Store,
        reference: &Reference,
        upload: &Upload<'_>,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<Sent, OciError> {
        let session = self.pushing(reference, cancel)?;
        let Upload { descriptor, bytes, known_in, is_new } = *upload;
        let what = format!("export {} to {}", descriptor.digest.short(), reference.familiar());
        let progress = Progress::new(events, what, descriptor.size);
        let piece = Piece { descriptor, bytes, known_in, is_new };
        let came = self.runtime.block_on(session.push_blob(store, &piece, &progress));
        progress.end();
        Ok(match came? {
            Came::There => Sent::There,
            Came::Mounted => Sent::Mounted,
            Came::Uploaded => Sent::Uploaded,
        })
    }

    /// Puts a manifest under the tag of `reference`; all that it names must be in its repository.
    pub fn put_document(
        &self,
        reference: &Reference,
        document: (&Descriptor, &[u8]),
        cancel: &Cancel,
    ) -> Result<(), OciError> {
        let session = self.pushing(reference, cancel)?;
        self.runtime.block_on(session.put_manifest(document))
    }
}
