//! What a key contains.
//!
//! A [`Recipe`] is a stored value; both keys of a step are derived from it, and so is the reason why a
//! step had to run ([`super::reason`] compares two of them). What is not in a recipe can not change a
//! result: mtimes, paths of the host, names of stages and services, comments, limits, the clock, secrets.
//!
//! Each input has two identities. The *definition* is known before anything runs: the definition key of
//! the step that makes the input, or the digest of what a COPY selects from a context. The *canonical*
//! one is known when the input is there: its result's identifier, or the digest of what a COPY selects
//! from a stage's file system. [`Recipe::definition_key`] uses the first, [`Recipe::canonical_key`] the
//! second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mount::RunMount;
use super::op::{Copy, Fetch, Graph, Node, NodeId, Op, RunNetwork, Take};
use crate::base::digest::{BlobId, CanonicalKey, DefinitionKey, Digest, FieldHasher, ResultId};
use crate::remote::Checkout;

/// Raised when equal recipes begin to mean another result.
pub const FORMAT: u32 = 2;

/// The hostname that every RUN sees where `BUILDKIT_SANDBOX_HOSTNAME` gives none.
pub const HOSTNAME: &str = "shipway";

/// Everything that decides a step's result.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Recipe {
    /// [`FORMAT`] when it was written.
    pub format: u32,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// The operation.
    pub op: OpRecipe,
    /// What it stands on and reads.
    pub inputs: Vec<Input>,
}

/// The operation's part of a recipe; see [`Op`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum OpRecipe {
    /// A base image's file system.
    Pull {
        /// The chain ID of its layers.
        chain: Digest,
    },
    /// A command.
    Run {
        /// The command with its arguments.
        argv: Vec<String>,
        /// Its environment, without undeclared proxy variables.
        environment: BTreeMap<String, String>,
        /// The working directory.
        directory: String,
        /// The user, as written.
        user: String,
        /// The network mode.
        network: RunNetwork,
        /// The hostname.
        hostname: String,
        /// Names and addresses added to `/etc/hosts`.
        extra_hosts: Vec<(String, String)>,
        /// Size of `/dev/shm` in bytes.
        shm_size: u64,
        /// What is mounted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        mounts: Vec<RunMount>,
        /// Whether it has all privileges.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        insecure: bool,
    },
    /// Files from contexts, other stages and the Dockerfile itself.
    Copy {
        /// Where they go.
        destination: String,
        /// Their owner, as written.
        owner: Option<String>,
        /// Their mode, as written.
        mode: Option<String>,
        /// For each source, whether archives in it are unpacked.
        unpack: Vec<bool>,
        /// The Dockerfile's own files: name and content.
        files: Vec<(String, String)>,
    },
    /// One file system over another.
    Merge,
    /// A file from elsewhere.
    FetchFile {
        /// Its name.
        name: String,
        /// The digest of its bytes.
        digest: Digest,
        /// Its modification time (BuildKit keeps it in its key too).
        modified: i64,
    },
    /// The files of a commit.
    FetchGit {
        /// The commit.
        commit: String,
        /// The folder whose content counts.
        folder: String,
        /// Where it comes from, if `.git` is kept, which says so.
        keeps_git_of: Option<String>,
        /// Whether submodules are fetched.
        submodules: bool,
    },
    /// The members of an archive.
    FetchArchive {
        /// The digest of its bytes.
        digest: Digest,
    },
    /// A directory.
    Directory {
        /// Where.
        path: String,
        /// Its owner, as written.
        user: String,
    },
}

/// One input with its two identities.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Input {
    /// What it is to the step.
    pub role: Role,
    /// Its identity before anything runs.
    pub definition: Digest,
    /// Its identity once it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical: Option<Digest>,
    /// The blob that lists what was selected, to explain a difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listing: Option<BlobId>,
}

/// What an input is to its step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The file system that it starts from.
    Parent,
    /// What a COPY selects from a build context.
    Context,
    /// What a COPY or a mount selects from another stage or image.
    Stage,
}

impl Recipe {
    /// The key under which the step is known before anything runs.
    pub fn definition_key(&self) -> DefinitionKey {
        DefinitionKey(self.hash("definition", |input| input.definition))
    }

    /// The key over the inputs as they are; `None` while one of them is not there yet.
    pub fn canonical_key(&self) -> Option<CanonicalKey> {
        let known = self.inputs.iter().all(|input| input.canonical.is_some());
        known.then(|| {
            CanonicalKey(self.hash("canonical", |input| input.canonical.unwrap_or(input.definition)))
        })
    }

    fn hash(&self, domain: &str, identity: impl Fn(&Input) -> Digest) -> Digest {
        let mut hasher = FieldHasher::new(domain);
        hasher.number(u64::from(self.format)).field(&self.platform);
        self.op.hash(&mut hasher);
        hasher.number(self.inputs.len() as u64);
        for input in &self.inputs {
            hasher.field(input.role.name()).field(identity(input).as_bytes());
        }
        hasher.finish()
    }

    /// The recipe of what comes from elsewhere, for whoever fetches it before there is a graph.
    pub fn of_fetch(fetch: &Fetch, platform: &str) -> Self {
        let op = fetch_recipe(fetch.clone());
        Self { format: FORMAT, platform: platform.to_owned(), op, inputs: Vec::new() }
    }

    /// The recipe of a base image's layers up to the one whose chain ID is `chain`.
    pub fn of_chain(chain: Digest, platform: &str) -> Self {
        Self {
            format: FORMAT,
            platform: platform.to_owned(),
            op: OpRecipe::Pull { chain },
            inputs: Vec::new(),
        }
    }
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::Context => "context",
            Self::Stage => "stage",
        }
    }
}

impl OpRecipe {
    fn hash(&self, hasher: &mut FieldHasher) {
        match self {
            Self::Pull { chain } => {
                hasher.field("pull").field(chain.as_bytes());
            }
            Self::Run {
                argv,
                environment,
                directory,
                user,
                network,
                hostname,
                extra_hosts,
                shm_size,
                mounts,
                insecure,
            } => {
                hasher.field("run");
                list(hasher, argv);
                pairs(hasher, environment.iter());
                hasher.field(directory).field(user).field(network.name()).field(hostname);
                pairs(hasher, extra_hosts.iter().map(|(name, address)| (name, address)));
                hasher.number(*shm_size).number(u64::from(*insecure)).number(mounts.len() as u64);
                mounts.iter().for_each(|mount| mount.hash(hasher));
            }
            Self::Copy { destination, owner, mode, unpack, files } => {
                hasher.field("copy").field(destination).number(unpack.len() as u64);
                unpack.iter().for_each(|unpack| {
                    hasher.number(u64::from(*unpack));
                });
                optional(hasher, owner.as_ref());
                optional(hasher, mode.as_ref());
                pairs(hasher, files.iter().map(|(name, content)| (name, content)));
            }
            Self::Merge => {
                hasher.field("merge");
            }
            Self::FetchFile { name, digest, modified } => {
                hasher.field("file").field(name).field(digest.as_bytes()).field(modified.to_le_bytes());
            }
            Self::FetchGit { commit, folder, keeps_git_of, submodules } => {
                hasher.field("commit").field(commit).field(folder).number(u64::from(*submodules));
                optional(hasher, keeps_git_of.as_ref());
            }
            Self::FetchArchive { digest } => {
                hasher.field("archive").field(digest.as_bytes());
            }
            Self::Directory { path, user } => {
                hasher.field("directory").field(path).field(user);
            }
        }
    }
}

impl RunNetwork {
    /// Its name in Dockerfiles.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

fn list(hasher: &mut FieldHasher, items: &[String]) {
    hasher.number(items.len() as u64);
    for item in items {
        hasher.field(item);
    }
}

fn pairs<'a>(hasher: &mut FieldHasher, items: impl ExactSizeIterator<Item = (&'a String, &'a String)>) {
    hasher.number(items.len() as u64);
    for (name, value) in items {
        hasher.field(name).field(value);
    }
}

fn optional(hasher: &mut FieldHasher, item: Option<&String>) {
    match item {
        Some(item) => hasher.number(1).field(item),
        None => hasher.number(0),
    };
}

/// What a COPY selects from its context: the digest and the blob that lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Selected {
    /// Digest of exactly what will be written.
    pub digest: Digest,
    /// The blob that lists it, where it was kept.
    pub listing: Option<BlobId>,
}

/// The recipe of a node, with the definitions of its inputs alone: the parent, then one for each source
/// in their order. `definitions` answers for nodes that have a result of their own, `selected` for what a
/// step takes from one of its sources, by that source's number, where the source is a context.
///
/// A COPY or a mount from a stage has no selection before that stage is there: its definition is the
/// stage's key with the patterns or the path.
pub fn recipe(
    graph: &Graph,
    id: NodeId,
    definitions: &dyn Fn(NodeId) -> DefinitionKey,
    selected: &dyn Fn(NodeId, usize) -> Selected,
) -> Option<Recipe> {
    let node = graph.node(id);
    let op = op_recipe(node)?;
    let input = |role, definition, canonical, listing| Input { role, definition, canonical, listing };
    let parent = node.parent.map(|parent| input(Role::Parent, definitions(parent).0, None, None));
    let sources =
        node.sources.iter().enumerate().map(|(index, &source)| match (&graph.node(source).op, &node.op) {
            (Op::Local(_), _) => {
                let Selected { digest, listing } = selected(id, index);
                input(Role::Context, digest, Some(digest), listing)
            }
            (_, Op::Copy(copy)) => {
                let taken = taken_of(definitions(source), copy, copy.takes.get(index));
                input(Role::Stage, taken, None, None)
            }
            (_, Op::Run(run)) => {
                let path = run.mount_of(index).and_then(RunMount::source).unwrap_or("/");
                input(Role::Stage, mounted_of(definitions(source), path), None, None)
            }
            _ => input(Role::Stage, definitions(source).0, None, None),
        });
    let inputs = parent.into_iter().chain(sources).collect();
    Some(Recipe { format: FORMAT, platform: node.platform.to_string(), op, inputs })
}

fn taken_of(stage: DefinitionKey, copy: &Copy, take: Option<&Take>) -> Digest {
    let mut hasher = FieldHasher::new("stage selection");
    hasher.field(stage.0.as_bytes());
    list(&mut hasher, take.map_or(&[], |take| &take.patterns));
    list(&mut hasher, &copy.excludes);
    hasher.number(u64::from(copy.parents)).finish()
}

fn mounted_of(stage: DefinitionKey, path: &str) -> Digest {
    let mut hasher = FieldHasher::new("stage mount");
    hasher.field(stage.0.as_bytes()).field(path).finish()
}

fn fetch_recipe(fetch: Fetch) -> OpRecipe {
    match fetch {
        Fetch::File { name, digest, modified, .. } => OpRecipe::FetchFile { name, digest, modified },
        Fetch::Git(Checkout { remote, commit, folder, keep_git_dir, submodules, .. }) => OpRecipe::FetchGit {
            keeps_git_of: (keep_git_dir && folder.is_empty()).then_some(remote),
            commit,
            folder,
            submodules,
        },
        Fetch::Archive { digest } => OpRecipe::FetchArchive { digest },
    }
}

/// `None` for a context, which has no result of its own.
fn op_recipe(node: &Node) -> Option<OpRecipe> {
    Some(match node.op.clone() {
        Op::Local(_) => return None,
        Op::Pull(pull) => OpRecipe::Pull { chain: pull.chain },
        Op::Run(run) => OpRecipe::Run {
            argv: run.argv,
            environment: run.environment,
            directory: run.directory,
            user: run.user,
            network: run.network,
            hostname: run.hostname.clone(),
            extra_hosts: run.extra_hosts,
            shm_size: run.shm_size,
            mounts: run.mounts,
            insecure: run.insecure,
        },
        Op::Copy(copy) => {
            let Copy { takes, files, destination, owner, mode, .. } = copy;
            let unpack = takes.iter().map(|take| take.unpack).collect();
            let files = files.into_iter().map(|file| (file.name, file.content)).collect();
            OpRecipe::Copy { destination, owner, mode, unpack, files }
        }
        Op::Merge => OpRecipe::Merge,
        Op::Fetch(fetch) => fetch_recipe(fetch),
        Op::Directory(directory) => OpRecipe::Directory { path: directory.path, user: directory.user },
    })
}

/// Fills in what the inputs turned out to be: the parent's result, and for each source in its order what
/// was selected from it (`None` for a context, whose selection is in the recipe already).
#[must_use]
pub fn with_results(mut recipe: Recipe, parent: Option<ResultId>, sources: &[Option<Selected>]) -> Recipe {
    let mut sources = sources.iter();
    for input in &mut recipe.inputs {
        match input.role {
            Role::Parent => input.canonical = parent.map(|result| result.0),
            Role::Context => {
                sources.next();
            }
            Role::Stage => {
                let selected = sources.next().copied().flatten();
                input.canonical = selected.map(|selected| selected.digest);
                input.listing = selected.and_then(|selected| selected.listing);
            }
        }
    }
    recipe
}

#[cfg(test)]
mod tests {
    use super::super::mount::{CacheSharing, FileAttributes, RunMountKind};
    use super::*;

    fn run(argv: &[&str]) -> Recipe {
        let op = OpRecipe::Run {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            environment: BTreeMap::new(),
            directory: "/".into(),
            user: String::new(),
            network: RunNetwork::Default,
            hostname: HOSTNAME.into(),
            extra_hosts: Vec::new(),
            shm_size: 1,
            mounts: Vec::new(),
            insecure: false,
        };
        let parent =
            Input { role: Role::Parent, definition: Digest::of("parent"), canonical: None, listing: None };
        Recipe { format: FORMAT, platform: "linux/amd64".into(), op, inputs: vec![parent] }
    }

    #[test]
    fn every_part_of_a_command_counts() {
        let key = |change: &dyn Fn(&mut Recipe)| {
            let mut recipe = run(&["a", "b"]);
            change(&mut recipe);
            recipe.definition_key()
        };
        let all = [
            key(&|_| {}),
            key(&|recipe| *recipe = run(&["ab"])),
            key(&|recipe| recipe.platform = "linux/arm64".into()),
            key(&|recipe| recipe.format += 1),
            key(&|recipe| recipe.inputs[0].definition = Digest::of("other")),
            key(&|recipe| recipe.inputs[0].role = Role::Stage),
            key(&|recipe| recipe.inputs.clear()),
            key(&|recipe| {
                let OpRecipe::Run { environment, .. } = &mut recipe.op else { unreachable!() };
                environment.insert("a".into(), "b".into());
            }),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all[..index].iter().all(|other| other != one), "{index}");
        }
    }

    /// The key of a command with these mounts.
    fn mounting(mounts: Vec<RunMount>) -> DefinitionKey {
        let mut recipe = run(&["a"]);
        let OpRecipe::Run { mounts: own, .. } = &mut recipe.op else { unreachable!() };
        *own = mounts;
        recipe.definition_key()
    }

    fn mount(target: &str, kind: RunMountKind) -> RunMount {
        RunMount { target: target.into(), read_only: false, kind }
    }

    fn cache(id: &str, sharing: CacheSharing, mode: u32) -> RunMount {
        let attributes = Some(FileAttributes { mode, uid: 0, gid: 0 });
        mount("/c", RunMountKind::Cache { id: id.into(), sharing, source: None, attributes })
    }

    fn secret(id: &str, env: Option<&str>, required: bool, mode: u32) -> RunMount {
        let attributes = FileAttributes { mode, uid: 0, gid: 0 };
        let (id, env) = (id.to_owned(), env.map(str::to_owned));
        mount("/s", RunMountKind::Secret { id, attributes, env, required })
    }

    #[test]
    fn what_a_mount_is_counts_and_how_a_cache_is_found_does_not() {
        let tmpfs = |size| mount("/t", RunMountKind::Tmpfs { size });
        let script =
            |text: &str| mount("/s", RunMountKind::Script { name: "E".into(), content: text.into() });
        let bind =
            |source: Option<&str>| mount("/b", RunMountKind::Bind { source: source.map(str::to_owned) });
        let agent = |id: &str, required| {
            let attributes = FileAttributes { mode: 0o600, uid: 0, gid: 0 };
            mount("/a", RunMountKind::Ssh { id: id.into(), attributes, required })
        };
        let all = [
            vec![],
            vec![tmpfs(None)],
            vec![tmpfs(Some(1))],
            vec![tmpfs(None), tmpfs(None)],
            vec![RunMount { read_only: true, ..tmpfs(None) }],
            vec![RunMount { target: "/other".into(), ..tmpfs(None) }],
            vec![cache("x", CacheSharing::Shared, 0o755)],
            vec![cache("x", CacheSharing::Shared, 0o700)],
            vec![secret("x", None, false, 0o400)],
            vec![secret("y", None, false, 0o400)],
            vec![secret("x", Some("X"), false, 0o400)],
            vec![secret("x", None, true, 0o400)],
            vec![secret("x", None, false, 0o444)],
            vec![agent("x", false)],
            vec![agent("y", false)],
            vec![agent("x", true)],
            vec![script("one")],
            vec![script("two")],
            vec![bind(None)],
            vec![bind(Some("/x"))],
        ];
        let keys: Vec<_> = all.into_iter().map(mounting).collect();
        for (index, one) in keys.iter().enumerate() {
            assert!(keys[..index].iter().all(|other| other != one), "{index}");
        }
        // The path of a bind is in its input's identity, not here.
        assert_eq!(mounting(vec![bind(Some("/x"))]), mounting(vec![bind(Some("/y"))]));
        let private = cache("y", CacheSharing::Private, 0o755);
        assert_eq!(mounting(vec![cache("x", CacheSharing::Shared, 0o755)]), mounting(vec![private]));
    }

    #[test]
    fn canonical_key_waits_for_every_input_and_ignores_definitions() {
        let recipe = run(&["a"]);
        assert_eq!(recipe.canonical_key(), None);
        let result = ResultId::fresh();
        let first = with_results(recipe.clone(), Some(result), &[]);
        let mut other = recipe;
        other.inputs[0].definition = Digest::of("another way to the same result");
        let second = with_results(other, Some(result), &[]);
        assert!(first.canonical_key().is_some());
        assert_eq!(first.canonical_key(), second.canonical_key());
        assert_ne!(first.definition_key(), second.definition_key());
    }

    #[test]
    fn listings_are_outside_every_key() {
        let mut recipe = run(&["a"]);
        let before = recipe.definition_key();
        recipe.inputs[0].listing = Some(BlobId(Digest::of("listing")));
        assert_eq!(recipe.definition_key(), before);
    }

    #[test]
    fn stored_form_round_trips() {
        let recipe = with_results(run(&["a"]), Some(ResultId::fresh()), &[]);
        let text = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), recipe);
    }
}
