//! Where an engine is and how it is reached. Plain data.

use std::fmt;
use std::path::PathBuf;

/// Where an engine is and how it is reached.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Endpoint {
    /// `unix:///PATH`, `tcp://HOST:PORT` or `ssh://[USER@]HOST[:PORT][/PATH]`.
    pub host: String,
    /// How the connection is secured, for `tcp`; `None`: not at all.
    pub tls: Option<TlsFiles>,
    /// The version of the API that requests name; `None`: the engine's own.
    pub api: Option<String>,
    /// Who says so.
    pub source: EndpointSource,
}

/// Who says where the engine is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum EndpointSource {
    /// Nobody: it is the usual place.
    #[default]
    Usual,
    /// The variable `DOCKER_HOST`.
    Variable,
    /// A context of the docker command.
    Context {
        /// Its name.
        name: String,
        /// The file that describes it.
        file: PathBuf,
    },
}

impl fmt::Display for EndpointSource {
    /// ` (context far of FILE)`, to stand behind an address; nothing for the usual place.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => Ok(()),
            Self::Variable => formatter.write_str(" (DOCKER_HOST)"),
            Self::Context { name, file } => write!(formatter, " (context {name} of {})", file.display()),
        }
    }
}

/// Certificates and keys, as PEM files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsFiles {
    /// Who is trusted to vouch for the engine, beside the machine's own authorities.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, if the engine wants to know who we are.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether the engine's certificate counts whatever it is.
    pub skip_verify: bool,
}

impl Endpoint {
    /// An address as it stands in `DOCKER_HOST`.
    pub fn at(host: &str) -> Self {
        Self { host: host.to_owned(), ..Self::default() }
    }
}
