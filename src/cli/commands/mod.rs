//! The commands: each reads its flags, calls the layers below, and gives the screen what they return.

mod attach;
mod build;
mod build_context;
mod build_flags;
mod cache;
mod cache_usage;
mod call;
mod config;
mod cp;
mod delivery;
mod down;
mod events;
mod exec;
mod image;
mod image_archive;
mod lifecycle;
mod logs;
mod ls;
mod machine;
mod plan;
mod port;
mod project;
mod ps;
mod pull;
mod push;
mod run;
mod session;
mod stats;
mod supply;
mod timestamp;
mod top;
mod up;
mod used_images;
mod version;
mod volumes;
mod wait;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::store::Store;

use super::args::Global;
use super::failure::Failure;
use super::render::Screen;
use super::settings::Settings;

pub(super) use attach::attach;
pub(super) use build::{build_services, image_build};
pub(super) use cache::{cache_du, cache_prune, cache_verify};
pub(super) use config::config;
pub(super) use cp::cp;
pub(super) use down::down;
pub(super) use events::events;
pub(super) use exec::exec;
pub(super) use image::{image_import, image_ls};
pub(super) use image_archive::{image_inspect, image_load, image_rm, image_save};
pub(super) use lifecycle::{kill, pause, restart, rm, start, stop, unpause};
pub(super) use logs::logs;
pub(super) use ls::ls;
pub(super) use plan::{plan, why};
pub(super) use port::port;
pub(super) use ps::ps;
pub(super) use pull::pull;
pub(super) use push::push;
pub(super) use run::run;
pub(super) use stats::stats;
pub(super) use top::top;
pub(super) use up::{create, scale, up};
pub(super) use used_images::images;
pub(super) use version::{completion, manual, version};
pub(super) use volumes::volumes;
pub(super) use wait::wait;

/// What a command ends with.
type Ended = Result<ExitCode, Failure>;

/// What every command is given.
pub(super) struct Context<'a> {
    /// The flags before the command's name.
    pub(super) global: Global,
    /// Flags and variables, resolved.
    pub(super) settings: Settings,
    /// The process's environment.
    pub(super) environment: BTreeMap<String, String>,
    /// The absolute folder in which the caller stands.
    pub(super) folder: PathBuf,
    /// Where text goes.
    pub(super) screen: &'a Screen,
}

impl Context<'_> {
    /// The store of results.
    fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.settings.store)?)
    }

    /// Keeps a timeline of the command for `--trace`, if that is given.
    fn trace(&self, file: Option<&PathBuf>) -> Result<(), Failure> {
        Ok(file.map_or(Ok(()), |file| self.screen.trace_into(&self.absolute(file)))?)
    }

    /// A path as the user wrote it, absolute.
    fn absolute(&self, path: &std::path::Path) -> PathBuf {
        self.folder.join(path)
    }
}
