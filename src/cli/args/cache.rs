//! Flags of `cache …`.

use clap::{Args, Subcommand};

use super::TableFormat;

/// `cache …`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Cache {
    /// Show what the store takes on the disk, by kind and by service
    Du(CacheDu),
    /// Remove what no image name holds and no service's last build needs
    Prune(CachePrune),
    /// Look for damage: digest again what is in the store
    Verify(CacheVerify),
}

/// `cache du`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct CacheDu {
    /// Also show every snapshot, blob and cache mount, and who holds it
    #[arg(short, long)]
    pub(in crate::cli) verbose: bool,
    /// Print as a table or as JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) format: TableFormat,
}

/// `cache prune`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct CachePrune {
    /// Remove also what services' last builds need, and cache mounts
    #[arg(short, long)]
    pub(in crate::cli) all: bool,
    /// Remove only until the store takes no more than so much: 512MB, 20GB
    #[arg(long, visible_alias = "max-used-space", value_name = "BYTES")]
    pub(in crate::cli) keep_storage: Option<String>,
    /// Remove only what was not used for so long: `until=24h`
    #[arg(long, value_name = "until=DURATION")]
    pub(in crate::cli) filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub(in crate::cli) force: bool,
    /// How long to wait for other shipways that use the store
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub(in crate::cli) wait: Wait,
}

/// `cache verify`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct CacheVerify {
    /// Remove what is damaged, so that it is made again when it is needed
    #[arg(long)]
    pub(in crate::cli) remove: bool,
    /// How long to wait for other shipways that use the store
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub(in crate::cli) wait: Wait,
}

/// A time to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::cli) struct Wait(pub(in crate::cli) std::time::Duration);

impl std::str::FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        crate::cli::quantity::duration(text).map(Self)
    }
}
