//! A sweep as it was asked for, checked.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use sim_model::{diagnostics::ScenarioError, scenario::Scenario, seed::Seed};
use sim_report::sweep::{
    report::{Head, Swept},
    seeds::{MAX_RUNS, SeedRange, Seeds},
};

use crate::{
    cli::{run_args::RunArgs, terminal},
    sweep::{
        corpus::{Corpus, CorpusError},
        plan::{PlannedRun, plan},
    },
};

/// A sweep that makes sense.
pub(super) struct Prepared {
    pub(super) scenarios: Vec<(PathBuf, Scenario)>,
    pub(super) head: Head,
    pub(super) runs: Vec<PlannedRun>,
    pub(super) jobs: usize,
}

impl Prepared {
    /// Runs that are made because they failed before.
    pub(super) fn again(&self) -> usize {
        self.runs.iter().filter(|run| run.corpus).count()
    }

    /// What fails because of a planted bug says nothing about the worker.
    pub(super) fn keeps_corpus(&self) -> bool {
        self.head.plants.is_empty()
    }
}

/// Reads what is to be run.
pub(super) fn prepare(args: &RunArgs) -> Result<Prepared, String> {
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
        required_marks: scenario.required_marks.iter().map(ToString::to_string).collect(),
    }
}

/// The scenario of a planned run: its file and what stands in it.
pub(super) fn subject(prepared: &Prepared, run: PlannedRun) -> (&Path, &Scenario) {
    let (path, scenario) = &prepared.scenarios[run.scenario];
    (path, scenario)
}
