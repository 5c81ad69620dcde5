//! What cannot be honoured yet, by name: never passed over in silence.

use std::collections::BTreeMap;

use crate::base::diag::Diagnostic;
use crate::compose::{MountKind, Project, Service};

use super::network;

/// A key that is refused, and when it is in use.
type Rule = (&'static str, fn(&Service) -> bool);

/// Keys of a service that no container can be given by us.
const RULES: &[Rule] = &[
    ("provider", |service| service.provider.is_some()),
    ("models", |service| !service.models.is_empty()),
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
        contradictions(project, name, service, &mut refused);
        if service.container_name.is_some() && scales.get(name).is_some_and(|scale| *scale > 1) {
            let message = format!("service {name}: `container_name` is for one container, and it has more");
            refused.push(located(project, Diagnostic::error(message), name, "container_name"));
        }
    }
    refused
}

/// Settings of a service that no container can have together, and owners that are no numbers.
fn contradictions(project: &Project, name: &str, service: &Service, refused: &mut Vec<Diagnostic>) {
    let mut tell = |message: String, key: &str| {
        refused.push(located(project, Diagnostic::error(format!("service {name}: {message}")), name, key));
    };
    let deployed = service.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref());
    let counted = deployed.filter(|restart| restart.max_attempts.is_some_and(|most| most > 0));
    if counted.is_some_and(|restart| matches!(restart.condition.as_deref(), None | Some("any"))) {
        tell("`max_attempts` of a restart policy needs `condition: on-failure`".to_owned(), "deploy");
    }
    if let (Some(whole), Some(main)) = (&service.mac_address, network::main(service)) {
        let used = service.networks.get(main).and_then(Option::as_ref);
        if used.and_then(|used| used.mac_address.as_ref()).is_some_and(|own| own != whole) {
            tell(format!("its `mac_address` is not that of its network `{main}`"), "mac_address");
        }
    }
    for (key, hooks) in [("post_start", &service.post_start), ("pre_stop", &service.pre_stop)] {
        if hooks.iter().any(|hook| hook.image.is_some() || hook.per_replica) {
            tell(
                format!("`image` and `per_replica` are for `pre_start`: `{key}` runs in each container"),
                key,
            );
        }
    }
    let mut configs = service.configs.iter();
    let copied = configs.find(|used| {
        let config = project.configs.get(&used.source);
        config.is_some_and(|config| config.content.is_some() || config.environment.is_some())
    });
    let mut secrets = service.secrets.iter();
    let copied = copied.or_else(|| {
        secrets
            .find(|used| project.secrets.get(&used.source).is_some_and(|secret| secret.environment.is_some()))
    });
    if let Some(used) = copied.filter(|_| service.read_only) {
        let text = format!(
            "`{}` is no file of the host, so it is copied into the container, whose root file system is read-only\n\
             help: give it a `file`",
            used.source
        );
        tell(text, "read_only");
    }
    for (key, uses) in [("configs", &service.configs), ("secrets", &service.secrets)] {
        for used in uses {
            let wrong = [&used.uid, &used.gid].into_iter().flatten().find(|id| id.parse::<u32>().is_err());
            if let Some(wrong) = wrong {
                tell(format!("owner and group of `{}` are numbers, and `{wrong}` is none", used.source), key);
            }
        }
    }
}

/// What has no effect, by name. (Owners and modes of files that are mounted are remarked upon by `compose`.)
pub(in super::super) fn remarks(project: &Project, services: &[&str]) -> Vec<String> {
    let lost = |name: &&&str| {
        let service = project.services.get(**name);
        service.is_some_and(|service| service.mac_address.is_some() && service.network_mode.is_some())
    };
    let remark = |name: &&str| format!("service {name}: `mac_address` has no effect beside `network_mode`");
    services.iter().filter(lost).map(remark).collect()
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
        let service = Service {
            provider: Some(Default::default()),
            container_name: Some("x".to_owned()),
            ..Service::default()
        };
        let project = Project { services: [("web".to_owned(), service)].into(), ..Project::default() };
        let messages: Vec<_> = refusals(&project, &[("web".to_owned(), 2)].into())
            .into_iter()
            .map(|refusal| refusal.message)
            .collect();
        assert_eq!(messages[0], "not supported yet: `services.web.provider`");
        assert_eq!(messages.len(), 2);
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "mac_address": "02:42:ac:11:65:45",
            "networks": {"a": {"mac_address": "02:42:ac:11:65:46"}},
            "deploy": {"restart_policy": {"max_attempts": 2}},
            "configs": [{"source": "c", "uid": "nobody"}],
            "post_start": [{"command": ["x"], "per_replica": true}],
        }))
        .unwrap();
        let project = Project { services: [("web".to_owned(), service)].into(), ..Project::default() };
        let messages: Vec<_> =
            refusals(&project, &BTreeMap::new()).into_iter().map(|refusal| refusal.message).collect();
        assert_eq!(
            messages,
            [
                "service web: `max_attempts` of a restart policy needs `condition: on-failure`",
                "service web: its `mac_address` is not that of its network `a`",
                "service web: `image` and `per_replica` are for `pre_start`: `post_start` runs in each container",
                "service web: owner and group of `c` are numbers, and `nobody` is none",
            ]
        );
    }

    #[test]
    fn what_has_no_effect_is_remarked_upon() {
        let lost = Service {
            mac_address: Some("02:42:ac:11:65:45".to_owned()),
            network_mode: Some("host".to_owned()),
            ..Service::default()
        };
        let project = Project { services: [("web".to_owned(), lost)].into(), ..Project::default() };
        assert_eq!(remarks(&project, &["web"]).len(), 1);
        assert!(remarks(&Project::default(), &["web"]).is_empty());
    }
}
