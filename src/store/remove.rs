//! Removing trees that images and their steps have made.
//!
//! Nothing in such a tree can be trusted: links point anywhere, folders deny access, nesting is deeper
//! than any path may be. So every step goes by descriptor and name, follows no link, crosses no mount
//! point (whatever is mounted is somebody's data), and opens a bounded number of folders: what lies too
//! deep is moved to the top and removed from there.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, chmodat, openat2, renameat, unlinkat};
use rustix::io::Errno;

use crate::base::fs::{AtPath, PathError};

/// So many folders are open at most.
const DEPTH: usize = 64;

/// Removes whatever lies at `path` with everything below it. Nothing there is no error. A mount point
/// below is an error; nothing inside it is touched.
pub(super) fn remove_tree(path: &Path) -> Result<(), PathError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(PathError::new("remove", path, Errno::INVAL));
    };
    let name = CString::new(name.as_bytes()).map_err(|_| PathError::new("remove", path, Errno::INVAL))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::openat(CWD, parent, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(PathError::new("remove", path, error)),
    };
    remove_entry(parent.as_fd(), &name).at_path("remove", path)
}

fn remove_entry(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return result,
    }
    let top = open_folder(parent, name)?;
    let mut moved = 0;
    // Every pass removes at least `DEPTH` levels of what is left.
    while let Found::Deeper = empty(top.as_fd(), top.as_fd(), DEPTH, &mut moved)? {}
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// What a pass left behind.
enum Found {
    Nothing,
    /// Folders that were moved to the top.
    Deeper,
}

/// Removes the content of `folder`; folders more than `depth` below are moved into `top`.
fn empty(top: BorrowedFd<'_>, folder: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> Result<Found, Errno> {
    let mut found = Found::Nothing;
    for name in names(folder)? {
        match unlinkat(folder, &name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
            Ok(()) => continue,
        }
        match unlinkat(folder, &name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => {}
            Err(error) => return Err(error),
            Ok(()) => continue,
        }
        let inner = open_folder(folder, &name)?;
        if depth == 0 {
            move_up(top, folder, &name, moved)?;
            found = Found::Deeper;
            continue;
        }
        if let Found::Deeper = empty(top, inner.as_fd(), depth - 1, moved)? {
            found = Found::Deeper;
        }
        unlinkat(folder, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(found)
}

/// Moves a folder into `top` under a name that is free there.
fn move_up(top: BorrowedFd<'_>, folder: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> Result<(), Errno> {
    loop {
        *moved += 1;
        // An empty folder of that name would be replaced, a full one or a file refuses.
        match renameat(folder, name, top, format!(".moved-{moved}")) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            result => return result,
        }
    }
}

/// Opens a folder that is no link and no mount point, after giving its owner access if it denies that.
fn open_folder(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let folder = match openat2(parent, name, flags, Mode::empty(), resolve) {
        Err(Errno::ACCESS) => {
            chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            openat2(parent, name, flags, Mode::empty(), resolve)?
        }
        result => result?,
    };
    let mode = rustix::fs::fstat(&folder)?.st_mode;
    if mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&folder, Mode::RWXU)?;
    }
    Ok(folder)
}

fn names(folder: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::FileType;

    use super::*;

    #[test]
    fn links_are_removed_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("precious"), "x").unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink(outside.join("precious"), tree.join("file-link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.join("precious").exists());
        symlink(&outside, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(outside.join("precious").exists() && tree.symlink_metadata().is_err());
        remove_tree(&tree).unwrap();
        remove_tree(&tree.join("below/nothing")).unwrap();
    }

    #[test]
    fn folders_that_deny_access_and_device_nodes_go() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir_all(tree.join("work/work/incompat/volatile")).unwrap();
        std::fs::write(tree.join("read-only"), "x").unwrap();
        for (name, mode) in [("work/work", 0), ("work", 0o500), ("read-only", 0)] {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(tree.join(name), mode).unwrap();
        }
        let fifo = rustix::fs::mknodat(CWD, tree.join("fifo"), FileType::Fifo, Mode::RUSR, 0);
        fifo.unwrap();
        // Needs CAP_MKNOD; without it there is one kind less to remove.
        let _ = rustix::fs::mknodat(CWD, tree.join("whiteout"), FileType::CharacterDevice, Mode::empty(), 0);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn nesting_deeper_than_any_path_goes() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join(".moved-1"), "in the way").unwrap();
        let top = std::fs::File::open(folder.path()).unwrap();
        let mut reached = open_folder(top.as_fd(), c"tree").unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&reached, "sub", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&reached, "sibling", Mode::RWXU).unwrap();
            reached = open_folder(reached.as_fd(), c"sub").unwrap();
        }
        drop(reached);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
