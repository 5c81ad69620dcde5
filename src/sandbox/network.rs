//! What a command reaches over the network.
//!
//! Without a network its namespace has a loopback device, which is switched on here. On the host's network
//! raw sockets are out of reach by a missing capability, and the abstract Unix sockets of the host's
//! services (a desktop's session bus, a container daemon's shim) by a Landlock scope where the kernel has
//! that (Linux 6.12).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::spec::Network;
use super::wire::{Doing, Failure};

/// The first Landlock version with scopes.
pub(super) const SCOPES: i64 = 6;
/// `LANDLOCK_CREATE_RULESET_VERSION`: asks for the version instead of making a rule set.
const ASK_VERSION: u32 = 1;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`.
const ABSTRACT_UNIX_SOCKETS: u64 = 1;

/// The kernel's `struct landlock_ruleset_attr`.
#[repr(C)]
struct RuleSet {
    files: u64,
    network: u64,
    scoped: u64,
}

/// Confines this process to `network`; its namespace exists already.
pub(super) fn confine(network: Network) -> Result<(), Failure> {
    match network {
        Network::None => raise_loopback().doing("switch the loopback device on"),
        Network::Open => Ok(()),
        Network::Host if landlock_version() < SCOPES => Ok(()),
        Network::Host => scope_abstract_sockets().doing("scope the abstract sockets"),
    }
}

/// The kernel's Landlock version; 0 without Landlock.
pub(super) fn landlock_version() -> i64 {
    // SAFETY: with this flag neither pointer nor size are used.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, ASK_VERSION)
    };
    version.max(0)
}

fn scope_abstract_sockets() -> io::Result<()> {
    let rules = RuleSet { files: 0, network: 0, scoped: ABSTRACT_UNIX_SOCKETS };
    // SAFETY: the kernel reads `size_of::<RuleSet>()` bytes behind the pointer during the call.
    let created = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const rules, size_of::<RuleSet>(), 0u32)
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor and nobody else knows it.
    let created = unsafe { OwnedFd::from_raw_fd(created as i32) };
    // SAFETY: takes numbers only.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, created.as_raw_fd(), 0u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is an `ifreq` with name and flags, as this call wants it.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn abstract_sockets_of_others_are_out_of_reach() {
        if landlock_version() < SCOPES || !rustix::process::geteuid().is_root() {
            println!("skipped: needs root and Landlock with scopes");
            return;
        }
        let name = format!("shipway-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        let confined = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    confine(Network::Host).unwrap();
                    let own = SocketAddr::from_abstract_name(format!("{name}-own")).unwrap();
                    let _own = UnixListener::bind_addr(&own).unwrap();
                    (UnixStream::connect_addr(&address), UnixStream::connect_addr(&own))
                })
                .join()
                .unwrap()
        });
        assert_eq!(confined.0.unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(confined.1.is_ok() && UnixStream::connect_addr(&address).is_ok());
    }
}
