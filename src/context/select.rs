//! Selecting: the sources of one instruction become the entries that it writes, digested.
//!
//! `locate` finds what a source names, `tree` what is below it, `content` what files hold; this module
//! decides which entries count, with which mode and owner, and hashes them in their order. What is hashed
//! is exactly what a copy writes, except mtimes: no name of a copied folder itself (its content is copied),
//! no host path, no inode number; hard links as the groups that they form inside one source (but files that
//! git tracks stand for themselves: a checkout has no hard links). A selection is a value; `copy` writes it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FileType, major, minor};
use rustix::io::Errno;

use super::attributes::{self, Attributes};
use super::chmod::Chmod;
use super::content;
use super::folder::NodeRef;
use super::ignore::Ignore;
use super::locate::Located;
use super::stamp::Meta;
use super::tree::{Branch, Tree, join, split};
use super::{Context, ContextError, Request};
use crate::base::digest::{Digest, FieldHasher};
use crate::base::fs::PathError;
use crate::base::listing::{self, Item, Kind, Listing, escape};

/// How entries are chosen and hashed. Its number changes with everything that gives the same tree another digest:
/// rules of ignore files, patterns, links and modes as well as the form below. Digests are remembered under it.
pub(super) const RULES: &str = "shipway selection 1";

/// What one instruction will write.
#[derive(Clone, Debug)]
pub struct Selection {
    digest: Digest,
    pub(super) parts: Vec<Arc<Part>>,
}

/// One thing that a source stands for after wildcards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Its path below the root of the tree, as matched, links not resolved; empty for the tree itself.
    pub path: PathBuf,
    /// Whether it is a folder: then what is in it is copied, not itself.
    pub folder: bool,
}

/// What is written for one [`Source`].
#[derive(Debug)]
pub(super) struct Part {
    source: Source,
    /// What a single file is called at the destination.
    name: Option<Vec<u8>>,
    /// How long the path is that the entries of a folder are relative to.
    base: usize,
    /// The source itself if it is a folder below the root of its tree: the folder that takes its content
    /// takes its time too.
    pub(super) folder: Option<Meta>,
    /// Folders before what is in them, siblings by name.
    pub(super) entries: Vec<Picked>,
}

/// One entry that is written.
#[derive(Debug)]
pub(super) struct Picked {
    /// Below the root of the tree.
    pub(super) path: Box<[u8]>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) held: Held,
    pub(super) attributes: Attributes,
    /// The first entry of its hard-link group, if it is a further one.
    pub(super) same_as: Option<usize>,
    node: NodeRef,
}

/// What an entry holds.
#[derive(Clone, Debug)]
pub(super) enum Held {
    Nothing,
    Bytes { digest: Digest, settled: bool },
    Target(Box<[u8]>),
    Device(u64),
}

/// An entry that counts, before its content is known.
struct Candidate {
    path: Box<[u8]>,
    node: NodeRef,
}

impl Context {
    /// What `request` selects, in the order of its sources. The digests of files come from the stat cache
    /// where their stamps stand.
    pub fn select(&self, request: &Request) -> Result<Selection, ContextError> {
        let filter = Filter::new(request)?;
        let mut parts = Vec::new();
        for source in &request.sources {
            if request.parents {
                parts.push(self.with_parents(source, request, &filter)?);
                continue;
            }
            for located in self.tree.matches(source)? {
                parts.push(self.part(&located, source, request, &filter)?);
            }
        }
        let selection = Selection::new(parts.into_iter().map(Arc::new).collect());
        self.remember(request, &selection);
        Ok(selection)
    }

    /// What `located` stands for. `--exclude` is about what is in a folder, never about the source itself
    /// (BuildKit, observed).
    fn part(
        &self,
        located: &Located,
        pattern: &str,
        request: &Request,
        filter: &Filter,
    ) -> Result<Part, ContextError> {
        let folder = located.node.meta.is_folder();
        let source = Source { path: PathBuf::from(OsStr::from_bytes(&located.path)), folder };
        let (mut candidates, mut name) = (Vec::new(), None);
        let base = start_below(&located.real);
        if folder {
            let skip = |path: &[u8]| filter.skips(path.get(base..).unwrap_or_default());
            let branch = self.tree.below(&located.real, &located.node.matched, &skip)?;
            flatten(&branch, base, filter, &mut candidates);
            if candidates.is_empty() && located.node.excluded {
                return Err(self.tree.missing(&located.real, pattern));
            }
        } else {
            name = Some(split(&located.path).1.to_vec());
            let (path, node) = (located.real.clone().into_boxed_slice(), located.node.clone());
            candidates.push(Candidate { path, node });
        }
        let entries = pick(&self.tree, candidates, request)?;
        if entries.is_empty() && !folder {
            return Err(self.tree.missing(&located.real, pattern));
        }
        let folder = (folder && !located.real.is_empty()).then_some(located.node.meta);
        Ok(Part { source, name, base, folder, entries })
    }

    /// `--parents`: what the pattern matches below the pivot, with the folders above it.
    fn with_parents(&self, source: &str, request: &Request, filter: &Filter) -> Result<Part, ContextError> {
        let (base, pattern) = source.split_once("/./").unwrap_or(("", source));
        let cleaned = super::ignore::clean(&format!("/{pattern}"));
        let include = vec![cleaned.trim_start_matches('/').to_owned()];
        let include = Ignore::from_patterns(&include).map_err(invalid)?;
        let include = if cleaned == "/" { None } else { Some(include) };
        let base_path = super::ignore::clean(&format!("/{base}"));
        let located = self.tree.locate(base_path.trim_start_matches('/').as_bytes(), source)?;
        if !located.node.meta.is_folder() {
            return Err(self.tree.missing(&join(&located.real, pattern.as_bytes()), source));
        }
        let filter = Filter { include, exclude: filter.exclude.clone() };
        let base = start_below(&located.real);
        let skip = |path: &[u8]| filter.skips(path.get(base..).unwrap_or_default());
        let branch = self.tree.below(&located.real, &located.node.matched, &skip)?;
        let mut candidates = Vec::new();
        flatten(&branch, base, &filter, &mut candidates);
        if candidates.is_empty() && !super::pattern::has_wildcard(pattern) {
            return Err(self
                .tree
                .missing(&join(&located.real, cleaned.trim_start_matches('/').as_bytes()), source));
        }
        let source = Source { path: PathBuf::from(source.trim_start_matches('/')), folder: true };
        let entries = pick(&self.tree, candidates, request)?;
        Ok(Part { source, name: None, base, folder: None, entries })
    }
}

fn invalid((pattern, reason): (String, &'static str)) -> ContextError {
    ContextError::Pattern { pattern, reason }
}

/// Where the paths of what lies in `folder` go on below it.
fn start_below(folder: &[u8]) -> usize {
    if folder.is_empty() { 0 } else { folder.len() + 1 }
}

/// `--exclude` and `--parents`, over paths relative to a source.
struct Filter {
    /// Only what matches counts.
    include: Option<Ignore>,
    exclude: Ignore,
}

impl Filter {
    fn new(request: &Request) -> Result<Self, ContextError> {
        let exclude = Ignore::from_patterns(&request.excludes).map_err(invalid)?;
        Ok(Self { include: None, exclude })
    }

    fn shows(&self, relative: &[u8]) -> bool {
        let included = self.include.as_ref().is_none_or(|include| include.excludes(relative));
        included && (self.exclude.is_empty() || !self.exclude.excludes(relative))
    }

    /// Whether nothing in the folder `relative` can count.
    fn skips(&self, relative: &[u8]) -> bool {
        let include = |include: &Ignore| include.excludes(relative) || include.may_match_below(relative);
        let out = !self.exclude.is_empty()
            && self.exclude.excludes(relative)
            && !self.exclude.may_reach_below(relative);
        out || !self.include.as_ref().is_none_or(include)
    }
}

/// Adds what counts of `branch`; the source's own path is `base` bytes of each. A folder that does not count
/// itself is there only for what does in it.
fn flatten(branch: &Branch, base: usize, filter: &Filter, found: &mut Vec<Candidate>) {
    let mut below = branch.below.iter().peekable();
    found.reserve(branch.folder.len());
    for (index, entry) in branch.folder.entries().enumerate() {
        let inner = below.next_if(|(at, _)| *at == index);
        let Some(node) = entry.held() else { continue };
        let path = join(&branch.folder.path, entry.name).into_boxed_slice();
        let counts = !node.excluded && filter.shows(&path[base..]);
        if !counts && inner.is_none() {
            continue;
        }
        let before = found.len();
        found.push(Candidate { path, node });
        if let Some((_, inner)) = inner {
            flatten(inner, base, filter, found);
        }
        if !counts && found.len() == before + 1 {
            found.pop();
        }
    }
}

/// Reads what has to be read, in parallel, and makes the entries. What vanished meanwhile is left out.
fn pick(tree: &Tree, candidates: Vec<Candidate>, request: &Request) -> Result<Vec<Picked>, ContextError> {
    let unread = |candidate: &&Candidate| {
        candidate.node.meta.kind() == FileType::RegularFile && candidate.node.content.get().is_none()
    };
    let unread = candidates.iter().filter(unread);
    let unread: Vec<_> = unread.map(|candidate| (&*candidate.path, &*candidate.node)).collect();
    content::read_all(tree, &unread)?;
    let mut picked: Vec<Picked> = Vec::with_capacity(candidates.len());
    let mut groups: HashMap<(u64, u64), usize> = HashMap::new();
    for candidate in candidates {
        let Some(mut entry) = picked_entry(tree, candidate, request)? else { continue };
        if entry.kind == Kind::File && entry.meta().links > 1 {
            let inode = (entry.meta().stamp.dev, entry.meta().stamp.ino);
            let first = groups.entry(inode).or_insert(picked.len());
            let alone =
                |entry: &Picked| tree.modes.as_ref().is_some_and(|modes| modes.tracks(tree, &entry.path));
            if *first == picked.len() || alone(&entry) {
                // The first of its group, or of none.
            } else if alone(&picked[*first]) {
                *first = picked.len();
            } else {
                entry.same_as = Some(*first);
                entry.held = picked[*first].held.clone();
                entry.node = picked[*first].node.clone();
            }
        }
        picked.push(entry);
    }
    Ok(picked)
}

fn picked_entry(
    tree: &Tree,
    candidate: Candidate,
    request: &Request,
) -> Result<Option<Picked>, ContextError> {
    let Candidate { path, node } = candidate;
    let mut meta = &node.meta;
    let (kind, held) = match meta.kind() {
        FileType::Directory => (Kind::Directory, Held::Nothing),
        FileType::Fifo => (Kind::Fifo, Held::Nothing),
        FileType::CharacterDevice => (Kind::CharacterDevice, Held::Device(meta.device)),
        FileType::BlockDevice => (Kind::BlockDevice, Held::Device(meta.device)),
        FileType::Symlink => match tree.read_link(&path) {
            Ok(target) => (Kind::Link, Held::Target(target.into_boxed_slice())),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                tree.fleets();
                return Ok(None);
            }
            // Something else lies there now: it cannot be left out.
            Err(Errno::INVAL) => return Err(ContextError::Unstable { path: tree.shown(&path) }),
            Err(error) => return Err(PathError::new("read the link", tree.shown(&path), error).into()),
        },
        FileType::RegularFile => {
            let Some(content) = content::content(tree, &path, &node)? else {
                tree.fleets();
                return Ok(None);
            };
            meta = content.meta(&node.meta);
            (Kind::File, Held::Bytes { digest: content.digest, settled: content.settled })
        }
        FileType::Socket | FileType::Unknown => return Ok(None),
    };
    let mode = effective_mode(tree, &path, (meta, kind), request.chmod.as_ref());
    let (uid, gid) = if tree.rootfs && !request.chown { (meta.uid, meta.gid) } else { (0, 0) };
    let attributes = if tree.rootfs { attributes::read(tree, &path)? } else { Attributes::default() };
    Ok(Some(Picked { path, kind, mode, uid, gid, held, attributes, same_as: None, node }))
}

/// Links have no mode of their own.
fn effective_mode(tree: &Tree, path: &[u8], (meta, kind): (&Meta, Kind), chmod: Option<&Chmod>) -> u32 {
    let own = meta.permissions();
    let own = match (&tree.modes, kind) {
        (Some(modes), Kind::File) => modes.of_file(tree, path, own),
        (Some(modes), Kind::Directory) => modes.of_folder(tree, path, own),
        _ => own,
    };
    match (kind, chmod) {
        (Kind::Link, _) => 0o777,
        (_, Some(chmod)) => chmod.apply(own, kind == Kind::Directory),
        (_, None) => own,
    }
}

impl Selection {
    fn new(parts: Vec<Arc<Part>>) -> Self {
        let mut hasher = FieldHasher::new(RULES);
        let mut bytes = Vec::new();
        for part in &parts {
            bytes.clear();
            bytes.reserve(part.entries.len() * 128);
            part.entries.iter().for_each(|entry| entry.encode(part, &mut bytes));
            hasher.number(u64::from(part.source.folder)).field(&bytes);
        }
        Self { digest: hasher.finish(), parts }
    }

    /// The digest of exactly what a copy writes, except mtimes. Equal on every machine, for every user, umask
    /// and checkout path.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The entries, by their paths below the root of the tree: to explain a changed digest with.
    pub fn listing(&self) -> Listing {
        let entries = self.parts.iter().flat_map(|part| part.entries.iter().map(move |entry| (part, entry)));
        Listing::new(entries.map(|(part, entry)| entry.item(part)).collect())
    }

    /// What the sources stand for, in the order of copying. Empty if wildcards matched nothing.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().map(|part| &part.source)
    }

    /// The paths of its folders below the root of the tree.
    pub(super) fn folders(&self) -> impl Iterator<Item = &[u8]> {
        let entries = self.parts.iter().flat_map(|part| &part.entries);
        entries.filter(|entry| entry.kind == Kind::Directory).map(|entry| &*entry.path)
    }

    /// One selection a source, for an instruction that treats some of them differently (ADD of an archive).
    pub fn split(&self) -> Vec<Self> {
        self.parts.iter().map(|part| Self::new(vec![Arc::clone(part)])).collect()
    }

    /// Bytes in its files.
    pub fn size(&self) -> u64 {
        let entries = self.parts.iter().flat_map(|part| &part.entries);
        entries.filter(|entry| entry.kind == Kind::File && entry.same_as.is_none()).map(Picked::size).sum()
    }
}

impl Part {
    /// Whether it is one regular file.
    pub(super) fn single_file(&self) -> Option<&Picked> {
        let first = self.entries.first().filter(|_| !self.source.folder)?;
        (first.kind == Kind::File).then_some(first)
    }

    /// Where `entry` comes to lie below the destination folder, or the name of a single file.
    pub(super) fn relative<'e>(&'e self, entry: &'e Picked) -> &'e [u8] {
        match &self.name {
            Some(name) => name,
            None => &entry.path[self.base..],
        }
    }

    /// The folder that the paths of its entries are relative to, with a slash at the end unless it is the
    /// root of the tree; of what is empty, that root.
    pub(super) fn taken_from(&self) -> &[u8] {
        self.entries.first().map_or(&[], |first| &first.path[..self.base])
    }

    /// Whether it is the content of a folder.
    pub(super) fn is_folder(&self) -> bool {
        self.source.folder
    }
}

impl Picked {
    /// Its state: of a file, the one under which it was digested.
    pub(super) fn meta(&self) -> &Meta {
        self.node.content.get().map_or(&self.node.meta, |content| content.meta(&self.node.meta))
    }

    fn size(&self) -> u64 {
        if self.kind == Kind::File { self.meta().stamp.size } else { 0 }
    }

    /// Its canonical bytes: every field with its length or of fixed length.
    fn encode(&self, part: &Part, bytes: &mut Vec<u8>) {
        fn field(bytes: &mut Vec<u8>, value: &[u8]) {
            bytes.extend((value.len() as u64).to_le_bytes());
            bytes.extend(value);
        }
        field(bytes, part.relative(self));
        bytes.push(self.kind.letter() as u8);
        [self.mode, self.uid, self.gid].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        if let Some(first) = self.same_as {
            bytes.push(b'=');
            return field(bytes, part.relative(&part.entries[first]));
        }
        bytes.push(b' ');
        match &self.held {
            Held::Nothing => {}
            Held::Bytes { digest, .. } => bytes.extend(digest.as_bytes()),
            Held::Target(target) => field(bytes, target),
            Held::Device(device) => bytes.extend(device.to_le_bytes()),
        }
        bytes.extend((self.attributes.len() as u64).to_le_bytes());
        for (name, value) in &self.attributes {
            field(bytes, name);
            field(bytes, value);
        }
    }

    /// It, as a listing has it.
    pub(super) fn item(&self, part: &Part) -> Item {
        let content = match &self.held {
            Held::Nothing => listing::Content::Nothing,
            Held::Bytes { digest, .. } => listing::Content::Bytes(*digest),
            Held::Target(target) => listing::Content::Target(escape(target)),
            Held::Device(device) => listing::Content::Device(major(*device), minor(*device)),
        };
        Item {
            path: escape(&self.path),
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            size: self.size(),
            content,
            attributes: attributes::digest(&self.attributes),
            same_as: self.same_as.map(|first| escape(&part.entries[first].path)),
        }
    }
}
