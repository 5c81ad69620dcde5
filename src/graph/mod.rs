//! L3: from requests and Dockerfiles to one build graph; what a key contains; why a step ran. All pure.
//!
//! [`requests_of`] reads a compose project, [`lower`] turns parsed Dockerfiles into a [`Graph`] of
//! operations with one [`Root`] a request, [`recipe`] says what a node's keys contain, and
//! [`MissReason`]s come from comparing two [`Recipe`]s. Nothing here touches disk, network or clock.

use std::sync::Arc;

use crate::base::diag::{Diagnostic, SourceFile};
use crate::dockerfile::Dockerfile;

mod caching;
mod elsewhere;
mod epoch;
mod instruction;
mod limit;
mod lower;
mod mount;
mod named;
mod op;
mod reason;
mod recipe;
mod request;
mod settings;
mod stage;
mod trust;
mod wanted;

#[cfg(test)]
mod tests;

pub use crate::dockerfile::Facts;
pub use caching::{CachePlace, CacheSource, CacheTarget, InvalidCache};
pub use elsewhere::checkout_of;
pub use epoch::Epoch;
pub use limit::StepLimit;
pub use lower::{Extent, Lowered, Source, facts, lower};
pub use mount::{CacheSharing, FileAttributes, RunMount, RunMountKind, literal};
pub use named::{Layout, NamedContext, RemoteContext, context_name};
pub use op::{
    BaseImage, ContextSpec, Copy, Directory, Fetch, Graph, Local, Node, NodeId, Op, Origin, Pull, Run,
    RunNetwork, Take, WrittenFile, chain_id,
};
pub use reason::{Cause, MissReason, Reasons, Untold};
pub use recipe::{FORMAT, HOSTNAME, Input, OpRecipe, Recipe, Role, Selected, recipe, with_results};
pub use request::{BuildRequest, DockerfileSource, Entitlement, SecretSource, remote_context, requests_of};
pub use settings::FileModes;
pub use stage::{HistoryStep, ImageDraft, Made};
pub use wanted::{FileSource, ImageName, Images, Known, KnownFile, Wanted};

/// Parses a Dockerfile for a [`Source`]; every mistake in it, or the file with its warnings.
pub fn parse_dockerfile(file: &Arc<SourceFile>) -> Result<Dockerfile, Vec<Diagnostic>> {
    crate::dockerfile::parse(file)
}

/// What the build checks find in a source's Dockerfile, and its parser's own warnings, by place. `ignored`
/// says whether the ignore file leaves out a path of the context.
pub fn check_dockerfile(source: &Source, facts: &Facts, ignored: &dyn Fn(&str) -> bool) -> Vec<Diagnostic> {
    let mut findings = crate::dockerfile::lint::check(&source.dockerfile, facts, ignored);
    findings.extend(source.dockerfile.warnings.iter().filter(|warning| warning.rule.is_none()).cloned());
    findings.sort_by_key(|finding| finding.place.as_ref().map_or(0, |(span, _)| span.range.start));
    findings
}

/// What one request results in.
#[derive(Clone, Debug)]
pub struct Root {
    /// Index into the sources that were lowered.
    pub source: usize,
    /// The node whose file system the image has; none for an image without layers.
    pub node: Option<NodeId>,
    /// The image but for its layers.
    pub draft: ImageDraft,
    /// The `SOURCE_DATE_EPOCH` of its build.
    pub epoch: Option<Epoch>,
}
