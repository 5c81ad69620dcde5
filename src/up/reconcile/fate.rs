//! The fate of every container: kept, started, replaced, removed; and which are made. Decides only.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::compose::Service;
use crate::engine::{Container, State};

use super::super::names;
use super::super::observe::{is_oneoff, label, number_of, service_of};
use super::super::plan::Cause;
use super::super::spec::{self, Desired};
use super::{Given, Recreate};

/// What becomes of a container.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// It is as it should be and runs.
    Keep,
    /// It is as it should be and does not run.
    Start(Cause),
    /// It is as it should be and is stopped while a service that it depends on is replaced.
    Restart(Cause),
    /// It is replaced.
    Replace(Cause),
}

/// A container that stays or is replaced.
pub(super) struct Member<'a> {
    pub(super) seen: &'a Container,
    pub(super) desired: Desired,
    pub(super) fate: Fate,
}

/// Everything about one service.
pub(super) struct Decided<'a> {
    /// Containers that stay or are replaced, by number.
    pub(super) members: Vec<Member<'a>>,
    /// Containers that are made.
    pub(super) fresh: Vec<Desired>,
    /// Containers that go, and why.
    pub(super) surplus: Vec<(&'a Container, Cause)>,
}

impl Decided<'_> {
    /// The id of the first container, if it is the same one afterwards.
    fn first(&self) -> Option<&str> {
        let member = self.members.first()?;
        (!matches!(member.fate, Fate::Replace(_))).then_some(member.seen.id.as_str())
    }

    /// Whether some container of the service is replaced.
    pub(super) fn replaces(&self) -> bool {
        self.members.iter().any(|member| matches!(member.fate, Fate::Replace(_)))
    }
}

/// Decides about every service, dependencies first.
pub(super) fn decide<'a>(given: &Given<'a>) -> BTreeMap<&'a str, Rc<Decided<'a>>> {
    let mut decided = BTreeMap::new();
    for name in &given.order {
        let Some(service) = given.project.services.get(*name) else { continue };
        let one = decide_service(given, name, service, &decided);
        decided.insert(*name, Rc::new(one));
    }
    decided
}

fn decide_service<'a>(
    given: &Given<'a>,
    name: &str,
    service: &Service,
    before: &BTreeMap<&'a str, Rc<Decided<'a>>>,
) -> Decided<'a> {
    if given.one_off_of(name).is_some() {
        // What the service has is not looked at.
        return Decided { members: Vec::new(), fresh: Vec::new(), surplus: Vec::new() };
    }
    let scale = given.scales.get(name).copied().unwrap_or(1);
    let containers = given.seen.containers.iter();
    let mine = containers.filter(|container| {
        service_of(container) == name && !is_oneoff(container) && container.state != State::Removing
    });
    let mut candidates: Vec<_> = mine
        .map(|seen| {
            let desired = desired(given, name, service, number_of(seen));
            let cause = obsolete(given, name, service, seen, &desired, before);
            (seen, desired, cause)
        })
        .collect();
    let last = candidates.iter().map(|(seen, ..)| number_of(seen)).max().unwrap_or(0);
    candidates
        .sort_by_key(|(seen, _, cause)| (cause.is_some(), number_of(seen), seen.state != State::Running));
    let mut one = Decided { members: Vec::new(), fresh: Vec::new(), surplus: Vec::new() };
    let mut numbers = BTreeSet::new();
    for (seen, desired, cause) in candidates {
        if numbers.len() < scale as usize && numbers.insert(number_of(seen)) {
            let fate = fate(given, service, seen, cause, before);
            one.members.push(Member { seen, desired, fate });
        } else {
            let cause =
                if numbers.contains(&number_of(seen)) { Cause::Replaced } else { Cause::Surplus(scale) };
            one.surplus.push((seen, cause));
        }
    }
    one.members.sort_by_key(|member| number_of(member.seen));
    let missing = scale.saturating_sub(u32::try_from(numbers.len()).unwrap_or(u32::MAX));
    one.fresh = (last + 1..=last + missing).map(|number| desired(given, name, service, number)).collect();
    one
}

fn desired(given: &Given<'_>, name: &str, service: &Service, number: u32) -> Desired {
    let image = &given.images[name];
    spec::desired(given.project, name, service, number, image, given.files, &given.scales)
}

fn fate(
    given: &Given<'_>,
    service: &Service,
    seen: &Container,
    obsolete: Option<Cause>,
    before: &BTreeMap<&str, Rc<Decided<'_>>>,
) -> Fate {
    if let Some(cause) = obsolete {
        return Fate::Replace(cause);
    }
    if !given.options.start {
        return Fate::Keep;
    }
    match seen.state {
        State::Created | State::Exited | State::Paused => {
            Fate::Start(Cause::NotRunning(seen.state.name().to_owned()))
        }
        State::Running | State::Restarting | State::Removing | State::Dead => {
            restarted(service, before).map_or(Fate::Keep, Fate::Restart)
        }
    }
}

/// The dependency with `restart: true` that is replaced.
fn restarted(service: &Service, before: &BTreeMap<&str, Rc<Decided<'_>>>) -> Option<Cause> {
    let replaced = |name: &str| before.get(name).is_some_and(|decided| decided.replaces());
    let (name, _) = service.depends_on.iter().find(|(name, on)| on.restart && replaced(name))?;
    Some(Cause::Restarted(name.clone()))
}

/// Why a container cannot stay as it is.
fn obsolete(
    given: &Given<'_>,
    name: &str,
    service: &Service,
    seen: &Container,
    desired: &Desired,
    before: &BTreeMap<&str, Rc<Decided<'_>>>,
) -> Option<Cause> {
    let named = given.options.services.is_empty() || given.options.services.iter().any(|one| one == name);
    let policy = if named { given.options.recreate } else { given.options.recreate_dependencies };
    match policy {
        Recreate::Never => return None,
        Recreate::Always => return Some(Cause::Asked("recreation was asked for")),
        Recreate::Diverged => {}
    }
    if seen.state == State::Dead {
        return Some(Cause::NotRunning("dead".to_owned()));
    }
    if label(seen, names::IDENTITY).is_empty() {
        return Some(Cause::Foreign);
    }
    shared_replaced(given, service, seen, before)
        .or_else(|| misnamed(seen, desired))
        .or_else(|| diverged(seen, desired))
        .or_else(|| detached(given, seen, desired))
}

/// A container of a service whose namespaces or volumes it shares is, or was, replaced.
fn shared_replaced(
    given: &Given<'_>,
    service: &Service,
    seen: &Container,
    before: &BTreeMap<&str, Rc<Decided<'_>>>,
) -> Option<Cause> {
    let shares = spec::shares(service);
    let recorded = label(seen, names::SHARES);
    for name in shares {
        let now = match before.get(name.as_str()) {
            Some(decided) => decided.first(),
            // Not part of this run: as it is.
            None => first_of(given, &name),
        };
        let entry = now.map(|id| format!("{name}={id}"));
        if !entry.is_some_and(|entry| recorded.split(',').any(|one| one == entry)) {
            return Some(Cause::Shares(name));
        }
    }
    None
}

/// The id of the first container of a service.
fn first_of<'a>(given: &Given<'a>, service: &str) -> Option<&'a str> {
    let mut containers = given.seen.containers.iter();
    let found = containers.find(|container| service_of(container) == service && !is_oneoff(container))?;
    Some(&found.id)
}

/// It was made of something else.
fn diverged(seen: &Container, desired: &Desired) -> Option<Cause> {
    if label(seen, names::IDENTITY) == desired.identity.digest.to_string() {
        return None;
    }
    let changed = desired.identity.changed_since(label(seen, names::PARTS));
    Some(match changed.as_slice() {
        [] => Cause::NewContent,
        [one] if one == "image" => Cause::NewImage,
        _ => Cause::Changed(changed),
    })
}

/// It has a name that was given by the user before. (A name left from a replacement that was cut short is
/// put right by a rename.)
fn misnamed(seen: &Container, desired: &Desired) -> Option<Cause> {
    let left_over = seen.name.ends_with(&format!("_{}", desired.name));
    (seen.name != desired.name && !left_over).then(|| Cause::Misnamed(seen.name.clone()))
}

/// It is without one of its networks. (Some engines do not list them while a container never ran.)
fn detached(given: &Given<'_>, seen: &Container, desired: &Desired) -> Option<Cause> {
    if seen.networks.is_empty() && seen.state != State::Running {
        return None;
    }
    let lost = desired.spec.networks.iter().find(|attachment| {
        let id = seen.networks.get(&attachment.network);
        let network = given.seen.networks.iter().find(|network| network.name == attachment.network);
        match (id, network) {
            (Some(id), Some(network)) => !id.is_empty() && *id != network.id,
            (Some(_), None) => false,
            (None, _) => true,
        }
    })?;
    Some(Cause::Detached(lost.network.clone()))
}
