//! RUN: the command, and everything that it sees.

use std::collections::BTreeMap;

use super::super::op::{Op, Run, RunNetwork};
use super::super::stage::Made;
use super::{Applying, is_predefined};
use crate::dockerfile::{self as df, RunForm};

impl Applying<'_, '_, '_> {
    pub(super) fn run(&mut self, run: &df::Run) -> Option<()> {
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
