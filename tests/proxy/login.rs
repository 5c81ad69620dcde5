//! Who may pass the proxy, and its token server (Docker's token specification): names and passwords,
//! identity tokens, tokens for repositories that live for a while.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::lock;

/// What the registry asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    /// The name and password that count.
    login: Option<(String, String)>,
    /// The identity token that counts.
    identity: Option<String>,
    /// Tokens that are good for everything without having been fetched.
    bearer: Option<String>,
    /// Whether requests need a token of the token server instead of name and password.
    tokens: bool,
    /// How long tokens live; how long they are said to.
    lifetime: Option<(Duration, u64)>,
    /// Whether nobody gets a token to pull with.
    anonymous: bool,
    /// Whether nobody gets a token to push with.
    read_only: bool,
}

impl Guard {
    /// Name and password with every request.
    pub(crate) fn basic(name: &str, password: &str) -> Self {
        Self { login: Some((name.to_owned(), password.to_owned())), ..Self::default() }
    }

    /// A token, given for name and password.
    pub(crate) fn tokens(name: &str, password: &str) -> Self {
        Self { tokens: true, ..Self::basic(name, password) }
    }

    /// A token, given for an identity token.
    pub(crate) fn identity(token: &str) -> Self {
        Self { tokens: true, identity: Some(token.to_owned()), ..Self::default() }
    }

    /// This token with every request (`registrytoken`).
    pub(crate) fn bearer(token: &str) -> Self {
        Self { tokens: true, bearer: Some(token.to_owned()), ..Self::default() }
    }

    /// Tokens are good for so long, and are said to be good for so many seconds.
    pub(crate) fn lasting(mut self, lifetime: Duration, said: u64) -> Self {
        self.lifetime = Some((lifetime, said));
        self
    }

    /// Whoever comes gets a token to pull with.
    pub(crate) fn and_anyone_pulls(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// Nobody gets a token to push with.
    pub(crate) fn and_nobody_pushes(mut self) -> Self {
        self.read_only = true;
        self
    }
}

struct Token {
    text: String,
    scopes: Vec<String>,
    made: Instant,
    dropped: bool,
}

#[derive(Default)]
pub(super) struct Keeper {
    guard: Mutex<Guard>,
    tokens: Mutex<Vec<Token>>,
}

impl Keeper {
    pub(super) fn ask_for(&self, guard: Guard) {
        *lock(&self.guard) = guard;
        self.drop_tokens();
    }

    pub(super) fn drop_tokens(&self) {
        lock(&self.tokens).iter_mut().for_each(|token| token.dropped = true);
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        let guard = lock(&self.guard);
        let mut secrets: Vec<String> = lock(&self.tokens).iter().map(|token| token.text.clone()).collect();
        secrets.extend(guard.login.iter().map(|(_, password)| password.clone()));
        secrets.extend(guard.login.iter().map(encoded));
        secrets.extend(guard.identity.clone());
        secrets.extend(guard.bearer.clone());
        secrets
    }

    /// The challenge for a request that may not pass.
    pub(super) fn refuses(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        realm: &str,
    ) -> Option<String> {
        let guard = lock(&self.guard).clone();
        if !guard.tokens {
            let login = guard.login.as_ref()?;
            let right = authorization == Some(&format!("Basic {}", encoded(login)));
            return (!right).then(|| "Basic realm=\"registry\"".to_owned());
        }
        let action = if ["GET", "HEAD"].contains(&method) { "pull" } else { "push" };
        let (scope, allowed) = match repository(path) {
            Some(name) => (format!("repository:{name}:{action}"), self.allows(&name, action, authorization)),
            None => (String::new(), self.allows("", "", authorization)),
        };
        (!allowed).then(|| format!("Bearer realm=\"{realm}\",service=\"the registry\",scope=\"{scope}\""))
    }

    /// Whether a mount names a repository that the token is not good for.
    pub(super) fn refuses_mount(&self, path: &str, authorization: Option<&str>) -> bool {
        let from = path.split(['?', '&']).find_map(|part| part.strip_prefix("from="));
        let tokens = lock(&self.guard).tokens;
        from.is_some_and(|from| tokens && !self.allows(&plain(from), "pull", authorization))
    }

    fn allows(&self, repository: &str, action: &str, authorization: Option<&str>) -> bool {
        let guard = lock(&self.guard).clone();
        let Some(text) = authorization.and_then(|value| value.strip_prefix("Bearer ")) else { return false };
        if guard.bearer.as_deref() == Some(text) {
            return true;
        }
        let tokens = lock(&self.tokens);
        let Some(token) = tokens.iter().find(|token| token.text == text && !token.dropped) else {
            return false;
        };
        let lives = guard.lifetime.is_none_or(|(lifetime, _)| token.made.elapsed() < lifetime);
        let covers = |scope: &String| {
            let mut parts = scope.splitn(3, ':').skip(1);
            parts.next() == Some(repository)
                && parts.next().is_some_and(|actions| actions.split(',').any(|known| known == action))
        };
        lives && (action.is_empty() || token.scopes.iter().any(covers))
    }

    /// What the token server answers.
    pub(super) fn token(&self, path: &str, authorization: Option<&str>, form: &[u8]) -> (u16, String) {
        let guard = lock(&self.guard).clone();
        let form = String::from_utf8_lossy(form).into_owned();
        let query = if form.is_empty() { path.split_once('?').map_or("", |(_, query)| query) } else { &form };
        let values = |name: &str| -> Vec<String> {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(known, _)| *known == name).map(|(_, value)| plain(value)).collect()
        };
        let known = if form.is_empty() {
            let basic = guard.login.as_ref().map(|login| format!("Basic {}", encoded(login)));
            basic.is_some() && authorization == basic.as_deref()
        } else {
            values("grant_type") == ["refresh_token"]
                && guard.identity.is_some()
                && values("refresh_token").first() == guard.identity.as_ref()
        };
        let nobody = authorization.is_none() && form.is_empty();
        if !(known || nobody && guard.anonymous) {
            return (401, r#"{"details":"incorrect username or password"}"#.to_owned());
        }
        // Several scopes may stand in one value.
        let scopes =
            values("scope").iter().flat_map(|scope| scope.split(' ')).map(str::to_owned).collect::<Vec<_>>();
        let only_pull = guard.read_only || !known;
        let given =
            scopes.into_iter().map(|scope| if only_pull { scope.replace(",push", "") } else { scope });
        let mut tokens = lock(&self.tokens);
        let text = format!("tok-{}-{}", std::process::id(), tokens.len());
        tokens.push(Token {
            text: text.clone(),
            scopes: given.collect(),
            made: Instant::now(),
            dropped: false,
        });
        let name = if form.is_empty() { "token" } else { "access_token" };
        let said = guard.lifetime.map_or(300, |(_, said)| said);
        (200, format!(r#"{{"{name}":"{text}","expires_in":{said}}}"#))
    }
}

fn encoded((name, password): &(String, String)) -> String {
    BASE64_STANDARD.encode(format!("{name}:{password}"))
}

/// The repository that a path of the registry is about.
fn repository(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/v2/")?;
    let end = ["/manifests/", "/blobs/", "/tags/"].iter().find_map(|part| rest.find(part))?;
    Some(rest[..end].to_owned())
}

/// Without the escapes of URLs.
fn plain(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        plain.extend(u8::from_str_radix(code, 16).ok());
        plain.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8_lossy(&plain).into_owned()
}
