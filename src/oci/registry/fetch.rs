//! Blobs from a registry into the store.
//!
//! Several blobs come at once, each on a thread of its own that writes while it receives. The digest is
//! checked over the whole before a blob counts. A blob whose connection is cut or all but stands still comes
//! on from where it was, where the registry can do that; wrong bytes come again from the start.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use crate::base::cancel::Cancel;
use crate::base::digest::BlobId;
use crate::base::event::{Event, Events};
use crate::store::{BlobWriter, Store, StoreError};

use super::super::snapshot::keep;
use super::super::{Descriptor, OciError};
use super::fault::Fault;
use super::{Registry, Resolved, Session};

/// How many blobs come at once (Docker's default is 3).
const AT_ONCE: usize = 3;
/// After how many bytes progress is told.
const STEP: u64 = 1 << 20;
/// What comes slower than this in the time that an answer may be silent is cut.
const LEAST: u64 = 1 << 16;
/// After so many bytes a new fault is met with new patience.
const ENOUGH: u64 = 1 << 20;

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

/// A layer of which a part has come.
struct Part<'s> {
    blob: BlobWriter<'s>,
    received: u64,
}

impl Session<'_> {
    /// Brings one layer into the store, going on or starting again where that may help.
    async fn fetch(
        &self,
        store: &Store,
        layer: &Descriptor,
        progress: &Progress<'_>,
    ) -> Result<(), OciError> {
        let mut pauses = Self::pauses();
        let (mut part, mut before) = (Part { blob: store.write_blob()?, received: 0 }, 0);
        let mut wrong = false;
        loop {
            let fault = match self.receive(store, &mut part, layer, progress).await? {
                Some(fault) => fault,
                None => match part.blob.finish(Some(BlobId(layer.digest))) {
                    Ok(_) => return Ok(()),
                    Err(StoreError::WrongDigest { expected, found }) if wrong => {
                        return Err(self.mismatch(expected.0, found.0));
                    }
                    Err(StoreError::WrongDigest { expected, found }) => {
                        // Once more may help, more often does not.
                        wrong = true;
                        progress.take_back(part.received);
                        part = Part { blob: store.write_blob()?, received: 0 };
                        Fault::passing(self.mismatch(expected.0, found.0))
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            if part.received >= before + ENOUGH {
                pauses = Self::pauses();
            }
            before = part.received;
            self.pause(fault, &mut pauses).await?;
        }
    }

    /// Receives what is left of a layer; returns what went wrong on the way, `None` if all came.
    async fn receive<'s>(
        &self,
        store: &'s Store,
        part: &mut Part<'s>,
        layer: &Descriptor,
        progress: &Progress<'_>,
    ) -> Result<Option<Fault>, OciError> {
        let question = self.ask_blob(layer.digest, part.received);
        let mut answer = match self.unless_cancelled(question).await? {
            Ok(answer) => answer,
            Err(fault) => return Ok(Some(fault)),
        };
        if part.received > 0 && !goes_on(&answer, part.received) {
            progress.take_back(part.received);
            *part = Part { blob: store.write_blob()?, received: 0 };
        }
        let (mut since, mut then) = (Instant::now(), part.received);
        loop {
            let piece = tokio::time::timeout(self.host.silence(), answer.chunk());
            let bytes = match self.unless_cancelled(piece).await? {
                // What comes after the last byte does not count.
                Err(_) | Ok(Err(_)) if part.received == layer.size => break,
                Err(_) => return Ok(Some(Fault::silent(self.host.name()))),
                Ok(Err(error)) => return Ok(Some(Fault::of(&error, self.host.name()))),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(bytes))) => bytes,
            };
            part.received += bytes.len() as u64;
            if part.received > layer.size {
                return Err(self.unusable(format!("layer {} is longer than announced", layer.digest)));
            }
            part.blob.write_all(&bytes).map_err(|source| OciError::Write { what: "a blob", source })?;
            progress.add(bytes.len() as u64);
            if since.elapsed() >= self.host.silence() {
                if part.received < then + LEAST && part.received < layer.size {
                    return Ok(Some(Fault::slow(self.host.name(), "it sends too slowly")));
                }
                (since, then) = (Instant::now(), part.received);
            }
        }
        let cut = part.received < layer.size;
        Ok(cut.then(|| Fault::unreached(self.host.name(), "the connection was cut".to_owned())))
    }
}

/// Whether an answer is what follows the first `received` bytes.
fn goes_on(answer: &Response, received: u64) -> bool {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let begin = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    answer.status() == StatusCode::PARTIAL_CONTENT && begin == Some(received)
}
