//! A sandbox that is made when the first step needs it: a build in which nothing runs writes nothing.
//!
//! Its short-lived files lie in a staging folder of the store, which is locked while this process lives
//! and swept by a later run if it dies.

use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::base::cancel::Cancel;
use crate::base::fs::{PathError, RootDir};
use crate::sandbox::{Exit, Isolated, Layers, RunSpec, Sandbox, SandboxError};
use crate::store::{Staging, Store};

/// The real sandbox, made on first use. Needs root then.
pub struct OnDemand<'s> {
    store: &'s Store,
    made: OnceLock<(Isolated, Staging)>,
    making: Mutex<()>,
}

impl<'s> OnDemand<'s> {
    /// A sandbox whose scratch folder will lie in `store`.
    pub const fn new(store: &'s Store) -> Self {
        Self { store, made: OnceLock::new(), making: Mutex::new(()) }
    }

    fn sandbox(&self) -> Result<&Isolated, SandboxError> {
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((sandbox, _)) = self.made.get() {
            return Ok(sandbox);
        }
        let failed = |error: crate::store::StoreError| {
            PathError::new("stage in", self.store.root(), std::io::Error::other(error.to_string()))
        };
        let staging = self.store.stage().map_err(failed)?;
        let sandbox = Isolated::new(staging.path())?;
        Ok(&self.made.get_or_init(|| (sandbox, staging)).0)
    }
}

impl Sandbox for OnDemand<'_> {
    fn run(
        &self,
        spec: &RunSpec,
        output: &mut (dyn Write + Send),
        cancel: &Cancel,
    ) -> Result<Exit, SandboxError> {
        self.sandbox()?.run(spec, output, cancel)
    }

    fn prepare(&self) {
        if let Ok(sandbox) = self.sandbox() {
            sandbox.prepare();
        }
    }

    fn root(&self, layers: &Layers) -> Result<RootDir, SandboxError> {
        self.sandbox()?.root(layers)
    }

    fn finish(&self, layers: &Layers) -> Result<(), SandboxError> {
        self.sandbox()?.finish(layers)
    }
}
