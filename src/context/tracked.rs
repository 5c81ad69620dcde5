//! The modes of files that git tracks: the same whatever umask the checkout was made under.
//!
//! git keeps of a file's mode whether it is executable, and nothing of a folder's. So a tracked file counts
//! as 0644 or 0755 and a folder with tracked files as 0755; what is not tracked counts as it is on the disk.
//! Whether a file is executable is what the disk says, or the index where the repository does not trust the
//! disk (`core.fileMode`). Each file belongs to the innermost work tree that it is in; but that a usual mode of
//! an inner one might not be trusted is only thought of if the one around the context does not trust them.
//!
//! A mode that git itself would make counts as it is in either case, so indexes are asked only about others,
//! and about hard links, which git knows as little: in most checkouts never. What an index answered is kept
//! under its stamp (`kept`); a build in which nothing changed reads no file of a repository. Nothing is
//! written here but that file, and no process is started.

mod kept;
mod repository;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::tree::{Tree, join, split};
use crate::base::digest::{Digest, FieldHasher};
use crate::base::fs::PathError;
use crate::base::worktree::Names;
use repository::Repository;

/// What is known of the work trees of one context.
#[derive(Debug)]
pub(super) struct Modes {
    /// The context's folder, absolute and without links.
    folder: PathBuf,
    /// Where answers are kept.
    file: Option<PathBuf>,
    /// Whether modes on the disk count in the work tree that the context lies in, or there is none.
    trusted: OnceLock<bool>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By the roots of their work trees; `None` where there is none.
    repositories: HashMap<PathBuf, Option<Repository>>,
    /// What an earlier run kept, until it is asked for.
    kept: Option<HashMap<PathBuf, Repository>>,
    /// The root of the work tree that the context itself lies in, once it was looked for.
    above: Option<Option<PathBuf>>,
    /// By the path in the context.
    folders: HashMap<Vec<u8>, Arc<Answer>>,
}

/// What is tracked in one folder of the context.
#[derive(Debug, Default)]
struct Answer {
    /// `None` where nothing in or below it is.
    names: Option<Arc<Names>>,
    /// Whether modes on the disk count.
    trusted: bool,
}

/// What was said in a run, to compare with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Said {
    /// Whether modes on the disk count, if that was asked.
    pub(super) trusted: Option<bool>,
    /// The digest of what was said of each folder.
    pub(super) answers: BTreeMap<Vec<u8>, Digest>,
}

impl Said {
    /// Adds what was said earlier, unless they contradict each other.
    pub(super) fn add(&mut self, earlier: &Self) -> bool {
        let same = |one: Option<bool>| one.is_none() || earlier.trusted.is_none() || one == earlier.trusted;
        if !same(self.trusted) {
            return false;
        }
        self.trusted = self.trusted.or(earlier.trusted);
        let mut earlier = earlier.answers.iter();
        earlier.all(|(path, digest)| *self.answers.entry(path.clone()).or_insert(*digest) == *digest)
    }
}

impl Answer {
    fn digest(&self) -> Digest {
        let mut hasher = FieldHasher::new("shipway git answer 1");
        hasher.number(u64::from(self.trusted)).number(u64::from(self.names.is_some()));
        for (name, executable) in self.names.iter().flat_map(|names| names.all()) {
            hasher.field(name).number(u64::from(executable));
        }
        hasher.finish()
    }
}

impl Modes {
    pub(super) fn new(folder: PathBuf, file: Option<PathBuf>) -> Self {
        Self { folder, file, trusted: OnceLock::new(), seen: Mutex::default() }
    }

    /// The same, as if nothing had been asked.
    pub(super) fn anew(self) -> Self {
        Self::new(self.folder, self.file)
    }

    /// The permissions with which a file counts that has these on the disk.
    pub(super) fn of_file(&self, tree: &Tree, path: &[u8], permissions: u32) -> u32 {
        let usual = |executable: bool| if executable { 0o755 } else { 0o644 };
        let own = usual(permissions & 0o100 != 0);
        if permissions == own && self.trusts(tree) {
            return own;
        }
        let (folder, name) = split(path);
        let answer = self.answer(tree, folder);
        match answer.names.as_ref().and_then(|names| names.file(name)) {
            Some(executable) => {
                if answer.trusted {
                    own
                } else {
                    usual(executable)
                }
            }
            None => permissions,
        }
    }

    /// The same for a folder.
    pub(super) fn of_folder(&self, tree: &Tree, path: &[u8], permissions: u32) -> u32 {
        if permissions != 0o755 && self.answer(tree, path).names.is_some() { 0o755 } else { permissions }
    }

    /// Whether git tracks a file.
    pub(super) fn tracks(&self, tree: &Tree, path: &[u8]) -> bool {
        let (folder, name) = split(path);
        self.answer(tree, folder).names.as_ref().is_some_and(|names| names.file(name).is_some())
    }

    /// What could not be read, if anything had to be.
    pub(super) fn problem(&self) -> Option<String> {
        self.seen().repositories.values().flatten().find_map(Repository::problem)
    }

    /// Whether an index had to be read.
    #[cfg(test)]
    pub(super) fn has_read(&self) -> bool {
        self.seen().repositories.values().flatten().any(Repository::has_read)
    }

    /// What was asked in this run and what came of it; `None` if something could not be read.
    pub(super) fn said(&self) -> Option<Said> {
        if self.problem().is_some() {
            return None;
        }
        let answers =
            self.seen().folders.iter().map(|(path, answer)| (path.clone(), answer.digest())).collect();
        Some(Said { trusted: self.trusted.get().copied(), answers })
    }

    /// Whether the same would be said now.
    pub(super) fn still_say(&self, tree: &Tree, said: &Said) -> bool {
        let same = |(path, digest): (&Vec<u8>, &Digest)| self.answer(tree, path).digest() == *digest;
        said.trusted.is_none_or(|trusted| self.trusts(tree) == trusted)
            && said.answers.iter().all(same)
            && self.problem().is_none()
    }

    /// Forgets what was seen in this run.
    pub(super) fn forget(&self) {
        *self.seen() = Seen::default();
    }

    /// Keeps what was learned, if anything worth it was.
    pub(super) fn save(&self) -> Result<(), PathError> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut seen = self.seen();
        // Each is asked, so that none says it again.
        let used = seen.repositories.values_mut().flatten();
        if used.filter_map(|repository| repository.take_learned().then_some(())).count() > 0 {
            let used = seen.repositories.values().flatten();
            let others = seen.kept.iter().flat_map(HashMap::values).filter(|other| other.exists());
            kept::write(file, used.chain(others))?;
        }
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trusts(&self, tree: &Tree) -> bool {
        *self.trusted.get_or_init(|| {
            let mut seen = self.seen();
            let root = self.root_of(&mut seen, tree, b"");
            root.and_then(|root| seen.repository(&root, self.file.as_deref()))
                .is_none_or(|found| found.trusted)
        })
    }

    fn answer(&self, tree: &Tree, folder: &[u8]) -> Arc<Answer> {
        let mut seen = self.seen();
        if let Some(known) = seen.folders.get(folder) {
            return Arc::clone(known);
        }
        let root = self.root_of(&mut seen, tree, folder);
        let repository = root.as_ref().and_then(|root| seen.repository(root, self.file.as_deref()));
        let asked = |repository: &mut Repository| {
            let absolute = self.absolute(folder);
            let inner = absolute.strip_prefix(repository.root()).ok()?.as_os_str().as_bytes();
            Some(Answer { names: repository.folder(inner), trusted: repository.trusted })
        };
        let answer = Arc::new(repository.and_then(asked).unwrap_or_default());
        seen.folders.insert(folder.to_vec(), Arc::clone(&answer));
        answer
    }

    fn absolute(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.folder.clone() } else { self.folder.join(OsStr::from_bytes(path)) }
    }

    /// The root of the innermost work tree that the folder at `path` is in.
    fn root_of(&self, seen: &mut Seen, tree: &Tree, path: &[u8]) -> Option<PathBuf> {
        let mut path = path;
        loop {
            if tree.has(&join(path, b".git")) {
                let root = self.absolute(path);
                if seen.repository(&root, self.file.as_deref()).is_some() {
                    return Some(root);
                }
            }
            if path.is_empty() {
                break;
            }
            path = split(path).0;
        }
        if seen.above.is_none() {
            let above = self.folder.ancestors().skip(1).filter(|folder| folder.join(".git").exists());
            let found =
                above.map(Path::to_owned).find(|root| seen.repository(root, self.file.as_deref()).is_some());
            seen.above = Some(found);
        }
        seen.above.clone().flatten()
    }
}

impl Seen {
    /// The repository whose work tree has this root.
    fn repository(&mut self, root: &Path, file: Option<&Path>) -> Option<&mut Repository> {
        if !self.repositories.contains_key(root) {
            let kept = self.kept.get_or_insert_with(|| file.map(kept::read).unwrap_or_default());
            let found = match kept.remove(root) {
                Some(kept) if kept.stands() => Some(kept),
                _ => Repository::look(root),
            };
            self.repositories.insert(root.to_owned(), found);
        }
        self.repositories.get_mut(root)?.as_mut()
    }
}
