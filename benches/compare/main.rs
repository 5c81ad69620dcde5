//! Shipway beside Docker Compose with BuildKit and beside the floor of the machine, on the same files, in
//! turns, as a table of medians and ratios:
//!
//! ```text
//! SHIPWAY_BENCH_FOLDER=/var/bench SHIPWAY_TEST_BUSYBOX_TAR=busybox.tar cargo bench --bench compare
//! ```
//!
//! | variable | meaning |
//! | --- | --- |
//! | `SHIPWAY_BENCH_FOLDER` | an empty place for projects and the store; the peer must see it under this name too, and its data should lie on the same file system |
//! | `SHIPWAY_BENCH_PEER` | a command that stands before every `docker …` of the peer; `none` leaves the peer out |
//! | `SHIPWAY_BENCH_ENGINE` | `DOCKER_HOST` of the peer's engine, to which our images are handed too |
//! | `SHIPWAY_TEST_BUSYBOX_TAR` | the root file system of `busybox:latest`, which the peer's engine holds as well |
//! | `SHIPWAY_BENCH_REGISTRY` | `host:port` of a registry that both reach, with `library/busybox:latest`; for the cases with a cache that machines share. The peer's engine must keep its images in containerd |
//! | `SHIPWAY_BENCH_REGISTRY_WIPE` | a command that empties it but for that image |
//! | `SHIPWAY_BENCH_ROUNDS` | how often each case is measured; 5 unless it is given |
//! | `SHIPWAY_BENCH_SHAPE` | services × files × bytes: `20x1000x4096` unless it is given |
//!
//! An argument runs only the cases whose names contain it. Each round does every case once for each of
//! those who are measured, so that a drift of the machine meets all alike. Before each measurement, and after
//! an edit, the machine comes to rest, so that nobody pays for what another one left. Both make the same: both hand
//! over and tag, or both do not; commands of both use the host's network. After each round it is checked
//! what came of it: what was said to have run, and where there is an engine, what containers print.

mod floor;
mod shared;
mod tools;
mod workload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tools::{Measured, Ours, Peer, settle};
use workload::{COMMAND, FIRST_COMMAND, Shape, Workload};

/// Everything that a case needs.
struct Bench {
    folder: PathBuf,
    ours: Ours,
    peer: Option<Peer>,
    /// The project as shipway builds it, and a copy of it for the peer.
    mine: Workload,
    theirs: Workload,
    registry: Option<String>,
    rounds: usize,
    stamp: std::cell::Cell<u64>,
}

/// The medians of a case, and what is to be reached.
struct Row {
    case: &'static str,
    ours: Vec<Measured>,
    peer: Vec<Duration>,
    floor: Vec<Duration>,
    goal: Goal,
}

/// A case as it is measured.
struct Trial<'a> {
    case: &'static str,
    goal: Goal,
    ours: &'a dyn Fn() -> Measured,
    peer: Option<&'a dyn Fn(&Peer) -> Measured>,
    floor: Option<&'a dyn Fn() -> Duration>,
    /// Fails unless the round made what it should have made.
    check: &'a dyn Fn(),
}

/// What a case has to reach.
enum Goal {
    /// At most the floor times the factor, and so much more.
    Floor(f64, Duration),
    /// So many times faster than the peer.
    Faster(f64),
    /// Both.
    Both(f64, Duration, f64),
    /// At most so long a step, of so many.
    Step(Duration, u32),
    /// No time, only what came of it.
    Right,
}

type Case = (&'static str, fn(&Bench) -> Row);

const CASES: &[Case] = &[
    ("nothing changed, build --engine none", nothing_changed_alone),
    ("nothing changed, build", nothing_changed),
    ("nothing changed, up -d", nothing_changed_up),
    ("one file changed, build --engine none", one_file_alone),
    ("one file changed, build", one_file),
    ("all times touched", all_touched),
    ("cold, build --engine none", cold_alone),
    ("cold, handed over", cold),
    ("30 × RUN true", thirty_runs),
    ("30 × COPY", thirty_copies),
    ("8 services, one build", equal_services),
    ("edits that are easily missed", edits),
    ("registry cache, first build", shared::filling),
    ("registry cache, nothing changed", shared::unchanged),
    ("registry cache, one service changed", shared::changed),
    ("local cache with registry, nothing changed", shared::unchanged_folder),
    ("local cache with registry, one service changed", shared::changed_folder),
];

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let Some(bench) = Bench::from_environment() else { return };
    bench.print_machine();
    println!("| case | ours | peer | peer ÷ ours | floor | ours ÷ floor | memory | goal |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (name, case) in CASES {
        let with_registry = name.contains("registry");
        let with_engine = !name.contains("none") && !name.contains("30") && !with_registry;
        if with_registry && bench.registry.is_none() {
            continue;
        }
        let wanted = filter.is_empty() || filter.iter().any(|word| name.contains(word.as_str()));
        if wanted && (bench.ours.engine.is_some() || !with_engine) {
            case(&bench).print();
        }
    }
}

impl Bench {
    fn from_environment() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(folder), Some(base)) =
            (variable("SHIPWAY_BENCH_FOLDER"), variable("SHIPWAY_TEST_BUSYBOX_TAR"))
        else {
            println!("nothing measured: SHIPWAY_BENCH_FOLDER and SHIPWAY_TEST_BUSYBOX_TAR are needed");
            return None;
        };
        let folder = PathBuf::from(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let shape = shape(variable("SHIPWAY_BENCH_SHAPE").as_deref().unwrap_or("20x1000x4096"));
        let enter = variable("SHIPWAY_BENCH_PEER");
        let peer = (enter.as_deref() != Some("none")).then(|| Peer {
            enter: enter.iter().flat_map(|words| words.split_whitespace()).map(str::to_owned).collect(),
            log: folder.join("peer.log"),
        });
        let ours = Ours {
            store: folder.join("store"),
            engine: variable("SHIPWAY_BENCH_ENGINE"),
            base: PathBuf::from(base),
            log: folder.join("ours.log"),
        };
        ours.forget();
        Some(Self {
            mine: Workload::write(&folder.join("mine"), shape, "bench-ours", ""),
            theirs: Workload::write(&folder.join("theirs"), shape, "bench-peer", ", network: host"),
            folder,
            registry: variable("SHIPWAY_BENCH_REGISTRY"),
            ours,
            peer,
            rounds: variable("SHIPWAY_BENCH_ROUNDS").and_then(|rounds| rounds.parse().ok()).unwrap_or(5),
            stamp: std::cell::Cell::new(1),
        })
    }

    fn print_machine(&self) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let Shape { services, files, size } = self.mine.shape;
        println!("{services} services × {files} files × {size} bytes, {cores} cores, load {load}");
        if let Some(peer) = &self.peer {
            let compose = peer.says(&["docker", "compose", "version", "--short"]);
            let engine = peer.says(&["docker", "version", "--format", "{{.Server.Version}}"]);
            println!("peer: Docker Compose {} on Docker Engine {}\n", compose.trim(), engine.trim());
        }
    }

    /// A number that no edit has used.
    fn next(&self) -> u64 {
        self.stamp.set(self.stamp.get() + 1);
        self.stamp.get()
    }

    /// Measures who takes part in turns, and checks each round.
    fn row(&self, trial: Trial<'_>) -> Row {
        let Trial { case, goal, ours, peer, floor, check } = trial;
        let mut row = Row { case, ours: Vec::new(), peer: Vec::new(), floor: Vec::new(), goal };
        for _ in 0..self.rounds {
            settle();
            row.ours.push(ours());
            settle();
            row.peer.extend(peer.zip(self.peer.as_ref()).map(|(measure, peer)| measure(peer).wall));
            settle();
            row.floor.extend(floor.map(|measure| measure()));
            check();
        }
        row
    }

    /// Has everything built, by both; what earlier cases left in the engine without a name goes.
    fn warm(&self) {
        if let Some(peer) = &self.peer {
            peer.says(&["docker", "image", "prune", "-f"]);
        }
        self.ours.run(&self.mine.folder, &["build"]);
        if let Some(peer) = &self.peer {
            peer.run(&self.theirs.folder, PLAIN);
        }
        settle();
    }

    /// Fails unless our last run ended with this.
    fn said(&self, expected: &str) {
        let said = std::fs::read_to_string(&self.ours.log).unwrap();
        assert!(said.contains(expected), "not said: {expected}\n{said}");
    }

    /// Fails unless what our builds without an engine made is right: hands it over and looks at it.
    fn check_alone(&self) {
        if self.ours.engine.is_some() && self.peer.is_some() {
            self.ours.run(&self.mine.folder, &["build"]);
            self.check_one(&self.mine);
        }
    }

    /// The engine's running containers.
    fn containers(&self) -> String {
        self.peer.as_ref().map_or_else(String::new, |peer| {
            peer.says(&["docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"])
        })
    }

    /// Fails unless the images of both hold what the first service's files say.
    fn check(&self) {
        [&self.mine, &self.theirs].into_iter().for_each(|workload| self.check_one(workload));
    }

    fn check_one(&self, workload: &Workload) {
        let Some(peer) = &self.peer else { return };
        let image = workload.image(0);
        let out = peer.says(&["docker", "run", "--rm", "--network", "none", &image, "cat", "/app/out.bin"]);
        assert_eq!(out, workload.expected(0), "{image} is not what its files say");
    }

    fn walk(&self) -> Duration {
        floor::walk(&self.mine.contexts(), false)
    }
}

fn shape(text: &str) -> Shape {
    let numbers: Vec<usize> = text.split('x').filter_map(|number| number.parse().ok()).collect();
    let [services, files, size] = numbers[..] else { panic!("{text} is not SERVICESxFILESxBYTES") };
    Shape { services, files, size }
}

/// Not quiet: then compose refuses the host's network.
const PLAIN: &[&str] = &["docker", "compose", "--progress", "plain", "build"];

const NOTHING: &str = "nothing changed";

fn nothing_changed_alone(bench: &Bench) -> Row {
    let ours = || bench.ours.run(&bench.mine.folder, &["--engine", "none", "build"]);
    ours();
    settle();
    ours();
    bench.row(Trial {
        case: "nothing changed, `build --engine none`",
        goal: Goal::Floor(1.0, Duration::from_millis(10)),
        ours: &ours,
        peer: None,
        floor: Some(&|| bench.walk()),
        check: &|| bench.said(NOTHING),
    })
}

fn nothing_changed(bench: &Bench) -> Row {
    bench.warm();
    bench.row(Trial {
        case: "nothing changed, `build`",
        goal: Goal::Faster(20.0),
        ours: &|| bench.ours.run(&bench.mine.folder, &["build"]),
        peer: Some(&|peer| peer.run(&bench.theirs.folder, PLAIN)),
        floor: Some(&|| bench.walk()),
        check: &|| {
            bench.said(NOTHING);
            bench.check();
        },
    })
}

fn nothing_changed_up(bench: &Bench) -> Row {
    bench.warm();
    let up = ["up", "-d"];
    let theirs = ["docker", "compose", "--progress", "plain", "up", "-d", "--build"];
    bench.ours.run(&bench.mine.folder, &up);
    if let Some(peer) = &bench.peer {
        peer.run(&bench.theirs.folder, &theirs);
    }
    settle();
    let running = bench.containers();
    let row = bench.row(Trial {
        case: "nothing changed, `up -d`, all running",
        goal: Goal::Faster(20.0),
        ours: &|| bench.ours.run(&bench.mine.folder, &up),
        peer: Some(&|peer| peer.run(&bench.theirs.folder, &theirs)),
        floor: Some(&|| bench.walk()),
        check: &|| {
            bench.said(NOTHING);
            assert_eq!(running, bench.containers(), "a container was touched");
        },
    });
    bench.ours.run(&bench.mine.folder, &["down", "-t", "1"]);
    bench.peer.iter().for_each(|peer| {
        peer.run(&bench.theirs.folder, &["docker", "compose", "down", "-t", "1"]);
    });
    row
}

/// What must take its time when a file of the first service changed: the walk, copying its context and
/// running the command that reads it.
fn one_file_floor(bench: &Bench) -> impl Fn() -> Duration + '_ {
    let contexts = bench.mine.contexts();
    let roots = floor::roots(&bench.ours.base, &contexts[..1], &bench.folder.join("roots"));
    move || {
        let copy = floor::copy(&contexts[..1], &bench.folder.join("copy"));
        bench.walk() + copy + floor::commands(&roots, COMMAND)
    }
}

fn one_file_alone(bench: &Bench) -> Row {
    bench.ours.run(&bench.mine.folder, &["--engine", "none", "build"]);
    let row = bench.row(Trial {
        case: "one file changed in one service, `build --engine none`",
        goal: Goal::Floor(1.0, Duration::from_millis(40)),
        ours: &|| {
            bench.mine.edit(bench.next());
            settle();
            bench.ours.run(&bench.mine.folder, &["--engine", "none", "build"])
        },
        peer: None,
        floor: Some(&one_file_floor(bench)),
        check: &|| bench.said("4 ran"),
    });
    bench.check_alone();
    row
}

fn one_file(bench: &Bench) -> Row {
    bench.warm();
    bench.row(Trial {
        case: "one file changed in one service, `build`",
        goal: Goal::Faster(15.0),
        ours: &|| {
            bench.mine.edit(bench.next());
            settle();
            bench.ours.run(&bench.mine.folder, &["build"])
        },
        peer: Some(&|peer| {
            bench.theirs.edit(bench.next());
            settle();
            peer.run(&bench.theirs.folder, PLAIN)
        }),
        floor: Some(&one_file_floor(bench)),
        check: &|| {
            bench.said("4 ran");
            bench.check();
        },
    })
}

fn all_touched(bench: &Bench) -> Row {
    bench.warm();
    bench.row(Trial {
        case: "all times touched, contents equal",
        goal: Goal::Both(1.3, Duration::ZERO, 20.0),
        ours: &|| {
            bench.mine.touch_all();
            settle();
            bench.ours.run(&bench.mine.folder, &["build"])
        },
        peer: Some(&|peer| {
            bench.theirs.touch_all();
            settle();
            peer.run(&bench.theirs.folder, PLAIN)
        }),
        floor: Some(&|| floor::walk(&bench.mine.contexts(), true)),
        check: &|| {
            bench.said(NOTHING);
            bench.check();
        },
    })
}

fn cold_alone(bench: &Bench) -> Row {
    let contexts = bench.mine.contexts();
    let roots = floor::roots(&bench.ours.base, &contexts, &bench.folder.join("roots"));
    let row = bench.row(Trial {
        case: "cold, `build --engine none`",
        goal: Goal::Both(1.3, Duration::ZERO, 5.0),
        ours: &|| {
            bench.ours.forget();
            bench.ours.run(&bench.mine.folder, &["--engine", "none", "build"])
        },
        peer: Some(&|peer| {
            peer.forget(&["bench-peer"]);
            let bake = [
                "docker",
                "buildx",
                "bake",
                "--progress=quiet",
                "--allow",
                "network.host",
                "--set",
                "*.output=type=cacheonly",
            ];
            peer.run(&bench.theirs.folder, &bake)
        }),
        floor: Some(&|| {
            settle();
            let commands = floor::commands(&roots[..1], FIRST_COMMAND) + floor::commands(&roots, COMMAND);
            commands + floor::copy(&contexts, &bench.folder.join("copy"))
        }),
        check: &|| bench.said(&format!("{} ran", 3 + 4 * contexts.len())),
    });
    bench.check_alone();
    std::fs::remove_dir_all(bench.folder.join("roots")).unwrap();
    row
}

fn cold(bench: &Bench) -> Row {
    bench.row(Trial {
        case: "cold, handed over, tagged",
        goal: Goal::Faster(3.0),
        ours: &|| {
            bench.peer.iter().for_each(|peer| peer.forget(&["bench-ours"]));
            bench.ours.forget();
            bench.ours.run(&bench.mine.folder, &["build"])
        },
        peer: Some(&|peer| {
            peer.forget(&["bench-peer"]);
            peer.run(&bench.theirs.folder, PLAIN)
        }),
        floor: None,
        check: &|| bench.check(),
    })
}

const STEPS: u32 = 30;

fn thirty_runs(bench: &Bench) -> Row {
    steps(bench, "30 × `RUN true`", workload::runs, Duration::from_millis(10))
}

fn thirty_copies(bench: &Bench) -> Row {
    steps(bench, "30 × `COPY` of a small file", workload::copies, Duration::from_millis(2))
}

fn steps(bench: &Bench, case: &'static str, write: fn(&Path, usize), goal: Duration) -> Row {
    let folder = bench.folder.join("steps");
    write(&folder, STEPS as usize);
    bench.row(Trial {
        case,
        goal: Goal::Step(goal, STEPS),
        ours: &|| {
            bench.ours.forget();
            bench.ours.run(&folder, &["--engine", "none", "image", "build", "."])
        },
        peer: Some(&|peer| {
            peer.forget(&[]);
            let build = ["docker", "buildx", "build", "-q", "--network=host", "--allow", "network.host"];
            peer.run(&folder, &[&build[..], &["--output", "type=cacheonly", "."]].concat())
        }),
        floor: None,
        check: &|| bench.said(&format!("{STEPS} ran")),
    })
}

fn equal_services(bench: &Bench) -> Row {
    let folder = bench.folder.join("equal");
    workload::equal_services(&folder, 8);
    bench.row(Trial {
        case: "8 services with the same build, cold",
        goal: Goal::Faster(3.0),
        ours: &|| {
            bench.ours.forget();
            bench.ours.run(&folder, &["build"])
        },
        peer: Some(&|peer| {
            peer.forget(&[]);
            peer.run(
                &folder,
                &["docker", "compose", "-f", workload::PEER_FILE, "--progress", "plain", "build"],
            )
        }),
        floor: None,
        check: &|| {
            bench.said("2 ran");
            let Some(peer) = &bench.peer else { return };
            let names: Vec<String> = (0..8).map(|number| format!("bench-ours-s{number}")).collect();
            let mut inspect = vec!["docker", "image", "inspect", "--format", "{{.Id}}"];
            inspect.extend(names.iter().map(String::as_str));
            let ids: std::collections::BTreeSet<String> =
                peer.says(&inspect).lines().map(str::to_owned).collect();
            assert_eq!(ids.len(), 1, "eight names of one image");
        },
    })
}

/// Not about time: an edit that keeps size and time, and one of an ignored file.
fn edits(bench: &Bench) -> Row {
    bench.warm();
    bench.row(Trial {
        case: "edit with its old size and time; edit of an ignored file",
        goal: Goal::Right,
        ours: &|| {
            bench.mine.edit_keeping_time(bench.next());
            bench.ours.run(&bench.mine.folder, &["build"])
        },
        peer: None,
        floor: None,
        check: &|| {
            bench.check_one(&bench.mine);
            bench.mine.edit_ignored(bench.next());
            bench.ours.run(&bench.mine.folder, &["build"]);
            bench.said(NOTHING);
        },
    })
}

impl Row {
    fn print(&self) {
        let walls: Vec<Duration> = self.ours.iter().map(|measured| measured.wall).collect();
        let ours = median(&walls);
        let peer = (!self.peer.is_empty()).then(|| median(&self.peer));
        let floor = (!self.floor.is_empty()).then(|| median(&self.floor));
        let memory = self.ours.iter().map(|measured| measured.memory).max().unwrap_or(0) >> 20;
        let ratio = |over: f64, under: f64| format!("{:.1}", over / under);
        let seconds = |time: Option<Duration>| {
            time.map_or("".to_owned(), |time| format!("{:.3} s", time.as_secs_f64()))
        };
        println!(
            "| {} | {} | {} | {} | {} | {} | {memory} MiB | {} |",
            self.case,
            seconds(Some(ours)),
            seconds(peer),
            peer.map_or(String::new(), |peer| ratio(peer.as_secs_f64(), ours.as_secs_f64())),
            seconds(floor),
            floor.map_or(String::new(), |floor| ratio(ours.as_secs_f64(), floor.as_secs_f64())),
            self.goal.text(ours, peer, floor),
        );
    }
}

impl Goal {
    /// The goal and whether it is reached.
    fn text(&self, ours: Duration, peer: Option<Duration>, floor: Option<Duration>) -> String {
        let floor_reached =
            |factor: f64, more: Duration| floor.is_none_or(|floor| ours <= floor.mul_f64(factor) + more);
        let faster = |times: f64| peer.is_none_or(|peer| peer >= ours.mul_f64(times));
        let (text, reached) = match self {
            Self::Floor(factor, more) => {
                (format!("≤ {factor} × floor + {more:?}"), floor_reached(*factor, *more))
            }
            Self::Right => ("right".to_owned(), true),
            Self::Faster(times) => (format!("≥ {times} × faster"), faster(*times)),
            Self::Both(factor, more, times) => (
                format!("≤ {factor} × floor + {more:?}, ≥ {times} × faster"),
                floor_reached(*factor, *more) && faster(*times),
            ),
            Self::Step(most, steps) => {
                let step = ours / *steps;
                (format!("{:.1} ms a step; ≤ {most:?}", step.as_secs_f64() * 1e3), step <= *most)
            }
        };
        format!("{text}: {}", if reached { "reached" } else { "**missed**" })
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}
