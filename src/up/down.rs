//! Plans that take things away or only change whether they run: `down`, `stop`, `start`, `kill`, `rm`.
//! Pure. What depends on what is read from the containers' labels, so that a project without its file
//! can be taken down as well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::diag::Diagnostic;
use crate::compose::Project;
use crate::engine::{self, Container, State};

use super::names;
use super::observe::{Observed, is_oneoff, label, service_of};
use super::plan::{Action, Cause, Plan, StepId, Until};
use super::reconcile::existing;

/// What the user asked of `down`.
#[derive(Clone, Debug, Default)]
pub struct DownOptions {
    /// The services that were named; none: all, and the networks.
    pub services: Vec<String>,
    /// Whether containers of services that the project does not have go too.
    pub remove_orphans: bool,
    /// Whether named volumes go too.
    pub volumes: bool,
    /// Names of images that go too; see [`removable_images`].
    pub images: Vec<String>,
    /// How long a container may take to stop, against its own time.
    pub timeout: Option<Duration>,
}

/// Everything of a project away, dependents before what they depend on. Without a project (its file is
/// not known) everything with its name's label counts. Anonymous volumes go with their containers.
pub fn down(name: &str, project: Option<&Project>, seen: &Observed, options: &DownOptions) -> Plan {
    let mut plan = Plan::default();
    let goes = |container: &&Container| {
        let service = service_of(container);
        let named = options.services.is_empty() || options.services.iter().any(|one| one == service);
        named && (options.remove_orphans || known(project, service))
    };
    let going: Vec<&Container> = seen.containers.iter().filter(goes).collect();
    let stay: Vec<&Container> = seen.containers.iter().filter(|one| !goes(one)).collect();
    let way = Way {
        project,
        timeout: options.timeout,
        remove: true,
        cause: Cause::Asked("the project is taken down"),
        ..Way::default()
    };
    let removed = way.take_away(&mut plan, &going);
    if !options.services.is_empty() {
        return plan;
    }
    for network in seen.networks.iter().filter(|network| ours(&network.labels, name)) {
        let users: Vec<_> = stay.iter().filter(|one| one.networks.contains_key(&network.name)).collect();
        if users.is_empty() {
            let action =
                Action::RemoveNetwork { required: false, id: network.id.clone(), name: network.name.clone() };
            plan.add(action, Cause::Asked("the project is taken down"), removed.clone());
        } else {
            let users: Vec<_> = users.iter().map(|one| one.name.as_str()).collect();
            plan.warnings.push(format!("network {} stays: {} use it", network.name, users.join(", ")));
        }
    }
    if options.volumes {
        for volume in seen.volumes.iter().filter(|volume| ours(&volume.labels, name)) {
            let action = Action::RemoveVolume { name: volume.name.clone() };
            plan.add(action, Cause::Asked("volumes are to go too"), removed.clone());
        }
    }
    for image in &options.images {
        let action = Action::RemoveImage { name: image.clone() };
        plan.add(action, Cause::Asked("images are to go too"), removed.clone());
    }
    plan
}

fn known(project: Option<&Project>, service: &str) -> bool {
    project.is_none_or(|project| {
        project.services.contains_key(service) || project.disabled.contains_key(service)
    })
}

fn ours(labels: &BTreeMap<String, String>, name: &str) -> bool {
    labels.get(names::PROJECT).is_some_and(|project| project == name)
}

/// The names of the project's images that the engine has: all, or those that only we gave a name.
pub fn removable_images(project: &Project, present: &[engine::Image], all: bool) -> Vec<String> {
    let tags: BTreeSet<&str> =
        present.iter().flat_map(|image| &image.tags).map(|tag| tag.trim_end_matches(":latest")).collect();
    let services = project.services.iter().filter(|(_, service)| all || service.image.is_none());
    let wanted = services.filter_map(|(name, _)| project.image_of(name));
    let mut names: Vec<_> = wanted.filter(|name| tags.contains(name.trim_end_matches(":latest"))).collect();
    names.sort();
    names.dedup();
    names
}

/// Stops the running containers of the services (none: all), dependents first.
/// `project` gives the commands that run before (`pre_stop`).
pub fn stop(
    project: Option<&Project>,
    seen: &Observed,
    services: &[String],
    timeout: Option<Duration>,
) -> Plan {
    let mut plan = Plan::default();
    let way = Way { project, timeout, cause: Cause::Asked("it is to stop"), ..Way::default() };
    way.take_away(&mut plan, &chosen(seen, services));
    plan
}

/// What the user asked of `start`.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// The services that were named; none: all.
    pub services: Vec<String>,
    /// Whether the end is waited for until everything runs or is healthy.
    pub wait: bool,
    /// How long each wait may take.
    pub wait_timeout: Option<Duration>,
}

/// Starts the containers of the services (none: all) and of what they depend on, as far as they do not run,
/// each after its dependencies are as it wants them. `project` gives the commands that run afterwards
/// (`post_start`) and which dependencies are required. A named service without a container is an error.
pub fn start(
    project: Option<&Project>,
    seen: &Observed,
    options: &StartOptions,
) -> Result<Plan, Vec<Diagnostic>> {
    let all = chosen(seen, &[]);
    let missing = |name: &&String| !all.iter().any(|one| service_of(one) == name.as_str());
    let missing: Vec<_> = options.services.iter().filter(missing).collect();
    if !missing.is_empty() {
        let problem = |name: &&String| {
            Diagnostic::error(format!("service `{name}` has no container to start"))
                .help("`up` or `create` makes it")
        };
        return Err(missing.iter().map(problem).collect());
    }
    let chosen = with_dependencies(&all, &options.services);
    let mut starting =
        Starting { project, options, chosen: &chosen, plan: Plan::default(), ready: BTreeMap::new() };
    let order = depended_first(&chosen);
    for service in &order {
        starting.service(service);
    }
    if options.wait {
        for service in &order {
            // Who is there to end is waited for until it has.
            let ends = chosen
                .iter()
                .flat_map(|one| conditions(one))
                .any(|(name, condition)| name == *service && condition == "service_completed_successfully");
            let until = if ends { Until::Completed } else { Until::Ready };
            starting.wait(service, until, true, Cause::Asked("waiting was asked for"));
        }
    }
    Ok(starting.plan)
}

/// The containers of the named services (none: all) and, by their labels, of what they depend on.
fn with_dependencies<'a>(all: &[&'a Container], named: &[String]) -> Vec<&'a Container> {
    if named.is_empty() {
        return all.to_vec();
    }
    let (mut services, mut left) = (BTreeSet::new(), named.to_vec());
    while let Some(name) = left.pop() {
        if services.insert(name.clone()) {
            left.extend(depends_on(all, &name));
        }
    }
    all.iter().filter(|one| services.contains(service_of(one))).copied().collect()
}

/// A plan that starts containers.
struct Starting<'a> {
    project: Option<&'a Project>,
    options: &'a StartOptions,
    chosen: &'a [&'a Container],
    plan: Plan,
    /// Service → the steps after which it is started.
    ready: BTreeMap<String, Vec<StepId>>,
}

impl Starting<'_> {
    /// Starts what does not run of a service.
    fn service(&mut self, service: &str) {
        let stopped = |one: &&&Container| {
            service_of(one) == service && matches!(one.state, State::Created | State::Exited)
        };
        let stopped: Vec<_> = self.chosen.iter().filter(stopped).copied().collect();
        if stopped.is_empty() {
            return;
        }
        let after = self.dependencies(service, stopped[0]);
        let described = self.project.and_then(|project| project.services.get(service));
        for container in stopped {
            let cause = Cause::NotRunning(container.state.name().to_owned());
            let target = existing(container);
            let mut last = self.plan.add(Action::Start(target.clone()), cause.clone(), after.clone());
            for hook in described.into_iter().flat_map(|service| &service.post_start) {
                let (container, hook) = (target.clone(), Box::new(hook.clone()));
                let action = Action::Hook { container, when: "post_start", hook };
                last = self.plan.add(action, cause.clone(), vec![last]);
            }
            self.ready.entry(service.to_owned()).or_default().push(last);
        }
    }

    /// What has to be before a container may start.
    fn dependencies(&mut self, service: &str, container: &Container) -> Vec<StepId> {
        let mut after = Vec::new();
        for (name, condition) in conditions(container) {
            let until = match condition.as_str() {
                "service_healthy" => Until::Healthy,
                "service_completed_successfully" => Until::Completed,
                _ => {
                    after.extend(self.ready.get(&name).into_iter().flatten());
                    continue;
                }
            };
            let described = self.project.and_then(|project| project.services.get(service));
            let on = described.and_then(|service| service.depends_on.get(&name));
            let required = on.is_none_or(|on| on.required);
            after.extend(self.wait(&name, until, required, Cause::NeededBy(service.to_owned())));
        }
        after
    }

    /// Waits for the containers of a service; nothing if it has none.
    fn wait(&mut self, service: &str, until: Until, required: bool, cause: Cause) -> Option<StepId> {
        let mine = self.chosen.iter().filter(|one| service_of(one) == service);
        let containers: Vec<_> = mine.map(|one| existing(one)).collect();
        if containers.is_empty() {
            return None;
        }
        let (service, within) = (service.to_owned(), self.options.wait_timeout);
        let after = self.ready.get(&service).cloned().unwrap_or_default();
        Some(self.plan.add(Action::Wait { service, containers, until, required, within }, cause, after))
    }
}

/// What a container's label says that it depends on: service and condition.
fn conditions(container: &Container) -> Vec<(String, String)> {
    let entries = label(container, names::DEPENDS_ON).split(',');
    let pair = |entry: &str| {
        let mut fields = entry.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some((name.to_owned(), fields.next().unwrap_or("service_started").to_owned()))
    };
    entries.filter_map(pair).collect()
}

/// Stops the running containers of the services (none: all) and starts them again, dependencies first. With
/// `dependents`, those of services that depend on them with `restart: true` too.
pub fn restart(
    project: Option<&Project>,
    seen: &Observed,
    services: &[String],
    dependents: bool,
    timeout: Option<Duration>,
) -> Plan {
    let mut plan = Plan::default();
    let mut services = services.to_vec();
    if dependents && !services.is_empty() {
        with_restarted(&chosen(seen, &[]), &mut services);
    }
    let chosen = chosen(seen, &services);
    let way = Way { project, timeout, cause: Cause::Asked("it is to restart"), ..Way::default() };
    let stopped = way.take_away(&mut plan, &chosen);
    let mut before: Vec<StepId> = stopped;
    for service in depended_first(&chosen) {
        let containers = chosen.iter().filter(|one| service_of(one) == service);
        let described = project.and_then(|project| project.services.get(service));
        let mut starts = Vec::new();
        for container in containers {
            let cause = Cause::Asked("it is to restart");
            let mut last = plan.add(Action::Start(existing(container)), cause.clone(), before.clone());
            for hook in described.into_iter().flat_map(|service| &service.post_start) {
                let (container, hook) = (existing(container), Box::new(hook.clone()));
                let action = Action::Hook { container, when: "post_start", hook };
                last = plan.add(action, cause.clone(), vec![last]);
            }
            starts.push(last);
        }
        if !starts.is_empty() {
            before = starts;
        }
    }
    plan
}

/// Adds the services that, by their containers' labels, are restarted with one of `services`.
fn with_restarted(all: &[&Container], services: &mut Vec<String>) {
    loop {
        let restarts = |one: &Container| {
            label(one, names::DEPENDS_ON).split(',').any(|entry| {
                let fields: Vec<_> = entry.split(':').collect();
                fields.get(2) == Some(&"true") && services.iter().any(|name| name == fields[0])
            })
        };
        let known = |one: &Container| services.iter().any(|name| name == service_of(one));
        let Some(further) = all.iter().find(|one| restarts(one) && !known(one)) else { return };
        let further = service_of(further).to_owned();
        services.push(further);
    }
}

/// Freezes the running containers of the services (none: all).
pub fn pause(seen: &Observed, services: &[String]) -> Plan {
    let mut plan = Plan::default();
    for container in chosen(seen, services).into_iter().filter(|one| one.state == State::Running) {
        plan.add(Action::Pause(existing(container)), Cause::Asked("it is to pause"), Vec::new());
    }
    plan
}

/// Lets the frozen containers of the services (none: all) go on.
pub fn unpause(seen: &Observed, services: &[String]) -> Plan {
    let mut plan = Plan::default();
    for container in chosen(seen, services).into_iter().filter(|one| one.state == State::Paused) {
        plan.add(Action::Unpause(existing(container)), Cause::Asked("it is to go on"), Vec::new());
    }
    plan
}

/// Sends a signal to the running containers of the services (none: all), those of `run` included; to those
/// of services that the project does not have with `orphans` only.
pub fn kill(
    project: Option<&Project>,
    seen: &Observed,
    services: &[String],
    signal: &str,
    orphans: bool,
) -> Plan {
    let mut plan = Plan::default();
    let named = |one: &&Container| services.is_empty() || services.iter().any(|name| name == service_of(one));
    let meant = |one: &&Container| runs(one) && (orphans || known(project, service_of(one)));
    for container in seen.containers.iter().filter(named).filter(meant) {
        let action = Action::Kill { container: existing(container), signal: signal.to_owned() };
        plan.add(action, Cause::Asked("a signal was asked for"), Vec::new());
    }
    plan
}

/// Removes the containers of the services (none: all) that do not run, or all after stopping them; their
/// anonymous volumes only with `volumes`.
pub fn remove(
    project: Option<&Project>,
    seen: &Observed,
    services: &[String],
    stop: bool,
    volumes: bool,
) -> Plan {
    let mut plan = Plan::default();
    let chosen = chosen(seen, services).into_iter().filter(|one| stop || !runs(one)).collect::<Vec<_>>();
    let cause = Cause::Asked("it is to go");
    let way = Way { project, remove: true, keep_volumes: !volumes, cause, ..Way::default() };
    way.take_away(&mut plan, &chosen);
    plan
}

fn chosen<'a>(seen: &'a Observed, services: &[String]) -> Vec<&'a Container> {
    let named = |one: &&Container| services.is_empty() || services.iter().any(|name| name == service_of(one));
    seen.containers.iter().filter(|one| !is_oneoff(one)).filter(named).collect()
}

const fn runs(container: &Container) -> bool {
    container.state.is_alive()
}

/// How containers are taken away.
struct Way<'a> {
    project: Option<&'a Project>,
    timeout: Option<Duration>,
    remove: bool,
    /// Whether anonymous volumes stay when a container is removed.
    keep_volumes: bool,
    cause: Cause,
}

impl Default for Way<'_> {
    fn default() -> Self {
        Self { project: None, timeout: None, remove: false, keep_volumes: false, cause: Cause::Unused }
    }
}

impl Way<'_> {
    /// Stops containers (and removes them), those of dependents first; the last steps.
    fn take_away(&self, plan: &mut Plan, containers: &[&Container]) -> Vec<StepId> {
        let mut gone: BTreeMap<&str, Vec<StepId>> = BTreeMap::new();
        let order = depended_first(containers);
        for service in order.iter().rev() {
            let dependents = order.iter().filter(|other| depends_on(containers, other).contains(*service));
            let after: Vec<_> = dependents.filter_map(|name| gone.get(*name)).flatten().copied().collect();
            for container in containers.iter().filter(|one| service_of(one) == *service) {
                let last = self.take(plan, container, after.clone());
                gone.entry(service).or_default().extend(last);
            }
        }
        let mut steps: Vec<_> = gone.into_values().flatten().collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// One container; its last step, or what it comes after if there is nothing to do.
    fn take(&self, plan: &mut Plan, container: &Container, after: Vec<StepId>) -> Vec<StepId> {
        let mut last = after;
        if runs(container) {
            let service = self.project.and_then(|project| project.services.get(service_of(container)));
            // Nothing can be run in a container that is frozen or between two runs.
            let hooks = service.into_iter().flat_map(|service| &service.pre_stop);
            for hook in hooks.filter(|_| container.state == State::Running) {
                let (container, hook) = (existing(container), Box::new(hook.clone()));
                let action = Action::Hook { container, when: "pre_stop", hook };
                last = vec![plan.add(action, self.cause.clone(), last)];
            }
            let action = Action::Stop { container: existing(container), timeout: self.timeout };
            last = vec![plan.add(action, self.cause.clone(), last)];
        }
        if self.remove {
            let action = Action::Remove { container: existing(container), volumes: !self.keep_volumes };
            last = vec![plan.add(action, self.cause.clone(), last)];
        }
        last
    }
}

/// The services that a service's containers say they depend on.
fn depends_on(containers: &[&Container], service: &str) -> BTreeSet<String> {
    let mine = containers.iter().filter(|one| service_of(one) == service);
    let entries = mine.flat_map(|one| label(one, names::DEPENDS_ON).split(','));
    let names = entries.filter_map(|entry| entry.split(':').next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The services of the containers, each after those that it depends on.
fn depended_first<'a>(containers: &[&'a Container]) -> Vec<&'a str> {
    let mut order = Vec::new();
    let mut waiting: BTreeSet<&str> = containers.iter().map(|one| service_of(one)).collect();
    while !waiting.is_empty() {
        let blocked = |service: &str| {
            depends_on(containers, service).iter().any(|on| on != service && waiting.contains(on.as_str()))
        };
        let mut free: Vec<&str> = waiting.iter().copied().filter(|service| !blocked(service)).collect();
        if free.is_empty() {
            // Labels of another origin may go in circles; any order is as good.
            free = waiting.iter().copied().collect();
        }
        waiting.retain(|service| !free.contains(service));
        order.extend(free);
    }
    order
}

#[cfg(test)]
mod tests {
    use crate::engine::{Network, Volume};

    use super::*;

    fn container(service: &str, state: State, depends_on: &str) -> Container {
        let labels = [
            (names::PROJECT, "p"),
            (names::SERVICE, service),
            (names::NUMBER, "1"),
            (names::ONEOFF, "False"),
            (names::DEPENDS_ON, depends_on),
        ];
        Container {
            id: format!("id-{service}"),
            name: format!("p-{service}-1"),
            image: String::new(),
            image_id: None,
            command: String::new(),
            created: 0,
            state,
            status: String::new(),
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            networks: [("p_default".to_owned(), "n".to_owned())].into(),
            ports: Vec::new(),
            mounts: Vec::new(),
        }
    }

    fn seen() -> Observed {
        let labels = BTreeMap::from([(names::PROJECT.to_owned(), "p".to_owned())]);
        let driver = "bridge".to_owned();
        Observed {
            containers: vec![
                container("web", State::Running, "db:service_started:false"),
                container("db", State::Running, ""),
                container("gone", State::Exited, "db:service_started:false"),
            ],
            networks: vec![
                Network { id: "n".to_owned(), name: "p_default".to_owned(), driver, labels: labels.clone() },
                Network {
                    id: "m".to_owned(),
                    name: "other".to_owned(),
                    driver: String::new(),
                    labels: BTreeMap::new(),
                },
            ],
            volumes: vec![Volume {
                name: "p_data".to_owned(),
                driver: "local".to_owned(),
                labels,
                ..Volume::default()
            }],
        }
    }

    fn project() -> Project {
        serde_json::from_str(r#"{"name": "p", "services": {"web": {}, "db": {}}}"#).unwrap()
    }

    #[test]
    fn dependents_go_first_and_orphans_keep_their_network() {
        let plan = down("p", Some(&project()), &seen(), &DownOptions::default());
        insta::assert_snapshot!(plan, @r"
        1. container p-web-1: stop (the project is taken down)
        2. container p-web-1: remove (the project is taken down) after 1
        3. container p-db-1: stop (the project is taken down) after 2
        4. container p-db-1: remove (the project is taken down) after 3
        warning: network p_default stays: p-gone-1 use it
        ");
    }

    #[test]
    fn everything_goes_when_asked_for_or_without_a_file() {
        let options =
            DownOptions { volumes: true, images: vec!["p-web".to_owned()], ..DownOptions::default() };
        insta::assert_snapshot!(down("p", None, &seen(), &options), @r"
        1. container p-web-1: stop (the project is taken down)
        2. container p-web-1: remove (the project is taken down) after 1
        3. container p-gone-1: remove (the project is taken down)
        4. container p-db-1: stop (the project is taken down) after 2, 3
        5. container p-db-1: remove (the project is taken down) after 4
        6. network p_default: remove (the project is taken down) after 2, 3, 5
        7. volume p_data: remove (volumes are to go too) after 2, 3, 5
        8. image p-web: remove (images are to go too) after 2, 3, 5
        ");
    }

    #[test]
    fn stop_start_restart_kill_and_rm() {
        let mut seen = seen();
        insta::assert_snapshot!(stop(None, &seen, &["db".to_owned()], None), @"1. container p-db-1: stop (it is to stop)");
        insta::assert_snapshot!(restart(None, &seen, &["web".to_owned(), "db".to_owned()], true, None), @r"
        1. container p-web-1: stop (it is to restart)
        2. container p-db-1: stop (it is to restart) after 1
        3. container p-db-1: start (it is to restart) after 1, 2
        4. container p-web-1: start (it is to restart) after 3
        ");
        insta::assert_snapshot!(kill(Some(&project()), &seen, &["db".to_owned()], "9", false), @"1. container p-db-1: send 9 (a signal was asked for)");
        insta::assert_snapshot!(kill(None, &seen, &[], "SIGHUP", false), @r"
        1. container p-web-1: send SIGHUP (a signal was asked for)
        2. container p-db-1: send SIGHUP (a signal was asked for)
        ");
        insta::assert_snapshot!(remove(None, &seen, &[], false, false), @"1. container p-gone-1: remove, but not its anonymous volumes (it is to go)");
        seen.containers.iter_mut().for_each(|one| one.state = State::Exited);
        insta::assert_snapshot!(start(None, &seen, &StartOptions::default()).unwrap(), @r"
        1. container p-db-1: start (it is exited)
        2. container p-gone-1: start (it is exited) after 1
        3. container p-web-1: start (it is exited) after 1
        ");
    }

    #[test]
    fn only_what_runs_pauses_and_only_what_pauses_goes_on() {
        let mut seen = seen();
        seen.containers[0].state = State::Paused;
        insta::assert_snapshot!(pause(&seen, &[]), @"1. container p-db-1: pause (it is to pause)");
        insta::assert_snapshot!(unpause(&seen, &[]), @"1. container p-web-1: unpause (it is to go on)");
        assert!(unpause(&seen, &["db".to_owned()]).is_empty());
    }

    #[test]
    fn orphans_are_killed_when_asked_for() {
        let mut seen = seen();
        seen.containers[2].state = State::Running;
        let killed = |orphans| kill(Some(&project()), &seen, &[], "9", orphans).steps.len();
        assert_eq!((killed(false), killed(true)), (2, 3));
    }

    #[test]
    fn circles_in_labels_do_not_hang() {
        let seen = Observed {
            containers: vec![
                container("a", State::Running, "b:service_started:false"),
                container("b", State::Running, "a:service_started:false"),
            ],
            ..Observed::default()
        };
        assert_eq!(stop(None, &seen, &[], None).steps.len(), 2);
    }

    #[test]
    fn start_takes_dependencies_along_and_waits_as_the_labels_say() {
        let named = |services: &[&str], wait| StartOptions {
            services: services.iter().map(|name| (*name).to_owned()).collect(),
            wait,
            wait_timeout: wait.then_some(Duration::from_secs(5)),
        };
        let seen = Observed {
            containers: vec![
                container(
                    "web",
                    State::Exited,
                    "db:service_healthy:true,init:service_completed_successfully:false",
                ),
                container("db", State::Running, ""),
                container("init", State::Exited, ""),
                container("other", State::Exited, ""),
            ],
            ..Observed::default()
        };
        insta::assert_snapshot!(start(None, &seen, &named(&["web"], true)).unwrap(), @r"
        1. container p-init-1: start (it is exited)
        2. service db: wait until healthy, at most 5 s (web depends on it)
        3. service init: wait until completed, at most 5 s (web depends on it) after 1
        4. container p-web-1: start (it is exited) after 2, 3
        5. service db: wait until running or healthy, at most 5 s (waiting was asked for)
        6. service init: wait until completed, at most 5 s (waiting was asked for) after 1
        7. service web: wait until running or healthy, at most 5 s (waiting was asked for) after 4
        ");
        let problems = start(None, &seen, &named(&["nope"], false)).unwrap_err();
        assert_eq!(problems[0].message, "service `nope` has no container to start");
    }

    #[test]
    fn restart_takes_along_who_wants_to_be_restarted() {
        let seen = Observed {
            containers: vec![
                container("db", State::Running, ""),
                container("app", State::Running, "db:service_started:true"),
                container("web", State::Running, "app:service_started:true"),
                container("other", State::Running, "db:service_started:false"),
            ],
            ..Observed::default()
        };
        let services = |dependents| {
            let plan = restart(None, &seen, &["db".to_owned()], dependents, None);
            plan.steps.iter().filter(|step| matches!(step.action, Action::Start(_))).count()
        };
        assert_eq!((services(true), services(false)), (3, 1));
    }

    #[test]
    fn hooks_run_only_where_something_can_be_run() {
        let project: Project = serde_json::from_str(
            r#"{"name": "p", "services": {"web": {"pre_stop": [{"command": ["bye"]}]}}}"#,
        )
        .unwrap();
        let hooks = |state| {
            let seen = Observed { containers: vec![container("web", state, "")], ..Observed::default() };
            let plan = down("p", Some(&project), &seen, &DownOptions::default());
            plan.steps.iter().filter(|step| matches!(step.action, Action::Hook { .. })).count()
        };
        assert_eq!([State::Running, State::Paused, State::Restarting].map(hooks), [1, 0, 0]);
    }
}
