//! What an answer of a registry means: asking again, or an error that says what to do.
//!
//! Addresses never reach an error: those to which registries redirect hold signatures. Of a registry's own
//! words one short line does.

use std::error::Error;
use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::super::OciError;
use super::Session;
use super::host::Host;

/// The pauses before asking again; after the last there is no more asking.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(750),
    Duration::from_millis(2250),
    Duration::from_millis(6750),
];
/// A registry that asks to wait longer is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How much of an error's text is read.
const LARGEST_ERROR: usize = 1 << 16;
/// How much of a registry's own words is passed on.
const LONGEST_WORDS: usize = 200;

/// A failed question.
#[derive(Debug)]
pub(super) enum Fault {
    /// It may be answered a moment later.
    Passing {
        /// What it is if it is not.
        error: OciError,
        /// How long the registry asks to wait.
        after: Option<Duration>,
        /// Whether this took so long that it is asked again only once.
        slow: bool,
    },
    /// It is the answer.
    Final(OciError),
}

/// A registry's own errors (OCI distribution-spec, "error codes").
#[derive(Default, Deserialize)]
struct Envelope {
    #[serde(default)]
    errors: Vec<Reported>,
}

#[derive(Deserialize)]
struct Reported {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Fault {
    /// It may pass.
    pub(super) const fn passing(error: OciError) -> Self {
        Self::Passing { error, after: None, slow: false }
    }

    /// No answer came in time.
    pub(super) fn silent(registry: &str) -> Self {
        Self::slow(registry, "it does not answer")
    }

    /// An answer took more time than it may.
    pub(super) fn slow(registry: &str, problem: &str) -> Self {
        let (registry, problem) = (registry.to_owned(), problem.to_owned());
        Self::Passing { error: OciError::Unreachable { registry, problem }, after: None, slow: true }
    }

    /// The way to the registry broke, for now.
    pub(super) fn unreached(registry: &str, problem: String) -> Self {
        Self::passing(OciError::Unreachable { registry: registry.to_owned(), problem })
    }

    /// Judges a request that got no answer, or the loss of an answer's rest.
    pub(super) fn of(error: &reqwest::Error, registry: &str) -> Self {
        let cause = innermost(error);
        let problem = advised(&cause.to_string(), registry);
        let broken = cause.downcast_ref::<std::io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
            )
        });
        let refused = refuses_us(&cause.to_string());
        if error.is_builder() || error.is_redirect() || refused || (error.is_connect() && !broken) {
            return Self::Final(OciError::Unreachable { registry: registry.to_owned(), problem });
        }
        Self::unreached(registry, problem)
    }

    /// The answer, if it is a success; else what it means for `name`.
    pub(super) async fn judge(answer: Response, host: &Host, name: &str) -> Result<Response, Self> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let after = retry_after(answer.headers(), OffsetDateTime::now_utc());
        let text = super::ask::read(answer, LARGEST_ERROR, host).await.unwrap_or_default();
        Err(Self::meant(status, after, &text, name))
    }

    fn meant(status: StatusCode, after: Option<Duration>, text: &[u8], name: &str) -> Self {
        let envelope: Envelope = serde_json::from_slice(text).unwrap_or_default();
        let has = |codes: &[&str]| envelope.errors.iter().any(|error| codes.contains(&error.code.as_str()));
        let reference = name.to_owned();
        let code = status.as_u16();
        let passing = matches!(code, 408 | 425 | 429 | 500..=599)
            || has(&[
                "TOOMANYREQUESTS",
                "DIGEST_INVALID",
                "SIZE_INVALID",
                "BLOB_UPLOAD_INVALID",
                "BLOB_UPLOAD_UNKNOWN",
            ]);
        if passing {
            let problem = format!("the registry answers with HTTP status {code}");
            return Self::Passing { error: OciError::Registry { reference, problem }, after, slow: false };
        }
        if matches!(code, 401 | 403) || has(&["UNAUTHORIZED", "DENIED"]) {
            return Self::Final(OciError::Denied { reference });
        }
        if code == 404 || has(&["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND", "BLOB_UNKNOWN"]) {
            return Self::Final(OciError::NotFound { reference });
        }
        let words: Vec<&str> = envelope.errors.iter().map(|error| error.message.as_str()).collect();
        let problem = match words.join("; ").lines().next() {
            Some(words) if !words.is_empty() => words.chars().take(LONGEST_WORDS).collect(),
            _ => format!("the registry answers with HTTP status {code}"),
        };
        Self::Final(OciError::Registry { reference, problem })
    }
}

/// What `Retry-After` asks for: seconds or a moment.
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let format = "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT";
    let format = time::format_description::parse_borrowed::<2>(format).ok()?;
    let moment = PrimitiveDateTime::parse(text, &format).ok()?.assume_utc();
    Some(Duration::from_secs(u64::try_from((moment - now).whole_seconds()).unwrap_or(0)))
}

/// Whether the other side ended the connection because of our certificate, or because there is none: it will
/// again. With TLS 1.3 it says so after the handshake, and a connection that is gone before the request is
/// sent may hide it (RFC 8446, sections 4.4.2.4 and 6.2).
fn refuses_us(problem: &str) -> bool {
    let alert = problem.split_once("received fatal alert: ").map_or("", |(_, alert)| alert);
    let alert = alert.to_ascii_lowercase();
    ["certificate", "unknownca", "unknown ca", "accessdenied", "access denied"]
        .iter()
        .any(|word| alert.contains(word))
}

/// What went wrong on the way, and what to do about it.
fn advised(problem: &str, registry: &str) -> String {
    let advice = if problem.contains("certificate required") || problem.contains("CertificateRequired") {
        format!(
            "it wants a certificate of ours, as /etc/docker/certs.d/{registry}/client.cert with client.key"
        )
    } else if problem.contains("certificate") {
        format!("an authority of its own belongs into /etc/docker/certs.d/{registry}/ca.crt")
    } else if problem.contains("InvalidContentType") || problem.contains("handshake eof") {
        format!("it may speak plain HTTP, which --insecure-registry {registry} allows")
    } else {
        return problem.to_owned();
    };
    format!("{problem}\nhelp: {advice}")
}

/// The innermost reason: `Connection refused (os error 111)`. The outer ones repeat addresses.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    innermost(error).to_string()
}

fn innermost<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// How long to wait before asking again; the error if that has no use.
fn wait(
    error: OciError,
    after: Option<Duration>,
    pauses: &mut std::slice::Iter<'_, Duration>,
) -> Result<Duration, OciError> {
    // What is added stands before the advice.
    let longer = |problem: String, more: &str| match problem.split_once('\n') {
        Some((problem, advice)) => format!("{problem}{more}\n{advice}"),
        None => problem + more,
    };
    let more = |error, more: String| match error {
        OciError::Registry { reference, problem } => {
            OciError::Registry { reference, problem: longer(problem, &more) }
        }
        OciError::Unreachable { registry, problem } => {
            OciError::Unreachable { registry, problem: longer(problem, &more) }
        }
        other => other,
    };
    match (pauses.next(), after) {
        (_, Some(after)) if after > LONGEST_WAIT => {
            Err(more(error, format!(" and asks to come again in {} seconds", after.as_secs())))
        }
        (Some(pause), after) => Ok(after.unwrap_or_default().max(*pause)),
        (None, _) => Err(more(error, ", also when asked again".to_owned())),
    }
}

impl Session<'_> {
    /// Asks until there is an answer, no more patience, or the user stops the command.
    pub(super) async fn retried<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T, OciError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut pauses = PAUSES.iter();
        loop {
            match self.unless_cancelled(ask()).await? {
                Ok(answer) => return Ok(answer),
                Err(fault) => self.pause(fault, &mut pauses).await?,
            }
        }
    }

    /// Waits before the question is asked again, or returns the error that ends the asking.
    pub(super) async fn pause(
        &self,
        fault: Fault,
        pauses: &mut std::slice::Iter<'_, Duration>,
    ) -> Result<(), OciError> {
        let pause = match fault {
            Fault::Final(error) => return Err(error),
            Fault::Passing { error, after, slow } => {
                while slow && pauses.len() > 1 {
                    pauses.next();
                }
                wait(error, after, pauses)?
            }
        };
        self.unless_cancelled(tokio::time::sleep(pause)).await
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

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(status: u16, text: &str) -> String {
        match Fault::meant(StatusCode::from_u16(status).unwrap(), None, text.as_bytes(), "r/a:1") {
            Fault::Passing { .. } => "passing".to_owned(),
            Fault::Final(OciError::Denied { .. }) => "denied".to_owned(),
            Fault::Final(OciError::NotFound { .. }) => "not found".to_owned(),
            Fault::Final(error) => error.to_string(),
        }
    }

    fn reported(code: &str, message: &str) -> String {
        serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string()
    }

    #[test]
    fn statuses_and_codes_are_judged() {
        for (status, text, expected) in [
            (429, String::new(), "passing"),
            (503, "<html>".to_owned(), "passing"),
            (400, reported("TOOMANYREQUESTS", "slow down"), "passing"),
            (400, reported("DIGEST_INVALID", "on the way"), "passing"),
            (404, reported("BLOB_UPLOAD_UNKNOWN", "restarted"), "passing"),
            (401, String::new(), "denied"),
            (403, "{}".to_owned(), "denied"),
            (400, reported("DENIED", "no"), "denied"),
            (404, String::new(), "not found"),
            (400, reported("NAME_UNKNOWN", "no"), "not found"),
        ] {
            assert_eq!(meant(status, &text), expected, "{status} {text}");
        }
        let words = meant(400, &reported("MANIFEST_INVALID", &format!("bad\n{}", "x".repeat(1000))));
        assert!(words.ends_with("cannot be used: bad"), "{words}");
        assert!(meant(400, &reported("X", &"x".repeat(1000))).len() < 300);
        assert!(meant(418, "tea").ends_with("the registry answers with HTTP status 418"));
    }

    #[test]
    fn a_registry_is_waited_for_within_reason() {
        let now = OffsetDateTime::from_unix_timestamp(1_445_412_420).unwrap();
        let after = |text: &'static str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]), now)
                .map(|wait| wait.as_secs())
        };
        assert_eq!(after("3"), Some(3));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(60));
        assert_eq!(after("Wed, 21 Oct 2015 07:00:00 GMT"), Some(0));
        assert_eq!(after("soon"), None);
        let error = || OciError::Registry { reference: "r".into(), problem: "busy".into() };
        let mut pauses = PAUSES.iter();
        assert_eq!(wait(error(), None, &mut pauses).unwrap(), PAUSES[0]);
        assert_eq!(wait(error(), Some(Duration::from_secs(9)), &mut pauses).unwrap().as_secs(), 9);
        let long = wait(error(), Some(Duration::from_secs(3600)), &mut pauses).unwrap_err().to_string();
        assert!(long.ends_with("busy and asks to come again in 3600 seconds"), "{long}");
        let end = wait(error(), None, &mut [].iter()).unwrap_err().to_string();
        assert!(end.ends_with("busy, also when asked again"), "{end}");
    }

    #[test]
    fn what_can_be_done_about_certificates_is_said() {
        let advised = |problem: &str| advised(problem, "r:1");
        assert!(
            advised("invalid peer certificate: UnknownIssuer").ends_with("/etc/docker/certs.d/r:1/ca.crt")
        );
        assert!(
            advised("received fatal alert: CertificateRequired").ends_with("client.cert with client.key")
        );
        assert!(
            advised("received corrupt message of type InvalidContentType")
                .contains("--insecure-registry r:1")
        );
        assert_eq!(advised("Connection refused (os error 111)"), "Connection refused (os error 111)");
        for alert in ["CertificateRequired", "BadCertificate", "UnknownCA", "AccessDenied"] {
            assert!(refuses_us(&format!("received fatal alert: {alert}")));
        }
        assert!(!refuses_us("received fatal alert: InternalError") && !refuses_us("certificate expired"));
    }
}
