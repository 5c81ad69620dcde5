//! What is to be run and on what, and how it ended: plain values without behaviour.

use std::fmt;
use std::path::PathBuf;

use crate::base::secret::Secret;

/// A chain of layer trees and, for a step that writes, where its own layer goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// The layers' trees in overlay form (whiteouts are character devices 0/0), bottom first. May be
    /// empty (`FROM scratch`).
    pub lowers: Vec<PathBuf>,
    /// Where writes go; `None` for a view that cannot be written.
    pub writable: Option<Writable>,
}

/// The two folders that a writing step needs, both new and on one file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writable {
    /// Receives what the step writes.
    pub upper: PathBuf,
    /// Overlayfs's own folder; empty at first.
    pub work: PathBuf,
}

/// One command: everything that it sees is in here or constant.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunSpec {
    /// The root file system; must be writable. Not part of the value's serialised form.
    #[serde(skip)]
    pub layers: Layers,
    /// The command and its arguments. A command without a slash is looked up in `PATH` of `env`, inside.
    pub argv: Vec<String>,
    /// The whole environment, in this order; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// The working directory inside; must exist.
    pub cwd: PathBuf,
    /// The user.
    pub uid: u32,
    /// The user's first group.
    pub gid: u32,
    /// The further groups, from the image's own group file.
    pub groups: Vec<u32>,
    /// The host name.
    pub hostname: String,
    /// What of the network is reachable.
    pub network: Network,
    /// The content of `/etc/hosts`: mounted, never part of the layer.
    pub hosts: Vec<u8>,
    /// The content of `/etc/resolv.conf`: mounted, never part of the layer.
    pub resolv_conf: Vec<u8>,
    /// The size of `/dev/shm` in bytes; [`RunSpec::DEFAULT_SHM_SIZE`] unless the user says otherwise.
    pub shm_size: u64,
    /// Limits that differ from the fixed ones (`--ulimit`).
    pub limits: Vec<Limit>,
    /// What is mounted besides, in the order of attaching. Not part of the value's serialised form.
    #[serde(skip)]
    pub mounts: Vec<Mount>,
    /// Whether the command gets every privilege that this process has: all capabilities, no system call
    /// filter, all of `/proc` and `/sys`, the host's devices (`RUN --security=insecure`).
    pub insecure: bool,
}

/// Something that one command sees and no layer gets. Device nodes on it cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where, inside; links resolve inside. Made if it is missing and removed again afterwards.
    pub target: PathBuf,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// What it is.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A path in a stack of layers; links on the way resolve inside the stack.
    Layers {
        /// The stack; writes go to its own upper, if it has one.
        layers: Layers,
        /// The path, absolute.
        path: PathBuf,
    },
    /// A folder of the host, itself no link.
    Folder(PathBuf),
    /// An empty folder in memory.
    Tmpfs {
        /// Its size in bytes; `None` is the kernel's choice.
        size: Option<u64>,
    },
    /// A file in memory, on which nothing can be executed.
    File {
        /// Its bytes.
        content: Secret,
        /// Its permissions.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A folder in memory with one executable file.
    Script {
        /// The file's name.
        name: String,
        /// Its text.
        content: String,
    },
    /// A Unix socket of the host, as a file.
    Socket(PathBuf),
}

impl RunSpec {
    /// The size of `/dev/shm` in bytes that Docker gives a container: 64 MiB.
    pub const DEFAULT_SHM_SIZE: u64 = 64 << 20;
}

/// What of the network a command reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The host's network, without raw sockets; abstract Unix sockets of the host are out of reach where
    /// the kernel can see to that.
    Host,
    /// A loopback device and nothing else.
    None,
    /// The host's network, raw and abstract sockets included.
    Open,
}

/// A resource limit of a process (`setrlimit(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limit {
    /// What is limited.
    pub resource: Resource,
    /// The limit in force; `None` is unlimited.
    pub soft: Option<u64>,
    /// How far the process may raise it; `None` is unlimited.
    pub hard: Option<u64>,
}

/// What can be limited, by the names that `--ulimit` uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Processor seconds.
    Cpu,
    /// Bytes of a file.
    Fsize,
    /// Bytes of the data segment.
    Data,
    /// Bytes of the stack.
    Stack,
    /// Bytes of a core file.
    Core,
    /// Bytes resident in memory.
    Rss,
    /// Processes of the user.
    Nproc,
    /// Open files.
    Nofile,
    /// Bytes locked in memory.
    Memlock,
    /// File locks.
    Locks,
    /// Queued signals.
    Sigpending,
    /// Bytes in message queues.
    Msgqueue,
    /// How far the nice value may be raised.
    Nice,
    /// The real-time priority.
    Rtprio,
    /// Microseconds of real-time work without a blocking call.
    Rttime,
}

impl Resource {
    /// Every resource.
    pub const ALL: [Self; 15] = [
        Self::Cpu,
        Self::Fsize,
        Self::Data,
        Self::Stack,
        Self::Core,
        Self::Rss,
        Self::Nproc,
        Self::Nofile,
        Self::Memlock,
        Self::Locks,
        Self::Sigpending,
        Self::Msgqueue,
        Self::Nice,
        Self::Rtprio,
        Self::Rttime,
    ];

    /// The name that `--ulimit` uses: `nofile`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Fsize => "fsize",
            Self::Data => "data",
            Self::Stack => "stack",
            Self::Core => "core",
            Self::Rss => "rss",
            Self::Nproc => "nproc",
            Self::Nofile => "nofile",
            Self::Memlock => "memlock",
            Self::Locks => "locks",
            Self::Sigpending => "sigpending",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
        }
    }

    /// The resource of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.name() == name)
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Whether it returned 0.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_found_by_name() {
        for resource in Resource::ALL {
            assert_eq!(Resource::named(resource.name()), Some(resource));
        }
        assert_eq!(Resource::named("files"), None);
    }

    #[test]
    fn exits_have_a_text() {
        assert_eq!(Exit::Code(2).to_string(), "exit code 2");
        assert_eq!(Exit::Signal(9).to_string(), "signal 9");
        assert!(Exit::Code(0).is_success() && !Exit::Signal(0).is_success());
    }
}
