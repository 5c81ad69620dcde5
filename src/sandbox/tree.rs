//! What a command sees as `/`: the merged layers with `/proc`, `/sys`, `/dev` and two files mounted in.
//!
//! Runs inside the new mount namespace. Everything is made detached and attached by descriptor. The
//! *service* file system, a small tmpfs of our own, holds the device nodes, the two files and an empty
//! folder; single entries of it are bound where they are needed and the whole goes away with the old root,
//! so that nothing done to a node inside reaches the host's node. The tables follow Docker's defaults
//! (moby `oci/defaults.go`, runc for `/dev`); every writable mount forbids device nodes, because with
//! `CAP_MKNOD` the host's disk would be one `mknod` away.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::devices::is_two;
use super::extra;
use super::identity::set_umask;
use super::mount::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY, attach, bind, filesystem, restrict};
use super::spec::RunSpec;
use super::wire::{Doing, Extra, Failure, What};
use crate::base::fs::RootDir;

/// Character devices: name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Further ones for a command with all privileges.
const INSECURE_DEVICES: [(&str, u32, u32); 6] = [
    ("kmsg", 1, 11),
    ("cuse", 10, 203),
    ("fuse", 10, 229),
    ("kvm", 10, 232),
    ("net/tun", 10, 200),
    ("loop-control", 10, 237),
];

/// Links in `/dev`.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Hidden: a file behind `null`, a folder behind an empty one.
const MASKED_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const MASKED_SYS: [&str; 2] = ["devices/virtual/powercap", "firmware"];

/// Shown but not writable.
const READ_ONLY_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Builds the tree on `root`, makes it the root of the namespace and lets go of the host's.
/// The working directory is a folder of the host that serves as the place of it all.
pub(super) fn assemble(spec: &RunSpec, root: &RootDir, extras: &[(Extra, OwnedFd)]) -> Result<(), Failure> {
    // Modes are given exactly; the command's own umask is set later.
    set_umask(0);
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing("separate the mounts from the host's")?;
    let service = Service::make(spec).doing("make the service file system")?;
    let place = openat(rustix::fs::CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    attach(&service.root, place.doing("open the scratch folder")?).doing("attach the service file system")?;
    let pieces = service.pieces().doing("bind from the service file system")?;
    let root = attach_root(root, &service).doing("attach the root file system")?;
    let place = |path: &str| {
        let opened = root.open_at(Path::new(path), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        opened.map_err(|error| Failure::new(What::MountPoint(path.into()), error.source))
    };
    for (path, piece) in &pieces.files {
        attach(piece, place(path)?).doing(&format!("mount {path}"))?;
    }
    let proc = attach_proc(place("/proc")?).doing("mount /proc")?;
    if !spec.insecure {
        cover_proc(&proc, &pieces)?;
    }
    attach_sys(place("/sys")?, &pieces, spec.insecure)?;
    attach_dev(place("/dev")?, &pieces, spec)?;
    extra::attach_all(extras, &root, &pieces.service)?;
    change_root(&root).doing("change the root")
}

/// The small file system that single entries are bound from.
struct Service {
    root: OwnedFd,
}

/// What is bound from it, detached.
struct Pieces {
    devices: Vec<(&'static str, OwnedFd)>,
    files: [(&'static str, OwnedFd); 2],
    service: OwnedFd,
}

impl Service {
    fn make(spec: &RunSpec) -> std::io::Result<Self> {
        let root = filesystem("tmpfs", &[("mode", Some("755"))], NO_SUID | NO_EXEC)?;
        for (name, major, minor) in DEVICES {
            let mode = Mode::from_raw_mode(0o666);
            mknodat(&root, name, FileType::CharacterDevice, mode, makedev(major, minor))?;
        }
        mkdirat(&root, "empty", Mode::from_raw_mode(0o755))?;
        mkdirat(&root, "root", Mode::from_raw_mode(0o755))?;
        write(&root, "hosts", &spec.hosts)?;
        write(&root, "resolv.conf", &spec.resolv_conf)?;
        Ok(Self { root })
    }

    fn pieces(&self) -> std::io::Result<Pieces> {
        let mut devices = Vec::new();
        for (name, ..) in DEVICES {
            devices.push((name, bind(&self.root, name)?));
        }
        let file = |name| {
            let piece = bind(&self.root, name)?;
            restrict(&piece, READ_ONLY | NO_DEV)?;
            Ok::<_, std::io::Error>(piece)
        };
        let files = [("/etc/hosts", file("hosts")?), ("/etc/resolv.conf", file("resolv.conf")?)];
        Ok(Pieces { devices, files, service: self.root.try_clone()? })
    }
}

impl Pieces {
    /// A device that swallows everything, for masking.
    fn null(&self) -> std::io::Result<OwnedFd> {
        bind(&self.service, "null")
    }

    /// A folder with nothing in it, for masking.
    fn empty(&self) -> std::io::Result<OwnedFd> {
        let piece = bind(&self.service, "empty")?;
        restrict(&piece, READ_ONLY | NO_DEV)?;
        Ok(piece)
    }
}

fn write(folder: &OwnedFd, name: &str, content: &[u8]) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::from_raw_mode(0o644))?;
    std::fs::File::from(file).write_all(content)
}

/// Attaches the root file system and returns it as it is seen where it is attached.
fn attach_root(root: &RootDir, service: &Service) -> std::io::Result<RootDir> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    attach(root, openat(&service.root, "root", flags, Mode::empty())?)?;
    // Opened through the place, the descriptor is of what is mounted there.
    Ok(RootDir::from_fd(openat(&service.root, "root", flags, Mode::empty())?))
}

fn attach_proc(place: OwnedFd) -> std::io::Result<OwnedFd> {
    let proc = filesystem("proc", &[], NO_SUID | NO_DEV | NO_EXEC)?;
    attach(&proc, place)?;
    Ok(proc)
}

fn cover_proc(proc: &OwnedFd, pieces: &Pieces) -> Result<(), Failure> {
    for name in MASKED_PROC {
        mask(proc, name, pieces).doing(&format!("mask /proc/{name}"))?;
    }
    for name in READ_ONLY_PROC {
        make_read_only(proc, name).doing(&format!("make /proc/{name} read-only"))?;
    }
    Ok(())
}

fn attach_sys(place: OwnedFd, pieces: &Pieces, insecure: bool) -> Result<(), Failure> {
    let writable = NO_SUID | NO_DEV | NO_EXEC;
    let forbidden = if insecure { writable } else { writable | READ_ONLY };
    let sys = filesystem("sysfs", &[], forbidden).doing("make /sys")?;
    attach(&sys, place).doing("mount /sys")?;
    if insecure {
        return attach_control_groups(&sys, forbidden).doing("mount /sys/fs/cgroup");
    }
    for name in MASKED_SYS {
        mask(&sys, name, pieces).doing(&format!("mask /sys/{name}"))?;
    }
    mask_thermal_throttle(&sys, pieces).doing("mask the processors' thermal state")?;
    attach_control_groups(&sys, forbidden).doing("mount /sys/fs/cgroup")
}

/// The command's own control group, for programs that ask how much memory or how many processors they may
/// use; only where version 2 is all that there is.
fn attach_control_groups(sys: &OwnedFd, forbidden: super::mount::Forbid) -> std::io::Result<()> {
    if !is_two("/sys/fs/cgroup") {
        return Ok(());
    }
    let place = openat(sys, "fs/cgroup", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    attach(filesystem("cgroup2", &[], forbidden)?, place)
}

/// `/sys/devices/system/cpu/cpu*/thermal_throttle`.
fn mask_thermal_throttle(sys: &OwnedFd, pieces: &Pieces) -> std::io::Result<()> {
    for processor in 0.. {
        let folder = format!("devices/system/cpu/cpu{processor}");
        match rustix::fs::statat(sys, folder.as_str(), rustix::fs::AtFlags::empty()) {
            Ok(_) => mask(sys, &format!("{folder}/thermal_throttle"), pieces)?,
            Err(_) => break,
        }
    }
    Ok(())
}

/// Hides what lies at `name`, if anything does.
fn mask(folder: &OwnedFd, name: &str, pieces: &Pieces) -> std::io::Result<()> {
    let place = match openat(folder, name, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::ACCESS) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mode = rustix::fs::fstat(&place)?.st_mode;
    let cover = match FileType::from_raw_mode(mode) {
        FileType::Directory => pieces.empty()?,
        _ => pieces.null()?,
    };
    attach(cover, place)
}

fn make_read_only(folder: &OwnedFd, name: &str) -> std::io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let place = match openat(folder, name, flags, Mode::empty()) {
        Ok(place) => place,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let again = bind(folder, name)?;
    restrict(&again, READ_ONLY)?;
    attach(again, place)
}

fn attach_dev(place: OwnedFd, pieces: &Pieces, spec: &RunSpec) -> Result<(), Failure> {
    let options = [("mode", Some("755")), ("size", Some("65536k"))];
    let forbidden = if spec.insecure { NO_SUID } else { NO_SUID | NO_DEV };
    let dev = filesystem("tmpfs", &options, forbidden).doing("make /dev")?;
    fill_dev(&dev).doing("fill /dev")?;
    if spec.insecure {
        add_devices(&dev).doing("fill /dev")?;
    }
    attach(&dev, place).doing("mount /dev")?;
    for (name, device) in &pieces.devices {
        attach(device, at(&dev, name)?).doing(&format!("mount /dev/{name}"))?;
    }
    let size = spec.shm_size.to_string();
    let terminals = [("ptmxmode", Some("0666")), ("mode", Some("0620")), ("gid", Some("5"))];
    let shared = [("mode", Some("1777")), ("size", Some(size.as_str()))];
    for (name, kind, options, forbidden) in [
        ("pts", "devpts", &terminals[..], NO_SUID | NO_EXEC),
        ("shm", "tmpfs", &shared[..], NO_SUID | NO_DEV | NO_EXEC),
        ("mqueue", "mqueue", &[], NO_SUID | NO_DEV | NO_EXEC),
    ] {
        let mount = filesystem(kind, options, forbidden).doing(&format!("make /dev/{name}"))?;
        attach(mount, at(&dev, name)?).doing(&format!("mount /dev/{name}"))?;
    }
    Ok(())
}

fn fill_dev(dev: &OwnedFd) -> std::io::Result<()> {
    for (name, ..) in DEVICES {
        mknodat(dev, name, FileType::RegularFile, Mode::from_raw_mode(0o666), 0)?;
    }
    for (name, target) in LINKS {
        symlinkat(target, dev, name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}

/// What a command with all privileges finds besides (BuildKit `WithInsecureSpec`): eight loop devices
/// beyond the first free one.
fn add_devices(dev: &OwnedFd) -> std::io::Result<()> {
    let mode = Mode::from_raw_mode(0o666);
    mkdirat(dev, "net", Mode::from_raw_mode(0o755))?;
    for (name, major, minor) in INSECURE_DEVICES {
        mknodat(dev, name, FileType::CharacterDevice, mode, makedev(major, minor))?;
    }
    let used = |number: &u32| Path::new(&format!("/sys/block/loop{number}/loop/backing_file")).exists();
    let free = (0..).find(|number| !used(number)).unwrap_or(0);
    for number in 0..free + 8 {
        mknodat(dev, format!("loop{number}"), FileType::BlockDevice, mode, makedev(7, number))?;
    }
    Ok(())
}

fn at(dev: &OwnedFd, name: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(dev, name, flags, Mode::empty()).doing(&format!("open /dev/{name}"))
}

/// Makes `root` the root of the namespace; the host's tree is stacked on it for a moment and detached.
fn change_root(root: &RootDir) -> std::io::Result<()> {
    rustix::process::fchdir(root.as_fd())?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}
