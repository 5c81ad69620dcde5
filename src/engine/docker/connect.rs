//! From the value of `DOCKER_HOST` to a connection, with an error that helps where there is none.

use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bollard::API_DEFAULT_VERSION;

use super::EngineError;
use super::raw::Connection;

/// Where an engine is looked for when nothing says otherwise.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Longer than any stop timeout or load: the engine's own errors and the user's Ctrl-C end a request, not
/// a clock of ours.
const REQUEST_SECONDS: u64 = 24 * 60 * 60;

/// How long a TCP connection may take to open.
const CONNECT: Duration = Duration::from_secs(10);

/// Opens `host`.
pub(super) fn open(host: &str) -> Result<bollard::Docker, EngineError> {
    let unreachable = |error: &io::Error| not_reachable(host, error);
    let api = if let Some(path) = host.strip_prefix("unix://") {
        UnixStream::connect(path).map_err(|error| unreachable(&error))?;
        bollard::Docker::connect_with_unix(path, REQUEST_SECONDS, API_DEFAULT_VERSION)
    } else if let Some(address) = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://")) {
        let address = address.trim_end_matches('/');
        reach_tcp(address).map_err(|error| unreachable(&error))?;
        bollard::Docker::connect_with_http(&format!("tcp://{address}"), REQUEST_SECONDS, API_DEFAULT_VERSION)
    } else {
        return Err(EngineError::UnsupportedHost { host: host.to_owned() });
    };
    api.map_err(|error| unreachable(&io::Error::other(error)))
}

/// A connection of its own to `host`, for [`raw`](super::raw).
pub(super) async fn raw(host: &str) -> io::Result<Box<dyn Connection>> {
    if let Some(path) = host.strip_prefix("unix://") {
        return Ok(Box::new(tokio::net::UnixStream::connect(path).await?));
    }
    match host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://")) {
        Some(address) => Ok(Box::new(tokio::net::TcpStream::connect(address.trim_end_matches('/')).await?)),
        None => Err(io::Error::new(ErrorKind::Unsupported, format!("no way to reach {host}"))),
    }
}

fn reach_tcp(address: &str) -> io::Result<()> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The error for an engine that cannot be reached, with what to do about it.
fn not_reachable(host: &str, error: &io::Error) -> EngineError {
    let advice = match error.kind() {
        ErrorKind::NotFound => {
            "there is no such socket: is dockerd installed and running, and is DOCKER_HOST right?"
        }
        ErrorKind::ConnectionRefused => {
            "nothing listens there: is dockerd running? (`systemctl start docker`)"
        }
        ErrorKind::PermissionDenied => {
            "you may not open this socket: run as root, or join the group `docker` and log in again"
        }
        _ => "is DOCKER_HOST right?",
    };
    EngineError::NotReachable { host: host.to_owned(), reason: error.to_string(), advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(host: &str) -> String {
        open(host).err().unwrap().to_string()
    }

    #[test]
    fn a_missing_socket_a_dead_one_and_a_foreign_kind_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let missing = error_of(&format!("unix://{}/none.sock", folder.path().display()));
        assert!(missing.contains("no such socket"), "{missing}");
        let dead = folder.path().join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        let dead = error_of(&format!("unix://{}", dead.display()));
        assert!(dead.contains("nothing listens there"), "{dead}");
        let ssh = error_of("ssh://somewhere");
        assert!(ssh.contains("not supported yet: an engine at `ssh://somewhere`"), "{ssh}");
    }
}
