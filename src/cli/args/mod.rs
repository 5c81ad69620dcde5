//! The command line, as types. Names, short forms and defaults are compose's, and `docker build`'s for
//! `image build`; what goes beyond them says so in its help.
//!
//! Nothing is decided here: [`settings`](super::settings) adds the environment. Flags and commands of
//! compose that are missing stand in [`refused`](super::refused), so that they are refused by name. Each
//! file has the flags of one group of commands.

mod build;
mod cache;
mod config;
mod containers;
mod image;
mod streams;
mod up;
mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) use build::{Build, Plan, PlanFormat, Push, Sharing, Why, WhyFormat};
pub(super) use cache::{Cache, CacheDu, CachePrune, CacheVerify};
pub(super) use config::{Config, ConfigFormat};
pub(super) use containers::{Kill, Logs, Ps, Restart, Rm, Start, Stop};
pub(super) use image::{
    Call, CallMethod, Image, ImageBuild, ImageImport, ImageInspect, ImageLoad, ImageLs, ImageRm, ImageSave,
};
pub(super) use streams::{Attach, Cp, Exec, Run};
pub(super) use up::{Create, Down, Pull, PullImages, PullPolicy, RemoveImages, Scale, Up};
pub(super) use watch::{Events, Images, Ls, Port, Services, Stats, Volumes, Wait};

/// Builds the images of a compose project and launches its containers.
#[derive(Debug, Parser)]
#[command(name = "shipway", version, max_term_width = 100, disable_help_subcommand = true)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    pub(in crate::cli) global: Global,
    #[command(subcommand)]
    pub(in crate::cli) command: Command,
}

/// What holds for every command. These stand before the command's name, as with compose.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Global {
    /// Compose files, the later over the earlier (`-` reads standard input)
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// Project name
    #[arg(short, long, value_name = "NAME")]
    pub(in crate::cli) project_name: Option<String>,
    /// Profile to enable
    #[arg(long = "profile", value_name = "NAME")]
    pub(in crate::cli) profiles: Vec<String>,
    /// Environment file to use instead of .env
    #[arg(long = "env-file", value_name = "FILE")]
    pub(in crate::cli) env_files: Vec<PathBuf>,
    /// Folder that relative paths start from (default: that of the first compose file)
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) project_directory: Option<PathBuf>,
    /// How many steps run at once (default: one a core), and how many things the engine is asked to do at once
    /// (default: 64); -1 for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(in crate::cli) parallel: Option<i64>,
    /// How progress is shown
    #[arg(long, value_enum, value_name = "KIND", global = true)]
    pub(in crate::cli) progress: Option<Progress>,
    /// Whether control sequences are printed
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(in crate::cli) ansi: Option<Ansi>,
    /// Show what would be done and do nothing
    #[arg(long, global = true)]
    pub(in crate::cli) dry_run: bool,
    /// Ask no registry and no address on the network (shipway's own)
    #[arg(long, global = true)]
    pub(in crate::cli) offline: bool,
    /// Registry that need not show a certificate that is trusted, or may speak plain HTTP (shipway's own)
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]", global = true)]
    pub(in crate::cli) insecure_registries: Vec<String>,
    /// Put `_` between the parts of names, as Docker Compose 1 did
    #[arg(long)]
    pub(in crate::cli) compatibility: bool,
    /// Also make networks and volumes that no service uses
    #[arg(long)]
    pub(in crate::cli) all_resources: bool,
    /// The container engine that gets the images (shipway's own)
    #[arg(long, value_enum, value_name = "ENGINE", global = true)]
    pub(in crate::cli) engine: Option<EngineChoice>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum Progress {
    /// `tty` on a terminal unless CI is set or TERM is dumb, else `lines`
    #[default]
    Auto,
    /// A live view
    Tty,
    /// Lines, without the output of steps that succeed
    Lines,
    /// Lines, with the output of every step
    Plain,
    /// One JSON object a line
    Json,
    /// Errors only
    Quiet,
}

/// Whether control sequences are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum Ansi {
    /// On a terminal
    #[default]
    Auto,
    /// Never
    Never,
    /// Always
    Always,
}

/// Which engine gets the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum EngineChoice {
    /// The one that answers
    #[default]
    Auto,
    /// Docker
    Docker,
    /// None: images stay in the store
    None,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Build or rebuild services
    Build(Build),
    /// Build what changed, create and start containers
    Up(Up),
    /// Stop and remove containers, networks
    Down(Down),
    /// Stop services
    Stop(Stop),
    /// Start services that were stopped
    Start(Start),
    /// Restart containers
    Restart(Restart),
    /// Create the containers of services without starting them
    Create(Create),
    /// Change how many containers services have
    Scale(Scale),
    /// Remove containers that do not run
    Rm(Rm),
    /// Let the engine pull the images of services
    Pull(PullImages),
    /// Send a signal to containers
    Kill(Kill),
    /// List containers
    Ps(Ps),
    /// View output from containers
    Logs(Logs),
    /// Execute a command in a running container
    Exec(Exec),
    /// Run a one-off command on a service
    Run(Run),
    /// Attach standard input, output and error to a service's running container
    Attach(Attach),
    /// Copy files between a service's container and the local file system
    Cp(Cp),
    /// List running projects
    Ls(Ls),
    /// List images that containers use
    Images(Images),
    /// List volumes
    Volumes(Volumes),
    /// Show the running processes
    Top(Services),
    /// Show what containers use, as it changes
    Stats(Stats),
    /// Print the public address of a container's port
    Port(Port),
    /// Show what happens to containers, as it happens
    Events(Events),
    /// Wait until containers stop
    Wait(Wait),
    /// Freeze services
    Pause(Services),
    /// Let frozen services go on
    Unpause(Services),
    /// Push the images of services to their registries
    Push(Push),
    /// Parse, resolve and render the compose file
    Config(Config),
    /// Show the build graph: each step with its key, hit or miss, and the reason (shipway's own)
    Plan(Plan),
    /// Say why the steps of the last build ran, or would run (shipway's own)
    Why(Why),
    /// Build, import and list images without a compose file
    #[command(subcommand)]
    Image(Image),
    /// The store of results
    #[command(subcommand)]
    Cache(Cache),
    /// Print a script that lets a shell complete commands and flags
    Completion(Completion),
    /// Write the manual pages of all commands into a folder
    #[command(hide = true)]
    Manual(Manual),
    /// Show the version and what this machine offers
    Version(Version),
}

/// Forms of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum TableFormat {
    /// Columns
    #[default]
    Table,
    /// JSON
    Json,
}

/// `completion`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Completion {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(in crate::cli) shell: clap_complete::Shell,
}

/// `manual`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Manual {
    /// The folder; it is made if it is not there
    #[arg(value_name = "DIR")]
    pub(in crate::cli) folder: PathBuf,
}

/// `version`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Version {
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "pretty")]
    pub(in crate::cli) format: VersionFormat,
    /// Print the version only
    #[arg(long)]
    pub(in crate::cli) short: bool,
}

/// Forms of `version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum VersionFormat {
    /// For reading
    #[default]
    Pretty,
    /// JSON
    Json,
}
