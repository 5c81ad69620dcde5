//! The commands: each reads its flags, calls the layers below, and gives the screen what they return.

mod cache;
mod version;

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::store::Store;

use super::failure::Failure;
use super::render::Screen;
use super::settings::Settings;

pub(super) use cache::{cache_du, cache_prune};
pub(super) use version::version;

/// What a command ends with.
type Ended = Result<ExitCode, Failure>;

/// What every command is given.
pub(super) struct Context<'a> {
    /// Flags and variables.
    pub(super) settings: Settings,
    #[expect(dead_code, reason = "read by commands that are being wired")]
    /// The environment, the project's `.env` under the process's.
    pub(super) environment: BTreeMap<String, String>,
    /// Where text goes.
    pub(super) screen: &'a Screen,
}

impl Context<'_> {
    /// The store of results.
    fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.settings.store)?)
    }
}
