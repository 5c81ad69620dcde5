//! The modes of files that git tracks: the same whatever umask the checkout was made under.
//!
//! git keeps of a file's mode whether it is executable, and nothing of a folder's. So a tracked file counts
//! as 0644 or 0755 and a folder with tracked files as 0755; what is not tracked counts as it is on the disk.
//! Indexes are read only where a mode is another one than git would make under the usual umask: in most
//! checkouts never. Each file belongs to the innermost work tree that it is in.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::tree::split;
use crate::base::worktree::{Tracked, Worktree, below};

/// What is known of the work trees of one context.
#[derive(Debug)]
pub(super) struct Modes {
    /// The context's folder, absolute and without links.
    folder: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The innermost work tree of a folder.
    worktrees: HashMap<PathBuf, Option<Arc<Index>>>,
    /// What could not be read.
    problem: Option<String>,
}

/// A work tree's index.
#[derive(Debug)]
struct Index {
    root: PathBuf,
    tracked: Tracked,
    trusts_modes: bool,
}

impl Modes {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, seen: Mutex::default() }
    }

    /// The permissions with which a file counts that has these on the disk.
    pub(super) fn of_file(&self, path: &[u8], permissions: u32) -> u32 {
        let usual = |executable: bool| if executable { 0o755 } else { 0o644 };
        let own = usual(permissions & 0o100 != 0);
        if permissions == own {
            return own;
        }
        let tracked = self.index(split(path).0).and_then(|index| {
            let executable = index.tracked.file(&below(&index.root, &self.absolute(path))?)?;
            Some(if index.trusts_modes { own } else { usual(executable) })
        });
        tracked.unwrap_or(permissions)
    }

    /// The same for a folder.
    pub(super) fn of_folder(&self, path: &[u8], permissions: u32) -> u32 {
        if permissions == 0o755 {
            return permissions;
        }
        let holds = |index: &Index| {
            below(&index.root, &self.absolute(path)).is_some_and(|path| index.tracked.folder(&path))
        };
        if self.index(path).is_some_and(|index| holds(&index)) { 0o755 } else { permissions }
    }

    /// What could not be read, if anything had to be.
    pub(super) fn problem(&self) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// Forgets what was read.
    pub(super) fn forget(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }

    fn absolute(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.folder.clone() } else { self.folder.join(OsStr::from_bytes(path)) }
    }

    /// The index of the innermost work tree that the folder at `path` is in.
    fn index(&self, path: &[u8]) -> Option<Arc<Index>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.index_of(&self.absolute(path))
    }
}

impl Seen {
    fn index_of(&mut self, folder: &Path) -> Option<Arc<Index>> {
        if let Some(known) = self.worktrees.get(folder) {
            return known.clone();
        }
        let found = match Worktree::at(folder) {
            Some(worktree) => self.read(worktree),
            None => folder.parent().and_then(|parent| self.index_of(parent)),
        };
        self.worktrees.insert(folder.to_owned(), found.clone());
        found
    }

    fn read(&mut self, worktree: Worktree) -> Option<Arc<Index>> {
        match worktree.tracked() {
            Ok(tracked) => {
                let trusts_modes = worktree.trusts_modes();
                Some(Arc::new(Index { root: worktree.root, tracked, trusts_modes }))
            }
            Err(error) => {
                let text = format!(
                    "{}: {error}; its files count with their modes on the disk",
                    worktree.root.display()
                );
                self.problem.get_or_insert(text);
                None
            }
        }
    }
}
