//! RUN: the command, and everything that it sees; what it mounts is in `mount`.

use std::collections::BTreeMap;

use super::super::op::{Op, Run, RunNetwork};
use super::super::recipe::HOSTNAME;
use super::super::request::Entitlement;
use super::super::stage::Made;
use super::{Applying, SANDBOX_HOSTNAME, history, is_predefined};
use crate::base::diag::Diagnostic;
use crate::dockerfile::{self as df, RunForm};

impl Applying<'_, '_, '_> {
    pub(super) fn run(&mut self, run: &df::Run) -> Option<()> {
        if !run.devices.is_empty() {
            return self.refuse_flag("device", &run.flags);
        }
        let network = self.network(run)?;
        let insecure = run.security == Some(df::RunSecurity::Insecure);
        if insecure {
            self.entitled(Entitlement::SecurityInsecure, "security", run)?;
        }
        let mut mounted = self.mounts(&run.mounts)?;
        let argv = match run.form() {
            RunForm::Exec(argv) => argv.to_vec(),
            RunForm::Shell(text) => self.in_shell(&text),
            RunForm::Script(heredoc) => {
                let command = mounted.script(heredoc);
                self.in_shell(&command)
            }
        };
        let request = &self.lowering.source(self.id.0).request;
        let unkeyed = proxies(&request.arguments);
        let mut environment = self.state.environment();
        if let Some(socket) = mounted.agent() {
            environment.entry("SSH_AUTH_SOCK".to_owned()).or_insert(socket);
        }
        let (mounts, sources) = mounted.in_order();
        let op = Op::Run(Run {
            argv: argv.clone(),
            environment,
            directory: self.state.directory(),
            user: self.state.config.user.clone(),
            network,
            extra_hosts: request.extra_hosts.clone(),
            shm_size: request.shm_size,
            mounts,
            insecure,
            hostname: hostname(&request.arguments),
        });
        self.step(op, sources, unkeyed);
        let line = history::run(&self.state.declared(), &argv);
        self.state.record(line, Made::Layer);
        Some(())
    }

    /// The network that the flag asks for, else the request's.
    fn network(&mut self, run: &df::Run) -> Option<RunNetwork> {
        match run.network {
            None => Some(self.lowering.source(self.id.0).request.network),
            Some(df::RunNetwork::Default) => Some(RunNetwork::Default),
            Some(df::RunNetwork::None) => Some(RunNetwork::None),
            Some(df::RunNetwork::Host) => {
                self.entitled(Entitlement::NetworkHost, "network", run)?;
                Some(RunNetwork::Host)
            }
        }
    }

    /// Notes a mistake if the request does not allow what a flag asks for.
    fn entitled(&mut self, wanted: Entitlement, flag: &str, run: &df::Run) -> Option<()> {
        if self.lowering.source(self.id.0).request.entitlements.contains(&wanted) {
            return Some(());
        }
        let place = run.flags.iter().find(|(name, _)| name.trim_start_matches('-') == flag);
        let span = place.map_or_else(|| self.instruction.span.clone(), |(_, span)| span.clone());
        let name = wanted.name();
        let message = format!("{name} is not allowed: this step needs the entitlement `{name}`");
        let help =
            format!("allow it with `--allow {name}`, or with `entitlements: [{name}]` in the compose file");
        self.lowering.mistake(Diagnostic::error(message).at(span, "").help(help));
        None
    }
}

/// The proxy variables that the build is given, under both spellings of their names; as BuildKit has it
/// they come on top of what the image sets. A declared one is in the environment and the key besides.
fn proxies(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let given = given.iter().filter(|(name, value)| is_predefined(name) && !value.is_empty());
    given
        .flat_map(|(name, value)| {
            [name.to_uppercase(), name.to_lowercase()].map(|name| (name, value.clone()))
        })
        .collect()
}

/// The hostname that a command sees.
fn hostname(arguments: &BTreeMap<String, String>) -> String {
    let given = arguments.get(SANDBOX_HOSTNAME).filter(|name| !name.is_empty());
    given.map_or_else(|| HOSTNAME.to_owned(), Clone::clone)
}
