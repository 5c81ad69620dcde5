//! What `ps` shows: rows from the engine's list, with the texts that Docker's own commands print.

use std::collections::BTreeMap;

use crate::base::digest::Digest;
use crate::engine::{Container, MountPoint, PublishedPort, State};

use super::observe::{is_oneoff, number_of, service_of};

/// One container as `ps` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image as named at creation.
    pub image: String,
    /// The id of the image that it was made from.
    pub image_id: Option<Digest>,
    /// What it runs.
    pub command: String,
    /// Its service.
    pub service: String,
    /// Its number in the service.
    pub number: u32,
    /// When it was made, in Unix seconds.
    pub created: i64,
    /// Its state.
    pub state: State,
    /// Its state as a sentence: `Up 3 seconds (healthy)`.
    pub status: String,
    /// Its ports.
    pub ports: Vec<PublishedPort>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The names of its networks.
    pub networks: Vec<String>,
    /// Its mounts.
    pub mounts: Vec<MountPoint>,
}

/// The containers of the services (none: all): the running ones, or with `all` those that ended too.
/// Containers of `run` count with `all` only. Sorted by name.
pub fn ps(containers: &[Container], services: &[String], all: bool) -> Vec<Row> {
    let named = |one: &&Container| services.is_empty() || services.iter().any(|name| name == service_of(one));
    let shown = |one: &&Container| all || (!is_oneoff(one) && one.state.is_alive());
    let mut rows: Vec<_> = containers.iter().filter(named).filter(shown).map(row).collect();
    rows.sort_by(|left, right| left.name.cmp(&right.name));
    rows
}

fn row(container: &Container) -> Row {
    Row {
        id: container.id.clone(),
        name: container.name.clone(),
        image: container.image.clone(),
        image_id: container.image_id,
        command: container.command.clone(),
        service: service_of(container).to_owned(),
        number: number_of(container),
        created: container.created,
        state: container.state,
        status: container.status.clone(),
        ports: container.ports.clone(),
        labels: container.labels.clone(),
        networks: container.networks.keys().cloned().collect(),
        mounts: container.mounts.clone(),
    }
}

/// Ports as Docker prints them: `7000/tcp, 0.0.0.0:80->80/tcp, [::]:8000-8001->8000-8001/tcp`. Runs of
/// ports that have the same number on both sides are put together.
pub fn ports_text(ports: &[PublishedPort]) -> String {
    let mut ports: Vec<_> = ports.iter().collect();
    ports.sort_by_key(|port| (port.port, port.host_ip.clone(), port.host_port, port.protocol.clone()));
    let mut keys: Vec<(Option<&str>, &str)> = Vec::new();
    let mut groups: BTreeMap<(Option<&str>, &str), (u16, u16)> = BTreeMap::new();
    let (mut texts, mut mapped) = (Vec::new(), Vec::new());
    for port in ports {
        let ip = port.host_ip.as_deref();
        if let (Some(ip), Some(host)) = (ip, port.host_port)
            && host != port.port
        {
            mapped.push(format!("{}->{}/{}", joined(ip, &host.to_string()), port.port, port.protocol));
            continue;
        }
        let key = (ip.filter(|_| port.host_port.is_some()), port.protocol.as_str());
        match groups.get_mut(&key) {
            Some((_, last)) if port.port == *last + 1 => *last = port.port,
            Some(group) => {
                texts.push(group_text(key, *group));
                *group = (port.port, port.port);
            }
            None => {
                keys.push(key);
                groups.insert(key, (port.port, port.port));
            }
        }
    }
    texts.extend(keys.into_iter().map(|key| group_text(key, groups[&key])));
    texts.extend(mapped);
    texts.join(", ")
}

fn group_text((ip, protocol): (Option<&str>, &str), (first, last): (u16, u16)) -> String {
    let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match ip {
        Some(ip) => format!("{}->{ports}/{protocol}", joined(ip, &ports)),
        None => format!("{ports}/{protocol}"),
    }
}

fn joined(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// A time span as Docker prints it: `25 seconds`, `About an hour`, `3 weeks`.
pub fn human_duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours <= 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, host: u16, port: u16, protocol: &str) -> PublishedPort {
        PublishedPort {
            host_ip: (!ip.is_empty()).then(|| ip.to_owned()),
            host_port: (host > 0).then_some(host),
            port,
            protocol: protocol.to_owned(),
        }
    }

    #[test]
    fn ports_are_printed_as_docker_prints_them() {
        let ports = [
            port("", 0, 7000, "tcp"),
            port("0.0.0.0", 18501, 80, "tcp"),
            port("::", 18501, 80, "tcp"),
            port("127.0.0.1", 8001, 8001, "tcp"),
            port("127.0.0.1", 8000, 8000, "tcp"),
            port("", 0, 9000, "udp"),
            port("", 0, 9001, "udp"),
        ];
        assert_eq!(
            ports_text(&ports),
            "7000/tcp, 127.0.0.1:8000-8001->8000-8001/tcp, 9000-9001/udp, 0.0.0.0:18501->80/tcp, [::]:18501->80/tcp"
        );
    }

    #[test]
    fn time_spans_are_rounded_as_docker_rounds_them() {
        let texts = [0, 1, 25, 61, 150, 3600, 7000, 86_400 * 3, 86_400 * 20, 86_400 * 100, 86_400 * 800]
            .map(human_duration);
        assert_eq!(
            texts,
            [
                "Less than a second",
                "1 second",
                "25 seconds",
                "About a minute",
                "2 minutes",
                "About an hour",
                "2 hours",
                "3 days",
                "2 weeks",
                "3 months",
                "2 years"
            ]
        );
    }
}
