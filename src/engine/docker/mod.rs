//! Docker's API over a socket, behind [`Engine`]: the only code that knows bollard.
//!
//! A method blocks its caller while a small runtime of its own drives the connection. Requests carry no
//! API version, so that every engine from 20.10 on answers with what it knows; fields that it does not
//! know stay empty. Each file here turns one group of API types into ours and back: [`images`],
//! [`containers`], [`create`] (the long table of what a container is made of), [`resources`], [`streams`],
//! [`files`] (archives into and out of containers), [`sessions`] (over connections of their own, [`raw`]),
//! [`watch`]. [`connect`] opens connections, [`transport`] those that the API's library does not make.
//! Nothing here decides, retries or remembers.

mod connect;
mod containers;
mod create;
mod files;
mod images;
mod least;
mod raw;
mod resources;
mod sessions;
mod ssh;
mod streams;
mod tls;
mod transport;
mod watch;

use std::future::Future;
use std::io::{self, Write};
use std::time::Duration;

use bollard::errors::Error as ApiError;
use tokio::runtime::Runtime;

use crate::base::cancel::Cancel;
use crate::base::event::Events;

use super::{
    Attachment, Closed, Container, ContainerSpec, CopyRules, Created, Credentials, Endpoint, Engine,
    EngineError, ExecSpec, Happening, HappeningOptions, Identity, Image, ImageDetails, Loaded, LogChunk,
    LogOptions, MountPoint, Network, NetworkSpec, PathStat, Processes, ReadArchive, Result, Session, Status,
    Terminal, Usage, Volume, VolumeSpec, WriteArchive,
};

pub use connect::DEFAULT_HOST;

/// A connection to a Docker Engine.
pub struct Docker {
    runtime: Runtime,
    api: bollard::Docker,
    raw: raw::Raw,
    host: String,
}

impl Docker {
    /// How many things it may be asked to do at once. They are its work and mostly waiting: a container has
    /// ten seconds to stop. Behind ssh each is a login, of which sshd drops some beyond ten (`MaxStartups`).
    pub fn at_once(&self) -> usize {
        if self.host.starts_with("ssh://") { 8 } else { 64 }
    }

    /// Reaches an engine. For a plain socket it only opens and closes a connection; over TLS and ssh it
    /// asks whether anybody answers, because nothing less would show what is wrong.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        let connect::Opened { api, raw, untried } = connect::open(endpoint)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("engine")
            .enable_all()
            .build()
            .map_err(EngineError::Runtime)?;
        let docker = Self { runtime, api, raw, host: endpoint.host.clone() };
        if untried {
            let answered = docker.runtime.block_on(docker.api.ping());
            answered.map_err(|error| connect::not_answering(endpoint, &root(&error)))?;
        }
        Ok(docker)
    }

    /// The address that it was reached at.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Waits for the answer to a question; `action` says in the error what was wanted.
    fn ask<T>(
        &self,
        action: impl FnOnce() -> String,
        question: impl Future<Output = std::result::Result<T, ApiError>>,
    ) -> Result<T> {
        self.runtime.block_on(question).map_err(|error| failed(action(), error))
    }
}

/// The engine's or the connection's error in our words.
fn failed(action: String, error: ApiError) -> EngineError {
    match error {
        ApiError::DockerResponseServerError { status_code: 404, message } => {
            EngineError::NotFound { action, message: message.trim().to_owned() }
        }
        ApiError::DockerResponseServerError { status_code, message } => {
            EngineError::Refused { action, status: status_code, message: message.trim().to_owned() }
        }
        ApiError::DockerStreamError { error } => EngineError::Refused { action, status: 500, message: error },
        other => EngineError::Broken { action, message: chain(&other) },
    }
}

/// An error with everything that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What lies at the bottom of an error.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What is not there is `None`.
fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(EngineError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there was something to do.
fn existed(result: Result<()>) -> Result<bool> {
    optional(result).map(|found| found.is_some())
}

impl Engine for Docker {
    fn identity(&self) -> Result<Identity> {
        images::identity(self)
    }

    fn images(&self) -> Result<Vec<Image>> {
        images::list(self)
    }

    fn image(&self, reference: &str) -> Result<Option<ImageDetails>> {
        images::inspect(self, reference)
    }

    fn load(&self, archive: &mut WriteArchive<'_>) -> Result<Loaded> {
        streams::load(self, archive)
    }

    fn save(&self, references: &[&str], out: &mut dyn Write) -> Result<()> {
        streams::save(self, references, out)
    }

    fn tag(&self, image: &str, name: &str) -> Result<()> {
        images::tag(self, image, name)
    }

    fn remove_image(&self, reference: &str, force: bool) -> Result<bool> {
        images::remove(self, reference, force)
    }

    fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: Option<&Credentials>,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<()> {
        streams::pull(self, reference, platform, credentials, events, cancel)
    }

    fn containers(&self, labels: &[&str]) -> Result<Vec<Container>> {
        containers::list(self, labels)
    }

    fn status(&self, container: &str) -> Result<Option<Status>> {
        containers::status(self, container)
    }

    fn mounts(&self, container: &str) -> Result<Vec<MountPoint>> {
        containers::mounts(self, container)
    }

    fn create(&self, name: &str, spec: &ContainerSpec) -> Result<Created> {
        least::container(self, name, spec)?;
        create::create(self, name, spec)
    }

    fn start(&self, container: &str) -> Result<()> {
        containers::start(self, container)
    }

    fn stop(&self, container: &str, timeout: Option<Duration>) -> Result<()> {
        containers::stop(self, container, timeout)
    }

    fn kill(&self, container: &str, signal: &str) -> Result<()> {
        containers::kill(self, container, signal)
    }

    fn remove(&self, container: &str, force: bool, volumes: bool) -> Result<bool> {
        containers::remove(self, container, force, volumes)
    }

    fn rename(&self, container: &str, name: &str) -> Result<()> {
        containers::rename(self, container, name)
    }

    fn copy_into(
        &self,
        container: &str,
        path: &str,
        rules: CopyRules,
        archive: &mut WriteArchive<'_>,
    ) -> Result<()> {
        files::copy_into(self, container, path, rules, archive)
    }

    fn copy_out(&self, container: &str, path: &str, take: &mut ReadArchive<'_>) -> Result<()> {
        files::copy_out(self, container, path, take)
    }

    fn stat_path(&self, container: &str, path: &str) -> Result<Option<PathStat>> {
        files::stat(self, container, path)
    }

    fn terminal(&self, container: &str) -> Result<Terminal> {
        containers::terminal(self, container)
    }

    fn exec(&self, container: &str, spec: &ExecSpec, session: Session<'_>) -> Result<Closed> {
        sessions::exec(self, container, spec, session)
    }

    fn attach(
        &self,
        container: &str,
        session: Session<'_>,
        connected: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Closed> {
        sessions::attach(self, container, session, connected)
    }

    fn logs(
        &self,
        container: &str,
        options: &LogOptions,
        sink: &mut dyn FnMut(LogChunk) -> io::Result<()>,
        cancel: &Cancel,
    ) -> Result<()> {
        streams::logs(self, container, options, sink, cancel)
    }

    fn wait(&self, container: &str, cancel: &Cancel) -> Result<Option<i64>> {
        streams::wait(self, container, cancel)
    }

    fn pause(&self, container: &str) -> Result<()> {
        watch::pause(self, container)
    }

    fn unpause(&self, container: &str) -> Result<()> {
        watch::unpause(self, container)
    }

    fn top(&self, container: &str) -> Result<Processes> {
        watch::top(self, container)
    }

    fn stats(
        &self,
        container: &str,
        follow: bool,
        sink: &mut dyn FnMut(Usage) -> io::Result<()>,
        cancel: &Cancel,
    ) -> Result<()> {
        watch::stats(self, container, follow, sink, cancel)
    }

    fn happenings(
        &self,
        options: &HappeningOptions,
        sink: &mut dyn FnMut(Happening) -> io::Result<()>,
        cancel: &Cancel,
    ) -> Result<()> {
        watch::happenings(self, options, sink, cancel)
    }

    fn networks(&self) -> Result<Vec<Network>> {
        resources::networks(self)
    }

    fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        least::network(self, spec)?;
        resources::create_network(self, spec)
    }

    fn remove_network(&self, network: &str) -> Result<bool> {
        resources::remove_network(self, network)
    }

    fn connect(&self, network: &str, container: &str, attachment: &Attachment) -> Result<()> {
        resources::connect(self, network, container, attachment)
    }

    fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        resources::disconnect(self, network, container)
    }

    fn volumes(&self) -> Result<Vec<Volume>> {
        resources::volumes(self)
    }

    fn create_volume(&self, spec: &VolumeSpec) -> Result<()> {
        resources::create_volume(self, spec)
    }

    fn remove_volume(&self, name: &str) -> Result<bool> {
        resources::remove_volume(self, name)
    }
}
