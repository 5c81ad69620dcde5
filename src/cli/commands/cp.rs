//! placeholder
use super::{Context, Ended};
use crate::cli::args::Cp;
pub(in crate::cli) fn cp(_context: &mut Context<'_>, _flags: &Cp) -> Ended {
    Ok(std::process::ExitCode::SUCCESS)
}
