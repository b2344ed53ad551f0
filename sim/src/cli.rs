//! The command line: what may be asked, and what the exit code says.

mod compare;
mod costs;
mod determinism;
mod exit;
mod gate;
mod internal;
mod limits;
mod list;
mod load;
mod merge;
mod outputs;
mod repeatable;
mod replay;
mod run;
mod run_args;
mod schema;
mod serve;
mod shrink;
mod sweep;
mod terminal;

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};

use exit::Exit;
use run_args::RunArgs;

/// Runs the worker in a deterministic world, and checks what it does there.
///
/// `sim SCENARIO` is short for `sim run SCENARIO`.
#[derive(Debug, Parser)]
#[command(
    name = "sim",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 passed, 1 internal error, 2 wrong usage or scenario, 10 something forbidden happened, \
                  11 something promised did not happen in time, 12 two runs of one seed differed, \
                  13 a figure got worse, a goal was missed or a run is not the one that was accepted, \
                  14 a state that must be reached was not, 130 interrupted."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario; with several of them, or several seeds, a sweep.
    Run(RunArgs),
    /// Lists the scenarios and what they show.
    List {
        /// Where to look.
        #[arg(default_value = "scenarios")]
        directory: PathBuf,
    },
    /// Runs the scenarios marked for it and compares every exact figure with the baseline.
    Gate(gate::GateArgs),
    /// Puts the reports of all shards of a sweep together.
    Merge(merge::MergeArgs),
    /// Makes a failed run small: leaves out what its failure does not need.
    Shrink(shrink::ShrinkArgs),
    /// Runs exactly what a report says, and compares the traces.
    Replay(replay::ReplayArgs),
    /// Prints what changed between two runs.
    Compare(compare::CompareArgs),
    /// Measures what the worker costs: start, heap, calls (docs/costs.md).
    Costs(costs::CostsArgs),
    /// Prints a JSON schema, for editors and other programs.
    Schema {
        /// Of what.
        #[arg(value_enum, default_value_t = schema::Document::Scenario)]
        document: schema::Document,
    },
    /// Serves both fakes on loopback in real time, to try a worker by hand.
    Serve(serve::ServeArgs),
    /// Runs a scenario in real time: the worker's binary as a process, both fakes on loopback.
    Load(load::LoadArgs),
    /// Raises the load on the worker's binary in steps until something gives way, and says what.
    Limits(limits::LimitsArgs),
    /// Parts that this program plays for itself, as a process of their own.
    #[command(subcommand, hide = true)]
    Internal(internal::Internal),
}

impl Cli {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// If it makes no sense; or it asks for help.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut arguments: Vec<_> = arguments.into_iter().collect();
        let is_command = |word: &OsStr| {
            let mut known = ["help", "-h", "--help", "-V", "--version"].into_iter();
            known.any(|known| word == known) || Self::command().find_subcommand(word).is_some()
        };
        if arguments.get(1).is_some_and(|first| !is_command(first)) {
            arguments.insert(1, "run".into());
        }
        Self::try_parse_from(arguments)
    }
}

/// Does what the command line asks.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let done = match cli.command {
        Command::Run(args) if sweep::is_one(&args) => sweep::sweep(&args),
        Command::Run(args) if args.check_determinism => determinism::check(&args),
        Command::Run(args) => run::run(&args),
        Command::List { directory } => list::list(&directory),
        Command::Gate(args) => gate::gate(&args),
        Command::Merge(args) => merge::merge(&args),
        Command::Shrink(args) => shrink::shrink(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Costs(args) => costs::costs(&args),
        Command::Schema { document } => schema::schema(document),
        Command::Serve(args) => serve::serve(&args),
        Command::Load(args) => load::load(&args),
        Command::Limits(args) => limits::limits(&args),
        Command::Internal(part) => internal::play(part),
    };
    done.unwrap_or_else(|error| {
        terminal::complain(&format!("error: {error:#}"));
        Exit::Internal
    })
    .into()
}

#[cfg(test)]
mod tests {
    use sim_model::{plant::Plant, seed::Seed};

    use super::*;

    fn read(arguments: &[&str]) -> Result<Command, clap::Error> {
        Ok(Cli::read(["sim"].iter().chain(arguments).map(OsString::from))?.command)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_scenario_is_run_with_or_without_the_word_for_it() {
        for word in [&[][..], &["run"]] {
            let rest = ["scenarios/smoke.toml", "--seed", "0x2a", "--plant", "claim-off"];
            let Ok(Command::Run(run)) = read(&[word, &rest[..]].concat()) else { panic!("{word:?}") };
            assert_eq!((run.seed, run.plant), (Some(Seed(42)), vec![Plant::ClaimOff]));
        }
        assert!(matches!(read(&["--seed", "1", "a.toml"]), Ok(Command::Run(_))));
        assert!(matches!(read(&["list"]), Ok(Command::List { .. })));
    }

    #[test]
    fn wrong_flags_are_refused() {
        for arguments in [&[][..], &["--seed", "1"], &["a.toml", "--seed", "x"], &["a.toml", "--oops"]] {
            assert!(read(arguments).is_err(), "{arguments:?}");
        }
    }
}
