//! Containers as they are used: their processes, what they take of the machine, and their ends. Asks the
//! engine about several containers at once; what anything looks like is the caller's.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::base::cancel::Cancel;
use crate::engine::{
    self, Container, Engine, EngineError, Happening, HappeningOptions, Processes, State, Usage,
};

use super::lists::project_label;
use super::names;
use super::observe::{number_of, service_of};

/// How often the usage is shown anew.
const TICK: Duration = Duration::from_millis(500);

/// The containers of a project by name, those of `run` included: one question.
pub fn containers(engine: &dyn Engine, project: &str) -> engine::Result<Vec<Container>> {
    let mut containers = engine.containers(&[&project_label(project)])?;
    containers.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(containers)
}

/// The processes of one container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerProcesses {
    /// Its service.
    pub service: String,
    /// Its number there.
    pub number: u32,
    /// The processes.
    pub processes: Processes,
}

/// The processes of the running containers of the services (none: all), by the containers' names.
pub fn processes(
    engine: &dyn Engine,
    containers: &[Container],
    services: &[String],
) -> engine::Result<Vec<ContainerProcesses>> {
    let named = |one: &&Container| services.is_empty() || services.iter().any(|name| name == service_of(one));
    let running = containers.iter().filter(|one| matches!(one.state, State::Running | State::Paused));
    let running: Vec<_> = running.filter(named).collect();
    let found = beside(&running, |container| engine.top(&container.id));
    let mut result = Vec::new();
    for (container, found) in running.into_iter().zip(found) {
        match found {
            Ok(processes) => result.push(ContainerProcesses {
                service: service_of(container).to_owned(),
                number: number_of(container),
                processes,
            }),
            // It ended after it was listed.
            Err(EngineError::NotFound { .. }) => {}
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(result)
}

/// Asks about each container in a thread of its own; the answers in the same order.
fn beside<T: Send>(containers: &[&Container], ask: impl Fn(&Container) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> = containers.iter().map(|one| scope.spawn(move || ask(one))).collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// What a container uses; nothing where the engine has not said yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it uses.
    pub usage: Option<Usage>,
}

/// Whose usage is shown.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    /// The project.
    pub project: &'a str,
    /// The service; `None`: all.
    pub service: Option<&'a str>,
    /// Whether containers that do not run are shown too.
    pub all: bool,
}

impl Watched<'_> {
    fn samples(&self, containers: &[Container]) -> Vec<Sample> {
        let named = |one: &&Container| self.service.is_none_or(|service| service == service_of(one));
        let runs = |one: &&Container| self.all || one.state.is_alive();
        let sample = |one: &Container| Sample { id: one.id.clone(), name: one.name.clone(), usage: None };
        containers.iter().filter(named).filter(runs).map(sample).collect()
    }
}

/// What the containers use now, in the engine's order. Takes about a second: processor time is a difference.
pub fn usage(engine: &dyn Engine, watched: &Watched<'_>, cancel: &Cancel) -> engine::Result<Vec<Sample>> {
    let listed = engine.containers(&[&project_label(watched.project)])?;
    let samples = Mutex::new(watched.samples(&listed));
    let ids: Vec<_> = lock(&samples).iter().map(|sample| sample.id.clone()).collect();
    thread::scope(|scope| {
        let threads: Vec<_> =
            ids.iter().map(|id| scope.spawn(|| measure(engine, id, false, &samples, cancel))).collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        let measured = joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        measured.collect::<engine::Result<()>>()
    })
    .map(|()| samples.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Gives `show` what the containers use, again and again, until `show` fails or `cancel` is set. Containers
/// that start join, those that end leave unless all are shown.
pub fn follow_usage(
    engine: &dyn Engine,
    watched: &Watched<'_>,
    listed: i64,
    show: &mut dyn FnMut(&[Sample]) -> io::Result<()>,
    cancel: &Cancel,
) -> engine::Result<()> {
    let done = Cancel::new().map_err(EngineError::Runtime)?;
    let containers = engine.containers(&[&project_label(watched.project)])?;
    let samples = Mutex::new(watched.samples(&containers));
    let failed = Mutex::new(Ok(()));
    thread::scope(|scope| {
        let (samples, failed, done) = (&samples, &failed, &done);
        let begin = |id: String| {
            scope.spawn(move || keep(failed, measure(engine, &id, true, samples, done)));
        };
        lock(samples).iter().for_each(|sample| begin(sample.id.clone()));
        let (sender, news) = mpsc::channel();
        scope.spawn(move || keep(failed, listen(engine, watched, listed, &sender, done)));
        let mut result = Ok(());
        while result.is_ok() && !cancel.is_cancelled() && lock(failed).is_ok() {
            for happening in news.try_iter() {
                if let Some(id) = change(&mut lock(samples), &happening, watched.all) {
                    begin(id);
                }
            }
            let now = lock(samples).clone();
            result = show(&now).map_err(|source| EngineError::Transfer { action: "show".to_owned(), source });
            thread::sleep(TICK);
        }
        done.cancel();
        result
    })?;
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Puts what a container uses into its sample.
fn measure(
    engine: &dyn Engine,
    id: &str,
    follow: bool,
    samples: &Mutex<Vec<Sample>>,
    cancel: &Cancel,
) -> engine::Result<()> {
    let mut put = |usage: Usage| {
        if let Some(sample) = lock(samples).iter_mut().find(|sample| sample.id == id) {
            sample.usage = Some(usage);
        }
        Ok(())
    };
    match engine.stats(id, follow, &mut put, cancel) {
        // It was removed after it was listed.
        Err(EngineError::NotFound { .. }) => Ok(()),
        result => result,
    }
}

fn listen(
    engine: &dyn Engine,
    watched: &Watched<'_>,
    listed: i64,
    sender: &mpsc::Sender<Happening>,
    done: &Cancel,
) -> engine::Result<()> {
    let mut labels = vec![project_label(watched.project)];
    labels.extend(watched.service.map(|service| format!("{}={service}", names::SERVICE)));
    let options = HappeningOptions { labels, since: Some(listed), until: None };
    let mut tell = |happening| sender.send(happening).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
    match engine.happenings(&options, &mut tell, done) {
        Err(EngineError::Transfer { .. }) => Ok(()),
        result => result,
    }
}

/// Takes a happening into account; the id of a container that is to be measured from now on.
fn change(samples: &mut Vec<Sample>, happening: &Happening, all: bool) -> Option<String> {
    let id = &happening.container;
    let known = samples.iter().position(|sample| sample.id == *id);
    match (happening.action.as_str(), known) {
        ("destroy", Some(at)) => drop(samples.remove(at)),
        ("die", Some(at)) if !all => drop(samples.remove(at)),
        ("start", None) => {
            let name = happening.attributes.get("name").cloned().unwrap_or_default();
            samples.push(Sample { id: id.clone(), name, usage: None });
            return Some(id.clone());
        }
        _ => {}
    }
    None
}

/// Waits until each of the containers has ended; `told` hears of each, in the order of their ends. The code
/// of the last one, or `None` if `cancel` was set first.
pub fn wait_all(
    engine: &dyn Engine,
    ids: &[&str],
    told: &mut dyn FnMut(&str, i64),
    cancel: &Cancel,
) -> engine::Result<Option<i64>> {
    wait_each(&|id, done| engine.wait(id, done), ids, told, cancel)
}

/// [`wait_all`] by `wait`, whose flag is set when `cancel` is, and when one of the others has failed.
fn wait_each(
    wait: &(dyn Fn(&str, &Cancel) -> engine::Result<Option<i64>> + Sync),
    ids: &[&str],
    told: &mut dyn FnMut(&str, i64),
    cancel: &Cancel,
) -> engine::Result<Option<i64>> {
    let done = Cancel::new().map_err(EngineError::Runtime)?;
    if cancel.is_cancelled() {
        done.cancel();
    }
    thread::scope(|scope| {
        let (sender, ends) = mpsc::channel();
        let done = &done;
        for &id in ids {
            let sender = sender.clone();
            // Nobody waits any more where this fails.
            scope.spawn(move || drop(sender.send((id, wait(id, done)))));
        }
        drop(sender);
        scope.spawn(move || pass_on(cancel, done));
        let mut last = Ok(None);
        for (id, end) in ends {
            match end {
                Ok(Some(code)) => {
                    told(id, code);
                    last = Ok(Some(code));
                }
                other => {
                    last = other;
                    break;
                }
            }
        }
        done.cancel();
        last
    })
}

/// Sets `done` when `cancel` is set, unless it is set before.
fn pass_on(cancel: &Cancel, done: &Cancel) {
    while !cancel.is_cancelled() && !done.is_cancelled() {
        let mut flags = [PollFd::new(cancel, PollFlags::IN), PollFd::new(done, PollFlags::IN)];
        match poll(&mut flags, None) {
            Ok(_) | Err(Errno::INTR) => {}
            // Not to be able to wait is no reason to stop: the ends are told all the same.
            Err(_) => return,
        }
    }
    done.cancel();
}

fn keep(failed: &Mutex<engine::Result<()>>, result: engine::Result<()>) {
    let mut failed = lock(failed);
    if failed.is_ok() {
        *failed = result;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ContainerSpec;
    use crate::engine::fake::Fake;

    fn engine() -> Fake {
        let engine = Fake::default();
        for (service, number) in [("web", "1"), ("db", "1")] {
            let labels = [(names::PROJECT, "p"), (names::SERVICE, service), (names::NUMBER, number)];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let name = format!("p-{service}-{number}");
            engine.create(&name, &ContainerSpec { labels, ..ContainerSpec::default() }).unwrap();
            engine.start(&name).unwrap();
        }
        engine.done();
        engine
    }

    #[test]
    fn each_container_is_asked_for_its_processes_once() {
        let engine = engine();
        let listed = containers(&engine, "p").unwrap();
        let found = processes(&engine, &listed, &[]).unwrap();
        let lines: Vec<_> =
            found.iter().map(|one| (one.service.as_str(), one.processes.rows[0][0].as_str())).collect();
        assert_eq!(lines, [("db", "main of p-db-1"), ("web", "main of p-web-1")]);
        assert_eq!(engine.done().len(), 2);
        assert_eq!(processes(&engine, &listed, &["web".to_owned()]).unwrap().len(), 1);
    }

    #[test]
    fn usage_is_that_of_what_runs() {
        let engine = engine();
        engine.stop("p-db-1", None).unwrap();
        let watched = Watched { project: "p", service: None, all: false };
        let cancel = Cancel::new().unwrap();
        let names = |watched: &Watched<'_>| -> Vec<_> {
            let samples = usage(&engine, watched, &cancel).unwrap();
            samples.into_iter().map(|one| (one.name, one.usage.unwrap().processes)).collect()
        };
        assert_eq!(names(&watched), [("p-web-1".to_owned(), 1)]);
        assert_eq!(names(&Watched { all: true, ..watched }).len(), 2);
        assert_eq!(names(&Watched { service: Some("nope"), ..watched }).len(), 0);
    }

    #[test]
    fn who_starts_joins_and_who_ends_leaves() {
        let happening = |id: &str, action: &str| Happening {
            container: id.to_owned(),
            action: action.to_owned(),
            attributes: [("name".to_owned(), format!("name-{id}"))].into(),
            time: 0,
        };
        let mut samples = Vec::new();
        assert_eq!(change(&mut samples, &happening("a", "start"), false), Some("a".to_owned()));
        assert_eq!(change(&mut samples, &happening("a", "start"), false), None);
        assert_eq!(samples[0].name, "name-a");
        change(&mut samples, &happening("a", "die"), true);
        assert_eq!(samples.len(), 1);
        change(&mut samples, &happening("a", "die"), false);
        assert!(samples.is_empty());
    }

    #[test]
    fn following_shows_until_nobody_looks() {
        let engine = engine();
        let watched = Watched { project: "p", service: None, all: false };
        let mut shown = Vec::new();
        let mut show = |samples: &[Sample]| {
            shown.push(samples.len());
            if shown.len() < 2 { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        };
        let error = follow_usage(&engine, &watched, 0, &mut show, &Cancel::new().unwrap()).unwrap_err();
        assert!(matches!(error, EngineError::Transfer { .. }));
        assert_eq!(shown, [2, 2]);
    }

    #[test]
    fn waiting_tells_of_every_end() {
        let engine = engine();
        let mut told = Vec::new();
        let mut tell = |id: &str, code| told.push((id.to_owned(), code));
        let ids = ["p-web-1", "p-db-1"];
        let cancel = Cancel::new().unwrap();
        assert_eq!(wait_all(&engine, &ids, &mut tell, &cancel).unwrap(), Some(0));
        assert_eq!(told.len(), 2);
        cancel.cancel();
        assert_eq!(wait_all(&engine, &ids, &mut |_, _| (), &cancel).unwrap(), None);
    }

    #[test]
    fn one_failed_wait_and_a_cancel_end_the_others() {
        let until_done = |done: &Cancel| {
            poll(&mut [PollFd::new(done, PollFlags::IN)], None).unwrap();
            Ok(None)
        };
        let cancel = Cancel::new().unwrap();
        let wait = |id: &str, done: &Cancel| match id {
            "gone" => Err(EngineError::NotFound { action: "wait".to_owned(), message: String::new() }),
            _ => until_done(done),
        };
        let error = wait_each(&wait, &["runs", "gone"], &mut |_, _| (), &cancel).unwrap_err();
        assert!(matches!(error, EngineError::NotFound { .. }));
        let stopped = |_: &str, done: &Cancel| {
            cancel.cancel();
            until_done(done)
        };
        assert_eq!(wait_each(&stopped, &["a", "b"], &mut |_, _| (), &cancel).unwrap(), None);
    }
}
