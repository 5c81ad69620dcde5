//! What the sandbox finds on this machine, as values and as text for `shipway version`.
//!
//! Everything is asked of the kernel by trying it. Nothing here decides anything: the sandbox asks again
//! where it matters.

use std::fmt;
use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};

use super::devices::{Group, is_two};
use super::network::landlock_version;
use super::{Driver, Isolated};

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The kernel's release: `6.1.0-18-amd64`.
    pub kernel: String,
    /// How layers are stacked; `None` if this process may not mount at all.
    pub driver: Option<Driver>,
    /// Which control groups are mounted: `v2`, `v1`, `v1 and v2`, `none`.
    pub cgroups: &'static str,
    /// The kind of control group that guards devices: `cgroup v2`.
    pub devices: Option<&'static str>,
    /// The version of Landlock, 0 without it. From 6 on the host's abstract sockets are out of reach of a
    /// command on the host's network.
    pub landlock: i64,
    /// Whether the fixed resource limits may be set where this process has lower ones.
    pub raises_limits: bool,
    /// Whether the kernel has user namespaces.
    pub user_namespaces: bool,
}

/// Tries what the sandbox needs; `scratch` is a folder on the file system of the store.
pub fn probe(scratch: &Path) -> Probe {
    let sandbox = Isolated::new(scratch).ok();
    let owned = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    Probe {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        driver: sandbox.map(|sandbox| sandbox.driver()),
        cgroups: cgroups(),
        devices: Group::make().map(|group| group.name()),
        landlock: landlock_version(),
        raises_limits: owned.contains(CapabilitySet::SYS_RESOURCE),
        user_namespaces: Path::new("/proc/self/ns/user").exists(),
    }
}

/// Which control groups are mounted where everybody mounts them.
fn cgroups() -> &'static str {
    let one = std::fs::read_dir("/sys/fs/cgroup").is_ok_and(|mut folder| folder.next().is_some());
    match (is_two("/sys/fs/cgroup"), is_two("/sys/fs/cgroup/unified"), one) {
        (true, ..) => "v2",
        (false, true, _) => "v1 and v2",
        (false, false, true) => "v1",
        (false, false, false) => "none",
    }
}

impl fmt::Display for Probe {
    /// One fact a line, without a trailing newline.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes_no = |yes: bool| if yes { "yes" } else { "no" };
        writeln!(formatter, "kernel: {}", self.kernel)?;
        match self.driver {
            Some(driver) => writeln!(formatter, "layers: {driver}")?,
            None => writeln!(formatter, "layers: none (not root)")?,
        }
        writeln!(formatter, "cgroups: {}", self.cgroups)?;
        writeln!(formatter, "device guard: {}", self.devices.unwrap_or("mounts alone"))?;
        let scoped = yes_no(self.landlock >= super::network::SCOPES);
        writeln!(formatter, "abstract sockets of the host out of reach: {scoped}")?;
        writeln!(formatter, "limits can be raised: {}", yes_no(self.raises_limits))?;
        write!(formatter, "user namespaces: {}", yes_no(self.user_namespaces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_have_a_text() {
        let probe = Probe {
            kernel: "6.1.0".to_owned(),
            driver: Some(Driver::OverlayByOldCall),
            cgroups: "v2",
            devices: None,
            landlock: 6,
            raises_limits: false,
            user_namespaces: true,
        };
        insta::assert_snapshot!(probe, @r"
        kernel: 6.1.0
        layers: overlayfs (old mount call)
        cgroups: v2
        device guard: mounts alone
        abstract sockets of the host out of reach: yes
        limits can be raised: no
        user namespaces: yes
        ");
    }

    #[test]
    fn probing_works_for_anyone() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(!probe(scratch.path()).kernel.is_empty());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
