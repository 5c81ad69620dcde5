//! The digest by which Docker Compose knows whether a container is still what its service says.
//!
//! SHA-256 of the service's JSON as Go writes it, without what a container does not show. Our own identity
//! of a container is another one (see `up`); this one stands in its labels so that Docker Compose, called
//! on the same project, leaves the container alone, and `config --hash` prints it.

use serde_json::{Map, Value};

use super::model::Service;
use crate::base::digest::Digest;

/// Docker Compose's digest of a service, as 64 hexadecimal digits.
///
/// Keys that only say how the image is built, how many containers there are and what they wait for are left
/// out. Before `up` writes the label it puts ids where the service names others (`network_mode: service:x`).
pub fn service_hash(service: &Service) -> String {
    let mut service = service.clone();
    service.build = None;
    service.pull_policy = None;
    service.scale = None;
    service.depends_on.clear();
    service.profiles.clear();
    if let Some(deploy) = &mut service.deploy {
        deploy.replicas = None;
    }
    // Maps of strings and plain values: serialising cannot fail.
    let mut whole = serde_json::to_value(&service).unwrap_or_default();
    env_files(&mut whole);
    hooks(&mut whole);
    Digest::of(go_escaped(&whole.to_string())).hex()
}

/// An env file that must be there is its path alone, whatever its format.
fn env_files(service: &mut Value) {
    for file in service.get_mut("env_file").and_then(Value::as_array_mut).into_iter().flatten() {
        if file.get("required") == Some(&Value::Bool(true)) {
            *file = file.get_mut("path").map(Value::take).unwrap_or_default();
        }
    }
}

/// Every watch has a hook, if only an empty one, behind its target.
fn hooks(service: &mut Value) {
    let watch = service.pointer_mut("/develop/watch").and_then(Value::as_array_mut);
    for trigger in watch.into_iter().flatten().filter_map(Value::as_object_mut) {
        if trigger.contains_key("exec") {
            continue;
        }
        let (mut before, after): (Map<_, _>, Map<_, _>) = std::mem::take(trigger)
            .into_iter()
            .partition(|(key, _)| ["path", "action", "target"].contains(&key.as_str()));
        before.insert("exec".to_owned(), serde_json::json!({ "command": null }));
        before.extend(after);
        *trigger = before;
    }
}

/// Go's JSON escapes what could end a script element.
fn go_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_does_not_show_is_left_out() {
        let plain = Service { image: Some("a".to_owned()), ..Service::default() };
        let scaled = Service { scale: Some(3), pull_policy: Some("always".to_owned()), ..plain.clone() };
        assert_eq!(service_hash(&plain), service_hash(&scaled));
        let other = Service { image: Some("b".to_owned()), ..plain.clone() };
        assert_ne!(service_hash(&plain), service_hash(&other));
        assert_eq!(go_escaped("a<b&c"), "a\\u003cb\\u0026c");
    }
}
