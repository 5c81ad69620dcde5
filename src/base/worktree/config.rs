//! The settings of a repository that matter to whoever reads its work tree: pure text in, values out.
//!
//! Of git's `config` format: sections, subsections, comments, quotes, several lines a value. Files that are
//! included are not read, nor are the user's and the machine's: only what lies in the repository counts, so
//! that it counts for everybody.

/// What a repository says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    /// `core.fileMode`: whether the permissions on the disk mean anything.
    pub(super) trusts_modes: bool,
    /// `core.worktree`: where the work tree is, if it is not beside the repository.
    pub(super) worktree: Option<String>,
    /// `extensions.objectFormat`: how many bytes an object's name has.
    pub(super) id: usize,
    /// `extensions.worktreeConfig`: whether each work tree has settings of its own.
    pub(super) own: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { trusts_modes: true, worktree: None, id: 20, own: false }
    }
}

impl Settings {
    /// Takes over what the text of a `config` file sets.
    pub(super) fn read(&mut self, text: &str) {
        let mut section = String::new();
        for line in text.replace("\\\n", "").lines() {
            let mut line = line.trim();
            if let Some((name, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
                section = name.trim().to_lowercase();
                line = rest.trim();
            }
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            match line.split_once('=') {
                Some((key, value)) => self.set(&section, key.trim(), &unquoted(value.trim())),
                None => self.set(&section, line, "true"),
            }
        }
    }

    fn set(&mut self, section: &str, key: &str, value: &str) {
        match (section, key.to_lowercase().as_str()) {
            ("core", "filemode") => self.trusts_modes = is_true(value),
            ("core", "worktree") => self.worktree = Some(value.to_owned()),
            ("extensions", "objectformat") => {
                self.id = if value.eq_ignore_ascii_case("sha256") { 32 } else { 20 };
            }
            ("extensions", "worktreeconfig") => self.own = is_true(value),
            _ => {}
        }
    }
}

fn is_true(value: &str) -> bool {
    !matches!(value.to_lowercase().as_str(), "false" | "no" | "off" | "0" | "")
}

/// A value without its quotes, its escapes and what stands behind it as a comment.
fn unquoted(text: &str) -> String {
    let (mut value, mut quoted) = (String::new(), false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => break,
            '\\' => value.extend(letters.next()),
            letter => value.push(letter),
        }
    }
    if quoted { value } else { value.trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Settings {
        let mut settings = Settings::default();
        settings.read(text);
        settings
    }

    #[test]
    fn settings_are_read_from_their_sections() {
        let text = "[core]\n\trepositoryformatversion = 0\n\tFileMode = false ; no\n[remote \"core\"]\nfilemode=true\n";
        assert_eq!(read(text), Settings { trusts_modes: false, ..Settings::default() });
        let text =
            "# filemode = false\n[Core] fileMode\n[extensions]\nobjectFormat=\"sha256\"\nworktreeConfig = on";
        assert_eq!(read(text), Settings { id: 32, own: true, ..Settings::default() });
        let text = "[core]\nworktree = \"../a # b\" # c\nfilemode = \\\nno\n";
        let worktree = Some("../a # b".to_owned());
        assert_eq!(read(text), Settings { trusts_modes: false, worktree, ..Settings::default() });
    }

    #[test]
    fn any_text_is_read() {
        for text in ["", "[", "]", "=", "[core", "[core]=", "[core]filemode=\"", "\\", "[core]filemode=\\"] {
            let _ = read(text);
        }
    }
}
