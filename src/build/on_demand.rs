//! A sandbox that is made when the first step needs it: a build in which nothing runs writes nothing.
//!
//! Its short-lived files lie in a staging folder of the store, which is locked while this process lives
//! and swept by a later run if it dies.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::cancel::Cancel;
use crate::base::fs::{PathError, RootDir};
use crate::sandbox::{Exit, Isolated, Layers, RunSpec, Sandbox, SandboxError};
use crate::store::{Staging, Store};

/// The real sandbox, made on first use. Needs root then.
pub struct OnDemand<'s> {
    store: &'s Store,
    made: Mutex<Option<Arc<Made>>>,
}

/// The sandbox goes before the folder in which it lies.
struct Made {
    sandbox: Isolated,
    _staging: Staging,
}

impl<'s> OnDemand<'s> {
    /// A sandbox whose scratch folder will lie in `store`.
    pub const fn new(store: &'s Store) -> Self {
        Self { store, made: Mutex::new(None) }
    }

    fn made(&self) -> Result<Arc<Made>, SandboxError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*made {
            return Ok(Arc::clone(made));
        }
        let failed = |error: crate::store::StoreError| {
            PathError::new("stage in", self.store.root(), std::io::Error::other(error.to_string()))
        };
        let staging = self.store.stage().map_err(failed)?;
        let sandbox = Isolated::new(staging.path())?;
        Ok(Arc::clone(made.insert(Arc::new(Made { sandbox, _staging: staging }))))
    }
}

impl Sandbox for OnDemand<'_> {
    fn run(
        &self,
        spec: &RunSpec,
        output: &mut (dyn Write + Send),
        cancel: &Cancel,
    ) -> Result<Exit, SandboxError> {
        self.made()?.sandbox.run(spec, output, cancel)
    }

    fn prepare(&self, commands: usize) {
        if let Ok(made) = self.made() {
            made.sandbox.prepare(commands);
        }
    }

    fn rest(&self) {
        drop(self.made.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn root(&self, layers: &Layers) -> Result<RootDir, SandboxError> {
        self.made()?.sandbox.root(layers)
    }

    fn finish(&self, layers: &Layers) -> Result<(), SandboxError> {
        self.made()?.sandbox.finish(layers)
    }
}
