//! Carries operations out: one function an operation; `run` (with `mount` and `agent`) and `copy` have files
//! of their own.
//!
//! [`Executor`] is the solver's [`Work`]: it stages a new layer over the parent's chain, lets the sandbox
//! or the context write into it and publishes it as a snapshot. It decides nothing: what has to run, and
//! under which key, the solver knows.

mod agent;
mod copy;
mod mount;
mod run;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub(super) use copy::{changed_copy, keep_listing, request};
pub(super) use mount::read_secret;

use super::Builder;
use super::caches::{Caches, Found};
use super::error::StepError;
use super::selection::{Selections, Taken};
use super::solve::{Produced, Work};
use super::users::Accounts;
use super::{Bases, elsewhere, pull};
use crate::base::digest::{BlobId, Digest, ResultId};
use crate::context::{Context, Selection};
use crate::graph::{Directory, Epoch, Graph, NodeId, Op, Selected, Source};
use crate::sandbox::{Layers, Writable};
use crate::store::{CacheMount, Held, Staging, Stamp};
use rustix::fs::Mode;

/// The note beside a snapshot whose layer says all that is in it, whatever lies below.
pub(super) const ALONE: &str = "alone";

/// The note beside a snapshot that says when its step ran: a [`Stamp`] as JSON.
pub(super) const CREATED: &str = "created";

/// Does a graph's work.
pub(super) struct Executor<'a> {
    pub(super) builder: &'a Builder<'a>,
    pub(super) graph: &'a Graph,
    pub(super) bases: &'a Bases,
    /// What each COPY takes from its build context.
    pub(super) selections: &'a Selections,
    /// What each COPY takes from another stage, with the stage's tree.
    pub(super) stages: Mutex<HashMap<Taken, (Context, Selection)>>,
    /// The Dockerfiles with their requests.
    pub(super) sources: &'a [Source],
    /// What the cache mounts of RUNs begin with.
    pub(super) begins: Mutex<HashMap<Taken, mount::Begin>>,
    /// The caches of the build.
    pub(super) shared: &'a Caches<'a>,
    /// What they have of steps.
    pub(super) found: &'a BTreeMap<NodeId, Found>,
    /// The `SOURCE_DATE_EPOCH` of each image.
    pub(super) epochs: Vec<Option<Epoch>>,
    /// What each step gave in the last build, if that is known.
    pub(super) before: &'a (dyn Fn(NodeId) -> Option<ResultId> + Sync),
    /// The cache mounts of each RUN that is about to start.
    pub(super) caches: Mutex<HashMap<NodeId, BTreeMap<Digest, CacheMount>>>,
}

impl Work for Executor<'_> {
    fn select(&self, id: NodeId, source: usize, result: ResultId) -> Result<Selected, StepError> {
        let copy = match &self.graph.node(id).op {
            Op::Copy(copy) => copy,
            Op::Run(run) => return self.select_mounted((id, source), run, result),
            _ => return Ok(Selected { digest: result.0, listing: None }),
        };
        let root = self.builder.sandbox.root(&self.layers(Some(result))?)?;
        if source >= copy.takes.len() {
            return Ok(Selected { digest: Accounts::read(&root)?.digest(), listing: None });
        }
        let context = Context::rootfs(root);
        let selection = context.select(&request(copy, source)?)?;
        let digest = selection.digest();
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.insert((id, source), (context, selection));
        Ok(Selected { digest, listing: None })
    }

    fn reserve(&self, id: NodeId) -> Result<bool, StepError> {
        self.reserve_caches(id)
    }

    fn bring(&self, id: NodeId) -> Result<ResultId, StepError> {
        let found = self.found.get(&id).ok_or(StepError::NoResult)?;
        self.shared.bring(found, &self.epochs)
    }

    fn run(
        &self,
        id: NodeId,
        parent: Option<ResultId>,
        sources: &[Option<ResultId>],
    ) -> Result<Produced, StepError> {
        let node = self.graph.node(id);
        match &node.op {
            Op::Local(_) => Err(StepError::NoResult),
            Op::Pull(base) => {
                let (name, image) = self.bases.get(&base.chain).ok_or(StepError::NoResult)?;
                pull::base(self.builder, name.as_ref(), image)
            }
            Op::Run(run) => self.run_command(id, run, parent, sources),
            Op::Copy(copy) => self.copy(id, copy, parent, sources),
            Op::Merge => self.merge(parent, sources),
            Op::Fetch(fetch) => {
                let secrets = elsewhere::secrets(self.sources.iter().map(|source| &source.request));
                elsewhere::make(self.builder, fetch, &secrets)
            }
            Op::Directory(directory) => self.directory(directory, parent),
        }
    }
}

/// A layer in the making.
struct Upper {
    staging: Staging,
    layers: Layers,
}

impl Executor<'_> {
    fn directory(&self, directory: &Directory, parent: Option<ResultId>) -> Result<Produced, StepError> {
        let upper = self.stage(parent)?;
        {
            let root = self.builder.sandbox.root(&upper.layers)?;
            let owner = match directory.user.as_str() {
                "" => (0, 0),
                user => {
                    let identity = Accounts::read(&root)?.process(user)?;
                    (identity.uid, identity.gid)
                }
            };
            let mode = Mode::from_raw_mode(0o755);
            root.create_directories(Path::new(&directory.path), mode, owner)?;
        }
        self.publish(upper, parent, Vec::new())
    }

    fn stage(&self, parent: Option<ResultId>) -> Result<Upper, StepError> {
        let staging = self.builder.store.stage()?;
        let writable = Some(Writable { upper: staging.tree(), work: staging.work()? });
        let layers = Layers { writable, ..self.layers(parent)? };
        Ok(Upper { staging, layers })
    }

    fn layers(&self, top: Option<ResultId>) -> Result<Layers, StepError> {
        let Some(top) = top else { return Ok(Layers::default()) };
        let chain = self.builder.store.chain(top).ok_or(StepError::Vanished)?;
        Ok(Layers { lowers: chain.into_iter().map(|snapshot| snapshot.tree).collect(), writable: None })
    }

    fn publish(
        &self,
        upper: Upper,
        parent: Option<ResultId>,
        listings: Vec<Option<BlobId>>,
    ) -> Result<Produced, StepError> {
        self.builder.sandbox.finish(&upper.layers)?;
        note_creation(&upper.staging)?;
        let snapshot = self.builder.store.publish_snapshot(upper.staging, parent)?;
        let holds = listings.iter().flatten().copied().map(Held::Blob).collect();
        Ok(Produced { result: snapshot.id, holds, listings })
    }
}

/// Notes beside a snapshot that it is made now.
pub(super) fn note_creation(staging: &Staging) -> Result<(), StepError> {
    let created = serde_json::to_vec(&Stamp::now()).map_err(StepError::Recipe)?;
    Ok(staging.note(CREATED, &created)?)
}
