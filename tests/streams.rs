//! Users and containers: `exec`, `run`, `attach` and `cp` on a real engine, with pipes and on a terminal.
//!
//! A terminal is a pseudo terminal whose other side the test holds: it types, reads what appears, changes the
//! size and looks at the settings.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::scene::{Scene, until};

const PROJECT: &str = r#"
services:
  web:
    image: busybox:latest
    command: sleep 1000
    stop_signal: SIGKILL
    environment: {A: file, B: file}
    ports: ["80"]
    depends_on: {db: {condition: service_healthy}}
    networks: {default: {aliases: [www]}}
  db:
    image: busybox:latest
    command: sleep 1000
    stop_signal: SIGKILL
    healthcheck: {test: "true", interval: 1s}
  shell:
    image: busybox:latest
    command: sh
    tty: true
    stdin_open: true
    profiles: [extra]
"#;

fn scene(name: &str) -> Option<Scene> {
    let scene = Scene::with_engine(name)?;
    scene.write("compose.yaml", PROJECT);
    Some(scene)
}

/// The test's side of a terminal.
struct Terminal {
    keys: File,
    other: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
    before: Termios,
}

impl Terminal {
    fn new() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let other = ioctl_tiocgptpeer(&ours, flags).unwrap();
        let (before, keys) = (tcgetattr(&other).unwrap(), File::from(ours));
        let (shown, mut screen) = (Arc::new(Mutex::new(Vec::new())), keys.try_clone().unwrap());
        let kept = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                kept.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        let terminal = Self { keys, other, shown, before };
        terminal.resize(101, 33);
        terminal
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.keys, size).unwrap();
    }

    /// Starts `shipway` on this terminal.
    fn start(&self, scene: &Scene, arguments: &[&str]) -> Child {
        let side = || Stdio::from(self.other.try_clone().unwrap());
        scene.command(arguments).stdin(side()).stdout(side()).stderr(side()).spawn().unwrap()
    }

    fn type_in(&self, keys: &str) {
        (&self.keys).write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        until(&format!("the terminal shows `{text}`"), || self.text().contains(text));
    }

    /// Whether keys go through as they are.
    fn is_raw(&self) -> bool {
        !tcgetattr(&self.other).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Fails the test unless the settings are those of the beginning.
    #[track_caller]
    fn is_as_before(&self) {
        let (now, before) = (tcgetattr(&self.other).unwrap(), &self.before);
        assert_eq!(now.local_modes, before.local_modes);
        assert_eq!(now.input_modes, before.input_modes);
        assert_eq!(now.output_modes, before.output_modes);
    }
}

fn code(mut child: Child) -> Option<i32> {
    child.wait().unwrap().code()
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Presses Ctrl-C until it is obeyed.
fn insist(child: &mut Child) {
    until("it ends", || {
        if child.try_wait().unwrap().is_none() {
            send(child, Signal::INT);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        child.try_wait().unwrap().is_some()
    });
}

#[test]
fn exec_keeps_streams_apart_and_returns_the_commands_code() {
    let Some(scene) = scene("exec") else { return };
    scene.shipway(&["up", "-d"]).ok();
    let ran = scene.shipway(&["exec", "web", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(7), "out\n", "err\n"));
    assert_eq!(scene.shipway_reading(&["exec", "-T", "web", "cat"], b"x\n").ok().out, "x\n");
    assert_eq!(scene.shipway_reading(&["exec", "-T", "-i=false", "web", "cat"], b"x\n").ok().out, "");
    let missing = scene.shipway(&["exec", "-T", "web", "no-such-command"]);
    // The code is the engine's: 20.10 says 126 for both.
    assert!(matches!(missing.code, Some(126 | 127)), "{missing:?}");
    assert!(format!("{}{}", missing.out, missing.err).contains("no-such-command"), "{missing:?}");
    assert_eq!(scene.shipway(&["exec", "-T", "web", "/etc"]).code, Some(126));
    let plain =
        ["exec", "-e", "A=1", "-u", "5:6", "-w", "/tmp", "web", "sh", "-c", "echo $A $(id -u) $(pwd)"];
    assert_eq!(scene.shipway(&plain).ok().out, "1 5 /tmp\n");
    scene.shipway(&["exec", "-d", "web", "touch", "/tmp/made"]).ok();
    until("the file is made", || scene.shipway(&["exec", "web", "ls", "/tmp/made"]).code == Some(0));
    scene.shipway(&["exec", "no", "true"]).fails(1, &["service \"no\" is not running"]);
    scene.shipway(&["exec", "--index", "5", "web", "true"]).fails(1, &["is not running container #5"]);
    // What follows the service is the command's.
    assert_eq!(scene.shipway(&["exec", "web", "echo", "-T", "--index"]).ok().out, "-T --index\n");
}

#[test]
fn large_outputs_and_inputs_come_through_whole() {
    let Some(scene) = scene("large") else { return };
    scene.shipway(&["up", "-d", "db"]).ok();
    let script = "dd if=/dev/zero bs=1M count=6 2>/dev/null | tr '\\0' o & \
                  dd if=/dev/zero bs=1M count=6 2>/dev/null | tr '\\0' e >&2; wait";
    let ran = scene.shipway(&["exec", "-T", "db", "sh", "-c", script]).ok();
    assert_eq!((ran.out.len(), ran.err.len()), (6 << 20, 6 << 20));
    assert!(ran.out.bytes().all(|byte| byte == b'o') && ran.err.bytes().all(|byte| byte == b'e'));
    let input = vec![b'i'; 6 << 20];
    let ran = scene.shipway_reading(&["exec", "-T", "db", "wc", "-c"], &input).ok();
    assert_eq!(ran.out.trim(), input.len().to_string());
}

#[test]
fn an_input_that_stays_open_keeps_nothing_alive() {
    let Some(scene) = scene("open") else { return };
    scene.shipway(&["up", "-d", "db"]).ok();
    let mut child = scene.command(&["exec", "-T", "db", "sh", "-c", "exit 3"]);
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    let held = child.stdin.take();
    assert_eq!(code(child), Some(3));
    drop(held);
}

#[test]
fn a_terminal_is_raw_follows_the_size_and_comes_back() {
    let Some(scene) = scene("tty") else { return };
    scene.shipway(&["up", "-d", "db"]).ok();
    let terminal = Terminal::new();
    let child = terminal.start(&scene, &["exec", "db", "sh"]);
    terminal.shows("/ # ");
    assert!(terminal.is_raw());
    terminal.type_in("stty size\r");
    terminal.shows("33 101");
    terminal.resize(122, 44);
    until("the size arrives", || {
        terminal.type_in("stty size\r");
        std::thread::sleep(std::time::Duration::from_millis(100));
        terminal.text().contains("44 122")
    });
    terminal.type_in("echo wa''iting; sleep 1000\r");
    terminal.shows("waiting\r\n");
    terminal.type_in("\x03");
    terminal.type_in("echo code=$?\r");
    terminal.shows("code=130");
    terminal.type_in("printf '\\001\\002\\000'; echo st''ill here\r");
    terminal.shows("still here");
    terminal.type_in("exit 5\r");
    assert_eq!(code(child), Some(5));
    terminal.is_as_before();
}

#[test]
fn whoever_leaves_or_is_ended_leaves_no_raw_terminal() {
    let Some(scene) = scene("leave") else { return };
    scene.shipway(&["up", "-d", "db"]).ok();
    let terminal = Terminal::new();
    let child = terminal.start(&scene, &["exec", "db", "sh"]);
    terminal.shows("/ # ");
    terminal.type_in("\x10\x11");
    assert_eq!(code(child), Some(1));
    terminal.shows("read escape sequence");
    terminal.is_as_before();
    for (signal, expected) in [(Signal::TERM, Some(130)), (Signal::HUP, None), (Signal::QUIT, None)] {
        let terminal = Terminal::new();
        let child = terminal.start(&scene, &["exec", "db", "sh"]);
        terminal.shows("/ # ");
        until("it is raw", || terminal.is_raw());
        send(&child, signal);
        assert_eq!(code(child), expected);
        terminal.is_as_before();
    }
}

#[test]
fn a_run_is_made_beside_its_service_after_what_it_needs() {
    let Some(scene) = scene("run") else { return };
    let script = "echo out; echo err >&2; exit 3";
    let ran = scene.shipway(&["--progress", "quiet", "run", "--rm", "web", "sh", "-c", script]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(3), "out\n", "err\n"));
    assert_eq!(scene.container("web"), None, "nothing is left");
    assert!(scene.container("db").is_some(), "what it needs runs");
    let id = scene.shipway(&["run", "-d", "-l", "x=y", "web", "sleep", "1000"]).ok().out;
    let format = "{{.Name}} {{.Config.Labels}} {{.HostConfig.PortBindings}} {{.Config.Cmd}}";
    let seen = scene.docker(&["inspect", "-f", format, id.trim()]).ok().out;
    assert!(seen.starts_with(&format!("/{}-web-run-", scene.name())), "{seen}");
    for part in ["com.docker.compose.oneoff:True", "com.docker.compose.slug:", "x:y", "map[] [sleep 1000]"] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    // `up` neither counts nor touches it.
    scene.shipway(&["up", "-d"]).ok();
    let listed = scene.shipway(&["ps", "--format", "json"]).ok().out;
    assert!(listed.contains("web-1") && !listed.contains("web-run"), "{listed}");
    assert_eq!(scene.shipway(&["--dry-run", "up"]).ok().out, "");
    assert_eq!(scene.docker(&["inspect", "-f", "{{.State.Running}}", id.trim()]).ok().out, "true\n");
    scene.shipway(&["down", "-t", "1"]).ok();
    assert_ne!(scene.docker(&["inspect", id.trim()]).code, Some(0), "`down` takes it away");
}

#[test]
fn a_run_obeys_its_flags() {
    let Some(scene) = scene("flags") else { return };
    let quiet = |flags: &[&str], command: &[&str]| {
        let start = ["--progress", "quiet", "run", "--no-deps", "--rm", "-T"];
        scene.shipway(&[&start, flags, &["web"], command].concat())
    };
    scene.write("vars", "B=from-file\nC='two words'\n").write("in/data", "mounted\n");
    let flags = ["-e", "A=cli", "--env-from-file", "vars", "-w", "/tmp", "-u", "7", "-v", "./in:/in:ro"];
    let script = "echo $A,$B,$C,$(pwd),$(id -u),$(cat /in/data)";
    assert_eq!(quiet(&flags, &["sh", "-c", script]).ok().out, "cli,from-file,two words,/tmp,7,mounted\n");
    assert_eq!(quiet(&["--entrypoint", "echo 'a b'"], &["c"]).ok().out, "a b c\n");
    assert_eq!(quiet(&[], &["echo", "--rm", "-d"]).ok().out, "--rm -d\n");
    assert_eq!(
        scene.shipway_reading(&["run", "--rm", "--no-deps", "-T", "web", "cat"], b"in\n").ok().out,
        "in\n"
    );
    quiet(&["-P", "-p", "80:80"], &["true"]).fails(1, &["--service-ports", "--publish"]);
    quiet(&[], &["no-such-command"]).fails(1, &["no-such-command"]);
    assert_eq!(scene.container("web"), None, "what never started is removed");
    assert_eq!(scene.container("db"), None, "--no-deps starts nothing else");
    let named = format!("{}-named", scene.name());
    let flags = ["--name", &named, "--use-aliases", "-p", "80", "--cap-add", "NET_ADMIN", "-v", "/anonymous"];
    scene
        .shipway(&[&["run", "-d", "--rm", "--no-deps"][..], &flags, &["web", "sleep", "1000"]].concat())
        .ok();
    let format = "{{.HostConfig.AutoRemove}} {{.HostConfig.CapAdd}} {{len .HostConfig.PortBindings}} \
                  {{range .NetworkSettings.Networks}}{{.Aliases}}{{end}}";
    let seen = scene.docker(&["inspect", "-f", format, &named]).ok().out;
    assert!(seen.starts_with("true ") && seen.contains("NET_ADMIN] 1 ["), "{seen}");
    assert!(seen.contains(" web www") && seen.contains(&named), "{seen}");
    let again = scene.shipway(&["run", "--no-deps", "--name", &named, "web", "true"]);
    again.fails(1, &["already in use"]);
    assert_eq!(scene.docker(&["inspect", "-f", "{{.State.Running}}", &named]).ok().out, "true\n");
}

#[test]
fn signals_are_the_runs_and_nothing_is_left() {
    let Some(scene) = scene("signals") else { return };
    let start = |script: &str| {
        let mut command = scene.command(&["run", "--rm", "--no-deps", "-T", "web", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut first = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        child
    };
    let child = start("trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done");
    send(&child, Signal::TERM);
    assert_eq!(code(child), Some(9), "the signal is passed on");
    // PID 1 without a handler is deaf to it: who insists is obeyed.
    let mut child = start("echo ready; exec sleep 1000");
    insist(&mut child);
    assert_eq!(code(child), Some(137));
    assert_eq!(scene.container("web"), None);
}

#[test]
fn signals_reach_a_run_on_a_terminal() {
    let Some(scene) = scene("signalstty") else { return };
    for (signal, expected) in [(Signal::HUP, 5), (Signal::QUIT, 6)] {
        let terminal = Terminal::new();
        let script = "trap 'exit 5' HUP; trap 'exit 6' QUIT; echo rea''dy; while :; do sleep 0.1; done";
        let child = terminal.start(&scene, &["run", "--rm", "--no-deps", "web", "sh", "-c", script]);
        terminal.shows("ready");
        send(&child, signal);
        assert_eq!(code(child), Some(expected));
        terminal.is_as_before();
        until("it is removed", || scene.container("web").is_none());
    }
}

#[test]
fn a_run_on_a_terminal_goes_on_when_it_is_left() {
    let Some(scene) = scene("runtty") else { return };
    let terminal = Terminal::new();
    let child = terminal.start(&scene, &["run", "--rm", "--no-deps", "web", "sh"]);
    terminal.shows("/ # ");
    assert!(terminal.is_raw());
    terminal.type_in("stty size\r");
    terminal.shows("33 101");
    terminal.type_in("\x10\x11");
    assert_eq!(code(child), Some(0));
    terminal.is_as_before();
    let id = scene.container("web").expect("it goes on");
    scene.docker(&["kill", &id]).ok();
    until("it is removed by the engine", || scene.container("web").is_none());
}

#[test]
fn attach_connects_to_the_main_process() {
    let Some(scene) = scene("attach") else { return };
    scene.shipway(&["up", "-d", "--no-deps", "web", "shell"]).ok();
    for (flags, keys) in [(&[][..], "\x10\x11"), (&["--detach-keys", "ctrl-a,x"][..], "\x01x")] {
        let terminal = Terminal::new();
        let child = terminal.start(&scene, &[&["attach"][..], flags, &["shell"]].concat());
        until("it is raw", || terminal.is_raw());
        terminal.type_in("echo a''gain\r");
        terminal.shows("again\r\n");
        terminal.type_in(keys);
        assert_eq!(code(child), Some(1));
        terminal.shows("read escape sequence");
        terminal.is_as_before();
    }
    let terminal = Terminal::new();
    let child = terminal.start(&scene, &["attach", "shell"]);
    until("it is raw", || terminal.is_raw());
    terminal.type_in("exit 4\r");
    assert_eq!(code(child), Some(4));
    scene.shipway(&["attach", "shell"]).fails(1, &["service \"shell\" is not running"]);
    scene.shipway(&["attach", "--detach-keys", "wrong", "web"]).fails(1, &["`wrong` is no key"]);
    // A signal that is not passed on ends us alone.
    let mut child = scene.command(&["attach", "--sig-proxy=false", "--no-stdin", "web"]).spawn().unwrap();
    insist(&mut child);
    assert_ne!(code(child), Some(0));
    let running = scene.docker(&["inspect", "-f", "{{.State.Running}}", &scene.container("web").unwrap()]);
    assert_eq!(running.ok().out, "true\n");
}

#[test]
fn cp_copies_both_ways_with_dockers_rules() {
    let Some(scene) = scene("cp") else { return };
    scene.shipway(&["up", "-d", "db"]).ok();
    scene.write("src/a", "one\n").write("src/sub/b", "two\n");
    std::os::unix::fs::symlink("a", scene.project().join("src/link")).unwrap();
    scene.shipway(&["cp", "src", "db:/new"]).ok();
    scene.shipway(&["cp", "src", "db:/new"]).ok();
    scene.shipway(&["cp", "src/.", "db:/new/flat"]).ok();
    scene.shipway(&["cp", "-L", "src/link", "db:/followed"]).ok();
    let listed = "cd /new; find . | sort | tr '\\n' ' '; cat link sub/b /followed; readlink link";
    assert_eq!(
        scene.shipway(&["exec", "-T", "db", "sh", "-c", listed]).ok().out,
        ". ./a ./flat ./flat/a ./flat/link ./flat/sub ./flat/sub/b ./link ./src ./src/a ./src/link ./src/sub \
         ./src/sub/b ./sub ./sub/b one\ntwo\none\na\n"
    );
    scene.shipway(&["stop", "-t", "1", "db"]).ok();
    scene.shipway(&["cp", "db:/new/src", "back"]).ok();
    scene.shipway(&["cp", "db:/new/src", "back"]).ok();
    scene.shipway(&["cp", "db:/new/a", "back/renamed"]).ok();
    let read = |path: &str| std::fs::read_to_string(scene.project().join(path)).unwrap();
    assert_eq!(
        (read("back/sub/b"), read("back/src/link"), read("back/renamed")),
        ("two\n".into(), "one\n".into(), "one\n".into())
    );
    scene.shipway(&["cp", "db:/new/sub/..", "dots"]).ok();
    assert_eq!((read("dots/a"), read("dots/src/sub/b")), ("one\n".into(), "two\n".into()));
    scene.shipway(&["cp", "db:/new/sub/.", "dots"]).ok();
    assert_eq!(read("dots/b"), "two\n");
    scene.shipway(&["cp", "-L", "db:/new/link", "dots"]).ok();
    assert_eq!(read("dots/link"), "one\n");
    scene.shipway(&["cp", "db:/new", "src/a"]).fails(1, &["cannot copy directory"]);
    scene.shipway(&["cp", "db:/new/a", "nowhere/"]).fails(1, &["no such directory"]);
    scene.shipway(&["cp", "db:/new/a", "nowhere/x"]).fails(1, &["invalid output path", "does not exist"]);
    scene.shipway(&["cp", "db:/missing", "."]).fails(1, &["Could not find the file /missing"]);
    scene.shipway(&["cp", "no:/a", "."]).fails(1, &["no container found for service \"no\""]);
    scene.shipway(&["cp", "src", "db:/new/a"]).fails(1, &["cannot copy directory"]);
    // A tar goes through as it is, from one container to another path of it.
    let tar = scene.command(&["cp", "db:/new/src", "-"]).output().unwrap();
    assert!(tar.status.success());
    scene.shipway_reading(&["cp", "-", "db:/tmp"], &tar.stdout).ok();
    scene.shipway(&["cp", "db:/tmp/src/a", "through"]).ok();
    assert_eq!(read("through"), "one\n");
    scene.shipway_reading(&["cp", "-", "db:/nowhere"], &tar.stdout).fails(1, &["must be a directory"]);
}
