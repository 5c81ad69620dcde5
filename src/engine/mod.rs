//! L2: the container engine, behind one trait with plain types.
//!
//! [`Engine`] has one blocking method for each kind of question or action: images (list, inspect, load,
//! save, tag, remove, pull), containers, networks, volumes. The types are our own, so that an engine
//! without a daemon can be a second implementation; nothing above `docker` sees the API's types.
//! [`Docker`] speaks to Docker's API (1.41, Engine 20.10, or newer) over a socket. Nothing here decides
//! what should exist: `up` decides about containers, `build::export` about images.

mod container;
mod docker;
mod endpoint;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod image;
mod resource;
mod session;
mod watch;

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::base::digest::Digest;
use crate::base::event::Events;

pub use container::{
    Attachment, BlkioDevice, BlkioLimits, Container, ContainerSpec, CopyRules, Created, Device,
    DeviceRequest, ExecSpec, Health, Healthcheck, LogChunk, LogOptions, LogStream, Mount, MountKind,
    MountPoint, PathKind, PathStat, PortBinding, Protocol, PublishedPort, Resources, RestartPolicy, State,
    Status, Terminal, Ulimit,
};
pub use docker::{DEFAULT_HOST, Docker};
pub use endpoint::{Endpoint, EndpointSource, TlsFiles};
pub use error::EngineError;
pub use image::{Credentials, Identity, Image, ImageDetails, ImageStore, Loaded};
pub use resource::{IpamPool, Network, NetworkSpec, Volume, VolumeSpec};
pub use session::{AskSize, Closed, DetachKeys, Output, Session, TerminalSize};
pub use watch::{Happening, HappeningOptions, Processes, Usage};

/// The result of every question and action.
pub type Result<T> = std::result::Result<T, EngineError>;

/// Writes an archive into the engine. It is called once, from the caller's thread; an error that it
/// returns ends the transfer, and the engine takes nothing.
pub type WriteArchive<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// Reads an archive that the engine sends. It is called once, from the caller's thread; an error that it
/// returns ends the transfer.
pub type ReadArchive<'a> = dyn FnMut(&mut dyn Read) -> io::Result<()> + 'a;

/// A container engine. Every method blocks and may be called from several threads at once. Containers are
/// named by id or name, images by id or reference. What is not there is `None` where a question asks for
/// it and [`EngineError::NotFound`] where an action needs it.
pub trait Engine: Send + Sync {
    /// Which engine this is, and how it keeps images.
    fn identity(&self) -> Result<Identity>;

    /// Every image with its names, labels and repository digests: one question.
    fn images(&self) -> Result<Vec<Image>>;
    /// One image in full, by id or reference.
    fn image(&self, reference: &str) -> Result<Option<ImageDetails>>;
    /// Gives the engine an archive as `docker load` takes it. Errors that the engine reports inside its
    /// answer's stream are [`EngineError::LoadFailed`], even if its status was 200.
    fn load(&self, archive: &mut WriteArchive<'_>) -> Result<Loaded>;
    /// Writes an archive of the images, as `docker save` does, to `out`.
    fn save(&self, references: &[&str], out: &mut dyn Write) -> Result<()>;
    /// Gives an image (id or reference) a further name, taking it from the image that had it.
    fn tag(&self, image: &str, name: &str) -> Result<()>;
    /// Removes a name, and the image with its last name; by id, the image. False if it was not there.
    /// An image in use is [`EngineError::Refused`] with status 409, unless `force`.
    fn remove_image(&self, reference: &str, force: bool) -> Result<bool>;
    /// Lets the engine pull an image from its registry. Progress goes to `events` as transfers. When
    /// `cancel` is set the engine is told to stop and the result is [`EngineError::Cancelled`].
    fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: Option<&Credentials>,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<()>;

    /// Every container, stopped ones included, that has all these labels (`name` or `name=value`).
    fn containers(&self, labels: &[&str]) -> Result<Vec<Container>>;
    /// The state of one container now.
    fn status(&self, container: &str) -> Result<Option<Status>>;
    /// Where each volume of a container lies: anonymous ones are what a recreation must keep.
    fn mounts(&self, container: &str) -> Result<Vec<MountPoint>>;
    /// Makes a container; it does not run yet. A second network and further ones are connected as part
    /// of this. When anything fails, no container is left.
    fn create(&self, name: &str, spec: &ContainerSpec) -> Result<Created>;
    /// Starts a container; one that runs stays as it is.
    fn start(&self, container: &str) -> Result<()>;
    /// Stops a container with its own signal, killing it after `timeout` (default: its own, else ten
    /// seconds; [`Duration::MAX`]: never). One that does not run, or is gone, stays as it is.
    fn stop(&self, container: &str, timeout: Option<Duration>) -> Result<()>;
    /// Sends a signal (`SIGKILL`, `9`).
    fn kill(&self, container: &str, signal: &str) -> Result<()>;
    /// Removes a container, killing it if it runs and `force`, with its anonymous volumes if `volumes`.
    /// False if it was not there.
    fn remove(&self, container: &str, force: bool, volumes: bool) -> Result<bool>;
    /// Gives a container another name.
    fn rename(&self, container: &str, name: &str) -> Result<()>;
    /// Unpacks a tar archive into a container's file system below the folder `path`, also before it runs.
    fn copy_into(
        &self,
        container: &str,
        path: &str,
        rules: CopyRules,
        archive: &mut WriteArchive<'_>,
    ) -> Result<()>;
    /// Gives `take` a tar archive of what lies at `path` in a container, also when it does not run. Its
    /// members begin with the path's last component. Bytes of an archive are the container's: not to be
    /// trusted.
    fn copy_out(&self, container: &str, path: &str, take: &mut ReadArchive<'_>) -> Result<()>;
    /// What lies at a path of a container, if anything does; a last link is not followed.
    fn stat_path(&self, container: &str, path: &str) -> Result<Option<PathStat>>;
    /// What a container's main process speaks to.
    fn terminal(&self, container: &str) -> Result<Terminal>;
    /// Runs a command in a running container, connected to `session`, to its end or until the user leaves
    /// it. A command that cannot be started has an exit code of 126 or 127, and its output says why.
    fn exec(&self, container: &str, spec: &ExecSpec, session: Session<'_>) -> Result<Closed>;
    /// Connects `session` to a container's main process, to its end or until the user leaves it.
    /// `connected` is called once the streams are connected: whoever starts the container there loses
    /// nothing of its output. A container that is removed when it ends is gone when this returns.
    fn attach(
        &self,
        container: &str,
        session: Session<'_>,
        connected: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Closed>;
    /// Gives `sink` the log of a container as it comes, until it ends (`follow`: until the container
    /// does), `sink` fails or `cancel` is set; the last is not an error.
    fn logs(
        &self,
        container: &str,
        options: &LogOptions,
        sink: &mut dyn FnMut(LogChunk) -> io::Result<()>,
        cancel: &Cancel,
    ) -> Result<()>;
    /// Waits until a container does not run; its exit code, or `None` when `cancel` was set first.
    fn wait(&self, container: &str, cancel: &Cancel) -> Result<Option<i64>>;
    /// Freezes a running container.
    fn pause(&self, container: &str) -> Result<()>;
    /// Lets a frozen container go on.
    fn unpause(&self, container: &str) -> Result<()>;
    /// The processes of a running container.
    fn top(&self, container: &str) -> Result<Processes>;
    /// Gives `sink` what a container uses: once, or with `follow` about every second, until it is removed,
    /// `sink` fails or `cancel` is set; the last is not an error.
    fn stats(
        &self,
        container: &str,
        follow: bool,
        sink: &mut dyn FnMut(Usage) -> io::Result<()>,
        cancel: &Cancel,
    ) -> Result<()>;
    /// Gives `sink` what happens to containers as it comes, until the time that `options` say, `sink` fails
    /// or `cancel` is set; the last is not an error.
    fn happenings(
        &self,
        options: &HappeningOptions,
        sink: &mut dyn FnMut(Happening) -> io::Result<()>,
        cancel: &Cancel,
    ) -> Result<()>;

    /// Every network.
    fn networks(&self) -> Result<Vec<Network>>;
    /// Makes a network; its id.
    fn create_network(&self, spec: &NetworkSpec) -> Result<String>;
    /// Removes a network, by id or name. False if it was not there.
    fn remove_network(&self, network: &str) -> Result<bool>;
    /// Connects a container, running or not, to a network.
    fn connect(&self, network: &str, container: &str, attachment: &Attachment) -> Result<()>;
    /// Takes a container off a network.
    fn disconnect(&self, network: &str, container: &str) -> Result<()>;

    /// Every volume.
    fn volumes(&self) -> Result<Vec<Volume>>;
    /// Makes a volume; one of that name that exists is kept by the engine.
    fn create_volume(&self, spec: &VolumeSpec) -> Result<()>;
    /// Removes a volume. False if it was not there.
    fn remove_volume(&self, name: &str) -> Result<bool>;
}

/// The text form of an image's id: what [`Engine`] methods take.
pub fn image_id(id: &Digest) -> String {
    id.to_string()
}
