//! The store: who needs what, what a prune takes, the cap, damage, and collectors beside builds.

use std::path::Path;
use std::process::Stdio;

use crate::scene::{Ran, Scene, needs, ran, until};

/// Builds the project without an engine.
fn build(scene: &Scene, more: &[&str]) -> Ran {
    scene.shipway(&[&["--engine", "none", "--progress", "plain", "build"], more].concat())
}

fn du(scene: &Scene) -> serde_json::Value {
    serde_json::from_str(&scene.shipway(&["cache", "du", "-v", "--format", "json"]).ok().out).unwrap()
}

/// A part of `cache du` for a service.
fn service<'d>(du: &'d serde_json::Value, name: &str) -> &'d serde_json::Value {
    let services = du["services"].as_array().unwrap();
    services.iter().find(|service| service["service"] == name).unwrap_or_else(|| panic!("no {name}: {du}"))
}

/// Two services on the same beginning, each with a stage that no image name holds and a megabyte of its own.
fn two_services(scene: &Scene) {
    let dockerfile = |name: &str| {
        format!(
            "FROM busybox AS shared\nRUN head -c 1000000 /dev/urandom > /shared\n\
             FROM shared AS made\nRUN head -c 2000000 /dev/urandom > /{name}\n\
             FROM shared\nCOPY --from=made /{name} /{name}\n"
        )
    };
    scene
        .write("compose.yaml", "services:\n  one:\n    build: ./one\n  two:\n    build: ./two\n")
        .write("one/Dockerfile", &dockerfile("one"))
        .write("two/Dockerfile", &dockerfile("two"))
        .age(".");
}

#[test]
fn services_share_what_they_stand_on() {
    let Some(scene) = Scene::with_busybox() else { return };
    two_services(&scene);
    build(&scene, &[]).ok();
    let du = du(&scene);
    for name in ["one", "two"] {
        let share = service(&du, name);
        let (own, shared) = (share["own_bytes"].as_u64().unwrap(), share["shared_bytes"].as_u64().unwrap());
        // The stage, and what was copied from it; the base and the shared step below.
        assert!((4_000_000..4_500_000).contains(&own), "{share}");
        assert!(shared > 2_000_000, "{share}");
        assert_eq!((&share["project"], share["pieces"].as_u64()), (&"project".into(), Some(5)), "{share}");
    }
    let pieces = du["pieces"].as_array().unwrap();
    let held = |text: &str| {
        pieces.iter().any(|piece| piece["steps"].as_array().unwrap().iter().any(|step| step == text))
    };
    assert!(held("project/one made/1") && held("project/two made/1"), "{du}");
    let text = scene.shipway(&["cache", "du"]).ok().out;
    assert!(text.contains("project/one") && text.contains("(no service)"), "{text}");
}

#[test]
fn a_prune_takes_what_nobody_needs_and_with_all_what_no_name_holds() {
    let Some(scene) = Scene::with_busybox() else { return };
    two_services(&scene);
    build(&scene, &[]).ok();
    let prune = |more: &[&str]| scene.shipway(&[&["cache", "prune", "-f"], more].concat()).ok().out;
    // What the last builds gave stays; a build of before is what goes.
    assert!(!prune(&[]).contains("record of"));
    assert!(build(&scene, &[]).ok().err.contains("nothing changed"));
    scene.write("one/Dockerfile", "FROM busybox\nRUN echo changed > /changed\n").age("one");
    build(&scene, &["one"]).ok();
    let dry = scene.shipway(&["--dry-run", "cache", "prune"]).ok().out;
    assert!(dry.contains("nothing holds it") && dry.contains("Would free: 4"), "{dry}");
    let freed = prune(&[]);
    assert_eq!(freed.replace("Freed", "Would free"), dry);
    assert!(build(&scene, &[]).ok().err.contains("nothing changed"));
    // With all the stages go, and the images that have names are hits all the same.
    assert!(prune(&["--all", "--filter", "until=24h"]).starts_with("Freed: 0B"));
    assert!(prune(&["-a", "--keep-storage", "1TB"]).starts_with("Freed: 0B"));
    assert!(prune(&["-a"]).contains("Freed: 2"));
    let images = scene.shipway(&["image", "ls", "-q"]).ok().out;
    assert_eq!(images.lines().count(), 3, "{images}");
    let again = build(&scene, &[]).ok();
    assert!(again.err.contains("nothing changed"), "{}", again.err);
    let export = scene.shipway(&["image", "save", "-o", "two.tar", "project-two"]);
    assert!(export.ok().err.is_empty() && scene.project().join("two.tar").exists());
}

#[test]
fn what_was_pruned_is_built_again_and_says_so() {
    let Some(scene) = Scene::with_busybox() else { return };
    two_services(&scene);
    build(&scene, &[]).ok();
    scene.shipway(&["image", "rm", "project-one"]).ok();
    scene.shipway(&["cache", "prune", "-f", "-a"]).ok();
    let again = build(&scene, &[]).ok();
    assert!(again.err.contains("because its result was evicted"), "{}", again.err);
    assert_eq!(scene.shipway(&["image", "ls", "-q"]).ok().out.lines().count(), 3);
}

#[test]
fn a_pruned_store_needs_no_network_where_nothing_changed() {
    let Some(registry) = needs("SHIPWAY_TEST_REGISTRY", "a registry (SHIPWAY_TEST_REGISTRY)") else { return };
    let Some(scene) = Scene::as_root() else { return };
    scene
        .write("compose.yaml", "services:\n  one:\n    build: .\n")
        .write("Dockerfile", &format!("FROM {registry}/library/busybox:latest\nRUN echo made > /made\n"))
        .age(".");
    build(&scene, &[]).ok();
    scene.shipway(&["cache", "prune", "-f", "-a"]).ok();
    let again = scene.shipway(&["--offline", "--engine", "none", "--progress", "plain", "build"]).ok();
    assert!(again.err.contains("nothing changed"), "{}", again.err);
    let held = scene.shipway(&["cache", "du", "-v"]).ok().out;
    assert!(held.contains("pin of "), "{held}");
}

/// Makes the records that mention this look as if they had last been used so many hours ago.
fn age_records(scene: &Scene, mark: &str, hours: u64) {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
    for bucket in ["records-v1", "canonical-v1"] {
        for shard in std::fs::read_dir(scene.store().join(bucket)).unwrap() {
            for record in std::fs::read_dir(shard.unwrap().path()).unwrap() {
                let path = record.unwrap().path();
                if std::fs::read_to_string(&path).unwrap().contains(mark) {
                    std::fs::File::open(path).unwrap().set_modified(then).unwrap();
                }
            }
        }
    }
}

#[test]
fn the_cap_takes_the_older_project_first_and_leaves_names() {
    let Some(scene) = Scene::with_busybox() else { return };
    let build = |project: &str, limit: &str| {
        let arguments = ["--engine", "none", "--progress", "plain", "-p", project, "build"];
        ran(&scene.command(&arguments).env("SHIPWAY_CACHE_LIMIT", limit).output().unwrap())
    };
    let dockerfile = |name: &str| {
        format!(
            "FROM busybox AS made\nRUN head -c 4000000 /dev/urandom > /{name}\n\
             FROM busybox\nCOPY --from=made /bin/busybox /{name}\n"
        )
    };
    let project = |name: &str| {
        scene
            .write("compose.yaml", "services:\n  web:\n    build: .\n")
            .write("Dockerfile", &dockerfile(name));
        scene.age(".");
    };
    project("old");
    build("old", "none").ok();
    project("young");
    build("young", "none").ok();
    let full = du(&scene)["bytes"].as_u64().unwrap();
    age_records(&scene, "/young", 20);
    age_records(&scene, "/old", 50);
    project("new");
    // Without the old stage all fits with a tenth to spare.
    let most = (full + 2_500_000) * 10 / 9;
    let limit = most.to_string();
    let trimmed = build("new", &limit).ok();
    assert!(trimmed.err.contains("above its limit"), "{}", trimmed.err);
    let left = du(&scene);
    assert!(left["bytes"].as_u64().unwrap() <= most);
    let made = |project: &str| {
        let steps =
            left["pieces"].as_array().unwrap().iter().flat_map(|piece| piece["steps"].as_array().unwrap());
        steps.clone().any(|step| *step == format!("{project}/web made/1"))
    };
    assert!(!made("old") && made("young") && made("new"), "{left}");
    let images = scene.shipway(&["image", "ls"]).ok().out;
    assert!(["old-web", "young-web", "new-web"].iter().all(|name| images.contains(name)), "{images}");
    // A limit that names do not let it reach is said; nothing but names is left.
    project("more");
    let warned = build("more", "1MB").ok();
    assert!(warned.err.contains("more than its limit of 1.05MB: image names hold"), "{}", warned.err);
    let refused = build("more", "much");
    refused.fails(1, &["SHIPWAY_CACHE_LIMIT: `much` is not a size"]);
}

/// Changes one byte of a file and leaves its times as they are.
fn flip(path: &Path) {
    let times = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mode = std::fs::metadata(path).unwrap().permissions();
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, mode).unwrap();
    std::fs::File::open(path).unwrap().set_modified(times).unwrap();
}

/// The file of this name in the snapshots; there is one.
fn in_snapshots(scene: &Scene, name: &str) -> std::path::PathBuf {
    let snapshots = std::fs::read_dir(scene.store().join("snapshots-v1")).unwrap();
    let mut paths = snapshots.map(|snapshot| snapshot.unwrap().path().join("tree").join(name));
    paths.find(|path| path.exists()).unwrap()
}

/// What copies share is damaged in all of them at once, and known by what was copied.
#[test]
fn a_flipped_byte_is_found_in_all_copies_that_share_it() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene
        .write("compose.yaml", "services: {one: {build: .}}\n")
        .write("Dockerfile", "FROM busybox AS make\nCOPY src /src\nRUN cat /src/in/* > /all\nFROM busybox\nCOPY --from=make /all /\n")
        .write("src/in/same", "same\n")
        .write("src/in/edited", "one\n")
        .age(".");
    build(&scene, &[]).ok();
    scene.write("src/in/edited", "two\n").age("src/in/edited");
    build(&scene, &[]).ok();
    assert!(scene.shipway(&["cache", "verify"]).ok().out.contains("nothing is damaged"));
    std::fs::write(in_snapshots(&scene, "src/in/same"), "slme\n").unwrap();
    let found = scene.shipway(&["cache", "verify"]).fails(1, &[]);
    assert_eq!(found.out.matches("its content has the digest").count(), 2, "{}", found.out);
    scene.shipway(&["cache", "verify", "--remove"]).ok();
    scene.write("src/in/edited", "three\n").age("src/in/edited");
    build(&scene, &[]).ok();
    assert_eq!(std::fs::read_to_string(in_snapshots(&scene, "all")).unwrap().lines().last(), Some("same"));
    assert_eq!(std::fs::read_to_string(in_snapshots(&scene, "src/in/same")).unwrap(), "same\n");
}

#[test]
fn a_flipped_byte_is_found_and_made_again() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene
        .write("compose.yaml", "services:\n  one:\n    build: .\n")
        .write("Dockerfile", "FROM busybox\nRUN seq 1000 > /made\nRUN mkdir /over && echo x > /over/x\n")
        .age(".");
    build(&scene, &[]).ok();
    let good = scene.shipway(&["cache", "verify"]).ok();
    assert!(good.out.contains("nothing is damaged"), "{}", good.out);
    let right = std::fs::read(in_snapshots(&scene, "made")).unwrap();
    flip(&in_snapshots(&scene, "made"));
    flip(&in_snapshots(&scene, "bin/busybox"));
    let found = scene.shipway(&["cache", "verify"]);
    assert_eq!(found.code, Some(1));
    assert_eq!(found.out.matches("its content has the digest").count(), 2, "{}", found.out);
    assert!(found.out.contains("It belongs to busybox:latest, "), "{}", found.out);
    let removed = scene.shipway(&["cache", "verify", "--remove"]).ok();
    assert!(removed.out.contains("Removed: 2"), "{}", removed.out);
    // The base is unpacked again from its blob, and everything above it is made again.
    build(&scene, &[]).ok();
    assert_eq!(std::fs::read(in_snapshots(&scene, "made")).unwrap(), right);
    // The name of the base still means what was taken away.
    let incomplete = scene.shipway(&["cache", "verify"]).fails(1, &[]);
    assert!(incomplete.out.contains("image busybox:latest: a piece that it needs is missing"));
    scene.shipway(&["image", "save", "-o", "b.tar", "busybox"]).fails(1, &[]);
    let tar = needs("SHIPWAY_TEST_BUSYBOX_TAR", "SHIPWAY_TEST_BUSYBOX_TAR").unwrap();
    scene.shipway(&["image", "import", &tar, "busybox:latest"]).ok();
    scene.shipway(&["cache", "prune", "-f"]).ok();
    assert!(scene.shipway(&["cache", "verify"]).ok().out.contains("nothing is damaged"));
    // A blob.
    let blobs = std::fs::read_dir(scene.store().join("blobs-v1/sha256")).unwrap();
    flip(&blobs.map(|blob| blob.unwrap().path()).next().unwrap());
    assert!(scene.shipway(&["cache", "verify"]).fails(1, &[]).out.contains("blob "));
}

#[test]
fn a_prune_waits_for_a_build_and_names_it() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene
        .write("compose.yaml", "services:\n  one:\n    build: .\n")
        .write("Dockerfile", "FROM busybox\nRUN --mount=type=cache,target=/c touch /c/begun && until [ -e /c/go ]; do sleep 0.1; done\n")
        .age(".");
    let mut child = scene.start(&["--engine", "none", "build"]);
    let cache = || {
        let caches = std::fs::read_dir(scene.store().join("mounts-v1")).ok()?;
        let trees = caches.flatten().map(|cache| cache.path().join("0/tree"));
        trees.into_iter().find(|tree| tree.join("begun").exists())
    };
    until("the step runs", || cache().is_some());
    let impatient = scene.shipway(&["cache", "prune", "-f", "-a", "--wait", "0s"]);
    let process = format!("(process {})", child.id());
    let lock = scene.store().join(".lock").display().to_string();
    impatient.fails(1, &[&process, "still uses the store", &lock, "--wait 10m"]);
    let waiting = scene.start(&["cache", "prune", "-f", "-a", "--wait", "10m"]);
    std::fs::write(cache().unwrap().join("go"), "").unwrap();
    assert!(child.wait().unwrap().success());
    let waited = ran(&waiting.wait_with_output().unwrap()).ok();
    assert!(waited.out.contains("cache mount ") && waited.out.contains("Remaining:"), "{}", waited.out);
    assert!(build(&scene, &[]).ok().err.contains("nothing changed"));
}

#[test]
fn an_attached_project_is_in_no_collectors_way_and_keeps_the_cap() {
    let Some(scene) = Scene::with_engine("collect") else { return };
    scene
        .write("compose.yaml", "services:\n  one:\n    build: .\n    command: sleep 1000\n")
        .write("Dockerfile", "FROM busybox AS made\nRUN head -c 4000000 /dev/urandom > /made\nFROM busybox\nCOPY --from=made /bin/busybox /made\n")
        .age(".");
    let mut command = scene.command(&["up", "-t", "1"]);
    command.env("SHIPWAY_CACHE_LIMIT", "7MB").stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    until("it runs", || {
        let id = scene.container("one");
        id.is_some_and(|id| scene.docker(&["inspect", "-f", "{{.State.Running}}", &id]).out.trim() == "true")
    });
    // The stage went when the build was done; an image's own pieces stay whatever is pruned.
    until("the store is released", || {
        scene.shipway(&["cache", "prune", "-f", "-a", "--wait", "0s"]).code == Some(0)
    });
    assert_eq!(du(&scene)["all_reclaimable_bytes"], 0);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    let ended = ran(&child.wait_with_output().unwrap());
    assert!(ended.err.contains("above its limit of 7.34MB: removed 4.0"), "{}", ended.err);
    let again = scene.shipway(&["up", "-d"]).ok();
    assert!(again.err.contains("nothing changed"), "{}", again.err);
}

#[test]
fn collectors_beside_builds_hurt_no_build() {
    let Some(scene) = Scene::with_busybox() else { return };
    // Each builder has a folder and a project of its own; all share one store with collectors.
    let dockerfile = |turn: usize| {
        format!(
            "FROM busybox AS made\nRUN seq 1000 > /shared\nCOPY {{}} /turn\nRUN cat /turn /shared > /all\n\
             FROM busybox\nCOPY --from=made /all /all\nRUN [ \"$(head -n 1 /all)\" = {turn} ]\n"
        )
        .replace("{}", "turn")
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let builders: Vec<_> = (0..3)
            .map(|number| {
                let (scene, dockerfile) = (&scene, &dockerfile);
                scope.spawn(move || {
                    let folder = scene.project().join(number.to_string());
                    for turn in 0..12 {
                        std::fs::create_dir_all(&folder).unwrap();
                        // Others build the same at about the same time.
                        let turn = turn / 2 + number % 2;
                        std::fs::write(folder.join("turn"), format!("{turn}\n")).unwrap();
                        std::fs::write(folder.join("Dockerfile"), dockerfile(turn)).unwrap();
                        let (name, folder) = (format!("turn:{number}"), folder.display().to_string());
                        let arguments = ["--engine", "none", "image", "build", "-t", &name, &folder];
                        let mut command = scene.command(&arguments);
                        ran(&command.env("SHIPWAY_CACHE_LIMIT", "1500kB").output().unwrap()).ok();
                    }
                })
            })
            .collect();
        let collector = scope.spawn(|| {
            let mut pruned = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                let ran = scene.shipway(&["cache", "prune", "-f", "-a", "--wait", "300ms"]);
                pruned += usize::from(ran.code == Some(0));
            }
            pruned
        });
        let ended: Vec<_> = builders.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok));
        println!("pruned {} times", collector.join().unwrap());
    });
    for number in 0..3 {
        let output = format!("out{number}");
        let folder = number.to_string();
        scene.shipway(&["--engine", "none", "image", "build", "-o", &output, &folder]).ok();
        let all = std::fs::read_to_string(scene.project().join(output).join("all")).unwrap();
        assert!(all.starts_with(&format!("{}\n1\n2\n", 5 + number % 2)) && all.ends_with("\n1000\n"));
    }
    assert!(scene.shipway(&["cache", "verify"]).ok().out.contains("nothing is damaged"));
    assert_eq!(std::fs::read_dir(scene.store().join("tmp")).unwrap().count(), 0);
}
