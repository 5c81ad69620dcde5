//! Selecting: the sources of one instruction become the entries that it writes, digested.
use std::path::{Path, PathBuf};

use super::pattern::{Dialect, Pattern, has_wildcard};
use super::{ContextError, CopyError, Ignore, Placement, Request};
use crate::base::digest::Digest;
use crate::base::fs::{PathError, RootDir};
use crate::base::listing::Listing;

/// A tree that COPY reads. Shared between threads; a folder is walked once.
#[derive(Debug)]
pub struct Context {
    root: RootDir,
}

/// What one instruction will write.
#[derive(Clone, Debug)]
pub struct Selection {
    digest: Digest,
    sources: Vec<Source>,
}

/// One thing that a source stands for after wildcards and links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Its path below the root of the tree, as matched (links not resolved).
    pub path: PathBuf,
    /// Whether it is a folder: its content is copied, not itself.
    pub folder: bool,
}

impl Context {
    /// The folder `folder` as `ignore` shows it. `stat_cache` is the folder of the stat cache's files.
    pub fn open(folder: &Path, _ignore: Ignore, _stat_cache: Option<PathBuf>) -> Result<Self, ContextError> {
        Ok(Self { root: RootDir::open(folder)? })
    }

    /// A root file system: nothing is ignored; owners, modes and extended attributes are kept.
    pub fn rootfs(root: RootDir) -> Self {
        Self { root }
    }

    /// What `request` selects.
    pub fn select(&self, request: &Request) -> Result<Selection, ContextError> {
        let invalid = |(pattern, reason)| ContextError::Pattern { pattern, reason };
        Ignore::from_patterns(&request.excludes).map_err(invalid)?;
        for source in request.sources.iter().filter(|source| has_wildcard(source)) {
            let invalid = |reason| ContextError::Pattern { pattern: source.clone(), reason };
            Pattern::compile(source, Dialect::Match).map_err(invalid)?;
        }
        Err(PathError::new("select from", "/", std::io::ErrorKind::Unsupported).into())
    }

    /// Writes `selection` into `into`.
    pub fn copy(&self, _: &Selection, _into: &RootDir, _: &Placement) -> Result<(), CopyError> {
        let _ = &self.root;
        Err(PathError::new("copy", "/", std::io::ErrorKind::Unsupported).into())
    }

    /// Forgets what was seen, so that the next selection walks again: after [`CopyError::Changed`].
    pub fn forget(&self) {}

    /// Writes the stat cache, if something worth keeping was learned.
    pub fn save_cache(&self) -> Result<(), PathError> {
        Ok(())
    }
}

impl Selection {
    /// The digest of exactly what a copy writes, except mtimes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The entries, by their paths in the source tree: to explain with.
    pub fn listing(&self) -> Listing {
        Listing::default()
    }

    /// What the sources stand for, in the order of copying.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }
}
