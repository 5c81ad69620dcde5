//! What flags share with files: ports, mounts and env files in the forms that a compose file has. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use crate::base::diag::{SourceFile, Span};

use super::bind::plain;
use super::dotenv::{self, Found};
use super::forms::{self, Formed, Place};
use super::model::{Mount, Port};
use super::specs;
use super::tree::Node;

/// The ports of a short form such as `127.0.0.1:8000-8001:80-81/udp`.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn short_ports(text: &str) -> Result<Vec<Port>, String> {
    let wrong = |fault: String| format!("`{text}` is no port: {fault}");
    let specs = specs::ports(text).map_err(wrong)?;
    let port = |spec: &specs::PortSpec| serde_json::from_value(plain(&spec.node(&nowhere())));
    specs.iter().map(|spec| port(spec).map_err(|error| wrong(error.to_string()))).collect()
}

/// The mount of a short form such as `./a:/b:ro`. Relative paths start from `folder`, `~` is `home`.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn short_mount(text: &str, folder: &Path, home: Option<&str>) -> Result<Mount, String> {
    let place = Place { folder, home, resolve: true, literal: false };
    let node = match forms::mount(Node::text(text, &nowhere()), &place) {
        Ok(Formed::Done(mut nodes)) => nodes.pop(),
        Ok(Formed::More(node)) => Some(node),
        Err(fault) => return Err(fault.message.clone()),
    };
    let wrong = |fault: &dyn std::fmt::Display| format!("`{text}` is no volume: {fault}");
    let node = node.ok_or_else(|| wrong(&"it is empty"))?;
    serde_json::from_value(plain(&node)).map_err(|error| wrong(&error))
}

/// The variables of an env file. Variables in values, and bare names, are looked up by `lookup`.
///
/// # Errors
/// The line and what is wrong there.
pub fn env_file(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut found = Found::new();
    dotenv::parse(text, lookup, &mut found, &mut |_| {}).map_err(|fault| {
        let line = text[..fault.range.start].matches('\n').count() + 1;
        format!("line {line}: {}", fault.message)
    })?;
    Ok(found.into_iter().map(|(name, (value, _))| (name, value)).collect())
}

fn nowhere() -> Span {
    Span::new(&SourceFile::new("", ""), 0..0)
}

#[cfg(test)]
mod tests {
    use super::super::model::MountKind;
    use super::*;

    #[test]
    fn ports_have_the_form_of_the_file() {
        let ports = short_ports("127.0.0.1:8000-8001:80-81/udp").unwrap();
        let shown: Vec<_> = ports.iter().map(|port| (port.published.as_deref(), port.target)).collect();
        assert_eq!(shown, [(Some("8000"), 80), (Some("8001"), 81)]);
        assert_eq!(ports[0].host_ip.as_deref(), Some("127.0.0.1"));
        assert!(short_ports("x").unwrap_err().starts_with("`x` is no port: "));
    }

    #[test]
    fn mounts_are_paths_or_volumes() {
        let mount = |text| short_mount(text, Path::new("/w"), Some("/h"));
        let bind = mount("./a:/b:ro").unwrap();
        assert_eq!((bind.kind, bind.source.as_deref()), (MountKind::Bind, Some("/w/a")));
        assert!(bind.read_only);
        assert_eq!(mount("~/x:/b").unwrap().source.as_deref(), Some("/h/x"));
        let volume = mount("data:/b").unwrap();
        assert_eq!((volume.kind, volume.source.as_deref()), (MountKind::Volume, Some("data")));
        assert_eq!(mount("/anonymous").unwrap().source, None);
        assert!(mount("a:b:c:d").is_err());
    }

    #[test]
    fn env_files_know_quotes_and_the_caller() {
        let lookup = |name: &str| (name == "HOST").then(|| "here".to_owned());
        let found = env_file("A='1 2'\nHOST\nMISSING\nB=${HOST}-x\n", &lookup).unwrap();
        let expected = [("A", "1 2"), ("B", "here-x"), ("HOST", "here")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert!(env_file("A=1\nB='open", &lookup).unwrap_err().starts_with("line 2: "));
    }
}
