//! A service and its parts, except for builds, mounts and `deploy`.

use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::build::{Build, Watch};
use super::deploy::{Deploy, DeviceRequest};
use super::storage::{Device, FileUse, Mount};
use super::values::{ByteSize, Cpus, Interval};
use super::{Extensions, is_false};

/// `services.NAME`, every short form written out, every relative path made absolute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// The profiles that make it take part; none: always.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// OCI annotations of the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whether `up` shows its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach: Option<bool>,
    /// How its image is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// What `watch` watches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub develop: Option<Watch>,
    /// Block device limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_config: Option<Blkio>,
    /// Further capabilities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// The parent control group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
    /// `host` or `private`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Processors (Windows).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_count: Option<i64>,
    /// Share of processors (Windows).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<Cpus>,
    /// Microseconds of a scheduler period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<i64>,
    /// Microseconds of use in a period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<i64>,
    /// Real-time scheduler period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_rt_period: Option<i64>,
    /// Real-time scheduler use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_rt_runtime: Option<i64>,
    /// Processors that it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// Which processors: `0-2,4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// Relative weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<i64>,
    /// Arguments instead of the image's CMD; `Some` and empty: none at all.
    pub command: Option<Vec<String>>,
    /// Configs that it sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<FileUse>,
    /// The container's name instead of `PROJECT-SERVICE-N`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Windows credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_spec: Option<CredentialSpec>,
    /// The services that go before it, also those implied by links and shared namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<String, Dependency>,
    /// Replicas and resources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,
    /// Rules of the devices control group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_cgroup_rules: Vec<String>,
    /// Devices of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Resolver options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_opt: Vec<String>,
    /// Search domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// The container's domain name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Instead of the image's ENTRYPOINT; `Some` and empty: none at all.
    pub entrypoint: Option<Vec<String>>,
    /// Variables, those of `env_file` included; `None`: taken out of the image's environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Option<String>>,
    /// Files with variables; empty once they are resolved into `environment`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_file: Vec<EnvFile>,
    /// Ports that other services may reach, `PORT[-PORT][/PROTOCOL]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// Always `None` after loading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extends: Option<Extends>,
    /// Containers outside of the project, `CONTAINER[:ALIAS]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external_links: Vec<String>,
    /// `HOST=ADDRESS` lines for the hosts file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<String>,
    /// Further groups of the process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// Graphics devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<DeviceRequest>,
    /// How its health is found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The container's host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The image that it runs, or the name that its build gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Run a small init as PID 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// IPC namespace: `host`, `shareable`, `service:NAME`, `container:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<String>,
    /// Isolation technology.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// The user's labels of the container, those of `label_file` included.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Files with labels; empty once they are resolved into `labels`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub label_file: Vec<String>,
    /// Services of the project by another host name, `SERVICE[:ALIAS]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Log driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// Memory that it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_limit: Option<ByteSize>,
    /// Memory that it is granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_reservation: Option<ByteSize>,
    /// Memory and swap together; −1: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memswap_limit: Option<ByteSize>,
    /// 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_swappiness: Option<ByteSize>,
    /// Of the first network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Language models that it uses.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, Option<ModelUse>>,
    /// `none`, `host`, `bridge`, `service:NAME`, `container:NAME`; excludes `networks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<String>,
    /// The networks that it joins, by key; `default` when nothing is said. Empty only with `network_mode`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, Option<NetworkUse>>,
    /// Do not kill it when memory runs out.
    #[serde(skip_serializing_if = "is_false")]
    pub oom_kill_disable: bool,
    /// −1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i64>,
    /// Process namespace: `host`, `service:NAME`, `container:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// Processes that it may have; −1: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
    /// `OS[/ARCHITECTURE[/VARIANT]]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Published ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Commands run in the container after its start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub post_start: Vec<Hook>,
    /// Commands run before its start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre_start: Vec<Hook>,
    /// Commands run in the container before its stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre_stop: Vec<Hook>,
    /// With every capability and device.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// An external program that provides the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// `always`, `never`, `missing`, `build`, `daily`, `weekly`, `every_DURATION`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<String>,
    /// Accepted by compose without effect.
    #[serde(skip_serializing)]
    pub pull_refresh_after: Option<String>,
    /// A root file system that cannot be written to.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// `no`, `always`, `unless-stopped`, `on-failure[:TIMES]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,
    /// The engine's runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// How many containers; agrees with `deploy.replicas`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
    /// Secrets that it sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<FileUse>,
    /// Security options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<String>,
    /// Size of `/dev/shm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<ByteSize>,
    /// Keep standard input open.
    #[serde(skip_serializing_if = "is_false")]
    pub stdin_open: bool,
    /// How long a stop waits before it kills; 10 s without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_period: Option<Interval>,
    /// The signal that stops it; the image's, or SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Options of the storage driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_opt: BTreeMap<String, String>,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Memory mounts, `PATH[:OPTIONS]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<String>,
    /// With a terminal.
    #[serde(skip_serializing_if = "is_false")]
    pub tty: bool,
    /// Limits of its processes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Give it the engine's socket and credentials.
    #[serde(skip_serializing_if = "is_false")]
    pub use_api_socket: bool,
    /// `USER[:GROUP]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// User namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns_mode: Option<String>,
    /// UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<String>,
    /// Mounts, in the order written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Mount>,
    /// Services or containers whose mounts it gets too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes_from: Vec<String>,
    /// The folder in which its command starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `x-*` keys.
    #[serde(skip)]
    pub extensions: Extensions,
}

/// One entry of `depends_on`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// What is waited for.
    pub condition: DependencyCondition,
    /// Restart the dependent when the dependency was recreated.
    #[serde(skip_serializing_if = "is_false")]
    pub restart: bool,
    /// Whether it is an error that the dependency does not come up.
    pub required: bool,
}

impl Default for Dependency {
    fn default() -> Self {
        Self { condition: DependencyCondition::default(), restart: false, required: true }
    }
}

/// What a dependent waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DependencyCondition {
    /// It was started.
    #[default]
    #[serde(rename = "service_started")]
    Started,
    /// Its health check passed.
    #[serde(rename = "service_healthy")]
    Healthy,
    /// It ended with code 0.
    #[serde(rename = "service_completed_successfully")]
    Completed,
}

impl DependencyCondition {
    /// The word that the files and labels use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "service_started",
            Self::Healthy => "service_healthy",
            Self::Completed => "service_completed_successfully",
        }
    }
}

/// `services.NAME.healthcheck`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `CMD` and arguments, `CMD-SHELL` and a script, or `NONE`; empty: the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// When a probe counts as failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Interval>,
    /// Between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u64>,
    /// During which failures do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<Interval>,
    /// Between probes during the start period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<Interval>,
    /// Take the image's health check away.
    #[serde(skip_serializing_if = "is_false")]
    pub disable: bool,
    /// `x-*` keys.
    #[serde(skip)]
    pub extensions: Extensions,
}

/// One entry of `ports`: one container port (ranges are spread out).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// For the reader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `ingress` unless `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The address of the host; all without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    /// The container's port.
    pub target: u16,
    /// The host's port or range `8000-8010`; any free port without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// `tcp` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// For the reader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// `x-*` keys.
    #[serde(skip)]
    pub extensions: Extensions,
}

/// One entry of a service's `networks`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkUse {
    /// Further host names on this network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Options of the endpoint.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// The highest gives the default gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw_priority: Option<i64>,
    /// The interface's name in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// A fixed address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    /// A fixed address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    /// Link-local addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link_local_ips: Vec<String>,
    /// On this network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// The highest is joined first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// `x-*` keys.
    #[serde(skip)]
    pub extensions: Extensions,
}

/// One entry of `env_file`. Its text form is the path alone where that says everything.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct EnvFile {
    /// Absolute.
    pub path: String,
    /// Whether it is an error that it is missing.
    pub required: bool,
    /// `raw` for `docker run`'s rules.
    pub format: Option<String>,
}

impl Serialize for EnvFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.required && self.format.is_none() {
            return serializer.serialize_str(&self.path);
        }
        let mut whole = serializer.serialize_struct("EnvFile", 2 + usize::from(self.format.is_some()))?;
        whole.serialize_field("path", &self.path)?;
        whole.serialize_field("required", &self.required)?;
        match &self.format {
            Some(format) => whole.serialize_field("format", format)?,
            None => whole.skip_field("format")?,
        }
        whole.end()
    }
}

impl Default for EnvFile {
    fn default() -> Self {
        Self { path: String::new(), required: true, format: None }
    }
}

/// `extends`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extends {
    /// The service to begin with.
    pub service: String,
    /// The file that has it; this one without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// `services.NAME.logging`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// The engine's default without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The driver's options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// `x-*` keys.
    #[serde(skip)]
    pub extensions: Extensions,
}

/// A command run in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The image of a `pre_start` container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Once for every container.
    #[serde(skip_serializing_if = "is_false")]
    pub per_replica: bool,
    /// As whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With every capability.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Further variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Option<String>>,
    /// `x-*` keys.
    #[serde(skip)]
    pub extensions: Extensions,
}

/// One limit: either `single` for both bounds, or the two.
///
/// Its text form is a number, or an object of the two bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "UlimitForm", into = "UlimitForm")]
pub struct Ulimit {
    /// Both bounds.
    pub single: Option<i64>,
    /// The bound in force.
    pub soft: Option<i64>,
    /// How far it may be raised.
    pub hard: Option<i64>,
}

/// How a limit is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum UlimitForm {
    Single(i64),
    Bounds {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        soft: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hard: Option<i64>,
    },
}

impl From<UlimitForm> for Ulimit {
    fn from(form: UlimitForm) -> Self {
        match form {
            UlimitForm::Single(single) => Self { single: Some(single), soft: None, hard: None },
            UlimitForm::Bounds { soft, hard } => Self { single: None, soft, hard },
        }
    }
}

impl From<Ulimit> for UlimitForm {
    fn from(limit: Ulimit) -> Self {
        match limit.single {
            Some(single) => Self::Single(single),
            None => Self::Bounds { soft: limit.soft, hard: limit.hard },
        }
    }
}

/// `services.NAME.blkio_config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blkio {
    /// 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// By device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_read_bps: Vec<ThrottleDevice>,
    /// Operations a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_read_iops: Vec<ThrottleDevice>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_write_bps: Vec<ThrottleDevice>,
    /// Operations a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_write_iops: Vec<ThrottleDevice>,
}

/// A device's weight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightDevice {
    /// The device.
    pub path: String,
    /// 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
}

/// A device's limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottleDevice {
    /// The device.
    pub path: String,
    /// A second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<ByteSize>,
}

/// Windows credentials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CredentialSpec {
    /// A key of the project's configs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// A file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A registry value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
}

/// How a service learns of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelUse {
    /// The variable that gets the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_var: Option<String>,
    /// The variable that gets the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_var: Option<String>,
}

/// `services.NAME.provider`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provider {
    /// The program.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Vec<String>>,
}
