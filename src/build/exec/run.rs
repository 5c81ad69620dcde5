//! A RUN: its process, what it sees, what it leaves.

use super::super::error::StepError;
use super::super::output::Output;
use super::super::solve::Produced;
use super::super::users::{Accounts, Identity};
use super::{Executor, Upper};
use crate::base::digest::ResultId;
use crate::base::event::StepNumber;
use crate::graph::{Node, NodeId, Run, RunNetwork, StepLimit};
use crate::sandbox::{Limit, Network, Resource, RunSpec};
use rustix::fs::Mode;
use std::path::Path;

impl Executor<'_> {
    /// Runs the command on `parent` and publishes what it wrote.
    pub(super) fn run_command(
        &self,
        id: NodeId,
        run: &Run,
        parent: Option<ResultId>,
        sources: &[Option<ResultId>],
    ) -> Result<Produced, StepError> {
        let upper = self.stage(parent)?;
        let identity = self.prepare(&upper, run)?;
        let mut mounted = self.mounted(id, run, sources)?;
        let mut environment = run.environment.clone();
        environment.extend(self.graph.node(id).unkeyed_environment.clone());
        environment.extend(std::mem::take(&mut mounted.environment));
        environment.entry("HOME".to_owned()).or_insert(identity.home);
        let spec = RunSpec {
            layers: upper.layers.clone(),
            argv: run.argv.clone(),
            env: environment.into_iter().collect(),
            cwd: run.directory.clone().into(),
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups,
            hostname: run.hostname.clone(),
            network: match run.network {
                RunNetwork::Default => Network::Host,
                RunNetwork::Host => Network::Open,
                RunNetwork::None => Network::None,
            },
            hosts: hosts(&run.hostname, &run.extra_hosts),
            resolv_conf: self.builder.options.resolv_conf.clone(),
            shm_size: run.shm_size,
            limits: self.limits(self.graph.node(id)),
            mounts: std::mem::take(&mut mounted.mounts),
            insecure: run.insecure,
        };
        let mut output = Output::new(self.builder.events, StepNumber(id.0));
        let exit = self.builder.sandbox.run(&spec, &mut output, self.builder.cancel);
        drop(mounted);
        let exit = match exit {
            Err(_) if self.builder.cancel.is_cancelled() => return Err(StepError::Cancelled),
            exit => exit?,
        };
        if !exit.is_success() {
            return Err(StepError::Exit { exit, output: output.tail() });
        }
        self.publish(upper, parent, Vec::new())
    }

    /// The limits of the first service that wants the step: they are no part of what it is.
    fn limits(&self, node: &Node) -> Vec<Limit> {
        let service = node.origins.first().map(|origin| origin.service.as_str());
        let source =
            service.and_then(|name| self.sources.iter().find(|source| source.request.service == name));
        source.into_iter().flat_map(|source| &source.request.limits).filter_map(limit).collect()
    }

    /// Looks the user up and makes the working directory if it is missing, as runc does.
    fn prepare(&self, upper: &Upper, run: &Run) -> Result<Identity, StepError> {
        let root = self.builder.sandbox.root(&upper.layers)?;
        let identity = Accounts::read(&root)?.process(&run.user)?;
        if root.stat(Path::new(&run.directory), true)?.is_none() {
            root.create_directories(Path::new(&run.directory), Mode::from_raw_mode(0o755), (0, 0))?;
        }
        Ok(identity)
    }
}

/// A limit of the request as the sandbox sets it.
fn limit(limit: &StepLimit) -> Option<Limit> {
    let resource = Resource::ALL.into_iter().find(|resource| resource.name() == limit.name)?;
    // A negative number is no limit.
    Some(Limit { resource, soft: u64::try_from(limit.soft).ok(), hard: u64::try_from(limit.hard).ok() })
}

/// The content of `/etc/hosts` in a RUN.
fn hosts(hostname: &str, extra: &[(String, String)]) -> Vec<u8> {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    text.push_str(&format!("127.0.1.1\t{hostname}\n"));
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text.into_bytes()
}
