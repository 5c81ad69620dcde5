//! ADD: archives, URLs and git repositories, on the real program.

use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::scene::{Ran, Scene};

/// A tar member: its name and what it is.
enum Member {
    File(u32, u32, &'static str),
    Link(&'static str),
}

/// A tar of members, compressed by `compress`.
fn archive(path: &Path, members: &[(&str, Member)], compress: impl Fn(&[u8]) -> Vec<u8>) {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, member) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_000_000);
        match member {
            Member::File(owner, mode, text) => {
                header.set_mode(*mode);
                header.set_uid(u64::from(*owner));
                header.set_gid(u64::from(*owner));
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, name, text.as_bytes()).unwrap();
            }
            Member::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    std::fs::write(path, compress(&builder.into_inner().unwrap())).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// Builds the project's folder into a tar beside it.
pub(crate) fn build(scene: &Scene, more: &[&str]) -> Ran {
    let flags =
        ["--engine", "none", "--progress", "plain", "image", "build", "-o", "type=tar,dest=../out.tar"];
    scene.shipway(&[&flags[..], more, &["."]].concat())
}

/// What the last build wrote: each entry's name, owner, mode, and text or target.
pub(crate) fn written(scene: &Scene) -> Vec<String> {
    let file = std::fs::File::open(scene.project().join("../out.tar")).unwrap();
    let mut archive = tar::Archive::new(file);
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let mut text = String::from_utf8(bytes).unwrap_or_else(|_| "(binary)".to_owned());
        if let Some(target) = entry.link_name().unwrap() {
            text = format!("-> {}", target.display());
        }
        let path = entry.path().unwrap().display().to_string();
        let (header, path) = (entry.header(), path.trim_end_matches('/'));
        let (uid, gid, mode) =
            (header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap() & 0o7777);
        lines.push(format!("{path} {uid}:{gid} {mode:o} {text}").trim_end().to_owned());
    }
    lines.sort();
    lines
}

#[test]
fn archives_are_unpacked_with_their_owners_and_hit_the_second_time() {
    let Some(scene) = Scene::as_root() else { return };
    let link = Member::Link("/etc");
    let members = [("a/f", Member::File(7, 0o640, "f")), ("l", link), ("l/x", Member::File(7, 0o600, "x"))];
    archive(&scene.project().join("site.tgz"), &members, gzip);
    let text = "FROM scratch\nADD --chmod=700 site.tgz /srv\nADD --chown=3:4 site.tgz /own/\nADD --unpack=false site.tgz /kept/\n";
    scene.write("Dockerfile", text);
    build(&scene, &[]).ok();
    let expected = [
        "kept 0:0 755",
        "kept/site.tgz 0:0 644 (binary)",
        "own 3:4 755",
        "own/a 0:0 755",
        "own/a/f 3:4 640 f",
        "own/etc 0:0 755",
        "own/etc/x 3:4 600 x",
        "own/l 3:4 777 -> /etc",
        "srv 0:0 755",
        "srv/a 0:0 755",
        "srv/a/f 7:7 640 f",
        "srv/etc 0:0 755",
        "srv/etc/x 7:7 600 x",
        "srv/l 0:0 777 -> /etc",
    ];
    assert_eq!(written(&scene), expected);
    assert!(build(&scene, &[]).ok().err.contains("nothing changed"));
}

#[test]
fn an_archive_that_leads_out_fails_the_step() {
    let Some(scene) = Scene::as_root() else { return };
    archive(&scene.project().join("evil.tgz"), &[("xx/up", Member::File(0, 0o644, ""))], |tar| {
        // The builder does not write such a name: put it in and mend the header's checksum.
        let mut tar = tar.to_vec();
        tar[..5].copy_from_slice(b"../up");
        let mut header = tar::Header::from_byte_slice(&tar[..512]).clone();
        header.set_cksum();
        tar[..512].copy_from_slice(header.as_bytes());
        gzip(&tar)
    });
    scene.write("Dockerfile", "FROM scratch\nADD evil.tgz /srv/\n");
    build(&scene, &[]).fails(1, &["`../up` in the tar is refused", "Dockerfile:2:1"]);
}

#[test]
fn a_linked_copy_outlives_its_base_and_replaces_links() {
    let Some(scene) = Scene::as_root() else { return };
    let base = |text: &str| scene.write("base/etc/passwd", text).write("base/etc/group", "web:x:9:\n");
    base("root:x:0:0::/:\nweb:x:8:9::/:\n").write("f", "f\n");
    std::os::unix::fs::symlink("elsewhere", scene.project().join("base/srv")).unwrap();
    std::fs::create_dir(scene.project().join("base/elsewhere")).unwrap();
    let dockerfile = |more: &str| {
        let text = "FROM scratch\nCOPY base /\n{MORE}COPY --link f /srv/\nCOPY --link --chown=web f /named\n";
        scene.write("Dockerfile", &text.replace("{MORE}", more));
    };
    dockerfile("");
    build(&scene, &[]).ok();
    let expected = [
        "elsewhere 0:0 755",
        "etc 0:0 755",
        "etc/group 0:0 644 web:x:9:",
        "etc/passwd 0:0 644 root:x:0:0::/:\nweb:x:8:9::/:",
        "named 8:9 644 f",
        "srv 0:0 755",
        "srv/f 0:0 644 f",
    ];
    assert_eq!(written(&scene), expected);
    // Another base, the same accounts: no copy runs again.
    dockerfile("COPY f /more\n");
    let ran = build(&scene, &[]).ok();
    assert!(!ran.err.contains("] COPY --link f /srv/  done"), "{}", ran.err);
    assert!(!ran.err.contains("] COPY --link --chown=web f /named  done"), "{}", ran.err);
    // Other accounts: only the copy that has asked them.
    base("root:x:0:0::/:\nweb:x:18:9::/:\n");
    let ran = build(&scene, &[]).ok();
    assert!(!ran.err.contains("] COPY --link f /srv/  done"), "{}", ran.err);
    assert!(ran.err.contains("] COPY --link --chown=web f /named  done"), "{}", ran.err);
    assert!(written(&scene).contains(&"named 18:9 644 f".to_owned()));
    assert!(build(&scene, &[]).ok().err.contains("nothing changed"));
}
