//! Containers, as they are and as they are to be made. Plain data.
//!
//! [`ContainerSpec`] is everything that an engine is told when it makes a container, in one value with
//! maps in order: `up` serialises it, and that digest (with the image's) is the container's identity.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::base::digest::Digest;

use super::session::TerminalSize;

/// A container that exists, as the list shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Container {
    /// Its id (64 hexadecimal digits).
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// The image as it was named at creation.
    pub image: String,
    /// The id of the image that it was made from.
    pub image_id: Option<Digest>,
    /// What it runs, in one line.
    pub command: String,
    /// When it was made, in Unix seconds.
    pub created: i64,
    /// Its state.
    pub state: State,
    /// Its state as a sentence of the engine: `Up 3 seconds (healthy)`.
    pub status: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The networks that it is attached to: name to network id (empty while it never ran, on some engines).
    pub networks: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<PublishedPort>,
    /// Its mounts.
    pub mounts: Vec<MountPoint>,
}

/// What a container is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Running but frozen.
    Paused,
    /// Between two runs of its restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Could not be removed.
    Dead,
}

impl State {
    /// Whether it has not come to its end: it runs, is frozen, or is between two runs.
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// Its name as the API writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// What a container is doing now, in full.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Its last exit code.
    pub exit_code: i64,
    /// Its health, if anything checks it.
    pub health: Option<Health>,
    /// What its last health check printed.
    pub health_output: Option<String>,
    /// Why it could not be started, if so.
    pub error: Option<String>,
    /// When its present or last run began, as RFC 3339, if ever.
    pub started: Option<String>,
}

/// The result of a container's health checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Too young to say.
    Starting,
    /// The last check succeeded.
    Healthy,
    /// As many checks as it has retries failed.
    Unhealthy,
}

/// A mount of a container that exists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountPoint {
    /// `volume`, `bind`, `tmpfs` …
    pub kind: String,
    /// The volume's name, for a volume.
    pub name: Option<String>,
    /// The path on the host.
    pub source: String,
    /// The path in the container.
    pub target: String,
    /// The volume's driver, for a volume.
    pub driver: String,
}

/// A port of a container that exists.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct PublishedPort {
    /// The host's address, if published.
    pub host_ip: Option<String>,
    /// The host's port, if published.
    pub host_port: Option<u16>,
    /// The container's port.
    pub port: u16,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
}

/// What [`create`](super::Engine::create) made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Created {
    /// The container's id.
    pub id: String,
    /// What the engine warned about.
    pub warnings: Vec<String>,
}

/// Everything that an engine is told when it makes a container. `None` and empty: the engine's or the
/// image's default.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct ContainerSpec {
    /// The image, by id or reference.
    pub image: String,
    /// The platform (`linux/arm64`) that is asked for.
    pub platform: Option<String>,
    /// The command; `Some(empty)` drops the image's.
    pub command: Option<Vec<String>>,
    /// The entry point; `Some(empty)` drops the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Environment: `None` as a value removes the image's variable.
    pub env: BTreeMap<String, Option<String>>,
    /// User, perhaps with a group.
    pub user: Option<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Domain name.
    pub domainname: Option<String>,
    /// MAC address of the main network's interface.
    pub mac_address: Option<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub stdin_open: bool,
    /// Whether its standard input ends with the first session that was attached to it.
    pub stdin_once: bool,
    /// Whether the engine removes it when it ends.
    pub auto_remove: bool,
    /// How large its terminal is at first.
    pub console_size: Option<TerminalSize>,
    /// The signal that stops it.
    pub stop_signal: Option<String>,
    /// How long it may take to stop.
    pub stop_timeout_seconds: Option<i64>,
    /// How its health is checked.
    pub healthcheck: Option<Healthcheck>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations for the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Ports that it offers: `8080/tcp`.
    pub exposed: Vec<String>,
    /// Ports that the host gives it.
    pub ports: Vec<PortBinding>,
    /// Paths that get an anonymous volume if nothing else is mounted there.
    pub anonymous_volumes: Vec<String>,
    /// Binds in the engine's short form: `/host/path:/path:rw`.
    pub binds: Vec<String>,
    /// Further mounts.
    pub mounts: Vec<Mount>,
    /// tmpfs mounts: path to options.
    pub tmpfs: BTreeMap<String, String>,
    /// Containers whose volumes it shares: `ID` or `ID:ro`.
    pub volumes_from: Vec<String>,
    /// `none`, `host`, `container:ID`, or the main network's name.
    pub network_mode: Option<String>,
    /// The networks to join, the main one (of `network_mode`) first.
    pub networks: Vec<Attachment>,
    /// Old-style links: `container:alias`.
    pub links: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Lines for `/etc/hosts`: `name:address`.
    pub extra_hosts: Vec<String>,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Whether a small init is PID 1.
    pub init: Option<bool>,
    /// The OCI runtime.
    pub runtime: Option<String>,
    /// Log driver and its options.
    pub log_driver: Option<String>,
    /// The log driver's options.
    pub log_options: BTreeMap<String, String>,
    /// Whether its root file system is read-only.
    pub read_only: bool,
    /// Whether it may do everything.
    pub privileged: bool,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// Security options.
    pub security_opt: Vec<String>,
    /// Whether the paths of `/proc` and `/sys` that an engine hides or protects are as the kernel has them.
    pub unmasked: bool,
    /// Further groups.
    pub group_add: Vec<String>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Storage driver options.
    pub storage_opt: BTreeMap<String, String>,
    /// IPC namespace.
    pub ipc: Option<String>,
    /// PID namespace.
    pub pid: Option<String>,
    /// UTS namespace.
    pub uts: Option<String>,
    /// User namespace.
    pub userns: Option<String>,
    /// Cgroup namespace: `host` or `private`.
    pub cgroup: Option<String>,
    /// Isolation technology.
    pub isolation: Option<String>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<i64>,
    /// Limits.
    pub resources: Resources,
}

/// Limits on a container's use of the machine. `None`: no limit.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Resources {
    /// CPUs, in billionths.
    pub nano_cpus: Option<i64>,
    /// Relative weight.
    pub cpu_shares: Option<i64>,
    /// CFS period in microseconds.
    pub cpu_period: Option<i64>,
    /// CFS quota in microseconds.
    pub cpu_quota: Option<i64>,
    /// Real-time period in microseconds.
    pub cpu_rt_period: Option<i64>,
    /// Real-time run time in microseconds.
    pub cpu_rt_runtime: Option<i64>,
    /// Number of CPUs (Windows).
    pub cpu_count: Option<i64>,
    /// Percent of the CPUs (Windows).
    pub cpu_percent: Option<i64>,
    /// The CPUs that may be used: `0-2,4`.
    pub cpuset: Option<String>,
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes that are kept for it under pressure.
    pub memory_reservation: Option<i64>,
    /// Bytes of memory and swap; -1 for no limit.
    pub memory_swap: Option<i64>,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Whether the out-of-memory killer passes it over.
    pub oom_kill_disable: Option<bool>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i64>,
    /// Processes; -1 for no limit.
    pub pids_limit: Option<i64>,
    /// Parent cgroup.
    pub cgroup_parent: Option<String>,
    /// `ulimit` values.
    pub ulimits: Vec<Ulimit>,
    /// Rules for devices: `c 1:3 mr`.
    pub device_cgroup_rules: Vec<String>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Devices by capability (GPUs).
    pub device_requests: Vec<DeviceRequest>,
    /// Limits on block devices.
    pub blkio: BlkioLimits,
}

/// One `ulimit`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Ulimit {
    /// `nofile`.
    pub name: String,
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// A device of the host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Device {
    /// The path on the host.
    pub source: String,
    /// The path in the container.
    pub target: String,
    /// `rwm`.
    pub permissions: String,
}

/// Devices by what they can do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct DeviceRequest {
    /// `nvidia`.
    pub driver: Option<String>,
    /// How many; -1 for all.
    pub count: Option<i64>,
    /// Which.
    pub ids: Vec<String>,
    /// Any of these sets of capabilities.
    pub capabilities: Vec<Vec<String>>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
}

/// Limits on block devices.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct BlkioLimits {
    /// Relative weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Weight by device.
    pub weight_device: Vec<BlkioDevice>,
    /// Bytes a second read.
    pub read_bps: Vec<BlkioDevice>,
    /// Bytes a second written.
    pub write_bps: Vec<BlkioDevice>,
    /// Operations a second read.
    pub read_iops: Vec<BlkioDevice>,
    /// Operations a second written.
    pub write_iops: Vec<BlkioDevice>,
}

/// A limit on one block device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BlkioDevice {
    /// The device's path.
    pub path: String,
    /// The limit or weight.
    pub value: i64,
}

/// How health is checked. `None`: the image's or the engine's default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", line]`, `["NONE"]`; empty: the image's.
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: Option<Duration>,
    /// For one check.
    pub timeout: Option<Duration>,
    /// At the start, when failures do not count.
    pub start_period: Option<Duration>,
    /// Between two checks at the start.
    pub start_interval: Option<Duration>,
    /// Failures until it counts as unhealthy.
    pub retries: Option<i64>,
}

/// What happens when a container ends.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It starts again.
    Always,
    /// It starts again unless the user stopped it.
    UnlessStopped,
    /// It starts again if it failed, this often at most.
    OnFailure(Option<i64>),
}

/// A port that the host gives a container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PortBinding {
    /// The host's address; all if empty.
    pub host_ip: String,
    /// The host's port or range (`8000-8010`); any if empty.
    pub host_port: String,
    /// The container's port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// The protocol of a port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, PartialOrd, Ord)]
pub struct Protocol(pub String);

/// A mount of a container to be made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mount {
    /// The path in the container.
    pub target: String,
    /// The volume, the host's path, or the image; empty for a tmpfs or an anonymous volume.
    pub source: String,
    /// Whether it can only be read.
    pub read_only: bool,
    /// `consistent`, `cached`, `delegated`.
    pub consistency: Option<String>,
    /// Its kind and what that kind knows.
    pub kind: MountKind,
}

/// The kinds of mounts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub enum MountKind {
    /// A path of the host.
    Bind {
        /// `rprivate`, `rshared` …
        propagation: Option<String>,
        /// Whether mounts below it are left out.
        non_recursive: bool,
        /// Whether mounts below it stay writable where it is read-only.
        read_only_non_recursive: bool,
        /// Whether it is an error that mounts below it cannot be made read-only too.
        read_only_force_recursive: bool,
        /// Whether a missing path is made as a folder.
        create_source: bool,
    },
    /// A volume.
    Volume {
        /// Whether the image's content is not copied into an empty volume.
        no_copy: bool,
        /// A folder of the volume.
        subpath: Option<String>,
        /// Labels for a volume that is made for this mount.
        labels: BTreeMap<String, String>,
    },
    /// Memory.
    Tmpfs {
        /// Bytes.
        size: Option<i64>,
        /// Permissions of the root.
        mode: Option<u32>,
    },
    /// An image.
    Image {
        /// A folder of the image.
        subpath: Option<String>,
    },
}

/// A container's place in a network.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// Further names under which it is found there.
    pub aliases: Vec<String>,
    /// Names of other containers in this one's view: `container:alias`.
    pub links: Vec<String>,
    /// A fixed IPv4 address.
    pub ipv4_address: Option<String>,
    /// A fixed IPv6 address.
    pub ipv6_address: Option<String>,
    /// Link-local addresses.
    pub link_local_ips: Vec<String>,
    /// A fixed MAC address.
    pub mac_address: Option<String>,
    /// The driver's options.
    pub driver_opts: BTreeMap<String, String>,
    /// Which network has the default gateway: the highest.
    pub gw_priority: Option<i64>,
}

/// A command in a running container.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExecSpec {
    /// The command.
    pub command: Vec<String>,
    /// Further environment: `NAME=value`.
    pub env: Vec<String>,
    /// User, perhaps with a group.
    pub user: Option<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Whether it may do everything.
    pub privileged: bool,
    /// Whether it is only started, and nobody waits for it.
    pub detach: bool,
}

/// What a container's main process speaks to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terminal {
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub stdin_open: bool,
}

/// What lies at a path of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathStat {
    /// What it is; a link is not followed.
    pub kind: PathKind,
    /// Where a link leads to, resolved to its end.
    pub link: Option<String>,
}

/// What a path is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathKind {
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// Anything else.
    File,
}

/// How an archive is unpacked in a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CopyRules {
    /// Whether a folder never takes the place of a file, nor a file that of a folder.
    pub keep_kinds: bool,
    /// Whether files get the owner that the container's process has, and not their own.
    pub container_owner: bool,
}

/// Which part of a log is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogOptions {
    /// Whether to go on until the container ends.
    pub follow: bool,
    /// Whether each line begins with its time (RFC 3339 with nanoseconds and a space).
    pub timestamps: bool,
    /// Only so many of the last lines.
    pub tail: Option<u64>,
    /// Only what came at or after this time, in Unix seconds.
    pub since: Option<i64>,
    /// Only what came before this time, in Unix seconds.
    pub until: Option<i64>,
}

/// Where a piece of a log was written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogStream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a log: one line, or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogChunk {
    /// Where it was written to.
    pub stream: LogStream,
    /// The bytes, with the newline where there was one.
    pub bytes: Vec<u8>,
}
