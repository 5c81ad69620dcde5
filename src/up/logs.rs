//! The logs of many containers as one flow of lines.
//!
//! Each container is read by a thread of its own; its bytes become lines, and a sink that is shared by
//! all takes one line at a time. What a line looks like is decided by [`LogLine::text`], who prints it by
//! the caller.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::engine::{Container, Engine, EngineError, LogChunk, LogOptions, LogStream, State, Status};

use super::error::UpError;
use super::observe::{Observed, is_oneoff, number_of, service_of};

/// Pauses between two looks at a container that is about to start again.
const LOOK: Duration = Duration::from_millis(100);

/// A container whose log is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Its id.
    pub id: String,
    /// Its name without the project's: `web-1`.
    pub label: String,
    /// Its service.
    pub service: String,
    /// Its place among the sources, for its colour.
    pub index: usize,
}

/// What a line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineKind {
    /// The container wrote it to its standard output.
    Stdout,
    /// The container wrote it to its standard error.
    Stderr,
    /// It says what became of the container.
    Status,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// Whose.
    pub source: Source,
    /// What it is.
    pub kind: LineKind,
    /// Its bytes, without the newline.
    pub bytes: Vec<u8>,
}

impl LogLine {
    /// What stands before the line: `web-1  | `, the label padded to `width`. A line that says what
    /// became of the container has nothing before it.
    pub fn prefix(&self, width: usize) -> String {
        match self.kind {
            LineKind::Status => String::new(),
            LineKind::Stdout | LineKind::Stderr => format!("{:width$}  | ", self.source.label),
        }
    }

    /// The line with its prefix, without the newline; what is no UTF-8 is replaced.
    pub fn text(&self, width: usize) -> String {
        format!("{}{}", self.prefix(width), String::from_utf8_lossy(&self.bytes))
    }
}

/// Takes lines from any thread, one at a time; an error ends everything.
pub type LineSink<'a> = dyn FnMut(LogLine) -> io::Result<()> + Send + 'a;

/// How a container ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// The container.
    pub source: Source,
    /// Its exit code.
    pub code: i64,
}

/// The containers of the services (none: all), sorted, as sources of logs; with `number` only those of it.
pub fn sources(project: &str, seen: &Observed, services: &[String], number: Option<u32>) -> Vec<Source> {
    let shown = |service: &str| services.is_empty() || services.iter().any(|name| name == service);
    let counted = |one: &&Container| number.is_none_or(|number| number_of(one) == number);
    let containers = seen.containers.iter().filter(|one| !is_oneoff(one) && shown(service_of(one)));
    let containers = containers.filter(counted);
    containers
        .enumerate()
        .map(|(index, one)| source(project, &one.id, &one.name, service_of(one), index))
        .collect()
}

/// A container as a source of logs.
pub(super) fn source(project: &str, id: &str, name: &str, service: &str, index: usize) -> Source {
    let rest = name.strip_prefix(project).and_then(|rest| rest.strip_prefix(['-', '_']));
    let label = rest.unwrap_or(name);
    Source { id: id.to_owned(), label: label.to_owned(), service: service.to_owned(), index }
}

/// The width to which labels are padded.
pub fn label_width(sources: &[Source]) -> usize {
    sources.iter().map(|source| source.label.chars().count()).max().unwrap_or(0)
}

/// Reads the logs of `sources` to their present end, one after the other.
pub fn logs(
    engine: &dyn Engine,
    sources: &[Source],
    options: &LogOptions,
    sink: &mut LineSink<'_>,
    cancel: &Cancel,
) -> Result<(), UpError> {
    let sink = Mutex::new(sink);
    let reader = Reader { engine, options, sink: &sink, cancel };
    sources.iter().try_for_each(|source| reader.once(source, options).map_err(UpError::from))
}

/// With what logs are read.
pub(super) struct Reader<'a, 'sink, 'line> {
    pub(super) engine: &'a dyn Engine,
    pub(super) options: &'a LogOptions,
    pub(super) sink: &'a Mutex<&'sink mut LineSink<'line>>,
    pub(super) cancel: &'a Cancel,
}

impl Reader<'_, '_, '_> {
    /// Reads a log to its present end, or the container's.
    fn once(&self, source: &Source, options: &LogOptions) -> Result<(), EngineError> {
        let mut lines = Lines::default();
        let mut take = |chunk: LogChunk| lines.take(chunk, &mut |kind, bytes| self.emit(source, kind, bytes));
        let read = self.engine.logs(&source.id, options, &mut take, self.cancel);
        let rest = lines.rest(&mut |kind, bytes| self.emit(source, kind, bytes));
        match read {
            // Removed while it was read: there is no more.
            Err(EngineError::NotFound { .. }) => Ok(()),
            read => read,
        }?;
        rest.map_err(|source_error| EngineError::Transfer {
            action: format!("show the log of {}", source.label),
            source: source_error,
        })
    }

    /// Follows a container through its restarts; how it ended, or `None` if it is gone or was not waited
    /// for.
    pub(super) fn follow(&self, source: &Source) -> Result<Option<Ended>, EngineError> {
        let mut options = self.options.clone();
        let mut started = self.engine.status(&source.id)?.and_then(|status| status.started);
        loop {
            self.once(source, &options)?;
            if self.cancel.is_cancelled() {
                return Ok(None);
            }
            let Some(status) = self.ended(source, started.as_deref())? else { return Ok(None) };
            if status.state == State::Running {
                (options.tail, options.since) = (None, status.started.as_deref().and_then(unix_seconds));
                started = status.started;
                continue;
            }
            let restarts = status.state == State::Restarting;
            let again = if restarts { " (restarting)" } else { "" };
            let said = format!("{} exited with code {}{again}", source.label, status.exit_code);
            self.say(source, said)?;
            if !restarts {
                return Ok(Some(Ended { source: source.clone(), code: status.exit_code }));
            }
            let Some(status) = self.running(source)? else { return Ok(None) };
            options.tail = None;
            options.since = status.started.as_deref().and_then(unix_seconds);
            started = status.started;
        }
    }

    /// Waits for a container's end through its restarts and says nothing; as [`Self::follow`].
    pub(super) fn watch(&self, source: &Source) -> Result<Option<Ended>, EngineError> {
        loop {
            match self.engine.wait(&source.id, self.cancel) {
                Ok(Some(_)) => {}
                Ok(None) | Err(EngineError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
            match self.engine.status(&source.id)? {
                None => return Ok(None),
                Some(status) => match status.state {
                    State::Removing => return Ok(None),
                    State::Running | State::Paused => {}
                    State::Restarting => drop(self.running(source)?),
                    State::Created | State::Exited | State::Dead => {
                        return Ok(Some(Ended { source: source.clone(), code: status.exit_code }));
                    }
                },
            }
        }
    }

    /// The state of a container whose log has ended: the log may end a moment before the container does. It
    /// runs if it was started anew since `started`.
    fn ended(&self, source: &Source, started: Option<&str>) -> Result<Option<Status>, EngineError> {
        while !self.cancel.is_cancelled() {
            match self.engine.status(&source.id)? {
                Some(status) if status.state == State::Running && status.started.as_deref() != started => {
                    return Ok(Some(status));
                }
                Some(status) if matches!(status.state, State::Running | State::Paused) => thread::sleep(LOOK),
                other => return Ok(other.filter(|status| status.state != State::Removing)),
            }
        }
        Ok(None)
    }

    /// The state of a container once it does not wait for its restart any more.
    fn running(&self, source: &Source) -> Result<Option<Status>, EngineError> {
        while !self.cancel.is_cancelled() {
            match self.engine.status(&source.id)? {
                Some(status) if status.state == State::Restarting => thread::sleep(LOOK),
                other => return Ok(other),
            }
        }
        Ok(None)
    }

    /// Shows what a hook of a container printed, as lines of `NAME ->`.
    pub(super) fn hook(&self, source: &Source, bytes: &[u8]) -> io::Result<()> {
        let source = Source { label: format!("{} ->", source.label), ..source.clone() };
        let mut lines = Lines::default();
        let chunk = LogChunk { stream: LogStream::Stdout, bytes: bytes.to_vec() };
        lines.take(chunk, &mut |kind, bytes| self.emit(&source, kind, bytes))?;
        lines.rest(&mut |kind, bytes| self.emit(&source, kind, bytes))
    }

    fn say(&self, source: &Source, text: String) -> Result<(), EngineError> {
        let said = self.emit(source, LineKind::Status, text.into_bytes());
        said.map_err(|error| EngineError::Transfer {
            action: format!("show the log of {}", source.label),
            source: error,
        })
    }

    fn emit(&self, source: &Source, kind: LineKind, bytes: Vec<u8>) -> io::Result<()> {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        sink(LogLine { source: source.clone(), kind, bytes })
    }
}

/// Seconds since 1970 of a time as the engine writes it.
pub(super) fn unix_seconds(text: &str) -> Option<i64> {
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::parse(text, format).ok().map(time::OffsetDateTime::unix_timestamp)
}

/// Bytes into lines, for each stream apart.
#[derive(Default)]
struct Lines {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Lines {
    /// Takes a piece and gives on every line that is whole.
    fn take(
        &mut self,
        chunk: LogChunk,
        emit: &mut dyn FnMut(LineKind, Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (kind, buffer) = match chunk.stream {
            LogStream::Stdout => (LineKind::Stdout, &mut self.out),
            LogStream::Stderr => (LineKind::Stderr, &mut self.err),
        };
        buffer.extend_from_slice(&chunk.bytes);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = buffer.drain(..=end).collect();
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            emit(kind, line)?;
        }
        Ok(())
    }

    /// Gives on what has no newline.
    fn rest(self, emit: &mut dyn FnMut(LineKind, Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        for (kind, bytes) in [(LineKind::Stdout, self.out), (LineKind::Stderr, self.err)] {
            if !bytes.is_empty() {
                emit(kind, bytes)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(stream: LogStream, text: &str) -> LogChunk {
        LogChunk { stream, bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn pieces_become_lines_and_streams_do_not_mix() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        let mut emit = |kind, bytes| {
            seen.push((kind, String::from_utf8(bytes).unwrap()));
            Ok(())
        };
        for (stream, text) in
            [(LogStream::Stdout, "on"), (LogStream::Stderr, "err\n"), (LogStream::Stdout, "e\r\ntwo\nth")]
        {
            lines.take(chunk(stream, text), &mut emit).unwrap();
        }
        lines.rest(&mut emit).unwrap();
        let seen: Vec<_> = seen.iter().map(|(kind, line)| (*kind, line.as_str())).collect();
        assert_eq!(
            seen,
            [
                (LineKind::Stderr, "err"),
                (LineKind::Stdout, "one"),
                (LineKind::Stdout, "two"),
                (LineKind::Stdout, "th")
            ]
        );
    }

    #[test]
    fn labels_are_padded_to_the_longest() {
        let sources =
            [source("p", "1", "p-web-1", "web", 0), source("p", "2", "p-database-1", "database", 1)];
        let width = label_width(&sources);
        let line = LogLine { source: sources[0].clone(), kind: LineKind::Stdout, bytes: b"hello".to_vec() };
        assert_eq!(line.text(width), "web-1       | hello");
        let status = LogLine { kind: LineKind::Status, ..line };
        assert_eq!(status.text(width), "hello");
    }

    #[test]
    fn times_of_the_engine_are_read() {
        assert_eq!(unix_seconds("1970-01-01T00:01:00.5Z"), Some(60));
        assert_eq!(unix_seconds("never"), None);
    }
}
