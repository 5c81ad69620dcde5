//! Pushes to a registry of a few lines that fails as real ones do.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::base::digest::Digest;
use crate::base::event::{Event, Recorded, Silent};
use crate::oci::{Formed, ImageForm, RegistryOptions, media};

/// What the registry has and what it was asked.
#[derive(Default)]
struct State {
    blobs: BTreeSet<String>,
    manifests: HashMap<String, Vec<u8>>,
    /// Method and path of every request, in order.
    asked: Vec<String>,
    /// Statuses of the next requests that match a prefix.
    faults: Vec<(&'static str, u16)>,
    /// Whether a mount succeeds.
    mounts: bool,
    /// Whether everything but the token itself needs one.
    guarded: bool,
}

#[derive(Clone)]
struct Server {
    state: Arc<Mutex<State>>,
    address: String,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Self { state: Arc::default(), address };
        let own = server.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream.unwrap()));
            }
        });
        server
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut length, mut token) = (String::new(), 0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if head.is_empty() {
                head = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            token |= line.to_ascii_lowercase().starts_with("authorization: bearer tok");
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let content = if head.starts_with("GET /token") { r#"{"token":"tok"}"# } else { "" };
        let denied = content.is_empty() && !token && self.state.lock().unwrap().guarded;
        let (status, more) = match denied {
            true => (
                401,
                format!("www-authenticate: Bearer realm=\"http://{}/token\",service=\"s\"\r\n", self.address),
            ),
            false => self.answer(&head, body),
        };
        let length = content.len();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n");
        let text = head + content;
        let _ = stream.write_all(text.as_bytes());
    }

    fn answer(&self, head: &str, body: Vec<u8>) -> (u16, String) {
        let state = &mut *self.state.lock().unwrap();
        state.asked.push(head.to_owned());
        if let Some(at) = state.faults.iter().position(|(prefix, _)| head.starts_with(prefix)) {
            return (state.faults.remove(at).1, String::new());
        }
        let (method, path) = head.split_once(' ').unwrap();
        let last = path.rsplit('/').next().unwrap();
        let location = format!("location: http://{}/v2/a/b/blobs/uploads/1\r\n", self.address);
        match method {
            "GET" => (200, String::new()),
            "HEAD" if path.contains("/manifests/") => match state.manifests.get(last) {
                Some(bytes) => (200, format!("docker-content-digest: {}\r\n", Digest::of(bytes))),
                None => (404, String::new()),
            },
            "HEAD" => (if state.blobs.contains(last) { 200 } else { 404 }, String::new()),
            "POST" => (if path.contains("mount=") && state.mounts { 201 } else { 202 }, location),
            "PUT" if path.contains("/manifests/") => {
                state.manifests.insert(last.to_owned(), body);
                (201, location)
            }
            _ => {
                let digest = Digest::of(&body).to_string();
                let named = path.replace("%3A", ":").ends_with(&digest);
                state.blobs.insert(digest);
                (if named { 201 } else { 400 }, location)
            }
        }
    }

    fn name(&self, repository: &str) -> Reference {
        Reference::parse(&format!("{}/{repository}", self.address)).unwrap()
    }

    /// The requests that change something, without addresses.
    fn changes(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let changing = state.asked.iter().filter(|head| head.starts_with("P"));
        changing.map(|head| head.split('?').next().unwrap().to_owned()).collect()
    }
}

/// An image of one layer in a store.
struct Image {
    _folder: tempfile::TempDir,
    store: Store,
    layer: Descriptor,
    formed: Formed,
}

impl Image {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let content: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
        let mut blob = store.write_blob().unwrap();
        blob.write_all(&content).unwrap();
        blob.finish(None).unwrap();
        let layer = Descriptor::of(media::LAYER_GZIP, &content);
        let formed = ImageForm::default().manifest(b"{}", vec![layer.clone(), layer.clone()]);
        Self { _folder: folder, store, layer, formed }
    }

    fn push(
        &self,
        name: &Reference,
        known_in: Option<Reference>,
        events: &dyn Events,
    ) -> Result<Pushed, OciError> {
        let layer = PushLayer { descriptor: self.layer.clone(), known_in };
        let push = Push {
            names: std::slice::from_ref(name),
            manifest: (&self.formed.manifest, &self.formed.document),
            config: (&self.formed.config, b"{}"),
            layers: &[layer.clone(), layer],
        };
        let registry = Registry::new(RegistryOptions::default()).unwrap();
        registry.push(&self.store, &push, events, &Cancel::new().unwrap())
    }
}

#[test]
fn what_is_missing_goes_and_the_manifest_last() {
    let (server, image, events) = (Server::start(), Image::new(), Recorded::default());
    let name = server.name("a/b:1");
    let pushed = image.push(&name, None, &events).unwrap();
    assert_eq!(pushed, Pushed { uploaded: 2, mounted: 0 });
    let changes = server.changes();
    assert_eq!(changes.len(), 5);
    assert_eq!(changes.last().unwrap(), "PUT /v2/a/b/manifests/1");
    assert_eq!(server.state.lock().unwrap().manifests["1"], image.formed.document);
    let total = Some(image.layer.size + 2);
    let end =
        Event::Transfer { what: format!("push {}", name.familiar()), done: image.layer.size + 2, total };
    assert_eq!(events.take().last(), Some(&end));
    server.state.lock().unwrap().asked.clear();
    assert_eq!(image.push(&name, None, &Silent).unwrap(), Pushed::default());
    assert_eq!(server.changes(), [""; 0]);
}

#[test]
fn what_may_pass_is_tried_again() {
    let (server, image) = (Server::start(), Image::new());
    server.state.lock().unwrap().faults = vec![
        ("PUT /v2/a/b/blobs", 503),
        ("POST", 429),
        ("HEAD /v2/a/b/blobs", 500),
        ("PUT /v2/a/b/manifests", 502),
    ];
    assert_eq!(image.push(&server.name("a/b:1"), None, &Silent).unwrap().uploaded, 2);
    assert!(server.state.lock().unwrap().blobs.contains(&image.layer.digest.to_string()));
}

#[test]
fn a_blob_is_mounted_where_the_registry_does_it() {
    let (server, image) = (Server::start(), Image::new());
    let from = || Some(server.name("base:1"));
    assert_eq!(
        image.push(&server.name("a/b:1"), from(), &Silent).unwrap(),
        Pushed { uploaded: 2, mounted: 0 }
    );
    server.state.lock().unwrap().blobs.clear();
    server.state.lock().unwrap().mounts = true;
    assert_eq!(
        image.push(&server.name("a/b:2"), from(), &Silent).unwrap(),
        Pushed { uploaded: 1, mounted: 1 }
    );
    let asked = server.state.lock().unwrap().asked.join("\n");
    assert!(asked.contains("from=base") && asked.contains("mount="), "{asked}");
}

#[test]
fn a_denied_push_is_said_and_leaves_no_manifest() {
    let (server, image) = (Server::start(), Image::new());
    server.state.lock().unwrap().faults = vec![("POST", 401), ("POST", 401)];
    let error = image.push(&server.name("a/b:1"), None, &Silent).unwrap_err().to_string();
    assert!(error.contains("denies access"), "{error}");
    assert!(server.state.lock().unwrap().manifests.is_empty());
}

#[test]
fn a_token_for_pushing_is_fetched_where_one_is_needed() {
    let (server, image) = (Server::start(), Image::new());
    server.state.lock().unwrap().guarded = true;
    assert_eq!(image.push(&server.name("a/b:1"), None, &Silent).unwrap().uploaded, 2);
    let asked = server.state.lock().unwrap().asked.join("\n");
    assert!(asked.contains("scope=repository%3Aa%2Fb%3Apull%2Cpush"), "{asked}");
}
