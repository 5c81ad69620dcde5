//! What a build is entrusted with on the command line: `--secret`, `--ssh`, `--allow`. Pure.
//!
//! Forms and defaults are buildx's. Values of variables are taken from the environment that is handed in;
//! files are read when a step needs them. A value never appears in an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::base::secret::Secret;
use crate::graph::{BuildRequest, Entitlement, RunNetwork, SecretSource};

/// The variable that names the user's ssh agent.
const AGENT: &str = "SSH_AUTH_SOCK";

/// The flags of one command.
pub(super) struct Trust<'a> {
    pub(super) secrets: &'a [String],
    pub(super) agents: &'a [String],
    pub(super) entitlements: &'a [String],
}

impl Trust<'_> {
    /// Puts everything into a request, over what it has. Relative paths are below `folder`. An error is a
    /// sentence with the flag in it.
    pub(super) fn give(
        &self,
        request: &mut BuildRequest,
        environment: &BTreeMap<String, String>,
        folder: &Path,
    ) -> Result<(), String> {
        for text in self.secrets {
            let (id, source) = secret(text, environment, folder)?;
            request.secrets.insert(id, source);
        }
        for text in self.agents {
            let (id, socket) = agent(text, environment)?;
            request.ssh.insert(id, folder.join(socket));
        }
        request.entitlements.extend(entitlements(self.entitlements)?);
        if request.network == RunNetwork::Host {
            request.entitlements.insert(Entitlement::NetworkHost);
        }
        Ok(())
    }
}

/// `id=ID[,type=file|env][,src=PATH|,env=NAME]`; with an id alone a variable of that name, else a file.
fn secret(
    text: &str,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<(String, SecretSource), String> {
    let (mut id, mut kind, mut file, mut variable) = (None, None, None, None);
    for field in text.split(',') {
        let (key, value) =
            field.split_once('=').ok_or_else(|| format!("--secret: `{field}` must be a key=value pair"))?;
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value),
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            "type" if matches!(value, "file" | "env") => kind = Some(value),
            "type" => return Err(format!("--secret: unsupported type `{value}` (there are file, env)")),
            _ => return Err(format!("--secret: unexpected key `{key}` (there are id, src, env, type)")),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or("--secret needs an `id`")?;
    if kind == Some("env") && variable.is_none() {
        variable = file.take();
    }
    if variable.is_none() && file.is_none() && environment.contains_key(id) {
        variable = Some(id);
    }
    let source = match variable {
        Some(name) => SecretSource::Value(Secret::new(environment.get(name).cloned().unwrap_or_default())),
        None => SecretSource::File(folder.join(file.unwrap_or(id))),
    };
    Ok((id.to_owned(), source))
}

/// `ID[=SOCKET]`; the default is the user's own agent.
fn agent(text: &str, environment: &BTreeMap<String, String>) -> Result<(String, PathBuf), String> {
    let (id, path) = text.split_once('=').map_or((text, None), |(id, path)| (id, Some(path)));
    if path.is_some_and(|path| path.contains(',')) {
        return Err(format!(
            "not supported yet: several keys in --ssh {text}\nhelp: add them to an ssh-agent"
        ));
    }
    let socket = path.or_else(|| environment.get(AGENT).map(String::as_str));
    match socket.filter(|socket| !socket.is_empty()) {
        Some(socket) => Ok((id.to_owned(), PathBuf::from(socket))),
        None => Err(format!(
            "--ssh {text}: no ssh agent: {AGENT} is not set\nhelp: start one, or name its socket"
        )),
    }
}

fn entitlements(names: &[String]) -> Result<BTreeSet<Entitlement>, String> {
    let all = Entitlement::ALL.map(Entitlement::name).join(", ");
    let named = |name: &String| {
        Entitlement::named(name).ok_or_else(|| format!("not supported yet: --allow {name} (there are {all})"))
    };
    names.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> BTreeMap<String, String> {
        [("TOKEN", "hunter2"), (AGENT, "/run/agent")].map(|(name, value)| (name.into(), value.into())).into()
    }

    fn request(secrets: &[&str], agents: &[&str], allow: &[&str]) -> Result<BuildRequest, String> {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let (secrets, agents, allow) = (own(secrets), own(agents), own(allow));
        let mut request = BuildRequest::new("x", Path::new("/x"), Vec::new());
        let trust = Trust { secrets: &secrets, agents: &agents, entitlements: &allow };
        trust.give(&mut request, &environment(), Path::new("/work")).map(|()| request)
    }

    #[test]
    fn secrets_come_from_files_and_variables() {
        let value = || SecretSource::Value(Secret::new("hunter2"));
        let file = |path: &str| SecretSource::File(path.into());
        for (text, id, expected) in [
            ("id=a,src=key.pem", "a", file("/work/key.pem")),
            ("id=a,source=/etc/key", "a", file("/etc/key")),
            ("id=a,env=TOKEN", "a", value()),
            ("type=env,id=a,src=TOKEN", "a", value()),
            ("id=TOKEN", "TOKEN", value()),
            ("id=token.txt", "token.txt", file("/work/token.txt")),
            ("id=a,env=UNSET", "a", SecretSource::Value(Secret::default())),
        ] {
            assert_eq!(request(&[text], &[], &[]).unwrap().secrets[id], expected, "{text}");
        }
    }

    #[test]
    fn agents_and_entitlements_have_names() {
        let given = request(&[], &["default", "work=/tmp/other"], &["network.host"]).unwrap();
        assert_eq!(given.ssh["default"], Path::new("/run/agent"));
        assert_eq!(given.ssh["work"], Path::new("/tmp/other"));
        assert_eq!(given.entitlements, BTreeSet::from([Entitlement::NetworkHost]));
    }

    #[test]
    fn mistakes_name_the_flag() {
        for (secret, agent, allow, said) in [
            (Some("src=x"), None, None, "--secret needs an `id`"),
            (
                Some("id=a,mode=1"),
                None,
                None,
                "--secret: unexpected key `mode` (there are id, src, env, type)",
            ),
            (Some("id"), None, None, "--secret: `id` must be a key=value pair"),
            (
                None,
                Some("a=x,y"),
                None,
                "not supported yet: several keys in --ssh a=x,y\nhelp: add them to an ssh-agent",
            ),
            (
                None,
                None,
                Some("device"),
                "not supported yet: --allow device (there are network.host, security.insecure)",
            ),
        ] {
            let all = |text: Option<&'static str>| text.into_iter().collect::<Vec<_>>();
            assert_eq!(request(&all(secret), &all(agent), &all(allow)).unwrap_err(), said);
        }
    }
}
