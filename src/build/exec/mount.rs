//! What a RUN has mounted: from the graph's values to what the sandbox attaches, and what must live as long
//! as the command.
//!
//! A writable bind gets an upper of its own that is thrown away. Caches are reserved before the step starts
//! ([`Executor::reserve_caches`]), in the order of their identities, so that two steps cannot wait for each
//! other. Secrets are read when the command is about to start and are kept in memory alone. The content of
//! a cache and the bytes of a secret reach no key, no record and no error.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};

use super::super::error::StepError;
use super::super::selection::Taken;
use super::Executor;
use super::agent::Agent;
use crate::base::digest::{Digest, FieldHasher, ResultId};
use crate::base::fs::{AtPath, RootDir};
use crate::base::secret::Secret;
use crate::context::{Context, Placement, Request, Selection};
use crate::graph::{
    BuildRequest, CacheSharing, FileAttributes, NodeId, Op, Run, RunMount, RunMountKind, SecretSource,
    Selected, literal,
};
use crate::sandbox::{Layers, Mount, MountSource, Writable};
use crate::store::{CacheMount, CacheUse, Staging};

/// The largest secret in bytes (BuildKit `MaxSecretSize`).
const LARGEST_SECRET: u64 = 500 << 10;

/// What a cache begins with.
pub(in crate::build) struct Begin {
    context: Context,
    selection: Selection,
    /// Mode and owner of the folder.
    attributes: Option<FileAttributes>,
}

/// What one command has mounted.
#[derive(Default)]
pub(super) struct Mounted {
    pub(super) mounts: Vec<Mount>,
    /// Variables that hold secrets.
    pub(super) environment: Vec<(String, String)>,
    /// Throw-away uppers, caches and agents: gone when the command is.
    uppers: Vec<Staging>,
    agents: Vec<Agent>,
    _caches: BTreeMap<Digest, CacheMount>,
}

impl Executor<'_> {
    /// What a mount reads from a source, for its key. A copy from the build context is what it is by its own
    /// key; of anything else the files count.
    pub(super) fn select_mounted(
        &self,
        (id, source): Taken,
        run: &Run,
        result: ResultId,
    ) -> Result<Selected, StepError> {
        let node = self.graph.node(id);
        let from = node.sources.get(source).map(|from| self.graph.node(*from));
        if from.is_some_and(|from| from.parent.is_none() && matches!(from.op, Op::Copy(_))) {
            return Ok(Selected { digest: result.0, listing: None });
        }
        let mount = run.mount_of(source).ok_or(StepError::NoResult)?;
        let path = mount.source().unwrap_or("/");
        let layers = self.layers(Some(result))?;
        let context = Context::rootfs(self.builder.sandbox.root(&layers)?);
        let sources = vec![literal(path)];
        let selection = context.select(&Request { sources, ..Request::default() })?;
        let digest = selection.digest();
        if matches!(mount.kind, RunMountKind::Cache { .. }) {
            let attributes = folder_attributes(&self.builder.sandbox.root(&layers)?, path)?;
            self.begins().insert((id, source), Begin { context, selection, attributes });
        }
        Ok(Selected { digest, listing: None })
    }

    /// Takes the caches of a step; false while somebody else has one that it needs alone. What was taken
    /// stays taken.
    pub(super) fn reserve_caches(&self, id: NodeId) -> Result<bool, StepError> {
        let Op::Run(run) = &self.graph.node(id).op else { return Ok(true) };
        for (identity, (mount, source)) in self.caches(id, run) {
            if self.caches_of(id).contains_key(&identity) {
                continue;
            }
            let RunMountKind::Cache { id: name, attributes, .. } = &mount.kind else { continue };
            let wanted = self.cache_use(id, run, identity);
            let fill = |tree: &Path| self.fill((id, source), mount, *attributes, tree);
            let taken = self.builder.store.try_cache_mount(identity, name, wanted, &fill)?;
            let Some(taken) = taken else { return Ok(false) };
            let mut all = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(id).or_default().insert(identity, taken);
        }
        Ok(true)
    }

    /// The caches of a step by identity, each with the first mount that names it and that mount's source.
    fn caches<'r>(&self, id: NodeId, run: &'r Run) -> BTreeMap<Digest, (&'r RunMount, usize)> {
        let mut caches = BTreeMap::new();
        let mut source = 0;
        for mount in &run.mounts {
            if matches!(mount.kind, RunMountKind::Cache { .. }) {
                caches.entry(self.identity((id, source), mount)).or_insert((mount, source));
            }
            source += usize::from(mount.source().is_some());
        }
        caches
    }

    /// Under what a cache lies in the store: its id, the attributes and the content that it begins with.
    /// BuildKit too keeps caches apart that begin differently.
    fn identity(&self, taken: Taken, mount: &RunMount) -> Digest {
        let mut hasher = FieldHasher::new("cache mount");
        let RunMountKind::Cache { id, attributes, .. } = &mount.kind else { return hasher.finish() };
        hasher.field(id).field(attributes.map_or_else(String::new, |attributes| attributes.to_string()));
        let begins = self.begins();
        let digest = mount.source().and_then(|_| begins.get(&taken)).map(|begin| begin.selection.digest());
        hasher.field(digest.map_or_else(String::new, |digest| digest.hex())).finish()
    }

    /// The strictest use that a step's mounts of one cache ask for.
    fn cache_use(&self, id: NodeId, run: &Run, identity: Digest) -> CacheUse {
        let mut strictest = CacheUse::Shared;
        let mut source = 0;
        for mount in &run.mounts {
            if let RunMountKind::Cache { sharing, .. } = &mount.kind
                && self.identity((id, source), mount) == identity
            {
                strictest = strictest.max(match sharing {
                    CacheSharing::Shared => CacheUse::Shared,
                    CacheSharing::Private => CacheUse::Private,
                    CacheSharing::Locked => CacheUse::Locked,
                });
            }
            source += usize::from(mount.source().is_some());
        }
        strictest
    }

    fn caches_of(&self, id: NodeId) -> BTreeMap<Digest, PathBuf> {
        let all = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.get(&id).into_iter().flatten();
        own.map(|(identity, cache)| (*identity, cache.tree())).collect()
    }

    /// Gives a new cache what it begins with.
    fn fill(
        &self,
        taken: Taken,
        mount: &RunMount,
        attributes: Option<FileAttributes>,
        tree: &Path,
    ) -> Result<(), StepError> {
        let root = RootDir::open(tree)?;
        let mut attributes = attributes;
        if let Some(path) = mount.source() {
            let begins = self.begins();
            let Begin { context, selection, attributes: own } =
                begins.get(&taken).ok_or(StepError::NoResult)?;
            if selection.sources().any(|source| !source.folder) {
                let what = format!("a cache mount whose `source` is no folder (`{path}`)");
                return Err(StepError::Unsupported(what));
            }
            let destination = "/".to_owned();
            context.copy(selection, &root, &Placement { destination, owner: None, chmod: None })?;
            attributes = attributes.or(*own);
        }
        let Some(FileAttributes { mode, uid, gid }) = attributes else { return Ok(()) };
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(rustix::fs::CWD, tree, uid, gid, AtFlags::empty()).at_path("chown", tree)?;
        Ok(rustix::fs::chmod(tree, Mode::from_raw_mode(mode)).at_path("chmod", tree)?)
    }

    fn begins(&self) -> MutexGuard<'_, HashMap<Taken, Begin>> {
        self.begins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that the command of a step has mounted. `sources` are the results of the node's sources.
    pub(super) fn mounted(
        &self,
        id: NodeId,
        run: &Run,
        sources: &[Option<ResultId>],
    ) -> Result<Mounted, StepError> {
        let mut mounted = Mounted::default();
        let caches = self.caches_of(id);
        let mut number = 0;
        for mount in &run.mounts {
            let result = mount.source().and_then(|_| sources.get(number).copied().flatten());
            let source = match &mount.kind {
                RunMountKind::Bind { source } => {
                    Some(self.bind(mount, source.as_deref(), result, &mut mounted)?)
                }
                RunMountKind::Cache { .. } => {
                    let tree = caches.get(&self.identity((id, number), mount));
                    Some(MountSource::Folder(tree.ok_or(StepError::NoResult)?.clone()))
                }
                RunMountKind::Tmpfs { size } => Some(MountSource::Tmpfs { size: *size }),
                RunMountKind::Script { name, content } => {
                    Some(MountSource::Script { name: name.clone(), content: content.clone() })
                }
                RunMountKind::Secret { .. } => self.secret(id, mount, &mut mounted)?,
                RunMountKind::Ssh { .. } => self.agent(id, mount, &mut mounted)?,
            };
            number += usize::from(mount.source().is_some());
            let (target, read_only) = (PathBuf::from(&mount.target), mount.read_only);
            mounted.mounts.extend(source.map(|source| Mount { target, read_only, source }));
        }
        let mut all = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        mounted._caches = all.remove(&id).unwrap_or_default();
        Ok(mounted)
    }

    fn bind(
        &self,
        mount: &RunMount,
        path: Option<&str>,
        result: Option<ResultId>,
        mounted: &mut Mounted,
    ) -> Result<MountSource, StepError> {
        let mut layers = match path {
            Some(_) => self.layers(Some(result.ok_or(StepError::NoResult)?))?,
            None => Layers::default(),
        };
        if !mount.read_only {
            let staging = self.builder.store.stage()?;
            layers.writable = Some(Writable { upper: staging.tree(), work: staging.work()? });
            mounted.uppers.push(staging);
        }
        Ok(MountSource::Layers { layers, path: path.unwrap_or("/").into() })
    }

    /// The file of a secret, if it is one; its variable is noted. Without the secret there is nothing.
    fn secret(
        &self,
        node: NodeId,
        mount: &RunMount,
        mounted: &mut Mounted,
    ) -> Result<Option<MountSource>, StepError> {
        let RunMountKind::Secret { id, attributes, env, required } = &mount.kind else { return Ok(None) };
        let given = self.requests_of(node).find_map(|request| request.secrets.get(id));
        let Some(given) = given else {
            return if *required { Err(StepError::NoSecret(id.clone())) } else { Ok(None) };
        };
        let secret = read_secret(id, given)?;
        if let Some(name) = env {
            let text = std::str::from_utf8(secret.reveal());
            let text = text.map_err(|_| StepError::SecretIsNoText(id.clone()))?;
            mounted.environment.push((name.clone(), text.to_owned()));
        }
        let FileAttributes { mode, uid, gid } = *attributes;
        let file = MountSource::File { content: secret, mode, uid, gid };
        Ok((!mount.target.is_empty()).then_some(file))
    }

    fn agent(
        &self,
        node: NodeId,
        mount: &RunMount,
        mounted: &mut Mounted,
    ) -> Result<Option<MountSource>, StepError> {
        let RunMountKind::Ssh { id, attributes, required } = &mount.kind else { return Ok(None) };
        let socket = self.requests_of(node).find_map(|request| request.ssh.get(id));
        let Some(socket) = socket else {
            return if *required { Err(StepError::NoAgent(id.clone())) } else { Ok(None) };
        };
        let staging = self.builder.store.stage()?;
        let agent = Agent::start(staging, socket, *attributes)?;
        let source = MountSource::Socket(agent.path().to_owned());
        mounted.agents.push(agent);
        Ok(Some(source))
    }

    /// The requests that a node belongs to, in the order of its origins.
    fn requests_of(&self, id: NodeId) -> impl Iterator<Item = &BuildRequest> {
        let origins = self.graph.node(id).origins.iter();
        origins.filter_map(|origin| {
            let mut requests = self.sources.iter().map(|source| &source.request);
            requests.find(|request| request.service == origin.service)
        })
    }
}

fn folder_attributes(root: &RootDir, path: &str) -> Result<Option<FileAttributes>, StepError> {
    let stat = root.stat(Path::new(path), true)?;
    Ok(stat
        .filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        .map(|stat| FileAttributes { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }))
}

/// The bytes of a secret.
pub(in crate::build) fn read_secret(id: &str, source: &SecretSource) -> Result<Secret, StepError> {
    let bytes = match source {
        SecretSource::Value(secret) => secret.reveal().to_vec(),
        SecretSource::File(path) => {
            let file = std::fs::File::open(path).at_path("open", path)?;
            let mut bytes = Vec::new();
            file.take(LARGEST_SECRET + 1).read_to_end(&mut bytes).at_path("read", path)?;
            bytes
        }
    };
    if bytes.len() as u64 > LARGEST_SECRET {
        return Err(StepError::LargeSecret(id.to_owned()));
    }
    Ok(Secret::new(bytes))
}
