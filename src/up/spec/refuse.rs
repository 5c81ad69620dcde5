//! What cannot be honoured yet, by name: never passed over in silence.

use std::collections::BTreeMap;

use crate::base::diag::Diagnostic;
use crate::compose::{MountKind, Project, Service};

/// A key that is refused, and when it is in use.
type Rule = (&'static str, fn(&Service) -> bool);

/// Keys of a service that no container can be given by us.
const RULES: &[Rule] = &[
    ("provider", |service| service.provider.is_some()),
    ("models", |service| !service.models.is_empty()),
    ("use_api_socket", |service| service.use_api_socket),
    ("credential_spec", |service| service.credential_spec.is_some()),
    ("volumes", |service| {
        service.volumes.iter().any(|mount| matches!(mount.kind, MountKind::Npipe | MountKind::Cluster))
    }),
];

/// Every key of the project's services that is not supported, with its place. `scales` says how many
/// containers each service has.
pub(in super::super) fn refusals(project: &Project, scales: &BTreeMap<String, u32>) -> Vec<Diagnostic> {
    let mut refused = Vec::new();
    for (name, service) in &project.services {
        for (key, used) in RULES {
            if used(service) {
                refused.push(refusal(project, name, key));
            }
        }
        if service.container_name.is_some() && scales.get(name).is_some_and(|scale| *scale > 1) {
            let message = format!("service `{name}` has a container_name and more than one container");
            refused.push(located(project, Diagnostic::error(message), name, "container_name"));
        }
    }
    refused
}

/// How many containers the file asks for.
pub(in super::super) fn wanted(service: &Service) -> u32 {
    let deployed = service.deploy.as_ref().and_then(|deploy| deploy.replicas);
    service.scale.or(deployed).unwrap_or(1)
}

fn refusal(project: &Project, service: &str, key: &str) -> Diagnostic {
    let detail = if key == "volumes" { " of type npipe or cluster" } else { "" };
    let message = format!("not supported yet: `services.{service}.{key}`{detail}");
    located(project, Diagnostic::error(message), service, key)
}

fn located(project: &Project, diagnostic: Diagnostic, service: &str, key: &str) -> Diagnostic {
    match project.spans.nearest(&["services", service, key]) {
        Some(span) => diagnostic.at(span.clone(), ""),
        None => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_keys_are_named() {
        let service =
            Service { use_api_socket: true, container_name: Some("x".to_owned()), ..Service::default() };
        let project = Project { services: [("web".to_owned(), service)].into(), ..Project::default() };
        let messages: Vec<_> = refusals(&project, &[("web".to_owned(), 2)].into())
            .into_iter()
            .map(|refusal| refusal.message)
            .collect();
        assert_eq!(messages[0], "not supported yet: `services.web.use_api_socket`");
        assert_eq!(messages.len(), 2);
    }
}
