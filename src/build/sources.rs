//! Reads what the requests name: Dockerfiles and ignore files.
//!
//! All requests are read before anything is said, so that every missing folder, missing Dockerfile and
//! mistake in any Dockerfile comes out at once. Nothing of the build context itself is read here.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::diag::{Diagnostic, SourceFile};
use crate::context::ignore_file;
use crate::graph::{BuildRequest, DockerfileSource, Source, parse_dockerfile};

/// The largest Dockerfile or ignore file that is read.
const LIMIT: u64 = 8 << 20;

/// The requests with their files, in the same order, or every mistake. `shown` makes a path what the user
/// knows it as; `selected` says whether a request is wanted for itself.
pub(super) fn read(
    requests: &[BuildRequest],
    shown: &dyn Fn(&Path) -> String,
    selected: &dyn Fn(&BuildRequest) -> bool,
) -> Result<Vec<Source>, Vec<Diagnostic>> {
    let (mut sources, mut mistakes) = (Vec::new(), Vec::new());
    for request in requests {
        match source(request, shown, selected(request)) {
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
        DockerfileSource::Path(path) => {
            let (path, text) = dockerfile(request, path, shown)?;
            (SourceFile::new(shown(&path), text), Some(path))
        }
    };
    let dockerfile = parse_dockerfile(&file)?;
    let ignore = ignore_file(&request.context, path.as_deref())
        .map_err(|error| vec![placed(request, Diagnostic::error(format!("{}: {error}", request.service)))])?;
    let ignore = ignore.map(|file| (file.name.clone(), file.text.clone()));
    Ok(Source { request: request.clone(), dockerfile, ignore, selected })
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
