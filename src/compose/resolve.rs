//! Resolving on typed data: profiles, defaults, names, env files, and leaving out what nothing uses.
//!
//! The rules are those of compose-go's normalisation. Paths are absolute already. Reads env and label files
//! through [`Sources`]; everything else is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::dotenv::Found;
use super::environment::{self, Grammar};
use super::model::{Dependency, DependencyCondition, MountKind, Project, Service};
use super::source::Sources;
use crate::base::diag::{Diagnostic, Span};

/// Moves the services whose profiles are not active aside; a named service makes its profiles active.
pub(super) fn profiles(project: &mut Project, active: &[String], named: &[String]) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    let mut active: BTreeSet<String> = active.iter().cloned().collect();
    for name in named {
        match project.services.get(name) {
            Some(service) => active.extend(service.profiles.iter().cloned()),
            None => mistakes.push(
                Diagnostic::error(format!("there is no service `{name}`"))
                    .did_you_mean(name, project.services.keys().map(String::as_str)),
            ),
        }
    }
    let takes_part = |service: &Service| {
        service.profiles.is_empty()
            || active.contains("*")
            || service.profiles.iter().any(|profile| active.contains(profile))
    };
    let all = std::mem::take(&mut project.services);
    (project.services, project.disabled) = all.into_iter().partition(|(_, service)| takes_part(service));
    mistakes
}

/// Fills in what a build and a secret have at least, and brings hosts in order, as compose does; `folder` is
/// the default context.
pub(super) fn defaults(project: &mut Project, folder: &str) {
    for service in project.services.values_mut().chain(project.disabled.values_mut()) {
        if let Some(build) = &mut service.build {
            build.context.get_or_insert_with(|| folder.to_owned());
            build.args.retain(|_, value| value.is_some());
            build.extra_hosts.sort();
        }
        service.extra_hosts.sort();
        for secret in &mut service.secrets {
            secret.target.get_or_insert_with(|| format!("/run/secrets/{}", secret.source));
        }
    }
}

/// Fills in names, the default network, and the dependencies that links and shared namespaces imply.
pub(super) fn normalize(project: &mut Project) {
    for service in project.services.values_mut().chain(project.disabled.values_mut()) {
        normalize_service(service);
    }
    if project.services.values().any(|service| service.networks.contains_key("default")) {
        project.networks.entry("default".to_owned()).or_default();
    }
    let prefix = project.name.clone();
    let name = |key: &str, external: bool| if external { key.to_owned() } else { format!("{prefix}_{key}") };
    for (key, network) in &mut project.networks {
        if network.name.is_empty() {
            network.name = name(key, network.external);
        }
    }
    for (key, volume) in &mut project.volumes {
        if volume.name.is_empty() {
            volume.name = name(key, volume.external);
        }
    }
    for (key, config) in &mut project.configs {
        config.name.get_or_insert_with(|| name(key, config.external));
    }
    for (key, secret) in &mut project.secrets {
        secret.name.get_or_insert_with(|| name(key, secret.external));
    }
}

fn normalize_service(service: &mut Service) {
    if service.network_mode.is_none() && service.networks.is_empty() && service.provider.is_none() {
        service.networks.insert("default".to_owned(), None);
    }
    if let Some(build) = service.build.as_mut().filter(|build| build.dockerfile_inline.is_none()) {
        build.dockerfile.get_or_insert_with(|| "Dockerfile".to_owned());
    }
    if service.pull_policy.as_deref() == Some("if_not_present") {
        service.pull_policy = Some("missing".to_owned());
    }
    if let Some(deploy) = service.deploy.as_mut().filter(|deploy| deploy.replicas.is_none()) {
        deploy.replicas = service.scale;
    }
    for (name, restart) in implied(service) {
        service.depends_on.entry(name).or_insert(Dependency {
            condition: DependencyCondition::Started,
            restart,
            required: true,
        });
    }
}

/// The services that a service needs without saying so, and whether it restarts with them.
fn implied(service: &Service) -> Vec<(String, bool)> {
    let modes = [&service.network_mode, &service.ipc, &service.pid, &service.uts, &service.cgroup];
    let modes: Vec<String> = modes.into_iter().flatten().cloned().collect();
    needs(&service.links, &modes, &service.volumes_from)
}

/// The keys by which a service may share a namespace with another one: `service:NAME`.
pub(super) const SHARING: &[&str] = &["network_mode", "ipc", "pid", "uts", "cgroup"];

/// The services that links, shared namespaces and shared volumes name, and whether one restarts with them.
pub(super) fn needs(links: &[String], modes: &[String], volumes_from: &[String]) -> Vec<(String, bool)> {
    let mut found: Vec<(String, bool)> = Vec::new();
    for link in links {
        found.push((link.split(':').next().unwrap_or_default().to_owned(), true));
    }
    for name in modes.iter().filter_map(|mode| mode.strip_prefix("service:")) {
        found.push((name.to_owned(), true));
    }
    for from in volumes_from {
        if !from.starts_with("container:") {
            found.push((from.split(':').next().unwrap_or_default().to_owned(), false));
        }
    }
    found
}

/// Reads `label_file`, and with `env_files` also `env_file`, of the active services into their labels and
/// environments.
pub(super) fn environment(project: &mut Project, sources: &mut Sources<'_>, env_files: bool) {
    let spans = std::mem::take(&mut project.spans);
    let outer = &project.environment;
    for (name, service) in &mut project.services {
        let at = |key: &str| spans.nearest(&["services", name, key]).cloned();
        if env_files && !service.env_file.is_empty() {
            let span = at("env_file");
            read_env_files(service, (outer, &project.working_dir), sources, span.as_ref());
        }
        if !service.label_file.is_empty() {
            let span = at("label_file");
            label_files(service, &project.working_dir, sources, span.as_ref());
        }
    }
    project.spans = spans;
}

fn read_env_files(
    service: &mut Service,
    (outer, folder): (&BTreeMap<String, String>, &Path),
    sources: &mut Sources<'_>,
    asked: Option<&Span>,
) {
    let mut found = Found::new();
    for file in std::mem::take(&mut service.env_file) {
        let path = folder.join(&file.path);
        if !file.required && !sources.files.exists(&path) {
            continue;
        }
        let Some(text) = environment::open(sources, &path, asked) else { continue };
        let grammar = match file.format.as_deref() {
            Some("raw") => Grammar::Raw,
            None => Grammar::Dotenv,
            Some(other) => {
                let mistake =
                    Diagnostic::error(format!("`{other}` is no format of env files; `raw` is the only one"));
                sources.mistakes.push(match asked {
                    Some(span) => mistake.at(span.clone(), ""),
                    None => mistake,
                });
                continue;
            }
        };
        let own = &service.environment;
        let lookup = |name: &str| own.get(name).cloned().flatten().or_else(|| outer.get(name).cloned());
        environment::parse(sources, &text, grammar, &lookup, &mut found);
    }
    for (name, (value, _)) in found {
        service.environment.entry(name).or_insert(Some(value));
    }
}

fn label_files(service: &mut Service, folder: &Path, sources: &mut Sources<'_>, asked: Option<&Span>) {
    let mut found = Found::new();
    for path in std::mem::take(&mut service.label_file) {
        let Some(text) = environment::open(sources, &folder.join(&path), asked) else { continue };
        environment::parse(sources, &text, Grammar::Dotenv, &|_| None, &mut found);
    }
    for (name, (value, _)) in found {
        service.labels.entry(name).or_insert(value);
    }
}

/// Leaves out the resources that no active service uses; `all` keeps networks, volumes, configs and secrets.
pub(super) fn unused(project: &mut Project, all: bool) {
    if all {
        return;
    }
    let services = &project.services;
    let networks: BTreeSet<&str> =
        services.values().flat_map(|service| service.networks.keys().map(String::as_str)).collect();
    project.networks.retain(|key, _| networks.contains(key.as_str()));
    let volumes: BTreeSet<&str> = services
        .values()
        .flat_map(|service| &service.volumes)
        .filter(|mount| mount.kind == MountKind::Volume)
        .filter_map(|mount| mount.source.as_deref())
        .collect();
    project.volumes.retain(|key, _| volumes.contains(key.as_str()));
    let configs: BTreeSet<&str> = services
        .values()
        .flat_map(|service| {
            let credential = service.credential_spec.as_ref().and_then(|spec| spec.config.as_deref());
            service.configs.iter().map(|file| file.source.as_str()).chain(credential)
        })
        .collect();
    project.configs.retain(|key, _| configs.contains(key.as_str()));
    let secrets: BTreeSet<&str> = services
        .values()
        .flat_map(|service| {
            service.secrets.iter().chain(service.build.iter().flat_map(|build| &build.secrets))
        })
        .map(|file| file.source.as_str())
        .collect();
    project.secrets.retain(|key, _| secrets.contains(key.as_str()));
    let models: BTreeSet<&str> =
        services.values().flat_map(|service| service.models.keys().map(String::as_str)).collect();
    project.models.retain(|key, _| models.contains(key.as_str()));
}
