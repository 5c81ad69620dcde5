//! Registries: what a name means there, and its blobs.
//!
//! [`Registry`] is a blocking face with a runtime of its own. [`Registry::resolve`] asks what a reference
//! means on a platform, [`Registry::fetch`] brings the bytes into the store, every one of them verified by
//! its digest; [`Registry::push`] is the way back. `ask` has the single questions, `fault` what answers mean:
//! those that may be better a moment later are asked for again, with growing pauses; a registry that cannot
//! be reached is an error at once. `host` is one registry, with its protocol and certificates; `login` is what
//! it asks for before it answers.

mod ask;
mod certificates;
mod fault;
mod fetch;
mod host;
mod login;
mod push;
mod repository;

pub use push::{Push, PushLayer, Pushed};
pub use repository::{Sent, Upload};

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::base::cancel::Cancel;
use crate::base::digest::Digest;

use super::{Credentials, Descriptor, ImageConfig, Index, Manifest, OciError, Platform, Reference, media};
use host::Host;
use login::Access;

/// The largest config that is read.
const LARGEST_CONFIG: usize = 8 << 20;

/// How registries are spoken to. Those on loopback addresses that have no certificates speak plain HTTP.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// How to log in.
    pub credentials: Credentials,
    /// Folders that have one folder a registry, `HOST[:PORT]`, with certificates as Docker has them. The first
    /// that has one for the registry counts.
    pub certificates: Vec<PathBuf>,
    /// Registries (`HOST[:PORT]`) that need not show who they are, or speak plain HTTP.
    pub insecure: Vec<String>,
    /// How long an answer may be silent, or a small one take.
    pub silence: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            credentials: Credentials::none(),
            certificates: Vec::new(),
            insecure: Vec::new(),
            silence: Duration::from_secs(60),
        }
    }
}

/// All registries. Cheap until it is asked something; several threads may ask at once.
pub struct Registry {
    options: RegistryOptions,
    runtime: Runtime,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

/// A document as it came: its bytes have the digest of its descriptor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// What it is.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a reference means on a platform.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The reference with the digest of what its tag means now: of the index if there is one. Resolving it
    /// again gives the same.
    pub reference: Reference,
    /// The platform's manifest.
    pub manifest: Document,
    /// The image config.
    pub config: Document,
    /// The manifest, parsed.
    pub parsed: Manifest,
    /// The config, parsed.
    pub image: ImageConfig,
}

/// A reference on its way to its registry.
struct Session<'r> {
    host: Arc<Host>,
    /// What its questions need.
    access: Access,
    reference: Reference,
    cancel: &'r Cancel,
}

/// What tells an index from a manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

impl Registry {
    /// Prepares to ask registries; asks nothing yet.
    pub fn new(options: RegistryOptions) -> Result<Self, OciError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().map_err(OciError::Network)?;
        Ok(Self { options, runtime, hosts: Mutex::default() })
    }

    /// What `reference` (`latest` if it has neither tag nor digest) means on `platform`.
    pub fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        cancel: &Cancel,
    ) -> Result<Resolved, OciError> {
        let session = self.session(reference, cancel)?;
        self.runtime.block_on(session.resolve(platform))
    }

    /// The digest that the tag of `reference` means now; one small question.
    pub fn digest(&self, reference: &Reference, cancel: &Cancel) -> Result<Digest, OciError> {
        let session = self.session(reference, cancel)?;
        self.runtime.block_on(session.digest())
    }

    fn session<'r>(&'r self, reference: &Reference, cancel: &'r Cancel) -> Result<Session<'r>, OciError> {
        let access = Access::pull(reference.repository());
        Ok(Session {
            host: self.host(reference)?,
            access,
            reference: reference.clone().with_default_tag(),
            cancel,
        })
    }

    /// A session for uploads.
    fn pushing<'r>(&'r self, reference: &Reference, cancel: &'r Cancel) -> Result<Session<'r>, OciError> {
        let access = Access::push(reference.repository());
        Ok(Session { access, ..self.session(reference, cancel)? })
    }

    fn host(&self, reference: &Reference) -> Result<Arc<Host>, OciError> {
        let name = reference.registry();
        // A helper that asks the user does so once, whoever waits for it.
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(name) {
            return Ok(Arc::clone(host));
        }
        let _inside = self.runtime.enter();
        let host = Arc::new(Host::new(name, &self.options)?);
        hosts.insert(name.to_owned(), Arc::clone(&host));
        Ok(host)
    }
}

impl Session<'_> {
    async fn digest(&self) -> Result<Digest, OciError> {
        self.retried(|| self.ask_digest()).await
    }

    async fn resolve(&self, platform: &Platform) -> Result<Resolved, OciError> {
        let (bytes, shape) = self.manifest().await?;
        let reference = self.reference.with_digest(Digest::of(&bytes));
        let (bytes, shape) = if shape.manifests.is_some() {
            let entry = self.choose(&bytes, platform)?;
            let inner = Session {
                host: Arc::clone(&self.host),
                access: self.access.clone(),
                reference: self.reference.with_digest(entry.digest),
                cancel: self.cancel,
            };
            inner.manifest().await?
        } else {
            (bytes, shape)
        };
        if shape.config.is_none() {
            return Err(self.unusable("it is not an image".to_owned()));
        }
        let parsed: Manifest = self.parse(&bytes)?;
        let media_type = if shape.media_type.is_empty() { media::MANIFEST } else { &shape.media_type };
        let manifest = Document { descriptor: Descriptor::of(media_type, &bytes), bytes };
        let bytes = self.small_blob(&parsed.config).await?;
        let image = self.parse(&bytes)?;
        let config = Document { descriptor: parsed.config.clone(), bytes };
        Ok(Resolved { reference, manifest, config, parsed, image })
    }

    /// The manifest or index that the reference means, verified.
    async fn manifest(&self) -> Result<(Vec<u8>, Shape), OciError> {
        let bytes = self.retried(|| self.ask_manifest()).await?;
        let shape: Shape = self.parse(&bytes)?;
        match shape.schema_version {
            2 => Ok((bytes, shape)),
            version => {
                Err(self.unusable(format!("not supported yet: manifests of schema version {version}")))
            }
        }
    }

    /// The entry of an index that serves the platform best. Attestations name an unknown platform.
    fn choose(&self, bytes: &[u8], platform: &Platform) -> Result<Descriptor, OciError> {
        let index: Index = self.parse(bytes)?;
        let known =
            |entry: &Descriptor| entry.platform.as_ref().is_some_and(|platform| platform.os != "unknown");
        let entries: Vec<_> = index.manifests.into_iter().filter(known).collect();
        let offered: Vec<_> = entries.iter().filter_map(|entry| entry.platform.clone()).collect();
        match platform.best(&offered) {
            Some(best) => Ok(entries[best].clone()),
            None => Err(OciError::NoPlatform {
                reference: self.reference.familiar(),
                wanted: platform.to_string(),
                offered: offered.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    async fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, OciError> {
        if descriptor.size > LARGEST_CONFIG as u64 {
            return Err(self.unusable("its config is larger than 8 MiB".to_owned()));
        }
        self.retried(|| self.ask_small_blob(descriptor.digest, LARGEST_CONFIG)).await
    }

    fn parse<'d, T: Deserialize<'d>>(&self, bytes: &'d [u8]) -> Result<T, OciError> {
        serde_json::from_slice(bytes).map_err(|error| self.unusable(error.to_string()))
    }

    fn unusable(&self, problem: String) -> OciError {
        OciError::Registry { reference: self.reference.familiar(), problem }
    }
}

#[cfg(test)]
mod tests;
