//! What is watched of containers: their processes, what they use, and what happens to them. Plain data.

use std::collections::BTreeMap;

/// The processes of a container, as `ps` on the engine's host shows them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Processes {
    /// The names of the columns.
    pub titles: Vec<String>,
    /// One line a process, with a cell for each title.
    pub rows: Vec<Vec<String>>,
}

/// What a container used up to one moment. Where the engine says nothing it is zero.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Nanoseconds of processor time.
    pub cpu: u64,
    /// The same at the moment before; what was used in between is the difference.
    pub cpu_before: u64,
    /// Nanoseconds of processor time of the whole machine.
    pub system: u64,
    /// The same at the moment before.
    pub system_before: u64,
    /// Processors that are there.
    pub processors: u32,
    /// Bytes of memory, without what the kernel could give back at once.
    pub memory: u64,
    /// Bytes of memory that it may use.
    pub memory_limit: u64,
    /// Bytes received on all networks.
    pub received: u64,
    /// Bytes sent on all networks.
    pub sent: u64,
    /// Bytes read from block devices.
    pub read: u64,
    /// Bytes written to block devices.
    pub written: u64,
    /// Processes and threads.
    pub processes: u64,
}

/// Something that happened to a container.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Happening {
    /// The container's id.
    pub container: String,
    /// The engine's word for it: `start`, `die`, `health_status: healthy`.
    pub action: String,
    /// The container's labels, and what belongs to the action: `name`, `image`, `exitCode`.
    pub attributes: BTreeMap<String, String>,
    /// When, in nanoseconds since 1970.
    pub time: i64,
}

/// Which happenings are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HappeningOptions {
    /// Only of containers with all these labels (`name` or `name=value`).
    pub labels: Vec<String>,
    /// Those from this time on too, in nanoseconds since 1970; `None`: only what happens from now on.
    pub since: Option<i64>,
    /// Only those before this time, in nanoseconds since 1970; `None`: until it is cancelled.
    pub until: Option<i64>,
}
