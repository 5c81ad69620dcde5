//! Platforms: `linux/amd64`, `linux/arm/v7`.
//!
//! Parsing and normalisation follow containerd's `platforms` package, so does the choice among the
//! platforms of an index: [`Platform::best`] takes the nearest that this machine's processor can run.
//! Only Linux is built; other systems parse, so that an error can name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and processor, normalised. As JSON it is the `platform` of an index entry
/// (OCI image-spec, "image index").
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Platform {
    /// Go's name of the processor: `amd64`, `arm64`.
    pub architecture: String,
    /// Go's name of the system: `linux`.
    pub os: String,
    /// The system's version; only Windows images have one.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// The processor's generation: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform of the form os/architecture[/variant]")]
pub struct InvalidPlatform(pub String);

/// Processors that may be named without a system.
const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm",
];
/// Systems that may be named without a processor.
const SYSTEMS: &[&str] = &["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "wasip1"];

impl Platform {
    /// The platform of these names, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "" => "linux".to_owned(),
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) = normalise(architecture, variant.unwrap_or(""));
        Self { architecture, os, os_version: None, variant: Some(variant).filter(|text| !text.is_empty()) }
    }

    /// Linux on the processor of this machine: what is built unless the user says otherwise.
    pub fn host() -> Self {
        let variant = if cfg!(target_arch = "arm") { Some("v7") } else { None };
        Self::new("linux", std::env::consts::ARCH, variant)
    }

    /// Which of `offered` serves best where `self` is wanted: the exact one, else the nearest older
    /// generation, else a 32-bit relative that the processor runs too. Equal ones: the first.
    pub fn best<'a>(&self, offered: impl IntoIterator<Item = &'a Self>) -> Option<usize> {
        let wanted = self.vector();
        let offered = offered.into_iter().enumerate();
        let ranks = offered.filter_map(|(index, platform)| {
            let normal = Self::new(&platform.os, &platform.architecture, platform.variant.as_deref());
            wanted.iter().position(|candidate| *candidate == normal).map(|rank| (rank, index))
        });
        ranks.min().map(|(_, index)| index)
    }

    /// Whether an image for `offered` can be used where `self` is wanted.
    pub fn accepts(&self, offered: &Self) -> bool {
        self.best([offered]).is_some()
    }

    /// What serves in the place of `self`, best first.
    fn vector(&self) -> Vec<Self> {
        let own = Self::new(&self.os, &self.architecture, self.variant.as_deref());
        let same = |architecture: &str, variant: &str| Self::new(&self.os, architecture, Some(variant));
        let generation =
            own.variant.as_deref().and_then(|variant| variant.strip_prefix('v')?.parse::<u8>().ok());
        let mut vector = vec![own.clone()];
        match (own.architecture.as_str(), generation) {
            ("amd64", generation) => {
                let below = (1..generation.unwrap_or(1)).rev();
                vector.extend(below.map(|number| same("amd64", &format!("v{number}"))));
                vector.push(same("386", ""));
            }
            ("arm", Some(generation)) => {
                vector.extend((5..generation).rev().map(|number| same("arm", &format!("v{number}"))));
            }
            ("arm64", generation) => {
                if generation.is_some_and(|generation| generation > 8) {
                    vector.push(same("arm64", ""));
                }
                vector.extend((5..=8).rev().map(|number| same("arm", &format!("v{number}"))));
            }
            _ => {}
        }
        vector
    }
}

/// One spelling for each processor; variants that say nothing go.
fn normalise(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386" | "x86", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform(text.to_owned());
        let word = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(word) {
            return Err(invalid());
        }
        match parts[..] {
            [one] if SYSTEMS.contains(&one) => Ok(Self::new(one, std::env::consts::ARCH, None)),
            [one] => {
                let platform = Self::new("linux", one, None);
                let known = ARCHITECTURES.contains(&platform.architecture.as_str());
                known.then_some(platform).ok_or_else(invalid)
            }
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(formatter, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_are_normalised() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("armhf", "linux/arm/v7"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("windows/amd64", "windows/amd64"),
            ("i386", "linux/386"),
        ] {
            assert_eq!(platform(text).to_string(), normal, "{text}");
        }
    }

    #[test]
    fn malformed_texts_are_refused() {
        for text in ["", "/", "linux/", "a/b/c/d", "nonsense", "linux/am d64"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_nearest_offered_platform_is_taken() {
        let best = |wanted: &str, offered: &[&str]| {
            let offered: Vec<_> = offered.iter().map(|text| platform(text)).collect();
            platform(wanted).best(&offered)
        };
        assert_eq!(best("linux/amd64", &["linux/arm64", "linux/amd64"]), Some(1));
        assert_eq!(best("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2"]), Some(1));
        assert_eq!(best("linux/amd64", &["linux/amd64/v2", "linux/386"]), Some(1));
        assert_eq!(best("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"]), Some(1));
        assert_eq!(best("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"]), Some(1));
        assert_eq!(best("linux/arm64", &["linux/arm/v6", "linux/arm/v7"]), Some(1));
        assert_eq!(best("linux/amd64", &["windows/amd64", "linux/s390x"]), None);
    }

    #[test]
    fn json_is_that_of_an_index() {
        let json = r#"{"architecture":"arm","os":"linux","variant":"v7"}"#;
        assert_eq!(serde_json::to_string(&platform("linux/arm/v7")).unwrap(), json);
        let read: Platform =
            serde_json::from_str(r#"{"os":"linux","architecture":"amd64","os.features":[]}"#).unwrap();
        assert_eq!(read, platform("linux/amd64"));
    }
}
