//! One registry: in which protocol it is spoken to, with which certificates, and requests to it.
//!
//! A request is made by its caller, logged in here and sent; one that is refused for want of a login is sent
//! again with what the registry asks for. What an answer means is judged in `fault`. Redirects of questions are
//! followed here, step by step: no login ever goes to another host than the registry's own, nobody else's
//! refusal says where a login goes, and what is sent to a token server goes nowhere else.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::OnceCell;

use super::super::{Login, OciError};
use super::RegistryOptions;
use super::certificates::Certificates;
use super::fault::{Fault, root_cause};
use super::login::{Access, Keyring};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a login is renewed for a question: others may have used up a new token meanwhile.
const LOGINS: usize = 3;

/// How many redirects are followed.
const REDIRECTS: usize = 10;

/// How a registry is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speech {
    /// Plain HTTP.
    Plain,
    /// HTTPS with somebody who shows who he is.
    Verified,
    /// HTTPS with whoever answers; plain HTTP where nobody does.
    Insecure,
}

/// How `registry` is spoken to; those that are `insecure` are named as in references.
fn speech(registry: &str, insecure: &[String], has_certificates: bool) -> Speech {
    if insecure.iter().any(|known| known == registry) {
        Speech::Insecure
    } else if is_loopback(registry) && !has_certificates {
        Speech::Plain
    } else {
        Speech::Verified
    }
}

/// A registry.
pub(super) struct Host {
    name: String,
    login: Login,
    speech: Speech,
    silence: Duration,
    client: Client,
    /// `https://host:port/`, once it is known.
    base: OnceCell<Url>,
    keyring: Keyring,
}

impl Host {
    /// Prepares to speak to a registry; asks nothing yet, but for its login.
    pub(super) fn new(name: &str, options: &RegistryOptions) -> Result<Self, OciError> {
        let certificates = Certificates::find(&options.certificates, name)?;
        let speech = speech(name, &options.insecure, certificates.is_some());
        Ok(Self {
            name: name.to_owned(),
            login: options.credentials.login(name)?,
            speech,
            silence: options.silence,
            client: client(name, speech, certificates)?,
            base: OnceCell::new(),
            keyring: Keyring::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn login(&self) -> &Login {
        &self.login
    }

    /// How long an answer may be silent, or a small one take.
    pub(super) const fn silence(&self) -> Duration {
        self.silence
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// The address below which everything lies.
    pub(super) async fn base(&self) -> Result<&Url, Fault> {
        self.base
            .get_or_try_init(|| async {
                let secure = self.address("https")?;
                let plain = match self.speech {
                    Speech::Plain => true,
                    Speech::Verified => false,
                    Speech::Insecure => {
                        let ping = self.client.get(secure.clone()).timeout(CONNECT).send().await;
                        ping.is_err_and(|error| error.is_connect() || error.is_timeout())
                    }
                };
                if plain { self.address("http") } else { Ok(secure) }
            })
            .await
    }

    fn address(&self, scheme: &str) -> Result<Url, Fault> {
        let host = if self.name == "docker.io" { "registry-1.docker.io" } else { &self.name };
        Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|error| {
            let (registry, problem) = (self.name.clone(), error.to_string());
            Fault::Final(OciError::Unreachable { registry, problem })
        })
    }

    /// Sends what `make` makes, logged in for `access`; it is made again where that is asked for.
    pub(super) async fn send(
        &self,
        access: &Access,
        make: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Response, Fault> {
        let base = self.base().await?.origin();
        let mut key = self.keyring.key(self, access, None).await?;
        let mut answer = self.exchange(make(&self.client), key.as_ref()).await?;
        for _ in 0..LOGINS {
            let refused = answer.status() == StatusCode::UNAUTHORIZED && answer.url().origin() == base;
            if !refused || !self.keyring.learn(answer.headers()) {
                break;
            }
            let other = self.keyring.key(self, access, key.as_ref()).await?;
            if other == key {
                break;
            }
            key = other;
            answer = self.exchange(make(&self.client), key.as_ref()).await?;
        }
        Ok(answer)
    }

    /// Sends a request to an address that the registry named, logged in if it is the registry's own. Its body
    /// goes only once, so a login that is refused is not renewed; the next question does that. Takes any time.
    pub(super) async fn send_once(
        &self,
        access: &Access,
        target: &Url,
        request: RequestBuilder,
    ) -> Result<Response, Fault> {
        let own = self.base().await?.origin() == target.origin();
        let key = if own { self.keyring.key(self, access, None).await? } else { None };
        let answer = logged_in(request, key.as_ref()).send().await;
        answer.map_err(|error| Fault::of(&error, &self.name))
    }

    async fn exchange(&self, request: RequestBuilder, key: Option<&HeaderValue>) -> Result<Response, Fault> {
        let sent = tokio::time::timeout(self.silence, self.follow(logged_in(request, key)));
        sent.await.unwrap_or_else(|_| Err(Fault::silent(&self.name)))
    }

    /// Sends a request, and a question on to where it is redirected: without the login, once that is not the
    /// registry itself.
    async fn follow(&self, request: RequestBuilder) -> Result<Response, Fault> {
        let failed = |error: &reqwest::Error| Fault::of(error, &self.name);
        let mut request = request.build().map_err(|error| failed(&error))?;
        for _ in 0..REDIRECTS {
            let next =
                request.try_clone().filter(|next| matches!(*next.method(), Method::GET | Method::HEAD));
            let answer = self.client.execute(request).await.map_err(|error| failed(&error))?;
            let (Some(mut next), Some(target)) = (next, target(&answer)) else { return Ok(answer) };
            if target.origin() != self.base().await?.origin() {
                next.headers_mut().remove(AUTHORIZATION);
            }
            *next.url_mut() = target;
            request = next;
        }
        Err(Fault::unreached(&self.name, "it redirects again and again".to_owned()))
    }
}

/// Where an answer redirects to.
fn target(answer: &Response) -> Option<Url> {
    let followed = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = answer.headers().get(LOCATION).filter(|_| followed)?;
    answer.url().join(location.to_str().ok()?).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

fn logged_in(request: RequestBuilder, key: Option<&HeaderValue>) -> RequestBuilder {
    match key {
        Some(key) => request.header(AUTHORIZATION, key.clone()),
        None => request,
    }
}

fn client(name: &str, speech: Speech, certificates: Option<Certificates>) -> Result<Client, OciError> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    // The HTTP library panics where this fails.
    rustls_platform_verifier::Verifier::new(std::sync::Arc::clone(&provider))
        .map_err(|error| OciError::NoCertificates(error.to_string()))?;
    // Another part of the program may have chosen the same one before.
    let _ = rustls::crypto::CryptoProvider::install_default((*provider).clone());
    let mut builder = Client::builder()
        .user_agent(concat!("shipway/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(speech == Speech::Insecure);
    if let Some(Certificates { roots, identity }) = certificates {
        builder = builder.tls_certs_merge(roots);
        builder = identity.into_iter().fold(builder, reqwest::ClientBuilder::identity);
    }
    // A registry nearby: the proxy that the environment names may not reach it.
    if is_loopback(name) || speech == Speech::Insecure {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| OciError::NoCertificates(root_cause(&error)))
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
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_the_rest() {
        for (registry, loopback) in [
            ("localhost:5000", true),
            ("127.1.2.3", true),
            ("[::1]:5000", true),
            ("docker.io", false),
            ("10.0.0.1:5000", false),
            ("localhost.example", false),
        ] {
            assert_eq!(is_loopback(registry), loopback, "{registry}");
        }
    }

    #[test]
    fn only_who_is_named_is_spoken_to_without_care() {
        let insecure = ["r.example:5000".to_owned()];
        for (registry, certificates, expected) in [
            ("r.example:5000", false, Speech::Insecure),
            ("r.example:5000", true, Speech::Insecure),
            ("r.example", false, Speech::Verified),
            ("localhost:5000", false, Speech::Plain),
            ("localhost:5000", true, Speech::Verified),
        ] {
            assert_eq!(speech(registry, &insecure, certificates), expected, "{registry}");
        }
    }
}
