//! The registry client, made when the first question comes: a build that asks none starts no thread.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::oci::{OciError, Registry, RegistryOptions};

/// All registries, on demand.
pub struct Registries {
    options: RegistryOptions,
    made: OnceLock<Registry>,
    making: Mutex<()>,
}

impl Registries {
    /// Will speak to registries as `options` say.
    pub const fn new(options: RegistryOptions) -> Self {
        Self { options, made: OnceLock::new(), making: Mutex::new(()) }
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
