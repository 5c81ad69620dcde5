//! What older engines would pass over in silence: each field with the first API that knows it.
//!
//! An engine ignores what it does not know. A container that is not what the file says is worse than
//! none, so such a field is refused by name; the engine's version is asked for only where one is in use.

use super::super::{Attachment, ContainerSpec, EngineError, MountKind, NetworkSpec, Result};
use super::Docker;
use super::images::api_number;

/// A field, the first API that knows it, and the Docker Engine that brought it.
type Need = (&'static str, (u32, u32), &'static str);

/// Refuses a container that the engine would not make as it is described.
pub(super) fn container(docker: &Docker, name: &str, spec: &ContainerSpec) -> Result<()> {
    refuse(docker, &format!("create container {name}"), &container_needs(spec))
}

/// Refuses a network that the engine would not make as it is described.
pub(super) fn network(docker: &Docker, spec: &NetworkSpec) -> Result<()> {
    // Without the field there is IPv4.
    let needs: &[Need] =
        if spec.enable_ipv4 == Some(false) { &[("enable_ipv4", (1, 47), "27.2")] } else { &[] };
    refuse(docker, &format!("create network {}", spec.name), needs)
}

fn refuse(docker: &Docker, action: &str, needs: &[Need]) -> Result<()> {
    if needs.is_empty() {
        return Ok(());
    }
    let version = docker.ask(|| "ask the engine for its version".to_owned(), docker.api.version())?;
    let api = version.api_version.unwrap_or_default();
    let Some((field, _, engine)) = missing(needs, &api) else { return Ok(()) };
    let message = format!(
        "this engine would ignore `{field}`: it speaks API {api}, and Docker Engine {engine} is needed"
    );
    Err(EngineError::Refused { action: action.to_owned(), status: 400, message })
}

/// The first need that an engine with this API does not fulfil.
fn missing<'n>(needs: &'n [Need], api: &str) -> Option<&'n Need> {
    let has = api_number(api)?;
    needs.iter().find(|(_, least, _)| has < *least)
}

fn container_needs(spec: &ContainerSpec) -> Vec<Need> {
    let attached = |test: fn(&Attachment) -> bool| spec.networks.iter().any(test);
    let mounted = |test: fn(&MountKind) -> bool| spec.mounts.iter().any(|mount| test(&mount.kind));
    let interface =
        |attachment: &Attachment| attachment.driver_opts.contains_key("com.docker.network.endpoint.ifname");
    let strict = |kind: &MountKind| {
        matches!(
            kind,
            MountKind::Bind { read_only_non_recursive: true, .. }
                | MountKind::Bind { read_only_force_recursive: true, .. }
        )
    };
    let start_interval = spec.healthcheck.as_ref().is_some_and(|check| check.start_interval.is_some());
    let table: [(bool, Need); 8] = [
        (!spec.annotations.is_empty(), ("annotations", (1, 43), "24")),
        (attached(|one| one.mac_address.is_some()), ("mac_address", (1, 44), "25")),
        (start_interval, ("healthcheck.start_interval", (1, 44), "25")),
        (mounted(strict), ("bind.recursive", (1, 44), "25")),
        (
            mounted(|kind| matches!(kind, MountKind::Volume { subpath: Some(_), .. })),
            ("volume.subpath", (1, 45), "26"),
        ),
        (mounted(|kind| matches!(kind, MountKind::Image { .. })), ("volumes of type image", (1, 48), "28")),
        (attached(|one| one.gw_priority.is_some()), ("gw_priority", (1, 48), "28")),
        (attached(interface), ("interface_name", (1, 49), "28.1")),
    ];
    table.into_iter().filter(|(used, _)| *used).map(|(_, need)| need).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_use_is_needed_and_only_old_engines_lack_it() {
        assert!(container_needs(&ContainerSpec::default()).is_empty());
        let attachment =
            Attachment { mac_address: Some("02:42:ac:11:00:02".to_owned()), ..Default::default() };
        let spec = ContainerSpec { networks: vec![attachment], ..ContainerSpec::default() };
        let needs = container_needs(&spec);
        assert_eq!(needs.iter().map(|need| need.0).collect::<Vec<_>>(), ["mac_address"]);
        assert!(missing(&needs, "1.41").is_some());
        assert!(missing(&needs, "1.44").is_none());
    }
}
