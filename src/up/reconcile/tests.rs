//! Plans from literal projects and observations; a simulated engine shows that a plan reaches its goal.

mod changes;

use serde_json::{Value, json};

use crate::base::digest::Digest;
use crate::compose::Project;
use crate::engine::{Container, Network, State, Volume};

use super::super::plan::{Action, Handle, Plan, Until};
use super::super::{Files, Observed};
use super::*;

/// A project from the form that `config` prints.
fn project(services: Value) -> Project {
    let mut whole =
        json!({"name": "p", "services": services, "networks": {"default": {"name": "p_default"}}});
    for service in whole["services"].as_object_mut().unwrap().values_mut() {
        let service = service.as_object_mut().unwrap();
        if !service.contains_key("networks") && !service.contains_key("network_mode") {
            service.insert("networks".to_owned(), json!({"default": null}));
        }
        for on in service.get_mut("depends_on").and_then(Value::as_object_mut).into_iter().flatten() {
            let on = on.1.as_object_mut().unwrap();
            on.entry("condition").or_insert(json!("service_started"));
            on.entry("required").or_insert(json!(true));
        }
    }
    serde_json::from_value(whole).unwrap()
}

fn images(project: &Project) -> Images {
    let image = |name: &String| {
        let reference = project.image_of(name).unwrap();
        (name.clone(), Image { id: Digest::of(&reference), reference })
    };
    project.services.keys().map(image).collect()
}

fn plan(project: &Project, seen: &Observed, options: &Options) -> Plan {
    reconcile(project, &images(project), &Files::default(), seen, options).unwrap()
}

/// What an engine has after a plan.
fn apply(seen: &mut Observed, plan: &Plan) {
    apply_first(seen, plan, plan.steps.len());
}

/// What an engine has when a plan is cut short after so many steps.
fn apply_first(seen: &mut Observed, plan: &Plan, steps: usize) {
    let mut made = BTreeMap::new();
    let ids = seen.containers.iter().map(|one| &one.id).chain(seen.networks.iter().map(|one| &one.id));
    let mut seen_ids = ids.filter_map(|id| u64::from_str_radix(id, 16).ok()).max().unwrap_or(0);
    let id_of = |handle: &Handle, made: &BTreeMap<StepId, String>| match handle {
        Handle::Id(id) => id.clone(),
        Handle::MadeBy(step) => made[step].clone(),
    };
    for (index, step) in plan.steps.iter().enumerate().take(steps) {
        assert!(step.after.iter().all(|before| before.0 < index), "a step waits for a later one:\n{plan}");
        seen_ids += 1;
        let fresh = format!("{:064x}", seen_ids);
        match &step.action {
            Action::CreateNetwork(spec) => {
                assert!(!seen.networks.iter().any(|network| network.name == spec.name), "{plan}");
                let (name, labels) = (spec.name.clone(), spec.labels.clone());
                seen.networks.push(Network { id: fresh, name, driver: "bridge".to_owned(), labels });
            }
            Action::RemoveNetwork { id, .. } => seen.networks.retain(|network| network.id != *id),
            Action::CreateVolume(spec) => seen.volumes.push(Volume {
                name: spec.name.clone(),
                driver: "local".to_owned(),
                labels: spec.labels.clone(),
                ..Volume::default()
            }),
            Action::RemoveVolume { name, .. } => seen.volumes.retain(|volume| volume.name != *name),
            Action::Create(creation) => {
                let name = creation.temporary.clone().unwrap_or_else(|| creation.name.clone());
                assert!(
                    !seen.containers.iter().any(|container| container.name == name),
                    "{name} twice:\n{plan}"
                );
                let mut labels = creation.spec.labels.clone();
                let shares = |(service, target): &(String, super::super::plan::Target)| {
                    format!("{service}={}", id_of(&target.handle, &made))
                };
                let shares: Vec<_> = creation.shares.iter().map(shares).collect();
                labels.insert("dev.shipway.shares".to_owned(), shares.join(","));
                let networks = creation.spec.networks.iter().map(|attachment| {
                    let network = seen.networks.iter().find(|network| network.name == attachment.network);
                    (attachment.network.clone(), network.expect("the network is there").id.clone())
                });
                made.insert(StepId(index), fresh.clone());
                seen.containers.push(Container {
                    networks: networks.collect(),
                    labels,
                    ..container(&fresh, &name, State::Created)
                });
            }
            Action::Start(target) => {
                let id = id_of(&target.handle, &made);
                let place = |one: &Container| {
                    ["service", "container-number"]
                        .map(|name| one.labels[&format!("com.docker.compose.{name}")].clone())
                };
                let mine = place(find(seen, &id));
                let mut running =
                    seen.containers.iter().filter(|one| one.state == State::Running && one.id != id);
                assert!(!running.any(|one| place(one) == mine), "two in one place:\n{plan}");
                state(seen, &id, State::Running);
            }
            Action::Stop { container, .. } => state(seen, &id_of(&container.handle, &made), State::Exited),
            Action::Remove { container, .. } => {
                let id = id_of(&container.handle, &made);
                let gone = seen.containers.iter().position(|container| container.id == id).unwrap();
                assert_ne!(
                    seen.containers.remove(gone).state,
                    State::Running,
                    "removed while running:\n{plan}"
                );
            }
            Action::Rename { container, to } => {
                assert!(!seen.containers.iter().any(|one| one.name == *to), "{to} is taken:\n{plan}");
                find(seen, &id_of(&container.handle, &made)).name.clone_from(to);
            }
            Action::Disconnect { container, network } => {
                find(seen, &id_of(&container.handle, &made)).networks.remove(network);
            }
            Action::Connect { container, attachment } => {
                let network = seen.networks.iter().find(|network| network.name == attachment.network);
                let network = network.unwrap().id.clone();
                let container = find(seen, &id_of(&container.handle, &made));
                container.networks.insert(attachment.network.clone(), network);
            }
            Action::Pause(_)
            | Action::Fill { .. }
            | Action::Unpause(_)
            | Action::Kill { .. }
            | Action::Wait { .. }
            | Action::Hook { .. }
            | Action::Prepare(_)
            | Action::RemoveImage { .. } => {}
        }
    }
}

fn find<'a>(seen: &'a mut Observed, id: &str) -> &'a mut Container {
    seen.containers.iter_mut().find(|container| container.id == id).unwrap()
}

fn state(seen: &mut Observed, id: &str, state: State) {
    find(seen, id).state = state;
}

fn container(id: &str, name: &str, state: State) -> Container {
    Container {
        id: id.to_owned(),
        name: name.to_owned(),
        image: String::new(),
        image_id: None,
        command: String::new(),
        created: 0,
        state,
        status: String::new(),
        labels: BTreeMap::new(),
        networks: BTreeMap::new(),
        ports: Vec::new(),
        mounts: Vec::new(),
    }
}

/// What is there when everything is as the project says; a second plan is empty.
fn converged(project: &Project) -> Observed {
    let mut seen = Observed::default();
    settle(project, &mut seen);
    seen
}

fn settle(project: &Project, seen: &mut Observed) {
    let first = plan(project, seen, &Options::default());
    apply(seen, &first);
    let second = plan(project, seen, &Options::default());
    assert!(second.is_empty(), "the plan\n{first}leaves\n{second}");
}

/// The plan from the state of one project to another.
fn change(before: Value, after: Value) -> String {
    let mut seen = converged(&project(before));
    let after = project(after);
    let plan = plan(&after, &seen, &Options::default());
    // Wherever it is cut short, the next run comes to the same end.
    for steps in 0..plan.steps.len() {
        let mut partly = seen.clone();
        apply_first(&mut partly, &plan, steps);
        settle(&after, &mut partly);
        assert!(partly.containers.iter().all(|one| !one.name.contains('_')), "names: {plan}");
    }
    settle(&after, &mut seen);
    plan.to_string()
}

fn two() -> Value {
    json!({
        "web": {"image": "web", "depends_on": {"db": {}}},
        "db": {"image": "db"},
    })
}

fn edited(mut services: Value, path: &str, value: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').unwrap();
    services.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
    services
}

#[test]
fn from_nothing_everything_is_made_in_the_order_of_dependencies() {
    insta::assert_snapshot!(plan(&project(two()), &Observed::default(), &Options::default()), @r"
    1. network p_default: create (it does not exist)
    2. container p-db-1: create (it does not exist) after 1
    3. container p-db-1: start (it is new) after 2
    4. container p-web-1: create (it does not exist) after 1
    5. container p-web-1: start (it is new) after 3, 4
    ");
}

#[test]
fn what_is_as_it_should_be_is_not_touched() {
    converged(&project(two()));
}

#[test]
fn only_the_changed_service_is_replaced() {
    insta::assert_snapshot!(change(two(), edited(two(), "/web/environment", json!({"A": "1"}))), @r"
    1. container p-web-1: create as 000000000000_p-web-1 (environment changed)
    2. container p-web-1: stop (it is replaced) after 1
    3. container p-web-1: start (it replaces 000000000000) after 1, 2
    4. container p-web-1: remove (it is replaced) after 3
    5. container p-web-1: rename to p-web-1 (it replaces 000000000000) after 4
    ");
}

#[test]
fn a_new_image_replaces_and_dependents_stay() {
    insta::assert_snapshot!(change(two(), edited(two(), "/db/image", json!("db:2"))), @r"
    1. container p-db-1: create as 000000000000_p-db-1 (its image changed)
    2. container p-db-1: stop (it is replaced) after 1
    3. container p-db-1: start (it replaces 000000000000) after 1, 2
    4. container p-db-1: remove (it is replaced) after 3
    5. container p-db-1: rename to p-db-1 (it replaces 000000000000) after 4
    ");
}

#[test]
fn the_same_image_under_another_name_touches_nothing() {
    let project = project(two());
    let seen = converged(&project);
    let mut images = images(&project);
    images.get_mut("web").unwrap().reference = "renamed".to_owned();
    let plan = reconcile(&project, &images, &Files::default(), &seen, &Options::default()).unwrap();
    assert!(plan.is_empty(), "{plan}");
}

#[test]
fn keys_that_a_container_does_not_see_touch_nothing() {
    let after =
        edited(edited(two(), "/web/pull_policy", json!("always")), "/web/deploy", json!({"replicas": 1}));
    assert_eq!(change(two(), after), "");
    assert_eq!(change(two(), edited(two(), "/web/depends_on", json!({}))), "");
}

#[test]
fn a_dependent_that_asks_for_it_is_restarted() {
    let restart = edited(two(), "/web/depends_on", json!({"db": {"restart": true}}));
    insta::assert_snapshot!(change(restart.clone(), edited(restart, "/db/image", json!("db:2"))), @r"
    1. container p-web-1: stop (db is replaced)
    2. container p-db-1: create as 000000000000_p-db-1 (its image changed)
    3. container p-db-1: stop (it is replaced) after 1, 2
    4. container p-db-1: start (it replaces 000000000000) after 2, 3
    5. container p-db-1: remove (it is replaced) after 4
    6. container p-db-1: rename to p-db-1 (it replaces 000000000000) after 5
    7. container p-web-1: start (db is replaced) after 1, 4, 6
    ");
}

#[test]
fn a_container_that_shares_a_namespace_is_replaced_with_its_owner() {
    let services = json!({
        "app": {"image": "app"},
        "side": {"image": "side", "network_mode": "service:app", "depends_on": {"app": {"restart": true}}},
    });
    insta::assert_snapshot!(change(services.clone(), edited(services, "/app/image", json!("app:2"))), @r"
    1. container p-app-1: create as 000000000000_p-app-1 (its image changed)
    2. container p-app-1: stop (it is replaced) after 1
    3. container p-app-1: start (it replaces 000000000000) after 1, 2
    4. container p-app-1: remove (it is replaced) after 3
    5. container p-app-1: rename to p-app-1 (it replaces 000000000000) after 4
    6. container p-side-1: create as 000000000000_p-side-1 (it shares with app, which is replaced) after 1
    7. container p-side-1: stop (it is replaced) after 3, 5, 6
    8. container p-side-1: start (it replaces 000000000000) after 6, 7
    9. container p-side-1: remove (it is replaced) after 8
    10. container p-side-1: rename to p-side-1 (it replaces 000000000000) after 9
    ");
}

#[test]
fn scaling_makes_the_next_numbers_and_removes_the_highest() {
    let one = json!({"web": {"image": "web"}});
    let three = edited(one.clone(), "/web/scale", json!(3));
    insta::assert_snapshot!(change(one.clone(), three.clone()), @r"
    1. container p-web-2: create (it does not exist)
    2. container p-web-2: start (it is new) after 1
    3. container p-web-3: create (it does not exist)
    4. container p-web-3: start (it is new) after 3
    ");
    insta::assert_snapshot!(change(three, one), @r"
    1. container p-web-2: stop (there are more than 1)
    2. container p-web-2: remove (there are more than 1) after 1
    3. container p-web-3: stop (there are more than 1)
    4. container p-web-3: remove (there are more than 1) after 3
    ");
}

#[test]
fn a_container_that_ended_is_started() {
    let project = project(two());
    let mut seen = converged(&project);
    find_by_name(&mut seen, "p-db-1").state = State::Exited;
    insta::assert_snapshot!(plan(&project, &seen, &Options::default()), @"1. container p-db-1: start (it is exited)");
}

#[test]
fn conditions_are_waited_for_once_and_only_where_something_starts() {
    let healthy = json!({"db": {"condition": "service_healthy"}, "job": {"condition": "service_completed_successfully", "required": false}});
    let services = json!({
        "a": {"image": "a", "depends_on": healthy.clone()},
        "b": {"image": "b", "depends_on": healthy},
        "db": {"image": "db"},
        "job": {"image": "job"},
    });
    let project = project(services);
    insta::assert_snapshot!(plan(&project, &Observed::default(), &Options::default()), @r"
    1. network p_default: create (it does not exist)
    2. container p-db-1: create (it does not exist) after 1
    3. container p-db-1: start (it is new) after 2
    4. container p-job-1: create (it does not exist) after 1
    5. container p-job-1: start (it is new) after 4
    6. service db: wait until healthy (a depends on it) after 3
    7. service job: wait until completed, if possible (a depends on it) after 5
    8. container p-a-1: create (it does not exist) after 1
    9. container p-a-1: start (it is new) after 6, 7, 8
    10. container p-b-1: create (it does not exist) after 1
    11. container p-b-1: start (it is new) after 6, 7, 10
    ");
    let mut seen = converged(&project);
    find_by_name(&mut seen, "p-a-1").state = State::Exited;
    find_by_name(&mut seen, "p-db-1").status = "Up 3 minutes (healthy)".to_owned();
    let job = find_by_name(&mut seen, "p-job-1");
    (job.state, job.status) = (State::Exited, "Exited (0) 2 minutes ago".to_owned());
    insta::assert_snapshot!(plan(&project, &seen, &Options::default()), @r"
    1. container p-job-1: start (it is exited)
    2. service job: wait until completed, if possible (a depends on it) after 1
    3. container p-a-1: start (it is exited) after 2
    ");
}

#[test]
fn orphans_are_remarked_upon_or_removed() {
    let mut seen = converged(&project(two()));
    let only = project(json!({"db": {"image": "db"}}));
    let options = Options { remove_orphans: true, ..Options::default() };
    insta::assert_snapshot!(plan(&only, &seen, &Options::default()), @r"
    warning: found orphan containers (p-web-1) of this project
     = help: if you removed or renamed their service, --remove-orphans cleans them up
    ");
    let removal = plan(&only, &seen, &options);
    insta::assert_snapshot!(removal, @r"
    1. container p-web-1: stop (the project has no such service)
    2. container p-web-1: remove (the project has no such service) after 1
    ");
    apply(&mut seen, &removal);
    assert_eq!(seen.containers.len(), 1);
}

#[test]
fn a_container_of_docker_compose_is_adopted_by_one_replacement() {
    let project = project(json!({"db": {"image": "db"}}));
    let mut seen = converged(&project);
    find_by_name(&mut seen, "p-db-1").labels.retain(|name, _| !name.starts_with("dev.shipway."));
    insta::assert_snapshot!(plan(&project, &seen, &Options::default()), @r"
    1. container p-db-1: create as 000000000000_p-db-1 (it was made by Docker Compose)
    2. container p-db-1: stop (it is replaced) after 1
    3. container p-db-1: start (it replaces 000000000000) after 1, 2
    4. container p-db-1: remove (it is replaced) after 3
    5. container p-db-1: rename to p-db-1 (it replaces 000000000000) after 4
    ");
    settle(&project, &mut seen);
}

#[test]
fn a_replacement_that_was_cut_short_is_finished() {
    let project = project(json!({"db": {"image": "db"}}));
    let mut seen = converged(&project);
    // The new one runs under its temporary name; the old one is stopped.
    let new = find_by_name(&mut seen, "p-db-1");
    let old = Container { id: "old".to_owned(), state: State::Exited, ..new.clone() };
    new.name = "0123456789ab_p-db-1".to_owned();
    seen.containers.push(old);
    find(&mut seen, "old").labels.insert("dev.shipway.identity".to_owned(), "another".to_owned());
    insta::assert_snapshot!(plan(&project, &seen, &Options::default()), @r"
    1. container p-db-1: remove (it is replaced)
    2. container 0123456789ab_p-db-1: rename to p-db-1 (it is called 0123456789ab_p-db-1) after 1
    ");
    settle(&project, &mut seen);
}

#[test]
fn a_network_with_other_options_is_made_anew_and_its_containers_come_back() {
    let mut after = project(two());
    let mut seen = converged(&after);
    after.networks.get_mut("default").unwrap().internal = true;
    insta::assert_snapshot!(plan(&after, &seen, &Options::default()), @r"
    1. container p-db-1: stop (network p_default is made anew)
    2. container p-db-1: disconnect from network p_default (network p_default is made anew) after 1
    3. container p-web-1: stop (network p_default is made anew)
    4. container p-web-1: disconnect from network p_default (network p_default is made anew) after 3
    5. network p_default: remove (its options changed) after 2, 4
    6. network p_default: create (it is replaced) after 5
    7. container p-db-1: connect to network p_default (network p_default is made anew) after 6
    8. container p-web-1: connect to network p_default (network p_default is made anew) after 6
    9. container p-db-1: start (network p_default is made anew) after 1, 7
    10. container p-web-1: start (network p_default is made anew) after 3, 8, 9
    ");
    settle(&after, &mut seen);
}

#[test]
fn volumes_are_made_first_and_never_made_anew() {
    let mut whole = project(json!({"db": {"image": "db",
        "volumes": [{"type": "volume", "source": "data", "target": "/data"}]}}));
    let volume =
        |options: Value| serde_json::from_value(json!({"name": "p_data", "driver_opts": options})).unwrap();
    whole.volumes.insert("data".to_owned(), volume(json!({})));
    insta::assert_snapshot!(plan(&whole, &Observed::default(), &Options::default()), @r"
    1. network p_default: create (it does not exist)
    2. volume p_data: create (it does not exist)
    3. container p-db-1: create (it does not exist) after 1, 2
    4. container p-db-1: start (it is new) after 3
    ");
    let mut seen = Observed::default();
    settle(&whole, &mut seen);
    whole.volumes.insert("data".to_owned(), volume(json!({"type": "tmpfs"})));
    insta::assert_snapshot!(plan(&whole, &seen, &Options::default()), @r"
    warning: volume p_data was made with other options; it stays as it is, because making it anew would lose its data
     = help: remove it to apply them
    ");
}

#[test]
fn external_things_must_be_there() {
    let mut whole = project(two());
    whole.networks.get_mut("default").unwrap().external = true;
    let problems =
        reconcile(&whole, &images(&whole), &Files::default(), &Observed::default(), &Options::default());
    insta::assert_snapshot!(problems.unwrap_err()[0].render(false), @r"
    error: the external network `p_default` does not exist
     = help: make it with `docker network create p_default`, or take `external` away
    ");
}

#[test]
fn named_services_bring_their_dependencies_unless_told_not_to() {
    let services = edited(two(), "/other", json!({"image": "other"}));
    let project = project(services);
    let named = Options { services: vec!["web".to_owned()], ..Options::default() };
    let all = plan(&project, &Observed::default(), &named).to_string();
    assert!(all.contains("p-db-1") && !all.contains("p-other-1"), "{all}");
    let alone = plan(&project, &Observed::default(), &Options { no_dependencies: true, ..named }).to_string();
    assert!(alone.contains("p-web-1") && !alone.contains("p-db-1"), "{alone}");
}

#[test]
fn options_force_forbid_and_only_create() {
    let project = project(json!({"db": {"image": "db"}}));
    let seen = converged(&project);
    let forced = Options { recreate: Recreate::Always, start: false, ..Options::default() };
    insta::assert_snapshot!(plan(&project, &seen, &forced), @r"
    1. container p-db-1: create as 000000000000_p-db-1 (recreation was asked for)
    2. container p-db-1: stop (it is replaced) after 1
    3. container p-db-1: remove (it is replaced) after 1, 2
    4. container p-db-1: rename to p-db-1 (it replaces 000000000000) after 3
    ");
    let never = Options { recreate: Recreate::Never, ..Options::default() };
    let changed = self::project(json!({"db": {"image": "db:2"}}));
    assert!(plan(&changed, &seen, &never).is_empty());
    let waiting = Options { wait: true, ..Options::default() };
    let text = plan(&project, &Observed::default(), &waiting).to_string();
    assert!(text.contains("service db: wait until running or healthy"), "{text}");
}

#[test]
fn a_wait_knows_every_container_of_the_service() {
    let services = json!({
        "a": {"image": "a", "depends_on": {"db": {"condition": "service_healthy"}}},
        "db": {"image": "db", "scale": 2},
    });
    let plan = plan(&project(services), &Observed::default(), &Options::default());
    let waits = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Wait { containers, until: Until::Healthy, .. } => Some(containers.len()),
        _ => None,
    });
    assert_eq!(waits.collect::<Vec<_>>(), [2]);
}

fn find_by_name<'a>(seen: &'a mut Observed, name: &str) -> &'a mut Container {
    seen.containers.iter_mut().find(|container| container.name == name).unwrap()
}

fn prepared(scale: u32) -> Value {
    json!({
        "web": {
            "image": "web", "scale": scale, "environment": {"A": "1"}, "user": "7",
            "depends_on": {"db": {"condition": "service_healthy"}},
            "pre_start": [
                {"command": ["migrate"], "environment": {"B": "2"}},
                {"command": ["warm"], "image": "tool", "per_replica": true, "privileged": true},
            ],
        },
        "db": {"image": "db", "healthcheck": {"test": ["CMD", "true"]}},
    })
}

#[test]
fn preparations_run_once_or_for_each_container_and_after_the_dependencies() {
    insta::assert_snapshot!(plan(&project(prepared(2)), &Observed::default(), &Options::default()), @r"
    1. network p_default: create (it does not exist)
    2. container p-db-1: create (it does not exist) after 1
    3. container p-db-1: start (it is new) after 2
    4. service db: wait until healthy (web depends on it) after 3
    5. container p-web-1: create (it does not exist) after 1
    6. container p-web-1: run pre_start `migrate` (it is new) after 4, 5
    7. container p-web-1: run pre_start `warm` (it is new) after 6
    8. container p-web-1: start (it is new) after 7
    9. container p-web-2: create (it does not exist) after 1
    10. container p-web-2: run pre_start `warm` (it is new) after 4, 6, 9
    11. container p-web-2: start (it is new) after 10
    ");
}

#[test]
fn preparations_of_the_service_do_not_run_again_when_it_grows() {
    insta::assert_snapshot!(change(prepared(1), prepared(2)), @r"
    1. service db: wait until healthy (web depends on it)
    2. container p-web-2: create (it does not exist)
    3. container p-web-2: run pre_start `warm` (it is new) after 1, 2
    4. container p-web-2: start (it is new) after 3
    ");
}

#[test]
fn a_changed_preparation_replaces_the_container() {
    let after = edited(prepared(1), "/web/pre_start", json!([{"command": ["migrate", "2"]}]));
    insta::assert_snapshot!(change(prepared(1), after), @r"
    1. service db: wait until healthy (web depends on it)
    2. container p-web-1: create as 000000000000_p-web-1 (pre_start changed)
    3. container p-web-1: stop (it is replaced) after 1, 2
    4. container p-web-1: run pre_start `migrate 2` (it replaces 000000000000) after 2, 3
    5. container p-web-1: start (it replaces 000000000000) after 4
    6. container p-web-1: remove (it is replaced) after 5
    7. container p-web-1: rename to p-web-1 (it replaces 000000000000) after 6
    ");
}

#[test]
fn a_preparation_sees_what_the_service_sees_and_is_not_the_service() {
    let services = edited(prepared(1), "/web/ports", json!([{"target": 80, "published": "8080"}]));
    let plan = plan(&project(services), &Observed::default(), &Options::default());
    let found: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Prepare(preparation) => Some(preparation),
            _ => None,
        })
        .collect();
    let env = |place: usize| found[place].spec.env.keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!((env(0).as_str(), env(1).as_str()), ("A B", "A"));
    assert_eq!(found[0].name, "p-web-1-pre_start-1");
    assert_eq!((found[0].spec.image.as_str(), found[1].spec.image.as_str()), ("web", "tool"));
    assert_eq!(found[0].spec.user.as_deref(), Some("7"));
    assert!(found[1].spec.privileged && !found[0].spec.privileged);
    assert!(found.iter().all(|one| one.spec.ports.is_empty() && one.spec.networks[0].aliases.is_empty()));
    assert!(found.iter().all(|one| one.spec.labels["com.docker.compose.oneoff"] == "True"));
}

#[test]
fn all_resources_are_made_when_asked_for() {
    let mut project = project(json!({"web": {"image": "web"}}));
    let network = |name: &str| serde_json::from_value(json!({"name": name})).unwrap();
    project.networks.insert("spare".to_owned(), network("p_spare"));
    project.volumes.insert("data".to_owned(), serde_json::from_value(json!({"name": "p_data"})).unwrap());
    let made = |all_resources| {
        let options = Options { all_resources, ..Options::default() };
        let plan = plan(&project, &Observed::default(), &options);
        plan.steps.iter().map(|step| step.action.subject()).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(made(false), "Network p_default, Container p-web-1, Container p-web-1");
    assert_eq!(
        made(true),
        "Network p_default, Network p_spare, Volume p_data, Container p-web-1, Container p-web-1"
    );
}

#[test]
fn a_one_off_comes_after_what_it_needs_and_leaves_its_service_alone() {
    let project = project(json!({
        "db": {"healthcheck": {"test": ["CMD", "true"]}},
        "web": {"depends_on": {"db": {"condition": "service_healthy"}}, "scale": 2},
    }));
    let one = OneOff { service: "web".to_owned(), slug: "ab".repeat(32), ..OneOff::default() };
    let options = Options { services: vec!["web".to_owned()], ..Options::default() };
    let changed = one.project(&project);
    let run = |seen: &Observed, options: &Options| {
        reconcile_one_off(&changed, &images(&project), &Files::default(), seen, options, &one).unwrap()
    };
    let mut seen = Observed::default();
    insta::assert_snapshot!(run(&seen, &options), @r"
    1. network p_default: create (it does not exist)
    2. container p-db-1: create (it does not exist) after 1
    3. container p-db-1: start (it is new) after 2
    4. service db: wait until healthy (web depends on it) after 3
    5. container p-web-run-abababababab: create (it is to run once) after 1, 4
    ");
    let alone = Options { no_dependencies: true, ..options.clone() };
    insta::assert_snapshot!(run(&seen, &alone), @r"
    1. network p_default: create (it does not exist)
    2. container p-web-run-abababababab: create (it is to run once) after 1
    ");
    apply(&mut seen, &plan(&project, &Observed::default(), &Options::default()));
    seen.containers.iter_mut().filter(|one| one.name == "p-db-1").for_each(|one| {
        one.status = "Up 1 second (healthy)".to_owned();
    });
    let other = OneOff { name: Some("mine".to_owned()), ..one.clone() };
    let changed = other.project(&project);
    let plan = reconcile_one_off(&changed, &images(&project), &Files::default(), &seen, &options, &other);
    insta::assert_snapshot!(plan.unwrap(), @"1. container mine: create (it is to run once)");
}

#[test]
fn a_one_off_is_no_member_of_its_service() {
    let project = project(json!({"web": {}}));
    let one = OneOff { service: "web".to_owned(), slug: "ab".repeat(32), ..OneOff::default() };
    let options = Options { services: vec!["web".to_owned()], ..Options::default() };
    let changed = one.project(&project);
    let mut seen = Observed::default();
    let run = reconcile_one_off(&changed, &images(&project), &Files::default(), &seen, &options, &one);
    apply(&mut seen, &run.unwrap());
    insta::assert_snapshot!(plan(&project, &seen, &Options::default()), @r"
    1. container p-web-1: create (it does not exist)
    2. container p-web-1: start (it is new) after 1
    ");
}

#[test]
fn a_service_that_is_there_to_end_is_waited_for_until_it_has() {
    let services = json!({
        "init": {"image": "i"},
        "web": {"image": "web", "depends_on": {"init": {"condition": "service_completed_successfully"}}},
    });
    let options = Options { wait: true, ..Options::default() };
    let plan = plan(&project(services), &Observed::default(), &options).to_string();
    assert!(plan.contains("service web: wait until running or healthy (waiting was asked for)"), "{plan}");
    assert!(!plan.contains("service init: wait until running"), "{plan}");
}

#[test]
fn a_container_that_was_not_finished_is_finished_before_it_starts() {
    let mut project = project(json!({"web": {"image": "web", "configs": [{"source": "c"}]}}));
    project.configs.insert("c".to_owned(), serde_json::from_value(json!({"content": "text"})).unwrap());
    let files = Files::read(&project, &["web".to_owned()]).unwrap();
    let run =
        |seen: &Observed| reconcile(&project, &images(&project), &files, seen, &Options::default()).unwrap();
    let mut seen = Observed::default();
    // Only the network and the container are made.
    apply_first(&mut seen, &run(&Observed::default()), 2);
    insta::assert_snapshot!(run(&seen), @r"
    1. container p-web-1: copy its configs and secrets (it is created)
    2. container p-web-1: start (it is created) after 1
    ");
    // One that was never connected to all of its networks is replaced.
    seen.containers[0].networks = [("other".to_owned(), "x".to_owned())].into();
    assert!(run(&seen).to_string().contains("(it is not on network p_default)"));
}

#[test]
fn a_frozen_container_goes_on() {
    let project = project(json!({"web": {"image": "web", "pre_start": [{"command": ["x"]}]}}));
    let mut seen = converged(&project);
    seen.containers[0].state = State::Paused;
    insta::assert_snapshot!(plan(&project, &seen, &Options::default()), @"1. container p-web-1: unpause (it is paused)");
}

#[test]
fn a_network_that_others_use_stays_as_it_is() {
    let services = json!({"db": {"image": "db"}, "web": {"image": "web"}});
    let before = project(services);
    let seen = converged(&before);
    let mut after = before.clone();
    after.networks.get_mut("default").unwrap().internal = true;
    let named = Options { services: vec!["web".to_owned()], ..Options::default() };
    let text = plan(&after, &seen, &named).to_string();
    assert!(text.contains("network p_default was made with other options; it stays"), "{text}");
    assert!(text.contains("p-db-1") && !text.contains("stop"), "{text}");
    assert!(plan(&after, &seen, &Options::default()).to_string().contains("network p_default: remove"));
}
