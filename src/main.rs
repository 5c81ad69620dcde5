//! Calls the library and turns its result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    shipway::cli::main(std::env::args_os())
}
