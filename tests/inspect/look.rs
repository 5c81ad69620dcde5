//! What the engine says of a project, as text that is the same on every machine and in every run.
//!
//! Everything that `inspect` says is flattened to lines `path = value`; nothing (null, empty text, empty
//! list) is no line. Left out is only what is no setting: state, times, where the engine keeps it. Names
//! and numbers that a run chose (ids, the project's name and folder, addresses that no file asks for) have
//! words in their place. Lists whose order is chance in Docker Compose are sorted.
//!
//! A container is shown as its differences from the one container of the case `plain`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::engine::Engine;

/// Path → value.
pub(super) type Lines = BTreeMap<String, String>;

/// What a run chose, and the words for it.
pub(super) struct Words {
    pub(super) project: String,
    pub(super) folder: String,
    /// Everything that the user wrote: an address that occurs there was not chosen by the engine.
    pub(super) written: String,
    /// The files in the containers to look at.
    pub(super) files: Vec<String>,
}

/// Everything of a project by `kind name`, in order.
pub(super) fn look(engine: &Engine, words: &Words) -> BTreeMap<String, Lines> {
    let kinds = ["containers", "networks", "volumes"].map(|kind| engine.inspected(kind, &words.project));
    let mut ids = Vec::new();
    for (kind, found) in ["container", "network"].iter().zip(&kinds) {
        for one in found {
            let (id, name) = (text(&one["Id"]), text(&one["Name"]));
            let name = name.trim_start_matches('/');
            ids.push((id.to_owned(), format!("<{kind} {name}>")));
            ids.push((id[..12].to_owned(), format!("<short id of {name}>")));
        }
    }
    let mut all = BTreeMap::new();
    let [containers, networks, volumes] = kinds;
    for container in &containers {
        let mut lines = container_lines(container, words);
        for file in &words.files {
            lines.insert(format!("file {file}"), engine.file(text(&container["Id"]), file));
        }
        all.insert(format!("container {}", text(&container["Name"]).trim_start_matches('/')), lines);
    }
    for network in &networks {
        all.insert(format!("network {}", text(&network["Name"])), network_lines(network, words));
    }
    for volume in &volumes {
        let kept = ["Driver", "Labels", "Options", "Scope"];
        all.insert(format!("volume {}", anonymous(text(&volume["Name"]))), flat(&only(volume, &kept)));
    }
    let portable = |text: &str| portable(text, &ids, words);
    let line = |(path, value): (&String, &String)| {
        let path = portable(path);
        let value = portable(&fixed(&path, value));
        (path, value)
    };
    let lines =
        |lines: &Lines| lines.iter().map(line).filter(|(path, _)| !path.contains("\"dev.shipway.")).collect();
    all.iter().map(|(name, of)| (portable(name), lines(of))).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Some fields of an object.
fn only(value: &Value, kept: &[&str]) -> Value {
    kept.iter().map(|key| ((*key).to_owned(), value[*key].clone())).collect::<serde_json::Map<_, _>>().into()
}

fn container_lines(container: &Value, words: &Words) -> Lines {
    let mut kept = only(container, &["Args", "Config", "HostConfig", "Mounts", "Path", "Platform"]);
    kept["HostConfig"]["Mounts"] = by_name(&kept["HostConfig"]["Mounts"], "Target");
    if !words.written.contains("cgroup:") {
        // The engine's choice, by what the machine's kernel has.
        kept["HostConfig"]["CgroupnsMode"] = Value::Null;
    }
    kept["HostConfig"]["Ulimits"] = by_name(&kept["HostConfig"]["Ulimits"], "Name");
    if kept["HostConfig"]["RestartPolicy"]["Name"] == "no" {
        // Some engines say it where nobody did, some do not.
        kept["HostConfig"]["RestartPolicy"]["Name"] = Value::Null;
    }
    kept["Mounts"] = by_name(&kept["Mounts"], "Destination");
    for mount in kept["Mounts"].as_object_mut().into_iter().flatten() {
        if mount.1["Type"] == "volume" {
            mount.1["Source"] = Value::Null;
        }
    }
    let mut lines = flat(&kept);
    for (name, network) in container["NetworkSettings"]["Networks"].as_object().into_iter().flatten() {
        let fields = ["Aliases", "DriverOpts", "GwPriority", "IPAMConfig", "Links", "MacAddress"];
        let mut network = only(network, &fields);
        if !words.written.to_lowercase().contains(&text(&network["MacAddress"]).to_lowercase()) {
            network["MacAddress"] = Value::Null;
        }
        lines.insert(format!("Networks.\"{name}\""), "joined".to_owned());
        flatten(&network, &format!("Networks.\"{name}\""), &mut lines);
    }
    lines
}

fn network_lines(network: &Value, words: &Words) -> Lines {
    let fields = [
        "Attachable",
        "ConfigFrom",
        "ConfigOnly",
        "Driver",
        "EnableIPv4",
        "EnableIPv6",
        "IPAM",
        "Ingress",
        "Internal",
        "Labels",
        "Options",
        "Scope",
    ];
    let mut network = only(network, &fields);
    for pool in network["IPAM"]["Config"].as_array_mut().into_iter().flatten() {
        for (_, address) in pool.as_object_mut().unwrap() {
            if address.as_str().is_some_and(|address| !words.written.contains(address)) {
                *address = Value::from("<chosen by the engine>");
            }
        }
    }
    flat(&network)
}

/// A list of objects as an object by one of their fields.
fn by_name(list: &Value, field: &str) -> Value {
    let items = list.as_array().into_iter().flatten();
    items.map(|item| (text(&item[field]).to_owned(), item.clone())).collect::<serde_json::Map<_, _>>().into()
}

fn flat(value: &Value) -> Lines {
    let mut lines = Lines::new();
    flatten(value, "", &mut lines);
    lines
}

fn flatten(value: &Value, path: &str, lines: &mut Lines) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        Value::Object(fields) => {
            for (key, value) in fields {
                let letters = key.starts_with(|first: char| first.is_ascii_alphabetic());
                let plain = letters && key.chars().all(|letter| letter.is_ascii_alphanumeric());
                // Keys whose value says nothing (`ExposedPorts`) and labels without one are there all the same.
                let empty = value.as_object().is_some_and(serde_json::Map::is_empty) || value == "";
                let key = if plain { below(key) } else { format!("{path}.{key:?}") };
                if empty && !plain {
                    lines.insert(key.clone(), "nothing".to_owned());
                }
                flatten(value, &key, lines);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                flatten(item, &format!("{path}[{index}]"), lines);
            }
        }
        other => drop(lines.insert(path.to_owned(), other.to_string())),
    }
}

/// A value without what is chance.
fn fixed(path: &str, value: &str) -> String {
    let sorted = ["Config.Env", "HostConfig.Binds", "HostConfig.ExtraHosts", "HostConfig.Links"];
    if sorted.contains(&path) || path.ends_with(".Links") {
        let mut items: Vec<String> = serde_json::from_str(value).unwrap();
        items.sort();
        return serde_json::to_string(&items).unwrap();
    }
    match path.rsplit_once("\"com.docker.compose.").map(|(_, label)| label.trim_end_matches('"')) {
        Some("config-hash") => "<hash>".to_owned(),
        Some("version") => "<version>".to_owned(),
        Some("depends_on") => {
            let mut items: Vec<&str> = value.trim_matches('"').split(',').collect();
            items.sort_unstable();
            format!("{:?}", items.join(","))
        }
        _ => value.to_owned(),
    }
}

/// Text with words for what a run chose.
fn portable(text: &str, ids: &[(String, String)], words: &Words) -> String {
    let mut text = text.to_owned();
    for (id, word) in ids {
        text = text.replace(id, word);
    }
    let text = text.replace(&words.folder, "FOLDER").replace(&words.project, "PROJECT");
    let mut shown = String::new();
    for part in text.split_inclusive(|letter: char| !letter.is_ascii_hexdigit()) {
        let word = part.trim_end_matches(|letter: char| !letter.is_ascii_hexdigit());
        let image = shown.strip_suffix("sha256:").map(str::len);
        if let Some(length) = image.filter(|_| word.len() == 64) {
            shown.truncate(length);
            shown.push_str("<image>");
        } else {
            shown.push_str(&anonymous(word));
        }
        shown.push_str(&part[word.len()..]);
    }
    shown
}

/// A word for the name that an engine gives a volume without one.
fn anonymous(word: &str) -> String {
    let chosen = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if chosen { "<anonymous>".to_owned() } else { word.to_owned() }
}

/// What differs from the plain case, as text.
pub(super) fn text_of(all: &BTreeMap<String, Lines>, plain: &BTreeMap<String, Lines>) -> String {
    let mut text = String::new();
    for (name, lines) in all {
        text.push_str(&format!("{name}\n"));
        let kind = name.split(' ').next().unwrap_or_default();
        let base =
            plain.iter().find(|(name, _)| name.starts_with(kind)).map(|(_, base)| renamed(base, name, lines));
        let base = base.unwrap_or_default();
        for (path, value) in lines.iter().filter(|(path, value)| base.get(*path) != Some(*value)) {
            text.push_str(&format!("  {path} = {value}\n"));
        }
        for path in base.keys().filter(|path| !lines.contains_key(*path)) {
            text.push_str(&format!("  {path} is not there\n"));
        }
    }
    text
}

/// The plain case's lines with the names of another container.
fn renamed(base: &Lines, name: &str, lines: &Lines) -> Lines {
    let name = name.rsplit(' ').next().unwrap_or_default();
    let service = lines.get("Config.Labels.\"com.docker.compose.service\"");
    let line = |(path, value): (&String, &String)| {
        let value = value.replace("PROJECT-plain-1", name);
        let value = service.map_or(value.clone(), |service| value.replace("\"plain\"", service));
        (path.clone(), value)
    };
    base.iter().map(line).collect()
}

/// The whole again from the text of the plain case.
pub(super) fn parsed(text: &str) -> BTreeMap<String, Lines> {
    let mut all: BTreeMap<String, Lines> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        match line.strip_prefix("  ").and_then(|line| line.split_once(" = ")) {
            Some((path, value)) => {
                all.entry(current.clone()).or_default().insert(path.to_owned(), value.to_owned());
            }
            None => line.clone_into(&mut current),
        }
    }
    all
}
