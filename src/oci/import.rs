//! A root file system as a tar becomes a base image.
//!
//! The stream is read once: its bytes go to the store as they come, what they decompress to is unpacked
//! into a snapshot. Equal tars make equal images: the image's time is the latest in the tar, not now.

use std::io::{self, Read, Write};

use crate::base::digest::ResultId;
use crate::base::fs::RootDir;
use crate::store::{BlobWriter, Store};

use super::layer::unpack_dated;
use super::snapshot::{has_file, keep, note_layer};
use super::{
    ContainerConfig, Descriptor, History, ImageConfig, Manifest, OciError, Platform, UnpackLimits,
    decompressed, media, timestamp,
};

/// The search path that Docker gives a process whose image has none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image that was made of a root file system. All of it is in the store.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The snapshot of its only layer.
    pub snapshot: ResultId,
    /// Its manifest's descriptor; the digest names the image.
    pub manifest: Descriptor,
    /// Its config's descriptor; the digest is the image ID.
    pub config: Descriptor,
    /// Its layer's descriptor.
    pub layer: Descriptor,
    /// Its config.
    pub image: ImageConfig,
}

/// Makes an image of the tar that `reader` yields, plain or in gzip or zstd. As `docker import` does, it
/// keeps the tar as the only layer; unlike it, the config has the default `PATH` and the image's shell as
/// command, because base images have them.
pub fn import_rootfs(
    store: &Store,
    reader: &mut (dyn Read + Send),
    platform: &Platform,
    limits: &UnpackLimits,
) -> Result<Imported, OciError> {
    let staging = store.stage()?;
    let tree = RootDir::open(&staging.tree())?;
    let mut kept = Kept { reader, blob: store.write_blob()? };
    let (encoding, mut plain) = decompressed(&mut kept)?;
    let (tar, latest) = unpack_dated(&mut plain, &tree, None, limits)?;
    drop(plain);
    // What a decompressor leaves unread belongs to the blob too.
    io::copy(&mut kept, &mut io::sink()).map_err(unreadable)?;
    let (blob, size) = kept.blob.finish(None)?;
    let layer = Descriptor::new(encoding.media_type(), blob.0, size);

    let mut image = ImageConfig::empty(platform);
    image.config = default_config(&tree);
    image.created = Some(timestamp(latest, 0));
    image.rootfs.diff_ids.push(tar.diff_id);
    let comment = "imported from a root file system".to_owned();
    image.history.push(History { created: image.created.clone(), comment, ..History::default() });
    let snapshot = store.publish_snapshot(staging, None)?;
    note_layer(store, snapshot.id, &layer, tar)?;
    let config = Descriptor::of(media::CONFIG, &image.to_json());
    keep(store, &image.to_json(), Some(config.digest))?;
    let document = Manifest::new(config.clone(), vec![layer.clone()]).to_json();
    let manifest = Descriptor::of(media::MANIFEST, &document);
    keep(store, &document, Some(manifest.digest))?;
    Ok(Imported { snapshot: snapshot.id, manifest, config, layer, image })
}

fn unreadable(error: io::Error) -> OciError {
    OciError::Tar { what: "the root file system", source: error.into() }
}

fn default_config(tree: &RootDir) -> ContainerConfig {
    let shell = ["bash", "sh"].into_iter().find(|shell| has_file(tree, &format!("bin/{shell}")));
    ContainerConfig {
        env: vec![DEFAULT_PATH.to_owned()],
        cmd: shell.into_iter().map(str::to_owned).collect(),
        ..ContainerConfig::default()
    }
}

/// Passes a stream on and keeps its bytes.
struct Kept<'r, 's> {
    reader: &'r mut (dyn Read + Send),
    blob: BlobWriter<'s>,
}

impl Read for Kept<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.blob.write_all(&buffer[..count])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tarball::{Kind, Member, Writer};
    use super::super::{Encoding, GzipWriter, LayerOptions, Times, known_layer, layer_blob, publish_layer};
    use super::*;
    use crate::base::digest::{BlobId, DiffId, Digest};
    use crate::base::testing::as_root;

    fn rootfs() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for path in ["./", "./bin/"] {
            writer.append_bytes(&Member::new(path, Kind::Directory), b"").unwrap();
        }
        let mut shell = Member::new("./bin/bash", Kind::File);
        (shell.mode, shell.mtime) = (0o755, 86_400);
        writer.append_bytes(&shell, b"elf").unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn an_import_keeps_its_bytes_and_has_a_usual_config() {
        if !as_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let platform = Platform::new("linux", "amd64", None);
        let mut gzip = GzipWriter::new(Vec::new(), 1).unwrap();
        gzip.write_all(&rootfs()).unwrap();
        let mut gzip = gzip.finish().unwrap();
        let first = import_rootfs(&store, &mut gzip.as_slice(), &platform, &UnpackLimits::default()).unwrap();
        let again = import_rootfs(&store, &mut gzip.as_slice(), &platform, &UnpackLimits::default()).unwrap();
        assert_eq!(first.manifest, again.manifest);
        assert_ne!(first.snapshot, again.snapshot);
        assert_eq!(first.layer, Descriptor::of(Encoding::Gzip.media_type(), &gzip));
        assert_eq!(first.image.config.cmd, ["bash"]);
        assert_eq!(first.image.created.as_deref(), Some("1970-01-02T00:00:00Z"));
        let diff_id = DiffId(Digest::of(rootfs()));
        assert_eq!(first.image.rootfs.diff_ids, [diff_id]);
        for digest in [first.manifest.digest, first.config.digest, first.layer.digest] {
            assert!(store.has_blob(BlobId(digest)));
        }
        let tree = store.snapshot(first.snapshot).unwrap().tree;
        assert_eq!(std::fs::read(tree.join("bin/bash")).unwrap(), b"elf");
        assert_eq!(layer_blob(&store, first.snapshot), Some(first.layer.clone()));
        let known = known_layer(&store, first.snapshot, &LayerOptions { times: Times::NoLater(1) }).unwrap();
        assert_eq!((known.diff_id, known.size), (diff_id, rootfs().len() as u64));

        let unpack =
            |expected| publish_layer(&store, &first.layer, expected, None, None, &UnpackLimits::default());
        let published = unpack(diff_id).unwrap();
        assert_eq!(layer_blob(&store, published.id), Some(first.layer.clone()));
        assert!(matches!(unpack(DiffId(Digest::of("x"))), Err(OciError::Mismatch { .. })));

        gzip.truncate(gzip.len() / 2);
        assert!(import_rootfs(&store, &mut gzip.as_slice(), &platform, &UnpackLimits::default()).is_err());
    }
}
