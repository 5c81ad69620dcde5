//! Desired against observed: the plan that makes the engine's containers what the project says. Pure.
//!
//! First the fate of every container is decided, dependencies before dependents ([`fate`]); then the
//! steps are laid down with what each must wait for ([`resources`] for networks and volumes, [`emit`] for
//! containers). The engine is not asked again: everything follows from the arguments, so that the tests
//! are literal projects, literal observations and the text of the plan.

mod emit;
mod fate;
mod resources;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::base::diag::Diagnostic;
use crate::base::digest::Digest;
use crate::compose::Project;

use super::files::Files;
use super::observe::Observed;
use super::one_off::OneOff;
use super::plan::{Plan, StepId};
use super::spec;

use fate::Decided;

pub(super) use emit::existing;

/// The image of a service, as it is in the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// The name that containers show.
    pub reference: String,
    /// The id in the engine: what decides whether it is the same image.
    pub id: Digest,
}

/// The image of each service.
pub type Images = BTreeMap<String, Image>;

/// When containers that are as they should be are recreated, and when those that are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Recreate {
    /// Those that differ from what the project says.
    #[default]
    Diverged,
    /// All.
    Always,
    /// None.
    Never,
}

/// What the user asked of `up`.
#[derive(Clone, Debug)]
pub struct Options {
    /// The services that were named; none: all.
    pub services: Vec<String>,
    /// Whether the services that these depend on are left alone.
    pub no_dependencies: bool,
    /// For the named services.
    pub recreate: Recreate,
    /// For the services that those depend on.
    pub recreate_dependencies: Recreate,
    /// Whether a recreated container gets new anonymous volumes.
    pub renew_anonymous_volumes: bool,
    /// Whether containers of services that the project does not have are removed.
    pub remove_orphans: bool,
    /// Whether nothing is said about them.
    pub ignore_orphans: bool,
    /// Whether containers are started.
    pub start: bool,
    /// Whether the end is waited for until everything runs or is healthy.
    pub wait: bool,
    /// How long each wait may take.
    pub wait_timeout: Option<Duration>,
    /// Whether networks and volumes are made that no service uses.
    pub all_resources: bool,
    /// How many containers a service has, against what the file says.
    pub scale: BTreeMap<String, u32>,
    /// How long a container may take to stop, against its own time.
    pub timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            services: Vec::new(),
            no_dependencies: false,
            recreate: Recreate::Diverged,
            recreate_dependencies: Recreate::Diverged,
            renew_anonymous_volumes: false,
            remove_orphans: false,
            ignore_orphans: false,
            start: true,
            wait: false,
            wait_timeout: None,
            all_resources: false,
            scale: BTreeMap::new(),
            timeout: None,
        }
    }
}

/// What is given, in one place.
struct Given<'a> {
    project: &'a Project,
    images: &'a Images,
    files: &'a Files,
    seen: &'a Observed,
    options: &'a Options,
    /// The services to converge, dependencies first.
    order: Vec<&'a str>,
    /// How many containers each service has.
    scales: BTreeMap<String, u32>,
    /// The container that is made for one run, instead of those of its service.
    one_off: Option<&'a OneOff>,
}

impl Given<'_> {
    /// The container of one run, if it is of this service.
    fn one_off_of(&self, service: &str) -> Option<&OneOff> {
        self.one_off.filter(|one| one.service == service)
    }
}

/// The plan so far, and what later steps need to know of earlier ones.
struct Draft<'a> {
    given: Given<'a>,
    decided: BTreeMap<&'a str, Rc<Decided<'a>>>,
    plan: Plan,
    problems: Vec<Diagnostic>,
    /// Network key → the step that makes it.
    networks: BTreeMap<String, StepId>,
    /// Volume key → the step that makes it.
    volumes: BTreeMap<String, StepId>,
    /// Container id → the step that stops it.
    stopped: BTreeMap<String, StepId>,
    /// Container name → the step that removes who has it.
    freed: BTreeMap<String, StepId>,
    /// Container id → the steps that connect it to networks that are made anew.
    connected: BTreeMap<String, Vec<StepId>>,
    /// Service → the steps that make its containers.
    created: BTreeMap<&'a str, Vec<StepId>>,
    /// Service → the steps after which it is started.
    ready: BTreeMap<&'a str, Vec<StepId>>,
    /// Service → the last of the `pre_start` hooks that run once, if there is one.
    prepared: BTreeMap<&'a str, Option<StepId>>,
    /// Service and condition → the step that waits for it.
    waits: BTreeMap<(&'a str, super::plan::Until, bool), Option<StepId>>,
}

/// The plan from what is to what the project says, for the services of `options`. What cannot be planned
/// is said with its place in the user's files, all at once.
pub fn reconcile(
    project: &Project,
    images: &Images,
    files: &Files,
    seen: &Observed,
    options: &Options,
) -> Result<Plan, Vec<Diagnostic>> {
    planned(project, images, files, seen, options, None)
}

/// The plan that makes the container of one run, after everything that it needs. It is made and not
/// started. `project` is [`OneOff::project`]'s and `options` name its service alone; containers that the
/// service has stay as they are.
pub fn reconcile_one_off(
    project: &Project,
    images: &Images,
    files: &Files,
    seen: &Observed,
    options: &Options,
    one_off: &OneOff,
) -> Result<Plan, Vec<Diagnostic>> {
    planned(project, images, files, seen, options, Some(one_off))
}

fn planned(
    project: &Project,
    images: &Images,
    files: &Files,
    seen: &Observed,
    options: &Options,
    one_off: Option<&OneOff>,
) -> Result<Plan, Vec<Diagnostic>> {
    let order = order(project, &options.services, !options.no_dependencies);
    let scales = scales(project, options);
    let mut problems = spec::refusals(project, &scales);
    for name in options.scale.keys().filter(|name| !project.services.contains_key(*name)) {
        problems.push(Diagnostic::error(format!("there is no service `{name}` to scale")));
    }
    for service in order.iter().filter(|service| !images.contains_key(**service)) {
        problems.push(Diagnostic::error(format!(
            "the service `{service}` has no image in the engine\nhelp: build it or pull it first"
        )));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let given = Given { project, images, files, seen, options, order, scales, one_off };
    let decided = fate::decide(&given);
    let mut draft = Draft::new(given, decided);
    draft.plan.warnings.extend(spec::remarks(project, &draft.given.order));
    draft.orphans();
    draft.stop_restarted();
    draft.networks();
    draft.volumes();
    for service in draft.given.order.clone() {
        draft.service(service);
    }
    draft.wait_for_all();
    if draft.problems.is_empty() { Ok(draft.plan) } else { Err(draft.problems) }
}

impl<'a> Draft<'a> {
    fn new(given: Given<'a>, decided: BTreeMap<&'a str, Rc<Decided<'a>>>) -> Self {
        Self {
            given,
            decided,
            plan: Plan::default(),
            problems: Vec::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            stopped: BTreeMap::new(),
            freed: BTreeMap::new(),
            connected: BTreeMap::new(),
            created: BTreeMap::new(),
            ready: BTreeMap::new(),
            prepared: BTreeMap::new(),
            waits: BTreeMap::new(),
        }
    }
}

/// How many containers each service has.
fn scales(project: &Project, options: &Options) -> BTreeMap<String, u32> {
    let scale = |(name, service)| {
        let asked = options.scale.get(name).copied();
        (String::clone(name), asked.unwrap_or_else(|| spec::wanted(service)))
    };
    project.services.iter().map(scale).collect()
}

/// The named services (none: all) and what they depend on, dependencies first.
pub(super) fn order<'a>(project: &'a Project, named: &[String], with_dependencies: bool) -> Vec<&'a str> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for name in project.services.keys() {
        if named.is_empty() || named.contains(name) {
            visit(project, name, with_dependencies.then_some(named), &mut seen, &mut order);
        }
    }
    if with_dependencies {
        return order;
    }
    // Among the named ones the order still counts.
    let whole = self::order(project, &[], true);
    order.sort_by_key(|name| whole.iter().position(|other| other == name));
    order
}

fn visit<'a>(
    project: &'a Project,
    name: &'a str,
    dependencies: Option<&[String]>,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a str>,
) {
    let Some(service) = project.services.get(name) else { return };
    if !seen.insert(name) {
        return;
    }
    if dependencies.is_some() {
        for dependency in service.depends_on.keys() {
            visit(project, dependency, dependencies, seen, order);
        }
    }
    order.push(name);
}

#[cfg(test)]
mod tests;
