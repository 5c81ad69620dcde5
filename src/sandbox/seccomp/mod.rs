//! The system call filter of a command: Docker's default profile as a BPF program of our own.
//!
//! [`tables`] says what is refused, [`program`] turns a table into instructions, and [`install`] hands them
//! to the kernel. What is refused fails with `EPERM`, what the profile does not know with `ENOSYS`; a call
//! through an architecture that the machine does not have ends the process.

mod program;
mod tables;

use std::io;

use program::Instruction;
use tables::Table;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the system call filter knows x86_64 and aarch64");

/// The architectures that processes of this machine can have, its own first.
const TABLES: [&Table; 2] = if cfg!(target_arch = "aarch64") {
    [&tables::AARCH64, &tables::ARM]
} else {
    [&tables::X86_64, &tables::I386]
};

/// Puts this process and all that it starts under the filter. Needs `CAP_SYS_ADMIN`: `no_new_privs` is not
/// set.
pub(super) fn install() -> io::Result<()> {
    let instructions = program::assemble(&TABLES);
    let length = u16::try_from(instructions.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog {
        len: length,
        filter: instructions.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: the program's pointer and length describe the vector, which outlives the call; the kernel
    // copies and checks it.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
