//! Finding what a source names: wildcards, and links that lead through the tree but never out of it.
//!
//! A source without wildcards is resolved component by component; links in it, also the last one, are
//! followed within the tree as if the tree were a root file system. A wildcard matches the names of one
//! folder each (Go's `filepath.Match`) and passes through folders only, not through links; what it matched
//! is then resolved in the same way. A source that is not there is explained.

use std::collections::VecDeque;

use rustix::fs::FileType;

use super::ContextError;
use super::folder::{Folder, Node, NodeRef};
use super::ignore::{Matched, Rule, clean};
use super::pattern::{Dialect, Pattern, has_wildcard};
use super::tree::{Tree, join, split};
use crate::base::diag::closest;
use crate::base::listing::escape;

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

/// Something that a source stands for.
#[derive(Clone, Debug)]
pub(super) struct Located {
    /// As matched, before links are followed: its last component names it at the destination.
    pub(super) path: Vec<u8>,
    /// Where it lies.
    pub(super) real: Vec<u8>,
    pub(super) node: NodeRef,
}

/// Why a path leads nowhere.
enum Failure {
    Error(ContextError),
    /// The path that is not there (or not shown), as far as it was resolved.
    Absent(Vec<u8>),
    Loop,
}

impl<E: Into<ContextError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl Tree {
    /// What `source` stands for, in the order of copying; a wildcard may match nothing.
    pub(super) fn matches(&self, source: &str) -> Result<Vec<Located>, ContextError> {
        let cleaned = clean(&format!("/{source}"));
        let components: Vec<&str> = cleaned.split('/').filter(|component| !component.is_empty()).collect();
        let literal = components.iter().take_while(|component| !has_wildcard(component)).count();
        let prefix = components[..literal].join("/").into_bytes();
        if literal == components.len() {
            return self.locate(&prefix, source).map(|located| vec![located]);
        }
        let compile = |component: &&str| {
            let invalid = |reason| ContextError::Pattern { pattern: source.to_owned(), reason };
            Pattern::compile(component, Dialect::Match).map_err(invalid)
        };
        let patterns = components[literal..].iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        let start = match self.resolve(&prefix) {
            Ok(start) if start.node.meta.is_folder() => start,
            Ok(_) | Err(Failure::Absent(_)) => {
                self.fleets();
                return Ok(Vec::new());
            }
            Err(failure) => return Err(self.explain(failure, source)),
        };
        let mut found = Vec::new();
        let folder = self.folder(&start.real, &start.node.matched)?;
        self.expand(&folder, &prefix, &patterns, &mut found)?;
        found.iter().map(|path| self.locate(path, source)).collect()
    }

    /// Adds the paths in `folder`, reached as `shown`, whose components match `patterns`.
    fn expand(
        &self,
        folder: &Folder,
        shown: &[u8],
        patterns: &[Pattern],
        found: &mut Vec<Vec<u8>>,
    ) -> Result<(), ContextError> {
        let Some((pattern, rest)) = patterns.split_first() else { return Ok(()) };
        for entry in folder.entries() {
            let Some(node) = entry.node().filter(|_| pattern.matches(entry.name)) else { continue };
            let path = join(shown, entry.name);
            if rest.is_empty() {
                found.push(path);
            } else if node.meta.is_folder() {
                let inner = self.folder(&join(&folder.path, entry.name), &node.matched)?;
                self.expand(&inner, &path, rest, found)?;
            }
        }
        Ok(())
    }

    /// What lies at `path`, links followed. `source` is what the user wrote.
    pub(super) fn locate(&self, path: &[u8], source: &str) -> Result<Located, ContextError> {
        self.resolve(path).map_err(|failure| self.explain(failure, source))
    }

    fn resolve(&self, path: &[u8]) -> Result<Located, Failure> {
        let mut ahead: VecDeque<Vec<u8>> = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let mut walked = vec![self.start()?];
        let mut links = 0;
        while let Some(component) = ahead.pop_front() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => walked.truncate((walked.len() - 1).max(1)),
                name => {
                    let step = self.step(walked.last(), name)?;
                    if step.node.meta.kind() != FileType::Symlink {
                        walked.push(step);
                        continue;
                    }
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Failure::Loop);
                    }
                    let target = self.read_link(&step.real).map_err(|_| Failure::Absent(step.real))?;
                    if target.starts_with(b"/") {
                        walked.truncate(1);
                    }
                    target.rsplit(|byte| *byte == b'/').for_each(|part| ahead.push_front(part.to_vec()));
                }
            }
        }
        // The start is never taken off.
        let last = walked.pop().ok_or(Failure::Loop)?;
        Ok(Located { path: path.to_vec(), ..last })
    }

    fn start(&self) -> Result<Located, Failure> {
        let meta = self.stat(b"")?.ok_or_else(|| Failure::Absent(Vec::new()))?;
        let matched = Matched::default();
        let node = Node { meta, excluded: false, matched, content: Default::default() };
        Ok(Located { path: Vec::new(), real: Vec::new(), node: NodeRef::alone(node) })
    }

    /// The entry `name` of the folder `above`, if the rules show it.
    fn step(&self, above: Option<&Located>, name: &[u8]) -> Result<Located, Failure> {
        let folder = above.map_or(b"".as_slice(), |above| &above.real);
        let real = join(folder, name);
        let inherited = above.filter(|above| !above.real.is_empty()).map(|above| &*above.node.matched);
        if above.is_some_and(|above| !above.node.meta.is_folder()) || name.starts_with(b".wh.") {
            return Err(Failure::Absent(real));
        }
        let Some(node) = self.node(&real, inherited)? else { return Err(Failure::Absent(real)) };
        let way = node.meta.is_folder() && self.ignore.may_reach_below(&real);
        if (node.excluded && !way) || node.meta.kind() == FileType::Socket {
            return Err(Failure::Absent(real));
        }
        Ok(Located { path: real.clone(), real, node })
    }

    fn explain(&self, failure: Failure, source: &str) -> ContextError {
        match failure {
            Failure::Error(error) => error,
            Failure::Loop => ContextError::LinkLoop { pattern: source.to_owned() },
            Failure::Absent(path) => self.missing(&path, source),
        }
    }

    /// That `source` is not there, because nothing (that is shown) lies at `path`.
    pub(super) fn missing(&self, path: &[u8], source: &str) -> ContextError {
        let exists = matches!(self.stat(path), Ok(Some(_)));
        let ignored: Option<Rule> = if exists { self.ignore.excluded_by(path) } else { None };
        let similar = if ignored.is_none() { self.similar(path) } else { None };
        ContextError::Missing { pattern: source.to_owned(), ignored, similar }
    }

    /// A name beside the missing `path` that was perhaps meant.
    fn similar(&self, path: &[u8]) -> Option<String> {
        let (parent, name) = split(path);
        let above = self.resolve(parent).ok()?;
        let folder = self.folder(&above.real, &above.node.matched).ok()?;
        let shown = folder.entries().filter(|entry| entry.node().is_some());
        let names: Vec<String> = shown.map(|entry| escape(entry.name)).collect();
        let candidate = closest(&escape(name), names.iter().map(String::as_str))?;
        Some(escape(&join(parent, candidate.as_bytes())))
    }
}
