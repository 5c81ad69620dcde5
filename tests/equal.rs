//! The same image everywhere: two machines that differ in all that must not matter.
//!
//! A machine is a store and a git clone of its own; the clones differ in umask, owner, path, times and the
//! order in which their files were made, the callers in locale, time zone and home.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::scene::{Ran, Scene, ran, skip};

/// How a machine differs from others.
struct Machine {
    umask: u32,
    owner: u32,
    /// How deep the clone lies.
    folder: &'static str,
    variables: &'static [(&'static str, &'static str)],
    /// Files are made in the reverse order, an hour earlier.
    reversed: bool,
}

const ONE: Machine =
    Machine { umask: 0o022, owner: 0, folder: "a", variables: &[("TZ", "UTC")], reversed: false };
const OTHER: Machine = Machine {
    umask: 0o077,
    owner: 4242,
    folder: "somewhere/else/and deeper",
    variables: &[
        ("TZ", "Asia/Tokyo"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("HOME", "/nonexistent"),
        ("USER", "nobody"),
    ],
    reversed: true,
};

fn git(folder: &Path, umask: u32, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*"]).args(arguments);
    command.current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", folder);
    command.env("GIT_COMMITTER_DATE", "1700000000 +0100").env("GIT_AUTHOR_DATE", "1600000000 +0100");
    // SAFETY: umask(2) is async-signal-safe and changes the child alone.
    unsafe {
        command.pre_exec(move || {
            libc::umask(umask);
            Ok(())
        });
    }
    ran(&command.output().unwrap()).ok();
}

const COMPOSE: &str = "services:\n  app:\n    build: .\n  wayward:\n    build: ./wayward\n";

const DOCKERFILE: &str = r#"FROM busybox AS tools
COPY --chmod=u=rwX,go=rX tools /tools
RUN chmod 0700 /tools/run.sh && touch -d @1500000000 /tools/run.sh

FROM busybox
WORKDIR /srv/app
COPY . .
ADD files.tar /unpacked/
COPY --from=tools /tools /tools
COPY <<END /etc/note
a note
END
RUN --mount=type=bind,source=src,target=/src ls -ln /src > /dev/null
CMD ["true"]
"#;

/// A repository with the project; `None` where a test cannot run.
fn origin() -> Option<tempfile::TempDir> {
    if Command::new("git").arg("--version").output().is_err() {
        skip("git");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &[u8]| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("compose.yaml", COMPOSE.as_bytes());
    write("Dockerfile", DOCKERFILE.as_bytes());
    write(".dockerignore", b".git\nwayward\n");
    write("wayward/Dockerfile", b"FROM busybox\nCOPY Dockerfile /\nRUN cat /proc/uptime > /when\n");
    for name in ["src/b/two", "src/a/one", "src/zero", "tools/run.sh", "tools/data"] {
        write(name, name.as_bytes());
    }
    let tool = folder.path().join("tools/run.sh");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("src/zero", folder.path().join("link")).unwrap();
    ran(&Command::new("tar").args(["cf", "files.tar", "src"]).current_dir(folder.path()).output().unwrap())
        .ok();
    git(folder.path(), 0o022, &["init", "--quiet"]);
    git(folder.path(), 0o022, &["add", "."]);
    git(folder.path(), 0o022, &["commit", "--quiet", "-m", "one"]);
    Some(folder)
}

/// The machine's clone, and a scene with its store.
fn clone(machine: &Machine, origin: &Path) -> Option<(Scene, PathBuf)> {
    let scene = Scene::with_busybox()?;
    let folder = scene.project().join(machine.folder);
    fs::create_dir_all(&folder).unwrap();
    git(&folder, machine.umask, &["clone", "--quiet", origin.to_str().unwrap(), "."]);
    let mut files = Vec::new();
    list(&folder, &mut files);
    if machine.reversed {
        // Made again, last first: another order in their folders.
        for path in files.iter().rev().filter(|path| path.is_file() && !path.is_symlink()) {
            let (bytes, mode) = (fs::read(path).unwrap(), path.metadata().unwrap().permissions());
            fs::remove_file(path).unwrap();
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, mode).unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
    }
    for path in files.iter().chain([&folder]) {
        std::os::unix::fs::lchown(path, Some(machine.owner), Some(machine.owner)).unwrap();
    }
    chown(&folder, Some(machine.owner), Some(machine.owner)).unwrap();
    Some((scene, folder))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name == ".git") {
            continue;
        }
        files.push(path.clone());
        if path.is_dir() && !path.is_symlink() {
            list(&path, files);
        }
    }
}

fn shipway(machine: &Machine, (scene, folder): &(Scene, PathBuf), arguments: &[&str]) -> Ran {
    let mut command = scene.command(&[&["--engine", "none"], arguments].concat());
    command.current_dir(folder).envs(machine.variables.iter().copied());
    let umask = machine.umask;
    // SAFETY: umask(2) is async-signal-safe and changes the child alone.
    unsafe {
        command.pre_exec(move || {
            libc::umask(umask);
            Ok(())
        });
    }
    ran(&command.output().unwrap())
}

/// Every step's key, in the order of the graph.
fn keys(machine: &Machine, place: &(Scene, PathBuf)) -> Vec<(String, String)> {
    let plan = shipway(machine, place, &["-p", "same", "plan", "--format", "json"]).ok();
    let steps = plan.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let text = |step: &serde_json::Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    steps.map(|step| (text(&step, "text"), text(&step, "key"))).collect()
}

/// The documents and blobs of an image, by their digests.
fn image(machine: &Machine, place: &(Scene, PathBuf), flags: &[&str]) -> (Vec<String>, String) {
    let folder = place.0.project().join("out");
    let to = format!("type=oci,tar=false,dest={}", folder.display());
    let built = [&["image", "build", "-t", "same:1", "-o", &to], flags, &["."]].concat();
    shipway(machine, place, &built).ok();
    let mut blobs: Vec<_> = fs::read_dir(folder.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    blobs.sort();
    (blobs, fs::read_to_string(folder.join("index.json")).unwrap())
}

#[test]
fn two_machines_make_the_same_image() {
    let Some(origin) = origin() else { return };
    let (Some(one), Some(other)) = (clone(&ONE, origin.path()), clone(&OTHER, origin.path())) else { return };
    let mode = |place: &(Scene, PathBuf), path: &str| {
        fs::metadata(place.1.join(path)).unwrap().permissions().mode() & 0o777
    };
    assert_ne!(mode(&one, "src/zero"), mode(&other, "src/zero"));
    assert_eq!(keys(&ONE, &one), keys(&OTHER, &other));
    let commit = ["--timestamp", "commit"];
    let (mine, theirs) = (image(&ONE, &one, &commit), image(&OTHER, &other, &commit));
    assert_eq!(mine, theirs);
    assert!(mine.1.contains("2023-11-14T22:13:20Z"), "the commit's time: {}", mine.1);
    // And another time gives other bytes.
    assert_ne!(image(&ONE, &one, &["--timestamp", "1"]).1, mine.1);
    shipway(&ONE, &one, &["image", "build", "--timestamp", "yesterday", "."])
        .fails(1, &["--timestamp yesterday: give `commit` or seconds since 1970"]);
}

#[test]
fn what_is_not_tracked_counts_as_it_is() {
    let Some(origin) = origin() else { return };
    let (Some(one), Some(other)) = (clone(&ONE, origin.path()), clone(&OTHER, origin.path())) else { return };
    for (place, mode) in [(&one, 0o644), (&other, 0o600)] {
        let path = place.1.join("src/generated");
        fs::write(&path, "made by a tool").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    assert_ne!(keys(&ONE, &one), keys(&OTHER, &other));
    git(&other.1, 0o022, &["add", "src/generated"]);
    assert_eq!(keys(&ONE, &one), keys(&OTHER, &other));
    // What the user made executable is.
    let tool = other.1.join("src/zero");
    fs::set_permissions(tool, fs::Permissions::from_mode(0o700)).unwrap();
    assert_ne!(keys(&ONE, &one), keys(&OTHER, &other));
}

#[test]
fn a_project_may_count_modes_as_they_are_on_the_disk() {
    let Some(origin) = origin() else { return };
    let (Some(one), Some(other)) = (clone(&ONE, origin.path()), clone(&OTHER, origin.path())) else { return };
    let all = [(&ONE, &one), (&OTHER, &other)];
    let with = |text: &str| {
        for (_, place) in all {
            fs::write(place.1.join("compose.yaml"), format!("{COMPOSE}{text}")).unwrap();
            fs::set_permissions(place.1.join("compose.yaml"), fs::Permissions::from_mode(0o644)).unwrap();
        }
    };
    with("x-shipway:\n  modes: disk\n");
    assert_ne!(keys(&ONE, &one), keys(&OTHER, &other));
    with("x-shipway: {modes: git}\n");
    assert_eq!(keys(&ONE, &one), keys(&OTHER, &other));
    with("x-shipway:\n  modes: gti\n  moods: x\n");
    shipway(&ONE, &one, &["build"]).fails(
        1,
        &[
            "compose.yaml:7",
            "`x-shipway.modes` is `git` or `disk`, not `\"gti\"`",
            "`x-shipway` has no key `moods`",
        ],
    );
    assert_ne!(image(&ONE, &one, &["--modes", "disk"]).0, image(&OTHER, &other, &["--modes", "disk"]).0);
    git(&one.1, 0o022, &["update-index", "--split-index"]);
    let split = one.1.join("src/zero");
    fs::set_permissions(split, fs::Permissions::from_mode(0o600)).unwrap();
    with("");
    shipway(&ONE, &one, &["build", "app"]).ok().says(&["not supported yet: its extension `link`"]);
}
