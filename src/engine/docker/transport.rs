//! Connections that bollard does not make itself: TLS with the files of docker's contexts, ssh, and any of
//! them with a version of the API in each request.
//!
//! bollard's own TLS always wants a client certificate and all of the machine's authorities, and its own
//! ssh would start a master process for each connection and leave a folder when we are killed. Here is only
//! a connector for the same HTTP library: nothing is left of it but processes and sockets that end with us.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bollard::{API_DEFAULT_VERSION, BollardRequest};
use http::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::ssh::SshAddress;

/// How the other end is reached.
#[derive(Clone)]
pub(super) enum Way {
    /// A socket on this machine.
    Unix(String),
    /// A name or address, and a port.
    Tcp(String, u16),
    /// The same, and with whom TLS is spoken.
    Tls(String, u16, Arc<rustls::ClientConfig>),
    /// Through ssh.
    Ssh(SshAddress),
}

/// bollard over connections of this way; `version` stands before the path of each request.
pub(super) fn over(
    way: Way,
    version: Option<&str>,
    timeout: u64,
) -> Result<bollard::Docker, bollard::errors::Error> {
    let client = Client::builder(TokioExecutor::new()).build(Connector(way));
    let prefix = version.map(|version| format!("/v{version}"));
    let transport = move |request: BollardRequest| {
        let (client, prefix) = (client.clone(), prefix.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            if let Some(prefix) = prefix {
                parts.uri = with_prefix(parts.uri, &prefix)?;
            }
            client.request(BollardRequest::from_parts(parts, body)).await.map_err(Into::into)
        }
    };
    bollard::Docker::connect_with_custom_transport(
        transport,
        Some("http://engine"),
        timeout,
        API_DEFAULT_VERSION,
    )
}

fn with_prefix(uri: Uri, prefix: &str) -> Result<Uri, http::Error> {
    let mut parts = uri.into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", |path| path.as_str());
    parts.path_and_query = Some(format!("{prefix}{path}").try_into()?);
    Ok(Uri::from_parts(parts)?)
}

/// Makes a connection whenever the HTTP library wants one.
#[derive(Clone)]
struct Connector(Way);

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let way = self.0.clone();
        Box::pin(async move { Ok(Link(TokioIo::new(dial(&way).await?))) })
    }
}

/// Opens a connection.
pub(super) async fn dial(way: &Way) -> io::Result<Wire> {
    Ok(match way {
        Way::Unix(path) => Wire::new(UnixStream::connect(path).await?),
        Way::Tcp(host, port) => Wire::new(TcpStream::connect((host.as_str(), *port)).await?),
        Way::Tls(host, port, config) => {
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            Wire::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?)
        }
        Way::Ssh(address) => Wire::new(address.dial()?),
    })
}

/// Bytes both ways.
trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// A connection, whatever it goes over.
pub(super) struct Wire(Pin<Box<dyn Duplex>>);

impl Wire {
    pub(super) fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(context)
    }
}

/// A wire as the HTTP library takes it.
struct Link(TokioIo<Wire>);

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_before_the_path() {
        let uri = Uri::from_static("http://engine/containers/json?all=true");
        let versioned = with_prefix(uri, "/v1.41").unwrap();
        assert_eq!(versioned.to_string(), "http://engine/v1.41/containers/json?all=true");
    }
}
