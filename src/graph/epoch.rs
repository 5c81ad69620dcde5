//! `SOURCE_DATE_EPOCH`: the time that an image says it was made at (reproducible-builds.org).
//!
//! The build argument decides, else the default of a global ARG of that name. It is no part of any step's
//! key: it acts when configs and layers are written.

use serde::{Deserialize, Serialize};

use super::lower::Lowering;
use crate::base::diag::Diagnostic;
use crate::oci::Times;

/// The argument's name.
pub(super) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The time that an image says it was made at, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Epoch {
    /// No file in its layers is younger (what BuildKit calls `rewrite-timestamp`).
    Latest(i64),
    /// Every file in its layers has it: when a file was written before the commit that tracks it differs from
    /// machine to machine.
    Everywhere {
        /// The time.
        everywhere: i64,
    },
}

impl Epoch {
    /// The time.
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Latest(seconds) | Self::Everywhere { everywhere: seconds } => seconds,
        }
    }

    /// The times in layers.
    pub const fn times(self) -> Times {
        match self {
            Self::Latest(seconds) => Times::NoLater(seconds),
            Self::Everywhere { everywhere } => Times::All(everywhere),
        }
    }
}

impl Lowering<'_> {
    /// The epoch of a request; anything but a number is a mistake.
    pub(super) fn epoch(&mut self, index: usize) -> Option<Epoch> {
        let (source, globals) = (self.source(index), self.globals(index));
        let given = source.request.arguments.get(SOURCE_DATE_EPOCH);
        let text = given.or_else(|| globals.get(SOURCE_DATE_EPOCH)).filter(|text| !text.is_empty())?;
        if let Ok(seconds) = text.parse() {
            let everywhere = source.request.timestamp;
            return Some(if everywhere {
                Epoch::Everywhere { everywhere: seconds }
            } else {
                Epoch::Latest(seconds)
            });
        }
        let mut stages = source.dockerfile.stages.iter().filter_map(|stage| stage.name.as_ref());
        let known = text == "context" || stages.any(|stage| stage.text.eq_ignore_ascii_case(text));
        let message = match known {
            true => format!("not supported yet: {SOURCE_DATE_EPOCH} from `{text}`"),
            false => format!("{SOURCE_DATE_EPOCH} must be a number of seconds, not `{text}`"),
        };
        let service = &source.request.service;
        let mistake = Diagnostic::error(format!("{service}: {message}"));
        let named = source.dockerfile.global_args().find(|(name, _)| name.text == SOURCE_DATE_EPOCH);
        let place = match named {
            Some((name, _)) if given.is_none() => Some(name.span.clone()),
            _ => source.request.span.clone(),
        };
        self.mistake(match place {
            Some(span) => mistake.at(span, ""),
            None => mistake,
        });
        None
    }
}
