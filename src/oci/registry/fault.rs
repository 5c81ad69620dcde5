//! What an answer of a registry means: asking again, or an error that says what to do.
//!
//! Addresses never reach an error: those to which registries redirect hold signatures.

use std::error::Error;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oci_client::RegistryOperation;
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;

use super::super::{OciError, Reference};
use super::Session;

/// The pauses before asking again; after the last there is no more asking.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(750),
    Duration::from_millis(2250),
    Duration::from_millis(6750),
];

/// How often a login that is no good any more is renewed in a row: others may use a new token up meanwhile.
const LOGINS: usize = 3;

/// A failed question.
#[derive(Debug)]
pub(super) enum Fault {
    /// It may be answered a moment later.
    Passing(String),
    /// The login is no good any more, if it ever was.
    Unauthorized,
    /// It is the answer.
    Final(OciError),
}

impl Fault {
    /// Judges an error of the client about `reference`.
    pub(super) fn of(error: OciDistributionError, reference: &Reference) -> Self {
        let name = || reference.familiar();
        let unusable = |problem: String| Self::Final(OciError::Registry { reference: name(), problem });
        match error {
            OciDistributionError::RequestError(error) if error.is_connect() => {
                let registry = reference.registry().to_owned();
                Self::Final(OciError::Unreachable { registry, problem: root_cause(&error) })
            }
            OciDistributionError::RequestError(error) if error.is_builder() || error.is_redirect() => {
                unusable(root_cause(&error.without_url()))
            }
            OciDistributionError::RequestError(error) if error.status().is_some() => {
                status(error.status().map_or(0, |status| status.as_u16()), reference)
            }
            OciDistributionError::RequestError(error) => Self::Passing(root_cause(&error.without_url())),
            OciDistributionError::IoError(error) => Self::Passing(root_cause(&error)),
            OciDistributionError::DigestError(error) => Self::Passing(error.to_string()),
            OciDistributionError::ServerError { code, .. } => status(code, reference),
            OciDistributionError::RegistryError { envelope, .. } => {
                let codes: Vec<_> = envelope.errors.iter().map(|error| &error.code).collect();
                judge(&codes, reference).unwrap_or_else(|| {
                    let messages = envelope.errors.iter().map(|error| error.message.as_str());
                    unusable(messages.collect::<Vec<_>>().join("; "))
                })
            }
            OciDistributionError::UnauthorizedError { .. } => Self::Unauthorized,
            OciDistributionError::AuthenticationFailure(_) => {
                Self::Final(OciError::Denied { reference: name() })
            }
            other => unusable(root_cause(&other)),
        }
    }
}

/// What an HTTP status without a registry's own error means.
fn status(code: u16, reference: &Reference) -> Fault {
    let name = reference.familiar();
    match code {
        408 | 429 | 500..=599 => Fault::Passing(format!("the registry answers with HTTP status {code}")),
        401 => Fault::Unauthorized,
        403 => Fault::Final(OciError::Denied { reference: name }),
        404 => Fault::Final(OciError::NotFound { reference: name }),
        _ => {
            let problem = format!("the registry answers with HTTP status {code}");
            Fault::Final(OciError::Registry { reference: name, problem })
        }
    }
}

/// What a registry's own error codes mean (OCI distribution-spec, "error codes"); `None`: nothing in particular.
fn judge(codes: &[&OciErrorCode], reference: &Reference) -> Option<Fault> {
    let name = || reference.familiar();
    codes.iter().find_map(|code| match code {
        OciErrorCode::Toomanyrequests => {
            Some(Fault::Passing("the registry has too many requests".to_owned()))
        }
        OciErrorCode::Unauthorized => Some(Fault::Unauthorized),
        OciErrorCode::Denied => Some(Fault::Final(OciError::Denied { reference: name() })),
        OciErrorCode::ManifestUnknown
        | OciErrorCode::NameUnknown
        | OciErrorCode::NotFound
        | OciErrorCode::BlobUnknown => Some(Fault::Final(OciError::NotFound { reference: name() })),
        _ => None,
    })
}

/// The innermost reason: `Connection refused (os error 111)`. The outer ones repeat addresses.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl Session<'_> {
    /// Asks until there is an answer, no more patience, or the user stops the command.
    pub(super) async fn retried<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T, OciError>
    where
        F: Future<Output = Result<T, OciDistributionError>>,
    {
        let mut pauses = PAUSES.iter();
        loop {
            let error = match self.unless_cancelled(ask()).await? {
                Ok(answer) => {
                    self.denied.store(0, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            self.pause(Fault::of(error, &self.reference), &mut pauses).await?;
        }
    }

    /// Waits before the question is asked again, or returns the error that ends the asking.
    pub(super) async fn pause(
        &self,
        fault: Fault,
        pauses: &mut std::slice::Iter<'_, Duration>,
    ) -> Result<(), OciError> {
        let problem = match fault {
            Fault::Final(error) => return Err(error),
            Fault::Passing(problem) => problem,
            Fault::Unauthorized => return self.log_in_again().await,
        };
        match pauses.next() {
            Some(pause) => self.unless_cancelled(tokio::time::sleep(*pause)).await,
            None => Err(OciError::Registry { reference: self.reference.familiar(), problem }),
        }
    }

    /// Logs in anew, for a token that ended or was dropped in the middle.
    async fn log_in_again(&self) -> Result<(), OciError> {
        let denied = || OciError::Denied { reference: self.reference.familiar() };
        if matches!(self.login, RegistryAuth::Anonymous)
            || self.denied.fetch_add(1, Ordering::Relaxed) >= LOGINS
        {
            return Err(denied());
        }
        let reference = self.client_reference();
        for operation in [RegistryOperation::Pull, RegistryOperation::Push] {
            let login = self.client.auth(&reference, &self.login, operation);
            // A login that may only read gets no token to write.
            if self.unless_cancelled(login).await?.is_err() && operation == RegistryOperation::Pull {
                return Err(denied());
            }
        }
        Ok(())
    }

    /// The future's value, unless the user stops the command first.
    pub(super) async fn unless_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T, OciError> {
        let stopped = async {
            while !self.cancel.is_cancelled() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            value = future => Ok(value),
            () = stopped => Err(OciError::Cancelled),
        }
    }

    /// The pauses, from the shortest.
    pub(super) fn pauses() -> std::slice::Iter<'static, Duration> {
        PAUSES.iter()
    }
}
