//! An engine in memory for tests: it keeps containers, networks and volumes, writes down what it was
//! asked to do, and refuses what it was told to refuse. Images are only names with ids.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::base::digest::Digest;
use crate::base::event::Events;

use super::{
    Attachment, Closed, Container, ContainerSpec, CopyRules, Created, Credentials, Engine, EngineError,
    ExecSpec, Happening, HappeningOptions, Identity, Image, ImageDetails, ImageStore, Loaded, LogChunk,
    LogOptions, LogStream, MountPoint, Network, NetworkSpec, PathStat, Processes, ReadArchive, Result,
    Session, State, Status, Terminal, Usage, Volume, VolumeSpec, WriteArchive,
};

/// An engine in memory.
#[derive(Default)]
pub(crate) struct Fake {
    state: Mutex<Things>,
}

#[derive(Default)]
struct Things {
    next: u64,
    containers: Vec<Container>,
    networks: Vec<Network>,
    volumes: Vec<Volume>,
    statuses: BTreeMap<String, Status>,
    logs: BTreeMap<String, Vec<LogChunk>>,
    /// So many pieces of each log are given to those who follow it; all of them if it is not set.
    followed: Option<usize>,
    happenings: Vec<Happening>,
    refused: BTreeMap<String, String>,
    done: Vec<String>,
}

impl Fake {
    /// Refuses an action (`start p-web-1`) with a message from now on.
    pub(crate) fn refuse(&self, action: &str, message: &str) {
        self.lock().refused.insert(action.to_owned(), message.to_owned());
    }

    /// What it was asked to do so far, in order.
    pub(crate) fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().done)
    }

    /// Name and state of every container.
    pub(crate) fn names(&self) -> Vec<(String, State)> {
        self.lock().containers.iter().map(|one| (one.name.clone(), one.state)).collect()
    }

    /// What `status` answers for the container of a name.
    pub(crate) fn set_status(&self, name: &str, status: Status) {
        self.lock().statuses.insert(name.to_owned(), status);
    }

    /// What the log of the container of a name holds.
    pub(crate) fn set_log(&self, name: &str, lines: &[&str]) {
        let chunk =
            |line: &&str| LogChunk { stream: LogStream::Stdout, bytes: format!("{line}\n").into_bytes() };
        self.lock().logs.insert(name.to_owned(), lines.iter().map(chunk).collect());
    }

    /// How many pieces of a log those get who follow it.
    pub(crate) fn cut_followed_logs(&self, pieces: usize) {
        self.lock().followed = Some(pieces);
    }

    /// What a stream of events gives at once, before it goes on silently.
    pub(crate) fn set_happenings(&self, happenings: Vec<Happening>) {
        self.lock().happenings = happenings;
    }

    fn lock(&self) -> MutexGuard<'_, Things> {
        self.state.lock().unwrap()
    }

    /// Does something to a container by id or name, and writes it down under its name.
    fn on<T>(&self, verb: &str, container: &str, act: impl FnOnce(&mut Container) -> T) -> Result<T> {
        let mut state = self.lock();
        let found = state.containers.iter().position(|one| one.id == container || one.name == container);
        let Some(found) = found else {
            let action = format!("{verb} {container}");
            return Err(EngineError::NotFound { action, message: "No such container".to_owned() });
        };
        let action = format!("{verb} {}", state.containers[found].name);
        state.done(action)?;
        Ok(act(&mut state.containers[found]))
    }
}

impl Things {
    fn done(&mut self, action: String) -> Result<()> {
        if let Some(message) = self.refused.get(&action) {
            return Err(EngineError::Refused { action, status: 500, message: message.clone() });
        }
        self.done.push(action);
        Ok(())
    }

    fn id(&mut self) -> String {
        self.next += 1;
        format!("{:064x}", self.next)
    }
}

impl Engine for Fake {
    fn identity(&self) -> Result<Identity> {
        Ok(Identity {
            id: "fake".to_owned(),
            store: ImageStore::Graph,
            driver: "overlay2".to_owned(),
            version: "1".to_owned(),
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
        })
    }

    fn images(&self) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }

    fn image(&self, reference: &str) -> Result<Option<ImageDetails>> {
        Ok(Some(ImageDetails {
            id: Digest::of(reference),
            tags: vec![reference.to_owned()],
            repo_digests: Vec::new(),
            diff_ids: Vec::new(),
            created: None,
            tagged: None,
            author: None,
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            variant: None,
            config: serde_json::json!({}),
            size: 0,
        }))
    }

    fn load(&self, archive: &mut WriteArchive<'_>) -> Result<Loaded> {
        archive(&mut io::sink())
            .map_err(|source| EngineError::Transfer { action: "load".to_owned(), source })?;
        self.lock().done("load".to_owned())?;
        Ok(Loaded::default())
    }

    fn save(&self, references: &[&str], _out: &mut dyn Write) -> Result<()> {
        self.lock().done(format!("save {}", references.join(" ")))
    }

    fn tag(&self, image: &str, name: &str) -> Result<()> {
        self.lock().done(format!("tag {image} {name}"))
    }

    fn remove_image(&self, reference: &str, _force: bool) -> Result<bool> {
        self.lock().done(format!("remove image {reference}")).map(|()| true)
    }

    fn pull(
        &self,
        reference: &str,
        _platform: Option<&str>,
        _credentials: Option<&Credentials>,
        _events: &dyn Events,
        _cancel: &Cancel,
    ) -> Result<()> {
        self.lock().done(format!("pull {reference}"))
    }

    fn containers(&self, labels: &[&str]) -> Result<Vec<Container>> {
        let has = |container: &Container, label: &str| match label.split_once('=') {
            Some((name, value)) => container.labels.get(name).is_some_and(|found| found == value),
            None => container.labels.contains_key(label),
        };
        let containers = &self.lock().containers;
        Ok(containers.iter().filter(|one| labels.iter().all(|label| has(one, label))).cloned().collect())
    }

    fn status(&self, container: &str) -> Result<Option<Status>> {
        let state = self.lock();
        let found = state.containers.iter().find(|one| one.id == container || one.name == container);
        Ok(found.map(|found| {
            let plain = Status {
                state: found.state,
                exit_code: 0,
                health: None,
                health_output: None,
                error: None,
                started: None,
            };
            state.statuses.get(&found.name).cloned().unwrap_or(plain)
        }))
    }

    fn mounts(&self, container: &str) -> Result<Vec<MountPoint>> {
        let state = self.lock();
        let found = state.containers.iter().find(|one| one.id == container || one.name == container);
        Ok(found.map(|found| found.mounts.clone()).unwrap_or_default())
    }

    fn create(&self, name: &str, spec: &ContainerSpec) -> Result<Created> {
        let mut state = self.lock();
        state.done(format!("create {name}"))?;
        let id = state.id();
        let network = |attachment: &Attachment| {
            let found = state.networks.iter().find(|network| network.name == attachment.network);
            (attachment.network.clone(), found.map(|network| network.id.clone()).unwrap_or_default())
        };
        let container = Container {
            id: id.clone(),
            name: name.to_owned(),
            image: spec.image.clone(),
            image_id: Some(Digest::of(&spec.image)),
            command: String::new(),
            created: 0,
            state: State::Created,
            status: String::new(),
            labels: spec.labels.clone(),
            networks: spec.networks.iter().map(network).collect(),
            ports: Vec::new(),
            mounts: Vec::new(),
        };
        state.containers.push(container);
        Ok(Created { id, warnings: Vec::new() })
    }

    fn start(&self, container: &str) -> Result<()> {
        self.on("start", container, |one| one.state = State::Running)
    }

    fn stop(&self, container: &str, _timeout: Option<Duration>) -> Result<()> {
        self.on("stop", container, |one| one.state = State::Exited)
    }

    fn kill(&self, container: &str, signal: &str) -> Result<()> {
        self.on(&format!("kill {signal}"), container, |one| one.state = State::Exited)
    }

    fn remove(&self, container: &str, _force: bool, _volumes: bool) -> Result<bool> {
        let id = self.on("remove", container, |one| one.id.clone())?;
        self.lock().containers.retain(|one| one.id != id);
        Ok(true)
    }

    fn rename(&self, container: &str, name: &str) -> Result<()> {
        self.on("rename", container, |one| name.clone_into(&mut one.name))
    }

    fn copy_into(
        &self,
        container: &str,
        _path: &str,
        _rules: CopyRules,
        archive: &mut WriteArchive<'_>,
    ) -> Result<()> {
        let action = || format!("copy into {container}");
        archive(&mut io::sink()).map_err(|source| EngineError::Transfer { action: action(), source })?;
        self.on("copy into", container, |_| ())
    }

    fn copy_out(&self, container: &str, path: &str, take: &mut ReadArchive<'_>) -> Result<()> {
        self.on(&format!("copy {path} out of"), container, |_| ())?;
        take(&mut io::empty()).map_err(|source| EngineError::Transfer { action: "copy".to_owned(), source })
    }

    fn stat_path(&self, _container: &str, _path: &str) -> Result<Option<PathStat>> {
        Ok(None)
    }

    fn terminal(&self, _container: &str) -> Result<Terminal> {
        Ok(Terminal::default())
    }

    fn exec(&self, container: &str, spec: &ExecSpec, session: Session<'_>) -> Result<Closed> {
        let command = spec.command.join(" ");
        self.on(&format!("exec `{command}` in"), container, |_| ())?;
        let written = (session.output)(LogStream::Stdout, format!("ran {command}\n").as_bytes());
        written.map_err(|source| EngineError::Transfer { action: "exec".to_owned(), source })?;
        Ok(Closed::Exited(i64::from(command == "false")))
    }

    fn attach(
        &self,
        container: &str,
        _session: Session<'_>,
        connected: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Closed> {
        self.on("attach to", container, |_| ())?;
        connected()?;
        Ok(Closed::Exited(0))
    }

    fn logs(
        &self,
        container: &str,
        options: &LogOptions,
        sink: &mut dyn FnMut(LogChunk) -> io::Result<()>,
        _cancel: &Cancel,
    ) -> Result<()> {
        let name = self.on("logs", container, |one| one.name.clone())?;
        let chunks = self.lock().logs.get(&name).cloned().unwrap_or_default();
        let followed = self.lock().followed.filter(|_| options.follow).unwrap_or(usize::MAX);
        for chunk in chunks.into_iter().take(followed) {
            sink(chunk).map_err(|source| EngineError::Transfer { action: "logs".to_owned(), source })?;
        }
        Ok(())
    }

    fn wait(&self, container: &str, cancel: &Cancel) -> Result<Option<i64>> {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        Ok(self.status(container)?.map(|status| status.exit_code))
    }

    fn pause(&self, container: &str) -> Result<()> {
        self.on("pause", container, |one| one.state = State::Paused)
    }

    fn unpause(&self, container: &str) -> Result<()> {
        self.on("unpause", container, |one| one.state = State::Running)
    }

    fn top(&self, container: &str) -> Result<Processes> {
        let name = self.on("top", container, |one| one.name.clone())?;
        Ok(Processes { titles: vec!["CMD".to_owned()], rows: vec![vec![format!("main of {name}")]] })
    }

    fn stats(
        &self,
        container: &str,
        _follow: bool,
        sink: &mut dyn FnMut(Usage) -> io::Result<()>,
        _cancel: &Cancel,
    ) -> Result<()> {
        self.on("stats", container, |_| ())?;
        let usage = Usage { processes: 1, ..Usage::default() };
        sink(usage).map_err(|source| EngineError::Transfer { action: "stats".to_owned(), source })
    }

    fn happenings(
        &self,
        _options: &HappeningOptions,
        sink: &mut dyn FnMut(Happening) -> io::Result<()>,
        cancel: &Cancel,
    ) -> Result<()> {
        let told = std::mem::take(&mut self.lock().happenings);
        for happening in told {
            sink(happening)
                .map_err(|source| EngineError::Transfer { action: "events".to_owned(), source })?;
        }
        while !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn networks(&self) -> Result<Vec<Network>> {
        Ok(self.lock().networks.clone())
    }

    fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        let mut state = self.lock();
        state.done(format!("create network {}", spec.name))?;
        let id = state.id();
        let (name, labels) = (spec.name.clone(), spec.labels.clone());
        state.networks.push(Network { id: id.clone(), name, driver: "bridge".to_owned(), labels });
        Ok(id)
    }

    fn remove_network(&self, network: &str) -> Result<bool> {
        let mut state = self.lock();
        state.done(format!("remove network {network}"))?;
        let before = state.networks.len();
        state.networks.retain(|one| one.id != network && one.name != network);
        Ok(state.networks.len() < before)
    }

    fn connect(&self, network: &str, container: &str, _attachment: &Attachment) -> Result<()> {
        self.on(&format!("connect {network}"), container, |_| ())
    }

    fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        self.on(&format!("disconnect {network}"), container, |_| ())
    }

    fn volumes(&self) -> Result<Vec<Volume>> {
        Ok(self.lock().volumes.clone())
    }

    fn create_volume(&self, spec: &VolumeSpec) -> Result<()> {
        let mut state = self.lock();
        state.done(format!("create volume {}", spec.name))?;
        let (name, labels) = (spec.name.clone(), spec.labels.clone());
        state.volumes.push(Volume { name, driver: "local".to_owned(), labels, ..Volume::default() });
        Ok(())
    }

    fn remove_volume(&self, name: &str) -> Result<bool> {
        let mut state = self.lock();
        state.done(format!("remove volume {name}"))?;
        state.volumes.retain(|one| one.name != name);
        Ok(true)
    }
}
