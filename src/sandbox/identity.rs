//! Makes the forked process what a command always is, whoever started shipway and from where.
//!
//! A result may depend on what its key contains and on nothing else, so everything that a process inherits
//! is set to a constant here: session, signals, mask, limits, umask, personality, keyring, descriptors.
//! Privileges are Docker's defaults: the capabilities stay in the bounding set and `no_new_privs` is not
//! set, because `sudo` must work in a build.

use std::convert::Infallible;
use std::ffi::{CString, c_char};
use std::io;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Rlimit, Signal, getrlimit, setrlimit, setsid};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};

use super::monitor::close_above_standard_error;
use super::spec::{Limit, Network, Resource, RunSpec};
use super::wire::{Doing, Failure, What};
use super::{network, seccomp};

/// Docker's default capabilities (moby `oci/caps/defaults.go`).
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Where a command without a slash is looked up if the environment has no `PATH`: Docker's default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The fixed limits: what a container of a current Docker on a current distribution has. No core files:
/// they would end in a layer.
const LIMITS: [Limit; 15] = [
    limit(Resource::Cpu, None, None),
    limit(Resource::Fsize, None, None),
    limit(Resource::Data, None, None),
    limit(Resource::Stack, Some(8 << 20), None),
    limit(Resource::Core, Some(0), None),
    limit(Resource::Rss, None, None),
    limit(Resource::Nproc, None, None),
    limit(Resource::Nofile, Some(1024), Some(524_288)),
    limit(Resource::Memlock, Some(8 << 20), Some(8 << 20)),
    limit(Resource::Locks, None, None),
    limit(Resource::Sigpending, Some(65_536), Some(65_536)),
    limit(Resource::Msgqueue, Some(819_200), Some(819_200)),
    limit(Resource::Nice, Some(0), Some(0)),
    limit(Resource::Rtprio, Some(0), Some(0)),
    limit(Resource::Rttime, None, None),
];

const fn limit(resource: Resource, soft: Option<u64>, hard: Option<u64>) -> Limit {
    Limit { resource, soft, hard }
}

/// A session, a host name, a keyring and a personality of its own.
pub(super) fn start_session(hostname: &str) -> Result<(), Failure> {
    setsid().doing("start a session")?;
    // SAFETY: concerns no descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }.doing("hide the control groups")?;
    rustix::system::sethostname(hostname.as_bytes()).doing("set the host name")?;
    rustix::system::setdomainname(b"(none)").doing("set the domain name")?;
    join_new_keyring().doing("join a new session keyring")?;
    // SAFETY: takes a number only.
    match unsafe { libc::personality(0) } {
        -1 => Err(io::Error::last_os_error()).doing("reset the personality"),
        _ => Ok(()),
    }
}

fn join_new_keyring() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; nothing else is passed.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<c_char>())
    };
    match io::Error::last_os_error() {
        // A kernel without keyrings has none to share.
        error if result < 0 && error.raw_os_error() != Some(libc::ENOSYS) => Err(error),
        _ => Ok(()),
    }
}

/// Which permissions new files do not get.
#[expect(clippy::disallowed_methods, reason = "this process was forked and has one thread")]
pub(super) fn set_umask(mask: u32) {
    rustix::process::umask(Mode::from_raw_mode(mask));
}

/// Nothing to read; output goes where the monitor's goes and may be opened again by the user.
pub(super) fn open_standard_streams(uid: u32) -> Result<(), Failure> {
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let null = null.doing("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).doing("set standard input")?;
    // `/dev/stdout` opens the pipe anew, which its owner alone may.
    let owner = Some(Uid::from_raw(uid));
    rustix::fs::fchown(rustix::stdio::stdout(), owner, None).doing("give the output to the user")
}

/// The fixed limits, and `further` over them. A fixed limit that lies above what this process may raise
/// (a container without `CAP_SYS_RESOURCE`) is as high as it may be; a limit that the user asked for is
/// set or is an error.
pub(super) fn set_limits(further: &[Limit]) -> Result<(), Failure> {
    set_limit(rustix::process::Resource::As, None, None, true).doing("set the limit as")?;
    let fixed = LIMITS.iter().filter(|fixed| !further.iter().any(|own| own.resource == fixed.resource));
    for (limit, yielding) in
        fixed.map(|limit| (limit, true)).chain(further.iter().map(|limit| (limit, false)))
    {
        set_limit(system_resource(limit.resource), limit.soft, limit.hard, yielding)
            .doing(&format!("set the limit {}", limit.resource.name()))?;
    }
    Ok(())
}

fn set_limit(
    resource: rustix::process::Resource,
    soft: Option<u64>,
    hard: Option<u64>,
    yielding: bool,
) -> Result<(), Errno> {
    match setrlimit(resource, Rlimit { current: soft, maximum: hard }) {
        Err(Errno::PERM) if yielding => {
            let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let at_most = |value: Option<u64>| Some(value.unwrap_or(u64::MAX).min(most));
            setrlimit(resource, Rlimit { current: at_most(soft), maximum: at_most(hard) })
        }
        result => result,
    }
}

const fn system_resource(resource: Resource) -> rustix::process::Resource {
    match resource {
        Resource::Cpu => rustix::process::Resource::Cpu,
        Resource::Fsize => rustix::process::Resource::Fsize,
        Resource::Data => rustix::process::Resource::Data,
        Resource::Stack => rustix::process::Resource::Stack,
        Resource::Core => rustix::process::Resource::Core,
        Resource::Rss => rustix::process::Resource::Rss,
        Resource::Nproc => rustix::process::Resource::Nproc,
        Resource::Nofile => rustix::process::Resource::Nofile,
        Resource::Memlock => rustix::process::Resource::Memlock,
        Resource::Locks => rustix::process::Resource::Locks,
        Resource::Sigpending => rustix::process::Resource::Sigpending,
        Resource::Msgqueue => rustix::process::Resource::Msgqueue,
        Resource::Nice => rustix::process::Resource::Nice,
        Resource::Rtprio => rustix::process::Resource::Rtprio,
        Resource::Rttime => rustix::process::Resource::Rttime,
    }
}

/// Goes to the working directory.
pub(super) fn enter_folder(folder: &Path) -> Result<(), Failure> {
    rustix::process::chdir(folder)
        .map_err(|error| Failure::new(What::WorkingDirectory(folder.to_owned()), error))
}

/// From all-powerful to what the command may: bounding set, network scope, system call filter, user.
/// The filter is installed while that is still allowed without `no_new_privs`.
pub(super) fn give_up_privileges(spec: &RunSpec) -> Result<(), Failure> {
    if spec.insecure {
        return keep_privileges(spec);
    }
    let allowed = match spec.network {
        Network::Host => CAPABILITIES.difference(CapabilitySet::NET_RAW),
        Network::None | Network::Open => CAPABILITIES,
    };
    set_capabilities_secure_bits(CapabilitiesSecureBits::empty()).doing("reset the secure bits")?;
    bound_capabilities(allowed).doing("bound the capabilities")?;
    clear_ambient_capability_set().doing("clear the ambient capabilities")?;
    network::confine(spec.network)?;
    seccomp::install().doing("install the system call filter")?;
    become_user(spec).doing("become the user")?;
    let permitted = if spec.uid == 0 { allowed } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).doing("set the capabilities")
}

/// Everything that this process may do, for any user, and nothing filtered (BuildKit `WithInsecureSpec`).
fn keep_privileges(spec: &RunSpec) -> Result<(), Failure> {
    set_capabilities_secure_bits(CapabilitiesSecureBits::empty()).doing("reset the secure bits")?;
    network::confine(if spec.network == Network::None { Network::None } else { Network::Open })?;
    let own = rustix::thread::capabilities(None).doing("read the capabilities")?.permitted;
    rustix::thread::set_keep_capabilities(true).doing("keep the capabilities")?;
    become_user(spec).doing("become the user")?;
    let sets = CapabilitySets { effective: own, permitted: own, inheritable: own };
    set_capabilities(None, sets).doing("set the capabilities")?;
    for capability in own.iter() {
        configure_capability_in_ambient_set(capability, true).doing("set the ambient capabilities")?;
    }
    Ok(())
}

fn bound_capabilities(allowed: CapabilitySet) -> io::Result<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if allowed.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel knows no more.
            Err(Errno::INVAL) => break,
            result => result?,
        }
    }
    Ok(())
}

fn become_user(spec: &RunSpec) -> io::Result<()> {
    let groups: Vec<Gid> = spec.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups)?;
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

/// The last constants, then the command.
pub(super) fn execute(spec: &RunSpec) -> Result<Infallible, Failure> {
    set_umask(0o022);
    // After the last change of the user, which would unset it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing("tie the command to its monitor")?;
    // SAFETY: only marks descriptors.
    unsafe { close_above_standard_error(libc::CLOSE_RANGE_CLOEXEC) }.doing("mark the descriptors")?;
    let command = spec.argv.first().map_or("", String::as_str);
    let error = execute_first_found(spec, command);
    Err(Failure::new(What::Command(command.to_owned()), error))
}

/// Default handlers for all signals and none blocked; the monitor begins with it and the command inherits
/// it. Raw, because the C library keeps two signals for
/// itself that a parent may well have ignored.
pub(super) fn reset_signals() -> io::Result<()> {
    const SET: usize = 8;
    let default_action = [0u64; 8];
    let nothing = [0u8; SET];
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: the zeroed buffer is larger than the kernel's `struct sigaction` (at most 32 bytes) and
        // means SIG_DFL with no flags; the process has no handlers that anything relies on.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default_action.as_ptr(),
                std::ptr::null_mut::<u8>(),
                SET,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: the set is SET bytes long.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            nothing.as_ptr(),
            std::ptr::null_mut::<u8>(),
            SET,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Tries every place where the command may be, with the user's own permissions; returns why none did.
fn execute_first_found(spec: &RunSpec, command: &str) -> io::Error {
    let arguments: Result<Vec<_>, _> = spec.argv.iter().map(|word| CString::new(word.as_str())).collect();
    let environment: Result<Vec<_>, _> =
        spec.env.iter().map(|(name, value)| CString::new(format!("{name}={value}"))).collect();
    let (arguments, environment) = match (arguments, environment) {
        (Ok(arguments), Ok(environment)) => (arguments, environment),
        (Err(error), _) | (_, Err(error)) => return error.into(),
    };
    let mut worst = io::Error::from(Errno::NOENT);
    for place in places(spec, command) {
        let error = match CString::new(place) {
            Ok(place) => execve(&place, &arguments, &environment),
            Err(error) => return error.into(),
        };
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => worst = error,
            _ => return error,
        }
    }
    worst
}

fn places(spec: &RunSpec, command: &str) -> Vec<String> {
    if command.is_empty() || command.contains('/') {
        return vec![command.to_owned()];
    }
    let path = spec.env.iter().rfind(|(name, _)| name == "PATH");
    let path = path.map_or(DEFAULT_PATH, |(_, value)| value.as_str());
    path.split(':')
        .map(|folder| if folder.is_empty() { "." } else { folder })
        .map(|folder| format!("{}/{command}", folder.trim_end_matches('/')))
        .collect()
}

/// Executes; returns only the reason why not.
fn execve(program: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both vectors end with a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}
