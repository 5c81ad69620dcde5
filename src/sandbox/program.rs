//! The program that is executed for a command: a sealed copy of our own in memory.
//!
//! What runs inside a root file system must not be able to reach a binary of the host, not even through
//! `/proc/self/exe`: the copy lies on no file system and cannot be written to.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// A sealed copy of the program at `path`.
pub(super) fn sealed(path: &Path) -> io::Result<OwnedFd> {
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

    use super::*;

    #[test]
    fn the_copy_runs_and_cannot_be_changed() {
        let program = sealed(Path::new("/bin/true")).unwrap();
        let mut file = File::from(program);
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
        assert!(seals.contains(SealFlags::SEAL | SealFlags::WRITE));
    }
}
