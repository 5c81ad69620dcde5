//! Calls the library and turns its result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = shipway::sandbox::dispatch() {
        return code;
    }
    ExitCode::SUCCESS
}
