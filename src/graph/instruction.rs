//! What each instruction does to a stage: config, history, and a node where it writes.
//!
//! [`apply`] changes the stage's state by one instruction and returns whether that went well; mistakes
//! are noted in the lowering. A flag or form that the builder cannot carry out yet is refused here, by
//! name and with its place; nothing is parsed and passed over. History lines are written as BuildKit
//! writes them.

use std::collections::BTreeMap;

use super::lower::Lowering;
use super::op::{Copy, Directory, Node, NodeId, Op, Run, RunNetwork, Take, WrittenFile};
use super::stage::{Made, StageState};
use crate::base::diag::{Diagnostic, SourceFile, Span};
use crate::dockerfile::{self as df, CommandLine, Instruction, Kind, Pair, RunForm, Word, words};
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

    // --- instructions that write ---

    fn run(&mut self, run: &df::Run) -> Option<()> {
        for (flag, refused) in [
            ("mount", !run.mounts.is_empty()),
            ("device", !run.devices.is_empty()),
            ("security", run.security == Some(df::RunSecurity::Insecure)),
            ("network", run.network == Some(df::RunNetwork::Host)),
        ] {
            if refused {
                return self.refuse_flag(flag, &run.flags);
            }
        }
        let argv = match run.form() {
            RunForm::Exec(argv) => argv.to_vec(),
            RunForm::Shell(text) => self.in_shell(&text),
            RunForm::Script(heredoc) => {
                return self.refuse("`RUN` with a heredoc that begins with `#!`", &heredoc.span);
            }
        };
        let request = &self.lowering.source(self.id.0).request;
        let network = match run.network {
            None => request.network,
            Some(df::RunNetwork::None) => RunNetwork::None,
            Some(df::RunNetwork::Default | df::RunNetwork::Host) => RunNetwork::Default,
        };
        let proxies = request.arguments.iter().filter(|(name, _)| is_predefined(name));
        let undeclared = |name: &str| self.state.variable(name).is_none();
        let unkeyed = proxies
            .filter(|(name, _)| undeclared(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let op = Op::Run(Run {
            argv: argv.clone(),
            environment: self.state.environment(),
            directory: self.state.directory(),
            user: self.state.config.user.clone(),
            network,
            extra_hosts: request.extra_hosts.clone(),
            shm_size: request.shm_size,
        });
        self.step(op, Vec::new(), unkeyed);
        let arguments = self.state.arguments.clone();
        self.state.record(run_history(&arguments, &argv), Made::Layer);
        Some(())
    }

    fn copy(&mut self, copy: &df::Copy) -> Option<()> {
        if copy.link {
            return self.refuse_flag("link", &copy.flags);
        }
        let destination = self.destination(&copy.destination)?;
        let owner = self.optional(copy.chown.as_ref())?;
        let mode = self.optional(copy.chmod.as_ref())?;
        let excludes = self.list(&copy.excludes)?;
        let files = self.heredocs(&copy.heredocs)?;
        let (mut takes, mut sources) = (Vec::new(), Vec::new());
        if !copy.sources.is_empty() {
            takes.push(Take { patterns: self.list(&copy.sources)?, unpack: false });
            sources.push(match &copy.from {
                Some(from) => {
                    let text = self.instruction.text.clone();
                    match self.lowering.copy_source(self.id, from, &text)? {
                        Some(node) => node,
                        None => return self.empty_source(from),
                    }
                }
                None => self.local(),
            });
        }
        let op = Copy { takes, files, destination, owner, mode, excludes, parents: copy.parents };
        self.step(Op::Copy(op), sources, BTreeMap::new());
        self.copied("COPY")
    }

    fn add(&mut self, add: &df::Add) -> Option<()> {
        for (flag, refused) in [
            ("link", add.link),
            ("checksum", add.checksum.is_some()),
            ("keep-git-dir", add.keep_git_dir.is_some()),
            ("unpack", add.unpack == Some(true)),
        ] {
            if refused {
                return self.refuse_flag(flag, &add.flags);
            }
        }
        let destination = self.destination(&add.destination)?;
        let owner = self.optional(add.chown.as_ref())?;
        let mode = self.optional(add.chmod.as_ref())?;
        let excludes = self.list(&add.excludes)?;
        let files = self.heredocs(&add.heredocs)?;
        let (mut takes, mut sources) = (Vec::new(), Vec::new());
        if !add.sources.is_empty() {
            let patterns = self.list(&add.sources)?;
            if let Some(remote) = patterns.iter().position(|source| is_remote(source)) {
                let span = add.sources.get(remote).map_or(&self.instruction.span, |word| &word.span);
                return self.refuse("`ADD` from a URL or a git repository", &span.clone());
            }
            takes.push(Take { patterns, unpack: add.unpack.is_none() });
            sources.push(self.local());
        }
        let op = Copy { takes, files, destination, owner, mode, excludes, parents: false };
        self.step(Op::Copy(op), sources, BTreeMap::new());
        self.copied("ADD")
    }

    /// The files of heredocs.
    fn heredocs(&mut self, heredocs: &[df::Heredoc]) -> Option<Vec<WrittenFile>> {
        let mut files = Vec::new();
        for heredoc in heredocs {
            let content = if heredoc.expand {
                let state = &*self.state;
                match words::expand_heredoc(&heredoc.content, &|name| state.variable(name)) {
                    Ok(content) => content,
                    Err(error) => {
                        let word = Word::new(heredoc.content.clone(), heredoc.span.clone());
                        self.lowering.mistake(error.diagnostic(&word));
                        return None;
                    }
                }
            } else {
                heredoc.content.clone()
            };
            files.push(WrittenFile { name: heredoc.name.clone(), content });
        }
        Some(files)
    }

    fn copied(&mut self, name: &str) -> Option<()> {
        let words = self.instruction.text.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim());
        let line = format!("{name} {words} # buildkit");
        self.state.record(line, Made::Layer);
        Some(())
    }

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

    /// An absolute destination; a trailing slash (or `.`) stays a trailing slash.
    fn destination(&mut self, word: &Word) -> Option<String> {
        let path = self.expand(word)?;
        let directory = path.ends_with('/') || path == "." || path.ends_with("/.") || path.ends_with("/..");
        let joined = join(&self.state.directory(), &path);
        Some(if directory && joined != "/" { format!("{joined}/") } else { joined })
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

    fn empty_source(&mut self, from: &Word) -> Option<()> {
        let message = format!("`{}` has no files to copy", from.text);
        self.lowering.mistake(Diagnostic::error(message).at(from.span.clone(), ""));
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

/// What `ADD` fetches instead of reading it from the context.
fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git@", "git://", "ssh://"].iter().any(|prefix| source.starts_with(prefix))
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

/// `RUN |1 A=b /bin/sh -c text # buildkit`.
fn run_history(arguments: &BTreeMap<String, String>, argv: &[String]) -> String {
    let mut line = String::from("RUN ");
    if !arguments.is_empty() {
        line.push_str(&format!("|{} ", arguments.len()));
        for (name, value) in arguments {
            line.push_str(&format!("{name}={value} "));
        }
    }
    line.push_str(&argv.join(" "));
    line.push_str(" # buildkit");
    line
}

fn json(words: &[String]) -> String {
    serde_json::Value::from(words.to_vec()).to_string()
}
