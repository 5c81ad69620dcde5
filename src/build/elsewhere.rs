//! What Dockerfiles take from URLs, repositories and layouts: what is remembered of it, asking again, and
//! the file systems that come of it.
//!
//! A pin says what a URL or a branch was when it was asked last, so that a build that runs nothing needs
//! no network. Pins are asked again whenever something must run anyway (not with `--offline`), always with
//! `--pull`, and never where `--checksum` or a whole commit says exactly what is meant. [`make`] carries
//! out [`Fetch`]es.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Builder;
use super::error::{BuildError, StepError};
use super::exec::{note_creation, read_secret};
use super::solve::Produced;
use crate::base::cancel::Cancel;
use crate::base::diag::Diagnostic;
use crate::base::digest::{BlobId, Digest};
use crate::base::event::Event;
use crate::base::fs::{AtPath, RootDir};
use crate::graph::{
    BaseImage, BuildRequest, Fetch, FileSource, KnownFile, Layout, Recipe, RemoteContext, SecretSource,
    checkout_of,
};
use crate::oci::{self, Platform, UnpackLimits};
use crate::remote::{Answer, Checkout, Commit, Git, GitSource, RemoteError, Validators, shown_url};
use crate::store::{Bucket, Held, Key, Lookup, Record, Stamp, Store};

/// The argument by which the repository of a context keeps its `.git` (dockerfile reference, "BuildKit
/// built-in build args").
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// What a URL had.
#[derive(Clone, Serialize, Deserialize)]
struct FilePin {
    digest: Digest,
    validators: Validators,
    time: Stamp,
}

/// What a branch or tag meant.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct CommitPin {
    id: String,
    tag: Option<String>,
    time: Stamp,
}

/// The secrets by which servers know a build (`HTTP_AUTH_HEADER_host`, `HTTP_AUTH_TOKEN_host`).
pub(super) type Secrets<'s> = BTreeMap<&'s str, &'s SecretSource>;

/// The secrets of all requests; the first request that has one gives it.
pub(super) fn secrets<'s>(requests: impl Iterator<Item = &'s BuildRequest>) -> Secrets<'s> {
    let mut secrets = Secrets::new();
    for (id, source) in requests.flat_map(|request| &request.secrets) {
        if id.starts_with("HTTP_AUTH_") {
            secrets.entry(id).or_insert(source);
        }
    }
    secrets
}

impl FilePin {
    fn known(&self) -> KnownFile {
        KnownFile { digest: self.digest, modified: self.validators.modified().unwrap_or(0) }
    }
}

/// The file that a URL has, from its pin or from where it lies.
pub(super) fn file(
    builder: &Builder<'_>,
    source: &FileSource,
    secrets: &Secrets<'_>,
) -> Result<KnownFile, StepError> {
    let pin: Option<FilePin> = builder.store.shelf(Bucket::Pins).get(&file_key(&source.url));
    let exact = |pin: &FilePin| source.checksum == Some(pin.digest);
    match pin {
        Some(pin) if exact(&pin) => Ok(pin.known()),
        Some(pin) if source.checksum.is_none() && !builder.options.pull => Ok(pin.known()),
        Some(pin) if source.checksum.is_none() => match download(builder, source, Some(&pin), secrets) {
            Err(StepError::Remote(error @ (RemoteError::Unreachable { .. } | RemoteError::Read { .. }))) => {
                let text = format!("using the file that is here: {error}");
                builder.events.emit(Event::Warning(text));
                Ok(pin.known())
            }
            other => other.map(|pin| pin.known()),
        },
        // A pin of other bytes than those that are asked for.
        _ => download(builder, source, None, secrets).map(|pin| pin.known()),
    }
}

/// Asks a URL for its file, unless it is still the one of `before`, and remembers the answer.
fn download(
    builder: &Builder<'_>,
    source: &FileSource,
    before: Option<&FilePin>,
    secrets: &Secrets<'_>,
) -> Result<FilePin, StepError> {
    let url = source.url.as_str();
    let registries = builder.registries.ok_or_else(|| StepError::Offline(shown_url(url)))?;
    builder.events.emit(Event::Notice(format!("downloading {}", shown_url(url))));
    let mut blob = builder.store.write_blob()?;
    let known = before.map(|pin| &pin.validators);
    let authorization = authorization(url, secrets)?;
    let answer = registries.http()?.get(url, known, authorization.as_deref(), &mut blob, builder.cancel)?;
    let pin = match (answer, before) {
        (Answer::Same, Some(before)) => FilePin { time: Stamp::now(), ..before.clone() },
        (Answer::Same, None) => return Err(StepError::Vanished),
        (Answer::File(validators), _) => {
            blob.flush().at_path("write", "a blob")?;
            let (BlobId(digest), _) = blob.finish(None)?;
            if let Some(expected) = source.checksum.filter(|expected| *expected != digest) {
                let (expected, found) = (expected.to_string(), digest.to_string());
                return Err(RemoteError::Checksum { url: shown_url(url), expected, found }.into());
            }
            FilePin { digest, validators, time: Stamp::now() }
        }
    };
    builder.store.shelf(Bucket::Pins).put(&file_key(url), &pin)?;
    Ok(pin)
}

/// The value of `Authorization` for a URL (BuildKit `source/http`).
fn authorization(url: &str, secrets: &Secrets<'_>) -> Result<Option<String>, StepError> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let text = |kind: &str| -> Result<Option<String>, StepError> {
        let id = format!("HTTP_AUTH_{kind}_{host}");
        let Some((id, source)) = secrets.get_key_value(id.as_str()) else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(read_secret(id, source)?.reveal()).trim().to_owned()))
    };
    match text("HEADER")? {
        Some(header) => Ok(Some(header)),
        None => Ok(text("TOKEN")?.map(|token| format!("Bearer {token}"))),
    }
}

/// The commit that a source means, from its pin or from the repository.
pub(super) fn commit(builder: &Builder<'_>, source: &GitSource) -> Result<Commit, StepError> {
    if let Some(id) = source.commit() {
        return Ok(Commit { id: id.to_owned(), tag: None });
    }
    let pin: Option<CommitPin> = builder.store.shelf(Bucket::Pins).get(&commit_key(source));
    match pin {
        Some(pin) if !builder.options.pull => Ok(Commit { id: pin.id, tag: pin.tag }),
        _ => ask(builder, source),
    }
}

fn ask(builder: &Builder<'_>, source: &GitSource) -> Result<Commit, StepError> {
    if builder.registries.is_none() {
        return Err(StepError::Offline(source.to_string()));
    }
    let commit = Git { cancel: builder.cancel }.commit(source)?;
    let pin = CommitPin { id: commit.id.clone(), tag: commit.tag.clone(), time: Stamp::now() };
    builder.store.shelf(Bucket::Pins).put(&commit_key(source), &pin)?;
    Ok(commit)
}

/// Asks again what URLs and branches are whose pins are older than `since`; whether one is something else
/// by now. What does not answer changes nothing.
pub(super) fn forget_moved(
    builder: &Builder<'_>,
    asked: &Asked,
    secrets: &Secrets<'_>,
    since: Stamp,
) -> Result<bool, BuildError> {
    if builder.registries.is_none() {
        return Ok(false);
    }
    let (shelf, mut moved) = (builder.store.shelf(Bucket::Pins), false);
    for source in asked.files.iter().filter(|source| source.checksum.is_none()) {
        let pin: Option<FilePin> = shelf.get(&file_key(&source.url));
        let Some(pin) = pin.filter(|pin| pin.time < since) else { continue };
        match download(builder, source, Some(&pin), secrets) {
            Ok(now) => moved |= now.known() != pin.known(),
            Err(error) => unanswered(builder, error)?,
        }
    }
    for source in asked.commits.iter().filter(|source| source.commit().is_none()) {
        let pin: Option<CommitPin> = shelf.get(&commit_key(source));
        let Some(pin) = pin.filter(|pin| pin.time < since) else { continue };
        match ask(builder, source) {
            Ok(now) => moved |= now.id != pin.id,
            Err(error) => unanswered(builder, error)?,
        }
    }
    Ok(moved)
}

fn unanswered(builder: &Builder<'_>, error: StepError) -> Result<(), BuildError> {
    match error {
        StepError::Remote(RemoteError::Cancelled) => Err(BuildError::Cancelled),
        error => {
            builder.events.emit(Event::Notice(format!("going on with what is here: {error}")));
            Ok(())
        }
    }
}

/// A build context that is no folder of the user's, where it lies now.
pub(super) struct FetchedContext {
    /// The folder; paths in it are not to be trusted.
    pub(super) tree: PathBuf,
    /// What it is if it is a repository.
    pub(super) checkout: Option<Checkout>,
}

/// Brings a request's context into the store if it is no folder of the user's.
pub(super) fn context(
    builder: &Builder<'_>,
    request: &BuildRequest,
) -> Result<Option<FetchedContext>, BuildError> {
    let fetched = || -> Result<Option<FetchedContext>, StepError> {
        let (fetch, checkout) = match &request.remote {
            None => return Ok(None),
            Some(RemoteContext::Archive(digest)) => (Fetch::Archive { digest: *digest }, None),
            Some(RemoteContext::Git(source)) => {
                let keep = request.arguments.get(KEEP_GIT_DIR).is_some_and(|value| is_true(value));
                let commit = commit(builder, source)?;
                let keep = source.keep_git_dir.unwrap_or(keep);
                let checkout = checkout_of(source, &commit.id, keep);
                if source.checksum.as_ref().is_some_and(|wanted| !commit.id.starts_with(wanted)) {
                    let reference = source.checksum.clone().unwrap_or_default();
                    return Err(RemoteError::NoReference { remote: source.to_string(), reference }.into());
                }
                (Fetch::Git(checkout.clone()), Some(checkout))
            }
        };
        let tree = tree(builder, &fetch, &request.platform)?;
        Ok(Some(FetchedContext { tree, checkout }))
    };
    fetched().map_err(|error| match error {
        StepError::Remote(RemoteError::Cancelled) => BuildError::Cancelled,
        StepError::Store(error) => error.into(),
        error => {
            let mistake = Diagnostic::error(format!("{}: {error}", request.service));
            BuildError::Mistakes(vec![match &request.span {
                Some(span) => mistake.at(span.clone(), ""),
                None => mistake,
            }])
        }
    })
}

fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "True" | "TRUE")
}

/// What a graph was lowered with, apart from images.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) files: Vec<FileSource>,
    pub(super) commits: Vec<GitSource>,
}

/// The image of a layout.
pub(super) fn layout(
    builder: &Builder<'_>,
    layout: &Layout,
    platform: &Platform,
) -> Result<BaseImage, StepError> {
    let (tag, digest) = (layout.tag.as_deref(), layout.digest);
    let (config, layers) = oci::read_layout(builder.store, &layout.folder, tag, digest, platform)?;
    Ok(BaseImage { config, layers })
}

/// The folder with what `fetch` gives, made if the store does not have it.
pub(super) fn tree(builder: &Builder<'_>, fetch: &Fetch, platform: &Platform) -> Result<PathBuf, StepError> {
    let recipe = Recipe::of_fetch(fetch, &platform.to_string());
    let definition = recipe.definition_key();
    let record = match builder.store.peek(definition) {
        Some(record) => record,
        None => {
            let canonical = recipe.canonical_key().ok_or(StepError::NoResult)?;
            let raw = serde_json::value::to_raw_value(&recipe).map_err(StepError::Recipe)?;
            match builder.store.lookup(&Key { definition, canonical, inputs: &[], recipe: &raw })? {
                Lookup::Hit(record) => record,
                Lookup::Miss(claim) => {
                    let Produced { result, holds, .. } = make(builder, fetch, &Secrets::new())?;
                    let (inputs, created) = (Vec::new(), Stamp::now());
                    claim.publish(Record { recipe: raw, result, inputs, holds, took_ms: 0, created })?
                }
            }
        }
    };
    builder.store.snapshot(record.result).map(|snapshot| snapshot.tree).ok_or(StepError::Vanished)
}

/// Makes the file system that `fetch` describes.
pub(super) fn make(
    builder: &Builder<'_>,
    fetch: &Fetch,
    secrets: &Secrets<'_>,
) -> Result<Produced, StepError> {
    let staging = builder.store.stage()?;
    let mut holds = Vec::new();
    match fetch {
        Fetch::File { url, name, digest, modified } => {
            let id = BlobId(*digest);
            if !builder.store.has_blob(id) {
                again(builder, url, *digest, secrets)?;
            }
            holds.push(Held::Blob(id));
            let mut blob = builder.store.blob(id).ok_or(StepError::Vanished)?;
            let path = staging.tree().join(name);
            let mut file = File::create_new(&path).at_path("create", &path)?;
            std::io::copy(&mut blob, &mut file).at_path("write", &path)?;
            file.set_permissions(Permissions::from_mode(0o600)).at_path("set the mode of", &path)?;
            let moment = Duration::from_secs(modified.unsigned_abs());
            let moment = match *modified < 0 {
                true => SystemTime::UNIX_EPOCH - moment,
                false => SystemTime::UNIX_EPOCH + moment,
            };
            file.set_modified(moment).at_path("set the times of", &path)?;
        }
        Fetch::Git(checkout) => {
            if builder.registries.is_none() {
                return Err(StepError::Offline(shown_url(&checkout.remote)));
            }
            let scratch = staging.path().join("checkout");
            std::fs::create_dir(&scratch).at_path("create", &scratch)?;
            Git { cancel: builder.cancel }.check_out(checkout, &scratch, &staging.tree())?;
        }
        Fetch::Archive { digest } => {
            let blob = builder.store.blob(BlobId(*digest)).ok_or(StepError::Vanished)?;
            let tree = RootDir::open(&staging.tree())?;
            oci::unpack_archive(blob, &tree, None, &UnpackLimits::default())?;
        }
    }
    note_creation(&staging)?;
    let snapshot = builder.store.publish_snapshot(staging, None)?;
    Ok(Produced { result: snapshot.id, holds, listings: Vec::new() })
}

/// Downloads a file again whose bytes are gone from the store. Other bytes than before are a change, with
/// which the build starts over.
fn again(builder: &Builder<'_>, url: &str, digest: Digest, secrets: &Secrets<'_>) -> Result<(), StepError> {
    let source = FileSource { url: url.to_owned(), checksum: None };
    let now = download(builder, &source, None, secrets)?;
    if now.digest == digest { Ok(()) } else { Err(StepError::Moved(shown_url(url))) }
}

/// When a commit was made, in seconds since 1970: asked of git once, for it never changes.
pub fn commit_time(store: &Store, folder: &Path, commit: &str, cancel: &Cancel) -> Result<i64, BuildError> {
    let (shelf, key) = (store.shelf(Bucket::Pins), format!("time of commit {commit}"));
    if let Some(time) = shelf.get(&key) {
        return Ok(time);
    }
    let time = Git { cancel }.commit_time(folder, commit)?;
    shelf.put(&key, &time)?;
    Ok(time)
}

/// The commit that a work tree is at, where git alone can read its references (reftables).
pub fn asked_head(folder: &Path, cancel: &Cancel) -> Option<String> {
    Git { cancel }.head(folder).ok()
}

fn file_key(url: &str) -> String {
    format!("file {url}")
}

fn commit_key(source: &GitSource) -> String {
    format!("commit {} {}", source.remote, source.reference.as_deref().unwrap_or("HEAD"))
}
