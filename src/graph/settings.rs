//! `x-shipway`: what a project says to shipway alone.
//!
//! The key stands at the top of the compose file, where every other program passes over it, so that all who
//! build the project, laptops and CI alike, build it the same.

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

/// The keys below it.
const KEYS: [&str; 1] = ["modes"];

/// What the project says, and every mistake in it.
pub(super) fn modes_of(project: &Project) -> Result<FileModes, Vec<Diagnostic>> {
    let Some(settings) = project.extensions.get(KEY).filter(|settings| !settings.is_null()) else {
        return Ok(FileModes::default());
    };
    let mistake = |path: &[&str], message: String| {
        let mistake = Diagnostic::error(message);
        match project.spans.nearest(path).cloned() {
            Some(span) => mistake.at(span, ""),
            None => mistake,
        }
    };
    let Some(settings) = settings.as_object() else {
        return Err(vec![mistake(
            &[KEY],
            format!("`{KEY}` must be a mapping, as in `{KEY}: {{modes: disk}}`"),
        )]);
    };
    let (mut modes, mut mistakes) = (FileModes::default(), Vec::new());
    for (key, value) in settings {
        let said = value.as_str().unwrap_or_default();
        match (key.as_str(), FileModes::named(said)) {
            ("modes", Some(named)) => modes = named,
            ("modes", None) => {
                let message = format!("`{KEY}.modes` must be `git` or `disk`, not `{}`", shown(value));
                let names = FileModes::ALL.map(|(name, _)| name);
                mistakes.push(mistake(&[KEY, key], message).did_you_mean(said, names));
            }
            _ => {
                let message = format!("`{KEY}` has no key `{key}`");
                mistakes.push(mistake(&[KEY, key], message).did_you_mean(key, KEYS));
            }
        }
    }
    if mistakes.is_empty() { Ok(modes) } else { Err(mistakes) }
}

/// A value as the user wrote it, more or less.
fn shown(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::compose::{Options, load};

    /// The modes that a compose file with this at its top means, or the mistakes as they are shown.
    fn modes(text: &str) -> Result<FileModes, String> {
        let text = format!("services: {{a: {{build: .}}}}\n{text}\n");
        let files = BTreeMap::from([(PathBuf::from("/p/compose.yaml"), text)]);
        let project = load(&Options::new("/p"), &files).unwrap().project;
        let shown =
            |mistakes: Vec<Diagnostic>| mistakes.iter().map(|mistake| mistake.render(false)).collect();
        modes_of(&project).map_err(shown)
    }

    #[test]
    fn a_project_chooses_its_modes() {
        for text in ["", "x-shipway:", "x-shipway: {}", "x-shipway: {modes: git}", "x-other: {modes: x}"] {
            assert_eq!(modes(text), Ok(FileModes::Git), "{text}");
        }
        assert_eq!(modes("x-shipway: {modes: disk}"), Ok(FileModes::Disk));
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        let shown = modes("x-shipway:\n  modes: gti\n  mode: disk").unwrap_err();
        for part in [
            "`x-shipway.modes` must be `git` or `disk`, not `gti`",
            "did you mean `git`?",
            "`x-shipway` has no key `mode`",
            "did you mean `modes`?",
            "compose.yaml:3:",
            "compose.yaml:4:",
            "modes: gti",
            "^",
        ] {
            assert!(shown.contains(part), "{part}:\n{shown}");
        }
        assert!(modes("x-shipway: disk").unwrap_err().contains("`x-shipway` must be a mapping"));
        assert!(modes("x-shipway: {modes: 1}").unwrap_err().contains("not `1`"));
        assert!(modes("x-shipway: {modes: null}").unwrap_err().contains("not `null`"));
    }
}
