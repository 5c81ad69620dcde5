//! The two builders: our program on a store of its own, and a BuildKit behind `docker buildx`.
//!
//! Both get the same folder for a case and give an image as an OCI archive. Neither compares anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::case::{Case, Outcome};
use super::image::Image;
use super::lay_out;
use crate::scene::{Scene, needs, ran};

/// Our builder on a store of its own that has the base images.
pub(super) struct Ours {
    scene: Scene,
}

impl Ours {
    pub(super) fn new() -> Option<Self> {
        let debian = needs("SHIPWAY_TEST_DEBIAN_TAR", "SHIPWAY_TEST_DEBIAN_TAR")?;
        let scene = Scene::with_busybox()?;
        scene.shipway(&["image", "import", &debian, "debian:bookworm-slim"]).ok();
        Some(Self { scene })
    }

    pub(super) fn build(&self, case: &Case, contexts: &BTreeMap<String, String>) -> Outcome {
        let folder = self.scene.project().join(&case.name);
        let arguments = lay_out(case, contexts, &folder);
        let archive = folder.join("image.tar");
        let output = output(case, archive.to_str().unwrap());
        let mut all = vec!["--engine", "none", "--offline", "--progress", "plain", "image", "build"];
        all.extend(["--output", &output]);
        all.extend(arguments.iter().map(String::as_str));
        let ran = self.scene.shipway(&all);
        match ran.code {
            Some(0) => Outcome::Image(Image::in_oci_archive(&fs::read(archive).unwrap()).text()),
            _ => Outcome::Refused(ran.err),
        }
    }
}

/// A BuildKit: the command that builds with it, and a folder that it can read.
pub(super) struct Theirs {
    command: Vec<String>,
    folder: tempfile::TempDir,
}

impl Theirs {
    /// `command` is the beginning of a command line, such as `docker buildx build`.
    pub(super) fn new(command: &str, folder: &Path) -> Self {
        Self { command: shell_words::split(command).unwrap(), folder: tempfile::tempdir_in(folder).unwrap() }
    }

    pub(super) fn build(&self, case: &Case, contexts: &BTreeMap<String, String>) -> Outcome {
        let folder = self.folder.path().join(&case.name);
        let arguments = lay_out(case, contexts, &folder);
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).current_dir(&folder);
        command.args(["--progress", "plain", "--provenance", "false", "--output", &output(case, "-")]);
        let output = command.args(arguments).output().unwrap();
        if output.status.success() {
            return Outcome::Image(Image::in_oci_archive(&output.stdout).text());
        }
        let message = ran(&output).err;
        let message = message.lines().rfind(|line| line.starts_with("ERROR: ")).unwrap_or(&message);
        let message = message.trim_start_matches("ERROR: ").trim_start_matches("failed to build: ");
        Outcome::Refused(message.replace(folder.to_str().unwrap(), "@FOLDER@"))
    }
}

/// The value of `--output`.
fn output(case: &Case, destination: &str) -> String {
    let further = case.value("output").map(|further| format!(",{further}")).unwrap_or_default();
    format!("type=oci,dest={destination}{further}")
}
