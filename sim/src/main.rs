//! The simulator's command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sim::cli::main()
}
