//! The registry client, made when the first question comes: a build that asks none starts no thread.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::oci::{OciError, Registry, RegistryOptions};
use crate::remote::{Http, RemoteError};

/// All registries and web servers, on demand.
pub struct Registries {
    options: RegistryOptions,
    made: OnceLock<Registry>,
    making: Mutex<()>,
    http: OnceLock<Http>,
}

impl Registries {
    /// Will speak to registries as `options` say.
    pub const fn new(options: RegistryOptions) -> Self {
        Self { options, made: OnceLock::new(), making: Mutex::new(()), http: OnceLock::new() }
    }

    /// Web servers.
    pub(super) fn http(&self) -> Result<&Http, RemoteError> {
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let http = Http::new()?;
        Ok(self.http.get_or_init(|| http))
    }

    pub(super) fn get(&self) -> Result<&Registry, OciError> {
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = self.made.get() {
            return Ok(registry);
        }
        let registry = Registry::new(self.options.clone())?;
        Ok(self.made.get_or_init(|| registry))
    }
}
