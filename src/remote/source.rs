//! The ways in which Dockerfiles and command lines name what lies elsewhere. Pure.
//!
//! What counts as a repository, and how branch, folder and options are written behind its address, is
//! BuildKit's rule (`dfgitutil.ParseGitRef`, frontend 1.26). Whatever is not one, and begins with `http`,
//! is a file.

use std::fmt;

/// A repository, and what of it is wanted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GitSource {
    /// What `git` is given: a URL, or `user@host:path`. Begins with neither `-` nor a blank.
    pub remote: String,
    /// A branch, tag or whole commit; none is the default branch.
    pub reference: Option<String>,
    /// The first digits that the commit must have.
    pub checksum: Option<String>,
    /// The folder that counts, without slashes at the ends; empty for all.
    pub folder: String,
    /// Whether `.git` is kept; none where nothing is said.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched; none where nothing is said.
    pub submodules: Option<bool>,
}

/// Whether a source begins as an address of the web does.
pub fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// The name of the file behind an address: the last part of its path (BuildKit has `__unnamed__` where
/// there is none).
pub fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let name = path.rsplit('/').find(|part| !part.is_empty()).map(decoded);
    match name {
        Some(name) if name != "." && name != ".." && !name.contains(['/', '\0']) => name,
        _ => "__unnamed__".to_owned(),
    }
}

/// An address as it may be shown: without a password.
pub fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:…@{host}{}", &rest[authority.len()..])
        }
        _ => url.to_owned(),
    }
}

impl GitSource {
    /// Reads the name of a repository; `None` if it is none, an error if it is one and says something
    /// wrong about itself. `github.com/OWNER/REPOSITORY` without a scheme counts for contexts only.
    pub fn parse(text: &str, context: bool) -> Result<Option<Self>, String> {
        if text.starts_with("./") || text.starts_with("../") || text.contains(char::is_control) {
            return Ok(None);
        }
        if context && text.starts_with("github.com/") {
            return Self::of_url(&format!("https://{text}")).map(Some);
        }
        match text.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => match scheme.to_ascii_lowercase().as_str() {
                "http" | "https" => {
                    let path = rest.split(['?', '#']).next().unwrap_or_default();
                    let is_git = path.split_once('/').is_some_and(|(_, path)| path.ends_with(".git"));
                    if is_git { Self::of_url(text).map(Some) } else { Ok(None) }
                }
                "git" | "ssh" => Self::of_url(text).map(Some),
                _ => Ok(None),
            },
            _ if is_scp(text) => Self::of_url(text).map(Some),
            _ => Ok(None),
        }
    }

    fn of_url(text: &str) -> Result<Self, String> {
        let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (remote, query) = address.split_once('?').unwrap_or((address, ""));
        let mut source = Self {
            remote: remote.to_owned(),
            reference: None,
            checksum: None,
            folder: String::new(),
            keep_git_dir: None,
            submodules: None,
        };
        let fragment = decoded(fragment);
        let (reference, folder) = fragment.split_once(':').unwrap_or((&fragment, ""));
        source.reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
        source.folder = folder.to_owned();
        source.options(query)?;
        if source.reference.as_deref().is_some_and(|reference| !is_reference(reference)) {
            return Err(format!(
                "`{}` cannot be a branch, tag or commit",
                source.reference.unwrap_or_default()
            ));
        }
        source.folder = inside(&source.folder);
        Ok(source)
    }

    /// The query form: `?ref=…&subdir=…`.
    fn options(&mut self, query: &str) -> Result<(), String> {
        let (mut seen, mut tag, mut branch) = (Vec::new(), None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decoded(&key.replace('+', " ")), decoded(&value.replace('+', " ")));
            if seen.contains(&key) {
                return Err(format!("query `{key}` has multiple values"));
            }
            let switch = || match value.as_str() {
                "" | "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(Some(true)),
                "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(Some(false)),
                _ => Err(format!("invalid {key} value: `{value}`")),
            };
            match key.as_str() {
                "keep-git-dir" => self.keep_git_dir = switch()?,
                "submodules" => self.submodules = switch()?,
                "ref" | "tag" | "branch" | "subdir" | "checksum" | "commit" if value.is_empty() => {
                    return Err(format!("query `{key}` has no value"));
                }
                "ref" => self.refer(value)?,
                "tag" => tag = Some(prefixed("refs/tags/", &value)),
                "branch" => branch = Some(prefixed("refs/heads/", &value)),
                "subdir" => {
                    if !self.folder.is_empty() && self.folder != value {
                        return Err(format!("subdir conflicts: `{}` vs `{value}`", self.folder));
                    }
                    self.folder = value;
                }
                "checksum" | "commit" => self.checksum = Some(value),
                _ => return Err(format!("unexpected query `{key}`")),
            }
            seen.push(key);
        }
        if tag.is_some() && branch.is_some() {
            return Err("branch conflicts with tag".to_owned());
        }
        if let Some(named) = tag.or(branch) {
            self.refer(named)?;
        }
        self.reference = self.reference.take().or_else(|| self.checksum.clone());
        Ok(())
    }

    fn refer(&mut self, reference: String) -> Result<(), String> {
        match &self.reference {
            Some(known) if *known != reference => Err(format!("ref conflicts: `{known}` vs `{reference}`")),
            _ => {
                self.reference = Some(reference);
                Ok(())
            }
        }
    }

    /// The whole commit that the reference is, if it is one: then nobody has to be asked.
    pub fn commit(&self) -> Option<&str> {
        let hex =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        self.reference.as_deref().filter(|text| matches!(text.len(), 40 | 64) && hex(text))
    }
}

impl fmt::Display for GitSource {
    /// The repository with what is wanted of it, without a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&shown_url(&self.remote))?;
        let reference = self.reference.as_deref().unwrap_or_default();
        if !reference.is_empty() || !self.folder.is_empty() {
            write!(formatter, "#{reference}")?;
        }
        if self.folder.is_empty() { Ok(()) } else { write!(formatter, ":{}", self.folder) }
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// `user@host:path`.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let made_of = |text: &str, more: &[u8]| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    made_of(user, b"-_") && made_of(host, b"-.")
}

/// What git itself would take for a name: never an option, nothing that its patterns give a meaning.
fn is_reference(text: &str) -> bool {
    !text.starts_with('-')
        && !text.contains("..")
        && !text.chars().any(|letter| letter.is_control() || " ~^:?*[\\".contains(letter))
}

fn prefixed(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// A path without `.`, `..` and doubled slashes, never above its root.
fn inside(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Text with its `%XX` as bytes; what is no UTF-8 then stays as it was.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        match hex.filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(plain).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> String {
        match GitSource::parse(text, true) {
            Ok(None) => "no repository".to_owned(),
            Err(error) => format!("error: {error}"),
            Ok(Some(source)) => {
                let mut line = source.remote.clone();
                let mut add = |name: &str, value: Option<String>| {
                    line.extend(value.map(|value| format!(" {name}={value}")));
                };
                add("ref", source.reference);
                add("checksum", source.checksum);
                add("folder", Some(source.folder).filter(|folder| !folder.is_empty()));
                add("keep", source.keep_git_dir.map(|keep| keep.to_string()));
                add("submodules", source.submodules.map(|submodules| submodules.to_string()));
                line
            }
        }
    }

    #[test]
    fn repositories_are_named_in_many_ways() {
        let table = [
            ("https://example.com/", "no repository"),
            ("https://example.com/foo", "no repository"),
            ("https://example.com/foo.git", "https://example.com/foo.git"),
            ("https://example.com/foo.git#v1", "https://example.com/foo.git ref=v1"),
            ("https://example.com/foo.git#release/1.2", "https://example.com/foo.git ref=release/1.2"),
            ("https://example.com/foo.git/", "no repository"),
            ("https://example.com/foo.git.bar", "no repository"),
            ("https://git.example.git", "no repository"),
            ("git://example.com/foo", "git://example.com/foo"),
            ("ssh://git@example.com:22/a/b#x:y", "ssh://git@example.com:22/a/b ref=x folder=y"),
            ("github.com/moby/buildkit", "https://github.com/moby/buildkit"),
            ("github.com/moby/buildkit#main:sub", "https://github.com/moby/buildkit ref=main folder=sub"),
            ("example.org/moby/buildkit.git", "no repository"),
            ("https://me:word@example.com/a.git", "https://me:word@example.com/a.git"),
            ("git@example.com:a/b", "git@example.com:a/b"),
            ("git@example.com:a/b.git#v2:dir/x", "git@example.com:a/b.git ref=v2 folder=dir/x"),
            ("git@example.com:a/b.git?branch=v2", "git@example.com:a/b.git ref=refs/heads/v2"),
            ("https://h/d.git#:myfolder", "https://h/d.git folder=myfolder"),
            ("https://h/d.git#:../../x/./y/", "https://h/d.git folder=x/y"),
            ("http://h/d.git:#branch", "no repository"),
            ("./.git", "no repository"),
            ("../x@y:z", "no repository"),
            (".git", "no repository"),
            ("file:///srv/x.git", "no repository"),
            ("ext::sh -c true", "no repository"),
            ("-oProxyCommand=x@h:y", "no repository"),
            ("https://h/d.git?ref=v1&subdir=/s", "https://h/d.git ref=v1 folder=s"),
            ("https://h/d.git?tag=v1&keep-git-dir", "https://h/d.git ref=refs/tags/v1 keep=true"),
            (
                "https://h/d.git?submodules=false&commit=ab",
                "https://h/d.git ref=ab checksum=ab submodules=false",
            ),
            ("https://h/d.git?branch=b&checksum=ab#", "https://h/d.git ref=refs/heads/b checksum=ab"),
            ("https://h/d.git?ref=a#b", "error: ref conflicts: `b` vs `a`"),
            ("https://h/d.git?tag=a&branch=b", "error: branch conflicts with tag"),
            ("https://h/d.git?ref=a&ref=b", "error: query `ref` has multiple values"),
            ("https://h/d.git?ref=", "error: query `ref` has no value"),
            ("https://h/d.git?keep-git-dir=2", "error: invalid keep-git-dir value: `2`"),
            ("https://h/d.git?depth=1", "error: unexpected query `depth`"),
            ("https://h/d.git#--upload-pack=x", "error: `--upload-pack=x` cannot be a branch, tag or commit"),
            ("https://h/d.git#%2d%2dx", "error: `--x` cannot be a branch, tag or commit"),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(GitSource::parse("github.com/moby/buildkit", false), Ok(None));
    }

    #[test]
    fn whole_commits_need_no_question() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let source =
            |reference: &str| GitSource::parse(&format!("git://h/r#{reference}"), false).unwrap().unwrap();
        assert_eq!(source(commit).commit(), Some(commit));
        assert_eq!(source(&commit[..12]).commit(), None);
        assert_eq!(source("main").commit(), None);
    }

    #[test]
    fn files_are_called_as_their_address_ends() {
        for (url, name) in [
            ("https://h/a/b.tar.gz?x=/y#z", "b.tar.gz"),
            ("https://h/a/", "a"),
            ("https://h/", "__unnamed__"),
            ("https://h", "__unnamed__"),
            ("https://h/a%20b", "a b"),
            ("https://h/%2e%2e", "__unnamed__"),
            ("https://h/a%2Fb", "__unnamed__"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown_url("https://me:word@h/x?y"), "https://me:…@h/x?y");
        assert_eq!(shown_url("https://me@h/x"), "https://me@h/x");
        assert_eq!(shown_url("git@h:x"), "git@h:x");
        let source = GitSource::parse("https://a:b@h/x.git#r:f", false).unwrap().unwrap();
        assert_eq!(source.to_string(), "https://a:…@h/x.git#r:f");
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_can_be_an_option_or_leave_its_place(text in "\\PC{0,40}|(https|git|ssh)://[a-z@:./?#&=%-]{0,30}|git@h:[a-z./?#&=%-]{0,20}") {
            let _ = file_name(&text);
            let _ = shown_url(&text);
            if let Ok(Some(source)) = GitSource::parse(&text, true) {
                prop_assert!(!source.remote.starts_with('-'));
                prop_assert!(!source.reference.unwrap_or_default().starts_with('-'));
                prop_assert!(!source.folder.starts_with('/') && !source.folder.split('/').any(|part| part == ".."));
            }
        }
    }
}
