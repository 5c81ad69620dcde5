//! Names and labels, as Docker Compose gives them, so that its commands work on ours and ours on its.
//!
//! Docker Compose finds a container by `project`, `service`, `oneoff` and the presence of `config-hash`.
//! Labels that begin with `dev.shipway.` are ours; Docker Compose leaves them alone.

use std::path::Path;

use crate::compose::{Project, Service};

/// The project's name.
pub(super) const PROJECT: &str = "com.docker.compose.project";
/// The service's name.
pub(super) const SERVICE: &str = "com.docker.compose.service";
/// `True` for a container of `run`.
pub(super) const ONEOFF: &str = "com.docker.compose.oneoff";
/// Random digits that tell a container of `run` from all others.
pub(super) const SLUG: &str = "com.docker.compose.slug";
/// The number among the containers of its service, from 1.
pub(super) const NUMBER: &str = "com.docker.compose.container-number";
/// Docker Compose's digest of the service.
pub(super) const CONFIG_HASH: &str = "com.docker.compose.config-hash";
/// `service:condition:restart` for each dependency.
pub(super) const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// The id of the image.
pub(super) const IMAGE: &str = "com.docker.compose.image";
/// The compose files.
pub(super) const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
/// The project's folder.
pub(super) const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// The version of Docker Compose.
pub(super) const VERSION: &str = "com.docker.compose.version";
/// The name of the container that this one replaces, while it does.
pub(super) const REPLACE: &str = "com.docker.compose.replace";
/// What a container runs beside its service: `pre_start`.
pub(super) const HOOK: &str = "com.docker.compose.hook";
/// A network's key in the project.
pub(super) const NETWORK: &str = "com.docker.compose.network";
/// A volume's key in the project.
pub(super) const VOLUME: &str = "com.docker.compose.volume";

pub(super) const IDENTITY: &str = "dev.shipway.identity";
/// Short digests of the parts of a container's identity, to say which of them changed.
pub(super) const PARTS: &str = "dev.shipway.parts";
/// The anonymous volumes that a container was handed by the one that it replaced.
pub(super) const INHERITED: &str = "dev.shipway.inherited";
/// `service=container id` for each service whose namespaces or volumes a container shares.
pub(super) const SHARES: &str = "dev.shipway.shares";

/// The release of Docker Compose whose labels and names these are.
pub(super) const COMPOSE_VERSION: &str = "5.5.0";

/// The name of a service's container.
pub(super) fn container(project: &Project, service: &str, number: u32) -> String {
    match project.services.get(service).and_then(|service| service.container_name.as_ref()) {
        Some(name) => name.clone(),
        None => {
            let separator = project.separator();
            format!("{}{separator}{service}{separator}{number}", project.name)
        }
    }
}

/// The name under which a container is made while the one that it replaces still has its name.
pub(super) fn temporary(old_id: &str, name: &str) -> String {
    format!("{}_{name}", &old_id[..old_id.len().min(12)])
}

/// The name of the container in which a hook of a container runs, by its place in the list.
pub(super) fn hook(container: &str, when: &str, place: usize) -> String {
    format!("{container}-{when}-{}", place + 1)
}

/// The label `depends_on`, in the order of the names.
pub(super) fn depends_on(service: &Service) -> String {
    let entry = |(name, dependency): (&String, &crate::compose::Dependency)| {
        format!("{name}:{}:{}", dependency.condition.as_str(), dependency.restart)
    };
    service.depends_on.iter().map(entry).collect::<Vec<_>>().join(",")
}

/// The label with the compose files.
pub(super) fn config_files(project: &Project) -> String {
    let shown = |path: &std::path::PathBuf| Path::display(path).to_string();
    project.files.iter().map(shown).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_project_unless_given() {
        let mut project = Project { name: "pack".to_owned(), ..Project::default() };
        let named = Service { container_name: Some("mine".to_owned()), ..Service::default() };
        project.services.insert("db".to_owned(), named);
        assert_eq!(container(&project, "web", 2), "pack-web-2");
        assert_eq!(container(&project, "db", 1), "mine");
        assert_eq!(temporary("0123456789abcdef", "pack-web-2"), "0123456789ab_pack-web-2");
    }
}
