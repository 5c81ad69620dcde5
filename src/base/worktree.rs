//! Git work trees, read from their files: where the repository of a folder is, what its index tracks, which
//! commit its HEAD is. No process is started and nothing is written.
//!
//! [`Worktree::at`] finds a repository; its answers come from the files that [`Worktree::settings_files`] and
//! [`Worktree::index_file`] name, so that a caller may keep an answer as long as those stand. `index` and
//! `config` read the two formats. Objects are not read here.

mod config;
mod index;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use config::Settings;
pub use index::{InvalidIndex, Names, Tracked};

/// How deep a symbolic reference may lead.
const MOST_REFERENCES: usize = 5;

/// A repository with its work tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Worktree {
    /// The work tree's folder.
    pub root: PathBuf,
    /// Where its HEAD and its index are.
    pub git: PathBuf,
    /// Where its objects, references and settings are: those of the main work tree.
    pub common: PathBuf,
}

impl Worktree {
    /// The work tree whose root is exactly this folder.
    pub fn at(folder: &Path) -> Option<Self> {
        let dot = folder.join(".git");
        let kind = fs::metadata(&dot).ok()?;
        let git = if kind.is_file() {
            let text = fs::read_to_string(&dot).ok()?;
            folder.join(text.strip_prefix("gitdir:")?.trim())
        } else {
            dot
        };
        let common = fs::read_to_string(git.join("commondir"));
        let common = common.map_or_else(|_| git.clone(), |path| git.join(path.trim()));
        let found = Self { root: folder.to_owned(), git, common };
        found.exists().then_some(found)
    }

    /// The innermost work tree that `folder` is in.
    pub fn of(folder: &Path) -> Option<Self> {
        folder.ancestors().find_map(Self::at)
    }

    /// Whether it (still) is a repository.
    pub fn exists(&self) -> bool {
        fs::symlink_metadata(self.git.join("HEAD")).is_ok()
    }

    /// The files that say where the repository is and what its settings are.
    pub fn settings_files(&self) -> [PathBuf; 4] {
        let git = |name: &str| self.git.join(name);
        [self.root.join(".git"), git("commondir"), self.common.join("config"), git("config.worktree")]
    }

    /// The file that says what is tracked.
    pub fn index_file(&self) -> PathBuf {
        self.git.join("index")
    }

    /// What its index tracks; nothing where there is no index yet.
    pub fn tracked(&self) -> Result<Tracked, InvalidIndex> {
        let settings = self.settings();
        if settings.worktree.as_ref().is_some_and(|path| !self.is_root(path)) {
            return Err(InvalidIndex("core.worktree names another folder".to_owned()));
        }
        match fs::read(self.index_file()) {
            Ok(bytes) => Tracked::read(&bytes, settings.id),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Tracked::default()),
            Err(error) => Err(InvalidIndex(error.to_string())),
        }
    }

    /// Whether the permissions on the disk mean anything (`core.fileMode`).
    pub fn trusts_modes(&self) -> bool {
        self.settings().trusts_modes
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        let mut read = |path: PathBuf| {
            settings.read(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default()));
            settings.own
        };
        if read(self.common.join("config")) {
            read(self.git.join("config.worktree"));
        }
        settings
    }

    /// Whether `path`, seen from the repository, is the work tree's folder.
    fn is_root(&self, path: &str) -> bool {
        let named = fs::canonicalize(self.git.join(path));
        named.is_ok_and(|named| fs::canonicalize(&self.root).is_ok_and(|root| root == named))
    }

    /// The commit that HEAD is, in full; `None` before the first one, and where it cannot be found.
    pub fn head(&self) -> Option<String> {
        let mut name = "HEAD".to_owned();
        for _ in 0..MOST_REFERENCES {
            let text = self.reference(&name)?;
            match text.strip_prefix("ref:") {
                Some(next) => next.trim().clone_into(&mut name),
                None => return is_id(&text).then_some(text),
            }
        }
        None
    }

    fn reference(&self, name: &str) -> Option<String> {
        if name.split('/').any(|part| matches!(part, "" | "..")) {
            return None;
        }
        for folder in [&self.git, &self.common] {
            if let Ok(text) = fs::read_to_string(folder.join(name)) {
                return Some(text.trim().to_owned());
            }
        }
        let packed = fs::read_to_string(self.common.join("packed-refs")).ok()?;
        let found = packed.lines().find_map(|line| line.split_once(' ').filter(|(_, known)| *known == name));
        found.map(|(id, _)| id.to_owned())
    }
}

fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::base::testing::git;

    fn repository() -> Option<tempfile::TempDir> {
        let folder = tempfile::tempdir().unwrap();
        if !git(folder.path(), &["init", "--quiet"]) {
            return None;
        }
        fs::create_dir_all(folder.path().join("a/deep")).unwrap();
        for name in ["plain", "a/deep/tool", "a/other", "loose"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let tool = folder.path().join("a/deep/tool");
        fs::set_permissions(tool, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("plain", folder.path().join("link")).unwrap();
        git(folder.path(), &["add", "plain", "a", "link"]);
        Some(folder)
    }

    fn file(tracked: &Tracked, path: &str) -> Option<bool> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        tracked.folder(folder.as_bytes())?.file(name.as_bytes())
    }

    #[test]
    fn every_version_of_an_index_is_read() {
        let Some(folder) = repository() else { return };
        for version in ["2", "3", "4"] {
            git(folder.path(), &["update-index", "--index-version", version]);
            if version == "3" {
                // What version 3 has beyond 2: an entry that is only announced.
                fs::write(folder.path().join("announced"), "").unwrap();
                git(folder.path(), &["add", "--intent-to-add", "announced"]);
            }
            let tracked = Worktree::at(folder.path()).unwrap().tracked().unwrap();
            let files = ["plain", "a/deep/tool", "a/other", "loose", "link", "announced"];
            let found: Vec<_> = files.map(|path| file(&tracked, path)).to_vec();
            let announced = (version != "2").then_some(false);
            let plain = Some(false);
            assert_eq!(found, [plain, Some(true), plain, None, plain, announced], "{version}");
            assert!(["", "a", "a/deep"].iter().all(|path| tracked.folder(path.as_bytes()).is_some()));
            assert!(tracked.folder(b"b").is_none());
        }
    }

    #[test]
    fn heads_are_found_wherever_they_are() {
        let Some(folder) = repository() else { return };
        let worktree = Worktree::of(&folder.path().join("a/deep")).unwrap();
        assert_eq!((worktree.root.as_path(), worktree.head()), (folder.path(), None));
        git(folder.path(), &["commit", "--quiet", "-m", "one"]);
        let head = worktree.head().unwrap();
        git(folder.path(), &["pack-refs", "--all"]);
        assert_eq!(worktree.head().as_ref(), Some(&head));
        git(folder.path(), &["checkout", "--quiet", "--detach"]);
        assert_eq!(worktree.head().as_ref(), Some(&head));
        let other = folder.path().join("a/linked");
        git(folder.path(), &["worktree", "add", "--quiet", "a/linked"]);
        let linked = Worktree::of(&other.join("a")).unwrap();
        assert_eq!((linked.root.as_path(), linked.head()), (other.as_path(), Some(head)));
        assert_eq!(file(&linked.tracked().unwrap(), "a/deep/tool"), Some(true));
        assert!(linked.trusts_modes());
        git(folder.path(), &["config", "core.fileMode", "false"]);
        assert!(!linked.trusts_modes());
        git(folder.path(), &["config", "extensions.worktreeConfig", "true"]);
        git(&other, &["config", "--worktree", "core.fileMode", "true"]);
        assert!(linked.trusts_modes() && !worktree.trusts_modes());
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let Some(folder) = repository() else { return };
        git(folder.path(), &["update-index", "--split-index"]);
        let error = Worktree::at(folder.path()).unwrap().tracked().unwrap_err();
        assert!(error.to_string().contains("not supported yet: its extension `link`"), "{error}");
        git(folder.path(), &["update-index", "--no-split-index"]);
        let worktree = Worktree::at(folder.path()).unwrap();
        assert!(worktree.tracked().is_ok());
        git(folder.path(), &["config", "core.worktree", "../a"]);
        let error = worktree.tracked().unwrap_err().to_string();
        assert!(error.contains("core.worktree names another folder"), "{error}");
        git(folder.path(), &["config", "core.worktree", ".."]);
        assert!(worktree.tracked().is_ok());
        fs::write(worktree.index_file(), "nothing").unwrap();
        assert!(worktree.tracked().is_err());
        let outside = tempfile::tempdir().unwrap();
        assert_eq!(Worktree::at(outside.path()), None);
    }
}
