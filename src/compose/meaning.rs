//! Checking what the project means: references, exclusions, cycles.
//!
//! On typed data, all mistakes at once, each at the place of its key. [`before`] looks at what the user
//! wrote, [`after`] also at what normalisation filled in. The rules are compose-go's consistency checks
//! and a few of the engine's own that can be told before anything runs.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Mount, MountKind, Project, Service, WatchAction};
use crate::base::diag::Diagnostic;

/// The most containers of one service. One engine runs fewer, and a slip of the finger asks for more.
pub const MOST_REPLICAS: u32 = 10_000;

/// Mistakes in what the user wrote; of what is in `unclear` another mistake was told already.
pub(super) fn before(project: &Project, unclear: &BTreeSet<String>) -> Vec<Diagnostic> {
    let mut found = Found { project, mistakes: Vec::new() };
    for (name, service) in &project.services {
        if !unclear.contains(&format!("services.{name}")) {
            found.source(name, service);
        }
        found.build(name, service);
        found.exclusions(name, service);
        found.devices(name, service);
        found.twins(name, service);
        found.values(name, service);
        found.bounds(name, service);
    }
    found.resources(unclear);
    found.container_names();
    found.mistakes
}

/// Mistakes in how things refer to each other.
pub(super) fn after(project: &Project) -> Vec<Diagnostic> {
    let mut found = Found { project, mistakes: Vec::new() };
    for (name, service) in &project.services {
        found.dependencies(name, service);
        found.references(name, service);
        found.targets(name, service);
    }
    found.cycles();
    found.mistakes
}

/// Owners and permissions that a config or secret gives a file of the host: it is mounted as it is.
pub(super) fn without_effect(project: &Project) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for (name, service) in &project.services {
        let configs = service.configs.iter().enumerate().map(|(at, used)| {
            (at, used, "configs", project.configs.get(&used.source).is_some_and(|one| one.file.is_some()))
        });
        let secrets = service.secrets.iter().enumerate().map(|(at, used)| {
            (at, used, "secrets", project.secrets.get(&used.source).is_some_and(|one| one.file.is_some()))
        });
        for (at, used, section, is_file) in configs.chain(secrets) {
            let given =
                [("uid", used.uid.is_some()), ("gid", used.gid.is_some()), ("mode", used.mode.is_some())];
            let keys: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
            if !is_file || keys.is_empty() {
                continue;
            }
            let path = format!("services.{name}.{section}.{at}");
            let message =
                format!("`{}` of `{path}` has no effect: `{}` is a file", keys.join("`, `"), used.source);
            let place = ["services", name, section, &at.to_string(), keys[0]];
            let warning = Diagnostic::warning(message)
                .note("a file of the host is mounted with the owner and the permissions that it has");
            warnings.push(match project.spans.nearest(&place) {
                Some(span) => warning.at(span.clone(), ""),
                None => warning,
            });
        }
    }
    warnings
}

struct Found<'a> {
    project: &'a Project,
    mistakes: Vec<Diagnostic>,
}

impl Found<'_> {
    /// A mistake at the place of a path.
    fn at(&self, message: String, path: &[&str]) -> Diagnostic {
        let mistake = Diagnostic::error(message);
        match self.project.spans.nearest(path) {
            Some(span) => mistake.at(span.clone(), ""),
            None => mistake,
        }
    }

    fn tell(&mut self, message: String, path: &[&str]) {
        let mistake = self.at(message, path);
        self.mistakes.push(mistake);
    }

    /// A mistake at one path, with another that it conflicts with.
    fn conflict(&mut self, message: String, path: &[&str], other: &[&str]) {
        let mut mistake = self.at(message, path);
        if let Some(span) = self.project.spans.nearest(other) {
            mistake = mistake.also(span.clone(), "the other one");
        }
        self.mistakes.push(mistake);
    }

    fn source(&mut self, name: &str, service: &Service) {
        if service.image.is_none() && service.build.is_none() && service.provider.is_none() {
            let mistake =
                self.at(format!("the service `{name}` has neither `image` nor `build`"), &["services", name]);
            self.mistakes.push(mistake);
        }
    }

    fn build(&mut self, name: &str, service: &Service) {
        let Some(build) = &service.build else { return };
        let path = |key| ["services", name, "build", key];
        if build.dockerfile.is_some() && build.dockerfile_inline.is_some() {
            let message =
                format!("`dockerfile` and `dockerfile_inline` of the service `{name}` exclude each other");
            self.conflict(message, &path("dockerfile_inline"), &path("dockerfile"));
        }
        for (context, value) in &build.additional_contexts {
            let Some(target) = value.strip_prefix("service:") else { continue };
            let place = ["services", name, "build", "additional_contexts", context];
            match self.project.services.get(target).or_else(|| self.project.disabled.get(target)) {
                None => self.undefined("service", target, &self.project.services, &place),
                Some(other) if other.build.is_none() => {
                    self.tell(
                        format!("the service `{target}` is not built here, so it cannot be a context"),
                        &place,
                    );
                }
                Some(_) => {}
            }
        }
        if let Some(platform) = &service.platform
            && !build.platforms.is_empty()
            && !build.platforms.contains(platform)
        {
            let message = format!("`build.platforms` must contain the service's platform `{platform}`");
            self.conflict(message, &path("platforms"), &["services", name, "platform"]);
        }
    }

    fn exclusions(&mut self, name: &str, service: &Service) {
        if service.network_mode.is_some() && !service.networks.is_empty() {
            let message = format!("`network_mode` and `networks` of the service `{name}` exclude each other");
            self.conflict(message, &["services", name, "network_mode"], &["services", name, "networks"]);
        }
        for (at, trigger) in service.develop.iter().flat_map(|develop| develop.watch.iter().enumerate()) {
            let needs_target = matches!(
                trigger.action,
                WatchAction::Sync | WatchAction::SyncRestart | WatchAction::SyncExec
            );
            if needs_target && trigger.target.is_none() {
                let at = at.to_string();
                self.tell(
                    "a watch that copies files needs a `target`".to_owned(),
                    &["services", name, "develop", "watch", &at],
                );
            }
        }
        let counted = service.deploy.as_ref().and_then(|deploy| deploy.replicas).or(service.scale);
        if counted.is_some_and(|count| count > MOST_REPLICAS) {
            let key = if service.scale.is_some() { "scale" } else { "deploy" };
            let message = format!("the service `{name}` asks for more than {MOST_REPLICAS} containers");
            self.tell(message, &["services", name, key]);
        }
        if service.container_name.is_some() && counted.is_some_and(|count| count > 1) {
            let message = format!("`container_name` allows one container of the service `{name}` only");
            let other = if service.scale.is_some() { "scale" } else { "deploy" };
            self.conflict(message, &["services", name, "container_name"], &["services", name, other]);
        }
    }

    /// A request for devices names either a number or the devices.
    fn devices(&mut self, name: &str, service: &Service) {
        let reserved = service.deploy.iter().flat_map(|deploy| &deploy.resources.reservations);
        let reserved = reserved.flat_map(|part| &part.devices).map(|device| (device, "deploy"));
        for (device, key) in service.gpus.iter().map(|device| (device, "gpus")).chain(reserved) {
            if device.count.is_some() && !device.device_ids.is_empty() {
                let message = "`count` and `device_ids` exclude each other".to_owned();
                self.tell(message, &["services", name, key]);
            }
        }
    }

    /// Keys that say the same thing in two places must say the same.
    fn twins(&mut self, name: &str, service: &Service) {
        let Some(deploy) = &service.deploy else { return };
        let differs =
            |key: &'static str, twin: &'static [&'static str], one: Option<String>, other: Option<String>| {
                (one.is_some() && other.is_some() && one != other).then_some((key, twin))
            };
        let text = |value: Option<&dyn ToString>| value.map(ToString::to_string);
        let mut pairs = vec![differs(
            "scale",
            &["replicas"],
            text(service.scale.as_ref().map(|value| value as &dyn ToString)),
            text(deploy.replicas.as_ref().map(|value| value as &dyn ToString)),
        )];
        if let Some(limits) = &deploy.resources.limits {
            // As compose has it, a limit that is missing on one side counts as zero.
            let zero = || Some("0".to_owned());
            pairs.push(differs(
                "cpus",
                &["resources", "limits", "cpus"],
                service.cpus.map(|value| value.to_string()),
                limits.cpus.map(|value| value.to_string()).or_else(zero),
            ));
            pairs.push(differs(
                "mem_limit",
                &["resources", "limits", "memory"],
                service.mem_limit.map(|value| value.to_string()),
                limits.memory.map(|value| value.to_string()).or_else(zero),
            ));
            pairs.push(differs(
                "pids_limit",
                &["resources", "limits", "pids"],
                service.pids_limit.map(|value| value.to_string()),
                limits.pids.map(|value| value.to_string()).or_else(zero),
            ));
        }
        if let Some(memory) = deploy.resources.reservations.as_ref().and_then(|part| part.memory) {
            pairs.push(differs(
                "mem_reservation",
                &["resources", "reservations", "memory"],
                service.mem_reservation.map(|value| value.to_string()),
                Some(memory.to_string()),
            ));
        }
        for (key, twin) in pairs.into_iter().flatten() {
            let message = format!("`{key}` and `deploy.{}` of the service `{name}` differ", twin.join("."));
            let other: Vec<&str> =
                ["services", name, "deploy"].into_iter().chain(twin.iter().copied()).collect();
            self.conflict(message, &["services", name, key], &other);
        }
    }

    fn values(&mut self, name: &str, service: &Service) {
        if let Some(policy) = &service.pull_policy
            && !is_pull_policy(policy)
        {
            let mistake = self
                .at(format!("`{policy}` is no pull policy"), &["services", name, "pull_policy"])
                .did_you_mean(policy, PULL_POLICIES.iter().copied())
                .note(format!("there are {} and every_DURATION", PULL_POLICIES.join(", ")));
            self.mistakes.push(mistake);
        }
        if let Some(restart) = &service.restart
            && !is_restart(restart)
        {
            let mistake = self
                .at(format!("`{restart}` is no restart policy"), &["services", name, "restart"])
                .did_you_mean(restart, ["always", "unless-stopped", "on-failure"])
                .note("there are no, always, unless-stopped, on-failure and on-failure:TIMES");
            self.mistakes.push(mistake);
        }
        if let Some(container) = &service.container_name
            && !is_container_name(container)
        {
            let mistake = self
                .at(
                    format!("`{container}` cannot be the name of a container"),
                    &["services", name, "container_name"],
                )
                .note(
                    "it has two or more letters, digits, `_`, `.` and `-`, and begins with a letter or digit",
                );
            self.mistakes.push(mistake);
        }
    }

    /// Numbers that the engine takes within bounds.
    fn bounds(&mut self, name: &str, service: &Service) {
        let bounded = [
            ("oom_score_adj", service.oom_score_adj, -1000..=1000),
            ("mem_swappiness", service.mem_swappiness.map(|size| size.0), 0..=100),
        ];
        for (key, value, range) in bounded {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                let message =
                    format!("`{key}` is {value}; it goes from {} to {}", range.start(), range.end());
                self.tell(message, &["services", name, key]);
            }
        }
    }

    fn resources(&mut self, unclear: &BTreeSet<String>) {
        for (key, volume) in &self.project.volumes {
            let extra = [
                ("driver", volume.driver.is_some()),
                ("driver_opts", !volume.driver_opts.is_empty()),
                ("labels", !volume.labels.is_empty()),
            ];
            for (other, set) in extra {
                if volume.external && set {
                    let message = format!("an external volume cannot have `{other}`: it exists already");
                    self.conflict(message, &["volumes", key, other], &["volumes", key, "external"]);
                }
            }
        }
        let project = self.project;
        let clear = |section: &str, key: &String| !unclear.contains(&format!("{section}.{key}"));
        for (key, config) in project.configs.iter().filter(|(key, _)| clear("configs", key)) {
            let ways = [config.file.is_some(), config.environment.is_some(), config.content.is_some()];
            self.one_way("configs", key, config.external, &ways, "`file`, `environment` or `content`");
        }
        for (key, secret) in project.secrets.iter().filter(|(key, _)| clear("secrets", key)) {
            let ways = [secret.file.is_some(), secret.environment.is_some()];
            let elsewhere = secret.external || secret.driver.is_some();
            self.one_way("secrets", key, elsewhere, &ways, "`file` or `environment`");
        }
    }

    fn one_way(&mut self, section: &str, key: &str, external: bool, ways: &[bool], names: &str) {
        let count = ways.iter().filter(|way| **way).count();
        if external || (count == 1) {
            return;
        }
        let what = if count == 0 { "needs one of" } else { "can have only one of" };
        self.tell(format!("`{section}.{key}` {what} {names}"), &[section, key]);
    }

    fn container_names(&mut self) {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, service) in &self.project.services {
            let Some(container) = service.container_name.as_deref() else { continue };
            if let Some(other) = seen.insert(container, name) {
                let message = format!("the services `{other}` and `{name}` have one `container_name`");
                self.conflict(
                    message,
                    &["services", name, "container_name"],
                    &["services", other, "container_name"],
                );
            }
        }
    }

    fn dependencies(&mut self, name: &str, service: &Service) {
        for (target, dependency) in &service.depends_on {
            let disabled = self.project.disabled.contains_key(target);
            if self.project.services.contains_key(target) || (disabled && !dependency.required) {
                continue;
            }
            let place = match ["depends_on", "links", "network_mode", "ipc", "pid", "volumes_from"]
                .into_iter()
                .find(|key| self.mentions(name, service, key, target))
            {
                Some("depends_on") | None => vec!["services", name, "depends_on", target],
                Some(key) => vec!["services", name, key],
            };
            match self.project.disabled.get(target) {
                Some(other) => {
                    let message = format!("`{name}` needs `{target}`, whose profiles are not active");
                    let mistake = self.at(message, &place).help(format!(
                        "activate one with `--profile {}`",
                        other.profiles.join("` or `--profile ")
                    ));
                    self.mistakes.push(mistake);
                }
                None => self.undefined("service", target, &self.project.services, &place),
            }
        }
    }

    /// Whether a key of a service names another service.
    fn mentions(&self, name: &str, service: &Service, key: &str, target: &str) -> bool {
        let head = |text: &String| text.split(':').next() == Some(target);
        let mode = |mode: &Option<String>| {
            mode.as_deref().and_then(|mode| mode.strip_prefix("service:")) == Some(target)
        };
        match key {
            "depends_on" => {
                let found = self.project.spans.nearest(&["services", name, "depends_on", target]);
                found.is_some()
                    && found != self.project.spans.nearest(&["services", name, "depends_on"])
                    && !service.links.iter().any(head)
            }
            "links" => service.links.iter().any(head),
            "network_mode" => mode(&service.network_mode),
            "ipc" => mode(&service.ipc),
            "pid" => mode(&service.pid),
            _ => service.volumes_from.iter().any(head),
        }
    }

    fn undefined<T>(&mut self, what: &str, target: &str, known: &BTreeMap<String, T>, place: &[&str]) {
        let mistake = self
            .at(format!("there is no {what} `{target}`"), place)
            .did_you_mean(target, known.keys().map(String::as_str));
        let mistake = match what {
            "service" => mistake,
            _ => mistake
                .note(format!("a {what} that a service uses is declared at the top level, under `{what}s`")),
        };
        self.mistakes.push(mistake);
    }

    fn references(&mut self, name: &str, service: &Service) {
        let project = self.project;
        for network in service.networks.keys().filter(|key| !project.networks.contains_key(*key)) {
            self.undefined("network", network, &project.networks, &["services", name, "networks", network]);
        }
        for (at, mount) in service.volumes.iter().enumerate() {
            if let Some(volume) = named_volume(mount).filter(|volume| !project.volumes.contains_key(*volume))
            {
                let at = at.to_string();
                self.undefined("volume", volume, &project.volumes, &["services", name, "volumes", &at]);
            }
        }
        for (key, uses) in [("secrets", &service.secrets), ("configs", &service.configs)] {
            for (at, file) in uses.iter().enumerate() {
                let at = at.to_string();
                let place = ["services", name, key, &at];
                match key {
                    "secrets" if !project.secrets.contains_key(&file.source) => {
                        self.undefined("secret", &file.source, &project.secrets, &place);
                    }
                    "configs" if !project.configs.contains_key(&file.source) => {
                        self.undefined("config", &file.source, &project.configs, &place);
                    }
                    _ => {}
                }
            }
        }
        for (at, file) in service.build.iter().flat_map(|build| build.secrets.iter().enumerate()) {
            if !project.secrets.contains_key(&file.source) {
                let at = at.to_string();
                self.undefined(
                    "secret",
                    &file.source,
                    &project.secrets,
                    &["services", name, "build", "secrets", &at],
                );
            }
        }
        for model in service.models.keys().filter(|key| !project.models.contains_key(*key)) {
            self.undefined("model", model, &project.models, &["services", name, "models", model]);
        }
    }

    /// Two mounts on one target.
    fn targets(&mut self, name: &str, service: &Service) {
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let volumes =
            service.volumes.iter().enumerate().map(|(at, mount)| ("volumes", at, mount.target.clone()));
        let tmpfs =
            service.tmpfs.iter().enumerate().map(|(at, line)| {
                ("tmpfs", at, super::paths::clean(line.split(':').next().unwrap_or_default()))
            });
        let configs = service.configs.iter().enumerate().map(|(at, file)| {
            ("configs", at, file.target.clone().unwrap_or_else(|| format!("/{}", file.source)))
        });
        for (key, at, target) in volumes.chain(tmpfs).chain(configs) {
            let place = vec!["services".to_owned(), name.to_owned(), key.to_owned(), at.to_string()];
            if let Some(first) = seen.insert(target.clone(), place.clone()) {
                let place: Vec<&str> = place.iter().map(String::as_str).collect();
                let first: Vec<&str> = first.iter().map(String::as_str).collect();
                self.conflict(format!("two mounts on `{target}` in the service `{name}`"), &place, &first);
            }
        }
    }

    /// Services that wait for each other, each circle once, drawn as a path.
    fn cycles(&mut self) {
        let mut done: BTreeSet<&str> = BTreeSet::new();
        let project = self.project;
        for start in project.services.keys() {
            // Depth first with a stack of its own: a chain of dependencies may be long.
            let mut path: Vec<(&str, Vec<&str>)> = Vec::new();
            let edges = |name: &str| -> Vec<&str> {
                let service = project.services.get(name);
                service
                    .into_iter()
                    .flat_map(|service| service.depends_on.keys().map(String::as_str))
                    .rev()
                    .collect()
            };
            let mut on_path: BTreeSet<&str> = BTreeSet::new();
            if done.insert(start) {
                on_path.insert(start);
                path.push((start, edges(start)));
            }
            while let Some((name, rest)) = path.last_mut() {
                let Some(next) = rest.pop() else {
                    on_path.remove(*name);
                    path.pop();
                    continue;
                };
                if on_path.contains(next) {
                    let names: Vec<&str> =
                        path.iter().map(|(name, _)| *name).skip_while(|name| *name != next).collect();
                    self.circle(&names);
                } else if done.insert(next) {
                    on_path.insert(next);
                    path.push((next, edges(next)));
                }
            }
        }
    }

    fn circle(&mut self, names: &[&str]) {
        let drawn: Vec<&str> = names.iter().copied().chain(names.first().copied()).collect();
        let first = ["services", drawn[0], "depends_on", drawn[1]];
        let mut mistake =
            self.at(format!("services depend on each other in a circle: {}", drawn.join(" -> ")), &first);
        for pair in drawn.windows(2).skip(1) {
            if let Some(span) = self.project.spans.nearest(&["services", pair[0], "depends_on", pair[1]]) {
                mistake = mistake.also(span.clone(), format!("`{}` needs `{}`", pair[0], pair[1]));
            }
        }
        self.mistakes.push(mistake);
    }
}

fn named_volume(mount: &Mount) -> Option<&str> {
    mount.source.as_deref().filter(|_| mount.kind == MountKind::Volume)
}

const PULL_POLICIES: &[&str] =
    &["always", "never", "missing", "if_not_present", "build", "refresh", "daily", "weekly"];

fn is_pull_policy(policy: &str) -> bool {
    let every = |text: &str| {
        let unit = text.chars().last();
        unit.is_some_and(|unit| "wdhms".contains(unit))
            && text.starts_with(|letter: char| letter.is_ascii_digit())
            && text.chars().all(|letter| letter.is_ascii_digit() || "wdhms".contains(letter))
    };
    PULL_POLICIES.contains(&policy) || policy.strip_prefix("every_").is_some_and(every)
}

fn is_restart(restart: &str) -> bool {
    match restart.split_once(':') {
        Some(("on-failure", times)) => times.parse::<u32>().is_ok(),
        Some(_) => false,
        None => ["no", "always", "unless-stopped", "on-failure"].contains(&restart),
    }
}

fn is_container_name(name: &str) -> bool {
    let part = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    name.len() >= 2
        && name.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && name.chars().all(part)
}
