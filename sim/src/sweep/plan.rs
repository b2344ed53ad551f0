//! Which runs a sweep makes, and in which order.

use std::collections::BTreeSet;

use crate::sweep::corpus::Corpus;
use sim_model::seed::Seed;
use sim_report::sweep::seeds::{SeedRange, Shard};

/// A run to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedRun {
    /// The scenario, by its place among those of the sweep.
    pub scenario: usize,
    /// The seed.
    pub seed: Seed,
    /// Whether it is run first because it failed before.
    pub corpus: bool,
}

/// The runs of a sweep, or of one shard of it: first those of the corpus, then seed by seed all scenarios, so that a
/// sweep that ends early has seen something of each.
///
/// A run belongs to the same shard whatever the corpus holds, so machines with different corpora share a sweep well.
#[must_use]
pub fn plan(scenarios: &[(&str, SeedRange)], shard: Option<Shard>, corpus: &Corpus) -> Vec<PlannedRun> {
    let width = scenarios.len() as u64;
    let is_ours = |scenario: usize, seed: Seed| {
        let index = scenarios[scenario].1.index_of(seed).unwrap_or(seed.0);
        shard.is_none_or(|shard| shard.has(index.wrapping_mul(width).wrapping_add(scenario as u64)))
    };
    let mut runs = Vec::new();
    let mut planned = BTreeSet::new();
    for failed in corpus.newest_first() {
        for (scenario, _) in scenarios.iter().enumerate().filter(|(_, (name, _))| *name == failed.scenario) {
            if is_ours(scenario, failed.seed) && planned.insert((scenario, failed.seed)) {
                runs.push(PlannedRun { scenario, seed: failed.seed, corpus: true });
            }
        }
    }
    let longest = scenarios.iter().map(|(_, seeds)| seeds.count).max().unwrap_or(0);
    for index in 0..longest {
        for (scenario, (_, seeds)) in
            scenarios.iter().enumerate().filter(|(_, (_, seeds))| index < seeds.count)
        {
            let seed = seeds.at(index);
            if is_ours(scenario, seed) && !planned.contains(&(scenario, seed)) {
                runs.push(PlannedRun { scenario, seed, corpus: false });
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::corpus::Failed;

    fn corpus(seeds: &[u64]) -> Corpus {
        let mut corpus = Corpus::default();
        for seed in seeds {
            corpus.add(Failed { scenario: "one".into(), seed: Seed(*seed), oracle: "stale".into() });
        }
        corpus
    }

    fn seeds(first: u64, count: u64) -> SeedRange {
        SeedRange { first: Seed(first), count }
    }

    fn of(runs: &[PlannedRun]) -> Vec<(usize, u64, bool)> {
        runs.iter().map(|run| (run.scenario, run.seed.0, run.corpus)).collect()
    }

    #[test]
    fn scenarios_take_turns_and_what_failed_comes_first() {
        let scenarios = [("one", seeds(1, 2)), ("two", seeds(1, 3))];
        let runs = plan(&scenarios, None, &corpus(&[9, 2]));
        let expected =
            [(0, 2, true), (0, 9, true), (0, 1, false), (1, 1, false), (1, 2, false), (1, 3, false)];
        assert_eq!(of(&runs), expected);
    }

    #[test]
    fn shards_are_disjoint_and_together_everything() {
        let scenarios = [("one", seeds(5, 7)), ("two", seeds(5, 7))];
        let corpora = [corpus(&[6]), corpus(&[]), corpus(&[40])];
        let mut all = BTreeSet::new();
        for (index, corpus) in (1..).zip(&corpora) {
            for run in plan(&scenarios, Some(Shard { index, of: 3 }), corpus) {
                assert!(all.insert((run.scenario, run.seed.0)), "{run:?} twice");
            }
        }
        all.remove(&(0, 40));
        let everything = (0..2).flat_map(|scenario| (5..12).map(move |seed| (scenario, seed)));
        assert_eq!(all, everything.collect());
    }

    #[test]
    fn a_shard_of_more_than_there_are_runs_is_empty() {
        assert_eq!(plan(&[("one", seeds(1, 2))], Some(Shard { index: 3, of: 3 }), &corpus(&[])), []);
    }
}
