//! Image references: `debian`, `ghcr.io/a/b:1`, `redis@sha256:…`.
//!
//! [`Reference`] parses with the grammar of the distribution project's `reference` package and normalises
//! as Docker does: a name without a registry is on `docker.io`, a single-word name there lies in
//! `library/`. Its text form is the full name; [`Reference::familiar`] is what users write. Nothing here
//! asks a registry, and no tag is added unless the caller asks for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::digest::Digest;

/// The registry of names that give none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The name under which old clients knew it.
const LEGACY_REGISTRY: &str = "index.docker.io";
/// Where single-word names of the default registry lie.
const OFFICIAL: &str = "library/";
/// The longest repository name (distribution, `RepositoryNameTotalLengthMax`).
const LONGEST_REPOSITORY: usize = 255;

/// A normalised image name with an optional tag and an optional digest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {problem}")]
pub struct InvalidReference {
    /// The text as it was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Reference {
    /// Parses and normalises `text`.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        parse(text).map_err(|problem| InvalidReference { text: text.to_owned(), problem })
    }

    /// The registry: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository inside the registry: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one. With a digest the tag is only a remark.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The full name without tag and digest: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The shortest text that means the same, as users write it: `debian:bookworm-slim`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.suffix())
    }

    /// The shortest name without tag and digest: `debian`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        let short = self.repository.strip_prefix(OFFICIAL).filter(|rest| !rest.contains('/'));
        short.unwrap_or(&self.repository).to_owned()
    }

    /// The same with the tag `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same name with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference { text: tag.to_owned(), problem: "the tag is malformed" });
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same name, and tag if any, with this digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        let digest = self.digest.iter().map(|digest| format!("@{digest}"));
        tag.chain(digest).collect()
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() == 64 && is_hex(text) {
        return Err("64 hexadecimal digits are an image ID, not a name");
    }
    let (rest, digest) = split_digest(text)?;
    let (registry, remainder) = split_registry(rest);
    let (repository, tag) = match remainder.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (remainder, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("the tag is malformed");
    }
    check_repository(repository)?;
    if !is_registry(registry) {
        return Err("the registry's name is malformed");
    }
    let official = registry == DEFAULT_REGISTRY && !repository.contains('/');
    let repository = if official { format!("{OFFICIAL}{repository}") } else { repository.to_owned() };
    if repository.len() > LONGEST_REPOSITORY {
        return Err("the repository's name is longer than 255 characters");
    }
    Ok(Reference { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
}

/// The text before `@` and the digest after it.
fn split_digest(text: &str) -> Result<(&str, Option<Digest>), &'static str> {
    let Some((rest, digest)) = text.split_once('@') else { return Ok((text, None)) };
    match digest.parse() {
        Ok(digest) => Ok((rest, Some(digest))),
        Err(_) => Err("the digest is not sha256: with 64 hexadecimal digits"),
    }
}

/// The registry and the rest. The first component is a registry only if it could be none of the default
/// one's user names: it has a dot, a colon or a capital letter, or is `localhost`.
fn split_registry(text: &str) -> (&str, &str) {
    let (first, rest) = match text.split_once('/') {
        Some((first, rest)) if names_registry(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, text),
    };
    (if first == LEGACY_REGISTRY { DEFAULT_REGISTRY } else { first }, rest)
}

fn names_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase)
}

fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.is_empty() {
        return Err("the name is empty");
    }
    if repository.chars().any(char::is_uppercase) {
        return Err("the repository's name must be lower case");
    }
    if repository.split('/').all(is_path_component) {
        return Ok(());
    }
    Err("the repository's name is malformed")
}

/// `[a-z0-9]+` parts joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let mut rest = component;
    loop {
        let word = rest.trim_start_matches(alphanumeric);
        if word.len() == rest.len() {
            return false;
        }
        if word.is_empty() {
            return true;
        }
        let next = word.trim_start_matches(|letter| !alphanumeric(letter));
        let separator = &word[..word.len() - next.len()];
        let known = matches!(separator, "." | "_" | "__") || separator.chars().all(|letter| letter == '-');
        if !known {
            return false;
        }
        rest = next;
    }
}

/// A host name, IPv4 address or bracketed IPv6 address with an optional port.
fn is_registry(registry: &str) -> bool {
    if let Some(rest) = registry.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let hex = !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
        return hex && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port)));
    port.is_none_or(is_port) && host.split('.').all(is_host_component)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.chars().all(|letter| letter.is_ascii_digit())
}

fn is_host_component(component: &str) -> bool {
    let inside = component.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    inside && !component.is_empty() && !component.starts_with('-') && !component.ends_with('-')
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
fn is_tag(tag: &str) -> bool {
    let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let inside = tag.chars().all(|letter| word(letter) || letter == '.' || letter == '-');
    inside && tag.starts_with(word) && tag.len() <= 128
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Reference({self})")
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_normalised_and_shortened() {
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian", "debian"),
            ("debian:bookworm-slim", "docker.io/library/debian:bookworm-slim", "debian:bookworm-slim"),
            ("index.docker.io/debian", "docker.io/library/debian", "debian"),
            ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
            ("user/app:1.0_x-y", "docker.io/user/app:1.0_x-y", "user/app:1.0_x-y"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("localhost:5000/app:2", "localhost:5000/app:2", "localhost:5000/app:2"),
            ("[::1]:5000/a/b", "[::1]:5000/a/b", "[::1]:5000/a/b"),
            ("Host/app", "Host/app", "Host/app"),
            ("ghcr.io/a__b/c--d.e", "ghcr.io/a__b/c--d.e", "ghcr.io/a__b/c--d.e"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar));
            assert_eq!(Reference::parse(&reference.familiar()).unwrap(), reference);
        }
    }

    #[test]
    fn digests_stand_after_the_tag() {
        let text = format!("redis:7@sha256:{HEX}");
        let reference = Reference::parse(&text).unwrap();
        assert_eq!((reference.tag(), reference.digest()), (Some("7"), Some(&Digest::from_hex(HEX).unwrap())));
        assert_eq!(reference.familiar(), text);
        assert_eq!(reference.with_tag("8").unwrap().familiar(), "redis:8");
    }

    #[test]
    fn only_a_bare_name_gets_the_default_tag() {
        let tagged = |text: &str| Reference::parse(text).unwrap().with_default_tag().familiar();
        assert_eq!(tagged("a"), "a:latest");
        assert_eq!(tagged("a:1"), "a:1");
        assert_eq!(tagged(&format!("a@sha256:{HEX}")), format!("a@sha256:{HEX}"));
    }

    #[test]
    fn malformed_texts_are_refused_with_the_reason() {
        for (text, problem) in [
            ("", "empty"),
            ("Debian", "lower case"),
            ("a/B", "lower case"),
            (HEX, "image ID"),
            ("a:", "tag"),
            ("a:-x", "tag"),
            ("a:b:c", "tag"),
            ("a@sha256:12", "digest"),
            ("a@md5:d41d8cd98f00b204e9800998ecf8427e", "digest"),
            ("a//b", "malformed"),
            ("a___b", "malformed"),
            ("-a", "malformed"),
            ("a-", "malformed"),
            ("a b", "malformed"),
            ("-x.io/a", "registry"),
            ("x.io:/a", "registry"),
            ("x.io/", "empty"),
            ("x.io:80a/b", "registry"),
        ] {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
        assert!(Reference::parse(&format!("x.io/{}", "a".repeat(256))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_round_trips(text in "[a-zA-Z0-9./:@_-]{0,24}") {
            if let Ok(reference) = Reference::parse(&text) {
                proptest::prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
                proptest::prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
            }
        }
    }
}
