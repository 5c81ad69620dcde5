//! Where `image build` takes its context from: a folder, a repository, standard input, and what
//! `--build-context` names.
//!
//! What comes from standard input is kept in the store, by its digest: a tar is the context, any other
//! text is a Dockerfile that has none (as Docker has it). Repositories are fetched by `build`.

use std::io::{Read, Write as _};
use std::path::Path;

use crate::base::digest::{BlobId, Digest};
use crate::base::fs::AtPath;
use crate::cli::args::ImageBuild;
use crate::cli::failure::Failure;
use crate::graph::{
    BuildRequest, DockerfileSource, NamedContext, RemoteContext, context_name, remote_context,
};
use crate::oci::{Reference, is_archive};
use crate::store::Store;

use super::Context;

/// What stands for standard input.
const STDIN: &str = "-";
/// A tar without members.
const EMPTY_TAR: [u8; 1024] = [0; 1024];
/// The largest Dockerfile that is read.
const LARGEST_DOCKERFILE: u64 = 8 << 20;

/// A request with its context, its Dockerfile and its named contexts; the rest is not there yet.
pub(super) fn request(
    context: &Context<'_>,
    flags: &ImageBuild,
    names: Vec<Reference>,
) -> Result<BuildRequest, Failure> {
    let folder = context.absolute(&flags.context);
    let shown = names.first().map_or_else(|| shown_name(&folder), Reference::familiar);
    let mut request = BuildRequest::new(&shown, &folder, names);
    let written = flags.context.to_string_lossy();
    let stdin = written == STDIN;
    request.remote = if stdin { None } else { remote_context(&written).map_err(Failure::Usage)? };
    match (&flags.file, stdin) {
        (Some(file), true) if file.as_os_str() == STDIN => {
            let text = "the build context and the Dockerfile cannot both come from standard input";
            return Err(Failure::Usage(text.to_owned()));
        }
        (Some(file), false) if file.as_os_str() == STDIN => {
            let text = std::io::read_to_string(std::io::stdin()).at_path("read", "standard input")?;
            request.dockerfile = DockerfileSource::Inline(text);
        }
        (Some(file), false) if request.remote.is_none() => {
            request.dockerfile = DockerfileSource::Path(context.absolute(file));
        }
        (file, _) if stdin || request.remote.is_some() => {
            let file = file.clone().unwrap_or_else(|| "Dockerfile".into());
            request.dockerfile = DockerfileSource::Within(file);
        }
        _ => {}
    }
    if stdin {
        let store = context.store()?;
        from_stdin(&store, &mut std::io::stdin().lock(), &mut request)?;
    }
    for text in &flags.build_contexts {
        let (name, value) = named(text, &context.folder).map_err(Failure::Usage)?;
        request.contexts.insert(name, value);
    }
    Ok(request)
}

/// `NAME=SOURCE`.
fn named(text: &str, folder: &Path) -> Result<(String, NamedContext), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .ok_or_else(|| format!("--build-context {text} is not NAME=SOURCE"))?;
    Reference::parse(name).map_err(|error| format!("--build-context {text}: {error}"))?;
    let value =
        NamedContext::parse(value, folder).map_err(|error| format!("--build-context {name}: {error}"))?;
    Ok((context_name(name), value))
}

/// The name of a folder or repository, for steps of an image without a name.
fn shown_name(folder: &Path) -> String {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.split(['#', '?']).next().unwrap_or_default();
    match name.strip_suffix(".git").unwrap_or(name) {
        "" | STDIN => "image".to_owned(),
        name => name.to_owned(),
    }
}

/// Keeps what comes in the store and says in the request what it is.
fn from_stdin(store: &Store, input: &mut dyn Read, request: &mut BuildRequest) -> Result<(), Failure> {
    let digest = keep(store, input)?;
    let id = BlobId(digest);
    let blob = || store.blob(id).ok_or(Failure::Usage("standard input vanished from the store".to_owned()));
    if is_archive(blob()?) {
        request.remote = Some(RemoteContext::Archive(digest));
        return Ok(());
    }
    let mut text = String::new();
    blob()?.take(LARGEST_DOCKERFILE).read_to_string(&mut text).map_err(|_| {
        Failure::Usage("standard input is neither a tar nor the text of a Dockerfile".to_owned())
    })?;
    request.dockerfile = DockerfileSource::Inline(text);
    request.remote = Some(RemoteContext::Archive(keep(store, &mut EMPTY_TAR.as_slice())?));
    Ok(())
}

fn keep(store: &Store, input: &mut dyn Read) -> Result<Digest, Failure> {
    let mut blob = store.write_blob()?;
    std::io::copy(input, &mut blob).at_path("read", "standard input")?;
    blob.flush().at_path("write", "a blob")?;
    Ok(blob.finish(None)?.0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_have_a_name_and_a_source() {
        let read = |text: &str| named(text, Path::new("/here"));
        assert!(read("Base=x").unwrap_err().contains("must be lower case"));
        assert_eq!(read("base=x").unwrap(), ("base".into(), NamedContext::Folder("/here/x".into())));
        assert_eq!(read("docker.io/library/a:latest=x").unwrap().0, "a");
        for text in ["base", "=x", "base=", "base=https://h/x.tar"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_comes_in_is_a_tar_or_a_dockerfile() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let read = |bytes: &[u8]| {
            let mut request = BuildRequest::new("x", Path::new("/"), Vec::new());
            from_stdin(&store, &mut &*bytes, &mut request).map(|()| request)
        };
        let request = read(b"FROM scratch\n").unwrap();
        assert_eq!(request.dockerfile, DockerfileSource::Inline("FROM scratch\n".into()));
        assert_eq!(request.remote, Some(RemoteContext::Archive(Digest::of(EMPTY_TAR))));
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut tar::Header::new_gnu(), "Dockerfile", std::io::empty()).unwrap();
        let tar = builder.into_inner().unwrap();
        assert_eq!(read(&tar).unwrap().remote, Some(RemoteContext::Archive(Digest::of(&tar))));
        assert!(read(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn images_without_a_name_are_called_after_their_context() {
        for (path, name) in
            [("/a/b", "b"), ("/here/-", "image"), ("/here/https://h/o/r.git#main", "r"), ("/", "image")]
        {
            assert_eq!(shown_name(Path::new(path)), name);
        }
    }
}
