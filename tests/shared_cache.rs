//! Caches that machines share: what was built anywhere is built nowhere again.
//!
//! Two scenes are two machines: each has a store and a checkout of its own. They meet in a repository of
//! the tests' registry or in a folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scene::{Ran, Scene, needs, number, ran, skip};

/// A registry and a part of its names that nobody else uses.
pub(crate) struct Shelf {
    pub(crate) registry: String,
    name: String,
}

impl Shelf {
    /// The same shelf over another way to the registry.
    pub(crate) fn through(self, address: &str) -> Self {
        Self { registry: address.to_owned(), ..self }
    }

    /// Another shelf of the same registry.
    pub(crate) fn again(&self) -> Self {
        Self { registry: self.registry.clone(), name: format!("{}-{}", self.name, number()) }
    }

    /// The project's compose file.
    pub(crate) fn compose(&self) -> String {
        compose(&|service| self.image(service))
    }

    pub(crate) fn new(name: &str) -> Option<Self> {
        let registry = needs("SHIPWAY_TEST_REGISTRY", "a registry in SHIPWAY_TEST_REGISTRY")?;
        if !rustix::process::geteuid().is_root() {
            skip("root");
            return None;
        }
        Some(Self { registry, name: format!("{name}-{}-{}", std::process::id(), number()) })
    }

    pub(crate) fn cache(&self, tag: &str) -> String {
        format!("type=registry,ref={}/{}/cache:{tag}", self.registry, self.name)
    }

    pub(crate) fn image(&self, service: &str) -> String {
        format!("{}/{}/{service}", self.registry, self.name)
    }

    /// A machine with a checkout of the project and an empty store.
    pub(crate) fn machine(&self) -> Scene {
        let scene = Scene::empty();
        checkout(&scene, &format!("{}/library/busybox:latest", self.registry), &|service| {
            self.image(service)
        });
        scene
    }
}

/// Two services with a common beginning; every RUN gives other bytes each time that it runs.
fn checkout(scene: &Scene, base: &str, image: &dyn Fn(&str) -> String) {
    for service in ["one", "two"] {
        let dockerfile = format!(
            "FROM {base} AS build\nWORKDIR /src\nRUN cat /proc/uptime > /wayward\nCOPY src src\n\
             RUN cat src/* > /out && cat /proc/uptime >> /wayward\n\
             FROM {base}\nCOPY --from=build /out /wayward /app/\nRUN cat /proc/uptime > /last\nCOPY static /static\n\
             ENV SERVICE={service}\nCMD [\"cat\", \"/app/out\"]\n"
        );
        scene.write(&format!("{service}/Dockerfile"), &dockerfile);
        scene.write(&format!("{service}/src/a.txt"), "a\n").write(&format!("{service}/src/b.txt"), service);
        scene.write(&format!("{service}/static/s.txt"), "static\n");
    }
    scene.write("compose.yaml", &compose(image)).age(".");
}

fn compose(image: &dyn Fn(&str) -> String) -> String {
    let mut compose = "services:\n".to_owned();
    for service in ["one", "two"] {
        compose += &format!("  {service}:\n    image: {}\n    build: ./{service}\n", image(service));
    }
    compose
}

pub(crate) fn build(scene: &Scene, flags: &[&str]) -> Ran {
    scene.shipway(&[&["--engine", "none", "--progress", "plain", "build"], flags].concat())
}

/// The instructions that ran.
pub(crate) fn steps(ran: &Ran) -> Vec<String> {
    let done = ran.err.lines().filter_map(|line| line.split_once("  done in "));
    let mut steps: Vec<_> = done
        .filter_map(|(line, _)| line.strip_prefix('#')?.split_once("] "))
        .map(|(_, instruction)| instruction.to_owned())
        .collect();
    steps.sort();
    steps
}

/// What the services' images are: the ids that the command printed.
pub(crate) fn images(ran: &Ran) -> Vec<String> {
    ran.out.lines().map(str::to_owned).collect()
}

fn snapshots(scene: &Scene) -> usize {
    std::fs::read_dir(scene.store().join("snapshots-v1")).map_or(0, Iterator::count)
}

#[test]
fn a_fresh_machine_builds_nothing_and_pulls_no_layer() {
    let Some(shelf) = Shelf::new("fresh") else { return };
    let (one, two) = (shelf.machine(), shelf.machine());
    let cache = shelf.cache("main");
    let first = build(&one, &["--push", "--cache-from", &cache, "--cache-to", &cache]).ok();
    // The base image, two steps that both services have, five that each has for itself.
    assert_eq!(steps(&first).len(), 13, "{}", first.err);
    let first = first.says(&["exported 12 steps to the cache"]);
    let second = build(&two, &["--push", "--cache-from", &cache, "--cache-to", &cache]).ok();
    assert_eq!(steps(&second), Vec::<String>::new(), "{}", second.err);
    assert_eq!(images(&second), images(&first));
    assert_eq!(second.err.matches("nothing to upload").count(), 2, "{}", second.err);
    assert!(!second.err.contains("exported") && !second.err.contains("pull "), "{}", second.err);
    assert_eq!(snapshots(&two), 0);
    // Where the image itself is wanted, its layers come.
    let third = build(&two, &["--cache-from", &cache]).ok();
    assert_eq!((steps(&third), images(&third)), (Vec::new(), images(&first)));
    assert!(snapshots(&two) > 0);
    // And then nobody is asked any more.
    let mut nobody = two.command(&["--engine", "none", "--offline", "--progress", "plain", "build"]);
    assert_eq!(images(&ran(&nobody.output().unwrap()).ok()), images(&first));
}

#[test]
fn what_changed_is_built_on_what_is_fetched() {
    let Some(shelf) = Shelf::new("changed") else { return };
    let (one, two, three) = (shelf.machine(), shelf.machine(), shelf.machine());
    let cache = shelf.cache("main");
    let first = build(&one, &["--cache-to", &cache]).ok();
    two.write("one/static/s.txt", "changed\n");
    let second = build(&two, &["--push", "--cache-from", &cache, "--cache-to", &cache]).ok();
    assert_eq!(steps(&second), ["COPY static /static"], "{}", second.err);
    assert_eq!(images(&second)[1], images(&first)[1]);
    second.says(&["exported a step"]);
    // The stage that only the other steps needed stayed where it was.
    let wayward = two.shipway(&["cache", "du", "-v"]).ok().out;
    assert!(!wayward.contains("/wayward"), "{wayward}");
    three.write("one/static/s.txt", "changed\n");
    let third = build(&three, &["--cache-from", &cache]).ok();
    assert_eq!(steps(&third), Vec::<String>::new(), "{}", third.err);
    // A change in the first stage is built on the steps before it.
    three.write("two/src/a.txt", "other\n");
    let fourth = build(&three, &["--cache-from", &cache]).ok();
    let expected =
        ["COPY --from=build", "COPY src src", "COPY static", "RUN cat /proc/uptime > /last", "RUN cat src/*"];
    assert_eq!(steps(&fourth).len(), expected.len(), "{}", fourth.err);
    assert!(
        steps(&fourth).iter().zip(expected).all(|(step, begin)| step.starts_with(begin)),
        "{}",
        fourth.err
    );
    fourth.says(&["`src/a.txt` modified"]);
}

#[test]
fn branches_fall_back_to_main_and_keep_what_is_theirs() {
    let Some(shelf) = Shelf::new("branch") else { return };
    let (main, branch, again) = (shelf.machine(), shelf.machine(), shelf.machine());
    build(&main, &["--cache-to", &shelf.cache("main")]).ok();
    let (ours, theirs) = (shelf.cache("feature"), shelf.cache("main"));
    let flags = ["--cache-from", &ours, "--cache-from", &theirs, "--cache-to", &ours];
    branch.write("two/static/s.txt", "branch\n");
    let built = build(&branch, &flags).ok().says(&["cache:main", "exported a step", "cache:feature"]);
    assert_eq!(steps(&built), ["COPY static /static"]);
    again.write("two/static/s.txt", "branch\n");
    let built = build(&again, &flags).ok().says(&["cache:main", "cache:feature"]);
    assert_eq!(steps(&built), Vec::<String>::new());
}

#[test]
fn a_build_that_fails_keeps_what_it_did() {
    let Some(shelf) = Shelf::new("failing") else { return };
    let (one, two) = (shelf.machine(), shelf.machine());
    let cache = shelf.cache("main");
    for machine in [&one, &two] {
        let base = format!("{}/library/busybox:latest", shelf.registry);
        machine.write("one/Dockerfile", &format!("FROM {base}\nRUN echo kept > /kept\nRUN false\n"));
    }
    build(&one, &["one", "--cache-to", &cache]).fails(1, &["exported a step"]);
    let again = build(&two, &["one", "--cache-from", &cache]);
    assert_eq!((again.code, steps(&again)), (Some(1), Vec::new()), "{}", again.err);
}

#[test]
fn forced_steps_take_the_place_of_what_was_kept() {
    let Some(shelf) = Shelf::new("forced") else { return };
    let (one, two, three) = (shelf.machine(), shelf.machine(), shelf.machine());
    let cache = shelf.cache("main");
    let first = build(&one, &["--cache-to", &cache]).ok();
    let forced = build(&two, &["--no-cache", "--cache-from", &cache, "--cache-to", &cache]).ok();
    assert_eq!(steps(&forced).len(), 13, "{}", forced.err);
    assert_ne!(images(&forced), images(&first));
    let third = build(&three, &["--cache-from", &cache]).ok();
    assert_eq!((steps(&third), images(&third)), (Vec::new(), images(&forced)));
}

#[test]
fn other_programs_read_images_and_entries() {
    let Some(shelf) = Shelf::new("readers") else { return };
    let one = shelf.machine();
    build(&one, &["--push", "--cache-to", &shelf.cache("main")]).ok();
    let repository = format!("docker://{}/{}/cache", shelf.registry, shelf.name);
    let skopeo = |arguments: &[&str]| ran(&Command::new("skopeo").args(arguments).output().unwrap()).ok();
    let tags = skopeo(&["list-tags", "--tls-verify=false", &repository]).out;
    let tags: Vec<&str> = tags.split('"').filter(|tag| tag.starts_with("main-")).collect();
    // One for each step, and one for the base image.
    assert_eq!(tags.len(), 13, "{tags:?}");
    let folder = tempfile::tempdir().unwrap();
    for (number, tag) in tags.iter().enumerate() {
        let to = format!("oci:{}:{number}", folder.path().display());
        skopeo(&["copy", "--src-tls-verify=false", "--quiet", &format!("{repository}:{tag}"), &to]);
    }
    let Some(engine) = needs("SHIPWAY_TEST_DOCKER_HOST", "a Docker Engine") else { return };
    let docker = |arguments: &[&str]| {
        ran(&Command::new("docker").args(arguments).env("DOCKER_HOST", &engine).output().unwrap())
    };
    let entries = tags.iter().map(|tag| format!("{}/{}/cache:{tag}", shelf.registry, shelf.name));
    for name in entries.chain([shelf.image("one")]) {
        docker(&["pull", "-q", &name]).ok();
        let listed = docker(&["run", "--rm", &name, "sh", "-c", "ls /"]).ok();
        assert!(listed.out.contains("bin"), "{name}: {}", listed.out);
        docker(&["image", "rm", "-f", &name]).ok();
    }
}

/// A machine that has its base image from a file.
fn offline_machine() -> Option<Scene> {
    let scene = Scene::with_busybox()?;
    checkout(&scene, "busybox", &|service| format!("sc-{service}"));
    Some(scene)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    files
}

#[test]
fn a_folder_that_is_restored_serves_as_well() {
    let (Some(one), Some(two)) = (offline_machine(), offline_machine()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("cache");
    let (from, to) =
        (format!("type=local,src={}", place.display()), format!("type=local,dest={}", place.display()));
    let first = build(&one, &["--cache-from", &from, "--cache-to", &to]).ok();
    assert_eq!(steps(&first).len(), 12, "{}", first.err);
    let second = build(&two, &["--cache-from", &from, "--cache-to", &to]).ok();
    assert_eq!((steps(&second), images(&second)), (Vec::new(), images(&first)), "{}", second.err);
    // Nothing changed: not even the folder is looked at.
    std::fs::remove_dir_all(&place).unwrap();
    let third = build(&two, &["--cache-from", &from, "--cache-to", &to]).ok();
    assert_eq!((steps(&third), images(&third)), (Vec::new(), images(&first)));
    assert!(!place.exists());
}

/// What befalls a file.
type Harm<'h> = &'h dyn Fn(&Path);

/// Bytes of a place that are lost or damaged: what they held is built, and the image is right.
#[test]
fn what_a_place_lost_is_built() {
    let (Some(one), folder) = (offline_machine(), tempfile::tempdir().unwrap()) else { return };
    let to = format!("type=local,dest={}", folder.path().display());
    let from = format!("type=local,src={}", folder.path().display());
    build(&one, &["--cache-to", &to]).ok();
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    let change = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let empty = |path: &Path| std::fs::write(path, "").unwrap();
    let harms: [(&str, Harm); 3] = [("removed", &remove), ("changed", &change), ("emptied", &empty)];
    for (what, harm) in harms {
        // One piece at a time: documents, configs and layers alike.
        for path in files(folder.path()).into_iter().step_by(3) {
            harm(&path);
            let Some(two) = offline_machine() else { return };
            build(&two, &["--cache-from", &from, "--cache-to", &to]).ok();
            let out = two.shipway(&["--engine", "none", "image", "build", "-q", "-o", "out", "one"]).ok();
            let made = std::fs::read_to_string(two.project().join("out/app/out")).unwrap();
            assert_eq!(made, "a\none", "{what} {}: {}", path.display(), out.err);
            // Who built it has mended the place.
            let Some(three) = offline_machine() else { return };
            let found = build(&three, &["--cache-from", &from]).ok();
            assert_eq!(steps(&found), Vec::<String>::new(), "{what} {}: {}", path.display(), found.err);
        }
    }
}

#[test]
fn a_place_that_does_not_answer_is_a_warning_unless_it_is_insisted_on() {
    let Some(one) = offline_machine() else { return };
    // Nobody listens there.
    let nowhere = "127.0.0.1:9/cache";
    let (from, to) = (format!("type=registry,ref={nowhere}"), format!("type=registry,ref={nowhere}"));
    let built = build(&one, &["--cache-from", &from, "--cache-to", &to]).ok();
    let warned = built.err.lines().filter(|line| line.contains(nowhere)).count();
    assert_eq!(warned, 2, "{}", built.err);
    assert!(built.err.contains("going on without the cache") && built.err.contains("was not filled"));
    one.write("one/static/s.txt", "new\n");
    let insisted = format!("{to},ignore-error=false");
    build(&one, &["--cache-to", &insisted]).fails(1, &["cannot fill the cache", nowhere]);
    // A step that fails is what is told, whatever becomes of the cache.
    let dockerfile = std::fs::read_to_string(one.project().join("one/Dockerfile")).unwrap();
    one.write("one/Dockerfile", "FROM busybox\nRUN true\nRUN exit 7\n");
    let failed = build(&one, &["one", "--cache-to", &insisted]).fails(1, &["RUN exit 7", nowhere]);
    assert!(
        failed.err.trim_end().lines().last().is_some_and(|line| !line.contains(nowhere)),
        "{}",
        failed.err
    );
    one.write("one/Dockerfile", &dockerfile);
    // Where nothing changed nobody is asked.
    one.shipway(&["--engine", "none", "build"]).ok();
    let quiet = build(&one, &["--cache-from", &from]).ok();
    assert!(!quiet.err.contains(nowhere), "{}", quiet.err);
}

#[test]
fn the_compose_file_names_caches_too() {
    let (Some(one), Some(two)) = (offline_machine(), offline_machine()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    for machine in [&one, &two] {
        let build = format!(
            "build:\n      context: ./one\n      cache_from: [\"type=local,src={place}\", \"type=gha,scope=x\"]\n      \
             cache_to: [\"type=local,dest={place}\"]\n"
        );
        machine.write("compose.yaml", &format!("services:\n  one:\n    {build}"));
    }
    let said = ["compose.yaml:5", "a cache of type `gha`; it has no effect"];
    let first = build(&one, &[]).ok().says(&said);
    assert_eq!(steps(&first).len(), 7);
    let second = build(&two, &[]).ok();
    assert_eq!((steps(&second), images(&second)), (Vec::new(), images(&first)), "{}", second.err);
    one.write(
        "compose.yaml",
        "services:\n  one:\n    build:\n      context: ./one\n      cache_from: [\"type=local\"]\n",
    );
    build(&one, &[]).fails(1, &["compose.yaml:5", "a local cache needs src=FOLDER"]);
    build(&two, &["--cache-to", "type=inline"]).fails(1, &["--cache-to type=inline: not supported yet"]);
}

/// `SOURCE_DATE_EPOCH` acts on layers that came from a cache as on those that were built here.
#[test]
fn times_are_cut_whatever_the_cache_has() {
    let (Some(one), Some(two), Some(three)) = (offline_machine(), offline_machine(), offline_machine())
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let to = format!("type=local,dest={}", folder.path().display());
    let from = format!("type=local,src={}", folder.path().display());
    let dockerfile = "FROM busybox\nCOPY src /src\nCOPY static /static\n";
    for machine in [&one, &two, &three] {
        machine.write("one/Dockerfile", dockerfile).age("one/src");
    }
    build(&one, &["one", "--cache-to", &to]).ok();
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1000000000"];
    let cached = build(&two, &[&["one", "--cache-from", &from], &epoch[..]].concat()).ok();
    assert_eq!(steps(&cached), Vec::<String>::new());
    let built = build(&three, &[&["one"], &epoch[..]].concat()).ok();
    assert_eq!(steps(&built).len(), 2);
    assert_eq!(images(&cached), images(&built));
    // The same for a time that all files get, which these are older than.
    let stamp = ["--timestamp=1900000000"];
    let cached = build(&two, &[&["one", "--cache-from", &from], &stamp[..]].concat()).ok();
    let built = build(&three, &[&["one"], &stamp[..]].concat()).ok();
    assert_eq!(images(&cached), images(&built));
}

/// A layer that `--timestamp` gave its times is taken from a cache as it is.
#[test]
fn layers_of_a_timestamp_come_as_they_are() {
    let (Some(one), Some(two)) = (offline_machine(), offline_machine()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let to = format!("type=local,dest={}", folder.path().display());
    let from = format!("type=local,src={}", folder.path().display());
    for machine in [&one, &two] {
        machine.write("one/Dockerfile", "FROM busybox\nCOPY src /src\nCOPY static /static\n");
    }
    one.age("one/src");
    let stamp = "--timestamp=1500000000";
    let built = build(&one, &["one", stamp, "--cache-to", &to]).ok();
    let cached = build(&two, &["one", stamp, "--cache-from", &from]).ok();
    assert_eq!(steps(&cached), Vec::<String>::new());
    assert_eq!(images(&cached), images(&built));
}
