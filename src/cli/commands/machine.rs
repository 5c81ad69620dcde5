//! What a build works with: the engine, the limits, and what the host gives a RUN.

use std::collections::BTreeSet;
use std::path::Path;

use crate::base::cancel::Cancel;
use crate::base::event::{Event, Events};
use crate::base::fs::AtPath;
use crate::build::{Builder, OnDemand, Options, Registries};
use crate::cli::args::EngineChoice;
use crate::cli::endpoint;
use crate::cli::failure::Failure;
use crate::engine::{Docker, Endpoint, EndpointSource, Engine, EngineError};
use crate::oci::{Credentials, RegistryOptions};
use crate::sandbox::Sandbox;
use crate::store::Store;

use super::Context;
use super::supply::Supply;

impl Context<'_> {
    /// The engine that gets the images: none with `--engine none`, and none where the user named no engine
    /// and none is there.
    pub(super) fn engine(&self) -> Result<Option<Docker>, Failure> {
        if self.settings.engine == EngineChoice::None {
            return Ok(None);
        }
        let endpoint = self.endpoint()?;
        match (self.settings.engine, Docker::connect(&endpoint)) {
            (_, Ok(engine)) => Ok(Some(engine)),
            (EngineChoice::Auto, Err(EngineError::NotReachable { .. }))
                if endpoint.source == EndpointSource::Usual =>
            {
                let host = &endpoint.host;
                let text = format!("no container engine answers at {host}: images stay in the store");
                self.screen.emit(Event::Notice(text));
                Ok(None)
            }
            (_, Err(error)) => Err(error.into()),
        }
    }

    /// The engine, for commands that are nothing without one.
    pub(super) fn needed_engine(&self) -> Result<Docker, Failure> {
        if self.settings.engine == EngineChoice::None {
            return Err(Failure::Usage(
                "this command needs a container engine\nhelp: leave out --engine none".to_owned(),
            ));
        }
        Ok(Docker::connect(&self.endpoint()?)?)
    }

    /// The registries with the user's credentials; none with `--offline`.
    pub(super) fn registries(&self) -> Option<Registries> {
        (!self.settings.offline).then(|| Registries::new(self.registry_options()))
    }

    /// How registries are spoken to: with the user's credentials.
    pub(super) fn registry_options(&self) -> RegistryOptions {
        let credentials = self.settings.docker_config.as_deref().map(Credentials::from_folder);
        RegistryOptions {
            credentials: credentials.unwrap_or_default(),
            certificates: self.settings.certificates.clone(),
            insecure: self.settings.insecure_registries.clone(),
            ..RegistryOptions::default()
        }
    }

    /// Refuses to go on for anybody but root: steps cannot be isolated then, nor files given their owners.
    pub(super) fn needs_root(&self) -> Result<(), Failure> {
        if rustix::process::geteuid().is_root() {
            return Ok(());
        }
        Err(Failure::Usage(
            "not supported yet: building as another user than root\nhelp: run it as root or with sudo"
                .to_owned(),
        ))
    }

    /// How many steps run at once.
    pub(super) fn parallel(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.settings.parallel.unwrap_or_else(cores)
    }

    /// How many things the engine is asked to do at once.
    pub(super) fn actions(&self, engine: &Docker) -> usize {
        self.settings.parallel.unwrap_or_else(|| engine.at_once())
    }

    /// Calls `with` with a builder for the project of `supply`.
    pub(super) fn with_builder<T>(
        &self,
        supply: &Supply<'_>,
        with: impl FnOnce(&Builder<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let sandbox = OnDemand::new(supply.store);
        let registries = self.registries();
        let parts = Parts {
            store: supply.store,
            sandbox: &sandbox,
            engine: Some(supply.engine),
            registries: registries.as_ref(),
            cancel: supply.cancel,
        };
        with(&self.builder(&parts, &supply.project.name, &supply.project.working_dir)?)
    }

    /// Where the engine is.
    pub(super) fn endpoint(&self) -> Result<Endpoint, Failure> {
        let config = self.settings.docker_config.as_deref();
        endpoint::endpoint(&self.settings.engine_variables, config).map_err(Failure::Usage)
    }

    /// The engine's address.
    pub(super) fn engine_name(&self) -> String {
        self.endpoint().unwrap_or_else(|_| endpoint::usual()).host
    }

    /// A builder for the project of this name; `directory` is what paths are shown against.
    pub(super) fn builder<'b>(
        &'b self,
        parts: &'b Parts<'b>,
        project: &str,
        directory: &Path,
    ) -> Result<Builder<'b>, Failure> {
        Ok(Builder {
            store: parts.store,
            sandbox: parts.sandbox,
            engine: parts.engine.map(|engine| engine as &dyn Engine),
            registries: parts.registries,
            events: self.screen,
            cancel: parts.cancel,
            options: Options {
                project: project.to_owned(),
                directory: directory.to_owned(),
                parallel: self.parallel(),
                no_cache: false,
                pull: false,
                silent_hits: false,
                resolv_conf: resolv_conf()?,
                engine_name: self.engine_name(),
                hand_over: true,
                only_pushed: BTreeSet::new(),
                lost: BTreeSet::new(),
            },
        })
    }
}

/// What a builder borrows.
pub(super) struct Parts<'p> {
    pub(super) store: &'p Store,
    pub(super) sandbox: &'p dyn Sandbox,
    pub(super) engine: Option<&'p Docker>,
    pub(super) registries: Option<&'p Registries>,
    pub(super) cancel: &'p Cancel,
}

/// The host's resolver configuration; a host without one has none to give.
fn resolv_conf() -> Result<Vec<u8>, Failure> {
    let path = Path::new("/etc/resolv.conf");
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => Ok(read.at_path("read", path)?),
    }
}
