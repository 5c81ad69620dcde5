//! Flags of the commands that act on, or show, containers that exist.

use clap::{ArgAction, Args};

/// `stop`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Stop {
    /// Seconds that a container may take to stop
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(in crate::cli) timeout: Option<i64>,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// `restart`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Restart {
    /// Leave the services alone that depend, with `restart: true`, on the named ones
    #[arg(long)]
    pub(in crate::cli) no_deps: bool,
    /// Seconds that a container may take to stop
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(in crate::cli) timeout: Option<i64>,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// `rm`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Rm {
    /// Do not ask
    #[arg(short, long)]
    pub(in crate::cli) force: bool,
    /// Stop the containers first, if need be
    #[arg(short, long)]
    pub(in crate::cli) stop: bool,
    /// Remove anonymous volumes too
    #[arg(short, long)]
    pub(in crate::cli) volumes: bool,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// `start`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Start {
    /// Wait until everything runs or is healthy
    #[arg(long)]
    pub(in crate::cli) wait: bool,
    /// Seconds that a service may take until it runs or is healthy (default: for ever)
    #[arg(long, value_name = "SECONDS")]
    pub(in crate::cli) wait_timeout: Option<u64>,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// `kill`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Kill {
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGKILL")]
    pub(in crate::cli) signal: String,
    /// Send it to containers of services that are not in the compose file too
    #[arg(long)]
    pub(in crate::cli) remove_orphans: bool,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// `ps`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Ps {
    /// Show stopped containers too
    #[arg(short, long)]
    pub(in crate::cli) all: bool,
    /// Show only containers that have a property (status=STATE)
    #[arg(long, value_name = "FILTER")]
    pub(in crate::cli) filter: Vec<String>,
    /// `table`, `json`, `raw`, a template, or `table` and a template
    #[arg(long, value_name = "FORMAT", default_value = "")]
    pub(in crate::cli) format: String,
    /// Print only the containers' ids
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Print only the services' names
    #[arg(long = "services")]
    pub(in crate::cli) only_services: bool,
    /// Show only containers in this state
    #[arg(long, value_name = "STATE")]
    pub(in crate::cli) status: Vec<String>,
    /// Show containers of services that are not in the compose file
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub(in crate::cli) orphans: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub(in crate::cli) no_trunc: bool,
    /// Services to list (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// `logs`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Logs {
    /// Go on until the containers end
    #[arg(short, long)]
    pub(in crate::cli) follow: bool,
    /// Show lines since a time (2026-01-02T13:23:37Z) or a duration before now (42m)
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) since: Option<String>,
    /// Show lines before a time or a duration before now
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) until: Option<String>,
    /// Lines to show from the end of each container's log
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    pub(in crate::cli) tail: String,
    /// Show the time of each line
    #[arg(short, long)]
    pub(in crate::cli) timestamps: bool,
    /// Do not colour the names
    #[arg(long)]
    pub(in crate::cli) no_color: bool,
    /// Print lines without a name in front
    #[arg(long)]
    pub(in crate::cli) no_log_prefix: bool,
    /// Number of the container, where a service has several
    #[arg(long, value_name = "N")]
    pub(in crate::cli) index: Option<u32>,
    /// Services to show (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}
