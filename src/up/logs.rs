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

/// What the engine says of a log that its driver does not keep.
const UNREADABLE: &str = "does not support reading";

/// No time with the space after it is longer.
const LONGEST_STAMP: usize = 40;

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
    let read = |source| reader.once(source, options, &mut Mark::default()).map(drop).map_err(UpError::from);
    sources.iter().try_for_each(read)
}

/// How far a container's log has been read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Mark {
    /// The time of the last line, in nanoseconds since 1970.
    last: Option<i128>,
    /// Whether anything was read.
    begun: bool,
    /// When the run began that was read last, as the engine writes it.
    pub(super) started: Option<String>,
}

impl Mark {
    /// Where the log of a container stands: what is there now is not to be shown. A log that cannot be read
    /// has no such place.
    pub(super) fn at_end(engine: &dyn Engine, container: &str, cancel: &Cancel) -> Self {
        let mut mark = Self::default();
        let mut stamps = Stamps { mark: &mut mark, kept: false, floor: None, seen: false };
        let options = LogOptions { tail: Some(1), timestamps: true, ..LogOptions::default() };
        let mut take = |chunk| {
            stamps.take(chunk);
            Ok(())
        };
        // Whoever reads it later meets the same error, and says it.
        let _ = engine.logs(container, &options, &mut take, cancel);
        mark
    }
}

/// Takes the times off the pieces of a log, and leaves out what was read before. The engine counts in whole
/// seconds where a log is to begin; its times are exact.
struct Stamps<'a> {
    mark: &'a mut Mark,
    /// Whether the times stay.
    kept: bool,
    /// Up to where everything was read before.
    floor: Option<i128>,
    /// Whether the present piece was read before.
    seen: bool,
}

impl Stamps<'_> {
    /// What to ask the engine for.
    fn asked(&mut self, options: &LogOptions) -> LogOptions {
        self.floor = self.mark.last;
        let second = self.floor.and_then(|time| i64::try_from(time.div_euclid(1_000_000_000)).ok());
        LogOptions { timestamps: true, since: second.max(options.since), ..options.clone() }
    }

    fn take(&mut self, mut chunk: LogChunk) -> Option<LogChunk> {
        self.mark.begun = true;
        // A piece without a time goes on with the one before it.
        if let Some((time, length)) = stamp(&chunk.bytes) {
            self.seen = self.floor.is_some_and(|floor| time <= floor);
            self.mark.last = self.mark.last.max(Some(time));
            if !self.kept {
                chunk.bytes.drain(..length);
            }
        }
        (!self.seen).then_some(chunk)
    }
}

/// The time at the beginning of a piece, in nanoseconds since 1970, and how many bytes it takes with the
/// space after it.
fn stamp(bytes: &[u8]) -> Option<(i128, usize)> {
    let end = bytes.iter().take(LONGEST_STAMP).position(|byte| *byte == b' ')?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let format = &time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::parse(text, format).ok()?;
    Some((time.unix_timestamp_nanos(), end + 1))
}

/// With what logs are read.
pub(super) struct Reader<'a, 'sink, 'line> {
    pub(super) engine: &'a dyn Engine,
    pub(super) options: &'a LogOptions,
    pub(super) sink: &'a Mutex<&'sink mut LineSink<'line>>,
    pub(super) cancel: &'a Cancel,
}

impl Reader<'_, '_, '_> {
    /// Reads a log to its present end, or the container's, from where `mark` stands, and moves it on. Whether
    /// it can be read; if not, that is said.
    fn once(&self, source: &Source, options: &LogOptions, mark: &mut Mark) -> Result<bool, EngineError> {
        let mut lines = Lines::default();
        let mut stamps = Stamps { mark, kept: options.timestamps, floor: None, seen: false };
        let options = stamps.asked(options);
        let mut take = |chunk: LogChunk| match stamps.take(chunk) {
            Some(chunk) => lines.take(chunk, &mut |kind, bytes| self.emit(source, kind, bytes)),
            None => Ok(()),
        };
        let read = self.engine.logs(&source.id, &options, &mut take, self.cancel);
        let rest = lines.rest(&mut |kind, bytes| self.emit(source, kind, bytes));
        match read {
            // Removed while it was read: there is no more.
            Err(EngineError::NotFound { .. }) => {}
            Err(EngineError::Refused { message, .. }) if message.contains(UNREADABLE) => {
                let label = &source.label;
                self.say(source, format!("{label} has no log to show: {message}"))?;
                return Ok(false);
            }
            read => read?,
        }
        rest.map_err(|source_error| EngineError::Transfer {
            action: format!("show the log of {}", source.label),
            source: source_error,
        })?;
        Ok(true)
    }

    /// Follows a container through its restarts; how it ended, or `None` if it is gone or was not waited
    /// for. `mark` says where to begin and, afterwards, how far it came.
    pub(super) fn follow(&self, source: &Source, mark: &mut Mark) -> Result<Option<Ended>, EngineError> {
        let mut options = self.options.clone();
        mark.started = self.engine.status(&source.id)?.and_then(|status| status.started);
        loop {
            if !self.once(source, &options, mark)? {
                let ended = self.watch(source, mark)?;
                if let Some(ended) = &ended {
                    self.say(source, format!("{} exited with code {}", source.label, ended.code))?;
                }
                return Ok(ended);
            }
            // What comes later is wanted whole.
            options.tail = None;
            if self.cancel.is_cancelled() {
                return Ok(None);
            }
            let Some(status) = self.ended(source, mark.started.as_deref())? else { return Ok(None) };
            if status.state == State::Running {
                mark.started = status.started;
                continue;
            }
            let restarts = status.state == State::Restarting;
            // An engine may end a log that is followed before its last lines.
            let from_start = !mark.begun && self.options.tail.is_none();
            if !restarts && (mark.last.is_some() || from_start) {
                self.once(source, &LogOptions { follow: false, ..options.clone() }, mark)?;
            }
            let again = if restarts { " (restarting)" } else { "" };
            let said = format!("{} exited with code {}{again}", source.label, status.exit_code);
            self.say(source, said)?;
            if !restarts {
                mark.started = status.started;
                return Ok(Some(Ended { source: source.clone(), code: status.exit_code }));
            }
            let Some(status) = self.running(source)? else { return Ok(None) };
            mark.started = status.started;
        }
    }

    /// Waits for a container's end through its restarts and says nothing; as [`Self::follow`].
    pub(super) fn watch(&self, source: &Source, mark: &mut Mark) -> Result<Option<Ended>, EngineError> {
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
                        mark.started = status.started;
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

    /// Shows what a hook of a container printed, as lines of `NAME ->`. `lines` keeps what is no whole line
    /// yet; without bytes, the hook has ended.
    pub(super) fn hook(&self, source: &Source, lines: &mut Lines, bytes: &[u8]) -> io::Result<()> {
        let source = Source { label: format!("{} ->", source.label), ..source.clone() };
        let mut emit = |kind, bytes| self.emit(&source, kind, bytes);
        if bytes.is_empty() {
            return std::mem::take(lines).rest(&mut emit);
        }
        lines.take(LogChunk { stream: LogStream::Stdout, bytes: bytes.to_vec() }, &mut emit)
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

/// Bytes into lines, for each stream apart.
#[derive(Default)]
pub(super) struct Lines {
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
    fn times_are_taken_off_and_what_was_read_is_left_out() {
        let line = |nanos: u32, text: &str| {
            chunk(LogStream::Stdout, &format!("1970-01-01T00:01:00.{nanos:09}Z {text}\n"))
        };
        let mut mark = Mark { last: Some(60_000_000_007), ..Mark::default() };
        let mut stamps = Stamps { mark: &mut mark, kept: false, floor: None, seen: false };
        let asked = stamps.asked(&LogOptions::default());
        assert_eq!((asked.since, asked.timestamps), (Some(60), true));
        assert_eq!(stamps.take(line(7, "old")), None);
        assert_eq!(stamps.take(chunk(LogStream::Stdout, "rest of old\n")), None);
        assert_eq!(stamps.take(line(9, "new")), Some(chunk(LogStream::Stdout, "new\n")));
        // The two streams do not come in the order of their times.
        assert_eq!(stamps.take(line(8, "new")), Some(chunk(LogStream::Stdout, "new\n")));
        stamps.kept = true;
        assert_eq!(stamps.take(line(10, "x")), Some(line(10, "x")));
        assert_eq!(mark.last, Some(60_000_000_010));
    }

    #[test]
    fn a_log_that_cannot_be_read_is_said_and_its_end_waited_for() {
        let engine = crate::engine::fake::Fake::default();
        engine.create("p-a-1", &crate::engine::ContainerSpec::default()).unwrap();
        let status = Status { state: State::Exited, ..engine.status("p-a-1").unwrap().unwrap() };
        engine.set_status("p-a-1", status);
        engine.refuse("logs p-a-1", "configured logging driver does not support reading");
        let mut said = Vec::new();
        let mut sink = |line: LogLine| {
            said.push(line.text(3));
            Ok(())
        };
        let sink: Mutex<&mut LineSink<'_>> = Mutex::new(&mut sink);
        let (options, cancel) = (LogOptions::default(), Cancel::new().unwrap());
        let reader = Reader { engine: &engine, options: &options, sink: &sink, cancel: &cancel };
        let source = source("p", "p-a-1", "p-a-1", "a", 0);
        let ended = reader.follow(&source, &mut Mark::default()).unwrap().unwrap();
        assert_eq!(ended.code, 0);
        let unreadable = "a-1 has no log to show: configured logging driver does not support reading";
        assert_eq!(said, [unreadable, "a-1 exited with code 0"]);
    }
    /// What a container's log shows that is followed with `tail` and of which the engine gives only `given`
    /// lines while it is followed.
    fn followed(given: usize, tail: Option<u64>, log: &[&str]) -> Vec<String> {
        let engine = crate::engine::fake::Fake::default();
        engine.create("p-a-1", &crate::engine::ContainerSpec::default()).unwrap();
        let status = Status { state: State::Exited, ..engine.status("p-a-1").unwrap().unwrap() };
        engine.set_status("p-a-1", status);
        engine.set_log("p-a-1", log);
        engine.cut_followed_logs(given);
        let mut said = Vec::new();
        let mut sink = |line: LogLine| {
            said.push(line.text(3));
            Ok(())
        };
        let sink: Mutex<&mut LineSink<'_>> = Mutex::new(&mut sink);
        let options = LogOptions { follow: true, tail, ..LogOptions::default() };
        let cancel = Cancel::new().unwrap();
        let reader = Reader { engine: &engine, options: &options, sink: &sink, cancel: &cancel };
        let source = source("p", "p-a-1", "p-a-1", "a", 0);
        reader.follow(&source, &mut Mark::default()).unwrap().unwrap();
        said
    }

    #[test]
    fn a_followed_log_that_ends_early_is_read_to_its_end() {
        let log = ["1970-01-01T00:01:00.1Z one", "1970-01-01T00:01:00.2Z two"];
        let all = ["a-1  | one", "a-1  | two", "a-1 exited with code 0"];
        for given in 0..=2 {
            assert_eq!(followed(given, None, &log), all, "{given}");
        }
        // Who wants nothing of what was there gets nothing of it.
        assert_eq!(followed(0, Some(0), &log), all[2..]);
        // Where an engine tells no times, nothing is read twice.
        assert_eq!(followed(1, None, &["one", "two"]), ["a-1  | one", "a-1 exited with code 0"]);
    }
}
