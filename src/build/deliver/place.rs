//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::super::error::BuildError;
use super::Place;
use crate::base::cancel::Cancel;
use crate::base::fs::{AtPath, PathError};

impl Place {
    /// Calls `write` with where the bytes go. A file is replaced only when all of it is written; what is
    /// there and is no file (a pipe, a device) is written to directly.
    pub(super) fn write<T>(
        &self,
        stdout: &mut dyn Write,
        cancel: &Cancel,
        write: impl FnOnce(&mut dyn Write) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let write = |out: &mut dyn Write| {
            let written = write(&mut Stoppable { out, cancel });
            if cancel.is_cancelled() { Err(BuildError::Cancelled) } else { written }
        };
        let path = match self {
            Self::Output => {
                let written = write(stdout)?;
                stdout.flush().at_path("write", "standard output")?;
                return Ok(written);
            }
            Self::File(path) => path,
        };
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let file = OpenOptions::new().write(true).open(path).at_path("open", path)?;
            return into(file, path, write);
        }
        let unfinished = Unfinished::create(path)?;
        let file = File::create(&unfinished.path).at_path("create", path)?;
        let written = into(file, path, write)?;
        unfinished.finish(path)?;
        Ok(written)
    }
}

/// Passes bytes on until the user stops the command.
struct Stoppable<'a> {
    out: &'a mut dyn Write,
    cancel: &'a Cancel,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn into<T>(
    file: File,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let mut buffered = BufWriter::with_capacity(1 << 17, file);
    let written = write(&mut buffered)?;
    buffered.flush().at_path("write", path)?;
    Ok(written)
}

/// A file beside the one that it becomes; removed unless it does.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn create(path: &Path) -> Result<Self, PathError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).at_path("create", folder)?;
        }
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        Ok(Self { path: path.with_file_name(name) })
    }

    fn finish(&self, path: &Path) -> Result<(), PathError> {
        std::fs::rename(&self.path, path).at_path("create", path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already where it became the file.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, result: Result<(), BuildError>) -> Result<(), BuildError> {
        Place::File(path.to_owned()).write(&mut io::sink(), &Cancel::new().unwrap(), |out| {
            out.write_all(b"new").at_path("write", path)?;
            result
        })
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/out.tar");
        write(&path, Ok(())).unwrap();
        std::fs::write(&path, "old").unwrap();
        assert!(write(&path, Err(BuildError::Cancelled)).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        write(&path, Ok(())).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        write(Path::new("/dev/null"), Ok(())).unwrap();
    }

    #[test]
    fn standard_output_gets_the_bytes() {
        let mut out = Vec::new();
        let cancel = Cancel::new().unwrap();
        let mut write =
            || Place::Output.write(&mut out, &cancel, |out| Ok(out.write_all(b"x").at_path("write", "x")?));
        write().unwrap();
        cancel.cancel();
        assert!(matches!(write(), Err(BuildError::Cancelled)));
        assert_eq!(out, b"x");
    }
}
