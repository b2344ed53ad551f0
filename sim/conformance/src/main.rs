//! `cargo run -p conformance` measures the fake OpenCode against what was recorded of the real one, prints the table of
//! differences and writes it into `docs/fidelity.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::{fs, io, process::ExitCode};

use clap::Parser;
use conformance::{
    opencode::{self, fidelity},
    tools,
};

/// Measures the fake OpenCode against the real one, and writes the table of differences into docs/fidelity.md.
///
/// Ends with 1 if a difference is not explained.
#[derive(Debug, Parser)]
#[command(name = "conformance")]
struct Arguments {
    /// First records anew what the real OpenCode does; it has to be installed.
    #[arg(long)]
    record: bool,
    /// Writes nothing; ends with 1 if the page is not up to date.
    #[arg(long, conflicts_with = "record")]
    check: bool,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> io::Result<ExitCode> {
    if arguments.record {
        let binary = tools::opencode().ok_or_else(|| io::Error::other("there is nothing to record"))?;
        opencode::keep(&opencode::real(&binary))?;
    }
    let (recorded, fake) = (opencode::recorded(), opencode::fake());
    let table = fidelity::table(&recorded, &fake);
    println!("{table}");
    let page = fs::read_to_string(fidelity::page())?;
    let written = fidelity::with_table(&page, &table).map_err(io::Error::other)?;
    let is_stale = page != written;
    if is_stale && !arguments.check {
        fs::write(fidelity::page(), written)?;
    }
    let differences = fidelity::differences(&recorded, &fake);
    let unexplained = differences.iter().filter(|difference| difference.why().is_none()).count();
    let said = if arguments.check && is_stale { "is not up to date" } else { "is up to date" };
    println!("docs/fidelity.md {said}; {unexplained} differences are not explained");
    let is_fine = unexplained == 0 && !(arguments.check && is_stale);
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
