//! Limits of the processes of a RUN (`--ulimit`, `build.ulimits`). They are outside every key: a step that
//! succeeded would have written the same under other limits.

use std::fmt;
use std::str::FromStr;

use crate::base::diag::meant;

/// The limits that there are (`setrlimit(2)`), by Docker's names.
const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// A limit; -1 is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepLimit {
    /// Its name: `nofile`.
    pub name: &'static str,
    /// The bound in force.
    pub soft: i64,
    /// How far a process may raise it.
    pub hard: i64,
}

impl StepLimit {
    /// A limit by name; the error says what is wrong with it.
    pub fn new(name: &str, soft: i64, hard: i64) -> Result<Self, String> {
        let Some(known) = NAMES.iter().find(|known| **known == name) else {
            return Err(format!("there is no limit `{name}`{}", meant(name, NAMES)));
        };
        if soft < -1 || hard < -1 {
            return Err("a limit is a number from 0 on, or -1 for none".to_owned());
        }
        if hard != -1 && (soft > hard || soft == -1) {
            return Err("the soft limit is above the hard one".to_owned());
        }
        Ok(Self { name: known, soft, hard })
    }
}

impl FromStr for StepLimit {
    type Err = String;

    /// `NAME=SOFT[:HARD]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "it is not NAME=SOFT[:HARD]".to_owned();
        let (name, bounds) = text.split_once('=').ok_or_else(wrong)?;
        let (soft, hard) = bounds.split_once(':').unwrap_or((bounds, bounds));
        let number = |text: &str| text.parse().map_err(|_| wrong());
        Self::new(name, number(soft)?, number(hard)?)
    }
}

impl fmt::Display for StepLimit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, soft, hard } = self;
        if soft == hard { write!(out, "{name}={soft}") } else { write!(out, "{name}={soft}:{hard}") }
    }
}
