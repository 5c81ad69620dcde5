//! Heads of requests and answers, and bodies on their way. As much of HTTP/1.1 as the proxy needs.

use std::io::{BufRead, Read, Write};

/// A first line and headers.
pub(super) struct Head {
    first: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads up to the empty line; `None` if nothing came.
    pub(super) fn read(from: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let mut first = String::new();
        if from.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            match line.trim().split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => return Ok(Some(Self { first: first.trim().to_owned(), headers })),
            }
        }
    }

    /// The head of an answer after which nothing comes.
    pub(super) fn answer(status: u16) -> Self {
        let headers = vec![("connection".to_owned(), "close".to_owned())];
        Self { first: format!("HTTP/1.1 {status} Status"), headers }
    }

    /// Method and path.
    pub(super) fn request(&self) -> (String, String) {
        let mut words = self.first.split(' ').map(str::to_owned);
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    pub(super) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// How long the body is.
    pub(super) fn length(&self) -> u64 {
        self.value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// As it goes over the wire.
    pub(super) fn text(&self) -> Vec<u8> {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{}\r\n{headers}\r\n", self.first).into_bytes()
    }

    /// The same with a body.
    pub(super) fn text_of(self, body: &str) -> Vec<u8> {
        let mut text = self.with("content-length", &body.len().to_string()).text();
        text.extend_from_slice(body.as_bytes());
        text
    }

    /// The request as the registry gets it: the login is the proxy's business.
    pub(super) fn forwarded(&self, method: &str, path: &str, secure: bool) -> Vec<u8> {
        let kept = self.headers.iter().filter(|(name, _)| name != "authorization" && name != "connection");
        let (first, headers) = (format!("{method} {path} HTTP/1.1"), kept.cloned().collect());
        let head = Self { first, headers }.with("connection", "close");
        if secure { head.with("x-forwarded-proto", "https").text() } else { head.text() }
    }
}

/// Reads so many bytes and forgets them.
pub(super) fn skip(from: &mut impl Read, bytes: u64) -> std::io::Result<()> {
    std::io::copy(&mut from.take(bytes), &mut std::io::sink()).map(drop)
}

/// Passes up to `bytes` bytes on, as they come, in pieces of at most `piece`; how many it were.
pub(super) fn pass(
    from: &mut impl Read,
    to: &mut impl Write,
    bytes: u64,
    piece: usize,
    mut told: impl FnMut(u64),
) -> std::io::Result<u64> {
    let (mut buffer, mut passed) = (vec![0; piece.min(1 << 16)], 0);
    while passed < bytes {
        let wanted = buffer.len().min(usize::try_from(bytes - passed).unwrap_or(usize::MAX));
        let read = from.read(&mut buffer[..wanted])?;
        if read == 0 {
            break;
        }
        told(read as u64);
        to.write_all(&buffer[..read])?;
        passed += read as u64;
    }
    Ok(passed)
}
