//! Looking at build contexts: the walk with and without a stat cache, and digesting.
//!
//! `cargo bench --bench context`. Files have 4 KiB, twenty in a folder, and lie in the page cache: what is
//! measured is the work for them and not the disk. *Remembered* is the look of a build in which nothing changed,
//! *warm* the walk of one in which something did.

use std::path::Path;
use std::time::Duration;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use shipway::base::diag::SourceFile;
use shipway::base::digest::Digest;
use shipway::context::{Context, Ignore, Request};
use tempfile::TempDir;

const SIZE: usize = 4096;

fn main() {
    divan::main();
}

/// A folder `context` with files, and an empty folder `caches`.
fn place(files: usize) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("caches")).unwrap();
    for file in 0..files {
        let folder = place.path().join(format!("context/{}/{}", file / 400, file / 20));
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!("{file:>width$}", width = SIZE);
        std::fs::write(folder.join(format!("file{file}.txt")), text).unwrap();
    }
    // Old enough for stamps to be believed.
    std::thread::sleep(Duration::from_millis(100));
    place
}

/// Selects all files, as a process does that has just started.
fn select(place: &Path, cached: bool) -> Digest {
    let caches = cached.then(|| place.join("caches"));
    let context = Context::open(&place.join("context"), Ignore::default(), caches).unwrap();
    let request = Request { sources: vec![".".to_owned()], ..Request::default() };
    let digest = context.select(&request).unwrap().digest();
    context.save_cache().unwrap();
    digest
}

/// Selects all files, as a process does in which nothing has changed since the last one.
fn remember(context: Context) -> Digest {
    let request = Request { sources: vec![".".to_owned()], ..Request::default() };
    context.recalled().remembered(&request).unwrap()
}

#[divan::bench(args = [1000, 20_000], sample_count = 20)]
fn scan_remembered(bencher: Bencher<'_, '_>, files: usize) {
    let place = place(files);
    select(place.path(), true);
    let open = || {
        let caches = Some(place.path().join("caches"));
        Context::open(&place.path().join("context"), Ignore::default(), caches).unwrap()
    };
    bencher.counter(ItemsCount::new(files)).bench(|| remember(open()));
}

#[divan::bench(args = [1000, 20_000], sample_count = 20)]
fn scan_warm(bencher: Bencher<'_, '_>, files: usize) {
    let place = place(files);
    select(place.path(), true);
    bencher.counter(ItemsCount::new(files)).bench(|| select(place.path(), true));
}

/// The same in a git checkout that was made under this umask: what is tracked counts with git's modes.
#[divan::bench(args = [(1000, 0o022), (20_000, 0o022), (1000, 0o077), (20_000, 0o077)], sample_count = 20)]
fn scan_warm_checkout(bencher: Bencher<'_, '_>, (files, umask): (usize, u32)) {
    let place = place(files);
    check_in(&place.path().join("context"), umask);
    select_checkout(place.path());
    bencher.counter(ItemsCount::new(files)).bench(|| select_checkout(place.path()));
}

/// The same where nothing has changed.
#[divan::bench(args = [(1000, 0o022), (20_000, 0o022), (1000, 0o077), (20_000, 0o077)], sample_count = 20)]
fn scan_remembered_checkout(bencher: Bencher<'_, '_>, (files, umask): (usize, u32)) {
    let place = place(files);
    check_in(&place.path().join("context"), umask);
    select_checkout(place.path());
    bencher.counter(ItemsCount::new(files)).bench(|| remember(checkout(place.path())));
}

fn checkout(place: &Path) -> Context {
    let ignore = Ignore::parse(&SourceFile::new(".dockerignore", ".git")).unwrap();
    Context::open(&place.join("context"), ignore, Some(place.join("caches"))).unwrap().with_git_modes()
}

fn select_checkout(place: &Path) -> Digest {
    let context = checkout(place);
    let request = Request { sources: vec![".".to_owned()], ..Request::default() };
    let digest = context.select(&request).unwrap().digest();
    context.save_cache().unwrap();
    digest
}

/// Makes a folder a repository that tracks all of it, with the modes that this umask gives.
fn check_in(folder: &Path, umask: u32) {
    let modes = if umask == 0o077 { "u=rwX,go=" } else { "u=rwX,go=rX" };
    let shell = format!("git init -q && git add . && chmod -R {modes} .");
    let done = std::process::Command::new("sh").arg("-c").arg(shell).current_dir(folder).status();
    assert!(done.is_ok_and(|status| status.success()), "needs git");
    std::thread::sleep(Duration::from_millis(100));
}

/// Reads every file, and keeps nothing.
#[divan::bench(args = [1000, 20_000], sample_count = 10)]
fn scan_cold(bencher: Bencher<'_, '_>, files: usize) {
    let place = place(files);
    bencher.counter(ItemsCount::new(files)).bench(|| select(place.path(), false));
}

/// Reads every file, and writes the cache.
#[divan::bench(args = [1000, 20_000], sample_count = 10)]
fn scan_cold_and_keep(bencher: Bencher<'_, '_>, files: usize) {
    let place = place(files);
    let empty = || {
        for file in std::fs::read_dir(place.path().join("caches")).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    };
    bencher.counter(ItemsCount::new(files)).with_inputs(empty).bench_values(|()| select(place.path(), true));
}

/// One core, bytes in memory.
#[divan::bench(sample_count = 20)]
fn digest_in_memory(bencher: Bencher<'_, '_>) {
    let bytes = vec![7; 16 << 20];
    bencher.counter(BytesCount::new(bytes.len())).bench(|| Digest::of(&bytes));
}

/// All cores, large files.
#[divan::bench(sample_count = 10)]
fn digest_files(bencher: Bencher<'_, '_>) {
    let place = place(1);
    for file in 0..4 {
        std::fs::write(place.path().join(format!("context/large{file}")), vec![file; 16 << 20]).unwrap();
    }
    bencher.counter(BytesCount::new(4usize * (16 << 20))).bench(|| select(place.path(), false));
}
