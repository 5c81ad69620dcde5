//! What the engine has of a project: one round of questions, asked side by side.

use std::thread;

use crate::engine::{self, Container, Engine, Network, Volume};

use super::names;

/// What the engine has.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The project's containers, those of `run` included, by service and number.
    pub containers: Vec<Container>,
    /// Every network of the engine.
    pub networks: Vec<Network>,
    /// Every volume of the engine.
    pub volumes: Vec<Volume>,
}

/// Asks the engine for everything that planning needs to know of the project.
pub fn observe(engine: &dyn Engine, project: &str) -> engine::Result<Observed> {
    let label = format!("{}={project}", names::PROJECT);
    thread::scope(|scope| {
        let networks = scope.spawn(|| engine.networks());
        let volumes = scope.spawn(|| engine.volumes());
        let mut containers = engine.containers(&[&label])?;
        containers.sort_by_key(|container| {
            (service_of(container).to_owned(), number_of(container), container.created, container.id.clone())
        });
        let (networks, volumes) = (joined(networks)?, joined(volumes)?);
        Ok(Observed { containers, networks, volumes })
    })
}

/// The thread's result; its panic goes on in this thread.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The service that a container belongs to.
pub(super) fn service_of(container: &Container) -> &str {
    label(container, names::SERVICE)
}

/// A container's number in its service; 0 where it has none.
pub(super) fn number_of(container: &Container) -> u32 {
    label(container, names::NUMBER).parse().unwrap_or(0)
}

/// Whether it was made by `run`.
pub(super) fn is_oneoff(container: &Container) -> bool {
    label(container, names::ONEOFF).eq_ignore_ascii_case("true")
}

/// A label's value; empty where there is none.
pub(super) fn label<'a>(container: &'a Container, name: &str) -> &'a str {
    container.labels.get(name).map_or("", String::as_str)
}

/// Which containers of a service are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// Those of `run` too, after all others.
    pub one_off: bool,
    /// Only those that run.
    pub running: bool,
    /// Only the one with this number; 0: all.
    pub index: u32,
}

/// The containers of a service that are meant, by number.
pub fn members<'a>(containers: &'a [Container], service: &str, wanted: &Members) -> Vec<&'a Container> {
    let runs = |one: &Container| one.state.is_alive();
    let meant = |one: &&Container| {
        service_of(one) == service
            && (wanted.one_off || !is_oneoff(one))
            && (!wanted.running || runs(one))
            && (wanted.index == 0 || (number_of(one) == wanted.index && !is_oneoff(one)))
    };
    let mut found: Vec<&Container> = containers.iter().filter(meant).collect();
    found.sort_by_key(|one| (is_oneoff(one), number_of(one)));
    found
}
