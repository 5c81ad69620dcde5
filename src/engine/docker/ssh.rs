//! An engine behind ssh: `docker system dial-stdio` on the other side, through the user's own ssh command.
//!
//! Each connection is one ssh process, which ends with it; where there are many, the user's `ControlMaster`
//! lets them share one login, and connections that have served wait to serve again. A process has a group
//! of its own, so that Ctrl-C reaches us and not it, and therefore may not ask on the terminal: keys come
//! from an agent or a file. When we are killed its input ends, and it ends too.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// How much of what ssh says an error shows.
const SHOWN: u64 = 4000;

/// An address, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SshAddress {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    socket: Option<String>,
}

impl SshAddress {
    /// Reads `ssh://[USER@]HOST[:PORT][/SOCKET]`; the error is a sentence.
    pub(super) fn parse(address: &str) -> Result<Self, String> {
        let rest = address.strip_prefix("ssh://").unwrap_or(address);
        if rest.contains(['?', '#']) {
            return Err("an ssh address has neither a query nor a fragment".to_owned());
        }
        let (place, path) = rest.split_once('/').map_or((rest, ""), |(place, path)| (place, path));
        let (user, place) = place.rsplit_once('@').map_or((None, place), |(user, place)| (Some(user), place));
        if user.is_some_and(|user| user.contains(':')) {
            return Err("a password in an ssh address is not supported: use a key".to_owned());
        }
        let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.starts_with('-') || user.is_some_and(str::is_empty) {
            return Err("an ssh address is ssh://[USER@]HOST[:PORT][/SOCKET]".to_owned());
        }
        let port = port.map(|port| port.parse().map_err(|_| format!("`{port}` is no port"))).transpose()?;
        let socket = (!path.is_empty()).then(|| format!("/{path}"));
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port, socket })
    }

    /// The arguments of ssh, as the docker command gives them.
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["-o", "ConnectTimeout=30", "-o", "BatchMode=yes", "-T"].map(str::to_owned).into();
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), self.host.clone(), "docker".to_owned()]);
        if let Some(socket) = &self.socket {
            let host = format!("unix://{socket}");
            // A shell on the other side reads this.
            arguments.extend(["--host".to_owned(), shell_words::quote(&host).into_owned()]);
        }
        arguments.extend(["system".to_owned(), "dial-stdio".to_owned()]);
        arguments
    }

    /// Starts the process.
    pub(super) fn dial(&self) -> io::Result<SshStream> {
        let mut command = Command::new("ssh");
        command.args(self.arguments()).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other("there is no ssh command: install openssh-client"),
            _ => error,
        })?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let said = Arc::default();
        let listening = tokio::spawn(listen(stderr, Arc::clone(&said)));
        Ok(SshStream { _child: child, stdin, stdout, said, listening, answered: false })
    }
}

/// Keeps what ssh says; the rest is read and dropped, so that it never waits for us.
async fn listen(mut stderr: ChildStderr, said: Arc<Mutex<Vec<u8>>>) {
    let mut kept = Vec::new();
    // Where this fails there is nothing to keep.
    let _ = (&mut stderr).take(SHOWN).read_to_end(&mut kept).await;
    *said.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
}

/// A connection through an ssh process.
pub(super) struct SshStream {
    /// Killed when it is dropped.
    _child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    said: Arc<Mutex<Vec<u8>>>,
    listening: JoinHandle<()>,
    answered: bool,
}

impl SshStream {
    /// Why there was no answer at all.
    fn failed(&self) -> io::Error {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        io::Error::other(match lines.is_empty() {
            true => "ssh ended without a word".to_owned(),
            false => format!("ssh says: {}", lines.join("; ")),
        })
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stdout).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.answered = true;
        } else if !self.answered {
            // The reason may come a moment after the end.
            if !self.listening.is_finished() {
                let _ = ready!(Pin::new(&mut self.listening).poll(context));
            }
            return Poll::Ready(Err(self.failed()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            // That ssh has gone is told by what is read, with its reason.
            Some(stdin) => match ready!(Pin::new(stdin).poll_write(context, bytes)) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(bytes.len())),
                result => Poll::Ready(result),
            },
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(stdin) = &mut self.stdin {
            ready!(Pin::new(stdin).poll_flush(context))?;
        }
        // The other side sees the end when the pipe is closed.
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_arguments() {
        let line = |address: &str| SshAddress::parse(address).unwrap().arguments().join(" ");
        let begin = "-o ConnectTimeout=30 -o BatchMode=yes -T";
        assert_eq!(line("ssh://far"), format!("{begin} -- far docker system dial-stdio"));
        assert_eq!(
            line("ssh://me@far:2222/run/my docker.sock"),
            format!(
                "{begin} -l me -p 2222 -- far docker --host 'unix:///run/my docker.sock' system dial-stdio"
            )
        );
        assert_eq!(line("ssh://[::1]:22"), format!("{begin} -p 22 -- ::1 docker system dial-stdio"));
    }

    #[test]
    fn what_is_no_address_is_said() {
        for (address, said) in [
            ("ssh://me:secret@far", "password"),
            ("ssh://", "ssh://[USER@]HOST"),
            ("ssh://-oProxyCommand=x", "ssh://[USER@]HOST"),
            ("ssh://far:port", "`port` is no port"),
            ("ssh://far?x", "query"),
        ] {
            let error = SshAddress::parse(address).unwrap_err();
            assert!(error.contains(said) && !error.contains("secret"), "{error}");
        }
    }
}
