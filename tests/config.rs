//! `config` prints what Docker Compose prints: every line of `testdata/config/flags.txt` against the answer
//! that `testdata/config/remake.sh` wrote down. JSON counts as data, anything else by its lines, whose order
//! Docker Compose leaves to chance.

use std::path::Path;

use crate::scene::{Scene, needs};

#[test]
fn config_answers_every_flag_as_docker_compose_does() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/config");
    let scene = Scene::empty();
    for name in ["compose.yaml", ".env", "e"] {
        scene.write(name, &std::fs::read_to_string(data.join("project").join(name)).unwrap());
    }
    let here = scene.project().canonicalize().unwrap().display().to_string();
    let mut wrong = Vec::new();
    for (at, flags) in std::fs::read_to_string(data.join("flags.txt")).unwrap().lines().enumerate() {
        let path = data.join(format!("expected/{}.txt", at + 1));
        let expected = std::fs::read_to_string(path).unwrap();
        let flags: Vec<&str> = std::iter::once("config").chain(flags.split(' ')).collect();
        let got = scene.shipway(&flags).ok().out.replace(&here, "/project");
        if data_of(&expected) != data_of(&got) || lines_of(&expected) != lines_of(&got) {
            wrong.push(format!("{flags:?}: expected\n{expected}\ngot\n{got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn data_of(text: &str) -> Option<serde_json::Value> {
    serde_json::from_str(text).ok()
}

/// The lines of a text that is no JSON, without indentation, in alphabetical order.
fn lines_of(text: &str) -> Vec<&str> {
    let text = if data_of(text).is_some() { "" } else { text };
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn output_goes_to_a_file_and_refusals_have_reasons() {
    let scene = Scene::empty();
    scene.write("compose.yaml", "services: {a: {image: 'x:${T:-1}'}}");
    assert_eq!(scene.shipway(&["config", "--no-interpolate", "-o", "out.yaml"]).ok().out, "");
    let written = std::fs::read_to_string(scene.project().join("out.yaml")).unwrap();
    assert!(written.contains("x:${T:-1}"), "{written}");
    scene.shipway(&["config", "--no-interpolate", "--images"]).fails(1, &["--no-interpolate"]);
    scene.shipway(&["config", "--hash", "b"]).fails(1, &["`b`"]);
    scene.shipway(&["--offline", "config", "--resolve-image-digests"]).fails(1, &["--offline"]);
    scene.shipway(&["config", "--format", "xml"]).fails(1, &["xml"]);
}

#[test]
fn images_are_pinned_to_what_the_registry_has_now() {
    let Some(registry) = needs("SHIPWAY_TEST_REGISTRY", "a registry") else { return };
    let scene = Scene::empty();
    let image = format!("{registry}/library/busybox");
    scene.write("compose.yaml", &format!("services: {{a: {{image: {image}, tty: true}}, b: {{build: .}}}}"));
    let resolved = scene.shipway(&["config", "--resolve-image-digests"]).ok().out;
    assert!(resolved.contains(&format!("{image}:latest@sha256:")) && resolved.contains("tty"), "{resolved}");
    let lock = scene.shipway(&["config", "--lock-image-digests"]).ok().out;
    assert!(lock.contains(&format!("{image}:latest@sha256:")) && !lock.contains("tty"), "{lock}");
    scene.write("lock.yaml", &lock);
    let pinned = scene.shipway(&["-f", "compose.yaml", "-f", "lock.yaml", "config"]).ok().out;
    assert_eq!(pinned, resolved);
}
