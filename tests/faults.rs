//! Faults of real registries: each ends in the right image or in the right error, and nothing is left behind.
//!
//! The proxy stands before the tests' registry and fails as told. A pull is a build of nothing but a base
//! image into a folder; a push is compared with what the registry has afterwards.

use std::path::Path;

use crate::proxy::{Fault, Form, Guard, Kind, Proxy};
use crate::scene::{Ran, Scene, needs, number, ran, skip, until};
use sha2::{Digest, Sha256};

/// A scene whose registry fails.
pub(crate) struct Yard {
    pub(crate) proxy: Proxy,
    pub(crate) scene: Scene,
    /// The registry itself.
    pub(crate) registry: String,
    /// A repository that nobody else has.
    pub(crate) name: String,
    /// More of the program's environment.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Yard {
    pub(crate) fn new() -> Option<Self> {
        let registry = registry()?;
        Some(Self::with(Proxy::start(&registry), registry))
    }

    pub(crate) fn with(proxy: Proxy, registry: String) -> Self {
        let name = format!("faults-{}-{}/app", std::process::id(), number());
        Self { proxy, scene: Scene::empty(), registry, name, variables: Vec::new() }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.scene.command(&[&["--engine", "none"], arguments].concat());
        // Neither logins nor certificates of the machine.
        command.env("DOCKER_CONFIG", self.scene.project().join("../docker"));
        command.env("XDG_CONFIG_HOME", self.scene.project().join("../config"));
        ran(&command.envs(self.variables.iter().cloned()).output().unwrap())
    }

    /// Pulls the busybox image.
    pub(crate) fn pull(&self, flags: &[&str]) -> Ran {
        self.scene.write("pulled/Dockerfile", &format!("FROM {}/library/busybox\n", self.proxy.address()));
        self.run(&[&["image", "build", "-o", "out", "pulled"], flags].concat())
    }

    /// Pushes an image of one layer of about 3 MB.
    pub(crate) fn push(&self, flags: &[&str]) -> Ran {
        let mut state = 1u32;
        let data = (0..3 << 18).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("{:04x}", state >> 16)
        });
        self.scene.write("pushed/data", &data.collect::<String>());
        self.scene.write("pushed/Dockerfile", "FROM scratch\nCOPY data /data\n");
        let name = format!("{}/{}:1", self.proxy.address(), self.name);
        self.run(&[&["image", "build", "--push", "-t", &name, "pushed"], flags].concat())
    }

    /// Fails the test unless what was pulled is what the registry has.
    #[track_caller]
    pub(crate) fn pulled(&self) {
        let pulled = std::fs::read(self.scene.project().join("out/bin/busybox")).unwrap();
        let direct = Self::with(Proxy::start(&self.registry), self.registry.clone());
        direct.pull(&[]).ok();
        assert!(pulled == std::fs::read(direct.scene.project().join("out/bin/busybox")).unwrap());
        self.left_nothing();
    }

    /// Fails the test unless the registry has the whole image.
    #[track_caller]
    pub(crate) fn pushed(&self) {
        let (status, manifest) = self.get("manifests/1");
        assert_eq!(status, 200);
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        for blob in layers.iter().chain([&manifest["config"]]) {
            let digest = blob["digest"].as_str().unwrap();
            let (status, bytes) = self.get(&format!("blobs/{digest}"));
            assert_eq!((status, Some(bytes.len() as u64)), (200, blob["size"].as_u64()));
            assert_eq!(format!("sha256:{}", hex::encode(Sha256::digest(&bytes))), digest);
        }
        self.left_nothing();
    }

    /// What the registry itself answers about the repository.
    pub(crate) fn get(&self, path: &str) -> (u16, Vec<u8>) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&self.registry).unwrap();
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
        write!(stream, "GET /v2/{}/{path} HTTP/1.0\r\naccept: {accept}\r\n\r\n", self.name).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        (status, answer.split_off(end + 4))
    }

    /// Fails the test if something unfinished is in the store.
    #[track_caller]
    pub(crate) fn left_nothing(&self) {
        let unfinished: Vec<_> = std::fs::read_dir(self.scene.store().join("tmp"))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        assert!(unfinished.is_empty(), "{unfinished:?}");
    }

    /// Fails the test if an output or a file of the store has a secret.
    #[track_caller]
    pub(crate) fn tells_nothing(&self, ran: &Ran) {
        let secrets = self.proxy.secrets();
        assert!(!secrets.is_empty());
        let look = |what: &Path, bytes: &[u8]| {
            for secret in &secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{} has `{secret}`", what.display());
            }
        };
        look(Path::new("stdout"), ran.out.as_bytes());
        look(Path::new("stderr"), ran.err.as_bytes());
        let mut open = vec![self.scene.store().to_owned(), self.scene.project()];
        while let Some(path) = open.pop() {
            if path.is_symlink() {
            } else if path.is_dir() {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.metadata().unwrap().len() < 1 << 19 {
                look(&path, &std::fs::read(&path).unwrap_or_default());
            }
        }
    }
}

/// The tests' registry, where pulls and pushes can be tested.
pub(crate) fn registry() -> Option<String> {
    let registry = needs("SHIPWAY_TEST_REGISTRY", "a registry in SHIPWAY_TEST_REGISTRY")?;
    if rustix::process::geteuid().is_root() {
        return Some(registry);
    }
    skip("root");
    None
}

/// Runs the cases beside each other: they wait most of the time.
fn each<T: Sync>(cases: &[T], test: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        let running: Vec<_> = cases.iter().map(|case| scope.spawn(|| test(case))).collect();
        for case in running {
            if let Err(panic) = case.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[test]
fn what_fails_for_a_while_is_pulled() {
    if registry().is_none() {
        return;
    }
    let drip = Fault::Drip(100_000, std::time::Duration::from_millis(20));
    let cases = [
        (Kind::Manifest, 2, Fault::Status(503)),
        (Kind::Manifest, 1, Fault::RetryAfter(429, "1")),
        (Kind::Manifest, 1, Fault::Cut(20)),
        (Kind::Manifest, 1, Fault::WrongBytes),
        (Kind::Any, usize::MAX, Fault::NoDigest),
        (Kind::Blob, 2, Fault::Status(500)),
        (Kind::Blob, 2, Fault::WrongBytes),
        (Kind::Blob, 3, Fault::Cut(300)),
        (Kind::Blob, usize::MAX, drip),
    ];
    each(&cases, |(kind, times, fault)| {
        let Some(yard) = Yard::new() else { return };
        yard.proxy.on("GET", *kind).times(*times).fails(fault.clone());
        let ran = yard.pull(&[]);
        assert_eq!(ran.code, Some(0), "{fault:?}: {}", ran.err);
        yard.pulled();
    });
}

/// A cut download goes on where it was.
#[test]
fn what_has_come_need_not_come_again() {
    let Some(yard) = Yard::new() else { return };
    // The config, which is smaller, is asked for as well.
    yard.proxy.on("GET", Kind::Blob).times(3).fails(Fault::Cut(400_000));
    yard.pull(&[]).ok();
    yard.pulled();
    let seen = yard.proxy.seen();
    let rest = seen.iter().find(|seen| seen.range.is_some()).expect("a question for the rest");
    assert_eq!((rest.status, rest.range.as_deref()), (206, Some("bytes=400000-")));
}

#[test]
fn what_does_not_pass_is_an_error() {
    if registry().is_none() {
        return;
    }
    let cases: [(Kind, Fault, &[&str]); 7] = [
        (Kind::Manifest, Fault::Status(503), &["HTTP status 503, also when asked again"]),
        (Kind::Manifest, Fault::RetryAfter(429, "3600"), &["asks to come again in 3600 seconds"]),
        (Kind::Manifest, Fault::Cut(20), &["cannot reach the registry", "also when asked again"]),
        (Kind::Manifest, Fault::Status(403), &["denies access to", "`docker login`"]),
        (Kind::Blob, Fault::Status(404), &["has lost sha256:", "push that image again"]),
        (Kind::Blob, Fault::WrongBytes, &["what the registry sent for", "should have the digest"]),
        (Kind::Blob, Fault::Cut(100), &["cannot reach the registry", "also when asked again"]),
    ];
    each(&cases, |(kind, fault, said)| {
        let Some(yard) = Yard::new() else { return };
        yard.proxy.on("GET", *kind).always().fails(fault.clone());
        yard.pull(&[]).fails(1, said);
        yard.left_nothing();
    });
    // A layer that is lost, once the image was resolved.
    let Some(yard) = Yard::new() else { return };
    yard.proxy.on("GET", Kind::Blob).skip(1).always().fails(Fault::Status(404));
    yard.pull(&[]).fails(1, &["has lost sha256:"]);
    yard.left_nothing();
}

#[test]
fn logins_do_not_follow_redirects() {
    let Some(mut yard) = Yard::new() else { return };
    crate::credentials::config(&mut yard, &crate::credentials::auth("me", "a password"));
    yard.proxy.ask_for(Guard::tokens("me", "a password"));
    yard.proxy.on("GET", Kind::Blob).always().fails(Fault::Redirect);
    yard.pull(&[]).ok();
    yard.pulled();
    yard.proxy.on("POST", Kind::Upload).always().fails(Fault::Location(Form::Elsewhere));
    yard.push(&[]).ok();
    yard.pushed();
    let seen = yard.proxy.seen();
    let elsewhere: Vec<_> = seen.iter().filter(|seen| seen.elsewhere).collect();
    assert!(["GET", "PUT"].iter().all(|method| elsewhere.iter().any(|seen| seen.method == *method)));
    assert!(elsewhere.iter().all(|seen| seen.authorization.is_none()), "{elsewhere:?}");
    assert!(!yard.proxy.elsewhere().is_empty() && yard.proxy.bytes().0 > 1 << 20);
}

#[test]
fn what_fails_for_a_while_is_pushed() {
    if registry().is_none() {
        return;
    }
    let cases = [
        ("HEAD", Kind::Blob, Fault::Status(500)),
        ("POST", Kind::Upload, Fault::Status(503)),
        ("POST", Kind::Upload, Fault::RetryAfter(429, "1")),
        ("POST", Kind::Upload, Fault::Location(Form::Path)),
        ("POST", Kind::Upload, Fault::Location(Form::Last)),
        ("PUT", Kind::Upload, Fault::Status(502)),
        ("PUT", Kind::Upload, Fault::Status(404)),
        ("PUT", Kind::Upload, Fault::CutRequest(1_000_000)),
        ("PUT", Kind::Manifest, Fault::Status(500)),
        ("PUT", Kind::Manifest, Fault::CutRequest(10)),
    ];
    each(&cases, |(method, kind, fault)| {
        let Some(yard) = Yard::new() else { return };
        yard.proxy.on(method, *kind).times(2).fails(fault.clone());
        let ran = yard.push(&[]);
        assert_eq!(ran.code, Some(0), "{fault:?}: {}", ran.err);
        yard.pushed();
    });
}

#[test]
fn what_cannot_be_pushed_is_an_error_and_no_image() {
    if registry().is_none() {
        return;
    }
    let cases: [(&str, Kind, Fault, &str); 5] = [
        ("POST", Kind::Upload, Fault::Status(403), "denies access to"),
        ("POST", Kind::Upload, Fault::RetryAfter(503, "900"), "asks to come again in 900 seconds"),
        ("PUT", Kind::Upload, Fault::Status(500), "HTTP status 500, also when asked again"),
        ("PUT", Kind::Upload, Fault::CutRequest(1000), "cannot reach the registry"),
        ("PUT", Kind::Manifest, Fault::Status(413), "HTTP status 413"),
    ];
    each(&cases, |(method, kind, fault, said)| {
        let Some(yard) = Yard::new() else { return };
        yard.proxy.on(method, *kind).always().fails(fault.clone());
        yard.push(&[]).fails(1, &[said]);
        assert_eq!(yard.get("manifests/1").0, 404, "{fault:?}");
        yard.left_nothing();
    });
}

#[test]
fn a_token_that_is_dropped_on_the_way_is_renewed() {
    if registry().is_none() {
        return;
    }
    let cases = [("PUT", Kind::Upload), ("PUT", Kind::Manifest), ("POST", Kind::Upload), ("GET", Kind::Blob)];
    each(&cases, |(method, kind)| {
        let Some(mut yard) = Yard::new() else { return };
        crate::credentials::config(&mut yard, &crate::credentials::auth("me", "a password"));
        yard.proxy.ask_for(Guard::tokens("me", "a password"));
        yard.proxy.on(method, *kind).fails(Fault::DropTokens);
        yard.pull(&[]).ok();
        yard.push(&[]).ok();
        yard.pulled();
        yard.pushed();
        assert!(yard.proxy.seen().iter().any(|seen| seen.status == 401 && seen.method == *method));
    });
}

/// What a base image has in the same registry is mounted; a registry that refuses gets it once.
#[test]
fn mounts_are_asked_for_and_may_be_refused() {
    for (refused, uploads) in [(false, 2), (true, 3)] {
        let Some(mut yard) = Yard::new() else { return };
        crate::credentials::config(&mut yard, &crate::credentials::auth("me", "a password"));
        yard.proxy.ask_for(Guard::tokens("me", "a password"));
        if refused {
            yard.proxy.on("POST", Kind::Upload).of("mount=").always().fails(Fault::NoMount);
        }
        let dockerfile = format!("FROM {}/library/busybox\nCOPY Dockerfile /\n", yard.proxy.address());
        yard.scene.write("based/Dockerfile", &dockerfile);
        let name = format!("{}/{}:1", yard.proxy.address(), yard.name);
        yard.run(&["image", "build", "--push", "-t", &name, "based"]).ok();
        yard.pushed();
        assert_eq!(yard.proxy.count("PUT", Kind::Upload), uploads, "{:#?}", yard.proxy.seen());
        // A refused mount is the begin of the upload.
        assert_eq!(yard.proxy.count("POST", Kind::Upload), 3);
    }
}

/// A registry that says nothing holds nobody who wants to go.
#[test]
fn who_waits_in_vain_can_leave() {
    for (kind, pushes) in [(Kind::Manifest, false), (Kind::Blob, false), (Kind::Upload, true)] {
        let Some(yard) = Yard::new() else { return };
        yard.proxy.on("", kind).always().fails(Fault::Hang);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| if pushes { yard.push(&[]) } else { yard.pull(&[]) });
            until("the registry is asked", || yard.proxy.count("", kind) > 0);
            let store = format!("SHIPWAY_STORE={}", yard.scene.store().display());
            until("the command is told to stop", || {
                interrupt(&store);
                waiting.is_finished()
            });
            let ran = waiting.join().unwrap();
            assert_eq!(ran.code, Some(130), "{}", ran.err);
        });
        yard.left_nothing();
    }
}

/// Sends SIGINT to the process that has this in its environment.
fn interrupt(variable: &str) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if environment.split(|byte| *byte == 0).any(|known| known == variable.as_bytes())
            && let Some(pid) = pid.and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
    }
}

/// Nothing is asked twice, and an open registry is asked nothing but what is needed.
#[test]
fn questions_are_few() {
    let Some(yard) = Yard::new() else { return };
    yard.pull(&[]).ok();
    assert_eq!(yard.proxy.count("", Kind::Ping) + yard.proxy.count("", Kind::Token), 0);
    yard.proxy.forget();
    yard.push(&[]).ok();
    // Whether the tag stands; for two blobs whether they are there, where they go, and the bytes; the manifest.
    assert_eq!(yard.proxy.count("", Kind::Any), 8, "{:#?}", yard.proxy.seen());
    yard.proxy.forget();
    yard.push(&[]).ok();
    assert_eq!(yard.proxy.count("", Kind::Any), 1, "{:#?}", yard.proxy.seen());
    // A registry that does not say what a tag means is asked for the manifest.
    yard.proxy.forget();
    yard.proxy.on("HEAD", Kind::Manifest).always().fails(Fault::NoDigest);
    yard.push(&[]).ok();
    assert_eq!(yard.proxy.count("", Kind::Any), 2, "{:#?}", yard.proxy.seen());
    yard.proxy.heal();
}
