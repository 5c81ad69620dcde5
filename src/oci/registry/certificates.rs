//! Certificates for one registry, from folders as Docker has them.
//!
//! A folder `certs.d/HOST[:PORT]` may hold authorities (`*.crt`), which are trusted beside those of the
//! system, and what the registry knows us by: `NAME.cert` with `NAME.key`, the first pair by name. The first
//! folder that is there counts alone. Nothing of a key reaches an error.

use std::path::{Path, PathBuf};

use reqwest::{Certificate, Identity};

use super::super::OciError;

/// What a folder holds.
pub(super) struct Certificates {
    pub(super) roots: Vec<Certificate>,
    pub(super) identity: Option<Identity>,
}

impl Certificates {
    /// Those for `registry` in the first of these folders that has any.
    pub(super) fn find(folders: &[PathBuf], registry: &str) -> Result<Option<Self>, OciError> {
        let own = folders.iter().map(|folder| folder.join(registry)).find(|folder| folder.is_dir());
        own.map(|folder| Self::read(&folder)).transpose()
    }

    fn read(folder: &Path) -> Result<Self, OciError> {
        let entries = std::fs::read_dir(folder).map_err(|error| failed(folder, error))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let ending = |path: &&PathBuf, ending: &str| path.extension().is_some_and(|known| known == ending);
        let mut roots = Vec::new();
        for path in files.iter().filter(|path| ending(path, "crt")) {
            let found = Certificate::from_pem_bundle(&bytes(path)?)
                .ok()
                .filter(|found| !found.is_empty())
                .ok_or_else(|| failed(path, "it holds no certificate in PEM"))?;
            roots.extend(found);
        }
        if let Some(key) =
            files.iter().find(|path| ending(path, "key") && !path.with_extension("cert").exists())
        {
            return Err(failed(key, "there is no file of the same name that ends in .cert"));
        }
        let own = files.iter().find(|path| ending(path, "cert"));
        Ok(Self { roots, identity: own.map(|path| identity(path)).transpose()? })
    }
}

/// A certificate and the key beside it.
fn identity(path: &Path) -> Result<Identity, OciError> {
    let key = path.with_extension("key");
    if !key.exists() {
        return Err(failed(path, "there is no file of the same name that ends in .key"));
    }
    let both = [bytes(path)?, b"\n".to_vec(), bytes(&key)?].concat();
    // The reason may quote what was read.
    Identity::from_pem(&both).map_err(|_| failed(path, "it and its key are no pair in PEM"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, OciError> {
    std::fs::read(path).map_err(|error| failed(path, error))
}

fn failed(path: &Path, problem: impl ToString) -> OciError {
    OciError::Certificates { path: path.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of an authority that never signed anything.
    const ROOT: &str = include_str!("../../../testdata/registry/authority.crt");
    const KEY: &str = include_str!("../../../testdata/registry/client.key");
    const CERT: &str = include_str!("../../../testdata/registry/client.cert");

    fn read(files: &[(&str, &str)]) -> Result<Option<Certificates>, OciError> {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("second/r.example:5000");
        std::fs::create_dir_all(&own).unwrap();
        for (name, text) in files {
            std::fs::write(own.join(name), text).unwrap();
        }
        let folders = [folder.path().join("first"), folder.path().join("second")];
        assert!(Certificates::find(&folders, "r.example").unwrap().is_none());
        Certificates::find(&folders, "r.example:5000")
    }

    #[test]
    fn a_folder_names_authorities_and_who_we_are() {
        let both = format!("{ROOT}{ROOT}");
        let found =
            read(&[("ca.crt", &both), ("b.crt", ROOT), ("me.cert", CERT), ("me.key", KEY), ("x", "")]);
        let found = found.unwrap().unwrap();
        assert_eq!((found.roots.len(), found.identity.is_some()), (3, true));
        let empty = read(&[]).unwrap().unwrap();
        assert_eq!((empty.roots.len(), empty.identity.is_some()), (0, false));
    }

    #[test]
    fn what_cannot_be_used_is_named_without_what_is_in_it() {
        for (files, said) in [
            (&[("ca.crt", "hush")][..], "ca.crt: it holds no certificate in PEM"),
            (&[("me.cert", CERT)], "me.cert: there is no file of the same name that ends in .key"),
            (&[("me.key", KEY)], "me.key: there is no file of the same name that ends in .cert"),
            (&[("me.cert", "hush"), ("me.key", KEY)], "me.cert: it and its key are no pair in PEM"),
        ] {
            let Err(error) = read(files) else { panic!("{said}") };
            let error = error.to_string();
            assert!(error.ends_with(said) && !error.contains("hush"), "{error}");
        }
    }
}
