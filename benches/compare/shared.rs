//! Machines that share a cache: empty stores, a registry or a folder that has everything, until all images
//! are pushed. The peer keeps its cache as buildx does, a tag or a folder for each service.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::tools::{Measured, Peer, settle};
use super::workload::Workload;
use super::{Bench, Goal, Row, Trial};

/// Where both keep what they share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Registry,
    Folder,
}

/// The projects with their images' names in the registry.
struct Scene<'b> {
    bench: &'b Bench,
    registry: String,
    kind: Kind,
    /// A part of all names in the registry that no other run has.
    run: String,
    mine: Workload,
    theirs: Workload,
}

const COMPOSE: &str = "compose.cache.yaml";
const NOTHING_RAN: &str = "nothing changed";

pub(super) fn filling(bench: &Bench) -> Row {
    let scene = Scene::new(bench, Kind::Registry);
    bench.row(Trial {
        case: "first build, pushed, registry cache filled",
        goal: Goal::Both(1.15, Duration::ZERO, 4.0),
        ours: &|| {
            scene.forget();
            scene.push(true)
        },
        peer: Some(&|peer| {
            scene.forget();
            scene.peer_push(peer, true)
        }),
        // What the same build costs without a cache.
        floor: Some(&|| {
            scene.forget();
            scene.push(false).wall
        }),
        check: &|| {},
    })
}

pub(super) fn unchanged(bench: &Bench) -> Row {
    nothing_changed(bench, Kind::Registry, "nothing changed, pushed, registry cache")
}

pub(super) fn unchanged_folder(bench: &Bench) -> Row {
    nothing_changed(bench, Kind::Folder, "nothing changed, pushed, local cache")
}

pub(super) fn changed(bench: &Bench) -> Row {
    one_changed(bench, Kind::Registry, "one service changed, pushed, registry cache")
}

pub(super) fn changed_folder(bench: &Bench) -> Row {
    one_changed(bench, Kind::Folder, "one service changed, pushed, local cache")
}

fn nothing_changed(bench: &Bench, kind: Kind, case: &'static str) -> Row {
    let scene = Scene::new(bench, kind);
    scene.fill();
    bench.row(Trial {
        case,
        goal: Goal::Faster(10.0),
        ours: &|| scene.push(true),
        peer: Some(&|peer| scene.peer_push(peer, true)),
        floor: None,
        check: &|| bench.said(NOTHING_RAN),
    })
}

fn one_changed(bench: &Bench, kind: Kind, case: &'static str) -> Row {
    let scene = Scene::new(bench, kind);
    scene.fill();
    bench.row(Trial {
        case,
        goal: Goal::Faster(5.0),
        ours: &|| {
            scene.mine.edit(bench.next());
            scene.push(true)
        },
        peer: Some(&|peer| {
            scene.theirs.edit(bench.next());
            scene.peer_push(peer, true)
        }),
        floor: None,
        // Whether the base image counts as a step depends on what brings its layers first.
        check: &|| bench.said("exported 4 steps"),
    })
}

impl<'b> Scene<'b> {
    fn new(bench: &'b Bench, kind: Kind) -> Self {
        let registry = bench.registry.clone().expect("cases with a registry run with one");
        let run = format!("run-{}-{}", std::process::id(), bench.next());
        let base = format!(", args: {{BASE: \"{registry}/library/busybox:latest\"}}");
        let write = |folder: &str, prefix: &'static str, more: &str| {
            let folder = bench.folder.join(folder);
            Workload::write(&folder, bench.mine.shape, prefix, &format!("{base}{more}"))
        };
        let prefix = |who: &str| -> &'static str { format!("{registry}/{run}/{who}").leak() };
        let mine = write("mine-shared", prefix("ours"), "");
        let theirs = write("theirs-shared", prefix("peer"), ", network: host");
        let scene = Self { bench, registry, kind, run, mine, theirs };
        scene.write_peer_caches();
        scene
    }

    /// Where the peer keeps what it shares, as an override of its compose file.
    fn write_peer_caches(&self) {
        let mut text = String::from("services:\n");
        for service in 0..self.theirs.shape.services {
            let (name, (from, to)) = (format!("svc-{service:02}"), self.peer_cache(service));
            text += &format!(
                "  {name}:\n    build:\n      cache_from: [\"{from}\"]\n      cache_to: [\"{to},mode=max\"]\n"
            );
        }
        fs::write(self.theirs.folder.join(COMPOSE), text).unwrap();
    }

    fn peer_cache(&self, service: usize) -> (String, String) {
        match self.kind {
            Kind::Registry => {
                let cache = format!("type=registry,ref={}/{}/peer/cache-{service}", self.registry, self.run);
                (cache.clone(), cache)
            }
            Kind::Folder => {
                let folder = self.bench.folder.join(format!("peer-cache/{}/{service}", self.run));
                let folder = folder.display();
                (format!("type=local,src={folder}"), format!("type=local,dest={folder}"))
            }
        }
    }

    fn cache(&self) -> (String, String) {
        match self.kind {
            Kind::Registry => {
                let cache = format!("type=registry,ref={}/{}/ours/cache", self.registry, self.run);
                (cache.clone(), cache)
            }
            Kind::Folder => {
                let folder = self.bench.folder.join(format!("our-cache/{}", self.run));
                let folder = folder.display();
                (format!("type=local,src={folder}"), format!("type=local,dest={folder}"))
            }
        }
    }

    /// Has the caches filled, by both.
    fn fill(&self) {
        self.push(true);
        if let Some(peer) = &self.bench.peer {
            self.peer_push(peer, true);
        }
        settle();
    }

    /// Empties the registry, but for the base image, by the command that the environment gives.
    fn forget(&self) {
        let command = std::env::var("SHIPWAY_BENCH_REGISTRY_WIPE");
        let command = command.expect("SHIPWAY_BENCH_REGISTRY_WIPE: a command that empties the registry");
        let status = std::process::Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(status.success(), "{command}");
        settle();
    }

    /// Builds with an empty store and pushes.
    fn push(&self, cached: bool) -> Measured {
        let _ = fs::remove_dir_all(&self.bench.ours.store);
        settle();
        let (from, to) = self.cache();
        let mut arguments = vec!["--engine", "none", "build", "--push"];
        if cached {
            arguments.extend(["--cache-from", &from, "--cache-to", &to]);
        }
        self.bench.ours.run(&self.mine.folder, &arguments)
    }

    /// The same by the peer, with an empty build cache.
    fn peer_push(&self, peer: &Peer, cached: bool) -> Measured {
        let prefix = format!("{}/{}/peer", self.registry, self.run);
        peer.forget(&[&prefix]);
        let files = ["-f", "compose.yaml", "-f", COMPOSE];
        let files = if cached { &files[..] } else { &files[..2] };
        let words = [&["docker", "compose"], files, &["--progress", "plain", "build", "--push"]].concat();
        peer.run(Path::new(&self.theirs.folder), &words)
    }
}
