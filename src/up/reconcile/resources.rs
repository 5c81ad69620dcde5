//! Networks, volumes and orphans: what is made, made anew, removed, or only remarked upon.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::diag::Diagnostic;
use crate::compose::{MountKind, Service};
use crate::engine::{Attachment, Container, Network, NetworkSpec, State};

use super::super::names;
use super::super::observe::{is_oneoff, service_of};
use super::super::plan::{Action, Cause, StepId};
use super::super::spec;
use super::Draft;
use super::fate::Fate;

impl<'a> Draft<'a> {
    /// Every network that the services use.
    pub(super) fn networks(&mut self) {
        let used = self.used(|service| service.networks.keys().cloned().collect());
        for key in with_all(used, &self.given.project.networks, self.given.options.all_resources) {
            self.network(&key);
        }
    }

    /// Every volume that the services use.
    pub(super) fn volumes(&mut self) {
        let named = |service: &Service| {
            let volumes = service.volumes.iter().filter(|mount| mount.kind == MountKind::Volume);
            volumes.filter_map(|mount| mount.source.clone()).collect()
        };
        let used = self.used(named);
        for key in with_all(used, &self.given.project.volumes, self.given.options.all_resources) {
            self.volume(&key);
        }
    }

    /// What the services to converge use, each once and in order.
    fn used(&self, keys: impl Fn(&Service) -> Vec<String>) -> BTreeSet<String> {
        let services = self.given.order.iter().filter_map(|name| self.given.project.services.get(*name));
        services.flat_map(keys).collect()
    }

    fn network(&mut self, key: &str) {
        let (Some(network), Some((wanted, identity))) =
            (self.given.project.networks.get(key), spec::network(self.given.project, key))
        else {
            return;
        };
        let found = self.given.seen.networks.iter().find(|seen| seen.name == network.name);
        match found {
            None if network.external => self.missing_external("network", key, &network.name),
            None => {
                let step = self.plan.add(Action::CreateNetwork(Box::new(wanted)), Cause::Missing, Vec::new());
                self.networks.insert(key.to_owned(), step);
            }
            Some(_) if network.external => {}
            Some(found) => {
                self.remark(&format!("network {}", found.name), found.labels.get(names::PROJECT));
                let before = found.labels.get(names::IDENTITY);
                if before.is_none_or(|before| *before == identity.to_string()) {
                    return;
                }
                match self.bystanders(&found.name).as_slice() {
                    [] => self.replace_network(key, found.clone(), wanted),
                    others => self.plan.warnings.push(format!(
                        "network {} was made with other options; it stays as it is, because {} use it and are not \
                         part of this run\nhelp: run `up` for the whole project, or remove those",
                        found.name,
                        others.join(", ")
                    )),
                }
            }
        }
    }

    fn volume(&mut self, key: &str) {
        let (Some(volume), Some((wanted, identity))) =
            (self.given.project.volumes.get(key), spec::volume(self.given.project, key))
        else {
            return;
        };
        let found = self.given.seen.volumes.iter().find(|seen| seen.name == volume.name);
        match found {
            None if volume.external => self.missing_external("volume", key, &volume.name),
            None => {
                let step = self.plan.add(Action::CreateVolume(Box::new(wanted)), Cause::Missing, Vec::new());
                self.volumes.insert(key.to_owned(), step);
            }
            Some(_) if volume.external => {}
            Some(found) => {
                self.remark(&format!("volume {}", found.name), found.labels.get(names::PROJECT));
                let before = found.labels.get(names::IDENTITY);
                if before.is_some_and(|before| *before != identity.to_string()) {
                    self.plan.warnings.push(format!(
                        "volume {} was made with other options; it stays as it is, because making it anew would \
                         lose its data\nhelp: remove it to apply them",
                        found.name
                    ));
                }
            }
        }
    }

    /// Says it if something of that name belongs to somebody else; it is used all the same.
    fn remark(&mut self, what: &str, owner: Option<&String>) {
        let name = &self.given.project.name;
        if owner != Some(name) {
            self.plan.warnings.push(format!(
                "{what} exists but was not made for project {name}; it is used as it is\n\
                 help: say `external: true` to mean that"
            ));
        }
    }

    fn missing_external(&mut self, kind: &str, key: &str, name: &str) {
        let problem = Diagnostic::error(format!("the external {kind} `{name}` does not exist"))
            .help(format!("make it with `docker {kind} create {name}`, or take `external` away"));
        let place = [&format!("{kind}s"), key, "external"];
        let problem = match self.given.project.spans.nearest(&place) {
            Some(span) => problem.at(span.clone(), ""),
            None => problem,
        };
        self.problems.push(problem);
    }

    /// The running containers on a network that this run does not decide about.
    fn bystanders(&self, network: &str) -> Vec<String> {
        let gone: Vec<&str> = match self.given.options.remove_orphans {
            true => self.orphaned().iter().map(|one| one.id.as_str()).collect(),
            false => Vec::new(),
        };
        let decided = |one: &&Container| {
            let member = self.decided.get(service_of(one)).filter(|_| !is_oneoff(one));
            member.is_some() || gone.contains(&one.id.as_str())
        };
        let on_it = self.given.seen.containers.iter().filter(|one| one.networks.contains_key(network));
        on_it.filter(|one| !decided(one)).map(|one| one.name.clone()).collect()
    }

    /// Takes every container of the project off a network, makes it anew, and connects those that stay.
    fn replace_network(&mut self, key: &str, found: Network, wanted: NetworkSpec) {
        let cause = Cause::NetworkReplaced(found.name.clone());
        let seen = self.given.seen;
        let attached: Vec<&Container> =
            seen.containers.iter().filter(|container| container.networks.contains_key(&found.name)).collect();
        let mut off = Vec::new();
        for container in &attached {
            let stop = self.stop(container, cause.clone(), Vec::new());
            let action = Action::Disconnect {
                container: super::emit::existing(container),
                network: found.name.clone(),
            };
            off.push(self.plan.add(action, cause.clone(), stop.into_iter().collect()));
        }
        let remove = Action::RemoveNetwork { required: true, id: found.id, name: found.name.clone() };
        let remove = self.plan.add(remove, Cause::Changed(vec!["its options".to_owned()]), off);
        let create = self.plan.add(Action::CreateNetwork(Box::new(wanted)), Cause::Replaced, vec![remove]);
        self.networks.insert(key.to_owned(), create);
        for container in attached {
            if let Some(attachment) = self.kept_attachment(container, &found.name) {
                let attachment = Box::new(attachment);
                let container_target = super::emit::existing(container);
                let action = Action::Connect { container: container_target, attachment };
                let step = self.plan.add(action, cause.clone(), vec![create]);
                self.connected.entry(container.id.clone()).or_default().push(step);
            }
        }
    }

    /// The place in a network of a container that is not replaced.
    fn kept_attachment(&self, container: &Container, network: &str) -> Option<Attachment> {
        let decided = self.decided.get(service_of(container))?;
        let member = decided.members.iter().find(|member| member.seen.id == container.id)?;
        if matches!(member.fate, Fate::Replace(_)) {
            return None;
        }
        member.desired.spec.networks.iter().find(|attachment| attachment.network == network).cloned()
    }

    fn orphaned(&self) -> Vec<&'a Container> {
        let project = self.given.project;
        let known = |name: &str| project.services.contains_key(name) || project.disabled.contains_key(name);
        self.given.seen.containers.iter().filter(|container| !known(service_of(container))).collect()
    }

    /// Containers of services that the project does not have.
    pub(super) fn orphans(&mut self) {
        let orphans = self.orphaned();
        if self.given.options.remove_orphans {
            for container in orphans {
                self.remove(container, Cause::Orphan, Vec::new());
            }
        } else if !self.given.options.ignore_orphans {
            let names: Vec<_> = orphans
                .iter()
                .filter(|container| !is_oneoff(container) || container.state == State::Running)
                .map(|container| container.name.as_str())
                .collect();
            if !names.is_empty() {
                self.plan.warnings.push(format!(
                    "found orphan containers ({}) of this project\nhelp: if you removed or renamed their service, \
                     --remove-orphans cleans them up",
                    names.join(", ")
                ));
            }
        }
    }

    /// Stops a container and removes it; the removal's step.
    pub(super) fn remove(&mut self, container: &Container, cause: Cause, after: Vec<StepId>) -> StepId {
        let stop = self.stop(container, cause.clone(), after.clone());
        let after = stop.map_or(after, |stop| vec![stop]);
        let container_target = super::emit::existing(container);
        let step = self.plan.add(Action::Remove { container: container_target, volumes: true }, cause, after);
        self.freed.insert(container.name.clone(), step);
        step
    }
}

/// The keys of `used`, or all of the project's.
fn with_all<T>(used: BTreeSet<String>, whole: &BTreeMap<String, T>, all: bool) -> BTreeSet<String> {
    if all { whole.keys().cloned().collect() } else { used }
}
