//! From a snapshot's own tree to a layer's tar.
//!
//! The tree and the merged view of what lies below it are walked side by side, names sorted by their
//! bytes, so that the tar follows from the two alone. A file that equals the one below is left out; a
//! folder that equals it is written only if something in it is. Instead of an opaque folder's mark each
//! hidden name gets its own whiteout, as the OCI image-spec recommends.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::base::digest::{DiffId, DigestWriter};
use crate::base::fs::{PathError, RootDir};

use super::super::OciError;
use super::super::tarball::{Kind, Member, Writer};
use super::{CopyFailed, LayerTar, WHITEOUT, transfer, xattrs};

/// How a layer is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayerOptions {
    /// The times in the tar.
    pub times: Times,
}

/// Which modification times a tar gets, in seconds since 1970 (reproducible-builds.org,
/// `SOURCE_DATE_EPOCH`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Times {
    /// Those of the files.
    #[default]
    Own,
    /// Those of the files, but none later than this.
    NoLater(i64),
    /// This one everywhere.
    All(i64),
}

impl Times {
    /// What a file's own time becomes.
    pub const fn of(self, own: i64) -> i64 {
        match self {
            Self::NoLater(latest) if own > latest => latest,
            Self::Own | Self::NoLater(_) => own,
            Self::All(time) => time,
        }
    }
}

/// Writes `tree`, a tree in overlay form, to `out` as a layer. `lower` is the merged view of what lies
/// below it, `None` for the lowest layer. To learn only the diff ID, write to [`io::sink`].
///
/// Sockets are left out, so are names that begin with `.wh.`, the attributes of the root folder itself,
/// and fractions of seconds, all as BuildKit does.
pub fn write_layer(
    tree: &RootDir,
    lower: Option<&RootDir>,
    out: &mut dyn Write,
    options: &LayerOptions,
) -> Result<LayerTar, OciError> {
    write(tree, lower, out, options.times, false)
}

/// Writes a whole file system, as its processes see it, to `out` as a tar. Unlike in a layer, names that
/// begin with `.wh.` are names like others.
pub fn write_tree(tree: &RootDir, out: &mut dyn Write, times: Times) -> Result<LayerTar, OciError> {
    write(tree, None, out, times, true)
}

fn write(
    tree: &RootDir,
    lower: Option<&RootDir>,
    out: &mut dyn Write,
    times: Times,
    whole: bool,
) -> Result<LayerTar, OciError> {
    let sink = DigestWriter::new(io::BufWriter::with_capacity(1 << 17, out));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = tree.open_at("/".as_ref(), flags, Mode::empty())?;
    let (links, pending) = (HashMap::new(), Vec::new());
    let mut walk = Walk { writer: Writer::new(sink), pending, tree, links, names: None, times, whole };
    let below = lower.map(|lower| lower.open_at("/".as_ref(), flags, Mode::empty())).transpose()?;
    walk.folder(&Place { path: Vec::new(), folder: root, below, replaced: false })?;
    let (mut buffered, digest, size) = walk.writer.finish().map_err(written)?.finish();
    buffered.flush().map_err(written)?;
    Ok(LayerTar { diff_id: DiffId(digest), size })
}

fn written(source: io::Error) -> OciError {
    OciError::Write { what: "the layer", source }
}

/// Counts the names of files with several names in the folder at `path`.
fn count_names(
    folder: &OwnedFd,
    path: &Path,
    counts: &mut HashMap<(u64, u64), usize>,
) -> Result<(), OciError> {
    let failed = |error: Errno| PathError::new("read", path, error);
    for name in names(folder).map_err(failed)? {
        let stat = rustix::fs::statat(folder, &*name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if is_folder(&stat) {
            let inner = open_folder(folder, &name).map_err(failed)?;
            count_names(&inner, &path.join(&name), counts)?;
        } else if stat.st_nlink > 1 {
            *counts.entry((stat.st_dev, stat.st_ino)).or_insert(0) += 1;
        }
    }
    Ok(())
}

/// A folder of the tree and its counterpart below.
struct Place {
    /// Its path, with a slash at the end unless it is the root.
    path: Vec<u8>,
    folder: OwnedFd,
    /// The folder of the same path in the view below, if there is one.
    below: Option<OwnedFd>,
    /// Whether it hides its counterpart instead of merging with it.
    replaced: bool,
}

impl Place {
    fn error(&self, action: &'static str, name: &OsStr, errno: impl Into<io::Error>) -> OciError {
        PathError::new(action, self.path_of(name), errno.into()).into()
    }

    fn path_of(&self, name: &OsStr) -> PathBuf {
        PathBuf::from(OsString::from_vec([b"/", self.path.as_slice(), name.as_bytes()].concat()))
    }

    /// What lies below under that name.
    fn stat_below(&self, name: &OsStr) -> Result<Option<Stat>, OciError> {
        let Some(below) = &self.below else { return Ok(None) };
        match rustix::fs::statat(below, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error("stat", name, error)),
        }
    }
}

struct Walk<'t, W: Write> {
    writer: Writer<W>,
    tree: &'t RootDir,
    /// Folders on the way that are written only if something in them is.
    pending: Vec<Member>,
    /// The first path of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// How many names each file that has several has in the tree, once that was asked.
    names: Option<HashMap<(u64, u64), usize>>,
    times: Times,
    /// Whether every name is an entry, those of whiteouts too.
    whole: bool,
}

impl<W: Write> Walk<'_, W> {
    fn folder(&mut self, place: &Place) -> Result<(), OciError> {
        let list = |fd| names(fd).map_err(|error| place.error("read", OsStr::new(""), error));
        let mut all = list(&place.folder)?;
        let own = all.clone();
        if let (true, Some(below)) = (place.replaced, &place.below) {
            all.extend(list(below)?);
        }
        for name in &all {
            if !self.whole && name.as_bytes().starts_with(WHITEOUT) {
                continue;
            }
            if own.contains(name) { self.entry(place, name)? } else { self.whiteout(place, name)? }
        }
        Ok(())
    }

    fn entry(&mut self, place: &Place, name: &OsStr) -> Result<(), OciError> {
        let stat = rustix::fs::statat(&place.folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| place.error("stat", name, error))?;
        let below = place.stat_below(name)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.subfolder(place, name, &stat, below.as_ref()),
            FileType::CharacterDevice if stat.st_rdev == 0 => self.deleted(place, name, below.as_ref()),
            FileType::Socket => self.deleted(place, name, below.as_ref()),
            _ => self.file(place, name, &stat, below.as_ref()),
        }
    }

    /// A name that is gone: worth an entry only if it was there.
    fn deleted(&mut self, place: &Place, name: &OsStr, below: Option<&Stat>) -> Result<(), OciError> {
        if below.is_some() { self.whiteout(place, name) } else { Ok(()) }
    }

    fn whiteout(&mut self, place: &Place, name: &OsStr) -> Result<(), OciError> {
        let path = [place.path.as_slice(), WHITEOUT, name.as_bytes()].concat();
        // BuildKit's whiteouts have no mode; the time is fixed because a deletion has none.
        self.flush_pending()?;
        let member = Member { mode: 0, ..Member::new(path, Kind::File) };
        self.writer.append_bytes(&member, b"").map_err(written)
    }

    fn subfolder(
        &mut self,
        place: &Place,
        name: &OsStr,
        stat: &Stat,
        below: Option<&Stat>,
    ) -> Result<(), OciError> {
        let error = |error| place.error("open", name, error);
        let path = [place.path.as_slice(), name.as_bytes(), b"/"].concat();
        let member = self.member(place, name, path.clone(), Kind::Directory, stat)?;
        let merges = below.filter(|below| is_folder(below)).zip(place.below.as_ref());
        let equal = match merges {
            Some((stat_below, folder)) => {
                same_owner(stat, stat_below) && member.xattrs == xattrs::read(folder, name).map_err(error)?
            }
            None => false,
        };
        let opaque = xattrs::is_opaque(&place.folder, name).map_err(error)?;
        let below = merges.map(|(_, folder)| open_folder(folder, name)).transpose().map_err(error)?;
        let folder = open_folder(&place.folder, name).map_err(error)?;
        let depth = self.pending.len();
        self.pending.push(member);
        if !equal {
            self.flush_pending()?;
        }
        self.folder(&Place { path, folder, below, replaced: place.replaced || opaque })?;
        self.pending.truncate(depth);
        Ok(())
    }

    fn file(
        &mut self,
        place: &Place,
        name: &OsStr,
        stat: &Stat,
        below: Option<&Stat>,
    ) -> Result<(), OciError> {
        let path = [place.path.as_slice(), name.as_bytes()].concat();
        if stat.st_nlink > 1 {
            let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.clone());
            if *first != path {
                let kind = Kind::HardLink(first.clone());
                let member =
                    Member { xattrs: xattrs::Xattrs::new(), ..self.member(place, name, path, kind, stat)? };
                return self.write(&member, &mut |_| Ok(()));
            }
        }
        let kind = kind(place, name, stat)?;
        let member = self.member(place, name, path, kind, stat)?;
        if self.equals_below(place, name, stat, below, &member)? && self.is_alone(stat)? {
            return Ok(());
        }
        if member.kind != Kind::File {
            return self.write(&member, &mut |_| Ok(()));
        }
        let mut file = open_file(&place.folder, name).map_err(|error| place.error("open", name, error))?;
        let holes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512 < member.size;
        self.write(&member, &mut |out| copy(&mut file, member.size, holes, out))
    }

    /// Whether the file says nothing new: everything that a layer tells of it is as below.
    fn equals_below(
        &self,
        place: &Place,
        name: &OsStr,
        stat: &Stat,
        below: Option<&Stat>,
        member: &Member,
    ) -> Result<bool, OciError> {
        let error = |error| place.error("compare", name, error);
        let (Some(before), Some(folder)) = (below, &place.below) else { return Ok(false) };
        let same = same_owner(stat, before)
            && (stat.st_size, stat.st_mtime, stat.st_rdev)
                == (before.st_size, before.st_mtime, before.st_rdev);
        if !same || member.xattrs != xattrs::read(folder, name).map_err(error)? {
            return Ok(false);
        }
        match &member.kind {
            Kind::Symlink(target) => {
                let link = rustix::fs::readlinkat(folder, name, Vec::new()).map_err(error)?;
                Ok(link.as_bytes() == target)
            }
            Kind::File => {
                let own = open_file(&place.folder, name).map_err(error)?;
                let other = open_file(folder, name).map_err(error)?;
                same_content(own, other).map_err(|error| place.error("compare", name, error))
            }
            _ => Ok(true),
        }
    }

    /// Whether the file has one name in the tree. Trees share files: how many it has at all says little.
    fn is_alone(&mut self, stat: &Stat) -> Result<bool, OciError> {
        if stat.st_nlink == 1 {
            return Ok(true);
        }
        if self.names.is_none() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = self.tree.open_at("/".as_ref(), flags, Mode::empty())?;
            let mut names = HashMap::new();
            count_names(&root, "/".as_ref(), &mut names)?;
            self.names = Some(names);
        }
        let count = self.names.as_ref().and_then(|names| names.get(&(stat.st_dev, stat.st_ino)));
        Ok(count.is_none_or(|count| *count == 1))
    }

    fn member(
        &self,
        place: &Place,
        name: &OsStr,
        path: Vec<u8>,
        kind: Kind,
        stat: &Stat,
    ) -> Result<Member, OciError> {
        let size = if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        let xattrs = xattrs::read(&place.folder, name);
        Ok(Member {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: self.times.of(stat.st_mtime),
            size,
            xattrs: xattrs.map_err(|error| place.error("read the attributes of", name, error))?,
            ..Member::new(path, kind)
        })
    }

    fn write(
        &mut self,
        member: &Member,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), OciError> {
        self.flush_pending()?;
        self.writer.append(member, content).map_err(written)
    }

    fn flush_pending(&mut self) -> Result<(), OciError> {
        for folder in self.pending.iter_mut() {
            // An empty path marks a folder that is written already.
            if !folder.path.is_empty() {
                self.writer.append(folder, &mut |_| Ok(())).map_err(written)?;
                folder.path.clear();
            }
        }
        Ok(())
    }
}

fn kind(place: &Place, name: &OsStr, stat: &Stat) -> Result<Kind, OciError> {
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&place.folder, name, Vec::new());
            Kind::Symlink(target.map_err(|error| place.error("read", name, error))?.into_bytes())
        }
        FileType::CharacterDevice => Kind::CharacterDevice(major, minor),
        FileType::BlockDevice => Kind::BlockDevice(major, minor),
        FileType::Fifo => Kind::Fifo,
        _ => Kind::File,
    })
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn same_owner(one: &Stat, other: &Stat) -> bool {
    (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)
}

/// The names in a folder, sorted by their bytes.
pub(super) fn names(folder: &OwnedFd) -> Result<BTreeSet<OsString>, Errno> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.insert(OsString::from_vec(name));
        }
    }
    Ok(names)
}

pub(super) fn open_folder(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

pub(super) fn open_file(parent: impl AsFd, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::openat(parent, name, flags, Mode::empty()).map(File::from)
}

fn same_content(mut one: File, mut other: File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = one.read(&mut left)?;
        if count == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        match other.read_exact(&mut right[..count]) {
            Ok(()) if left[..count] == right[..count] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Copies `size` bytes; with `holes`, those are not read.
fn copy(file: &mut File, size: u64, holes: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut position = 0;
    while position < size {
        let data = if holes { next_data(file, position)?.unwrap_or(size).min(size) } else { position };
        transfer(&mut io::repeat(0), out, data - position).map_err(either)?;
        let end = if holes && data < size { next_hole(file, data)?.min(size) } else { size };
        file.seek(SeekFrom::Start(data))?;
        if transfer(file, out, end - data).map_err(either)? < end - data {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file shrank while it was read"));
        }
        position = end;
    }
    Ok(())
}

fn either(error: CopyFailed) -> io::Error {
    match error {
        CopyFailed::Reading(error) | CopyFailed::Writing(error) => error,
    }
}

fn next_data(file: &File, position: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(position)) {
        Ok(offset) => Ok(Some(offset)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn next_hole(file: &File, position: u64) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(position))?)
}
