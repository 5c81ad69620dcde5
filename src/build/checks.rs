//! The build checks of every Dockerfile that a command reads.
//!
//! The rules are pure (`dockerfile::lint`); here they get what stages begin with (from lowering) and
//! the ignore rules of their context. What several services find in one file is told once. [`check`] is a
//! build that ends before it begins: it follows all stages where no target is named, as BuildKit does.
//! [`parsed`] and [`reached`] give what the outline of a Dockerfile is made of.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::BuildError;
use super::{Builder, lowered, read};
use crate::base::diag::{Diagnostic, Severity, SourceFile};
use crate::context::Ignore;
use crate::graph::{BuildRequest, Extent, Facts, Known, Source, check_dockerfile, facts};

/// A Dockerfile with what its checks found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The services that are built from it with these findings.
    pub services: Vec<String>,
    /// The request with its Dockerfile, unless that could not be read.
    pub source: Option<Source>,
    /// What the stages begin with that are followed.
    pub facts: Facts,
    /// What the checks found, by place; errors where the file makes them errors.
    pub findings: Vec<Diagnostic>,
    /// Why it cannot be built at all.
    pub mistakes: Vec<Diagnostic>,
}

/// Checks the Dockerfiles of the services in `wanted` (all requests if it is empty) and builds nothing.
pub fn check(
    builder: &Builder<'_>,
    requests: &[BuildRequest],
    wanted: &[String],
) -> Result<Vec<Checked>, BuildError> {
    let mut all: Vec<Checked> = Vec::new();
    for request in requests.iter().filter(|request| wanted.is_empty() || wanted.contains(&request.service)) {
        let checked = check_one(builder, requests, &request.service)?;
        let same = |other: &&mut Checked| {
            let file =
                |checked: &Checked| checked.source.as_ref().map(|source| Arc::clone(&source.dockerfile.file));
            file(other) == file(&checked)
                && (&other.findings, &other.mistakes) == (&checked.findings, &checked.mistakes)
        };
        match all.iter_mut().find(same) {
            Some(other) => other.services.extend(checked.services),
            None => all.push(checked),
        }
    }
    Ok(all)
}

fn check_one(builder: &Builder<'_>, requests: &[BuildRequest], service: &str) -> Result<Checked, BuildError> {
    let service = service.to_owned();
    let mut checked = Checked {
        services: vec![service.clone()],
        source: None,
        facts: Facts::default(),
        findings: Vec::new(),
        mistakes: Vec::new(),
    };
    let sources = match read(builder, requests, std::slice::from_ref(&service)) {
        Ok(sources) => sources,
        Err(BuildError::Mistakes(mistakes)) => return Ok(Checked { mistakes, ..checked }),
        Err(error) => return Err(error),
    };
    let known = match lowered(builder, &sources, &mut Known::default(), Extent::Everything, None) {
        Ok((_, warnings, facts)) => {
            checked.findings = warnings;
            facts
        }
        Err(BuildError::Mistakes(mistakes)) => {
            checked.mistakes = mistakes;
            sources.iter().map(facts).collect()
        }
        Err(error) => return Err(error),
    };
    for (source, facts) in sources.into_iter().zip(known).filter(|(source, _)| source.selected) {
        checked.findings.extend(of_source(&source, &facts));
        (checked.source, checked.facts) = (Some(source), facts);
    }
    Ok(checked)
}

/// The requests in `wanted` (all if it is empty) with their Dockerfiles. No image is looked for.
pub fn parsed(
    builder: &Builder<'_>,
    requests: &[BuildRequest],
    wanted: &[String],
) -> Result<Vec<Source>, BuildError> {
    let mut sources = read(builder, requests, wanted)?;
    sources.retain(|source| source.selected);
    Ok(sources)
}

/// The same, each with what the stages begin with that its target needs.
pub fn reached(
    builder: &Builder<'_>,
    requests: &[BuildRequest],
    wanted: &[String],
) -> Result<Vec<(Source, Facts)>, BuildError> {
    let sources = read(builder, requests, wanted)?;
    let (_, _, facts) = lowered(builder, &sources, &mut Known::default(), Extent::Target, None)?;
    Ok(sources.into_iter().zip(facts).filter(|(source, _)| source.selected).collect())
}

/// What the checks find in the sources that a build reaches (`facts` has one a source); each finding once.
pub(super) fn findings(sources: &[Source], facts: &[Facts]) -> Vec<Diagnostic> {
    let (mut findings, mut seen) = (Vec::new(), HashSet::new());
    let reached = |facts: &Facts| facts.stages.iter().any(Option::is_some);
    for (source, facts) in sources.iter().zip(facts).filter(|(_, facts)| reached(facts)) {
        for finding in of_source(source, facts) {
            if seen.insert(identity(&finding)) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// The findings of one source and its parser's own warnings, by place.
fn of_source(source: &Source, facts: &Facts) -> Vec<Diagnostic> {
    let ignore = source.ignore.as_ref().and_then(|(name, text)| {
        // A malformed file stops the build where the context is opened.
        Ignore::parse(&SourceFile::new(name.as_str(), text.as_str())).ok()
    });
    let ignored = |path: &str| ignore.as_ref().is_some_and(|ignore| ignore.leaves_out(path));
    check_dockerfile(source, facts, &ignored)
}

/// What makes two findings one: file, place, rule and message.
pub(super) fn identity(finding: &Diagnostic) -> (String, usize, Option<&'static str>, String) {
    let place = finding.place.as_ref().map(|(span, _)| (span.file.name.clone(), span.range.start));
    let (file, start) = place.unwrap_or_default();
    (file, start, finding.rule, finding.message.clone())
}

/// Whether a finding stops the build.
pub(super) fn stops(findings: &[Diagnostic]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}
