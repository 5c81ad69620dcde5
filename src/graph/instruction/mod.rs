//! What each instruction does to a stage: config, history, and a node where it writes.
//!
//! [`apply`] changes the stage's state by one instruction and returns whether that went well; mistakes
//! are noted in the lowering. A flag or form that the builder cannot carry out yet is refused here, by
//! name and with its place; nothing is parsed and passed over. History lines are written as BuildKit
//! writes them.

mod config;
mod copy;
mod history;
mod mount;
mod ports;
mod run;
mod workdir;

use std::collections::BTreeMap;

use super::lower::Lowering;
use super::op::{Directory, Node, NodeId, Op};
use super::stage::{Made, StageState};
use crate::base::diag::{Diagnostic, SourceFile, Span};
use crate::dockerfile::lint::CHECK_ARGUMENT;
use crate::dockerfile::{self as df, CommandLine, Instruction, Kind, Pair, Word, words};

/// Usable without a declaration, in both cases of letters; outside keys and history unless declared
/// (dockerfile reference, "Predefined ARGs").
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Where triggers of a base image are shown to stand.
const TRIGGERS: &str = "ONBUILD of the base image";

type StageId = (usize, usize);

/// Whether an argument needs no declaration.
pub(super) fn is_predefined(name: &str) -> bool {
    PROXIES.contains(&name.to_ascii_uppercase().as_str())
}

/// The hostname of every RUN.
const SANDBOX_HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// Arguments that the builder itself reads.
const READ_BY_BUILDER: [&str; 4] =
    [mount::CACHE_NAMESPACE, SANDBOX_HOSTNAME, CHECK_ARGUMENT, super::epoch::SOURCE_DATE_EPOCH];

/// Arguments of BuildKit's that change nothing here, and why.
const WITHOUT_EFFECT: [(&str, &str); 4] = [
    ("BUILDKIT_BUILD_NAME", "steps are shown by service and stage"),
    ("BUILDKIT_INLINE_CACHE", "results are kept in the store, and no image carries a cache"),
    ("BUILDKIT_MULTI_PLATFORM", "an image is built for one platform"),
    ("BUILDKIT_SYNTAX", "the grammar of the built-in frontend is used"),
];

/// Whether an argument is one that the builder itself reads.
pub(super) fn is_read_by_builder(name: &str) -> bool {
    READ_BY_BUILDER.contains(&name)
}

/// Why an argument of BuildKit's changes nothing here, if it is one and asks for something.
pub(super) fn without_effect(name: &str, value: &str) -> Option<&'static str> {
    let (_, why) = WITHOUT_EFFECT.iter().find(|(known, _)| *known == name)?;
    let asks_for_nothing = ["", "0", "false", "dockerfile.v0"].contains(&value)
        || value.trim_start_matches("docker.io/").starts_with("docker/dockerfile");
    Some(why).filter(|_| !asks_for_nothing).copied()
}

/// Whether BuildKit knows an argument that changes nothing here.
pub(super) fn is_without_effect(name: &str) -> bool {
    WITHOUT_EFFECT.iter().any(|(known, _)| *known == name)
}

/// A base image's trigger as instructions.
pub(super) fn trigger(text: &str) -> Result<Vec<Instruction>, Vec<Diagnostic>> {
    let file = SourceFile::new(TRIGGERS, format!("FROM scratch\n{text}\n"));
    let parsed = df::parse(&file)?;
    Ok(parsed.stages.into_iter().flat_map(|stage| stage.instructions).collect())
}

/// Applies one instruction. False if something in it is wrong or wanted, which has been noted.
pub(super) fn apply(
    lowering: &mut Lowering<'_>,
    id: StageId,
    state: &mut StageState,
    instruction: &Instruction,
) -> bool {
    Applying { lowering, id, state, instruction }.apply().is_some()
}

struct Applying<'l, 'a, 's> {
    lowering: &'l mut Lowering<'a>,
    id: StageId,
    state: &'s mut StageState,
    instruction: &'s Instruction,
}

impl Applying<'_, '_, '_> {
    fn apply(&mut self) -> Option<()> {
        match &self.instruction.kind {
            Kind::Add(add) => self.add(add),
            Kind::Copy(copy) => self.copy(copy),
            Kind::Run(run) => self.run(run),
            Kind::Workdir(word) => self.workdir(word),
            Kind::Arg(pairs) => self.arg(pairs),
            Kind::Env(pairs) => self.env(pairs),
            Kind::Label(pairs) => self.label(pairs),
            Kind::Cmd(command) => self.cmd(command),
            Kind::Entrypoint(command) => self.entrypoint(command),
            Kind::Expose(ports) => self.expose(ports),
            Kind::Volume(paths) => self.volume(paths),
            Kind::User(word) => self.user(word),
            Kind::StopSignal(word) => self.stop_signal(word),
            Kind::Shell(shell) => self.shell(shell),
            Kind::Healthcheck(check) => self.healthcheck(check),
            // It leaves no line in the history.
            Kind::OnBuild(trigger) => {
                self.state.config.on_build.push(trigger.trigger.clone());
                Some(())
            }
            Kind::Maintainer(word) => {
                self.state.author.clone_from(&word.text);
                self.metadata(format!("MAINTAINER {}", word.text))
            }
        }
    }

    /// Adds a node on top of the file system so far.
    fn step(&mut self, op: Op, sources: Vec<NodeId>, unkeyed_environment: BTreeMap<String, String>) {
        let text = self.instruction.text.clone();
        self.step_called(&text, op, sources, unkeyed_environment);
    }

    fn step_called(
        &mut self,
        text: &str,
        op: Op,
        sources: Vec<NodeId>,
        unkeyed_environment: BTreeMap<String, String>,
    ) {
        self.state.ordinal += 1;
        let span = Some(self.instruction.span.clone());
        let origin = self.lowering.origin(self.id, self.state.ordinal, text, span);
        let (parent, platform) = (self.state.node, self.state.platform.clone());
        let node = Node { op, parent, sources, platform, origins: vec![origin], unkeyed_environment };
        self.state.node = Some(self.lowering.graph.add(node));
    }

    /// The empty file system, as something to copy from.
    fn nothing(&mut self) -> NodeId {
        let origin = self.lowering.origin(self.id, 0, "scratch", None);
        let op = Op::Directory(Directory { path: "/".to_owned(), user: String::new() });
        let (platform, unkeyed_environment) = (self.state.platform.clone(), BTreeMap::new());
        let sources = Vec::new();
        let node = Node { op, parent: None, sources, platform, origins: vec![origin], unkeyed_environment };
        self.lowering.graph.add(node)
    }

    fn local(&mut self) -> NodeId {
        self.lowering.build_context(self.id)
    }

    fn metadata(&mut self, line: String) -> Option<()> {
        self.state.record(line, Made::Nothing);
        Some(())
    }

    // --- words ---

    fn expand(&mut self, word: &Word) -> Option<String> {
        let state = &*self.state;
        let source = self.lowering.source(self.id.0);
        self.lowering.expand(source, word, &|name| state.variable(name))
    }

    fn optional(&mut self, word: Option<&Word>) -> Option<Option<String>> {
        match word {
            Some(word) => self.expand(word).map(Some),
            None => Some(None),
        }
    }

    fn list(&mut self, all: &[Word]) -> Option<Vec<String>> {
        all.iter().map(|word| self.expand(word)).collect()
    }

    /// A word that may become several.
    fn words(&mut self, word: &Word) -> Option<Vec<String>> {
        let escape = self.lowering.source(self.id.0).dockerfile.escape();
        let state = &*self.state;
        match words::expand_to_list(&word.text, &|name| state.variable(name), escape) {
            Ok(list) => Some(list),
            Err(error) => {
                self.lowering.mistake(error.diagnostic(word));
                None
            }
        }
    }

    fn pairs(&mut self, pairs: &[Pair]) -> Option<Vec<(String, String)>> {
        let mut expanded = Vec::new();
        for (name, value) in pairs {
            let name = self.expand(name)?;
            let value = self.optional(value.as_ref())?.unwrap_or_default();
            expanded.push((name, value));
        }
        Some(expanded)
    }

    fn command(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(argv) => argv.clone(),
            CommandLine::Shell(text) => self.in_shell(text),
        }
    }

    fn in_shell(&self, text: &str) -> Vec<String> {
        let default = ["/bin/sh".to_owned(), "-c".to_owned()];
        let shell = match self.state.config.shell.as_slice() {
            [] => &default[..],
            shell => shell,
        };
        shell.iter().cloned().chain([text.to_owned()]).collect()
    }

    // --- refusals ---

    fn refuse_flag(&mut self, flag: &str, flags: &[(&'static str, Span)]) -> Option<()> {
        let place = flags.iter().find(|(name, _)| name.trim_start_matches('-') == flag);
        let span = place.map_or_else(|| self.instruction.span.clone(), |(_, span)| span.clone());
        self.refuse(&format!("`{} --{flag}`", self.instruction.name()), &span)
    }

    fn refuse(&mut self, what: &str, span: &Span) -> Option<()> {
        self.lowering.mistake(Diagnostic::error(format!("not supported yet: {what}")).at(span.clone(), ""));
        None
    }
}

/// `path` from `directory`, without `.`, `..` and doubled slashes.
fn join(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { directory };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
