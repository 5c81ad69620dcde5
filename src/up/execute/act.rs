//! One step: the engine's calls, and nothing decided but what ids are known only now.

use crate::engine::{Closed, ContainerSpec, CopyRules, EngineError, ExecSpec, Session};

use super::super::error::{UpError, taken_port};
use super::super::names;
use super::super::plan::{Action, Creation, Preparation, Target};
use super::super::spec::{Copy, volumes_service};
use super::{Run, Started, inherit, wait};
use crate::compose::{Hook, Service, service_hash};

/// How much of a hook's output an error shows.
const SHOWN: usize = 2000;

impl Run<'_> {
    /// Does what a step says; the id of the container that it made.
    pub(super) fn act(&self, action: &Action) -> Result<Option<String>, UpError> {
        let engine = self.with.engine;
        let step = |source: EngineError| UpError::Step { what: action.to_string(), source };
        match action {
            Action::Create(creation) => return self.create(creation).map(Some),
            Action::Start(target) => self.start(target)?,
            Action::Wait { containers, until, required, within, .. } => {
                let containers: Vec<_> =
                    containers.iter().map(|target| (target.clone(), self.id(target))).collect();
                let waiting = wait::Waiting { until: *until, required: *required, within: *within };
                wait::wait(self.with, &containers, waiting)?;
            }
            Action::Prepare(preparation) => self.prepare(preparation)?,
            Action::Hook { container, when, hook } => self.hook(container, when, hook)?,
            Action::CreateNetwork(spec) => drop(engine.create_network(spec).map_err(step)?),
            Action::RemoveNetwork { id, required: true, .. } => {
                engine.remove_network(id).map_err(step)?;
            }
            Action::RemoveNetwork { id, name, required: false } => {
                self.unless_in_use(&format!("network {name}"), engine.remove_network(id)).map_err(step)?;
            }
            Action::Fill { container, copies } => {
                self.copy(&container.name, &self.id(container), copies)?;
            }
            Action::CreateVolume(spec) => engine.create_volume(spec).map_err(step)?,
            Action::RemoveVolume { name } => {
                self.unless_in_use(&format!("volume {name}"), engine.remove_volume(name)).map_err(step)?;
            }
            Action::RemoveImage { name } => {
                let removed = engine.remove_image(name, false);
                self.unless_in_use(&format!("image {name}"), removed).map_err(step)?;
            }
            Action::Disconnect { container, network } => {
                engine.disconnect(network, &self.id(container)).map_err(step)?;
            }
            Action::Connect { container, attachment } => {
                engine.connect(&attachment.network, &self.id(container), attachment).map_err(step)?;
            }
            Action::Stop { container, timeout } => {
                engine.stop(&self.id(container), *timeout).map_err(step)?;
            }
            Action::Kill { container, signal } => engine.kill(&self.id(container), signal).map_err(step)?,
            Action::Pause(target) => engine.pause(&self.id(target)).map_err(step)?,
            Action::Unpause(target) => engine.unpause(&self.id(target)).map_err(step)?,
            Action::Remove { container, volumes: true } => {
                inherit::remove(engine, &self.id(container)).map_err(step)?;
            }
            Action::Remove { container, volumes: false } => {
                engine.remove(&self.id(container), true, false).map_err(step)?;
            }
            Action::Rename { container, to } => engine.rename(&self.id(container), to).map_err(step)?,
        }
        Ok(None)
    }

    /// Makes a container with everything that it takes from others, and its files. Nothing is left of it
    /// if that fails.
    fn create(&self, creation: &Creation) -> Result<String, UpError> {
        let engine = self.with.engine;
        let step = |source: EngineError| UpError::Step {
            what: format!("service {}: container {}: create", creation.service, creation.name),
            source,
        };
        let shares = creation.shares.iter().map(|(service, target)| (service.clone(), self.id(target)));
        let shares: Vec<_> = shares.collect();
        let mut spec = (*creation.spec).clone();
        share(&mut spec, &shares);
        if let Some(service) = &creation.hashed {
            let hash = service_hash(&with_ids(service, &shares));
            spec.labels.insert(names::CONFIG_HASH.to_owned(), hash);
        }
        if let Some(old) = creation.replaces.as_ref().filter(|_| creation.inherits) {
            inherit::fill(engine, &mut spec, old).map_err(step)?;
        }
        let name = creation.temporary.as_ref().unwrap_or(&creation.name);
        let created = engine.create(name, &spec).map_err(step)?;
        for warning in created.warnings {
            let text = format!("container {}: {warning}", creation.name);
            self.with.events.emit(crate::base::event::Event::Warning(text));
        }
        if let Err(error) = self.copy(&creation.name, &created.id, &creation.copies) {
            // The error that matters is the first one.
            let _ = engine.remove(&created.id, true, true);
            return Err(error);
        }
        Ok(created.id)
    }

    /// What is still in use stays, which is said.
    fn unless_in_use(&self, what: &str, removed: Result<bool, EngineError>) -> Result<(), EngineError> {
        match removed {
            Err(error) if error.is_in_use() => {
                let text = format!("{what} stays: it is still in use");
                self.with.events.emit(crate::base::event::Event::Warning(text));
                Ok(())
            }
            removed => removed.map(drop),
        }
    }

    /// Copies files into a container.
    fn copy(&self, name: &str, id: &str, copies: &[Copy]) -> Result<(), UpError> {
        if copies.is_empty() {
            return Ok(());
        }
        let archive = archive(name, copies)?;
        let what = || format!("container {name}: copy files");
        let rules = CopyRules::default();
        self.with
            .engine
            .copy_into(id, "/", rules, &mut |out| out.write_all(&archive))
            .map_err(|source| UpError::Step { what: what(), source })
    }

    fn start(&self, target: &Target) -> Result<(), UpError> {
        let id = self.id(target);
        let one = self.starting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let started = self.with.engine.start(&id);
        drop(one);
        started.map_err(|source| UpError::Start {
            service: target.service.clone(),
            container: target.name.clone(),
            port: taken_port(&source.to_string()),
            source: Box::new(source),
        })?;
        (self.with.started)(Started { id, name: target.name.clone(), service: target.service.clone() });
        Ok(())
    }

    fn hook(&self, target: &Target, when: &'static str, hook: &Hook) -> Result<(), UpError> {
        let variable = |(name, value): (&String, &Option<String>)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        };
        let spec = ExecSpec {
            command: hook.command.clone(),
            env: hook.environment.iter().map(variable).collect(),
            user: hook.user.clone(),
            working_dir: hook.working_dir.clone(),
            privileged: hook.privileged,
            detach: false,
        };
        let mut output = Vec::new();
        let what = format!("container {}: {when}", target.name);
        let mut keep = |_, bytes: &[u8]| {
            (self.with.said)(target, bytes);
            output.extend_from_slice(bytes);
            // Only the end is ever shown.
            let surplus = output.len().saturating_sub(2 * SHOWN);
            output.drain(..surplus);
            Ok(())
        };
        let session = Session { cancel: Some(self.with.cancel), ..Session::output(&mut keep) };
        let run = self.with.engine.exec(&self.id(target), &spec, session);
        (self.with.said)(target, &[]);
        if self.with.cancel.is_cancelled() && when != "pre_stop" {
            return Err(UpError::Cancelled);
        }
        let run = match run {
            // It ended by itself in the meantime: there is nothing to prepare for its end.
            Err(error) if when == "pre_stop" && error.is_gone() => return Ok(()),
            run => run,
        };
        let code = match run.map_err(|source| UpError::Step { what, source })? {
            Closed::Exited(0) | Closed::Detached => return Ok(()),
            Closed::Exited(code) => code,
        };
        let end = &output[output.len().saturating_sub(SHOWN)..];
        Err(UpError::Hook {
            service: target.service.clone(),
            container: target.name.clone(),
            when,
            command: hook.command.join(" "),
            code,
            output: String::from_utf8_lossy(end).into_owned(),
        })
    }

    /// Runs a `pre_start` hook in a container of its own, of which nothing is left.
    fn prepare(&self, preparation: &Preparation) -> Result<(), UpError> {
        let engine = self.with.engine;
        let step =
            |source| UpError::Step { what: format!("container {}: pre_start", preparation.name), source };
        let shares = preparation.shares.iter().map(|(service, target)| (service.clone(), self.id(target)));
        let mut spec = preparation.spec.clone();
        share(&mut spec, &shares.collect::<Vec<_>>());
        inherit::share(engine, &mut spec, &self.id(&preparation.container)).map_err(step)?;
        self.remove_left_over(preparation).map_err(step)?;
        let id = engine.create(&preparation.name, &spec).map_err(step)?.id;
        let result = self.run_prepared(preparation, &id);
        match engine.remove(&id, true, true) {
            Err(source) if result.is_ok() => Err(step(source)),
            _ => result,
        }
    }

    /// Removes the container of the same hook that a run left which was killed; nobody else's.
    fn remove_left_over(&self, preparation: &Preparation) -> Result<(), EngineError> {
        let label = |name: &str| Some(format!("{name}={}", preparation.spec.labels.get(name)?));
        let labels: Vec<_> = [names::PROJECT, names::HOOK].iter().filter_map(|name| label(name)).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let found = self.with.engine.containers(&labels)?;
        for left in found.iter().filter(|one| one.name == preparation.name) {
            self.with.engine.remove(&left.id, true, true)?;
        }
        Ok(())
    }

    fn run_prepared(&self, preparation: &Preparation, id: &str) -> Result<(), UpError> {
        let engine = self.with.engine;
        let step =
            |source| UpError::Step { what: format!("container {}: pre_start", preparation.name), source };
        self.copy(&preparation.name, id, &preparation.copies)?;
        engine.start(id).map_err(step)?;
        let (mut output, target) = (Vec::new(), &preparation.container);
        let mut take = |chunk: crate::engine::LogChunk| {
            (self.with.said)(target, &chunk.bytes);
            output.extend_from_slice(&chunk.bytes);
            // Only the end is ever shown.
            let surplus = output.len().saturating_sub(2 * SHOWN);
            output.drain(..surplus);
            Ok(())
        };
        let options = crate::engine::LogOptions { follow: true, ..crate::engine::LogOptions::default() };
        let read = engine.logs(id, &options, &mut take, self.with.cancel);
        (self.with.said)(target, &[]);
        read.map_err(step)?;
        let code = engine.wait(id, self.with.cancel).map_err(step)?.ok_or(UpError::Cancelled)?;
        if code == 0 {
            return Ok(());
        }
        let end = &output[output.len().saturating_sub(SHOWN)..];
        Err(UpError::Hook {
            service: target.service.clone(),
            container: target.name.clone(),
            when: "pre_start",
            command: preparation.command(),
            code,
            output: String::from_utf8_lossy(end).into_owned(),
        })
    }
}

/// Puts the ids of containers where a spec names services, and remembers them in a label.
fn share(spec: &mut ContainerSpec, shares: &[(String, String)]) {
    let id = |service: &str| shares.iter().find(|(name, _)| name == service).map(|(_, id)| id.as_str());
    for mode in [&mut spec.network_mode, &mut spec.ipc, &mut spec.pid].into_iter().flatten() {
        if let Some(id) = mode.strip_prefix("service:").and_then(id) {
            *mode = format!("container:{id}");
        }
    }
    for from in &mut spec.volumes_from {
        let rest = from.split_once(':').map(|(_, access)| format!(":{access}")).unwrap_or_default();
        if let Some(id) = volumes_service(from).and_then(id) {
            *from = format!("{id}{rest}");
        } else if let Some(name) = from.strip_prefix("container:") {
            *from = name.to_owned();
        }
    }
    if !shares.is_empty() {
        let label = shares.iter().map(|(service, id)| format!("{service}={id}")).collect::<Vec<_>>();
        spec.labels.insert(names::SHARES.to_owned(), label.join(","));
    }
}

/// The service with ids of containers in the place of services, as Docker Compose hashes it.
fn with_ids(service: &Service, shares: &[(String, String)]) -> Service {
    let mut service = service.clone();
    let id = |name: &str| shares.iter().find(|(shared, _)| shared == name).map(|(_, id)| id.as_str());
    for mode in [&mut service.network_mode, &mut service.ipc, &mut service.pid].into_iter().flatten() {
        if let Some(id) = mode.strip_prefix("service:").and_then(id) {
            *mode = format!("container:{id}");
        }
    }
    for from in &mut service.volumes_from {
        if let Some(id) = volumes_service(from).and_then(id) {
            id.clone_into(from);
        } else if let Some(name) = from.strip_prefix("container:") {
            *from = name.split(':').next().unwrap_or(name).to_owned();
        }
    }
    service
}

/// A tar archive of a container's files, from its root.
fn archive(container: &str, copies: &[Copy]) -> Result<Vec<u8>, UpError> {
    let mut archive = tar::Builder::new(Vec::new());
    let pack =
        |path: &str, source| UpError::Pack { path: path.to_owned(), container: container.to_owned(), source };
    for copy in copies {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(copy.bytes.len() as u64);
        header.set_mode(copy.mode);
        header.set_uid(copy.owner.0);
        header.set_gid(copy.owner.1);
        let path = copy.path.trim_start_matches('/');
        archive
            .append_data(&mut header, path, copy.bytes.as_slice())
            .map_err(|source| pack(&copy.path, source))?;
    }
    archive.into_inner().map_err(|source| pack("/", source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_become_containers_where_they_are_shared() {
        let mut spec = ContainerSpec {
            network_mode: Some("service:db".to_owned()),
            pid: Some("host".to_owned()),
            volumes_from: vec!["db:ro".to_owned(), "container:other:rw".to_owned()],
            ..ContainerSpec::default()
        };
        share(&mut spec, &[("db".to_owned(), "abc".to_owned())]);
        assert_eq!(spec.network_mode.as_deref(), Some("container:abc"));
        assert_eq!(spec.pid.as_deref(), Some("host"));
        assert_eq!(spec.volumes_from, ["abc:ro", "other:rw"]);
        assert_eq!(spec.labels["dev.shipway.shares"], "db=abc");
    }

    #[test]
    fn files_are_packed_with_owner_and_mode() {
        let copy =
            Copy { path: "/run/secrets/a".to_owned(), owner: (5, 6), mode: 0o440, bytes: b"x".to_vec() };
        let bytes = archive("c", &[copy]).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("run/secrets/a"));
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap()), (5, 6, 0o440));
    }
}
