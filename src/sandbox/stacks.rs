//! Which tree a stack of layers is, by whatever means this kernel has.
//!
//! Where overlayfs works the tree is a detached overlay. Where it does not (a container whose own root is an
//! overlay) the tree is a full copy in the upper, and [`Stacks::finish`] takes away again what equals the
//! layers below. Chains that overlayfs cannot stack have their lower part merged into one tree first; such
//! trees are kept for the sandbox's life.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::flatten::Trouble;
use super::mount::{NO_DEV, READ_ONLY, bind, restrict};
use super::overlay::{self, MOST_LOWERS, Way, random_name};
use super::{Layers, SandboxError, Writable, flatten};
use crate::base::fs::{AtPath, PathError, RootDir};

/// How layers are stacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// With overlayfs through the new mount calls.
    Overlay,
    /// With overlayfs through `mount(2)`, where the new calls do not take layers one by one.
    OverlayByOldCall,
    /// By copying the whole tree for every step.
    Copy,
}

impl fmt::Display for Driver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Overlay => "overlayfs",
            Self::OverlayByOldCall => "overlayfs (old mount call)",
            Self::Copy => "copies (no overlayfs here)",
        })
    }
}

/// Makes trees of layers; one for each sandbox.
#[derive(Debug)]
pub(super) struct Stacks {
    /// A folder of the sandbox's own.
    folder: PathBuf,
    driver: OnceLock<Driver>,
    merged: Mutex<HashMap<Vec<PathBuf>, PathBuf>>,
    /// The uppers that hold a full copy.
    filled: Mutex<HashSet<PathBuf>>,
}

impl Stacks {
    /// Keeps its own things in `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self, SandboxError> {
        for name in ["lower-0", "lower-1", "probe/upper", "probe/work"] {
            let empty = folder.join(name);
            std::fs::create_dir_all(&empty).at_path("create", &empty)?;
            std::fs::set_permissions(&empty, PermissionsExt::from_mode(0o755)).at_path("chmod", &empty)?;
        }
        let (merged, filled) = (Mutex::default(), Mutex::default());
        Ok(Self { folder: folder.to_owned(), driver: OnceLock::new(), merged, filled })
    }

    /// Uses `driver` without asking.
    pub(super) fn use_driver(&mut self, driver: Driver) {
        self.driver = OnceLock::from(driver);
    }

    /// The best driver that can make a writable tree here.
    pub(super) fn driver(&self) -> Driver {
        *self.driver.get_or_init(|| {
            let works = |way| {
                let writable =
                    Writable { upper: self.folder.join("probe/upper"), work: self.folder.join("probe/work") };
                overlay::stack(way, &[self.empty(0)], Some(&writable), &self.folder).is_ok()
            };
            match () {
                () if works(Way::OneByOne) => Driver::Overlay,
                () if works(Way::OldCall) => Driver::OverlayByOldCall,
                () => Driver::Copy,
            }
        })
    }

    /// The merged tree as a detached mount on which device nodes cannot be opened.
    pub(super) fn tree(&self, layers: &Layers) -> Result<OwnedFd, SandboxError> {
        match self.driver() {
            Driver::Overlay => self.overlay(Way::OneByOne, layers),
            Driver::OverlayByOldCall => self.overlay(Way::OldCall, layers),
            Driver::Copy => self.copy(layers),
        }
    }

    /// Leaves only the difference in the upper.
    pub(super) fn finish(&self, layers: &Layers) -> Result<(), SandboxError> {
        let Some(writable) = layers.writable.as_ref().filter(|_| self.driver() == Driver::Copy) else {
            return Ok(());
        };
        let below = self.merged(&layers.lowers)?;
        flatten::keep_difference(&writable.upper, &below).map_err(|trouble| match trouble {
            Trouble::Whiteouts => SandboxError::Whiteouts { upper: writable.upper.clone() },
            Trouble::Io(error) => PathError::new("compare", &writable.upper, error).into(),
        })
    }

    fn overlay(&self, way: Way, layers: &Layers) -> Result<OwnedFd, SandboxError> {
        let lowers = self.stackable(layers)?;
        let writable = layers.writable.as_ref();
        if let Some(writable) = writable {
            prepare_upper(writable, layers.lowers.last())?;
        }
        overlay::stack(way, &lowers, writable, &self.folder).map_err(|source| {
            let upper = writable.map(|writable| writable.upper.clone());
            let last = upper.or_else(|| lowers.last().cloned()).unwrap_or_default();
            let layers = lowers.len() + usize::from(writable.is_some());
            SandboxError::Overlay { layers, last, source }
        })
    }

    /// The lowers, neither more nor fewer than overlayfs takes.
    fn stackable(&self, layers: &Layers) -> Result<Vec<PathBuf>, SandboxError> {
        let mut lowers = layers.lowers.clone();
        if lowers.len() > MOST_LOWERS {
            let rest = lowers.split_off(lowers.len() - (MOST_LOWERS - 1));
            lowers = vec![self.merged(&lowers)?];
            lowers.extend(rest);
        }
        let least = if layers.writable.is_some() { 1 } else { 2 };
        for number in lowers.len()..least {
            lowers.insert(0, self.empty(number));
        }
        Ok(lowers)
    }

    /// An empty folder; there are two.
    fn empty(&self, number: usize) -> PathBuf {
        self.folder.join(format!("lower-{number}"))
    }

    fn copy(&self, layers: &Layers) -> Result<OwnedFd, SandboxError> {
        let (tree, forbidden) = match &layers.writable {
            None => (self.merged(&layers.lowers)?, READ_ONLY | NO_DEV),
            Some(writable) => {
                self.fill(&writable.upper, &layers.lowers)?;
                (writable.upper.clone(), NO_DEV)
            }
        };
        let opened = RootDir::open(&tree)?;
        let mount = bind(&opened, "").at_path("bind", &tree)?;
        restrict(&mount, forbidden).at_path("restrict", &tree)?;
        Ok(mount)
    }

    /// Copies the layers into an upper when it is seen for the first time.
    fn fill(&self, upper: &Path, layers: &[PathBuf]) -> Result<(), SandboxError> {
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        if !filled.insert(upper.to_owned()) {
            return Ok(());
        }
        drop(filled);
        std::fs::set_permissions(upper, PermissionsExt::from_mode(0o755)).at_path("chmod", upper)?;
        Ok(flatten::merge(layers, upper).at_path("merge layers into", upper)?)
    }

    /// The chain as one tree; made once.
    fn merged(&self, layers: &[PathBuf]) -> Result<PathBuf, SandboxError> {
        let mut merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = merged.get(layers) {
            return Ok(tree.clone());
        }
        let name = random_name().at_path("name a folder in", &self.folder)?;
        let tree = self.folder.join(format!("merged-{name}"));
        std::fs::create_dir(&tree).at_path("create", &tree)?;
        std::fs::set_permissions(&tree, PermissionsExt::from_mode(0o755)).at_path("chmod", &tree)?;
        flatten::merge(layers, &tree).at_path("merge layers into", &tree)?;
        merged.insert(layers.to_vec(), tree.clone());
        Ok(tree)
    }
}

/// The root folder of a merged tree has the attributes of the upper's own: a new upper takes them from the
/// layer below, so that a step does not change its root by existing.
fn prepare_upper(writable: &Writable, below: Option<&PathBuf>) -> Result<(), SandboxError> {
    let upper = &writable.upper;
    if std::fs::read_dir(upper).at_path("read", upper)?.next().is_some() {
        return Ok(());
    }
    let folder = File::open(upper).at_path("open", upper)?;
    let Some(below) = below else {
        std::fs::set_permissions(upper, PermissionsExt::from_mode(0o755)).at_path("chmod", upper)?;
        return Ok(std::os::unix::fs::fchown(&folder, Some(0), Some(0)).at_path("chown", upper)?);
    };
    let model = std::fs::metadata(below).at_path("stat", below)?;
    std::os::unix::fs::fchown(&folder, Some(model.uid()), Some(model.gid())).at_path("chown", upper)?;
    let mode = PermissionsExt::from_mode(model.mode() & 0o7777);
    std::fs::set_permissions(upper, mode).at_path("chmod", upper)?;
    let time = |seconds, nanoseconds: i64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: time(model.atime(), model.atime_nsec()),
        last_modification: time(model.mtime(), model.mtime_nsec()),
    };
    rustix::fs::utimensat(&folder, ".", &times, AtFlags::empty()).at_path("set the times of", upper)?;
    Ok(())
}
