//! What flows: images' archives in and out, pulls, logs, waiting for an end.
//!
//! The caller's thread writes or reads; the runtime's thread drives the connection. A flow ends when its
//! source ends, when our side fails, or when the command is stopped.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::models::{BuildInfo, CreateImageInfo};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptionsBuilder, LogsOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::base::cancel::Cancel;
use crate::base::event::{Event, Events};

use super::super::{Credentials, EngineError, Loaded, LogChunk, LogOptions, LogStream, Result, WriteArchive};
use super::images::split_tag;
use super::{Docker, failed};

/// Bytes that go to the engine at once.
const CHUNK: usize = 256 * 1024;

/// Chunks that may wait for the engine.
pub(super) const AHEAD: usize = 8;

type Chunk = io::Result<Vec<u8>>;

/// The body of a request, made of chunks in the form `B` of the API's library.
type Body<B> = Pin<Box<dyn Stream<Item = io::Result<B>> + Send>>;

pub(super) fn load(docker: &Docker, archive: &mut WriteArchive<'_>) -> Result<Loaded> {
    let options = ImportImageOptionsBuilder::new().quiet(false).build();
    let api = docker.api.clone();
    upload(docker, "load images", "write the images' archive", archive, |body| async move {
        loaded(api.import_image(options, bollard::body_try_stream(body), None)).await
    })
}

/// Sends what the caller's thread writes, as the body of a request that a task of the runtime makes. Names
/// the whole `action`, and the part of it that is `ours`, in errors.
pub(super) fn upload<B, T, F>(
    docker: &Docker,
    action: &str,
    ours: &str,
    archive: &mut WriteArchive<'_>,
    request: impl FnOnce(Body<B>) -> F,
) -> Result<T>
where
    B: From<Vec<u8>> + 'static,
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel::<Chunk>(AHEAD);
    let body = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk: Chunk| (chunk.map(B::from), receiver))
    });
    let answer = docker.runtime.spawn(request(Box::pin(body)));
    let mut writer = ChunkWriter { sender, buffer: Vec::with_capacity(CHUNK) };
    let written = archive(&mut writer).and_then(|()| writer.flush());
    let written = match written {
        // The engine hung up; its answer says why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            let told = io::Error::new(error.kind(), "the archive was not finished");
            let _ = writer.sender.blocking_send(Err(told));
            Err(error)
        }
        Ok(()) => Ok(()),
    };
    drop(writer);
    let answer = docker.runtime.block_on(answer);
    written.map_err(|source| EngineError::Transfer { action: ours.to_owned(), source })?;
    match answer {
        Ok(answer) => answer,
        Err(error) => Err(EngineError::Broken { action: action.to_owned(), message: error.to_string() }),
    }
}

/// Reads the engine's answer to an archive to its end.
async fn loaded(stream: impl Stream<Item = std::result::Result<BuildInfo, ApiError>>) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut stream = std::pin::pin!(stream);
    while let Some(message) = stream.next().await {
        match message {
            Ok(message) => note_loaded(&mut loaded, message.stream.as_deref().unwrap_or_default()),
            Err(ApiError::DockerStreamError { error }) => {
                return Err(EngineError::LoadFailed { message: error });
            }
            Err(ApiError::DockerResponseServerError { message, .. }) => {
                return Err(EngineError::LoadFailed { message: message.trim().to_owned() });
            }
            Err(error) => return Err(failed("load images".to_owned(), error)),
        }
    }
    Ok(loaded)
}

fn note_loaded(loaded: &mut Loaded, text: &str) {
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Loaded image: ") {
            loaded.names.push(name.trim().to_owned());
        } else if let Some(id) = line.strip_prefix("Loaded image ID: ") {
            loaded.ids.push(id.trim().to_owned());
        }
    }
}

/// Collects what is written into chunks and hands them to the connection.
struct ChunkWriter {
    sender: mpsc::Sender<Chunk>,
    buffer: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

pub(super) fn save(docker: &Docker, references: &[&str], out: &mut dyn Write) -> Result<()> {
    let action = || format!("save {}", references.join(", "));
    docker.runtime.block_on(async {
        let mut stream = std::pin::pin!(docker.api.export_images(references));
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| failed(action(), error))?;
            out.write_all(&chunk).map_err(|source| EngineError::Transfer { action: action(), source })?;
        }
        Ok(())
    })
}

pub(super) fn pull(
    docker: &Docker,
    reference: &str,
    platform: Option<&str>,
    credentials: Option<&Credentials>,
    events: &dyn Events,
    cancel: &Cancel,
) -> Result<()> {
    let options = pull_options(reference, platform);
    let mut progress = Progress { what: format!("pull {reference}"), layers: BTreeMap::new() };
    let pulled = docker.runtime.block_on(async {
        let mut stream =
            std::pin::pin!(docker.api.create_image(Some(options), None, credentials.map(authority)));
        loop {
            let message = tokio::select! {
                message = stream.next() => message,
                () = stopped(cancel) => return Err(EngineError::Cancelled),
            };
            match message {
                None => return Ok(()),
                Some(Ok(message)) => progress.take(&message, events),
                Some(Err(error)) => return Err(pull_failed(reference, error)),
            }
        }
    });
    // What was told to be under way ends, well or not.
    if pulled.is_ok() || !progress.layers.is_empty() {
        progress.end(events);
    }
    pulled
}

fn pull_options(reference: &str, platform: Option<&str>) -> bollard::query_parameters::CreateImageOptions {
    let builder = CreateImageOptionsBuilder::new().platform(platform.unwrap_or_default());
    match reference.split_once('@') {
        Some((repository, digest)) => builder.from_image(split_tag(repository).0).tag(digest).build(),
        None => {
            let (repository, tag) = split_tag(reference);
            builder.from_image(repository).tag(tag).build()
        }
    }
}

fn pull_failed(reference: &str, error: ApiError) -> EngineError {
    let reference = reference.to_owned();
    match error {
        ApiError::DockerStreamError { error: message } => EngineError::PullFailed { reference, message },
        ApiError::DockerResponseServerError { message, .. } => EngineError::PullFailed { reference, message },
        other => failed(format!("pull {reference}"), other),
    }
}

fn authority(credentials: &Credentials) -> DockerCredentials {
    match credentials.clone() {
        Credentials::Password { user, password } => DockerCredentials {
            username: Some(user),
            password: Some(password),
            ..DockerCredentials::default()
        },
        Credentials::Token(token) => {
            DockerCredentials { identitytoken: Some(token), ..DockerCredentials::default() }
        }
        Credentials::Bearer(token) => {
            DockerCredentials { registrytoken: Some(token), ..DockerCredentials::default() }
        }
    }
}

/// The bytes of a pull, summed over its layers.
struct Progress {
    what: String,
    layers: BTreeMap<String, (u64, u64)>,
}

impl Progress {
    fn take(&mut self, message: &CreateImageInfo, events: &dyn Events) {
        let (Some(id), Some(detail)) = (&message.id, &message.progress_detail) else { return };
        if message.status.as_deref() != Some("Downloading") {
            return;
        }
        let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
        self.layers.insert(id.clone(), (bytes(detail.current), bytes(detail.total)));
        let (done, total) = self.sum();
        events.emit(Event::Transfer { what: self.what.clone(), done, total: (total > 0).then_some(total) });
    }

    fn sum(&self) -> (u64, u64) {
        self.layers.values().fold((0, 0), |(done, total), layer| (done + layer.0, total + layer.1))
    }

    fn end(&self, events: &dyn Events) {
        let total = self.sum().1;
        events.emit(Event::Transfer { what: self.what.clone(), done: total, total: Some(total) });
    }
}

pub(super) fn logs(
    docker: &Docker,
    container: &str,
    options: &LogOptions,
    sink: &mut dyn FnMut(LogChunk) -> io::Result<()>,
    cancel: &Cancel,
) -> Result<()> {
    let action = || format!("read the log of {container}");
    let second = |time: Option<i64>| time.and_then(|time| i32::try_from(time).ok()).unwrap_or(0);
    let tail = options.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    let query = LogsOptionsBuilder::new()
        .follow(options.follow)
        .timestamps(options.timestamps)
        .stdout(true)
        .stderr(true)
        .since(second(options.since))
        .until(second(options.until))
        .tail(&tail)
        .build();
    docker.runtime.block_on(async {
        let mut stream = std::pin::pin!(docker.api.logs(container, Some(query)));
        loop {
            let output = tokio::select! {
                output = stream.next() => output,
                () = stopped(cancel) => return Ok(()),
            };
            let Some(output) = output else { return Ok(()) };
            let output = output.map_err(|error| failed(action(), error))?;
            sink(chunk(output)).map_err(|source| EngineError::Transfer { action: action(), source })?;
        }
    })
}

fn chunk(output: LogOutput) -> LogChunk {
    let stream = match output {
        LogOutput::StdErr { .. } => LogStream::Stderr,
        LogOutput::StdOut { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. } => LogStream::Stdout,
    };
    LogChunk { stream, bytes: output.into_bytes().into() }
}

pub(super) fn wait(docker: &Docker, container: &str, cancel: &Cancel) -> Result<Option<i64>> {
    let query = WaitContainerOptionsBuilder::new().condition("not-running").build();
    docker.runtime.block_on(async {
        let mut stream = std::pin::pin!(docker.api.wait_container(container, Some(query)));
        let answer = tokio::select! {
            answer = stream.next() => answer,
            () = stopped(cancel) => return Ok(None),
        };
        match answer {
            Some(Ok(answer)) => Ok(Some(answer.status_code)),
            Some(Err(ApiError::DockerContainerWaitError { code, .. })) => Ok(Some(code)),
            Some(Err(error)) => Err(failed(format!("wait for {container}"), error)),
            None => Err(EngineError::Broken {
                action: format!("wait for {container}"),
                message: "the engine hung up".to_owned(),
            }),
        }
    })
}

/// Ends when the command is stopped. Tokio's watch on a descriptor would need `unsafe`; looking at the
/// flag this often is not felt.
pub(super) async fn stopped(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use crate::base::event::Recorded;

    use super::*;

    #[test]
    fn names_and_ids_are_read_from_the_answer_to_a_load() {
        let mut found = Loaded::default();
        note_loaded(&mut found, "Loaded image: a:1\n");
        note_loaded(&mut found, "Loaded image ID: sha256:12\nLoaded image: b:latest");
        note_loaded(&mut found, "");
        assert_eq!(found.names, ["a:1", "b:latest"]);
        assert_eq!(found.ids, ["sha256:12"]);
    }

    #[test]
    fn an_error_inside_the_answer_is_a_failed_load() {
        let messages = futures_util::stream::iter([
            Ok(BuildInfo { stream: Some("Loaded image: a:1\n".to_owned()), ..BuildInfo::default() }),
            Err(ApiError::DockerStreamError { error: "content digest sha256:12: not found".to_owned() }),
        ]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(loaded(messages)).unwrap_err();
        assert!(matches!(error, EngineError::LoadFailed { ref message } if message.contains("not found")));
    }

    #[test]
    fn pull_progress_sums_the_layers() {
        let events = Recorded::default();
        let mut progress = Progress { what: "pull a".to_owned(), layers: BTreeMap::new() };
        for (id, current, total) in [("x", 1, 10), ("y", 5, 20), ("x", 10, 10)] {
            let message = serde_json::json!({"id": id, "status": "Downloading",
                "progressDetail": {"current": current, "total": total}});
            progress.take(&serde_json::from_value(message).unwrap(), &events);
        }
        progress.end(&events);
        let seen: Vec<_> = events
            .take()
            .into_iter()
            .map(|event| match event {
                Event::Transfer { done, total, .. } => (done, total),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, [(1, Some(10)), (6, Some(30)), (15, Some(30)), (30, Some(30))]);
    }
}
