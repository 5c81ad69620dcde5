//! The live view of a terminal: what ended scrolls up, what is under way stands below.
//!
//! The scrolled text is that of [`lines`](super::lines), the rows below are those of
//! [`frame`](super::frame); here is only where they stand. They are drawn ten times a second, whatever
//! happens, so an event costs little. Each row is a line of its own and never wider than the terminal: one
//! that is made wider or narrower keeps what was scrolled as it was.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::event::{Event, Outcome};

use super::frame::{Frame, Row};
use super::lines::Lines;
use super::style;
use super::text::width;

/// The time between two pictures.
const TICK: Duration = Duration::from_millis(100);
/// Between these a terminal that knows them shows nothing half drawn; others ignore them.
const BEGIN: &str = "\u{1b}[?2026h";
const END: &str = "\u{1b}[?2026l";
/// Clears the rest of the line, and of the screen.
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// Where the view is drawn.
pub(super) struct Terminal {
    pub(super) out: Box<dyn Write + Send>,
    /// Rows and columns as they are now.
    pub(super) size: Box<dyn Fn() -> (usize, usize) + Send>,
}

/// What is under way and what is shown of it.
pub(super) struct Live {
    picture: Arc<Mutex<Picture>>,
    /// Draws as long as something is under way.
    ticks: Option<Ticks>,
}

/// What the rows are made from, and what of them stands on the screen.
struct Picture {
    begun: Instant,
    frame: Frame,
    lines: Lines,
    colour: bool,
    terminal: Terminal,
    /// The widths of the rows on the screen. The cursor is at the begin of the line below them.
    standing: Vec<usize>,
}

/// The thread that draws.
struct Ticks {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Live {
    pub(super) fn new(terminal: Terminal, colour: bool) -> Self {
        // What became of a step stands behind its name, in the same line where that can be.
        let (_, columns) = (terminal.size)();
        let (frame, lines) = (Frame::default(), Lines::narrow((columns * 2 / 5).max(20)));
        let picture = Picture { begun: Instant::now(), frame, lines, colour, terminal, standing: Vec::new() };
        Self { picture: Arc::new(Mutex::new(picture)), ticks: None }
    }

    pub(super) fn take(&mut self, event: &Event) {
        let is_empty = {
            let mut picture = locked(&self.picture);
            picture.take(event);
            picture.frame.is_empty()
        };
        if is_empty {
            self.stop();
        } else if self.ticks.is_none() {
            self.ticks = Ticks::begin(&self.picture);
        }
    }

    /// Clears what is under way and prints the summary of a build that took so long.
    pub(super) fn finish(&mut self, took: Duration) {
        self.stop();
        let mut picture = locked(&self.picture);
        picture.frame.clear();
        let summary = picture.lines.finish(took);
        picture.scroll(&summary);
    }

    /// See [`Lines::failed_long_ago`].
    pub(super) fn failed_long_ago(&self) -> bool {
        locked(&self.picture).lines.failed_long_ago()
    }

    /// Runs `print` while the rows are away.
    pub(super) fn suspend(&self, print: impl FnOnce()) {
        let mut picture = locked(&self.picture);
        if picture.standing.is_empty() {
            return print();
        }
        picture.paint(|picture| picture.clear());
        print();
        picture.paint(Picture::rows);
    }

    fn stop(&mut self) {
        if let Some(Ticks { stop, thread }) = self.ticks.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop();
        let mut picture = locked(&self.picture);
        if !picture.standing.is_empty() {
            picture.paint(|picture| picture.clear());
        }
    }
}

impl Ticks {
    fn begin(picture: &Arc<Mutex<Picture>>) -> Option<Self> {
        let (stop, stopped) = sync_channel(1);
        let picture = Arc::clone(picture);
        let draw = move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                locked(&picture).paint(Picture::rows);
            }
        };
        let thread = std::thread::Builder::new().name("view".to_owned()).spawn(draw).ok()?;
        Some(Self { stop, thread })
    }
}

impl Picture {
    fn take(&mut self, event: &Event) {
        let now = self.begun.elapsed();
        self.frame.take(now, event);
        let text = with_reason(self.lines.take(event), event);
        if scrolls(event) {
            self.lines.showed(event, &text);
            self.scroll(&text);
        } else if self.frame.is_empty() && !self.standing.is_empty() {
            self.paint(|picture| picture.clear());
        }
    }

    /// Shows lines above the rows.
    fn scroll(&mut self, text: &str) {
        if text.is_empty() && (self.standing.is_empty() || !self.frame.is_empty()) {
            return;
        }
        self.paint(|picture| {
            let mut drawn = picture.clear();
            text.lines().for_each(|line| drawn.push_str(&(style::line(line, picture.colour) + "\r\n")));
            drawn + &picture.rows()
        });
    }

    /// Writes at once what `drawn` gives.
    fn paint(&mut self, drawn: impl FnOnce(&mut Self) -> String) {
        let text = drawn(self);
        let out = &mut self.terminal.out;
        // A terminal that is gone has nobody to tell.
        let _ = out.write_all(format!("{BEGIN}{text}{END}").as_bytes()).and_then(|()| out.flush());
    }

    /// Goes to where the first row stands and clears all from there on.
    fn clear(&mut self) -> String {
        let (_, columns) = (self.terminal.size)();
        let up = to_top(&self.standing, columns);
        self.standing.clear();
        format!("{up}{CLEAR_BELOW}")
    }

    /// Draws the rows over those that stand.
    fn rows(&mut self) -> String {
        let size = (self.terminal.size)();
        let rows = self.frame.rows(self.begun.elapsed(), &self.lines, size);
        let widest = self.standing.iter().copied().max().unwrap_or(0);
        // Rows that the terminal broke are not drawn over.
        let mut text = if widest >= size.1 { self.clear() } else { to_top(&self.standing, size.1) };
        for row in &rows {
            text.push_str(&format!("{}{CLEAR_LINE}\r\n", style::row(row, self.colour)));
        }
        text.push_str(CLEAR_BELOW);
        self.standing = rows.iter().map(|row: &Row| width(&row.text)).collect();
        text
    }
}

fn locked(picture: &Mutex<Picture>) -> MutexGuard<'_, Picture> {
    picture.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Goes up to the first of rows of these widths, which a terminal of so many columns may have broken.
fn to_top(rows: &[usize], columns: usize) -> String {
    match rows.iter().map(|row| row.div_ceil(columns.max(1)).max(1)).sum::<usize>() {
        0 => "\r".to_owned(),
        up => format!("\r\u{1b}[{up}A"),
    }
}

/// Whether an event is told above the rows: steps when they ended, and only those that had no result.
const fn scrolls(event: &Event) -> bool {
    match event {
        Event::StepStarted { .. } | Event::StepOutput { .. } | Event::ActionStarted { .. } => false,
        Event::StepFinished { outcome, .. } => !matches!(outcome, Outcome::Hit),
        Event::Transfer { done, total, .. } => matches!(total, Some(total) if *done >= *total),
        _ => true,
    }
}

/// The lines of an event; the reason of a step, which elsewhere stands where it begins, at its end.
fn with_reason(text: String, event: &Event) -> String {
    match event {
        // Of a failed step the output stands before that line.
        Event::StepFinished { outcome: Outcome::Ran { reason } | Outcome::Failed { reason }, .. } => {
            format!("{}  because {reason}", text.trim_end())
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::StepNumber;

    #[test]
    fn a_step_that_ran_has_its_reason_at_its_end() {
        let said = |outcome: Outcome| {
            let (services, name) = (vec!["web".to_owned()], "RUN make".to_owned());
            let (step, took) = (StepNumber(1), Duration::ZERO);
            let mut lines = Lines::new(false);
            lines.take(&Event::StepOutput { step, bytes: b"no rule\n".to_vec() });
            let event = Event::StepFinished { step, services, name, outcome, took };
            with_reason(lines.take(&event), &event)
        };
        let reason = || "`a.c` modified".to_owned();
        assert_eq!(
            said(Outcome::Ran { reason: reason() }),
            "#1 [web] RUN make  done in 0.0s  because `a.c` modified"
        );
        assert_eq!(
            said(Outcome::Failed { reason: reason() }),
            "#1 | no rule\n#1 [web] RUN make  failed after 0.0s  because `a.c` modified"
        );
        assert_eq!(said(Outcome::Hit), "#1 [web] RUN make  hit\n");
    }

    /// A terminal of 12 rows that others can look at.
    #[derive(Clone)]
    struct Screen(Arc<Mutex<vt100::Parser>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().process(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn cells(count: u16) -> std::num::NonZeroU16 {
        count.try_into().unwrap()
    }

    impl Screen {
        fn live() -> (Self, Live) {
            let screen = Self(Arc::new(Mutex::new(vt100::Parser::new(cells(12), cells(60), 0))));
            let parser = Arc::clone(&screen.0);
            let size = move || {
                let (rows, columns) = parser.lock().unwrap().screen().size();
                (rows.get().into(), columns.get().into())
            };
            let terminal = Terminal { out: Box::new(screen.clone()), size: Box::new(size) };
            (screen, Live::new(terminal, false))
        }

        fn shows(&self, expected: &str) {
            let shown = self.0.lock().unwrap().screen().contents();
            let shown = shown.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
            assert_eq!(shown.trim_end(), expected);
        }
    }

    fn started(step: usize, name: &str) -> Event {
        let (services, key) = (vec!["web".to_owned()], "c0ffee".to_owned());
        let (step, name, reason) = (StepNumber(step), name.to_owned(), "never built".to_owned());
        Event::StepStarted { step, services, name, reason, key, expected: None, left: None }
    }

    fn ran(step: usize, name: &str) -> Event {
        let (services, name) = (vec!["web".to_owned()], name.to_owned());
        let (step, outcome) = (StepNumber(step), Outcome::Ran { reason: "never built".to_owned() });
        Event::StepFinished { step, services, name, outcome, took: Duration::ZERO }
    }

    #[test]
    fn what_ended_scrolls_and_what_runs_stands_below() {
        let (screen, mut live) = Screen::live();
        live.take(&Event::Planned { steps: 3 });
        live.take(&started(0, "COPY . ."));
        live.take(&started(1, "RUN make"));
        live.take(&Event::StepOutput { step: StepNumber(1), bytes: b"one\ntwo\n".to_vec() });
        live.take(&ran(0, "COPY . ."));
        screen.shows(
            "#0 [web] COPY . .  done in 0.0s  because never built\n\
             0.0s  1 of 3 steps, 1 running\n  \
             web  RUN make                                        0.0s\n       \
             | one\n       \
             | two",
        );
        // What others print, a terminal's own echo included, stands above the rows or is gone.
        locked(&live.picture).terminal.out.write_all(b"^C").unwrap();
        live.suspend(|| screen.0.lock().unwrap().process(b"a log line\r\n"));
        live.take(&ran(1, "RUN make"));
        live.finish(Duration::from_secs(2));
        screen.shows(
            "#0 [web] COPY . .  done in 0.0s  because never built\n\
             a log line\n\
             #1 [web] RUN make  done in 0.0s  because never built\n\
             3 steps: 1 hit, 2 ran in 2.0s",
        );
    }

    #[test]
    fn nothing_stays_of_a_view_that_ends_early() {
        let (screen, mut live) = Screen::live();
        live.take(&Event::ActionStarted { what: "Container a-1  Stop".to_owned(), cause: String::new() });
        live.suspend(|| {});
        drop(live);
        screen.shows("");
    }

    #[test]
    fn rows_that_a_narrower_terminal_broke_are_cleared() {
        assert_eq!(to_top(&[], 80), "\r");
        assert_eq!(to_top(&[79, 20, 0, 60], 80), "\r\u{1b}[4A");
        assert_eq!(to_top(&[79, 20, 0, 60], 60), "\r\u{1b}[5A");
        assert_eq!(to_top(&[79, 20, 0, 60], 20), "\r\u{1b}[9A");
    }
}
