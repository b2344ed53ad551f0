//! `sim SCENARIO… --seeds …`: many runs, each in a process of its own.

mod live;

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::cli::{
    Exit, RunArgs,
    outputs::{Forms, Outputs, Told},
    terminal,
};
use crate::sweep::{
    corpus::{Corpus, CorpusError, Failed},
    plan::{PlannedRun, plan},
};
use sim_model::{
    diagnostics::ScenarioError,
    scenario::{Scenario, WorkerKind},
    seed::Seed,
};
use sim_report::sweep::{
    outcome::Run,
    report::{Head, SweepReport, SweepVerdict, Swept},
    seeds::{MAX_RUNS, SeedRange, Seeds, Shard},
};

/// What is written of a sweep.
const FORMS: Forms<SweepReport> = Forms {
    write: sim_report::sweep::write,
    told: Told {
        junit: sim_report::sweep::junit,
        markdown: sim_report::sweep::markdown,
        annotations: sim_report::sweep::annotations,
    },
};
/// Failed runs named at the end; all are in the report.
pub(super) const NAMED: usize = 10;

/// How to run many seeds.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many seeds")]
pub(crate) struct SweepArgs {
    /// Run so many seeds (from --seed, otherwise from 1), or those of a range: 50, 1..100, 1..=100.
    #[arg(long, value_name = "N|A..B")]
    seeds: Option<Seeds>,
    /// Runs at once; by default one for each core.
    #[arg(long, value_name = "J")]
    jobs: Option<NonZeroUsize>,
    /// Make only this share of the runs, such as 1/3; `sim merge` puts the reports of all shares together.
    #[arg(long, value_name = "K/N")]
    shard: Option<Shard>,
    /// End at the first run that fails.
    #[arg(long)]
    fail_fast: bool,
    /// Begin no run after so much real time, such as 10min, and end those that are on their way.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    time_limit: Option<std::time::Duration>,
    /// Seeds that failed: run first, and extended by what fails now.
    #[arg(long, value_name = "FILE", default_value = "reports/corpus.toml")]
    corpus: PathBuf,
}

impl SweepArgs {
    /// An option that only a sweep has, if one is given.
    fn of_sweeps_only(&self) -> Option<&'static str> {
        let options = [
            ("--jobs", self.jobs.is_some()),
            ("--shard", self.shard.is_some()),
            ("--fail-fast", self.fail_fast),
            ("--time-limit", self.time_limit.is_some()),
        ];
        options.into_iter().find_map(|(name, given)| given.then_some(name))
    }
}

/// Whether a sweep is asked for, rather than one run.
pub(super) fn is_one(args: &RunArgs) -> bool {
    args.sweep.seeds.is_some() || args.scenario.len() > 1 || args.sweep.of_sweeps_only().is_some()
}

/// Runs the sweep and prints what came of it.
pub(super) fn sweep(args: &RunArgs) -> anyhow::Result<Exit> {
    let prepared = match prepare(args) {
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

impl From<SweepVerdict> for Exit {
    fn from(verdict: SweepVerdict) -> Self {
        match verdict {
            SweepVerdict::Passed => Self::Passed,
            SweepVerdict::Interrupted => Self::Interrupted,
            SweepVerdict::Unreached => Self::Unreached,
            SweepVerdict::Crashed => Self::Internal,
            SweepVerdict::Liveness => Self::Liveness,
            SweepVerdict::Safety => Self::Safety,
        }
    }
}

/// A sweep that makes sense.
struct Prepared {
    scenarios: Vec<(PathBuf, Scenario)>,
    head: Head,
    runs: Vec<PlannedRun>,
    jobs: usize,
}

impl Prepared {
    /// Runs that are made because they failed before.
    fn again(&self) -> usize {
        self.runs.iter().filter(|run| run.corpus).count()
    }

    /// What fails because of a planted bug says nothing about the worker.
    fn keeps_corpus(&self) -> bool {
        self.head.plants.is_empty()
    }
}

fn prepare(args: &RunArgs) -> Result<Prepared, String> {
    refuse_contradictions(args)?;
    let scenarios = read(&args.scenario).map_err(|error| match error {
        Unread::Broken(error) => error.render(terminal::is_error_styled()),
        Unread::Twice(name) => {
            format!("error: two of the scenarios are called `{name}`: give one another `name`")
        }
    })?;
    let seeds: Vec<_> = scenarios.iter().map(|(_, scenario)| seeds(args, scenario)).collect();
    let total: u64 = seeds.iter().map(|seeds| seeds.count).sum();
    if total > MAX_RUNS {
        return Err(format!("error: {total} runs are more than the {MAX_RUNS} that one sweep may have"));
    }
    let corpus = if args.plant.is_empty() {
        Corpus::read(&args.sweep.corpus).map_err(|error: CorpusError| format!("error: {error}"))?
    } else {
        Corpus::default()
    };
    let named: Vec<_> =
        scenarios.iter().zip(&seeds).map(|((_, scenario), seeds)| (&*scenario.name, *seeds)).collect();
    let runs = plan(&named, args.sweep.shard, &corpus);
    let head = Head {
        scenarios: scenarios.iter().zip(seeds).map(|((_, scenario), seeds)| swept(scenario, seeds)).collect(),
        plants: args.plant.clone(),
        shard: args.sweep.shard,
        planned: runs.len() as u64,
    };
    let jobs = args.sweep.jobs.or_else(|| std::thread::available_parallelism().ok());
    Ok(Prepared { scenarios, head, runs, jobs: jobs.map_or(1, NonZeroUsize::get) })
}

fn refuse_contradictions(args: &RunArgs) -> Result<(), String> {
    if let (None, 1, Some(option)) = (args.sweep.seeds, args.scenario.len(), args.sweep.of_sweeps_only()) {
        return Err(format!("error: {option} is for many seeds: say which with --seeds, such as --seeds 50"));
    }
    if matches!((args.sweep.seeds, args.seed), (Some(Seeds::Range(_)), Some(_))) {
        return Err("error: --seeds A..B already says where to begin: leave out --seed".into());
    }
    for (option, given) in
        [("--trace", args.trace.is_some()), ("--check-determinism", args.check_determinism)]
    {
        if given {
            return Err(format!(
                "error: {option} is for one run: give one scenario, and --seed instead of --seeds"
            ));
        }
    }
    if let Some(contradiction) = args.outputs.contradiction() {
        return Err(contradiction.into());
    }
    Ok(())
}

enum Unread {
    Broken(ScenarioError),
    Twice(String),
}

fn read(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Scenario)>, Unread> {
    let mut names = BTreeSet::new();
    let mut scenarios = Vec::new();
    for path in paths {
        let scenario = Scenario::read(path).map_err(Unread::Broken)?;
        if !names.insert(scenario.name.clone()) {
            return Err(Unread::Twice(scenario.name));
        }
        scenarios.push((path.clone(), scenario));
    }
    Ok(scenarios)
}

fn seeds(args: &RunArgs, scenario: &Scenario) -> SeedRange {
    match args.sweep.seeds {
        Some(seeds) => seeds.from(args.seed),
        None => SeedRange::one(args.seed.or(scenario.seed).unwrap_or(Seed(1))),
    }
}

fn swept(scenario: &Scenario, seeds: SeedRange) -> Swept {
    Swept {
        name: scenario.name.clone(),
        description: scenario.description.clone(),
        path: scenario.source.path.clone(),
        digest: scenario.source.digest.clone(),
        seeds,
        required_marks: scenario.required_marks.iter().map(|mark| (*mark).to_owned()).collect(),
    }
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

/// The scenario of a planned run: its file and what stands in it.
fn subject(prepared: &Prepared, run: PlannedRun) -> (&Path, &Scenario) {
    let (path, scenario) = &prepared.scenarios[run.scenario];
    (path, scenario)
}
