//! `sim SCENARIO… --seeds …`: many runs, each in a process of its own.

mod live;
mod prepared;

use std::path::PathBuf;

use crate::{
    cli::{
        exit::Exit,
        outputs::{Forms, Outputs, Told},
        run_args::RunArgs,
        terminal,
    },
    sweep::corpus::{Corpus, Failed},
};
use sim_model::scenario::{Scenario, WorkerKind};
use sim_report::sweep::{outcome::Run, report::SweepReport};

/// What is written of a sweep.
const FORMS: Forms<SweepReport> = Forms {
    write: sim_report::sweep::write,
    told: Told {
        junit: sim_report::sweep::junit,
        markdown: sim_report::sweep::markdown,
        annotations: sim_report::sweep::annotations,
    },
};
/// Whether a sweep is asked for, rather than one run.
pub(super) fn is_one(args: &RunArgs) -> bool {
    args.sweep.seeds.is_some() || args.scenario.len() > 1 || args.sweep.of_sweeps_only().is_some()
}

/// Runs the sweep and prints what came of it.
pub(super) fn sweep(args: &RunArgs) -> anyhow::Result<Exit> {
    let prepared = match prepared::prepare(args) {
        Ok(prepared) => prepared,
        Err(refusal) => {
            terminal::complain(&refusal);
            return Ok(Exit::Usage);
        }
    };
    let quiet = args.outputs.is_quiet();
    if !quiet {
        terminal::say(&sim_report::sweep::header(&prepared.head, prepared.jobs, prepared.again()));
    }
    let finished = live::live(&prepared, args, quiet)?;
    let report = SweepReport::of(prepared.head.clone(), finished.runs, finished.ended, finished.machine);
    if prepared.keeps_corpus() {
        Corpus::extend(&args.sweep.corpus, failed(&report, &prepared.scenarios))?;
    }
    publish(&report, &args.outputs)
}

/// Writes the report in all its forms, prints it, and says how it ends.
pub(super) fn publish(report: &SweepReport, args: &Outputs) -> anyhow::Result<Exit> {
    if !args.is_quiet() {
        terminal::say(&sim_report::sweep::summary(report, terminal::is_styled()));
    }
    args.publish(report, &FORMS)?;
    Ok(report.verdict.into())
}

/// What is to be remembered of the sweep. A negative control fails as it should.
fn failed(report: &SweepReport, scenarios: &[(PathBuf, Scenario)]) -> Vec<Failed> {
    let is_control = |run: &Run| {
        scenarios
            .iter()
            .any(|(_, scenario)| scenario.name == run.scenario && scenario.kind == WorkerKind::Legacy)
    };
    let failed = |run: &Run| Failed {
        scenario: run.scenario.clone(),
        seed: run.seed,
        oracle: run.first.as_ref().map_or_else(String::new, |first| first.oracle.clone()),
    };
    report.failed().filter(|run| !is_control(run)).map(failed).collect()
}
