//! Outputs of `image build`: folders, tars, archives, and what is said of them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use crate::scene::{Ran, Scene, needs, ran, skip};

/// An image with every kind of file.
const FILES: &str = r#"FROM scratch AS files
COPY f /d/f
FROM busybox
COPY --from=files /d /d
RUN ln /d/f /d/hard && mkfifo /d/fifo && ln -s f /d/link && mknod /d/null c 1 3 \
    && chown 5:6 /d/hard && chmod 4711 /d/f && mkdir -m 1777 /d/t && chown 7:8 /d/t && rm /bin/vi
RUN touch -d @1000000000 /d/old
LABEL kind=test
CMD ["sh"]
"#;

fn scene() -> Option<Scene> {
    let scene = Scene::with_busybox()?;
    scene.write("Dockerfile", FILES).write("f", "hello\n");
    Some(scene)
}

fn build(scene: &Scene, more: &[&str]) -> Ran {
    scene.shipway(&[&["--engine", "none", "image", "build"], more, &["."]].concat())
}

/// The value under a path of keys in a JSON file.
fn value(path: &Path, pointer: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json.pointer(pointer)
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .unwrap_or_default()
}

/// A tar's members as `tar` lists them, those below `d` only.
fn members(tar: &[u8]) -> String {
    let mut child = Command::new("tar")
        .args(["--numeric-owner", "--utc", "-tv"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), tar).unwrap();
    let listed = ran(&child.wait_with_output().unwrap()).ok().out;
    let below = listed.lines().filter(|line| line.contains(" d/"));
    // Owner, mode, target: not the times, which are those of this build.
    below
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            [&words[..2], &words[5..]].concat().join(" ") + "\n"
        })
        .collect()
}

#[test]
fn a_folder_gets_the_final_files() {
    let Some(scene) = scene() else { return };
    build(&scene, &["-o", "out"]).ok();
    let out = scene.project().join("out");
    let stat = |name: &str| std::fs::symlink_metadata(out.join(name)).unwrap();
    assert_eq!(std::fs::read_to_string(out.join("d/f")).unwrap(), "hello\n");
    // Owned by who builds, as with BuildKit; everything else is the image's.
    let d = stat("d/f");
    assert_eq!((d.mode() & 0o7777, d.uid(), d.gid(), d.nlink()), (0o4711, 0, 0, 2));
    assert_eq!((stat("d/hard").ino(), stat("d/t").mode() & 0o7777), (d.ino(), 0o1777));
    assert!(stat("d/fifo").file_type().is_fifo() && stat("d/null").file_type().is_char_device());
    assert_eq!(stat("d/null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(stat("d/old").mtime(), 1_000_000_000);
    assert_eq!(std::fs::read_link(out.join("d/link")).unwrap(), Path::new("f"));
    assert!(!out.join("bin/vi").exists() && out.join("bin/sh").exists());
    assert_eq!(std::fs::metadata(&out).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_tar_has_owners_and_everything_else() {
    let Some(scene) = scene() else { return };
    let output = scene.command(&["--engine", "none", "image", "build", "-o", "-", "."]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = "\
        -rws--x--x 5/6 d/f\n\
        prw-r--r-- 0/0 d/fifo\n\
        hrws--x--x 5/6 d/hard link to d/f\n\
        lrwxrwxrwx 0/0 d/link -> f\n\
        crw-r--r-- 0/0 d/null\n\
        -rw-r--r-- 0/0 d/old\n\
        drwxrwxrwt 7/8 d/t/\n";
    assert_eq!(members(&output.stdout), format!("drwxr-xr-x 0/0 d/\n{expected}"));
    build(&scene, &["--output=type=tar,dest=files/out.tar"]).ok();
    assert!(output.stdout == std::fs::read(scene.project().join("files/out.tar")).unwrap());
}

#[test]
fn the_archive_is_read_by_others() {
    let Some(scene) = scene() else { return };
    if Command::new("skopeo").arg("--version").output().is_err() {
        return skip("skopeo");
    }
    let skopeo = |arguments: &[&str]| {
        ran(&Command::new("skopeo").args(arguments).current_dir(scene.project()).output().unwrap()).ok().out
    };
    let spec = |kind: &str, more: &str| format!("type={kind},dest={kind}.tar{more}");
    let (oci, docker) = (spec("oci", ""), spec("docker", ",compression=uncompressed"));
    let zstd = "type=oci,dest=zstd.tar,compression=zstd,force-compression=true";
    build(&scene, &["-t", "a/b:1", "-o", &oci, "-o", &docker, "-o", zstd, "--metadata-file", "meta.json"])
        .ok();
    for (name, media) in [
        ("oci-archive:oci.tar:1", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("docker-archive:docker.tar", ""),
        ("oci-archive:zstd.tar:1", "application/vnd.oci.image.layer.v1.tar+zstd"),
    ] {
        let inspected: serde_json::Value = serde_json::from_str(&skopeo(&["inspect", name])).unwrap();
        assert_eq!(inspected["Labels"]["kind"], "test", "{name}");
        // What skopeo makes of Docker's archives is its own manifest.
        if name.starts_with("oci") {
            let manifest: serde_json::Value =
                serde_json::from_str(&skopeo(&["inspect", "--raw", name])).unwrap();
            let layers = manifest["layers"].as_array().unwrap();
            assert!(layers.len() == 4 && layers[3]["mediaType"] == media, "{manifest}");
        }
        // Every blob is read, and its digest compared.
        let copy = format!("dir:{}", name.replace(':', "-"));
        skopeo(&["copy", "--quiet", name, &copy]);
    }
    let meta = scene.project().join("meta.json");
    assert_eq!(value(&meta, "/image.name"), "docker.io/a/b:1");
    let annotated = value(&meta, "/containerimage.descriptor/annotations/config.digest");
    assert_eq!(annotated, value(&meta, "/containerimage.config.digest"));
    assert!(value(&meta, "/containerimage.descriptor/mediaType").contains("oci.image.manifest"));
    // What was given away did not stay: no output asked for that.
    assert!(!scene.shipway(&["image", "ls"]).ok().out.contains("a/b"));
}

#[test]
fn a_layout_keeps_the_images_that_it_has() {
    let Some(scene) = scene() else { return };
    let into = ["-o", "type=oci,tar=false,dest=layout"];
    build(&scene, &[&["-t", "a:1"], &into[..]].concat()).ok();
    build(&scene, &[&["-t", "a:2", "--label", "second=yes"], &into[..]].concat()).ok();
    build(&scene, &[&["-t", "a:1", "--label", "first=again"], &into[..]].concat()).ok();
    let index = scene.project().join("layout/index.json");
    assert_eq!(
        (value(&index, "/manifests/2/digest"), value(&index, "/manifests/1/digest").len()),
        (String::new(), 71)
    );
    for (tag, label) in [("1", "first"), ("2", "second")] {
        let copy = ["copy", "--quiet", &format!("oci:layout:{tag}"), &format!("dir:{label}")];
        let Ok(copied) = Command::new("skopeo").args(copy).current_dir(scene.project()).output() else {
            return skip("skopeo");
        };
        ran(&copied).ok();
        let seen = Command::new("skopeo")
            .args(["inspect", &format!("dir:{label}")])
            .current_dir(scene.project())
            .output();
        assert!(ran(&seen.unwrap()).ok().out.contains(&format!("\"{label}\":")), "{label}");
    }
}

#[test]
fn an_engine_of_every_age_loads_the_docker_archive() {
    let Some(scene) = Scene::with_engine("outputs") else { return };
    scene.write("Dockerfile", FILES).write("f", "hello\n");
    let name = format!("{}:1", scene.name());
    for compression in ["gzip", "uncompressed"] {
        let spec = format!("type=docker,dest=image.tar,compression={compression}");
        build(&scene, &["-t", &name, "-o", &spec, "--iidfile", "id"]).ok();
        let archive = scene.project().join("image.tar");
        scene.docker(&["load", "-i", archive.to_str().unwrap()]).ok();
        let id = scene.docker(&["image", "inspect", "-f", "{{.Id}}", &name]).ok().out;
        assert_eq!(id.trim(), std::fs::read_to_string(scene.project().join("id")).unwrap());
        let said = scene.docker(&["run", "--rm", "--network", "none", &name, "cat", "/d/f"]).ok().out;
        assert_eq!(said, "hello\n");
        scene.docker(&["image", "rm", &name]).ok();
    }
}

#[test]
fn an_image_of_one_moment_has_one_digest() {
    let Some(scene) = scene() else { return };
    let build = |arguments: &[&str], epoch: &str| {
        let mut command =
            scene.command(&[&["--engine", "none", "image", "build"], arguments, &["."]].concat());
        ran(&command.env("SOURCE_DATE_EPOCH", epoch).output().unwrap())
    };
    let archive = ["--no-cache", "-t", "a:1", "-o", "type=oci,dest=a.tar", "--metadata-file", "meta.json"];
    let made = |epoch: &str| {
        build(&archive, epoch).ok();
        let bytes = std::fs::read(scene.project().join("a.tar")).unwrap();
        (value(&scene.project().join("meta.json"), "/containerimage.digest"), bytes)
    };
    let first = made("1500000000");
    // Nothing of this build is a hit, and its files are younger.
    assert!(first == made("1500000000"));
    assert_ne!(first.0, made("1500000001").0);
    let (_, bytes) = made("1000000");
    assert!(bytes.windows(20).any(|text| text == b"1970-01-12T13:46:40Z"));
    build(&["-o", "type=tar,dest=b.tar"], "1000000").ok();
    let listed = ran(&Command::new("tar")
        .args(["--utc", "-tvf", "b.tar"])
        .current_dir(scene.project())
        .output()
        .unwrap())
    .ok();
    assert!(listed.out.lines().all(|line| line.contains(" 1970-01-12 13:46 ")), "{}", listed.out);
    build(&["-o", "out"], "soon").fails(1, &["SOURCE_DATE_EPOCH must be a number of seconds, not `soon`"]);
}

#[test]
fn what_cannot_be_written_is_said_before_anything_is_built() {
    let Some(scene) = scene() else { return };
    scene.write("taken/f", "");
    build(&scene, &["-o", "f"]).fails(1, &["the output", "f is not a folder"]);
    build(&scene, &["-o", "type=oci,dest=taken"]).fails(1, &["taken is a folder"]);
    build(&scene, &["-o", "type=oic,dest=x"]).fails(1, &["there is no type `oic`", "did you mean `oci`?"]);
    assert!(needs("SHIPWAY_TEST_BUSYBOX_TAR", "busybox").is_some());
}

#[test]
fn what_is_pushed_is_pulled_and_a_second_push_uploads_nothing() {
    let Some(scene) = scene() else { return };
    let Some(registry) = needs("SHIPWAY_TEST_REGISTRY", "a registry (SHIPWAY_TEST_REGISTRY)") else { return };
    let name = |repository: &str, tag: &str| {
        format!("{registry}/st-outputs-{}/{repository}:{tag}", std::process::id())
    };
    let (one, two, other) = (name("a", "1"), name("a", "2"), name("b", "1"));
    let pushed = build(&scene, &["-t", &one, "--push", "--metadata-file", "meta.json"]).ok();
    pushed.says(&[&format!("pushed {one} as sha256:"), "5 uploaded"]);
    let digest = value(&scene.project().join("meta.json"), "/containerimage.digest");
    // Nothing of it is left to do, under another tag neither; another repository takes it from the first.
    build(&scene, &["-t", &one, "--push"]).ok().says(&["nothing to upload"]);
    build(&scene, &["-t", &one, "-t", &two, "-t", &other, "--push"])
        .ok()
        .says(&[&format!("pushed {one}, {two} as {digest}: nothing to upload"), "1 uploaded, 4 taken from"]);
    for name in [&one, &two, &other] {
        let reference = format!("docker://{name}");
        let seen = Command::new("skopeo").args(["inspect", "--tls-verify=false", &reference]).output();
        let Ok(seen) = seen else { return skip("skopeo") };
        let seen: serde_json::Value = serde_json::from_str(&ran(&seen).ok().out).unwrap();
        assert_eq!(
            (seen["Digest"].as_str(), seen["Labels"]["kind"].as_str()),
            (Some(&*digest), Some("test"))
        );
    }
    let copy = format!("docker://{other}");
    let copy = ["copy", "--quiet", "--src-tls-verify=false", &copy, "dir:copy"];
    ran(&Command::new("skopeo").args(copy).current_dir(scene.project()).output().unwrap()).ok();
    // By us, into a store that knows nothing, and as the base of what is pushed beside it.
    let fresh = Scene::empty();
    fresh.write("Dockerfile", &format!("FROM {other}\nRUN grep hello /d/f && echo more > /more\n"));
    let third = name("c", "1");
    build(&fresh, &["-t", &third, "--push", "-o", "out"]).ok().says(&["2 uploaded, 4 taken from"]);
    assert_eq!(std::fs::read_to_string(fresh.project().join("out/more")).unwrap(), "more\n");
}

#[test]
fn a_push_that_cannot_be_says_why() {
    let Some(scene) = scene() else { return };
    build(&scene, &["--push"]).fails(1, &["a push needs a name for the image: -t or name="]);
    scene
        .shipway(&["--offline", "--engine", "none", "image", "build", "-t", "r.example/a", "--push", "."])
        .fails(1, &["cannot push: --offline"]);
    build(&scene, &["-t", "127.0.0.1:1/a", "--push"]).fails(1, &["cannot reach the registry `127.0.0.1:1`"]);
}

#[test]
fn images_of_the_store_are_saved_loaded_shown_and_forgotten() {
    let Some(scene) = scene() else { return };
    build(&scene, &["-t", "a:1", "-t", "b:2"]).ok();
    scene.shipway(&["image", "save", "-o", "all.tar", "a:1", "b:2", "busybox"]).ok();
    let (fresh, archive) = (Scene::empty(), scene.project().join("all.tar"));
    let loaded = fresh.shipway(&["image", "load", "-i", archive.to_str().unwrap()]).ok().out;
    let mut lines: Vec<_> = loaded.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["Loaded image: a:1", "Loaded image: b:2", "Loaded image: busybox:latest"]);
    let shown = |scene: &Scene, name: &str| {
        let text = scene.shipway(&["image", "inspect", name]).ok().out;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let (here, there) = (shown(&scene, "a:1"), shown(&fresh, "a:1"));
    assert_eq!((&here[0]["Id"], &here[0]["RootFS"]), (&there[0]["Id"], &there[0]["RootFS"]));
    assert_eq!(
        (&there[0]["RepoTags"], &there[0]["Config"]["Labels"]["kind"]),
        (&serde_json::json!(["a:1", "b:2"]), &"test".into())
    );
    // It serves as a base, its layers are there already.
    fresh.write("Dockerfile", "FROM a:1\nRUN grep hello /d/f\n");
    build(&fresh, &[]).ok().says(&["FROM a:1  hit"]);
    fresh
        .shipway(&["image", "rm", "a:1", "bb:2"])
        .fails(1, &["the store has no image `bb:2`", "did you mean `b:2`?"]);
    fresh.shipway(&["image", "inspect", "a:1"]).fails(1, &["the store has no image `a:1`"]);
    let id = there[0]["Id"].as_str().unwrap();
    assert_eq!(shown(&fresh, &id["sha256:".len()..][..12])[0]["RepoTags"], serde_json::json!(["b:2"]));
}

#[test]
fn services_push_what_they_build_and_name() {
    let Some(scene) = scene() else { return };
    let Some(registry) = needs("SHIPWAY_TEST_REGISTRY", "a registry (SHIPWAY_TEST_REGISTRY)") else { return };
    let name = format!("{registry}/st-outputs-{}/service", std::process::id());
    let file = format!(
        "services:\n  web:\n    image: {name}:1\n    build:\n      context: .\n      tags: ['{name}:2']\n      provenance: false\n  plain:\n    build: .\n  other:\n    image: busybox\n"
    );
    scene.write("compose.yaml", &file);
    let shipway = |arguments: &[&str]| scene.shipway(&[&["--engine", "none"], arguments].concat());
    shipway(&["push"]).fails(1, &["service web: the store has no image", "build it first"]);
    let pushed = shipway(&["build", "--push", "--sbom=false"]).ok();
    let said = format!("pushed {name}:1, {name}:2 as sha256:");
    assert_eq!(pushed.err.matches("pushed ").count(), 1, "{}", pushed.err);
    assert!(pushed.err.contains(&said), "{}", pushed.err);
    shipway(&["push", "web"]).ok().says(&[&said, "nothing to upload"]);
    shipway(&["build", "--sbom"]).fails(1, &["not supported yet: --sbom=true"]);
}
