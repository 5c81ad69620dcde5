//! Stacks layers with overlayfs as a detached mount.
//!
//! Two ways lead there. Where the kernel takes lowers one by one (`lowerdir+`) the whole is
//! done with the new mount calls. Elsewhere a thread with a mount namespace of its own uses `mount(2)` and
//! clones the result: the options fit the one page that `mount(2)` takes because they name short links in
//! a folder that the thread stands in. Neither is ever attached where another process could see it.
//!
//! The options are explicit because distributions change the defaults: no index, no metacopy, no
//! redirects (an upper must mean the same under every kernel and be readable as a plain tree), and
//! `volatile`, because nothing in an upper needs to survive a crash of the machine.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, fsconfig_set_flag, fsconfig_set_string, mount_change,
    unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::Writable;
use super::mount::{NO_DEV, READ_ONLY, bind, create, open};

/// How many lowers overlayfs stacks at most (`OVL_MAX_STACK`).
pub(super) const MOST_LOWERS: usize = 500;

/// By which calls an overlay is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `fsopen` … `fsmount`, lowers one by one.
    OneByOne,
    /// `mount(2)` in a thread of its own.
    OldCall,
}

/// Options of every overlay.
const OPTIONS: [(&str, &str); 3] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "off")];

/// The detached merged tree of `lowers` (bottom first, at least two, or one and something writable,
/// at most [`MOST_LOWERS`]). `scratch` is a folder for short-lived links. Device nodes on it cannot be opened.
pub(super) fn stack(
    way: Way,
    lowers: &[PathBuf],
    writable: Option<&Writable>,
    scratch: &Path,
) -> io::Result<OwnedFd> {
    if let Some(writable) = writable {
        forget_volatile(&writable.work)?;
    }
    match way {
        Way::OneByOne => one_by_one(lowers, writable),
        Way::OldCall => std::thread::scope(|scope| {
            let thread = scope.spawn(|| with_old_call(lowers, writable, scratch));
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
        }),
    }
}

/// A volatile overlay leaves a mark in its work folder that refuses the next mount, because after a crash
/// the upper may be damaged. Uppers that are still in use never outlived a crash.
fn forget_volatile(work: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(work.join("work/incompat")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn one_by_one(lowers: &[PathBuf], writable: Option<&Writable>) -> io::Result<OwnedFd> {
    let context = open("overlay")?;
    for (key, value) in OPTIONS {
        fsconfig_set_string(&context, key, value)?;
    }
    let mut opened = Vec::new();
    let mut set = |key: &str, path: &Path| -> io::Result<()> {
        Ok(fsconfig_set_string(&context, key, value_for(path, &mut opened)?)?)
    };
    for lower in lowers.iter().rev() {
        set("lowerdir+", lower)?;
    }
    let Some(writable) = writable else { return create(&context, READ_ONLY | NO_DEV) };
    set("upperdir", &writable.upper)?;
    set("workdir", &writable.work)?;
    fsconfig_set_flag(&context, "volatile")?;
    create(&context, NO_DEV)
}

/// `path` as the value of an option: itself, or where it would be too long (256 bytes) or be read as
/// something else, a path through a descriptor that is kept in `opened`.
fn value_for(path: &Path, opened: &mut Vec<OwnedFd>) -> io::Result<PathBuf> {
    let bytes = path.as_os_str().as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    if bytes.len() < 256 && bytes.iter().all(plain) {
        return Ok(path.to_owned());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    let value = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    opened.push(folder);
    Ok(value)
}

/// Must run on a thread of its own: changes the thread's mount namespace and working directory.
fn with_old_call(lowers: &[PathBuf], writable: Option<&Writable>, scratch: &Path) -> io::Result<OwnedFd> {
    let links = Links::make(lowers, writable, scratch)?;
    // SAFETY: the descriptor table stays shared; only this thread's namespace and folder change.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::process::chdir(&links.folder)?;
    let read_only = if writable.is_some() { MountFlags::empty() } else { MountFlags::RDONLY };
    let options = std::ffi::CString::new(links.options.as_str())?;
    rustix::mount::mount("overlay", "m", "overlay", MountFlags::NODEV | read_only, options.as_c_str())?;
    let detached = bind(rustix::fs::CWD, "m");
    unmount("m", UnmountFlags::DETACH)?;
    detached
}

/// A folder of short links to the layers, removed again with the value.
struct Links {
    folder: PathBuf,
    options: String,
}

impl Links {
    fn make(lowers: &[PathBuf], writable: Option<&Writable>, scratch: &Path) -> io::Result<Self> {
        let folder = scratch.join(format!("links-{}", random_name()?));
        std::fs::create_dir(&folder)?;
        let mut links = Self { folder, options: String::new() };
        std::fs::create_dir(links.folder.join("m"))?;
        let mut names = Vec::new();
        for (number, lower) in lowers.iter().enumerate().rev() {
            symlink(lower, links.folder.join(number.to_string()))?;
            names.push(number.to_string());
        }
        links.options = format!("lowerdir={}", names.join(":"));
        if let Some(writable) = writable {
            symlink(&writable.upper, links.folder.join("u"))?;
            symlink(&writable.work, links.folder.join("w"))?;
            links.options.push_str(",upperdir=u,workdir=w,volatile");
        }
        for (key, value) in OPTIONS {
            links.options.push_str(&format!(",{key}={value}"));
        }
        Ok(links)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // Links in a scratch folder: what stays behind costs nothing and is removed with the folder.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A name that nobody else uses.
pub(super) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(hex::encode(bytes))
}
