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
        // The base's layers are not compressed anew for every case.
        let output = output(case, archive.to_str().unwrap()) + ",compression=uncompressed";
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
        Outcome::Refused(portable(message.trim_start_matches("ERROR: failed to build: ")))
    }
}

/// The value of `--output`.
fn output(case: &Case, destination: &str) -> String {
    let further = case.value("output").map(|further| format!(",{further}")).unwrap_or_default();
    format!("type=oci,dest={destination}{further}")
}

/// A message without what is different on every machine: identifiers, folders of the builder, what a
/// network said.
fn portable(message: &str) -> String {
    let message = message.split(": failed to do request").next().unwrap_or_default();
    let mut words = Vec::new();
    let mut all = message.split(' ').peekable();
    while let Some(word) = all.next() {
        match word.split_once("/cachemounts/") {
            Some((_, inside)) => words.push(inside.trim_start_matches(|byte| byte != '/')),
            None if word == "of" && all.peek() == Some(&"ref") => drop(all.by_ref().take(2).count()),
            None => words.push(word),
        }
    }
    words.join(" ")
}
