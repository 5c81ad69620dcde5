//! Bad days of an engine: it goes away in the middle of things, it is flooded, and the next run mends what
//! is left.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::scene::{Scene, ran, until};

/// A socket in front of the engine that can be cut off.
struct Line {
    folder: tempfile::TempDir,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<UnixStream>>>,
}

impl Line {
    fn to(engine: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("engine.sock")).unwrap();
        let engine = PathBuf::from(engine.strip_prefix("unix://").unwrap());
        let line = Self { folder, cut: Arc::default(), open: Arc::default() };
        let (cut, open) = (Arc::clone(&line.cut), Arc::clone(&line.open));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = UnixStream::connect(&engine) else { continue };
                let both = [client.try_clone().unwrap(), server.try_clone().unwrap()];
                open.lock().unwrap().extend(both);
                pump(client.try_clone().unwrap(), server.try_clone().unwrap());
                pump(server, client);
            }
        });
        line
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("engine.sock").display())
    }

    /// As when the engine is killed: connections break, and new ones are closed at once.
    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pump(mut from: UnixStream, mut to: UnixStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// A chain of services, each of which takes a while until the next may start.
fn chain(name: &str) -> Option<Scene> {
    let scene = Scene::with_engine(name)?;
    let mut text = "services:\n".to_owned();
    for number in 0..4 {
        text += &format!(
            "  s{number}:\n    image: busybox\n    command: sh -c 'sleep 1; touch /ready; exec sleep 1000'\n    \
             stop_signal: SIGKILL\n    healthcheck: {{test: test -e /ready, interval: 100ms, retries: 1000}}\n"
        );
        if number > 0 {
            text += &format!("    depends_on: {{s{}: {{condition: service_healthy}}}}\n", number - 1);
        }
    }
    scene.write("compose.yaml", &text);
    Some(scene)
}

#[test]
fn an_engine_that_goes_away_is_said_and_the_next_run_mends() {
    let Some(scene) = chain("gone") else { return };
    let line = Line::to(scene.engine().unwrap());
    let mut command = scene.command(&["up", "-d"]);
    command.env("DOCKER_HOST", line.host()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    until("the second service starts", || {
        let running = ["ps", "-q", "--filter", &format!("name={}-s1", scene.name())].map(str::to_owned);
        !scene.docker(&running.each_ref().map(String::as_str)).ok().out.is_empty()
    });
    line.cut();
    let ran = ran(&child.wait_with_output().unwrap()).fails(1, &["error: "]);
    let said = ran.err.lines().filter(|line| line.starts_with("error: ")).collect::<Vec<_>>();
    assert!(said[0].contains("engine"), "{}", ran.err);
    scene.shipway(&["up", "-d"]).ok();
    let names =
        scene.docker(&["ps", "--format", "{{.Names}}", "--filter", &format!("name={}", scene.name())]).ok();
    let mut names: Vec<_> = names.out.lines().collect();
    names.sort_unstable();
    assert_eq!(names, [0, 1, 2, 3].map(|number| format!("{}-s{number}-1", scene.name())));
}

#[test]
fn an_engine_that_goes_away_ends_the_foreground() {
    let Some(scene) = Scene::with_engine("front-gone") else { return };
    scene.write("compose.yaml", "services:\n  a:\n    image: busybox\n    command: sh -c 'echo here; exec sleep 1000'\n    stop_signal: SIGKILL\n");
    let line = Line::to(scene.engine().unwrap());
    let mut command = scene.command(&["up"]);
    command.env("DOCKER_HOST", line.host()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    until("the container runs", || {
        let log = scene.container("a").map(|id| scene.docker(&["logs", &id]).out);
        log.is_some_and(|log| log.contains("here"))
    });
    line.cut();
    ran(&child.wait_with_output().unwrap()).fails(1, &["engine"]);
}

#[test]
fn no_line_is_lost_of_twenty_containers_that_print_as_fast_as_they_can() {
    let Some(scene) = Scene::with_engine("flood") else { return };
    let lines = 2000;
    let script = format!("i=0; while [ $$i -lt {lines} ]; do echo $$i; i=$$((i+1)); done");
    scene.write(
        "compose.yaml",
        &format!(
            "services:\n  a:\n    image: busybox\n    scale: 20\n    command: ['sh', '-c', '{script}']\n"
        ),
    );
    let ran = scene.shipway(&["up", "--no-color"]).ok();
    let mut next = [0; 21];
    for line in ran.out.lines() {
        let Some((label, text)) = line.split_once('|') else { continue };
        let number: usize = label.trim().strip_prefix("a-").unwrap().parse().unwrap();
        assert_eq!(text.trim(), next[number].to_string(), "of a-{number}");
        next[number] += 1;
    }
    assert!(next[1..].iter().all(|count| *count == lines), "{next:?}");
    // The same from the logs that the engine kept.
    let kept = scene.shipway(&["logs", "--no-color"]).ok();
    assert_eq!(kept.out.lines().count(), 20 * lines);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let Some(scene) = Scene::with_engine("reader") else { return };
    scene.write(
        "compose.yaml",
        "services:\n  a:\n    image: busybox\n    command: sh -c 'while true; do echo line; done'\n    stop_signal: SIGKILL\n",
    );
    scene.shipway(&["up", "-d"]).ok();
    let mut child = scene.start(&["logs", "-f"]);
    let mut some = [0; 1000];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    // The pipe is closed now.
    ran(&child.wait_with_output().unwrap()).ok();
}

/// Sends a process what Ctrl-C sends.
fn interrupt(child: &std::process::Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[test]
fn ctrl_c_once_stops_gracefully_and_twice_kills() {
    let Some(scene) = Scene::with_engine("ctrl-c") else { return };
    scene.write(
        "compose.yaml",
        "services:\n  kind:\n    image: busybox\n    command: sh -c 'trap \"echo bye; exit 0\" TERM; echo up; while true; do sleep 0.1; done'\n  \
         stubborn:\n    image: busybox\n    command: sh -c 'trap \"echo no\" TERM; echo up; while true; do sleep 0.1; done'\n    stop_grace_period: 10m\n",
    );
    let both_are_up = || {
        let log = |service: &str| scene.container(service).map(|id| scene.docker(&["logs", &id]).out);
        ["kind", "stubborn"].iter().all(|service| log(service).is_some_and(|log| log.contains("up")))
    };
    let child = scene.start(&["up", "kind"]);
    until("kind is up", || {
        scene.container("kind").is_some_and(|id| scene.docker(&["logs", &id]).out.contains("up"))
    });
    interrupt(&child);
    let once = ran(&child.wait_with_output().unwrap());
    assert_eq!(once.code, Some(130), "{once:?}");
    assert!(once.out.contains("bye") && once.out.contains("kind-1 exited with code 0"), "{once:?}");

    let child = scene.start(&["up", "--force-recreate"]);
    until("both are up", both_are_up);
    interrupt(&child);
    until("stubborn has been asked", || {
        scene.docker(&["logs", &scene.container("stubborn").unwrap()]).out.contains("no")
    });
    interrupt(&child);
    let twice = ran(&child.wait_with_output().unwrap());
    assert_eq!(twice.code, Some(130), "{twice:?}");
    assert!(twice.out.contains("stubborn-1 exited with code 137"), "{twice:?}");
    // The next run starts what was stopped.
    scene.shipway(&["up", "-d"]).ok();
    scene.shipway(&["kill"]).ok();
}
