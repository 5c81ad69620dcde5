//! Registries: what a name means there, and its blobs.
//!
//! [`Registry`] is a blocking face over `oci-client` with a runtime of its own. [`Registry::resolve`] asks
//! what a reference means on a platform, [`Registry::fetch`] brings the bytes into the store, every one of
//! them verified by its digest. Answers that may be better a moment later are asked for again, with
//! growing pauses; a registry that cannot be reached is an error at once. Loopback registries and those
//! that the options name are spoken to in plain HTTP and without a proxy. [`Registry::push`] is the way back.

mod fault;
mod fetch;
mod push;
mod repository;

pub use push::{Push, PushLayer, Pushed};
pub use repository::{Sent, Upload};

use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference as ClientReference, RegistryOperation};
use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::base::cancel::Cancel;
use crate::base::digest::Digest;

use super::{Credentials, Descriptor, ImageConfig, Index, Manifest, OciError, Platform, Reference, media};

/// What manifests may be; anything else is of no use here.
const MANIFESTS: &[&str] = &[media::MANIFEST, media::INDEX, media::DOCKER_MANIFEST, media::DOCKER_INDEX];
/// The largest config that is read.
const LARGEST_CONFIG: u64 = 8 << 20;
/// How long an answer may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for uploads: the client counts from the request's begin, when the upload begins too.
const PUSH_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// How registries are spoken to.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// How to log in.
    pub credentials: Credentials,
    /// Registries (`host:port`) that speak plain HTTP; those on loopback addresses need not be named.
    pub plain_http: Vec<String>,
}

/// All registries. Cheap until it is asked something; several threads may ask at once.
pub struct Registry {
    options: RegistryOptions,
    runtime: Runtime,
    /// For questions and downloads.
    clients: Clients,
    /// For uploads.
    pushing: Clients,
    /// The repositories of documents at which was logged in, and whether for uploads.
    logins: Mutex<HashSet<(String, bool)>>,
}

/// The clients of one kind, made when they are needed.
#[derive(Default)]
struct Clients {
    https: OnceLock<Client>,
    http: OnceLock<Client>,
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
    client: &'r Client,
    login: RegistryAuth,
    reference: Reference,
    cancel: &'r Cancel,
    /// How many answers in a row were that the login is no good.
    denied: AtomicUsize,
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
        Ok(Self {
            options,
            runtime,
            clients: Clients::default(),
            pushing: Clients::default(),
            logins: Mutex::default(),
        })
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
        self.session_with(reference, &self.clients, cancel)
    }

    /// A session for uploads.
    fn pushing<'r>(&'r self, reference: &Reference, cancel: &'r Cancel) -> Result<Session<'r>, OciError> {
        self.session_with(reference, &self.pushing, cancel)
    }

    fn session_with<'r>(
        &'r self,
        reference: &Reference,
        clients: &'r Clients,
        cancel: &'r Cancel,
    ) -> Result<Session<'r>, OciError> {
        let reference = reference.clone().with_default_tag();
        let client = self.client(reference.registry(), clients)?;
        let login = self.options.credentials.login(reference.registry())?;
        Ok(Session { client, login, reference, cancel, denied: AtomicUsize::new(0) })
    }

    fn client<'r>(&self, registry: &str, clients: &'r Clients) -> Result<&'r Client, OciError> {
        let plain = is_loopback(registry) || self.options.plain_http.iter().any(|known| known == registry);
        let (cell, protocol) = if plain {
            (&clients.http, ClientProtocol::Http)
        } else {
            (&clients.https, ClientProtocol::Https)
        };
        match cell.get() {
            Some(client) => Ok(client),
            None => {
                let pushes = std::ptr::eq(clients, &self.pushing);
                let client = self.make_client(protocol, if pushes { PUSH_TIMEOUT } else { READ_TIMEOUT })?;
                Ok(cell.get_or_init(|| client))
            }
        }
    }

    fn make_client(&self, protocol: ClientProtocol, read_timeout: Duration) -> Result<Client, OciError> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        // The HTTP library panics where this fails.
        rustls_platform_verifier::Verifier::new(std::sync::Arc::clone(&provider))
            .map_err(|error| OciError::NoCertificates(error.to_string()))?;
        // Another part of the program may have chosen the same one before.
        let _ = rustls::crypto::CryptoProvider::install_default((*provider).clone());
        let mut config = ClientConfig {
            protocol,
            user_agent: concat!("shipway/", env!("CARGO_PKG_VERSION")),
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: Some(read_timeout),
            use_monolithic_push: true,
            ..ClientConfig::default()
        };
        if config.protocol == ClientProtocol::Http {
            // A registry nearby: the proxy that the environment names may not reach it. One that no host
            // is asked through takes the place of that one.
            config.http_proxy = Some("http://127.0.0.1".to_owned());
            config.no_proxy = Some("*,0.0.0.0/0,::/0".to_owned());
        }
        let _inside = self.runtime.enter();
        Client::try_from(config).map_err(|error| OciError::NoCertificates(fault::root_cause(&error)))
    }
}

impl Session<'_> {
    fn client_reference(&self) -> ClientReference {
        client_reference(&self.reference)
    }

    /// Logs in where that is asked for. Without it a failed login would look like a denied image.
    async fn log_in(&self, operation: RegistryOperation) -> Result<(), OciError> {
        let reference = self.client_reference();
        let token = self.retried(|| self.client.auth(&reference, &self.login, operation)).await?;
        if token.is_none() && matches!(self.login, RegistryAuth::Anonymous) {
            // A registry that wants no login would be asked again whether it does before every request. What
            // stands in for a token there is read by nobody.
            let nobody = RegistryAuth::Bearer("anonymous".to_owned());
            for operation in [RegistryOperation::Pull, RegistryOperation::Push] {
                self.retried(|| self.client.auth(&reference, &nobody, operation)).await?;
            }
        }
        Ok(())
    }

    async fn digest(&self) -> Result<Digest, OciError> {
        self.log_in(RegistryOperation::Pull).await?;
        let reference = self.client_reference();
        let text = self.retried(|| self.client.fetch_manifest_digest(&reference, &self.login)).await?;
        text.parse().map_err(|_| self.unusable(format!("`{text}` is not a digest")))
    }

    async fn resolve(&self, platform: &Platform) -> Result<Resolved, OciError> {
        self.log_in(RegistryOperation::Pull).await?;
        let (bytes, shape) = self.manifest().await?;
        let reference = self.reference.with_digest(Digest::of(&bytes));
        let (bytes, shape) = if shape.manifests.is_some() {
            let entry = self.choose(&bytes, platform)?;
            let inner = Session {
                reference: self.reference.with_digest(entry.digest),
                login: self.login.clone(),
                denied: AtomicUsize::new(0),
                ..*self
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
        let reference = self.client_reference();
        let answer =
            self.retried(|| self.client.pull_manifest_raw(&reference, &self.login, MANIFESTS)).await?;
        let bytes = answer.0.to_vec();
        if let Some(&expected) = self.reference.digest() {
            self.verify(&bytes, expected)?;
        }
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
        if descriptor.size > LARGEST_CONFIG {
            return Err(self.unusable("its config is larger than 8 MiB".to_owned()));
        }
        let (reference, digest) = (self.client_reference(), descriptor.digest.to_string());
        let bytes =
            self.retried(|| fetch::read_blob(self.client, &reference, &digest, LARGEST_CONFIG)).await?;
        self.verify(&bytes, descriptor.digest)?;
        Ok(bytes)
    }

    fn verify(&self, bytes: &[u8], expected: Digest) -> Result<(), OciError> {
        let found = Digest::of(bytes);
        if found == expected {
            return Ok(());
        }
        Err(OciError::Mismatch {
            what: format!("what the registry sent for `{}`", self.reference.familiar()),
            expected,
            found,
        })
    }

    fn parse<'d, T: Deserialize<'d>>(&self, bytes: &'d [u8]) -> Result<T, OciError> {
        serde_json::from_slice(bytes).map_err(|error| self.unusable(error.to_string()))
    }

    fn unusable(&self, problem: String) -> OciError {
        OciError::Registry { reference: self.reference.familiar(), problem }
    }
}

/// A reference in the client's own type.
fn client_reference(reference: &Reference) -> ClientReference {
    let (registry, repository) = (reference.registry().to_owned(), reference.repository().to_owned());
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => ClientReference::with_digest(registry, repository, digest.to_string()),
        (None, tag) => ClientReference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned()),
    }
}

/// Whether a registry's name is this machine: `localhost`, `127.0.0.1:5000`, `[::1]:5000`.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
