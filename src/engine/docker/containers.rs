//! Containers that exist: the list, their state, and the short actions on them.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    ContainerState, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum, HealthStatusEnum,
};
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder, StartContainerOptions,
    StopContainerOptionsBuilder,
};

use super::super::{Container, Health, MountPoint, PublishedPort, Result, State, Status, Terminal};
use super::images::digest;
use super::{Docker, existed, optional};

/// How often it is looked whether the engine has removed a container, and how many times.
const LOOK: Duration = Duration::from_millis(50);
const MOST_LOOKS: u32 = 400;

pub(super) fn list(docker: &Docker, labels: &[&str]) -> Result<Vec<Container>> {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>();
    let filters = HashMap::from([("label".to_owned(), labels)]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let request = docker.api.list_containers(Some(options));
    let found = docker.ask(|| "list the containers".to_owned(), request)?;
    Ok(found.into_iter().map(container).collect())
}

fn container(summary: ContainerSummary) -> Container {
    let names = summary.names.unwrap_or_default();
    // A container that others link to has further names `/OTHER/ALIAS`.
    let own = names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
    let networks = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let mut ports: Vec<_> = summary.ports.unwrap_or_default().into_iter().map(port).collect();
    ports.sort();
    Container {
        id: summary.id.unwrap_or_default(),
        name: own.unwrap_or_default().to_owned(),
        image: summary.image.unwrap_or_default(),
        image_id: summary.image_id.and_then(|id| digest("list the containers", &id).ok()),
        command: summary.command.unwrap_or_default(),
        created: summary.created.unwrap_or(0),
        state: listed_state(summary.state),
        status: summary.status.unwrap_or_default(),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        networks: networks
            .into_iter()
            .map(|(name, endpoint)| (name, endpoint.network_id.unwrap_or_default()))
            .collect(),
        ports,
        mounts: summary.mounts.unwrap_or_default().into_iter().map(mount).collect(),
    }
}

fn port(port: bollard::models::PortSummary) -> PublishedPort {
    PublishedPort {
        host_ip: port.ip.filter(|ip| !ip.is_empty()),
        host_port: port.public_port.filter(|port| *port != 0),
        port: port.private_port,
        protocol: port.typ.map_or_else(|| "tcp".to_owned(), |kind| kind.to_string()),
    }
}

fn mount(mount: bollard::models::MountPoint) -> MountPoint {
    MountPoint {
        kind: mount.typ.map(|kind| kind.to_string()).unwrap_or_default(),
        name: mount.name.filter(|name| !name.is_empty()),
        source: mount.source.unwrap_or_default(),
        target: mount.destination.unwrap_or_default(),
        driver: mount.driver.unwrap_or_default(),
    }
}

fn listed_state(state: Option<ContainerSummaryStateEnum>) -> State {
    match state {
        Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::STOPPING) => State::Running,
        Some(ContainerSummaryStateEnum::PAUSED) => State::Paused,
        Some(ContainerSummaryStateEnum::RESTARTING) => State::Restarting,
        Some(ContainerSummaryStateEnum::EXITED) => State::Exited,
        Some(ContainerSummaryStateEnum::REMOVING) => State::Removing,
        Some(ContainerSummaryStateEnum::DEAD) => State::Dead,
        Some(ContainerSummaryStateEnum::CREATED | ContainerSummaryStateEnum::EMPTY) | None => State::Created,
    }
}

fn inspected_state(state: Option<ContainerStateStatusEnum>) -> State {
    match state {
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING) => State::Running,
        Some(ContainerStateStatusEnum::PAUSED) => State::Paused,
        Some(ContainerStateStatusEnum::RESTARTING) => State::Restarting,
        Some(ContainerStateStatusEnum::EXITED) => State::Exited,
        Some(ContainerStateStatusEnum::REMOVING) => State::Removing,
        Some(ContainerStateStatusEnum::DEAD) => State::Dead,
        Some(ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY) | None => State::Created,
    }
}

pub(super) fn status(docker: &Docker, container: &str) -> Result<Option<Status>> {
    let request = docker.api.inspect_container(container, None::<InspectContainerOptions>);
    let found = optional(docker.ask(|| format!("inspect container {container}"), request))?;
    Ok(found.map(|found| full_status(found.state.unwrap_or_default())))
}

fn full_status(state: ContainerState) -> Status {
    let health = state.health.unwrap_or_default();
    let last = health.log.unwrap_or_default().pop().and_then(|check| check.output);
    Status {
        state: inspected_state(state.status),
        exit_code: state.exit_code.unwrap_or(0),
        health: match health.status {
            Some(HealthStatusEnum::STARTING) => Some(Health::Starting),
            Some(HealthStatusEnum::HEALTHY) => Some(Health::Healthy),
            Some(HealthStatusEnum::UNHEALTHY) => Some(Health::Unhealthy),
            Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => None,
        },
        health_output: last.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        error: state.error.filter(|text| !text.is_empty()),
        started: state.started_at.filter(|time| !time.starts_with("0001-")),
    }
}

pub(super) fn mounts(docker: &Docker, container: &str) -> Result<Vec<MountPoint>> {
    let request = docker.api.inspect_container(container, None::<InspectContainerOptions>);
    let found = docker.ask(|| format!("inspect container {container}"), request)?;
    Ok(found.mounts.unwrap_or_default().into_iter().map(mount).collect())
}

pub(super) fn terminal(docker: &Docker, container: &str) -> Result<Terminal> {
    let request = docker.api.inspect_container(container, None::<InspectContainerOptions>);
    let found = docker.ask(|| format!("inspect container {container}"), request)?;
    let config = found.config.unwrap_or_default();
    Ok(Terminal { tty: config.tty == Some(true), stdin_open: config.open_stdin == Some(true) })
}

pub(super) fn start(docker: &Docker, container: &str) -> Result<()> {
    let request = docker.api.start_container(container, None::<StartContainerOptions>);
    docker.ask(|| format!("start {container}"), request)
}

pub(super) fn stop(docker: &Docker, container: &str, timeout: Option<Duration>) -> Result<()> {
    let options = timeout.map(|timeout| {
        // The API's word for waiting as long as it takes.
        let forever = timeout == Duration::MAX;
        let seconds = if forever { -1 } else { i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX) };
        StopContainerOptionsBuilder::new().t(seconds).build()
    });
    existed(docker.ask(|| format!("stop {container}"), docker.api.stop_container(container, options)))
        .map(|_| ())
}

pub(super) fn kill(docker: &Docker, container: &str, signal: &str) -> Result<()> {
    let options = KillContainerOptionsBuilder::new().signal(signal).build();
    docker.ask(|| format!("kill {container}"), docker.api.kill_container(container, Some(options)))
}

pub(super) fn remove(docker: &Docker, container: &str, force: bool, volumes: bool) -> Result<bool> {
    let options = RemoveContainerOptionsBuilder::new().force(force).v(volumes).build();
    let removed =
        docker.ask(|| format!("remove {container}"), docker.api.remove_container(container, Some(options)));
    match removed {
        // The engine does it already, for a container that goes when it ends.
        Err(error) if error.is_conflict() && error.to_string().contains("is already in progress") => {
            for _ in 0..MOST_LOOKS {
                if status(docker, container)?.is_none() {
                    return Ok(true);
                }
                std::thread::sleep(LOOK);
            }
            Err(error)
        }
        removed => existed(removed),
    }
}

pub(super) fn rename(docker: &Docker, container: &str, name: &str) -> Result<()> {
    let options = RenameContainerOptionsBuilder::new().name(name).build();
    docker.ask(|| format!("rename {container} to {name}"), docker.api.rename_container(container, options))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_listed_container_becomes_plain_data() {
        let summary = json!({
            "Id": "ab", "Names": ["/other/alias", "/pack-web-1"], "Image": "nginx", "ImageID": "sha256:12",
            "Command": "nginx", "Created": 5, "State": "running", "Status": "Up 3 seconds (healthy)",
            "Labels": {"a": "b"}, "Ports": [
                {"PrivatePort": 443, "Type": "tcp"}, {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
            "NetworkSettings": {"Networks": {"pack_default": {"NetworkID": "n1"}}},
            "Mounts": [{"Type": "volume", "Name": "v", "Source": "", "Destination": "/data"}],
        });
        let found = container(serde_json::from_value(summary).unwrap());
        assert_eq!((found.name.as_str(), found.image_id, found.state), ("pack-web-1", None, State::Running));
        assert_eq!(found.networks["pack_default"], "n1");
        assert_eq!(found.ports[1].host_port, Some(8080));
        assert_eq!(found.mounts[0].name.as_deref(), Some("v"));
    }

    #[test]
    fn a_state_has_its_health_and_the_last_check() {
        let state = json!({"Status": "running", "StartedAt": "0001-01-01T00:00:00Z", "Error": "",
            "Health": {"Status": "unhealthy", "Log": [{"Output": "first"}, {"Output": " refused\n"}]}});
        let status = full_status(serde_json::from_value(state).unwrap());
        assert_eq!(status.health, Some(Health::Unhealthy));
        assert_eq!(status.health_output.as_deref(), Some("refused"));
        assert_eq!((status.started, status.error), (None, None));
    }
}
