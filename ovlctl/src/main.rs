//! The executable of [`ovlctl`].
use std::process::ExitCode;

fn main() -> ExitCode {
    ovlctl::run_from_command_line()
}
