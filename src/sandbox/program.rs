//! The program that is executed for a command: our own, such that nobody can write to it.
//!
//! What runs inside a root file system must not be able to change a binary of the host, not even through
//! `/proc/self/exe`, which leads to the file on the mount that it was executed from. That mount is one of the
//! file alone, read-only, and attached nowhere: no mount namespace has it, so nothing inside can make it
//! writable (runc has a read-only overlay for this since 1.2). Where the kernel cannot do that, the program
//! is copied to memory and sealed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use super::mount::{NO_DEV, NO_SUID, READ_ONLY, bind, restrict};

/// The program at `path`, to be executed through the descriptor.
pub(super) fn unwritable(path: &Path) -> io::Result<OwnedFd> {
    mounted(path).or_else(|_| sealed(path))
}

/// The program on a read-only mount of its own.
fn mounted(path: &Path) -> io::Result<OwnedFd> {
    let mount = bind(File::open(path)?, "")?;
    restrict(&mount, READ_ONLY | NO_SUID | NO_DEV)?;
    Ok(mount)
}

/// A sealed copy of the program.
fn sealed(path: &Path) -> io::Result<OwnedFd> {
    let mut source = File::open(path)?;
    let mut copy = File::from(memory()?);
    io::copy(&mut source, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(copy.into())
}

/// An empty memory file that may be executed, also where the system says that such files may not by
/// default (`vm.memfd_noexec` = 1); kernels that do not know of this refuse the flag.
fn memory() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create("shipway", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("shipway", flags),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use super::*;
    use crate::base::testing::{as_root, available};

    fn runs(program: &OwnedFd) -> bool {
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        Command::new(path).status().unwrap().success()
    }

    #[test]
    fn the_copy_runs_and_cannot_be_changed() {
        let program = sealed(Path::new("/bin/true")).unwrap();
        assert!(runs(&program));
        let mut file = File::from(program);
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
        assert!(seals.contains(SealFlags::SEAL | SealFlags::WRITE));
    }

    #[test]
    fn the_mounted_one_runs_and_cannot_be_changed() {
        if !as_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::copy("/bin/true", &path).unwrap();
        let program = mounted(&path);
        if !available(program.is_ok(), "mount_setattr (Linux 5.12)") {
            return;
        }
        let program = program.unwrap();
        assert!(runs(&program));
        let through = format!("/proc/self/fd/{}", program.as_raw_fd());
        let written = File::options().write(true).open(&through).unwrap_err();
        assert_eq!(written.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
        // Where it lies it is as it was, also for who replaces it meanwhile.
        File::options().write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(runs(&program));
        // What is gone has no mount, and can still be copied.
        assert!(mounted(&path).is_err());
    }
}
