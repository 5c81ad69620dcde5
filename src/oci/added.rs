//! Archives of the user's, which ADD unpacks: finding out what is one, and unpacking it into a tree.
//!
//! [`is_archive`] decides by content as BuildKit does: whatever has a tar header behind gzip, bzip2, xz,
//! zstd or nothing. [`unpack_archive`] gives the members to `layer`, which writes them. Layers of images
//! come through [`super::decompressed`] instead, which knows no more than the image formats allow.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use super::layer::unpack_onto;
use super::tarball::Reader;
use super::{OciError, UnpackLimits};
use crate::base::fs::RootDir;

/// What an xz stream may ask for before it is refused. The largest preset needs a tenth of it.
const XZ_MEMORY: u64 = 1 << 30;

/// Whether a file holds an archive that ADD unpacks: its first bytes, decompressed, are the header of a tar
/// member (BuildKit, `isArchivePath`). An archive without members is a plain file.
pub fn is_archive(file: impl Read) -> bool {
    plain(file).is_ok_and(|plain| Reader::new(plain).next().is_ok_and(|member| member.is_some()))
}

/// Unpacks an archive in any of the compressions that [`is_archive`] knows onto what is in `folder`, which
/// every name in it stays below. `owner` replaces the owners in the archive (`--chown`); folders that the
/// archive does not name are root's, with 0755.
pub fn unpack_archive(
    file: impl Read,
    folder: &RootDir,
    owner: Option<(u32, u32)>,
    limits: &UnpackLimits,
) -> Result<(), OciError> {
    let mut plain = plain(file).map_err(|error| OciError::Tar { what: "the tar", source: error.into() })?;
    unpack_onto(&mut plain, folder, owner, limits)
}

/// The decompressed bytes, told by the first ones (moby/go-archive, `compression.Detect`).
fn plain<'r>(file: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut file = BufReader::with_capacity(1 << 17, file);
    // A short first read of a pipe does not matter: these are files.
    Ok(match file.fill_buf()? {
        [0x1f, 0x8b, 0x08, ..] => Box::new(MultiGzDecoder::new(file)),
        [b'B', b'Z', b'h', ..] => Box::new(MultiBzDecoder::new(file)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(XzDecoder::new_stream(file, Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(zstd::Decoder::with_buffer(file)?)
        }
        _ => Box::new(file),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use super::super::tarball::{Kind, Member, Writer};
    use super::*;
    use crate::base::testing::as_root;

    fn tar(members: &[(Member, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (member, bytes) in members {
            writer.append_bytes(member, bytes).unwrap();
        }
        writer.finish().unwrap()
    }

    fn file(name: &str) -> (Member, &'static [u8]) {
        let member = Member { uid: 7, gid: 8, mode: 0o640, mtime: 1000, ..Member::new(name, Kind::File) };
        (member, b"x")
    }

    fn other(name: &str, kind: Kind) -> (Member, &'static [u8]) {
        (Member { uid: 9, gid: 10, mtime: 2000, ..Member::new(name, kind) }, b"")
    }

    fn compressed(tar: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        gzip.write_all(tar).unwrap();
        bzip2.write_all(tar).unwrap();
        xz.write_all(tar).unwrap();
        vec![
            ("plain", tar.to_vec()),
            ("gzip", gzip.finish().unwrap()),
            ("bzip2", bzip2.finish().unwrap()),
            ("xz", xz.finish().unwrap()),
            ("zstd", zstd::encode_all(tar, 1).unwrap()),
        ]
    }

    /// What lies below a folder: name, owner, permissions.
    fn listed(folder: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let mut open = vec![folder.to_owned()];
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let entry = entry.unwrap();
                let meta = entry.metadata().unwrap();
                let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
                lines.push(format!("{name} {}:{} {:o}", meta.uid(), meta.gid(), meta.mode() & 0o7777));
                if meta.is_dir() {
                    open.push(entry.path());
                }
            }
        }
        lines.sort();
        lines
    }

    fn unpack(bytes: &[u8], folder: &Path, owner: Option<(u32, u32)>) -> Result<(), OciError> {
        unpack_archive(bytes, &RootDir::open(folder).unwrap(), owner, &UnpackLimits::default())
    }

    #[test]
    fn archives_are_known_by_content() {
        let whole = tar(&[file("a")]);
        for (name, bytes) in compressed(&whole) {
            assert!(is_archive(bytes.as_slice()), "{name}");
        }
        let empty = tar(&[]);
        for (name, bytes) in compressed(&empty) {
            assert!(!is_archive(bytes.as_slice()), "empty {name}");
        }
        for (name, bytes) in compressed(b"just some text") {
            assert!(!is_archive(bytes.as_slice()), "text in {name}");
        }
        for bytes in [&b""[..], &whole[..100], &[0xfd, b'7', b'z', b'X', b'Z', 0, 1], &[0x1f, 0x8b, 8]] {
            assert!(!is_archive(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn every_compression_gives_the_same_files() {
        if !as_root() {
            return;
        }
        let whole = tar(&[other("./", Kind::Directory), file("b/c/f"), other("d", Kind::Directory)]);
        let mut all = compressed(&whole);
        // Some write several streams one after the other.
        let (first, second) = whole.split_at(700);
        let halves = [zstd::encode_all(first, 1).unwrap(), zstd::encode_all(second, 1).unwrap()].concat();
        all.push(("zstd in frames", halves));
        for (name, bytes) in all {
            let folder = tempfile::tempdir().unwrap();
            unpack(&bytes, folder.path(), None).unwrap();
            let expected = ["b 0:0 755", "b/c 0:0 755", "b/c/f 7:8 640", "d 9:10 755"];
            assert_eq!(listed(folder.path()), expected, "{name}");
            let meta = std::fs::metadata(folder.path().join("b/c/f")).unwrap();
            assert_eq!(meta.mtime(), 1000);
        }
    }

    #[test]
    fn an_owner_is_for_members_only() {
        if !as_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let link = other("l", Kind::Symlink(b"b/f".to_vec()));
        let same = other("h", Kind::HardLink(b"b/f".to_vec()));
        unpack(&tar(&[file("b/f"), link, same]), folder.path(), Some((3, 4))).unwrap();
        // What the header of a hard link says is set, as others do.
        assert_eq!(listed(folder.path()), ["b 0:0 755", "b/f 3:4 644", "h 3:4 644", "l 3:4 777"]);
    }

    #[test]
    fn members_replace_what_is_there_and_merge_folders() {
        if !as_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for made in ["dir/inner", "real", "same"] {
            std::fs::create_dir_all(at(made)).unwrap();
        }
        for made in ["file", "real/keep", "same/keep"] {
            std::fs::write(at(made), "old").unwrap();
        }
        symlink("real", at("through")).unwrap();
        symlink("real", at("replaced")).unwrap();
        let members = [
            file("dir"),
            other("file", Kind::Directory),
            file("through/x"),
            other("replaced", Kind::Directory),
            file("replaced/y"),
            other("same", Kind::Directory),
            file(".wh.real"),
        ];
        unpack(&tar(&members), folder.path(), None).unwrap();
        assert!(at("dir").is_file() && at("file").is_dir());
        assert!(at("real/x").is_file() && at("through").is_symlink());
        assert!(at("replaced/y").is_file() && !at("replaced").is_symlink());
        assert!(at("same/keep").is_file() && at("real/keep").is_file());
        assert_eq!(std::fs::metadata(at("same")).unwrap().uid(), 9);
    }

    #[test]
    fn hostile_archives_reach_nothing_outside() {
        if !as_root() {
            return;
        }
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("in");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        let target = outside.path().as_os_str().as_encoded_bytes().to_vec();
        let refused = [
            vec![file("../up")],
            vec![file("a/../../up")],
            vec![other("h", Kind::HardLink(b"../secret".to_vec()))],
            vec![other("h", Kind::HardLink(b"/secret".to_vec()))],
            vec![other("dev", Kind::CharacterDevice(0, 0))],
        ];
        for members in refused {
            unpack(&tar(&members), &folder, None).unwrap_err();
        }
        let bent = [
            other("abs", Kind::Symlink(target)),
            file("abs/below"),
            other("up", Kind::Symlink(b"../../../..".to_vec())),
            file("up/too"),
            file("/rooted"),
        ];
        unpack(&tar(&bent), &folder, None).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(outside.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["in", "secret"]);
        assert!(folder.join("too").is_file() && folder.join("rooted").is_file());
    }

    #[test]
    fn a_bomb_is_stopped() {
        let (mut member, _) = file("a");
        member.size = 5000;
        let bytes = tar(&[(member, &[0; 5000])]);
        let folder = tempfile::tempdir().unwrap();
        let root = RootDir::open(folder.path()).unwrap();
        let limits = UnpackLimits { bytes: 4000, entries: 10 };
        let error = unpack_archive(bytes.as_slice(), &root, None, &limits).unwrap_err();
        assert!(matches!(error, OciError::Limit { what: "bytes", .. }));
    }
}
