//! Bad days of the registries that keep shared caches: through the proxy that has them on command. Every fault
//! ends in the right image; what a place cannot give is built, what it does not take is a warning.

use crate::proxy::{Fault, Guard, Kind, Proxy};
use crate::scene::Scene;
use crate::shared_cache::{Shelf, build, images, steps};

const NONE: [String; 0] = [];

/// A shelf that was filled, the images that were made, and the proxy before it.
fn filled(name: &str) -> Option<(Shelf, Vec<String>, Proxy)> {
    let shelf = Shelf::new(name)?;
    let proxy = Proxy::start(&shelf.registry);
    let shelf = shelf.through(proxy.address());
    let one = shelf.machine();
    let made = build(&one, &["--push", "--cache-to", &shelf.cache("main")]).ok();
    Some((shelf, ids(&images(&made)), proxy))
}

/// The ids without the names, which say which way was taken.
fn ids(images: &[String]) -> Vec<String> {
    images.iter().map(|line| line.split_whitespace().nth(1).unwrap_or("").to_owned()).collect()
}

fn out(machine: &Scene, service: &str) -> String {
    machine.shipway(&["--engine", "none", "image", "build", "-q", "-o", "out", service]).ok();
    std::fs::read_to_string(machine.project().join("out/app/out")).unwrap()
}

#[test]
fn what_passes_is_asked_again() {
    let Some((shelf, made, proxy)) = filled("passing") else { return };
    let faults = [
        (Kind::Manifest, 2, Fault::Status(500)),
        (Kind::Manifest, 1, Fault::RetryAfter(429, "1")),
        (Kind::Manifest, 1, Fault::Cut(40)),
        (Kind::Manifest, 1, Fault::WrongBytes),
        (Kind::Manifest, usize::MAX, Fault::NoDigest),
        (Kind::Blob, 1, Fault::Status(502)),
        (Kind::Blob, 2, Fault::Cut(60)),
        (Kind::Blob, 1, Fault::WrongBytes),
        (Kind::Blob, usize::MAX, Fault::Redirect),
    ];
    for (kind, times, fault) in faults {
        proxy.heal();
        proxy.forget();
        proxy.on("GET", kind).of("/cache/").times(times).fails(fault.clone());
        let machine = shelf.machine();
        let built = build(&machine, &["--cache-from", &shelf.cache("main")]).ok();
        let found = (steps(&built), ids(&images(&built)));
        assert_eq!(found, (NONE.to_vec(), made.clone()), "{kind:?} {fault:?}: {}", built.err);
        assert!(proxy.count("GET", kind) > 0);
    }
}

#[test]
fn what_is_lost_is_built() {
    let Some((shelf, _, proxy)) = filled("lost") else { return };
    let cache = shelf.cache("main");
    let faults = [
        (Kind::Manifest, Fault::Status(403)),
        (Kind::Manifest, Fault::Status(404)),
        (Kind::Blob, Fault::Status(404)),
        (Kind::Blob, Fault::WrongBytes),
        (Kind::Blob, Fault::Status(403)),
    ];
    for (kind, fault) in faults {
        proxy.heal();
        proxy.on("GET", kind).of("/cache/").always().fails(fault.clone());
        let machine = shelf.machine();
        let built = build(&machine, &["--cache-from", &cache]).ok();
        assert!(!steps(&built).is_empty(), "{kind:?} {fault:?}: {}", built.err);
        assert_eq!(out(&machine, "one"), "a\none", "{kind:?} {fault:?}");
    }
    // The same for images that are only pushed: what cannot be had is made.
    proxy.heal();
    proxy.on("POST", Kind::Upload).always().fails(Fault::NoMount);
    proxy.on("GET", Kind::Blob).of("/cache/").always().fails(Fault::Status(404));
    let (machine, other) = (shelf.machine(), shelf.again());
    machine.write("compose.yaml", &other.compose());
    build(&machine, &["--push", "--cache-from", &cache]).ok().says(&["that it names"]);
    proxy.heal();
    let checked = shelf.machine();
    checked.write("compose.yaml", &other.compose());
    checked.write("Dockerfile", &format!("FROM {}\n", other.image("one")));
    checked.shipway(&["--engine", "none", "image", "build", "-q", "-o", "out", "."]).ok();
    assert_eq!(std::fs::read_to_string(checked.project().join("out/app/out")).unwrap(), "a\none");
}

#[test]
fn uploads_go_on_whatever_happens() {
    let Some(shelf) = Shelf::new("uploads") else { return };
    let proxy = Proxy::start(&shelf.registry);
    let faults = [
        ("PUT", Kind::Upload, 2, Fault::Status(500)),
        ("PUT", Kind::Upload, 2, Fault::CutRequest(30)),
        ("POST", Kind::Upload, 1, Fault::RetryAfter(429, "1")),
        ("POST", Kind::Upload, usize::MAX, Fault::NoMount),
        ("PUT", Kind::Manifest, 2, Fault::Status(502)),
    ];
    for (method, kind, times, fault) in faults {
        let shelf = shelf.again().through(proxy.address());
        proxy.on(method, kind).times(times).fails(fault.clone());
        let (one, two) = (shelf.machine(), shelf.machine());
        let cache = shelf.cache("main");
        let first = build(&one, &["--push", "--cache-to", &format!("{cache},ignore-error=false")]).ok();
        proxy.heal();
        let second = build(&two, &["--push", "--cache-from", &cache]).ok();
        assert_eq!(
            (steps(&second), images(&second)),
            (NONE.to_vec(), images(&first)),
            "{method} {kind:?} {fault:?}: {}",
            second.err
        );
        assert_eq!(second.err.matches("nothing to upload").count(), 2, "{method} {kind:?} {fault:?}");
    }
}

#[test]
fn who_may_not_write_reads() {
    let Some((shelf, made, proxy)) = filled("fork") else { return };
    proxy.on("POST", Kind::Upload).of("/cache/").always().fails(Fault::Status(403));
    let machine = shelf.machine();
    machine.write("two/static/s.txt", "a fork's\n");
    let cache = shelf.cache("main");
    let built = build(&machine, &["--cache-from", &cache, "--cache-to", &cache]).ok();
    assert_eq!(steps(&built), ["COPY static /static"]);
    assert_eq!(ids(&images(&built))[0], made[0]);
    let warned = built.err.lines().filter(|line| line.contains("was not filled")).count();
    assert_eq!(warned, 1, "{}", built.err);
}

/// What a project where nothing changed costs: a request a service to the cache and one for its tag, and for
/// each base image one to the cache and one to its registry.
#[test]
fn nothing_changed_is_a_handful_of_requests() {
    let Some(shelf) = Shelf::new("requests") else { return };
    let proxy = Proxy::start(&shelf.registry);
    let shelf = shelf.through(proxy.address());
    let (one, two) = (shelf.machine(), shelf.machine());
    // Something that weighs.
    for machine in [&one, &two] {
        machine.write("one/src/large", &"0123456789abcdef".repeat(1 << 18));
    }
    let cache = shelf.cache("main");
    let flags = ["--push", "--cache-from", &cache, "--cache-to", &cache];
    let first = build(&one, &flags).ok();
    let all = |(up, down): (u64, u64)| up + down;
    let filling = all(proxy.bytes());
    proxy.forget();
    let second = build(&two, &flags).ok();
    assert_eq!(images(&second), images(&first));
    let count = |method, kind| proxy.count(method, kind);
    assert_eq!((count("GET", Kind::Manifest), count("HEAD", Kind::Manifest)), (3, 3), "{:?}", proxy.seen());
    assert_eq!(count("", Kind::Blob) + count("", Kind::Upload) + count("PUT", Kind::Any), 0);
    let bytes = all(proxy.bytes());
    assert!(bytes * 100 < filling, "{bytes} of {filling}");
}

#[test]
fn tokens_that_end_are_asked_for_again_and_are_nowhere_to_be_read() {
    let Some(shelf) = Shelf::new("tokens") else { return };
    let proxy = Proxy::start(&shelf.registry);
    proxy.ask_for(Guard::tokens("builder", "s3cret-of-all"));
    let shelf = shelf.through(proxy.address());
    let machine = || {
        let machine = shelf.machine();
        let auth = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "builder:s3cret-of-all");
        let config = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, proxy.address());
        machine.write("docker/config.json", &config);
        machine
    };
    let run = |machine: &Scene, flags: &[&str]| {
        let all = [&["--engine", "none", "--progress", "plain", "build"], flags].concat();
        let mut command = machine.command(&all);
        command.env("DOCKER_CONFIG", machine.project().join("docker"));
        crate::scene::ran(&command.output().unwrap())
    };
    let (one, two) = (machine(), machine());
    let cache = shelf.cache("main");
    proxy.on("PUT", Kind::Upload).skip(2).fails(Fault::DropTokens);
    let first = run(&one, &["--push", "--cache-to", &format!("{cache},ignore-error=false")]).ok();
    proxy.on("GET", Kind::Manifest).of("/cache/").fails(Fault::DropTokens);
    let second = run(&two, &["--cache-from", &cache, "--trace", "trace.json"]).ok();
    assert_eq!((steps(&second), images(&second)), (NONE.to_vec(), images(&first)), "{}", second.err);
    // Nothing of the login is anywhere.
    let said = [first.out, first.err, second.out, second.err].concat();
    let trace = std::fs::read_to_string(two.project().join("trace.json")).unwrap();
    for secret in proxy.secrets() {
        assert!(!said.contains(&secret) && !trace.contains(&secret));
        let found = std::process::Command::new("grep").args(["-rlF", &secret]).arg(two.store()).output();
        assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
    }
}

#[test]
fn a_registry_that_never_answers_is_left_at_once_when_told_to() {
    let Some(shelf) = Shelf::new("silent") else { return };
    // Accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let machine = shelf.machine();
    let child = machine.start(&[
        "--engine",
        "none",
        "build",
        "--cache-from",
        &format!("type=registry,ref={address}/cache"),
    ]);
    silent.accept().unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = crate::scene::ran(&child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{ended:?}");
}
