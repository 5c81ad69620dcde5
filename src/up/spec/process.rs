//! What runs in the container, as whom, how it is watched and kept apart.

use std::collections::{BTreeMap, BTreeSet};

use crate::compose::{self, Service};
use crate::engine::{ContainerSpec, Healthcheck, RestartPolicy};

use super::super::files::{Files, seccomp_path};

/// Where containers with the engine's socket have the user's logins.
pub(super) const LOGINS_FOLDER: &str = "/run/secrets/docker";

/// Fills in the keys of this group.
pub(super) fn fill(spec: &mut ContainerSpec, service: &Service, files: &Files) {
    spec.platform.clone_from(&service.platform);
    spec.command.clone_from(&service.command);
    spec.entrypoint.clone_from(&service.entrypoint);
    spec.env.clone_from(&service.environment);
    spec.user.clone_from(&service.user);
    spec.working_dir.clone_from(&service.working_dir);
    spec.hostname.clone_from(&service.hostname);
    spec.domainname.clone_from(&service.domainname);
    spec.tty = service.tty;
    spec.stdin_open = service.stdin_open;
    spec.stop_signal.clone_from(&service.stop_signal);
    spec.stop_timeout_seconds = service.stop_grace_period.map(|period| whole_seconds(period.0));
    spec.healthcheck = service.healthcheck.as_ref().map(healthcheck);
    spec.labels.clone_from(&service.labels);
    spec.annotations.clone_from(&service.annotations);
    spec.restart = restart(service);
    spec.init = service.init;
    spec.runtime.clone_from(&service.runtime);
    if let Some(logging) = &service.logging {
        spec.log_driver.clone_from(&logging.driver);
        spec.log_options.clone_from(&logging.options);
    }
    if service.use_api_socket {
        // Who says where the configuration is knows what they are doing.
        let folder = || Some(LOGINS_FOLDER.to_owned());
        spec.env.entry("DOCKER_CONFIG".to_owned()).or_insert_with(folder);
    }
    fill_isolation(spec, service, files);
}

fn fill_isolation(spec: &mut ContainerSpec, service: &Service, files: &Files) {
    spec.read_only = service.read_only;
    spec.privileged = service.privileged;
    spec.cap_add = capabilities(&service.cap_add);
    spec.cap_drop = capabilities(&service.cap_drop);
    let options = service.security_opt.iter().map(|option| security(option, files));
    let (unmasked, options) = options.partition(|option| option == "systempaths=unconfined");
    spec.security_opt = options;
    spec.unmasked = !Vec::is_empty(&unmasked);
    spec.group_add.clone_from(&service.group_add);
    spec.sysctls.clone_from(&service.sysctls);
    spec.storage_opt.clone_from(&service.storage_opt);
    spec.ipc.clone_from(&service.ipc);
    spec.pid.clone_from(&service.pid);
    spec.uts.clone_from(&service.uts);
    spec.userns.clone_from(&service.userns_mode);
    spec.cgroup.clone_from(&service.cgroup);
    spec.isolation.clone_from(&service.isolation);
}

/// The engine takes whole seconds; a part of one counts as one, so that nothing is killed too early.
fn whole_seconds(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_secs() + u64::from(time.subsec_nanos() > 0)).unwrap_or(i64::MAX)
}

fn healthcheck(check: &compose::Healthcheck) -> Healthcheck {
    Healthcheck {
        test: if check.disable { vec!["NONE".to_owned()] } else { check.test.clone() },
        interval: check.interval.map(|time| time.0),
        timeout: check.timeout.map(|time| time.0),
        start_period: check.start_period.map(|time| time.0),
        start_interval: check.start_interval.map(|time| time.0),
        retries: check.retries.and_then(|retries| i64::try_from(retries).ok()),
    }
}

/// `deploy.restart_policy`, else `restart`.
fn restart(service: &Service) -> RestartPolicy {
    let deployed = service.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref());
    if let Some(restart) = deployed {
        let most = restart.max_attempts.and_then(|most| i64::try_from(most).ok());
        return policy(restart.condition.as_deref().unwrap_or("any"), most);
    }
    service.restart.as_ref().map_or(RestartPolicy::No, |text| {
        let (name, most) = text.split_once(':').unwrap_or((text, ""));
        policy(name, most.parse().ok())
    })
}

fn policy(name: &str, most: Option<i64>) -> RestartPolicy {
    match name {
        "always" | "any" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure(most),
        _ => RestartPolicy::No,
    }
}

/// Capabilities by their full names, each once and in order: `net_admin` is `CAP_NET_ADMIN`.
fn capabilities(names: &[String]) -> Vec<String> {
    let full = |name: &String| match name.to_uppercase() {
        all if all == "ALL" || all.starts_with("CAP_") => all,
        short => format!("CAP_{short}"),
    };
    names.iter().map(full).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A security option with `=`, a seccomp profile's text in place of its file.
fn security(option: &str, files: &Files) -> String {
    if let Some(text) = seccomp_path(option).and_then(|path| files.seccomp.get(path)) {
        let compact = serde_json::from_str::<serde_json::Value>(text).map(|value| value.to_string());
        return format!("seccomp={}", compact.unwrap_or_else(|_| text.clone()));
    }
    if option.contains('=') { option.to_owned() } else { option.replacen(':', "=", 1) }
}

/// A `tmpfs` entry `PATH[:OPTIONS]` in two.
pub(super) fn tmpfs(entries: &[String]) -> BTreeMap<String, String> {
    let parts = |entry: &String| {
        let (path, options) = entry.split_once(':').unwrap_or((entry, ""));
        (path.to_owned(), options.to_owned())
    };
    entries.iter().map(parts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_reads_both_places() {
        let with = |text: &str| restart(&Service { restart: Some(text.to_owned()), ..Service::default() });
        assert_eq!(with("always"), RestartPolicy::Always);
        assert_eq!(with("on-failure:3"), RestartPolicy::OnFailure(Some(3)));
        assert_eq!(with("on-failure"), RestartPolicy::OnFailure(None));
        assert_eq!(with("no"), RestartPolicy::No);
        let deployed = compose::Deploy {
            restart_policy: Some(compose::DeployRestart { max_attempts: Some(2), ..Default::default() }),
            ..Default::default()
        };
        let service = Service { deploy: Some(deployed), ..Service::default() };
        assert_eq!(restart(&service), RestartPolicy::Always);
        let both = Service { restart: Some("on-failure".to_owned()), ..service };
        assert_eq!(restart(&both), RestartPolicy::Always);
    }

    #[test]
    fn capabilities_have_one_name() {
        let names = ["net_admin", "CAP_NET_ADMIN", "all", "MKNOD"].map(str::to_owned);
        assert_eq!(capabilities(&names), ["ALL", "CAP_MKNOD", "CAP_NET_ADMIN"]);
    }

    #[test]
    fn security_options_get_an_equals_sign_and_the_profile_itself() {
        let mut files = Files::default();
        files.seccomp.insert("p.json".to_owned(), "{ \"a\": 1 }".to_owned());
        assert_eq!(security("label:disable", &files), "label=disable");
        assert_eq!(security("no-new-privileges", &files), "no-new-privileges");
        assert_eq!(security("seccomp:p.json", &files), "seccomp={\"a\":1}");
        assert_eq!(security("seccomp=unconfined", &files), "seccomp=unconfined");
    }
}
