//! `sim replay`: runs what a report says, and sees whether the same happens.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::cli::{
    exit::Exit,
    repeatable::{self, Repeatable},
    run, terminal,
};
use sim_model::{order::Order, scenario::Scenario};

/// What to run again.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The report of a run, as JSON. The scenario is in it.
    #[arg(value_name = "REPORT")]
    report: PathBuf,
    /// Write every fact to this file, one line of JSON each.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write a report of this run too, into this directory.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Print nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the report's scenario with its seed and its planted bugs; another trace is nondeterminism, or another program.
pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let repeatable = match repeatable::read(&args.report) {
        Ok(repeatable) => repeatable,
        Err(error) => {
            terminal::complain(&format!("error: {error:#}"));
            return Ok(Exit::Usage);
        }
    };
    let Repeatable { seed, plants, source, name, hash } = repeatable;
    let scenario = match Scenario::parse(&source.path, &name, &source.text) {
        Ok(scenario) => scenario,
        Err(error) => {
            terminal::complain(&error.render(terminal::is_error_styled()));
            return Ok(Exit::Usage);
        }
    };
    if fs::read_to_string(&source.path).is_ok_and(|text| text != source.text) {
        terminal::complain(&format!(
            "note: `{}` has changed since; the report's own copy is run",
            source.path
        ));
    }
    let again = format!("cargo run -p sim -- replay {}", args.report.display());
    let order = Order { scenario, seed, plants, trace: args.trace.clone(), replay: again };
    let report = run::show(order, args.quiet)?;
    if let Some(directory) = &args.into {
        sim_report::write(&report, directory)
            .with_context(|| format!("cannot write the report into `{}`", directory.display()))?;
    }
    match hash {
        Some(hash) if hash != report.trace.hash => {
            terminal::complain(&format!(
                "error: this is not what happened then: the trace is {}, and was {hash}; \
                 the worker, its functions or the simulator have changed since, or the run does not repeat \
                 (--check-determinism tells)",
                report.trace.hash
            ));
            Ok(Exit::Nondeterminism)
        }
        Some(_) => {
            if !args.quiet {
                terminal::say("the same trace as in the report");
            }
            Ok(report.verdict.into())
        }
        None => Ok(report.verdict.into()),
    }
}
