//! The two short forms with a grammar: ports (`127.0.0.1:8000-8001:80-81/udp`) and mounts (`./a:/b:ro`).
//!
//! Pure text to values; [`super::forms`] puts them into the tree. Rules of docker/go-connections' port
//! specs and of compose-go's volume specs, without Windows drives.

use super::tree::{Kind, Node};
use crate::base::diag::Span;

/// One port of a short form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortSpec {
    host_ip: String,
    published: String,
    target: u16,
    protocol: String,
}

impl PortSpec {
    /// The long form.
    pub(super) fn node(&self, span: &Span) -> Node {
        let mut entries = vec![
            ("mode", Node::text("ingress", span)),
            ("target", Node::new(Kind::Int(self.target.into()), span.clone())),
            ("protocol", Node::text(&*self.protocol, span)),
        ];
        if !self.host_ip.is_empty() {
            entries.push(("host_ip", Node::text(&*self.host_ip, span)));
        }
        if !self.published.is_empty() {
            entries.push(("published", Node::text(&*self.published, span)));
        }
        Node::map(entries, span)
    }
}

/// Takes a port specification apart; ranges are spread out.
///
/// # Errors
/// What is wrong with it, in a few words.
pub(super) fn ports(text: &str) -> Result<Vec<PortSpec>, String> {
    let (rest, protocol) = match text.split_once('/') {
        Some((rest, protocol)) => (rest, protocol.to_ascii_lowercase()),
        None => (text, "tcp".to_owned()),
    };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("`{protocol}` is no protocol (tcp, udp, sctp)"));
    }
    let (host, container) = match rest.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, rest),
    };
    let (host_ip, published) = match host.and_then(|host| host.rsplit_once(':')) {
        Some((host_ip, published)) => (address(host_ip)?, published),
        None => (String::new(), host.unwrap_or_default()),
    };
    if container.is_empty() {
        return Err("the container's port is missing".to_owned());
    }
    let (from, to) = range(container, "the container's port")?;
    let spec = |target: u16, published: String| PortSpec {
        host_ip: host_ip.clone(),
        published,
        target,
        protocol: protocol.clone(),
    };
    if published.is_empty() {
        return Ok((from..=to).map(|target| spec(target, String::new())).collect());
    }
    let (host_from, host_to) = range(published, "the host's port")?;
    match (host_to - host_from, to - from) {
        (host, container) if host == container => Ok((from..=to)
            .zip(host_from..=host_to)
            .map(|(target, host)| spec(target, host.to_string()))
            .collect()),
        (_, 0) => Ok(vec![spec(from, format!("{host_from}-{host_to}"))]),
        _ => Err(format!("the ranges {published} and {container} differ in length")),
    }
}

fn address(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let is_plain_v6 = bare == text && text.contains(':');
    match bare.parse::<std::net::IpAddr>() {
        Ok(_) if !is_plain_v6 => Ok(bare.to_owned()),
        _ if bare.is_empty() => Ok(String::new()),
        _ => Err(format!("`{text}` is no address")),
    }
}

fn range(text: &str, what: &str) -> Result<(u16, u16), String> {
    let port =
        |text: &str| text.parse::<u16>().map_err(|_| format!("{what} `{text}` is no number from 0 to 65535"));
    let (from, to) = match text.split_once('-') {
        Some((from, to)) => (port(from)?, port(to)?),
        None => (port(text)?, port(text)?),
    };
    if to < from { Err(format!("{what} `{text}` runs backwards")) } else { Ok((from, to)) }
}

/// A mount's short form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MountSpec {
    source: Option<String>,
    target: String,
    options: Vec<String>,
}

impl MountSpec {
    /// The long form. A source that looks like a path is a bind, any other a volume.
    pub(super) fn node(&self, span: &Span) -> Node {
        let text = |text: &str| Node::text(text, span);
        let flag = || Node::new(Kind::Bool(true), span.clone());
        let is_bind = self.source.as_deref().is_some_and(is_path);
        let mut entries =
            vec![("type", text(if is_bind { "bind" } else { "volume" })), ("target", text(&self.target))];
        entries.extend(self.source.as_deref().map(|source| ("source", text(source))));
        let (mut bind, mut volume) = (Vec::new(), Vec::new());
        if is_bind {
            bind.push(("create_host_path", flag()));
        }
        for option in &self.options {
            match option.as_str() {
                "ro" => entries.push(("read_only", flag())),
                "nocopy" => volume.push(("nocopy", flag())),
                "z" | "Z" => bind.push(("selinux", text(option))),
                "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
                    bind.push(("propagation", text(option)));
                }
                _ => {}
            }
        }
        if is_bind || !bind.is_empty() {
            entries.push(("bind", Node::map(bind, span)));
        }
        // A target of two letters stays bare, as compose has it.
        let bare = self.source.is_none() && self.target.chars().count() <= 2;
        if (!is_bind && !bare) || !volume.is_empty() {
            entries.push(("volume", Node::map(volume, span)));
        }
        Node::map(entries, span)
    }
}

/// Whether a mount's source is a path of the host and not the name of a volume.
fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~', '\\'])
}

/// Takes a mount specification apart.
///
/// # Errors
/// What is wrong with it, in a few words.
pub(super) fn mount(text: &str) -> Result<MountSpec, String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err("nothing stands between two colons".to_owned());
    }
    match parts[..] {
        [target] => Ok(MountSpec { target: target.to_owned(), ..MountSpec::default() }),
        [source, target] => {
            Ok(MountSpec { source: Some(source.to_owned()), target: target.to_owned(), options: Vec::new() })
        }
        [source, target, options] => Ok(MountSpec {
            source: Some(source.to_owned()),
            target: target.to_owned(),
            options: options.split(',').map(str::to_owned).collect(),
        }),
        _ => Err("too many colons".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(text: &str) -> String {
        match ports(text) {
            Ok(all) => all
                .iter()
                .map(|port| format!("{}|{}|{}/{}", port.host_ip, port.published, port.target, port.protocol))
                .collect::<Vec<_>>()
                .join(" "),
            Err(fault) => fault,
        }
    }

    #[test]
    fn ports_are_spread_out() {
        for (text, meant) in [
            ("80", "||80/tcp"),
            ("80:90", "|80|90/tcp"),
            ("1.2.3.4::90", "1.2.3.4||90/tcp"),
            ("[::1]:81:82/udp", "::1|81|82/udp"),
            ("3000-3001", "||3000/tcp ||3001/tcp"),
            ("80-81:90-91/TCP", "|80|90/tcp |81|91/tcp"),
            ("80-81:90", "|80-81|90/tcp"),
            ("80-82:80-81", "the ranges 80-82 and 80-81 differ in length"),
            ("::1:82:82", "`::1` is no address"),
            ("host:80:80", "`host` is no address"),
            ("a:80", "the host's port `a` is no number from 0 to 65535"),
            ("99999:80", "the host's port `99999` is no number from 0 to 65535"),
            ("80/foo", "`foo` is no protocol (tcp, udp, sctp)"),
            ("", "the container's port is missing"),
        ] {
            assert_eq!(show(text), meant, "{text}");
        }
    }

    #[test]
    fn the_last_port_ends_a_range() {
        assert_eq!(ports("65534-65535:65534-65535").unwrap().len(), 2);
    }

    #[test]
    fn mounts_have_up_to_three_parts() {
        assert!(mount("a:b:c:d").is_err());
        assert!(mount(":/a").is_err());
        assert!(mount("").is_err());
        assert_eq!(mount("v:/a:ro,z").unwrap().options, ["ro", "z"]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9a-z:\\-\\[\\]/.,]*") {
            let _ = ports(&text);
            let _ = mount(&text);
        }
    }
}
