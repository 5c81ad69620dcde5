//! A proxy between shipway and the tests' registry: counts, asks for logins, and fails as real ones do.
//!
//! ```text
//! let proxy = Proxy::start(&registry);                       // an address of its own, plain HTTP
//! scene.write("Dockerfile", &format!("FROM {}/library/busybox\n", proxy.address()));
//! proxy.on("GET", Kind::Blob).times(2).fails(Fault::Status(503));         // the next two
//! proxy.on("PUT", Kind::Upload).skip(1).fails(Fault::DropTokens);         // the second
//! proxy.on("", Kind::Manifest).of("/cache/").always().fails(Fault::Hang); // any method, this path
//! proxy.ask_for(Guard::tokens("user", "password"));          // a token server with scopes, at /token
//! … run shipway …
//! assert_eq!(proxy.count("PUT", Kind::Upload), 2);           // what came, by method and kind of path
//! proxy.seen()                                               // all of it: paths, statuses, bytes
//! proxy.secrets()                                            // what no output may contain
//! proxy.forget()                                             // counts start again; rules stay
//! ```
//!
//! A rule is used by the requests that it fits, the oldest rule first; each request meets one at most. The
//! proxy has a second address, [`Proxy::elsewhere`], at which it serves the same without any login: there
//! redirects go. One thread a connection, one request a connection; everything ends with the test.
//! [`Proxy::secure`] speaks TLS, with certificates of the caller. Not for chunked requests.

mod login;
mod message;

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub(crate) use login::Guard;
use login::Keeper;
use message::Head;

/// What a path is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Anything.
    Any,
    /// `/v2/`
    Ping,
    /// The token server.
    Token,
    Manifest,
    Blob,
    Upload,
    Other,
}

impl Kind {
    fn of(path: &str) -> Self {
        match path.split('?').next().unwrap_or(path) {
            "/v2/" => Self::Ping,
            "/token" => Self::Token,
            path if path.contains("/manifests/") => Self::Manifest,
            path if path.contains("/blobs/uploads/") => Self::Upload,
            path if path.contains("/blobs/") => Self::Blob,
            _ => Self::Other,
        }
    }
}

/// What goes wrong with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// This status and an empty answer.
    Status(u16),
    /// This status with a `Retry-After`.
    RetryAfter(u16, &'static str),
    /// After so many bytes of its body the answer ends.
    Cut(usize),
    /// After so many bytes of its body nobody reads the request any more.
    CutRequest(usize),
    /// The answer comes in pieces of so many bytes with pauses between them.
    Drip(usize, Duration),
    /// No answer, until the other side gives up.
    Hang,
    /// One bit of the answer's body is another one.
    WrongBytes,
    /// A redirect to the same path at [`Proxy::elsewhere`].
    Redirect,
    /// All tokens are worth nothing from now on.
    DropTokens,
    /// `Docker-Content-Digest` is missing.
    NoDigest,
    /// A mount is taken for the begin of an upload.
    NoMount,
    /// The `Location` of an upload has another form.
    Location(Form),
}

/// Forms of a `Location`; the registry's own is absolute with a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// `/v2/…`
    Path,
    /// Only what follows the last slash.
    Last,
    /// At [`Proxy::elsewhere`].
    Elsewhere,
}

/// A request that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// Zero until it is answered.
    pub(crate) status: u16,
    /// Bytes of the request's body.
    pub(crate) up: u64,
    /// Bytes of the answer's body.
    pub(crate) down: u64,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    /// Whether it came to [`Proxy::elsewhere`].
    pub(crate) elsewhere: bool,
}

/// Which requests meet a fault; made by [`Proxy::on`], in force from [`Rule::fails`] on.
pub(crate) struct Rule<'p> {
    proxy: &'p Proxy,
    matcher: Matcher,
}

struct Matcher {
    method: String,
    kind: Kind,
    part: String,
    skip: usize,
    times: usize,
    fault: Fault,
}

struct Shared {
    registry: String,
    address: String,
    elsewhere: String,
    secure: bool,
    rules: Mutex<Vec<Matcher>>,
    seen: Mutex<Vec<Seen>>,
    keeper: Keeper,
}

/// The proxy; it serves as long as the test's process lives.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
}

/// A connection, plain or not.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Proxy {
    /// Before the registry at this address, in plain HTTP.
    pub(crate) fn start(registry: &str) -> Self {
        Self::with(registry, None)
    }

    /// Before the registry, over TLS.
    pub(crate) fn secure(registry: &str, config: rustls::ServerConfig) -> Self {
        Self::with(registry, Some(Arc::new(config)))
    }

    fn with(registry: &str, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (near, far) = (listen(), listen());
        let shared = Arc::new(Shared {
            registry: registry.to_owned(),
            address: near.local_addr().unwrap().to_string(),
            elsewhere: format!("localhost:{}", far.local_addr().unwrap().port()),
            secure: tls.is_some(),
            rules: Mutex::default(),
            seen: Mutex::default(),
            keeper: Keeper::default(),
        });
        for (listener, elsewhere) in [(near, false), (far, true)] {
            let (shared, tls) = (Arc::clone(&shared), tls.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (shared, tls) = (Arc::clone(&shared), tls.clone());
                    std::thread::spawn(move || {
                        let stream: Box<dyn Stream> = match tls {
                            Some(tls) => Box::new(rustls::StreamOwned::new(
                                rustls::ServerConnection::new(tls).unwrap(),
                                stream,
                            )),
                            None => Box::new(stream),
                        };
                        // A peer that goes is none of our business.
                        let _ = shared.serve(BufReader::new(stream), elsewhere);
                    });
                }
            });
        }
        Self { shared }
    }

    /// `host:port`, for names of images.
    pub(crate) fn address(&self) -> &str {
        &self.shared.address
    }

    /// The address to which redirects go.
    pub(crate) fn elsewhere(&self) -> &str {
        &self.shared.elsewhere
    }

    /// The next request of this method (`""`: any) and kind; see [`Rule`].
    pub(crate) fn on(&self, method: &str, kind: Kind) -> Rule<'_> {
        let (method, part) = (method.to_owned(), String::new());
        Rule {
            proxy: self,
            matcher: Matcher { method, kind, part, skip: 0, times: 1, fault: Fault::Status(500) },
        }
    }

    /// No rule holds any more.
    pub(crate) fn heal(&self) {
        lock(&self.shared.rules).clear();
    }

    /// Lets in only who logs in.
    pub(crate) fn ask_for(&self, guard: Guard) {
        self.shared.keeper.ask_for(guard);
    }

    /// Everything that came since the start or [`Proxy::forget`].
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many requests of this method (`""`: any) and kind came.
    pub(crate) fn count(&self, method: &str, kind: Kind) -> usize {
        let fits = |seen: &&Seen| {
            (method.is_empty() || seen.method == method) && (kind == Kind::Any || seen.kind == kind)
        };
        lock(&self.shared.seen).iter().filter(fits).count()
    }

    /// How many bytes bodies had: of requests, of answers.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        lock(&self.shared.seen).iter().fold((0, 0), |(up, down), seen| (up + seen.up, down + seen.down))
    }

    /// Forgets what came.
    pub(crate) fn forget(&self) {
        lock(&self.shared.seen).clear();
    }

    /// Passwords and tokens, also as they go over the wire.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.shared.keeper.secrets()
    }
}

impl Rule<'_> {
    /// Only where the path has this part.
    pub(crate) fn of(mut self, part: &str) -> Self {
        self.matcher.part = part.to_owned();
        self
    }

    /// Not the first ones.
    pub(crate) fn skip(mut self, count: usize) -> Self {
        self.matcher.skip = count;
        self
    }

    /// So many requests.
    pub(crate) fn times(mut self, count: usize) -> Self {
        self.matcher.times = count;
        self
    }

    /// All requests.
    pub(crate) fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// What happens to them.
    pub(crate) fn fails(mut self, fault: Fault) {
        self.matcher.fault = fault;
        lock(&self.proxy.shared.rules).push(self.matcher);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Shared {
    /// The fault that a request meets.
    fn fault(&self, method: &str, kind: Kind, path: &str) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        let fits = |rule: &&mut Matcher| {
            (rule.method.is_empty() || rule.method == method)
                && (rule.kind == Kind::Any || rule.kind == kind)
                && path.contains(&rule.part)
                && rule.times > 0
        };
        for rule in rules.iter_mut().filter(|rule| fits(rule)) {
            if rule.skip == 0 {
                rule.times -= usize::from(rule.times < usize::MAX);
                return Some(rule.fault.clone());
            }
            rule.skip -= 1;
        }
        None
    }

    fn change(&self, at: usize, change: impl FnOnce(&mut Seen)) {
        // What came may have been forgotten meanwhile.
        if let Some(seen) = lock(&self.seen).get_mut(at) {
            change(seen);
        }
    }

    fn serve(&self, mut client: BufReader<Box<dyn Stream>>, elsewhere: bool) -> std::io::Result<()> {
        let Some(request) = Head::read(&mut client)? else { return Ok(()) };
        let (method, path) = request.request();
        let kind = Kind::of(&path);
        let own = |name: &str| request.value(name).map(str::to_owned);
        let fault = if elsewhere { None } else { self.fault(&method, kind, &path) };
        let at = {
            let mut seen = lock(&self.seen);
            let (authorization, range) = (own("authorization"), own("range"));
            let (method, path) = (method.clone(), path.clone());
            seen.push(Seen {
                method,
                path,
                kind,
                status: 0,
                up: 0,
                down: 0,
                authorization,
                range,
                elsewhere,
            });
            seen.len() - 1
        };
        let answer = |client: &mut BufReader<Box<dyn Stream>>, answer: Head, body: &[u8]| {
            self.change(at, |seen| (seen.status, seen.down) = (answer.status(), body.len() as u64));
            message::skip(client, request.length())?;
            client.get_mut().write_all(
                &[answer.with("content-length", &body.len().to_string()).text(), body.to_vec()].concat(),
            )?;
            client.get_mut().flush()
        };
        match &fault {
            Some(Fault::Status(status)) => return answer(&mut client, Head::answer(*status), b""),
            Some(Fault::RetryAfter(status, after)) => {
                return answer(&mut client, Head::answer(*status).with("retry-after", after), b"");
            }
            Some(Fault::Redirect) => {
                let to = format!("{}://{}{path}", self.scheme(), self.elsewhere);
                return answer(&mut client, Head::answer(307).with("location", &to), b"");
            }
            Some(Fault::Hang) => return client.read_to_end(&mut Vec::new()).map(drop),
            Some(Fault::CutRequest(bytes)) => {
                let bytes = request.length().min(*bytes as u64);
                self.change(at, |seen| seen.up = bytes);
                return message::skip(&mut client, bytes);
            }
            Some(Fault::DropTokens) => self.keeper.drop_tokens(),
            _ => {}
        }
        if kind == Kind::Token {
            let mut form = vec![0; request.length() as usize];
            client.read_exact(&mut form)?;
            let (status, text) = self.keeper.token(&path, request.value("authorization"), &form);
            let head = Head::answer(status).with("content-type", "application/json").text_of(&text);
            self.change(at, |seen| seen.status = status);
            client.get_mut().write_all(&head)?;
            return client.get_mut().flush();
        }
        let realm = format!("{}://{}/token", self.scheme(), self.address);
        if let Some(challenge) = self.keeper.refuses(&method, &path, request.value("authorization"), &realm)
            && !elsewhere
        {
            let refused = Head::answer(401).with("www-authenticate", &challenge);
            return answer(&mut client, refused, br#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#);
        }
        let no_mount =
            fault == Some(Fault::NoMount) || self.keeper.refuses_mount(&path, request.value("authorization"));
        let path = if no_mount { path.split('?').next().unwrap_or(&path).to_owned() } else { path };
        self.forward(
            client,
            &request.forwarded(&method, &path, self.secure),
            request.length(),
            fault.as_ref(),
            at,
        )
    }

    /// Passes the request on, and the answer back.
    fn forward(
        &self,
        mut client: BufReader<Box<dyn Stream>>,
        request: &[u8],
        length: u64,
        fault: Option<&Fault>,
        at: usize,
    ) -> std::io::Result<()> {
        let mut registry = TcpStream::connect(&self.registry)?;
        registry.write_all(request)?;
        message::pass(&mut client, &mut registry, length, usize::MAX, |bytes| {
            self.change(at, |seen| seen.up += bytes);
        })?;
        let mut registry = BufReader::new(registry);
        let Some(mut head) = Head::read(&mut registry)? else { return Ok(()) };
        self.change(at, |seen| seen.status = head.status());
        head = head.without("connection").with("connection", "close");
        match fault {
            Some(Fault::NoDigest) => head = head.without("docker-content-digest"),
            Some(Fault::Location(form)) => head = self.relocated(head, *form),
            _ => {}
        }
        client.get_mut().write_all(&head.text())?;
        let told = |bytes| self.change(at, |seen| seen.down += bytes);
        match fault {
            Some(Fault::Cut(bytes)) => {
                message::pass(&mut registry, client.get_mut(), *bytes as u64, usize::MAX, told)?;
            }
            Some(Fault::Drip(bytes, pause)) => loop {
                let passed = message::pass(&mut registry, client.get_mut(), *bytes as u64, *bytes, told)?;
                client.get_mut().flush()?;
                if passed == 0 {
                    break;
                }
                std::thread::sleep(*pause);
            },
            Some(Fault::WrongBytes) => {
                let mut body = Vec::new();
                registry.read_to_end(&mut body)?;
                let middle = body.len() / 2;
                body.get_mut(middle).into_iter().for_each(|byte| *byte ^= 1);
                told(body.len() as u64);
                client.get_mut().write_all(&body)?;
            }
            _ => drop(message::pass(&mut registry, client.get_mut(), u64::MAX, usize::MAX, told)?),
        }
        client.get_mut().flush()
    }

    fn relocated(&self, head: Head, form: Form) -> Head {
        let Some(location) = head.value("location").map(str::to_owned) else { return head };
        let path = location.find("/v2/").map_or(location.as_str(), |at| &location[at..]);
        let path_only = path.split('?').next().unwrap_or(path);
        let last = &path[path_only.rfind('/').map_or(0, |at| at + 1)..];
        let location = match form {
            Form::Path => path.to_owned(),
            Form::Last => last.to_owned(),
            Form::Elsewhere => format!("{}://{}{path}", self.scheme(), self.elsewhere),
        };
        head.without("location").with("location", &location)
    }

    const fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}
