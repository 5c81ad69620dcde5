//! Lowering of what is neither a stage nor an image by name: named contexts, repositories, files.
//!
//! A named context stands in for the image or stage of its name: as the base of a stage (a folder or
//! repository is then a file system of its own, over nothing), and as what COPY and mounts read. What is
//! not known yet is asked for, as images are ([`super::wanted`]).

use std::collections::BTreeMap;

use super::lower::{Lowering, StageId};
use super::named::{Layout, NamedContext, RemoteContext, context_name};
use super::op::{ContextSpec, Copy, Fetch, Local, Node, NodeId, Op, Origin, Take};
use super::stage::{Made, StageState};
use super::wanted::{FileSource, ImageName, Wanted};
use crate::base::diag::{Diagnostic, Span};
use crate::remote::{Checkout, GitSource, file_name};

/// Where something is named, for messages and for the history of steps.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) span: &'p Span,
    /// The instruction.
    pub(super) text: &'p str,
}

/// What a named context gives to whoever reads it.
pub(super) enum Given {
    /// Files: a context or a file system.
    Files(NodeId),
    /// An image, whose file system may be empty.
    Image(Box<StageState>),
}

impl Lowering<'_> {
    /// The named context that stands in for `name`, if the request has one.
    pub(super) fn named(&self, id: StageId, name: &str) -> Option<NamedContext> {
        let contexts = &self.source(id.0).request.contexts;
        if contexts.is_empty() { None } else { contexts.get(&context_name(name)).cloned() }
    }

    /// What a named context gives; `None` where something is wrong or wanted, which has been noted.
    pub(super) fn given(&mut self, id: StageId, named: &NamedContext, place: Place<'_>) -> Option<Given> {
        match named {
            NamedContext::Folder(folder) => {
                let source = self.source(id.0);
                let (ignore, modes) = (source.ignores.get(folder).cloned(), source.request.modes);
                let spec = ContextSpec { folder: folder.clone(), ignore, modes };
                Some(Given::Files(self.folder(id, spec, place)))
            }
            NamedContext::Git(source) => {
                let keep = source.keep_git_dir.unwrap_or(false);
                self.repository(id, source, keep, None, place).map(Given::Files)
            }
            NamedContext::Image(reference) => {
                let platform = self.source(id.0).request.platform.clone();
                let name = ImageName { name: reference.clone(), platform };
                self.image_of(id, &name, place).map(|state| Given::Image(Box::new(state)))
            }
            NamedContext::Layout(layout) => {
                self.layout(id, layout, place).map(|state| Given::Image(Box::new(state)))
            }
            NamedContext::Service(name) => {
                let Some(other) = self.request_of(name) else {
                    let message = format!("no service `{name}` is built by this command");
                    self.mistake(
                        Diagnostic::error(message).at(place.span.clone(), "its context is named here"),
                    );
                    return None;
                };
                let state = self.built_by(other)?;
                Some(Given::Image(Box::new(state.built(&self.source(other).request.labels))))
            }
        }
    }

    /// A stage that begins with a named context: files alone are a file system over nothing.
    pub(super) fn begun_with(
        &mut self,
        id: StageId,
        named: &NamedContext,
        place: Place<'_>,
    ) -> Option<StageState> {
        match self.given(id, named, place)? {
            Given::Image(state) => Some(*state),
            Given::Files(files) => {
                let mut state = StageState::scratch(&self.source(id.0).request.platform);
                state.node = Some(self.file_system(id, files, place));
                state.record(place.text, Made::Layer);
                Some(state)
            }
        }
    }

    /// Files as a file system: those of a context are copied into one.
    fn file_system(&mut self, id: StageId, files: NodeId, place: Place<'_>) -> NodeId {
        if !matches!(self.graph.node(files).op, Op::Local(_)) {
            return files;
        }
        let op = Op::Copy(Copy {
            takes: vec![Take { patterns: vec![".".to_owned()], unpack: false }],
            files: Vec::new(),
            destination: "/".to_owned(),
            owner: None,
            mode: None,
            excludes: Vec::new(),
            parents: false,
        });
        self.rootless(id, op, vec![files], place)
    }

    /// The node of the build context: a folder, or what stands for one.
    pub(super) fn build_context(&mut self, id: StageId) -> NodeId {
        let origin = self.origin(id, 0, "build context", None);
        let source = self.source(id.0);
        let request = &source.request;
        let op = match (&request.remote, &source.checkout) {
            (Some(RemoteContext::Git(_)), Some(checkout)) => Op::Fetch(Fetch::Git(checkout.clone())),
            (Some(RemoteContext::Archive(digest)), _) => Op::Fetch(Fetch::Archive { digest: *digest }),
            _ => {
                let spec = source.folder();
                let context = self.graph.context(spec);
                Op::Local(Local { context })
            }
        };
        self.rootless_from(id, op, Vec::new(), origin)
    }

    fn folder(&mut self, id: StageId, spec: ContextSpec, place: Place<'_>) -> NodeId {
        let context = self.graph.context(spec);
        self.rootless(id, Op::Local(Local { context }), Vec::new(), place)
    }

    /// The files of a repository. `checksum` is what ADD says of the commit.
    pub(super) fn repository(
        &mut self,
        id: StageId,
        source: &GitSource,
        keep_git_dir: bool,
        checksum: Option<&str>,
        place: Place<'_>,
    ) -> Option<NodeId> {
        let Some(commit) = self.known.commits.get(source).cloned() else {
            self.want(Wanted::Commit(source.clone()), place.span);
            return None;
        };
        for wanted in [source.checksum.as_deref(), checksum].into_iter().flatten() {
            let found = [Some(&commit.id), commit.tag.as_ref()];
            if !found.into_iter().flatten().any(|id| id.starts_with(wanted)) {
                let message = format!("{source} is the commit {}, not {wanted}", commit.id);
                self.mistake(Diagnostic::error(message).at(place.span.clone(), ""));
                return None;
            }
        }
        let op = Op::Fetch(Fetch::Git(checkout_of(source, &commit.id, keep_git_dir)));
        Some(self.rootless(id, op, Vec::new(), place))
    }

    /// The file behind a URL, and the name that it has in its file system.
    pub(super) fn file(
        &mut self,
        id: StageId,
        source: FileSource,
        place: Place<'_>,
    ) -> Option<(NodeId, String)> {
        let Some(known) = self.known.files.get(&source).cloned() else {
            self.want(Wanted::File(source), place.span);
            return None;
        };
        let name = file_name(&source.url);
        let fetch = Fetch::File {
            url: source.url,
            name: name.clone(),
            digest: known.digest,
            modified: known.modified,
        };
        Some((self.rootless(id, Op::Fetch(fetch), Vec::new(), place), name))
    }

    fn layout(&mut self, id: StageId, layout: &Layout, place: Place<'_>) -> Option<StageState> {
        let Some(image) = self.known.layouts.get(layout).cloned() else {
            self.want(Wanted::Layout(layout.clone()), place.span);
            return None;
        };
        Some(self.pulled(id, &image, place))
    }

    /// A node that starts from nothing.
    fn rootless(&mut self, id: StageId, op: Op, sources: Vec<NodeId>, place: Place<'_>) -> NodeId {
        let origin = self.origin(id, 0, place.text, Some(place.span.clone()));
        self.rootless_from(id, op, sources, origin)
    }

    fn rootless_from(&mut self, id: StageId, op: Op, sources: Vec<NodeId>, origin: Origin) -> NodeId {
        let platform = self.source(id.0).request.platform.clone();
        self.graph.add(Node {
            op,
            parent: None,
            sources,
            platform,
            origins: vec![origin],
            unkeyed_environment: BTreeMap::new(),
        })
    }
}

/// What is checked out of a source whose commit is known.
pub fn checkout_of(source: &GitSource, commit: &str, keep_git_dir: bool) -> Checkout {
    Checkout {
        remote: source.remote.clone(),
        reference: source.reference.clone(),
        commit: commit.to_owned(),
        folder: source.folder.clone(),
        keep_git_dir,
        submodules: source.submodules.unwrap_or(true),
    }
}
