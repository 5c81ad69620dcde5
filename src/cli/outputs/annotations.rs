//! Annotations of an image: on its manifest, or on the manifest's descriptor.

use std::collections::BTreeMap;

use crate::base::diag::meant;
use crate::oci::Platform;

/// Annotations by what they are put on.
#[derive(Clone, Debug, Default)]
pub(super) struct Annotations {
    pub(super) manifest: BTreeMap<String, String>,
    pub(super) descriptor: BTreeMap<String, String>,
}

impl Annotations {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.manifest.is_empty() && self.descriptor.is_empty()
    }

    /// Adds one; `kind` may name a platform: `manifest[linux/amd64]`.
    pub(super) fn add(&mut self, kind: &str, name: &str, value: &str) -> Result<(), String> {
        const KINDS: &[&str] = &["manifest", "manifest-descriptor", "index", "index-descriptor"];
        let (kind, platform) = match kind.strip_suffix(']').and_then(|kind| kind.split_once('[')) {
            Some((kind, platform)) => (kind, Some(platform)),
            None => (kind, None),
        };
        if let Some(platform) = platform {
            let named: Platform = platform.parse().map_err(|error| format!("{error}"))?;
            if !Platform::host().accepts(&named) {
                return Ok(());
            }
        }
        if name.is_empty() {
            return Err("an annotation needs a name".to_owned());
        }
        let pair = (name.to_owned(), value.to_owned());
        match kind {
            "" | "manifest" => drop(self.manifest.insert(pair.0, pair.1)),
            "manifest-descriptor" => drop(self.descriptor.insert(pair.0, pair.1)),
            "index" | "index-descriptor" => {
                return Err(format!("{kind} annotations need an image of several platforms"));
            }
            other => {
                let hint = meant(other, KINDS.iter().copied());
                return Err(format!("there are no annotations on `{other}`{hint}"));
            }
        }
        Ok(())
    }
}

/// `[KIND[,KIND]:]NAME=VALUE` each.
pub(super) fn annotations(texts: &[String]) -> Result<Annotations, String> {
    let mut annotations = Annotations::default();
    for text in texts {
        let problem = |problem: String| format!("--annotation {text}: {problem}");
        let (left, value) = text.split_once('=').ok_or_else(|| problem("it is not NAME=VALUE".to_owned()))?;
        let (kinds, name) = left.split_once(':').unwrap_or(("", left));
        kinds.split(',').try_for_each(|kind| annotations.add(kind, name, value)).map_err(problem)?;
    }
    Ok(annotations)
}
