//! How long a run still takes, guessed from how long its steps took the last time. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::graph::NodeId;

/// The steps that are not done, with what each takes.
#[derive(Default)]
pub(super) struct Pace {
    /// What nobody knows has no time.
    steps: HashMap<NodeId, Option<Duration>>,
    begun: HashMap<NodeId, Instant>,
    /// The sum over `steps`.
    work: Duration,
    /// How many of them have no time.
    unknown: usize,
}

impl Pace {
    pub(super) fn new(steps: HashMap<NodeId, Option<Duration>>) -> Self {
        let work = steps.values().flatten().sum();
        let unknown = steps.values().filter(|time| time.is_none()).count();
        Self { steps, begun: HashMap::new(), work, unknown }
    }

    /// What a step takes, if that is known.
    pub(super) fn expected(&self, id: NodeId) -> Option<Duration> {
        self.steps.get(&id).copied().flatten()
    }

    pub(super) fn begin(&mut self, id: NodeId, now: Instant) {
        self.begun.insert(id, now);
    }

    /// A step ended well.
    pub(super) fn end(&mut self, id: NodeId) {
        self.begun.remove(&id);
        match self.steps.remove(&id) {
            Some(Some(time)) => self.work = self.work.saturating_sub(time),
            Some(None) => self.unknown -= 1,
            None => {}
        }
    }

    /// What is left at `now`: the longest way to an end, or all the work in `slots` at once if that is more.
    /// `waiting` is the longest way from a step that has not begun, `path` that from one that has. `None` as
    /// long as a step is among them that nobody knows.
    pub(super) fn left(
        &self,
        now: Instant,
        slots: usize,
        waiting: Duration,
        path: impl Fn(NodeId) -> Duration,
    ) -> Option<Duration> {
        if self.unknown > 0 {
            return None;
        }
        let (mut longest, mut work) = (waiting, self.work);
        for (id, begun) in &self.begun {
            let since = now.saturating_duration_since(*begun);
            longest = longest.max(path(*id).saturating_sub(since));
            work = work.saturating_sub(since.min(self.expected(*id).unwrap_or_default()));
        }
        let slots = slots.clamp(1, self.steps.len().max(1));
        Some(longest.max(work / u32::try_from(slots).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Steps of 10, 4 and 4 seconds that do not depend on each other.
    fn pace() -> Pace {
        let steps = [10, 4, 4].into_iter().enumerate();
        Pace::new(steps.map(|(step, time)| (NodeId(step), Some(seconds(time)))).collect())
    }

    #[test]
    fn the_longest_way_or_all_work_counts() {
        let (mut pace, now) = (pace(), Instant::now());
        let path = |id: NodeId| seconds([10, 4, 4][id.0]);
        assert_eq!(pace.left(now, 1, seconds(10), path), Some(seconds(18)));
        assert_eq!(pace.left(now, 2, seconds(10), path), Some(seconds(10)));
        assert_eq!(pace.left(now, usize::MAX, seconds(10), path), Some(seconds(10)));
        pace.begin(NodeId(0), now);
        pace.begin(NodeId(1), now);
        assert_eq!(pace.left(now + seconds(3), 2, seconds(4), path), Some(seconds(7)));
        pace.end(NodeId(0));
        pace.end(NodeId(1));
        assert_eq!(pace.left(now + seconds(30), 2, seconds(4), path), Some(seconds(4)));
    }

    #[test]
    fn what_takes_longer_than_ever_has_nothing_left() {
        let (mut pace, now) = (pace(), Instant::now());
        pace.end(NodeId(1));
        pace.end(NodeId(2));
        pace.begin(NodeId(0), now);
        assert_eq!(pace.left(now + seconds(60), 2, seconds(0), |_| seconds(10)), Some(seconds(0)));
    }

    #[test]
    fn nothing_is_guessed_while_a_step_is_unknown() {
        let now = Instant::now();
        let mut pace = Pace::new([(NodeId(0), None), (NodeId(1), Some(seconds(2)))].into());
        assert_eq!(pace.left(now, 2, seconds(2), |_| seconds(2)), None);
        pace.end(NodeId(0));
        assert_eq!(pace.left(now, 2, seconds(2), |_| seconds(2)), Some(seconds(2)));
    }
}
