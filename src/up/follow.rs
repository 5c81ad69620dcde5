//! The logs of a project as they come: of the containers that are there, and of those that start later.
//!
//! One thread listens to what happens in the engine, one reads each container that runs. It ends when
//! nobody runs any more, as with Docker Compose. What was started before the listening began is not
//! missed: the engine tells what happened since the containers were listed.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::engine::{Engine, EngineError, Happening, HappeningOptions, LogOptions};

use super::error::UpError;
use super::logs::{LineSink, Reader, Source, source};
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
    Ended { id: String, result: Result<(), EngineError> },
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
        let mut running = Running { active: BTreeSet::new(), known: following.sources.to_vec() };
        let begin = |source: Source, options: LogOptions| {
            let (sender, sink, done) = (sender.clone(), &sink, &done);
            scope.spawn(move || {
                let read = Reader { engine, options: &options, sink, cancel: done }.follow(&source);
                // Nobody waits any more where this fails.
                let _ = sender.send(News::Ended { id: source.id, result: read.map(drop) });
            });
        };
        for source in following.sources {
            running.active.insert(source.id.clone());
            begin(source.clone(), options.clone());
        }
        while !running.active.is_empty() && !cancel.is_cancelled() {
            match news.recv_timeout(LOOK) {
                Ok(News::Started(happening)) => {
                    if let Some((source, again)) = running.started(following, &happening) {
                        begin(source, if again { since(options, happening.time) } else { options.clone() });
                    }
                }
                Ok(News::Ended { id, result: ended }) => {
                    running.active.remove(&id);
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
    let options = HappeningOptions {
        labels: vec![format!("{}={}", names::PROJECT, following.project)],
        since: Some(following.listed),
        until: None,
    };
    let mut tell = |happening: Happening| {
        if happening.action != "start" {
            return Ok(());
        }
        sender.send(News::Started(happening)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    };
    match engine.happenings(&options, &mut tell, done) {
        Ok(()) | Err(EngineError::Transfer { .. }) => {}
        Err(error) => drop(sender.send(News::Deaf(error))),
    }
}

/// The containers that are read, and those that were.
struct Running {
    active: BTreeSet<String>,
    known: Vec<Source>,
}

impl Running {
    /// A container that started: how its log is read, and whether a part of it has been read before; `None`
    /// if nobody asked for it or it is read already.
    fn started(&mut self, following: &Following<'_>, happening: &Happening) -> Option<(Source, bool)> {
        let id = &happening.container;
        if !asked_for(following, happening) || !self.active.insert(id.clone()) {
            return None;
        }
        if let Some(known) = self.known.iter().find(|source| source.id == *id) {
            return Some((known.clone(), true));
        }
        let name = happening.attributes.get("name").map_or("", String::as_str);
        let service = happening.attributes.get(names::SERVICE).map_or("", String::as_str);
        let source = source(following.project, id, without_old_id(name), service, self.known.len());
        self.known.push(source.clone());
        Some((source, false))
    }
}

fn asked_for(following: &Following<'_>, happening: &Happening) -> bool {
    let label = |name: &str| happening.attributes.get(name).map_or("", String::as_str);
    let service = label(names::SERVICE);
    let number = || label(names::NUMBER).parse().ok();
    !label(names::ONEOFF).eq_ignore_ascii_case("true")
        && (following.services.is_empty() || following.services.iter().any(|name| name == service))
        && following.number.is_none_or(|wanted| number() == Some(wanted))
}

/// The name that a container will have in the end: while it replaces another one, that one's id is before it.
fn without_old_id(name: &str) -> &str {
    match name.split_once('_') {
        Some((id, rest)) if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => rest,
        _ => name,
    }
}

/// The same log from a time on, whole.
fn since(options: &LogOptions, nanoseconds: i64) -> LogOptions {
    LogOptions { tail: None, since: Some(nanoseconds.div_euclid(1_000_000_000)), ..options.clone() }
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
        let mut running = Running { active: BTreeSet::new(), known: sources.to_vec() };
        let (again, part) = running.started(&following, &start("old", "p-a-1", "a")).unwrap();
        assert_eq!((again.label.as_str(), part), ("a-1", true));
        assert!(running.started(&following, &start("old", "p-a-1", "a")).is_none(), "read already");
        assert!(running.started(&following, &start("x", "p-b-1", "b")).is_none(), "another service");
        let (fresh, part) = running.started(&following, &start("new", "0123456789ab_p-a-1", "a")).unwrap();
        assert_eq!((fresh.label.as_str(), fresh.index, part), ("a-1", 1, false));
        let mut oneoff = start("run", "p-a-run-1", "a");
        oneoff.attributes.insert(names::ONEOFF.to_owned(), "True".to_owned());
        assert!(running.started(&following, &oneoff).is_none());
    }

    #[test]
    fn a_second_start_is_read_from_its_beginning() {
        let options = LogOptions { tail: Some(1), follow: true, ..LogOptions::default() };
        let expected = LogOptions { since: Some(7), follow: true, ..LogOptions::default() };
        assert_eq!(since(&options, 7_900_000_000), expected);
    }
}
