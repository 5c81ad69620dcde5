//! WORKDIR: the config's path, and the directory itself.
//!
//! The config keeps an absolute path as the user wrote it (BuildKit `system.NormalizeWorkdir`); what runs
//! and what is made uses the cleaned one.

use std::collections::BTreeMap;

use super::super::op::{Directory, Op};
use super::super::stage::Made;
use super::{Applying, join};
use crate::dockerfile::Word;

impl Applying<'_, '_, '_> {
    /// The root directory is always there: it makes no layer.
    pub(super) fn workdir(&mut self, word: &Word) -> Option<()> {
        let path = self.expand(word)?;
        let kept = normalised(&self.state.config.working_dir, &path);
        let line = format!("WORKDIR {kept}");
        let directory = join("/", &kept);
        self.state.config.working_dir.clone_from(&kept);
        if kept == "/" {
            return self.metadata(line);
        }
        let made = Directory { path: directory, user: self.state.config.user.clone() };
        self.step(Op::Directory(made), Vec::new(), BTreeMap::new());
        self.state.record(line, Made::Layer);
        Some(())
    }
}

/// An absolute path stays as it is; a relative one is joined and cleaned.
fn normalised(current: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { join(current, path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_cleaned_and_absolute_ones_kept() {
        for (current, path, expected) in [
            ("", "sub", "/sub"),
            ("/a", "b", "/a/b"),
            ("/a/", "../b/./c", "/b/c"),
            ("/a", "/x/../y", "/x/../y"),
            ("/a", "/x/", "/x/"),
            ("/a", "b/", "/a/b"),
            ("/a", "b/.", "/a/b"),
            ("/", ".", "/"),
            ("/a", "", "/a"),
        ] {
            assert_eq!(normalised(current, path), expected, "{current} {path}");
        }
    }
}
