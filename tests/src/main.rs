//! The `lab` command: see `lab --help`.
use std::process::ExitCode;

fn main() -> ExitCode {
    ovl_tests::cli::main()
}
