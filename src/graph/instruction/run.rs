//! RUN: the command, and everything that it sees; what it mounts is in `mount`.

use std::collections::BTreeMap;

use super::super::op::{Op, Run, RunNetwork};
use super::super::request::Entitlement;
use super::super::stage::Made;
use super::{Applying, is_predefined};
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
        let proxies = request.arguments.iter().filter(|(name, _)| is_predefined(name));
        let undeclared = |name: &str| self.state.variable(name).is_none();
        let unkeyed = proxies
            .filter(|(name, _)| undeclared(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
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
        });
        self.step(op, sources, unkeyed);
        let arguments = self.state.arguments.clone();
        self.state.record(run_history(&arguments, &argv), Made::Layer);
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
