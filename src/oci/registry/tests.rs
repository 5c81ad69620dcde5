//! A registry of a few lines that fails as real ones do, and a real one where there is one.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::base::digest::BlobId;
use crate::base::event::{Event, Recorded, Silent};
use crate::base::testing::{available, variable};
use crate::store::Store;

/// What the next answers are; the last stays.
#[derive(Clone)]
enum Answer {
    /// The content with a media type.
    Content(&'static str, Vec<u8>),
    /// A status with a body.
    Status(u16, &'static str),
    /// The content's head promises more than comes.
    Cut(Vec<u8>, usize),
    /// Nothing, for as long as the other side waits.
    Silence,
    /// The content in single bytes, each after a while.
    Drip(Vec<u8>),
    /// 401 unless a bearer token is there, else the content.
    Protected(&'static str, Vec<u8>),
}

/// Answers by path, and the paths that were asked for.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<HashMap<String, Vec<Answer>>>>,
    asked: Arc<Mutex<Vec<String>>>,
    address: String,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Self { address, ..Self::default() };
        let own = server.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream.unwrap()));
            }
        });
        server.answer("/v2/", Answer::Status(200, "{}"));
        server
    }

    fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().entry(path.to_owned()).or_default().push(answer);
    }

    fn blob(&self, bytes: &[u8]) {
        self.answer(&format!("/v2/a/b/blobs/{}", Digest::of(bytes)), Answer::Content("x/y", bytes.to_vec()));
    }

    fn reference(&self, suffix: &str) -> Reference {
        Reference::parse(&format!("{}/a/b{suffix}", self.address)).unwrap()
    }

    /// An image of one layer under the tag `1`.
    fn image(&self, layer: &[u8]) -> Manifest {
        let mut config = ImageConfig::empty(&Platform::host());
        config.config.cmd = vec!["x".into()];
        self.blob(&config.to_json());
        let layer = Descriptor::of(media::DOCKER_LAYER, layer);
        let mut manifest =
            Manifest::new(Descriptor::of(media::DOCKER_CONFIG, &config.to_json()), vec![layer]);
        manifest.media_type = media::DOCKER_MANIFEST.to_owned();
        self.answer("/v2/a/b/manifests/1", Answer::Content(media::DOCKER_MANIFEST, manifest.to_json()));
        manifest
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut token, mut path) = (false, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let lower = line.trim().to_ascii_lowercase();
            token |= lower.starts_with("authorization: bearer tok");
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap().to_owned();
            }
            if lower.is_empty() {
                break;
            }
        }
        self.asked.lock().unwrap().push(path.clone());
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            match answers.get_mut(path.split('?').next().unwrap()) {
                Some(left) if left.len() > 1 => left.remove(0),
                Some(left) => left[0].clone(),
                None => Answer::Status(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"m"}]}"#),
            }
        };
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", self.address);
        let mut send = |status: u16, kind: &str, extra: &str, bytes: &[u8], length: usize| {
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n{extra}\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(bytes));
        };
        match answer {
            Answer::Content(kind, bytes) => send(200, kind, "", &bytes, bytes.len()),
            Answer::Status(401, body) => {
                send(
                    401,
                    "application/json",
                    &format!("www-authenticate: {realm}\r\n"),
                    body.as_bytes(),
                    body.len(),
                );
            }
            Answer::Status(status, body) => send(status, "application/json", "", body.as_bytes(), body.len()),
            Answer::Silence => drop(std::io::Read::read(&mut stream, &mut [0])),
            Answer::Drip(bytes) => {
                send(200, "x/y", "", b"", bytes.len());
                for byte in bytes {
                    std::thread::sleep(Duration::from_millis(20));
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                }
            }
            Answer::Cut(bytes, at) => send(200, "x/y", "", &bytes[..at], bytes.len()),
            Answer::Protected(kind, bytes) if token => send(200, kind, "", &bytes, bytes.len()),
            Answer::Protected(..) => {
                send(401, "application/json", &format!("www-authenticate: {realm}\r\n"), b"{}", 2);
            }
        }
    }
}

fn registry() -> Registry {
    Registry::new(RegistryOptions::default()).unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn resolve(reference: &Reference) -> Result<Resolved, OciError> {
    registry().resolve(reference, &Platform::host(), &Cancel::new().unwrap())
}

#[test]
fn a_docker_image_is_resolved_and_fetched_with_progress() {
    let server = Server::start();
    let layer = vec![7; 3 << 20];
    let manifest = server.image(&layer);
    server.blob(&layer);
    let resolved = resolve(&server.reference(":1")).unwrap();
    assert_eq!(resolved.parsed, manifest);
    assert_eq!(resolved.reference.digest(), Some(&Digest::of(manifest.to_json())));
    assert_eq!(resolved.image.config.cmd, ["x"]);
    let (_folder, store) = store();
    let events = Recorded::default();
    let cancel = Cancel::new().unwrap();
    registry().fetch(&store, &resolved, &events, &cancel).unwrap();
    for digest in [Digest::of(&layer), manifest.config.digest, resolved.manifest.descriptor.digest] {
        assert!(store.has_blob(BlobId(digest)));
    }
    let events = events.take();
    let size = layer.len() as u64;
    let name = server.reference(":1").familiar();
    let end = Event::Transfer { what: format!("pull {name}"), done: size, total: Some(size) };
    assert_eq!(events.last(), Some(&end));
    assert!(events.len() > 2 && events.iter().filter(|event| **event == end).count() == 1);

    server.asked.lock().unwrap().clear();
    registry().fetch(&store, &resolved, &Silent, &cancel).unwrap();
    assert!(server.asked.lock().unwrap().is_empty());
    let digest = registry().digest(&server.reference(":1"), &cancel).unwrap();
    assert_eq!(digest, resolved.manifest.descriptor.digest);
}

#[test]
fn the_platform_is_chosen_from_an_index() {
    let server = Server::start();
    let manifest = server.image(b"layer");
    let entry = |platform: Option<&str>, bytes: &[u8]| Descriptor {
        platform: platform.map(|text| text.parse().unwrap()),
        ..Descriptor::of(media::MANIFEST, bytes)
    };
    let mut entries =
        vec![entry(Some("linux/s390x"), b"1"), entry(Some("unknown/unknown"), b"2"), entry(None, b"3")];
    let wrong = Index::new(entries.clone()).to_json();
    server.answer("/v2/a/b/manifests/wrong", Answer::Content(media::INDEX, wrong));
    let error = resolve(&server.reference(":wrong")).unwrap_err().to_string();
    assert!(
        error.contains(&Platform::host().to_string()) && error.ends_with("it has linux/s390x"),
        "{error}"
    );

    entries.push(entry(Some(&Platform::host().to_string()), &manifest.to_json()));
    let index = Index::new(entries).to_json();
    server.answer("/v2/a/b/manifests/index", Answer::Content(media::INDEX, index.clone()));
    let path = format!("/v2/a/b/manifests/{}", Digest::of(manifest.to_json()));
    server.answer(&path, Answer::Content(media::DOCKER_MANIFEST, manifest.to_json()));
    let resolved = resolve(&server.reference(":index")).unwrap();
    assert_eq!(resolved.reference.digest(), Some(&Digest::of(&index)));
    assert_eq!(resolved.manifest.descriptor.digest, Digest::of(manifest.to_json()));
}

#[test]
fn what_may_pass_is_asked_again() {
    let server = Server::start();
    server.answer("/v2/a/b/manifests/1", Answer::Status(429, "slow down"));
    server.answer("/v2/a/b/manifests/1", Answer::Status(503, ""));
    let layer: Vec<u8> = (0..200_000u32).map(|number| (number % 251) as u8).collect();
    server.image(&layer);
    let path = format!("/v2/a/b/blobs/{}", Digest::of(&layer));
    server.answer(&path, Answer::Cut(layer.clone(), 100_000));
    server.answer(&path, Answer::Status(500, ""));
    server.blob(&layer);
    let resolved = resolve(&server.reference(":1")).unwrap();
    let (_folder, store) = store();
    registry().fetch(&store, &resolved, &Silent, &Cancel::new().unwrap()).unwrap();
    assert!(store.has_blob(BlobId(Digest::of(&layer))));
}

#[test]
fn tokens_are_fetched_where_a_registry_asks_for_them() {
    let server = Server::start();
    server.answer("/token", Answer::Content("application/json", br#"{"token":"tok"}"#.to_vec()));
    let open = Server::start();
    let manifest = open.image(b"layer");
    let config = ImageConfig {
        config: super::super::ContainerConfig { cmd: vec!["x".into()], ..Default::default() },
        ..ImageConfig::empty(&Platform::host())
    };
    let blob = format!("/v2/a/b/blobs/{}", manifest.config.digest);
    server.answer("/v2/a/b/manifests/1", Answer::Protected(media::DOCKER_MANIFEST, manifest.to_json()));
    server.answer(&blob, Answer::Protected("x/y", config.to_json()));
    assert_eq!(resolve(&server.reference(":1")).unwrap().parsed, manifest);
}

fn impatient() -> Registry {
    Registry::new(RegistryOptions { silence: Duration::from_millis(200), ..RegistryOptions::default() })
        .unwrap()
}

#[test]
fn a_registry_that_says_nothing_is_asked_once_more() {
    let server = Server::start();
    server.answer("/v2/a/b/manifests/1", Answer::Silence);
    let cancel = Cancel::new().unwrap();
    let error = impatient().resolve(&server.reference(":1"), &Platform::host(), &cancel).unwrap_err();
    assert!(error.to_string().ends_with("it does not answer, also when asked again"), "{error}");
    assert_eq!(server.asked.lock().unwrap().len(), 2);
}

#[test]
fn what_only_drips_is_cut() {
    let server = Server::start();
    let layer = vec![7; 4000];
    server.image(&layer);
    server.answer(&format!("/v2/a/b/blobs/{}", Digest::of(&layer)), Answer::Drip(layer.clone()));
    let resolved = resolve(&server.reference(":1")).unwrap();
    let (_folder, store) = store();
    let result = impatient().fetch(&store, &resolved, &Silent, &Cancel::new().unwrap());
    let error = result.unwrap_err().to_string();
    assert!(error.contains("it sends too slowly, also when asked again"), "{error}");
    // A small document has as long as an answer may be silent.
    server.answer("/v2/a/b/manifests/drip", Answer::Drip(vec![b' '; 4000]));
    let cancel = Cancel::new().unwrap();
    let error = impatient().resolve(&server.reference(":drip"), &Platform::host(), &cancel).unwrap_err();
    assert!(error.to_string().contains("it does not answer"), "{error}");
}

#[test]
fn errors_say_what_to_do_and_come_at_once() {
    let server = Server::start();
    let text = |reference: &Reference| resolve(reference).unwrap_err().to_string();
    assert!(matches!(resolve(&server.reference(":none")), Err(OciError::NotFound { .. })));
    server.answer("/v2/a/b/manifests/closed", Answer::Status(403, "{}"));
    assert!(text(&server.reference(":closed")).contains("denies access"));
    server.answer("/v2/a/b/manifests/old", Answer::Content("x", br#"{"schemaVersion":1}"#.to_vec()));
    assert!(text(&server.reference(":old")).contains("not supported yet: manifests of schema version 1"));
    server.answer("/v2/a/b/manifests/odd", Answer::Content("x", b"<html>".to_vec()));
    assert!(matches!(resolve(&server.reference(":odd")), Err(OciError::Registry { .. })));
    let nobody = Reference::parse("127.0.0.1:1/a").unwrap();
    assert!(text(&nobody).starts_with("cannot reach the registry `127.0.0.1:1`: Connection refused"));
}

#[test]
fn bytes_that_are_not_what_was_asked_for_are_refused() {
    let server = Server::start();
    let manifest = server.image(b"layer");
    let path = format!("/v2/a/b/blobs/{}", Digest::of(b"layer"));
    let resolved = resolve(&server.reference(":1")).unwrap();
    let (_folder, store) = store();
    server.answer(&path, Answer::Content("x/y", b"layer that is longer".to_vec()));
    let result = registry().fetch(&store, &resolved, &Silent, &Cancel::new().unwrap());
    assert!(result.is_err() && !store.has_blob(BlobId(resolved.manifest.descriptor.digest)));
    let other = format!("/v2/a/b/manifests/{}", Digest::of("other"));
    server.answer(&other, Answer::Content(media::DOCKER_MANIFEST, manifest.to_json()));
    let reference = server.reference("").with_digest(Digest::of("other"));
    let cancel = Cancel::new().unwrap();
    cancel.cancel();
    assert!(matches!(registry().resolve(&reference, &Platform::host(), &cancel), Err(OciError::Cancelled)));
}

#[test]
fn a_real_registry_gives_its_images() {
    let address = variable("SHIPWAY_TEST_REGISTRY");
    if !available(address.is_some(), "a registry in SHIPWAY_TEST_REGISTRY") {
        return;
    }
    let text = format!("{}/library/busybox", address.unwrap());
    let resolved = resolve(&Reference::parse(&text).unwrap()).unwrap();
    let (_folder, store) = store();
    registry().fetch(&store, &resolved, &Silent, &Cancel::new().unwrap()).unwrap();
    assert_eq!(resolved.parsed.layers.len(), resolved.image.rootfs.diff_ids.len());
    for layer in &resolved.parsed.layers {
        assert!(store.has_blob(BlobId(layer.digest)));
    }
}
