//! The files that containers get from the project: configs, secrets, seccomp profiles.
//!
//! [`Files::read`] reads them all once, before anything is decided; from then on planning is pure. A
//! container's identity has their digests, so that a changed, replaced or inline content recreates it.
//! Contents that are not files of the host are copied into the container before it starts. Nothing here
//! reaches a log.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::base::diag::Diagnostic;
use crate::base::digest::Digest;
use crate::compose::{Project, Service};

/// What configs, secrets and seccomp profiles of a project hold.
#[derive(Clone, Default)]
pub struct Files {
    /// By the config's key.
    pub(super) configs: BTreeMap<String, Content>,
    /// By the secret's key.
    pub(super) secrets: BTreeMap<String, Content>,
    /// The text of seccomp profiles by their path as written.
    pub(super) seccomp: BTreeMap<String, String>,
    /// The `config.json` of containers that get the engine's socket.
    pub(super) logins: Vec<u8>,
}

/// The content of a config or secret.
#[derive(Clone)]
pub(super) enum Content {
    /// A file or folder of the host, which is mounted.
    Host {
        /// Its absolute path.
        path: String,
        /// What it holds.
        digest: Digest,
    },
    /// Bytes that the project gives, which are copied.
    Inline(Vec<u8>),
}

impl fmt::Debug for Content {
    /// Without the bytes: a secret never reaches a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { path, .. } => write!(formatter, "Host({path})"),
            Self::Inline(_) => formatter.write_str("Inline(…)"),
        }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Files")
            .field("configs", &self.configs)
            .field("secrets", &self.secrets)
            .finish()
    }
}

impl Content {
    /// The digest of the content.
    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::Host { digest, .. } => *digest,
            Self::Inline(bytes) => Digest::of(bytes),
        }
    }
}

/// Where the bytes of a config or secret come from.
struct Origin<'a> {
    file: Option<&'a String>,
    variable: Option<&'a String>,
    text: Option<&'a String>,
    external: bool,
}

impl Files {
    /// Reads what these services of the project use. Every one that cannot be read is a diagnostic.
    pub fn read(project: &Project, services: &[String]) -> Result<Self, Vec<Diagnostic>> {
        let mut files = Self::default();
        let mut problems = Vec::new();
        for (name, service) in project.services.iter().filter(|(name, _)| services.contains(name)) {
            for (index, used) in service.configs.iter().enumerate() {
                let Some(config) = project.configs.get(&used.source) else { continue };
                let origin = Origin {
                    file: config.file.as_ref(),
                    variable: config.environment.as_ref(),
                    text: config.content.as_ref(),
                    external: config.external,
                };
                let place = [name.as_str(), "configs", &index.to_string()];
                files.take_config(project, &used.source, &origin, &place, &mut problems);
            }
            for (index, used) in service.secrets.iter().enumerate() {
                let Some(secret) = project.secrets.get(&used.source) else { continue };
                let origin = Origin {
                    file: secret.file.as_ref(),
                    variable: secret.environment.as_ref(),
                    text: None,
                    external: secret.external,
                };
                let place = [name.as_str(), "secrets", &index.to_string()];
                files.take_secret(project, &used.source, &origin, &place, &mut problems);
            }
            files.take_seccomp(project, name, service, &mut problems);
        }
        if problems.is_empty() { Ok(files) } else { Err(problems) }
    }

    /// Whether a service gets the engine's socket, and with it the user's logins ([`Files::give_logins`]).
    pub fn needs_logins(project: &Project, services: &[String]) -> bool {
        let services = services.iter().filter_map(|name| project.services.get(name));
        services.into_iter().any(|service| service.use_api_socket)
    }

    /// The `config.json` with the user's logins for containers that get the engine's socket.
    pub fn give_logins(&mut self, config: Vec<u8>) {
        self.logins = config;
    }

    fn take_config(
        &mut self,
        project: &Project,
        key: &str,
        origin: &Origin<'_>,
        place: &[&str; 3],
        problems: &mut Vec<Diagnostic>,
    ) {
        if self.configs.contains_key(key) {
            return;
        }
        match content(project, "config", key, origin, place) {
            Ok(content) => drop(self.configs.insert(key.to_owned(), content)),
            Err(problem) => problems.push(*problem),
        }
    }

    fn take_secret(
        &mut self,
        project: &Project,
        key: &str,
        origin: &Origin<'_>,
        place: &[&str; 3],
        problems: &mut Vec<Diagnostic>,
    ) {
        if self.secrets.contains_key(key) {
            return;
        }
        match content(project, "secret", key, origin, place) {
            Ok(content) => drop(self.secrets.insert(key.to_owned(), content)),
            Err(problem) => problems.push(*problem),
        }
    }

    fn take_seccomp(
        &mut self,
        project: &Project,
        name: &str,
        service: &Service,
        problems: &mut Vec<Diagnostic>,
    ) {
        for (index, option) in service.security_opt.iter().enumerate() {
            let Some(path) = seccomp_path(option) else { continue };
            let read = fs::read_to_string(project.working_dir.join(path)).map_err(|error| error.to_string());
            let text = read.and_then(|text| match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(_) => Ok(text),
                Err(error) => Err(format!("it is no JSON: {error}")),
            });
            match text {
                Ok(text) => drop(self.seccomp.insert(path.to_owned(), text)),
                Err(error) => {
                    let message = format!("cannot read the seccomp profile {path}: {error}");
                    let place = [name, "security_opt", &index.to_string()];
                    problems.push(at(project, Diagnostic::error(message), &place));
                }
            }
        }
    }
}

/// The file of a security option `seccomp=FILE`.
pub(super) fn seccomp_path(option: &str) -> Option<&str> {
    let path = option.strip_prefix("seccomp=").or_else(|| option.strip_prefix("seccomp:"))?;
    (path != "unconfined" && path != "builtin").then_some(path)
}

fn content(
    project: &Project,
    what: &str,
    key: &str,
    origin: &Origin<'_>,
    place: &[&str; 3],
) -> Result<Content, Box<Diagnostic>> {
    let wrong = |message: String| Box::new(at(project, Diagnostic::error(message), place));
    if origin.external {
        let message = format!("not supported yet: the external {what} `{key}` (only Swarm keeps those)");
        return Err(wrong(message));
    }
    if let Some(text) = origin.text {
        return Ok(Content::Inline(text.clone().into_bytes()));
    }
    if let Some(variable) = origin.variable {
        return match project.environment.get(variable) {
            Some(value) => Ok(Content::Inline(value.clone().into_bytes())),
            None => {
                Err(wrong(format!("the {what} `{key}` comes from the variable {variable}, which is not set")))
            }
        };
    }
    let Some(path) = origin.file else {
        return Err(wrong(format!("the {what} `{key}` has no content\nhelp: give it a `file`")));
    };
    match host_digest(Path::new(path)) {
        Ok(digest) => Ok(Content::Host { path: path.clone(), digest }),
        Err(error) => Err(wrong(format!("cannot read the {what} `{key}` from {path}: {error}"))),
    }
}

/// The digest of a file, or of a folder's files with their names. Links are followed, into each folder once;
/// what is neither file nor folder counts by what it is and is never opened, which could block for ever.
fn host_digest(path: &Path) -> io::Result<Digest> {
    digest_once(path, &mut BTreeMap::new())
}

/// [`host_digest`] where the folders `seen`, by device and inode, were reached in that order.
fn digest_once(path: &Path, seen: &mut BTreeMap<(u64, u64), usize>) -> io::Result<Digest> {
    let stat = fs::metadata(path)?;
    if stat.is_file() {
        return Digest::of_reader(&mut fs::File::open(path)?).map(|(digest, _)| digest);
    }
    if !stat.is_dir() {
        return Ok(Digest::of(format!("shipway special file {:o} {}", stat.mode() & 0o170_000, stat.rdev())));
    }
    let order = seen.len();
    if let Some(before) = seen.get(&(stat.dev(), stat.ino())) {
        return Ok(Digest::of(format!("shipway folder {before}")));
    }
    seen.insert((stat.dev(), stat.ino()), order);
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut hasher = crate::base::digest::FieldHasher::new("shipway config folder");
    for entry in entries {
        hasher.field(entry.file_name().as_encoded_bytes());
        hasher.field(digest_once(&entry.path(), seen)?.as_bytes());
    }
    Ok(hasher.finish())
}

/// Points at a key or list item of a service.
fn at(project: &Project, diagnostic: Diagnostic, place: &[&str; 3]) -> Diagnostic {
    match project.spans.nearest(&["services", place[0], place[1], place[2]]) {
        Some(span) => diagnostic.at(span.clone(), ""),
        None => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use crate::compose::{Config, FileUse, Secret};

    use super::*;

    fn project(folder: &Path) -> Project {
        let used = |source: &str| FileUse { source: source.to_owned(), ..FileUse::default() };
        let web = Service {
            configs: vec![used("inline"), used("file")],
            secrets: vec![used("password")],
            ..Service::default()
        };
        let inline = Config { content: Some("text".to_owned()), ..Config::default() };
        let file = Config { file: Some(folder.join("a").display().to_string()), ..Config::default() };
        let password = Secret { environment: Some("PASSWORD".to_owned()), ..Secret::default() };
        Project {
            services: [("web".to_owned(), web)].into(),
            configs: [("inline".to_owned(), inline), ("file".to_owned(), file)].into(),
            secrets: [("password".to_owned(), password)].into(),
            environment: [("PASSWORD".to_owned(), "hunter2".to_owned())].into(),
            ..Project::default()
        }
    }

    #[test]
    fn contents_come_from_files_texts_and_variables() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "one").unwrap();
        let files = Files::read(&project(folder.path()), &["web".to_owned()]).unwrap();
        assert_eq!(files.configs["file"].digest(), Digest::of("one"));
        assert_eq!(files.configs["inline"].digest(), Digest::of("text"));
        assert_eq!(files.secrets["password"].digest(), Digest::of("hunter2"));
        assert!(!format!("{files:?}").contains("hunter2"), "a secret never reaches a log");
    }

    #[test]
    fn folders_are_read_with_their_links_but_not_in_circles() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/sub")).unwrap();
        fs::write(at("a/file"), "one").unwrap();
        std::os::unix::fs::symlink("../file", at("a/sub/link")).unwrap();
        let before = host_digest(&at("a")).unwrap();
        fs::write(at("a/file"), "two").unwrap();
        assert_ne!(host_digest(&at("a")).unwrap(), before);
        let once = host_digest(&at("a")).unwrap();
        for link in 0..60 {
            std::os::unix::fs::symlink("..", at(&format!("a/sub/up{link}"))).unwrap();
        }
        assert_ne!(host_digest(&at("a")).unwrap(), once);
        let special = ["/dev/null", "/dev/zero"].map(|path| host_digest(Path::new(path)).unwrap());
        assert_ne!(special[0], special[1], "they are not read");
    }

    #[test]
    fn what_is_missing_is_said_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut project = project(folder.path());
        project.environment.clear();
        let problems = Files::read(&project, &["web".to_owned()]).unwrap_err();
        let text: Vec<_> = problems.iter().map(|problem| problem.message.clone()).collect();
        assert_eq!(problems.len(), 2, "{text:?}");
        assert!(text[1].contains("the variable PASSWORD, which is not set"), "{text:?}");
    }

    #[test]
    fn what_other_services_use_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut project = project(folder.path());
        project.services.insert("alone".to_owned(), Service::default());
        assert!(Files::read(&project, &["web".to_owned()]).is_err());
        assert!(Files::read(&project, &["alone".to_owned()]).is_ok());
    }
}
