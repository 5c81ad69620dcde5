//! Where a publish or a prune can be cut off. In tests a point may kill the process; otherwise it is nothing.

/// A moment between two steps.
#[cfg(not(test))]
pub(super) const fn point() {}

#[cfg(test)]
pub(super) use armed::{arm, point};

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    thread_local! {
        /// The points that this thread still passes before it dies; none while it is `None`.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Lets this thread pass `count` points and kills the process at the next one.
    pub(in crate::store) fn arm(count: u32) {
        LEFT.set(Some(count));
    }

    pub(in crate::store) fn point() {
        match LEFT.get() {
            None => {}
            Some(0) => {
                let own = rustix::process::getpid();
                let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            }
            Some(left) => LEFT.set(Some(left - 1)),
        }
    }
}
