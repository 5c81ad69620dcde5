//! The two builders: our program on a store of its own, and a BuildKit behind `docker buildx`.
//!
//! Both get the same folder for a case and give the same [`Image`]: ours is read from the store, the
//! other's from the OCI archive that it writes. Neither compares anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use shipway::base::digest::BlobId;
use shipway::build::StoredImage;
use shipway::oci::{LayerOptions, Reference, write_layer};
use shipway::sandbox::{Isolated, Layers, Sandbox};
use shipway::store::{Bucket, Held, Store};

use super::case::{Case, Outcome};
use super::image::Image;
use super::lay_out;
use crate::scene::{Scene, needs, ran};

/// Our builder on a store of its own that has the base images.
pub(super) struct Ours {
    scene: Scene,
    store: Store,
    sandbox: Isolated,
}

impl Ours {
    pub(super) fn new() -> Option<Self> {
        let debian = needs("SHIPWAY_TEST_DEBIAN_TAR", "SHIPWAY_TEST_DEBIAN_TAR")?;
        let scene = Scene::with_busybox()?;
        scene.shipway(&["image", "import", &debian, "debian:bookworm-slim"]).ok();
        let store = Store::open(scene.store()).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_shipway"));
        let sandbox = Isolated::with_program(scene.store(), program).unwrap();
        Some(Self { scene, store, sandbox })
    }

    pub(super) fn build(&self, case: &Case, contexts: &BTreeMap<String, String>) -> Outcome {
        let arguments = lay_out(case, contexts, &self.scene.project().join(&case.name));
        let name = format!("case/{}", case.name);
        let mut all =
            vec!["--engine", "none", "--offline", "--progress", "plain", "image", "build", "-t", &name];
        all.extend(arguments.iter().map(String::as_str));
        let ran = self.scene.shipway(&all);
        match ran.code {
            Some(0) => Outcome::Image(self.image(&name).text()),
            _ => Outcome::Refused(ran.err),
        }
    }

    fn image(&self, name: &str) -> Image {
        let name = Reference::parse(name).unwrap().with_default_tag().to_string();
        let stored: StoredImage = self.store.shelf(Bucket::Names).get(&name).unwrap();
        let config = fs::read(self.store.blob_path(BlobId(stored.config.0))).unwrap();
        let top = stored.holds.iter().find_map(|held| match held {
            Held::Snapshot(id) => Some(*id),
            Held::Blob(_) => None,
        });
        let chain = top.map(|top| self.store.chain(top).unwrap()).unwrap_or_default();
        let trees: Vec<PathBuf> = chain.into_iter().map(|snapshot| snapshot.tree).collect();
        let layers = (0..trees.len()).map(|index| self.layer(&trees[..=index])).collect();
        Image { config: serde_json::from_slice(&config).unwrap(), layers }
    }

    fn layer(&self, trees: &[PathBuf]) -> Vec<u8> {
        let (top, below) = trees.split_last().unwrap();
        let tree = shipway::base::fs::RootDir::open(top).unwrap();
        let lowers = Layers { lowers: below.to_vec(), writable: None };
        let lower = (!below.is_empty()).then(|| self.sandbox.root(&lowers).unwrap());
        let mut layer = Vec::new();
        write_layer(&tree, lower.as_ref(), &mut layer, &LayerOptions::default()).unwrap();
        layer
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
        command.args(["--progress", "plain", "--provenance", "false", "--output", "type=oci,dest=-"]);
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
