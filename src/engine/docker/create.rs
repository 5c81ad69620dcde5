//! Making a container: the table from [`ContainerSpec`] to the API's fields.
//!
//! The API takes one network at creation (before 1.44), so the others are connected afterwards; whatever
//! fails after the creation removes the container again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigIsolationEnum, HostConfigLogConfig, MountBindOptions, MountBindOptionsPropagationEnum,
    MountImageOptions, MountTmpfsOptions, MountType, MountVolumeOptions, NetworkingConfig, PortMap,
    ResourcesBlkioWeightDevice, ResourcesUlimits, RestartPolicyNameEnum, ThrottleDevice,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;

use super::super::{
    BlkioDevice, ContainerSpec, Created, EngineError, Healthcheck, Mount, MountKind, PortBinding,
    RestartPolicy, Result,
};
use super::resources::{connect, endpoint, filled, map};
use super::{Docker, containers};

pub(super) fn create(docker: &Docker, name: &str, spec: &ContainerSpec) -> Result<Created> {
    let mut options = CreateContainerOptionsBuilder::new().name(name);
    if let Some(platform) = &spec.platform {
        options = options.platform(platform);
    }
    let body = body(name, spec)?;
    let request = docker.api.create_container(Some(options.build()), body);
    let made = docker.ask(|| format!("create container {name}"), request)?;
    let created = Created { id: made.id, warnings: made.warnings };
    for attachment in spec.networks.iter().skip(1) {
        if let Err(error) = connect(docker, &attachment.network, &created.id, attachment) {
            // The error that matters is the first one.
            let _ = containers::remove(docker, &created.id, true, true);
            return Err(error);
        }
    }
    Ok(created)
}

/// The whole request.
fn body(name: &str, spec: &ContainerSpec) -> Result<ContainerCreateBody> {
    let main = spec.networks.first().map(|attachment| {
        let endpoints = HashMap::from([(attachment.network.clone(), endpoint(attachment))]);
        NetworkingConfig { endpoints_config: Some(endpoints) }
    });
    Ok(ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: spec.command.clone(),
        entrypoint: spec.entrypoint.clone().map(|entrypoint| match entrypoint.is_empty() {
            // The API's way to drop the image's entry point.
            true => vec![String::new()],
            false => entrypoint,
        }),
        env: filled(spec.env.iter().map(variable).collect()),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        tty: Some(spec.tty),
        open_stdin: Some(spec.stdin_open),
        attach_stdin: Some(spec.stdin_once),
        stdin_once: Some(spec.stdin_once),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: spec.stop_timeout_seconds,
        healthcheck: spec.healthcheck.as_ref().map(healthcheck),
        labels: map(&spec.labels),
        exposed_ports: filled(exposed(spec)),
        volumes: filled(spec.anonymous_volumes.clone()),
        host_config: Some(host_config(name, spec)?),
        networking_config: main,
        ..ContainerCreateBody::default()
    })
}

fn variable((name, value): (&String, &Option<String>)) -> String {
    value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}"))
}

/// Offered ports: the declared ones and the published ones.
fn exposed(spec: &ContainerSpec) -> Vec<String> {
    let mut ports: Vec<_> = spec.exposed.iter().cloned().chain(spec.ports.iter().map(port_name)).collect();
    ports.sort();
    ports.dedup();
    ports
}

fn port_name(port: &PortBinding) -> String {
    format!("{}/{}", port.port, port.protocol.0)
}

fn port_map(ports: &[PortBinding]) -> PortMap {
    let mut bindings = PortMap::new();
    for port in ports {
        let binding = bollard::models::PortBinding {
            host_ip: Some(port.host_ip.clone()),
            host_port: Some(port.host_port.clone()),
        };
        bindings.entry(port_name(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

fn healthcheck(check: &Healthcheck) -> HealthConfig {
    let nanoseconds =
        |time: Option<Duration>| time.map(|time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    HealthConfig {
        test: filled(check.test.clone()),
        interval: nanoseconds(check.interval),
        timeout: nanoseconds(check.timeout),
        retries: check.retries,
        start_period: nanoseconds(check.start_period),
        start_interval: nanoseconds(check.start_interval),
    }
}

fn restart(policy: &RestartPolicy) -> Option<bollard::models::RestartPolicy> {
    let (name, maximum_retry_count) = match policy {
        RestartPolicy::No => return None,
        RestartPolicy::Always => (RestartPolicyNameEnum::ALWAYS, None),
        RestartPolicy::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
        RestartPolicy::OnFailure(most) => (RestartPolicyNameEnum::ON_FAILURE, *most),
    };
    Some(bollard::models::RestartPolicy { name: Some(name), maximum_retry_count })
}

/// What the host gives the container, in groups.
fn host_config(name: &str, spec: &ContainerSpec) -> Result<HostConfig> {
    let log = HostConfigLogConfig { typ: spec.log_driver.clone(), config: map(&spec.log_options) };
    let config = HostConfig {
        annotations: map(&spec.annotations),
        auto_remove: spec.auto_remove.then_some(true),
        console_size: spec.console_size.map(|size| vec![size.rows.into(), size.columns.into()]),
        log_config: (log != HostConfigLogConfig::default()).then_some(log),
        restart_policy: restart(&spec.restart),
        init: spec.init,
        runtime: spec.runtime.clone(),
        storage_opt: map(&spec.storage_opt),
        ..HostConfig::default()
    };
    let config = with_network(config, spec);
    let config = with_storage(config, name, spec)?;
    let config = with_security(config, name, spec)?;
    Ok(with_resources(config, spec))
}

fn with_network(config: HostConfig, spec: &ContainerSpec) -> HostConfig {
    HostConfig {
        network_mode: spec.network_mode.clone(),
        port_bindings: (!spec.ports.is_empty()).then(|| port_map(&spec.ports)),
        links: filled(spec.links.clone()),
        dns: filled(spec.dns.clone()),
        dns_options: filled(spec.dns_options.clone()),
        dns_search: filled(spec.dns_search.clone()),
        extra_hosts: filled(spec.extra_hosts.clone()),
        ..config
    }
}

fn with_storage(config: HostConfig, name: &str, spec: &ContainerSpec) -> Result<HostConfig> {
    let mounts = spec.mounts.iter().map(|each| mount(name, each)).collect::<Result<Vec<_>>>()?;
    Ok(HostConfig {
        binds: filled(spec.binds.clone()),
        mounts: filled(mounts),
        tmpfs: map(&spec.tmpfs),
        volumes_from: filled(spec.volumes_from.clone()),
        readonly_rootfs: spec.read_only.then_some(true),
        shm_size: spec.shm_size,
        ..config
    })
}

fn with_security(config: HostConfig, name: &str, spec: &ContainerSpec) -> Result<HostConfig> {
    Ok(HostConfig {
        privileged: spec.privileged.then_some(true),
        cap_add: filled(spec.cap_add.clone()),
        cap_drop: filled(spec.cap_drop.clone()),
        security_opt: filled(spec.security_opt.clone()),
        masked_paths: spec.unmasked.then(Vec::new),
        readonly_paths: spec.unmasked.then(Vec::new),
        group_add: filled(spec.group_add.clone()),
        sysctls: map(&spec.sysctls),
        ipc_mode: spec.ipc.clone(),
        pid_mode: spec.pid.clone(),
        uts_mode: spec.uts.clone(),
        userns_mode: spec.userns.clone(),
        cgroupns_mode: choice::<HostConfigCgroupnsModeEnum>(name, "cgroup", spec.cgroup.as_ref())?,
        isolation: choice::<HostConfigIsolationEnum>(name, "isolation", spec.isolation.as_ref())?,
        ..config
    })
}

/// A value of a closed set; the API's own message for one outside it.
fn choice<T: std::str::FromStr<Err = String>>(
    container: &str,
    key: &str,
    value: Option<&String>,
) -> Result<Option<T>> {
    let refused = |message| EngineError::Refused {
        action: format!("create container {container} with `{key}`"),
        status: 400,
        message,
    };
    value.map(|value| value.parse().map_err(refused)).transpose()
}

fn with_resources(config: HostConfig, spec: &ContainerSpec) -> HostConfig {
    let limits = &spec.resources;
    let config = with_block_devices(config, spec);
    HostConfig {
        nano_cpus: limits.nano_cpus,
        cpu_shares: limits.cpu_shares,
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        cpu_realtime_period: limits.cpu_rt_period,
        cpu_realtime_runtime: limits.cpu_rt_runtime,
        cpu_count: limits.cpu_count,
        cpu_percent: limits.cpu_percent,
        cpuset_cpus: limits.cpuset.clone(),
        memory: limits.memory,
        memory_reservation: limits.memory_reservation,
        memory_swap: limits.memory_swap,
        memory_swappiness: limits.memory_swappiness,
        oom_kill_disable: limits.oom_kill_disable,
        oom_score_adj: limits.oom_score_adj,
        pids_limit: limits.pids_limit,
        cgroup_parent: limits.cgroup_parent.clone(),
        ulimits: filled(limits.ulimits.iter().map(ulimit).collect()),
        device_cgroup_rules: filled(limits.device_cgroup_rules.clone()),
        devices: filled(limits.devices.iter().map(device).collect()),
        device_requests: filled(limits.device_requests.iter().map(device_request).collect()),
        ..config
    }
}

fn with_block_devices(config: HostConfig, spec: &ContainerSpec) -> HostConfig {
    let limits = &spec.resources.blkio;
    let throttle = |devices: &[BlkioDevice]| {
        filled(
            devices
                .iter()
                .map(|each| ThrottleDevice { path: Some(each.path.clone()), rate: Some(each.value) })
                .collect(),
        )
    };
    let weight = |each: &BlkioDevice| ResourcesBlkioWeightDevice {
        path: Some(each.path.clone()),
        weight: usize::try_from(each.value).ok(),
    };
    HostConfig {
        blkio_weight: limits.weight,
        blkio_weight_device: filled(limits.weight_device.iter().map(weight).collect()),
        blkio_device_read_bps: throttle(&limits.read_bps),
        blkio_device_write_bps: throttle(&limits.write_bps),
        blkio_device_read_iops: throttle(&limits.read_iops),
        blkio_device_write_iops: throttle(&limits.write_iops),
        ..config
    }
}

fn ulimit(limit: &super::super::Ulimit) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(limit.name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

fn device(device: &super::super::Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.source.clone()),
        path_in_container: Some(device.target.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    }
}

fn device_request(request: &super::super::DeviceRequest) -> DeviceRequest {
    DeviceRequest {
        driver: request.driver.clone(),
        count: request.count,
        device_ids: filled(request.ids.clone()),
        capabilities: filled(request.capabilities.clone()),
        options: map(&request.options),
    }
}

fn mount(container: &str, mount: &Mount) -> Result<bollard::models::Mount> {
    let base = bollard::models::Mount {
        target: Some(mount.target.clone()),
        source: (!mount.source.is_empty()).then(|| mount.source.clone()),
        read_only: mount.read_only.then_some(true),
        consistency: mount.consistency.clone(),
        ..bollard::models::Mount::default()
    };
    with_kind(container, base, &mount.kind)
}

fn with_kind(
    container: &str,
    mount: bollard::models::Mount,
    kind: &MountKind,
) -> Result<bollard::models::Mount> {
    Ok(match kind {
        MountKind::Bind { .. } => bollard::models::Mount {
            typ: Some(MountType::BIND),
            bind_options: bind_options(container, kind)?,
            ..mount
        },
        MountKind::Volume { no_copy, subpath, labels } => bollard::models::Mount {
            typ: Some(MountType::VOLUME),
            volume_options: volume_options(*no_copy, subpath.as_ref(), labels),
            ..mount
        },
        MountKind::Tmpfs { size, mode } => bollard::models::Mount {
            typ: Some(MountType::TMPFS),
            tmpfs_options: (size.is_some() || mode.is_some()).then(|| MountTmpfsOptions {
                size_bytes: *size,
                mode: mode.map(i64::from),
                options: None,
            }),
            ..mount
        },
        MountKind::Image { subpath } => bollard::models::Mount {
            typ: Some(MountType::IMAGE),
            image_options: subpath.clone().map(|subpath| MountImageOptions { subpath: Some(subpath) }),
            ..mount
        },
    })
}

fn bind_options(container: &str, kind: &MountKind) -> Result<Option<MountBindOptions>> {
    let MountKind::Bind {
        propagation,
        create_source,
        non_recursive,
        read_only_non_recursive,
        read_only_force_recursive,
    } = kind
    else {
        return Ok(None);
    };
    let propagation = propagation.as_ref();
    let options = MountBindOptions {
        propagation: choice::<MountBindOptionsPropagationEnum>(container, "bind.propagation", propagation)?,
        non_recursive: non_recursive.then_some(true),
        create_mountpoint: create_source.then_some(true),
        read_only_non_recursive: read_only_non_recursive.then_some(true),
        read_only_force_recursive: read_only_force_recursive.then_some(true),
    };
    Ok((options != MountBindOptions::default()).then_some(options))
}

fn volume_options(
    no_copy: bool,
    subpath: Option<&String>,
    labels: &BTreeMap<String, String>,
) -> Option<MountVolumeOptions> {
    let options = MountVolumeOptions {
        no_copy: no_copy.then_some(true),
        labels: map(labels),
        subpath: subpath.cloned(),
        ..MountVolumeOptions::default()
    };
    (options != MountVolumeOptions::default()).then_some(options)
}

#[cfg(test)]
mod tests {
    use super::super::super::{Attachment, Protocol};
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            image: "web".to_owned(),
            env: [("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)].into(),
            entrypoint: Some(Vec::new()),
            ports: vec![PortBinding {
                host_ip: String::new(),
                host_port: "8080".to_owned(),
                port: 80,
                protocol: Protocol("tcp".to_owned()),
            }],
            exposed: vec!["80/tcp".to_owned(), "9/udp".to_owned()],
            restart: RestartPolicy::OnFailure(Some(3)),
            network_mode: Some("p_default".to_owned()),
            networks: vec![
                Attachment {
                    network: "p_default".to_owned(),
                    aliases: vec!["web".to_owned()],
                    ..Attachment::default()
                },
                Attachment { network: "p_back".to_owned(), ..Attachment::default() },
            ],
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn the_request_says_what_the_spec_says() {
        let json = serde_json::to_value(body("p-web-1", &spec()).unwrap()).unwrap();
        assert_eq!(json["Env"], serde_json::json!(["A=1", "B"]));
        assert_eq!(json["Entrypoint"], serde_json::json!([""]));
        assert_eq!(json["ExposedPorts"], serde_json::json!({"80/tcp": {}, "9/udp": {}}));
        let host = &json["HostConfig"];
        assert_eq!(host["PortBindings"]["80/tcp"], serde_json::json!([{"HostIp": "", "HostPort": "8080"}]));
        assert_eq!(host["RestartPolicy"], serde_json::json!({"Name": "on-failure", "MaximumRetryCount": 3}));
        let endpoints = &json["NetworkingConfig"]["EndpointsConfig"];
        assert_eq!(endpoints["p_default"]["Aliases"], serde_json::json!(["web"]));
        assert!(endpoints.get("p_back").is_none(), "one network at creation");
    }

    #[test]
    fn a_value_outside_the_set_is_refused_with_its_key() {
        let wrong = ContainerSpec { cgroup: Some("odd".to_owned()), ..spec() };
        let error = body("p-web-1", &wrong).unwrap_err().to_string();
        assert!(error.contains("p-web-1 with `cgroup`"), "{error}");
    }
}
