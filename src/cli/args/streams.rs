//! Flags of the commands that connect the user with a process or the files of a container.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::Pull;

/// `exec`. What follows the service is the command's, flags too.
#[derive(Debug, Args, Default)]
#[command(override_usage = "shipway exec [OPTIONS] SERVICE COMMAND [ARGS…]")]
pub(in crate::cli) struct Exec {
    /// Run the command in the background
    #[arg(short, long)]
    pub(in crate::cli) detach: bool,
    /// Set an environment variable; a name alone takes its value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(in crate::cli) env: Vec<String>,
    /// Number of the container, where a service has several
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) index: u32,
    /// Give the command no terminal (default: it has one if this runs on one)
    #[arg(short = 'T', long = "no-tty", visible_alias = "no-TTY", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) no_tty: bool,
    /// Give the command every right
    #[arg(long)]
    pub(in crate::cli) privileged: bool,
    /// Run the command as this user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(in crate::cli) user: Option<String>,
    /// Run the command in this folder
    #[arg(short, long, value_name = "DIR")]
    pub(in crate::cli) workdir: Option<String>,
    /// Keep standard input open, as is the default
    #[arg(short, long, hide = true, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long, hide = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) tty: Option<bool>,
    /// The service, the command and its arguments
    #[arg(value_name = "SERVICE COMMAND", required = true, num_args = 2.., trailing_var_arg = true)]
    pub(in crate::cli) line: Vec<String>,
}

/// `run`. What follows the service is the command's, flags too.
#[derive(Debug, Args, Default)]
#[command(override_usage = "shipway run [OPTIONS] SERVICE [COMMAND] [ARGS…]")]
pub(in crate::cli) struct Run {
    /// Build images whatever the engine has under their names
    #[arg(long)]
    pub(in crate::cli) build: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    pub(in crate::cli) cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    pub(in crate::cli) cap_drop: Vec<String>,
    /// Run the container in the background and print its id
    #[arg(short, long)]
    pub(in crate::cli) detach: bool,
    /// Override the entry point of the image
    #[arg(long, value_name = "COMMAND")]
    pub(in crate::cli) entrypoint: Option<String>,
    /// Set an environment variable; a name alone takes its value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(in crate::cli) env: Vec<String>,
    /// Set environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) env_from_file: Vec<PathBuf>,
    /// Keep standard input open
    #[arg(short, long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) interactive: bool,
    /// Add or override a label
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(in crate::cli) label: Vec<String>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// Give the command no terminal (default: it has one if this runs on one)
    #[arg(short = 'T', long = "no-TTY", visible_alias = "no-tty", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) no_tty: bool,
    /// Do not start linked services
    #[arg(long)]
    pub(in crate::cli) no_deps: bool,
    /// Publish a port of the container
    #[arg(short, long, value_name = "PORT", conflicts_with = "service_ports")]
    pub(in crate::cli) publish: Vec<String>,
    /// Pull images before running
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(in crate::cli) pull: Option<Pull>,
    /// Show no progress
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Print nothing while building
    #[arg(long)]
    pub(in crate::cli) quiet_build: bool,
    /// Print nothing while pulling
    #[arg(long)]
    pub(in crate::cli) quiet_pull: bool,
    /// Remove containers of services that are not in the compose file
    #[arg(long)]
    pub(in crate::cli) remove_orphans: bool,
    /// Remove the container when it ends
    #[arg(long = "rm")]
    pub(in crate::cli) remove: bool,
    /// Publish the service's ports
    #[arg(short = 'P', long)]
    pub(in crate::cli) service_ports: bool,
    /// Let the container be found by the service's name and aliases
    #[arg(long)]
    pub(in crate::cli) use_aliases: bool,
    /// Run as this user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(in crate::cli) user: Option<String>,
    /// Mount a folder or a volume: `[SOURCE:]TARGET[:OPTIONS]`
    #[arg(short, long, value_name = "VOLUME")]
    pub(in crate::cli) volume: Vec<String>,
    /// Run in this folder
    #[arg(short, long, value_name = "DIR")]
    pub(in crate::cli) workdir: Option<String>,
    /// Give the command a terminal
    #[arg(short, long, hide = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) tty: Option<bool>,
    /// The service, and the command with its arguments (default: the service's)
    #[arg(value_name = "SERVICE [COMMAND]", required = true, num_args = 1.., trailing_var_arg = true)]
    pub(in crate::cli) line: Vec<String>,
}

impl Exec {
    /// The service.
    pub(in crate::cli) fn service(&self) -> &str {
        self.line.first().map_or("", String::as_str)
    }

    /// The command and its arguments.
    pub(in crate::cli) fn command(&self) -> &[String] {
        self.line.get(1..).unwrap_or_default()
    }
}

impl Run {
    /// The service.
    pub(in crate::cli) fn service(&self) -> &str {
        self.line.first().map_or("", String::as_str)
    }

    /// The command and its arguments; empty: the service's.
    pub(in crate::cli) fn command(&self) -> &[String] {
        self.line.get(1..).unwrap_or_default()
    }
}

/// `attach`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Attach {
    /// The keys that leave the container: `ctrl-p,ctrl-q` unless given
    #[arg(long, value_name = "KEYS")]
    pub(in crate::cli) detach_keys: Option<String>,
    /// Number of the container, where a service has several
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) index: u32,
    /// Do not attach standard input
    #[arg(long)]
    pub(in crate::cli) no_stdin: bool,
    /// Pass signals on to the process
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) sig_proxy: bool,
    /// The service
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) service: String,
}

/// `cp`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Cp {
    /// Copy into containers of `run` too
    #[arg(long, visible_alias = "include-one-off")]
    pub(in crate::cli) all: bool,
    /// Let the files belong to the user of the container's process
    #[arg(short, long)]
    pub(in crate::cli) archive: bool,
    /// Follow a symbolic link as source
    #[arg(short = 'L', long)]
    pub(in crate::cli) follow_link: bool,
    /// Number of the container, where a service has several
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) index: u32,
    /// What is copied: PATH, SERVICE:PATH, or - for a tar archive from standard input
    #[arg(value_name = "SOURCE")]
    pub(in crate::cli) source: String,
    /// Where to: PATH, SERVICE:PATH, or - for a tar archive to standard output
    #[arg(value_name = "DESTINATION", allow_hyphen_values = true)]
    pub(in crate::cli) destination: String,
}
