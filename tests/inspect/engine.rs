//! The engine's API as it is on the wire: raw answers, so that nothing is compared through our own types.
//!
//! One request a connection, over the engine's Unix socket; no API version, so that every engine says all
//! that it knows. What a case needs beforehand is made here, and everything of a project is removed here.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

/// An engine behind a Unix socket.
pub(super) struct Engine {
    socket: String,
    /// Its version: `28.5.2`.
    pub(super) version: String,
}

/// The label of what a case needs beforehand.
const BEFORE: &str = "test.before";
/// The label of everything that belongs to a project.
const PROJECT: &str = "com.docker.compose.project";

impl Engine {
    pub(super) fn new(host: &str) -> Self {
        let socket = host.strip_prefix("unix://").expect("the engine of the tests has a Unix socket");
        let mut engine = Self { socket: socket.to_owned(), version: String::new() };
        engine.version = engine.get("/version")["Version"].as_str().unwrap().to_owned();
        engine
    }

    /// A request and its answer: the status and the body.
    pub(super) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Vec<u8>) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = "Content-Type: application/json";
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: d\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = Vec::new();
        // An engine that needs no body may close before it has read it.
        let read = stream.read_to_end(&mut answer);
        assert!(read.is_ok() || !answer.is_empty(), "{path}: {read:?}");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8_lossy(&answer[..end]);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        (status, answer[end + 4..].to_vec())
    }

    pub(super) fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None);
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    fn make(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call("POST", path, Some(body));
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!((200..300).contains(&status), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Everything of a kind (`containers`, `networks`, `volumes`) with a label.
    pub(super) fn labelled(&self, kind: &str, label: &str) -> Vec<Value> {
        let filters = format!("%7B%22label%22:%5B%22{label}%22%5D%7D");
        let path = if kind == "containers" { "containers/json" } else { kind };
        let found = self.get(&format!("/{path}?all=1&filters={filters}"));
        let list = if kind == "volumes" { &found["Volumes"] } else { &found };
        list.as_array().cloned().unwrap_or_default()
    }

    /// What the project `name` has of a kind, as the engine's inspect says it.
    pub(super) fn inspected(&self, kind: &str, name: &str) -> Vec<Value> {
        let inspect = |one: &Value| match kind {
            "containers" => self.get(&format!("/containers/{}/json", one["Id"].as_str().unwrap())),
            "networks" => self.get(&format!("/networks/{}", one["Id"].as_str().unwrap())),
            _ => self.get(&format!("/volumes/{}", one["Name"].as_str().unwrap())),
        };
        self.labelled(kind, &format!("{PROJECT}={name}")).iter().map(inspect).collect()
    }

    /// Makes what a case needs beforehand, one a line: `container NAME`, `network NAME`, `volume NAME`,
    /// `image NAME INSTRUCTION;INSTRUCTION…`.
    pub(super) fn before(&self, text: &str, project: &str) {
        let labels = json!({BEFORE: project});
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (kind, rest) = line.split_once(' ').unwrap();
            let container = json!({"Image": "busybox:latest", "Cmd": ["sleep", "1000"], "Labels": labels});
            match kind {
                "container" => {
                    let made = self.make(&format!("/containers/create?name={rest}"), &container);
                    self.call("POST", &format!("/containers/{}/start", made["Id"].as_str().unwrap()), None);
                }
                "network" => drop(self.make("/networks/create", &json!({"Name": rest, "Labels": labels}))),
                "volume" => drop(self.make("/volumes/create", &json!({"Name": rest, "Labels": labels}))),
                "image" => {
                    let (name, changes) = rest.split_once(' ').unwrap();
                    let made = self.make("/containers/create", &container);
                    let id = made["Id"].as_str().unwrap();
                    let changes = changes.split(';').map(|change| format!("&changes={}", escaped(change)));
                    let path = format!(
                        "/commit?container={id}&repo={name}&tag=latest{}",
                        changes.collect::<String>()
                    );
                    self.make(&path, &json!({"Labels": labels}));
                }
                other => panic!("no such thing as a {other}"),
            }
        }
    }

    /// Removes everything of a project and what was made before it.
    pub(super) fn remove(&self, project: &str, before: &str) {
        for label in [format!("{PROJECT}={project}"), format!("{BEFORE}={project}")] {
            for one in self.labelled("containers", &label) {
                self.call(
                    "DELETE",
                    &format!("/containers/{}?force=1&v=1", one["Id"].as_str().unwrap()),
                    None,
                );
            }
            for one in self.labelled("networks", &label) {
                self.call("DELETE", &format!("/networks/{}", one["Id"].as_str().unwrap()), None);
            }
            for one in self.labelled("volumes", &label) {
                self.call("DELETE", &format!("/volumes/{}?force=1", one["Name"].as_str().unwrap()), None);
            }
        }
        for image in before.lines().filter_map(|line| line.strip_prefix("image ")) {
            let name = image.split(' ').next().unwrap();
            self.call("DELETE", &format!("/images/{name}?force=1"), None);
        }
    }

    /// A file in a container as one line: kind, mode, owner, content.
    pub(super) fn file(&self, container: &str, path: &str) -> String {
        let (status, body) = self.call("GET", &format!("/containers/{container}/archive?path={path}"), None);
        if status == 404 {
            return "is not there".to_owned();
        }
        let mut archive = tar::Archive::new(body.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let header = entry.header().clone();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        let (mode, owner) = (header.mode().unwrap() & 0o7777, (header.uid().unwrap(), header.gid().unwrap()));
        format!("{:?} {mode:04o} {}:{} {content:?}", header.entry_type(), owner.0, owner.1)
    }
}

/// Text as a value of a URL's query.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
