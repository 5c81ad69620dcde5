//! Flags of `build`, `push`, `plan` and `why`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `build`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Build {
    /// Write a timeline that chrome://tracing and Perfetto open (shipway's own)
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) trace: Option<PathBuf>,
    /// Set build-time variables for services
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(in crate::cli) build_args: Vec<String>,
    /// Do not use results of earlier builds
    #[arg(long)]
    pub(in crate::cli) no_cache: bool,
    /// Ask the registry again for every base image
    #[arg(long)]
    pub(in crate::cli) pull: bool,
    #[command(flatten)]
    pub(in crate::cli) sharing: Sharing,
    /// Print nothing but errors
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Pass an ssh agent to the steps that ask for one: `default` or ID=SOCKET
    #[arg(long = "ssh", value_name = "ID[=SOCKET]")]
    pub(in crate::cli) ssh: Vec<String>,
    /// Also build dependencies
    #[arg(long)]
    pub(in crate::cli) with_dependencies: bool,
    /// Push the images that have a name to their registries
    #[arg(long)]
    pub(in crate::cli) push: bool,
    /// Only `false`: images have no attestations
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) provenance: Option<String>,
    /// Only `false`: images have no attestations
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) sbom: Option<String>,
    /// Check the Dockerfiles and build nothing; fails if there is anything to say
    #[arg(long)]
    pub(in crate::cli) check: bool,
    /// Services to build (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// Flags of `build` and `image build` for results and images that are the same on all machines.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Sharing {
    /// Time of the images, unless the build argument SOURCE_DATE_EPOCH gives it: `commit`, that of the checked
    /// out commit, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) timestamp: Option<String>,
    /// Ask this cache first for results: NAME, type=registry,ref=NAME or type=local,src=FOLDER
    #[arg(long = "cache-from", value_name = "CACHE")]
    pub(in crate::cli) cache_from: Vec<String>,
    /// Keep all results in this cache too: type=registry,ref=NAME or type=local,dest=FOLDER
    #[arg(long = "cache-to", value_name = "CACHE")]
    pub(in crate::cli) cache_to: Vec<String>,
}

/// `plan`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Plan {
    /// Form of the output
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(in crate::cli) format: PlanFormat,
    /// Show the arguments, secrets and ssh agents of each service's Dockerfile instead
    #[arg(long, conflicts_with = "targets")]
    pub(in crate::cli) outline: bool,
    /// Show the stages of each service's Dockerfile instead
    #[arg(long)]
    pub(in crate::cli) targets: bool,
    /// Services to plan (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// Forms of `plan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum PlanFormat {
    /// A line a step
    #[default]
    Text,
    /// JSON
    Json,
    /// Graphviz
    Dot,
}

/// `why`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Why {
    /// Form of the output
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(in crate::cli) format: WhyFormat,
    /// Services to explain (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}

/// Forms of `why`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum WhyFormat {
    /// The steps that ran, with their reasons
    #[default]
    Text,
    /// A JSON object a service, with all steps
    Json,
}

/// `push`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Push {
    /// Go on with the others where a push fails
    #[arg(long)]
    pub(in crate::cli) ignore_push_failures: bool,
    /// Also push the images of dependencies
    #[arg(long)]
    pub(in crate::cli) include_deps: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
}
