//! From an endpoint to a connection, with an error that helps where there is none.

use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use bollard::API_DEFAULT_VERSION;

use super::super::{Endpoint, EngineError};
use super::images::api_number;
use super::raw::Raw;
use super::ssh::SshAddress;
use super::tls;
use super::transport::{Way, over};

/// Where an engine is looked for when nothing says otherwise.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Longer than any stop timeout or load: the engine's own errors and the user's Ctrl-C end a request, not
/// a clock of ours.
const REQUEST_SECONDS: u64 = 24 * 60 * 60;

/// How long a TCP connection may take to open.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection that was opened, or one that has to be tried before it can be believed in.
pub(super) struct Opened {
    pub(super) api: bollard::Docker,
    /// Makes connections of their own to the same place.
    pub(super) raw: Raw,
    /// Whether nothing has been asked of the other side yet that would show whether it is there.
    pub(super) untried: bool,
}

/// Opens an endpoint.
pub(super) fn open(endpoint: &Endpoint) -> Result<Opened, EngineError> {
    let unreachable = |error: &io::Error| not_reachable(endpoint, error);
    let version = endpoint.api.as_deref();
    if version.is_some_and(|version| api_number(version).is_none()) {
        return Err(unusable(endpoint, "DOCKER_API_VERSION must be a version such as 1.41"));
    }
    let way = way(endpoint)?;
    let untried = matches!(way, Way::Tls(..) | Way::Ssh(_));
    let api = match (&way, version) {
        (Way::Unix(path), None) => {
            bollard::Docker::connect_with_unix(path, REQUEST_SECONDS, API_DEFAULT_VERSION)
        }
        (Way::Tcp(name, port), None) => {
            let shown = if name.contains(':') { format!("[{name}]") } else { name.clone() };
            let address = format!("tcp://{shown}:{port}");
            bollard::Docker::connect_with_http(&address, REQUEST_SECONDS, API_DEFAULT_VERSION)
        }
        _ => over(way.clone(), version, REQUEST_SECONDS),
    };
    let prefix = version.map(|version| format!("/v{version}")).unwrap_or_default();
    let opened = |api| Opened { api, raw: Raw { way, prefix }, untried };
    api.map(opened).map_err(|error| unreachable(&io::Error::other(error)))
}

/// How an endpoint is reached. What is on this machine or answers without a key has been tried.
fn way(endpoint: &Endpoint) -> Result<Way, EngineError> {
    let host = endpoint.host.as_str();
    let unreachable = |error: &io::Error| not_reachable(endpoint, error);
    if let Some(path) = host.strip_prefix("unix://") {
        UnixStream::connect(path).map_err(|error| unreachable(&error))?;
        return Ok(Way::Unix(path.to_owned()));
    }
    if let Some(address) = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://")) {
        let (name, port) =
            place(address, endpoint.tls.is_some()).map_err(|text| unusable(endpoint, &text))?;
        reach_tcp(&name, port).map_err(|error| unreachable(&error))?;
        let Some(files) = &endpoint.tls else { return Ok(Way::Tcp(name, port)) };
        let config = tls::config(files).map_err(|text| unusable(endpoint, &text))?;
        return Ok(Way::Tls(name, port, Arc::new(config)));
    }
    if host.starts_with("ssh://") {
        return SshAddress::parse(host).map(Way::Ssh).map_err(|text| unusable(endpoint, &text));
    }
    Err(EngineError::UnsupportedHost { host: format!("{host}{}", endpoint.source) })
}

/// Name and port of `HOST[:PORT]`.
fn place(address: &str, secure: bool) -> Result<(String, u16), String> {
    let address = address.trim_end_matches('/');
    if address.contains('/') {
        return Err("an address with a path is not supported: use tcp://HOST:PORT".to_owned());
    }
    let usual = if secure { 2376 } else { 2375 };
    let bracketed = address.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (name, port) = match bracketed {
        Some((name, port)) => (name, port.strip_prefix(':')),
        None => address.rsplit_once(':').map_or((address, None), |(name, port)| (name, Some(port))),
    };
    let port = match port {
        None => usual,
        Some(port) => port.parse().map_err(|_| format!("`{port}` is no port"))?,
    };
    Ok((if name.is_empty() { "127.0.0.1" } else { name }.to_owned(), port))
}

fn reach_tcp(name: &str, port: u16) -> io::Result<()> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in (name, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The error for an engine that cannot be reached, with what to do about it.
fn not_reachable(endpoint: &Endpoint, error: &io::Error) -> EngineError {
    let advice = match error.kind() {
        ErrorKind::NotFound => "is dockerd installed and running, and is DOCKER_HOST right?",
        ErrorKind::ConnectionRefused => "is dockerd running? `systemctl start docker` starts it",
        ErrorKind::PermissionDenied => "run as root, or join the group `docker` and log in again",
        _ => "is the address right?",
    };
    told(endpoint, error.to_string(), advice)
}

/// The error for an engine that did not answer the first question over TLS or ssh.
pub(super) fn not_answering(endpoint: &Endpoint, reason: &str) -> EngineError {
    let advice = if endpoint.host.starts_with("ssh://") {
        "does `ssh` log in there without asking anything, and is docker (18.09 or newer) installed there?"
    } else if reason.contains("UnknownIssuer") || reason.contains("BadSignature") {
        "the engine's certificate was not signed by the authority in ca.pem: is it the right file?"
    } else if reason.contains("certificate") {
        "do ca.pem, cert.pem and key.pem belong to this engine, and is it called so in its certificate?"
    } else {
        "does this engine speak TLS there, with these certificates?"
    };
    told(endpoint, reason.to_owned(), advice)
}

/// The error for an address or files that cannot be used.
fn unusable(endpoint: &Endpoint, reason: &str) -> EngineError {
    told(endpoint, reason.to_owned(), "mend this first: no engine has been asked")
}

fn told(endpoint: &Endpoint, reason: String, advice: &'static str) -> EngineError {
    EngineError::NotReachable { host: format!("{}{}", endpoint.host, endpoint.source), reason, advice }
}

#[cfg(test)]
mod tests {
    use super::super::super::{EndpointSource, TlsFiles};
    use super::*;

    fn error_of(endpoint: &Endpoint) -> String {
        open(endpoint).err().unwrap().to_string()
    }

    #[test]
    fn a_missing_socket_a_dead_one_and_a_foreign_kind_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let missing = error_of(&Endpoint::at(&format!("unix://{}/none.sock", folder.path().display())));
        assert!(missing.contains("No such file") && missing.contains("installed"), "{missing}");
        let dead = folder.path().join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        let dead = error_of(&Endpoint::at(&format!("unix://{}", dead.display())));
        assert!(dead.contains("systemctl start docker"), "{dead}");
        let pipe = error_of(&Endpoint::at("npipe:////./pipe/docker_engine"));
        assert!(pipe.contains("not supported: an engine at npipe:////./pipe/docker_engine"), "{pipe}");
    }

    #[test]
    fn what_cannot_be_used_is_said_with_who_wrote_it() {
        let context = EndpointSource::Context { name: "far".to_owned(), file: "/c/meta.json".into() };
        let ssh = Endpoint { source: context, ..Endpoint::at("ssh://a:b@far") };
        let error = error_of(&ssh);
        assert!(error.contains("(context far of /c/meta.json)") && error.contains("password"), "{error}");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("tcp://{}", listener.local_addr().unwrap());
        let tls = Some(TlsFiles { ca: Some("/nowhere/ca.pem".into()), ..TlsFiles::default() });
        let error = error_of(&Endpoint { tls, ..Endpoint::at(&host) });
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
        let error = error_of(&Endpoint { api: Some("new".to_owned()), ..Endpoint::at(&host) });
        assert!(error.contains("DOCKER_API_VERSION"), "{error}");
    }

    #[test]
    fn addresses_have_a_name_and_a_port() {
        let table = [
            ("far", false, ("far", 2375)),
            ("far/", true, ("far", 2376)),
            (":99", false, ("127.0.0.1", 99)),
            ("[::1]:99", false, ("::1", 99)),
        ];
        for (address, secure, (name, port)) in table {
            assert_eq!(place(address, secure), Ok((name.to_owned(), port)));
        }
        assert!(place("far:x", false).is_err() && place("far/path", false).is_err());
    }
}
