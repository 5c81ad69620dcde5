//! The typed project: what the files mean once everything is merged, checked and resolved.
//!
//! `load` makes it, `graph` and `up` read it, `print` writes it. The serde form of every type here *is*
//! the form in which `config` prints it, so that what is printed can be loaded again and means the same.
//! Every map is ordered by key: two loads of the same files are equal and print equally. What compose
//! leaves out when it is empty is `None`, empty or `false` here. Nothing in this folder reads files or
//! decides anything.

mod build;
mod deploy;
mod resource;
mod service;
mod spans;
mod storage;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use build::{Build, SecretUse, Trigger, Watch, WatchAction};
pub use deploy::{
    Deploy, DeployRestart, DeviceRequest, DeviceReservation, GenericResource, Limits, Placement,
    PlacementPreference, Reservations, Resources, RollingUpdate,
};
pub use resource::{Config, Ipam, IpamPool, Model, Network, Secret, Volume};
pub use service::{
    Blkio, CredentialSpec, Dependency, DependencyCondition, EnvFile, Extends, Healthcheck, Hook, Logging,
    ModelUse, NetworkUse, Port, Provider, Service, ThrottleDevice, Ulimit, WeightDevice,
};
pub use spans::Spans;
pub(super) use spans::{Inner, Place};
pub use storage::{
    BindOptions, Device, FileUse, ImageOptions, Mount, MountKind, TmpfsOptions, VolumeOptions,
};
pub use values::{ByteSize, Cpus, FileMode, Interval};

/// What the keys that begin with `x-` hold, by key.
pub type Extensions = BTreeMap<String, Value>;

/// A whole project: its services and everything that they refer to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Project {
    /// Lower-case letters, digits, `_` and `-`, beginning with a letter or digit.
    pub name: String,
    /// The services that take part: those without profiles, those of active profiles, those named.
    pub services: BTreeMap<String, Service>,
    /// The networks that services use; `default` only when one does.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, Network>,
    /// The named volumes that services use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Volume>,
    /// The configs that services use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, Config>,
    /// The secrets that services or builds use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// The language models that services use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, Model>,
    /// Whether `_` stands between the parts of made-up names, as with Docker Compose 1, instead of `-`.
    #[serde(skip)]
    pub underscores: bool,
    /// Top-level `x-*` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
    /// The services left out because none of their profiles is active.
    #[serde(skip)]
    pub disabled: BTreeMap<String, Service>,
    /// The absolute folder against which relative paths were resolved.
    #[serde(skip)]
    pub working_dir: PathBuf,
    /// The files that were given (not the included ones), absolute, in order.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
    /// The variables that interpolation saw: the caller's over those of the env files.
    #[serde(skip)]
    pub environment: BTreeMap<String, String>,
    /// Where each key stands in the user's files.
    #[serde(skip)]
    pub spans: Spans,
}

impl Project {
    /// Leaves out all services but `services`, and the resources that only others use.
    pub fn keep(&mut self, services: &[String]) {
        self.services.retain(|name, _| services.contains(name));
        super::resolve::unused(self, false);
    }

    /// What stands between the parts of made-up names.
    pub const fn separator(&self) -> char {
        if self.underscores { '_' } else { '-' }
    }

    /// The image that a service runs: its `image`, or the name that its build gets, `PROJECT-SERVICE`.
    pub fn image_of(&self, service: &str) -> Option<String> {
        let found = self.services.get(service)?;
        Some(found.image.clone().unwrap_or_else(|| format!("{}{}{service}", self.name, self.separator())))
    }
}

/// Whether a plain switch is off, for leaving it out of what is printed.
fn is_false(value: &bool) -> bool {
    !*value
}
