//! What is under way, as the rows below the scrolled text of a terminal. Pure: events and a moment go in,
//! rows come out.
//!
//! The first row tells how far the build is; below it stands a row for each running step under its services,
//! with the last lines that it printed, one for each transfer and one for each action on the engine. Steps
//! that were hits are only counted. No row is wider than the terminal, and all of them take at most two thirds of it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::event::{Event, Outcome, Phase, StepNumber};

use super::lines::Lines;
use super::text::{duration, shorten, size, width};

/// So many rows at most, whatever room there is.
const MOST_ROWS: usize = 20;
/// So many last lines of a step at most.
const MOST_LINES: usize = 3;
/// No row is wider: a narrowed terminal breaks few of them.
const WIDEST: usize = 100;
/// The widest column of services.
const WIDEST_LABEL: usize = 18;

/// A row, and what it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// How far all of it is.
    Head,
    /// Something that is under way.
    Work,
    /// What a step printed.
    Output,
}

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// Whether a build's steps run.
    building: bool,
    /// When the first of them began.
    begun: Option<Duration>,
    planned: usize,
    hits: usize,
    ended: usize,
    /// A guess of what is left, and when it was made.
    left: Option<(Duration, Duration)>,
    running: BTreeMap<StepNumber, Running>,
    others: Vec<Other>,
}

#[derive(Debug)]
struct Running {
    services: Vec<String>,
    name: String,
    begun: Duration,
    expected: Option<Duration>,
}

/// A transfer or an action.
#[derive(Debug)]
struct Other {
    what: String,
    begun: Duration,
    bytes: Option<(u64, Option<u64>)>,
}

impl Frame {
    /// Takes what happened at `now`, a time since the command began.
    pub(super) fn take(&mut self, now: Duration, event: &Event) {
        match event {
            // A build that starts over is planned again.
            Event::Planned { steps } => {
                (self.planned, self.hits, self.ended, self.left) = (*steps, 0, 0, None);
            }
            Event::StepStarted { step, services, name, expected, left, .. } => {
                self.building = true;
                self.begun.get_or_insert(now);
                self.left = left.map(|left| (now, left));
                let services = services.iter().map(|service| one_line(service)).collect();
                let (name, expected) = (one_line(name), *expected);
                self.running.insert(*step, Running { services, name, begun: now, expected });
            }
            Event::StepFinished { step, outcome, .. } => {
                self.running.remove(step);
                *match outcome {
                    Outcome::Hit => &mut self.hits,
                    _ => &mut self.ended,
                } += 1;
            }
            Event::PhaseFinished { phase: Phase::RunSteps, .. } => self.building = false,
            Event::Transfer { what, done, total } if total.is_some_and(|total| *done >= total) => {
                self.others.retain(|other| other.what != *what);
            }
            Event::Transfer { what, done, total } => {
                self.other(now, what).bytes = Some((*done, *total));
            }
            Event::ActionStarted { what, .. } => drop(self.other(now, what)),
            Event::ActionFinished { what, .. } => self.others.retain(|other| other.what != *what),
            _ => {}
        }
    }

    /// Forgets all: the build is over.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether there is nothing to show.
    pub(super) fn is_empty(&self) -> bool {
        !self.building && self.running.is_empty() && self.others.is_empty()
    }

    fn other(&mut self, now: Duration, what: &str) -> &mut Other {
        let index = self.others.iter().position(|other| other.what == what).unwrap_or_else(|| {
            self.others.push(Other { what: what.to_owned(), begun: now, bytes: None });
            self.others.len() - 1
        });
        &mut self.others[index]
    }

    /// The rows for a terminal of so many rows and columns. What steps printed is taken from `lines`.
    pub(super) fn rows(&self, now: Duration, lines: &Lines, (rows, columns): (usize, usize)) -> Vec<Row> {
        if self.is_empty() {
            return Vec::new();
        }
        let columns = columns.saturating_sub(1).clamp(8, WIDEST);
        let room = (rows * 2 / 3).clamp(1, MOST_ROWS);
        let mut shown = Vec::new();
        if self.planned > 0 && self.begun.is_some() {
            shown.push(Row { kind: Kind::Head, text: shorten(&self.head(now), columns) });
        }
        let labels: BTreeMap<_, _> =
            self.running.iter().map(|(step, running)| (*step, label(&running.services))).collect();
        let mut steps: Vec<_> = self.running.iter().collect();
        steps.sort_by(|a, b| (&labels[a.0], a.0).cmp(&(&labels[b.0], b.0)));
        let aligned = labels.values().map(|label| width(label)).max().unwrap_or(0);
        let aligned = aligned.min(WIDEST_LABEL).min(columns / 4);
        let all = steps.len() + self.others.len();
        // The last row may have to tell how many others there are.
        let left = room.saturating_sub(shown.len());
        let fits = if all > left { left.saturating_sub(1) } else { all };
        let each = (left - fits.min(left)).checked_div(steps.len()).unwrap_or(0).min(MOST_LINES);
        for (step, running) in steps.iter().take(fits) {
            shown.push(running.row(now, &labels[*step], aligned, columns));
            let printed = lines.tail(**step, each).into_iter();
            shown.extend(printed.map(|line| output(&line, aligned, columns)));
        }
        let others = self.others.iter().take(fits.saturating_sub(steps.len()));
        shown.extend(others.map(|other| other.row(now, columns)));
        if fits < all && left > 0 {
            shown.push(Row { kind: Kind::Work, text: format!("  and {} more", all - fits) });
        }
        shown
    }

    /// `12.4s  14 of 36 steps, 2 running, 5 hits, about 20s left`
    fn head(&self, now: Duration) -> String {
        let took = self.begun.map_or(Duration::ZERO, |begun| now.saturating_sub(begun));
        let done = (self.hits + self.ended).min(self.planned);
        let mut text = format!("{}  {done} of {} steps", duration(took), self.planned);
        for (count, word) in
            [(self.running.len(), "running"), (self.hits, if self.hits == 1 { "hit" } else { "hits" })]
        {
            if count > 0 {
                text.push_str(&format!(", {count} {word}"));
            }
        }
        let left = self.left.map(|(at, left)| left.saturating_sub(now.saturating_sub(at)));
        if let Some(left) = left.filter(|left| *left >= Duration::from_secs(1) && self.building) {
            text.push_str(&format!(", about {} left", rough(left)));
        }
        text
    }
}

impl Running {
    fn row(&self, now: Duration, label: &str, aligned: usize, columns: usize) -> Row {
        let mut time = duration(now.saturating_sub(self.begun));
        if let Some(expected) = self.expected.filter(|expected| *expected >= Duration::from_secs(1)) {
            time.push_str(&format!(" of {}", rough(expected)));
        }
        let label = shorten(label, aligned);
        let begin = format!("  {label}{}  {}", " ".repeat(aligned.saturating_sub(width(&label))), self.name);
        Row { kind: Kind::Work, text: ended_by(&begin, &time, columns) }
    }
}

impl Other {
    fn row(&self, now: Duration, columns: usize) -> Row {
        let end = match self.bytes {
            None => duration(now.saturating_sub(self.begun)),
            Some((done, None)) => size(done),
            Some((done, Some(total))) => {
                let bar = bar(done, total, columns / 5);
                format!("{bar}  {} of {}", size(done), size(total))
            }
        };
        Row { kind: Kind::Work, text: ended_by(&format!("  {}", one_line(&self.what)), &end, columns) }
    }
}

/// A text whose letters are as wide as they say: without control characters, tabs included.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// The services in one word: `web`, `web +2`.
fn label(services: &[String]) -> String {
    match services {
        [] => String::new(),
        [one] => one.clone(),
        [first, others @ ..] => format!("{first} +{}", others.len()),
    }
}

fn output(line: &str, aligned: usize, columns: usize) -> Row {
    let text = format!("  {}  | {}", " ".repeat(aligned), one_line(line));
    Row { kind: Kind::Output, text: shorten(&text, columns) }
}

/// `begin`, and at the right edge `end`; of `begin` there is what fits.
fn ended_by(begin: &str, end: &str, columns: usize) -> String {
    let room = columns.saturating_sub(width(end) + 2);
    let begin = shorten(begin, room);
    let space = " ".repeat(room.saturating_sub(width(&begin)) + 2);
    shorten(&format!("{begin}{space}{end}"), columns)
}

fn bar(done: u64, total: u64, columns: usize) -> String {
    let full = u128::from(done.min(total)) * columns as u128 / u128::from(total.max(1));
    let full = usize::try_from(full).unwrap_or(columns).min(columns);
    format!("[{}{}]", "=".repeat(full), " ".repeat(columns - full))
}

/// A duration that nobody takes for exact: `8s`, `2m`, `1h 10m`.
fn rough(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", (seconds + 30) / 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A frame after events, and the lines that saw them too.
    fn after(events: &[(f64, Event)]) -> (Frame, Lines) {
        let (mut frame, mut lines) = (Frame::default(), Lines::new(false));
        for (time, event) in events {
            frame.take(s(*time), event);
            lines.take(event);
        }
        (frame, lines)
    }

    fn started(step: usize, services: &[&str], name: &str, times: Option<(f64, f64)>) -> Event {
        let services = services.iter().map(|name| (*name).to_owned()).collect();
        let (reason, key, name) = ("never built".to_owned(), "c0ffee".to_owned(), name.to_owned());
        let (expected, left) = (times.map(|(expected, _)| s(expected)), times.map(|(_, left)| s(left)));
        Event::StepStarted { step: StepNumber(step), services, name, reason, key, expected, left }
    }

    fn hit(step: usize) -> Event {
        let (services, name) = (vec!["web".to_owned()], "FROM busybox".to_owned());
        let (outcome, took) = (Outcome::Hit, Duration::ZERO);
        Event::StepFinished { step: StepNumber(step), services, name, outcome, took }
    }

    fn said(step: usize, text: &str) -> Event {
        Event::StepOutput { step: StepNumber(step), bytes: text.as_bytes().to_vec() }
    }

    fn build() -> Vec<(f64, Event)> {
        let transfer = |done| Event::Transfer {
            what: "pull debian:bookworm-slim".to_owned(),
            done,
            total: Some(29_000_000),
        };
        let what = "Container pack-redis-1  Recreate".to_owned();
        vec![
            (0.1, Event::Planned { steps: 36 }),
            (0.1, hit(0)),
            (0.1, hit(1)),
            (
                0.2,
                started(
                    7,
                    &["web"],
                    "RUN npm ci --no-audit --no-fund --prefer-offline && npm run build",
                    Some((15.0, 42.0)),
                ),
            ),
            (0.3, started(8, &["api", "worker", "cron"], "COPY . .", None)),
            (0.4, started(9, &["a-service-with-a-rather-long-name"], "RUN make", Some((0.2, 90.0)))),
            (0.5, said(7, "one\ntwo\nthree\nfour\nfive\tand a half")),
            (0.6, transfer(0)),
            (0.7, transfer(12_400_000)),
            (0.8, Event::ActionStarted { what, cause: "its image changed".to_owned() }),
        ]
    }

    fn text(rows: &[Row]) -> String {
        rows.iter().map(|row| format!("{}\n", row.text)).collect()
    }

    #[test]
    fn a_build_at_80_columns() {
        let (frame, lines) = after(&build());
        let expected = "\
8.2s  2 of 36 steps, 3 running, 2 hits, about 1m left
  a-service-with-a-…  RUN make                                             8.0s
  api +2              COPY . .                                             8.1s
  web                 RUN npm ci --no-audit --no-fund --prefer-of…  8.2s of 15s
                      | three
                      | four
                      | five and a half
  pull debian:bookworm-slim                   [======         ]  12.4MB of 29MB
  Container pack-redis-1  Recreate                                         7.6s
";
        assert_eq!(text(&frame.rows(s(8.4), &lines, (24, 80))), expected);
    }

    #[test]
    fn a_build_at_60_columns_and_9_rows() {
        let (frame, lines) = after(&build());
        let expected = "\
8.2s  2 of 36 steps, 3 running, 2 hits, about 1m left
  a-service-wit…  RUN make                             8.0s
  api +2          COPY . .                             8.1s
  web             RUN npm ci --no-audit --no-…  8.2s of 15s
  pull debian:bookworm-slim   [====       ]  12.4MB of 29MB
  Container pack-redis-1  Recreate                     7.6s
";
        assert_eq!(text(&frame.rows(s(8.4), &lines, (9, 60))), expected);
    }

    #[test]
    fn a_hundred_services_leave_room() {
        let mut events = vec![(0.0, Event::Planned { steps: 100 })];
        events.extend((0..100).map(|step| (0.0, started(step, &[&format!("svc-{step:02}")], "RUN x", None))));
        let (frame, lines) = after(&events);
        let rows = frame.rows(s(1.0), &lines, (30, 80));
        assert_eq!(rows.len(), MOST_ROWS);
        assert_eq!(rows[MOST_ROWS - 1].text, "  and 82 more");
    }

    #[test]
    fn a_frame_is_empty_as_soon_as_nothing_is_under_way() {
        let (mut frame, _) = after(&[(0.0, Event::Planned { steps: 3 }), (0.0, hit(0))]);
        assert!(frame.is_empty());
        frame.take(s(1.0), &started(1, &["web"], "RUN x", None));
        assert!(!frame.is_empty());
        frame.clear();
        assert!(frame.is_empty());
    }

    proptest::proptest! {
        /// Whatever there is to show: it fits.
        #[test]
        fn no_row_is_wider_than_the_terminal_and_all_fit(
            steps in proptest::collection::vec(("[\\PC\t\n\u{1b}]{0,40}", "[\\PC\t\r\u{1b}]{0,80}", "\\PC{0,90}"), 0..40),
            transfers in proptest::collection::vec(("\\PC{0,50}", 0u64..u64::MAX, proptest::option::of(0u64..u64::MAX)), 0..10),
            rows in 3usize..60,
            columns in 20usize..200,
        ) {
            let mut events = vec![(0.0, Event::Planned { steps: 100 })];
            for (step, (service, name, printed)) in steps.iter().enumerate() {
                events.push((0.0, started(step, &[service], name, Some((1e6, 1e6)))));
                events.push((0.0, said(step, printed)));
            }
            for (what, done, total) in transfers {
                events.push((0.0, Event::Transfer { what, done, total }));
            }
            let (frame, lines) = after(&events);
            let shown = frame.rows(s(7000.0), &lines, (rows, columns));
            proptest::prop_assert!(shown.len() < rows);
            for row in shown {
                proptest::prop_assert!(width(&row.text) < columns, "{}", row.text);
                proptest::prop_assert!(!row.text.contains(char::is_control));
            }
        }
    }
}
