//! What every COPY from a build context selects, before any key is known.
//!
//! Each context is opened once, and looked at once, however many instructions and services use it: where what
//! earlier builds selected still stands only its digests are taken, and a step that runs selects anew. All
//! missing sources of all Dockerfiles are reported at once, each at its instruction.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};

use rayon::Scope;
use rayon::prelude::*;

use super::error::{BuildError, StepError};
use super::exec::request;
use crate::base::diag::{Diagnostic, SourceFile};
use crate::base::digest::Digest;
use crate::base::memory;
use crate::context::{Context, ContextError, CopyError, Ignore, Request, Selection};
use crate::graph::{ContextSpec, Copy, FileModes, Graph, Node, NodeId, Op, Selected, Source};
use crate::store::Store;

/// From so many bytes of stat caches on (some 10,000 files) large pages are worth that they are cleared.
const MANY: usize = 1 << 20;

/// A node and the number of one of its sources.
pub(super) type Taken = (NodeId, usize);

/// The contexts of a graph and what its COPYs select from them.
pub(super) struct Selections {
    contexts: Vec<Context>,
    taken: HashMap<Taken, Taking>,
}

/// What one COPY selects from one context.
struct Taking {
    /// The number of the context.
    context: usize,
    request: Request,
    digest: Digest,
    /// What has that digest; where it is remembered, only once it is asked for.
    selection: OnceLock<Selection>,
}

/// Contexts that are opened before it is known whether they are used: what is remembered of each is looked at
/// then, and who finds out leaves the other processors idle.
pub(super) struct Ahead(Receiver<(ContextSpec, Opened)>);

type Opened = Result<Context, BuildError>;

impl Ahead {
    /// Begins to open the build contexts of those of `sources` that are wanted for themselves, on other threads.
    pub(super) fn begin<'s>(scope: &Scope<'s>, sources: &[Source], store: &'s Store) -> Self {
        let local = sources.iter().filter(|source| source.selected && source.request.remote.is_none());
        let specs: HashSet<ContextSpec> = local.map(Source::folder).collect();
        let (sender, receiver) = mpsc::channel();
        for spec in specs {
            let sender = sender.clone();
            scope.spawn(move |_| {
                let opened = open_one(&spec, store);
                // Nobody listens if the build has failed meanwhile.
                let _ = sender.send((spec, opened));
            });
        }
        Self(receiver)
    }

    /// All of them, once they are open. Waits: not to be asked on a thread that opens them.
    fn finish(self) -> HashMap<ContextSpec, Opened> {
        self.0.into_iter().collect()
    }
}

impl Taking {
    fn of(context: usize, request: Request, digest: Digest, selection: Option<Selection>) -> Self {
        let selection = selection.map_or_else(OnceLock::new, OnceLock::from);
        Self { context, request, digest, selection }
    }
}

impl Selections {
    /// Opens the contexts, those that are opened already aside, and selects. Mistakes are collected; anything
    /// else ends it.
    pub(super) fn read(graph: &Graph, store: &Store, ahead: Ahead) -> Result<Self, BuildError> {
        let contexts = open(graph, store, ahead.finish())?;
        let (mut known, mut unknown, mut mistakes) = (HashMap::new(), Vec::new(), Vec::new());
        for (taken, copy, number) in graph.nodes().flat_map(|(id, node)| from_contexts(graph, id, node)) {
            match request(copy, taken.1) {
                Ok(request) => match contexts[number].remembered(&request) {
                    Some(digest) => drop(known.insert(taken, Taking::of(number, request, digest, None))),
                    None => unknown.push((taken, number, request)),
                },
                Err(error) => mistakes.push(mistake(graph.node(taken.0), error)?),
            }
        }
        let walked: HashSet<usize> = unknown.iter().map(|(_, number, _)| *number).collect();
        make_room(&contexts, walked);
        let select = |(taken, number, request): (Taken, usize, Request)| {
            let selection = contexts[number].select(&request);
            let taking =
                |selection: Selection| Taking::of(number, request, selection.digest(), Some(selection));
            (taken, selection.map(taking))
        };
        for (taken, result) in unknown.into_par_iter().map(select).collect::<Vec<_>>() {
            match result {
                Ok(taking) => drop(known.insert(taken, taking)),
                Err(error) => mistakes.push(mistake(graph.node(taken.0), error.into())?),
            }
        }
        if mistakes.is_empty() {
            Ok(Self { contexts, taken: known })
        } else {
            Err(BuildError::Mistakes(mistakes))
        }
    }

    /// The digest of what a COPY selects from one of its sources that is a context, for its key.
    pub(super) fn selected(&self, taken: Taken) -> Selected {
        let digest = self.taken.get(&taken).map(|taking| taking.digest);
        // Only asked for COPYs from contexts, which all have a selection.
        let digest = digest.unwrap_or_else(|| Digest::from_bytes([0; 32]));
        Selected { digest, listing: None }
    }

    /// What a COPY selects from one of its sources that is a context, and the context.
    pub(super) fn of(&self, taken: Taken) -> Result<(&Context, &Selection), StepError> {
        let taking = self.taken.get(&taken).ok_or(StepError::NoResult)?;
        let context = self.contexts.get(taking.context).ok_or(StepError::NoResult)?;
        if let Some(selection) = taking.selection.get() {
            return Ok((context, selection));
        }
        let selection = match context.select(&taking.request) {
            Ok(selection) if selection.digest() == taking.digest => selection,
            Err(error @ ContextError::Path(_)) if !error.is_change() => return Err(error.into()),
            _ => return Err(CopyError::Changed { path: context.folder() }.into()),
        };
        Ok((context, taking.selection.get_or_init(|| selection)))
    }

    /// Selects what these nodes take from contexts, where that was only remembered. What is said instead if
    /// something changed since: then everything is to be prepared again.
    pub(super) fn select(&self, nodes: &BTreeSet<NodeId>) -> Result<Option<String>, BuildError> {
        let open = |(taken, taking): &(&Taken, &Taking)| {
            nodes.contains(&taken.0) && taking.selection.get().is_none()
        };
        let open: Vec<_> = self.taken.iter().filter(open).collect();
        make_room(&self.contexts, open.iter().map(|(_, taking)| taking.context).collect());
        let selected = open.into_par_iter().map(|(taken, taking)| match self.of(*taken) {
            Ok(_) => Ok(None),
            Err(error) if error.is_change() => {
                self.contexts.get(taking.context).inspect(|context| context.distrust());
                Ok(Some(error.to_string()))
            }
            Err(StepError::Context(ContextError::Path(error))) => Err(error.into()),
            Err(error) => Err(BuildError::Unstable { what: error.to_string() }),
        });
        let changed: Vec<Option<String>> = selected.collect::<Result<_, BuildError>>()?;
        Ok(changed.into_iter().flatten().next())
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

/// Gets ready to keep what a walk of these contexts sees.
fn make_room(contexts: &[Context], walked: HashSet<usize>) {
    let known = walked.into_par_iter().filter_map(|number| contexts.get(number)).map(Context::known);
    if known.sum::<usize>() >= MANY {
        memory::large_pages();
    }
}

/// Opens the contexts, several at a time.
fn open(
    graph: &Graph,
    store: &Store,
    mut ahead: HashMap<ContextSpec, Opened>,
) -> Result<Vec<Context>, BuildError> {
    let (mut contexts, mut mistakes) = (Vec::new(), Vec::new());
    let specs: Vec<_> = graph.contexts.iter().map(|spec| (spec, ahead.remove(spec))).collect();
    let opened: Vec<Opened> =
        specs.into_par_iter().map(|(spec, opened)| opened.unwrap_or_else(|| open_one(spec, store))).collect();
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
    opened.map(Context::recalled).map_err(|error| match error {
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
