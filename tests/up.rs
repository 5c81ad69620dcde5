//! Launching on a real engine: what `up` plans is made, kept, replaced, followed and taken away.
//!
//! Each test has a project name of its own and removes everything of it, also when it fails.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use shipway::base::cancel::Cancel;
use shipway::base::event::Silent;
use shipway::compose::Project;
use shipway::engine::{Docker, Endpoint, Engine, EngineError, LogOptions, State};
use shipway::up::{
    Abort, DownOptions, Execution, Files, Finished, Following, Foreground, Image, Images, Observed, Options,
    UpError, down, execute, follow, foreground, label_width, logs, observe, ports_text, ps, reconcile,
    sources,
};

/// A project's name, and its end.
struct Bench {
    engine: Docker,
    name: String,
}

impl Bench {
    /// `None` where there is no engine for tests.
    fn new(name: &str) -> Option<Self> {
        let engine = engine()?;
        let bench = Self { engine, name: format!("uptest-{name}-{}", std::process::id()) };
        assert!(bench.engine.image("busybox:latest").unwrap().is_some(), "the engine needs busybox:latest");
        Some(bench)
    }

    /// A project from the form that `config` prints, all on busybox and stopping at once.
    fn project(&self, services: Value) -> Project {
        let network = json!({"name": format!("{}_default", self.name)});
        let mut whole =
            json!({"name": self.name, "services": services, "networks": {"default": network}, "volumes": {}});
        for service in whole["services"].as_object_mut().unwrap().values_mut() {
            let service = service.as_object_mut().unwrap();
            service.entry("image").or_insert(json!("busybox:latest"));
            service.entry("command").or_insert(json!(["sleep", "1000"]));
            service.entry("stop_signal").or_insert(json!("SIGKILL"));
            if !service.contains_key("network_mode") {
                service.entry("networks").or_insert(json!({"default": null}));
            }
        }
        serde_json::from_value(whole).unwrap()
    }

    fn seen(&self) -> Observed {
        observe(&self.engine, &self.name).unwrap()
    }

    fn images(&self, project: &Project) -> Images {
        let image = |name: &String| {
            let reference = project.image_of(name).unwrap();
            let id = self.engine.image(&reference).unwrap().expect("the image is there").id;
            (name.clone(), Image { reference, id })
        };
        project.services.keys().map(image).collect()
    }

    fn plan(&self, project: &Project) -> shipway::up::Plan {
        let files = Files::read(project, &project.services.keys().cloned().collect::<Vec<_>>()).unwrap();
        reconcile(project, &self.images(project), &files, &self.seen(), &Options::default()).unwrap()
    }

    fn up(&self, project: &Project) -> Result<String, UpError> {
        let plan = self.plan(project);
        self.run(&plan, &Cancel::new().unwrap())?;
        let after = self.plan(project);
        assert!(after.is_empty(), "after\n{plan}there is still\n{after}");
        Ok(plan.to_string())
    }

    fn run(&self, plan: &shipway::up::Plan, cancel: &Cancel) -> Result<(), UpError> {
        execute(
            plan,
            &Execution {
                engine: &self.engine,
                events: &Silent,
                cancel,
                parallel: 4,
                kill_when_cancelled: false,
                started: &|_| {},
                said: &|_, _| {},
            },
        )
    }

    fn id(&self, container: &str) -> String {
        let name = format!("{}-{container}", self.name);
        self.seen().containers.into_iter().find(|one| one.name == name).expect("it is there").id
    }

    /// What a command in a container prints.
    fn sh(&self, container: &str, script: &str) -> String {
        let spec = shipway::engine::ExecSpec {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            ..Default::default()
        };
        let mut output = Vec::new();
        let mut keep = |_, bytes: &[u8]| {
            output.extend_from_slice(bytes);
            Ok(())
        };
        let session = shipway::engine::Session::output(&mut keep);
        self.engine.exec(&format!("{}-{container}", self.name), &spec, session).unwrap();
        String::from_utf8(output).unwrap().trim().to_owned()
    }

    fn log(&self, container: &str) -> String {
        let sources: Vec<_> = sources(&self.name, &self.seen(), &[], None)
            .into_iter()
            .filter(|one| one.label == container)
            .collect();
        let mut text = String::new();
        let mut sink = |line: shipway::up::LogLine| {
            text.push_str(&format!("{}\n", line.text(label_width(&sources))));
            Ok(())
        };
        logs(&self.engine, &sources, &LogOptions::default(), &mut sink, &Cancel::new().unwrap()).unwrap();
        text
    }

    /// Takes everything down; what is left.
    fn down(&self) -> Observed {
        let options = DownOptions { volumes: true, remove_orphans: true, ..DownOptions::default() };
        let plan = down(&self.name, None, &self.seen(), &options);
        self.run(&plan, &Cancel::new().unwrap()).unwrap();
        let mut left = self.seen();
        left.networks.retain(|one| one.name.starts_with(&self.name));
        left.volumes.retain(|one| one.name.starts_with(&self.name));
        left
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for container in self.seen().containers {
                eprintln!("{} is {}: {}", container.name, container.status, container.command);
            }
        }
        let left = self.down();
        let clean = left.containers.is_empty() && left.networks.is_empty() && left.volumes.is_empty();
        assert!(clean || std::thread::panicking(), "left behind: {left:?}");
    }
}

fn engine() -> Option<Docker> {
    match std::env::var("SHIPWAY_TEST_DOCKER_HOST") {
        Ok(host) => Some(Docker::connect(&Endpoint::at(&host)).unwrap()),
        Err(_) => {
            assert!(std::env::var_os("SHIPWAY_TEST_ALL").is_none(), "needs SHIPWAY_TEST_DOCKER_HOST");
            eprintln!("skipped: needs an engine (SHIPWAY_TEST_DOCKER_HOST)");
            None
        }
    }
}

/// A port of this machine that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn networks_aliases_volumes_environment_and_ports() {
    let Some(bench) = Bench::new("whole") else { return };
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let port = free_port();
    let missing = folder.path().join("made/by/engine");
    let mut project = bench.project(json!({
        "web": {
            "command": ["sh", "-c", "echo hello-$NAME > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"],
            "environment": {"NAME": "world"},
            "ports": [{"target": 8080, "published": port.to_string(), "protocol": "tcp", "host_ip": "127.0.0.1"}],
            "networks": {"default": {"aliases": ["www"]}, "back": null},
            "depends_on": {"db": {"condition": "service_started", "required": true}},
        },
        "db": {
            "networks": {"back": {"aliases": ["database"]}},
            "volumes": [
                {"type": "volume", "source": "data", "target": "/data"},
                {"type": "bind", "source": missing, "target": "/bound"},
                {"type": "tmpfs", "target": "/memory", "tmpfs": {"size": "1048576"}},
            ],
            "init": true,
            "restart": "always",
        },
    }));
    let named = |name: &str| format!("{}_{name}", bench.name);
    project
        .networks
        .insert("back".to_owned(), serde_json::from_value(json!({"name": named("back")})).unwrap());
    project
        .volumes
        .insert("data".to_owned(), serde_json::from_value(json!({"name": named("data")})).unwrap());
    bench.up(&project).unwrap();

    let mut page = String::new();
    for _ in 0..100 {
        page.clear();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
            let _ = stream.read_to_string(&mut page);
        }
        if page.contains("hello-world") {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(page.contains("hello-world"), "{page}");
    for name in ["db", "database", &format!("{}-db-1", bench.name)] {
        let answer = bench.sh("web-1", &format!("ping -c 1 -w 5 {name} | grep -c '1 packets received'"));
        assert_eq!(answer, "1", "{name}");
    }
    assert_eq!(
        bench.sh("db-1", "ping -c 1 -w 5 www 2>&1 | grep -c 'bad address'"),
        "1",
        "www is on the other network"
    );
    assert!(missing.is_dir(), "the engine makes the folder of a short bind");
    assert_eq!(bench.sh("db-1", "grep -c ' /memory tmpfs' /proc/mounts"), "1");

    let rows = ps(&bench.seen().containers, &[], false);
    let texts: Vec<_> = rows.iter().map(|row| (row.service.as_str(), ports_text(&row.ports))).collect();
    assert_eq!(texts, [("db", String::new()), ("web", format!("127.0.0.1:{port}->8080/tcp"))]);
}

#[test]
fn only_what_changed_is_replaced_and_anonymous_volumes_stay() {
    let Some(bench) = Bench::new("change") else { return };
    let services = |value: &str| {
        json!({
            "db": {"environment": {"A": value}, "volumes": [{"type": "volume", "target": "/data"}]},
            "web": {"depends_on": {"db": {"condition": "service_started", "required": true}}},
        })
    };
    bench.up(&bench.project(services("1"))).unwrap();
    bench.sh("db-1", "echo kept > /data/file");
    let (web, db) = (bench.id("web-1"), bench.id("db-1"));
    for value in ["2", "3"] {
        let plan = bench.up(&bench.project(services(value))).unwrap();
        assert!(plan.contains("environment changed") && !plan.contains("web-1"), "{plan}");
        assert_eq!(bench.sh("db-1", "cat /data/file; echo $A"), format!("kept\n{value}"));
    }
    assert_eq!(bench.id("web-1"), web, "nothing about web changed");
    assert_ne!(bench.id("db-1"), db);
    let volume = bench.engine.mounts(&bench.id("db-1")).unwrap()[0].name.clone().unwrap();
    bench.down();
    let left = bench.engine.volumes().unwrap().into_iter().any(|one| one.name == volume);
    assert!(!left, "an anonymous volume goes with its last container");
}

#[test]
fn a_taken_port_is_named_and_nothing_is_left() {
    let Some(bench) = Bench::new("port") else { return };
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let project = bench.project(json!({
        "web": {"ports": [{"target": 80, "published": port.to_string(), "protocol": "tcp"}]},
    }));
    let error = bench.up(&project).unwrap_err().to_string();
    assert!(error.contains("service web") && error.contains(&format!("port {port}")), "{error}");
    assert!(bench.seen().containers.is_empty());
}

#[test]
fn a_replacement_that_cannot_start_leaves_the_old_one_running() {
    let Some(bench) = Bench::new("back") else { return };
    bench.up(&bench.project(json!({"web": {}}))).unwrap();
    let before = bench.id("web-1");
    let error = bench.up(&bench.project(json!({"web": {"command": ["no-such-command"]}}))).unwrap_err();
    assert!(matches!(error, UpError::Start { .. }), "{error}");
    let containers = bench.seen().containers;
    assert_eq!(
        (containers.len(), containers[0].id.as_str(), containers[0].state),
        (1, &*before, State::Running)
    );
}

#[test]
fn health_and_completion_are_waited_for() {
    let Some(bench) = Bench::new("wait") else { return };
    let check = json!({"test": ["CMD", "test", "-e", "/ready"], "interval": "100ms", "retries": 100});
    let services = json!({
        "db": {"command": ["sh", "-c", "sleep 0.5; touch /ready; exec sleep 1000"], "healthcheck": check},
        "job": {"command": ["sh", "-c", "sleep 0.2; exit 0"]},
        "web": {"depends_on": {
            "db": {"condition": "service_healthy", "required": true},
            "job": {"condition": "service_completed_successfully", "required": true},
        }},
    });
    let project = bench.project(services);
    let plan = bench.plan(&project);
    bench.run(&plan, &Cancel::new().unwrap()).unwrap();
    let seen = bench.seen();
    let status = |name: &str| {
        let name = format!("{}-{name}", bench.name);
        seen.containers.iter().find(|one| one.name == name).unwrap().status.clone()
    };
    assert!(status("db-1").ends_with("(healthy)"), "{}", status("db-1"));
    assert!(status("job-1").starts_with("Exited (0)"), "{}", status("job-1"));
    assert!(status("web-1").starts_with("Up"), "{}", status("web-1"));
}

#[test]
fn a_job_that_fails_stops_its_dependents_and_leaves_no_half_made_container() {
    let Some(bench) = Bench::new("fail") else { return };
    let project = bench.project(json!({
        "job": {"command": ["sh", "-c", "exit 7"]},
        "web": {"depends_on": {"job": {"condition": "service_completed_successfully", "required": true}}},
    }));
    let error = bench.up(&project).unwrap_err().to_string();
    assert!(error.contains("service job") && error.contains("exited with code 7"), "{error}");
    let names: Vec<_> = bench.seen().containers.into_iter().map(|one| one.name).collect();
    assert_eq!(names, [format!("{}-job-1", bench.name)]);
}

#[test]
fn shared_namespaces_configs_and_secrets() {
    let Some(bench) = Bench::new("share") else { return };
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let file = folder.path().join("config");
    std::fs::write(&file, "one").unwrap();
    let mut project = bench.project(json!({
        "app": {
            "hostname": "apphost",
            "configs": [{"source": "file"}, {"source": "text", "target": "/etc/app.conf", "mode": "0400", "uid": "7"}],
            "secrets": [{"source": "password"}],
        },
        "side": {"network_mode": "service:app", "depends_on": {"app": {"condition": "service_started", "required": true, "restart": true}}},
    }));
    project.configs.insert("file".to_owned(), serde_json::from_value(json!({"file": file})).unwrap());
    project.configs.insert("text".to_owned(), serde_json::from_value(json!({"content": "inline"})).unwrap());
    project
        .secrets
        .insert("password".to_owned(), serde_json::from_value(json!({"environment": "P"})).unwrap());
    project.environment.insert("P".to_owned(), "hunter2".to_owned());
    bench.up(&project).unwrap();
    assert_eq!(bench.sh("app-1", "cat /file /etc/app.conf /run/secrets/password"), "oneinlinehunter2");
    assert_eq!(bench.sh("app-1", "stat -c '%a %u' /etc/app.conf"), "400 7");
    assert_eq!(bench.sh("side-1", "hostname"), "apphost");

    // A content that changed replaces its container, and the one that shares its namespace.
    std::fs::write(&file, "two").unwrap();
    let plan = bench.up(&project).unwrap();
    assert!(plan.contains("the content of a config or secret changed"), "{plan}");
    assert!(plan.contains("it shares with app, which is replaced"), "{plan}");
    assert!(bench.sh("app-1", "cat /file").starts_with("two"));
}

#[test]
fn a_network_that_diverged_is_made_anew() {
    let Some(bench) = Bench::new("network") else { return };
    let mut project = bench.project(json!({"web": {}, "db": {}}));
    bench.up(&project).unwrap();
    let before = bench.id("web-1");
    project.networks.get_mut("default").unwrap().internal = true;
    bench.up(&project).unwrap();
    assert_eq!(bench.id("web-1"), before, "the container stays");
    assert_eq!(bench.sh("web-1", "ping -c 1 -w 5 db | grep -c '1 packets received'"), "1");
}

#[test]
fn a_stopped_command_leaves_nothing_half_made() {
    let Some(bench) = Bench::new("cancel") else { return };
    let check = json!({"test": ["CMD", "false"], "interval": "10s"});
    let project = bench.project(json!({
        "db": {"healthcheck": check},
        "web": {"depends_on": {"db": {"condition": "service_healthy", "required": true}}},
    }));
    let plan = bench.plan(&project);
    let cancel = Cancel::new().unwrap();
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| bench.run(&plan, &cancel));
        while !bench.seen().containers.iter().any(|one| one.state == State::Running) {
            std::thread::sleep(Duration::from_millis(20));
        }
        cancel.cancel();
        run.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, UpError::Cancelled), "{error}");
    assert!(bench.seen().containers.iter().all(|one| one.state != State::Created));
}

#[test]
fn logs_have_labels_times_and_a_tail() {
    let Some(bench) = Bench::new("logs") else { return };
    let project = bench.project(json!({
        "talker": {"command": ["sh", "-c", "echo one; echo two; echo three >&2; exit 4"]},
    }));
    let plan = bench.plan(&project);
    bench.run(&plan, &Cancel::new().unwrap()).unwrap();
    bench.engine.wait(&bench.id("talker-1"), &Cancel::new().unwrap()).unwrap();
    let mut lines: Vec<_> = bench.log("talker-1").lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["talker-1  | one", "talker-1  | three", "talker-1  | two"]);
    let read = |options: LogOptions| {
        let mut lines = Vec::new();
        let mut sink = |line: shipway::up::LogLine| {
            lines.push(line.text(0));
            Ok(())
        };
        let sources = sources(&bench.name, &bench.seen(), &["talker".to_owned()], None);
        let cancel = Cancel::new().unwrap();
        if options.follow {
            let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
            let listed = i64::try_from(now).unwrap();
            let (project, sources) = (bench.name.as_str(), sources.as_slice());
            let following = Following { project, services: &[], number: None, sources, listed };
            follow(&bench.engine, &following, &options, &mut sink, &cancel).unwrap();
        } else {
            logs(&bench.engine, &sources, &options, &mut sink, &cancel).unwrap();
        }
        lines
    };
    let tail = LogOptions { tail: Some(1), timestamps: true, ..LogOptions::default() };
    let tail = read(tail);
    assert!(tail.len() == 1 && tail[0].contains('T') && tail[0].contains("Z "), "{tail:?}");
    let followed = read(LogOptions { follow: true, ..LogOptions::default() });
    assert_eq!(followed.last().map(String::as_str), Some("talker-1 exited with code 4"));
}

/// Runs a project in the foreground; its lines and its end.
fn in_foreground(bench: &Bench, project: &Project, abort: Abort, stop_at: &str) -> (Vec<String>, Finished) {
    let plan = bench.plan(project);
    let (cancel, force) = (Cancel::new().unwrap(), Cancel::new().unwrap());
    let lines = Mutex::new(Vec::new());
    let mut sink = |line: shipway::up::LogLine| {
        let text = line.text(0);
        if !stop_at.is_empty() && text.contains(stop_at) {
            cancel.cancel();
        }
        lines.lock().unwrap().push(text);
        Ok(())
    };
    let services: Vec<String> = project.services.keys().cloned().collect();
    let attached = services.iter().cloned().collect();
    let with = Foreground {
        engine: &bench.engine,
        project,
        services: &services,
        attached: &attached,
        events: &Silent,
        cancel: &cancel,
        force: &force,
        parallel: 4,
        timeout: None,
        timestamps: false,
        abort,
    };
    let finished = foreground(&plan, &with, &mut sink).unwrap();
    (lines.into_inner().unwrap(), finished)
}

#[test]
fn the_foreground_shows_logs_and_ends_with_the_last_container() {
    let Some(bench) = Bench::new("front") else { return };
    let project = bench.project(json!({
        "a": {"command": ["sh", "-c", "echo from a"]},
        "b": {"command": ["sh", "-c", "sleep 0.3; echo from b; exit 3"]},
    }));
    let (lines, finished) = in_foreground(&bench, &project, Abort::Never, "");
    for line in ["a-1  | from a", "a-1 exited with code 0", "b-1  | from b", "b-1 exited with code 3"] {
        assert!(lines.iter().any(|one| one == line), "{line} is missing in {lines:?}");
    }
    assert_eq!(finished.ended.len(), 2);
    assert!(!finished.stopped);
}

#[test]
fn the_foreground_stops_the_project_when_told() {
    let Some(bench) = Bench::new("stop") else { return };
    let services = json!({"a": {"command": ["sh", "-c", "echo ready; exec sleep 1000"]}, "b": {}});
    let (lines, finished) = in_foreground(&bench, &bench.project(services), Abort::Never, "ready");
    assert!(finished.stopped);
    assert!(lines.iter().any(|line| line == "a-1 exited with code 137"), "{lines:?}");
    assert!(bench.seen().containers.iter().all(|one| one.state == State::Exited));
}

#[test]
fn the_foreground_stops_all_when_one_ends_if_asked() {
    let Some(bench) = Bench::new("abort") else { return };
    let services = json!({"a": {"command": ["sh", "-c", "exit 5"]}, "b": {}});
    let (_, finished) = in_foreground(&bench, &bench.project(services), Abort::OnExit, "");
    assert_eq!(finished.ended[0].code, 5);
    assert!(bench.seen().containers.iter().all(|one| one.state == State::Exited));
}

#[test]
fn scale_orphans_and_hooks() {
    let Some(bench) = Bench::new("scale") else { return };
    let hook = json!([{"command": ["sh", "-c", "echo hooked > /hooked"]}]);
    let project = |scale: u32| bench.project(json!({"web": {"scale": scale, "post_start": hook.clone()}}));
    bench.up(&project(3)).unwrap();
    assert_eq!(bench.sh("web-3", "cat /hooked"), "hooked");
    bench.up(&project(1)).unwrap();
    assert_eq!(bench.seen().containers.len(), 1);
    let other = bench.project(json!({"other": {}}));
    let plan = bench.plan(&other);
    assert!(plan.warnings[0].contains("found orphan containers"), "{plan}");
    let options = Options { remove_orphans: true, ..Options::default() };
    let plan = reconcile(&other, &bench.images(&other), &Files::default(), &bench.seen(), &options).unwrap();
    bench.run(&plan, &Cancel::new().unwrap()).unwrap();
    let names: Vec<_> = bench.seen().containers.into_iter().map(|one| one.name).collect();
    assert_eq!(names, [format!("{}-other-1", bench.name)]);
}

#[test]
fn images_are_listed_tagged_saved_loaded_and_removed() {
    let Some(engine) = engine() else { return };
    let name = format!("uptest-image-{}:1", std::process::id());
    let busybox = engine.image("busybox:latest").unwrap().expect("busybox is there");
    engine.tag(&busybox.id.to_string(), &name).unwrap();
    assert!(engine.images().unwrap().iter().any(|one| one.id == busybox.id && one.tags.contains(&name)));
    let mut archive = Vec::new();
    engine.save(&[&name], &mut archive).unwrap();
    assert!(engine.remove_image(&name, false).unwrap());
    assert!(!engine.remove_image(&name, false).unwrap());
    let loaded = engine.load(&mut |out| out.write_all(&archive)).unwrap();
    assert_eq!(loaded.names, std::slice::from_ref(&name));
    assert_eq!(engine.image(&name).unwrap().unwrap().diff_ids, busybox.diff_ids);
    engine.remove_image(&name, false).unwrap();

    let broken = engine.load(&mut |out| out.write_all(b"this is no archive"));
    assert!(matches!(broken, Err(EngineError::LoadFailed { .. })), "{broken:?}");
    let ours = engine.load(&mut |_| Err(std::io::Error::other("our disk is full")));
    assert!(matches!(ours, Err(EngineError::Transfer { .. })), "{ours:?}");
    assert!(engine.image("uptest-no-such-image").unwrap().is_none());
    let identity = engine.identity().unwrap();
    assert!(!identity.id.is_empty() && !identity.architecture.is_empty(), "{identity:?}");
}

#[test]
fn a_pull_without_a_registry_says_what_failed() {
    let Some(engine) = engine() else { return };
    let cancel = Cancel::new().unwrap();
    let error = engine.pull("127.0.0.1:1/nothing:latest", None, None, &Silent, &cancel).unwrap_err();
    assert!(matches!(error, EngineError::PullFailed { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot pull 127.0.0.1:1/nothing:latest: "), "{error}");
}

/// A compose file with much in it; `PORT` is a free port.
const RICH: &str = r#"
services:
  web:
    image: busybox:latest
    command: ["sleep", "1000"]
    environment: {A: "1", B: "x<y&z"}
    ports: ["PORT:80", "127.0.0.1::99"]
    expose: ["7000"]
    volumes:
      - ./data:/data
      - named:/named:ro
      - /anonymous
      - {type: tmpfs, target: /tmp2, tmpfs: {size: 1m}}
    networks:
      front: {aliases: [w1, w2]}
      back:
    depends_on: [db]
    restart: on-failure:3
    labels: {x.y: z}
    configs: [c1, {source: c2, target: /etc/c2, mode: 0440}]
    secrets: [s1]
    healthcheck: {test: ["CMD", "true"], interval: 10s}
    extra_hosts: ["foo=1.2.3.4"]
    tmpfs: [/t1, "/t2:size=1m"]
    sysctls: {net.core.somaxconn: 1024}
    ulimits: {nofile: {soft: 100, hard: 200}, nproc: 50}
    deploy: {resources: {limits: {memory: 64m, cpus: "0.5"}}}
    stop_grace_period: 1s
    init: true
    logging: {driver: json-file, options: {max-size: 1m}}
  db:
    image: busybox:latest
    command: sleep 1000
    networks: [back]
    stop_signal: SIGKILL
    links: [cache:c]
  cache:
    image: busybox:latest
    command: sleep 1000
    networks: [back]
    scale: 2
    stop_grace_period: 1s
  side:
    image: busybox:latest
    command: sleep 1000
    network_mode: service:db
    pid: service:cache
    stop_grace_period: 1s
networks:
  front: {labels: {a: b}}
  back: {internal: true}
volumes:
  named: {labels: {v: l}}
configs:
  c1: {file: ./text}
  c2: {content: "inline"}
secrets:
  s1: {file: ./text}
"#;

/// The program in `SHIPWAY_TEST_COMPOSE` (Docker Compose itself, which is not part of this project's
/// tests elsewhere), run on a project.
struct Peer {
    program: std::ffi::OsString,
    folder: tempfile::TempDir,
}

impl Peer {
    fn new() -> Option<Self> {
        let Some(program) = std::env::var_os("SHIPWAY_TEST_COMPOSE") else {
            eprintln!("skipped: needs Docker Compose (SHIPWAY_TEST_COMPOSE)");
            return None;
        };
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        std::fs::write(folder.path().join("text"), "hello").unwrap();
        let file = RICH.replace("PORT", &free_port().to_string());
        std::fs::write(folder.path().join("compose.yml"), file).unwrap();
        Some(Self { program, folder })
    }

    fn run(&self, bench: &Bench, arguments: &[&str]) -> String {
        let output = std::process::Command::new(&self.program)
            .args(["-p", &bench.name])
            .args(arguments)
            .current_dir(&self.folder)
            .env("DOCKER_HOST", bench.engine.host())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    fn project(&self, bench: &Bench) -> Project {
        let options = shipway::compose::Options {
            project_name: Some(bench.name.clone()),
            ..shipway::compose::Options::new(self.folder.path())
        };
        shipway::compose::load(&options, &shipway::compose::Disk).unwrap().project
    }
}

/// Ids, labels and networks of the containers, by name. Our own labels are left out.
fn facts(bench: &Bench) -> Vec<(String, Value)> {
    let containers = bench.seen().containers.into_iter().map(|one| {
        let labels = one.labels.iter().filter(|(name, _)| !name.starts_with("dev.shipway."));
        let differing = ["com.docker.compose.version", "com.docker.compose.replace"];
        // The digest of a service that shares a namespace has an id in it.
        let shares = one.name.contains("-side-").then_some("com.docker.compose.config-hash");
        let differs = |name: &str| differing.contains(&name) || shares == Some(name);
        // Docker Compose writes lists in labels in any order.
        let ordered = |value: &String| {
            let mut parts: Vec<_> = value.split(',').map(str::to_owned).collect();
            parts.sort();
            parts
        };
        let labels = labels.filter(|(name, _)| !differs(name));
        let labels: Vec<_> = labels.map(|(name, value)| (name, ordered(value))).collect();
        let mounts = one.mounts.iter().map(|mount| (&mount.target, &mount.kind)).collect::<Vec<_>>();
        let networks: Vec<_> = one.networks.keys().collect();
        let fact = json!({"labels": labels, "mounts": mounts, "networks": networks, "image": one.image});
        (one.name, fact)
    });
    let mut facts: Vec<_> = containers.collect();
    for (_, fact) in &mut facts {
        fact["mounts"].as_array_mut().unwrap().sort_by_key(Value::to_string);
    }
    facts.sort_by(|left, right| left.0.cmp(&right.0));
    facts
}

#[test]
fn docker_compose_takes_our_containers_for_its_own() {
    let Some(peer) = Peer::new() else { return };
    let Some(bench) = Bench::new("peer") else { return };
    bench.up(&peer.project(&bench)).unwrap();
    let (ours, ids) = (facts(&bench), ids(&bench));
    let listed = peer.run(&bench, &["ps", "--services"]);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    peer.run(&bench, &["up", "-d"]);
    assert_eq!(self::ids(&bench), ids, "nothing to do for Docker Compose");
    peer.run(&bench, &["down", "-v"]);
    assert!(bench.seen().containers.is_empty());
    peer.run(&bench, &["up", "-d"]);
    let theirs = facts(&bench);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    let plan = bench.up(&peer.project(&bench)).unwrap();
    assert!(plan.contains("it was made by Docker Compose"), "{plan}");
    assert_eq!(facts(&bench), ours);
}

fn ids(bench: &Bench) -> Vec<String> {
    bench.seen().containers.into_iter().map(|one| one.id).collect()
}

/// A folder that the engine can bind.
fn scratch() -> std::path::PathBuf {
    std::env::var_os("SHIPWAY_TEST_SCRATCH").map_or_else(std::env::temp_dir, Into::into)
}
