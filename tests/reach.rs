//! Reaching an engine as the docker command does: TLS, ssh, contexts; and what is said where that fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::scene::{Ran, Scene, needs, processes, ran, until};

/// A project of one container, and `shipway` with an environment of the test's own.
struct Far {
    scene: Scene,
    /// The folder that `run.sh` made for this way.
    folder: PathBuf,
    host: String,
}

impl Far {
    fn over(variable: &str, name: &str) -> Option<Self> {
        let folder = PathBuf::from(needs(variable, variable)?);
        let scene = Scene::with_engine(name)?;
        scene.write(
            "compose.yaml",
            "services:\n  web:\n    image: busybox\n    command: sh -c 'echo hello; exec sleep 86400'\n    init: true\n",
        );
        let host = std::fs::read_to_string(folder.join("host")).unwrap().trim().to_owned();
        Some(Self { scene, folder, host })
    }

    /// `shipway` with nothing that says where the engine is but these variables.
    fn command(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
        let mut command = self.scene.command(arguments);
        command.env_remove("DOCKER_HOST").envs(variables.iter().copied());
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.bin().display()));
        command
    }

    fn shipway(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
        ran(&self.command(variables, arguments).output().unwrap())
    }

    /// A folder with an `ssh` that reads the configuration of `run.sh`: ssh finds the user's own in the
    /// accounts of the machine, whatever `HOME` says.
    fn bin(&self) -> PathBuf {
        let bin = self.scene.project().join("bin");
        if !bin.exists() {
            std::fs::create_dir(&bin).unwrap();
            let config = self.folder.join("ssh_config");
            let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", config.display());
            std::fs::write(bin.join("ssh"), script).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(bin.join("ssh"), mode).unwrap();
        }
        bin
    }

    /// Docker's configuration with a context `far`, made by the docker command itself.
    fn context(&self, description: &str) -> PathBuf {
        let config = self.scene.project().join("docker");
        let made = Command::new("docker")
            .args(["context", "create", "far", "--docker", description])
            .env("DOCKER_CONFIG", &config)
            .output()
            .unwrap();
        ran(&made).ok();
        config
    }

    /// A container goes up, says something, runs a hook's command, and goes down.
    fn serves(&self, variables: &[(&str, &str)]) {
        self.shipway(variables, &["--progress", "plain", "up", "-d"]).ok();
        until("the container has said hello", || {
            self.shipway(variables, &["logs", "--no-log-prefix"]).ok().out.contains("hello\n")
        });
        let ps = self.shipway(variables, &["ps", "--services"]).ok();
        assert_eq!(ps.out, "web\n");
        let top = self.shipway(variables, &["top"]).ok();
        assert!(top.out.contains("sleep 86400"), "{}", top.out);
        self.shipway(variables, &["down", "-t", "0"]).ok();
        assert_eq!(self.scene.container("web"), None);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_engine_behind_tls_is_reached_and_checked() {
    let Some(far) = Far::over("SHIPWAY_TEST_TLS", "tls") else { return };
    let verified =
        [("DOCKER_HOST", &*far.host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", text(&far.folder))];
    far.serves(&verified);
    let unverified =
        [("DOCKER_HOST", &*far.host), ("DOCKER_TLS", "1"), ("DOCKER_CERT_PATH", text(&far.folder))];
    far.shipway(&unverified, &["ps"]).ok();
    let other = far.folder.join("other");
    let wrong = [("DOCKER_HOST", &*far.host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", text(&other))];
    far.shipway(&wrong, &["ps"]).fails(1, &[&far.host, "UnknownIssuer", "ca.pem"]);
    let nowhere = [("DOCKER_HOST", &*far.host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/nowhere")];
    far.shipway(&nowhere, &["ps"]).fails(1, &["/nowhere/ca.pem"]);
    // Without our own certificate the engine refuses us.
    let stranger = far.scene.project().join("stranger");
    std::fs::create_dir(&stranger).unwrap();
    std::fs::copy(far.folder.join("ca.pem"), stranger.join("ca.pem")).unwrap();
    let stranger =
        [("DOCKER_HOST", &*far.host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", text(&stranger))];
    far.shipway(&stranger, &["ps"]).fails(1, &[&far.host, "ertificate"]);
    far.shipway(&[("DOCKER_HOST", &*far.host)], &["ps"]).fails(1, &["HTTP request to an HTTPS server"]);
}

#[test]
fn a_context_of_the_docker_command_says_where_the_engine_is() {
    let Some(far) = Far::over("SHIPWAY_TEST_TLS", "context") else { return };
    let file = |name: &str| far.folder.join(name).display().to_string();
    let config = far.context(&format!(
        "host={},ca={},cert={},key={}",
        far.host,
        file("ca.pem"),
        file("cert.pem"),
        file("key.pem")
    ));
    far.serves(&[("DOCKER_CONFIG", text(&config)), ("DOCKER_CONTEXT", "far")]);
    // `docker context use` writes it into config.json.
    let used = Command::new("docker").args(["context", "use", "far"]).env("DOCKER_CONFIG", &config).output();
    ran(&used.unwrap()).ok();
    far.shipway(&[("DOCKER_CONFIG", text(&config))], &["ps"]).ok();
    let missing = far.shipway(&[("DOCKER_CONFIG", text(&config)), ("DOCKER_CONTEXT", "near")], &["ps"]);
    missing.fails(1, &["there is no context near", "meta.json", "docker context ls"]);
    // An address beats a context.
    let host = std::env::var("SHIPWAY_TEST_DOCKER_HOST").unwrap();
    far.shipway(
        &[("DOCKER_CONFIG", text(&config)), ("DOCKER_CONTEXT", "near"), ("DOCKER_HOST", &host)],
        &["ps"],
    )
    .ok();
}

#[test]
fn an_engine_behind_ssh_is_reached_and_no_process_stays() {
    let Some(far) = Far::over("SHIPWAY_TEST_SSH", "ssh") else { return };
    let variables = [("DOCKER_HOST", &*far.host)];
    far.serves(&variables);
    // Bytes both ways in a stream that is taken over: a command in a container.
    let hook = "services:\n  web:\n    image: busybox\n    command: sleep 86400\n    init: true\n    post_start:\n      - command: [touch, /started]\n";
    far.scene.write("compose.yaml", hook);
    far.shipway(&variables, &["up", "-d"]).ok();
    let web = far.scene.container("web").unwrap();
    far.scene.docker(&["exec", &web, "ls", "/started"]).ok();
    let marker = format!("{}/ssh_config", far.folder.display());
    until("no ssh process is left", || processes(&marker).is_empty());
    // Killed without a chance to clean up, in the middle of a stream.
    let mut child = far.command(&variables, &["events"]).stdout(Stdio::null()).spawn().unwrap();
    until("an ssh process runs", || !processes(&marker).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    until("its ssh process has ended", || processes(&marker).is_empty());
}

#[test]
fn what_is_wrong_with_ssh_is_said() {
    let Some(far) = Far::over("SHIPWAY_TEST_SSH", "nossh") else { return };
    let nobody = far.host.replace("root@", "nobody@");
    far.shipway(&[("DOCKER_HOST", &nobody)], &["ps"]).fails(1, &[&nobody, "ssh says: ", "Permission denied"]);
    let closed = far.host.replace(":2222", ":1");
    far.shipway(&[("DOCKER_HOST", &closed)], &["ps"]).fails(1, &["Connection refused"]);
    let socket = format!("{}.none", far.host);
    far.shipway(&[("DOCKER_HOST", &socket)], &["ps"]).fails(1, &["ssh says: ", "docker.sock.none"]);
    far.shipway(&[("DOCKER_HOST", "ssh://me:hunter2@far")], &["ps"]).fails(1, &["password"]);
    far.shipway(&[("DOCKER_HOST", "npipe:////./pipe/docker_engine")], &["ps"]).fails(1, &["npipe"]);
}

#[test]
fn a_version_of_the_api_is_asked_for() {
    let Some(scene) = Scene::with_engine("api") else { return };
    scene.write("compose.yaml", "services:\n  web:\n    image: busybox\n");
    let with = |version: &str| {
        let mut command = scene.command(&["ps"]);
        ran(&command.env("DOCKER_API_VERSION", version).output().unwrap())
    };
    with("1.41").ok();
    with("9.99").fails(1, &["9.99"]);
    with("new").fails(1, &["DOCKER_API_VERSION must be a version"]);
}
