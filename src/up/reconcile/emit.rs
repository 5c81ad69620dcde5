//! The steps of one service's containers, and what each waits for.
//!
//! A replacement is laid down so that nothing is lost when it fails: the new container is made under a
//! temporary name, the old one is stopped as late as possible, and it is removed only when the new one
//! has started.

use crate::compose::{DependencyCondition, Hook, Service};
use crate::engine::{Container, State};

use super::super::names;
use super::super::observe::service_of;
use super::super::plan::{Action, Cause, Creation, Handle, Preparation, StepId, Target, Until};
use super::super::spec::{self, Desired};
use super::Draft;
use super::fate::Fate;

/// A container that exists.
pub(in super::super) fn existing(container: &Container) -> Target {
    Target {
        name: container.name.clone(),
        service: service_of(container).to_owned(),
        handle: Handle::Id(container.id.clone()),
    }
}

/// A container as later steps of the service see it.
#[derive(Clone)]
struct Made {
    target: Target,
    create: StepId,
}

impl<'a> Draft<'a> {
    /// Everything for one service.
    pub(super) fn service(&mut self, name: &'a str) {
        let (Some(service), Some(decided)) =
            (self.given.project.services.get(name), self.decided.get(name).cloned())
        else {
            return;
        };
        if self.given.one_off_of(name).is_some() {
            return self.one_off(name, service);
        }
        for (container, cause) in &decided.surplus {
            self.remove(container, cause.clone(), Vec::new());
        }
        let started = self.dependencies(name, service);
        let mut ready = Vec::new();
        for member in &decided.members {
            let (seen, desired) = (member.seen, &member.desired);
            match &member.fate {
                Fate::Keep => ready.extend(self.keep(name, seen, desired, &started)),
                Fate::Start(cause) if seen.state == State::Paused => {
                    let after = self.back(seen, desired, &started);
                    ready.push(self.plan.add(Action::Unpause(existing(seen)), cause.clone(), after));
                }
                Fate::Start(cause) => {
                    self.put_name_right(seen, desired);
                    let mut after = self.back(seen, desired, &started);
                    after.extend(self.fill_again(seen, desired, cause));
                    ready.extend(self.start(name, desired, existing(seen), cause.clone(), after));
                }
                Fate::Restart(cause) => {
                    let after = self.back(seen, desired, &started);
                    ready.extend(self.start(name, desired, existing(seen), cause.clone(), after));
                }
                Fate::Replace(cause) => ready.extend(self.replace(name, seen, desired, cause, &started)),
            }
        }
        for desired in &decided.fresh {
            let made = self.create(name, desired, Cause::Missing, None, None);
            if self.given.options.start {
                let after = [vec![made.create], started.clone()].concat();
                ready.extend(self.start(name, desired, made.target, Cause::New, after));
            }
        }
        self.ready.insert(name, ready);
    }

    /// The container of one run, made when everything that it depends on is there. It is started by whoever
    /// is connected to it.
    fn one_off(&mut self, name: &'a str, service: &'a Service) {
        let Some(one) = self.given.one_off_of(name) else { return };
        let given = &self.given;
        let (image, scales) = (&given.images[name], &given.scales);
        let desired = spec::desired(given.project, name, service, 1, image, given.files, scales);
        let desired = one.dress(desired);
        let started = self.dependencies(name, service);
        let made = self.create(name, &desired, Cause::Asked("it is to run once"), None, None);
        let after = &mut self.plan.steps[made.create.0].after;
        after.extend(started);
        after.sort_unstable();
        after.dedup();
    }

    /// What has to be before a container that is stopped runs again.
    fn back(&self, seen: &Container, desired: &Desired, started: &[StepId]) -> Vec<StepId> {
        let mut after = started.to_vec();
        // A replacement that was cut short: the old container still has the name, and perhaps the ports.
        after.extend(self.freed.get(&desired.name));
        after.extend(self.stopped.get(&seen.id));
        after.extend(self.connected.get(&seen.id).into_iter().flatten());
        after
    }

    /// A container that stays; it is started again if a network's replacement stopped it.
    fn keep(
        &mut self,
        name: &'a str,
        seen: &Container,
        desired: &Desired,
        started: &[StepId],
    ) -> Vec<StepId> {
        self.put_name_right(seen, desired);
        if !self.stopped.contains_key(&seen.id) || !self.given.options.start {
            return Vec::new();
        }
        let network = seen.networks.keys().next().cloned().unwrap_or_default();
        let after = self.back(seen, desired, started);
        self.start(name, desired, existing(seen), Cause::NetworkReplaced(network), after)
    }

    /// Renames a container that a replacement left under its temporary name when it was cut short.
    fn put_name_right(&mut self, seen: &Container, desired: &Desired) {
        if seen.name != desired.name {
            let action = Action::Rename { container: existing(seen), to: desired.name.clone() };
            let after = self.freed.get(&desired.name).copied().into_iter().collect();
            self.plan.add(action, Cause::Misnamed(seen.name.clone()), after);
        }
    }

    /// Makes a container, after everything that it is made of.
    fn create(
        &mut self,
        name: &'a str,
        desired: &Desired,
        cause: Cause,
        temporary: Option<String>,
        replaces: Option<&Container>,
    ) -> Made {
        let service = &self.given.project.services[name];
        let mut after = self.made_of(service);
        if temporary.is_none() {
            after.extend(self.freed.get(&desired.name));
        }
        let mut spec = desired.spec.clone();
        if let Some(old) = replaces {
            spec.labels.insert(names::REPLACE.to_owned(), old.name.clone());
        }
        let creation = Creation {
            name: desired.name.clone(),
            temporary,
            service: name.to_owned(),
            spec: Box::new(spec),
            copies: desired.copies.clone(),
            replaces: replaces.map(|old| old.id.clone()),
            inherits: !self.given.options.renew_anonymous_volumes,
            shares: self.shared(service),
            hashed: (!spec::shares(service).is_empty()).then(|| Box::new(service.clone())),
        };
        let create = self.plan.add(Action::Create(Box::new(creation)), cause, after);
        self.created.entry(name).or_default().push(create);
        let handle = Handle::MadeBy(create);
        Made { target: Target { name: desired.name.clone(), service: name.to_owned(), handle }, create }
    }

    /// The steps that make the networks, volumes and containers that a container of the service needs.
    fn made_of(&self, service: &Service) -> Vec<StepId> {
        let networks = service.networks.keys().filter_map(|key| self.networks.get(key));
        let sources = service.volumes.iter().filter_map(|mount| mount.source.as_ref());
        let volumes = sources.filter_map(|source| self.volumes.get(source));
        let shared = spec::shares(service);
        let containers = shared.iter().filter_map(|name| self.created.get(name.as_str())).flatten();
        networks.chain(volumes).chain(containers).copied().collect()
    }

    /// The first container of each service whose namespaces or volumes are shared.
    fn shared(&self, service: &Service) -> Vec<(String, Target)> {
        let shares = spec::shares(service);
        shares
            .into_iter()
            .filter_map(|name| Some((name.clone(), self.targets(&name).into_iter().next()?)))
            .collect()
    }

    /// The containers that a service has when its steps are done.
    fn targets(&self, service: &str) -> Vec<Target> {
        let Some(decided) = self.decided.get(service) else {
            let mine = |container: &&Container| service_of(container) == service;
            return self.given.seen.containers.iter().filter(mine).map(existing).collect();
        };
        let mut made = self.created.get(service).into_iter().flatten();
        let mut new = |desired: &Desired| {
            let handle = Handle::MadeBy(*made.next()?);
            Some(Target { name: desired.name.clone(), service: service.to_owned(), handle })
        };
        let mut targets = Vec::new();
        for member in &decided.members {
            match member.fate {
                Fate::Replace(_) => targets.extend(new(&member.desired)),
                Fate::Keep | Fate::Start(_) | Fate::Restart(_) => targets.push(existing(member.seen)),
            }
        }
        targets.extend(decided.fresh.iter().filter_map(new));
        targets
    }

    /// Copies the files into a container that never ran: whoever made it may have been stopped before that.
    fn fill_again(&mut self, seen: &Container, desired: &Desired, cause: &Cause) -> Option<StepId> {
        let needed = seen.state == State::Created && !desired.copies.is_empty();
        let action = Action::Fill { container: existing(seen), copies: desired.copies.clone() };
        needed.then(|| self.plan.add(action, cause.clone(), Vec::new()))
    }

    /// Puts a new container in the place of an old one.
    fn replace(
        &mut self,
        name: &'a str,
        old: &Container,
        desired: &Desired,
        cause: &Cause,
        started: &[StepId],
    ) -> Vec<StepId> {
        let temporary = (old.name == desired.name).then(|| names::temporary(&old.id, &desired.name));
        let renamed = temporary.is_some();
        let made = self.create(name, desired, cause.clone(), temporary, Some(old));
        let mut before = [vec![made.create], started.to_vec()].concat();
        before.extend(self.restarted_dependents(name));
        let stop = self.stop(old, Cause::Replaced, before.clone());
        let mut ready = stop.map_or(before, |stop| vec![made.create, stop]);
        let cause = Cause::Replaces(old.id.clone());
        if self.given.options.start {
            ready = self.start(name, desired, made.target.clone(), cause.clone(), ready);
        }
        let remove = self.plan.add(
            Action::Remove { container: existing(old), volumes: true },
            Cause::Replaced,
            ready.clone(),
        );
        if renamed {
            let action = Action::Rename { container: made.target, to: desired.name.clone() };
            ready.push(self.plan.add(action, cause, vec![remove]));
        }
        ready
    }

    /// Stops the containers of services that are restarted because a service that they depend on is
    /// replaced; the last of the dependents first.
    pub(super) fn stop_restarted(&mut self) {
        let order: Vec<_> = self.given.order.iter().rev().copied().collect();
        for name in order {
            let Some(decided) = self.decided.get(name).cloned() else { continue };
            for member in &decided.members {
                if let Fate::Restart(cause) = &member.fate {
                    let after = self.restarted_dependents(name);
                    self.stop(member.seen, cause.clone(), after);
                }
            }
        }
    }

    /// The steps that stop those who depend on a service and are restarted with it.
    fn restarted_dependents(&self, name: &str) -> Vec<StepId> {
        let depends = |other: &&&str| {
            let service = self.given.project.services.get(**other);
            service.and_then(|service| service.depends_on.get(name)).is_some_and(|on| on.restart)
        };
        let members = self
            .given
            .order
            .iter()
            .filter(depends)
            .filter_map(|other| self.decided.get(other))
            .flat_map(|decided| &decided.members);
        members.filter_map(|member| self.stopped.get(&member.seen.id)).copied().collect()
    }

    /// Stops a container if it runs, after its `pre_stop` hooks; the stop's step. Only once.
    pub(super) fn stop(
        &mut self,
        container: &Container,
        cause: Cause,
        mut after: Vec<StepId>,
    ) -> Option<StepId> {
        if let Some(step) = self.stopped.get(&container.id) {
            return Some(*step);
        }
        if !container.state.is_alive() {
            return None;
        }
        let service = self.given.project.services.get(service_of(container));
        let hooks: Vec<Hook> = service.map(|service| service.pre_stop.clone()).unwrap_or_default();
        // Nothing can be run in a container that is frozen or between two runs.
        for hook in hooks.into_iter().filter(|_| container.state == State::Running) {
            after = vec![self.hook(existing(container), "pre_stop", hook, cause.clone(), after)];
        }
        let action = Action::Stop { container: existing(container), timeout: self.given.options.timeout };
        let step = self.plan.add(action, cause, after);
        self.stopped.insert(container.id.clone(), step);
        Some(step)
    }

    /// Starts a container between its `pre_start` and `post_start` hooks; the steps after which it is ready.
    fn start(
        &mut self,
        name: &'a str,
        desired: &Desired,
        target: Target,
        cause: Cause,
        after: Vec<StepId>,
    ) -> Vec<StepId> {
        let service = &self.given.project.services[name];
        let after = self.prepare(name, desired, &target, &cause, after);
        let mut last = self.plan.add(Action::Start(target.clone()), cause.clone(), after);
        for hook in &service.post_start {
            last = self.hook(target.clone(), "post_start", hook.clone(), cause.clone(), vec![last]);
        }
        vec![last]
    }

    /// Runs the `pre_start` hooks that go before the start of a container: those of the service once, before
    /// the first of its containers and only if none runs already, those of a replica each time. What the
    /// start waits for.
    fn prepare(
        &mut self,
        name: &'a str,
        desired: &Desired,
        target: &Target,
        cause: &Cause,
        mut after: Vec<StepId>,
    ) -> Vec<StepId> {
        let service = &self.given.project.services[name];
        if service.pre_start.is_empty() {
            return after;
        }
        let once = !self.prepared.contains_key(name) && !self.runs_already(name);
        after.extend(self.prepared.get(name).copied().flatten());
        let mut last = None;
        for (place, hook) in service.pre_start.iter().enumerate() {
            if !hook.per_replica && !once {
                continue;
            }
            let (hook_name, spec) = spec::prepare(self.given.project, name, service, hook, place, desired);
            let preparation = Preparation {
                name: hook_name,
                container: target.clone(),
                spec,
                copies: desired.copies.clone(),
                shares: self.shared(service),
            };
            let step = self.plan.add(Action::Prepare(Box::new(preparation)), cause.clone(), after);
            last = if hook.per_replica { last } else { Some(step) };
            after = vec![step];
        }
        if once {
            self.prepared.insert(name, last);
        }
        after
    }

    /// Whether some container of the service runs and goes on running.
    fn runs_already(&self, name: &str) -> bool {
        let Some(decided) = self.decided.get(name) else { return false };
        decided.members.iter().any(|member| {
            matches!(member.fate, Fate::Keep)
                && member.seen.state == State::Running
                && !self.stopped.contains_key(&member.seen.id)
        })
    }

    fn hook(
        &mut self,
        container: Target,
        when: &'static str,
        hook: Hook,
        cause: Cause,
        after: Vec<StepId>,
    ) -> StepId {
        self.plan.add(Action::Hook { container, when, hook: Box::new(hook) }, cause, after)
    }

    /// What has to be before a container of the service may start.
    fn dependencies(&mut self, name: &'a str, service: &'a Service) -> Vec<StepId> {
        if !self.given.options.start || !self.starts_something(name) {
            return Vec::new();
        }
        let mut after = Vec::new();
        for (dependency, on) in &service.depends_on {
            match on.condition {
                DependencyCondition::Started => {
                    after.extend(self.ready.get(dependency.as_str()).into_iter().flatten());
                }
                condition => {
                    let cause = Cause::NeededBy(name.to_owned());
                    after.extend(self.wait(dependency, condition.into(), on.required, cause));
                }
            }
        }
        after
    }

    /// Whether some container of the service is going to be started.
    fn starts_something(&self, name: &str) -> bool {
        let Some(decided) = self.decided.get(name) else { return true };
        let stays = |fate: &Fate| matches!(fate, Fate::Keep);
        self.given.one_off_of(name).is_some()
            || !decided.fresh.is_empty()
            || decided
                .members
                .iter()
                .any(|member| !stays(&member.fate) || self.stopped.contains_key(&member.seen.id))
    }

    /// Waits for a service, once for each condition; nothing if it is known to be fulfilled.
    fn wait(&mut self, service: &'a str, until: Until, required: bool, cause: Cause) -> Option<StepId> {
        if !self.ready.contains_key(service) {
            return None;
        }
        if let Some(step) = self.waits.get(&(service, until, required)) {
            return *step;
        }
        let after = self.ready[service].clone();
        let step = (!after.is_empty() || !self.fulfilled(service, until)).then(|| {
            let containers = self.targets(service);
            let within = self.given.options.wait_timeout;
            let action = Action::Wait { service: service.to_owned(), containers, until, required, within };
            self.plan.add(action, cause, after)
        });
        self.waits.insert((service, until, required), step);
        step
    }

    /// Whether the engine's list already shows what is waited for.
    fn fulfilled(&self, service: &str, until: Until) -> bool {
        let Some(decided) = self.decided.get(service) else { return false };
        decided.members.iter().all(|member| match until {
            Until::Healthy => member.seen.status.ends_with("(healthy)"),
            Until::Completed => {
                member.seen.state == State::Exited && member.seen.status.starts_with("Exited (0)")
            }
            Until::Ready => {
                member.seen.state == State::Running
                    && !member.seen.status.contains("(health: starting)")
                    && !member.seen.status.contains("(unhealthy)")
            }
        })
    }

    /// With `--wait`: every service.
    pub(super) fn wait_for_all(&mut self) {
        if self.given.options.wait && self.given.options.start {
            for service in self.given.order.clone() {
                // Who is there to end is waited for until it has.
                let ends = self.given.order.iter().any(|other| {
                    let on = self.given.project.services[*other].depends_on.get(service);
                    on.is_some_and(|on| on.condition == DependencyCondition::Completed)
                });
                let until = if ends { Until::Completed } else { Until::Ready };
                self.wait(service, until, true, Cause::Asked("waiting was asked for"));
            }
        }
    }
}
