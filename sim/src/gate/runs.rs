//! Which runs the gate makes, and making them side by side.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

use crate::{
    error::RunError,
    world::{self, progress::Progress},
};
use sim_model::{diagnostics::ScenarioError, order::Order, plant::Plant, scenario::Scenario, seed::Seed};
use sim_report::Report;

/// Why it is not clear what to run.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The directory cannot be read.
    #[error("cannot list `{}`: {source}", directory.display())]
    List {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A scenario makes no sense.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// No scenario is marked.
    #[error("no scenario in `{}` is marked for the gate: give one a table `[gate]` with `seeds = [1]`", .0.display())]
    Nothing(PathBuf),
    /// Two runs would be the same line of the baseline.
    #[error("two scenarios give the run `{0}`: give one another `name`")]
    Twice(String),
}

/// Why a run has no report.
#[derive(Debug, thiserror::Error)]
pub enum RunFailure {
    /// The simulator said why.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It panicked; what it said is on standard error.
    #[error("the simulator panicked")]
    Panicked,
}

/// A run's name in the baseline.
#[must_use]
pub fn name(scenario: &str, seed: Seed) -> String {
    format!("{scenario} {seed}")
}

/// The runs of all scenarios of `directory` that are marked, by file and seed, with these bugs planted.
///
/// # Errors
/// If a scenario is broken, or none is marked.
pub fn collect(directory: &Path, plants: &[Plant]) -> Result<Vec<Order>, CollectError> {
    let unlisted = |source| CollectError::List { directory: directory.to_owned(), source };
    let entries = fs::read_dir(directory).map_err(unlisted)?;
    let paths: io::Result<BTreeSet<_>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut orders = Vec::new();
    for path in
        paths.map_err(unlisted)?.iter().filter(|path| path.extension().is_some_and(|end| end == "toml"))
    {
        let scenario = Scenario::read(path)?;
        let order = |seed| Order::of_file(path, scenario.clone(), seed, plants);
        orders.extend(scenario.gate.iter().copied().map(order));
    }
    let mut names = BTreeSet::new();
    let mut all = orders.iter().map(|order| name(&order.scenario.name, order.seed));
    if let Some(twice) = all.find(|name| !names.insert(name.clone())) {
        return Err(CollectError::Twice(twice));
    }
    if orders.is_empty() { Err(CollectError::Nothing(directory.to_owned())) } else { Ok(orders) }
}

/// Runs `orders`, at most `jobs` at once; calls `each` as they end. The outcomes are in the order of `orders`.
pub fn run_all(
    orders: Vec<Order>,
    jobs: usize,
    each: impl Fn(&Report) + Sync,
) -> Vec<Result<Report, RunFailure>> {
    let outcomes = Mutex::new(orders.iter().map(|_| None).collect::<Vec<_>>());
    let queue = Mutex::new(orders.into_iter().enumerate());
    let lane = || {
        loop {
            let Some((index, order)) = lock(&queue).next() else { return };
            let outcome = run(order);
            if let Ok(report) = &outcome {
                each(report);
            }
            lock(&outcomes)[index] = Some(outcome);
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(lane);
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.into_iter().map(|outcome| outcome.expect("each order was run")).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(order: Order) -> Result<Report, RunFailure> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = world::start(order, Arc::new(Progress::default()), move |report| {
        let _ = sender.send(report);
    });
    let _ = thread.join();
    Ok(receiver.recv().map_err(|_| RunFailure::Panicked)??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::baseline::Baseline;

    #[test]
    fn the_baseline_that_is_kept_knows_the_scenarios_that_are_marked() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let orders = collect(&root.join("scenarios"), &[]).unwrap();
        let names: Vec<_> = orders.iter().map(|order| name(&order.scenario.name, order.seed)).collect();
        let path = root.join("reports/baseline.json");
        let baseline = Baseline::read(&path).unwrap();
        baseline.covers(&path, names.iter().map(String::as_str)).unwrap();
        // What it says about itself is what this program says.
        let Baseline { history, runs, .. } = baseline.clone();
        assert_eq!(Baseline::bless(runs, &history[0], history[1..].to_vec()), baseline);
    }

    #[track_caller]
    fn refused(scenarios: &[(&str, &str)]) -> String {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in scenarios {
            fs::write(directory.path().join(file), text).unwrap();
        }
        let text = collect(directory.path(), &[]).unwrap_err().to_string();
        text.replace(&directory.path().display().to_string(), "…")
    }

    #[test]
    fn what_cannot_be_run_is_explained() {
        let marked = "name = 'one'\nduration = '1min'\n[gate]\nseeds = [1]";
        insta::assert_snapshot!(refused(&[("a.toml", marked), ("b.toml", marked)]), @"two scenarios give the run `one 0x1`: give one another `name`");
        insta::assert_snapshot!(refused(&[("a.toml", "duration = '1min'")]), @"no scenario in `…` is marked for the gate: give one a table `[gate]` with `seeds = [1]`");
    }
}
