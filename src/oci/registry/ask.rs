//! The questions to a registry (OCI distribution-spec), each one request: manifests, blobs, uploads.
//!
//! What is asked again, and how often, is the caller's matter. Small answers are read here, whole and within
//! a time; blobs are handed out as they come.

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};

use crate::base::digest::Digest;

use super::super::{OciError, Reference, media};
use super::Session;
use super::fault::Fault;
use super::host::Host;

/// What manifests may be; anything else is of no use here.
const MANIFESTS: [&str; 4] = [media::MANIFEST, media::INDEX, media::DOCKER_MANIFEST, media::DOCKER_INDEX];
/// The largest manifest that is read; registries take no larger ones (distribution-spec, "Pushing Manifests").
const LARGEST_MANIFEST: usize = 4 << 20;

/// How an upload begins.
pub(super) enum Begun {
    /// There is nothing to upload: the blob was taken from another repository.
    Mounted,
    /// The bytes go to this address.
    At(Url),
}

impl Session<'_> {
    /// What the reference means, byte for byte, verified as far as anybody says what it should be.
    pub(super) async fn ask_manifest(&self) -> Result<Vec<u8>, Fault> {
        let answer = self.manifest_request(Method::GET).await?;
        let said = said_digest(answer.headers());
        let bytes = read(answer, LARGEST_MANIFEST, &self.host).await?;
        match self.reference.digest().copied().or(said) {
            Some(expected) => self.verified(bytes, expected),
            None => Ok(bytes),
        }
    }

    /// The digest of what the reference means; a registry that does not say it is asked for the whole.
    pub(super) async fn ask_digest(&self) -> Result<Digest, Fault> {
        let answer = self.manifest_request(Method::HEAD).await?;
        match said_digest(answer.headers()) {
            Some(digest) => Ok(digest),
            None => self.ask_manifest().await.map(Digest::of),
        }
    }

    async fn manifest_request(&self, method: Method) -> Result<Response, Fault> {
        let url = self.manifest_url().await?;
        let make = |client: &reqwest::Client| {
            client.request(method.clone(), url.clone()).header(ACCEPT, MANIFESTS.join(", "))
        };
        Fault::judge(self.host.send(&self.access, make).await?, &self.host, &self.reference.familiar()).await
    }

    /// A blob from its byte `from` on; the answer's status says whether it is the whole or the rest.
    pub(super) async fn ask_blob(&self, digest: Digest, from: u64) -> Result<Response, Fault> {
        let url = self.blob_url(digest).await?;
        let make = |client: &reqwest::Client| match from {
            0 => client.get(url.clone()),
            from => client.get(url.clone()).header(RANGE, format!("bytes={from}-")),
        };
        let answer = self.host.send(&self.access, make).await?;
        Fault::judge(answer, &self.host, &self.reference.familiar())
            .await
            .map_err(|fault| self.lost(fault, digest))
    }

    /// A small blob, verified.
    pub(super) async fn ask_small_blob(&self, digest: Digest, limit: usize) -> Result<Vec<u8>, Fault> {
        let answer = self.ask_blob(digest, 0).await?;
        self.verified(read(answer, limit, &self.host).await?, digest)
    }

    /// Whether the repository has a blob. Some registries deny what they do not have.
    pub(super) async fn ask_whether(&self, digest: Digest) -> Result<bool, Fault> {
        let url = self.blob_url(digest).await?;
        let answer = self.host.send(&self.access, |client| client.head(url.clone())).await?;
        match Fault::judge(answer, &self.host, &self.reference.familiar()).await {
            Ok(_) => Ok(true),
            Err(Fault::Final(OciError::NotFound { .. } | OciError::Denied { .. })) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Begins an upload, or takes the blob from another repository where the registry does that.
    pub(super) async fn begin(&self, mount: Option<(Digest, &Reference)>) -> Result<Begun, Fault> {
        let mut url = self.below("blobs/uploads/").await?;
        let mut access = self.access.clone();
        if let Some((digest, from)) = mount {
            access = access.and_pull(from.repository());
            url.query_pairs_mut()
                .append_pair("mount", &digest.to_string())
                .append_pair("from", from.repository());
        }
        let make = |client: &reqwest::Client| client.post(url.clone()).header(CONTENT_LENGTH, 0);
        let answer =
            Fault::judge(self.host.send(&access, make).await?, &self.host, &self.reference.familiar())
                .await?;
        if mount.is_some() && answer.status() == StatusCode::CREATED {
            return Ok(Begun::Mounted);
        }
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let url = location.and_then(|location| answer.url().join(location).ok());
        url.map(Begun::At)
            .ok_or_else(|| Fault::Final(self.unusable("it does not say where an upload goes".to_owned())))
    }

    /// Sends a blob to where its upload began.
    pub(super) async fn put_blob(
        &self,
        mut location: Url,
        digest: Digest,
        size: u64,
        body: Body,
    ) -> Result<(), Fault> {
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let request = self.host.client().put(location.clone()).header(CONTENT_LENGTH, size);
        let request = request.header(CONTENT_TYPE, "application/octet-stream").body(body);
        let answer = self.host.send_once(&self.access, &location, request).await?;
        let status = answer.status();
        match Fault::judge(answer, &self.host, &self.reference.familiar()).await {
            Ok(_) => Ok(()),
            // Its begin was forgotten, by a registry that restarted or has several machines.
            Err(Fault::Final(error)) if matches!(status.as_u16(), 401 | 404 | 416) => {
                Err(Fault::passing(error))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Puts a manifest where the reference points.
    pub(super) async fn ask_to_take(&self, media_type: &str, bytes: &[u8]) -> Result<(), Fault> {
        let url = self.manifest_url().await?;
        let make = |client: &reqwest::Client| {
            client.put(url.clone()).header(CONTENT_TYPE, media_type).body(bytes.to_vec())
        };
        let answer = self.host.send(&self.access, make).await?;
        Fault::judge(answer, &self.host, &self.reference.familiar()).await.map(drop)
    }

    async fn manifest_url(&self) -> Result<Url, Fault> {
        let reference = &self.reference;
        match reference.digest() {
            Some(digest) => self.below(&format!("manifests/{digest}")).await,
            None => self.below(&format!("manifests/{}", reference.tag().unwrap_or("latest"))).await,
        }
    }

    async fn blob_url(&self, digest: Digest) -> Result<Url, Fault> {
        self.below(&format!("blobs/{digest}")).await
    }

    /// An address of the repository.
    async fn below(&self, path: &str) -> Result<Url, Fault> {
        let path = format!("{}/{path}", self.reference.repository());
        let joined = self.host.base().await?.join(&path);
        joined.map_err(|error| Fault::Final(self.unusable(error.to_string())))
    }

    fn verified(&self, bytes: Vec<u8>, expected: Digest) -> Result<Vec<u8>, Fault> {
        let found = Digest::of(&bytes);
        if found == expected {
            return Ok(bytes);
        }
        Err(Fault::passing(self.mismatch(expected, found)))
    }

    /// The registry sent other bytes than were asked for.
    pub(super) fn mismatch(&self, expected: Digest, found: Digest) -> OciError {
        let what = format!("what the registry sent for `{}`", self.reference.familiar());
        OciError::Mismatch { what, expected, found }
    }

    fn lost(&self, fault: Fault, digest: Digest) -> Fault {
        match fault {
            Fault::Final(OciError::NotFound { reference }) => {
                Fault::Final(OciError::Lost { reference, digest })
            }
            other => other,
        }
    }
}

/// The digest that the registry says, if it is of a kind that is known here.
fn said_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

/// An answer as a whole, at most `limit` bytes, within a time.
pub(super) async fn read(mut answer: Response, limit: usize, host: &Host) -> Result<Vec<u8>, Fault> {
    let registry = host.name();
    let whole = async {
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| Fault::of(&error, registry))? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > limit {
                let problem = "a document is too large".to_owned();
                return Err(Fault::Final(OciError::Registry { reference: registry.to_owned(), problem }));
            }
        }
        Ok(bytes)
    };
    tokio::time::timeout(host.silence(), whole).await.unwrap_or_else(|_| Err(Fault::silent(registry)))
}
