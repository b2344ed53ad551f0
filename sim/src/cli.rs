//! The command line: what may be asked, and what the exit code says.

mod compare;
mod costs;
mod determinism;
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
mod schema;
mod serve;
mod shrink;
mod sweep;
mod terminal;

use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use sim_model::{plant::Plant, seed::Seed};
use sim_report::RunVerdict;

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

/// How to run a scenario.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The scenario's file, or the name of one in scenarios/, such as smoke; several make a sweep.
    #[arg(required = true, value_name = "SCENARIO", value_parser = scenario_file)]
    scenario: Vec<PathBuf>,
    /// The root seed, decimal or hexadecimal (0x…); otherwise the scenario's, otherwise a random one.
    #[arg(long)]
    seed: Option<Seed>,
    /// Run twice in fresh processes and compare the traces byte by byte.
    #[arg(long)]
    check_determinism: bool,
    /// Write every fact to this file, one line of JSON each.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    outputs: outputs::Outputs,
    /// Plant a bug, to see that it is caught (may be given several times).
    #[arg(long, value_name = "BUG")]
    plant: Vec<Plant>,
    /// Run as a part of something larger: print the report as JSON, and keep files of it if it failed, or never.
    #[arg(long, hide = true, value_enum)]
    part: Option<Part>,
    #[command(flatten)]
    sweep: sweep::SweepArgs,
}

/// The file that is meant by `text`: a path, or the name of a scenario in `scenarios/`.
fn scenario_file(text: &str) -> Result<PathBuf, Infallible> {
    let path = PathBuf::from(text);
    let known = Path::new("scenarios").join(text).with_extension("toml");
    let is_name = path.components().count() == 1 && path.extension().is_none();
    Ok(if is_name && !path.exists() && known.exists() { known } else { path })
}

/// What a run leaves that is a part of something larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Its report, if it failed.
    Keep,
    /// Nothing.
    Drop,
}

impl RunArgs {
    /// The first scenario: the only one unless this is a sweep.
    fn path(&self) -> &Path {
        self.scenario.first().expect("required by clap")
    }
}

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Passed = 0,
    /// The simulator itself failed.
    Internal = 1,
    /// It was asked for something that makes no sense.
    Usage = 2,
    /// Something forbidden happened.
    Safety = 10,
    /// Something promised did not happen in time.
    Liveness = 11,
    /// Two runs of one seed differed.
    Nondeterminism = 12,
    /// A figure is worse than in the baseline, a goal was missed, or a run is another one.
    Regression = 13,
    /// A state that must be reached was reached by no run.
    Unreached = 14,
    /// Stopped by Ctrl-C.
    Interrupted = 130,
}

impl From<RunVerdict> for Exit {
    fn from(verdict: RunVerdict) -> Self {
        match verdict {
            RunVerdict::Passed => Self::Passed,
            RunVerdict::Safety => Self::Safety,
            RunVerdict::Liveness => Self::Liveness,
            RunVerdict::Interrupted => Self::Interrupted,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
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
    fn a_name_that_is_no_scenario_stays_a_path() {
        assert_eq!(scenario_file("no-such-scenario"), Ok("no-such-scenario".into()));
    }

    #[test]
    fn wrong_flags_are_refused() {
        for arguments in [&[][..], &["--seed", "1"], &["a.toml", "--seed", "x"], &["a.toml", "--oops"]] {
            assert!(read(arguments).is_err(), "{arguments:?}");
        }
    }
}
