//! Bad days of registries: through a proxy that has them on command. Every fault ends in the right image, or
//! in an error that says what to do.

use crate::proxy::{Fault, Proxy};
use crate::scene::{Scene, needs};
use crate::shared_cache::{Shelf, build, images, steps};

const NONE: [String; 0] = [];

/// A shelf that was filled, the images that were made, and the proxy before it.
fn filled(name: &str) -> Option<(Shelf, Vec<String>, Proxy)> {
    let shelf = Shelf::new(name)?;
    let proxy = Proxy::before(&shelf.registry);
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
        ("GET", "/manifests/main-", 2, Fault::Status(500)),
        ("GET", "/manifests/main-", 1, Fault::Status(429)),
        ("GET", "/manifests/main-", 1, Fault::Cut(40)),
        ("GET", "/manifests/main-", 3, Fault::Drop),
        ("GET", "/manifests/main-", 9, Fault::Strip("docker-content-digest")),
        ("GET", "/manifests/main-", 1, Fault::Flip),
        ("HEAD", "/manifests/latest", 1, Fault::Status(503)),
        ("HEAD", "/manifests/latest", 9, Fault::Strip("docker-content-digest")),
        ("GET", "/blobs/", 1, Fault::Status(502)),
        ("GET", "/blobs/", 2, Fault::Cut(60)),
        ("GET", "/blobs/", 1, Fault::Drop),
    ];
    for (method, path, times, fault) in faults {
        proxy.forget();
        proxy.rule(method, path, times, fault.clone());
        let machine = shelf.machine();
        let built = build(&machine, &["--cache-from", &shelf.cache("main")]).ok();
        let found = (steps(&built), ids(&images(&built)));
        assert_eq!(found, (NONE.to_vec(), made.clone()), "{method} {path} {fault:?}: {}", built.err);
        assert!(proxy.count(method, path) > 0);
    }
}

#[test]
fn what_is_lost_is_built() {
    let Some((shelf, _, proxy)) = filled("lost") else { return };
    let cache = shelf.cache("main");
    let faults = [
        ("GET", "/cache/manifests/main-", Fault::Status(403)),
        ("GET", "/cache/manifests/main-", Fault::Status(404)),
        ("GET", "/cache/blobs/", Fault::Status(404)),
        ("GET", "/cache/blobs/", Fault::Flip),
        ("GET", "/cache/blobs/", Fault::Status(403)),
    ];
    for (method, path, fault) in faults {
        proxy.forget();
        proxy.rule(method, path, usize::MAX, fault.clone());
        let machine = shelf.machine();
        let built = build(&machine, &["--cache-from", &cache]).ok();
        assert!(!steps(&built).is_empty(), "{path} {fault:?}: {}", built.err);
        assert_eq!(out(&machine, "one"), "a\none", "{path} {fault:?}");
    }
    // The same for images that are only pushed: what cannot be had is made.
    proxy.forget();
    proxy.rule("POST", "/uploads/", usize::MAX, Fault::NoQuery);
    proxy.rule("GET", "/cache/blobs/", usize::MAX, Fault::Status(404));
    let (machine, other) = (shelf.machine(), shelf.again());
    machine.write("compose.yaml", &other.compose());
    build(&machine, &["--push", "--cache-from", &cache]).ok().says(&["that it names"]);
    proxy.forget();
    let checked = shelf.machine();
    checked.write("compose.yaml", &other.compose());
    checked.write("Dockerfile", &format!("FROM {}\n", other.image("one")));
    checked.shipway(&["--engine", "none", "image", "build", "-q", "-o", "out", "."]).ok();
    assert_eq!(std::fs::read_to_string(checked.project().join("out/app/out")).unwrap(), "a\none");
}

#[test]
fn uploads_go_on_whatever_happens() {
    let Some(shelf) = Shelf::new("uploads") else { return };
    let proxy = Proxy::before(&shelf.registry);
    let faults: [(&str, &str, usize, Fault); 8] = [
        ("PUT", "/uploads/", 2, Fault::Status(500)),
        ("PUT", "/uploads/", 2, Fault::CutUpload(30)),
        ("POST", "/uploads/", 2, Fault::Drop),
        ("POST", "/uploads/", 1, Fault::Status(429)),
        ("POST", "/uploads/", usize::MAX, Fault::NoQuery),
        ("PUT", "/manifests/", 2, Fault::Status(502)),
        ("PUT", "/manifests/", 1, Fault::Drop),
        ("HEAD", "/blobs/", 1, Fault::Drop),
    ];
    for (method, path, times, fault) in faults {
        proxy.forget();
        let shelf = shelf.again().through(proxy.address());
        proxy.rule(method, path, times, fault.clone());
        let (one, two) = (shelf.machine(), shelf.machine());
        let cache = shelf.cache("main");
        let first = build(&one, &["--push", "--cache-to", &format!("{cache},ignore-error=false")]).ok();
        proxy.forget();
        let second = build(&two, &["--push", "--cache-from", &cache]).ok();
        assert_eq!(
            (steps(&second), images(&second)),
            (NONE.to_vec(), images(&first)),
            "{method} {path} {fault:?}: {}",
            second.err
        );
        assert_eq!(second.err.matches("nothing to upload").count(), 2, "{method} {path} {fault:?}");
    }
}

#[test]
fn who_may_not_write_reads() {
    let Some((shelf, made, proxy)) = filled("fork") else { return };
    proxy.rule("POST", "/cache/blobs/uploads/", usize::MAX, Fault::Status(403));
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
    let proxy = Proxy::before(&shelf.registry);
    let shelf = shelf.through(proxy.address());
    let (one, two) = (shelf.machine(), shelf.machine());
    // Something that weighs.
    for machine in [&one, &two] {
        machine.write("one/src/large", &"0123456789abcdef".repeat(1 << 18));
    }
    let cache = shelf.cache("main");
    let flags = ["--push", "--cache-from", &cache, "--cache-to", &cache];
    let first = build(&one, &flags).ok();
    let filling = proxy.bytes();
    proxy.forget();
    let second = build(&two, &flags).ok();
    assert_eq!(images(&second), images(&first));
    assert_eq!((proxy.count("GET", "/cache/manifests/"), proxy.count("HEAD", "/latest")), (3, 3));
    assert_eq!(proxy.requests("/blobs/") + proxy.count("PUT", "/"), 0);
    assert!(proxy.bytes() * 100 < filling, "{} of {filling}", proxy.bytes());
}

#[test]
fn tokens_that_end_are_asked_for_again_and_go_nowhere_else() {
    let Some(shelf) = Shelf::new("tokens") else { return };
    let proxy = Proxy::before(&shelf.registry);
    proxy.asks_for_a_token("builder", "s3cret-of-all", 20);
    let shelf = shelf.through(proxy.address());
    let stranger = shelf.machine();
    build(&stranger, &[]).fails(1, &["may need a login"]);
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
    let first = run(&one, &["--push", "--cache-to", &format!("{cache},ignore-error=false")]).ok();
    // Blobs lie on another host.
    let elsewhere = Proxy::before(&needs("SHIPWAY_TEST_REGISTRY", "a registry").unwrap());
    proxy.rule("GET", "/blobs/", usize::MAX, Fault::Redirect(elsewhere.address().to_owned()));
    let second = run(&two, &["--cache-from", &cache, "--trace", "trace.json"]).ok();
    assert_eq!((steps(&second), images(&second)), (NONE.to_vec(), images(&first)), "{}", second.err);
    assert!(elsewhere.requests("/blobs/") > 0 && !elsewhere.was_trusted());
    // Nothing of the login is anywhere.
    let said = [first.out, first.err, second.out, second.err].concat();
    let trace = std::fs::read_to_string(two.project().join("trace.json")).unwrap();
    let store = std::process::Command::new("grep")
        .args(["-rlE", "s3cret-of-all|token-[0-9]"])
        .arg(two.store())
        .output();
    assert!(!said.contains("s3cret") && !said.contains("token-") && !trace.contains("s3cret"));
    assert_eq!(String::from_utf8(store.unwrap().stdout).unwrap(), "");
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
