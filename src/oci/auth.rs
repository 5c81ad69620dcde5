//! Credentials for registries, from Docker's `config.json` and its credential helpers.
//!
//! For one registry, the first of: the helper that `credHelpers` names for it, what `auths` has (a
//! `registrytoken`, an `identitytoken`, a name with a password), the helper in `credsStore`. The file is read
//! when a registry is first asked, so that a helper (which may open a window) is not started in vain. What a
//! helper says when it fails is not passed on: it may hold a secret.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde_json::{Value, json};

use super::OciError;

/// The key under which Docker keeps the credentials of `docker.io`.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Where credentials come from.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    config: Option<PathBuf>,
}

/// How to log in at a registry.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Login {
    /// As nobody.
    #[default]
    Nobody,
    /// With a name and a password.
    Password {
        /// The name.
        name: String,
        /// The password or access token.
        password: String,
    },
    /// With an identity token, for which the registry's token server gives tokens.
    Identity(String),
    /// With a token for the registry itself.
    Bearer(String),
}

impl std::fmt::Debug for Login {
    /// Says the kind only: a secret never reaches a log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Password { .. } => "Password",
            Self::Identity(_) => "Identity",
            Self::Bearer(_) => "Bearer",
        })
    }
}

impl Login {
    /// As it stands in `auths`; nothing for nobody.
    fn entry(&self) -> Option<Value> {
        match self {
            Self::Nobody => None,
            Self::Password { name, password } => {
                Some(json!({"auth": BASE64_STANDARD.encode(format!("{name}:{password}"))}))
            }
            Self::Identity(token) => Some(json!({"identitytoken": token})),
            Self::Bearer(token) => Some(json!({"registrytoken": token})),
        }
    }
}

impl Credentials {
    /// None: every registry is asked as nobody.
    pub const fn none() -> Self {
        Self { config: None }
    }

    /// Those of the Docker configuration folder (`~/.docker`); a missing file means none.
    pub fn from_folder(folder: &Path) -> Self {
        Self { config: Some(folder.join("config.json")) }
    }

    /// A `config.json` with every login that the user's own one names, those of helpers written out.
    pub fn as_config(&self) -> Result<Vec<u8>, OciError> {
        let text = self.config.as_deref().map(std::fs::read_to_string);
        let config: Value =
            text.and_then(Result::ok).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let named = ["auths", "credHelpers"].map(|key| config[key].as_object());
        let names: BTreeSet<&String> =
            named.into_iter().flatten().flat_map(|servers| servers.keys()).collect();
        let mut auths = serde_json::Map::new();
        for server in names {
            auths.extend(self.login(server)?.entry().map(|entry| (server.clone(), entry)));
        }
        Ok(json!({"auths": auths}).to_string().into_bytes())
    }

    /// How to log in at `registry`.
    pub fn login(&self, registry: &str) -> Result<Login, OciError> {
        let Some(path) = &self.config else { return Ok(Login::Nobody) };
        let failed = |problem: String| OciError::Credentials { registry: registry.to_owned(), problem };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Login::Nobody),
            Err(error) => return Err(failed(format!("cannot read {}: {error}", path.display()))),
        };
        let server = if registry == "docker.io" { DOCKER_HUB } else { registry };
        if let Some(token) = registry_token(&bytes, server) {
            return Ok(Login::Bearer(token));
        }
        match docker_credential::get_credential_from_reader(bytes.as_slice(), server) {
            Ok(DockerCredential::UsernamePassword(name, password)) => Ok(Login::Password { name, password }),
            Ok(DockerCredential::IdentityToken(token)) => Ok(Login::Identity(token)),
            Err(error) if means_none(&error) => Ok(Login::Nobody),
            Err(error) => Err(failed(explain(&error, path))),
        }
    }
}

/// The `registrytoken` of a server that has no helper of its own.
fn registry_token(config: &[u8], server: &str) -> Option<String> {
    let config: Value = serde_json::from_slice(config).ok()?;
    if config["credHelpers"].get(server).is_some() {
        return None;
    }
    let host = |key: &str| {
        let rest = key.trim_start_matches("https://").trim_start_matches("http://");
        rest.split('/').next().unwrap_or(rest).to_owned()
    };
    let auths = config["auths"].as_object()?;
    let found = auths
        .get(server)
        .or_else(|| auths.iter().find(|(key, _)| host(key) == host(server)).map(|(_, entry)| entry))?;
    found["registrytoken"].as_str().filter(|token| !token.is_empty()).map(str::to_owned)
}

/// Whether the answer is that there are no credentials.
fn means_none(error: &CredentialRetrievalError) -> bool {
    match error {
        CredentialRetrievalError::NoCredentialConfigured => true,
        // The sentence is part of the helpers' protocol (docker-credential-helpers, `errCredentialsNotFound`).
        CredentialRetrievalError::HelperFailure { stdout, .. } => {
            stdout.contains("credentials not found in native keychain")
        }
        _ => false,
    }
}

fn explain(error: &CredentialRetrievalError, path: &Path) -> String {
    match error {
        CredentialRetrievalError::HelperFailure { helper, .. } => format!("the helper `{helper}` failed"),
        CredentialRetrievalError::HelperCommunicationError => {
            format!("the credential helper that {} names cannot be run", path.display())
        }
        // The others are fixed sentences.
        other => format!("{}: {other}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `user:secret` in base64.
    const AUTH: &str = "dXNlcjpzZWNyZXQ=";

    fn login(config: &str, registry: &str) -> Result<Login, OciError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        Credentials::from_folder(folder.path()).login(registry)
    }

    #[test]
    fn logins_are_found_and_strangers_are_nobody() {
        let basic = Login::Password { name: "user".into(), password: "secret".into() };
        let config = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{AUTH}"}},"r:5000":{{"auth":"{AUTH}"}}}}}}"#
        );
        assert!(login(&config, "docker.io").unwrap() == basic);
        assert!(login(&config, "r:5000").unwrap() == basic);
        assert!(login(&config, "ghcr.io").unwrap() == Login::Nobody);
        assert!(login("{}", "docker.io").unwrap() == Login::Nobody);
        assert!(Credentials::none().login("docker.io").unwrap() == Login::Nobody);
        let nowhere = Credentials::from_folder(Path::new("/nonexistent"));
        assert!(nowhere.login("docker.io").unwrap() == Login::Nobody);
    }

    #[test]
    fn tokens_are_logins_too() {
        let config = |entry: &str| format!(r#"{{"auths":{{"https://r/v1/":{{{entry}}}}}}}"#);
        let identity = config(r#""identitytoken":"hush""#);
        assert!(login(&identity, "r").unwrap() == Login::Identity("hush".into()));
        // As `docker login` writes it: the name beside the token has an empty password.
        let written = config(r#""auth":"MDAwOg==","identitytoken":"hush""#);
        assert!(login(&written, "r").unwrap() == Login::Identity("hush".into()));
        let bearer = config(r#""registrytoken":"hush""#);
        assert!(login(&bearer, "r").unwrap() == Login::Bearer("hush".into()));
        assert!(login(&bearer, "other").unwrap() == Login::Nobody);
        for login in [login(&identity, "r"), login(&bearer, "r")] {
            assert!(!format!("{login:?}").contains("hush"));
        }
    }

    #[test]
    fn every_login_is_written_out() {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            r#"{{"auths":{{"r:5000":{{"auth":"{AUTH}"}},"empty":{{}},"t":{{"identitytoken":"i"}}}}}}"#
        );
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let written = Credentials::from_folder(folder.path()).as_config().unwrap();
        let expected = format!(r#"{{"auths":{{"r:5000":{{"auth":"{AUTH}"}},"t":{{"identitytoken":"i"}}}}}}"#);
        assert_eq!(String::from_utf8(written).unwrap(), expected);
        assert_eq!(Credentials::none().as_config().unwrap(), br#"{"auths":{}}"#);
    }

    #[test]
    fn failures_are_said_without_secrets() {
        for (config, part) in [
            (r#"{"credHelpers":{"r":"that-is-not-there"}}"#, "cannot be run"),
            ("{hush", "Unable to read config"),
        ] {
            let error = login(config, "r").unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn what_helpers_say_is_understood_and_not_repeated() {
        let failure = |stdout: &str| CredentialRetrievalError::HelperFailure {
            helper: "docker-credential-x".into(),
            stdout: stdout.into(),
            stderr: "hush".into(),
        };
        assert!(means_none(&failure("credentials not found in native keychain\n")));
        assert!(!means_none(&failure("hush")));
        let text = explain(&failure("hush"), Path::new("config.json"));
        assert_eq!(text, "the helper `docker-credential-x` failed");
    }
}
