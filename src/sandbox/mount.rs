//! The new mount calls as this module uses them: file systems and bind mounts are made *detached* and
//! attached, if at all, by descriptor.
//!
//! Nothing here takes a path that an image could have a say in.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// What a mount forbids, by the names that mount(8) uses.
pub(super) type Forbid = MountAttrFlags;

/// Nothing can be written.
pub(super) const READ_ONLY: Forbid = Forbid::MOUNT_ATTR_RDONLY;
/// Set-user-ID bits and file capabilities do nothing.
pub(super) const NO_SUID: Forbid = Forbid::MOUNT_ATTR_NOSUID;
/// Device nodes cannot be opened.
pub(super) const NO_DEV: Forbid = Forbid::MOUNT_ATTR_NODEV;
/// Nothing can be executed.
pub(super) const NO_EXEC: Forbid = Forbid::MOUNT_ATTR_NOEXEC;

/// Makes a detached file system of `kind`; an option without a value is a flag.
pub(super) fn filesystem(
    kind: &str,
    options: &[(&str, Option<&str>)],
    forbid: Forbid,
) -> io::Result<OwnedFd> {
    let context = open(kind)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, *key, *value)?,
            None => fsconfig_set_flag(&context, *key)?,
        }
    }
    create(&context, forbid)
}

/// A context to configure; the mount table names the kind as the source, as mount(8) does.
pub(super) fn open(kind: &str) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", kind)?;
    Ok(context)
}

/// Turns a configured file system context into a detached mount.
pub(super) fn create(context: impl AsFd, forbid: Forbid) -> io::Result<OwnedFd> {
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, forbid)?)
}

/// A detached bind mount of what lies at `name` in `folder` (links are not followed), or of `folder`
/// itself, which may be a file then, if `name` is empty.
pub(super) fn bind(folder: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(folder, name, flags)?)
}

/// Attaches the detached `mount` on what `target` refers to.
pub(super) fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// The kernel's `struct mount_attr`.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Forbids `forbid` on `mount`, in addition to what it forbids already. `Unsupported` before Linux 5.12.
pub(super) fn restrict(mount: impl AsFd, forbid: Forbid) -> io::Result<()> {
    let set = forbid.bits().into();
    change(mount, Attributes { set, clear: 0, propagation: 0, user_namespace: 0 })
}

/// Takes `permit` away from what `mount` forbids. `Unsupported` before Linux 5.12.
pub(super) fn permit(mount: impl AsFd, permit: Forbid) -> io::Result<()> {
    let clear = permit.bits().into();
    change(mount, Attributes { set: 0, clear, propagation: 0, user_namespace: 0 })
}

fn change(mount: impl AsFd, attributes: Attributes) -> io::Result<()> {
    // SAFETY: `mount_setattr` reads `size_of::<Attributes>()` bytes behind the pointer, which is valid for
    // the call, and a C string; it keeps neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOSYS) => Err(Errno::OPNOTSUPP.into()),
        error => Err(error),
    }
}
