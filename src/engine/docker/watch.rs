//! Processes, usage and events of containers, and freezing them.
//!
//! The two streams end as those of `streams` do: with their source, when our side fails, or when the
//! command is stopped.

use std::collections::HashMap;
use std::io;

use bollard::models::{ContainerBlkioStatEntry, ContainerCpuStats, ContainerMemoryStats, EventMessage};
use bollard::query_parameters::{EventsOptionsBuilder, StatsOptionsBuilder, TopOptions};
use futures_util::StreamExt;

use crate::base::cancel::Cancel;

use super::super::{EngineError, Happening, HappeningOptions, Processes, Result, Usage};
use super::streams::stopped;
use super::{Docker, failed};

pub(super) fn top(docker: &Docker, container: &str) -> Result<Processes> {
    let request = docker.api.top_processes(container, None::<TopOptions>);
    let found = docker.ask(|| format!("list the processes of {container}"), request)?;
    Ok(Processes { titles: found.titles.unwrap_or_default(), rows: found.processes.unwrap_or_default() })
}

pub(super) fn pause(docker: &Docker, container: &str) -> Result<()> {
    docker.ask(|| format!("pause {container}"), docker.api.pause_container(container))
}

pub(super) fn unpause(docker: &Docker, container: &str) -> Result<()> {
    docker.ask(|| format!("unpause {container}"), docker.api.unpause_container(container))
}

pub(super) fn stats(
    docker: &Docker,
    container: &str,
    follow: bool,
    sink: &mut dyn FnMut(Usage) -> io::Result<()>,
    cancel: &Cancel,
) -> Result<()> {
    let action = || format!("read the usage of {container}");
    let query = StatsOptionsBuilder::new().stream(follow).build();
    docker.runtime.block_on(async {
        let mut stream = std::pin::pin!(docker.api.stats(container, Some(query)));
        loop {
            let answer = tokio::select! {
                answer = stream.next() => answer,
                () = stopped(cancel) => return Ok(()),
            };
            let Some(answer) = answer else { return Ok(()) };
            let answer = answer.map_err(|error| failed(action(), error))?;
            sink(usage(answer)).map_err(|source| EngineError::Transfer { action: action(), source })?;
        }
    })
}

fn usage(stats: bollard::models::ContainerStatsResponse) -> Usage {
    let total =
        |cpu: &ContainerCpuStats| cpu.cpu_usage.as_ref().and_then(|usage| usage.total_usage).unwrap_or(0);
    let cpu = stats.cpu_stats.unwrap_or_default();
    let before = stats.precpu_stats.unwrap_or_default();
    let listed = cpu.cpu_usage.as_ref().and_then(|usage| usage.percpu_usage.as_ref()).map_or(0, Vec::len);
    let memory = stats.memory_stats.unwrap_or_default();
    let networks = stats.networks.unwrap_or_default();
    let disks = stats.blkio_stats.and_then(|disks| disks.io_service_bytes_recursive).unwrap_or_default();
    Usage {
        cpu: total(&cpu),
        cpu_before: total(&before),
        system: cpu.system_cpu_usage.unwrap_or(0),
        system_before: before.system_cpu_usage.unwrap_or(0),
        processors: cpu
            .online_cpus
            .filter(|count| *count > 0)
            .unwrap_or_else(|| u32::try_from(listed).unwrap_or(0)),
        memory: used(&memory),
        memory_limit: memory.limit.unwrap_or(0),
        received: networks.values().filter_map(|network| network.rx_bytes).sum(),
        sent: networks.values().filter_map(|network| network.tx_bytes).sum(),
        read: transferred(&disks, 'r'),
        written: transferred(&disks, 'w'),
        processes: stats.pids_stats.and_then(|processes| processes.current).unwrap_or(0),
    }
}

/// Memory without the inactive file cache, under its name of cgroup v1 or of v2.
fn used(memory: &ContainerMemoryStats) -> u64 {
    let usage = memory.usage.unwrap_or(0);
    let named = |name: &str| memory.stats.as_ref().and_then(|stats| stats.get(name)).copied();
    match named("total_inactive_file").or_else(|| named("inactive_file")) {
        Some(inactive) if inactive < usage => usage - inactive,
        _ => usage,
    }
}

/// Bytes of all entries whose operation begins with a letter.
fn transferred(entries: &[ContainerBlkioStatEntry], letter: char) -> u64 {
    let is = |entry: &&ContainerBlkioStatEntry| {
        entry.op.as_ref().is_some_and(|op| op.to_ascii_lowercase().starts_with(letter))
    };
    entries.iter().filter(is).filter_map(|entry| entry.value).sum()
}

pub(super) fn happenings(
    docker: &Docker,
    options: &HappeningOptions,
    sink: &mut dyn FnMut(Happening) -> io::Result<()>,
    cancel: &Cancel,
) -> Result<()> {
    let action = || "read what happens to the containers".to_owned();
    let filters = HashMap::from([
        ("type".to_owned(), vec!["container".to_owned()]),
        ("label".to_owned(), options.labels.clone()),
    ]);
    let mut query = EventsOptionsBuilder::new().filters(&filters);
    if let Some(since) = options.since {
        query = query.since(&time(since));
    }
    if let Some(until) = options.until {
        query = query.until(&time(until));
    }
    let query = query.build();
    docker.runtime.block_on(async {
        let mut stream = std::pin::pin!(docker.api.events(Some(query)));
        loop {
            let message = tokio::select! {
                message = stream.next() => message,
                () = stopped(cancel) => return Ok(()),
            };
            let Some(message) = message else { return Ok(()) };
            let message = message.map_err(|error| failed(action(), error))?;
            sink(happening(message)).map_err(|source| EngineError::Transfer { action: action(), source })?;
        }
    })
}

fn happening(message: EventMessage) -> Happening {
    let actor = message.actor.unwrap_or_default();
    Happening {
        container: actor.id.unwrap_or_default(),
        action: message.action.unwrap_or_default(),
        attributes: actor.attributes.unwrap_or_default().into_iter().collect(),
        time: message.time_nano.unwrap_or_else(|| message.time.unwrap_or(0).saturating_mul(1_000_000_000)),
    }
}

/// A time as the API takes it: seconds and nanoseconds.
fn time(nanoseconds: i64) -> String {
    let (seconds, rest) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    format!("{seconds}.{rest:09}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn usage_is_what_the_docker_command_counts() {
        let answer = json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 300, "percpu_usage": [1, 2]}, "system_cpu_usage": 2000},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 50, "limit": 100, "stats": {"inactive_file": 20}},
            "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 3, "tx_bytes": 4}},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"op": "Read", "value": 7}, {"op": "write", "value": 8}, {"op": "Total", "value": 15}]},
            "pids_stats": {"current": 3},
        });
        let usage = usage(serde_json::from_value(answer).unwrap());
        let expected = Usage {
            cpu: 300,
            cpu_before: 100,
            system: 2000,
            system_before: 1000,
            processors: 2,
            memory: 30,
            memory_limit: 100,
            received: 4,
            sent: 6,
            read: 7,
            written: 8,
            processes: 3,
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn an_event_becomes_plain_data() {
        let message = json!({"Type": "container", "Action": "die", "time": 5,
            "Actor": {"ID": "ab", "Attributes": {"exitCode": "3"}}});
        let found = happening(serde_json::from_value(message).unwrap());
        assert_eq!((found.container.as_str(), found.action.as_str()), ("ab", "die"));
        assert_eq!((found.attributes["exitCode"].as_str(), found.time), ("3", 5_000_000_000));
        assert_eq!((time(5_000_000_001), time(-1)), ("5.000000001".to_owned(), "-1.999999999".to_owned()));
    }
}
