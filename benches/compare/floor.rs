//! What the machine itself needs for the same files: the least that anybody could take.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Stats everything below `folders` on two threads, and reads the files too if `read`.
pub(crate) fn walk(folders: &[PathBuf], read: bool) -> Duration {
    let begun = Instant::now();
    let open = Mutex::new(folders.to_vec());
    let busy = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| walk_some(&open, &busy, read));
        }
    });
    begun.elapsed()
}

fn walk_some(open: &Mutex<Vec<PathBuf>>, busy: &AtomicUsize, read: bool) {
    let (mut fold, mut buffer) = (0_u64, vec![0; 1 << 20]);
    loop {
        let next = {
            let mut open = open.lock().unwrap();
            let next = open.pop();
            busy.fetch_add(usize::from(next.is_some()), Ordering::SeqCst);
            next
        };
        let Some(folder) = next else {
            if busy.load(Ordering::SeqCst) == 0 {
                break;
            }
            std::thread::yield_now();
            continue;
        };
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let data = entry.metadata().unwrap();
            fold = fold.wrapping_mul(31).wrapping_add(data.mtime_nsec() as u64 ^ data.size() ^ data.ino());
            if data.is_dir() {
                open.lock().unwrap().push(entry.path());
            } else if read {
                let mut file = fs::File::open(entry.path()).unwrap();
                while file.read(&mut buffer).unwrap() > 0 {
                    fold = fold.wrapping_add(u64::from(buffer[0]));
                }
            }
        }
        busy.fetch_sub(1, Ordering::SeqCst);
    }
    std::hint::black_box(fold);
}

/// Copies `folders` once, one thread a core, into `to`, which is removed afterwards.
pub(crate) fn copy(folders: &[PathBuf], to: &Path) -> Duration {
    let _ = fs::remove_dir_all(to);
    let begun = Instant::now();
    two_at_a_time(folders.len(), &|number| copy_tree(&folders[number], &to.join(number.to_string())));
    let took = begun.elapsed();
    fs::remove_dir_all(to).unwrap();
    took
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        let target = to.join(entry.file_name().unwrap());
        match kind.is_dir() {
            true => copy_tree(&entry, &target),
            false => drop(fs::copy(&entry, &target).unwrap()),
        }
    }
}

/// Runs shell commands in root file systems (chroot, no isolation), two at a time.
pub(crate) fn commands(roots: &[PathBuf], command: &str) -> Duration {
    let begun = Instant::now();
    two_at_a_time(roots.len(), &|number| {
        let script = format!("cd /src && {command}");
        let status = Command::new("chroot")
            .arg(&roots[number])
            .args(["/bin/sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    });
    begun.elapsed()
}

/// A root file system for each context: the base with the context at `/src`.
pub(crate) fn roots(base: &Path, contexts: &[PathBuf], to: &Path) -> Vec<PathBuf> {
    let _ = fs::remove_dir_all(to);
    let root = |(number, context): (usize, &PathBuf)| {
        let root = to.join(number.to_string());
        fs::create_dir_all(&root).unwrap();
        let unpacked = Command::new("tar").arg("-xf").arg(base).arg("-C").arg(&root).status();
        assert!(unpacked.unwrap().success());
        copy_tree(context, &root.join("src"));
        root
    };
    contexts.iter().enumerate().map(root).collect()
}

fn two_at_a_time(count: usize, action: &(dyn Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= count {
                        break;
                    }
                    action(number);
                }
            });
        }
    });
}
