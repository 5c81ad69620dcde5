//! Why a command failed, and what that means for the one who called it.

use std::io;
use std::process::ExitCode;

use crate::base::diag::Diagnostic;
use crate::base::fs::PathError;
use crate::build::{BuildError, StepError, StepFailure};
use crate::engine::EngineError;
use crate::oci::OciError;
use crate::store::StoreError;
use crate::up::UpError;

use super::render::Screen;

/// The exit code of a command that the user stopped: 128 and SIGINT.
pub(super) const STOPPED: u8 = 130;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Mistakes in the user's files, or several failures of one kind.
    #[error("the project has mistakes")]
    Mistakes(Vec<Diagnostic>),
    /// Flags or variables that cannot be used together or mean nothing.
    #[error("{0}")]
    Usage(String),
    /// A file of the user's, or the terminal.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The container engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A build.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] OciError),
    /// A plan that could not be carried out.
    #[error(transparent)]
    Up(#[from] UpError),
    /// Signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    /// The user's terminal.
    #[error("cannot use the terminal: {0}")]
    Terminal(io::Error),
    /// The user stopped the command.
    #[error("stopped")]
    Stopped,
}

impl Failure {
    /// Prints the reason; the exit code.
    pub(super) fn report(&self, screen: &Screen) -> ExitCode {
        match self.mistakes(screen.hides_output()) {
            Some(diagnostics) => screen.diagnostics(&diagnostics),
            None if self.is_stop() => {
                screen.failure("stopped");
                return ExitCode::from(STOPPED);
            }
            // Whoever read the logs has seen enough.
            None if self.is_closed_pipe() => return ExitCode::SUCCESS,
            None => screen.failure(&self.to_string()),
        }
        ExitCode::FAILURE
    }

    /// The mistakes that it stands for, if it is about the user's files; failed steps with the end of their
    /// output where that was not shown.
    fn mistakes(&self, with_output: bool) -> Option<Vec<Diagnostic>> {
        match self {
            Self::Mistakes(mistakes) | Self::Build(BuildError::Mistakes(mistakes)) => Some(mistakes.clone()),
            Self::Build(BuildError::Steps(steps)) => {
                Some(steps.iter().map(|step| told(step, with_output)).collect())
            }
            _ => None,
        }
    }

    /// Whether the user wanted it.
    pub(super) fn is_stop(&self) -> bool {
        match self {
            Self::Stopped
            | Self::Engine(EngineError::Cancelled)
            | Self::Registry(OciError::Cancelled)
            | Self::Up(UpError::Cancelled | UpError::Engine(EngineError::Cancelled)) => true,
            Self::Build(error) => error.is_stop(),
            _ => false,
        }
    }

    /// Whether a reader of our output went away.
    fn is_closed_pipe(&self) -> bool {
        let source = match self {
            Self::Engine(EngineError::Transfer { source, .. })
            | Self::Up(UpError::Engine(EngineError::Transfer { source, .. })) => source,
            _ => return false,
        };
        source.kind() == io::ErrorKind::BrokenPipe
    }
}

/// A failed step as a mistake at its line, with the end of its output where that was not shown.
fn told(failure: &StepFailure, with_output: bool) -> Diagnostic {
    let message = format!("[{}] {}: {}", failure.services.join(", "), failure.text, failure.error);
    let mut diagnostic = Diagnostic::error(&message);
    if let Some(span) = &failure.span {
        diagnostic = diagnostic.at(span.clone(), "this step failed");
    }
    match &failure.error {
        StepError::Exit { output, .. } if with_output && !output.is_empty() => {
            // The command's own words, whatever they begin with.
            diagnostic.notes.push(format!("its last output:\n{output}"));
            diagnostic
        }
        _ => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::testing::{denied, no_access, samples};

    samples! { Failure:
        Mistakes(vec![Diagnostic::error("there is no service `wbe`").did_you_mean("wbe", ["web"])]),
        Usage("the project has no service `wbe`".into()),
        Path(no_access()),
        Store(StoreError::Path(no_access())),
        Engine(EngineError::Cancelled),
        Build(BuildError::NoRegistries),
        Registry(OciError::Cancelled),
        Up(UpError::Cancelled),
        Signals(denied()),
        Terminal(denied()),
        Stopped,
    }

    impl Failure {
        /// What is printed.
        pub(in crate::cli) fn told(&self, with_output: bool) -> Vec<Diagnostic> {
            let text = || vec![Diagnostic::error(self.to_string())];
            self.mistakes(with_output).unwrap_or_else(text)
        }
    }
}
