//! Where results come from and go to beyond the store: `--cache-from`, `--cache-to`, `build.cache_from` and
//! `build.cache_to`.
//!
//! [`CacheSource::parse`] and [`CacheTarget::parse`] read the words of buildx: `type=registry,ref=NAME`, a
//! bare NAME, `type=local,src=FOLDER` and `dest=`. What shipway keeps in such a place is its own; attributes
//! that ask for another form are refused by name. Pure.

use std::path::{Path, PathBuf};

use crate::oci::{Encoding, Packing, Reference};

/// A place that keeps results for other machines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CachePlace {
    /// A repository; the tag begins the tags of everything in it.
    Registry(Reference),
    /// An OCI layout in a folder, absolute; the tag begins the names of everything in it.
    Folder(PathBuf, String),
}

/// A place that is asked for results.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CacheSource {
    /// Where.
    pub place: CachePlace,
}

/// A place that gets results.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CacheTarget {
    /// Where.
    pub place: CachePlace,
    /// How layers are compressed that have no compression of their own.
    pub packing: Packing,
    /// Whether the build fails if they cannot be put there.
    pub insists: bool,
}

/// Why a cache's words are not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidCache {
    /// They are a mistake.
    #[error("{0}")]
    Mistake(String),
    /// They ask for something that shipway does not do.
    #[error("not supported yet: {0}")]
    Unsupported(String),
}

/// The tag where none is given.
const TAG: &str = "latest";

impl CachePlace {
    /// How it is told.
    pub fn shown(&self) -> String {
        match self {
            Self::Registry(reference) => reference.familiar(),
            Self::Folder(path, _) => path.display().to_string(),
        }
    }

    /// With what the names of everything in it begin.
    pub fn tag(&self) -> &str {
        match self {
            Self::Registry(reference) => reference.tag().unwrap_or(TAG),
            Self::Folder(_, tag) => tag,
        }
    }

    /// Whether the two keep their blobs together.
    pub fn shares_blobs(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Registry(one), Self::Registry(other)) => one.name() == other.name(),
            (Self::Folder(one, _), Self::Folder(other, _)) => one == other,
            _ => false,
        }
    }
}

impl CacheSource {
    /// Reads a source; paths are relative to `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, InvalidCache> {
        let words = Words::parse(text)?;
        let place = words.place(folder, "src")?;
        for (name, value) in &words.others {
            // What every place that can be read is.
            match (name.as_str(), value.as_str()) {
                ("mode", "max") | ("image-manifest" | "oci-mediatypes", "true") => {}
                _ => return Err(unknown(name, value, "a cache to read from")),
            }
        }
        Ok(Self { place })
    }
}

impl CacheTarget {
    /// Reads a target; paths are relative to `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, InvalidCache> {
        let words = Words::parse(text)?;
        let mut target =
            Self { place: words.place(folder, "dest")?, packing: Packing::default(), insists: false };
        for (name, value) in &words.others {
            match (name.as_str(), value.as_str()) {
                ("mode", "max") | ("image-manifest" | "oci-mediatypes", "true") => {}
                ("mode", "min") => {
                    return Err(InvalidCache::Unsupported(
                        "mode=min: the results of all stages are kept, so leave it out".to_owned(),
                    ));
                }
                ("image-manifest" | "oci-mediatypes", "false") => {
                    return Err(InvalidCache::Unsupported(format!("{name}=false")));
                }
                ("ignore-error", value) => target.insists = !truth(name, value)?,
                ("compression", value) => target.packing.encoding = encoding(value)?,
                ("compression-level", value) => {
                    let level = value.parse().map_err(|_| malformed(name, value))?;
                    target.packing.level = Some(level);
                }
                ("force-compression", value) => target.packing.force = truth(name, value)?,
                _ => return Err(unknown(name, value, "a cache to write to")),
            }
        }
        Ok(target)
    }
}

/// `name=value,…`, taken apart.
struct Words {
    kind: String,
    reference: Option<String>,
    source: Option<String>,
    destination: Option<String>,
    tag: Option<String>,
    others: Vec<(String, String)>,
}

impl Words {
    fn parse(text: &str) -> Result<Self, InvalidCache> {
        let mut words = Self {
            kind: "registry".to_owned(),
            reference: None,
            source: None,
            destination: None,
            tag: None,
            others: Vec::new(),
        };
        if !text.contains('=') {
            words.reference = Some(text.trim().to_owned());
            return Ok(words);
        }
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let Some((name, value)) = word.split_once('=') else {
                return Err(InvalidCache::Mistake(format!("`{word}` is not NAME=VALUE")));
            };
            let (name, value) = (name.trim().to_lowercase(), value.trim().to_owned());
            match name.as_str() {
                "type" => words.kind = value,
                "ref" => words.reference = Some(value),
                "src" => words.source = Some(value),
                "dest" => words.destination = Some(value),
                "tag" => words.tag = Some(value),
                _ => words.others.push((name, value)),
            }
        }
        Ok(words)
    }

    fn place(&self, folder: &Path, direction: &str) -> Result<CachePlace, InvalidCache> {
        match self.kind.as_str() {
            "registry" => {
                let given = [("src", &self.source), ("dest", &self.destination), ("tag", &self.tag)];
                if let Some((name, Some(value))) = given.iter().find(|(_, value)| value.is_some()) {
                    return Err(unknown(name, value, "a cache in a registry"));
                }
                let reference = self.reference.as_deref().filter(|name| !name.is_empty());
                let reference = reference.ok_or_else(|| missing("ref=NAME", "a cache in a registry"))?;
                let reference = Reference::parse(reference).map_err(|error| mistake(&error))?;
                if reference.digest().is_some() {
                    return Err(InvalidCache::Mistake(format!(
                        "a cache has a name, and a tag at most: `{reference}`"
                    )));
                }
                Ok(CachePlace::Registry(reference.with_default_tag()))
            }
            "local" => {
                let path = if direction == "src" { &self.source } else { &self.destination };
                let path = path.as_deref().filter(|path| !path.is_empty());
                let path = path.ok_or_else(|| missing(&format!("{direction}=FOLDER"), "a local cache"))?;
                let tag = self.tag.as_deref().unwrap_or(TAG);
                let named = Reference::parse("cache").and_then(|name| name.with_tag(tag));
                named.map_err(|error| mistake(&error))?;
                Ok(CachePlace::Folder(folder.join(path), tag.to_owned()))
            }
            other => Err(InvalidCache::Unsupported(format!("a cache of type `{other}`"))),
        }
    }
}

fn mistake(error: &dyn std::error::Error) -> InvalidCache {
    InvalidCache::Mistake(error.to_string())
}

fn missing(what: &str, of: &str) -> InvalidCache {
    InvalidCache::Mistake(format!("{of} needs {what}"))
}

fn malformed(name: &str, value: &str) -> InvalidCache {
    InvalidCache::Mistake(format!("`{name}={value}` is malformed"))
}

fn unknown(name: &str, value: &str, of: &str) -> InvalidCache {
    InvalidCache::Unsupported(format!("`{name}={value}` of {of}"))
}

fn truth(name: &str, value: &str) -> Result<bool, InvalidCache> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(malformed(name, value)),
    }
}

fn encoding(value: &str) -> Result<Encoding, InvalidCache> {
    match value {
        "gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        "uncompressed" => Ok(Encoding::Plain),
        _ => Err(InvalidCache::Unsupported(format!("compression={value}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::testing::samples;

    samples! { InvalidCache:
        Mistake("a cache of type `local` needs `dest`".into()),
        Unsupported("a cache of type `gha`".into()),
    }

    fn source(text: &str) -> String {
        match CacheSource::parse(text, Path::new("/project")) {
            Ok(source) => format!("{} {}", source.place.shown(), source.place.tag()),
            Err(error) => error.to_string(),
        }
    }

    fn target(text: &str) -> String {
        match CacheTarget::parse(text, Path::new("/project")) {
            Ok(CacheTarget { place, packing, insists }) => {
                format!("{} {:?} {:?} {insists}", place.shown(), packing.encoding, packing.level)
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn sources_are_what_buildx_writes() {
        let told = [
            "r.example/app/cache",
            "type=registry,ref=r.example/app/cache:main",
            "type=local,src=.cache",
            "type=local,src=/abs,tag=main",
            "type=registry",
            "type=registry,ref=a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "type=local,dest=x",
            "type=gha,scope=x",
            "type=registry,ref=a,speed=1",
            "type",
        ]
        .map(|text| format!("{text}: {}", source(text)));
        insta::assert_snapshot!(told.join("\n"), @r"
        r.example/app/cache: r.example/app/cache:latest latest
        type=registry,ref=r.example/app/cache:main: r.example/app/cache:main main
        type=local,src=.cache: /project/.cache latest
        type=local,src=/abs,tag=main: /abs main
        type=registry: a cache in a registry needs ref=NAME
        type=registry,ref=a@sha256:0000000000000000000000000000000000000000000000000000000000000000: a cache has a name, and a tag at most: `docker.io/library/a@sha256:0000000000000000000000000000000000000000000000000000000000000000`
        type=local,dest=x: a local cache needs src=FOLDER
        type=gha,scope=x: not supported yet: a cache of type `gha`
        type=registry,ref=a,speed=1: not supported yet: `speed=1` of a cache to read from
        type: type:latest latest
        ");
    }

    #[test]
    fn targets_are_what_buildx_writes() {
        let told = [
            "type=registry,ref=r.example/c:main,mode=max,image-manifest=true",
            "type=local,dest=out,compression=zstd,compression-level=9,ignore-error=false",
            "type=registry,ref=a,mode=min",
            "type=registry,ref=a,compression=estargz",
            "type=registry,ref=a,ignore-error=perhaps",
            "type=registry,ref=a,oci-mediatypes=false",
            "type=inline",
        ]
        .map(|text| format!("{text}: {}", target(text)));
        insta::assert_snapshot!(told.join("\n"), @r"
        type=registry,ref=r.example/c:main,mode=max,image-manifest=true: r.example/c:main Gzip None false
        type=local,dest=out,compression=zstd,compression-level=9,ignore-error=false: /project/out Zstd Some(9) true
        type=registry,ref=a,mode=min: not supported yet: mode=min: the results of all stages are kept, so leave it out
        type=registry,ref=a,compression=estargz: not supported yet: compression=estargz
        type=registry,ref=a,ignore-error=perhaps: `ignore-error=perhaps` is malformed
        type=registry,ref=a,oci-mediatypes=false: not supported yet: oci-mediatypes=false
        type=inline: not supported yet: a cache of type `inline`
        ");
    }

    #[test]
    fn places_of_one_repository_share_their_blobs() {
        let place = |text: &str| CacheSource::parse(text, Path::new("/")).unwrap().place;
        assert!(place("r.example/a:main").shares_blobs(&place("r.example/a:branch")));
        assert!(!place("r.example/a").shares_blobs(&place("r.example/b")));
        assert!(place("type=local,src=a").shares_blobs(&place("type=local,src=/a,tag=x")));
        assert!(!place("type=local,src=a").shares_blobs(&place("r.example/a")));
    }
}
