//! What a container is made of, in one digest, and in parts to say what changed. Pure.
//!
//! The identity has everything that the engine is told except labels that only say where a container
//! belongs; the image counts by its id, not by its name; the files of the project count by content. Two
//! ways to write the same thing have one identity.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::base::digest::{Digest, FieldHasher};
use crate::engine::{ContainerSpec, Resources};

/// Hexadecimal digits of a part's digest: enough to see that it changed.
const PART: usize = 8;

/// The field of many limits, each of which is a part of its own.
const LIMITS: &str = "resources";

/// A container's identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    /// Of everything.
    pub(super) digest: Digest,
    /// Field of the spec → short digest, without fields that have their default. Contents of configs and
    /// secrets are not among them: a short digest of a password alone would give it away.
    parts: BTreeMap<String, String>,
}

impl Identity {
    /// The parts as one label: `command=1a2b3c4d env=…`.
    pub(super) fn parts_label(&self) -> String {
        self.parts.iter().map(|(name, digest)| format!("{name}={digest}")).collect::<Vec<_>>().join(" ")
    }

    /// The fields that differ from those of the label `before`, in words; empty if none does.
    pub(super) fn changed_since(&self, before: &str) -> Vec<String> {
        let before: BTreeMap<_, _> = before.split(' ').filter_map(|part| part.split_once('=')).collect();
        let mut changed: Vec<&str> = self
            .parts
            .iter()
            .filter(|(name, digest)| before.get(name.as_str()) != Some(&digest.as_str()))
            .map(|(name, _)| name.as_str())
            .collect();
        changed.extend(before.keys().filter(|name| !self.parts.contains_key(**name)));
        // Several fields are one key of the user's.
        let words: BTreeSet<&str> = changed.into_iter().map(words).collect();
        words.into_iter().map(str::to_owned).collect()
    }
}

/// A field of the spec as a user would call it.
fn words(field: &str) -> &str {
    match field {
        "env" => "environment",
        "binds" | "mounts" | "anonymous_volumes" => "volumes",
        "network_mode" | "networks" => "networks",
        "exposed" => "expose",
        "stop_timeout_seconds" => "stop_grace_period",
        "unmasked" => "security_opt",
        "log_driver" | "log_options" => "logging",
        "dns_options" => "dns_opt",
        "userns" => "userns_mode",
        "nano_cpus" => "cpus",
        "memory" => "mem_limit",
        "memory_reservation" => "mem_reservation",
        "memory_swap" => "memswap_limit",
        "memory_swappiness" => "mem_swappiness",
        "device_requests" => "devices",
        "blkio" => "blkio_config",
        other => other,
    }
}

/// The identity of a container: its spec (with the user's own labels only), its image, parts that the
/// engine is not told of (name and text), and the contents that the project gives it by path.
pub(super) fn of(
    spec: &ContainerSpec,
    image: &Digest,
    further: impl IntoIterator<Item = (&'static str, String)>,
    contents: &[(String, Digest)],
) -> Identity {
    let spec = ContainerSpec { image: image.to_string(), ..spec.clone() };
    let defaults = fields(&ContainerSpec::default());
    let mut hasher = FieldHasher::new("shipway container 1");
    let mut parts = BTreeMap::new();
    for (name, value) in fields(&spec) {
        if defaults.get(&name) == Some(&value) {
            continue;
        }
        hasher.field(&name).field(&value);
        if name != LIMITS {
            parts.insert(name, short(&value));
        }
    }
    let limits = fields(&Resources::default());
    for (name, value) in fields(&spec.resources) {
        if limits.get(&name) != Some(&value) {
            parts.insert(name, short(&value));
        }
    }
    for (name, text) in further {
        hasher.field(name).field(&text);
        parts.insert(name.to_owned(), Digest::of(&text).hex()[..PART].to_owned());
    }
    for (path, digest) in contents {
        hasher.field(path).field(digest.as_bytes());
    }
    Identity { digest: hasher.finish(), parts }
}

fn short(value: &str) -> String {
    Digest::of(value).hex()[..PART].to_owned()
}

/// The identity of a network or volume: everything that the engine is told about it.
pub(super) fn of_resource(spec: &impl Serialize) -> Digest {
    let mut hasher = FieldHasher::new("shipway resource 1");
    for (name, value) in fields(spec) {
        hasher.field(name).field(value);
    }
    hasher.finish()
}

/// Field → JSON text, in the order of the names.
fn fields(spec: &impl Serialize) -> BTreeMap<String, String> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => {
            fields.into_iter().map(|(name, value)| (name, value.to_string())).collect()
        }
        // Specs are structs of strings, numbers and maps with string keys.
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            image: "web:1".to_owned(),
            command: Some(vec!["run".to_owned()]),
            env: [("A".to_owned(), Some("1".to_owned()))].into(),
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn the_image_counts_by_id_and_not_by_name() {
        let image = Digest::of("image");
        let renamed = ContainerSpec { image: "web:2".to_owned(), ..spec() };
        assert_eq!(of(&spec(), &image, [], &[]), of(&renamed, &image, [], &[]));
        let other = of(&spec(), &Digest::of("other"), [], &[]);
        let before = of(&spec(), &image, [], &[]);
        assert_ne!(before.digest, other.digest);
        assert_eq!(other.changed_since(&before.parts_label()), ["image"]);
    }

    #[test]
    fn what_changed_is_named_and_what_went_away_too() {
        let image = Digest::of("image");
        let before = of(&spec(), &image, [], &[]);
        let after = ContainerSpec { command: None, hostname: Some("h".to_owned()), ..spec() };
        let after = of(&after, &image, [], &[]);
        assert_eq!(after.changed_since(&before.parts_label()), ["command", "hostname"]);
    }

    #[test]
    fn a_content_changes_the_digest_and_no_part() {
        let image = Digest::of("image");
        let one = of(&spec(), &image, [], &[("/run/secrets/s".to_owned(), Digest::of("1"))]);
        let two = of(&spec(), &image, [], &[("/run/secrets/s".to_owned(), Digest::of("2"))]);
        assert_ne!(one.digest, two.digest);
        assert!(two.changed_since(&one.parts_label()).is_empty());
    }
}
