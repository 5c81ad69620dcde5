//! Faults of real registries, and every way to log in: each ends in the right image or the right error.

use crate::proxy::{Fault, Kind, Proxy};
use crate::scene::{Scene, needs, skip};

fn proxy() -> Option<Proxy> {
    let registry = needs("SHIPWAY_TEST_REGISTRY", "a registry in SHIPWAY_TEST_REGISTRY")?;
    if !rustix::process::geteuid().is_root() {
        skip("root");
        return None;
    }
    Some(Proxy::start(&registry))
}

#[test]
fn what_fails_for_a_moment_is_pulled() {
    let Some(proxy) = proxy() else { return };
    proxy.on("GET", Kind::Manifest).fails(Fault::Status(503));
    proxy.on("GET", Kind::Blob).times(2).fails(Fault::Cut(10));
    let scene = Scene::empty();
    scene.write("Dockerfile", &format!("FROM {}/library/busybox\nRUN true\n", proxy.address()));
    scene.shipway(&["--engine", "none", "image", "build", "."]).ok();
    println!("{:#?}", proxy.seen());
    assert!(proxy.count("GET", Kind::Blob) >= 3);
}
