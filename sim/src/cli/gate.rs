//! `sim gate`.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, thread};

use anyhow::Context as _;
use clap::Args;

use crate::{
    cli::{
        exit::Exit,
        outputs::{Outputs, Told},
        terminal,
    },
    compare::{self, FigureSet},
    engine::determinism::wall_clock,
    gate::{self, BLESS, Baseline, CollectError, GateVerdict, Judgement, RunFailure, collect, name, run_all},
};
use sim_model::{order::Order, plant::Plant};
use sim_report::{Report, RunVerdict};

/// What build servers are told.
const TOLD: Told<Judgement> =
    Told { junit: gate::junit, markdown: gate::markdown, annotations: gate::annotations };

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
    #[arg(long, requires = "reason", conflicts_with_all = ["plant", "junit", "markdown", "annotations"])]
    bless: bool,
    /// Why the figures are accepted; kept in the baseline.
    #[arg(long, value_name = "TEXT", requires = "bless", value_parser = said)]
    reason: Option<String>,
    #[command(flatten)]
    outputs: Outputs,
    /// Plant a bug, to see that it is caught (may be given several times).
    #[arg(long, value_name = "BUG")]
    plant: Vec<Plant>,
    /// Runs at once; by default one for each core.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

fn said(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.is_empty() { Err("say why, for whoever reads the baseline later") } else { Ok(text.to_owned()) }
}

/// Runs everything, and compares it with the baseline or makes that.
pub(super) fn gate(args: &GateArgs) -> anyhow::Result<Exit> {
    if let Some(contradiction) = args.outputs.contradiction() {
        terminal::complain(contradiction);
        return Ok(Exit::Usage);
    }
    let orders = match collect(&args.directory, &args.plant) {
        Ok(orders) => orders,
        Err(error) => return Ok(refuse_scenarios(&error)),
    };
    let baseline = match known(args, &orders) {
        Ok(baseline) => baseline,
        Err(refusal) => {
            terminal::complain(&format!("error: {refusal}"));
            args.outputs.annotate_failure("the gate has nothing to compare with", &refusal);
            return Ok(Exit::Usage);
        }
    };
    let (start, count) = (wall_clock(), orders.len());
    let jobs = args.jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let quiet = args.outputs.is_quiet();
    let outcomes = run_all(orders, jobs, |report| say_end(report, quiet));
    let took = wall_clock().saturating_sub(start);
    let (runs, judgement) = settle(outcomes, args, baseline.as_ref())?;
    if !quiet {
        terminal::say(&format!("{count} runs took {:.1} s, {jobs} at once", took.as_secs_f64()));
    }
    if args.bless && judgement.failed.is_empty() {
        return bless(args, baseline, &judgement, runs);
    }
    if !quiet {
        terminal::say(&judgement.text());
    }
    args.outputs.tell(&judgement, &TOLD)?;
    Ok(exit(judgement.verdict()))
}

fn refuse_scenarios(error: &CollectError) -> Exit {
    match error {
        CollectError::Scenario(error) => terminal::complain(&error.render(terminal::is_error_styled())),
        other => terminal::complain(&format!("error: {other}")),
    }
    Exit::Usage
}

/// The baseline, which must fit the runs unless it is about to be replaced; or why there is none.
fn known(args: &GateArgs, orders: &[Order]) -> Result<Option<Baseline>, String> {
    if args.bless {
        return Baseline::read_if_there(&args.baseline).map_err(|error| {
            let file = args.baseline.display();
            format!("{error}\nhelp: mend it, or its history is lost; without one, remove `{file}` first")
        });
    }
    let names: Vec<_> = orders.iter().map(|order| name(&order.scenario.name, order.seed)).collect();
    let read = Baseline::read(&args.baseline).and_then(|baseline| {
        baseline.covers(&args.baseline, names.iter().map(String::as_str))?;
        Ok(Some(baseline))
    });
    read.map_err(|error| format!("{error}\nhelp: make it with `{BLESS}`"))
}

fn say_end(report: &Report, quiet: bool) {
    let run = name(&report.scenario, report.seed);
    if report.verdict != RunVerdict::Passed {
        let (what, replay) = (gate::failure(report), &report.replay);
        terminal::complain(&format!(
            "error: {run} failed, so its figures mean nothing\n  {what}\n  {replay}"
        ));
    } else if !quiet {
        terminal::say(&format!("passed  {run:<32} {:.1} s", report.engine.wall));
    }
}

/// The figures of all runs, and what they come to beside the baseline.
fn settle(
    outcomes: Vec<Result<Report, RunFailure>>,
    args: &GateArgs,
    baseline: Option<&Baseline>,
) -> anyhow::Result<(BTreeMap<String, FigureSet>, Judgement)> {
    let mut runs = BTreeMap::new();
    let mut judgement = Judgement { runs: BTreeMap::new(), failed: Vec::new(), changes: Vec::new() };
    for outcome in outcomes {
        let report = outcome.context("a run has no report")?;
        let directory = &args.outputs.report;
        sim_report::write(&report, directory)
            .with_context(|| format!("cannot write a report into `{}`", directory.display()))?;
        let run = name(&report.scenario, report.seed);
        judgement.runs.insert(run.clone(), report.source.path.clone());
        runs.insert(run, compare::figures(&report));
        if report.verdict != RunVerdict::Passed {
            judgement.failed.push(report);
        }
    }
    if let (Some(baseline), true) = (baseline, judgement.failed.is_empty()) {
        judgement.changes = baseline.changes(&runs);
    }
    Ok((runs, judgement))
}

fn bless(
    args: &GateArgs,
    before: Option<Baseline>,
    judgement: &Judgement,
    runs: BTreeMap<String, FigureSet>,
) -> anyhow::Result<Exit> {
    let reason = args.reason.as_deref().expect("required by clap");
    let shown = args.baseline.display();
    let quiet = args.outputs.is_quiet();
    if before.is_some() && !quiet {
        terminal::say(&compare::table(&judgement.changes));
    }
    let history = before.map(|before| before.history).unwrap_or_default();
    Baseline::bless(runs, reason, history)
        .write(&args.baseline)
        .with_context(|| format!("cannot write the baseline `{shown}`"))?;
    if !quiet {
        terminal::say(&format!("blessed: {shown}"));
    }
    Ok(Exit::Passed)
}

fn exit(verdict: GateVerdict) -> Exit {
    match verdict {
        GateVerdict::Passed => Exit::Passed,
        GateVerdict::Unaccepted | GateVerdict::Worse => Exit::Regression,
        GateVerdict::Failed(verdict) => verdict.into(),
    }
}
