//! What each instruction does to a stage: config, history, and a node where it writes.
//!
//! [`apply`] changes the stage's state by one instruction and returns whether that went well; mistakes
//! are noted in the lowering. A flag or form that the builder cannot carry out yet is refused here, by
//! name and with its place; nothing is parsed and passed over. History lines are written as BuildKit
//! writes them.

mod copy;
mod run;

use std::collections::BTreeMap;

use super::lower::Lowering;
use super::op::{Directory, Node, NodeId, Op};
use super::stage::{Made, StageState};
use crate::base::diag::{Diagnostic, SourceFile, Span};
use crate::dockerfile::{self as df, CommandLine, Instruction, Kind, Pair, Word, words};
use crate::oci::Healthcheck;

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

/// The variables that an instruction declares, if it is an ARG.
pub(super) fn declared(instruction: &Instruction) -> &[Pair] {
    match &instruction.kind {
        Kind::Arg(pairs) => pairs,
        _ => &[],
    }
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
            Kind::OnBuild(trigger) => {
                self.state.config.on_build.push(trigger.trigger.clone());
                self.metadata(format!("ONBUILD {}", trigger.trigger))
            }
            Kind::Maintainer(word) => {
                self.state.author.clone_from(&word.text);
                self.metadata(format!("MAINTAINER {}", word.text))
            }
        }
    }

    // --- instructions that write; RUN, COPY and ADD have files of their own ---

    fn workdir(&mut self, word: &Word) -> Option<()> {
        let path = self.expand(word)?;
        let directory = join(&self.state.directory(), &path);
        self.state.config.working_dir.clone_from(&directory);
        let made = Directory { path: directory.clone(), user: self.state.config.user.clone() };
        self.step(Op::Directory(made), Vec::new(), BTreeMap::new());
        self.state.record(format!("WORKDIR {directory}"), Made::Layer);
        Some(())
    }

    /// Adds a node on top of the file system so far.
    fn step(&mut self, op: Op, sources: Vec<NodeId>, unkeyed_environment: BTreeMap<String, String>) {
        self.state.ordinal += 1;
        let span = Some(self.instruction.span.clone());
        let origin = self.lowering.origin(self.id, self.state.ordinal, &self.instruction.text, span);
        let (parent, platform) = (self.state.node, self.state.platform.clone());
        let node = Node { op, parent, sources, platform, origins: vec![origin], unkeyed_environment };
        self.state.node = Some(self.lowering.graph.add(node));
    }

    fn local(&mut self) -> NodeId {
        let origin = self.lowering.origin(self.id, 0, "build context", None);
        self.lowering.context(self.id, origin)
    }

    // --- instructions that only change the config ---

    /// `BuildKit dispatchArg`: the request's value, else the default, else a global one of that name.
    fn arg(&mut self, pairs: &[Pair]) -> Option<()> {
        let source = self.lowering.source(self.id.0);
        let mut shown = Vec::new();
        for (name, default) in pairs {
            let default_value = match default {
                Some(word) => Some(self.expand(word)?),
                None => None,
            };
            let given = source.request.arguments.get(&name.text).cloned();
            let value = match given.or_else(|| default_value.clone()) {
                Some(value) => Some(value),
                None => self.lowering.globals(source).get(&name.text).cloned(),
            };
            shown.push(match &default_value {
                Some(default) => format!("{}={default}", name.text),
                None => name.text.clone(),
            });
            if let Some(value) = value {
                self.state.variables.push((name.text.clone(), value.clone()));
                self.state.arguments.insert(name.text.clone(), value);
            }
        }
        self.metadata(format!("ARG {}", shown.join(" ")))
    }

    /// All values of one ENV see the variables as they were before it.
    fn env(&mut self, pairs: &[Pair]) -> Option<()> {
        let pairs = self.pairs(pairs)?;
        let line = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        for (name, value) in pairs {
            self.state.set_env(&name, &value);
        }
        self.metadata(format!("ENV {line}"))
    }

    fn label(&mut self, pairs: &[Pair]) -> Option<()> {
        let pairs = self.pairs(pairs)?;
        let line = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        self.state.config.labels.extend(pairs);
        self.metadata(format!("LABEL {line}"))
    }

    fn cmd(&mut self, command: &CommandLine) -> Option<()> {
        self.state.config.cmd = self.command(command);
        self.state.config.args_escaped = matches!(command, CommandLine::Shell(_));
        self.state.command_set = true;
        let line = json(&self.state.config.cmd);
        self.metadata(format!("CMD {line}"))
    }

    fn entrypoint(&mut self, command: &CommandLine) -> Option<()> {
        self.state.config.entrypoint = self.command(command);
        if !self.state.command_set {
            self.state.config.cmd.clear();
        }
        let line = json(&self.state.config.entrypoint);
        self.metadata(format!("ENTRYPOINT {line}"))
    }

    fn expose(&mut self, ports: &[Word]) -> Option<()> {
        let mut shown = Vec::new();
        for word in ports {
            for text in self.words(word)? {
                let Some(expanded) = exposed(&text) else {
                    let message = format!("`{text}` is not a port: PORT[-PORT][/PROTOCOL]");
                    self.lowering.mistake(Diagnostic::error(message).at(word.span.clone(), ""));
                    return None;
                };
                shown.push(text);
                self.state.config.exposed_ports.extend(expanded);
            }
        }
        self.metadata(format!("EXPOSE [{}]", shown.join(" ")))
    }

    fn volume(&mut self, paths: &[Word]) -> Option<()> {
        let paths = self.list(paths)?;
        self.state.config.volumes.extend(paths.iter().cloned());
        self.metadata(format!("VOLUME [{}]", paths.join(" ")))
    }

    fn user(&mut self, word: &Word) -> Option<()> {
        self.state.config.user = self.expand(word)?;
        let line = format!("USER {}", self.state.config.user);
        self.metadata(line)
    }

    fn stop_signal(&mut self, word: &Word) -> Option<()> {
        self.state.config.stop_signal = self.expand(word)?;
        let line = format!("STOPSIGNAL {}", self.state.config.stop_signal);
        self.metadata(line)
    }

    fn shell(&mut self, shell: &[String]) -> Option<()> {
        self.state.config.shell = shell.to_vec();
        self.metadata(format!("SHELL [{}]", shell.join(" ")))
    }

    fn healthcheck(&mut self, check: &df::Healthcheck) -> Option<()> {
        let nanoseconds = |duration: &Option<std::time::Duration>| {
            duration.map_or(0, |duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
        };
        let healthcheck = match check {
            df::Healthcheck::None => Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
            df::Healthcheck::Command {
                command,
                interval,
                timeout,
                start_period,
                start_interval,
                retries,
            } => {
                let test = match command {
                    CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
                    CommandLine::Exec(argv) => ["CMD".to_owned()].into_iter().chain(argv.clone()).collect(),
                };
                Healthcheck {
                    test,
                    interval: nanoseconds(interval),
                    timeout: nanoseconds(timeout),
                    start_period: nanoseconds(start_period),
                    start_interval: nanoseconds(start_interval),
                    retries: i64::from(retries.unwrap_or(0)),
                }
            }
        };
        self.state.config.healthcheck = Some(healthcheck);
        let text = self.instruction.text.clone();
        self.metadata(text)
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

/// `80`, `80/tcp`, `8000-8010/udp` as the config's ports.
fn exposed(text: &str) -> Option<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return None;
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn json(words: &[String]) -> String {
    serde_json::Value::from(words.to_vec()).to_string()
}
