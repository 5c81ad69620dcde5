//! What the listings beside `ps` show, from the engine's lists: projects, volumes, ports, events. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{Container, Happening, PublishedPort, Volume};

use super::names;
use super::observe::{is_oneoff, label, number_of, service_of};

/// The label that the containers of every project have.
pub const ANY_PROJECT: &str = names::PROJECT;

/// The label that the containers of this project have.
pub fn project_label(project: &str) -> String {
    format!("{}={project}", names::PROJECT)
}

/// A project that the engine has containers of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// How many of its containers are in which state: `exited(1), running(2)`.
    pub status: String,
    /// The compose files, separated by commas.
    pub config_files: String,
}

/// The projects of these containers, sorted; those without a container that runs only with `all`.
pub fn stacks(containers: &[Container], all: bool) -> Vec<Stack> {
    let mut projects: BTreeMap<&str, Vec<&Container>> = BTreeMap::new();
    for container in containers.iter().filter(|one| is_composed(one) && (all || runs(one))) {
        projects.entry(label(container, names::PROJECT)).or_default().push(container);
    }
    let stack = |(name, containers): (&str, Vec<&Container>)| Stack {
        name: name.to_owned(),
        status: states(&containers),
        config_files: config_files(&containers),
    };
    projects.into_iter().map(stack).collect()
}

fn is_composed(container: &Container) -> bool {
    container.labels.contains_key(names::PROJECT) && container.labels.contains_key(names::CONFIG_HASH)
}

/// Whether the engine's own list shows it without being asked for all.
const fn runs(container: &Container) -> bool {
    container.state.is_alive()
}

fn states(containers: &[&Container]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for container in containers {
        *counts.entry(container.state.name()).or_default() += 1;
    }
    let texts: Vec<_> = counts.iter().map(|(state, count)| format!("{state}({count})")).collect();
    texts.join(", ")
}

fn config_files(containers: &[&Container]) -> String {
    let mut files: Vec<&str> = Vec::new();
    for file in containers.iter().flat_map(|one| label(one, names::CONFIG_FILES).split(',')) {
        if !file.is_empty() && !files.contains(&file) {
            files.push(file);
        }
    }
    if files.is_empty() { "N/A".to_owned() } else { files.join(",") }
}

/// The project's volumes, sorted by name; of the services (none: all) those that their containers mount.
pub fn volumes<'a>(
    project: &str,
    volumes: &'a [Volume],
    containers: &[Container],
    services: &[String],
) -> Vec<&'a Volume> {
    let named = |one: &&Container| services.iter().any(|name| name == service_of(one));
    let mounted: BTreeSet<&str> = containers
        .iter()
        .filter(named)
        .flat_map(|one| one.mounts.iter().filter_map(|mount| mount.name.as_deref()))
        .collect();
    let ours = |volume: &&Volume| volume.labels.get(names::PROJECT).is_some_and(|name| name == project);
    let wanted = |volume: &&Volume| services.is_empty() || mounted.contains(volume.name.as_str());
    let mut found: Vec<_> = volumes.iter().filter(ours).filter(wanted).collect();
    found.sort_by(|left, right| left.name.cmp(&right.name));
    found
}

/// A port that is asked for.
#[derive(Clone, Debug, Default)]
pub struct WantedPort<'a> {
    /// The service.
    pub service: &'a str,
    /// The number of its container; `None`: the lowest that runs.
    pub number: Option<u32>,
    /// The container's port; `None`: all.
    pub port: Option<u16>,
    /// The protocol; `None`: any.
    pub protocol: Option<&'a str>,
}

/// Where the host offers a container's ports; the error is a sentence.
pub fn published(containers: &[Container], wanted: &WantedPort<'_>) -> Result<Vec<PublishedPort>, String> {
    let service = wanted.service;
    let mut found: Vec<_> = containers
        .iter()
        .filter(|one| service_of(one) == service && runs(one))
        .filter(|one| wanted.number.is_none_or(|number| number_of(one) == number))
        .collect();
    found.sort_by_key(|one| (is_oneoff(one), number_of(one)));
    let Some(container) = found.first() else {
        return Err(match wanted.number {
            Some(number) => format!("service {service} has no running container of number {number}"),
            None => format!("service {service} has no running container\nhelp: start it first"),
        });
    };
    let meant = |port: &&PublishedPort| {
        port.host_port.is_some()
            && wanted.port.is_none_or(|wanted| port.port == wanted)
            && wanted.protocol.is_none_or(|wanted| port.protocol == wanted)
    };
    let ports: Vec<_> = container.ports.iter().filter(meant).cloned().collect();
    match (wanted.port, ports.is_empty()) {
        (Some(port), true) => {
            let protocol = wanted.protocol.unwrap_or("tcp");
            let others: BTreeSet<_> =
                container.ports.iter().filter(|port| port.host_port.is_some()).collect();
            let others: BTreeSet<_> =
                others.into_iter().map(|port| format!("{}/{}", port.port, port.protocol)).collect();
            let others = match others.is_empty() {
                true => "it publishes none".to_owned(),
                false => format!("it publishes {}", others.into_iter().collect::<Vec<_>>().join(", ")),
            };
            Err(format!("container {} does not publish port {port}/{protocol}: {others}", container.name))
        }
        _ => Ok(ports),
    }
}

/// Something that happened to a container of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceEvent {
    /// The service.
    pub service: String,
    /// What happened; its attributes without Docker Compose's labels.
    pub happening: Happening,
}

/// A happening as `events` tells of it: of the services (none: all), and not of `run`.
pub fn service_event(mut happening: Happening, services: &[String]) -> Option<ServiceEvent> {
    let label = |name: &str| happening.attributes.get(name).cloned().unwrap_or_default();
    let (service, oneoff) = (label(names::SERVICE), label(names::ONEOFF));
    if oneoff == "True" || !(services.is_empty() || services.contains(&service)) {
        return None;
    }
    happening.attributes.retain(|name, _| !name.starts_with("com.docker.compose."));
    Some(ServiceEvent { service, happening })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{MountPoint, State};

    fn container(project: &str, service: &str, number: &str, state: State) -> Container {
        let labels = [
            (names::PROJECT, project),
            (names::SERVICE, service),
            (names::NUMBER, number),
            (names::CONFIG_HASH, "x"),
            (names::CONFIG_FILES, if service == "web" { "/a.yml,/b.yml" } else { "/b.yml" }),
        ];
        let port = |host: Option<u16>, port: u16, protocol: &str| PublishedPort {
            host_ip: host.map(|_| "0.0.0.0".to_owned()),
            host_port: host,
            port,
            protocol: protocol.to_owned(),
        };
        Container {
            id: format!("{service}{number}"),
            name: format!("{project}-{service}-{number}"),
            image: String::new(),
            image_id: None,
            command: String::new(),
            created: 0,
            state,
            status: String::new(),
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            networks: BTreeMap::new(),
            ports: vec![port(Some(8080), 80, "tcp"), port(Some(9000), 90, "udp"), port(None, 7, "tcp")],
            mounts: vec![MountPoint {
                kind: "volume".to_owned(),
                name: Some(format!("p_{service}")),
                source: String::new(),
                target: "/d".to_owned(),
                driver: "local".to_owned(),
            }],
        }
    }

    #[test]
    fn projects_are_counted_by_the_states_of_their_containers() {
        let containers = [
            container("p", "web", "1", State::Running),
            container("p", "db", "1", State::Exited),
            container("q", "db", "1", State::Exited),
            container("p", "db", "2", State::Running),
        ];
        let texts = |all| -> Vec<String> {
            let found = stacks(&containers, all);
            found.iter().map(|one| format!("{} {} {}", one.name, one.status, one.config_files)).collect()
        };
        assert_eq!(texts(false), ["p running(2) /a.yml,/b.yml"]);
        assert_eq!(texts(true), ["p exited(1), running(2) /a.yml,/b.yml", "q exited(1) /b.yml"]);
    }

    #[test]
    fn volumes_are_the_projects_and_those_that_a_service_mounts() {
        let volume = |name: &str, project: &str| Volume {
            name: name.to_owned(),
            labels: [(names::PROJECT.to_owned(), project.to_owned())].into(),
            ..Volume::default()
        };
        let all = [volume("p_web", "p"), volume("p_db", "p"), volume("q_web", "q")];
        let containers = [container("p", "web", "1", State::Exited)];
        let names = |services: &[String]| -> Vec<&str> {
            volumes("p", &all, &containers, services).into_iter().map(|one| one.name.as_str()).collect()
        };
        assert_eq!(names(&[]), ["p_db", "p_web"]);
        assert_eq!(names(&["web".to_owned()]), ["p_web"]);
    }

    #[test]
    fn ports_are_found_by_service_number_port_and_protocol() {
        let containers =
            [container("p", "web", "2", State::Running), container("p", "web", "1", State::Exited)];
        let asked = |wanted: WantedPort<'_>| {
            let found = published(&containers, &WantedPort { service: "web", ..wanted });
            found.map(|ports| ports.iter().filter_map(|port| port.host_port).collect::<Vec<_>>())
        };
        let tcp = Some("tcp");
        assert_eq!(
            asked(WantedPort { port: Some(80), protocol: tcp, ..WantedPort::default() }),
            Ok(vec![8080])
        );
        assert_eq!(asked(WantedPort::default()), Ok(vec![8080, 9000]));
        let error = asked(WantedPort { port: Some(7), protocol: tcp, ..WantedPort::default() }).unwrap_err();
        assert_eq!(error, "container p-web-2 does not publish port 7/tcp: it publishes 80/tcp, 90/udp");
        let error = asked(WantedPort { number: Some(1), ..WantedPort::default() }).unwrap_err();
        assert_eq!(error, "service web has no running container of number 1");
    }

    #[test]
    fn events_are_those_of_services() {
        let attributes = [(names::SERVICE, "web"), (names::ONEOFF, "False"), ("name", "p-web-1")];
        let happening = Happening {
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..Happening::default()
        };
        let found = service_event(happening.clone(), &["web".to_owned()]).unwrap();
        assert_eq!(found.service, "web");
        assert_eq!(found.happening.attributes.keys().collect::<Vec<_>>(), ["name"]);
        assert_eq!(service_event(happening.clone(), &["db".to_owned()]), None);
        let mut oneoff = happening;
        oneoff.attributes.insert(names::ONEOFF.to_owned(), "True".to_owned());
        assert_eq!(service_event(oneoff, &[]), None);
    }
}
