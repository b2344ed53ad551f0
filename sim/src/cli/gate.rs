//! `sim gate`.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, thread};

use anyhow::Context as _;
use clap::{Args, builder::NonEmptyStringValueParser};

use super::{Exit, terminal};
use crate::{
    compare::{Change, FigureSet, Meaning, figures, table},
    gate::{Baseline, BaselineError, CollectError, RunFailure, collect, name, run_all},
    report::{self, Report, Verdict},
    world::Order,
};

/// How to make the baseline anew.
const BLESS: &str = "cargo run -p sim -- gate --bless --reason TEXT";

/// What to run, and what to compare it with.
#[derive(Debug, Args)]
pub(crate) struct GateArgs {
    /// Where the scenarios are; those with a table `[gate]` are run, once for each of its seeds.
    #[arg(default_value = "scenarios")]
    directory: PathBuf,
    /// The accepted figures.
    #[arg(long, value_name = "FILE", default_value = "reports/baseline.json")]
    baseline: PathBuf,
    /// Accept the figures as they are now: write the baseline.
    #[arg(long, requires = "reason")]
    bless: bool,
    /// Why the figures are accepted; kept in the baseline.
    #[arg(long, value_name = "TEXT", requires = "bless", value_parser = NonEmptyStringValueParser::new())]
    reason: Option<String>,
    /// Where the reports go.
    #[arg(long, value_name = "DIR", default_value = "reports")]
    report: PathBuf,
    /// Runs at once; by default one for each core.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

/// Runs everything, and compares it with the baseline or makes that.
pub(super) fn gate(args: &GateArgs) -> anyhow::Result<Exit> {
    let orders = match collect(&args.directory) {
        Ok(orders) => orders,
        Err(error) => return Ok(refuse_scenarios(&error)),
    };
    let baseline = match known(args, &orders) {
        Ok(baseline) => baseline,
        Err(error) => {
            terminal::complain(&format!("error: {error}\nhelp: make it with `{BLESS}`"));
            return Ok(Exit::Usage);
        }
    };
    let jobs = args.jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let outcomes = run_all(orders, jobs, say_end);
    let runs = match settle(outcomes, args)? {
        Ok(runs) => runs,
        Err(exit) => return Ok(exit),
    };
    if args.bless {
        return bless(args, baseline, runs);
    }
    Ok(judge(&baseline.expect("read above").changes(&runs)))
}

fn refuse_scenarios(error: &CollectError) -> Exit {
    match error {
        CollectError::Scenario(error) => terminal::complain(&error.render(terminal::is_error_styled())),
        other => terminal::complain(&format!("error: {other}")),
    }
    Exit::Usage
}

/// The baseline, which must fit the runs unless it is about to be replaced.
fn known(args: &GateArgs, orders: &[Order]) -> Result<Option<Baseline>, BaselineError> {
    let baseline = Baseline::read(&args.baseline);
    if args.bless {
        return Ok(baseline.ok());
    }
    let baseline = baseline?;
    let names: Vec<_> = orders.iter().map(|order| name(&order.scenario.name, order.seed)).collect();
    baseline.covers(&args.baseline, names.iter().map(String::as_str))?;
    Ok(Some(baseline))
}

fn say_end(report: &Report) {
    let verdict = match report.verdict {
        Verdict::Passed => "passed",
        Verdict::Safety | Verdict::Liveness => "FAILED",
        Verdict::Interrupted => "interrupted",
    };
    let run = name(&report.scenario, report.seed);
    terminal::say(&format!("{verdict:<7} {run:<32} {:.1} s", report.engine.wall));
}

/// The figures of all runs; or, if one of them failed, the exit code that says how.
fn settle(
    outcomes: Vec<Result<Report, RunFailure>>,
    args: &GateArgs,
) -> anyhow::Result<Result<BTreeMap<String, FigureSet>, Exit>> {
    let mut runs = BTreeMap::new();
    let mut failed = None;
    for outcome in outcomes {
        let report = outcome.context("a run has no report")?;
        report::write(&report, &args.report)
            .with_context(|| format!("cannot write a report into `{}`", args.report.display()))?;
        if report.verdict != Verdict::Passed {
            complain_of(&report);
            failed.get_or_insert(Exit::from(report.verdict));
        }
        runs.insert(name(&report.scenario, report.seed), figures(&serde_json::to_value(&report)?)?);
    }
    Ok(failed.map_or(Ok(runs), Err))
}

fn complain_of(report: &Report) {
    let run = name(&report.scenario, report.seed);
    let what = report.violations.first().map_or_else(
        || "it did not come to its end".to_owned(),
        |first| format!("{}: {}", first.oracle, first.message),
    );
    terminal::complain(&format!(
        "error: {run} failed, so its figures mean nothing\n  {what}\n  {}",
        report.replay
    ));
}

fn bless(
    args: &GateArgs,
    before: Option<Baseline>,
    runs: BTreeMap<String, FigureSet>,
) -> anyhow::Result<Exit> {
    let reason = args.reason.as_deref().expect("required by clap");
    if let Some(before) = &before {
        terminal::say(&table(&before.changes(&runs)));
    }
    let history = before.map(|before| before.history).unwrap_or_default();
    let shown = args.baseline.display();
    Baseline::bless(runs, reason, history)
        .write(&args.baseline)
        .with_context(|| format!("cannot write the baseline `{shown}`"))?;
    terminal::say(&format!("blessed: {shown}"));
    Ok(Exit::Passed)
}

fn judge(changes: &[Change]) -> Exit {
    let count = |meaning| changes.iter().filter(|change| change.meaning == meaning).count();
    let (worse, better) = (count(Meaning::Worse), count(Meaning::Better));
    terminal::say(&table(changes));
    if worse > 0 {
        terminal::say(&format!(
            "FAILED: {worse} figures got worse, {better} better; if that is meant, `{BLESS}`"
        ));
        return Exit::Regression;
    }
    let traces = changes.iter().filter(|change| change.figure == "trace.hash").count();
    if traces > 0 {
        terminal::say(&format!(
            "FAILED: {traces} runs are not the runs that were accepted: their traces differ. If the worker, the \
             backend or the simulator was changed, `{BLESS}`; if not, something in a run is not deterministic"
        ));
        return Exit::Regression;
    }
    let hint = if changes.is_empty() { String::new() } else { format!("; to keep the change, `{BLESS}`") };
    terminal::say(&format!("passed: no figure got worse, {better} better{hint}"));
    Exit::Passed
}
