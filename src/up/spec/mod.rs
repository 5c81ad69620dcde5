//! From a service to what the engine is told: the table of every key that reaches a container. Pure.
//!
//! [`desired`] makes one container's [`ContainerSpec`] with its name, its labels and its identity. The
//! spec names other services where the engine wants containers (`service:db`); `execute` puts ids there,
//! which are known only then. Keys that cannot be honoured are refused by [`refusals`], not passed over.

mod limits;
mod network;
mod prepare;
mod process;
mod refuse;
mod storage;

use std::collections::BTreeMap;

use crate::base::digest::Digest;
use crate::compose::{Project, Service, service_hash};
use crate::engine::{ContainerSpec, NetworkSpec, VolumeSpec};

use super::Image;
use super::files::Files;
use super::identity::{self, Identity};
use super::names;

pub(super) use prepare::prepare;
pub(super) use refuse::{refusals, remarks, wanted};

/// One container as it should be.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    /// Its name.
    pub(super) name: String,
    /// What the engine is told.
    pub(super) spec: ContainerSpec,
    /// Files to copy into it before it starts.
    pub(super) copies: Vec<Copy>,
    /// What it is made of, in one digest.
    pub(super) identity: Identity,
}

/// A file that is copied into a container.
#[derive(Clone, PartialEq, Eq)]
pub struct Copy {
    /// The absolute path in the container.
    pub(super) path: String,
    /// Owner and group.
    pub(super) owner: (u64, u64),
    /// Permissions.
    pub(super) mode: u32,
    /// The content.
    pub(super) bytes: Vec<u8>,
}

impl std::fmt::Debug for Copy {
    /// Without the bytes: they may be a secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Copy({})", self.path)
    }
}

/// The container with this number of a service. `scales` says how many containers each service has.
pub(super) fn desired(
    project: &Project,
    service_name: &str,
    service: &Service,
    number: u32,
    image: &Image,
    files: &Files,
    scales: &BTreeMap<String, u32>,
) -> Desired {
    let name = names::container(project, service_name, number);
    let mut spec = ContainerSpec { image: image.reference.clone(), ..ContainerSpec::default() };
    process::fill(&mut spec, service, files);
    limits::fill(&mut spec, service);
    network::fill(&mut spec, project, service_name, service, &name, scales);
    let (copies, contents) = storage::fill(&mut spec, project, service, files);
    let hooks = prepare::part(service).map(|text| ("pre_start", text));
    let identity = identity::of(&spec, &image.id, hooks, &contents);
    label(&mut spec, project, service_name, service, number, image);
    spec.labels.insert(names::IDENTITY.to_owned(), identity.digest.to_string());
    spec.labels.insert(names::PARTS.to_owned(), identity.parts_label());
    Desired { name, spec, copies, identity }
}

/// Docker Compose's labels.
fn label(
    spec: &mut ContainerSpec,
    project: &Project,
    service_name: &str,
    service: &Service,
    number: u32,
    image: &Image,
) {
    let labels = [
        (names::PROJECT, project.name.clone()),
        (names::SERVICE, service_name.to_owned()),
        (names::NUMBER, number.to_string()),
        (names::ONEOFF, "False".to_owned()),
        (names::CONFIG_HASH, service_hash(service)),
        (names::DEPENDS_ON, names::depends_on(service)),
        (names::IMAGE, image.id.to_string()),
        (names::CONFIG_FILES, names::config_files(project)),
        (names::WORKING_DIR, project.working_dir.display().to_string()),
        (names::VERSION, names::COMPOSE_VERSION.to_owned()),
    ];
    spec.labels.extend(labels.map(|(name, value)| (name.to_owned(), value)));
}

/// A network of the project as it should be, with the digest that its label has.
pub(super) fn network(project: &Project, key: &str) -> Option<(NetworkSpec, Digest)> {
    let network = project.networks.get(key)?;
    let mut spec = NetworkSpec {
        name: network.name.clone(),
        driver: network.driver.clone(),
        options: network.driver_opts.clone(),
        internal: network.internal,
        attachable: network.attachable,
        enable_ipv4: network.enable_ipv4,
        enable_ipv6: network.enable_ipv6,
        ipam_driver: network.ipam.driver.clone(),
        ipam_options: network.ipam.options.clone(),
        ipam_pools: network.ipam.config.iter().map(network::pool).collect(),
        labels: network.labels.clone(),
    };
    let identity = identity::of_resource(&spec);
    spec.labels.extend(resource_labels(project, names::NETWORK, key, &identity));
    Some((spec, identity))
}

/// A volume of the project as it should be, with the digest that its label has.
pub(super) fn volume(project: &Project, key: &str) -> Option<(VolumeSpec, Digest)> {
    let volume = project.volumes.get(key)?;
    let mut spec = VolumeSpec {
        name: volume.name.clone(),
        driver: volume.driver.clone(),
        options: volume.driver_opts.clone(),
        labels: volume.labels.clone(),
    };
    let identity = identity::of_resource(&spec);
    spec.labels.extend(resource_labels(project, names::VOLUME, key, &identity));
    Some((spec, identity))
}

/// Labels of a network or volume. No `config-hash`: a wrong one on a volume makes Docker Compose offer to
/// delete its data.
fn resource_labels(project: &Project, kind: &str, key: &str, identity: &Digest) -> [(String, String); 4] {
    [
        (names::PROJECT.to_owned(), project.name.clone()),
        (kind.to_owned(), key.to_owned()),
        (names::VERSION.to_owned(), names::COMPOSE_VERSION.to_owned()),
        (names::IDENTITY.to_owned(), identity.to_string()),
    ]
}

/// The services whose namespaces or volumes a service shares, in order.
pub(super) fn shares(service: &Service) -> Vec<String> {
    let modes = [&service.network_mode, &service.ipc, &service.pid];
    let mut shared: Vec<String> = modes
        .into_iter()
        .flatten()
        .filter_map(|mode| mode.strip_prefix("service:").map(str::to_owned))
        .chain(service.volumes_from.iter().filter_map(|from| volumes_service(from).map(str::to_owned)))
        .collect();
    shared.sort();
    shared.dedup();
    shared
}

/// The service of a `volumes_from` entry `SERVICE[:ro]`; `None` for `container:NAME`.
pub(super) fn volumes_service(from: &str) -> Option<&str> {
    let (name, _) = from.split_once(':').unwrap_or((from, ""));
    (name != "container").then_some(name)
}
