//! Contexts with names of their own, and contexts that are no folder of the user's.
//!
//! A [`NamedContext`] stands in for a name in FROM, `COPY --from` and mounts before any stage's own
//! instructions or any image is thought of (BuildKit, "named contexts"). [`NamedContext::parse`] reads how
//! `--build-context` and `additional_contexts` write them. Pure: nothing is looked at on the disk.

use std::path::{Path, PathBuf};

use crate::base::digest::Digest;
use crate::oci::Reference;
use crate::remote::{GitSource, is_http};

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NamedContext {
    /// A folder, absolute, behind its own ignore file.
    Folder(PathBuf),
    /// An image.
    Image(Reference),
    /// An image in an OCI layout.
    Layout(Layout),
    /// A git repository.
    Git(GitSource),
    /// The image that another service of the same command builds.
    Service(String),
}

/// An image in an OCI layout on the disk (OCI image-spec, "image layout").
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Layout {
    /// The layout's folder, absolute.
    pub folder: PathBuf,
    /// The tag in its index, where one is named.
    pub tag: Option<String>,
    /// The digest of a manifest or index, where one is named.
    pub digest: Option<Digest>,
}

/// A build context that is no folder of the user's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RemoteContext {
    /// A git repository.
    Git(GitSource),
    /// A tar, plain or compressed, whose bytes are in the store.
    Archive(Digest),
}

impl NamedContext {
    /// Reads a context's value; paths are relative to `folder`. The error is for the user.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("docker-image://") {
            let reference = Reference::parse(name).map_err(|error| error.to_string())?;
            return Ok(Self::Image(reference.with_default_tag()));
        }
        if let Some(rest) = text.strip_prefix("oci-layout://") {
            return Layout::parse(rest, folder).map(Self::Layout);
        }
        for prefix in ["service:", "target:"] {
            if let Some(name) = text.strip_prefix(prefix) {
                return Ok(Self::Service(name.to_owned()));
            }
        }
        if text.starts_with("input:") {
            return Err(
                "`input:` contexts come from another BuildKit frontend, which there is none".to_owned()
            );
        }
        match GitSource::parse(text, true)? {
            Some(source) => Ok(Self::Git(source)),
            None if is_http(text) => Err(format!("not supported yet: `{text}`, an archive behind a URL")),
            None => Ok(Self::Folder(folder.join(text))),
        }
    }
}

impl Layout {
    /// `PATH[:TAG][@DIGEST]`.
    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let parsed = digest.parse().map_err(|_| format!("`{digest}` is not a digest"))?;
                (rest, Some(parsed))
            }
            None => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
            _ => (rest, None),
        };
        Ok(Self { folder: folder.join(path), tag, digest })
    }
}

/// The name under which a context is looked up: a stage's in small letters, an image's without `latest`
/// and without the default registry.
pub fn context_name(name: &str) -> String {
    match Reference::parse(&name.to_lowercase()) {
        Ok(reference) => {
            let name = reference.familiar();
            name.strip_suffix(":latest").map_or(name.clone(), str::to_owned)
        }
        Err(_) => name.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match NamedContext::parse(text, Path::new("/here")) {
            Ok(NamedContext::Folder(path)) => format!("folder {}", path.display()),
            Ok(NamedContext::Image(name)) => format!("image {}", name.familiar()),
            Ok(NamedContext::Layout(Layout { folder, tag, digest })) => {
                let (tag, digest) = (tag.unwrap_or_default(), digest.map(|digest| digest.short()));
                format!("layout {} {tag} {}", folder.display(), digest.unwrap_or_default())
            }
            Ok(NamedContext::Git(source)) => format!("git {source}"),
            Ok(NamedContext::Service(name)) => format!("service {name}"),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn contexts_are_written_in_many_ways() {
        let digest = Digest::of("x");
        let pinned = format!("oci-layout:///a/b:t@{digest}");
        let short = format!("layout /a/b t {}", digest.short());
        for (text, expected) in [
            ("../x", "folder /here/../x"),
            ("/x", "folder /x"),
            ("docker-image://alpine", "image alpine:latest"),
            ("docker-image://UPPER", "error"),
            ("oci-layout://lay", "layout /here/lay  "),
            (pinned.as_str(), short.as_str()),
            ("oci-layout://a@sha256:1", "error"),
            ("service:web", "service web"),
            ("target:web", "service web"),
            ("input:x", "error"),
            ("https://h/x.git#v:sub", "git https://h/x.git#v:sub"),
            ("github.com/a/b", "git https://github.com/a/b"),
            ("https://h/x.tar.gz", "error: not supported yet: `https://h/x.tar.gz`, an archive behind a URL"),
            ("https://h/x.git?ref=", "error"),
        ] {
            let read = read(text);
            assert!(
                read == expected || (expected == "error" && read.starts_with("error: ")),
                "{text}: {read}"
            );
        }
    }

    #[test]
    fn names_are_compared_as_images_are() {
        for (one, other) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("Base", "base"),
            ("alpine:3", "library/alpine:3"),
            ("a b", "A b"),
        ] {
            assert_eq!(context_name(one), context_name(other));
        }
        assert_ne!(context_name("alpine:3"), context_name("alpine"));
    }
}
