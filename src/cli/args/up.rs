//! Flags of the commands that make the project's containers what the file says, and of `down`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `up`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Up {
    /// Write a timeline that chrome://tracing and Perfetto open (shipway's own)
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) trace: Option<PathBuf>,
    /// Run containers in the background
    #[arg(short, long, conflicts_with_all = ["attach", "attach_dependencies", "abort_on_container_exit",
        "abort_on_container_failure", "exit_code_from"])]
    pub(in crate::cli) detach: bool,
    /// Build images whatever the engine has under their names
    #[arg(long, conflicts_with = "no_build")]
    pub(in crate::cli) build: bool,
    /// Do not build, even where an image is missing
    #[arg(long)]
    pub(in crate::cli) no_build: bool,
    /// Create the containers but do not start them
    #[arg(long)]
    pub(in crate::cli) no_start: bool,
    /// Recreate containers even if nothing changed
    #[arg(long, conflicts_with = "no_recreate")]
    pub(in crate::cli) force_recreate: bool,
    /// Leave containers that exist as they are
    #[arg(long)]
    pub(in crate::cli) no_recreate: bool,
    /// Recreate dependent containers too
    #[arg(long, conflicts_with = "no_recreate")]
    pub(in crate::cli) always_recreate_deps: bool,
    /// Do not start linked services
    #[arg(long)]
    pub(in crate::cli) no_deps: bool,
    /// Pull images before running
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(in crate::cli) pull: Option<Pull>,
    /// Pull without showing progress
    #[arg(long)]
    pub(in crate::cli) quiet_pull: bool,
    /// Print nothing while building
    #[arg(long)]
    pub(in crate::cli) quiet_build: bool,
    /// How many containers a service has: `web=3`
    #[arg(long, value_name = "SERVICE=N")]
    pub(in crate::cli) scale: Vec<String>,
    /// Wait until everything runs or is healthy; implies --detach
    #[arg(long, conflicts_with_all = ["attach", "attach_dependencies", "abort_on_container_exit",
        "abort_on_container_failure", "exit_code_from"])]
    pub(in crate::cli) wait: bool,
    /// Seconds that a service may take until it runs or is healthy (default: for ever)
    #[arg(long, value_name = "SECONDS")]
    pub(in crate::cli) wait_timeout: Option<u64>,
    /// Show the logs of these services only
    #[arg(long, value_name = "SERVICE", conflicts_with = "attach_dependencies")]
    pub(in crate::cli) attach: Vec<String>,
    /// Do not show the logs of these services
    #[arg(long, value_name = "SERVICE")]
    pub(in crate::cli) no_attach: Vec<String>,
    /// Also show the logs of the services that the named ones depend on
    #[arg(long)]
    pub(in crate::cli) attach_dependencies: bool,
    /// Only `false`: there is no menu
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) menu: Option<bool>,
    /// Stop everything when a container ends
    #[arg(long)]
    pub(in crate::cli) abort_on_container_exit: bool,
    /// Stop everything when a container ends with another code than 0
    #[arg(long, conflicts_with = "abort_on_container_exit")]
    pub(in crate::cli) abort_on_container_failure: bool,
    /// Return the exit code of this service's container; implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE")]
    pub(in crate::cli) exit_code_from: Option<String>,
    /// Remove containers of services that are not in the compose file
    #[arg(long)]
    pub(in crate::cli) remove_orphans: bool,
    /// Recreate anonymous volumes instead of keeping their data
    #[arg(short = 'V', long, conflicts_with = "no_recreate")]
    pub(in crate::cli) renew_anon_volumes: bool,
    /// Seconds that a container may take to stop
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(in crate::cli) timeout: Option<i64>,
    /// Do not colour the names in front of log lines
    #[arg(long)]
    pub(in crate::cli) no_color: bool,
    /// Print log lines without a name in front
    #[arg(long)]
    pub(in crate::cli) no_log_prefix: bool,
    /// Show the time of each log line
    #[arg(long)]
    pub(in crate::cli) timestamps: bool,
    /// Answer yes to every question
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
    /// Keep the image that a new one takes the place of (shipway's own)
    #[arg(long)]
    pub(in crate::cli) keep_old: bool,
    /// Services to start (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// When images are pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Pull {
    /// Always
    Always,
    /// If the engine has none of that name
    Missing,
    /// Never
    Never,
    /// Build instead, where there is something to build
    Build,
}

/// `create`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Create {
    /// Build images whatever the engine has under their names
    #[arg(long, conflicts_with = "no_build")]
    pub(in crate::cli) build: bool,
    /// Do not build, even where an image is missing
    #[arg(long)]
    pub(in crate::cli) no_build: bool,
    /// Recreate containers even if nothing changed
    #[arg(long, conflicts_with = "no_recreate")]
    pub(in crate::cli) force_recreate: bool,
    /// Leave containers that exist as they are
    #[arg(long)]
    pub(in crate::cli) no_recreate: bool,
    /// Pull images before creating
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(in crate::cli) pull: Option<Pull>,
    /// Pull without showing progress
    #[arg(long)]
    pub(in crate::cli) quiet_pull: bool,
    /// Remove containers of services that are not in the compose file
    #[arg(long)]
    pub(in crate::cli) remove_orphans: bool,
    /// How many containers a service has: `web=3`
    #[arg(long, value_name = "SERVICE=N")]
    pub(in crate::cli) scale: Vec<String>,
    /// Answer yes to every question
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
    /// Services to create (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// `scale`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Scale {
    /// Do not start linked services
    #[arg(long)]
    pub(in crate::cli) no_deps: bool,
    /// How many containers a service has: `web=3`
    #[arg(value_name = "SERVICE=N", required = true)]
    pub(in crate::cli) scales: Vec<String>,
}

/// `pull`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct PullImages {
    /// Leave out images that can be built
    #[arg(long)]
    pub(in crate::cli) ignore_buildable: bool,
    /// Go on with the others where a pull fails
    #[arg(long)]
    pub(in crate::cli) ignore_pull_failures: bool,
    /// Also pull the images of dependencies
    #[arg(long)]
    pub(in crate::cli) include_deps: bool,
    /// When to pull, against what the file says
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(in crate::cli) policy: Option<PullPolicy>,
    /// Pull without showing progress
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// When `pull` pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum PullPolicy {
    /// If the engine has none of that name
    Missing,
    /// Always
    Always,
}

/// `down`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Down {
    /// Remove images too: `local` those without a name of their own, or `all`
    #[arg(long, value_enum, value_name = "WHICH")]
    pub(in crate::cli) rmi: Option<RemoveImages>,
    /// Remove named volumes of the compose file and anonymous volumes
    #[arg(short, long)]
    pub(in crate::cli) volumes: bool,
    /// Remove containers of services that are not in the compose file
    #[arg(long)]
    pub(in crate::cli) remove_orphans: bool,
    /// Seconds that a container may take to stop
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(in crate::cli) timeout: Option<i64>,
    /// Services to remove (default: the whole project)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// Which images `down` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum RemoveImages {
    /// Images that have only the name that was made for them
    Local,
    /// Every image of a service
    All,
}
