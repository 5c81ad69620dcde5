//! What a RUN mounts, on the real program: each kind of mount, what it leaves behind (nothing), what makes
//! a step run again, and that nobody gets out or finds a secret.
//!
//! Most of what is claimed is checked by the command inside: a build that succeeds has seen it.

use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::scene::{Ran, Scene, processes, ran, skip, until};

/// Builds the project's Dockerfile.
fn build(scene: &Scene, more: &[&str]) -> Ran {
    let mut arguments = vec!["--engine", "none", "--progress", "plain", "--parallel", "4"];
    arguments.extend(["image", "build", "-t", "made"]);
    arguments.extend(more);
    arguments.push(".");
    scene.shipway(&arguments)
}

/// Builds these lines on busybox.
fn on_busybox(scene: &Scene, lines: &str, more: &[&str]) -> Ran {
    scene.write("Dockerfile", &format!("FROM busybox\n{lines}"));
    build(scene, more)
}

/// The instructions that ran.
fn steps(ran: &Ran) -> Vec<String> {
    let lines = ran.err.lines().filter(|line| line.contains("  because "));
    let text = |line: &str| {
        let text = line.split_once("] ").map_or(line, |(_, text)| text);
        text.split("  because ").next().unwrap_or_default().to_owned()
    };
    lines.map(text).collect()
}

#[test]
fn binds_show_the_context_and_never_change_it() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene
        .write("lib/a", "one")
        .write("lib/deep/b", "two")
        .write("x.log", "no")
        .write(".dockerignore", "*.log\n");
    std::os::unix::fs::symlink("lib", scene.project().join("link")).unwrap();
    on_busybox(
        &scene,
        "WORKDIR /work\n\
         RUN --mount=target=/ctx test -f /ctx/lib/deep/b -a ! -e /ctx/x.log && cat /ctx/link/a\n\
         RUN --mount=source=lib,target=here cat /work/here/deep/b\n\
         RUN --mount=source=lib/a,target=/one [ $(cat /one) = one ] && ! echo x > /one\n\
         RUN --mount=source=link,target=/new/place,rw echo x > /new/place/a && rm -r /new/place/deep\n\
         RUN test ! -e /ctx -a ! -e /one -a ! -e /new && [ -z \"$(ls /work)\" ]\n",
        &[],
    )
    .ok();
    assert_eq!(std::fs::read_to_string(scene.project().join("lib/a")).unwrap(), "one");
    assert!(scene.project().join("lib/deep/b").exists());
}

#[test]
fn only_what_a_bind_selects_makes_the_step_run_again() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("lib/a", "one").write("other", "1");
    scene.write(
        "Dockerfile",
        "FROM busybox AS stage\nARG X=1\nRUN echo $X > /unused && echo same > /used\n\
         FROM busybox\nRUN --mount=source=lib,target=/lib cat /lib/a\n\
         RUN --mount=from=stage,source=used,target=/used cat /used\n",
    );
    build(&scene, &[]).ok();
    scene.write("other", "2").age(".");
    assert_eq!(steps(&build(&scene, &[]).ok()), [""; 0]);
    // The stage runs again and gives the same bytes where the mount looks.
    let rebuilt = build(&scene, &["--build-arg", "X=2"]).ok();
    assert_eq!(steps(&rebuilt), ["RUN echo $X > /unused && echo same > /used"]);
    scene.write("lib/a", "two");
    let changed = build(&scene, &["--build-arg", "X=2"]).ok().says(&["`lib/a` modified"]);
    assert_eq!(
        steps(&changed)[..2],
        ["mount /lib of the build context", "RUN --mount=source=lib,target=/lib cat /lib/a"]
    );
}

#[test]
fn a_missing_source_is_shown_where_it_stands() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("lib/a", "");
    on_busybox(&scene, "RUN --mount=source=libs,target=/x true\n", &[])
        .fails(1, &["Dockerfile:2", "did you mean `lib`?"]);
    on_busybox(&scene, "RUN --mount=from=busybox,source=/no,target=/x true\n", &[])
        .fails(1, &["Dockerfile:2", "`/no` not found"]);
}

#[test]
fn a_cache_outlives_the_build_and_never_counts() {
    let Some(scene) = Scene::with_busybox() else { return };
    let lines = "RUN --mount=type=cache,target=/c echo x >> /c/log; wc -l < /c/log | tee /count\n\
        RUN --mount=type=cache,id=/c,target=/other cp /other/log /log\n\
        RUN --mount=type=cache,id=mine,target=/m,mode=0701,uid=5,gid=6 [ \"$(stat -c %a:%u:%g /m)\" = 701:5:6 ]\n\
        RUN --mount=type=cache,from=busybox,source=/etc,target=/e test -f /e/passwd && touch /e/new\n\
        RUN --mount=type=cache,from=busybox,source=etc,target=/e,ro test -f /e/new && ! touch /e/x\n\
        RUN test ! -e /c -a ! -e /other -a ! -e /m\n";
    on_busybox(&scene, lines, &[]).ok();
    assert_eq!(steps(&on_busybox(&scene, lines, &[]).ok()), [""; 0]);
    let forced = on_busybox(&scene, lines, &["--no-cache", "-o", "out"]).ok();
    assert!(!forced.err.is_empty());
    let written = std::fs::read_to_string(scene.project().join("out/count")).unwrap();
    assert_eq!(written.trim(), "2");
    // Another id is another folder, but no reason to run.
    let renamed = lines.replace("id=mine", "id=yours");
    assert_eq!(steps(&on_busybox(&scene, &renamed, &[]).ok()), [""; 0]);
    let usage = scene.shipway(&["cache", "du"]).ok();
    assert!(usage.out.contains("Cache mounts"), "{}", usage.out);
    scene.shipway(&["cache", "prune", "-f", "-a"]).ok();
    assert_eq!(std::fs::read_dir(scene.store().join("mounts-v1")).unwrap().count(), 0);
}

#[test]
fn a_locked_cache_is_used_by_one_step_of_all_processes() {
    let Some(scene) = Scene::with_busybox() else { return };
    let step = |name: &str| {
        format!(
            "RUN --mount=type=cache,target=/c,sharing=locked echo {name}; mkdir /c/alone && sleep 0.3 && rmdir /c/alone\n"
        )
    };
    for file in ["one", "two"] {
        let stages: String = (0..3)
            .map(|stage| format!("FROM busybox AS s{stage}\n{}", step(&format!("{file}{stage}"))))
            .collect();
        let all =
            "FROM busybox\nCOPY --from=s0 /bin/sh /0\nCOPY --from=s1 /bin/sh /1\nCOPY --from=s2 /bin/sh /2\n";
        scene.write(file, &(stages + all));
    }
    let start = |file: &str| {
        scene.start(&[
            "--engine",
            "none",
            "--progress",
            "plain",
            "image",
            "build",
            "-f",
            file,
            "-t",
            file,
            ".",
        ])
    };
    let both = ["one", "two"].map(start);
    for child in both {
        ran(&child.wait_with_output().unwrap()).ok();
    }
}

#[test]
fn private_caches_are_apart_while_shared_ones_meet() {
    let Some(scene) = Scene::with_busybox() else { return };
    let meet = |sharing: &str, mine: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/{sharing},sharing={sharing} touch /{sharing}/{mine}; \
             for i in $(seq 100); do test -e /{sharing}/{other} && exit 0; sleep 0.05; done; exit 1\n"
        )
    };
    let both = |one: &str, two: &str| {
        format!(
            "FROM busybox AS a\n{one}FROM busybox AS b\n{two}FROM busybox\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n"
        )
    };
    scene.write("Dockerfile", &both(&meet("shared", "a", "b"), &meet("shared", "b", "a")));
    build(&scene, &[]).ok();
    let private =
        "RUN --mount=type=cache,target=/p,sharing=private echo NAME; mkdir /p/x && sleep 1 && rmdir /p/x\n";
    scene.write("Dockerfile", &both(&private.replace("NAME", "a"), &private.replace("NAME", "b")));
    build(&scene, &[]).ok();
}

#[test]
fn a_cache_survives_kill_9() {
    let Some(scene) = Scene::with_busybox() else { return };
    let mark = format!("86401.{}", std::process::id());
    let lines = format!("RUN --mount=type=cache,target=/c touch /c/kept && sleep {mark}\n");
    scene.write("Dockerfile", &format!("FROM busybox\n{lines}"));
    let mut child = scene.start(&["--engine", "none", "image", "build", "-t", "made", "."]);
    let mark = format!("sleep\0{mark}");
    until("the step runs", || !processes(&mark).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    until("the step's processes are gone", || processes(&mark).is_empty());
    on_busybox(&scene, "RUN --mount=type=cache,target=/c,sharing=locked test -e /c/kept\n", &[]).ok();
}

#[test]
fn tmpfs_mounts_are_empty_limited_and_gone() {
    let Some(scene) = Scene::with_busybox() else { return };
    on_busybox(
        &scene,
        "RUN --mount=type=tmpfs,target=/bin/t,size=1m [ -z \"$(ls /bin/t)\" ] && \
           ! dd if=/dev/zero of=/bin/t/x bs=64k count=32 2>/dev/null\n\
         RUN --mount=type=tmpfs,target=/a/b --mount=type=tmpfs,target=/a touch /a/b/x /a/y\n\
         RUN --mount=type=tmpfs,target=/proc/1 true\n",
        &[],
    )
    .fails(1, &["cannot mount over /proc/1", "Dockerfile:4"]);
}

/// What must not be found anywhere afterwards.
const SECRET: &str = "hunter2-correct-horse-battery";

#[test]
fn secrets_are_seen_by_their_command_alone() {
    let Some(scene) = Scene::with_busybox() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("token");
    std::fs::write(&file, SECRET).unwrap();
    let lines = "RUN --mount=type=secret,id=token [ \"$(stat -c %a:%u:%g /run/secrets/token)\" = 400:0:0 ] && \
           [ $(wc -c < /run/secrets/token) = 29 ]\n\
         RUN --mount=type=secret,id=token,target=/etc/npmrc,mode=0444,uid=7,gid=8,env=TOKEN \
           [ \"$(stat -c %a:%u:%g /etc/npmrc)\" = 444:7:8 ] && [ \"$(cat /etc/npmrc)\" = \"$TOKEN\" ]\n\
         RUN --mount=type=secret,id=token,env=TOKEN [ ${#TOKEN} = 29 ] && test ! -e /run/secrets\n\
         RUN --mount=type=secret,id=absent test ! -e /run/secrets -a ! -e /run\n\
         RUN test ! -e /run -a ! -e /etc/npmrc && [ -z \"$TOKEN\" ]\n";
    let source = format!("id=token,src={}", file.display());
    let built = on_busybox(&scene, lines, &["--secret", &source]).ok();
    assert!(!built.err.contains(SECRET));
    nowhere(scene.store());
    // Another value is no reason to run, the same value of a variable neither.
    std::fs::write(&file, SECRET.replace('h', "H")).unwrap();
    assert_eq!(steps(&on_busybox(&scene, lines, &["--secret", &source]).ok()), [""; 0]);
    let failing = "RUN --mount=type=secret,id=token,env=TOKEN exit 3\n";
    let mut command =
        scene.command(&["--engine", "none", "image", "build", "--secret", "id=token,env=T", "."]);
    scene.write("Dockerfile", &format!("FROM busybox\n{failing}"));
    let failed = ran(&command.env("T", SECRET).output().unwrap()).fails(1, &["exit code 3"]);
    assert!(!failed.err.contains(SECRET) && !failed.out.contains(SECRET));
    nowhere(scene.store());
    on_busybox(&scene, "RUN --mount=type=secret,id=absent,required true\n", &[])
        .fails(1, &["there is no secret `absent`", "Dockerfile:2"]);
}

/// Fails if the secret is in any file or name below `folder`.
fn nowhere(folder: &Path) {
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let stat = path.symlink_metadata().unwrap();
        if stat.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if stat.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!found, "{} has the secret", path.display());
        }
        let name = path.as_os_str().as_bytes();
        assert!(!name.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    }
}

#[test]
fn compose_files_hand_in_secrets_and_entitlements() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("key.txt", "from a file").write(
        "compose.yaml",
        "services:\n  a:\n    build:\n      context: .\n      entitlements: [network.host]\n\
         \x20     secrets:\n        - key\n        - source: variable\n          target: renamed\n\
         secrets:\n  key:\n    file: ./key.txt\n  variable:\n    environment: GIVEN\n",
    );
    scene.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=key [ \"$(cat /run/secrets/key)\" = 'from a file' ]\n\
         RUN --mount=type=secret,id=renamed,env=X [ \"$X\" = 'from a variable' ]\n\
         RUN --network=host true\n",
    );
    let mut command = scene.command(&["--engine", "none", "build"]);
    ran(&command.env("GIVEN", "from a variable").output().unwrap()).ok();
    scene.write("compose.yaml", "services:\n  a:\n    build:\n      context: .\n      secrets: [key]\n");
    scene.shipway(&["--engine", "none", "build"]).fails(1, &["key"]);
}

/// A scene with Debian, whose perl can talk to a Unix socket.
fn with_debian() -> Option<Scene> {
    let debian = crate::scene::needs("SHIPWAY_TEST_DEBIAN_TAR", "SHIPWAY_TEST_DEBIAN_TAR")?;
    let scene = Scene::with_busybox()?;
    scene.shipway(&["image", "import", &debian, "debian:latest"]).ok();
    Some(scene)
}

/// A shell command that sends `sent` (a perl expression) to the agent and expects `answer` in hex.
fn asks(sent: &str, answer: &str) -> String {
    let length = answer.len() / 2;
    format!(
        "perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new($ENV{{SSH_AUTH_SOCK}}) or die; \
         syswrite $s, {sent}; read $s, $b, {length}; exit(unpack(\"H*\", $b) ne \"{answer}\")'"
    )
}

#[test]
fn an_agents_socket_is_passed_on() {
    let Some(scene) = with_debian() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let socket = elsewhere.path().join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    let (done, stopped) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // The first connection only asks whether anybody is there.
        for mut connection in listener.incoming().flatten() {
            let mut asked = [0; 4];
            if connection.read_exact(&mut asked).is_ok() {
                connection.write_all(if &asked == b"ping" { b"pong" } else { b"what" }).unwrap();
                done.send(()).unwrap();
            }
        }
    });
    let lines = format!(
        "FROM debian\nRUN --mount=type=ssh,mode=0666,uid=5 [ $SSH_AUTH_SOCK = /run/buildkit/ssh_agent.0 ] && \
          [ \"$(stat -c %a:%u $SSH_AUTH_SOCK)\" = 666:5 ] && {}\nRUN test ! -e /run/buildkit\n\
         RUN --mount=type=ssh,id=absent test ! -e /run/buildkit && [ -n $SSH_AUTH_SOCK ]\n\
         RUN --mount=type=ssh,target=/own {}\n",
        asks("\"ping\"", "706f6e67"),
        asks("\"other\"", "77686174")
    );
    scene.write("Dockerfile", &lines);
    build(&scene, &["--ssh", &format!("default={}", socket.display())]).ok();
    assert!(stopped.try_recv().is_ok() && stopped.try_recv().is_ok());
    on_busybox(&scene, "RUN --mount=type=ssh,required true\n", &[])
        .fails(1, &["there is no ssh agent `default`"]);
    let key = elsewhere.path().join("id_ed25519");
    std::fs::write(&key, SECRET).unwrap();
    let key = format!("default={}", key.display());
    on_busybox(&scene, "RUN --mount=type=ssh true\n", &["--ssh", &key])
        .fails(1, &["not supported yet: the ssh key"]);
}

/// A process that ends with the test.
struct Guarded(std::process::Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_agent_answers_a_step() {
    let Some(scene) = with_debian() else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent");
    let null = std::process::Stdio::null;
    let mut command = std::process::Command::new("ssh-agent");
    command.arg("-D").arg("-a").arg(&socket).stdin(null()).stdout(null()).stderr(null());
    let Ok(agent) = command.spawn() else { return skip("openssh-client") };
    let _agent = Guarded(agent);
    until("the agent listens", || socket.exists());
    let key = folder.path().join("key");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program);
        ran(&command.args(arguments).env("SSH_AUTH_SOCK", &socket).output().unwrap()).ok();
    };
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "x", "-f", key.to_str().unwrap()]);
    run("ssh-add", &[key.to_str().unwrap()]);
    // SSH_AGENTC_REQUEST_IDENTITIES; the answer: 65 bytes, SSH_AGENT_IDENTITIES_ANSWER, one key.
    let ask = asks("pack(\"NC\", 1, 11)", "000000410c00000001");
    scene.write("Dockerfile", &format!("FROM debian\nRUN --mount=type=ssh {ask}\n"));
    let socket = socket.to_str().unwrap().to_owned();
    let mut build = scene.command(&["--engine", "none", "image", "build", "--ssh", "default", "."]);
    ran(&build.env("SSH_AUTH_SOCK", socket).output().unwrap()).ok();
}

#[test]
fn hostile_targets_and_sources_stay_inside() {
    let Some(scene) = Scene::with_busybox() else { return };
    let outside = scene.store().parent().unwrap().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "host").unwrap();
    let path = outside.display();
    let lines = format!(
        "RUN ln -s {path} /absolute && ln -s ../../../../../../../..{path} /relative && ln -s / /root-link\n\
         RUN --mount=type=cache,target=/absolute touch {path}/cached && test ! -e {path}/precious\n\
         RUN --mount=type=tmpfs,target=/relative/x test -d {path}/x && touch /relative/x/y\n\
         RUN test ! -e {path}\n"
    );
    on_busybox(&scene, &lines, &[]).ok();
    let stage = format!(
        "FROM busybox AS evil\nRUN ln -s {path} /l && ln -s ../../../../../../..{path}/precious /f\n\
         FROM busybox\nRUN --mount=from=evil,source=/l,target=/x true\n"
    );
    scene.write("Dockerfile", &stage);
    build(&scene, &[]).fails(1, &["`/l` not found"]);
    scene.write("Dockerfile", &stage.replace("source=/l", "source=/f"));
    build(&scene, &[]).fails(1, &["`/f` not found"]);
    on_busybox(&scene, "RUN ln -s / /top\nRUN --mount=type=tmpfs,target=/top true\n", &[])
        .fails(1, &["cannot mount over /top"]);
    on_busybox(&scene, "RUN ln -s /proc/self /p\nRUN --mount=type=tmpfs,target=/p/fd true\n", &[])
        .fails(1, &["cannot mount over /p/fd"]);
    let left: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["precious"]);
    // A device node on a cache is as useless as anywhere.
    let node = "RUN --mount=type=cache,target=/d mknod /d/null c 1 3; ! head -c1 /d/null 2>/dev/null\n";
    on_busybox(&scene, node, &[]).ok();
}

#[test]
fn scripts_of_heredocs_are_started_through_the_shell() {
    let Some(scene) = Scene::with_busybox() else { return };
    on_busybox(
        &scene,
        "RUN <<EOF\n#!/bin/sh -e\n[ $0 = /dev/pipes/EOF ]\n! touch /dev/pipes/x\necho made > /made\nEOF\n\
         RUN <<-'EOF' && cat 3<<A 4<<-\"B\" /dev/fd/3 /dev/fd/4 < /made > /all\n\techo $HOME\n\tEOF\n$PATH\nA\n\tb\n\tB\n\
         SHELL [\"/bin/sh\", \"-ec\"]\nRUN <<E1 cat > /last\n${HOME}\nE1\n",
        &["-o", "out"],
    )
    .ok();
    let read = |name: &str| std::fs::read_to_string(scene.project().join("out").join(name)).unwrap();
    assert_eq!(read("made"), "made\n");
    assert_eq!(read("last"), "/root\n");
}

#[test]
fn privileges_are_given_where_they_are_allowed() {
    let Some(scene) = Scene::with_busybox() else { return };
    let lines = "RUN ! mount -t tmpfs none /mnt 2>/dev/null && test ! -e /dev/kmsg && grep -q 'Seccomp:.*2' /proc/self/status\n\
         RUN --security=insecure mkdir /mnt && mount -t tmpfs none /mnt && test -c /dev/kmsg -a -b /dev/loop0 && \
           grep -q 'Seccomp:.*0' /proc/self/status && echo 1 > /proc/sys/kernel/printk_ratelimit_burst; true\n\
         USER 1000\nRUN --security=insecure grep -q 'CapEff:.*[1-9a-f]' /proc/self/status\n";
    on_busybox(&scene, lines, &["--allow", "security.insecure"]).ok();
    let refused = on_busybox(&scene, lines, &[]);
    refused.fails(1, &["security.insecure is not allowed", "Dockerfile:3"]);
    on_busybox(&scene, "RUN --network=host true\n", &[]).fails(1, &["network.host is not allowed"]);
    on_busybox(&scene, "RUN --network=host true\n", &["--allow", "network.host"]).ok();
    on_busybox(&scene, "RUN --network=none [ \"$(ls /sys/class/net)\" = lo ]\n", &[]).ok();
}

#[test]
fn triggers_mount_too() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene.write("lib/a", "of the child");
    let parent = "FROM busybox\nONBUILD RUN --mount=source=lib,target=/lib cp /lib/a /a\n\
        ONBUILD RUN --mount=type=cache,target=/c touch /c/x && cp /c/x /x\n";
    scene.write("parent/Dockerfile", parent);
    scene.shipway(&["--engine", "none", "image", "build", "-t", "parent", "parent"]).ok();
    scene.write("Dockerfile", "FROM parent\nRUN [ \"$(cat /a)\" = 'of the child' ] && test -e /x\n");
    build(&scene, &[]).ok();
}
