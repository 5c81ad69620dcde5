//! The project `testdata/pack`: four services that someone would really have, from the clone's own files.
//!
//! MySQL, redis, flask and nginx, with real packages from a Debian mirror. It takes the ports 80, 3306 and
//! 8000 of the network that the tests run in.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::scene::{Scene, needs, until};

/// Held by who launches the project.
pub(crate) fn ports() -> MutexGuard<'static, ()> {
    static PORTS: Mutex<()> = Mutex::new(());
    PORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies the project into a scene.
pub(crate) fn copy_to(scene: &Scene) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/pack");
    let copied = Command::new("cp").arg("-a").arg(source.join(".")).arg(scene.project()).status().unwrap();
    assert!(copied.success());
}

/// A copy of the project in a scene, with the images that stand in for the registry's.
fn pack() -> Option<Scene> {
    let debian = needs("SHIPWAY_TEST_DEBIAN_TAR", "SHIPWAY_TEST_DEBIAN_TAR")?;
    let scene = Scene::with_engine("pack")?;
    copy_to(&scene);
    scene.shipway(&["image", "import", &debian, "debian:bookworm-slim"]).ok();
    scene.shipway(&["image", "build", "-t", "redis:3.2", "redis"]).ok();
    Some(scene)
}

/// The page through nginx; the cookies of the session are kept in a file.
fn page(scene: &Scene) -> Option<String> {
    let jar = scene.project().join("cookies");
    let fetched = Command::new("curl")
        .args(["-sf", "-m", "20", "-b"])
        .arg(&jar)
        .arg("-c")
        .arg(&jar)
        .arg("http://127.0.0.1:80/")
        .output()
        .unwrap();
    fetched.status.success().then(|| String::from_utf8_lossy(&fetched.stdout).into_owned())
}

fn visits(page: &str) -> Option<u32> {
    let (_, rest) = page.split_once("Visits in this session: ")?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

#[test]
fn the_whole_project_comes_up_serves_and_changes_by_parts() {
    let _ports = ports();
    let Some(scene) = pack() else { return };
    let up = || scene.shipway(&["--progress", "plain", "up", "-d"]).ok();
    up();
    let mut first = None;
    until("the page comes", || {
        first = page(&scene);
        first.is_some()
    });
    let first = first.unwrap();
    let second = page(&scene).unwrap();
    assert_eq!(visits(&second), visits(&first).map(|visits| visits + 1), "{first}\n{second}");
    assert!(second.contains("<td>"), "no rows from MySQL: {second}");

    let services = ["mysql", "redis", "flask", "nginx"];
    let ids = || services.map(|service| scene.container(service).unwrap());
    let before = ids();
    let again = up();
    assert!(!again.err.contains("done in"), "{}", again.err);
    assert_eq!(ids(), before);

    let app = scene.project().join("flask/app.py");
    let text = std::fs::read_to_string(&app).unwrap();
    std::fs::write(&app, text + "\n# one line more\n").unwrap();
    let changed = up();
    let packages: Vec<&str> = changed.err.lines().filter(|line| line.contains("apt-get")).collect();
    assert!(packages.iter().all(|line| line.ends_with("  hit")), "{}", changed.err);
    let after = ids();
    for (index, service) in services.iter().enumerate() {
        assert_eq!(before[index] != after[index], *service == "flask", "{service}");
    }
    let why = scene.shipway(&["why", "flask"]).ok();
    assert!(why.out.contains("`app.py` modified"), "{}", why.out);
    until("the page comes again, with the session that redis kept", || {
        page(&scene).as_deref().and_then(visits).is_some_and(|visits| visits >= 3)
    });
}
