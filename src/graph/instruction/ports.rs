//! What `EXPOSE` takes: `[[address:]port[-port]:]port[-port][/protocol]`.
//!
//! An address and ports of the host are checked and dropped, as BuildKit does (a build check warns about
//! them); what stays are the container's ports, each with its protocol.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// What is wrong with a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum InvalidPort {
    /// Not a number up to 65535, or a range that ends before it begins.
    Number,
    /// Not tcp, udp or sctp.
    Protocol,
    /// Not an address.
    Address,
    /// The host's range is not as long as the container's.
    Lengths,
}

impl fmt::Display for InvalidPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Number => "not a port number or range",
            Self::Protocol => "the protocol is none of tcp, udp, sctp",
            Self::Address => "not an IP address",
            Self::Lengths => "the two ranges differ in length",
        })
    }
}

/// The container's ports, as the config names them: `80/tcp`.
pub(super) fn exposed(text: &str) -> Result<Vec<String>, InvalidPort> {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, ""));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(InvalidPort::Protocol);
    }
    let (host, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let ports = range(container)?;
    let (address, host) = host.rsplit_once(':').unwrap_or(("", host));
    let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(InvalidPort::Address);
    }
    if !host.is_empty() {
        let host = range(host)?;
        if ports.len() != host.len() && ports.len() != 1 {
            return Err(InvalidPort::Lengths);
        }
    }
    Ok(ports.map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Result<RangeInclusive<u16>, InvalidPort> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().map_err(|_| InvalidPort::Number);
    let (first, last) = (number(first)?, number(last)?);
    if first > last { Err(InvalidPort::Number) } else { Ok(first..=last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_ports_stay() {
        let ports = |text| exposed(text).unwrap().join(" ");
        assert_eq!(ports("80"), "80/tcp");
        assert_eq!(ports("80/"), "80/tcp");
        assert_eq!(ports("53/UDP"), "53/udp");
        assert_eq!(ports("7000-7002/sctp"), "7000/sctp 7001/sctp 7002/sctp");
        assert_eq!(ports("127.0.0.1:8080:80"), "80/tcp");
        assert_eq!(ports("[::1]:1-2:3-4/udp"), "3/udp 4/udp");
        assert_eq!(ports("8000-8010:80"), "80/tcp");
        for (text, error) in [
            ("80a", InvalidPort::Number),
            ("", InvalidPort::Number),
            ("9-8", InvalidPort::Number),
            ("70000", InvalidPort::Number),
            ("80/foo", InvalidPort::Protocol),
            ("host:80:80", InvalidPort::Address),
            ("1-3:4-5", InvalidPort::Lengths),
        ] {
            assert_eq!(exposed(text), Err(error), "{text}");
        }
    }
}
