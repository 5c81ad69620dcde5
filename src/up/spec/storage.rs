//! What the container sees of the host's and the engine's storage: binds, volumes, tmpfs, configs, secrets.
//!
//! Binds and volumes without special options go in the engine's short form, which makes a missing host
//! folder, as Docker Compose does it; everything else is a mount.

use std::path::Path;

use crate::base::digest::Digest;
use crate::compose::{self, FileMode, FileUse, Project, Service};
use crate::engine::{ContainerSpec, Mount, MountKind};

use super::super::files::{Content, Files};
use super::{Copy, process};

/// The permissions of a config or secret that says none.
const FILE_MODE: u32 = 0o444;

/// The engine's socket, on its own machine and in containers.
const SOCKET: &str = "/var/run/docker.sock";

/// Fills in the keys of this group. Returns what is copied into the container, and path and digest of
/// everything that the project's files bring in.
pub(super) fn fill(
    spec: &mut ContainerSpec,
    project: &Project,
    service: &Service,
    files: &Files,
) -> (Vec<Copy>, Vec<(String, Digest)>) {
    spec.tmpfs = process::tmpfs(&service.tmpfs);
    spec.volumes_from.clone_from(&service.volumes_from);
    for mount in &service.volumes {
        match bind(project, mount) {
            Some(bind) => spec.binds.push(bind),
            None => spec.mounts.extend(long(project, mount)),
        }
    }
    let mut copies = Vec::new();
    let mut contents = Vec::new();
    for used in &service.secrets {
        let path = secret_path(used);
        let Some(content) = files.secrets.get(&used.source) else { continue };
        place(spec, path, used, content, &mut copies, &mut contents);
    }
    for used in &service.configs {
        let target = used.target.as_ref().unwrap_or(&used.source);
        let path = if target.starts_with('/') { target.clone() } else { format!("/{target}") };
        let Some(content) = files.configs.get(&used.source) else { continue };
        place(spec, path, used, content, &mut copies, &mut contents);
    }
    if service.use_api_socket {
        spec.binds.push(format!("{SOCKET}:{SOCKET}:rw"));
        // Not part of what the container is made of: logins are renewed every few hours.
        let path = format!("{}/config.json", process::LOGINS_FOLDER);
        copies.push(Copy { path, owner: (0, 0), mode: FILE_MODE, bytes: files.logins.clone() });
    }
    (copies, contents)
}

/// The engine's short form `SOURCE:TARGET:OPTIONS` where it can say everything.
fn bind(project: &Project, mount: &compose::Mount) -> Option<String> {
    let mut options = vec![if mount.read_only { "ro" } else { "rw" }.to_owned()];
    let source = match mount.kind {
        compose::MountKind::Bind => {
            let bind = mount.bind.clone().unwrap_or_default();
            if bind.create_host_path == Some(false) || bind.recursive.is_some() {
                return None;
            }
            options.extend(bind.selinux);
            options.extend(bind.propagation);
            mount.source.clone()?
        }
        compose::MountKind::Volume => {
            let volume = mount.volume.clone().unwrap_or_default();
            if volume.subpath.is_some() || volume.nocopy || !volume.labels.is_empty() {
                return None;
            }
            options.extend(mount.bind.clone().and_then(|bind| bind.selinux));
            volume_name(project, mount)?
        }
        _ => return None,
    };
    Some(format!("{source}:{}:{}", mount.target, options.join(",")))
}

/// The engine's name of a named volume.
fn volume_name(project: &Project, mount: &compose::Mount) -> Option<String> {
    let key = mount.source.as_ref()?;
    Some(project.volumes.get(key).map_or_else(|| key.clone(), |volume| volume.name.clone()))
}

fn long(project: &Project, mount: &compose::Mount) -> Option<Mount> {
    let (source, kind) = match mount.kind {
        compose::MountKind::Bind => (mount.source.clone().unwrap_or_default(), bind_kind(mount)),
        compose::MountKind::Volume => {
            let options = mount.volume.clone().unwrap_or_default();
            let kind = MountKind::Volume {
                no_copy: options.nocopy,
                subpath: options.subpath,
                labels: options.labels,
            };
            (volume_name(project, mount).unwrap_or_default(), kind)
        }
        compose::MountKind::Tmpfs => {
            let options = mount.tmpfs.clone().unwrap_or_default();
            let size = options.size.map(|size| size.0);
            (String::new(), MountKind::Tmpfs { size, mode: options.mode })
        }
        compose::MountKind::Image => {
            let subpath = mount.image.clone().and_then(|image| image.subpath);
            (mount.source.clone().unwrap_or_default(), MountKind::Image { subpath })
        }
        // Refused before anything is planned.
        compose::MountKind::Npipe | compose::MountKind::Cluster => return None,
    };
    Some(Mount {
        target: mount.target.clone(),
        source,
        read_only: mount.read_only,
        consistency: mount.consistency.clone(),
        kind,
    })
}

fn bind_kind(mount: &compose::Mount) -> MountKind {
    let bind = mount.bind.clone().unwrap_or_default();
    let recursive = bind.recursive.as_deref();
    MountKind::Bind {
        propagation: bind.propagation,
        create_source: bind.create_host_path != Some(false),
        non_recursive: recursive == Some("disabled"),
        read_only_non_recursive: recursive == Some("writable"),
        read_only_force_recursive: recursive == Some("readonly"),
    }
}

fn secret_path(used: &FileUse) -> String {
    let target = used.target.clone().unwrap_or_else(|| used.source.clone());
    if Path::new(&target).is_absolute() { target } else { format!("/run/secrets/{target}") }
}

/// A file of the host is mounted read-only; anything else is copied.
fn place(
    spec: &mut ContainerSpec,
    path: String,
    used: &FileUse,
    content: &Content,
    copies: &mut Vec<Copy>,
    contents: &mut Vec<(String, Digest)>,
) {
    contents.push((path.clone(), content.digest()));
    match content {
        Content::Host { path: source, .. } => spec.mounts.push(Mount {
            target: path,
            source: source.clone(),
            read_only: true,
            consistency: None,
            kind: MountKind::Bind {
                propagation: None,
                create_source: false,
                non_recursive: false,
                read_only_non_recursive: false,
                read_only_force_recursive: false,
            },
        }),
        Content::Inline(bytes) => {
            let id = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok()).unwrap_or(0);
            copies.push(Copy {
                path,
                owner: (id(&used.uid), id(&used.gid)),
                mode: used.mode.map_or(FILE_MODE, |FileMode(mode)| mode),
                bytes: bytes.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: compose::MountKind, source: Option<&str>, target: &str) -> compose::Mount {
        compose::Mount {
            kind,
            source: source.map(str::to_owned),
            target: target.to_owned(),
            ..compose::Mount::default()
        }
    }

    #[test]
    fn short_forms_where_they_can_say_everything() {
        let named = compose::Volume { name: "p_data".to_owned(), ..Default::default() };
        let project = Project { volumes: [("data".to_owned(), named)].into(), ..Project::default() };
        let folder = mount(compose::MountKind::Bind, Some("/host"), "/in");
        assert_eq!(bind(&project, &folder).as_deref(), Some("/host:/in:rw"));
        let read_only = compose::Mount { read_only: true, ..folder.clone() };
        assert_eq!(bind(&project, &read_only).as_deref(), Some("/host:/in:ro"));
        let volume = mount(compose::MountKind::Volume, Some("data"), "/d");
        assert_eq!(bind(&project, &volume).as_deref(), Some("p_data:/d:rw"));
        assert_eq!(bind(&project, &mount(compose::MountKind::Volume, None, "/d")), None);
        let strict = compose::BindOptions { create_host_path: Some(false), ..Default::default() };
        assert_eq!(bind(&project, &compose::Mount { bind: Some(strict), ..folder }), None);
    }

    #[test]
    fn the_engines_socket_comes_with_logins_that_make_no_other_container() {
        let mut files = Files::default();
        files.give_logins(b"{}".to_vec());
        let service = Service { use_api_socket: true, ..Service::default() };
        let mut spec = ContainerSpec::default();
        let (copies, contents) = fill(&mut spec, &Project::default(), &service, &files);
        assert_eq!(spec.binds, ["/var/run/docker.sock:/var/run/docker.sock:rw"]);
        assert_eq!(copies[0].path, "/run/secrets/docker/config.json");
        assert!(contents.is_empty());
    }

    #[test]
    fn files_are_mounted_and_texts_are_copied() {
        let mut files = Files::default();
        let digest = Digest::of("x");
        files.secrets.insert("s".to_owned(), Content::Host { path: "/h/s".to_owned(), digest });
        files.configs.insert("c".to_owned(), Content::Inline(b"text".to_vec()));
        let used = |source: &str| FileUse { source: source.to_owned(), ..FileUse::default() };
        let service = Service { secrets: vec![used("s")], configs: vec![used("c")], ..Service::default() };
        let mut spec = ContainerSpec::default();
        let (copies, contents) = fill(&mut spec, &Project::default(), &service, &files);
        assert_eq!(spec.mounts[0].target, "/run/secrets/s");
        assert_eq!((copies[0].path.as_str(), copies[0].mode), ("/c", 0o444));
        assert_eq!(contents.len(), 2);
    }
}
