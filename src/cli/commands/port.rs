//! `port`.

use std::process::ExitCode;

use crate::cli::args::Port;
use crate::cli::failure::Failure;
use crate::engine::PublishedPort;
use crate::up::{WantedPort, containers, published};

use super::{Context, Ended};

/// Prints where the host offers a container's port, or all of them.
pub(in crate::cli) fn port(context: &mut Context<'_>, flags: &Port) -> Ended {
    let (name, _) = context.named(std::slice::from_ref(&flags.service))?;
    let engine = context.needed_engine()?;
    let given = flags.protocol.as_deref().map(str::to_ascii_lowercase);
    let protocol = given.or_else(|| flags.port.map(|_| "tcp".to_owned()));
    let wanted = WantedPort {
        service: &flags.service,
        number: flags.index.filter(|index| *index > 0),
        port: flags.port,
        protocol: protocol.as_deref(),
    };
    let found = published(&containers(&engine, &name)?, &wanted).map_err(Failure::Usage)?;
    let text: String = match (flags.port, found.first()) {
        (Some(_), Some(first)) => format!("{}\n", address(first)),
        _ => found
            .iter()
            .map(|port| format!("{}/{} -> {}\n", port.port, port.protocol, address(port)))
            .collect(),
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

fn address(port: &PublishedPort) -> String {
    let (ip, host) = (port.host_ip.as_deref().unwrap_or_default(), port.host_port.unwrap_or(0));
    if ip.contains(':') { format!("[{ip}]:{host}") } else { format!("{ip}:{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_can_be_used_as_they_are() {
        let port = |ip: &str| PublishedPort {
            host_ip: Some(ip.to_owned()),
            host_port: Some(8080),
            port: 80,
            protocol: "tcp".to_owned(),
        };
        assert_eq!(address(&port("0.0.0.0")), "0.0.0.0:8080");
        assert_eq!(address(&port("::")), "[::]:8080");
    }
}
