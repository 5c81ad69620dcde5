//! An image as text: what two builders are compared by.
//!
//! ```text
//! config Env "PATH=…"                   one line a value of the config; lists of words one a line
//! step ENV A=b                          a history line that made no layer
//! layer RUN /bin/sh -c true # buildkit  one that made a layer, whose entries follow
//!   dir 0755 0:0 /a
//!   file 0644 0:0 "content" /a/b @1000000000
//!   hard /a/b /a/c                      the same file as the one named first
//!   gone /etc/passwd                    a whiteout; `opaque /d` hides all that is below
//! ```
//!
//! Only what lies above the base image is shown. Times of the build are not, times that the builder took
//! over from a file are. Entries are sorted by path; a hard link is shown at the later path.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;

use serde_json::Value;

/// Later times are those of the build.
const KEPT_TIMES: u64 = 1_704_067_200;
/// Longer contents are shown as digests.
const SHOWN_CONTENT: usize = 120;
/// BuildKit's mark on a history line.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// A built image: its config and its layers as plain tars, bottom first.
pub(super) struct Image {
    pub(super) config: Value,
    pub(super) layers: Vec<Vec<u8>>,
}

/// An entry of a layer by its path: the text before the path, and the text behind it.
pub(super) type Entries = BTreeMap<String, (String, String)>;

impl Image {
    /// The image in an OCI layout that is packed into a tar.
    pub(super) fn in_oci_archive(archive: &[u8]) -> Self {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), content);
        }
        let blob = |descriptor: &Value| -> Vec<u8> {
            let digest = descriptor["digest"].as_str().unwrap();
            files[&format!("blobs/{}", digest.replace(':', "/"))].clone()
        };
        let json = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
        let manifest = json(&blob(&json(&files["index.json"])["manifests"][0]));
        // An image without layers has `null` there.
        let layers = manifest["layers"].as_array().into_iter().flatten().map(|layer| {
            let bytes = blob(layer);
            let mut plain = Vec::new();
            match bytes.starts_with(&[0x1f, 0x8b]) {
                true => flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap(),
                false => bytes.as_slice().read_to_end(&mut plain).unwrap(),
            };
            plain
        });
        Self { config: json(&blob(&manifest["config"])), layers: layers.collect() }
    }

    /// The text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.top_level(&mut text);
        let history = self.config["history"].as_array().cloned().unwrap_or_default();
        let own = history.iter().filter(|line| line["comment"] == COMMENT);
        let made = |line: &&Value| !line["empty_layer"].as_bool().unwrap_or(false);
        let above_base = own.clone().filter(made).count();
        let base = self.layers.len().checked_sub(above_base).expect("history has more layers than there are");
        let mut layers = self.layers[base..].iter();
        for line in own {
            let kind = if made(&line) { "layer" } else { "step" };
            let author =
                line["author"].as_str().map(|author| format!(" author {author}")).unwrap_or_default();
            let created_by = line["created_by"].as_str().unwrap_or_default();
            writeln!(text, "{kind}{author} {}", escaped(created_by.as_bytes(), false)).unwrap();
            if made(&line) {
                for (path, (before, behind)) in entries(layers.next().unwrap()) {
                    writeln!(text, "  {before} {path}{behind}").unwrap();
                }
            }
        }
        text
    }

    fn top_level(&self, text: &mut String) {
        let all = self.config.as_object().unwrap();
        let mut all: Vec<(&String, &Value)> = all.iter().collect();
        all.sort_by_key(|(key, _)| *key);
        let part = |key: &str| self.config[key].as_str().unwrap_or_default().to_owned();
        let variant = Some(part("variant")).filter(|variant| !variant.is_empty());
        let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
        writeln!(text, "platform {}/{}{variant}", part("os"), part("architecture")).unwrap();
        for (key, value) in all {
            match (key.as_str(), value) {
                ("created" | "history" | "rootfs" | "architecture" | "os" | "variant", _) => {}
                ("config", Value::Object(config)) => {
                    let mut config: Vec<(&String, &Value)> = config.iter().collect();
                    config.sort_by_key(|(key, _)| *key);
                    config.iter().for_each(|(key, value)| field(text, &format!("config {key}"), value));
                }
                (key, value) => field(text, key, value),
            }
        }
    }
}

fn field(text: &mut String, key: &str, value: &Value) {
    match value {
        Value::Array(words) if key == "config Env" => {
            words.iter().for_each(|word| writeln!(text, "{key} {word}").unwrap());
        }
        Value::Object(map) if key != "config Healthcheck" => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            for (name, value) in sorted {
                writeln!(text, "{key} {}: {value}", Value::from(name.as_str())).unwrap();
            }
        }
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            writeln!(text, "{key} {}", serde_json::to_string(&sorted).unwrap()).unwrap();
        }
        value => writeln!(text, "{key} {value}").unwrap(),
    }
}

/// The entries of a layer.
pub(super) fn entries(layer: &[u8]) -> Entries {
    let mut all = Entries::new();
    let mut links: Vec<(String, String)> = Vec::new();
    for entry in tar::Archive::new(layer).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = absolute(&entry.path_bytes());
        let kind = entry.header().entry_type();
        let known = if kind == tar::EntryType::Link {
            links.push((absolute(&entry.link_name_bytes().unwrap()), path));
            None
        } else {
            let (path, line) = line(&mut entry, path);
            all.insert(path.clone(), line).map(|_| path)
        };
        assert!(known.is_none(), "twice in one layer: {known:?}");
    }
    group(&mut all, links);
    all
}

/// Shows hard links at all paths but the first.
fn group(all: &mut Entries, links: Vec<(String, String)>) {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (target, path) in links {
        groups.entry(target).or_default().push(path);
    }
    for (target, mut paths) in groups {
        let line = all.remove(&target).unwrap_or_else(|| panic!("a link to {target}, which is not there"));
        paths.push(target);
        paths.sort();
        for path in &paths[1..] {
            all.insert(path.clone(), (format!("hard {}", paths[0]), String::new()));
        }
        all.insert(paths[0].clone(), line);
    }
}

fn line(entry: &mut tar::Entry<'_, &[u8]>, path: String) -> (String, (String, String)) {
    if let Some((folder, name)) = path.rsplit_once("/.wh.") {
        return match name {
            ".wh..opq" => (or_root(folder), ("opaque".to_owned(), String::new())),
            name => (format!("{folder}/{name}"), ("gone".to_owned(), String::new())),
        };
    }
    let (mut attributes, mut time) = (String::new(), entry.header().mtime().unwrap().to_string());
    if let Some(extensions) = entry.pax_extensions().unwrap() {
        for extension in extensions.map(Result::unwrap) {
            let key = extension.key().unwrap();
            if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                let value = escaped(extension.value_bytes(), true);
                write!(attributes, " {name}={value}").unwrap();
            } else if key == "mtime" {
                time = extension.value().unwrap().to_owned();
            }
        }
    }
    let header = entry.header().clone();
    let (mode, user, group) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
    let device = || (header.device_major().unwrap().unwrap(), header.device_minor().unwrap().unwrap());
    let mut behind = attributes;
    let kind = match header.entry_type() {
        tar::EntryType::Directory => "dir".to_owned(),
        tar::EntryType::Symlink => {
            let target = entry.link_name_bytes().unwrap();
            behind = format!(" -> {}{behind}", escaped(&target, false));
            "link".to_owned()
        }
        tar::EntryType::Fifo => "fifo".to_owned(),
        tar::EntryType::Char => format!("char {:?}", device()),
        tar::EntryType::Block => format!("block {:?}", device()),
        tar::EntryType::Regular => "file".to_owned(),
        other => panic!("{path}: {other:?}"),
    };
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    let content = if kind == "file" { format!(" {}", shown(&content)) } else { String::new() };
    if time.split('.').next().unwrap().parse::<u64>().unwrap() < KEPT_TIMES {
        write!(behind, " @{time}").unwrap();
    }
    (path, (format!("{kind} {mode:04o} {user}:{group}{content}"), behind))
}

fn shown(content: &[u8]) -> String {
    match content.len() {
        0..=SHOWN_CONTENT => escaped(content, true),
        length => format!("{length} bytes {}", shipway::base::digest::Digest::of(content)),
    }
}

fn absolute(path: &[u8]) -> String {
    let path = escaped(path, false);
    or_root(&format!("/{}", path.trim_start_matches("./").trim_matches('/')))
}

fn or_root(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

/// Bytes on one line; what is not printable ASCII or UTF-8 is written as Rust writes it.
pub(super) fn escaped(bytes: &[u8], quoted: bool) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' if quoted => text.push_str("\\\""),
                '"' | '\'' => text.push(character),
                character => text.extend(character.escape_debug()),
            }
        }
        chunk.invalid().iter().for_each(|byte| write!(text, "\\x{byte:02x}").unwrap());
    }
    if quoted { format!("\"{text}\"") } else { text }
}
