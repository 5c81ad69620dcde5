//! A device control group: a second wall behind the mounts that forbid device nodes.
//!
//! A sandbox has one group for all its commands. Where cgroup version 2 is mounted, also beside version 1, a
//! small BPF program decides and a command is started right inside; where only version 1 has devices, the
//! monitor moves there first. Both allow what Docker allows: making any node, opening the usual few. Where
//! there is neither, or the machine does not let us, there is no group: the mounts hold by themselves.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::overlay::random_name;

/// Devices that may be opened: major and minor number, `None` for all; 136 are terminals.
const OPENED: [(u32, Option<u32>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// What the names of our groups begin with.
const PREFIX: &str = "shipway-";

/// The two kinds of groups: what a monitor does with the descriptor differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Version {
    /// The descriptor is of the file that processes are moved with.
    One,
    /// The descriptor is of the folder; a process is started in it.
    Two,
}

/// A group of our own, removed with the value. All its processes must have ended by then.
#[derive(Debug)]
pub(super) struct Group {
    folder: PathBuf,
    version: Version,
    handle: OwnedFd,
    /// Shows other sandboxes that the group is not left over.
    _lock: File,
}

impl Group {
    /// A new group beside those that this process is in; `None` where there cannot be one.
    pub(super) fn make() -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::version_two(&own).or_else(|| Self::version_one(&own))
    }

    fn version_two(own: &str) -> Option<Self> {
        let at = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let mount = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].into_iter().find(|mount| is_two(mount))?;
        let (folder, lock) = make_folder(&Path::new(mount).join(at)).ok()?;
        let made = || -> io::Result<OwnedFd> {
            let handle = OwnedFd::from(File::open(&folder)?);
            attach(&load(&program())?, &handle)?;
            Ok(handle)
        };
        Self::or_remove(Version::Two, made(), folder, lock)
    }

    fn version_one(own: &str) -> Option<Self> {
        let of_devices = |line: &str| -> Option<String> {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let path = path.strip_prefix('/')?;
            controllers.split(',').any(|controller| controller == "devices").then(|| path.to_owned())
        };
        let at = own.lines().find_map(of_devices)?;
        let (folder, lock) = make_folder(&Path::new("/sys/fs/cgroup/devices").join(at)).ok()?;
        let made = || -> io::Result<OwnedFd> {
            std::fs::write(folder.join("devices.deny"), "a")?;
            for kind in ["c", "b"] {
                std::fs::write(folder.join("devices.allow"), format!("{kind} *:* m"))?;
            }
            for (major, minor) in OPENED {
                let minor = minor.map_or("*".to_owned(), |minor| minor.to_string());
                std::fs::write(folder.join("devices.allow"), format!("c {major}:{minor} rwm"))?;
            }
            Ok(File::options().write(true).open(folder.join("cgroup.procs"))?.into())
        };
        Self::or_remove(Version::One, made(), folder, lock)
    }

    fn or_remove(version: Version, made: io::Result<OwnedFd>, folder: PathBuf, lock: File) -> Option<Self> {
        match made {
            Ok(handle) => Some(Self { folder, version, handle, _lock: lock }),
            Err(_) => {
                // A group that could not be set up is not used; the next one sweeps what stays.
                let _ = std::fs::remove_dir(&folder);
                None
            }
        }
    }

    /// What a monitor needs to use it.
    pub(super) fn handle(&self) -> (Version, BorrowedFd<'_>) {
        (self.version, self.handle.as_fd())
    }

    /// `cgroup v2`, for people.
    pub(super) const fn name(&self) -> &'static str {
        match self.version {
            Version::One => "cgroup v1",
            Version::Two => "cgroup v2",
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group that is still in use is swept by a later sandbox.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Whether cgroup version 2 is mounted there.
pub(super) fn is_two(mount: &str) -> bool {
    const MAGIC: u64 = 0x6367_7270;
    rustix::fs::statfs(mount).is_ok_and(|found| found.f_type as u64 == MAGIC)
}

/// A new folder in `parent`, and its lock. Groups that killed runs left are removed first: theirs is free.
fn make_folder(parent: &Path) -> io::Result<(PathBuf, File)> {
    for entry in std::fs::read_dir(parent)?.flatten() {
        if entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) && lock(&entry.path()).is_ok() {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
    let folder = parent.join(format!("{PREFIX}{}", random_name()?));
    std::fs::create_dir(&folder)?;
    let lock = lock(&folder)?;
    Ok((folder, lock))
}

fn lock(folder: &Path) -> io::Result<File> {
    let folder = File::open(folder)?;
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    Ok(folder)
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    value: i32,
}

/// The program: context in register 1, the answer (1 allows) in register 0.
fn program() -> Vec<Instruction> {
    const LOAD: u8 = 0x61;
    const MOVE: u8 = 0xb7;
    const COPY: u8 = 0xbf;
    const AND: u8 = 0x57;
    const SHIFT_RIGHT: u8 = 0x77;
    const IF_EQUAL: u8 = 0x15;
    const IF_NOT_EQUAL: u8 = 0x55;
    const EXIT: u8 = 0x95;
    const MAKE: i32 = 1;
    const CHARACTER: i32 = 2;
    let plain = |code, registers, offset, value| Instruction { code, registers, offset, value };
    let answer = |value| [plain(MOVE, 0, 0, value), plain(EXIT, 0, 0, 0)];
    // The context: kind in the low and access in the high half of a word, then major and minor number.
    let mut program = vec![
        plain(LOAD, 0x12, 0, 0),
        plain(COPY, 0x23, 0, 0),
        plain(SHIFT_RIGHT, 0x03, 0, 16),
        plain(AND, 0x02, 0, 0xffff),
        plain(LOAD, 0x14, 4, 0),
        plain(LOAD, 0x15, 8, 0),
        plain(IF_NOT_EQUAL, 0x03, 2, MAKE),
    ];
    program.extend(answer(1));
    program.push(plain(IF_EQUAL, 0x02, 2, CHARACTER));
    program.extend(answer(0));
    for (major, minor) in OPENED {
        program.push(plain(IF_NOT_EQUAL, 0x04, if minor.is_some() { 3 } else { 2 }, major as i32));
        if let Some(minor) = minor {
            program.push(plain(IF_NOT_EQUAL, 0x05, 2, minor as i32));
        }
        program.extend(answer(1));
    }
    program.extend(answer(0));
    program
}

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    rest: [u64; 12],
}

/// The part of `union bpf_attr` that attaches one.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    const LOAD_PROGRAM: i32 = 5;
    const CGROUP_DEVICE: u32 = 15;
    let attributes = Load {
        kind: CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        licence: c"MIT".as_ptr() as u64,
        rest: [0; 12],
    };
    // SAFETY: the kernel reads `size_of::<Load>()` bytes, and through them the program and a C string, all of
    // which outlive the call.
    let made =
        unsafe { libc::syscall(libc::SYS_bpf, LOAD_PROGRAM, &raw const attributes, size_of::<Load>()) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(made as i32) })
}

fn attach(program: &OwnedFd, group: &OwnedFd) -> io::Result<()> {
    const ATTACH_PROGRAM: i32 = 8;
    const CGROUP_DEVICE: u32 = 6;
    const BESIDE_OTHERS: u32 = 2;
    let attributes = Attach {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags: BESIDE_OTHERS,
    };
    // SAFETY: the kernel reads `size_of::<Attach>()` bytes during the call.
    match unsafe { libc::syscall(libc::SYS_bpf, ATTACH_PROGRAM, &raw const attributes, size_of::<Attach>()) }
    {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// What a shell in the group says to opening a device that is allowed and one that is not.
    fn opens_in(group: &Group) -> String {
        let script = "read go; head -c0 /dev/null && echo null; (: < /dev/kmsg) 2>/dev/null || echo refused";
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().unwrap();
        std::fs::write(group.folder.join("cgroup.procs"), shell.id().to_string()).unwrap();
        shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
        String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn groups_of_both_kinds_refuse_other_devices() {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let groups = [Group::version_two(&own), Group::version_one(&own)];
        if groups.iter().all(Option::is_none) || File::open("/dev/kmsg").is_err() {
            println!("skipped: needs root and a device control group");
            return;
        }
        for group in groups.into_iter().flatten() {
            assert_eq!(opens_in(&group), "null\nrefused\n", "{}", group.name());
            let folder = group.folder.clone();
            drop(group);
            assert!(!folder.exists());
        }
    }

    #[test]
    fn what_killed_runs_left_is_swept_and_what_is_in_use_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join("shipway-left");
        let other = parent.path().join("other");
        std::fs::create_dir(&left).unwrap();
        std::fs::create_dir(&other).unwrap();
        let (first, _lock) = make_folder(parent.path()).unwrap();
        let (second, _) = make_folder(parent.path()).unwrap();
        assert!(!left.exists() && other.exists() && first.exists() && second.exists());
    }
}
