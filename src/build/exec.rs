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
use super::solve::{Produced, Work};
use super::users::{Accounts, Identity};
use crate::base::digest::{BlobId, Digest, ResultId};
use crate::base::event::StepNumber;
use crate::base::fs::{AtPath, RootDir};
use crate::context::{Chmod, Context, Placement, Request, Selection};
use crate::graph::{BaseImage, Copy, Graph, HOSTNAME, Node, NodeId, Op, Run, RunNetwork, Selected, Write};
use crate::oci::Reference;
use crate::sandbox::{Layers, Network, RunSpec, Writable};
use crate::store::{Held, Staging, Stamp};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

/// The note beside a snapshot that says when its step ran: a [`Stamp`] as JSON.
pub(super) const CREATED: &str = "created";

/// Does a graph's work.
pub(super) struct Executor<'a> {
    pub(super) builder: &'a Builder<'a>,
    pub(super) graph: &'a Graph,
    pub(super) bases: &'a BTreeMap<Digest, (Reference, BaseImage)>,
    pub(super) contexts: &'a [Context],
    /// What each COPY takes from its build context.
    pub(super) selections: &'a HashMap<NodeId, Selection>,
    /// What each COPY takes from another stage, with the stage's tree.
    pub(super) stages: Mutex<HashMap<NodeId, (Context, Selection)>>,
}

impl Work for Executor<'_> {
    fn select(&self, id: NodeId, source: ResultId) -> Result<Selected, StepError> {
        let Op::Copy(copy) = &self.graph.node(id).op else { return Err(StepError::NoResult) };
        let root = self.builder.sandbox.root(&self.layers(Some(source))?)?;
        let context = Context::rootfs(root);
        let selection = context.select(&request(copy)?)?;
        let digest = selection.digest();
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.insert(id, (context, selection));
        Ok(Selected { digest, listing: None })
    }

    fn run(
        &self,
        id: NodeId,
        parent: Option<ResultId>,
        _source: Option<ResultId>,
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
            Op::Write(write) => self.write(write, parent),
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
        self.publish(upper, parent, None)
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
        let staged = self.stages.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let (context, selection) = match (&staged, self.selections.get(&id)) {
            (Some((context, selection)), _) => (context, selection),
            (None, Some(selection)) => (self.context_of(id)?, selection),
            (None, None) => return Err(StepError::NoResult),
        };
        if copy.unpack
            && let Some(folder) = self.folder_of(id)
        {
            refuse_archives(folder, selection)?;
        }
        let upper = self.stage(parent)?;
        {
            let root = self.builder.sandbox.root(&upper.layers)?;
            let owner = match &copy.owner {
                Some(owner) => Some(Accounts::read(&root)?.owner(owner)?),
                None => None,
            };
            let chmod = chmod(copy.mode.as_deref())?;
            let placement = Placement { destination: copy.destination.clone(), owner, chmod };
            context.copy(selection, &root, &placement)?;
        }
        let listing = if staged.is_none() { Some(self.keep(selection)?) } else { None };
        self.publish(upper, parent, listing)
    }

    fn write(&self, write: &Write, parent: Option<ResultId>) -> Result<Produced, StepError> {
        let upper = self.stage(parent)?;
        {
            let root = self.builder.sandbox.root(&upper.layers)?;
            let owner = match &write.owner {
                Some(owner) if write.files.is_empty() => {
                    let identity = Accounts::read(&root)?.process(owner)?;
                    (identity.uid, identity.gid)
                }
                Some(owner) => Accounts::read(&root)?.owner(owner)?,
                None => (0, 0),
            };
            write_into(&root, write, owner)?;
        }
        self.publish(upper, parent, None)
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
        listing: Option<BlobId>,
    ) -> Result<Produced, StepError> {
        self.builder.sandbox.finish(&upper.layers)?;
        let snapshot = self.builder.store.publish_snapshot(upper.staging, parent)?;
        let created = serde_json::to_vec(&Stamp::now()).map_err(StepError::Recipe)?;
        self.builder.store.set_note(snapshot.id, CREATED, &created)?;
        Ok(Produced { result: snapshot.id, holds: listing.map(Held::Blob).into_iter().collect(), listing })
    }

    /// Keeps what was copied, to explain the next difference.
    fn keep(&self, selection: &Selection) -> Result<BlobId, StepError> {
        let mut blob = self.builder.store.write_blob()?;
        blob.write_all(selection.listing().to_string().as_bytes())
            .at_path("write", "the listing of a copy")?;
        Ok(blob.finish(None)?.0)
    }

    fn context_of(&self, id: NodeId) -> Result<&Context, StepError> {
        self.context_number(id).and_then(|number| self.contexts.get(number)).ok_or(StepError::NoResult)
    }

    fn folder_of(&self, id: NodeId) -> Option<&Path> {
        Some(&self.graph.contexts[self.context_number(id)?].folder)
    }

    fn context_number(&self, id: NodeId) -> Option<usize> {
        match &self.graph.node(self.graph.node(id).source?).op {
            Op::Local(local) => Some(local.context),
            _ => None,
        }
    }
}

/// What a COPY selects, as `context` takes it.
pub(super) fn request(copy: &Copy) -> Result<Request, StepError> {
    Ok(Request {
        sources: copy.sources.clone(),
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

/// Makes a directory with every missing one above it, or writes files.
fn write_into(root: &RootDir, write: &Write, owner: (u32, u32)) -> Result<(), StepError> {
    let directory = Mode::from_raw_mode(0o755);
    let destination = Path::new(&write.destination);
    if write.files.is_empty() {
        root.create_directories(destination, directory, owner)?;
        return Ok(());
    }
    let octal = write.mode.as_deref().map(|mode| u32::from_str_radix(mode, 8));
    let mode = octal.transpose().map_err(|_| StepError::Mode {
        mode: write.mode.clone().unwrap_or_default(),
        reason: "files written in the Dockerfile take an octal mode".to_owned(),
    })?;
    let into = write.destination.ends_with('/')
        || root.stat(destination, true)?.is_some_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
        });
    for file in &write.files {
        let path = if into { destination.join(&file.name) } else { destination.to_owned() };
        if let Some(parent) = path.parent() {
            root.create_directories(parent, directory, owner)?;
        }
        write_file(root, &path, file.content.as_bytes(), mode.unwrap_or(0o644), owner)?;
    }
    Ok(())
}

fn write_file(
    root: &RootDir,
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: (u32, u32),
) -> Result<(), StepError> {
    let (parent, name) = root.parent(path)?;
    // A file that is there is replaced, a link not followed.
    match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => Err(error).at_path("replace", path)?,
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let file = rustix::fs::openat(&parent, &name, flags, mode).at_path("create", path)?;
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    rustix::fs::fchown(&file, Some(uid), Some(gid)).at_path("chown", path)?;
    rustix::fs::fchmod(&file, mode).at_path("chmod", path)?;
    std::fs::File::from(file).write_all(content).at_path("write", path)?;
    Ok(())
}
