//! Networks and volumes, as they are and as they are to be made. Plain data.

use std::collections::BTreeMap;

use serde::Serialize;

/// A network that exists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its driver: `bridge`.
    pub driver: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A network to be made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Its driver; the engine's default if `None`.
    pub driver: Option<String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether containers that no service has may join (Swarm).
    pub attachable: bool,
    /// IPv4 addresses; the engine's default if `None`.
    pub enable_ipv4: Option<bool>,
    /// IPv6 addresses; the engine's default if `None`.
    pub enable_ipv6: Option<bool>,
    /// Who gives out addresses; the engine's default if `None`.
    pub ipam_driver: Option<String>,
    /// Options of that driver.
    pub ipam_options: BTreeMap<String, String>,
    /// Its ranges of addresses.
    pub ipam_pools: Vec<IpamPool>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A range of addresses of a network.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct IpamPool {
    /// `172.28.0.0/16`.
    pub subnet: Option<String>,
    /// The part of it that containers get.
    pub ip_range: Option<String>,
    /// The gateway's address.
    pub gateway: Option<String>,
    /// Addresses that are taken: host name to address.
    pub aux_addresses: BTreeMap<String, String>,
}

/// A volume that exists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its driver: `local`.
    pub driver: String,
    /// Where it lies on the engine's host.
    pub mountpoint: String,
    /// Where it can be used: `local`, `global`.
    pub scope: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume to be made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// Its driver; the engine's default if `None`.
    pub driver: Option<String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}
