//! Which engine is meant: variables and contexts, as the docker command reads them.
//!
//! `DOCKER_HOST` beats `DOCKER_CONTEXT`, which beats `currentContext` of `config.json`; `default` and nothing
//! mean the usual place. At most two small files are read: `config.json`, and the context's `meta.json`.
//! Nothing is connected to, and certificates are not read here.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base::digest::Digest;
use crate::engine::{DEFAULT_HOST, Endpoint, EndpointSource, TlsFiles};

/// What the environment says about the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct EngineVariables {
    /// `DOCKER_HOST`.
    pub(super) host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub(super) context: Option<String>,
    /// Whether `DOCKER_TLS` is set.
    pub(super) tls: bool,
    /// Whether `DOCKER_TLS_VERIFY` is set.
    pub(super) tls_verify: bool,
    /// `DOCKER_CERT_PATH`.
    pub(super) cert_path: Option<PathBuf>,
    /// `DOCKER_API_VERSION`.
    pub(super) api: Option<String>,
}

/// The endpoint; `config` is the folder of docker's own configuration. The error is a sentence.
pub(super) fn endpoint(variables: &EngineVariables, config: Option<&Path>) -> Result<Endpoint, String> {
    let mut endpoint = match (&variables.host, chosen_context(variables, config)?) {
        (None, Some(name)) => from_context(&name, config)?,
        (host, _) => from_variables(host.as_deref(), variables, config)?,
    };
    endpoint.api.clone_from(&variables.api);
    Ok(endpoint)
}

/// Where images and errors name the engine when the endpoint cannot be found out.
pub(super) fn usual() -> Endpoint {
    Endpoint::at(DEFAULT_HOST)
}

/// The context that is meant, unless it is the one without a name.
fn chosen_context(variables: &EngineVariables, config: Option<&Path>) -> Result<Option<String>, String> {
    if variables.host.is_some() {
        return Ok(None);
    }
    let named = match (&variables.context, config) {
        (Some(name), _) => Some(name.clone()),
        (None, Some(folder)) => current_context(folder)?,
        (None, None) => None,
    };
    Ok(named.filter(|name| !name.is_empty() && name != "default"))
}

#[derive(Deserialize)]
struct Config {
    #[serde(default, rename = "currentContext")]
    current_context: Option<String>,
}

fn current_context(folder: &Path) -> Result<Option<String>, String> {
    let file = folder.join("config.json");
    let text = match std::fs::read(&file) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        // As with the docker command, a file that is not ours to read decides nothing.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
    };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    // The file may hold passwords: only the place of a mistake is said.
    let config: Config = serde_json::from_slice(&text).map_err(|error| {
        format!("{} is no JSON (line {})\nhelp: mend or remove it", file.display(), error.line())
    })?;
    Ok(config.current_context)
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default, rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize, Default)]
struct Endpoints {
    docker: Option<DockerEndpoint>,
}

#[derive(Deserialize)]
struct DockerEndpoint {
    #[serde(default, rename = "Host")]
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

/// Contexts lie in folders that are called after the digest of their name.
fn from_context(name: &str, config: Option<&Path>) -> Result<Endpoint, String> {
    let Some(config) = config else {
        return Err(format!("cannot find context {name}: neither DOCKER_CONFIG nor HOME is set"));
    };
    let id = hex::encode(Digest::of(name).as_bytes());
    let contexts = config.join("contexts");
    let file = contexts.join("meta").join(&id).join("meta.json");
    let text = std::fs::read(&file).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!(
            "there is no context {name} (no {})\nhelp: choose one of `docker context ls`, or set DOCKER_HOST",
            file.display()
        ),
        _ => format!("cannot read context {name} in {}: {error}", file.display()),
    })?;
    let meta: Meta = serde_json::from_slice(&text)
        .map_err(|error| format!("context {name}: {} cannot be understood: {error}", file.display()))?;
    let Some(docker) = meta.endpoints.docker else {
        return Err(format!(
            "context {name} has no docker endpoint ({})\nhelp: choose another",
            file.display()
        ));
    };
    let tls = in_folder(&contexts.join("tls").join(&id).join("docker"), docker.skip_tls_verify);
    let host = if docker.host.is_empty() { DEFAULT_HOST.to_owned() } else { docker.host };
    let tls = tls.filter(|_| host.starts_with("tcp://"));
    let source = EndpointSource::Context { name: name.to_owned(), file };
    Ok(Endpoint { host, tls, api: None, source })
}

/// The TLS files that a context has; `None` if it has none and did not ask for TLS.
fn in_folder(folder: &Path, skip_verify: bool) -> Option<TlsFiles> {
    let there = |name: &str| Some(folder.join(name)).filter(|path| path.exists());
    let files =
        TlsFiles { ca: there("ca.pem"), client: there("cert.pem").zip(there("key.pem")), skip_verify };
    (files.ca.is_some() || files.client.is_some() || skip_verify).then_some(files)
}

/// `DOCKER_TLS_VERIFY` asks for TLS with everything checked, `DOCKER_TLS` for TLS with whoever answers.
fn from_variables(
    host: Option<&str>,
    variables: &EngineVariables,
    config: Option<&Path>,
) -> Result<Endpoint, String> {
    let secure = variables.tls || variables.tls_verify;
    let source = host.map_or(EndpointSource::Usual, |_| EndpointSource::Variable);
    let host = match (host, secure) {
        (Some(host), _) if host.contains("://") => host.to_owned(),
        (Some(host), _) => format!("tcp://{host}"),
        (None, true) => "tcp://localhost:2376".to_owned(),
        (None, false) => DEFAULT_HOST.to_owned(),
    };
    if !secure || !host.starts_with("tcp://") {
        return Ok(Endpoint { host, tls: None, api: None, source });
    }
    let Some(folder) = variables.cert_path.as_deref().or(config) else {
        return Err("TLS needs DOCKER_CERT_PATH, the folder of ca.pem, cert.pem and key.pem".to_owned());
    };
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let tls = TlsFiles {
        ca: variables.tls_verify.then(|| folder.join("ca.pem")),
        client: (certificate.exists() && key.exists()).then_some((certificate, key)),
        skip_verify: !variables.tls_verify,
    };
    Ok(Endpoint { host, tls: Some(tls), api: None, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(current: &str, meta: Option<&str>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), current).unwrap();
        if let Some(meta) = meta {
            let place = folder.path().join("contexts/meta").join(hex::encode(Digest::of("far").as_bytes()));
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("meta.json"), meta).unwrap();
        }
        folder
    }

    fn variables(host: Option<&str>, context: Option<&str>) -> EngineVariables {
        EngineVariables {
            host: host.map(str::to_owned),
            context: context.map(str::to_owned),
            ..EngineVariables::default()
        }
    }

    const META: &str = r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":false}}}"#;

    #[test]
    fn the_host_beats_the_context_and_that_the_current_one() {
        let config = folder(r#"{"currentContext": "far", "auths": {}}"#, Some(META));
        let host = |host, context| endpoint(&variables(host, context), Some(config.path())).unwrap().host;
        assert_eq!(host(Some("unix:///a.sock"), Some("far")), "unix:///a.sock");
        assert_eq!(host(None, Some("default")), DEFAULT_HOST);
        assert_eq!(host(None, None), "tcp://far:2376");
        assert_eq!(host(Some("1.2.3.4:99"), None), "tcp://1.2.3.4:99");
        let empty = folder("", None);
        assert_eq!(endpoint(&variables(None, None), Some(empty.path())).unwrap(), usual());
        assert_eq!(endpoint(&variables(None, None), None).unwrap(), usual());
    }

    #[test]
    fn a_context_brings_its_certificates() {
        let config = folder("{}", Some(META));
        let found = endpoint(&variables(None, Some("far")), Some(config.path())).unwrap();
        assert_eq!(found.tls, None);
        let tls = config.path().join("contexts/tls").join(hex::encode(Digest::of("far").as_bytes()));
        let tls = tls.join("docker");
        std::fs::create_dir_all(&tls).unwrap();
        for name in ["ca.pem", "cert.pem", "key.pem"] {
            std::fs::write(tls.join(name), "").unwrap();
        }
        let found = endpoint(&variables(None, Some("far")), Some(config.path())).unwrap();
        let files = found.tls.unwrap();
        assert_eq!(files.ca, Some(tls.join("ca.pem")));
        assert_eq!(files.client, Some((tls.join("cert.pem"), tls.join("key.pem"))));
        assert!(matches!(found.source, EndpointSource::Context { ref name, .. } if name == "far"));
    }

    #[test]
    fn mistakes_name_the_context_and_the_file() {
        let error = |config: &tempfile::TempDir, context| {
            endpoint(&variables(None, context), Some(config.path())).unwrap_err()
        };
        let missing = error(&folder("{}", None), Some("far"));
        assert!(missing.contains("there is no context far") && missing.contains("docker context ls"));
        let broken = error(&folder("{}", Some("{")), Some("far"));
        assert!(broken.contains("context far") && broken.contains("meta.json"), "{broken}");
        let other = error(&folder("{}", Some(r#"{"Endpoints": {}}"#)), Some("far"));
        assert!(other.contains("no docker endpoint"), "{other}");
        let config = error(&folder(r#"{"auths": {"x": {"auth": "hunter2"}"#, None), None);
        assert!(config.contains("config.json") && !config.contains("hunter2"), "{config}");
    }

    #[test]
    fn variables_ask_for_tls() {
        let folder = tempfile::tempdir().unwrap();
        let asked = |tls, tls_verify, host: &str| {
            let variables = EngineVariables {
                tls,
                tls_verify,
                cert_path: Some(folder.path().to_owned()),
                api: Some("1.41".to_owned()),
                ..variables(Some(host).filter(|host| !host.is_empty()), None)
            };
            endpoint(&variables, None).unwrap()
        };
        let verified = asked(false, true, "tcp://far:1");
        assert_eq!(verified.api.as_deref(), Some("1.41"));
        let expected = TlsFiles { ca: Some(folder.path().join("ca.pem")), client: None, skip_verify: false };
        assert_eq!(verified.tls, Some(expected));
        assert!(asked(true, false, "tcp://far:1").tls.unwrap().skip_verify);
        assert_eq!(asked(true, false, "unix:///a.sock").tls, None);
        assert_eq!(asked(false, true, "").host, "tcp://localhost:2376");
        let nowhere = EngineVariables { tls_verify: true, ..variables(Some("tcp://far:1"), None) };
        assert!(endpoint(&nowhere, None).unwrap_err().contains("DOCKER_CERT_PATH"));
    }
}
