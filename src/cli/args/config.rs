//! Flags of `config`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `config`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct Config {
    /// Form of the output (default: yaml; a table for --variables)
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(in crate::cli) format: Option<ConfigFormat>,
    /// Print Docker Compose's digest of these services (`a,b`, or `*` for all)
    #[arg(long, value_name = "SERVICES")]
    pub(in crate::cli) hash: Option<String>,
    /// Print the variables of the files with their defaults
    #[arg(long)]
    pub(in crate::cli) variables: bool,
    /// Print the services' names only
    #[arg(long)]
    pub(in crate::cli) services: bool,
    /// Print the images' names only
    #[arg(long)]
    pub(in crate::cli) images: bool,
    /// Print the volumes' names only
    #[arg(long)]
    pub(in crate::cli) volumes: bool,
    /// Print the networks' names only
    #[arg(long)]
    pub(in crate::cli) networks: bool,
    /// Print the profiles' names only
    #[arg(long)]
    pub(in crate::cli) profiles: bool,
    /// Print the models only
    #[arg(long)]
    pub(in crate::cli) models: bool,
    /// Print the variables that the files may refer to
    #[arg(long)]
    pub(in crate::cli) environment: bool,
    /// Put the digests that registries have for the images' names now into the names
    #[arg(long)]
    pub(in crate::cli) resolve_image_digests: bool,
    /// Print an override file with nothing but the images' digests
    #[arg(long)]
    pub(in crate::cli) lock_image_digests: bool,
    /// Leave the variables as they are written
    #[arg(long)]
    pub(in crate::cli) no_interpolate: bool,
    /// Do not check references between services and resources
    #[arg(long)]
    pub(in crate::cli) no_consistency: bool,
    /// Do not read the services' env files
    #[arg(long)]
    pub(in crate::cli) no_env_resolution: bool,
    /// Do not fill in names, the default network and implied dependencies
    #[arg(long)]
    pub(in crate::cli) no_normalize: bool,
    /// Do not make paths absolute
    #[arg(long)]
    pub(in crate::cli) no_path_resolution: bool,
    /// Check the files and print nothing
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Write to a file
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// Services to show (default: all)
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) only: Vec<String>,
}

/// Forms of `config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum ConfigFormat {
    /// YAML
    #[default]
    Yaml,
    /// JSON
    Json,
}
