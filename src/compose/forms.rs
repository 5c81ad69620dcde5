//! The short forms: each function turns what a key may be abbreviated to into its long form.
//!
//! Called by [`super::shape`] for the rows of the attribute table that name them. Every node made here
//! carries the place of the text it came from. Short forms of ports and mounts are in [`super::specs`].

use std::path::Path;

use super::paths;
use super::specs;
use super::tree::{Entry, Kind, Map, Node};
use crate::base::diag::{Diagnostic, Span};

/// Where a file stands, for relative paths.
pub(super) struct Place<'a> {
    /// The absolute folder against which relative paths count.
    pub folder: &'a Path,
    /// The caller's home folder, for `~`.
    pub home: Option<&'a str>,
    /// Whether paths are made absolute at all.
    pub resolve: bool,
    /// Whether variables stand unreplaced, so that a text with one may become anything.
    pub literal: bool,
}

impl Place<'_> {
    /// Whether a text is not known yet, because it has a variable.
    pub(super) fn is_open(&self, text: &str) -> bool {
        self.literal && text.contains('$')
    }

    /// Makes a path absolute, unless paths stay as they are or it begins with a variable.
    pub(super) fn resolve(&self, path: &mut String) {
        if self.resolve && !(self.literal && path.starts_with('$')) {
            *path = paths::absolute(path, self.folder, self.home);
        }
    }
}

/// What a short form became.
pub(super) enum Formed {
    /// The final nodes (a list item may become several).
    Done(Vec<Node>),
    /// A long form that is yet to be shaped.
    More(Node),
}

/// A function that writes a short form out.
pub(super) type Form = fn(Node, &Place<'_>) -> Result<Formed, Box<Diagnostic>>;

/// A function that works on a shaped mapping as a whole.
pub(super) type Finish = fn(&mut Node, &Place<'_>) -> Result<(), Box<Diagnostic>>;

type Forming = Result<Formed, Box<Diagnostic>>;

/// A mistake at a node.
pub(super) fn wrong(node: &Node, message: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(message).at(node.span.clone(), ""))
}

fn done(node: Node) -> Forming {
    Ok(Formed::Done(vec![node]))
}

/// `build: FOLDER`.
pub(super) fn build(node: Node, _: &Place<'_>) -> Forming {
    Ok(Formed::More(single(node, "context")))
}

/// `extends: SERVICE`.
pub(super) fn extends(node: Node, _: &Place<'_>) -> Forming {
    Ok(Formed::More(single(node, "service")))
}

/// A config or secret by its name alone.
pub(super) fn file_use(node: Node, _: &Place<'_>) -> Forming {
    Ok(Formed::More(single(node, "source")))
}

/// A text becomes a mapping with that one key.
fn single(node: Node, key: &str) -> Node {
    match &node.kind {
        Kind::Text(text) => {
            let value = Node { fault: node.fault.clone(), ..Node::text(text.clone(), &node.span) };
            let mut map = Node::map([(key, value)], &node.span);
            map.mark = node.mark;
            map
        }
        _ => node,
    }
}

/// An env file by its path alone.
pub(super) fn env_file(node: Node, _: &Place<'_>) -> Forming {
    let short = node.as_text().is_some();
    let mut long = single(node, "path");
    let span = long.span.clone();
    if let Some(map) = long.as_map_mut().filter(|_| short) {
        let required = Node::new(Kind::Bool(true), span.clone());
        map.insert("required".to_owned(), Entry { key: span, node: required });
    }
    Ok(Formed::More(long))
}

/// A list of services.
pub(super) fn depends_on(node: Node, place: &Place<'_>) -> Forming {
    let Kind::List(items) = node.kind else { return Ok(Formed::More(node)) };
    let started = |span: &Span| {
        let condition = Node::text("service_started", span);
        let required = Node::new(Kind::Bool(true), span.clone());
        Node::map([("condition", condition), ("required", required)], span)
    };
    let map = listed(items, started)?;
    let _ = place;
    Ok(Formed::More(Node { kind: Kind::Map(map), ..Node::new(Kind::Null, node.span) }))
}

/// A list of names, as a mapping with empty values.
pub(super) fn names(node: Node, _: &Place<'_>) -> Forming {
    let Kind::List(items) = node.kind else { return Ok(Formed::More(node)) };
    let map = listed(items, |span| Node::new(Kind::Null, span.clone()))?;
    Ok(Formed::More(Node { kind: Kind::Map(map), mark: node.mark, ..Node::new(Kind::Null, node.span) }))
}

fn listed(items: Vec<Node>, value: impl Fn(&Span) -> Node) -> Result<Map, Box<Diagnostic>> {
    let mut map = Map::new();
    for item in items {
        let Kind::Text(name) = &item.kind else {
            return Err(wrong(&item, format!("a name is expected here, and this is {}", item.kind_name())));
        };
        let entry = Entry { key: item.span.clone(), node: value(&item.span) };
        if let Some(first) = map.insert(name.clone(), entry) {
            let mistake = *wrong(&item, format!("`{name}` stands twice in this list"));
            return Err(Box::new(mistake.also(first.key, "first here")));
        }
    }
    Ok(map)
}

/// Lists and mappings of hosts, as `HOST=ADDRESS`.
pub(super) fn extra_hosts(node: Node, _: &Place<'_>) -> Forming {
    let mut lines = Vec::new();
    match &node.kind {
        Kind::List(items) => {
            for item in items {
                let text = item.as_text().ok_or_else(|| wrong(item, "`HOST=ADDRESS` is expected here"))?;
                let (host, address) = text
                    .split_once('=')
                    .or_else(|| text.split_once(':'))
                    .ok_or_else(|| wrong(item, format!("`{text}` is not `HOST=ADDRESS`")))?;
                lines.push(host_line(host, address, &item.span));
            }
        }
        Kind::Map(map) => {
            for (host, entry) in map {
                let one = std::slice::from_ref(&entry.node);
                for address in entry.node.as_list().unwrap_or(one) {
                    let text =
                        address.as_text().ok_or_else(|| wrong(address, "an address is expected here"))?;
                    lines.push(host_line(host, text, &entry.key));
                }
            }
        }
        _ => return Ok(Formed::More(node)),
    }
    done(Node { kind: Kind::List(lines), ..node })
}

fn host_line(host: &str, address: &str, span: &Span) -> Node {
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    Node::text(format!("{host}={address}"), span)
}

/// `ID[=PATH]` as a list, or a mapping.
pub(super) fn ssh(node: Node, _: &Place<'_>) -> Forming {
    let Kind::Map(map) = &node.kind else { return Ok(Formed::More(node)) };
    let lines = map.iter().map(|(id, entry)| match entry.node.scalar_text() {
        Some(path) if !path.is_empty() => Node::text(format!("{id}={path}"), &entry.key),
        _ => Node::text(id.clone(), &entry.key),
    });
    let lines = lines.collect();
    done(Node { kind: Kind::List(lines), ..node })
}

/// A mapping that has no list form.
pub(super) fn mapping(node: Node, _: &Place<'_>) -> Forming {
    match node.kind {
        Kind::List(_) => Err(wrong(&node, "a mapping is expected here, and this is a list")),
        _ => Ok(Formed::More(node)),
    }
}

/// `gpus: all`.
pub(super) fn gpus(node: Node, _: &Place<'_>) -> Forming {
    if node.as_text() != Some("all") {
        return Ok(Formed::More(node));
    }
    let all = Node::map([("count", Node::new(Kind::Int(-1), node.span.clone()))], &node.span);
    done(Node { kind: Kind::List(vec![all]), ..node })
}

/// `count: all`.
pub(super) fn device_count(node: Node, _: &Place<'_>) -> Forming {
    match node.as_text() {
        Some("all") => done(Node { kind: Kind::Int(-1), ..node }),
        _ => Ok(Formed::More(node)),
    }
}

/// A health check's command as one text runs in a shell.
pub(super) fn healthcheck_test(node: Node, _: &Place<'_>) -> Forming {
    match &node.kind {
        Kind::Text(text) => {
            let items = vec![Node::text("CMD-SHELL", &node.span), Node::text(text.clone(), &node.span)];
            done(Node { kind: Kind::List(items), ..node })
        }
        Kind::List(items) => {
            let first = items.first().and_then(Node::as_text);
            if items.is_empty() || matches!(first, Some("CMD" | "CMD-SHELL" | "NONE")) {
                return Ok(Formed::More(node));
            }
            Err(Box::new(
                Diagnostic::error("a health check's list must begin with `CMD`, `CMD-SHELL` or `NONE`")
                    .at(items[0].span.clone(), "")
                    .help("write `CMD` before the program, or the whole as one string for a shell"),
            ))
        }
        _ => Ok(Formed::More(node)),
    }
}

/// A limit as one number.
pub(super) fn ulimit(node: Node, _: &Place<'_>) -> Forming {
    match (&node.kind, node.scalar_text().and_then(|text| text.trim().parse().ok())) {
        (Kind::Int(_) | Kind::Text(_), Some(number)) => done(Node { kind: Kind::Int(number), ..node }),
        (Kind::Text(text), None) => Err(wrong(&node, format!("`{text}` is no whole number"))),
        _ => Ok(Formed::More(node)),
    }
}

/// Permission bits, as a number (YAML's octal is one) or octal digits in quotes.
pub(super) fn mode(node: Node, _: &Place<'_>) -> Forming {
    let bits = match &node.kind {
        Kind::Int(number) => u32::try_from(*number).ok(),
        Kind::Text(text) => u32::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
        _ => return Ok(Formed::More(node)),
    };
    match bits {
        Some(bits) => done(Node { kind: Kind::Text(format!("0{bits:o}")), ..node }),
        None => Err(wrong(&node, "permission bits are octal digits, as in `0440`")),
    }
}

/// `external: true`, or the old `external: {name: NAME}`, which [`finish_external`] takes apart.
pub(super) fn external(node: Node, _: &Place<'_>) -> Forming {
    match &node.kind {
        Kind::Bool(_) | Kind::Map(_) | Kind::Null => done(node),
        Kind::Text(text) => match boolean(text) {
            Some(value) => done(Node { kind: Kind::Bool(value), ..node }),
            None => Err(wrong(&node, format!("`{text}` is no boolean"))),
        },
        _ => Err(wrong(
            &node,
            format!("`external` must be true, false or a mapping, and this is {}", node.kind_name()),
        )),
    }
}

/// What a text means as a boolean, as compose reads variables.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "y" | "yes" | "on" => Some(true),
        "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Writes `external: {name: NAME}` out as `external: true` with `name: NAME`.
pub(super) fn finish_external(node: &mut Node, place: &Place<'_>) -> Result<(), Box<Diagnostic>> {
    let Some(map) = node.as_map_mut() else { return Ok(()) };
    device_path(map, place);
    let Some(entry) = map.get_mut("external") else { return Ok(()) };
    let Kind::Map(inner) = &mut entry.node.kind else { return Ok(()) };
    let name = inner.remove("name");
    let unknown = inner.iter().next().map(|(key, other)| {
        Diagnostic::error(format!("unknown key `{key}` in `external`"))
            .at(other.key.clone(), "")
            .did_you_mean(key, ["name"])
    });
    entry.node.kind = Kind::Bool(true);
    if let Some(unknown) = unknown {
        return Err(Box::new(unknown));
    }
    match (name, map.get("name")) {
        (Some(inner), Some(outer)) => {
            let message = "`external.name` and `name` stand side by side; only use `name`";
            Err(Box::new(
                Diagnostic::error(message).at(inner.key, "").also(outer.key.clone(), "the other one"),
            ))
        }
        (Some(inner), None) => {
            map.insert("name".to_owned(), inner);
            Ok(())
        }
        (None, _) => Ok(()),
    }
}

/// The folder of a volume that binds one (`driver_opts: {o: bind, device: ./folder}`).
fn device_path(map: &mut Map, place: &Place<'_>) {
    let Some(options) = map.get_mut("driver_opts").and_then(|entry| entry.node.as_map_mut()) else { return };
    let binds = options
        .get("o")
        .and_then(|entry| entry.node.as_text())
        .is_some_and(|text| text.split(',').any(|option| option == "bind"));
    if let Some(device) = options.get_mut("device").filter(|_| binds)
        && let Kind::Text(text) = &mut device.node.kind
    {
        place.resolve(text);
    }
}

/// Ports.
pub(super) fn ports(node: Node, _: &Place<'_>) -> Forming {
    let text = match &node.kind {
        Kind::Int(_) | Kind::Text(_) => node.scalar_text().unwrap_or_default(),
        Kind::Map(_) => return Ok(Formed::More(node)),
        _ => return Err(wrong(&node, format!("a port is expected here, and this is {}", node.kind_name()))),
    };
    let ports = specs::ports(&text).map_err(|fault| {
        Box::new(
            Diagnostic::error(format!("`{text}` is no port: {fault}"))
                .at(node.span.clone(), "")
                .help("the form is `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, each perhaps a range `FROM-TO`"),
        )
    })?;
    Ok(Formed::Done(ports.iter().map(|port| port.node(&node.span)).collect()))
}

/// Fills in what a long form of a port may leave out.
pub(super) fn finish_port(node: &mut Node, _: &Place<'_>) -> Result<(), Box<Diagnostic>> {
    let span = node.span.clone();
    let Some(map) = node.as_map_mut() else { return Ok(()) };
    for (key, value) in [("mode", "ingress"), ("protocol", "tcp")] {
        map.entry(key.to_owned())
            .or_insert_with(|| Entry { key: span.clone(), node: Node::text(value, &span) });
    }
    match map.get("target").map(|entry| &entry.node) {
        Some(target @ Node { kind: Kind::Int(number), .. }) if !(1..=65535).contains(number) => {
            Err(wrong(target, format!("`{number}` is no port")))
        }
        _ => Ok(()),
    }
}

/// Takes a hook without a command away: `config` prints one for every watch.
pub(super) fn finish_watch(node: &mut Node, _: &Place<'_>) -> Result<(), Box<Diagnostic>> {
    let Some(map) = node.as_map_mut() else { return Ok(()) };
    let empty = |hook: &Entry| hook.node.get("command").is_none_or(Node::is_null);
    if map.get("exec").is_some_and(empty) {
        map.remove("exec");
    }
    Ok(())
}

/// Mounts.
pub(super) fn mount(node: Node, place: &Place<'_>) -> Forming {
    match &node.kind {
        Kind::Text(text) => match specs::mount(text) {
            Ok(spec) => {
                let mut mount = spec.node(&node.span);
                finish_mount(&mut mount, place)?;
                done(mount)
            }
            Err(fault) => Err(Box::new(
                Diagnostic::error(format!("`{text}` is no volume: {fault}"))
                    .at(node.span.clone(), "")
                    .help("the form is `[SOURCE:]TARGET[:OPTION,…]`"),
            )),
        },
        Kind::Map(_) => Ok(Formed::More(node)),
        _ => Err(wrong(&node, format!("a volume is expected here, and this is {}", node.kind_name()))),
    }
}

/// Makes a bind's source absolute and cleans the target.
pub(super) fn finish_mount(node: &mut Node, place: &Place<'_>) -> Result<(), Box<Diagnostic>> {
    let kind = node.get_text("type").map(str::to_owned);
    let is_bind = kind.as_deref() == Some("bind");
    let is_empty = |node: Option<&Node>| node.is_none_or(|node| node.as_text() == Some(""));
    if is_bind && is_empty(node.get("source")) {
        return Err(wrong(node, "a bind needs a `source`"));
    }
    if kind.is_some() && is_empty(node.get("target")) {
        return Err(wrong(node, "a volume needs a `target`"));
    }
    let Some(map) = node.as_map_mut() else { return Ok(()) };
    if let Some(Kind::Text(source)) = map.get_mut("source").map(|entry| &mut entry.node.kind)
        && is_bind
    {
        place.resolve(source);
    }
    if let Some(Kind::Text(target)) = map.get_mut("target").map(|entry| &mut entry.node.kind) {
        *target = paths::clean(target);
    }
    Ok(())
}

/// Devices.
pub(super) fn device(node: Node, _: &Place<'_>) -> Forming {
    let Kind::Text(text) = &node.kind else { return Ok(Formed::More(node)) };
    let mut parts = text.split(':');
    let source = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or(source);
    let permissions = parts.next().unwrap_or("rwm");
    if source.is_empty() || target.is_empty() || parts.next().is_some() {
        return Err(wrong(
            &node,
            format!("`{text}` is no device; the form is `SOURCE[:TARGET[:PERMISSIONS]]`"),
        ));
    }
    let keys = [("source", source), ("target", target), ("permissions", permissions)];
    done(Node::map(keys.map(|(key, value)| (key, Node::text(value, &node.span))), &node.span))
}

// What makes two items of a list the same.

/// The text before the first `=`.
pub(super) fn before_equals(node: &Node) -> Option<String> {
    let text = node.scalar_text()?;
    Some(text.split('=').next().unwrap_or_default().to_owned())
}

/// The `target`.
pub(super) fn target(node: &Node) -> Option<String> {
    node.get_text("target").map(str::to_owned)
}

/// The `path`.
pub(super) fn path(node: &Node) -> Option<String> {
    node.get_text("path").map(str::to_owned)
}

/// Where a config is mounted.
pub(super) fn config_target(node: &Node) -> Option<String> {
    file_target(node, "")
}

/// Where a secret is mounted.
pub(super) fn secret_target(node: &Node) -> Option<String> {
    file_target(node, "/run/secrets")
}

fn file_target(node: &Node, folder: &str) -> Option<String> {
    let source = node.get_text("source")?;
    match node.get_text("target") {
        Some(target) if target.starts_with('/') => Some(target.to_owned()),
        Some(target) => Some(format!("{folder}/{target}")),
        None => Some(format!("{folder}/{source}")),
    }
}

/// Host address, container port, host port and protocol together.
pub(super) fn port_identity(node: &Node) -> Option<String> {
    node.as_map()?;
    let text = |key: &str| node.get(key).and_then(Node::scalar_text).unwrap_or_default();
    Some([text("host_ip"), text("target"), text("published"), text("protocol")].join("|"))
}
