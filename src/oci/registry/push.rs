//! Images to a registry: what it does not have, the manifest last.
//!
//! One question comes first: a tag that means this manifest already needs nothing. Else every blob is
//! asked for, several at a time; one that another repository of the registry is known to have is mounted
//! from there, and the rest is uploaded, each in one request, again from its start where that may help.
//! Only when all blobs are there does the manifest go, under each tag: nobody ever sees half an image.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Body, Url};

use crate::base::cancel::Cancel;
use crate::base::digest::{BlobId, Digest};
use crate::base::event::Events;
use crate::store::Store;

use super::super::{Descriptor, OciError, Reference};
use super::ask::Begun;
use super::fault::Fault;
use super::fetch::Progress;
use super::{Registry, Session};

/// How many blobs go at once (Docker's default is 5).
const AT_ONCE: usize = 5;
/// How much of a blob is read at a time.
const PIECE: usize = 1 << 18;
/// How often is looked at how far an upload has come.
const TICK: Duration = Duration::from_millis(100);
/// After so many ticks without a byte an upload is begun again.
const PATIENCE: u32 = 600;
/// Once all bytes are there, registries may take their time to answer.
const LAST_PATIENCE: u32 = 5 * PATIENCE;

/// An image on its way to a repository.
pub struct Push<'p> {
    /// Its names, all in one repository, each with a tag.
    pub names: &'p [Reference],
    /// Which bytes are its manifest, and the bytes.
    pub manifest: (&'p Descriptor, &'p [u8]),
    /// Which bytes are its config, and the bytes.
    pub config: (&'p Descriptor, &'p [u8]),
    /// Its layers.
    pub layers: &'p [PushLayer],
}

/// A layer to push; its blob is in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PushLayer {
    /// Which bytes.
    pub descriptor: Descriptor,
    /// A repository of the same registry that has them, as far as is known.
    pub known_in: Option<Reference>,
}

/// What a push came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Pushed {
    /// Blobs that were uploaded.
    pub uploaded: usize,
    /// Blobs that were taken from another repository of the registry.
    pub mounted: usize,
}

/// A blob to push.
pub(super) struct Piece<'p> {
    pub(super) descriptor: &'p Descriptor,
    /// The bytes; else they are in the store.
    pub(super) bytes: Option<&'p [u8]>,
    pub(super) known_in: Option<&'p Reference>,
    /// Whether nobody asks first if it is there.
    pub(super) is_new: bool,
}

/// How a blob came to be in the registry.
pub(super) enum Came {
    There,
    Mounted,
    Uploaded,
}

impl Registry {
    /// Pushes an image. Reports one transfer, `push NAME`, if anything has to be uploaded.
    pub fn push(
        &self,
        store: &Store,
        push: &Push<'_>,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<Pushed, OciError> {
        let mut pushed = Pushed::default();
        let Some(first) = push.names.first() else { return Ok(pushed) };
        let session = self.pushing(first, cancel)?;
        let sessions =
            push.names.iter().map(|name| self.pushing(name, cancel)).collect::<Result<Vec<_>, _>>()?;
        let mut missing = Vec::new();
        for (name, session) in push.names.iter().zip(&sessions) {
            if !self.runtime.block_on(session.means(push.manifest.0))? {
                missing.push((name, session));
            }
        }
        if missing.is_empty() {
            return Ok(pushed);
        }
        for came in self.blobs(store, &session, push, events)? {
            match came {
                Came::There => {}
                Came::Mounted => pushed.mounted += 1,
                Came::Uploaded => pushed.uploaded += 1,
            }
        }
        for (_, session) in missing {
            self.runtime.block_on(session.put_manifest(push.manifest))?;
        }
        Ok(pushed)
    }

    fn blobs(
        &self,
        store: &Store,
        session: &Session<'_>,
        push: &Push<'_>,
        events: &dyn Events,
    ) -> Result<Vec<Came>, OciError> {
        let pieces = pieces(push);
        let total = pieces.iter().map(|piece| piece.descriptor.size).sum();
        let shown = session.reference.familiar();
        let progress = Progress::new(events, format!("push {shown}"), total);
        progress.tell(0);
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            let mut all = Vec::new();
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                if failed.load(Ordering::Relaxed) {
                    break;
                }
                let came = self.runtime.block_on(session.push_blob(store, piece, &progress));
                if matches!(came, Ok(Came::There | Came::Mounted)) {
                    progress.add(piece.descriptor.size);
                }
                if came.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                all.push(came);
            }
            all
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..pieces.len().min(AT_ONCE)).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        progress.tell(total);
        results.into_iter().collect()
    }
}

/// The blobs of an image, each once, the largest first.
fn pieces<'p>(push: &'p Push<'_>) -> Vec<Piece<'p>> {
    let (descriptor, bytes) = (push.config.0, Some(push.config.1));
    let config = Piece { descriptor, bytes, known_in: None, is_new: false };
    let mut pieces = vec![config];
    for PushLayer { descriptor, known_in } in push.layers {
        if pieces.iter().all(|piece| piece.descriptor.digest != descriptor.digest) {
            pieces.push(Piece { descriptor, bytes: None, known_in: known_in.as_ref(), is_new: false });
        }
    }
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.descriptor.size));
    pieces
}

impl Session<'_> {
    /// Whether the tag means this manifest already.
    async fn means(&self, manifest: &Descriptor) -> Result<bool, OciError> {
        match self.digest().await {
            Ok(digest) => Ok(digest == manifest.digest),
            // A repository that does not exist yet, or that may only be written to.
            Err(OciError::NotFound { .. } | OciError::Denied { .. } | OciError::Registry { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes sure that the repository has a blob; only what is uploaded adds to the progress.
    pub(super) async fn push_blob(
        &self,
        store: &Store,
        piece: &Piece<'_>,
        progress: &Progress<'_>,
    ) -> Result<Came, OciError> {
        let digest = &piece.descriptor.digest;
        let mut begun = None;
        // Taking it from next door costs no more than asking whether it is here.
        if let Some(source) = piece.known_in {
            match self.mount(source, *digest).await? {
                Some(Begun::Mounted) => return Ok(Came::Mounted),
                Some(Begun::At(location)) => begun = Some(location),
                None => {}
            }
        }
        if !piece.is_new && self.retried(|| self.ask_whether(*digest)).await? {
            return Ok(Came::There);
        }
        self.upload(store, piece, begun, progress).await?;
        Ok(Came::Uploaded)
    }

    /// Takes a blob from another repository. A registry need not do that: it may not have the blob any more, or
    /// not allow us to read it there. Then it may have begun an upload instead.
    async fn mount(&self, source: &Reference, digest: Digest) -> Result<Option<Begun>, OciError> {
        let answer = self.unless_cancelled(self.begin(Some((digest, source)))).await?;
        Ok(answer.ok())
    }

    /// Uploads a blob, starting again where that may help; the first time to where it was begun, if it was.
    async fn upload(
        &self,
        store: &Store,
        piece: &Piece<'_>,
        mut begun: Option<Url>,
        progress: &Progress<'_>,
    ) -> Result<(), OciError> {
        let mut pauses = Self::pauses();
        loop {
            let content: Box<dyn Read + Send> = match piece.bytes {
                Some(bytes) => Box::new(std::io::Cursor::new(bytes.to_vec())),
                None => {
                    let digest = piece.descriptor.digest;
                    Box::new(store.blob(BlobId(digest)).ok_or(OciError::MissingBlob(digest))?)
                }
            };
            let location = match begun.take() {
                Some(location) => Ok(location),
                None => self.unless_cancelled(self.begin(None)).await?.and_then(|begun| match begun {
                    Begun::At(location) => Ok(location),
                    Begun::Mounted => {
                        Err(Fault::Final(self.unusable("it mounts what nobody named".to_owned())))
                    }
                }),
            };
            let sent = Arc::new(AtomicU64::new(0));
            let result = match location {
                Ok(location) => self.send(content, location, piece.descriptor, &sent, progress).await?,
                Err(fault) => Err(fault),
            };
            match result {
                Ok(()) => return Ok(()),
                Err(fault) => {
                    progress.take_back(sent.load(Ordering::Relaxed));
                    self.pause(fault, &mut pauses).await?;
                }
            }
        }
    }

    /// Sends a blob once. The outer error is of this side, the inner one of the other.
    async fn send(
        &self,
        content: Box<dyn Read + Send>,
        location: Url,
        descriptor: &Descriptor,
        sent: &Arc<AtomicU64>,
        progress: &Progress<'_>,
    ) -> Result<Result<(), Fault>, OciError> {
        let stream =
            futures_util::stream::unfold((content, Arc::clone(sent)), |(mut content, sent)| async move {
                let mut piece = vec![0; PIECE];
                let read = read_some(&mut *content, &mut piece).transpose()?;
                if let Ok(count) = read {
                    piece.truncate(count);
                    sent.fetch_add(count as u64, Ordering::Relaxed);
                }
                Some((read.map(|_| piece), (content, sent)))
            });
        let upload = self.put_blob(location, descriptor.digest, descriptor.size, Body::wrap_stream(stream));
        let mut upload = std::pin::pin!(self.unless_cancelled(upload));
        let (mut told, mut idle) = (0, 0);
        loop {
            let answer = tokio::time::timeout(TICK, &mut upload).await;
            let now = sent.load(Ordering::Relaxed);
            progress.add(now - told);
            if let Ok(answer) = answer {
                return answer;
            }
            idle = if now > told { 0 } else { idle + 1 };
            told = now;
            if idle > if now < descriptor.size { PATIENCE } else { LAST_PATIENCE } {
                return Ok(Err(Fault::slow(self.host.name(), "the upload does not move")));
            }
        }
    }

    pub(super) async fn put_manifest(
        &self,
        (descriptor, bytes): (&Descriptor, &[u8]),
    ) -> Result<(), OciError> {
        self.retried(|| self.ask_to_take(&descriptor.media_type, bytes)).await
    }
}

/// Reads until there is something; `None` at the end.
fn read_some(content: &mut dyn Read, piece: &mut [u8]) -> std::io::Result<Option<usize>> {
    loop {
        match content.read(piece) {
            Ok(0) => return Ok(None),
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
