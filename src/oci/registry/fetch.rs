//! Blobs from a registry into the store.
//!
//! Several blobs come at once, each on a thread of its own that writes while it receives. The digest is
//! checked over the whole before a blob counts. A blob whose connection is cut comes again from its start:
//! the client does not give out the type by which one would see that a registry went on in the middle.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use futures_util::StreamExt;
use oci_client::client::Client;
use oci_client::errors::OciDistributionError;
use oci_client::{Reference as ClientReference, RegistryOperation};

use crate::base::cancel::Cancel;
use crate::base::digest::BlobId;
use crate::base::event::{Event, Events};
use crate::store::{BlobWriter, Store};

use super::super::snapshot::keep;
use super::super::{Descriptor, OciError};
use super::fault::Fault;
use super::{Registry, Resolved, Session};

/// How many blobs come at once (Docker's default is 3).
const AT_ONCE: usize = 3;
/// After how many bytes progress is told.
const STEP: u64 = 1 << 20;

/// What moves, for the events.
pub(super) struct Progress<'e> {
    events: &'e dyn Events,
    what: String,
    total: u64,
    done: AtomicU64,
    told: AtomicU64,
}

impl<'e> Progress<'e> {
    /// Of `total` bytes, of which none has moved.
    pub(super) const fn new(events: &'e dyn Events, what: String, total: u64) -> Self {
        Self { events, what, total, done: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    /// More bytes have moved.
    pub(super) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let told = self.told.load(Ordering::Relaxed);
        let exchange = |new| self.told.compare_exchange(told, new, Ordering::Relaxed, Ordering::Relaxed);
        if done >= told + STEP && exchange(done).is_ok() {
            // Only the end may equal the total.
            self.tell(done.min(self.total.saturating_sub(1)));
        }
    }

    /// Takes back what has to come again.
    pub(super) fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
        self.told.fetch_min(self.done.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Says that all has moved, if it was said that something moves.
    pub(super) fn end(&self) {
        if self.told.load(Ordering::Relaxed) > 0 {
            self.tell(self.total);
        }
    }

    /// Says how many bytes have moved.
    pub(super) fn tell(&self, done: u64) {
        self.events.emit(Event::Transfer { what: self.what.clone(), done, total: Some(self.total) });
    }
}

impl Registry {
    /// Brings manifest, config and the layers that are missing into the store. Reports one transfer,
    /// `pull NAME`, if a layer is missing.
    pub fn fetch(
        &self,
        store: &Store,
        resolved: &Resolved,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<(), OciError> {
        keep(store, &resolved.config.bytes, Some(resolved.config.descriptor.digest))?;
        let session = self.session(&resolved.reference, cancel)?;
        let mut missing: Vec<&Descriptor> = Vec::new();
        for layer in &resolved.parsed.layers {
            let known = missing.iter().any(|other| other.digest == layer.digest);
            if !known && !store.has_blob(BlobId(layer.digest)) {
                missing.push(layer);
            }
        }
        if !missing.is_empty() {
            self.runtime.block_on(session.log_in(RegistryOperation::Pull))?;
            self.fetch_all(store, &session, &missing, events)?;
        }
        // The manifest last: where it is, everything is.
        keep(store, &resolved.manifest.bytes, Some(resolved.manifest.descriptor.digest))?;
        Ok(())
    }

    pub(super) fn fetch_all(
        &self,
        store: &Store,
        session: &Session<'_>,
        missing: &[&Descriptor],
        events: &dyn Events,
    ) -> Result<(), OciError> {
        let total = missing.iter().map(|layer| layer.size).sum();
        let shown = session.reference.familiar();
        let name = shown.split_once('@').map_or(shown.as_str(), |(name, _)| name);
        let what = format!("pull {name}");
        let progress = Progress::new(events, what, total);
        progress.tell(0);
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            while let Some(layer) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                if failed.load(Ordering::Relaxed) {
                    break;
                }
                let result = self.runtime.block_on(session.fetch(store, layer, &progress));
                if result.is_err() {
                    failed.store(true, Ordering::Relaxed);
                    return result;
                }
            }
            Ok(())
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..missing.len().min(AT_ONCE)).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        progress.tell(total);
        results.into_iter().collect()
    }
}

impl Session<'_> {
    /// Brings one layer into the store, starting again where that may help.
    async fn fetch(
        &self,
        store: &Store,
        layer: &Descriptor,
        progress: &Progress<'_>,
    ) -> Result<(), OciError> {
        let mut pauses = Self::pauses();
        loop {
            let mut blob = store.write_blob()?;
            let mut received = 0;
            match self.receive(&mut blob, layer, &mut received, progress).await? {
                None => {
                    blob.finish(Some(BlobId(layer.digest)))?;
                    return Ok(());
                }
                Some(fault) => {
                    progress.take_back(received);
                    self.pause(fault, &mut pauses).await?;
                }
            }
        }
    }

    /// Receives a layer; returns what went wrong on the way, `None` if all came.
    async fn receive(
        &self,
        blob: &mut BlobWriter<'_>,
        layer: &Descriptor,
        received: &mut u64,
        progress: &Progress<'_>,
    ) -> Result<Option<Fault>, OciError> {
        let (reference, digest) = (self.client_reference(), layer.digest.to_string());
        let fault = |error| Ok(Some(Fault::of(error, &self.reference)));
        let question = self.client.pull_blob_stream(&reference, digest.as_str());
        let mut stream = match self.unless_cancelled(question).await? {
            Ok(stream) => stream,
            Err(error) => return fault(error),
        };
        while let Some(bytes) = self.unless_cancelled(stream.next()).await? {
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(error) => return fault(OciDistributionError::IoError(error)),
            };
            *received += bytes.len() as u64;
            if *received > layer.size {
                return Err(self.unusable(format!("layer {digest} is longer than announced")));
            }
            blob.write_all(&bytes).map_err(|source| OciError::Write { what: "a blob", source })?;
            progress.add(bytes.len() as u64);
        }
        let cut = *received < layer.size;
        Ok(cut.then(|| Fault::Passing("the connection was cut".to_owned())))
    }
}

/// A small blob, at most `limit` bytes.
pub(super) async fn read_blob(
    client: &Client,
    reference: &ClientReference,
    digest: &str,
    limit: u64,
) -> Result<Vec<u8>, OciDistributionError> {
    let mut stream = client.pull_blob_stream(reference, digest).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() as u64 > limit {
            return Err(OciDistributionError::SpecViolationError("a document is too large".to_owned()));
        }
    }
    Ok(bytes)
}
