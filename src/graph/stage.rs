//! A stage while it is lowered: its file system so far, its image config, its variables, its history.
//!
//! Config is carried beside the graph and makes no nodes (DESIGN section 5): it reaches a RUN only
//! through what that process sees. `lower` creates a [`StageState`] from a base, `instruction` applies
//! instructions to it, and [`StageState::draft`] is what is left at the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::op::{BaseImage, NodeId};
use crate::oci::{ContainerConfig, History, Platform};

/// What `PATH` is where nothing sets it (BuildKit `util/system.DefaultPathEnvUnix`).
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image but for its layers: what lowering alone knows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ImageDraft {
    /// The platform it says it is for.
    pub platform: Platform,
    /// Who made it.
    pub author: String,
    /// What a container of it gets.
    pub config: ContainerConfig,
    /// Its history, oldest first.
    pub history: Vec<HistoryStep>,
}

/// One line of an image's history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HistoryStep {
    /// The instruction as BuildKit writes it there.
    pub created_by: String,
    /// What it made.
    pub made: Made,
}

/// What an instruction made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// The base image's own line.
    Base(History),
    /// The next layer above the base image's.
    Layer,
    /// No layer.
    Nothing,
}

#[derive(Clone, Debug)]
pub(super) struct StageState {
    /// The file system so far.
    pub(super) node: Option<NodeId>,
    pub(super) platform: Platform,
    pub(super) author: String,
    pub(super) config: ContainerConfig,
    pub(super) history: Vec<HistoryStep>,
    /// Variables in the order in which they were set, arguments included; the last one of a name counts.
    pub(super) variables: Vec<(String, String)>,
    /// Every declared argument, with a value or without, in the order of the first declarations.
    pub(super) arguments: Vec<String>,
    /// Whether this stage has set CMD itself: an ENTRYPOINT drops the base's.
    pub(super) command_set: bool,
    /// Steps so far that made a node, for their stable names.
    pub(super) ordinal: usize,
}

impl StageState {
    /// `FROM scratch`: BuildKit gives such an image a `PATH` and the working directory `/`.
    pub(super) fn scratch(platform: &Platform) -> Self {
        let config = ContainerConfig {
            env: vec![format!("PATH={DEFAULT_PATH}")],
            working_dir: "/".to_owned(),
            ..ContainerConfig::default()
        };
        Self::new(None, platform.clone(), String::new(), config, Vec::new())
    }

    /// `FROM image`.
    pub(super) fn image(node: Option<NodeId>, image: &BaseImage) -> Self {
        let lines = image.config.history.iter().cloned();
        let history = lines
            .map(|line| HistoryStep { created_by: line.created_by.clone(), made: Made::Base(line) })
            .collect();
        let (platform, author) = (image.config.platform(), image.config.author.clone());
        Self::new(node, platform, author, image.config.config.clone(), history)
    }

    fn new(
        node: Option<NodeId>,
        platform: Platform,
        author: String,
        config: ContainerConfig,
        history: Vec<HistoryStep>,
    ) -> Self {
        let mut variables: Vec<(String, String)> = config.env.iter().map(|line| split(line)).collect();
        if !variables.iter().any(|(name, _)| name == "PATH") {
            variables.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        Self {
            node,
            platform,
            author,
            config,
            history,
            variables,
            arguments: Vec::new(),
            command_set: false,
            ordinal: 0,
        }
    }

    /// `FROM stage`: everything but what belongs to one stage alone.
    pub(super) fn child(&self) -> Self {
        Self { command_set: false, ordinal: 0, ..self.clone() }
    }

    /// The image of another request: what its config says, with its further labels, and nothing of the
    /// arguments that made it.
    pub(super) fn built(&self, labels: &BTreeMap<String, String>) -> Self {
        let mut config = self.config.clone();
        config.labels.extend(labels.clone());
        Self::new(self.node, self.platform.clone(), self.author.clone(), config, self.history.clone())
    }

    /// The value of a variable.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.variables.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// The variables that a process sees, sorted.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        self.variables.iter().cloned().collect()
    }

    /// The declared arguments with what they are now; one without a value is empty.
    pub(super) fn declared(&self) -> Vec<(String, String)> {
        let value = |name: &String| (name.clone(), self.variable(name).unwrap_or_default());
        self.arguments.iter().map(value).collect()
    }

    /// Where a process starts.
    pub(super) fn directory(&self) -> String {
        match self.config.working_dir.as_str() {
            "" => "/".to_owned(),
            directory => directory.to_owned(),
        }
    }

    /// Adds a line to the history.
    pub(super) fn record(&mut self, created_by: impl Into<String>, made: Made) {
        self.history.push(HistoryStep { created_by: created_by.into(), made });
    }

    /// Sets a variable of the image and of the steps.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let line = format!("{name}={value}");
        match self.config.env.iter_mut().find(|known| split(known).0 == name) {
            Some(known) => *known = line,
            None => self.config.env.push(line),
        }
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// The image but for its layers, with further labels.
    pub(super) fn draft(&self, labels: &BTreeMap<String, String>) -> ImageDraft {
        let mut config = self.config.clone();
        config.labels.extend(labels.clone());
        ImageDraft {
            platform: self.platform.clone(),
            author: self.author.clone(),
            config,
            history: self.history.clone(),
        }
    }
}

/// `NAME=value`; without an equals sign the value is empty.
fn split(line: &str) -> (String, String) {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    (name.to_owned(), value.to_owned())
}
