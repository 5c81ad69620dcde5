//! The sandbox on the real kernel: a busybox root file system, real processes, real mounts.

use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use shipway::base::cancel::Cancel;
use shipway::sandbox::{Exit, Isolated, Layers, Network, RunSpec, Sandbox, SandboxError, Writable};

/// A scratch folder, a busybox layer and a sandbox that runs the real program.
struct Bench {
    folder: tempfile::TempDir,
    sandbox: Isolated,
}

impl Bench {
    /// `None` where sandboxes cannot run.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("root");
            return None;
        }
        let folder = scratch();
        busybox(&folder.path().join("busybox"));
        let program = Path::new(env!("CARGO_BIN_EXE_shipway"));
        let sandbox = Isolated::with_program(folder.path(), program).unwrap();
        Some(Self { folder, sandbox })
    }

    fn layers(&self, name: &str) -> Layers {
        let folder = self.folder.path().join(name);
        let writable = Writable { upper: folder.join("upper"), work: folder.join("work") };
        std::fs::create_dir_all(&writable.upper).unwrap();
        std::fs::create_dir_all(&writable.work).unwrap();
        Layers { lowers: vec![self.folder.path().join("busybox")], writable: Some(writable) }
    }

    fn sh(&self, name: &str, script: &str) -> RunSpec {
        spec(self.layers(name), &["/bin/sh", "-c", script])
    }

    fn run(&self, spec: &RunSpec) -> (Result<Exit, SandboxError>, String) {
        let mut output = Vec::new();
        let exit = self.sandbox.run(spec, &mut output, &Cancel::new().unwrap());
        (exit, String::from_utf8_lossy(&output).into_owned())
    }

    /// The output of a script that must succeed.
    fn says(&self, name: &str, script: &str) -> String {
        let (exit, output) = self.run(&self.sh(name, script));
        assert!(matches!(exit, Ok(Exit::Code(0))), "{exit:?}: {output}");
        output
    }
}

/// Says why a test does nothing; where all tests must run that is a failure.
fn skip(need: &str) {
    assert!(std::env::var_os("SHIPWAY_TEST_ALL").is_none(), "needs {need}");
    println!("skipped: needs {need}");
}

/// A folder of its own on a real file system.
fn scratch() -> tempfile::TempDir {
    let place = std::env::var_os("SHIPWAY_TEST_SCRATCH").unwrap_or_else(|| "/var/tmp".into());
    std::fs::create_dir_all(&place).unwrap();
    tempfile::Builder::new().prefix("sandbox-").tempdir_in(place).unwrap()
}

/// Every path below `folder`, sorted; folders end with a slash, whiteouts with a star.
fn tree(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        let name = path.file_name().unwrap().to_str().unwrap();
        if kind.is_dir() {
            paths.push(format!("{name}/"));
            paths.extend(tree(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else if kind.is_char_device() {
            paths.push(format!("{name}*"));
        } else {
            paths.push(name.to_owned());
        }
    }
    paths.sort();
    paths
}

fn spec(layers: Layers, argv: &[&str]) -> RunSpec {
    RunSpec {
        layers,
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: vec![("PATH".to_owned(), "/usr/local/bin:/bin".to_owned())],
        cwd: PathBuf::from("/"),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        hostname: "builder".to_owned(),
        network: Network::None,
        hosts: b"127.0.0.1 localhost\n".to_vec(),
        resolv_conf: b"nameserver 192.0.2.1\n".to_vec(),
        shm_size: RunSpec::DEFAULT_SHM_SIZE,
        limits: Vec::new(),
    }
}

/// Unpacks the busybox archive that the environment names, or makes the tree from the machine's own.
fn busybox(tree: &Path) {
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    if let Some(archive) = std::env::var_os("SHIPWAY_TEST_BUSYBOX_TAR") {
        let done = Command::new("tar").arg("-C").arg(tree).arg("-xf").arg(archive).status().unwrap();
        assert!(done.success());
        return;
    }
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    let listed = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(listed.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    for folder in ["etc", "root", "tmp"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
}

#[test]
fn output_and_exit_come_back() {
    let Some(bench) = Bench::new() else { return };
    let (exit, output) = bench.run(&bench.sh("both", "echo out; echo err >&2; echo out again; exit 3"));
    assert_eq!((exit.unwrap(), output.as_str()), (Exit::Code(3), "out\nerr\nout again\n"));
    let (exit, _) =
        bench.run(&bench.sh("signal", "kill -TERM $$; kill -KILL $$; sh -c 'kill -9 $$'; exit 4"));
    assert_eq!(exit.unwrap(), Exit::Code(4), "a first process without handlers ignores signals from inside");
    let (exit, output) = bench.run(&spec(bench.layers("missing"), &["nowhere"]));
    assert!(
        matches!(exit, Err(SandboxError::Command { ref command, .. }) if command == "nowhere"),
        "{exit:?}"
    );
    assert_eq!(output, "");
    let mut elsewhere = bench.sh("elsewhere", "pwd");
    elsewhere.cwd = PathBuf::from("/not/there");
    assert!(matches!(bench.run(&elsewhere).0, Err(SandboxError::WorkingDirectory { .. })));
}

#[test]
fn the_layer_holds_what_the_command_wrote_and_nothing_else() {
    let Some(bench) = Bench::new() else { return };
    let below = std::fs::metadata(bench.folder.path().join("busybox/etc")).unwrap().modified().unwrap();
    bench.says("written", "echo x > /new; mkdir -p /a/b; rm /bin/true");
    let upper = bench.folder.path().join("written/upper");
    assert_eq!(tree(&upper), ["a/", "a/b/", "bin/", "bin/true*", "etc/", "new"]);
    // A folder that mount points were made in is copied up but unchanged.
    assert_eq!(std::fs::metadata(upper.join("etc")).unwrap().modified().unwrap(), below);
    let again = Layers {
        lowers: vec![bench.folder.path().join("busybox"), upper],
        writable: bench.layers("again").writable,
    };
    let (exit, output) = bench.run(&spec(again, &["/bin/sh", "-c", "cat /new; ls /bin/true"]));
    assert!(matches!(exit, Ok(Exit::Code(1))));
    assert!(output.starts_with("x\n"), "{output}");
}

#[test]
fn nothing_of_the_host_is_reachable() {
    let Some(bench) = Bench::new() else { return };
    let said = bench.says(
        "inside",
        "id; hostname; cat /etc/hosts /etc/resolv.conf; ls /; ls /proc | grep '^[0-9]'; \
         ls /dev; ls /proc/self/fd; wc -c < /proc/keys; wc -c < /proc/timer_list; \
         echo x > /proc/sys/kernel/hostname || echo refused; echo x > /sys/x || echo refused",
    );
    insta::assert_snapshot!(said);
}

#[test]
fn privileges_are_dockers() {
    let Some(bench) = Bench::new() else { return };
    let pattern = "^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups|Sig[BIC])";
    let status = format!("grep -E '{pattern}' /proc/self/status");
    let (_, root) = bench.run(&spec(bench.layers("root"), &["grep", "-E", pattern, "/proc/self/status"]));
    let mut user = bench.sh("user", &format!("{status}; echo to stderr > /dev/stderr; echo y > /dev/stdout"));
    (user.uid, user.gid, user.groups) = (1000, 1001, vec![1001, 44]);
    let (exit, output) = bench.run(&user);
    assert!(matches!(exit, Ok(Exit::Code(0))), "{exit:?} {output}");
    let mut host = bench.sh("host", "grep CapBnd /proc/self/status");
    host.network = Network::Host;
    let (_, on_host) = bench.run(&host);
    insta::assert_snapshot!(format!("{root}--\n{output}--\n{on_host}"));
}
