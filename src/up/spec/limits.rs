//! How much of the machine the container may use. `deploy.resources` wins where it speaks.

use crate::compose::{self, ByteSize, Cpus, Service};
use crate::engine::{BlkioDevice, BlkioLimits, ContainerSpec, Device, DeviceRequest, Resources, Ulimit};

/// Fills in the keys of this group.
pub(super) fn fill(spec: &mut ContainerSpec, service: &Service) {
    spec.shm_size = bytes(service.shm_size);
    spec.resources = Resources {
        nano_cpus: service.cpus.map(nano_cpus),
        cpu_shares: service.cpu_shares,
        cpu_period: service.cpu_period,
        cpu_quota: service.cpu_quota,
        cpu_rt_period: service.cpu_rt_period,
        cpu_rt_runtime: service.cpu_rt_runtime,
        cpu_count: service.cpu_count,
        cpu_percent: service.cpu_percent.map(|percent| percent.0 as i64),
        cpuset: service.cpuset.clone(),
        memory: bytes(service.mem_limit),
        memory_reservation: bytes(service.mem_reservation),
        memory_swap: bytes(service.memswap_limit),
        memory_swappiness: bytes(service.mem_swappiness),
        oom_kill_disable: service.oom_kill_disable.then_some(true),
        oom_score_adj: service.oom_score_adj,
        pids_limit: service.pids_limit,
        cgroup_parent: service.cgroup_parent.clone(),
        ulimits: service.ulimits.iter().map(ulimit).collect(),
        device_cgroup_rules: service.device_cgroup_rules.clone(),
        devices: service.devices.iter().filter(|device| !is_cdi(device)).map(device).collect(),
        device_requests: device_requests(service),
        blkio: service.blkio_config.as_ref().map(blkio).unwrap_or_default(),
    };
    apply_deploy(&mut spec.resources, service);
}

fn apply_deploy(resources: &mut Resources, service: &Service) {
    let Some(deploy) = &service.deploy else { return };
    if let Some(limits) = &deploy.resources.limits {
        resources.nano_cpus = limits.cpus.map(nano_cpus).or(resources.nano_cpus);
        resources.memory = bytes(limits.memory).or(resources.memory);
        resources.pids_limit = limits.pids.or(resources.pids_limit);
    }
    if let Some(reservations) = &deploy.resources.reservations {
        resources.memory_reservation = bytes(reservations.memory).or(resources.memory_reservation);
        resources.device_requests.extend(reservations.devices.iter().map(request));
    }
}

fn bytes(size: Option<ByteSize>) -> Option<i64> {
    size.map(|size| size.0)
}

fn nano_cpus(cpus: Cpus) -> i64 {
    (cpus.0 * 1e9).round() as i64
}

fn ulimit((name, limit): (&String, &compose::Ulimit)) -> Ulimit {
    let both = limit.single.unwrap_or(0);
    let (soft, hard) = (limit.soft.unwrap_or(both), limit.hard.unwrap_or(both));
    Ulimit { name: name.clone(), soft, hard }
}

/// A name of the Container Device Interface: `vendor.com/class=name`.
fn is_cdi(device: &compose::Device) -> bool {
    !device.source.starts_with('/') && device.source.contains('/') && device.source.contains('=')
}

fn device(device: &compose::Device) -> Device {
    Device {
        source: device.source.clone(),
        target: device.target.clone().unwrap_or_else(|| device.source.clone()),
        permissions: device.permissions.clone().unwrap_or_else(|| "rwm".to_owned()),
    }
}

fn device_requests(service: &Service) -> Vec<DeviceRequest> {
    let cdi = service.devices.iter().filter(|device| is_cdi(device)).map(|device| DeviceRequest {
        driver: Some("cdi".to_owned()),
        ids: vec![device.source.clone()],
        ..DeviceRequest::default()
    });
    let gpus = service.gpus.iter().map(|gpu| {
        let mut request = request(gpu);
        if !request.capabilities[0].iter().any(|capability| capability == "gpu") {
            request.capabilities[0].push("gpu".to_owned());
        }
        request
    });
    cdi.chain(gpus).collect()
}

fn request(device: &compose::DeviceReservation) -> DeviceRequest {
    // Neither a count nor ids means all.
    let all = device.count.is_none() && device.device_ids.is_empty();
    DeviceRequest {
        driver: device.driver.clone(),
        count: if all { Some(-1) } else { device.count },
        ids: device.device_ids.clone(),
        capabilities: vec![device.capabilities.clone()],
        options: device.options.clone(),
    }
}

fn blkio(limits: &compose::Blkio) -> BlkioLimits {
    let throttles = |devices: &[compose::ThrottleDevice]| {
        let one = |device: &compose::ThrottleDevice| BlkioDevice {
            path: device.path.clone(),
            value: bytes(device.rate).unwrap_or(0),
        };
        devices.iter().map(one).collect()
    };
    let weight = |device: &compose::WeightDevice| BlkioDevice {
        path: device.path.clone(),
        value: device.weight.map_or(0, i64::from),
    };
    BlkioLimits {
        weight: limits.weight,
        weight_device: limits.weight_device.iter().map(weight).collect(),
        read_bps: throttles(&limits.device_read_bps),
        write_bps: throttles(&limits.device_write_bps),
        read_iops: throttles(&limits.device_read_iops),
        write_iops: throttles(&limits.device_write_iops),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deploy_wins_over_the_old_keys() {
        let limits = compose::Limits { cpus: Some(Cpus(0.5)), memory: Some(ByteSize(1 << 20)), pids: None };
        let resources = compose::Resources { limits: Some(limits), reservations: None };
        let service = Service {
            mem_limit: Some(ByteSize(5)),
            pids_limit: Some(7),
            deploy: Some(compose::Deploy { resources, ..compose::Deploy::default() }),
            ..Service::default()
        };
        let mut spec = ContainerSpec::default();
        fill(&mut spec, &service);
        let resources = spec.resources;
        assert_eq!(resources.nano_cpus, Some(500_000_000));
        assert_eq!(resources.memory, Some(1 << 20));
        assert_eq!(resources.pids_limit, Some(7));
    }

    #[test]
    fn devices_are_paths_or_names_of_the_device_interface() {
        let device = |source: &str| compose::Device { source: source.to_owned(), ..Default::default() };
        let service = Service {
            devices: vec![device("/dev/fuse"), device("nvidia.com/gpu=all")],
            ..Service::default()
        };
        let mut spec = ContainerSpec::default();
        fill(&mut spec, &service);
        assert_eq!(spec.resources.devices[0].permissions, "rwm");
        assert_eq!(spec.resources.devices[0].target, "/dev/fuse");
        assert_eq!(spec.resources.device_requests[0].ids, ["nvidia.com/gpu=all"]);
    }
}
