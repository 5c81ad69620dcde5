//! Equal everywhere: two machines whose users, umasks, clocks, paths and orders of files differ have the same
//! keys and make the same images.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::scene::{Ran, needs, ran, skip};

/// When the commit of [`repository`] was made.
const COMMITTED: i64 = 1_700_000_000;

const COMPOSE: &str = "\
name: equal
services:
  app: {build: ., image: app}
  tool: {build: {context: sub, dockerfile: ../Dockerfile.tool}, image: tool}
  wayward: {build: {context: ., dockerfile: Dockerfile.wayward}, image: wayward}
";

const APP: &str = "\
FROM busybox AS build
WORKDIR /src/deep
COPY . .
COPY --chmod=g+w scripts /scripts
RUN mkdir -p /out/made && cp -r data /out/made && echo $HOME $(umask) > /out/made/env && ln -s env /out/made/link
FROM busybox
ENV A=1
WORKDIR /srv/app
COPY --from=build /out .
COPY --chmod=0640 --chown=5:6 data/a data/b ./owned/
ADD things.tar /things/
RUN --mount=type=bind,source=data,target=/bound ls -ln /bound > /dev/null
COPY <<END /etc/note
text
END
COPY --link scripts /linked/
RUN chmod 700 /linked/run.sh && date -r /srv/app/made/env > /dev/null
CMD [\"/linked/run.sh\"]
";

const TOOL: &str = "FROM scratch\nCOPY . /all/\nCOPY --parents deep/*/c /with/\nLABEL a=b\n";

const WAYWARD: &str = "\
FROM busybox
RUN cat /proc/sys/kernel/random/uuid > /wayward
COPY data /data/
RUN cp -r /data /copy
";

/// One machine: a checkout, a store, and all that is its own.
struct Machine {
    checkout: PathBuf,
    store: PathBuf,
    home: PathBuf,
    umask: &'static str,
    surroundings: &'static [(&'static str, &'static str)],
}

impl Machine {
    fn new(
        folder: &Path,
        checkout: &str,
        umask: &'static str,
        surroundings: &'static [(&'static str, &'static str)],
    ) -> Self {
        let (store, home) = (folder.join("store"), folder.join("home"));
        fs::create_dir_all(&home).unwrap();
        Self { checkout: folder.join(checkout), store, home, umask, surroundings }
    }

    /// Runs a line of shell in the checkout, as this machine does.
    fn shell(&self, line: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("umask {}; {line}", self.umask)).arg("sh").args(arguments);
        command.current_dir(&self.checkout).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", &self.home).env("SHIPWAY_STORE", &self.store).env("NO_COLOR", "1");
        command.env("GIT_CONFIG_NOSYSTEM", "1").envs(self.surroundings.iter().copied());
        command.env("DOCKER_HOST", format!("unix://{}/no.sock", self.home.display()));
        ran(&command.output().unwrap())
    }

    fn shipway(&self, arguments: &[&str]) -> Ran {
        let program = env!("CARGO_BIN_EXE_shipway");
        self.shell("exec \"$@\"", &[&[program, "--engine", "none"], arguments].concat())
    }

    /// The keys of all steps that a service needs, by their names.
    fn keys(&self, service: &str) -> BTreeMap<String, String> {
        let plan = self.shipway(&["plan", "--format", "json", service]).ok();
        let steps = plan.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let text = |step: &Value, name: &str| step[name].as_str().unwrap_or_default().to_owned();
        let named = |step: Value| (text(&step, "step"), text(&step, "key"));
        steps.map(named).collect()
    }

    /// Builds the image of a Dockerfile; digests of its manifest and of everything that is in it.
    fn image(&self, arguments: &[&str]) -> (String, Vec<String>) {
        let _ = fs::remove_dir_all(self.home.join("layout"));
        let output = format!("type=oci,tar=false,dest={}/layout", self.home.display());
        let flags = ["image", "build", "-t", "a:1", "--timestamp=commit", "-o", &output];
        self.shipway(&[&flags[..], arguments].concat()).ok();
        let index = fs::read_to_string(self.home.join("layout/index.json")).unwrap();
        let blobs = fs::read_dir(self.home.join("layout/blobs/sha256")).unwrap();
        let mut blobs: Vec<String> =
            blobs.map(|blob| blob.unwrap().file_name().into_string().unwrap()).collect();
        blobs.sort();
        (index, blobs)
    }
}

/// Two checkouts of one repository by machines that differ in all that must not matter.
fn machines() -> Option<(tempfile::TempDir, [Machine; 2])> {
    let busybox = needs("SHIPWAY_TEST_BUSYBOX_TAR", "SHIPWAY_TEST_BUSYBOX_TAR")?;
    if !rustix::process::geteuid().is_root() || Command::new("git").arg("--version").output().is_err() {
        skip("root and git");
        return None;
    }
    let folder = match std::env::var_os("SHIPWAY_TEST_SCRATCH") {
        Some(scratch) => tempfile::tempdir_in(scratch).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let origin = folder.path().join("origin");
    repository(&origin);
    let path = |name: &str| folder.path().join(name);
    let one = Machine::new(&path("one"), "project", "022", &[("LC_ALL", "C"), ("TZ", "UTC")]);
    let two = Machine::new(
        &path("two"),
        "another place/of work",
        "077",
        &[("LC_ALL", "tr_TR.UTF-8"), ("LANG", "de_DE.UTF-8"), ("TZ", "Asia/Kathmandu"), ("USER", "b")],
    );
    fs::create_dir_all(&one.checkout).unwrap();
    fs::create_dir_all(&two.checkout).unwrap();
    let origin = origin.to_str().unwrap();
    // Half of it is older than the commit, as where it was written.
    let one_way = "git -c safe.directory='*' clone -q \"$1\" . \
        && find data scripts/run.sh sub/deep -exec touch -h -d '2001-02-03 04:05:06' {} +";
    one.shell(one_way, &[origin]).ok();
    // Each file by itself, the last one first, at other times, by somebody else.
    let other_way = "git -c safe.directory='*' clone -q -n \"$1\" . \
        && git ls-tree -r --name-only HEAD | sort -r | while read -r path; do git checkout -q HEAD -- \"$path\"; done \
        && find . -name .git -prune -o -exec touch -h -d '2031-05-06 07:08:09' {} + \
        && ln -f data/a data/same && chown -R 1234:4321 . && chmod g+s data sub && chmod u+s scripts/run.sh";
    two.shell(other_way, &[origin]).ok();
    for machine in [&one, &two] {
        machine.shipway(&["image", "import", &busybox, "busybox:latest"]).ok();
    }
    let noted = two.checkout.join("data/b");
    // Where the file system knows such attributes they make no difference.
    let _ = rustix::fs::setxattr(noted, "user.note", b"two", rustix::fs::XattrFlags::empty());
    Some((folder, [one, two]))
}

/// What both check out, in one commit.
fn repository(folder: &Path) {
    let files = [
        ("compose.yaml", COMPOSE),
        ("Dockerfile", APP),
        ("Dockerfile.tool", TOOL),
        ("Dockerfile.wayward", WAYWARD),
        (".dockerignore", "**/.git\nDockerfile*\n"),
        ("data/a", "same"),
        ("data/same", "same"),
        ("data/b", "b"),
        ("data/in/deep/c", "c"),
        ("scripts/run.sh", "#!/bin/sh\n"),
        ("scripts/text", "text"),
        ("sub/deep/x/c", "c"),
        ("sub/tool", "tool"),
    ];
    for (path, text) in files {
        fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
        fs::write(folder.join(path), text).unwrap();
    }
    for path in ["scripts/run.sh", "sub/tool"] {
        fs::set_permissions(folder.join(path), Permissions::from_mode(0o755)).unwrap();
    }
    std::os::unix::fs::symlink("../data/a", folder.join("scripts/link")).unwrap();
    let mut tar = tar::Builder::new(fs::File::create(folder.join("things.tar")).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o640);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_900_000_000);
    header.set_cksum();
    tar.append_data(&mut header, "inside/thing", &b"abc"[..]).unwrap();
    tar.into_inner().unwrap();
    let date = format!("{COMMITTED} -0700");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments).current_dir(folder);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent");
        command.env("GIT_AUTHOR_DATE", "1500000000 +0000").env("GIT_COMMITTER_DATE", &date);
        ran(&command.output().unwrap()).ok();
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "all"]);
}

#[test]
fn keys_are_equal_on_every_machine() {
    let Some((_folder, [one, two])) = machines() else { return };
    for service in ["app", "tool", "wayward"] {
        let keys = one.keys(service);
        assert!(keys.len() > 1 && keys.values().all(|key| !key.is_empty()), "{keys:?}");
        assert_eq!(keys, two.keys(service), "{service}");
    }
    [&one, &two].iter().for_each(|machine| drop(machine.shipway(&["build"]).ok()));
    for service in ["app", "tool"] {
        assert_eq!(one.keys(service), two.keys(service), "{service}, built");
    }
}

#[test]
fn images_are_equal_on_every_machine() {
    let Some((folder, [one, two])) = machines() else { return };
    for arguments in [&["."][..], &["-f", "Dockerfile.tool", "sub"], &["--target", "build", "."]] {
        let (first, second) = (one.image(arguments), two.image(arguments));
        assert_eq!(first, second, "{arguments:?}");
        assert!(first.1.len() > 2, "{first:?}");
    }
    // Everything is of the commit's time.
    one.shipway(&[
        "image",
        "build",
        "--timestamp=commit",
        "-f",
        "Dockerfile.tool",
        "-o",
        "type=tar,dest=../out.tar",
        "sub",
    ])
    .ok();
    let bytes = fs::read(folder.path().join("one/out.tar")).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let times: Vec<u64> =
        archive.entries().unwrap().map(|entry| entry.unwrap().header().mtime().unwrap()).collect();
    assert!(
        times.contains(&(COMMITTED as u64)) && times.iter().all(|time| *time <= COMMITTED as u64),
        "{times:?}"
    );
}

/// The time of a commit is asked of git once; seconds are taken as they are; arguments win.
#[test]
fn the_time_of_a_commit_is_known_after_the_first_time() {
    let Some((_folder, [one, two])) = machines() else { return };
    let created = |machine: &Machine, more: &[&str]| {
        let flags = ["image", "build", "-t", "a:1", "-f", "Dockerfile.tool"];
        machine.shipway(&[&flags[..], more, &["sub"]].concat()).ok();
        let shown = machine.shipway(&["image", "inspect", "a:1"]).ok();
        let shown: Value = serde_json::from_str(&shown.out).unwrap();
        shown[0]["Created"].as_str().unwrap_or_default().to_owned()
    };
    let committed = "2023-11-14T22:13:20Z";
    assert_eq!(created(&one, &["--timestamp=commit"]), committed);
    // Without git, and without its objects, the time is known.
    fs::rename(one.checkout.join(".git/objects"), one.checkout.join(".git/gone")).unwrap();
    assert_eq!(created(&one, &["--timestamp", "commit"]), committed);
    assert_eq!(created(&one, &["--timestamp=86400"]), "1970-01-02T00:00:00Z");
    let argument = ["--timestamp=commit", "--build-arg", "SOURCE_DATE_EPOCH=1"];
    assert_eq!(created(&one, &argument), "1970-01-01T00:00:01Z");
    let refused = ["image", "build", "--timestamp=soon", "sub"];
    one.shipway(&refused).fails(1, &["--timestamp soon: give `commit` or seconds since 1970"]);
    fs::rename(two.checkout.join(".git"), two.home.join("git")).unwrap();
    let nowhere = ["image", "build", "--timestamp=commit", "sub"];
    two.shipway(&nowhere).fails(1, &["is in no git repository"]);
    two.shipway(&["build", "--timestamp=commit"]).fails(1, &["is in no git repository"]);
}

#[test]
fn what_is_not_tracked_counts_as_it_is_and_a_project_may_choose_that_for_all() {
    let Some((_folder, [one, two])) = machines() else { return };
    let same = |service: &str| one.keys(service) == two.keys(service);
    assert!(same("tool"));
    for machine in [&one, &two] {
        fs::write(machine.checkout.join("sub/loose"), "loose").unwrap();
    }
    fs::set_permissions(two.checkout.join("sub/loose"), Permissions::from_mode(0o600)).unwrap();
    assert!(!same("tool"), "the mode of what is not tracked counts");
    two.shell("git -c safe.directory='*' add sub/loose", &[]).ok();
    assert!(same("tool"), "tracked on one machine, and with git's mode on the other");
    fs::set_permissions(two.checkout.join("sub/loose"), Permissions::from_mode(0o700)).unwrap();
    assert!(!same("tool"), "what the user made executable is");
    for machine in [&one, &two] {
        fs::remove_file(machine.checkout.join("sub/loose")).unwrap();
        let text = format!("{COMPOSE}x-shipway: {{modes: disk}}\n");
        fs::write(machine.checkout.join("compose.yaml"), text).unwrap();
    }
    assert!(!same("tool"), "modes of the disk");
    let said = ["`x-shipway.modes` must be `git` or `disk`, not `dsik`", "did you mean `disk`?", "^"];
    fs::write(one.checkout.join("compose.yaml"), format!("{COMPOSE}x-shipway: {{modes: dsik}}\n")).unwrap();
    one.shipway(&["plan"]).fails(1, &said);
    let image =
        |machine: &Machine, modes: &str| machine.image(&["--modes", modes, "-f", "Dockerfile.tool", "sub"]);
    assert_eq!(image(&one, "git"), image(&two, "git"));
    assert_ne!(image(&one, "disk"), image(&two, "disk"));
}

/// What of a repository is not understood is said once, and the disk counts.
#[test]
fn an_index_that_cannot_be_read_is_a_warning() {
    let Some((_folder, [_, two])) = machines() else { return };
    two.shell("git -c safe.directory='*' update-index --split-index", &[]).ok();
    let built = two.shipway(&["build"]).ok().says(&["not supported yet: its extension `link`"]);
    assert_eq!(built.err.matches("extension `link`").count(), 1, "{}", built.err);
}

/// A build in which nothing changed opens nothing of the repository and writes nothing, under any umask.
#[test]
fn a_no_op_reads_nothing_of_the_repository() {
    let Some((_folder, [one, two])) = machines() else { return };
    if !crate::scene::has_strace() {
        return;
    }
    for machine in [&one, &two] {
        machine.shipway(&["build", "tool"]).ok();
        // What was too young to be kept in the first is kept now.
        machine.shipway(&["build", "tool"]).ok();
        let trace = machine.home.join("trace");
        let traced = ["-f", "-qq", "-e", "trace=open,openat,openat2,execve", "-o", trace.to_str().unwrap()];
        let program = [env!("CARGO_BIN_EXE_shipway"), "--engine", "none", "build", "tool"];
        machine.shell("exec strace \"$@\"", &[&traced[..], &program].concat()).ok();
        let text = fs::read_to_string(&trace).unwrap();
        let opened: Vec<&str> = text.lines().filter(|line| line.contains("/.git")).collect();
        assert!(opened.is_empty(), "{opened:?}");
        assert_eq!(text.matches("execve(").count(), 1, "no process");
    }
}
