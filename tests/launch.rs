//! Launching: a project of our own on a real engine, from nothing to nothing.

use std::net::TcpListener;

use crate::scene::{Scene, ran, until};

/// Two services on one network; `web` is built, `client` asks it by its alias.
fn project(name: &str) -> Option<Scene> {
    let scene = Scene::with_engine(name)?;
    scene
        .write(
            "compose.yaml",
            r#"
services:
  web:
    build: ./web
    networks:
      inner:
        aliases: [www, home]
    environment:
      GREETING: hello
    volumes:
      - data:/data
      - ./config:/config:ro
    healthcheck:
      test: ["CMD", "wget", "-qO-", "http://127.0.0.1:80/"]
      interval: 200ms
      retries: 50
  client:
    build: ./client
    depends_on:
      web:
        condition: service_healthy
    networks: [inner]
    restart: always
networks:
  inner:
volumes:
  data:
"#,
        )
        .write("web/Dockerfile", "FROM busybox\nRUN mkdir /srv\nCOPY index.html /srv/\nCMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/srv\"]\n")
        .write("web/index.html", "first page\n")
        .write("client/Dockerfile", "FROM busybox\nCMD wget -qO- http://www/ && wget -qO- http://home/ && exec sleep 86400\n")
        .write("config/setting", "one\n")
        .age(".");
    Some(scene)
}

fn up(scene: &Scene) -> crate::scene::Ran {
    scene.shipway(&["--progress", "plain", "up", "-d"]).ok()
}

#[test]
fn up_builds_launches_and_connects() {
    let Some(scene) = project("up") else { return };
    up(&scene);
    until("the client has read the page twice", || {
        scene.shipway(&["logs", "client"]).ok().out.matches("first page").count() >= 2
    });
    let web = scene.container("web").unwrap();
    let inspect = |format: &str| scene.docker(&["inspect", "-f", format, &web]).ok().out.trim().to_owned();
    assert_eq!(inspect("{{.Name}}"), format!("/{}-web-1", scene.name()));
    assert_eq!(inspect("{{index .Config.Labels \"com.docker.compose.service\"}}"), "web");
    assert!(!inspect("{{index .Config.Labels \"com.docker.compose.config-hash\"}}").is_empty());
    assert!(inspect("{{.Config.Env}}").contains("GREETING=hello"));
    let read = scene.docker(&["exec", &web, "cat", "/config/setting"]).ok();
    assert_eq!(read.out, "one\n");
    assert!(scene.docker(&["exec", &web, "touch", "/config/x"]).code != Some(0));
    let ps = scene.shipway(&["ps"]).ok();
    assert!(ps.out.contains(&format!("{}-web-1", scene.name())) && ps.out.contains("client"), "{}", ps.out);
    let images = scene.shipway(&["image", "ls"]).ok();
    assert!(images.out.contains(&format!("{}-web", scene.name())), "{}", images.out);
}

#[test]
fn nothing_changed_touches_nothing() {
    let Some(scene) = project("noop") else { return };
    up(&scene);
    let before = (scene.container("web"), scene.container("client"));
    let started = |id: &Option<String>| {
        let id = id.as_deref().unwrap();
        scene.docker(&["inspect", "-f", "{{.State.StartedAt}} {{.RestartCount}}", id]).ok().out
    };
    let times = (started(&before.0), started(&before.1));
    for age in [false, true] {
        if age {
            // Only mtimes change.
            scene.age(".");
        }
        let again = up(&scene);
        assert!(!again.err.contains("done in"), "{}", again.err);
        assert_eq!((scene.container("web"), scene.container("client")), before);
        assert_eq!((started(&before.0), started(&before.1)), times);
    }
}

#[test]
fn a_changed_file_recreates_its_container_alone() {
    let Some(scene) = project("edit") else { return };
    up(&scene);
    let before = (scene.container("web"), scene.container("client"));
    scene.write("web/index.html", "second page\n");
    let changed = up(&scene);
    assert!(changed.err.contains("COPY index.html /srv/  done in"), "{}", changed.err);
    assert!(!changed.err.contains("RUN mkdir /srv  done in"), "{}", changed.err);
    assert_ne!(scene.container("web"), before.0);
    assert_eq!(scene.container("client"), before.1);
    let web = scene.container("web").unwrap();
    assert_eq!(scene.docker(&["exec", &web, "cat", "/srv/index.html"]).ok().out, "second page\n");
    let why = scene.shipway(&["why", "web"]).ok();
    assert!(why.out.contains("`index.html` modified"), "{}", why.out);
    // What the rebuild replaced is gone.
    let filter = format!("reference={}-web", scene.name());
    assert_eq!(scene.docker(&["images", "-q", "--filter", &filter]).ok().out.lines().count(), 1);
}

#[test]
fn an_image_removed_by_hand_is_handed_over_again() {
    let Some(scene) = project("again") else { return };
    scene.shipway(&["build"]).ok();
    let name = format!("{}-web", scene.name());
    let id = |scene: &Scene| scene.docker(&["image", "inspect", "-f", "{{.Id}}", &name]);
    let before = id(&scene).ok().out;
    scene.docker(&["image", "rm", "-f", &name]).ok();
    assert_ne!(id(&scene).code, Some(0));
    let built = scene.shipway(&["--progress", "plain", "build"]).ok();
    assert!(!built.err.contains("done in") || built.err.contains("load"), "{}", built.err);
    assert_eq!(id(&scene).ok().out, before);
    // All of the engine's copy gone, base layers included: everything is sent.
    let all = [name.clone(), format!("{}-client", scene.name())];
    for name in &all {
        scene.docker(&["image", "rm", "-f", name]).ok();
    }
    up(&scene);
    assert_eq!(id(&scene).ok().out, before);
}

#[test]
fn down_removes_what_up_made() {
    let Some(scene) = project("down") else { return };
    up(&scene);
    scene.shipway(&["down", "-v", "-t", "1"]).ok();
    let label = format!("label=com.docker.compose.project={}", scene.name());
    for list in [&["ps", "-aq"][..], &["network", "ls", "-q"], &["volume", "ls", "-q"]] {
        let listed = scene.docker(&[list, &["--filter", &label]].concat()).ok();
        assert_eq!(listed.out, "", "{list:?}");
    }
}

#[test]
fn in_the_foreground_logs_follow_and_ctrl_c_stops() {
    let Some(scene) = project("fore") else { return };
    let mut child = Some(scene.start(&["up"]));
    // A client whose second question fails is restarted and asks both again.
    until("the client runs", || {
        if child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some()) {
            panic!("up ended: {:?}", ran(&child.take().unwrap().wait_with_output().unwrap()));
        }
        scene
            .container("client")
            .is_some_and(|id| scene.docker(&["logs", &id]).out.matches("first page").count() >= 2)
    });
    let child = child.unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = ran(&child.wait_with_output().unwrap());
    assert!(matches!(ended.code, Some(0 | 130)), "{ended:?}");
    assert!(ended.out.contains("client-1") && ended.out.contains("| first page"), "{ended:?}");
    for service in ["web", "client"] {
        let id = scene.container(service).unwrap();
        assert_eq!(scene.docker(&["inspect", "-f", "{{.State.Running}}", &id]).ok().out.trim(), "false");
    }
}

#[test]
fn an_occupied_port_is_said_and_nothing_half_made_stays() {
    let Some(scene) = Scene::with_engine("port") else { return };
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    scene
        .write("compose.yaml", &format!("services:\n  web:\n    build: .\n    ports: [\"{port}:80\"]\n"))
        .write("Dockerfile", "FROM busybox\nCMD sleep 86400\n");
    scene.shipway(&["up", "-d"]).fails(1, &["web", &port.to_string()]);
    drop(taken);
    up(&scene);
    assert!(scene.container("web").is_some());
}

#[test]
fn an_engine_that_is_not_there_is_said() {
    let scene = Scene::empty();
    scene.write("compose.yaml", "services:\n  web:\n    image: busybox\n");
    scene.shipway(&["up", "-d"]).fails(1, &["no.sock"]);
    scene.shipway(&["ps"]).fails(1, &["no.sock"]);
}

#[test]
fn a_misspelt_key_is_shown_with_what_was_meant() {
    let scene = Scene::empty();
    let sample =
        "version: '3'\nservices:\n web:\n  mage: nginx:latest\n  container_name: web\n db:\n  image: mysql\n";
    scene.write("docker-compose.yml", sample);
    let said = ["docker-compose.yml:4", "mage: nginx:latest", "did you mean `image`?"];
    scene.shipway(&["up", "-d"]).fails(1, &said);
    scene.shipway(&["config"]).fails(1, &said);
}
