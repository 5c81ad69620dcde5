//! Credentials for registries, from Docker's `config.json` and its credential helpers.
//!
//! The file is read when a registry is first asked, so that a helper (which may open a window) is not
//! started in vain. What a helper says when it fails is not passed on: it may hold a secret.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

use super::OciError;

/// The key under which Docker keeps the credentials of `docker.io`.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Where credentials come from.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    config: Option<PathBuf>,
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

    /// Name and password for `registry`, for an engine that pulls in the user's name; `None` for nobody.
    pub fn for_engine(&self, registry: &str) -> Result<Option<(String, String)>, OciError> {
        Ok(match self.login(registry)? {
            RegistryAuth::Basic(name, password) => Some((name, password)),
            _ => None,
        })
    }

    /// A `config.json` with every login that the user's own one names, those of helpers written out.
    pub fn as_config(&self) -> Result<Vec<u8>, OciError> {
        let text = self.config.as_deref().map(std::fs::read_to_string);
        let config: serde_json::Value =
            text.and_then(Result::ok).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let named = ["auths", "credHelpers"].map(|key| config[key].as_object());
        let names: BTreeSet<&String> =
            named.into_iter().flatten().flat_map(|servers| servers.keys()).collect();
        let mut auths = serde_json::Map::new();
        for server in names {
            if let RegistryAuth::Basic(name, password) = self.login(server)? {
                let auth = BASE64_STANDARD.encode(format!("{name}:{password}"));
                auths.insert(server.clone(), serde_json::json!({"auth": auth}));
            }
        }
        Ok(serde_json::json!({"auths": auths}).to_string().into_bytes())
    }

    /// How to log in at `registry`.
    pub(super) fn login(&self, registry: &str) -> Result<RegistryAuth, OciError> {
        let Some(path) = &self.config else { return Ok(RegistryAuth::Anonymous) };
        let failed = |problem: String| OciError::Credentials { registry: registry.to_owned(), problem };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(RegistryAuth::Anonymous),
            Err(error) => return Err(failed(format!("cannot open {}: {error}", path.display()))),
        };
        let server = if registry == "docker.io" { DOCKER_HUB } else { registry };
        match docker_credential::get_credential_from_reader(BufReader::new(file), server) {
            Ok(DockerCredential::UsernamePassword(name, password)) => Ok(RegistryAuth::Basic(name, password)),
            Ok(DockerCredential::IdentityToken(_)) => {
                Err(failed("not supported yet: identity tokens".to_owned()))
            }
            Err(error) if means_none(&error) => Ok(RegistryAuth::Anonymous),
            Err(error) => Err(failed(explain(&error, path))),
        }
    }
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

    fn login(config: &str, registry: &str) -> Result<RegistryAuth, OciError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        Credentials::from_folder(folder.path()).login(registry)
    }

    #[test]
    fn logins_are_found_and_strangers_are_nobody() {
        let basic = RegistryAuth::Basic("user".into(), "secret".into());
        let config = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{AUTH}"}},"r:5000":{{"auth":"{AUTH}"}}}}}}"#
        );
        assert!(login(&config, "docker.io").unwrap() == basic);
        assert!(login(&config, "r:5000").unwrap() == basic);
        assert!(login(&config, "ghcr.io").unwrap() == RegistryAuth::Anonymous);
        assert!(login("{}", "docker.io").unwrap() == RegistryAuth::Anonymous);
        assert!(Credentials::none().login("docker.io").unwrap() == RegistryAuth::Anonymous);
        let nowhere = Credentials::from_folder(Path::new("/nonexistent"));
        assert!(nowhere.login("docker.io").unwrap() == RegistryAuth::Anonymous);
    }

    #[test]
    fn every_login_is_written_out() {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(r#"{{"auths":{{"r:5000":{{"auth":"{AUTH}"}},"empty":{{}}}}}}"#);
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let written = Credentials::from_folder(folder.path()).as_config().unwrap();
        let expected = format!(r#"{{"auths":{{"r:5000":{{"auth":"{AUTH}"}}}}}}"#);
        assert_eq!(String::from_utf8(written).unwrap(), expected);
        assert_eq!(Credentials::none().as_config().unwrap(), br#"{"auths":{}}"#);
    }

    #[test]
    fn failures_are_said_without_secrets() {
        let token = r#"{"auths":{"r":{"identitytoken":"hush"}}}"#;
        for (config, part) in [
            (token, "not supported yet: identity tokens"),
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
