//! The only code that prints.
//!
//! A [`Screen`] takes [`Event`]s from any thread and shows them as lines, as a live view, as JSON, or not
//! at all. Results (tables, plans, ids) go to standard output as whole texts; progress, warnings and errors
//! go to standard error. How text looks is decided in pure functions beside this file; here it is only
//! written.

mod frame;
pub(super) mod go;
mod json;
mod lines;
mod live;
mod logs;
mod style;
mod summary;
mod table;
mod template;
pub(super) mod text;
mod trace;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;

use crate::base::diag::{Diagnostic, Severity};
use crate::base::event::{Event, Events};
use crate::base::fs::{AtPath, PathError, may_write, write_atomic};

use crate::engine::LogStream;
use crate::up::{LineKind, LogLine};

use super::args::{Ansi, Progress};

pub(super) use logs::LogView;
pub(super) use table::Table;
pub(super) use template::{Item, Listing, listing};

/// Where a command's text goes. Made once a command.
pub(super) struct Screen {
    begun: Instant,
    shown: Mutex<Shown>,
    timeline: Mutex<Option<Timeline>>,
}

/// What happened when, and where the trace of it goes.
struct Timeline {
    file: PathBuf,
    moments: Vec<(Duration, Event)>,
}

/// A view and the streams that it goes to.
struct Shown {
    view: View,
    /// What the JSON view has said so far; there is one stream a command, whatever the view in between.
    stream: json::Stream,
    progress_on_stdout: bool,
    colour: Colour,
}

/// Whether text on a stream may hold control sequences.
#[derive(Debug, Clone, Copy)]
struct Colour {
    stdout: bool,
    stderr: bool,
}

enum View {
    Quiet,
    Lines(lines::Lines),
    Live(live::Live),
    Json,
}

/// Which view `progress` means on this stream.
fn chosen(progress: Progress, ansi: Ansi, terminal: bool) -> Progress {
    match progress {
        Progress::Auto if terminal && ansi != Ansi::Never => Progress::Tty,
        Progress::Auto => Progress::Auto,
        chosen => chosen,
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new(Progress::Auto, Ansi::Auto, false)
    }
}

impl Screen {
    /// A screen that shows progress in the form `progress` on standard error, or on standard output.
    pub(super) fn new(progress: Progress, ansi: Ansi, progress_on_stdout: bool) -> Self {
        let shown = Mutex::new(Shown::new(progress, ansi, progress_on_stdout, json::Stream::default()));
        Self { begun: Instant::now(), shown, timeline: Mutex::new(None) }
    }

    /// Changes the form before anything was shown: a project's `.env` may ask for that.
    pub(super) fn change(&self, progress: Progress, ansi: Ansi, progress_on_stdout: bool) {
        let mut shown = self.shown();
        let stream = std::mem::take(&mut shown.stream);
        *shown = Shown::new(progress, ansi, progress_on_stdout, stream);
    }

    /// From now on keeps what happens when, for a trace in `file`; refused where that cannot be written.
    pub(super) fn trace_into(&self, file: &Path) -> Result<(), PathError> {
        may_write(file)?;
        *self.timeline() = Some(Timeline { file: file.to_owned(), moments: Vec::new() });
        Ok(())
    }

    /// Writes the trace, if one is kept. Nothing may be emitted afterwards.
    pub(super) fn write_trace(&self) -> Result<(), PathError> {
        match self.timeline().take() {
            Some(Timeline { file, moments }) => {
                write_atomic(&file, trace::trace(&moments, self.begun.elapsed()).as_bytes())
            }
            None => Ok(()),
        }
    }

    /// Whether names in front of log lines may be coloured.
    pub(super) fn colours_stdout(&self) -> bool {
        self.shown().colour.stdout
    }

    /// Ends the view and prints the summary. Nothing may be emitted afterwards.
    pub(super) fn finish(&self) {
        let shown = &mut *self.shown();
        match &mut shown.view {
            View::Lines(lines) => {
                let text = lines.finish(self.begun.elapsed());
                shown.progress(&text);
            }
            View::Live(live) => live.finish(self.begun.elapsed()),
            View::Json => {
                let text = shown.stream.finish(self.begun.elapsed());
                shown.progress(&text);
            }
            View::Quiet => {}
        }
    }

    /// Prints a command's result on standard output. A reader that has gone away ends the output and is no
    /// error. On a terminal what others wrote into it is only shown.
    pub(super) fn result(&self, text: &str) {
        let shown = if self.stdout_is_terminal() { text::visible(text) } else { text.into() };
        self.result_bytes(shown.as_bytes());
    }

    /// Prints bytes on standard output.
    pub(super) fn result_bytes(&self, bytes: &[u8]) {
        self.beside(|| {
            let mut out = io::stdout().lock();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        });
    }

    /// Standard output as a stream, for what is no text: an image.
    pub(super) fn output(&self) -> impl Write {
        io::stdout()
    }

    /// Whether somebody reads standard output on a terminal.
    pub(super) fn stdout_is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Prints a piece of a result that goes on. A reader that has gone away is the caller's error: it ends
    /// the flow.
    pub(super) fn flow(&self, text: &str) -> io::Result<()> {
        let mut result = Ok(());
        self.beside(|| {
            let mut out = io::stdout().lock();
            result = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        });
        result
    }

    /// Prints bytes on standard error: a container's own.
    pub(super) fn error_bytes(&self, bytes: &[u8]) {
        self.beside(|| {
            // Where standard error is gone there is nobody to tell.
            let _ = io::stderr().lock().write_all(bytes);
        });
    }

    /// Prints a container's log line on the stream that it was written to; what became of the container goes
    /// to standard output. A reader that has gone away is the caller's error: it ends the logs.
    pub(super) fn log(&self, view: &LogView, line: &LogLine) -> io::Result<()> {
        let text = view.line(line);
        let mut result = Ok(());
        self.beside(|| {
            result = match line.kind {
                LineKind::Stderr => io::stderr().lock().write_all(&text),
                LineKind::Stdout | LineKind::Status => {
                    let mut out = io::stdout().lock();
                    out.write_all(&text).and_then(|()| out.flush())
                }
            };
        });
        result
    }

    /// Passes on what a process in a container writes, as it comes.
    pub(super) fn pass_on(&self, stream: LogStream, bytes: &[u8]) -> io::Result<()> {
        let mut result = Ok(());
        self.beside(|| {
            result = match stream {
                LogStream::Stderr => io::stderr().lock().write_all(bytes),
                LogStream::Stdout => {
                    let mut out = io::stdout().lock();
                    out.write_all(bytes).and_then(|()| out.flush())
                }
            };
        });
        result
    }

    /// Prints mistakes in the user's files with their excerpts; warnings alone are dropped where only errors
    /// are wanted.
    pub(super) fn diagnostics(&self, diagnostics: &[Diagnostic]) {
        let (quiet, json, colour) = {
            let shown = self.shown();
            let (quiet, json) = (matches!(shown.view, View::Quiet), matches!(shown.view, View::Json));
            (quiet, json, shown.colour.stderr)
        };
        let columns = io::stderr().is_terminal().then(|| size(false).1);
        for diagnostic in diagnostics {
            let warning = diagnostic.severity < Severity::Error;
            match (warning, json) {
                (true, _) if quiet => {}
                (true, true) => self.warning(&diagnostic.render(false)),
                (false, true) => {
                    let text = diagnostic.render(false);
                    self.failure(text.strip_prefix("error: ").unwrap_or(&text));
                }
                (_, false) => {
                    let text = diagnostic.render_within(colour, columns);
                    self.error_bytes(format!("{text}\n").as_bytes());
                }
            }
        }
    }

    /// Whether the output of a failed step was not shown, or too long ago: it belongs to the error then.
    pub(super) fn hides_output(&self) -> bool {
        match &self.shown().view {
            View::Quiet | View::Json => true,
            View::Lines(lines) => lines.failed_long_ago(),
            View::Live(live) => live.failed_long_ago(),
        }
    }

    /// Shows a warning of the command line itself.
    pub(super) fn warning(&self, text: &str) {
        self.emit(Event::Warning(text.to_owned()));
    }

    /// Asks a question that is answered with `y` or not; the end of input is no.
    pub(super) fn confirm(&self, question: &str) -> Result<bool, PathError> {
        self.error_bytes(text::visible(question).as_bytes());
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).at_path("read the answer from", "standard input")?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// Prints why the command failed; see [`Diagnostic::error`].
    pub(super) fn failure(&self, message: &str) {
        let colour = {
            let shown = &mut *self.shown();
            if matches!(shown.view, View::Json) {
                let text = shown.stream.failure(self.begun.elapsed(), message);
                return shown.progress(&text);
            }
            shown.colour.stderr
        };
        let text = Diagnostic::error(message).render(colour);
        self.error_bytes(format!("{text}\n").as_bytes());
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timeline(&self) -> MutexGuard<'_, Option<Timeline>> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes while no live view is in the way.
    fn beside(&self, write: impl FnOnce()) {
        match &self.shown().view {
            View::Live(live) => live.suspend(write),
            _ => write(),
        }
    }
}

impl Shown {
    fn new(progress: Progress, ansi: Ansi, progress_on_stdout: bool, said: json::Stream) -> Self {
        let (stdout, stderr) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let may = |terminal| ansi == Ansi::Always || terminal && ansi != Ansi::Never;
        let colour = Colour { stdout: may(stdout), stderr: may(stderr) };
        let on = if progress_on_stdout { (stdout, colour.stdout) } else { (stderr, colour.stderr) };
        let view = match chosen(progress, ansi, on.0) {
            Progress::Quiet => View::Quiet,
            Progress::Json => View::Json,
            Progress::Plain => View::Lines(lines::Lines::new(true)),
            Progress::Auto | Progress::Lines => View::Lines(lines::Lines::new(false)),
            Progress::Tty => View::Live(live::Live::new(terminal(progress_on_stdout), on.1)),
        };
        Self { view, stream: said, progress_on_stdout, colour }
    }

    fn progress(&self, text: &str) {
        let colour = if self.progress_on_stdout { self.colour.stdout } else { self.colour.stderr };
        let text: String = text.lines().map(|line| style::line(line, colour) + "\n").collect();
        // Progress that nobody reads any more is no reason to stop.
        let _ = if self.progress_on_stdout {
            io::stdout().lock().write_all(text.as_bytes())
        } else {
            io::stderr().lock().write_all(text.as_bytes())
        };
    }
}

impl Events for Screen {
    fn emit(&self, event: Event) {
        if trace::counts(&event)
            && let Some(timeline) = &mut *self.timeline()
        {
            timeline.moments.push((self.begun.elapsed(), event.clone()));
        }
        if let Event::Finding(finding) = &event {
            return self.diagnostics(std::slice::from_ref(finding));
        }
        let shown = &mut *self.shown();
        match &mut shown.view {
            View::Quiet => {}
            View::Lines(lines) => {
                let text = lines.take(&event);
                lines.showed(&event, &text);
                shown.progress(&text);
            }
            View::Live(live) => live.take(&event),
            View::Json => {
                let text = shown.stream.take(self.begun.elapsed(), &event);
                shown.progress(&text);
            }
        }
    }
}

/// Rows and columns of the terminal on a stream; 24 and 80 where it tells none.
fn size(on_stdout: bool) -> (usize, usize) {
    let size = if on_stdout { tcgetwinsize(io::stdout()) } else { tcgetwinsize(io::stderr()) };
    let size = size.map_or((0, 0), |size| (size.ws_row.into(), size.ws_col.into()));
    if size.0 > 0 && size.1 > 0 { size } else { (24, 80) }
}

/// The terminal on a stream.
fn terminal(on_stdout: bool) -> live::Terminal {
    let out: Box<dyn Write + Send> = if on_stdout { Box::new(io::stdout()) } else { Box::new(io::stderr()) };
    live::Terminal { out, size: Box::new(move || size(on_stdout)) }
}

/// Prints what the command line's parser has to say: help on standard output, mistakes on standard error.
pub(super) fn usage(error: &clap::Error) {
    // clap chooses the stream and the colours; where it is gone there is nobody to tell.
    let _ = error.print();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_follows_the_terminal_unless_it_is_named() {
        assert_eq!(chosen(Progress::Auto, Ansi::Auto, true), Progress::Tty);
        assert_eq!(chosen(Progress::Auto, Ansi::Never, true), Progress::Auto);
        assert_eq!(chosen(Progress::Auto, Ansi::Auto, false), Progress::Auto);
        assert_eq!(chosen(Progress::Tty, Ansi::Never, false), Progress::Tty);
        assert_eq!(chosen(Progress::Json, Ansi::Auto, true), Progress::Json);
    }
}
