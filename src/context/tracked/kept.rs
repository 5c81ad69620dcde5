//! The file in which answers of repositories are kept, beside the stat cache of the context that asked.
//!
//! It only ever holds what was settled when it was written; `repository` compares stamps. A file that is
//! missing, of another version or damaged holds nothing.
//!
//! Layout, little-endian: magic, repositories, digest of all before it. A repository is: root, git folder,
//! common folder, whether modes on the disk count, four standings of settings, the index's standing, number
//! of folders, folders. A folder is: path, number of names plus one or 0 if nothing is tracked, names each
//! with whether it is executable. A standing is its kind, and of a file its stamp. Texts begin with their
//! lengths.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::cache::{Reader, put_stamp, seal, unsealed};
use super::repository::{Repository, Standing};
use crate::base::fs::{PathError, write_atomic};
use crate::base::worktree::{Names, Worktree};

const MAGIC: &[u8; 16] = b"shipway-modes-1\n";

/// What is kept at `path`, by the roots of work trees.
pub(super) fn read(path: &Path) -> HashMap<PathBuf, Repository> {
    std::fs::read(path).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default()
}

fn parse(bytes: &[u8]) -> Option<HashMap<PathBuf, Repository>> {
    let mut reader = Reader { rest: unsealed(bytes, MAGIC)? };
    let mut repositories = HashMap::new();
    while !reader.rest.is_empty() {
        let repository = repository(&mut reader)?;
        repositories.insert(repository.root().to_owned(), repository);
    }
    Some(repositories)
}

fn repository(reader: &mut Reader<'_>) -> Option<Repository> {
    let mut path = || Some(PathBuf::from(OsStr::from_bytes(text(reader)?)));
    let worktree = Worktree { root: path()?, git: path()?, common: path()? };
    let trusted = reader.byte()? != 0;
    let settings = [standing(reader)?, standing(reader)?, standing(reader)?, standing(reader)?];
    let index = standing(reader)?;
    let mut answers = HashMap::new();
    for _ in 0..reader.number()? {
        let path = text(reader)?.to_vec();
        let names = match reader.number()? {
            0 => None,
            more => Some(Arc::new((1..more).map(|_| name(reader)).collect::<Option<Names>>()?)),
        };
        answers.insert(path, names);
    }
    Some(Repository { index, answers, ..Repository::kept(worktree, trusted, settings) })
}

fn text<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.number()?;
    reader.take(length as usize)
}

fn name(reader: &mut Reader<'_>) -> Option<(Box<[u8]>, bool)> {
    Some((text(reader)?.into(), reader.byte()? != 0))
}

fn standing(reader: &mut Reader<'_>) -> Option<Standing> {
    Some(match reader.byte()? {
        0 => Standing::Absent,
        1 => Standing::Folder,
        2 => Standing::File(reader.stamp()?),
        _ => Standing::Unknown,
    })
}

/// Replaces what is kept at `path` by what may be kept of these.
pub(super) fn write<'r>(
    path: &Path,
    repositories: impl Iterator<Item = &'r Repository>,
) -> Result<(), PathError> {
    let mut bytes = MAGIC.to_vec();
    repositories.filter(|one| one.settled).for_each(|one| put_repository(&mut bytes, one));
    seal(&mut bytes);
    write_atomic(path, &bytes)
}

fn put_repository(bytes: &mut Vec<u8>, repository: &Repository) {
    let Worktree { root, git, common } = &repository.worktree;
    [root, git, common].iter().for_each(|path| put_text(bytes, path.as_os_str().as_bytes()));
    bytes.push(u8::from(repository.trusted));
    repository.settings.iter().for_each(|standing| put_standing(bytes, standing));
    put_standing(bytes, &repository.index);
    let kept = repository.index != Standing::Unknown;
    let answers = repository.answers.iter().filter(|_| kept);
    put_number(bytes, answers.clone().count());
    for (path, names) in answers {
        put_text(bytes, path);
        put_number(bytes, names.as_ref().map_or(0, |names| names.all().len() + 1));
        for (name, executable) in names.iter().flat_map(|names| names.all()) {
            put_text(bytes, name);
            bytes.push(u8::from(executable));
        }
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    put_number(bytes, text.len());
    bytes.extend(text);
}

fn put_number(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend((number as u32).to_le_bytes());
}

fn put_standing(bytes: &mut Vec<u8>, standing: &Standing) {
    let kind = match standing {
        Standing::Absent => 0,
        Standing::Folder => 1,
        Standing::File(_) => 2,
        Standing::Unknown => 3,
    };
    bytes.push(kind);
    if let Standing::File(stamp) = standing {
        put_stamp(bytes, stamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::stamp::Stamp;

    #[test]
    fn what_is_written_is_read_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let stamp = Stamp { dev: 1, ino: 2, size: 3, mtime: (-4, 5), ctime: (6, 7) };
        let git = PathBuf::from("/a/.git");
        let worktree = Worktree { root: "/a".into(), common: git.clone(), git };
        let settings = [Standing::Folder, Standing::Absent, Standing::File(stamp), Standing::Absent];
        let names: Names =
            [(b"x\n".as_slice().into(), true), (b"y".as_slice().into(), false)].into_iter().collect();
        let answers = HashMap::from([(b"".to_vec(), Some(Arc::new(names))), (b"b".to_vec(), None)]);
        let answers =
            HashMap::from([(b"c/d".to_vec(), Some(Arc::default()))]).into_iter().chain(answers).collect();
        let index = Standing::File(stamp);
        let repository = Repository { index, answers, ..Repository::kept(worktree, false, settings) };
        write(&path, [&repository].into_iter()).unwrap();
        let found = read(&path);
        assert_eq!(format!("{:?}", found[Path::new("/a")].worktree), format!("{:?}", repository.worktree));
        assert_eq!(found[Path::new("/a")].answers, repository.answers);
        assert_eq!((found[Path::new("/a")].settings, found[Path::new("/a")].index), (settings, index));
        assert!(!found[Path::new("/a")].trusted);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert!(read(&path).is_empty());
        }
        (0..bytes.len()).for_each(|end| assert!(parse(&bytes[..end]).is_none()));
    }
}
