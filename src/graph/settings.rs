//! `x-shipway`: what a project says to shipway alone.
//!
//! The key stands at the top of the compose file, where every other program passes over it, so that all who
//! build the project, laptops and CI alike, build it the same.

use std::collections::BTreeMap;

use crate::base::diag::Diagnostic;
use crate::compose::Project;

/// The key.
const KEY: &str = "x-shipway";

/// Which modes files of build contexts count with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum FileModes {
    /// Those that git keeps, for what git tracks: a checkout's umask makes no difference.
    #[default]
    Git,
    /// Those on the disk.
    Disk,
}

impl FileModes {
    /// Every choice, by its name.
    pub const ALL: [(&'static str, Self); 2] = [("git", Self::Git), ("disk", Self::Disk)];

    /// The choice of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, modes)| modes)
    }
}

/// What the project says, and every mistake in it.
pub(super) fn modes_of(project: &Project) -> Result<FileModes, Vec<Diagnostic>> {
    let Some(settings) = project.extensions.get(KEY) else { return Ok(FileModes::default()) };
    let settings = serde_json::to_value(settings).unwrap_or_default();
    let mistake = |path: &[&str], message: String| {
        let mistake = Diagnostic::error(message);
        match project.spans.nearest(path).cloned() {
            Some(span) => mistake.at(span, ""),
            None => mistake,
        }
    };
    let Ok(settings) = serde_json::from_value::<BTreeMap<String, serde_json::Value>>(settings) else {
        return Err(vec![mistake(&[KEY], format!("`{KEY}` is a mapping: `{KEY}: {{modes: git}}`"))]);
    };
    let (mut modes, mut mistakes) = (FileModes::default(), Vec::new());
    for (key, value) in &settings {
        let named = value.as_str().and_then(FileModes::named);
        match (key.as_str(), named) {
            ("modes", Some(named)) => modes = named,
            ("modes", None) => {
                mistakes
                    .push(mistake(&[KEY, key], format!("`{KEY}.modes` is `git` or `disk`, not `{value}`")));
            }
            _ => mistakes.push(mistake(&[KEY, key], format!("`{KEY}` has no key `{key}`; it has `modes`"))),
        }
    }
    if mistakes.is_empty() { Ok(modes) } else { Err(mistakes) }
}
