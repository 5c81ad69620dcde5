//! The flags of `image build` that say how steps run, read into the request. Pure.

use std::net::IpAddr;
use std::path::Path;

use crate::cli::args::{ImageBuild, Sharing};
use crate::cli::quantity::bytes;
use crate::graph::{BuildRequest, CacheSource, CacheTarget, FileModes, RunNetwork, StepLimit};

/// Puts the flags into `request`; the error is a sentence for the user.
pub(super) fn apply(flags: &ImageBuild, request: &mut BuildRequest) -> Result<(), String> {
    refuse_attestations(flags.provenance.as_deref(), flags.sbom.as_deref(), &flags.attests)?;
    if let Some(network) = &flags.network {
        request.network = match network.as_str() {
            "" | "default" | "host" => RunNetwork::Default,
            "none" => RunNetwork::None,
            other => return Err(format!("--network must be default, host or none, not `{other}`")),
        };
    }
    request.modes = FileModes::named(&flags.modes).unwrap_or_default();
    request.extra_hosts = flags.add_hosts.iter().map(|text| host(text)).collect::<Result<_, _>>()?;
    if let Some(size) = &flags.shm_size {
        request.shm_size = bytes(size).map_err(|problem| format!("--shm-size: {problem}"))?;
    }
    let limit =
        |text: &String| text.parse::<StepLimit>().map_err(|problem| format!("--ulimit {text}: {problem}"));
    request.limits = flags.ulimits.iter().map(limit).collect::<Result<_, _>>()?;
    let stages = flags.no_cache_filter.iter().flat_map(|text| text.split(','));
    request.no_cache_stages = stages.filter(|stage| !stage.is_empty()).map(str::to_owned).collect();
    if flags.no_cache && !request.no_cache_stages.is_empty() {
        return Err("--no-cache and --no-cache-filter cannot be used together".to_owned());
    }
    Ok(())
}

/// Puts the caches of the command line before those of `request`; paths are relative to `folder`.
pub(super) fn add_caches(request: &mut BuildRequest, flags: &Sharing, folder: &Path) -> Result<(), String> {
    let source = |text: &String| {
        CacheSource::parse(text, folder).map_err(|error| format!("--cache-from {text}: {error}"))
    };
    let target = |text: &String| {
        CacheTarget::parse(text, folder).map_err(|error| format!("--cache-to {text}: {error}"))
    };
    let from =
        flags.cache_from.iter().filter(|text| !text.is_empty()).map(source).collect::<Result<Vec<_>, _>>()?;
    let to =
        flags.cache_to.iter().filter(|text| !text.is_empty()).map(target).collect::<Result<Vec<_>, _>>()?;
    request.cache_from.splice(..0, from);
    request.cache_to.splice(..0, to);
    Ok(())
}

/// Attestations may only be turned off: images are made without any.
pub(super) fn refuse_attestations(
    provenance: Option<&str>,
    sbom: Option<&str>,
    attests: &[String],
) -> Result<(), String> {
    for (flag, value) in [("provenance", provenance), ("sbom", sbom)] {
        match value {
            None | Some("false" | "0" | "FALSE" | "False" | "f" | "F" | "disabled=true") => {}
            Some(value) => {
                return Err(format!("not supported yet: --{flag}={value}; images have no attestations"));
            }
        }
    }
    for text in attests {
        if !text.split(',').any(|field| field == "disabled=true") {
            return Err(format!("not supported yet: --attest {text}; images have no attestations"));
        }
    }
    Ok(())
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; an address of version 6 may stand in brackets.
fn host(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("--add-host {text}: it is not NAME:ADDRESS");
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    if name.is_empty() || bare.is_empty() {
        return Err(wrong());
    }
    if bare == "host-gateway" {
        return Err("not supported yet: --add-host with `host-gateway`".to_owned());
    }
    let parsed = bare.parse::<IpAddr>().map_err(|_| format!("--add-host {text}: `{bare}` is no address"))?;
    Ok((name.to_owned(), parsed.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::cli::args::{Arguments, Command, Image};

    fn applied(line: &str) -> Result<BuildRequest, String> {
        let words = shell_words::split(&format!("shipway image build {line} .")).unwrap();
        let Command::Image(Image::Build(flags)) = Arguments::parse_from(words).command else { panic!() };
        let mut request = BuildRequest::new("x", Path::new("/"), Vec::new());
        apply(&flags, &mut request).map(|()| request)
    }

    #[test]
    fn flags_reach_the_request() {
        let line = "--network none --add-host a:1.2.3.4 --add-host b=::1 --add-host c:[::2] --shm-size 128m \
            --ulimit nofile=10:20 --ulimit core=-1 --no-cache-filter one,two --no-cache-filter 3 \
            --provenance=false --sbom=false --attest type=sbom,disabled=true";
        let request = applied(line).unwrap();
        assert_eq!(request.network, RunNetwork::None);
        let hosts: Vec<_> = request.extra_hosts.iter().map(|(name, at)| format!("{name} {at}")).collect();
        assert_eq!(hosts, ["a 1.2.3.4", "b ::1", "c ::2"]);
        assert_eq!(request.shm_size, 128 << 20);
        let limits: Vec<_> = request.limits.iter().map(ToString::to_string).collect();
        assert_eq!(limits, ["nofile=10:20", "core=-1"]);
        assert_eq!(request.no_cache_stages, ["one", "two", "3"]);
        assert_eq!(applied("--network host").unwrap().network, RunNetwork::Default);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (line, sentence) in [
            ("--network bridge", "--network must be default, host or none, not `bridge`"),
            ("--add-host a", "--add-host a: it is not NAME:ADDRESS"),
            ("--add-host a:b", "--add-host a:b: `b` is no address"),
            ("--add-host a:host-gateway", "not supported yet: --add-host with `host-gateway`"),
            ("--shm-size 12x", "--shm-size: `12x` is not a size such as 512MB or 20GB"),
            (
                "--ulimit nofiles=1",
                "--ulimit nofiles=1: there is no limit `nofiles`\nhelp: did you mean `nofile`?",
            ),
            ("--ulimit nofile=2:1", "--ulimit nofile=2:1: the soft limit is above the hard one"),
            ("--ulimit nofile", "--ulimit nofile: it is not NAME=SOFT[:HARD]"),
            ("--no-cache --no-cache-filter a", "--no-cache and --no-cache-filter cannot be used together"),
            ("--sbom=true", "not supported yet: --sbom=true; images have no attestations"),
            (
                "--provenance=mode=max",
                "not supported yet: --provenance=mode=max; images have no attestations",
            ),
            ("--attest type=sbom", "not supported yet: --attest type=sbom; images have no attestations"),
        ] {
            assert_eq!(applied(line).unwrap_err(), sentence, "{line}");
        }
    }
}
