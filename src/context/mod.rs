//! L2: the build context, and any source tree of a COPY.
//!
//! [`Context::open`] stands for a folder of the user as the ignore rules show it, [`Context::rootfs`] for a
//! root file system that `COPY --from` reads. [`Context::select`] turns the sources of one instruction into
//! a [`Selection`]: the entries that the instruction will write, digested through the stat cache; where nothing
//! changed, [`Context::remembered`] has its digest without it.
//! [`Context::copy`] writes a selection into a root file system and refuses ([`CopyError::Changed`]) when a
//! source no longer is what was digested; [`Context::begin_copy`] does the same in two halves, and shares files
//! with what an [`Earlier`] copy wrote. The user's folder is only read; the stat cache is the only state.
//!
//! This folder knows no Dockerfile syntax and no OCI: who parses flags or unpacks archives is above it.

mod attributes;
mod cache;
mod chmod;
mod content;
mod copy;
mod destination;
mod earlier;
mod folder;
mod ignore;
mod keep;
mod locate;
mod pattern;
mod remembered;
mod select;
mod stamp;
#[cfg(test)]
mod tests;
mod tracked;
mod transfer;
mod tree;

use std::path::{Path, PathBuf};

pub use chmod::{Chmod, InvalidChmod};
pub use copy::{Rest, destination_folder, write_file};
pub use earlier::{Earlier, Mapping};
pub use ignore::{Ignore, Rule, ignore_file};
pub use select::{Selection, Source};
pub use transfer::Verified;

use cache::Lazy;
use remembered::Remembered;
use tree::Tree;

use crate::base::digest::Digest;
use crate::base::fs::{AtPath, PathError, RootDir};

/// A tree that COPY reads. Threads may share it; a folder is looked at once, until [`Context::forget`].
#[derive(Debug)]
pub struct Context {
    tree: Tree,
    /// The folder, absolute and without links; empty for a root file system.
    real: PathBuf,
    remembered: Remembered,
}

impl Context {
    /// The folder `folder` as `ignore` shows it. `stat_cache` is the folder that holds the stat cache's
    /// files, one a context; without it every selected file is read.
    pub fn open(folder: &Path, ignore: Ignore, stat_cache: Option<PathBuf>) -> Result<Self, ContextError> {
        let real = std::fs::canonicalize(folder).at_path("open", folder)?;
        let root = RootDir::open(&real)?;
        let name = Digest::of(real.as_os_str().as_encoded_bytes()).hex();
        let cache_file = stat_cache.map(|caches| caches.join(name));
        let tree = Tree::of_context(root, folder.to_owned(), ignore, Lazy::new(cache_file));
        Ok(Self { tree, real, remembered: Remembered::default() })
    }

    /// The same context, its files with the modes that git keeps where git tracks them.
    #[must_use]
    pub fn with_git_modes(mut self) -> Self {
        let file = self.tree.cache.file().map(|file| file.with_extension("git"));
        self.tree.modes = Some(tracked::Modes::new(self.real.clone(), file));
        // It holds for one way to take modes.
        self.remembered = Remembered::default();
        self
    }

    /// The folder as it was named.
    pub fn folder(&self) -> PathBuf {
        self.tree.shown(b"")
    }

    /// Bytes of its stat cache: what a walk keeps in memory is some times that.
    pub fn known(&self) -> usize {
        self.tree.cache.get().len()
    }

    /// What of a git repository could not be read although modes depend on it.
    pub fn problem(&self) -> Option<String> {
        self.tree.modes.as_ref().and_then(tracked::Modes::problem)
    }

    /// A root file system: nothing is ignored; owners, modes and extended attributes are kept.
    pub fn rootfs(root: RootDir) -> Self {
        Self { tree: Tree::of_rootfs(root), real: PathBuf::new(), remembered: Remembered::default() }
    }

    /// Forgets what was seen, so that the next selection walks again: after [`CopyError::Changed`].
    pub fn forget(&self) {
        self.tree.forget();
        self.remembered.forget();
    }
}

/// The sources of one COPY, ADD or bind mount.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Paths or patterns (Go's `filepath.Match`) below the root of the tree, variables already expanded. A
    /// leading `/` and `..` above the root mean the root. `.` or `/` is the whole tree.
    pub sources: Vec<String>,
    /// `--chmod`: only the mode that results counts.
    pub chmod: Option<Chmod>,
    /// Whether `--chown` is given: the owners of the source then do not count. In a context they never do.
    pub chown: bool,
    /// `--exclude` patterns, with the rules of an ignore file, relative to each source.
    pub excludes: Vec<String>,
    /// `--parents`: the path of each source below its pivot (`/./`, else the root) is kept.
    pub parents: bool,
}

/// Where and how a selection is written.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// An absolute path in the target, as written: a trailing slash makes it a folder.
    pub destination: String,
    /// `--chown`, for all entries and for the folders above them that are made. Without it entries of a
    /// context belong to root, entries of a root file system to whom they belong there.
    pub owner: Option<(u32, u32)>,
    /// `--chmod`: an octal one also is the mode of folders made above the destination (else 0755). The modes
    /// of the entries are those of the selection.
    pub chmod: Option<Chmod>,
}

/// Why sources cannot be selected.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// A source without wildcards that is not there.
    #[error("`{pattern}` not found{}", missing_hint(.pattern, .ignored, .similar))]
    Missing {
        /// The source as written.
        pattern: String,
        /// The rule of the ignore file that excludes it, if it exists.
        ignored: Option<Rule>,
        /// A name beside it that was perhaps meant.
        similar: Option<String>,
    },
    /// A wildcard or `--exclude` pattern that is not well formed.
    #[error("`{pattern}` is not a valid pattern: {reason}")]
    Pattern {
        /// The pattern as written.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A source whose symbolic links lead in a circle.
    #[error("`{pattern}` leads through too many symbolic links")]
    LinkLoop {
        /// The source as written.
        pattern: String,
    },
    /// A file that changed each time it was read.
    #[error("{} changes while it is read", path.display())]
    Unstable {
        /// The file, below the root of the tree.
        path: PathBuf,
    },
    /// What the system refused.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl ContextError {
    /// Whether something was there that went, or became something else, while it was looked at.
    pub fn is_change(&self) -> bool {
        match self {
            Self::Unstable { .. } => true,
            Self::Path(error) => tree::gone(&error.source),
            _ => false,
        }
    }
}

/// Why a selection cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source is no longer what was digested: select again and start the step again. What was written so
    /// far is to be thrown away.
    #[error("{} changed during the build", path.display())]
    Changed {
        /// The source, below the root of its tree.
        path: PathBuf,
    },
    /// A folder would be copied onto something that is no folder.
    #[error("cannot copy a folder onto {}, which is not a folder", path.display())]
    NotAFolder {
        /// The path in the target.
        path: PathBuf,
    },
    /// A file would replace a folder.
    #[error("cannot replace the folder {} with a file", path.display())]
    ReplacesFolder {
        /// The path in the target.
        path: PathBuf,
    },
    /// The destination's symbolic links lead in a circle.
    #[error("{} leads through too many symbolic links", path.display())]
    LinkLoop {
        /// The path in the target.
        path: PathBuf,
    },
    /// What the system refused.
    #[error(transparent)]
    Path(#[from] PathError),
}

fn missing_hint(pattern: &str, ignored: &Option<Rule>, similar: &Option<String>) -> String {
    match (ignored, similar) {
        (Some(rule), _) => {
            format!(": {rule} excludes it\nhelp: take that rule out, or write `!{pattern}` below it")
        }
        (None, Some(similar)) => format!("\nhelp: did you mean `{similar}`?"),
        (None, None) => String::new(),
    }
}
