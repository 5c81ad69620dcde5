//! The sandbox on the real kernel: a busybox root file system, real processes, real mounts.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};

use shipway::base::cancel::Cancel;
use shipway::base::secret::Secret;
use shipway::sandbox::{
    Driver, Exit, Isolated, Layers, Limit, Mount, MountSource, Network, Resource, RunSpec, Sandbox,
    SandboxError, Writable,
};

/// A scratch folder, a busybox layer and a sandbox that runs the real program.
struct Bench {
    folder: tempfile::TempDir,
    sandbox: Isolated,
}

impl Bench {
    /// `None` where sandboxes cannot run.
    fn new() -> Option<Self> {
        Self::with(None)
    }

    /// With that driver, or with the one that the machine offers.
    fn with(driver: Option<Driver>) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("root");
            return None;
        }
        let folder = scratch();
        busybox(&folder.path().join("busybox"));
        let program = Path::new(env!("CARGO_BIN_EXE_shipway"));
        let sandbox = Isolated::with_program(folder.path(), program).unwrap();
        let sandbox = match driver {
            Some(driver) => sandbox.with_driver(driver),
            None => sandbox,
        };
        Some(Self { folder, sandbox })
    }

    /// A command that runs `script` in a sandbox of its own, in the process of the ignored test `name`.
    fn actor(&self, name: &str, script: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("sandbox::{name}"), "--ignored", "--nocapture"]);
        command.env("SANDBOX_FOLDER", self.folder.path()).env("SANDBOX_SCRIPT", script);
        command
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

/// Every driver that works here: where scratch folders lie on an overlay none can remove things.
fn drivers() -> Vec<Driver> {
    match Bench::new() {
        Some(bench) if bench.sandbox.driver() == Driver::Copy => Vec::new(),
        _ => vec![Driver::Overlay, Driver::OverlayByOldCall, Driver::Copy],
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
        mounts: Vec::new(),
        insecure: false,
    }
}

/// A small tree with the applets of the busybox that the environment names an archive of, or of the
/// machine's own.
fn busybox(tree: &Path) {
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    for folder in ["etc", "root", "tmp"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    if let Some(archive) = std::env::var_os("SHIPWAY_TEST_BUSYBOX_TAR") {
        let done =
            Command::new("tar").arg("-C").arg(tree).arg("-xf").arg(archive).arg("./bin").status().unwrap();
        assert!(done.success());
        return;
    }
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    let listed = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(listed.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
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
    for driver in drivers() {
        let Some(bench) = Bench::with(Some(driver)) else { return };
        assert_eq!(bench.sandbox.driver(), driver);
        let below = bench.folder.path().join("busybox");
        let etc = std::fs::metadata(below.join("etc")).unwrap().modified().unwrap();
        bench.says("written", "echo x > /new; mkdir -p /a/b; rm /bin/true; chmod 700 /root");
        bench.sandbox.finish(&bench.layers("written")).unwrap();
        let upper = bench.folder.path().join("written/upper");
        let mut written = tree(&upper);
        if written.contains(&"etc/".to_owned()) {
            // A folder that mount points were made in is copied up but unchanged.
            assert_eq!(std::fs::metadata(upper.join("etc")).unwrap().modified().unwrap(), etc);
            written.retain(|name| name != "etc/");
        }
        assert_eq!(written, ["a/", "a/b/", "bin/", "bin/true*", "new", "root/"], "{driver}");
        let attributes = |folder: &Path| {
            let found = std::fs::metadata(folder).unwrap();
            (found.mode(), found.uid(), found.gid())
        };
        assert_eq!(attributes(&upper), attributes(&below));
        let lowers = vec![below, upper];
        let again = Layers { lowers: lowers.clone(), writable: bench.layers("again").writable };
        let (exit, output) = bench.run(&spec(again, &["/bin/sh", "-c", "cat /new; ls /bin/true"]));
        assert!(matches!(exit, Ok(Exit::Code(1))), "{exit:?}: {output}");
        assert!(output.starts_with("x\n"), "{output}");
        let root = bench.sandbox.root(&Layers { lowers, writable: None }).unwrap();
        assert_eq!(root.read(Path::new("/new"), 9).unwrap().unwrap(), b"x\n");
        assert!(root.stat(Path::new("/bin/true"), false).unwrap().is_none());
        assert!(root.open_at(Path::new("/new"), OFlags::WRONLY, Mode::empty()).is_err());
    }
}

#[test]
fn hundreds_of_layers_are_stacked_and_more_are_merged() {
    let Some(first) = Bench::new() else { return };
    let made: Vec<_> = (0..620)
        .map(|number| {
            let layer = first.folder.path().join(format!("a layer, with: odd = name/{number}"));
            std::fs::create_dir_all(layer.join("from")).unwrap();
            std::fs::write(layer.join(format!("from/{number}")), "").unwrap();
            layer
        })
        .collect();
    let cases =
        [(Driver::Overlay, 499), (Driver::OverlayByOldCall, 499), (Driver::Overlay, 620), (Driver::Copy, 40)];
    for (driver, count) in cases.into_iter().filter(|(driver, _)| drivers().contains(driver)) {
        let Some(bench) = Bench::with(Some(driver)) else { return };
        let mut layers = bench.layers("top");
        layers.lowers.extend_from_slice(&made[..count]);
        let (exit, output) = bench.run(&spec(layers, &["/bin/sh", "-c", "ls /from | wc -l"]));
        assert!(matches!(exit, Ok(Exit::Code(0))), "{driver} {count}: {exit:?} {output}");
        assert_eq!(output, format!("{count}\n"));
    }
}

#[test]
fn device_nodes_cannot_be_opened_wherever_they_are_made() {
    let Some(bench) = Bench::new() else { return };
    let script = "for at in /x /dev/x /dev/shm/x /tmp/x; do mknod $at c 1 3 && cat $at; done; \
         chmod 600 /dev/null; chown 7 /dev/null; echo done";
    let (exit, output) = bench.run(&bench.sh("nodes", script));
    let refused = |at: &str| format!("cat: can't open '{at}': Permission denied\n");
    let expected: String = ["/x", "/dev/x", "/dev/shm/x", "/tmp/x"].map(refused).concat();
    assert_eq!(output, expected + "done\n", "{exit:?}");
    let host = std::fs::metadata("/dev/null").unwrap();
    assert_eq!((host.mode() & 0o777, host.uid()), (0o666, 0));
}

#[test]
fn nothing_below_and_nothing_at_all_are_trees_too() {
    let Some(bench) = Bench::new() else { return };
    let mut scratch = bench.layers("scratch");
    scratch.lowers.clear();
    let root = bench.sandbox.root(&scratch).unwrap();
    root.create_directories(Path::new("/made/here"), Mode::from_raw_mode(0o755), (0, 0)).unwrap();
    assert_eq!(tree(&bench.folder.path().join("scratch/upper")), ["made/", "made/here/"]);
    let nothing = bench.sandbox.root(&Layers::default()).unwrap();
    assert!(nothing.stat(Path::new("/made"), false).unwrap().is_none());
    // A second tree of the same upper shows what the first wrote.
    drop(root);
    assert!(bench.sandbox.root(&scratch).unwrap().stat(Path::new("/made/here"), true).unwrap().is_some());
}

#[test]
fn links_that_point_outward_stay_inside() {
    let Some(bench) = Bench::new() else { return };
    let outside = bench.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "host").unwrap();
    let hostile = bench.folder.path().join("hostile");
    std::fs::create_dir_all(hostile.join("etc")).unwrap();
    let up = "../../../../../../../../../..".to_owned();
    let out = outside.to_str().unwrap();
    symlink(format!("{up}{out}/p"), hostile.join("proc")).unwrap();
    symlink(format!("{out}/file"), hostile.join("dev")).unwrap();
    symlink(format!("{out}/missing"), hostile.join("sys")).unwrap();
    symlink(format!("{out}/resolv"), hostile.join("etc/resolv.conf")).unwrap();
    symlink("../proc/../../etc/hosts.real", hostile.join("etc/hosts")).unwrap();
    let mut layers = bench.layers("victim");
    layers.lowers.push(hostile);
    let script = "cat /etc/hosts /etc/resolv.conf; ls -d /proc/1 /dev/null /sys/kernel";
    let (exit, output) = bench.run(&spec(layers.clone(), &["/bin/sh", "-c", script]));
    assert_eq!(
        output, "127.0.0.1 localhost\nnameserver 192.0.2.1\n/dev/null\n/proc/1\n/sys/kernel\n",
        "{exit:?}"
    );
    assert_eq!(tree(&outside), ["file"]);
    assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"host");
    bench.sandbox.finish(&layers).unwrap();
    let left = tree(&layers.writable.unwrap().upper);
    // Folders that mount points were made in for a while; nothing that was not there before.
    let was_there =
        |path: &String| path.ends_with('/') && bench.folder.path().join("busybox").join(path).exists();
    assert!(left.iter().all(was_there), "{left:?}");
}

#[test]
fn a_link_in_a_circle_is_an_error_that_names_it() {
    let Some(bench) = Bench::new() else { return };
    let hostile = bench.folder.path().join("circle");
    std::fs::create_dir_all(hostile.join("etc")).unwrap();
    symlink("hosts", hostile.join("etc/hosts")).unwrap();
    let mut layers = bench.layers("victim");
    layers.lowers.push(hostile);
    let (exit, _) = bench.run(&spec(layers.clone(), &["/bin/true"]));
    assert!(
        matches!(exit, Err(SandboxError::MountPoint { ref path, .. }) if path == Path::new("/etc/hosts"))
    );
    assert!(!layers.writable.unwrap().upper.join("proc").exists());
}

#[test]
fn cancelling_kills_everything_at_once() {
    let Some(bench) = Bench::new() else { return };
    let mark = format!("{}.5", 400_000 + std::process::id());
    let script = format!("(setsid sleep {mark} &) ; trap '' TERM INT; echo up; sleep {mark}; sleep {mark}");
    let cancel = Cancel::new().unwrap();
    let mut output = CancelOn { cancel: &cancel, seen: Vec::new() };
    let result = bench.sandbox.run(&bench.sh("cancelled", &script), &mut output, &cancel);
    assert!(matches!(result, Err(SandboxError::Cancelled)), "{result:?}");
    assert_eq!(output.seen, b"up\n");
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
}

/// Cancels as soon as there is output.
struct CancelOn<'a> {
    cancel: &'a Cancel,
    seen: Vec<u8>,
}

impl std::io::Write for CancelOn<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.seen.extend_from_slice(bytes);
        self.cancel.cancel();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn background_processes_end_with_the_command() {
    let Some(bench) = Bench::new() else { return };
    let mark = format!("{}.25", 400_000 + std::process::id());
    assert_eq!(bench.says("background", &format!("(setsid sleep {mark} &); echo done")), "done\n");
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
}

#[test]
fn killing_shipway_leaves_no_process_and_no_mount() {
    let Some(bench) = Bench::new() else { return };
    let mark = format!("{}.75", 400_000 + std::process::id());
    let mut victim = bench.actor("run_for_another_test", &format!("sleep {mark} & echo up; sleep {mark}"));
    let mut child = victim.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("up")));
    while processes_with(&mark).len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let folder = bench.folder.path().to_str().unwrap().to_owned();
    while !processes_with(&mark).is_empty() || !mounts_with(&folder).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn killing_the_monitor_ends_the_command_too() {
    let Some(bench) = Bench::new() else { return };
    let mark = format!("{}.125", 400_000 + std::process::id());
    let mut actor = bench.actor("run_for_another_test", &format!("sleep {mark} & sleep {mark}"));
    let child = actor.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while processes_with(&mark).len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let is_monitor = |status: &str| {
        status.contains("Name:\tshipway-monitor\n") && status.contains(&format!("PPid:\t{}\n", child.id()))
    };
    let monitor = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        is_monitor(&status).then(|| entry.file_name().to_str().unwrap().parse::<i32>().unwrap())
    });
    let monitor = rustix::process::Pid::from_raw(monitor.unwrap()).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("MonitorLost"));
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
}

#[test]
fn limits_shared_memory_and_loopback_are_as_asked() {
    let Some(bench) = Bench::new() else { return };
    let script = "ulimit -Sn; ulimit -Hn; grep -o 'size=[0-9]*k' /proc/mounts | tail -1; \
        ls /sys/class/net; cat /sys/class/net/lo/flags";
    let mut asked = bench.sh("asked", script);
    asked.limits = vec![Limit { resource: Resource::Nofile, soft: Some(100), hard: Some(200) }];
    asked.shm_size = 1 << 20;
    assert_eq!(bench.run(&asked).1, "100\n200\nsize=1024k\nlo\n0x9\n");
    asked.limits[0].soft = Some(300);
    let (exit, _) = bench.run(&asked);
    assert!(
        matches!(exit, Err(SandboxError::Isolation { ref action, .. }) if action.contains("nofile")),
        "{exit:?}"
    );
}

fn mount(target: &str, read_only: bool, source: MountSource) -> Mount {
    Mount { target: target.into(), read_only, source }
}

#[test]
fn what_is_mounted_is_seen_and_leaves_no_trace_in_the_layer() {
    for driver in drivers() {
        let Some(bench) = Bench::with(Some(driver)) else { return };
        let shared = bench.folder.path().join("shared");
        std::fs::create_dir_all(shared.join("deep")).unwrap();
        std::fs::write(shared.join("deep/file"), "shared").unwrap();
        symlink("/deep", shared.join("link")).unwrap();
        let layers = |writable| Layers { lowers: vec![shared.clone()], writable };
        let upper = bench.layers("thrown-away").writable;
        let content = Secret::new("quiet");
        let mut spec = bench.sh(
            "mounts",
            "set -e; [ $(cat /ro/file)$(cat /linked/file) = sharedshared ]; ! touch /ro/x; ! touch /linked/x; \
             rm /rw/deep/file; echo kept > /cache/new; [ $(cat /run/secrets/s) = quiet ]; ! touch /run/secrets/s; \
             [ $(stat -c %a:%u:%g /run/secrets/s) = 440:1:2 ]; /dev/pipes/E; touch /t/x; \
             grep -q ' /t/in ' /proc/self/mountinfo; ! cp /bin/busybox /run/secrets/s; touch /wrote",
        );
        spec.mounts = vec![
            mount("/ro", true, MountSource::Layers { layers: layers(None), path: "/deep".into() }),
            mount("/linked", true, MountSource::Layers { layers: layers(None), path: "/link".into() }),
            mount("/rw", false, MountSource::Layers { layers: layers(upper), path: "/".into() }),
            mount("/cache", false, MountSource::Folder(shared.clone())),
            mount("/run/secrets/s", true, MountSource::File { content, mode: 0o440, uid: 1, gid: 2 }),
            mount(
                "/dev/pipes",
                true,
                MountSource::Script { name: "E".into(), content: "#!/bin/sh\n:".into() },
            ),
            mount("/t", false, MountSource::Tmpfs { size: Some(1 << 20) }),
            mount("/t/in", false, MountSource::Tmpfs { size: None }),
        ];
        let (exit, output) = bench.run(&spec);
        assert!(matches!(exit, Ok(Exit::Code(0))), "{driver}: {exit:?}: {output}");
        bench.sandbox.finish(&spec.layers).unwrap();
        let mut wrote = tree(&spec.layers.writable.unwrap().upper);
        // The folder of `/etc/hosts` is there as it was below.
        wrote.retain(|path| path != "etc/");
        assert_eq!(wrote, ["wrote"], "{driver}");
        assert_eq!(std::fs::read_to_string(shared.join("new")).unwrap(), "kept\n");
        assert_eq!(std::fs::read_to_string(shared.join("deep/file")).unwrap(), "shared");
    }
}

#[test]
fn places_that_cannot_be_mounted_on_are_named() {
    let Some(bench) = Bench::new() else { return };
    let tmpfs = || MountSource::Tmpfs { size: None };
    let with = |target: &str, source: MountSource| {
        let mut spec = bench.sh("places", "true");
        spec.mounts = vec![mount(target, true, source)];
        bench.run(&spec).0.unwrap_err().to_string()
    };
    let said = with("/proc/1/attr", tmpfs());
    assert!(said.contains("cannot mount over /proc/1/attr"), "{said}");
    symlink("/", bench.folder.path().join("busybox/top")).unwrap();
    let said = with("/top", tmpfs());
    assert!(said.contains("cannot mount over /top") && said.contains("the root"), "{said}");
    let said = with("/bin", MountSource::Script { name: "a/b".into(), content: String::new() });
    assert!(said.contains("/bin"), "{said}");
    let lowers = vec![bench.folder.path().join("busybox")];
    let layers = Layers { lowers, writable: None };
    let file = MountSource::Layers { layers: layers.clone(), path: "/bin/busybox".into() };
    let said = with("/etc", file);
    assert!(said.contains("cannot mount over /etc"), "{said}");
    let said = with("/x", MountSource::Layers { layers, path: "/nothing".into() });
    assert!(said.contains("/nothing") && said.contains("does not exist"), "{said}");
    let mut spec = bench.sh("many", "true");
    spec.mounts = (0..300).map(|number| mount(&format!("/m{number}"), true, tmpfs())).collect();
    assert!(bench.run(&spec).0.is_err());
    assert_eq!(mounts_with(bench.folder.path().to_str().unwrap()), [0u32; 0]);
}

/// The processes that have `mark` among their arguments.
fn processes_with(mark: &str) -> Vec<u32> {
    let of = |entry: std::fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&arguments).split('\0').any(|word| word == mark).then_some(number)
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| of(entry.unwrap())).collect()
}

/// The processes that see a mount of something in `folder`.
fn mounts_with(folder: &str) -> Vec<u32> {
    let of = |entry: std::fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let mounts = std::fs::read(entry.path().join("mountinfo")).ok()?;
        String::from_utf8_lossy(&mounts).contains(folder).then_some(number)
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| of(entry.unwrap())).collect()
}

/// What a command sees of everything that a process inherits.
const INHERITED: &str = "umask; env; cat /proc/self/limits; readlink /proc/self/cwd; \
    grep -E '^(Sig|Shd|Cap|NoNew|Seccomp:|Groups|Uid|Gid)' /proc/1/status; ls /proc/1/fd; \
    readlink /proc/1/fd/0; cut -d' ' -f4-8 /proc/1/stat; cat /proc/1/personality; hostname; id; \
    cat /proc/sys/kernel/domainname; stat -c '%a %u %g %F' / /dev /etc/hosts /etc/resolv.conf /proc /dev/*";

#[test]
fn hostile_parents_change_nothing() {
    let Some(bench) = Bench::new() else { return };
    let output = |mut command: Command| {
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let text = String::from_utf8(done.stdout).unwrap();
        let from = text.find("SAID").unwrap_or_else(|| panic!("{text}"));
        text[from..text.find("DIAS").unwrap()].to_owned()
    };
    let script = format!("echo SAID; {INHERITED}; echo DIAS");
    let friendly = output(bench.actor("run_for_another_test", &script));
    assert!(friendly.contains("0022") && friendly.contains("/dev/null"), "{friendly}");

    let mut first = bench.actor("run_for_another_test", &script);
    first.env("LD_PRELOAD_JUNK", "x").env("HOME", "/nowhere").env("LC_ALL", "tr_TR");
    let gone = bench.folder.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    first.current_dir(&gone);
    let gone_inside = gone.clone();
    // SAFETY: only system calls on values that were made before.
    unsafe { first.pre_exec(move || become_hostile(0o777, &gone_inside)) };
    assert_eq!(output(first), friendly);

    let mut second = bench.actor("run_for_another_test", &script);
    second.stdin(Stdio::piped());
    // SAFETY: only system calls.
    unsafe { second.pre_exec(|| become_hostile(0, Path::new("/nowhere"))) };
    assert_eq!(output(second), friendly);
}

/// Between fork and exec: an odd umask, signals blocked and ignored, low limits, open descriptors, a session
/// of its own, another personality, a working directory that is removed.
fn become_hostile(mask: u32, folder: &Path) -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // SAFETY: plain system calls on local values; this process has one thread.
    unsafe {
        libc::umask(mask);
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        for signal in [libc::SIGPIPE, libc::SIGCHLD, libc::SIGHUP, libc::SIGUSR1, libc::SIGRTMIN()] {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
        libc::nice(0);
        for _ in 0..5 {
            libc::dup(2);
        }
        libc::setgroups(2, [1234, 4321].as_ptr());
    }
    let limit =
        |resource, current| setrlimit(resource, Rlimit { current, ..rustix::process::getrlimit(resource) });
    limit(Resource::Nofile, Some(40))?;
    limit(Resource::Stack, Some(1 << 20))?;
    limit(Resource::Fsize, Some(1 << 40))?;
    limit(Resource::Core, Some(0))?;
    if folder.exists() {
        std::fs::remove_dir(folder)?;
    }
    Ok(())
}

/// Not a test of its own: other tests start it in a process of its own, which they then mistreat.
#[test]
#[ignore = "other tests start it"]
fn run_for_another_test() {
    let read = |name| std::env::var(name).unwrap();
    let folder = PathBuf::from(read("SANDBOX_FOLDER"));
    let program = Path::new(env!("CARGO_BIN_EXE_shipway"));
    let sandbox = Isolated::with_program(&folder, program).unwrap();
    let name = format!("actor-{}", std::process::id());
    let writable =
        Writable { upper: folder.join(&name).join("upper"), work: folder.join(&name).join("work") };
    std::fs::create_dir_all(&writable.upper).unwrap();
    std::fs::create_dir_all(&writable.work).unwrap();
    let layers = Layers { lowers: vec![folder.join("busybox")], writable: Some(writable) };
    let spec = spec(layers, &["/bin/sh", "-c", &read("SANDBOX_SCRIPT")]);
    let exit = sandbox.run(&spec, &mut std::io::stdout(), &Cancel::new().unwrap());
    assert!(matches!(exit, Ok(Exit::Code(0))), "{exit:?}");
}

#[test]
fn nothing_of_the_host_is_reachable() {
    let Some(bench) = Bench::new() else { return };
    let said = bench.says(
        "inside",
        "id; hostname; cat /etc/hosts /etc/resolv.conf; ls /; ls -d /proc/1; \
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
