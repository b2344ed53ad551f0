//! The command line: what may be asked, and what the exit code says.

mod compare;
mod costs;
mod determinism;
mod gate;
mod limits;
mod list;
mod load;
mod merge;
mod opencode;
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
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::{guard, remains};
use sim_model::{plant::Plant, seed::Seed};
use sim_report::RunVerdict;

/// Runs the worker in a deterministic world, and checks what it does there.
#[derive(Debug, Parser)]
#[command(
    name = "sim",
    version,
    arg_required_else_help = true,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes: 0 passed, 1 internal error, 2 wrong usage or scenario, 10 something forbidden happened, \
                  11 something promised did not happen in time, 12 two runs of one seed differed, \
                  13 a figure got worse, a goal was missed or a run is not the one that was accepted, \
                  14 a state that must be reached was not, 130 interrupted."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
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
    /// Ends the processes of `sim load` that are left when it is gone: waits for the end of standard input.
    #[command(hide = true, name = guard::COMMAND)]
    LoadGuard {
        /// The directories of the workers' machines.
        roots: Vec<PathBuf>,
    },
    /// Stands in for the `opencode` executable of `sim load`, whose socket is named first.
    #[command(hide = true, name = remains::STAND_IN)]
    OpencodeUnderLoad {
        /// Where the load test listens.
        socket: PathBuf,
        /// What `opencode` is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Stands in for the `opencode` executable (`sim serve` makes one that calls this).
    #[command(subcommand, hide = true)]
    Opencode(opencode::OpenCodeCommand),
}

/// How to run a scenario.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The scenario's file, such as scenarios/smoke.toml; several make a sweep.
    #[arg(required = true, value_name = "SCENARIO")]
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
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::List { directory }) => list::list(&directory),
        Some(Command::Gate(args)) => gate::gate(&args),
        Some(Command::Merge(args)) => merge::merge(&args),
        Some(Command::Shrink(args)) => shrink::shrink(&args),
        Some(Command::Replay(args)) => replay::replay(&args),
        Some(Command::Compare(args)) => compare::compare(&args),
        Some(Command::Costs(args)) => costs::costs(&args),
        Some(Command::Schema { document }) => schema::schema(document),
        Some(Command::Serve(args)) => serve::serve(&args),
        Some(Command::Load(args)) => load::load(&args),
        Some(Command::Limits(args)) => limits::limits(&args),
        Some(Command::LoadGuard { roots }) => load::guard(&roots),
        Some(Command::OpencodeUnderLoad { socket, arguments }) => load::stand_in(&socket, &arguments),
        Some(Command::Opencode(command)) => opencode::opencode(&command),
        None if sweep::is_one(&cli.run) => sweep::sweep(&cli.run),
        None if cli.run.check_determinism => determinism::check(&cli.run),
        None => run::run(&cli.run),
    };
    done.unwrap_or_else(|error| {
        terminal::complain(&format!("error: {error:#}"));
        Exit::Internal
    })
    .into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_scenario_is_run_and_a_command_is_a_command() {
        let run = Cli::parse_from(["sim", "scenarios/smoke.toml", "--seed", "0x2a", "--plant", "claim-off"]);
        assert_eq!((run.run.seed, run.run.plant), (Some(Seed(42)), vec![Plant::ClaimOff]));
        assert!(matches!(Cli::parse_from(["sim", "list"]).command, Some(Command::List { .. })));
    }

    #[test]
    fn wrong_flags_are_refused() {
        for arguments in [
            &["sim"][..],
            &["sim", "--seed", "1"],
            &["sim", "a.toml", "--seed", "x"],
            &["sim", "a.toml", "--oops"],
        ] {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
