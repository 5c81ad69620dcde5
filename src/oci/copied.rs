//! The user's files as a tar for a container, and a container's tar as files of the user: for `cp`.
//!
//! [`pack_files`] walks what is there and streams it under another name; [`unpack_files`] writes the
//! members below one folder, which no name and no link of them leaves, and takes only what was asked for.
//! Neither holds more than a piece of a file. Where things go is decided by who calls.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::layer::unpack_copied;
use super::tarball::{Kind, Member, Writer};
use super::{OciError, Received, UnpackLimits};
use crate::base::fs::{AtPath, PathError, RootDir};

/// Bytes of a file that are held at once.
const PIECE: usize = 128 * 1024;

/// Writes what lies at `path` to `out` as a tar in which it is called `name` (`.`: a folder whose content
/// stands alone). A link at `path` itself is a link in the tar; sockets are left out.
pub fn pack_files(path: &Path, name: &OsStr, out: &mut dyn Write) -> Result<(), OciError> {
    let mut packer = Packer { writer: Writer::new(out), links: BTreeMap::new() };
    packer.add(path, name.as_bytes().to_vec())?;
    packer.writer.finish().map_err(unwritten).map(drop)
}

/// Writes the members of the tar that `reader` yields below `folder`, as the user's own. A file takes the
/// place of a file or a link; a folder and a file never take each other's. Devices are refused and extended
/// attributes dropped; refused are also members that `received` does not name, and hard links to what the tar
/// did not bring.
pub fn unpack_files(
    reader: &mut dyn Read,
    folder: &RootDir,
    received: &Received<'_>,
) -> Result<(), OciError> {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let limits = UnpackLimits { bytes: u64::MAX, entries: u64::MAX };
    unpack_copied(reader, folder, own, received, &limits)
}

struct Packer<'o> {
    writer: Writer<&'o mut dyn Write>,
    /// Files with several names: device and inode → the name that they have in the tar.
    links: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Packer<'_> {
    fn add(&mut self, path: &Path, name: Vec<u8>) -> Result<(), OciError> {
        let stat = fs::symlink_metadata(path).at_path("read", path)?;
        let kind = stat.file_type();
        if kind.is_socket() {
            return Ok(());
        }
        if kind.is_dir() {
            return self.folder(path, name, &stat);
        }
        if stat.nlink() > 1
            && let Some(first) = self.links.get(&(stat.dev(), stat.ino()))
        {
            let link = Kind::HardLink(first.clone());
            return self.plain(member(name, link, &stat));
        }
        self.links.insert((stat.dev(), stat.ino()), name.clone());
        if kind.is_file() {
            return self.file(path, name, &stat);
        }
        let device = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
        let kind = if kind.is_symlink() {
            let target = fs::read_link(path).at_path("read", path)?;
            Kind::Symlink(target.into_os_string().as_bytes().to_vec())
        } else if kind.is_fifo() {
            Kind::Fifo
        } else if kind.is_block_device() {
            Kind::BlockDevice(device.0, device.1)
        } else {
            Kind::CharacterDevice(device.0, device.1)
        };
        self.plain(member(name, kind, &stat))
    }

    fn plain(&mut self, member: Member) -> Result<(), OciError> {
        self.writer.append(&member, &mut |_| Ok(())).map_err(unwritten)
    }

    fn folder(&mut self, path: &Path, name: Vec<u8>, stat: &Metadata) -> Result<(), OciError> {
        let below = [name.as_slice(), b"/"].concat();
        self.plain(member(below.clone(), Kind::Directory, stat))?;
        let entries = fs::read_dir(path).at_path("read", path)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>();
        let mut names: Vec<OsString> = names.at_path("read", path)?;
        names.sort();
        for entry in names {
            self.add(&path.join(&entry), [below.as_slice(), entry.as_bytes()].concat())?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: Vec<u8>, stat: &Metadata) -> Result<(), OciError> {
        let mut file = File::open(path).at_path("read", path)?;
        let member = Member { size: stat.len(), ..member(name, Kind::File, stat) };
        let mut unreadable = None;
        let written = self.writer.append(&member, &mut |out| {
            copy(&mut file, member.size, out).map_err(|(error, ours)| {
                if ours {
                    unreadable = Some(io::Error::new(error.kind(), error.to_string()));
                }
                error
            })
        });
        match (written, unreadable) {
            (Err(_), Some(error)) => Err(PathError::new("read", path, error).into()),
            (written, _) => written.map_err(unwritten),
        }
    }
}

/// Copies exactly `size` bytes; the error says whether the file was to blame.
fn copy(file: &mut File, size: u64, out: &mut dyn Write) -> Result<(), (io::Error, bool)> {
    let mut buffer = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        let count = match file.read(&mut buffer[..most]) {
            Ok(0) => {
                let shrank = io::Error::new(io::ErrorKind::UnexpectedEof, "it shrank while it was read");
                return Err((shrank, true));
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err((error, true)),
        };
        out.write_all(&buffer[..count]).map_err(|error| (error, false))?;
        left -= count as u64;
    }
    Ok(())
}

fn unwritten(source: io::Error) -> OciError {
    OciError::Write { what: "the archive", source }
}

fn member(name: Vec<u8>, kind: Kind, stat: &Metadata) -> Member {
    Member {
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        mtime: stat.mtime(),
        ..Member::new(name, kind)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn packed(path: &Path, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack_files(path, OsStr::new(name), &mut bytes).unwrap();
        bytes
    }

    fn unpack(bytes: &[u8], folder: &Path, rename: Option<(&str, &str)>) -> Result<(), OciError> {
        let (base, name) = rename.unwrap_or((".", "."));
        let received = Received { base: OsStr::new(base), name: OsStr::new(name), set_ids: false };
        unpack_files(&mut &*bytes, &RootDir::open(folder).unwrap(), &received)
    }

    fn tar(members: &[(Member, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (member, bytes) in members {
            writer.append_bytes(member, bytes).unwrap();
        }
        writer.finish().unwrap()
    }

    fn other(name: &str, kind: Kind) -> (Member, &'static [u8]) {
        (Member::new(name, kind), b"")
    }

    #[test]
    fn a_tree_goes_through_a_tar_and_comes_out_the_same() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir(from.path().join("sub")).unwrap();
        fs::write(from.path().join("sub/a"), "one").unwrap();
        fs::set_permissions(from.path().join("sub/a"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::hard_link(from.path().join("sub/a"), from.path().join("sub/same")).unwrap();
        symlink("sub/a", from.path().join("link")).unwrap();
        fs::write(from.path().join(".wh.kept"), "x").unwrap();
        let to = tempfile::tempdir().unwrap();
        unpack(&packed(from.path(), "top"), to.path(), None).unwrap();
        let at = |name: &str| to.path().join("top").join(name);
        assert_eq!(fs::read_to_string(at("link")).unwrap(), "one");
        assert_eq!(fs::metadata(at("sub/a")).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(at("sub/a")).unwrap().ino(), fs::metadata(at("sub/same")).unwrap().ino());
        assert!(at(".wh.kept").is_file(), "a name is a name");
        assert_eq!(
            at("sub").metadata().unwrap().mtime(),
            from.path().join("sub").metadata().unwrap().mtime()
        );
    }

    #[test]
    fn the_first_component_gets_another_name() {
        let from = tempfile::tempdir().unwrap();
        fs::write(from.path().join("a"), "x").unwrap();
        let to = tempfile::tempdir().unwrap();
        unpack(&packed(from.path(), "old"), to.path(), Some(("old", "new"))).unwrap();
        assert!(to.path().join("new/a").is_file() && !to.path().join("old").exists());
        unpack(&packed(from.path(), "."), to.path(), Some((".", "flat"))).unwrap();
        assert!(to.path().join("flat/a").is_file());
        unpack(&packed(from.path(), "."), to.path(), None).unwrap();
        assert!(to.path().join("a").is_file());
        unpack(&packed(&from.path().join("a"), "a"), to.path(), Some(("a", "b"))).unwrap();
        assert!(to.path().join("b").is_file());
    }

    #[test]
    fn folders_and_files_never_take_each_others_place() {
        let to = tempfile::tempdir().unwrap();
        fs::create_dir_all(to.path().join("folder/inner")).unwrap();
        fs::write(to.path().join("file"), "old").unwrap();
        assert!(unpack(&tar(&[other("folder", Kind::File)]), to.path(), None).is_err());
        assert!(unpack(&tar(&[other("file/", Kind::Directory)]), to.path(), None).is_err());
        assert!(to.path().join("folder/inner").is_dir());
        unpack(&tar(&[other("file", Kind::File)]), to.path(), None).unwrap();
        assert_eq!(fs::read(to.path().join("file")).unwrap(), b"");
    }

    #[test]
    fn a_hostile_archive_reaches_nothing_outside() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("in");
        fs::create_dir(&folder).unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let target = outside.path().as_os_str().as_bytes().to_vec();
        let refused = [
            vec![other("../up", Kind::File)],
            vec![other("a/../../up", Kind::File)],
            vec![other("h", Kind::HardLink(b"../secret".to_vec()))],
            vec![other("null", Kind::CharacterDevice(1, 3))],
            vec![other("disk", Kind::BlockDevice(8, 0))],
            vec![other("abs", Kind::Symlink(target)), other("abs/below", Kind::File)],
            vec![other("up", Kind::Symlink(b"../..".to_vec())), other("up/x/too", Kind::File)],
        ];
        for members in refused {
            assert!(unpack(&tar(&members), &folder, None).is_err(), "{members:?}");
        }
        let bent = [other("secret", Kind::Symlink(b"../secret".to_vec())), other("secret", Kind::File)];
        unpack(&tar(&bent), &folder, None).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["in", "secret"]);
        assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "s");
    }

    #[test]
    fn only_what_was_asked_for_is_written() {
        let to = tempfile::tempdir().unwrap();
        fs::create_dir(to.path().join("keys")).unwrap();
        fs::write(to.path().join("id"), "key").unwrap();
        fs::set_permissions(to.path().join("id"), fs::Permissions::from_mode(0o600)).unwrap();
        let through = [other("hosts", Kind::Symlink(b"keys".to_vec())), other("hosts/id", Kind::File)];
        let refused = [
            vec![other("hosts", Kind::File), other("authorized_keys", Kind::File)],
            vec![other("hosts-too", Kind::File)],
            vec![other(".", Kind::Directory)],
            vec![other("hosts", Kind::HardLink(b"id".to_vec()))],
            vec![other("hosts", Kind::HardLink(b"hosts/../id".to_vec()))],
            through.to_vec(),
        ];
        for members in refused {
            assert!(unpack(&tar(&members), to.path(), Some(("hosts", "hosts"))).is_err(), "{members:?}");
        }
        assert!(!to.path().join("authorized_keys").exists() && !to.path().join("keys/id").exists());
        assert_eq!(fs::metadata(to.path().join("id")).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_hard_link_leads_only_to_what_the_archive_brought_and_changes_nothing_of_it() {
        let to = tempfile::tempdir().unwrap();
        fs::write(to.path().join("id"), "key").unwrap();
        fs::set_permissions(to.path().join("id"), fs::Permissions::from_mode(0o600)).unwrap();
        let link = |name: &str, to: &str| {
            let kind = Kind::HardLink(to.as_bytes().to_vec());
            (Member { mode: 0o4777, ..Member::new(name, kind) }, &b""[..])
        };
        let error = unpack(&tar(&[link("innocent", "id")]), to.path(), None).unwrap_err();
        assert!(error.to_string().contains("did not bring"), "{error}");
        let own = Member { mode: 0o640, ..Member::new("own", Kind::File) };
        unpack(&tar(&[(own, b""), link("same", "own")]), to.path(), None).unwrap();
        let stat = |name: &str| fs::metadata(to.path().join(name)).unwrap();
        assert_eq!((stat("id").mode() & 0o7777, stat("id").nlink()), (0o600, 1));
        assert_eq!((stat("own").mode() & 0o7777, stat("own").nlink()), (0o640, 2));
    }

    #[test]
    fn files_lose_what_lets_others_act_as_the_user() {
        let to = tempfile::tempdir().unwrap();
        let members = [
            (Member { mode: 0o6755, ..Member::new("program", Kind::File) }, &b""[..]),
            (Member { mode: 0o1770, ..Member::new("folder", Kind::Directory) }, &b""[..]),
            (Member { mode: 0o620, ..Member::new("pipe", Kind::Fifo) }, &b""[..]),
        ];
        unpack(&tar(&members), to.path(), None).unwrap();
        let mode = |name: &str| fs::metadata(to.path().join(name)).unwrap().mode() & 0o7777;
        assert_eq!([mode("program"), mode("folder"), mode("pipe")], [0o755, 0o1770, 0o620]);
        let kept = Received { base: OsStr::new("."), name: OsStr::new("."), set_ids: true };
        unpack_files(&mut &*tar(&members), &RootDir::open(to.path()).unwrap(), &kept).unwrap();
        assert_eq!(mode("program"), 0o6755);
    }
}
