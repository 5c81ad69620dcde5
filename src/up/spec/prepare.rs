//! The containers of `pre_start`: each command runs to its end in a container of its own before the
//! service's container starts, with that one's volumes, networks, variables and files. Pure. (Anonymous volumes are
//! known by name only when the container is there: `execute` puts them where this one would get others.)
//!
//! It has no name on the networks, no ports and no fixed addresses: it is not the service.

use crate::compose::{Hook, Project, Service};
use crate::engine::{Attachment, ContainerSpec, RestartPolicy};

use super::super::names;
use super::Desired;

/// What the engine is told about the container of the hook with this place in the list (from 0), for one
/// container of the service; and its name.
pub(in super::super) fn prepare(
    project: &Project,
    service_name: &str,
    service: &Service,
    hook: &Hook,
    place: usize,
    desired: &Desired,
) -> (String, ContainerSpec) {
    let mut spec = ContainerSpec {
        image: hook.image.clone().unwrap_or_else(|| desired.spec.image.clone()),
        command: Some(hook.command.clone()),
        user: hook.user.clone().or_else(|| service.user.clone()),
        working_dir: hook.working_dir.clone().or_else(|| service.working_dir.clone()),
        privileged: hook.privileged,
        networks: desired.spec.networks.iter().map(unnamed).collect(),
        ..desired.spec.clone()
    };
    spec.env.extend(hook.environment.clone());
    spec.entrypoint = None;
    spec.hostname = None;
    spec.mac_address = None;
    spec.healthcheck = None;
    spec.tty = false;
    spec.stdin_open = false;
    spec.restart = RestartPolicy::No;
    spec.exposed.clear();
    spec.ports.clear();
    spec.labels = service.labels.clone();
    let labels = [
        (names::PROJECT, project.name.as_str()),
        (names::SERVICE, service_name),
        (names::ONEOFF, "True"),
        (names::HOOK, "pre_start"),
        (names::VERSION, names::COMPOSE_VERSION),
    ];
    spec.labels.extend(labels.map(|(name, value)| (name.to_owned(), value.to_owned())));
    (names::hook(&desired.name, "pre_start", place), spec)
}

/// A place in the same network, without names and addresses of the service's own.
fn unnamed(attachment: &Attachment) -> Attachment {
    Attachment {
        aliases: Vec::new(),
        ipv4_address: None,
        ipv6_address: None,
        link_local_ips: Vec::new(),
        mac_address: None,
        ..attachment.clone()
    }
}

/// The hooks of a service in one text, for a container's identity: a changed hook is to run again.
pub(super) fn part(service: &Service) -> Option<String> {
    let hooks = &service.pre_start;
    (!hooks.is_empty()).then(|| serde_json::to_string(hooks).unwrap_or_default())
}
