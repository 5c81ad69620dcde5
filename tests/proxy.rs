//! A proxy between the program and a real registry: counts, and does what real registries do on bad days.
//!
//! ```ignore
//! let proxy = Proxy::before(&registry);
//! proxy.rule("GET", "/blobs/", 1, Fault::Cut(100));        // the first blob is cut after 100 bytes
//! scene.shipway(&["build"]).ok();                          // FROM {proxy.address()}/library/busybox
//! assert_eq!(proxy.count("GET", "/blobs/"), 2);            // it came again
//! ```
//!
//! One request a connection, plain HTTP on a loopback address. With [`Proxy::asks_for_a_token`] it wants what
//! registries with a login want: a bearer token from its own `/token`, given for name and password, good for
//! so many requests.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status instead of an answer.
    Status(u16),
    /// The connection is cut after so many bytes of the answer's body.
    Cut(usize),
    /// A byte in the middle of the body is another one.
    Flip,
    /// The connection is cut after so many bytes of the request's body.
    CutUpload(usize),
    /// No answer at all.
    Drop,
    /// The header of this name, in small letters, is left out of the answer.
    Strip(&'static str),
    /// The query is left out of the request: registries that do not mount.
    NoQuery,
    /// The answer is a redirect to another host, where the rest of the path gives the blob.
    Redirect(String),
}

/// The login that a proxy wants.
struct Login {
    name: &'static str,
    password: &'static str,
    /// How many requests a token is good for.
    uses: usize,
    /// Tokens with the requests that they are still good for.
    tokens: HashMap<String, usize>,
}

#[derive(Default)]
struct State {
    rules: Vec<(&'static str, String, usize, Fault)>,
    /// Method, path, and whether it had an `Authorization`.
    seen: Vec<(String, String, bool)>,
    bytes: usize,
    login: Option<Login>,
}

/// A running proxy; it lives as long as the process.
pub(crate) struct Proxy {
    address: String,
    state: Arc<Mutex<State>>,
}

struct Message {
    first: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Proxy {
    /// Stands before the registry at `host:port`.
    pub(crate) fn before(registry: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let proxy = Self { address: address.clone(), state: Arc::clone(&state) };
        let registry = registry.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, registry, address) = (Arc::clone(&state), registry.clone(), address.clone());
                // What a broken connection leaves undone is what the test is about.
                std::thread::spawn(move || serve(client, &state, &registry, &address).unwrap_or(()));
            }
        });
        proxy
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The next `times` requests of this method whose path has this in it go wrong.
    pub(crate) fn rule(&self, method: &'static str, path: &str, times: usize, fault: Fault) {
        self.state.lock().unwrap().rules.push((method, path.to_owned(), times, fault));
    }

    /// From now on requests need a token.
    pub(crate) fn asks_for_a_token(&self, name: &'static str, password: &'static str, uses: usize) {
        let login = Login { name, password, uses, tokens: HashMap::new() };
        self.state.lock().unwrap().login = Some(login);
    }

    /// How many requests of this method had this in their path.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.seen.iter().filter(|(seen, at, _)| seen == method && at.contains(path)).count()
    }

    /// How many requests of any method went to a repository whose path has this in it.
    pub(crate) fn requests(&self, path: &str) -> usize {
        self.state.lock().unwrap().seen.iter().filter(|(_, at, _)| at.contains(path)).count()
    }

    /// Whether any request came with an `Authorization`.
    pub(crate) fn was_trusted(&self) -> bool {
        self.state.lock().unwrap().seen.iter().any(|(_, _, trusted)| *trusted)
    }

    /// Bytes of all bodies, both ways.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().unwrap().bytes
    }

    /// Forgets rules and counts.
    pub(crate) fn forget(&self) {
        let mut state = self.state.lock().unwrap();
        (state.rules, state.seen, state.bytes) = Default::default();
    }
}

fn serve(mut client: TcpStream, state: &Mutex<State>, registry: &str, address: &str) -> std::io::Result<()> {
    let Some(request) = head(&mut client)? else { return Ok(()) };
    let mut words = request.first.split(' ');
    let (method, path) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
    let authorization = request.header("authorization").map(str::to_owned);
    let (fault, refused) = {
        let mut state = state.lock().unwrap();
        state.seen.push((method.clone(), path.clone(), authorization.is_some()));
        let rule = state
            .rules
            .iter_mut()
            .find(|(wanted, part, times, _)| *wanted == method && path.contains(part.as_str()) && *times > 0);
        let fault = rule.map(|rule| {
            rule.2 -= 1;
            rule.3.clone()
        });
        (fault, state.login.as_mut().and_then(|login| login.refuse(&path, authorization.as_deref(), address)))
    };
    let mut request = request;
    if let Some(Fault::CutUpload(bytes)) = fault {
        let mut some = vec![0; bytes];
        client.read_exact(&mut some)?;
        return client.shutdown(Shutdown::Both);
    }
    request.read_body(&mut client)?;
    if let Some(answer) = refused {
        return client.write_all(answer.as_bytes());
    }
    match &fault {
        Some(Fault::Drop) => return client.shutdown(Shutdown::Both),
        Some(Fault::Status(code)) => {
            let text = format!(
                "HTTP/1.1 {code} x\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            return client.write_all(text.as_bytes());
        }
        Some(Fault::Redirect(to)) => {
            let text = format!(
                "HTTP/1.1 307 x\r\nLocation: http://{to}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            return client.write_all(text.as_bytes());
        }
        Some(Fault::NoQuery) => {
            request.first = format!("{method} {} HTTP/1.1", path.split('?').next().unwrap_or(""));
        }
        _ => {}
    }
    let mut upstream = TcpStream::connect(registry)?;
    upstream.write_all(&request.bytes())?;
    let Some(mut answer) = head(&mut upstream)? else { return Ok(()) };
    if method != "HEAD" {
        upstream.read_to_end(&mut answer.body)?;
    }
    state.lock().unwrap().bytes += request.body.len() + answer.body.len();
    match fault {
        Some(Fault::Strip(name)) => answer.headers.retain(|(known, _)| known.to_lowercase() != name),
        Some(Fault::Flip) if !answer.body.is_empty() => {
            let middle = answer.body.len() / 2;
            answer.body[middle] ^= 1;
        }
        Some(Fault::Cut(bytes)) => {
            // The length that was announced stays.
            answer.body.truncate(bytes);
        }
        _ => {}
    }
    client.write_all(&answer.bytes())?;
    client.shutdown(Shutdown::Both)
}

impl Login {
    /// The answer to a request that has no good token, and to one that asks for one.
    fn refuse(&mut self, path: &str, authorization: Option<&str>, address: &str) -> Option<String> {
        let answer = |status: &str, header: &str, body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        };
        if path.starts_with("/token") {
            let expected = BASE64_STANDARD.encode(format!("{}:{}", self.name, self.password));
            if authorization != Some(&format!("Basic {expected}")) {
                return Some(answer("401 Unauthorized", "", "{}"));
            }
            let token = format!("token-{}", self.tokens.len());
            self.tokens.insert(token.clone(), self.uses);
            return Some(answer("200 OK", "", &format!("{{\"token\":\"{token}\"}}")));
        }
        let left = authorization
            .and_then(|text| text.strip_prefix("Bearer "))
            .and_then(|token| self.tokens.get_mut(token))
            .filter(|left| **left > 0);
        match left {
            Some(left) => {
                *left -= 1;
                None
            }
            None => {
                let header =
                    format!("WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"r\"\r\n");
                let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
                Some(answer("401 Unauthorized", &header, body))
            }
        }
    }
}

/// First line and headers; `None` where the other side said nothing.
fn head(stream: &mut TcpStream) -> std::io::Result<Option<Message>> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        bytes.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or("").to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(Some(Message { first, headers, body: Vec::new() }))
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Uploads say how long they are.
    fn read_body(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        let length = self.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        self.body = vec![0; length];
        stream.read_exact(&mut self.body)
    }

    /// The message, its connection to be closed after it.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.first).into_bytes();
        let headers = self.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("connection"));
        for (name, value) in headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(b"Connection: close\r\n\r\n");
        bytes.extend(&self.body);
        bytes
    }
}
