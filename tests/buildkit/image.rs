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
const KEPT_TIMES: i64 = 1_704_067_200;
/// Longer contents are shown as digests.
const SHOWN_CONTENT: usize = 200;
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
    let mut extensions = Extensions::new();
    for entry in tar::Archive::new(layer).entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header().clone();
        if header.entry_type() == tar::EntryType::XHeader {
            extensions = pax(&content);
            continue;
        }
        let member = Member { header, content, extensions: std::mem::take(&mut extensions) };
        let path = absolute(&member.text("path", |header| Some(header.path_bytes().into_owned())));
        let known = if member.header.entry_type() == tar::EntryType::Link {
            links.push((absolute(&member.target()), path));
            None
        } else {
            let (path, line) = member.line(path);
            all.insert(path.clone(), line).map(|_| path)
        };
        assert!(known.is_none(), "twice in one layer: {known:?}");
    }
    group(&mut all, links);
    all
}

/// The records of a PAX header (POSIX pax, "Extended Header"); a value may hold any bytes.
type Extensions = BTreeMap<String, Vec<u8>>;

fn pax(mut records: &[u8]) -> Extensions {
    let mut extensions = Extensions::new();
    while let Some(space) = records.iter().position(|&byte| byte == b' ') {
        let length: usize = std::str::from_utf8(&records[..space]).unwrap().parse().unwrap();
        let record = &records[space + 1..length - 1];
        let equals = record.iter().position(|&byte| byte == b'=').unwrap();
        let key = String::from_utf8(record[..equals].to_vec()).unwrap();
        extensions.insert(key, record[equals + 1..].to_vec());
        records = &records[length..];
    }
    extensions
}

/// One member of a layer.
struct Member {
    header: tar::Header,
    content: Vec<u8>,
    extensions: Extensions,
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

impl Member {
    /// A value of the PAX header, else of the member's own.
    fn text(&self, key: &str, header: impl Fn(&tar::Header) -> Option<Vec<u8>>) -> Vec<u8> {
        self.extensions.get(key).cloned().or_else(|| header(&self.header)).unwrap_or_default()
    }

    fn number(&self, key: &str, header: u64) -> u64 {
        let extension = self.extensions.get(key).map(|value| std::str::from_utf8(value).unwrap());
        extension.map_or(header, |value| value.parse().unwrap())
    }

    fn target(&self) -> Vec<u8> {
        self.text("linkpath", |header| header.link_name_bytes().map(|name| name.into_owned()))
    }

    /// Where it is shown, and as what.
    fn line(&self, path: String) -> (String, (String, String)) {
        if let Some((folder, name)) = path.rsplit_once("/.wh.") {
            return match name {
                ".wh..opq" => (format!("{folder}/"), ("opaque".to_owned(), String::new())),
                name => (format!("{folder}/{name}"), ("gone".to_owned(), String::new())),
            };
        }
        let header = &self.header;
        let mode = header.mode().unwrap();
        let user = self.number("uid", header.uid().unwrap());
        let group = self.number("gid", header.gid().unwrap());
        let device = || (header.device_major().unwrap().unwrap(), header.device_minor().unwrap().unwrap());
        let (kind, behind) = match header.entry_type() {
            tar::EntryType::Directory => ("dir".to_owned(), String::new()),
            tar::EntryType::Symlink => ("link".to_owned(), format!(" -> {}", escaped(&self.target(), false))),
            tar::EntryType::Fifo => ("fifo".to_owned(), String::new()),
            tar::EntryType::Char => (format!("char {:?}", device()), String::new()),
            tar::EntryType::Block => (format!("block {:?}", device()), String::new()),
            tar::EntryType::Regular => ("file".to_owned(), String::new()),
            other => panic!("{path}: {other:?}"),
        };
        let content = if kind == "file" { format!(" {}", shown(&self.content)) } else { String::new() };
        let behind = format!("{behind}{}{}", self.attributes(), self.time());
        (path, (format!("{kind} {mode:04o} {user}:{group}{content}"), behind))
    }

    fn attributes(&self) -> String {
        let names = self.extensions.iter();
        let attributes = names.filter_map(|(key, value)| Some((key.strip_prefix("SCHILY.xattr.")?, value)));
        attributes.map(|(name, value)| format!(" {name}={}", escaped(value, true))).collect()
    }

    /// The time if it is not one of the build.
    fn time(&self) -> String {
        let header = |header: &tar::Header| Some(header.mtime().unwrap().to_string().into_bytes());
        let time = String::from_utf8(self.text("mtime", header)).unwrap();
        let seconds: i64 = time.split('.').next().unwrap().parse().unwrap();
        if seconds < KEPT_TIMES { format!(" @{time}") } else { String::new() }
    }
}

fn shown(content: &[u8]) -> String {
    match content.len() {
        0..=SHOWN_CONTENT => escaped(content, true),
        length => format!("{length} bytes {}", shipway::base::digest::Digest::of(content)),
    }
}

fn absolute(path: &[u8]) -> String {
    let path = escaped(path, false);
    format!("/{}", path.trim_start_matches("./").trim_matches('/'))
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
