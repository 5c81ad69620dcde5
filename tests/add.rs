//! ADD: archives, URLs and git repositories, on the real program.

use std::io::Write as _;
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

fn build(scene: &Scene) -> Ran {
    scene.shipway(&["--engine", "none", "--progress", "plain", "image", "build", "."])
}

/// What a RUN printed, in its order.
fn printed(ran: &Ran) -> Vec<&str> {
    ran.err.lines().filter_map(|line| line.split_once("> ").map(|(_, text)| text)).collect()
}

#[test]
fn archives_are_unpacked_with_their_owners_and_hit_the_second_time() {
    let Some(scene) = Scene::with_busybox() else { return };
    let members = [
        ("a/f", Member::File(7, 0o640, "f")),
        ("l", Member::Link("/etc")),
        ("l/x", Member::File(7, 0o600, "x")),
    ];
    archive(&scene.project().join("site.tgz"), &members, gzip);
    scene.write("Dockerfile", "FROM busybox\nADD --chmod=700 site.tgz /srv/site\nADD --chown=3:4 site.tgz /own\nADD --unpack=false site.tgz /as-it-is\nRUN stat -c '> %n %u:%g %a' /srv /srv/site /srv/site/* /srv/site/*/* /own /own/a /own/a/f\nRUN stat -c '> %n' /etc/x || wc -c < /as-it-is\n");
    let first = build(&scene).ok();
    println!("{}", first.err);
    println!("{:?}", printed(&first));
    let expected = [
        "/srv 0:0 755",
        "/srv/site 0:0 755",
        "/srv/site/a 0:0 755",
        "/srv/site/etc 0:0 755",
        "/srv/site/l 0:0 777",
        "/srv/site/a/f 7:7 640",
        "/srv/site/etc/x 7:7 600",
        "/own 3:4 755",
        "/own/a 0:0 755",
        "/own/a/f 3:4 640",
    ];
    assert_eq!(printed(&first), expected);
    assert!(build(&scene).ok().err.contains("nothing changed"));
}
