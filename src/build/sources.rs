//! Reads what the requests name: Dockerfiles and ignore files.
//!
//! All requests are read before anything is said, so that every missing folder, missing Dockerfile and
//! mistake in any Dockerfile comes out at once. Nothing of the build context itself is read here.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::elsewhere::FetchedContext;
use crate::base::diag::{Diagnostic, SourceFile};
use crate::base::fs::{PathError, RootDir};
use crate::context::ignore_file;
use crate::graph::{BuildRequest, DockerfileSource, NamedContext, Source, parse_dockerfile};

/// The largest Dockerfile or ignore file that is read.
const LIMIT: u64 = 8 << 20;

/// The requests with their files, in the same order, or every mistake. `shown` makes a path what the user
/// knows it as; `selected` says whether a request is wanted for itself. Several files are read at a time.
pub(super) fn read(
    requests: &[BuildRequest],
    contexts: Vec<Option<FetchedContext>>,
    shown: &(dyn Fn(&Path) -> String + Sync),
    selected: &(dyn Fn(&BuildRequest) -> bool + Sync),
) -> Result<Vec<Source>, Vec<Diagnostic>> {
    let (mut sources, mut mistakes) = (Vec::new(), Vec::new());
    let read = |(request, fetched): (&BuildRequest, Option<FetchedContext>)| match fetched {
        Some(fetched) => remote(request, fetched, selected(request)),
        None => source(request, shown, selected(request)),
    };
    let all: Vec<_> = requests.par_iter().zip(contexts).map(read).collect();
    for source in all {
        match source {
            Ok(source) => sources.push(source),
            Err(more) => mistakes.extend(more),
        }
    }
    if mistakes.is_empty() { Ok(sources) } else { Err(mistakes) }
}

fn source(
    request: &BuildRequest,
    shown: &dyn Fn(&Path) -> String,
    selected: bool,
) -> Result<Source, Vec<Diagnostic>> {
    if !request.context.is_dir() {
        let what = if request.context.exists() { "is not a folder" } else { "does not exist" };
        let context = shown(&request.context);
        let message = format!("{}: the build context {context} {what}", request.service);
        return Err(vec![placed(request, Diagnostic::error(message))]);
    }
    let (file, path) = match &request.dockerfile {
        DockerfileSource::Inline(text) => {
            (SourceFile::new(format!("{} (dockerfile_inline)", request.service), text.as_str()), None)
        }
        DockerfileSource::Path(path) | DockerfileSource::Within(path) => {
            let (path, text) = dockerfile(request, &request.context.join(path), shown)?;
            (SourceFile::new(shown(&path), text), Some(path))
        }
    };
    let dockerfile = parse_dockerfile(&file)?;
    let ignore = ignore_file(&request.context, path.as_deref())
        .map_err(|error| vec![placed(request, Diagnostic::error(format!("{}: {error}", request.service)))])?;
    let ignore = ignore.map(|file| (file.name.clone(), file.text.clone()));
    let ignores = ignores(request, shown)?;
    Ok(Source { request: request.clone(), dockerfile, ignore, ignores, checkout: None, selected })
}

/// A request whose context lies in the store. Ignore files count for folders of the user's only, as in
/// BuildKit.
fn remote(
    request: &BuildRequest,
    fetched: FetchedContext,
    selected: bool,
) -> Result<Source, Vec<Diagnostic>> {
    let service = &request.service;
    let said = |message: String| vec![placed(request, Diagnostic::error(format!("{service}: {message}")))];
    let file = match &request.dockerfile {
        DockerfileSource::Inline(text) => {
            SourceFile::new(format!("{service} (dockerfile_inline)"), text.as_str())
        }
        DockerfileSource::Path(path) => {
            let text =
                text(path).map_err(|error| said(format!("cannot read {}: {error}", path.display())))?;
            let text = text.ok_or_else(|| said(format!("there is no Dockerfile at {}", path.display())))?;
            SourceFile::new(path.display().to_string(), text)
        }
        DockerfileSource::Within(path) => {
            let (path, bytes) = within(&fetched.tree, path)
                .map_err(|error| said(format!("cannot read {}: {error}", path.display())))?
                .ok_or_else(|| said(format!("the build context has no {}", path.display())))?;
            let text = String::from_utf8(bytes)
                .map_err(|_| said(format!("cannot read {}: it is not valid UTF-8", path.display())))?;
            SourceFile::new(path.display().to_string(), text)
        }
    };
    let dockerfile = parse_dockerfile(&file)?;
    let ignores = ignores(request, &|path| path.display().to_string())?;
    let checkout = fetched.checkout;
    Ok(Source { request: request.clone(), dockerfile, ignore: None, ignores, checkout, selected })
}

/// The Dockerfile of a context in the store; links of the context stay in it.
fn within(tree: &Path, path: &Path) -> Result<Option<(PathBuf, Vec<u8>)>, PathError> {
    let root = RootDir::open(tree)?;
    let mut candidates = vec![path.to_owned()];
    if path.file_name().is_some_and(|name| name == "Dockerfile") {
        candidates.push(path.with_file_name("dockerfile"));
    }
    for candidate in candidates {
        if let Some(bytes) = root.read(&candidate, LIMIT)? {
            return Ok(Some((candidate, bytes)));
        }
    }
    Ok(None)
}

/// The ignore files of the folders that have names of their own; each must be a folder.
fn ignores(
    request: &BuildRequest,
    shown: &dyn Fn(&Path) -> String,
) -> Result<BTreeMap<PathBuf, (String, String)>, Vec<Diagnostic>> {
    let (mut found, mut mistakes) = (BTreeMap::new(), Vec::new());
    for (name, context) in &request.contexts {
        let NamedContext::Folder(folder) = context else { continue };
        let mut mistake = |message: String| {
            mistakes.push(placed(request, Diagnostic::error(format!("{}: {message}", request.service))));
        };
        if !folder.is_dir() {
            let what = if folder.exists() { "is not a folder" } else { "does not exist" };
            mistake(format!("the context `{name}`, {}, {what}", shown(folder)));
            continue;
        }
        match ignore_file(folder, None) {
            Ok(file) => {
                found.extend(file.map(|file| (folder.clone(), (file.name.clone(), file.text.clone()))));
            }
            Err(error) => mistake(error.to_string()),
        }
    }
    if mistakes.is_empty() { Ok(found) } else { Err(mistakes) }
}

/// The Dockerfile's path and text; `Dockerfile` falls back to `dockerfile` as in BuildKit.
fn dockerfile(
    request: &BuildRequest,
    path: &Path,
    shown: &dyn Fn(&Path) -> String,
) -> Result<(PathBuf, String), Vec<Diagnostic>> {
    let mut candidates = vec![path.to_owned()];
    if path.file_name().is_some_and(|name| name == "Dockerfile") {
        candidates.push(path.with_file_name("dockerfile"));
    }
    for candidate in candidates {
        match text(&candidate) {
            Ok(Some(text)) => return Ok((candidate, text)),
            Ok(None) => {}
            Err(error) => {
                let message = format!("{}: cannot read {}: {error}", request.service, shown(&candidate));
                return Err(vec![placed(request, Diagnostic::error(message))]);
            }
        }
    }
    let message = format!("{}: there is no Dockerfile at {}", request.service, shown(path));
    let help = "name it with `build.dockerfile` in the compose file or with `-f`";
    Err(vec![placed(request, Diagnostic::error(message).help(help))])
}

/// A file's text; `None` if there is no such file.
fn text(path: &Path) -> io::Result<Option<String>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.len() > LIMIT {
        return Err(io::Error::other("it is larger than 8 MiB"));
    }
    let bytes = std::fs::read(path)?;
    String::from_utf8(bytes).map(Some).map_err(|_| io::Error::other("it is not valid UTF-8"))
}

fn placed(request: &BuildRequest, mistake: Diagnostic) -> Diagnostic {
    match &request.span {
        Some(span) => mistake.at(span.clone(), ""),
        None => mistake,
    }
}
