//! Anonymous volumes: handed on to the container that replaces another, removed with the last one.

use std::collections::BTreeMap;

use crate::engine::{ContainerSpec, Engine, Mount, MountKind, MountPoint, Result};

use super::super::names;
use super::super::observe::label;

/// Digits of the name that an engine gives an anonymous volume.
const ANONYMOUS: usize = 64;

/// Mounts the anonymous volumes of the container `old` where the new one would get empty ones.
pub(super) fn fill(engine: &dyn Engine, spec: &mut ContainerSpec, old: &str) -> Result<()> {
    let volumes: Vec<_> = engine.mounts(old)?.into_iter().filter(is_anonymous).collect();
    if volumes.is_empty() {
        return Ok(());
    }
    let declared = engine.image(&spec.image)?.map(|image| image.volumes()).unwrap_or_default();
    let handed: Vec<_> = hand_on(spec, &volumes, &declared);
    if !handed.is_empty() {
        spec.labels.insert(names::INHERITED.to_owned(), handed.join(","));
    }
    Ok(())
}

/// Mounts the anonymous volumes of the container `of` at the same places, unless something else is there.
pub(super) fn share(engine: &dyn Engine, spec: &mut ContainerSpec, of: &str) -> Result<()> {
    let volumes: Vec<_> = engine.mounts(of)?.into_iter().filter(is_anonymous).collect();
    let everywhere: Vec<_> = volumes.iter().map(|volume| volume.target.clone()).collect();
    hand_on(spec, &volumes, &everywhere);
    Ok(())
}

fn is_anonymous(mount: &MountPoint) -> bool {
    let hexadecimal =
        |name: &String| name.len() == ANONYMOUS && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    mount.kind == "volume" && mount.name.as_ref().is_some_and(hexadecimal)
}

/// The volumes go where the service has an anonymous volume, and where the image declares one and nothing
/// else is mounted. The names of those that found a place.
fn hand_on(spec: &mut ContainerSpec, volumes: &[MountPoint], declared: &[String]) -> Vec<String> {
    let mut handed = Vec::new();
    for volume in volumes {
        let Some(name) = &volume.name else { continue };
        let taken = taken(spec, &volume.target);
        let mounted = spec.mounts.iter_mut().find(|mount| mount.target == volume.target);
        match mounted {
            Some(mount) if mount.source.is_empty() && matches!(mount.kind, MountKind::Volume { .. }) => {
                mount.source.clone_from(name);
            }
            None if !taken && declared.contains(&volume.target) => spec.mounts.push(Mount {
                target: volume.target.clone(),
                source: name.clone(),
                read_only: false,
                consistency: None,
                kind: MountKind::Volume { no_copy: false, subpath: None, labels: BTreeMap::new() },
            }),
            _ => continue,
        }
        handed.push(name.clone());
    }
    handed
}

/// Whether a bind or tmpfs lies at a path.
fn taken(spec: &ContainerSpec, target: &str) -> bool {
    let bound = |bind: &String| bind.split(':').nth(1) == Some(target);
    spec.binds.iter().any(bound) || spec.tmpfs.contains_key(target)
}

/// Removes a container with its anonymous volumes, those too that it was handed by another one: its label
/// names them. Volumes that another container uses stay.
pub(super) fn remove(engine: &dyn Engine, container: &str) -> Result<()> {
    let heirs = engine.containers(&[names::INHERITED])?;
    let heir = heirs.iter().find(|one| one.id == container || one.name == container);
    let handed = heir.map_or("", |heir| label(heir, names::INHERITED));
    engine.remove(container, true, true)?;
    for name in handed.split(',').filter(|name| !name.is_empty()) {
        match engine.remove_volume(name) {
            Ok(_) => {}
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, target: &str) -> MountPoint {
        let (name, target) = (Some(name.to_owned()), target.to_owned());
        MountPoint { kind: "volume".to_owned(), name, source: String::new(), target, driver: String::new() }
    }

    #[test]
    fn only_volumes_without_a_name_are_anonymous() {
        assert!(is_anonymous(&volume(&"ab".repeat(32), "/d")));
        assert!(!is_anonymous(&volume("p_data", "/d")));
        assert!(!is_anonymous(&MountPoint { kind: "bind".to_owned(), ..volume(&"ab".repeat(32), "/d") }));
    }

    #[test]
    fn volumes_go_where_the_new_container_would_get_empty_ones() {
        let anonymous = Mount {
            target: "/own".to_owned(),
            source: String::new(),
            read_only: false,
            consistency: None,
            kind: MountKind::Volume { no_copy: false, subpath: None, labels: BTreeMap::new() },
        };
        let mut spec = ContainerSpec {
            mounts: vec![anonymous],
            binds: vec!["/host:/bound:rw".to_owned()],
            ..ContainerSpec::default()
        };
        let old = ["/own", "/declared", "/bound", "/gone"].map(|target| volume("v", target));
        hand_on(&mut spec, &old, &["/declared".to_owned(), "/bound".to_owned()]);
        let mounts: Vec<_> = spec.mounts.iter().map(|mount| (&*mount.target, &*mount.source)).collect();
        assert_eq!(mounts, [("/own", "v"), ("/declared", "v")]);
    }
}
