//! Downloads: one file behind one URL, or the answer that it is still the one that was had before.
//!
//! A blocking face over `reqwest` with a runtime of its own. Redirects are followed, proxies are those that
//! the environment names. The bytes go to the caller's writer as they come, nothing decompresses them.
//! Nothing is asked again: who wants a second try starts the build again.

use std::error::Error;
use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use time::PrimitiveDateTime;
use tokio::runtime::Runtime;

use super::RemoteError;
use super::source::shown_url;
use crate::base::cancel::Cancel;
use crate::base::fs::AtPath;

/// How long an answer may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// What tells whether a file is still the same (RFC 9110, "Validator Fields").
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Validators {
    /// `ETag`, as it came.
    pub etag: Option<String>,
    /// `Last-Modified`, as it came.
    pub last_modified: Option<String>,
}

/// What a server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The file is the one that had the validators.
    Same,
    /// This file, whose bytes were written.
    File(Validators),
}

/// All web servers. Cheap until it is asked something; several threads may ask at once.
pub struct Http {
    runtime: Runtime,
    client: OnceLock<Client>,
}

impl Validators {
    /// The moment of `Last-Modified` in seconds since 1970, if there is one that can be read.
    pub fn modified(&self) -> Option<i64> {
        let format = "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT";
        let format = time::format_description::parse_borrowed::<2>(format).ok()?;
        let moment = PrimitiveDateTime::parse(self.last_modified.as_deref()?.trim(), &format).ok()?;
        Some(moment.assume_utc().unix_timestamp())
    }

    fn of(response: &Response) -> Self {
        let text = |name: HeaderName| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        Self { etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let pairs = [(header::IF_NONE_MATCH, &self.etag), (header::IF_MODIFIED_SINCE, &self.last_modified)];
        for (name, value) in pairs {
            let value = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok());
            headers.extend(value.map(|value| (name, value)));
        }
        headers
    }
}

impl Http {
    /// Prepares to ask; asks nothing yet.
    pub fn new() -> Result<Self, RemoteError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().map_err(RemoteError::Network)?;
        Ok(Self { runtime, client: OnceLock::new() })
    }

    /// Downloads `url` into `into`, unless it is still the file that had the validators in `known`.
    /// `authorization` is sent to the host of the URL alone and reaches no error.
    pub fn get(
        &self,
        url: &str,
        known: Option<&Validators>,
        authorization: Option<&str>,
        into: &mut dyn Write,
        cancel: &Cancel,
    ) -> Result<Answer, RemoteError> {
        let mut headers = known.map(Validators::headers).unwrap_or_default();
        if let Some(mut value) = authorization.and_then(|text| HeaderValue::from_str(text).ok()) {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let _inside = self.runtime.enter();
        let question = self.client()?.get(url).headers(headers).send();
        let fetching = Fetching { url, cancel };
        self.runtime.block_on(async {
            let response =
                fetching.unless_cancelled(question).await?.map_err(|error| fetching.failed(&error))?;
            match response.status() {
                StatusCode::NOT_MODIFIED if known.is_some() => Ok(Answer::Same),
                status if status.is_success() => fetching.read(response, into).await.map(Answer::File),
                status => Err(RemoteError::Status { url: shown_url(url), status: status.to_string() }),
            }
        })
    }

    fn client(&self) -> Result<&Client, RemoteError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // The HTTP library panics where this fails.
        rustls_platform_verifier::Verifier::new(Arc::clone(&provider))
            .map_err(|error| RemoteError::NoCertificates(error.to_string()))?;
        // Another part of the program may have chosen the same one before.
        let _ = rustls::crypto::CryptoProvider::install_default((*provider).clone());
        let client = Client::builder()
            .user_agent(concat!("shipway/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(|error| RemoteError::NoCertificates(root_cause(&error)))?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// One question.
struct Fetching<'f> {
    url: &'f str,
    cancel: &'f Cancel,
}

impl Fetching<'_> {
    async fn read(&self, response: Response, into: &mut dyn Write) -> Result<Validators, RemoteError> {
        let validators = Validators::of(&response);
        let mut bytes = response.bytes_stream();
        while let Some(piece) = self.unless_cancelled(bytes.next()).await? {
            let piece = piece.map_err(|error| self.broken(&error))?;
            into.write_all(&piece).at_path("write", shown_url(self.url))?;
        }
        Ok(validators)
    }

    fn failed(&self, error: &reqwest::Error) -> RemoteError {
        let (url, problem) = (shown_url(self.url), root_cause(error));
        if error.is_connect() { RemoteError::Unreachable { url, problem } } else { self.broken(error) }
    }

    fn broken(&self, error: &reqwest::Error) -> RemoteError {
        RemoteError::Read { url: shown_url(self.url), problem: root_cause(error) }
    }

    /// Waits for `future`, but not after the user has stopped the command.
    async fn unless_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T, RemoteError> {
        let stopped = async {
            while !self.cancel.is_cancelled() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            biased;
            () = stopped => Err(RemoteError::Cancelled),
            done = future => Ok(done),
        }
    }
}

/// What lies at the bottom of an error; addresses, which may hold signatures, are in the layers above.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request after the other with these texts; returns the address and the requests.
    fn server(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                requests.push(lines.join("\n").to_lowercase());
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
            requests
        });
        (address, serving)
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn a_file_is_fetched_once_and_asked_about_later() {
        let headers = "ETag: \"x\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let moved = "Location: /there\r\n";
        let (address, serving) = server(vec![
            answer("302 Found", moved, ""),
            answer("200 OK", headers, "text"),
            "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_owned(),
        ]);
        let (http, cancel) = (Http::new().unwrap(), Cancel::new().unwrap());
        let mut bytes = Vec::new();
        let url = format!("{address}/here");
        let first = http.get(&url, None, Some("Bearer t"), &mut bytes, &cancel).unwrap();
        let Answer::File(validators) = first else { panic!("{first:?}") };
        assert_eq!((bytes.as_slice(), validators.modified()), (&b"text"[..], Some(784_111_777)));
        let again = http.get(&url, Some(&validators), None, &mut bytes, &cancel).unwrap();
        assert_eq!(again, Answer::Same);
        let requests = serving.join().unwrap();
        assert!(requests[0].contains("authorization: bearer t"), "{requests:?}");
        assert!(requests[1].starts_with("get /there"), "{requests:?}");
        assert!(requests[2].contains("if-none-match: \"x\""), "{requests:?}");
        assert!(requests[2].contains("if-modified-since: sun, 06 nov"), "{requests:?}");
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        let (http, cancel) = (Http::new().unwrap(), Cancel::new().unwrap());
        let get = |url: &str| http.get(url, None, None, &mut Vec::new(), &cancel).unwrap_err().to_string();
        let (address, serving) = server(vec![
            answer("404 Not Found", "", "no"),
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nhalf".to_owned(),
        ]);
        assert_eq!(get(&format!("{address}/x")), format!("{address}/x answers 404 Not Found"));
        assert!(get(&format!("{address}/x")).starts_with("cannot read http://127.0.0.1"));
        serving.join().unwrap();
        assert!(get("http://me:word@127.0.0.1:1/x").starts_with("cannot reach http://me:…@127.0.0.1:1/x: "));
        cancel.cancel();
        assert_eq!(get(&format!("{address}/x")), "stopped");
    }

    #[test]
    fn times_that_cannot_be_read_are_none() {
        let modified =
            |text: &str| Validators { etag: None, last_modified: Some(text.to_owned()) }.modified();
        assert_eq!(modified("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(modified("yesterday"), None);
        assert_eq!(Validators::default().modified(), None);
    }
}
