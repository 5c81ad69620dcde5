//! Flags of the commands that show what containers are and do, and of those that freeze and wait for them.

use clap::Args;

use super::TableFormat;

/// `ls`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Ls {
    /// Show stopped projects too
    #[arg(short, long)]
    pub(in crate::cli) all: bool,
    /// Show only projects whose name has this text (name=TEXT)
    #[arg(long, value_name = "FILTER")]
    pub(in crate::cli) filter: Vec<String>,
    /// Print as a table or as JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) format: TableFormat,
    /// Print only the projects' names
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}

/// `images`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Images {
    /// Print as a table or as JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) format: TableFormat,
    /// Print only the images' ids
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// `volumes`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Volumes {
    /// `table`, `json`, `raw`, a template, or `table` and a template
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) format: String,
    /// Print only the volumes' names
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// `top`, `pause`, `unpause`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Services {
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// `stats`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Stats {
    /// Show stopped containers too
    #[arg(short, long)]
    pub(in crate::cli) all: bool,
    /// `table`, `json`, a template, or `table` and a template
    #[arg(long, value_name = "FORMAT", default_value = "")]
    pub(in crate::cli) format: String,
    /// Print once and end
    #[arg(long)]
    pub(in crate::cli) no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(in crate::cli) no_trunc: bool,
    /// Service (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) service: Option<String>,
}

/// `port`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Port {
    /// Number of the container, where a service has several
    #[arg(long, value_name = "N")]
    pub(in crate::cli) index: Option<u32>,
    /// `tcp` or `udp`; without a port, both unless it is given
    #[arg(long, value_name = "PROTOCOL")]
    pub(in crate::cli) protocol: Option<String>,
    /// The service
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) service: String,
    /// The container's port (default: all)
    #[arg(value_name = "PRIVATE_PORT")]
    pub(in crate::cli) port: Option<u16>,
}

/// `events`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Events {
    /// Print each as a JSON object
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Show those since a time (2026-01-02T13:23:37Z) or a duration before now (42m) too
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) since: Option<String>,
    /// End at a time or a duration before now
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) until: Option<String>,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// `wait`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Wait {
    /// Take the project down afterwards
    #[arg(long)]
    pub(in crate::cli) down_project: bool,
    /// Services
    #[arg(value_name = "SERVICE", required = true)]
    pub(in crate::cli) services: Vec<String>,
}
