//! What a compose file entrusts a build with: `build.secrets`, `build.ssh`, `build.entitlements`.
//!
//! Secrets and agents are named here and read when a step needs them. What cannot be carried out is a
//! mistake at its key. Values never appear in a message.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::request::{Entitlement, SecretSource};
use crate::base::secret::Secret;
use crate::compose::{Build, Project};

/// The variable that names the user's ssh agent.
const AGENT: &str = "SSH_AUTH_SOCK";

/// See the fields of [`super::BuildRequest`].
#[derive(Default, Debug)]
pub(super) struct Trusted {
    pub(super) secrets: BTreeMap<String, SecretSource>,
    pub(super) ssh: BTreeMap<String, PathBuf>,
    pub(super) entitlements: BTreeSet<Entitlement>,
    /// The key of the build section and what is wrong there.
    pub(super) mistakes: Vec<(&'static str, String)>,
}

/// What `build` of `project` is entrusted with.
pub(super) fn of(project: &Project, build: &Build) -> Trusted {
    let mut trusted = Trusted::default();
    for used in &build.secrets {
        let id = used.target.clone().unwrap_or_else(|| used.source.clone());
        match secret(project, &used.source) {
            Ok(source) => {
                trusted.secrets.insert(id, source);
            }
            Err(message) => trusted.mistakes.push(("secrets", message)),
        }
    }
    for text in &build.ssh {
        match agent(project, text) {
            Ok((id, socket)) => {
                trusted.ssh.insert(id, socket);
            }
            Err(message) => trusted.mistakes.push(("ssh", message)),
        }
    }
    for name in &build.entitlements {
        match Entitlement::named(name) {
            Some(entitlement) => {
                trusted.entitlements.insert(entitlement);
            }
            None => {
                let all = Entitlement::ALL.map(Entitlement::name).join(", ");
                let message = format!("not supported yet: the entitlement `{name}` (there are {all})");
                trusted.mistakes.push(("entitlements", message));
            }
        }
    }
    // As Docker Compose does when BuildKit builds.
    if build.privileged {
        trusted.entitlements.insert(Entitlement::SecurityInsecure);
    }
    trusted
}

/// The secret that is defined under `key`.
fn secret(project: &Project, key: &str) -> Result<SecretSource, String> {
    let Some(secret) = project.secrets.get(key) else {
        return Err(format!("the secret `{key}` is not defined under the top-level `secrets`"));
    };
    match (&secret.file, &secret.environment) {
        (Some(file), _) => Ok(SecretSource::File(project.working_dir.join(file))),
        (None, Some(name)) => {
            let value = project.environment.get(name).cloned().unwrap_or_default();
            Ok(SecretSource::Value(Secret::new(value)))
        }
        (None, None) => Err(format!("a build can only use secrets of a file or a variable, not `{key}`")),
    }
}

/// `ID[=SOCKET]`; the default is the user's own agent.
fn agent(project: &Project, text: &str) -> Result<(String, PathBuf), String> {
    let (id, path) = text.split_once('=').map_or((text, None), |(id, path)| (id, Some(path)));
    if path.is_some_and(|path| path.contains(',')) {
        return Err(format!("not supported yet: several keys in `{text}`\nhelp: add them to an ssh-agent"));
    }
    let socket = path.or_else(|| project.environment.get(AGENT).map(String::as_str));
    match socket.filter(|socket| !socket.is_empty()) {
        Some(socket) => Ok((id.to_owned(), project.working_dir.join(socket))),
        None => {
            Err(format!("no ssh agent for `{text}`: {AGENT} is not set\nhelp: start one, or name its socket"))
        }
    }
}
