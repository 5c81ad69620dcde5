//! Carries operations out: one function an operation.
//!
//! [`Executor`] is the solver's [`Work`]: it stages a new layer over the parent's chain, lets the sandbox
//! or the context write into it and publishes it as a snapshot. It decides nothing: what has to run, and
//! under which key, the solver knows.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::Builder;
use super::error::StepError;
use super::output::Output;
use super::pull;
use super::selection::Taken;
use super::solve::{Produced, Work};
use super::users::{Accounts, Identity};
use crate::base::digest::{BlobId, Digest, ResultId};
use crate::base::event::StepNumber;
use crate::base::fs::{AtPath, RootDir};
use crate::context::{Chmod, Context, Placement, Request, Selection, write_file};
use crate::graph::{
    BaseImage, Copy, Directory, Graph, HOSTNAME, Node, NodeId, Op, Run, RunNetwork, Selected, Take,
};
use crate::oci::Reference;
use crate::sandbox::{Layers, Network, RunSpec, Writable};
use crate::store::{Held, Staging, Stamp};
use rustix::fs::{Mode, OFlags};

/// The note beside a snapshot that says when its step ran: a [`Stamp`] as JSON.
pub(super) const CREATED: &str = "created";

/// Does a graph's work.
pub(super) struct Executor<'a> {
    pub(super) builder: &'a Builder<'a>,
    pub(super) graph: &'a Graph,
    pub(super) bases: &'a BTreeMap<Digest, (Reference, BaseImage)>,
    pub(super) contexts: &'a [Context],
    /// What each COPY takes from its build context.
    pub(super) selections: &'a HashMap<Taken, Selection>,
    /// What each COPY takes from another stage, with the stage's tree.
    pub(super) stages: Mutex<HashMap<Taken, (Context, Selection)>>,
}

impl Work for Executor<'_> {
    fn select(&self, id: NodeId, source: usize, result: ResultId) -> Result<Selected, StepError> {
        let Op::Copy(copy) = &self.graph.node(id).op else { return Err(StepError::NoResult) };
        let root = self.builder.sandbox.root(&self.layers(Some(result))?)?;
        let context = Context::rootfs(root);
        let selection = context.select(&request(copy, source)?)?;
        let digest = selection.digest();
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.insert((id, source), (context, selection));
        Ok(Selected { digest, listing: None })
    }

    fn run(
        &self,
        id: NodeId,
        parent: Option<ResultId>,
        _sources: &[Option<ResultId>],
    ) -> Result<Produced, StepError> {
        let node = self.graph.node(id);
        match &node.op {
            Op::Local(_) => Err(StepError::NoResult),
            Op::Pull(base) => {
                let (name, image) = self.bases.get(&base.chain).ok_or(StepError::NoResult)?;
                pull::base(self.builder, name, image)
            }
            Op::Run(run) => self.run_command(id, node, run, parent),
            Op::Copy(copy) => self.copy(id, copy, parent),
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
    fn run_command(
        &self,
        id: NodeId,
        node: &Node,
        run: &Run,
        parent: Option<ResultId>,
    ) -> Result<Produced, StepError> {
        let upper = self.stage(parent)?;
        let identity = self.prepare(&upper, run)?;
        let mut environment = run.environment.clone();
        environment.extend(node.unkeyed_environment.clone());
        environment.entry("HOME".to_owned()).or_insert(identity.home);
        let spec = RunSpec {
            layers: upper.layers.clone(),
            argv: run.argv.clone(),
            env: environment.into_iter().collect(),
            cwd: run.directory.clone().into(),
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups,
            hostname: HOSTNAME.to_owned(),
            network: match run.network {
                RunNetwork::Default => Network::Host,
                RunNetwork::None => Network::None,
            },
            hosts: hosts(&run.extra_hosts),
            resolv_conf: self.builder.options.resolv_conf.clone(),
            shm_size: run.shm_size,
            limits: Vec::new(),
        };
        let mut output = Output::new(self.builder.events, StepNumber(id.0));
        let exit = self.builder.sandbox.run(&spec, &mut output, self.builder.cancel);
        let exit = match exit {
            Err(_) if self.builder.cancel.is_cancelled() => return Err(StepError::Cancelled),
            exit => exit?,
        };
        if !exit.is_success() {
            return Err(StepError::Exit { exit, output: output.tail() });
        }
        self.publish(upper, parent, Vec::new())
    }

    /// Looks the user up and makes the working directory if it is missing, as runc does.
    fn prepare(&self, upper: &Upper, run: &Run) -> Result<Identity, StepError> {
        let root = self.builder.sandbox.root(&upper.layers)?;
        let identity = Accounts::read(&root)?.process(&run.user)?;
        if root.stat(Path::new(&run.directory), true)?.is_none() {
            root.create_directories(Path::new(&run.directory), Mode::from_raw_mode(0o755), (0, 0))?;
        }
        Ok(identity)
    }

    fn copy(&self, id: NodeId, copy: &Copy, parent: Option<ResultId>) -> Result<Produced, StepError> {
        let upper = self.stage(parent)?;
        let mut listings = Vec::new();
        {
            let root = self.builder.sandbox.root(&upper.layers)?;
            let owner = match &copy.owner {
                Some(owner) => Some(Accounts::read(&root)?.owner(owner)?),
                None => None,
            };
            let chmod = chmod(copy.mode.as_deref())?;
            let placement = Placement { destination: copy.destination.clone(), owner, chmod };
            for (source, take) in copy.takes.iter().enumerate() {
                listings.push(self.take((id, source), take, &root, &placement)?);
            }
            for file in &copy.files {
                write_file(&root, &placement, &file.name, file.content.as_bytes())?;
            }
        }
        self.publish(upper, parent, listings)
    }

    /// Copies what is taken from one source. Returns the blob that lists it, if the source is a context.
    fn take(
        &self,
        taken: Taken,
        take: &Take,
        root: &RootDir,
        placement: &Placement,
    ) -> Result<Option<BlobId>, StepError> {
        let staged = self.stages.lock().unwrap_or_else(PoisonError::into_inner).remove(&taken);
        if let Some((context, selection)) = staged {
            context.copy(&selection, root, placement)?;
            return Ok(None);
        }
        let selection = self.selections.get(&taken).ok_or(StepError::NoResult)?;
        let number = self.context_number(taken).ok_or(StepError::NoResult)?;
        if take.unpack {
            refuse_archives(&self.graph.contexts[number].folder, selection)?;
        }
        let context = self.contexts.get(number).ok_or(StepError::NoResult)?;
        context.copy(selection, root, placement)?;
        self.keep(selection).map(Some)
    }

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
        let snapshot = self.builder.store.publish_snapshot(upper.staging, parent)?;
        let created = serde_json::to_vec(&Stamp::now()).map_err(StepError::Recipe)?;
        self.builder.store.set_note(snapshot.id, CREATED, &created)?;
        let holds = listings.iter().flatten().copied().map(Held::Blob).collect();
        Ok(Produced { result: snapshot.id, holds, listings })
    }

    /// Keeps what was copied, to explain the next difference.
    fn keep(&self, selection: &Selection) -> Result<BlobId, StepError> {
        let mut blob = self.builder.store.write_blob()?;
        blob.write_all(selection.listing().to_string().as_bytes())
            .at_path("write", "the listing of a copy")?;
        Ok(blob.finish(None)?.0)
    }

    fn context_number(&self, (id, source): Taken) -> Option<usize> {
        let source = *self.graph.node(id).sources.get(source)?;
        match &self.graph.node(source).op {
            Op::Local(local) => Some(local.context),
            _ => None,
        }
    }
}

/// What a COPY selects from one of its sources, as `context` takes it.
pub(super) fn request(copy: &Copy, source: usize) -> Result<Request, StepError> {
    let take = copy.takes.get(source).ok_or(StepError::NoResult)?;
    Ok(Request {
        sources: take.patterns.clone(),
        chmod: chmod(copy.mode.as_deref())?,
        chown: copy.owner.is_some(),
        excludes: copy.excludes.clone(),
        parents: copy.parents,
    })
}

fn chmod(mode: Option<&str>) -> Result<Option<Chmod>, StepError> {
    let Some(mode) = mode else { return Ok(None) };
    let parsed: Result<Chmod, _> = mode.parse();
    parsed.map(Some).map_err(|error| StepError::Mode { mode: mode.to_owned(), reason: error.to_string() })
}

/// `ADD` unpacks local archives; that is not there yet, and copying them instead would be wrong.
fn refuse_archives(folder: &Path, selection: &Selection) -> Result<(), StepError> {
    let root = RootDir::open(folder)?;
    for source in selection.sources().filter(|source| !source.folder) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = std::fs::File::from(root.open_at(&source.path, flags, Mode::empty())?);
        let mut head = Vec::new();
        file.take(512).read_to_end(&mut head).at_path("read", &source.path)?;
        if is_archive(&head) {
            let name = source.path.display();
            return Err(StepError::Unsupported(format!(
                "`ADD` of the archive `{name}`, which would have to be unpacked (COPY copies it as it is)"
            )));
        }
    }
    Ok(())
}

/// gzip, bzip2, xz, zstd or plain tar by the first bytes (moby `pkg/archive.DetectCompression`).
fn is_archive(head: &[u8]) -> bool {
    let magic: [&[u8]; 4] =
        [&[0x1f, 0x8b, 0x08], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    magic.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
}

/// The content of `/etc/hosts` in a RUN.
fn hosts(extra: &[(String, String)]) -> Vec<u8> {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    text.push_str(&format!("127.0.1.1\t{HOSTNAME}\n"));
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text.into_bytes()
}
