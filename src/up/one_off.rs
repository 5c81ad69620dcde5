//! The container of `run`: a service changed by what the user says. Pure.
//!
//! [`OneOff::service`] is the service as it is for this one run, from which [`spec::desired`] makes a
//! container as it makes every other; [`OneOff::dress`] then gives it what no container of a service has:
//! a name of its own, the labels of a one-off, no aliases, and its end. No container that exists is looked
//! at, and none is replaced.

use std::collections::BTreeMap;

use crate::compose::{Mount, Port, Project, Service};
use crate::engine::{Container, TerminalSize};

use super::names;
use super::observe::service_of;
use super::plan::{Action, Cause, Plan};
use super::reconcile::existing;
use super::spec::Desired;

/// Digits of the slug in a name.
const SHORT: usize = 12;

/// What the user says about a container that runs once.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OneOff {
    /// The service.
    pub service: String,
    /// 64 random hexadecimal digits: what tells this run from all others.
    pub slug: String,
    /// The container's name, where it is not made of the project's, the service's and the slug.
    pub name: Option<String>,
    /// The command in the place of the service's; empty: the service's own.
    pub command: Vec<String>,
    /// The entry point in the place of the service's, whose command is dropped then.
    pub entrypoint: Option<Vec<String>>,
    /// Variables over the service's.
    pub environment: BTreeMap<String, String>,
    /// User.
    pub user: Option<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Labels over the service's.
    pub labels: BTreeMap<String, String>,
    /// Capabilities that are added.
    pub cap_add: Vec<String>,
    /// Capabilities that are dropped.
    pub cap_drop: Vec<String>,
    /// Whether the service's own ports are published.
    pub service_ports: bool,
    /// Ports that are published.
    pub ports: Vec<Port>,
    /// Mounts over the service's.
    pub mounts: Vec<Mount>,
    /// Whether it is found by the service's name and aliases.
    pub use_aliases: bool,
    /// Whether it goes when it ends.
    pub remove: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub interactive: bool,
    /// How large its terminal is at first.
    pub size: Option<TerminalSize>,
}

impl OneOff {
    /// The container's name.
    pub fn container(&self, project: &Project) -> String {
        let short = &self.slug[..self.slug.len().min(SHORT)];
        self.name.clone().unwrap_or_else(|| format!("{}-{}-run-{short}", project.name, self.service))
    }

    /// The label that only the container of this run has.
    pub fn label(&self) -> String {
        format!("{}={}", names::SLUG, self.slug)
    }

    /// The project in which the service is as this run has it.
    pub fn project(&self, project: &Project) -> Project {
        let mut changed = project.clone();
        let name = self.container(project);
        if let Some(service) = changed.services.get_mut(&self.service) {
            *service = self.service(service, name);
        }
        changed
    }

    /// The service as this run has it.
    fn service(&self, service: &Service, name: String) -> Service {
        let mut changed = service.clone();
        changed.container_name = Some(name);
        changed.tty = self.tty;
        changed.stdin_open = self.interactive;
        changed.restart = None;
        changed.scale = None;
        if let Some(deploy) = &mut changed.deploy {
            deploy.restart_policy = None;
            deploy.replicas = None;
        }
        if let Some(entrypoint) = &self.entrypoint {
            changed.entrypoint = Some(entrypoint.clone());
            changed.command = Some(Vec::new());
        }
        if !self.command.is_empty() {
            changed.command = Some(self.command.clone());
        }
        changed.user = self.user.clone().or(changed.user);
        changed.working_dir = self.working_dir.clone().or(changed.working_dir);
        let variables = self.environment.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
        changed.environment.extend(variables);
        changed.labels.extend(self.labels.clone());
        changed.cap_drop.retain(|one| !self.cap_add.contains(one));
        changed.cap_add.retain(|one| !self.cap_drop.contains(one));
        changed.cap_add.extend(self.cap_add.clone());
        changed.cap_drop.extend(self.cap_drop.clone());
        if !self.service_ports {
            changed.ports.clear();
        }
        changed.ports.extend(self.ports.clone());
        changed.volumes.retain(|mount| self.mounts.iter().all(|one| one.target != mount.target));
        changed.volumes.extend(self.mounts.clone());
        changed
    }

    /// What makes a container that of a run.
    pub(super) fn dress(&self, mut desired: Desired) -> Desired {
        let spec = &mut desired.spec;
        spec.labels.remove(names::NUMBER);
        spec.labels.insert(names::ONEOFF.to_owned(), "True".to_owned());
        spec.labels.insert(names::SLUG.to_owned(), self.slug.clone());
        spec.stdin_once = self.interactive;
        spec.auto_remove = self.remove;
        spec.console_size = self.size.filter(|_| self.tty);
        if !self.use_aliases {
            for attachment in &mut spec.networks {
                attachment.aliases.retain(|alias| *alias == desired.name);
            }
        }
        desired
    }
}

/// The commands that run in a container of a service after its start.
pub fn post_start(project: &Project, container: &Container) -> Plan {
    let mut plan = Plan::default();
    let mut after = Vec::new();
    let service = project.services.get(service_of(container));
    for hook in service.into_iter().flat_map(|service| &service.post_start) {
        let (container, hook) = (existing(container), Box::new(hook.clone()));
        let action = Action::Hook { container, when: "post_start", hook };
        after = vec![plan.add(action, Cause::New, after)];
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::engine::RestartPolicy;
    use crate::up::spec;
    use crate::up::{Files, Image};

    const SLUG: &str = "0123456789abcdef";

    fn project() -> Project {
        serde_json::from_str(
            r#"{"name": "p", "networks": {"default": {"name": "p_default"}}, "services": {"web": {
                "command": ["serve"], "entrypoint": ["/entry"], "environment": {"A": "file", "B": "file"},
                "ports": [{"target": 80, "published": "8080"}], "restart": "always", "container_name": "mine",
                "networks": {"default": {"aliases": ["www"]}}, "cap_add": ["NET_ADMIN"], "cap_drop": ["CHOWN"],
                "volumes": [{"type": "bind", "source": "/host", "target": "/data"}],
                "deploy": {"restart_policy": {"condition": "any"}}}}}"#,
        )
        .unwrap()
    }

    fn one(change: impl FnOnce(&mut OneOff)) -> (Service, Desired) {
        let mut one = OneOff {
            service: "web".to_owned(),
            slug: SLUG.to_owned(),
            interactive: true,
            ..OneOff::default()
        };
        change(&mut one);
        let project = one.project(&project());
        let service = project.services["web"].clone();
        let image = Image { reference: "web".to_owned(), id: Digest::of("image") };
        let desired =
            spec::desired(&project, "web", &service, 1, &image, &Files::default(), &BTreeMap::new());
        (service, one.dress(desired))
    }

    #[test]
    fn a_run_has_a_name_and_labels_of_its_own_and_takes_nothing_of_the_service_that_is_unique() {
        let (_, desired) = one(|_| {});
        assert_eq!(desired.name, "p-web-run-0123456789ab");
        let spec = &desired.spec;
        assert_eq!(spec.labels[names::ONEOFF], "True");
        assert_eq!(spec.labels[names::SLUG], SLUG);
        assert!(!spec.labels.contains_key(names::NUMBER));
        assert_eq!(spec.networks[0].aliases, ["p-web-run-0123456789ab"]);
        assert_eq!((spec.ports.len(), &spec.restart), (0, &RestartPolicy::No));
        assert!(spec.stdin_open && spec.stdin_once && !spec.auto_remove && !spec.tty);
        assert_eq!(spec.command.as_deref(), Some(&["serve".to_owned()][..]));
    }

    #[test]
    fn an_entry_point_drops_the_command_unless_there_is_one() {
        let entry = Some(vec!["sh".to_owned()]);
        let (service, _) = one(|one| one.entrypoint = entry.clone());
        assert_eq!((service.entrypoint, service.command), (entry.clone(), Some(Vec::new())));
        let (service, _) = one(|one| {
            one.entrypoint = entry;
            one.command = vec!["x".to_owned()];
        });
        assert_eq!(service.command, Some(vec!["x".to_owned()]));
    }

    #[test]
    fn what_the_user_says_stands_over_the_file() {
        let (service, desired) = one(|one| {
            one.name = Some("chosen".to_owned());
            one.environment = [("A".to_owned(), "cli".to_owned())].into();
            one.labels = [("x".to_owned(), "y".to_owned())].into();
            one.user = Some("5".to_owned());
            one.cap_add = vec!["CHOWN".to_owned()];
            one.cap_drop = vec!["NET_ADMIN".to_owned()];
            one.mounts = vec![Mount { target: "/data".to_owned(), ..Mount::default() }];
            one.service_ports = true;
            one.use_aliases = true;
            one.remove = true;
            one.tty = true;
            one.size = Some(TerminalSize { columns: 80, rows: 24 });
        });
        assert_eq!(service.environment["A"].as_deref(), Some("cli"));
        assert_eq!(service.environment["B"].as_deref(), Some("file"));
        assert_eq!(
            (service.cap_add, service.cap_drop),
            (vec!["CHOWN".to_owned()], vec!["NET_ADMIN".to_owned()])
        );
        assert_eq!((service.volumes.len(), service.ports.len()), (1, 1));
        assert_eq!(desired.spec.networks[0].aliases, ["chosen", "web", "www"]);
        assert_eq!(desired.spec.labels["x"], "y");
        assert!(desired.spec.auto_remove && desired.spec.console_size.is_some());
        assert_eq!(desired.spec.user.as_deref(), Some("5"));
    }
}
