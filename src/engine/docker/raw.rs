//! One request on a connection of its own: for streams that go both ways, and for answers whose beginning
//! has to be seen before something else is done.
//!
//! `exec`, `attach` and `wait` need this. The API's library splits what comes back by lines and by a guess
//! at its form, so that the output of a terminal which begins with a zero byte stalls it; here the bytes
//! come as they are. HTTP/1.1 with what Docker's API uses of it, nothing pooled and nothing repeated.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::super::{EngineError, Result};
use super::Docker;
use super::transport::{Way, Wire, dial};

/// The longest head of an answer that is read.
const LONGEST_HEAD: u64 = 64 * 1024;
/// The longest message that is read.
const LONGEST_MESSAGE: u64 = 1 << 20;

/// Where such connections go, and what stands before the path of each request.
pub(super) struct Raw {
    pub(super) way: Way,
    pub(super) prefix: String,
}

/// An answer whose head has been read.
pub(super) struct Answer {
    /// What follows the head.
    pub(super) stream: BufReader<Wire>,
    head: Head,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: Option<u64>,
    chunked: bool,
}

/// Sends a `POST` and reads the answer's head; a status beyond 299 is an error with the engine's message.
/// `upgrade` asks for the connection as a plain stream.
pub(super) async fn post(
    docker: &Docker,
    action: &str,
    path: &str,
    body: Option<Value>,
    upgrade: bool,
) -> Result<Answer> {
    let broken = |error: io::Error| broken(action, &error);
    let mut stream = BufReader::new(dial(&docker.raw.way).await.map_err(broken)?);
    stream
        .write_all(request(&format!("{}{path}", docker.raw.prefix), body, upgrade).as_bytes())
        .await
        .map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let head = read_head(&mut stream).await.map_err(broken)?;
    let status = head.status;
    let mut answer = Answer { stream, head };
    if status < 300 {
        return Ok(answer);
    }
    let text = answer.body(action).await?;
    let message = serde_json::from_slice::<Value>(&text).ok();
    let message = message.as_ref().and_then(|value| value.get("message")?.as_str());
    let message = message.map_or_else(|| String::from_utf8_lossy(&text).trim().to_owned(), str::to_owned);
    let action = action.to_owned();
    Err(match status {
        404 => EngineError::NotFound { action, message },
        status => EngineError::Refused { action, status, message },
    })
}

impl Answer {
    /// The answer's content, to its end.
    pub(super) async fn body(&mut self, action: &str) -> Result<Vec<u8>> {
        let read = if self.head.chunked { self.chunks().await } else { self.plain().await };
        read.map_err(|error| broken(action, &error))
    }

    async fn plain(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let length = self.head.length.unwrap_or(LONGEST_MESSAGE).min(LONGEST_MESSAGE);
        (&mut self.stream).take(length).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    /// `LENGTH in hexadecimal`, the bytes, an empty line; a length of zero ends it.
    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let mut line = String::new();
            (&mut self.stream).take(LONGEST_HEAD).read_line(&mut line).await?;
            let text = line.trim().split(';').next().unwrap_or_default();
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a chunk of the answer has no length");
            let length = u64::from_str_radix(text, 16).map_err(|_| wrong())?;
            if length == 0 || length.saturating_add(bytes.len() as u64) > LONGEST_MESSAGE {
                return Ok(bytes);
            }
            (&mut self.stream).take(length).read_to_end(&mut bytes).await?;
            (&mut self.stream).take(2).read_to_end(&mut Vec::new()).await?;
        }
    }
}

fn broken(action: &str, error: &io::Error) -> EngineError {
    EngineError::Broken { action: action.to_owned(), message: error.to_string() }
}

fn request(path: &str, body: Option<Value>, upgrade: bool) -> String {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let how = if upgrade { "Connection: Upgrade\r\nUpgrade: tcp" } else { "Connection: close" };
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: docker\r\nUser-Agent: shipway\r\n{how}\r\nContent-Type: application/json\r\nContent-Length: \
         {length}\r\n\r\n{body}"
    )
}

async fn read_head(stream: &mut BufReader<Wire>) -> io::Result<Head> {
    let mut text = String::new();
    let mut limited = stream.take(LONGEST_HEAD);
    loop {
        let before = text.len();
        limited.read_line(&mut text).await?;
        match &text[before..] {
            "" => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the engine hung up")),
            "\r\n" | "\n" => break,
            _ => {}
        }
    }
    head(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn head(text: &str) -> Option<Head> {
    let mut lines = text.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let mut head = Head { status, length: None, chunked: false };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.trim().parse().ok(),
            "transfer-encoding" => head.chunked = value.to_ascii_lowercase().contains("chunked"),
            _ => {}
        }
    }
    Some(head)
}

/// A text as a part of an address.
pub(super) fn quoted(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &'static [u8]) -> (io::Result<Head>, Option<Vec<u8>>) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(answer).await.unwrap();
        drop(theirs);
        let mut stream: BufReader<Wire> = BufReader::new(Wire::new(ours));
        match read_head(&mut stream).await {
            Ok(head) => {
                let mut answer = Answer { stream, head };
                let body = answer.body("try").await.ok();
                (Ok(answer.head), body)
            }
            Err(error) => (Err(error), None),
        }
    }

    #[test]
    fn answers_are_read_in_every_form() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = |answer| runtime.block_on(answered(answer));
        let (head, body) = read(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nX: y\r\n\r\nabcdef");
        assert_eq!(head.unwrap(), Head { status: 404, length: Some(3), chunked: false });
        assert_eq!(body.unwrap(), b"abc");
        let chunked =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n";
        assert_eq!(read(chunked).1.unwrap(), b"{\"a\":1}");
        let endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nffffffffffffffff\r\nb";
        assert_eq!(read(endless).1.unwrap(), b"a", "what is beyond every limit is not read");
        assert_eq!(read(b"HTTP/1.1 101 UPGRADED\r\n\r\n\x00\x01raw").1.unwrap(), b"\x00\x01raw");
        assert!(read(b"").0.is_err() && read(b"SSH-2.0\r\n\r\n").0.is_err());
    }

    #[test]
    fn requests_have_their_length_and_names_are_quoted() {
        let text = request("/a", Some(serde_json::json!({"Tty": true})), true);
        assert!(text.starts_with("POST /a HTTP/1.1\r\n") && text.contains("Upgrade: tcp\r\n"));
        assert!(text.contains("Content-Length: 12\r\n") && text.ends_with("\r\n\r\n{\"Tty\":true}"));
        assert_eq!(quoted("ctrl-p,ctrl-^/é"), "ctrl-p%2Cctrl-%5E%2F%C3%A9");
    }
}
