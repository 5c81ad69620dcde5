//! Why a command failed, and what that means for the one who called it.

use std::process::ExitCode;

use crate::base::diag::Diagnostic;
use crate::base::fs::PathError;
use crate::engine::EngineError;
use crate::store::StoreError;

use super::render::Screen;

/// The exit code of a command that the user stopped: 128 and SIGINT.
pub(super) const STOPPED: u8 = 130;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[expect(dead_code, reason = "read by commands that are being wired")]
    /// Mistakes in the user's files.
    #[error("the project has mistakes")]
    Mistakes(Vec<Diagnostic>),
    /// Flags or variables that cannot be used together or mean nothing.
    #[error("{0}")]
    Usage(String),
    /// A file of the user's, or the terminal.
    #[error("{0}")]
    Path(#[from] PathError),
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The container engine.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The user stopped the command.
    #[error("stopped")]
    Stopped,
}

impl Failure {
    /// Prints the reason; the exit code.
    pub(super) fn report(&self, screen: &Screen) -> ExitCode {
        match self {
            Self::Mistakes(diagnostics) => screen.diagnostics(diagnostics),
            Self::Stopped | Self::Engine(EngineError::Cancelled) => {
                screen.failure("stopped");
                return ExitCode::from(STOPPED);
            }
            other => screen.failure(&other.to_string()),
        }
        ExitCode::FAILURE
    }
}
