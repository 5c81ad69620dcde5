//! The text form of reasons: what users read. Pure.
//!
//! One clause each, without a full stop, that reads on from "because". Long values are cut.

use std::fmt;

use super::{MissReason, Untold};
use crate::base::listing::Change;

impl fmt::Display for MissReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => formatter.write_str("never built"),
            Self::NewInstruction => formatter.write_str("the instruction is new"),
            Self::Failed => formatter.write_str("it failed in the last build"),
            Self::Forced => formatter.write_str("forced"),
            Self::Evicted => formatter.write_str("its result was evicted from the store"),
            Self::Format => formatter.write_str("the format of keys changed with this version"),
            Self::Instruction { before, after } => changed(formatter, "instruction", before, after),
            Self::Variable { name, before, after } => {
                differs(formatter, &format!("variable {name}"), before.as_ref(), after.as_ref())
            }
            Self::Setting { what, before, after } => changed(formatter, what, before, after),
            Self::Mount { before, after } => differs(formatter, "mount", before.as_ref(), after.as_ref()),
            Self::Base { image, before, after } => {
                formatter.write_str("base image")?;
                image.iter().try_for_each(|image| write!(formatter, " `{image}`"))?;
                write!(formatter, " changed: {before} → {after}")
            }
            Self::Fetched { what, before, after } => {
                write!(formatter, "fetched {what} changed: {} → {}", cut(before), cut(after))
            }
            Self::Files { changes, more } => write_changes(formatter, changes, *more),
            Self::FilesUntold { why } => why.fmt(formatter),
            Self::Parent => formatter.write_str("the step before it changed"),
            Self::Stage => formatter.write_str("a stage that it reads changed"),
            Self::OtherParent { before, after } => match (before, after) {
                (_, None) => formatter.write_str("it starts from nothing now"),
                (None, Some(after)) => write!(formatter, "it starts from `{}` now", cut(after)),
                (Some(before), Some(after)) => {
                    write!(formatter, "it starts from `{}` now, not from `{}`", cut(after), cut(before))
                }
            },
            Self::OtherStage => formatter.write_str("it reads another stage than in the last build"),
        }
    }
}

impl fmt::Display for Untold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ListGone => {
                "copied files changed (which cannot be told: the list of the old ones is not in the store)"
            }
            Self::NoList => "copied files changed (which cannot be told: it copied from elsewhere before)",
            Self::SameFiles => "the same files are copied in another way",
        })
    }
}

/// `WHAT changed` with the value before and after.
fn changed(formatter: &mut fmt::Formatter<'_>, what: &str, before: &str, after: &str) -> fmt::Result {
    let (before, after) = pair(before, after);
    write!(formatter, "{what} changed: `{before}` → `{after}`")
}

/// The same for what may be missing on either side.
fn differs(
    formatter: &mut fmt::Formatter<'_>,
    what: &str,
    before: Option<&String>,
    after: Option<&String>,
) -> fmt::Result {
    match (before, after) {
        (Some(before), Some(after)) => changed(formatter, what, before, after),
        (None, Some(after)) => write!(formatter, "{what} added: `{}`", cut(after)),
        (Some(before), None) => write!(formatter, "{what} removed: it was `{}`", cut(before)),
        (None, None) => write!(formatter, "{what} changed"),
    }
}

/// The first changes by name, the rest as a number.
fn write_changes(formatter: &mut fmt::Formatter<'_>, changes: &[Change], more: usize) -> fmt::Result {
    const SHOWN: usize = 3;
    for (index, change) in changes.iter().take(SHOWN).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(formatter, "{comma}{change}")?;
    }
    match more + changes.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(formatter, " and {more} more"),
    }
}

/// Two texts as they are shown beside each other: where they begin alike for long, the beginning is left
/// out, so that what differs is seen.
fn pair(before: &str, after: &str) -> (String, String) {
    const KEPT: usize = 16;
    let (before, after) = (one_line(before), one_line(after));
    let (short_before, short_after) = (cut(&before), cut(&after));
    if short_before != short_after {
        return (short_before, short_after);
    }
    let same = before.chars().zip(after.chars()).take_while(|(left, right)| left == right).count();
    let rest = |text: &str| {
        let rest: String = text.chars().skip(same.saturating_sub(KEPT)).collect();
        cut(&format!("…{rest}"))
    };
    (rest(&before), rest(&after))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One line of at most sixty characters.
fn cut(text: &str) -> String {
    const LENGTH: usize = 60;
    let line = one_line(text);
    if line.chars().count() <= LENGTH {
        return line;
    }
    line.chars().take(LENGTH - 1).chain(['…']).collect()
}
