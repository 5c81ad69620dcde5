//! What is to be built: one [`BuildRequest`] a service, or one for a Dockerfile without a project.
//!
//! [`requests_of`] reads them from a compose project; `image build` makes its own. Paths are absolute
//! here and nothing has been read from disk yet: `build` reads the Dockerfiles and ignore files that the
//! requests name and hands them to [`super::lower`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::caching::{CacheSource, CacheTarget, InvalidCache};
use super::limit::StepLimit;
use super::named::{NamedContext, RemoteContext, context_name};
use super::op::RunNetwork;
use super::settings::FileModes;
use crate::base::diag::{Diagnostic, Span};
use crate::base::secret::Secret;
use crate::compose::{Build, Project};
use crate::oci::{Platform, Reference};
use crate::remote::{GitSource, is_http};

/// The size of `/dev/shm` in bytes where nothing else is said, as Docker has it.
const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// One image to build.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The service, or the name under which steps are shown.
    pub service: String,
    /// The build context, absolute.
    pub context: PathBuf,
    /// What the build context is if it is no folder of the user's; `context` means nothing then.
    pub remote: Option<RemoteContext>,
    /// Further contexts by their names (see [`super::context_name`]).
    pub contexts: BTreeMap<String, NamedContext>,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// Build arguments that have a value.
    pub arguments: BTreeMap<String, String>,
    /// The stage to build; none is the last.
    pub target: Option<String>,
    /// Labels for the image, beyond the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// The image's names; the first is the main one.
    pub names: Vec<Reference>,
    /// The platform to build for.
    pub platform: Platform,
    /// The network of every RUN that names none.
    pub network: RunNetwork,
    /// Names and addresses for `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// What `--mount=type=secret` may ask for, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// The sockets of ssh agents, by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// What its steps may do beyond the usual.
    pub entitlements: BTreeSet<Entitlement>,
    /// Limits of the processes of every RUN.
    pub limits: Vec<StepLimit>,
    /// Build every step again.
    pub no_cache: bool,
    /// The stages, by name or number, whose steps are built again.
    pub no_cache_stages: Vec<String>,
    /// Ask the registry for newer base images.
    pub pull: bool,
    /// Who is asked for results that the store does not have, in this order.
    pub cache_from: Vec<CacheSource>,
    /// Who gets results.
    pub cache_to: Vec<CacheTarget>,
    /// Which modes the files of its contexts count with.
    pub modes: FileModes,
    /// Whether the argument `SOURCE_DATE_EPOCH` is that of `--timestamp`: every file in its layers has that time.
    pub timestamp: bool,
    /// What is worth saying about the request.
    pub warnings: Vec<Diagnostic>,
    /// Where the request stands in the user's files.
    pub span: Option<Span>,
}

/// Where the bytes of a secret are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretSource {
    /// In a file of the host, absolute; read when a step needs it.
    File(PathBuf),
    /// Here.
    Value(Secret),
}

/// What a build must be allowed before a step may do it (BuildKit `util/entitlements`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Entitlement {
    /// `RUN --network=host`.
    NetworkHost,
    /// `RUN --security=insecure`.
    SecurityInsecure,
}

impl Entitlement {
    /// Every entitlement.
    pub const ALL: [Self; 2] = [Self::NetworkHost, Self::SecurityInsecure];

    /// Its name in flags and compose files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
        }
    }

    /// The entitlement of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entitlement| entitlement.name() == name)
    }
}

/// Where a Dockerfile is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DockerfileSource {
    /// In a file, absolute.
    Path(PathBuf),
    /// In a file of a context that is no folder of the user's, relative to it.
    Within(PathBuf),
    /// In the compose file itself.
    Inline(String),
}

impl BuildRequest {
    /// A request with nothing but a context and names; the Dockerfile is `Dockerfile` in the context.
    pub fn new(service: &str, context: &Path, names: Vec<Reference>) -> Self {
        Self {
            service: service.to_owned(),
            context: context.to_owned(),
            remote: None,
            contexts: BTreeMap::new(),
            dockerfile: DockerfileSource::Path(context.join("Dockerfile")),
            arguments: BTreeMap::new(),
            target: None,
            labels: BTreeMap::new(),
            names,
            platform: Platform::host(),
            network: RunNetwork::Default,
            extra_hosts: Vec::new(),
            shm_size: DEFAULT_SHM_SIZE,
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            entitlements: BTreeSet::new(),
            limits: Vec::new(),
            no_cache: false,
            no_cache_stages: Vec::new(),
            pull: false,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            modes: FileModes::default(),
            timestamp: false,
            warnings: Vec::new(),
            span: None,
        }
    }
}

/// The requests of all services that have a `build` section, in the order of their names, with every
/// mistake in them. Relative paths in the model are resolved against the project's directory.
pub fn requests_of(project: &Project) -> Result<Vec<BuildRequest>, Vec<Diagnostic>> {
    let (mut requests, mut mistakes) = (Vec::new(), Vec::new());
    let modes = super::settings::modes_of(project).unwrap_or_else(|more| {
        mistakes.extend(more);
        FileModes::default()
    });
    for (name, service) in &project.services {
        let Some(build) = &service.build else { continue };
        match request(project, name, build, service.platform.as_deref()) {
            Ok(request) => requests.push(BuildRequest { modes, ..request }),
            Err(more) => mistakes.extend(more),
        }
    }
    if mistakes.is_empty() { Ok(requests) } else { Err(mistakes) }
}

fn request(
    project: &Project,
    service: &str,
    build: &Build,
    platform: Option<&str>,
) -> Result<BuildRequest, Vec<Diagnostic>> {
    let mut mistakes = Vec::new();
    let mut mistake = |key: &str, message: String| {
        let place = project.spans.nearest(&["services", service, "build", key]).cloned();
        let diagnostic = Diagnostic::error(message);
        mistakes.push(match place {
            Some(span) => diagnostic.at(span, ""),
            None => diagnostic,
        });
    };
    let written = build.context.as_deref().unwrap_or(".");
    let remote = match remote_context(written) {
        Ok(remote) => remote,
        Err(error) => {
            mistake("context", error);
            None
        }
    };
    let context = project.working_dir.join(written);
    let contexts = contexts_of(project, build, &mut mistake);
    let mut names = Vec::new();
    let all = project.image_of(service).into_iter().chain(build.tags.iter().cloned());
    for name in all {
        match Reference::parse(&name) {
            Ok(reference) => names.push(reference.with_default_tag()),
            Err(error) => mistake("tags", error.to_string()),
        }
    }
    let network = match build.network.as_deref() {
        None | Some("default") => RunNetwork::Default,
        Some("host") => RunNetwork::Host,
        Some("none") => RunNetwork::None,
        Some(other) => {
            mistake("network", format!("not supported yet: `build.network: {other}`"));
            RunNetwork::Default
        }
    };
    let trusted = super::trust::of(project, build);
    for (key, message) in trusted.mistakes {
        mistake(key, message);
    }
    let mut entitlements = trusted.entitlements;
    if network == RunNetwork::Host {
        entitlements.insert(Entitlement::NetworkHost);
    }
    let platform = platform_of(build, platform).unwrap_or_else(|message| {
        mistake("platforms", message);
        Platform::host()
    });
    for (key, value) in [("provenance", &build.provenance), ("sbom", &build.sbom)] {
        if let Some(value) = value.as_deref().filter(|value| *value != "false") {
            mistake(key, format!("not supported yet: `build.{key}: {value}`"));
        }
    }
    let limits = limits_of(build, &mut mistake);
    let (cache_from, cache_to, warnings) = caches_of(project, service, build, &mut mistake);
    let extra_hosts = build.extra_hosts.iter().filter_map(|line| host(line)).collect();
    let request = BuildRequest {
        dockerfile: dockerfile_of(build, &context, remote.is_some()),
        remote,
        contexts,
        arguments: build
            .args
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect(),
        target: build.target.clone(),
        labels: build.labels.clone(),
        platform,
        network,
        extra_hosts,
        shm_size: build
            .shm_size
            .map_or(DEFAULT_SHM_SIZE, |size| u64::try_from(size.0).unwrap_or(DEFAULT_SHM_SIZE)),
        limits,
        secrets: trusted.secrets,
        ssh: trusted.ssh,
        entitlements,
        no_cache: build.no_cache,
        no_cache_stages: build.no_cache_filter.clone(),
        pull: build.pull,
        cache_from,
        cache_to,
        warnings,
        span: project.spans.nearest(&["services", service, "build"]).cloned(),
        ..BuildRequest::new(service, &context, names)
    };
    if mistakes.is_empty() { Ok(request) } else { Err(mistakes) }
}

/// The caches of a service, and what is worth saying about them.
fn caches_of(
    project: &Project,
    service: &str,
    build: &Build,
    mistake: &mut dyn FnMut(&str, String),
) -> (Vec<CacheSource>, Vec<CacheTarget>, Vec<Diagnostic>) {
    let (mut warnings, folder) = (Vec::new(), &project.working_dir);
    let cache_from = read_caches(
        ("cache_from", &build.cache_from),
        |text| CacheSource::parse(text, folder),
        mistake,
        &mut warnings,
    );
    let cache_to = read_caches(
        ("cache_to", &build.cache_to),
        |text| CacheTarget::parse(text, folder),
        mistake,
        &mut warnings,
    );
    let warned = |(key, message): (&str, String)| {
        let warning = Diagnostic::warning(format!("service {service}: {message}"));
        match project.spans.nearest(&["services", service, "build", key]).cloned() {
            Some(span) => warning.at(span, ""),
            None => warning,
        }
    };
    let warnings = warnings.into_iter().map(warned).collect();
    (cache_from, cache_to, warnings)
}

/// The caches that a key names. Kinds that shipway does not know are passed over with a warning: the file
/// serves other programs too.
fn read_caches<T>(
    (key, texts): (&'static str, &[String]),
    parse: impl Fn(&str) -> Result<T, InvalidCache>,
    mistake: &mut dyn FnMut(&str, String),
    warnings: &mut Vec<(&'static str, String)>,
) -> Vec<T> {
    let mut caches = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        match parse(text) {
            Ok(cache) => caches.push(cache),
            Err(InvalidCache::Mistake(problem)) => mistake(key, problem),
            Err(error @ InvalidCache::Unsupported(_)) => {
                warnings.push((key, format!("`{key}` {text}: {error}; it has no effect")));
            }
        }
    }
    caches
}

/// The limits of the steps' processes.
fn limits_of(build: &Build, mistake: &mut dyn FnMut(&str, String)) -> Vec<StepLimit> {
    let mut limits = Vec::new();
    for (name, limit) in &build.ulimits {
        let soft = limit.single.or(limit.soft).unwrap_or(-1);
        match StepLimit::new(name, soft, limit.single.or(limit.hard).unwrap_or(soft)) {
            Ok(limit) => limits.push(limit),
            Err(problem) => mistake("ulimits", problem),
        }
    }
    limits
}

/// The contexts that have names of their own.
fn contexts_of(
    project: &Project,
    build: &Build,
    mistake: &mut dyn FnMut(&str, String),
) -> BTreeMap<String, NamedContext> {
    let mut contexts = BTreeMap::new();
    for (name, value) in &build.additional_contexts {
        match NamedContext::parse(value, &project.working_dir) {
            Ok(context) => drop(contexts.insert(context_name(name), context)),
            Err(error) => mistake("additional_contexts", format!("additional context `{name}`: {error}")),
        }
    }
    contexts
}

fn dockerfile_of(build: &Build, context: &Path, remote: bool) -> DockerfileSource {
    let path = build.dockerfile.as_deref().unwrap_or("Dockerfile");
    match &build.dockerfile_inline {
        Some(text) => DockerfileSource::Inline(text.clone()),
        None if remote => DockerfileSource::Within(path.into()),
        None => DockerfileSource::Path(context.join(path)),
    }
}

/// The context that a text means if it is no folder: a git repository. Archives behind URLs are refused.
pub fn remote_context(text: &str) -> Result<Option<RemoteContext>, String> {
    match GitSource::parse(text, true)? {
        Some(source) => Ok(Some(RemoteContext::Git(source))),
        None if is_http(text) => Err(format!(
            "not supported yet: the build context `{text}`, an archive or a Dockerfile behind a URL"
        )),
        None => Ok(None),
    }
}

/// The one platform of a service: `platform`, else the only one of `build.platforms`, else the host's.
fn platform_of(build: &Build, platform: Option<&str>) -> Result<Platform, String> {
    let wanted = match (platform, build.platforms.as_slice()) {
        (Some(platform), _) => platform,
        (None, []) => return Ok(Platform::host()),
        (None, [one]) => one,
        (None, _) => return Err("not supported yet: an image of several platforms".to_owned()),
    };
    let parsed: Platform = wanted.parse().map_err(|error| format!("{error}"))?;
    let host = Platform::host();
    Ok(if host.accepts(&parsed) { host } else { parsed })
}

/// `name:address` or `name=address`.
fn host(line: &str) -> Option<(String, String)> {
    let (name, address) = line.split_once(['=', ':'])?;
    Some((name.to_owned(), address.to_owned()))
}
