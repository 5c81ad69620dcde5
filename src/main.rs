//! Calls the library and turns its result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The sandbox starts this program again as the monitor and as the process inside.
    match shipway::sandbox::dispatch() {
        Some(code) => code,
        None => shipway::cli::main(std::env::args_os()),
    }
}
