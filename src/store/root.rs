//! Opening a store: its layout, its lock, and the end of a run.
//!
//! Opening takes the shared lock and writes nothing where the layout stands. A run notes here what it
//! published and which provisional records it met; [`Store::sync`] makes all of it durable at once.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::base::digest::{BlobId, ResultId};
use crate::base::fs::{AtPath, FileLock, PathError, write_atomic};

use super::write_back::Published;
use super::{Held, Result, records, snapshots, temporary};

/// The tag that backup tools look for (bford.info/cachedir).
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This folder holds results that shipway can make again; backups may leave it out.\n";

/// Every folder of the layout. A bucket's version changes with its format.
const FOLDERS: &[&str] = &[
    "tmp",
    "blobs-v1/sha256",
    "snapshots-v1",
    "records-v1",
    "canonical-v1",
    "names-v1",
    "pins-v1",
    "history-v1",
    "handover-v1",
    "trees-v1",
    "mounts-v1",
];

/// The mode of a file that is known to be on the disk; before that it is [`PROVISIONAL`].
pub(super) const DURABLE: u32 = 0o444;
/// The mode of a file that a crash of the machine may still lose.
pub(super) const PROVISIONAL: u32 = 0o644;
/// Use is stamped again when the last stamp is older than this.
const STAMP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// One store on disk. It may be used by many threads and many processes at once.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    boot: String,
    shared: Mutex<Option<FileLock>>,
    run: Mutex<Run>,
    /// How much this run has published.
    published: Arc<Published>,
}

/// What this run did and met.
#[derive(Debug, Default)]
struct Run {
    swept: bool,
    published: bool,
    /// What was published, for the running total.
    made: Vec<Held>,
    provisional: HashSet<Provisional>,
    verified: HashSet<BlobId>,
    used: HashSet<PathBuf>,
}

/// A file that waits for its mark, and what proves that it is still the file that was meant.
#[derive(Debug, PartialEq, Eq, Hash, Clone)]
pub(super) enum Provisional {
    /// A record and its result: another run may have replaced it since.
    Record(PathBuf, ResultId),
    /// A snapshot; its folder is never replaced.
    Snapshot(ResultId),
    /// A blob; it is never replaced by other bytes.
    Blob(BlobId),
}

impl Store {
    /// Opens the store at `root` and makes it if it is missing. Waits while a collector runs; a run that
    /// holds the store open keeps collectors out. Writes nothing where the layout stands.
    pub fn open(root: &Path) -> Result<Self> {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let boot = std::fs::read_to_string(path).at_path("read", path)?;
        Self::open_at_boot(root, boot.trim())
    }

    /// [`Store::open`] with the identifier of the boot given.
    pub(super) fn open_at_boot(root: &Path, boot: &str) -> Result<Self> {
        let absolute = std::path::absolute(root).at_path("resolve", root)?;
        if !laid_out(&absolute) {
            lay_out(&absolute)?;
        }
        let lock = FileLock::shared(&absolute.join(".lock"))?;
        Ok(Self {
            root: absolute,
            boot: boot.to_owned(),
            shared: Mutex::new(Some(lock)),
            run: Mutex::default(),
            published: Arc::default(),
        })
    }

    /// The folder of the store, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where stat caches lie; their format belongs to `context`.
    pub fn trees_folder(&self) -> PathBuf {
        self.root.join("trees-v1")
    }

    /// Lets collectors in. To be called before something long-lived; what was looked up before may be
    /// gone afterwards.
    pub fn release(&self) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Ends a run that published something: writes the file system's dirty data to the disk once, then
    /// marks what this run published and the provisional records that it met. Without this call a crash
    /// of the machine turns them into misses. Does nothing if nothing was published.
    pub fn sync(&self) -> Result<()> {
        let (published, provisional) = {
            let mut run = self.run();
            (std::mem::take(&mut run.published), std::mem::take(&mut run.provisional))
        };
        if !published {
            return Ok(());
        }
        let folder = File::open(&self.root).at_path("open", &self.root)?;
        rustix::fs::syncfs(&folder).at_path("sync", &self.root)?;
        for file in provisional {
            self.mark(&file)?;
        }
        Ok(())
    }

    /// Stamps the use of what this run met, unless that was done within the last day. The collector drops
    /// first what was not used for the longest time. Best effort: a file that is gone is passed over.
    pub fn stamp_use(&self) {
        let met = std::mem::take(&mut self.run().used);
        let now = SystemTime::now();
        for path in met {
            // A stamp that could not be set makes the record look older than it is, nothing worse.
            let _ = File::open(&path).and_then(|file| file.set_modified(now));
        }
    }

    /// Sets the mark of one file if it is still the one that was meant.
    fn mark(&self, file: &Provisional) -> Result<()> {
        let path = match file {
            Provisional::Record(path, result) => {
                if records::read(path).is_none_or(|read| read.record.result != *result) {
                    return Ok(());
                }
                path.clone()
            }
            Provisional::Snapshot(result) => snapshots::meta_path(self, *result),
            Provisional::Blob(blob) => self.blob_path(*blob),
        };
        let permissions = std::fs::Permissions::from_mode(DURABLE);
        match File::open(&path).and_then(|open| open.set_permissions(permissions)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(PathError::new("mark", path, error).into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    pub(super) fn published(&self) -> &Arc<Published> {
        &self.published
    }

    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// The folder for what is being made. The first caller of a run also removes what dead processes left.
    pub(super) fn tmp(&self) -> PathBuf {
        let tmp = self.root.join("tmp");
        let first = !std::mem::replace(&mut self.run().swept, true);
        if first {
            temporary::sweep(&tmp);
        }
        tmp
    }

    /// Notes that this run wrote `file`.
    pub(super) fn wrote(&self, file: Provisional) {
        let mut run = self.run();
        match file {
            Provisional::Blob(blob) => {
                run.verified.insert(blob);
                run.made.push(Held::Blob(blob));
            }
            Provisional::Snapshot(snapshot) => run.made.push(Held::Snapshot(snapshot)),
            Provisional::Record(..) => {}
        }
        run.published = true;
        run.provisional.insert(file);
        self.published.more();
    }

    /// Whether this run has published anything that it has not accounted for yet.
    pub fn has_published(&self) -> bool {
        !self.run().made.is_empty()
    }

    /// What this run has published since it was asked last.
    pub(super) fn take_made(&self) -> Vec<Held> {
        std::mem::take(&mut self.run().made)
    }

    /// Notes that this run relies on `file`, which nobody has marked yet.
    pub(super) fn met_provisional(&self, file: Provisional) {
        self.run().provisional.insert(file);
    }

    /// Notes the use of the record at `path`, which was stamped at `used`, unless that was today.
    pub(super) fn met(&self, path: &Path, used: Option<SystemTime>) {
        let age = used.and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > STAMP_AFTER) {
            self.run().used.insert(path.to_owned());
        }
    }

    /// Whether this run has digested `blob`.
    pub(super) fn verified(&self, blob: BlobId) -> bool {
        self.run().verified.contains(&blob)
    }

    /// Notes that this run has digested `blob`.
    pub(super) fn verify(&self, blob: BlobId) {
        let mut run = self.run();
        run.verified.insert(blob);
        run.provisional.insert(Provisional::Blob(blob));
    }

    /// Puts `bytes` at `path` by a rename; the path's folder is made if it is missing.
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let (temporary, mut file) = temporary::make_file(&self.tmp())?;
        let written = std::io::Write::write_all(&mut file, bytes).at_path("write", &temporary);
        let renamed = written.and_then(|()| temporary::rename(&temporary, path));
        if renamed.is_err() {
            // The error that matters is the first one.
            let _ = std::fs::remove_file(&temporary);
        }
        Ok(renamed?)
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn laid_out(root: &Path) -> bool {
    FOLDERS.iter().chain(&["CACHEDIR.TAG", ".lock"]).all(|name| root.join(name).exists())
}

/// Makes what is missing of the layout; several processes may do so at once.
fn lay_out(root: &Path) -> Result<()> {
    for folder in FOLDERS {
        let path = root.join(folder);
        std::fs::create_dir_all(&path).at_path("create", &path)?;
    }
    // Nobody else needs to enter: there may be setuid files of old images below.
    let permissions = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(root, permissions).at_path("set the mode of", root)?;
    drop(FileLock::shared(&root.join(".lock"))?);
    write_atomic(&root.join("CACHEDIR.TAG"), TAG.as_bytes())?;
    Ok(())
}

/// Whether the file bears the mark.
pub(super) fn is_durable(file: &impl AsFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| is_marked(stat.st_mode))
}

/// The mode bits that carry the mark.
pub(super) const fn is_marked(mode: u32) -> bool {
    mode & 0o222 == 0
}
