//! Logging in at a registry: what it asks for, and tokens (Docker's token specification).
//!
//! A registry says with a refusal what it wants: name and password with every request, or a token that its
//! token server gives. For a name and password, or for nobody, the server is asked in the simple way; for an
//! identity token in the way of OAuth 2. A token is good for some repositories and actions and for a while;
//! each is fetched once, whoever needs it. Nothing here reaches an error or a log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_auth::parser::ChallengeParser;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::super::{Login, OciError};
use super::fault::Fault;
use super::host::Host;

/// How long a token lives of which nobody says it.
const USUAL_LIFE: u64 = 60;
/// A token that lives no longer than this is not used: it would end on the way.
const LAST_MOMENT: Duration = Duration::from_secs(10);
/// The largest answer of a token server.
const LARGEST: usize = 1 << 20;

/// What somebody wants to do: scopes of the token specification.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Access(Vec<String>);

impl Access {
    pub(super) fn pull(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull")])
    }

    pub(super) fn push(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull,push")])
    }

    /// And to read another repository.
    pub(super) fn and_pull(mut self, repository: &str) -> Self {
        self.0.extend(Self::pull(repository).0);
        self
    }
}

/// What a registry asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Challenge {
    /// Name and password.
    Basic,
    /// A token of the server at `realm`.
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// What these headers ask for; a token before a password.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let all = values.flat_map(|value| ChallengeParser::new(value).map_while(Result::ok));
        let known = all.filter_map(|challenge| {
            let value = |wanted: &str| {
                let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.to_unescaped())
            };
            match challenge.scheme.to_ascii_lowercase().as_str() {
                "bearer" => Some(Self::Bearer { realm: value("realm")?, service: value("service") }),
                "basic" => Some(Self::Basic),
                _ => None,
            }
        });
        known.max_by_key(|challenge| matches!(challenge, Self::Bearer { .. }))
    }
}

/// A token as a header, and until when it is used.
struct Token {
    header: HeaderValue,
    until: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// What is known about logging in at one registry.
#[derive(Default)]
pub(super) struct Keyring {
    challenge: Mutex<Option<Challenge>>,
    tokens: Mutex<HashMap<Access, Slot>>,
}

impl Keyring {
    /// Takes from a refusal what the registry asks for; whether it says so.
    pub(super) fn learn(&self, headers: &HeaderMap) -> bool {
        let challenge = Challenge::of(headers);
        let known = challenge.is_some();
        if known {
            *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = challenge;
        }
        known
    }

    /// The header that lets in, as far as is known that one is needed; another one than `refused`.
    pub(super) async fn key(
        &self,
        host: &Host,
        access: &Access,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Fault> {
        if let Login::Bearer(token) = host.login() {
            return Ok(bearer(token));
        }
        let challenge = self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (realm, service) = match (challenge, host.login()) {
            (None, _) => return Ok(None),
            (Some(Challenge::Basic), Login::Password { name, password }) => return Ok(basic(name, password)),
            (Some(Challenge::Basic), _) => return Ok(None),
            (Some(Challenge::Bearer { realm, service }), _) => (realm, service),
        };
        let slot = {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(tokens.entry(access.clone()).or_default())
        };
        let mut slot = slot.lock().await;
        let good = |token: &&Token| Some(&token.header) != refused && token.until > Instant::now();
        if let Some(token) = slot.as_ref().filter(good) {
            return Ok(Some(token.header.clone()));
        }
        let token = fetch(host, access, &realm, service.as_deref()).await?;
        let header = token.header.clone();
        *slot = Some(token);
        Ok(Some(header))
    }
}

/// A secret as the value of a header, which no debug output shows; `None` if it has letters that cannot be.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn basic(name: &str, password: &str) -> Option<HeaderValue> {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(format!("{name}:{password}"));
    secret(&format!("Basic {text}"))
}

/// What a token server says.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Answer {
    fn token(self) -> Option<Token> {
        let text = self.token.or(self.access_token).filter(|token| !token.is_empty())?;
        // The specification's least is a minute; what claims less is used for that long and then refused.
        let life = Duration::from_secs(self.expires_in.unwrap_or(USUAL_LIFE).max(USUAL_LIFE));
        Some(Token { header: bearer(&text)?, until: Instant::now() + life.saturating_sub(LAST_MOMENT) })
    }
}

/// Asks the token server.
async fn fetch(host: &Host, access: &Access, realm: &str, service: Option<&str>) -> Result<Token, Fault> {
    let failed = |problem: &str| {
        let (registry, problem) = (host.name().to_owned(), problem.to_owned());
        OciError::Credentials { registry, problem }
    };
    let url =
        Url::parse(realm).map_err(|_| Fault::Final(failed("it names no token server that can be asked")))?;
    if host.base().await?.scheme() == "https" && url.scheme() != "https" {
        return Err(Fault::Final(failed("its token server would get the login in plain text")));
    }
    let request = request(host, access, url, service);
    let sent = tokio::time::timeout(host.silence(), request.send()).await;
    let answer =
        sent.map_err(|_| Fault::silent(host.name()))?.map_err(|error| Fault::of(&error, host.name()))?;
    let refused = matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST);
    if refused && *host.login() != Login::Nobody {
        let again = format!(
            "it refuses what config.json says\nhelp: `docker login {}` gives a new login",
            host.name()
        );
        return Err(Fault::Final(failed(&again)));
    }
    let answer = Fault::judge(answer, host, host.name()).await?;
    let bytes = super::ask::read(answer, LARGEST, host).await?;
    let answer: Option<Answer> = serde_json::from_slice(&bytes).ok();
    answer.and_then(Answer::token).ok_or_else(|| Fault::Final(failed("its token server gives no token")))
}

fn request(host: &Host, access: &Access, mut url: Url, service: Option<&str>) -> reqwest::RequestBuilder {
    let service = service.map(|service| ("service", service.to_owned()));
    if let Login::Identity(token) = host.login() {
        let mut form = url.clone();
        let scope = access.0.join(" ");
        let pairs = [("grant_type", "refresh_token".to_owned()), ("client_id", "shipway".to_owned())];
        let more = [("scope", scope), ("refresh_token", token.clone())];
        form.query_pairs_mut().clear().extend_pairs(pairs.into_iter().chain(service).chain(more));
        let form = form.query().unwrap_or_default().to_owned();
        return host.client().post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
    }
    let scopes = access.0.iter().map(|scope| ("scope", scope.clone()));
    url.query_pairs_mut().extend_pairs(service.into_iter().chain(scopes));
    match host.login() {
        Login::Password { name, password } => host.client().get(url).basic_auth(name, Some(password)),
        _ => host.client().get(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        Challenge::of(&headers)
    }

    #[test]
    fn refusals_say_what_is_asked_for() {
        let bearer = |realm: &str, service: Option<&str>| {
            let (realm, service) = (realm.to_owned(), service.map(str::to_owned));
            Some(Challenge::Bearer { realm, service })
        };
        assert_eq!(
            challenge(&[r#"Bearer realm="https://t/x",service="s",scope="repository:a:pull""#]),
            bearer("https://t/x", Some("s"))
        );
        assert_eq!(challenge(&["Basic realm=r", r#"bearer realm="https://t""#]), bearer("https://t", None));
        assert_eq!(challenge(&[r#"Basic realm="r", charset="UTF-8""#]), Some(Challenge::Basic));
        assert_eq!(challenge(&["Negotiate"]), None);
        assert_eq!(challenge(&[]), None);
    }

    #[test]
    fn tokens_have_either_name_and_a_least_life() {
        let token = |text: &str| serde_json::from_str::<Answer>(text).unwrap().token();
        let left = |text: &str| (token(text).unwrap().until - Instant::now()).as_secs() + 1;
        assert_eq!(token(r#"{"access_token":"a"}"#).unwrap().header, "Bearer a");
        assert_eq!(left(r#"{"token":"t"}"#), 50);
        assert_eq!(left(r#"{"token":"t","expires_in":5}"#), 50);
        assert_eq!(left(r#"{"token":"t","expires_in":300}"#), 290);
        assert!(token(r#"{"token":""}"#).is_none() && token("{}").is_none());
        assert!(!format!("{:?}", token(r#"{"token":"hush"}"#).unwrap().header).contains("hush"));
    }

    #[test]
    fn access_names_repositories_and_actions() {
        assert_eq!(Access::push("a/b").and_pull("c").0, ["repository:a/b:pull,push", "repository:c:pull"]);
    }
}
