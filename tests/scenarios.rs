//! The scenarios of `testdata/launch`: each folder's script, run as a person would run it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scene::needs;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/launch")
}

fn run(name: &str) {
    let Some(engine) = needs("SHIPWAY_TEST_DOCKER_HOST", "a Docker Engine (SHIPWAY_TEST_DOCKER_HOST)") else {
        return;
    };
    let ran = Command::new(folder().join(name).join("run"))
        .env("SHIPWAY", env!("CARGO_BIN_EXE_shipway"))
        .env("DOCKER_HOST", engine)
        .env("COMPOSE_PROJECT_NAME", format!("sc-{name}-{}", std::process::id()))
        .env("NO_COLOR", "1")
        .env_remove("SHIPWAY_STORE")
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{name}:\n{}\n{}", said(&ran.stdout), said(&ran.stderr));
}

/// A test for each folder, and one that they are all there.
macro_rules! scenarios {
    ($($name:ident: $folder:literal,)*) => {
        $(#[test]
        fn $name() {
            run($folder);
        })*

        #[test]
        fn every_folder_is_run() {
            let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
            let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
            let mut found: Vec<_> =
                folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
            found.sort();
            assert_eq!(found, [$($folder),*]);
        }
    };
}

scenarios! {
    abort: "abort",
    depends_on: "depends-on",
    foreground: "foreground",
    hooks: "hooks",
    keepsakes: "keepsakes",
    lifecycle: "lifecycle",
    names: "names",
    networks: "networks",
    orphans: "orphans",
    scale: "scale",
    trouble: "trouble",
    wait: "wait",
}
