//! From a layer's tar to a tree in overlay form.
//!
//! Every path goes through [`RootDir`]: absolute names, `..` and links, of the tar or made by it, resolve
//! inside the tree. Entries come in any order, twice, and without their folders; the later one wins, and a
//! missing folder takes the attributes that it has below. Owners, modes and attributes are set explicitly,
//! so the umask does not matter. The times of folders are set last, because filling a folder changes them.
//!
//! [`unpack_onto`] is the same for the archives of ADD, whose members go over what is there: they delete
//! nothing, and a name that leads out is refused instead of being bent. [`unpack_copied`] trusts least: the
//! folder is the user's, others may write there too, and the tar comes from a container.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dev, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::base::digest::{DiffId, DigestWriter};
use crate::base::fs::{AtPath, PathError, RootDir};

use super::super::OciError;
use super::super::tarball::{DamagedTar, Kind, Member, Reader};
use super::{AUFS, CopyFailed, LayerTar, OPAQUE, WHITEOUT, transfer, xattrs};

/// How many links one path may lead through, as in the kernel.
const MOST_LINKS: usize = 40;

/// How much one layer may hold. The defaults are beyond any honest layer and stop a bomb before it fills
/// a usual disk with files.
#[derive(Clone, Copy, Debug)]
pub struct UnpackLimits {
    /// Bytes of the files together, holes included.
    pub bytes: u64,
    /// Entries of the tar.
    pub entries: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { bytes: 256 << 30, entries: 20_000_000 }
    }
}

/// Unpacks the plain tar that `reader` yields into the empty folder `tree`, in overlay form. `lower` is
/// the merged view of what lies below, from which folders that the tar does not have take their
/// attributes; `None` for the lowest layer, where deletions mean nothing and are left out.
///
/// Reads to the end of the stream; the digest is of all of it. After an error the tree is to be thrown
/// away. Needs the capabilities to set owners and make devices.
pub fn unpack_layer(
    reader: &mut dyn Read,
    tree: &RootDir,
    lower: Option<&RootDir>,
    limits: &UnpackLimits,
) -> Result<LayerTar, OciError> {
    unpack_dated(reader, tree, lower, limits).map(|(tar, _)| tar)
}

/// [`unpack_layer`] that also returns the latest modification time in the tar.
pub(in crate::oci) fn unpack_dated(
    reader: &mut dyn Read,
    tree: &RootDir,
    lower: Option<&RootDir>,
    limits: &UnpackLimits,
) -> Result<(LayerTar, i64), OciError> {
    let digested = Digested { inner: reader, digest: DigestWriter::new(io::sink()) };
    let mut reader = Reader::new(io::BufReader::with_capacity(1 << 17, digested));
    let mut unpacker = Unpacker::new(tree, Form::Layer(lower), limits);
    unpacker.root()?;
    let mut latest = 0;
    while let Some(member) = reader.next().map_err(unreadable)? {
        latest = member.mtime.max(latest);
        unpacker.member(&member, &mut reader)?;
    }
    let digested = reader.drain().map_err(unreadable)?.into_inner();
    unpacker.set_folder_times()?;
    let (_, digest, size) = digested.digest.finish();
    Ok((LayerTar { diff_id: DiffId(digest), size }, latest))
}

/// Unpacks the plain tar that `reader` yields onto what is in `tree`, as ADD does: members keep their modes
/// and times, and their owners unless `owner` replaces them; folders that no member names are root's. A
/// member lies at its name below `tree`, links on the way followed inside it.
pub(in crate::oci) fn unpack_onto(
    reader: &mut dyn Read,
    tree: &RootDir,
    owner: Option<(u32, u32)>,
    limits: &UnpackLimits,
) -> Result<(), OciError> {
    let mut reader = Reader::new(io::BufReader::with_capacity(1 << 17, reader));
    let mut unpacker = Unpacker::new(tree, Form::Archive(owner), limits);
    while let Some(member) = reader.next().map_err(unreadable)? {
        unpacker.archived(&member, &mut reader)?;
    }
    unpacker.set_folder_times()
}

/// What a container was asked for, and how its files are to lie in the user's folder.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The first component that every name has to have; `.`: any, below what is to be `name`.
    pub base: &'a OsStr,
    /// What the first component becomes; `.` with a base of `.`: the names stay as they are.
    pub name: &'a OsStr,
    /// Whether files keep set-user-ID and set-group-ID, with the user's own ids.
    pub set_ids: bool,
}

/// Unpacks the plain tar that `reader` yields onto what is in `tree`, as `cp` does: no folder takes the
/// place of a file and no file that of a folder, devices are refused, extended attributes dropped, and every name
/// counts. All belongs to `owner`. Refused are also names that were not asked for, ways through links, and
/// hard links to what the tar itself did not bring.
pub(in crate::oci) fn unpack_copied(
    reader: &mut dyn Read,
    tree: &RootDir,
    owner: (u32, u32),
    received: &Received<'_>,
    limits: &UnpackLimits,
) -> Result<(), OciError> {
    let mut reader = Reader::new(io::BufReader::with_capacity(1 << 17, reader));
    let mut unpacker = Unpacker::new(tree, Form::Copied { owner, set_ids: received.set_ids }, limits);
    while let Some(mut member) = reader.next().map_err(unreadable)? {
        // A capability is for the container's user, not for the host's.
        member.xattrs.clear();
        member.path = received.placed(&member.path)?;
        if let Kind::HardLink(target) = &mut member.kind {
            *target = received.placed(target)?;
        }
        unpacker.copied(&member, &mut reader)?;
    }
    unpacker.set_folder_times()
}

impl Received<'_> {
    /// The name that a member gets.
    fn placed(&self, name: &[u8]) -> Result<Vec<u8>, OciError> {
        let path = within(name).ok_or_else(|| refused(name, "it lies outside of the archive"))?;
        let rest = if self.base == "." { Some(path.as_path()) } else { path.strip_prefix(self.base).ok() };
        let rest = rest.ok_or_else(|| refused(name, "it is not what was asked for"))?;
        let placed = if self.name == "." { rest.to_owned() } else { Path::new(self.name).join(rest) };
        Ok(placed.into_os_string().into_vec())
    }
}

fn unreadable(source: DamagedTar) -> OciError {
    OciError::Tar { what: "the tar", source }
}

/// A reader that digests what goes through it.
struct Digested<R> {
    inner: R,
    digest: DigestWriter<io::Sink>,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.write_all(&buffer[..count])?;
        Ok(count)
    }
}

/// What the members mean.
#[derive(Clone, Copy)]
enum Form<'a> {
    /// A layer, over what lies below.
    Layer(Option<&'a RootDir>),
    /// Files for a tree that is there, with the owner that all of them get.
    Archive(Option<(u32, u32)>),
    /// Files of a container, for a folder of the user's.
    Copied {
        /// The user and group that all of them get.
        owner: (u32, u32),
        /// Whether files keep set-user-ID and set-group-ID.
        set_ids: bool,
    },
}

struct Unpacker<'a> {
    tree: &'a RootDir,
    form: Form<'a>,
    limits: UnpackLimits,
    /// The times that folders are to have in the end.
    folders: BTreeMap<PathBuf, Timestamps>,
    /// The folder of the last entry: entries of one folder mostly follow each other.
    parent: Option<(PathBuf, Rc<OwnedFd>)>,
    /// Device and inode of what was copied, folders aside: only to these may hard links lead.
    made: HashSet<(u64, u64)>,
    bytes: u64,
    entries: u64,
}

/// An entry's place: an open folder of the tree and the name in it.
struct Place {
    folder: Rc<OwnedFd>,
    name: OsString,
    /// The path that the entry has, for messages.
    path: PathBuf,
}

impl Place {
    fn stat(&self) -> Result<Option<Stat>, OciError> {
        match rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(PathError::new("stat", &self.path, error).into()),
        }
    }
}

impl<'a> Unpacker<'a> {
    fn new(tree: &'a RootDir, form: Form<'a>, limits: &UnpackLimits) -> Self {
        let (folders, parent, made) = (BTreeMap::new(), None, HashSet::new());
        Self { tree, form, limits: *limits, folders, parent, made, bytes: 0, entries: 0 }
    }

    fn lower(&self) -> Option<&'a RootDir> {
        match self.form {
            Form::Layer(lower) => lower,
            Form::Archive(_) | Form::Copied { .. } => None,
        }
    }

    /// Gives the root folder the attributes that it has below: in an overlay the topmost root counts.
    fn root(&mut self) -> Result<(), OciError> {
        let root = self.root_place()?;
        self.inherit(Path::new("/"), &root)
    }

    fn root_place(&self) -> Result<Place, OciError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = Rc::new(self.tree.open_at(Path::new("/"), flags, Mode::empty())?);
        Ok(Place { folder, name: ".".into(), path: "/".into() })
    }

    /// A member of an archive, which has no marks of layers: its root is the folder that is there, and
    /// names that layers take for deletions can be in no image.
    fn archived(&mut self, member: &Member, content: &mut Reader<impl Read>) -> Result<(), OciError> {
        let outside = |name: &[u8]| refused(name, "it lies outside of the archive");
        let path = within(&member.path).ok_or_else(|| outside(&member.path))?;
        if let Kind::HardLink(target) = &member.kind {
            within(target).ok_or_else(|| outside(target))?;
        }
        let marked = path.iter().any(|part| part.as_bytes().starts_with(WHITEOUT));
        if path.as_os_str().is_empty() || marked {
            return Ok(());
        }
        self.member(member, content)
    }

    /// A member of what is copied from a container. The folder itself stays as it is.
    fn copied(&mut self, member: &Member, content: &mut Reader<impl Read>) -> Result<(), OciError> {
        let path = inside(&member.path);
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        if matches!(member.kind, Kind::CharacterDevice(..) | Kind::BlockDevice(..)) {
            return Err(refused(&member.path, "a device is not copied"));
        }
        self.counted()?;
        self.no_links_above(&path)?;
        let place = self.place(&path)?;
        let (is_dir, there) = (member.kind == Kind::Directory, place.stat()?);
        match there.map(|stat| is_folder(&stat)) {
            Some(true) if !is_dir => Err(refused(&member.path, "a folder of that name is there")),
            Some(false) if is_dir => Err(refused(&member.path, "a file of that name is there")),
            _ => self.put(&place, member, content),
        }
    }

    /// Refuses a path that leads through a link, which could lead away from what was asked for.
    fn no_links_above(&self, path: &Path) -> Result<(), OciError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        if self.parent.as_ref().is_some_and(|(known, _)| known == folder) {
            return Ok(());
        }
        for above in folder.ancestors().filter(|above| !above.as_os_str().is_empty()) {
            if self.tree.stat(above, false)?.is_some_and(|stat| is_link(&stat)) {
                return Err(refused(path.as_os_str().as_bytes(), "a link lies where a folder is needed"));
            }
        }
        Ok(())
    }

    fn counted(&mut self) -> Result<(), OciError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(OciError::Limit { what: "entries", limit: self.limits.entries });
        }
        Ok(())
    }

    fn member(&mut self, member: &Member, content: &mut Reader<impl Read>) -> Result<(), OciError> {
        self.counted()?;
        let path = inside(&member.path);
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.root_member(member);
        };
        if is_foreign(&path) {
            return Ok(());
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(&path, OsStr::from_bytes(hidden));
        }
        let place = self.place(&path)?;
        self.put(&place, member, content)
    }

    /// Puts a member in its place.
    fn put(
        &mut self,
        place: &Place,
        member: &Member,
        content: &mut Reader<impl Read>,
    ) -> Result<(), OciError> {
        match &member.kind {
            Kind::Directory => self.folder(place, member),
            Kind::HardLink(target) => {
                self.hard_link(place, target)?;
                match self.form {
                    // A copied file has what its own member said.
                    Form::Layer(_) | Form::Copied { .. } => Ok(()),
                    // Whoever unpacks archives sets what their headers say, on links too.
                    Form::Archive(_) => self.dress(place, member),
                }
            }
            kind => {
                self.clear(place)?;
                let file = self.create(place, kind, member, content)?;
                match self.form {
                    Form::Copied { .. } => self.dress_copied(place, member, file),
                    Form::Layer(_) | Form::Archive(_) => self.dress(place, member),
                }
            }
        }
    }

    /// Attributes and times of what is no folder.
    fn dress(&self, place: &Place, member: &Member) -> Result<(), OciError> {
        self.attributes(place, member)?;
        let times = times(member.mtime, member.nanoseconds);
        rustix::fs::utimensat(&place.folder, &place.name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .at_path("set the times of", &place.path)?;
        Ok(())
    }

    fn root_member(&mut self, member: &Member) -> Result<(), OciError> {
        if member.kind != Kind::Directory {
            return Err(refused(&member.path, "the root can only be a folder"));
        }
        let root = self.root_place()?;
        self.attributes(&root, member)?;
        self.folders.insert(root.path, times(member.mtime, member.nanoseconds));
        Ok(())
    }

    /// `.wh.NAME`: hides what lies below, never what the layer itself has (OCI image-spec, "whiteouts").
    fn whiteout(&mut self, path: &Path, hidden: &OsStr) -> Result<(), OciError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let opaque = path.file_name().is_some_and(|name| name.as_bytes() == OPAQUE);
        if !opaque && (hidden.is_empty() || hidden == "." || hidden == "..") {
            return Err(refused(path.as_os_str().as_bytes(), "the whiteout names no file"));
        }
        let place = if opaque { self.folder_place(folder)? } else { self.place(&folder.join(hidden))? };
        match self.lower() {
            None => Ok(()),
            // The kernel does not look for the mark on the root of a layer.
            Some(lower) if opaque && folder.as_os_str().is_empty() => self.hide_root(lower),
            Some(_) => self.hide(&place),
        }
    }

    fn hide_root(&mut self, lower: &RootDir) -> Result<(), OciError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = lower.open_at(Path::new("/"), flags, Mode::empty())?;
        for entry in Dir::read_from(&root).at_path("read", "/")? {
            let entry = entry.at_path("read", "/")?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                let place = self.place(Path::new(name))?;
                self.hide(&place)?;
            }
        }
        Ok(())
    }

    /// Hides what lies below a place, keeping what the layer has there.
    fn hide(&self, place: &Place) -> Result<(), OciError> {
        match place.stat()? {
            Some(stat) if is_folder(&stat) => {
                Ok(xattrs::set_opaque(&place.folder, &place.name).at_path("mark as opaque", &place.path)?)
            }
            Some(_) => Ok(()),
            None => Ok(make_whiteout(place).at_path("make a whiteout at", &place.path)?),
        }
    }

    fn folder(&mut self, place: &Place, member: &Member) -> Result<(), OciError> {
        let before = place.stat()?;
        if !before.as_ref().is_some_and(is_folder) {
            self.clear(place)?;
            rustix::fs::mkdirat(&place.folder, &place.name, Mode::RWXU).at_path("create", &place.path)?;
        }
        if before.as_ref().is_some_and(is_whiteout) {
            xattrs::set_opaque(&place.folder, &place.name).at_path("mark as opaque", &place.path)?;
        }
        self.attributes(place, member)?;
        self.folders.insert(place.path.clone(), times(member.mtime, member.nanoseconds));
        Ok(())
    }

    fn hard_link(&mut self, place: &Place, target: &[u8]) -> Result<(), OciError> {
        let target = inside(target);
        let missing =
            || refused(place.path.as_os_str().as_bytes(), "it is a hard link to a file that is not there");
        let stat = self.tree.stat(&target, false)?.ok_or_else(missing)?;
        if is_folder(&stat) || is_whiteout(&stat) {
            return Err(refused(place.path.as_os_str().as_bytes(), "a hard link needs a file"));
        }
        let copies = matches!(self.form, Form::Copied { .. });
        if copies && !self.made.contains(&identity(&stat)) {
            let problem = "it is a hard link to a file that the archive did not bring";
            return Err(refused(place.path.as_os_str().as_bytes(), problem));
        }
        let same = |other: Stat| (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino);
        if place.stat()?.is_some_and(same) {
            return Ok(());
        }
        self.clear(place)?;
        let (folder, name) = self.tree.parent(&target)?;
        rustix::fs::linkat(&folder, &name, &place.folder, &place.name, AtFlags::empty())
            .at_path("link", &place.path)?;
        if copies && !place.stat()?.is_some_and(same) {
            let problem = "somebody changed the target of the hard link meanwhile";
            return Err(refused(place.path.as_os_str().as_bytes(), problem));
        }
        Ok(())
    }

    /// Makes a file of any other kind; a plain one is returned open.
    fn create(
        &mut self,
        place: &Place,
        kind: &Kind,
        member: &Member,
        content: &mut Reader<impl Read>,
    ) -> Result<Option<File>, OciError> {
        let node = |kind, major, minor| {
            let device: Dev = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(&place.folder, &place.name, kind, Mode::RUSR, device)
        };
        let made = match kind {
            Kind::Symlink(target) => {
                rustix::fs::symlinkat(OsStr::from_bytes(target), &place.folder, &place.name)
            }
            // It would be a whiteout, which only a `.wh.` entry may make.
            Kind::CharacterDevice(0, 0) => {
                return Err(refused(place.path.as_os_str().as_bytes(), "a device 0/0 is none"));
            }
            Kind::CharacterDevice(major, minor) => node(FileType::CharacterDevice, *major, *minor),
            Kind::BlockDevice(major, minor) => node(FileType::BlockDevice, *major, *minor),
            Kind::Fifo => node(FileType::Fifo, 0, 0),
            _ => return self.file(place, member, content).map(Some),
        };
        made.at_path("create", &place.path)?;
        Ok(None)
    }

    fn file(
        &mut self,
        place: &Place,
        member: &Member,
        content: &mut Reader<impl Read>,
    ) -> Result<File, OciError> {
        self.bytes = self.bytes.saturating_add(member.size);
        if self.bytes > self.limits.bytes {
            return Err(OciError::Limit { what: "bytes", limit: self.limits.bytes });
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&place.folder, &place.name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(file.at_path("create", &place.path)?);
        for segment in member.segments() {
            if member.sparse.is_some() {
                file.seek(SeekFrom::Start(segment.offset)).at_path("write", &place.path)?;
            }
            transfer(content, &mut file, segment.length).map_err(|error| match error {
                CopyFailed::Reading(error) => unreadable(error.into()),
                CopyFailed::Writing(error) => PathError::new("write", &place.path, error).into(),
            })?;
        }
        if member.sparse.is_some() {
            file.set_len(member.size).at_path("write", &place.path)?;
        }
        Ok(file)
    }

    /// Attributes and times of what was copied and is no folder. What is set goes to what was opened, never
    /// to what may lie at its name by now.
    fn dress_copied(&mut self, place: &Place, member: &Member, file: Option<File>) -> Result<(), OciError> {
        let times = times(member.mtime, member.nanoseconds);
        let open = match (file, &member.kind) {
            (Some(file), _) => OwnedFd::from(file),
            (None, Kind::Fifo) => {
                open_as(place, FileType::Fifo, OFlags::NONBLOCK).at_path("open", &place.path)?
            }
            // A link has no mode, and it is ours already.
            (None, _) => {
                self.made.extend(place.stat()?.as_ref().map(identity));
                rustix::fs::utimensat(&place.folder, &place.name, &times, AtFlags::SYMLINK_NOFOLLOW)
                    .at_path("set the times of", &place.path)?;
                return Ok(());
            }
        };
        self.made.insert(identity(&rustix::fs::fstat(&open).at_path("stat", &place.path)?));
        self.attributes_of(&open, place, member)?;
        Ok(rustix::fs::futimens(&open, &times).at_path("set the times of", &place.path)?)
    }

    /// Owner and mode of something copied that is open.
    fn attributes_of(&self, open: &OwnedFd, place: &Place, member: &Member) -> Result<(), OciError> {
        let Form::Copied { owner: (uid, gid), set_ids } = self.form else { return Ok(()) };
        rustix::fs::fchown(open, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .at_path("set the owner of", &place.path)?;
        let dropped = if set_ids || member.kind == Kind::Directory { 0 } else { 0o6000 };
        let mode = Mode::from_raw_mode(member.mode & !dropped);
        Ok(rustix::fs::fchmod(open, mode).at_path("set the mode of", &place.path)?)
    }

    /// Owner, then attributes (a change of owner clears capabilities), then mode (it clears set-user-ID).
    fn attributes(&self, place: &Place, member: &Member) -> Result<(), OciError> {
        let (uid, gid) = match self.form {
            Form::Archive(Some(owner)) => owner,
            Form::Copied { .. } => {
                let open = open_as(place, FileType::Directory, OFlags::DIRECTORY);
                return self.attributes_of(&open.at_path("open", &place.path)?, place, member);
            }
            _ => (member.uid, member.gid),
        };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&place.folder, &place.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .at_path("set the owner of", &place.path)?;
        xattrs::set(&place.folder, &place.name, &member.xattrs)
            .at_path("set the attributes of", &place.path)?;
        let link = match &member.kind {
            Kind::Symlink(_) => true,
            Kind::HardLink(_) => place.stat()?.is_some_and(|stat| is_link(&stat)),
            _ => false,
        };
        if !link {
            // It is no link, and nobody else writes into the tree of a layer or of ADD.
            let mode = Mode::from_raw_mode(member.mode);
            rustix::fs::chmodat(&place.folder, &place.name, mode, AtFlags::empty())
                .at_path("set the mode of", &place.path)?;
        }
        Ok(())
    }

    /// Removes what lies at the place.
    fn clear(&mut self, place: &Place) -> Result<(), OciError> {
        if let Some(stat) = place.stat()? {
            self.made.remove(&identity(&stat));
            // A path that led through it leads elsewhere from now on.
            self.parent = None;
            remove(&place.folder, &place.name).at_path("remove", &place.path)?;
        }
        Ok(())
    }

    /// The place of an entry; folders on the way that are missing are made.
    fn place(&mut self, path: &Path) -> Result<Place, OciError> {
        let folder = self.open_folder(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok(Place { folder, name, path: Path::new("/").join(path) })
    }

    /// The place of a folder itself, which is made if it is missing.
    fn folder_place(&mut self, path: &Path) -> Result<Place, OciError> {
        let folder = self.open_folder(path)?;
        Ok(Place { folder, name: ".".into(), path: Path::new("/").join(path) })
    }

    fn open_folder(&mut self, path: &Path) -> Result<Rc<OwnedFd>, OciError> {
        if let Some((known, folder)) = &self.parent
            && known == path
        {
            return Ok(Rc::clone(folder));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match self.tree.open_at(path, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                let made = self.make_folders(path)?;
                self.tree.open_at(&made, flags, Mode::empty())?
            }
            Err(error) if error.source.kind() == io::ErrorKind::NotADirectory => {
                let made = self.make_folders(path)?;
                self.tree.open_at(&made, flags, Mode::empty())?
            }
            Err(error) => return Err(error.into()),
        };
        let folder = Rc::new(folder);
        self.parent = Some((path.to_owned(), Rc::clone(&folder)));
        Ok(folder)
    }

    /// Makes the folders of `path` that are missing, following links inside the tree (also into folders
    /// that only lie below). Returns the path with its links resolved.
    fn make_folders(&mut self, path: &Path) -> Result<PathBuf, OciError> {
        let mut ahead: VecDeque<OsString> = path.iter().map(OsStr::to_owned).collect();
        let (mut reached, mut links) = (PathBuf::new(), 0);
        while let Some(component) = ahead.pop_front() {
            if component == ".." {
                reached.pop();
                continue;
            }
            let next = reached.join(&component);
            match self.tree.stat(&next, false)? {
                Some(stat) if is_folder(&stat) => reached = next,
                Some(stat) if is_link(&stat) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(PathError::new("create", path, Errno::LOOP).into());
                    }
                    let target = self.read_link(&next)?;
                    if target.is_absolute() {
                        reached = PathBuf::new();
                    }
                    let parts: Vec<_> = target.components().filter_map(component_name).collect();
                    parts.into_iter().rev().for_each(|part| ahead.push_front(part));
                }
                Some(stat) if !is_whiteout(&stat) => {
                    return Err(refused(path.as_os_str().as_bytes(), "a file lies where a folder is needed"));
                }
                whiteout => {
                    self.make_folder(&next, whiteout.is_some())?;
                    reached = next;
                }
            }
        }
        Ok(reached)
    }

    fn make_folder(&mut self, path: &Path, over_whiteout: bool) -> Result<(), OciError> {
        let (folder, name) = self.tree.parent(&Path::new("/").join(path))?;
        let place = Place { folder: Rc::new(folder), name, path: Path::new("/").join(path) };
        if over_whiteout {
            self.clear(&place)?;
        }
        rustix::fs::mkdirat(&place.folder, &place.name, Mode::RWXU).at_path("create", &place.path)?;
        if over_whiteout {
            xattrs::set_opaque(&place.folder, &place.name).at_path("mark as opaque", &place.path)?;
        }
        self.inherit(path, &place)
    }

    /// Gives a folder the attributes that it has below, else those of a plain folder of root's.
    fn inherit(&mut self, path: &Path, place: &Place) -> Result<(), OciError> {
        let mut member = Member::new(place.path.as_os_str().as_bytes(), Kind::Directory);
        if let Form::Archive(_) = self.form {
            let folder =
                rustix::fs::chmodat(&place.folder, &place.name, Mode::from_raw_mode(0o755), AtFlags::empty());
            return Ok(folder.at_path("set the mode of", &place.path)?);
        }
        if let Some(lower) = self.lower()
            && let Some(stat) = lower.stat(path, false)?.filter(is_folder)
        {
            (member.mode, member.uid, member.gid) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
            member.mtime = stat.st_mtime;
            member.nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = lower.open_at(path, flags, Mode::empty())?;
            member.xattrs = xattrs::read(&folder, OsStr::new(".")).at_path("read the attributes of", path)?;
        }
        self.attributes(place, &member)?;
        self.folders.insert(place.path.clone(), times(member.mtime, member.nanoseconds));
        Ok(())
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, OciError> {
        let (folder, name) = self.tree.parent(&Path::new("/").join(path))?;
        let target = rustix::fs::readlinkat(&folder, &name, Vec::new()).at_path("read", path)?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    fn set_folder_times(&self) -> Result<(), OciError> {
        for (path, times) in &self.folders {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match self.tree.open_at(path, flags, Mode::empty()) {
                Ok(folder) => rustix::fs::futimens(&folder, times).at_path("set the times of", path)?,
                // A later entry put something else in its place.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn is_gone(error: &PathError) -> bool {
    let errno = error.source.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn refused(path: &[u8], problem: &'static str) -> OciError {
    OciError::Entry { path: PathBuf::from(OsStr::from_bytes(path)), problem }
}

/// The path below the root that a name means: no leading slash, no `.`, and `..` never above the root.
fn inside(name: &[u8]) -> PathBuf {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            std::path::Component::Normal(name) => path.push(name),
            std::path::Component::ParentDir => drop(path.pop()),
            _ => {}
        }
    }
    path
}

/// The path below the root that a name means; none if it leads out of it.
fn within(name: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            std::path::Component::Normal(name) => path.push(name),
            std::path::Component::ParentDir => path.pop().then_some(())?,
            _ => {}
        }
    }
    Some(path)
}

/// A component of a link's target that has to be walked.
fn component_name(component: std::path::Component<'_>) -> Option<OsString> {
    match component {
        std::path::Component::Normal(name) => Some(name.to_owned()),
        std::path::Component::ParentDir => Some("..".into()),
        _ => None,
    }
}

/// Whether the path belongs to aufs' own bookkeeping or lies in a folder that only a whiteout could name.
fn is_foreign(path: &Path) -> bool {
    let last = path.file_name();
    path.iter().any(|component| {
        let bytes = component.as_bytes();
        let whole = Some(component) != last && bytes.starts_with(WHITEOUT);
        whole || (bytes.starts_with(AUFS) && bytes != OPAQUE)
    })
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

/// Which file it is, whatever its names.
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Opens what lies at a place, which has to be of that kind.
fn open_as(place: &Place, kind: FileType, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = rustix::fs::openat(&place.folder, &place.name, flags, Mode::empty())?;
    let found = FileType::from_raw_mode(rustix::fs::fstat(&open)?.st_mode);
    if found == kind { Ok(open) } else { Err(Errno::INVAL) }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn make_whiteout(place: &Place) -> Result<(), Errno> {
    rustix::fs::mknodat(&place.folder, &place.name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// The same time for access and modification.
fn times(seconds: i64, nanoseconds: u32) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

/// Removes a file, or a folder with everything in it, without following links.
fn remove(folder: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return result,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            remove(&inner, name)?;
        }
    }
    rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)
}
