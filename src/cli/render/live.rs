//! The live view of a terminal: what ended scrolls up, what runs stands below with its time and its last
//! line.
//!
//! The text is that of [`lines`](super::lines); here is only where it stands. Drawing is throttled by
//! indicatif, so an event costs little.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::base::event::{Event, Outcome, StepNumber};

use super::lines::{Lines, group};
use super::text::{shorten, size};

/// Below the headline of a step stands its last line of output.
const RUNNING: &str = "{spinner} {elapsed:>5} {prefix}{msg}";

/// What is under way.
pub(super) struct Live {
    bars: MultiProgress,
    lines: Lines,
    steps: BTreeMap<StepNumber, ProgressBar>,
    others: BTreeMap<String, ProgressBar>,
    colour: bool,
}

impl Live {
    pub(super) fn new(target: ProgressDrawTarget, colour: bool) -> Self {
        let bars = MultiProgress::with_draw_target(target);
        Self { bars, lines: Lines::new(false), steps: BTreeMap::new(), others: BTreeMap::new(), colour }
    }

    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::StepStarted { step, services, name, .. } => {
                let bar = self.begin(format!("{} {name}", group(services)));
                self.steps.insert(*step, bar);
            }
            Event::StepOutput { step, bytes } => {
                let _ = self.lines.take(event);
                let last = bytes.rsplit(|byte| *byte == b'\n').find(|line| !line.is_empty());
                if let (Some(bar), Some(line)) = (self.steps.get(step), last) {
                    bar.set_message(format!("\n        {}", shorten(&super::text::clean(line), 100)));
                }
            }
            Event::StepFinished { step, .. } => {
                if let Some(bar) = self.steps.remove(step) {
                    bar.finish_and_clear();
                }
                self.print(event);
            }
            Event::ActionStarted { what, .. } => {
                let bar = self.begin(what.clone());
                self.others.insert(what.clone(), bar);
            }
            Event::ActionFinished { what, .. } => {
                if let Some(bar) = self.others.remove(what) {
                    bar.finish_and_clear();
                }
                self.print(event);
            }
            Event::Transfer { what, done, total } => self.transfer(what, *done, *total),
            Event::Planned { .. } | Event::Warning(_) | Event::Finding(_) | Event::Notice(_) => {
                self.print(event)
            }
            Event::PhaseStarted(_) | Event::PhaseFinished { .. } => {}
        }
    }

    /// Clears what is under way and prints the summary.
    pub(super) fn finish(&mut self) {
        for bar in self.steps.values().chain(self.others.values()) {
            bar.finish_and_clear();
        }
        let summary = self.lines.finish();
        self.scroll(&summary);
    }

    /// Runs `print` while the view is hidden.
    pub(super) fn suspend(&self, print: impl FnOnce()) {
        self.bars.suspend(print);
    }

    fn print(&mut self, event: &Event) {
        let text = self.lines.take(event);
        self.scroll(&with_reason(text, event));
    }

    fn scroll(&self, text: &str) {
        for line in text.lines() {
            // A terminal that is gone has nobody to tell.
            let _ = self.bars.println(super::style::line(line, self.colour));
        }
    }

    fn begin(&self, headline: String) -> ProgressBar {
        let style =
            ProgressStyle::with_template(RUNNING).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.bars.add(ProgressBar::new_spinner().with_style(style).with_prefix(headline));
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    fn transfer(&mut self, what: &str, done: u64, total: Option<u64>) {
        if total.is_some_and(|total| done >= total) {
            if let Some(bar) = self.others.remove(what) {
                bar.finish_and_clear();
            }
            self.scroll(&format!("{what}  {} done", size(done)));
            return;
        }
        if !self.others.contains_key(what) {
            let bar = self.begin(what.to_owned());
            self.others.insert(what.to_owned(), bar);
        }
        if let Some(bar) = self.others.get(what) {
            let of = total.map(|total| format!(" of {}", size(total))).unwrap_or_default();
            bar.set_message(format!("  {}{of}", size(done)));
        }
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
}
