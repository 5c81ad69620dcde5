//! Where the container is found: networks with aliases, ports, links, name resolution.

use std::collections::BTreeMap;

use crate::compose::{self, NetworkUse, Port, Project, Service};
use crate::engine::{Attachment, ContainerSpec, IpamPool, PortBinding, Protocol};

use super::names;

/// Fills in the keys of this group.
pub(super) fn fill(
    spec: &mut ContainerSpec,
    project: &Project,
    service_name: &str,
    service: &Service,
    name: &str,
    scales: &BTreeMap<String, u32>,
) {
    let links = links(project, service, scales);
    match &service.network_mode {
        Some(mode) => {
            spec.network_mode = Some(mode.clone());
            spec.links = links;
        }
        None => {
            let attach = |key| attachment(project, service_name, service, name, key, &links);
            spec.networks = network_order(service).into_iter().filter_map(attach).collect();
            let main = spec.networks.first_mut();
            spec.network_mode = Some(main.as_ref().map_or("none", |main| main.network.as_str()).to_owned());
            if let Some(main) = main.filter(|main| main.mac_address.is_none()) {
                main.mac_address.clone_from(&service.mac_address);
            }
        }
    }
    spec.exposed = service.expose.iter().flat_map(|ports| exposed(ports)).collect();
    spec.ports = service.ports.iter().map(port).collect();
    spec.dns.clone_from(&service.dns);
    spec.dns_options.clone_from(&service.dns_opt);
    spec.dns_search.clone_from(&service.dns_search);
    spec.extra_hosts = service.extra_hosts.iter().map(|host| host.replacen('=', ":", 1)).collect();
}

/// The key of the network that a service's container has first.
pub(super) fn main(service: &Service) -> Option<&String> {
    network_order(service).into_iter().next()
}

/// The keys of a service's networks in the order of joining: the highest priority first, then by name.
fn network_order(service: &Service) -> Vec<&String> {
    let priority = |used: &Option<NetworkUse>| used.as_ref().and_then(|used| used.priority).unwrap_or(0);
    let mut keys: Vec<_> = service.networks.iter().collect();
    keys.sort_by_key(|(key, used)| (std::cmp::Reverse(priority(used)), *key));
    keys.into_iter().map(|(key, _)| key).collect()
}

fn attachment(
    project: &Project,
    service_name: &str,
    service: &Service,
    name: &str,
    key: &String,
    links: &[String],
) -> Option<Attachment> {
    let network = project.networks.get(key)?.name.clone();
    let used = service.networks.get(key).cloned().flatten().unwrap_or_default();
    let mut aliases = vec![name.to_owned(), service_name.to_owned()];
    aliases.extend(used.aliases);
    let mut seen = std::collections::BTreeSet::new();
    aliases.retain(|alias| seen.insert(alias.clone()));
    let mut driver_opts = used.driver_opts;
    if let Some(interface) = used.interface_name {
        driver_opts.insert("com.docker.network.endpoint.ifname".to_owned(), interface);
    }
    Some(Attachment {
        network,
        aliases,
        links: links.to_vec(),
        ipv4_address: used.ipv4_address,
        ipv6_address: used.ipv6_address,
        link_local_ips: used.link_local_ips,
        mac_address: used.mac_address,
        driver_opts,
        gw_priority: used.gw_priority,
    })
}

/// Three names for each container of a linked service, and the external links.
fn links(project: &Project, service: &Service, scales: &BTreeMap<String, u32>) -> Vec<String> {
    let mut links = Vec::new();
    for link in &service.links {
        let (linked, alias) = link.split_once(':').unwrap_or((link, link));
        for number in 1..=scales.get(linked).copied().unwrap_or(1) {
            let name = names::container(project, linked, number);
            links.push(format!("{name}:{alias}"));
            links.push(format!("{name}:{linked}-{number}"));
            links.push(format!("{name}:{name}"));
        }
    }
    for link in &service.external_links {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        links.push(format!("{name}:{alias}"));
    }
    links
}

fn port(port: &Port) -> PortBinding {
    PortBinding {
        host_ip: port.host_ip.clone().unwrap_or_default(),
        host_port: port.published.clone().unwrap_or_default(),
        port: port.target,
        protocol: Protocol(port.protocol.clone().unwrap_or_else(|| "tcp".to_owned())),
    }
}

/// The ports of an `expose` entry `PORT[-PORT][/PROTOCOL]`.
fn exposed(entry: &str) -> Vec<String> {
    let (ports, protocol) = entry.split_once('/').unwrap_or((entry, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).map(|port| format!("{port}/{protocol}")).collect(),
        _ => vec![format!("{ports}/{protocol}")],
    }
}

pub(super) fn pool(pool: &compose::IpamPool) -> IpamPool {
    IpamPool {
        subnet: pool.subnet.clone(),
        ip_range: pool.ip_range.clone(),
        gateway: pool.gateway.clone(),
        aux_addresses: pool.aux_addresses.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_network_has_the_highest_priority_and_aliases_come_once() {
        let network = |name: &str| compose::Network { name: name.to_owned(), ..Default::default() };
        let project = Project {
            name: "p".to_owned(),
            networks: [("a".to_owned(), network("p_a")), ("b".to_owned(), network("p_b"))].into(),
            ..Project::default()
        };
        let used = NetworkUse {
            priority: Some(5),
            aliases: vec!["x".to_owned(), "web".to_owned()],
            ..NetworkUse::default()
        };
        let service = Service {
            networks: [("a".to_owned(), None), ("b".to_owned(), Some(used))].into(),
            links: vec!["db:d".to_owned()],
            ..Service::default()
        };
        let mut spec = ContainerSpec::default();
        fill(&mut spec, &project, "web", &service, "p-web-1", &BTreeMap::new());
        assert_eq!(spec.network_mode.as_deref(), Some("p_b"));
        assert_eq!(spec.networks[0].aliases, ["p-web-1", "web", "x"]);
        assert_eq!(spec.networks[1].network, "p_a");
        assert_eq!(spec.networks[0].links, ["p-db-1:d", "p-db-1:db-1", "p-db-1:p-db-1"]);
    }

    #[test]
    fn exposed_ranges_are_spread() {
        assert_eq!(exposed("7000-7002/udp"), ["7000/udp", "7001/udp", "7002/udp"]);
        assert_eq!(exposed("80"), ["80/tcp"]);
    }
}
