//! Entries of `tmp/`: made, locked while their maker lives, swept when it is dead.
//!
//! Every entry (a folder, a file, the lock of a key) is held by `flock` on the entry itself. Whoever holds
//! the lock may remove the entry; whoever has just taken one checks that the entry is still there. So
//! there is no moment at which a sweep could take something from a living process.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::base::digest::ResultId;
use crate::base::fs::{AtPath, PathError};

use super::remove::remove_tree;
use super::root::PROVISIONAL;

/// A new empty folder and its lock.
pub(super) fn make_folder(tmp: &Path) -> Result<(PathBuf, File), PathError> {
    loop {
        let path = tmp.join(random_name());
        std::fs::DirBuilder::new().mode(0o700).create(&path).at_path("create", &path)?;
        if let Ok(folder) = File::open(&path)
            && hold(&folder, &path, true)?
        {
            return Ok((path, folder));
        }
    }
}

/// A new empty file, open for writing, with its lock.
pub(super) fn make_file(tmp: &Path) -> Result<(PathBuf, File), PathError> {
    loop {
        let path = tmp.join(random_name());
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(PROVISIONAL);
        let file = options.open(&path).at_path("create", &path)?;
        // The mode means something (see the mark); the umask must not change it.
        let permissions = std::fs::Permissions::from_mode(PROVISIONAL);
        file.set_permissions(permissions).at_path("set the mode of", &path)?;
        if hold(&file, &path, true)? {
            return Ok((path, file));
        }
    }
}

/// The lock of a key: a file that exists while somebody holds it or waits for it.
#[derive(Debug)]
pub(super) struct KeyLock {
    path: PathBuf,
    _file: File,
}

impl KeyLock {
    /// The lock called `name`; `None` if somebody else has it and `wait` is false.
    pub(super) fn take(tmp: &Path, name: &str, wait: bool) -> Result<Option<Self>, PathError> {
        let path = tmp.join(name);
        loop {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path).at_path("open", &path)?;
            match hold(&file, &path, wait) {
                Ok(true) => return Ok(Some(Self { path, _file: file })),
                Ok(false) => {}
                Err(error) if error.source.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Removed while it is held. Left behind, it is an empty file that the next sweep removes.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Locks `file`; false if `path` is no longer that file, so that the lock means nothing.
fn hold(file: &File, path: &Path, wait: bool) -> Result<bool, PathError> {
    let operation =
        if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
    loop {
        match flock(file, operation) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(PathError::new("lock", path, error)),
        }
    }
    let held = file.metadata().at_path("stat", path)?;
    Ok(std::fs::symlink_metadata(path)
        .is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())))
}

/// Renames `from` to `to`; the folder of `to` is made if it is missing.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), PathError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = to.parent().unwrap_or(to);
            std::fs::create_dir_all(folder).at_path("create", folder)?;
            std::fs::rename(from, to).at_path("publish", to)
        }
        result => result.at_path("publish", to),
    }
}

/// Removes every entry whose maker is dead. Best effort: what cannot be removed now stays for the next.
pub(super) fn sweep(tmp: &Path) {
    for entry in std::fs::read_dir(tmp).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(file) = File::open(&path) else { continue };
        if hold(&file, &path, false).unwrap_or(false) {
            let _ = remove_tree(&path);
        }
    }
}

fn random_name() -> String {
    ResultId::fresh().0.hex()[..24].to_owned()
}
