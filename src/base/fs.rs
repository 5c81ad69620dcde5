//! File system primitives that must be right everywhere.
//!
//! [`RootDir`] resolves paths inside a foreign root file system, so that a hostile link can never reach
//! the host. [`write_atomic`] replaces a small file so that readers see the old or the new one.
//! [`FileLock`] is an advisory lock that the kernel drops with its process. Nothing here decides where
//! things lie or how long they live; `store` does.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

/// An operation on a path that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct PathError {
    /// The verb: `open`, `create`.
    pub action: &'static str,
    /// The path; inside a [`RootDir`] as the root file system sees it.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl PathError {
    /// An error of `action` on `path`.
    pub fn new(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.into(), source: source.into() }
    }
}

/// Adds action and path to an I/O result.
pub trait AtPath<T> {
    /// Turns a plain I/O error into a [`PathError`].
    fn at_path(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, PathError>;
}

impl<T, E: Into<io::Error>> AtPath<T> for Result<T, E> {
    fn at_path(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, PathError> {
        self.map_err(|error| PathError::new(action, path.as_ref(), error))
    }
}

/// A directory that is the root of every path given to it: absolute paths, `..` and symbolic links
/// resolve inside it (`openat2` with `RESOLVE_IN_ROOT`), magic links not at all. Works on a detached
/// mount. Paths may be given with or without a leading slash.
#[derive(Debug)]
pub struct RootDir {
    directory: OwnedFd,
}

impl RootDir {
    /// The root at `path`, a path of the host.
    pub fn open(path: &Path) -> Result<Self, PathError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).at_path("open", path)?;
        Ok(Self { directory })
    }

    /// The root that `directory` refers to, for example a detached mount.
    pub const fn from_fd(directory: OwnedFd) -> Self {
        Self { directory }
    }

    /// Opens `path`, following links inside the root.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, PathError> {
        self.openat2(path, flags, mode).at_path("open", path)
    }

    /// The directory that holds `path`'s last component (links in it followed inside the root) and that
    /// component's name, for calls that must not follow the last link. `/` and `..` have none.
    pub fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString), PathError> {
        let (parent, name) = split(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok((self.open_at(parent, flags, Mode::empty())?, name.to_owned()))
    }

    /// What lies at `path`: `None` if nothing does. The last link is followed if `follow`.
    pub fn stat(&self, path: &Path, follow: bool) -> Result<Option<Stat>, PathError> {
        let no_follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        match self.openat2(path, OFlags::PATH | OFlags::CLOEXEC | no_follow, Mode::empty()) {
            Ok(file) => rustix::fs::fstat(&file).at_path("stat", path).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(PathError::new("stat", path, error)),
        }
    }

    /// The content of the regular file at `path` if there is one; more than `limit` bytes are an error.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, PathError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match self.openat2(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(PathError::new("read", path, error)),
        };
        if !file.metadata().at_path("read", path)?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).at_path("read", path)?;
        if bytes.len() as u64 > limit {
            return Err(PathError::new("read", path, Errno::FBIG));
        }
        Ok(Some(bytes))
    }

    /// Makes the directory `path` and every missing one above it, each with `mode` and `owner` regardless
    /// of the umask; directories that exist, also behind links, stay as they are. Returns the directory.
    pub fn create_directories(
        &self,
        path: &Path,
        mode: Mode,
        owner: (u32, u32),
    ) -> Result<OwnedFd, PathError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut reached = PathBuf::from("/");
        for component in path.components() {
            match component {
                Component::Normal(name) => reached.push(name),
                Component::ParentDir => reached.push(".."),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            }
            match self.openat2(&reached, flags, Mode::empty()) {
                Ok(_) => {}
                Err(Errno::NOENT) => self.create_directory(&reached, mode, owner)?,
                Err(error) => return Err(PathError::new("create", path, error)),
            }
        }
        self.open_at(&reached, flags, Mode::empty())
    }

    fn create_directory(&self, path: &Path, mode: Mode, owner: (u32, u32)) -> Result<(), PathError> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::mkdirat(&parent, &name, mode).at_path("create", path)?;
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::chownat(&parent, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .at_path("create", path)?;
        rustix::fs::chmodat(&parent, &name, mode, AtFlags::empty()).at_path("create", path)
    }

    fn openat2(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            // A rename elsewhere while `..` is resolved makes the kernel ask for another try.
            match rustix::fs::openat2(&self.directory, path, flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn split(path: &Path) -> Result<(&Path, &OsStr), PathError> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(PathError::new("name the last component of", path, Errno::INVAL)),
    }
}

/// Replaces the file at `path` (its folder must exist) with `bytes`: a reader sees the old or the new
/// content, never a part. Not synced to disk; a crash of the machine may leave either.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let temporary = temporary_name(path);
    let written = File::create_new(&temporary).and_then(|mut file| file.write_all(bytes));
    written.and_then(|()| std::fs::rename(&temporary, path)).map_err(|error| {
        // The error that matters is the first one.
        let _ = std::fs::remove_file(&temporary);
        PathError::new("write", path, error)
    })
}

/// Fails where [`write_atomic`] could not replace the file at `path`: its folder is missing or does not take
/// files, or something else than a file is there. Leaves nothing behind.
pub fn may_write(path: &Path) -> Result<(), PathError> {
    let refused = |errno| PathError::new("write", path, io::Error::from(errno));
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => return Err(refused(Errno::ISDIR)),
        // Renaming over a device or a link would take its place.
        Ok(found) if !found.is_file() => return Err(refused(Errno::INVAL)),
        _ => {}
    }
    let temporary = temporary_name(path);
    let made = File::create_new(&temporary).and_then(|_| std::fs::remove_file(&temporary));
    made.map_err(|error| PathError::new("write", path, error))
}

/// A name beside `path` that no other process or thread uses.
fn temporary_name(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{count}", std::process::id()));
    path.with_file_name(name)
}

/// An advisory lock (`flock`) on a file that is made if it is missing. It ends when the value is dropped
/// or the process ends, however it ends. Two values in one process exclude each other too.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Waits until nobody holds the lock exclusively.
    pub fn shared(path: &Path) -> Result<Self, PathError> {
        Self::lock(path, FlockOperation::LockShared)
    }

    /// Waits until nobody holds the lock.
    pub fn exclusive(path: &Path) -> Result<Self, PathError> {
        Self::lock(path, FlockOperation::LockExclusive)
    }

    /// The exclusive lock if nobody holds it, else `None`.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, PathError> {
        Self::try_lock(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// The shared lock unless somebody holds it exclusively, then `None`.
    pub fn try_shared(path: &Path) -> Result<Option<Self>, PathError> {
        Self::try_lock(path, FlockOperation::NonBlockingLockShared)
    }

    fn try_lock(path: &Path, operation: FlockOperation) -> Result<Option<Self>, PathError> {
        match Self::lock(path, operation) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.source.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lock(path: &Path, operation: FlockOperation) -> Result<Self, PathError> {
        let make = || File::options().read(true).write(true).create(true).truncate(false).open(path);
        // Whoever shares it need not be able to write: what is only read stays as it is.
        let file = match operation {
            FlockOperation::LockShared | FlockOperation::NonBlockingLockShared => {
                File::open(path).or_else(|_| make())
            }
            _ => make(),
        };
        let file = file.at_path("open", path)?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(Self { file }),
                Err(Errno::INTR) => {}
                Err(error) => return Err(PathError::new("lock", path, error)),
            }
        }
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, RootDir) {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "host").unwrap();
        let inside = outside.path().join("root");
        std::fs::create_dir_all(inside.join("etc")).unwrap();
        std::fs::write(inside.join("etc/passwd"), "image").unwrap();
        symlink("../../../secret", inside.join("up")).unwrap();
        symlink("/etc", inside.join("absolute")).unwrap();
        symlink("/nowhere/target", inside.join("dangling")).unwrap();
        let root = RootDir::open(&inside).unwrap();
        (outside, root)
    }

    #[test]
    fn links_resolve_inside() {
        let (_guard, root) = root();
        assert_eq!(root.read(Path::new("/absolute/passwd"), 99).unwrap().unwrap(), b"image");
        assert_eq!(root.read(Path::new("up"), 99).unwrap(), None);
        assert_eq!(root.read(Path::new("/../../etc/passwd"), 99).unwrap().unwrap(), b"image");
        assert!(root.stat(Path::new("dangling"), true).unwrap().is_none());
        assert!(root.stat(Path::new("dangling"), false).unwrap().is_some());
    }

    #[test]
    fn reading_is_limited_to_regular_files_of_the_size_allowed() {
        let (_guard, root) = root();
        assert!(root.read(Path::new("/etc/passwd"), 4).is_err());
        assert_eq!(root.read(Path::new("/etc"), 4).unwrap(), None);
        assert_eq!(root.read(Path::new("/etc/passwd/x"), 4).unwrap(), None);
    }

    #[test]
    fn directories_are_made_inside_with_exact_mode() {
        let (guard, root) = root();
        let mode = Mode::from_raw_mode(0o777);
        root.create_directories(Path::new("/absolute/../a/b"), mode, own()).unwrap();
        let made = std::fs::metadata(guard.path().join("root/a/b")).unwrap();
        assert_eq!(made.mode() & 0o7777, 0o777);
        assert!(root.create_directories(Path::new("/etc/passwd/x"), mode, own()).is_err());
        assert!(root.create_directories(Path::new("/dangling"), mode, own()).is_err());
    }

    fn own() -> (u32, u32) {
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    #[test]
    fn atomic_writes_replace_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_atomic(&folder.path().join("missing/record"), b"x").is_err());
    }

    #[test]
    fn locks_exclude() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let shared = FileLock::shared(&path).unwrap();
        let second = FileLock::shared(&path).unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        assert!(FileLock::try_shared(&path).unwrap().is_some());
        drop((shared, second));
        let alone = FileLock::try_exclusive(&path).unwrap();
        assert!(alone.is_some() && FileLock::try_shared(&path).unwrap().is_none());
    }
}
