//! What the kernel says about an entry, and when that can be trusted to mean "the same content".
//!
//! A write after time T gives a file a change time (ctime) of T or later, by the clock that the kernel
//! stamps with. So a digest taken at T stands for the stamp that it was taken under if that stamp's ctime
//! lies before T: then every later write gives another stamp, also one that puts size and mtime back, for
//! nothing sets a ctime. A ctime at T or later is *young*, and proves nothing. File systems whose ctimes
//! are not kept by this kernel (network, FUSE, FAT) prove nothing either, and the stamp of an overlay's
//! folder proves nothing about its names: it is that of the topmost layer's folder, whatever lies below.
//! What no stamp shows is a program that goes on writing through a shared mapping into a page that was
//! dirty already, and a clock set back so that one tick stamps two states.

use std::os::fd::AsFd;

use rustix::fs::{FileType, Stat};
use rustix::time::{ClockId, clock_gettime};

/// Seconds and nanoseconds since 1970.
pub(super) type Time = (i64, u32);

/// Identifies one state of one file, as long as its ctime is not young.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Stamp {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) size: u64,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
}

/// A stamp with the rest that a copy needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    pub(super) stamp: Stamp,
    /// Type and permissions.
    mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u64,
    pub(super) device: u64,
}

#[expect(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
impl From<&Stat> for Meta {
    fn from(stat: &Stat) -> Self {
        let stamp = Stamp {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: stat.st_size as u64,
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        };
        Self {
            stamp,
            mode: stat.st_mode as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: stat.st_nlink as u64,
            device: stat.st_rdev as u64,
        }
    }
}

impl Meta {
    /// Its type.
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// `mode & 0o7777`.
    pub(super) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// Whether it is a directory.
    pub(super) fn is_folder(&self) -> bool {
        self.kind() == FileType::Directory
    }
}

impl Stamp {
    /// Whether a write after `moment` (from [`now`]) would show: the ctime lies before it by more than the
    /// step of the clock. File systems that keep whole seconds get two of them.
    pub(super) fn settled(&self, moment: Time) -> bool {
        let nanos = |(seconds, nanos): Time| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let step = if self.ctime.1 == 0 { 2_100_000_000 } else { 20_000_000 };
        nanos(self.ctime) + step < nanos(moment)
    }
}

/// The time by the clock that stamps files: it stands still between two ticks, as the stamps do.
pub(super) fn now() -> Time {
    let time = clock_gettime(ClockId::RealtimeCoarse);
    // Nanoseconds are below 10⁹.
    (time.tv_sec, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What it proves that a stamp stands, by the file system that it is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trust {
    /// Nothing: its ctimes are not made by this kernel for every change.
    Nothing,
    /// That a file holds the same.
    Contents,
    /// That too, and that a folder has the same names.
    Names,
}

/// What stamps prove on the file system that `file` lies on.
pub(super) fn trust(file: impl AsFd) -> Trust {
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    const TMPFS: u64 = 0x0102_1994;
    const OVERLAY: u64 = 0x794c_7630;
    const ZFS: u64 = 0x2fc1_2fc1;
    const F2FS: u64 = 0xf2f5_2010;
    const BCACHEFS: u64 = 0xca45_1a4e;
    match rustix::fs::fstatfs(file).map_or(0, |stat| stat.f_type as u64 & 0xffff_ffff) {
        EXT | XFS | BTRFS | TMPFS | ZFS | F2FS | BCACHEFS => Trust::Names,
        OVERLAY => Trust::Contents,
        _ => Trust::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn young_stamps_are_not_settled() {
        let stamp = |ctime| Stamp { dev: 1, ino: 1, size: 1, mtime: (0, 0), ctime };
        let moment = (100, 500_000_000);
        assert!(stamp((100, 400_000_000)).settled(moment));
        assert!(!stamp((100, 490_000_000)).settled(moment));
        assert!(!stamp((100, 500_000_000)).settled(moment));
        assert!(!stamp((200, 1)).settled(moment));
        assert!(!stamp((99, 0)).settled(moment), "whole seconds need two");
        assert!(stamp((98, 0)).settled(moment));
    }

    #[test]
    fn kernel_made_file_systems_are_told_from_others() {
        let trust = |path: &str| trust(std::fs::File::open(path).unwrap());
        assert_eq!(trust("/proc/version"), Trust::Nothing);
        assert_eq!(trust("/dev/shm"), Trust::Names);
    }
}
