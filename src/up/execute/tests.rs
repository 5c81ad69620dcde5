//! Plans carried out on an engine in memory: the order of its calls, and what is left after a failure.

use serde_json::json;

use crate::base::digest::Digest;
use crate::base::event::{Recorded, Silent};
use crate::compose::Project;
use crate::engine::fake::Fake;
use crate::engine::{Health, State, Status};

use super::super::{Files, Image, Images, Options, observe, reconcile};
use super::*;

fn project(services: serde_json::Value) -> Project {
    serde_json::from_value(json!({"name": "p", "services": services})).unwrap()
}

fn images(project: &Project) -> Images {
    let image = |name: &String| {
        let reference = project.image_of(name).unwrap();
        (name.clone(), Image { id: Digest::of(&reference), reference })
    };
    project.services.keys().map(image).collect()
}

fn up(engine: &Fake, project: &Project, events: &dyn Events, cancel: &Cancel) -> Result<(), UpError> {
    let seen = observe(engine, &project.name).unwrap();
    let plan = reconcile(project, &images(project), &Files::default(), &seen, &Options::default()).unwrap();
    run(engine, &plan, events, cancel)
}

fn run(engine: &Fake, plan: &Plan, events: &dyn Events, cancel: &Cancel) -> Result<(), UpError> {
    let with = Execution {
        engine,
        events,
        cancel,
        parallel: 1,
        kill_when_cancelled: false,
        started: &|_| {},
        said: &|_, _| {},
    };
    execute(plan, &with)
}

fn plain(services: serde_json::Value) -> (Fake, Result<(), UpError>) {
    let engine = Fake::default();
    let result = up(&engine, &project(services), &Silent, &Cancel::new().unwrap());
    (engine, result)
}

#[test]
fn a_second_run_does_nothing() {
    let services =
        json!({"web": {"image": "web", "depends_on": {"db": {"required": true}}}, "db": {"image": "db"}});
    let (engine, result) = plain(services.clone());
    result.unwrap();
    assert_eq!(engine.done(), ["create p-db-1", "start p-db-1", "create p-web-1", "start p-web-1"]);
    up(&engine, &project(services), &Silent, &Cancel::new().unwrap()).unwrap();
    assert!(engine.done().is_empty());
}

#[test]
fn a_container_that_cannot_start_leaves_nothing_and_the_rest_stays() {
    let engine = Fake::default();
    let message = "Bind for 0.0.0.0:80 failed: port is already allocated";
    engine.refuse("start p-web-1", message);
    let services =
        json!({"web": {"image": "web", "depends_on": {"db": {"required": true}}}, "db": {"image": "db"}});
    let error = up(&engine, &project(services), &Silent, &Cancel::new().unwrap()).unwrap_err().to_string();
    assert!(error.contains("service web: container p-web-1 could not be started"), "{error}");
    assert!(error.contains("the host's port 80, which service web publishes, is taken"), "{error}");
    assert_eq!(engine.names(), [("p-db-1".to_owned(), State::Running)]);
}

#[test]
fn a_replacement_that_cannot_start_gives_the_place_back() {
    let (engine, result) = plain(json!({"db": {"image": "db"}}));
    result.unwrap();
    let name = format!("{:012x}_p-db-1", 0);
    engine.refuse(&format!("start {name}"), "no");
    let changed = project(json!({"db": {"image": "db", "command": ["other"]}}));
    up(&engine, &changed, &Silent, &Cancel::new().unwrap()).unwrap_err();
    assert_eq!(engine.names(), [("p-db-1".to_owned(), State::Running)]);
    let done = engine.done();
    assert!(
        done.ends_with(&["stop p-db-1".to_owned(), format!("remove {name}"), "start p-db-1".to_owned()]),
        "{done:?}"
    );
}

#[test]
fn a_replacement_that_runs_is_finished_even_if_the_old_one_clings() {
    let (engine, result) = plain(json!({"db": {"image": "db"}}));
    result.unwrap();
    engine.refuse("remove p-db-1", "busy");
    let changed = project(json!({"db": {"image": "db", "command": ["other"]}}));
    let events = Recorded::default();
    up(&engine, &changed, &events, &Cancel::new().unwrap()).unwrap_err();
    assert_eq!(engine.names().len(), 2, "both are there");
    let warned =
        events.take().into_iter().any(|event| matches!(event, Event::Warning(text) if text.contains("busy")));
    assert!(warned);
    assert!(engine.names().iter().any(|(_, state)| *state == State::Running));
}

#[test]
fn a_stopped_command_begins_nothing_more() {
    let engine = Fake::default();
    let cancel = Cancel::new().unwrap();
    cancel.cancel();
    let error = up(&engine, &project(json!({"db": {"image": "db"}})), &Silent, &cancel).unwrap_err();
    assert!(matches!(error, UpError::Cancelled));
    assert!(engine.names().is_empty());
}

#[test]
fn an_unhealthy_dependency_stops_its_dependents_unless_it_is_not_required() {
    let status = Status {
        state: State::Running,
        exit_code: 0,
        health: Some(Health::Unhealthy),
        health_output: Some("connection refused".to_owned()),
        error: None,
        started: None,
    };
    let services = |required: bool| {
        json!({
            "web": {"image": "web", "depends_on": {"db": {"condition": "service_healthy", "required": required}}},
            "db": {"image": "db"},
        })
    };
    let engine = Fake::default();
    engine.set_status("p-db-1", status.clone());
    let error =
        up(&engine, &project(services(true)), &Silent, &Cancel::new().unwrap()).unwrap_err().to_string();
    assert!(error.contains("service db: container p-db-1 is unhealthy: connection refused"), "{error}");
    assert_eq!(engine.names(), [("p-db-1".to_owned(), State::Running)]);
    let engine = Fake::default();
    engine.set_status("p-db-1", status);
    up(&engine, &project(services(false)), &Silent, &Cancel::new().unwrap()).unwrap();
    assert_eq!(engine.names().len(), 2);
}

#[test]
fn hooks_run_in_the_container_and_a_failing_one_is_told_of() {
    let hook = |command: &str| json!([{"command": [command]}]);
    let (engine, result) = plain(json!({"db": {"image": "db", "post_start": hook("true")}}));
    result.unwrap();
    assert!(engine.done().contains(&"exec `true` in p-db-1".to_owned()));
    let (_, result) = plain(json!({"db": {"image": "db", "post_start": hook("false")}}));
    let error = result.unwrap_err().to_string();
    assert!(error.contains("post_start command `false`") && error.contains("ran false"), "{error}");
}

#[test]
fn events_name_the_step_and_its_cause() {
    let (engine, events) = (Fake::default(), Recorded::default());
    up(&engine, &project(json!({"db": {"image": "db"}})), &events, &Cancel::new().unwrap()).unwrap();
    let seen: Vec<_> = events
        .take()
        .into_iter()
        .filter_map(|event| match event {
            Event::ActionStarted { what, cause } => Some(format!("{what}: {cause}")),
            _ => None,
        })
        .collect();
    assert_eq!(seen, ["Container p-db-1  Create: it does not exist", "Container p-db-1  Start: it is new"]);
}

#[test]
fn independent_steps_run_beside_each_other() {
    let services: serde_json::Map<_, _> =
        (0..20).map(|number| (format!("s{number}"), json!({"image": "a", "scale": 3}))).collect();
    let project = project(serde_json::Value::Object(services));
    let engine = Fake::default();
    let seen = observe(&engine, "p").unwrap();
    let plan = reconcile(&project, &images(&project), &Files::default(), &seen, &Options::default()).unwrap();
    let (cancel, started) = (Cancel::new().unwrap(), Mutex::new(0));
    let count = |_: Started| *started.lock().unwrap() += 1;
    let with = Execution {
        engine: &engine,
        events: &Silent,
        cancel: &cancel,
        parallel: 8,
        kill_when_cancelled: true,
        started: &count,
        said: &|_, _| {},
    };
    execute(&plan, &with).unwrap();
    assert_eq!(*started.lock().unwrap(), 60);
}
