//! Layers: the tar of a tree with its digest, and gzip on one core and on all.
//!
//! `cargo bench --bench layer`. The tree has a thousand files of 4 KiB that lie in the page cache. What is
//! compressed looks like program text: about as compressible as the layers of ordinary images.

use std::io::{self, Write};

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use shipway::base::digest::Digest;
use shipway::base::fs::RootDir;
use shipway::oci::{GzipWriter, LayerOptions, decompressed, write_layer};

const FILES: usize = 1000;
const SIZE: usize = 4096;
/// As layers are packed.
const LEVEL: u32 = 6;

fn main() {
    divan::main();
}

/// `size` bytes of words, half of which were seen before.
fn words(seed: usize, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 64);
    for number in 0.. {
        let word = Digest::of(format!("{seed} {}", number % 2 * number)).hex();
        bytes.extend_from_slice(&word.as_bytes()[..8 + number % 24]);
        bytes.extend_from_slice(b"    return value;\n");
        if bytes.len() >= size {
            break;
        }
    }
    bytes.truncate(size);
    bytes
}

#[divan::bench(sample_count = 30)]
fn layer_digest(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().unwrap();
    for file in 0..FILES {
        let parent = folder.path().join(format!("usr/lib/{}", file / 50));
        std::fs::create_dir_all(&parent).unwrap();
        std::fs::write(parent.join(format!("file{file}.rb")), words(file, SIZE)).unwrap();
    }
    let tree = RootDir::open(folder.path()).unwrap();
    bencher
        .counter(ItemsCount::new(FILES))
        .counter(BytesCount::new(FILES * SIZE))
        .bench(|| write_layer(&tree, None, &mut io::sink(), &LayerOptions::default()).unwrap().diff_id);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzipWriter::new(Vec::new(), LEVEL).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

#[divan::bench(sample_count = 5)]
fn gzip_on_all_cores(bencher: Bencher<'_, '_>) {
    let bytes = words(1, 32 << 20);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| gzip(&bytes));
}

#[divan::bench(sample_count = 5)]
fn gzip_on_one_core(bencher: Bencher<'_, '_>) {
    let bytes = words(1, 32 << 20);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    bencher.counter(BytesCount::new(bytes.len())).bench(|| pool.install(|| gzip(&bytes)));
}

#[divan::bench(sample_count = 10)]
fn gunzip(bencher: Bencher<'_, '_>) {
    let bytes = words(1, 32 << 20);
    let packed = gzip(&bytes);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| {
        let packed = packed.as_slice();
        let (_, mut plain) = decompressed(packed).unwrap();
        assert_eq!(io::copy(&mut plain, &mut io::sink()).unwrap(), bytes.len() as u64);
    });
}
