//! The flags of `image build` that say how steps run and what is built again.

use std::io::Write;
use std::process::Stdio;

use crate::scene::{Ran, Scene, ran};

fn build(scene: &Scene, more: &[&str]) -> Ran {
    scene.shipway(&[&["--engine", "none", "--progress", "plain", "image", "build"], more, &["."]].concat())
}

#[test]
fn a_step_sees_hosts_memory_limits_and_no_network() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write(
        "Dockerfile",
        "FROM busybox\nRUN cat /etc/hosts && df -k /dev/shm && ulimit -n && ls /sys/class/net > /nets || true\n",
    );
    let flags =
        ["--add-host", "far:192.0.2.7", "--shm-size", "3m", "--ulimit", "nofile=77", "--network", "none"];
    let seen = build(&scene, &[&flags[..], &["-o", "out"]].concat()).ok();
    assert!(seen.err.contains("192.0.2.7\tfar") && seen.err.contains(" 3072 "), "{}", seen.err);
    assert!(seen.err.lines().any(|line| line.trim_end().ends_with(" 77")), "{}", seen.err);
    // Limits are no part of what a step is; the others are.
    let other =
        ["--add-host", "far:192.0.2.7", "--shm-size", "3m", "--ulimit", "nofile=78", "--network", "none"];
    build(&scene, &other).ok().says(&["nothing changed"]);
    let reason = build(&scene, &["--network", "none"]).ok();
    reason.says(&["extra hosts", "RUN cat /etc/hosts"]);
}

#[test]
fn only_the_named_stages_are_built_again() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write(
        "Dockerfile",
        "FROM busybox AS One\nRUN echo 1 > /one\nFROM busybox AS two\nRUN echo 2 > /two\nFROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n",
    );
    build(&scene, &[]).ok();
    build(&scene, &["--no-cache-filter", "none"]).ok().says(&["nothing changed"]);
    // What stands on it is looked at again, and found: the same bytes came out.
    build(&scene, &["--no-cache-filter=one"]).ok().says(&[
        "RUN echo 1 > /one  because forced",
        "RUN echo 2 > /two  hit",
        "--from=one /one /  hit",
    ]);
}

#[test]
fn the_dockerfile_may_come_from_standard_input() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("f", "from the context\n");
    let mut command =
        scene.command(&["--engine", "none", "image", "build", "-q", "-f", "-", "-t", "piped", "."]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"FROM busybox\nCOPY f /f\n").unwrap();
    let built = ran(&child.wait_with_output().unwrap()).ok();
    assert!(built.out.starts_with("sha256:") && built.out.lines().count() == 1, "{}", built.out);
    assert!(built.err.is_empty(), "{}", built.err);
    assert!(scene.shipway(&["image", "ls"]).ok().out.contains("piped"));
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let scene = Scene::empty();
    for flag in ["--isolation=x", "--builder=x", "--cgroup-parent=x", "--squash", "--memory=1g"] {
        let name = flag.split('=').next().unwrap();
        build(&scene, &[flag]).fails(1, &[&format!("not supported yet: {name}")]);
    }
    build(&scene, &["--platform", "linux/amd64,linux/arm64"]).fails(1, &["an image of several platforms"]);
    build(&scene, &["--sbom=true"]).fails(1, &["not supported yet: --sbom=true"]);
}
