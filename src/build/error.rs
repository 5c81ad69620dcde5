//! Why a build did not come to its end.
//!
//! Mistakes in the user's files are diagnostics; everything else has a variant named by what failed.
//! [`StepFailure`] is a failed step with its place and the last of its output: `cli` renders it.

use crate::base::diag::{Diagnostic, Span};
use crate::base::fs::PathError;
use crate::context::{ContextError, CopyError, InvalidChmod};
use crate::engine::EngineError;
use crate::oci::OciError;
use crate::remote::RemoteError;
use crate::sandbox::{Exit, SandboxError};
use crate::store::StoreError;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Mistakes in the user's files, all at once.
    #[error("{}", joined(.0))]
    Mistakes(Vec<Diagnostic>),
    /// Steps that failed; what else could be done was done and stays.
    #[error("{} failed", count(.0.len()))]
    Steps(Vec<StepFailure>),
    /// Files kept changing while they were copied.
    #[error("{what} again and again\nhelp: stop what writes there and build again")]
    Unstable {
        /// Which file changed.
        what: String,
    },
    /// Results vanished from the store again and again.
    #[error(
        "results disappear from the store in {store} while they are used\n\
         help: stop what deletes there and build again"
    )]
    Vanishing {
        /// The store's folder.
        store: String,
    },
    /// The user stopped the build.
    #[error("stopped")]
    Cancelled,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An image, a layer or a registry.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Mounting.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A file of the host.
    #[error(transparent)]
    Path(#[from] PathError),
    /// An imported layer that cannot be filed.
    #[error("cannot file the imported layer: {0}")]
    Import(StepError),
    /// A repository that cannot be read.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A push although no registry may be asked.
    #[error("cannot push: --offline forbids to ask registries\nhelp: leave it out")]
    NoRegistries,
    /// A cache that insists and cannot be filled.
    #[error("cannot fill the cache {place}: {problem}")]
    CacheExport {
        /// Which cache.
        place: String,
        /// Why.
        problem: String,
    },
    /// A cache that takes nothing, as was seen before.
    #[error("the cache {place} takes nothing: it refused before")]
    Refused {
        /// Which cache.
        place: String,
    },
    /// A layer that a cache names and cannot give.
    #[error("the cache does not have the layer {digest} that it names: {problem}")]
    LostBlob {
        /// Which.
        digest: crate::base::digest::Digest,
        /// What was said.
        problem: String,
    },
    /// An image's draft that cannot be written down.
    #[error("cannot write the image's draft: {0}")]
    Draft(serde_json::Error),
    /// What the engine has after an image was handed over is not that image.
    #[error(
        "the engine does not have `{name}` after it was handed over: expected {expected}, found {found}\n\
         help: something else may use that name or remove images there: build again"
    )]
    HandOver {
        /// The image's name.
        name: String,
        /// The id that it should have.
        expected: String,
        /// What the engine says.
        found: String,
    },
}

/// A step that failed.
#[derive(Debug)]
pub struct StepFailure {
    /// The services that need it.
    pub services: Vec<String>,
    /// The instruction as the user wrote it.
    pub text: String,
    /// Where it stands.
    pub span: Option<Span>,
    /// What went wrong.
    pub error: StepError,
}

/// What went wrong in a step.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The command did not succeed.
    #[error("the command ended with {exit}{}", kill_advice(*exit))]
    Exit {
        /// How it ended.
        exit: Exit,
        /// The last of its output.
        output: String,
    },
    /// A user or group that the image does not know.
    #[error(
        "there is no {kind} `{name}` in the image's {file}\n\
         help: add it in a step before this one, or give its number"
    )]
    UnknownUser {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
    },
    /// A mode that is not one.
    #[error(transparent)]
    Mode(#[from] InvalidChmod),
    /// A secret that the step cannot do without.
    #[error(
        "there is no secret `{0}`\nhelp: pass one with `--secret id={0},src=FILE` or in the compose file"
    )]
    NoSecret(String),
    /// A secret that does not fit.
    #[error("the secret `{0}` is larger than 500 KiB\nhelp: mount what is larger with `--mount=type=bind`")]
    LargeSecret(String),
    /// A secret that cannot be the value of a variable.
    #[error(
        "the secret `{0}` is not UTF-8 and cannot be the value of a variable\n\
         help: mount it as a file: write `target=…` and not `env=…`"
    )]
    SecretIsNoText(String),
    /// An ssh agent that the step cannot do without.
    #[error("there is no ssh agent `{0}`\nhelp: pass one with `--ssh {0}=SOCKET` or in the compose file")]
    NoAgent(String),
    /// Something that the builder cannot do yet.
    #[error("not supported yet: {0}")]
    Unsupported(String),
    /// The sources of a copy.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A copy.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The process or a mount.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer or the registry that it comes from.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// A path in the image.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A download or a repository.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Something that has never been asked for, with `--offline`.
    #[error("{0} is not known yet, and nobody is asked (--offline)\nhelp: build once without --offline")]
    Offline(String),
    /// What was to be had again is something else by now.
    #[error("{0} changed during the build")]
    Moved(String),
    /// What a cache had of the step is not to be had after all.
    #[error("the cache {0} lost a result")]
    Lost(String),
    /// A result that the step stands on is no longer in the store.
    #[error("a result that this step stands on is no longer in the store\nhelp: build again")]
    Vanished,
    /// A base image's layer that nobody can give.
    #[error(
        "the layer {0} of the base image is neither in the store nor to be had from a registry\n\
         help: build with --pull, and without --offline"
    )]
    MissingLayer(crate::base::digest::DiffId),
    /// A recipe that cannot be written down.
    #[error("cannot write the step's recipe: {0}")]
    Recipe(serde_json::Error),
    /// The step has no result of its own.
    #[error("a build context was asked for a result")]
    NoResult,
    /// The user stopped the build.
    #[error("stopped")]
    Cancelled,
}

impl BuildError {
    /// Whether the user wanted it to end.
    pub const fn is_stop(&self) -> bool {
        matches!(
            self,
            Self::Cancelled
                | Self::Engine(EngineError::Cancelled)
                | Self::Oci(OciError::Cancelled)
                | Self::Sandbox(SandboxError::Cancelled)
                | Self::Remote(RemoteError::Cancelled)
        )
    }
}

impl StepError {
    /// Whether selecting again and starting over may succeed.
    pub(super) fn is_change(&self) -> bool {
        matches!(
            self,
            Self::Copy(CopyError::Changed { .. })
                | Self::Context(ContextError::Unstable { .. })
                | Self::Moved(_)
                | Self::Lost(_)
        )
    }

    /// Whether the step itself failed: nobody stopped it, and nothing changed under it.
    pub(super) fn is_failure(&self) -> bool {
        !self.is_change() && !matches!(self, Self::Cancelled)
    }
}

/// What the kernel does where memory runs out; a shell tells it of its child by a code.
fn kill_advice(exit: Exit) -> &'static str {
    match exit {
        Exit::Signal(9) | Exit::Code(137) => {
            "\nhelp: was there too little memory? it is what ends commands so"
        }
        _ => "",
    }
}

fn joined(mistakes: &[Diagnostic]) -> String {
    mistakes.iter().map(|mistake| mistake.message.as_str()).collect::<Vec<_>>().join("; ")
}

fn count(steps: usize) -> String {
    if steps == 1 { "a step".to_owned() } else { format!("{steps} steps") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::{DiffId, Digest};
    use crate::base::testing::{no_access, samples};

    fn unencodable() -> serde_json::Error {
        serde::ser::Error::custom("key must be a string")
    }

    samples! { BuildError:
        Mistakes(vec![Diagnostic::error("there is no stage `biuld` in Dockerfile")]),
        Steps(Vec::new()),
        Unstable { what: "data/log.txt changed".into() },
        Vanishing { store: "/var/lib/shipway".into() },
        Cancelled,
        Store(StoreError::Path(no_access())),
        Engine(EngineError::Cancelled),
        Oci(OciError::Path(no_access())),
        Sandbox(SandboxError::NotRoot),
        Path(no_access()),
        Import(StepError::Vanished),
        Remote(RemoteError::Path(no_access())),
        NoRegistries,
        CacheExport { place: "example.com/cache".into(), problem: "it does not answer".into() },
        Refused { place: "example.com/cache".into() },
        LostBlob { digest: Digest::of("blob"), problem: "it does not answer".into() },
        Draft(unencodable()),
        HandOver { name: "app-web".into(), expected: "sha256:aa".into(), found: "nothing".into() },
    }

    samples! { StepError:
        Exit { exit: Exit::Code(2), output: "error: no such crate\nhelp: spell it right".into() },
        Exit { exit: Exit::Signal(9), output: String::new() },
        UnknownUser { kind: "user", name: "app".into(), file: "/etc/passwd" },
        Mode(InvalidChmod("u+y".into())),
        NoSecret("token".into()),
        LargeSecret("token".into()),
        SecretIsNoText("token".into()),
        NoAgent("default".into()),
        Unsupported("`COPY --link` of a device".into()),
        Context(ContextError::Unstable { path: "data/log.txt".into() }),
        Copy(CopyError::Changed { path: "src/main.py".into() }),
        Sandbox(SandboxError::NotRoot),
        Store(StoreError::Path(no_access())),
        Oci(OciError::Path(no_access())),
        Path(no_access()),
        Remote(RemoteError::Path(no_access())),
        Offline("https://example.com/tool.tar.gz".into()),
        Moved("https://example.com/tool.tar.gz".into()),
        Lost("example.com/cache".into()),
        Vanished,
        MissingLayer(DiffId(Digest::of("layer"))),
        Recipe(unencodable()),
        NoResult,
        Cancelled,
    }

    impl BuildError {
        /// Those of `remote`, which `cli` does not know.
        pub(crate) fn samples_of_remote() -> Vec<(&'static str, Self)> {
            RemoteError::samples().into_iter().map(|(name, error)| (name, error.into())).collect()
        }
    }
}
