//! What every COPY from a build context selects, before any key is known.
//!
//! Each context is opened once and walked once, however many instructions and services use it. All
//! missing sources of all Dockerfiles are reported at once, each at its instruction.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::error::{BuildError, StepError};
use super::exec::request;
use crate::base::diag::{Diagnostic, SourceFile};
use crate::base::memory;
use crate::context::{Context, ContextError, Ignore, Selection};
use crate::graph::{ContextSpec, Copy, FileModes, Graph, Node, NodeId, Op, Selected, Source};
use crate::store::Store;

/// From so many bytes of stat caches on (some 10,000 files) large pages are worth that they are cleared.
const MANY: usize = 1 << 20;

/// A node and the number of one of its sources.
pub(super) type Taken = (NodeId, usize);

/// The contexts of a graph and what its COPYs select from them.
pub(super) struct Selections {
    pub(super) contexts: Vec<Context>,
    pub(super) selections: HashMap<Taken, Selection>,
}

/// Contexts that are opened before it is known whether they are used: each has a stat cache to read, and who
/// finds out leaves the other processors idle.
#[derive(Default)]
pub(super) struct Ahead {
    opened: Mutex<HashMap<ContextSpec, Result<Context, BuildError>>>,
}

impl Ahead {
    /// Opens the build contexts of those of `sources` that are wanted for themselves on other threads while
    /// `meanwhile` runs on this one.
    pub(super) fn during<T>(&self, sources: &[Source], store: &Store, meanwhile: impl FnOnce() -> T) -> T {
        let local = sources.iter().filter(|source| source.selected && source.request.remote.is_none());
        let specs: HashSet<ContextSpec> = local.map(Source::folder).collect();
        rayon::in_place_scope(|scope| {
            for spec in specs {
                scope.spawn(|_| {
                    let opened = open_one(&spec, store);
                    self.opened().insert(spec, opened);
                });
            }
            meanwhile()
        })
    }

    fn open(&self, spec: &ContextSpec, store: &Store) -> Result<Context, BuildError> {
        let opened = self.opened().remove(spec);
        opened.unwrap_or_else(|| open_one(spec, store))
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<ContextSpec, Result<Context, BuildError>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Selections {
    /// Opens the contexts, those that are opened already aside, and selects. Mistakes are collected; anything
    /// else ends it.
    pub(super) fn read(graph: &Graph, store: &Store, ahead: &Ahead) -> Result<Self, BuildError> {
        let contexts = open(graph, store, ahead)?;
        if contexts.iter().map(Context::known).sum::<usize>() >= MANY {
            memory::large_pages();
        }
        let taken: Vec<(Taken, &Copy, usize)> =
            graph.nodes().flat_map(|(id, node)| from_contexts(graph, id, node)).collect();
        let results: Vec<_> = taken
            .par_iter()
            .map(|(taken, copy, context)| (*taken, select(&contexts[*context], copy, taken.1)))
            .collect();
        let (mut selections, mut mistakes) = (HashMap::new(), Vec::new());
        for (taken, result) in results {
            match result {
                Ok(selection) => {
                    selections.insert(taken, selection);
                }
                Err(error) => mistakes.push(mistake(graph.node(taken.0), error)?),
            }
        }
        if mistakes.is_empty() {
            Ok(Self { contexts, selections })
        } else {
            Err(BuildError::Mistakes(mistakes))
        }
    }

    /// What a COPY selects from one of its sources that is a context, for its key.
    pub(super) fn selected(&self, id: NodeId, source: usize) -> Selected {
        let digest = self.selections.get(&(id, source)).map(Selection::digest);
        // Only asked for COPYs from contexts, which all have a selection.
        let digest = digest.unwrap_or_else(|| crate::base::digest::Digest::from_bytes([0; 32]));
        Selected { digest, listing: None }
    }

    /// What of the git repositories that contexts lie in could not be read.
    pub(super) fn problems(&self) -> Vec<Diagnostic> {
        let mut problems: Vec<String> = self.contexts.iter().filter_map(Context::problem).collect();
        problems.sort();
        problems.dedup();
        problems.into_iter().map(Diagnostic::warning).collect()
    }

    /// Writes the stat caches that learned something.
    pub(super) fn save(&self) -> Result<(), BuildError> {
        self.contexts.par_iter().try_for_each(Context::save_cache)?;
        Ok(())
    }
}

/// Opens the contexts, several at a time.
fn open(graph: &Graph, store: &Store, ahead: &Ahead) -> Result<Vec<Context>, BuildError> {
    let (mut contexts, mut mistakes) = (Vec::new(), Vec::new());
    let opened: Vec<_> = graph.contexts.par_iter().map(|spec| ahead.open(spec, store)).collect();
    for opened in opened {
        match opened {
            Ok(context) => contexts.push(context),
            Err(BuildError::Mistakes(more)) => mistakes.extend(more),
            Err(error) => return Err(error),
        }
    }
    if mistakes.is_empty() { Ok(contexts) } else { Err(BuildError::Mistakes(mistakes)) }
}

fn open_one(spec: &ContextSpec, store: &Store) -> Result<Context, BuildError> {
    let ignore = match &spec.ignore {
        Some((name, text)) => {
            let file: Arc<SourceFile> = SourceFile::new(name.as_str(), text.as_str());
            Ignore::parse(&file).map_err(BuildError::Mistakes)?
        }
        None => Ignore::default(),
    };
    let opened = Context::open(&spec.folder, ignore, Some(store.trees_folder()));
    let opened = match spec.modes {
        FileModes::Git => opened.map(Context::with_git_modes),
        FileModes::Disk => opened,
    };
    opened.map_err(|error| match error {
        ContextError::Path(error) => error.into(),
        error => BuildError::Mistakes(vec![Diagnostic::error(error.to_string())]),
    })
}

/// What a node takes from contexts: which of its sources, and the number of the context.
fn from_contexts<'g>(
    graph: &'g Graph,
    id: NodeId,
    node: &'g Node,
) -> impl Iterator<Item = (Taken, &'g Copy, usize)> + 'g {
    let Op::Copy(copy) = &node.op else { return None.into_iter().flatten() };
    let sources = node.sources.iter().enumerate();
    let local = move |(index, source): (usize, &NodeId)| match &graph.node(*source).op {
        Op::Local(local) => Some(((id, index), copy, local.context)),
        _ => None,
    };
    Some(sources.filter_map(local)).into_iter().flatten()
}

fn select(context: &Context, copy: &Copy, source: usize) -> Result<Selection, StepError> {
    Ok(context.select(&request(copy, source)?)?)
}

/// What the user did wrong, at the instruction; what the system refused stays an error.
fn mistake(node: &Node, error: StepError) -> Result<Diagnostic, BuildError> {
    let message = match error {
        StepError::Context(ContextError::Unstable { path }) => {
            return Err(BuildError::Unstable {
                what: format!("{} changes while it is read", path.display()),
            });
        }
        StepError::Context(ContextError::Path(error)) => return Err(error.into()),
        error => error.to_string(),
    };
    let origin = node.origins.first();
    let service = origin.map_or("", |origin| origin.service.as_str());
    let diagnostic = Diagnostic::error(format!("{service}: {message}"));
    Ok(match origin.and_then(|origin| origin.span.clone()) {
        Some(span) => diagnostic.at(span, ""),
        None => diagnostic,
    })
}
