//! Networks and volumes: API types to ours and back.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, VolumeCreateRequest,
};
use bollard::query_parameters::{ListNetworksOptions, ListVolumesOptions, RemoveVolumeOptions};

use super::super::{Attachment, IpamPool, Network, NetworkSpec, Result, Volume, VolumeSpec};
use super::{Docker, existed};

pub(super) fn networks(docker: &Docker) -> Result<Vec<Network>> {
    let request = docker.api.list_networks(None::<ListNetworksOptions>);
    let found = docker.ask(|| "list the networks".to_owned(), request)?;
    let network = |network: bollard::models::Network| Network {
        id: network.id.unwrap_or_default(),
        name: network.name.unwrap_or_default(),
        driver: network.driver.unwrap_or_default(),
        labels: network.labels.unwrap_or_default().into_iter().collect(),
    };
    Ok(found.into_iter().map(network).collect())
}

pub(super) fn create_network(docker: &Docker, spec: &NetworkSpec) -> Result<String> {
    let request = docker.api.create_network(network_request(spec));
    Ok(docker.ask(|| format!("create network {}", spec.name), request)?.id)
}

fn network_request(spec: &NetworkSpec) -> NetworkCreateRequest {
    let ipam = Ipam {
        driver: spec.ipam_driver.clone(),
        config: filled(spec.ipam_pools.iter().map(pool).collect()),
        options: map(&spec.ipam_options),
    };
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: spec.driver.clone(),
        internal: Some(spec.internal),
        attachable: Some(spec.attachable),
        ipam: (ipam != Ipam::default()).then_some(ipam),
        enable_ipv4: spec.enable_ipv4,
        enable_ipv6: spec.enable_ipv6,
        options: map(&spec.options),
        labels: map(&spec.labels),
        ..NetworkCreateRequest::default()
    }
}

fn pool(pool: &IpamPool) -> IpamConfig {
    IpamConfig {
        subnet: pool.subnet.clone(),
        ip_range: pool.ip_range.clone(),
        gateway: pool.gateway.clone(),
        auxiliary_addresses: map(&pool.aux_addresses),
    }
}

pub(super) fn remove_network(docker: &Docker, network: &str) -> Result<bool> {
    existed(docker.ask(|| format!("remove network {network}"), docker.api.remove_network(network)))
}

pub(super) fn connect(
    docker: &Docker,
    network: &str,
    container: &str,
    attachment: &Attachment,
) -> Result<()> {
    let request = NetworkConnectRequest {
        container: container.to_owned(),
        endpoint_config: Some(endpoint(attachment)),
    };
    let action = || format!("connect {container} to network {}", attachment.network);
    docker.ask(action, docker.api.connect_network(network, request))
}

/// A container's place in a network, as both `create` and `connect` take it.
pub(super) fn endpoint(attachment: &Attachment) -> EndpointSettings {
    let addresses = EndpointIpamConfig {
        ipv4_address: attachment.ipv4_address.clone(),
        ipv6_address: attachment.ipv6_address.clone(),
        link_local_ips: filled(attachment.link_local_ips.clone()),
    };
    EndpointSettings {
        aliases: filled(attachment.aliases.clone()),
        links: filled(attachment.links.clone()),
        ipam_config: (addresses != EndpointIpamConfig::default()).then_some(addresses),
        mac_address: attachment.mac_address.clone(),
        driver_opts: map(&attachment.driver_opts),
        gw_priority: attachment.gw_priority,
        ..EndpointSettings::default()
    }
}

pub(super) fn disconnect(docker: &Docker, network: &str, container: &str) -> Result<()> {
    let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
    let action = || format!("disconnect {container} from network {network}");
    docker.ask(action, docker.api.disconnect_network(network, request))
}

pub(super) fn volumes(docker: &Docker) -> Result<Vec<Volume>> {
    let request = docker.api.list_volumes(None::<ListVolumesOptions>);
    let found = docker.ask(|| "list the volumes".to_owned(), request)?.volumes.unwrap_or_default();
    let volume = |volume: bollard::models::Volume| Volume {
        name: volume.name,
        driver: volume.driver,
        mountpoint: volume.mountpoint,
        scope: volume.scope.map(|scope| scope.to_string()).unwrap_or_default(),
        labels: volume.labels.into_iter().collect(),
    };
    Ok(found.into_iter().map(volume).collect())
}

pub(super) fn create_volume(docker: &Docker, spec: &VolumeSpec) -> Result<()> {
    let request = VolumeCreateRequest {
        name: Some(spec.name.clone()),
        driver: spec.driver.clone(),
        driver_opts: map(&spec.options),
        labels: map(&spec.labels),
        ..VolumeCreateRequest::default()
    };
    docker.ask(|| format!("create volume {}", spec.name), docker.api.create_volume(request)).map(|_| ())
}

pub(super) fn remove_volume(docker: &Docker, name: &str) -> Result<bool> {
    let request = docker.api.remove_volume(name, None::<RemoveVolumeOptions>);
    existed(docker.ask(|| format!("remove volume {name}"), request))
}

/// An API map; `None` if empty.
pub(super) fn map(map: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then(|| map.clone().into_iter().collect())
}

/// An API list; `None` if empty.
pub(super) fn filled<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
