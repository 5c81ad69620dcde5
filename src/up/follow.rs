//! The logs of a project as they come: of the containers that are there, and of those that start later.
//!
//! One thread listens to what happens in the engine, one reads each container that runs. It ends when
//! nobody runs any more, as with Docker Compose. What was started before the listening began is not
//! missed: the engine tells what happened since the containers were listed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::engine::{Engine, EngineError, Happening, HappeningOptions, LogOptions};

use super::error::UpError;
use super::logs::{LineSink, Mark, Reader, Source, source};
use super::names;

/// How often it is looked whether the command is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Whose logs are followed.
#[derive(Clone, Debug)]
pub struct Following<'a> {
    /// The project's name.
    pub project: &'a str,
    /// The services; none: all.
    pub services: &'a [String],
    /// Only containers of this number.
    pub number: Option<u32>,
    /// The containers that are there.
    pub sources: &'a [Source],
    /// When they were listed, in nanoseconds since 1970.
    pub listed: i64,
}

/// What the threads tell the one that waits for them.
enum News {
    Started(Happening),
    Ended { id: String, mark: Mark, result: Result<(), EngineError> },
    Deaf(EngineError),
}

/// Reads the logs until every container has ended or `cancel` is set. What became of a container is said in
/// a line of its own.
pub fn follow(
    engine: &dyn Engine,
    following: &Following<'_>,
    options: &LogOptions,
    sink: &mut LineSink<'_>,
    cancel: &Cancel,
) -> Result<(), UpError> {
    let done = Cancel::new().map_err(EngineError::Runtime)?;
    let sink = Mutex::new(sink);
    let result = Mutex::new(Ok(()));
    thread::scope(|scope| {
        let (sender, news) = mpsc::channel();
        let listener = sender.clone();
        scope.spawn(|| listen(engine, following, listener, &done));
        let mut running = Running::new(following.sources);
        let begin = |source: Source, options: LogOptions, mut mark: Mark| {
            let (sender, sink, done) = (sender.clone(), &sink, &done);
            scope.spawn(move || {
                let reader = Reader { engine, options: &options, sink, cancel: done };
                let read = reader.follow(&source, &mut mark);
                // Nobody waits any more where this fails.
                let _ = sender.send(News::Ended { id: source.id, mark, result: read.map(drop) });
            });
        };
        for source in following.sources {
            running.active.insert(source.id.clone());
            begin(source.clone(), options.clone(), Mark::default());
        }
        while !running.active.is_empty() && !cancel.is_cancelled() {
            match news.recv_timeout(LOOK) {
                Ok(News::Started(happening)) => {
                    if let Some((source, mark)) = running.started(engine, following, &happening) {
                        let tail = if mark.is_some() { None } else { options.tail };
                        begin(source, LogOptions { tail, ..options.clone() }, mark.unwrap_or_default());
                    }
                }
                Ok(News::Ended { id, mark, result: ended }) => {
                    running.ended(&id, mark);
                    if keep(&result, ended) {
                        break;
                    }
                }
                Ok(News::Deaf(error)) => {
                    keep(&result, Err(error));
                    break;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        done.cancel();
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner).map_err(UpError::from)
}

/// Keeps the first error; whether there is one.
fn keep(result: &Mutex<Result<(), EngineError>>, ended: Result<(), EngineError>) -> bool {
    let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
    if result.is_ok() {
        *result = ended;
    }
    result.is_err()
}

/// Tells of every container of the project that starts.
fn listen(engine: &dyn Engine, following: &Following<'_>, sender: mpsc::Sender<News>, done: &Cancel) {
    let mut tell = |happening: Happening| {
        if happening.action != "start" {
            return Ok(());
        }
        sender.send(News::Started(happening)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    };
    if let Err(error) = hear(engine, following.project, following.listed, &mut tell, done) {
        drop(sender.send(News::Deaf(error)));
    }
}

/// Tells what happens to the project's containers since `listed` until `done` is set or `tell` fails.
pub(super) fn hear(
    engine: &dyn Engine,
    project: &str,
    listed: i64,
    tell: &mut dyn FnMut(Happening) -> io::Result<()>,
    done: &Cancel,
) -> Result<(), EngineError> {
    let labels = vec![format!("{}={project}", names::PROJECT)];
    let options = HappeningOptions { labels, since: Some(listed), until: None };
    match engine.happenings(&options, tell, done) {
        Ok(()) | Err(EngineError::Transfer { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The containers that are read, and those that were.
pub(super) struct Running {
    active: BTreeSet<String>,
    known: Vec<Source>,
    /// How far those were read that are not read now.
    marks: BTreeMap<String, Mark>,
}

impl Running {
    pub(super) fn new(known: &[Source]) -> Self {
        Self { active: BTreeSet::new(), known: known.to_vec(), marks: BTreeMap::new() }
    }

    /// A container that started: how its log is read, and how far it was read before; `None` if nobody asked
    /// for it, it is read already, or this run of it was.
    fn started(
        &mut self,
        engine: &dyn Engine,
        following: &Following<'_>,
        happening: &Happening,
    ) -> Option<(Source, Option<Mark>)> {
        let id = &happening.container;
        if !asked_for(following, happening) {
            return None;
        }
        let name = happening.attributes.get("name").map_or("", String::as_str);
        let service = happening.attributes.get(names::SERVICE).map_or("", String::as_str);
        self.begin(engine, following.project, id, without_old_id(name), service)
    }

    /// As [`Self::started`], of a container that is asked for.
    pub(super) fn begin(
        &mut self,
        engine: &dyn Engine,
        project: &str,
        id: &str,
        name: &str,
        service: &str,
    ) -> Option<(Source, Option<Mark>)> {
        if self.active.contains(id) {
            return None;
        }
        let mark = self.marks.get(id).cloned();
        if let Some(read) = mark.as_ref().and_then(|mark| mark.started.as_ref()) {
            // What becomes of a container that cannot be asked for is noticed when it is read.
            let now = engine.status(id).ok().flatten().and_then(|status| status.started);
            if now.as_ref() == Some(read) {
                return None;
            }
        }
        self.active.insert(id.to_owned());
        if let Some(known) = self.known.iter().find(|source| source.id == *id) {
            return Some((known.clone(), mark));
        }
        let source = source(project, id, name, service, self.known.len());
        self.known.push(source.clone());
        Some((source, mark))
    }

    /// A container is not read any more.
    pub(super) fn ended(&mut self, id: &str, mark: Mark) {
        self.active.remove(id);
        self.marks.insert(id.to_owned(), mark);
    }

    /// Sets how far a container that is not read was read.
    pub(super) fn mark(&mut self, id: &str, mark: Mark) {
        self.marks.insert(id.to_owned(), mark);
    }

    /// Whether nobody is read.
    pub(super) fn is_idle(&self) -> bool {
        self.active.is_empty()
    }

    /// The colour of a container's lines.
    pub(super) fn index(&self, service: &str) -> usize {
        self.known.iter().rev().find(|source| source.service == service).map_or(0, |source| source.index)
    }
}

pub(super) fn asked_for(following: &Following<'_>, happening: &Happening) -> bool {
    let label = |name: &str| happening.attributes.get(name).map_or("", String::as_str);
    let service = label(names::SERVICE);
    let number = || label(names::NUMBER).parse().ok();
    !label(names::ONEOFF).eq_ignore_ascii_case("true")
        && (following.services.is_empty() || following.services.iter().any(|name| name == service))
        && following.number.is_none_or(|wanted| number() == Some(wanted))
}

/// The name that a container will have in the end: while it replaces another one, that one's id is before it.
pub(super) fn without_old_id(name: &str) -> &str {
    match name.split_once('_') {
        Some((id, rest)) if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => rest,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::logs::LogLine;
    use super::*;
    use crate::engine::fake::Fake;
    use crate::engine::{ContainerSpec, Health, State, Status};

    fn ended(engine: &Fake, name: &str, log: &[&str]) -> String {
        let made = engine.create(name, &ContainerSpec::default()).unwrap();
        let status = Status {
            state: State::Exited,
            exit_code: 3,
            health: None::<Health>,
            health_output: None,
            error: None,
            started: None,
        };
        engine.set_status(name, status);
        engine.set_log(name, log);
        made.id
    }

    fn start(id: &str, name: &str, service: &str) -> Happening {
        let attributes = [("name", name), (names::SERVICE, service), (names::NUMBER, "1")];
        Happening {
            container: id.to_owned(),
            action: "start".to_owned(),
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            time: 7_000_000_000,
        }
    }

    fn shown(engine: &Fake, following: &Following<'_>) -> Vec<String> {
        let mut seen = Vec::new();
        let mut sink = |line: LogLine| {
            seen.push(line.text(3));
            Ok(())
        };
        let options = LogOptions { follow: true, ..LogOptions::default() };
        follow(engine, following, &options, &mut sink, &Cancel::new().unwrap()).unwrap();
        seen.sort();
        seen
    }

    #[test]
    fn following_says_how_each_container_ended() {
        let engine = Fake::default();
        ended(&engine, "p-a-1", &["one", "two"]);
        ended(&engine, "p-b-1", &[]);
        let sources = [source("p", "p-a-1", "p-a-1", "a", 0), source("p", "p-b-1", "p-b-1", "b", 1)];
        let following = Following { project: "p", services: &[], number: None, sources: &sources, listed: 0 };
        let expected = ["a-1  | one", "a-1  | two", "a-1 exited with code 3", "b-1 exited with code 3"];
        assert_eq!(shown(&engine, &following), expected);
    }

    #[test]
    fn who_is_read_may_have_started_after_the_first() {
        let engine = Fake::default();
        let first = ended(&engine, "p-a-1", &["one"]);
        let later = ended(&engine, "p-b-1", &["two"]);
        engine.set_happenings(vec![start(&later, "p-b-1", "b"), start(&first, "p-a-1", "a")]);
        let sources = [source("p", &first, "p-a-1", "a", 0)];
        let mut running = Status { state: State::Running, ..engine.status(&first).unwrap().unwrap() };
        running.started = Some("1970-01-01T00:00:00Z".to_owned());
        engine.set_status("p-a-1", running.clone());
        let following = Following { project: "p", services: &[], number: None, sources: &sources, listed: 0 };
        let shown = thread::scope(|scope| {
            let shown = scope.spawn(|| shown(&engine, &following));
            // It goes on until the first has ended, however long that takes.
            while !engine.done().iter().any(|done| done == "logs p-b-1") {
                thread::yield_now();
            }
            engine.set_status("p-a-1", Status { state: State::Exited, ..running });
            shown.join().unwrap()
        });
        let expected = ["a-1  | one", "a-1 exited with code 3", "b-1  | two", "b-1 exited with code 3"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_starts_later_is_read_once_if_it_was_asked_for() {
        let sources = [source("p", "old", "p-a-1", "a", 0)];
        let services = ["a".to_owned()];
        let following =
            Following { project: "p", services: &services, number: Some(1), sources: &sources, listed: 0 };
        let engine = Fake::default();
        let mut running = Running::new(&sources);
        let mut started = |happening: &Happening| running.started(&engine, &following, happening);
        let (again, mark) = started(&start("old", "p-a-1", "a")).unwrap();
        assert_eq!((again.label.as_str(), mark), ("a-1", None));
        assert!(started(&start("old", "p-a-1", "a")).is_none(), "read already");
        assert!(started(&start("x", "p-b-1", "b")).is_none(), "another service");
        let (fresh, mark) = started(&start("new", "0123456789ab_p-a-1", "a")).unwrap();
        assert_eq!((fresh.label.as_str(), fresh.index, mark), ("a-1", 1, None));
        let mut oneoff = start("run", "p-a-run-1", "a");
        oneoff.attributes.insert(names::ONEOFF.to_owned(), "True".to_owned());
        assert!(started(&oneoff).is_none());
    }

    #[test]
    fn a_run_that_was_read_is_not_read_again() {
        let engine = Fake::default();
        let id = ended(&engine, "p-a-1", &[]);
        let mut status = engine.status(&id).unwrap().unwrap();
        status.started = Some("1970-01-01T00:00:07.5Z".to_owned());
        engine.set_status("p-a-1", status.clone());
        let mut running = Running::new(&[]);
        assert!(running.begin(&engine, "p", &id, "p-a-1", "a").is_some());
        let mut mark = Mark::default();
        mark.started.clone_from(&status.started);
        running.ended(&id, mark.clone());
        assert!(running.begin(&engine, "p", &id, "p-a-1", "a").is_none(), "news of its start came late");
        status.started = Some("1970-01-01T00:00:08Z".to_owned());
        engine.set_status("p-a-1", status);
        let (_, from) = running.begin(&engine, "p", &id, "p-a-1", "a").unwrap();
        assert_eq!(from, Some(mark));
    }
}
