//! What can go wrong while a plan is carried out: which step, of which service, why.

use crate::engine::EngineError;

use super::plan::Until;

/// A plan that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The engine could not be asked or refused a step.
    #[error("{what}: {}", source.reason())]
    Step {
        /// The step: `container p-web-1: create`.
        what: String,
        /// What the engine said.
        source: EngineError,
    },
    /// A container could not be started. If it was new it has been removed again.
    #[error("service {service}: container {container} could not be started: {}{}", source.reason(), port_advice(port.as_deref(), service))]
    Start {
        /// The service.
        service: String,
        /// The container.
        container: String,
        /// The host's port that is taken, if that is why.
        port: Option<String>,
        /// What the engine said.
        source: Box<EngineError>,
    },
    /// A container that others wait for did not get there.
    #[error(
        "service {service}: container {container} {problem} (it was waited for until {until}){}",
        last_log(log)
    )]
    Dependency {
        /// The service.
        service: String,
        /// The container.
        container: String,
        /// What it was waited for.
        until: Until,
        /// What it did instead.
        problem: String,
        /// The last lines of its log.
        log: String,
    },
    /// A lifecycle command failed.
    #[error(
        "service {service}: {when} command `{command}` in container {container} failed with exit code {code}{}",
        indented(output)
    )]
    Hook {
        /// The service.
        service: String,
        /// The container.
        container: String,
        /// `post_start`, `pre_stop`.
        when: &'static str,
        /// The command.
        command: String,
        /// Its exit code.
        code: i64,
        /// The end of what it printed.
        output: String,
    },
    /// A question to the engine outside of a plan failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file for a container could not be packed.
    #[error("cannot pack {path} for container {container}: {source}")]
    Pack {
        /// The path in the container.
        path: String,
        /// The container.
        container: String,
        /// What failed.
        source: std::io::Error,
    },
    /// The user stopped the command.
    #[error("stopped")]
    Cancelled,
}

fn port_advice(port: Option<&str>, service: &str) -> String {
    port.map_or_else(String::new, |port| {
        format!(
            "\nhelp: the host's port {port}, which service {service} publishes, is taken: stop what listens there, \
             or publish another one"
        )
    })
}

fn last_log(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("\nthe last lines of its log:{}", indented(log)) }
}

fn indented(output: &str) -> String {
    output.lines().map(|line| format!("\n  {line}")).collect()
}

/// The host's port that an engine's refusal is about: `… 0.0.0.0:8080 failed: port is already allocated`,
/// `… listen tcp4 0.0.0.0:80: bind: address already in use`,
/// `failed to bind host port for 0.0.0.0:80:172.18.0.2:80/tcp: address already in use`.
pub(super) fn taken_port(message: &str) -> Option<String> {
    let end =
        ["port is already allocated", "address already in use"].iter().find_map(|why| message.find(why))?;
    message[..end].split_whitespace().rev().find_map(host_port)
}

/// The port of the first address of a word like `0.0.0.0:80:172.18.0.2:80/tcp:`, `[::]:80` or `:::80`.
fn host_port(word: &str) -> Option<String> {
    let address = word.trim_end_matches(':').split('/').next()?;
    let rest = match address.split_once("]:") {
        Some((_, rest)) => rest,
        None if address.starts_with("::") => address.trim_start_matches(':'),
        None => address.split_once(':')?.1,
    };
    let port = rest.split(':').next()?;
    (!port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit())).then(|| port.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::testing::{denied, samples};

    fn refused() -> EngineError {
        let message = "Bind for 0.0.0.0:8080 failed: port is already allocated".into();
        EngineError::Refused { action: "start app-web-1".into(), status: 500, message }
    }

    samples! { UpError:
        Step { what: "container app-web-1: create".into(), source: refused() },
        Start {
            service: "web".into(),
            container: "app-web-1".into(),
            port: Some("8080".into()),
            source: Box::new(refused()),
        },
        Dependency {
            service: "web".into(),
            container: "app-db-1".into(),
            until: Until::Healthy,
            problem: "ended with exit code 1".into(),
            log: "no space left on device\ngiving up".into(),
        },
        Dependency {
            service: "web".into(),
            container: "app-db-1".into(),
            until: Until::Completed,
            problem: "ended with exit code 1".into(),
            log: String::new(),
        },
        Hook {
            service: "web".into(),
            container: "app-web-1".into(),
            when: "post_start",
            command: "./migrate --all".into(),
            code: 2,
            output: "no such table\n".into(),
        },
        Engine(refused()),
        Pack { path: "/run/secrets/token".into(), container: "app-web-1".into(), source: denied() },
        Cancelled,
    }

    #[test]
    fn the_taken_port_is_read_from_every_kind_of_refusal() {
        let docker = "driver failed programming external connectivity on endpoint p-web-1 (12ab): \
                      Bind for 0.0.0.0:18501 failed: port is already allocated";
        assert_eq!(taken_port(docker).as_deref(), Some("18501"));
        let proxy = "Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use";
        assert_eq!(taken_port(proxy).as_deref(), Some("80"));
        let newer = "failed to bind host port for 0.0.0.0:81:172.18.0.2:80/tcp: address already in use";
        assert_eq!(taken_port(newer).as_deref(), Some("81"));
        let newest = "failed to bind host port [::]:82/tcp: address already in use";
        assert_eq!(taken_port(newest).as_deref(), Some("82"));
        assert_eq!(taken_port("Bind for :::83 failed: port is already allocated").as_deref(), Some("83"));
        assert_eq!(taken_port("no such image"), None);
    }
}
