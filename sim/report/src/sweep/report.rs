//! What a sweep came to. All of it repeats, and is the same however the sweep was shared, but for `machine`.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sweep::{
    outcome::{MEASURES, Run, SweptVerdict},
    seeds::{SeedRange, Shard},
};
use sim_model::{plant::Plant, seed::Seed};

/// The shape of the JSON report; raised whenever a reader would have to change.
pub const SCHEMA: u32 = 1;
/// Runs named as the slowest.
const SLOWEST: usize = 5;

/// Everything known about a finished sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "The report of a sweep")]
pub struct SweepReport {
    /// Says that this is the report of a sweep.
    pub kind: ReportKind,
    /// The shape of this report.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: u32,
    /// What was run.
    #[serde(flatten)]
    pub head: Head,
    /// Why it came to its end.
    pub ended: Ended,
    /// What its runs say together.
    pub verdict: SweepVerdict,
    /// The runs, by scenario and seed.
    pub runs: Vec<Run>,
    /// How figures are spread over seeds.
    pub spreads: Vec<Spread>,
    /// States worth reaching, and how often they were.
    pub marks: Vec<Coverage>,
    /// What depends on the machine; nothing else here does.
    pub machine: Machine,
}

/// Tells the report of a sweep from that of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReportKind {
    /// A sweep.
    Sweep,
}

/// What a sweep is asked to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    /// The scenarios.
    pub scenarios: Vec<Swept>,
    /// Bugs planted on purpose.
    pub plants: Vec<Plant>,
    /// Which part of the sweep this is, if not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Runs that were to be made.
    pub planned: u64,
}

/// A scenario of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Swept {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub description: String,
    /// Its file.
    pub path: String,
    /// The SHA-256 of its text.
    pub digest: String,
    /// The seeds it is run with.
    pub seeds: SeedRange,
    /// Marks that at least one run must reach.
    pub required_marks: Vec<String>,
}

/// Why a sweep came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// All runs are made.
    Complete,
    /// Its time was up.
    TimeLimit,
    /// A run failed, and that was to be the end.
    FailFast,
    /// Someone stopped it.
    Interrupted,
}

/// What the runs of a sweep say together; the worse one last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SweepVerdict {
    /// Every run passed.
    Passed,
    /// Someone stopped it before anything failed.
    Interrupted,
    /// No run reached a state that one must reach.
    Unreached,
    /// The simulator itself failed in a run.
    Crashed,
    /// In a run, something promised did not happen in time.
    Liveness,
    /// In a run, something forbidden happened.
    Safety,
}

/// How a figure is spread over the seeds of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// The scenario's name.
    pub scenario: String,
    /// The figure.
    pub figure: String,
    /// Runs that have it.
    pub runs: u64,
    /// The least.
    pub min: f64,
    /// Half of the runs have no more.
    pub p50: f64,
    /// 90 of 100 have no more.
    pub p90: f64,
    /// The most.
    pub max: f64,
    /// The seed of the run with the most.
    pub seed_of_max: Seed,
}

/// How often a state worth reaching was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// The scenario's name.
    pub scenario: String,
    /// The state.
    pub mark: String,
    /// Whether a sweep of the scenario must reach it.
    pub required: bool,
    /// Runs that reached it.
    pub runs: u64,
    /// How often they did, together.
    pub times: u64,
}

/// What depends on the machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Runs at once.
    pub jobs: u64,
    /// Real seconds.
    pub wall: f64,
    /// The runs that took longest.
    pub slowest: Vec<Slow>,
}

/// A run that took long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slow {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: Seed,
    /// Real seconds.
    pub wall: f64,
}

impl Machine {
    /// Notes how long a run took.
    pub fn add(&mut self, run: Slow) {
        self.slowest.push(run);
        self.slowest.sort_by(|one, other| other.wall.total_cmp(&one.wall));
        self.slowest.truncate(SLOWEST);
    }
}

impl SweepReport {
    /// What `runs`, in any order, come to.
    #[must_use]
    pub fn of(head: Head, mut runs: Vec<Run>, ended: Ended, machine: Machine) -> Self {
        let place = |run: &Run| head.scenarios.iter().position(|scenario| scenario.name == run.scenario);
        runs.sort_by_key(|run| (place(run), run.seed));
        let spreads = head.scenarios.iter().flat_map(|scenario| spreads(&scenario.name, &runs)).collect();
        let marks: Vec<_> = head.scenarios.iter().flat_map(|scenario| coverage(scenario, &runs)).collect();
        let unreached = head.is_judged(ended) && marks.iter().any(Coverage::is_missing);
        let verdict = verdict(&runs, ended, unreached);
        Self { kind: ReportKind::Sweep, schema: SCHEMA, head, ended, verdict, runs, spreads, marks, machine }
    }

    /// Whether a required state that no run reached is held against it: not against a part of a sweep.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.head.is_judged(self.ended)
    }

    /// The runs that did not pass.
    pub fn failed(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.has_failed())
    }

    /// Whether runs are left out.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        (self.runs.len() as u64) < self.head.planned
    }

    /// What to call it: the scenario, or how many there are.
    #[must_use]
    pub fn name(&self) -> String {
        match &*self.head.scenarios {
            [scenario] => scenario.name.clone(),
            scenarios => format!("{} scenarios", scenarios.len()),
        }
    }

    /// The runs of the scenario called `name`, by seed.
    pub fn runs_of(&self, name: &str) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.scenario == name)
    }

    /// The runs with the most of `figure`, at most `count`.
    #[must_use]
    pub fn largest(&self, figure: &str, count: usize) -> Vec<&Run> {
        let mut runs: Vec<_> = self.runs.iter().filter(|run| run.figures.contains_key(figure)).collect();
        runs.sort_by(|one, other| other.figure(figure).total_cmp(&one.figure(figure)));
        runs.truncate(count);
        runs
    }

    /// A figure of all runs together.
    #[must_use]
    pub fn total(&self, figure: &str) -> f64 {
        self.runs.iter().map(|run| run.figure(figure)).sum()
    }
}

impl Head {
    fn is_judged(&self, ended: Ended) -> bool {
        self.shard.is_none() && !matches!(ended, Ended::Interrupted | Ended::FailFast)
    }
}

impl Coverage {
    /// Whether it must be reached and was not.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.required && self.runs == 0
    }
}

fn verdict(runs: &[Run], ended: Ended, unreached: bool) -> SweepVerdict {
    match runs.iter().map(|run| run.verdict).max() {
        Some(SweptVerdict::Safety) => SweepVerdict::Safety,
        Some(SweptVerdict::Liveness) => SweepVerdict::Liveness,
        Some(SweptVerdict::Crashed) => SweepVerdict::Crashed,
        Some(SweptVerdict::Passed) | None if ended == Ended::Interrupted => SweepVerdict::Interrupted,
        Some(SweptVerdict::Passed) | None if unreached => SweepVerdict::Unreached,
        Some(SweptVerdict::Passed) | None => SweepVerdict::Passed,
    }
}

fn spreads(scenario: &str, runs: &[Run]) -> Vec<Spread> {
    let spread = |figure: &str| {
        let runs = runs.iter().filter(|run| run.scenario == scenario);
        let mut values: Vec<_> =
            runs.filter_map(|run| Some((*run.figures.get(figure)?, Reverse(run.seed)))).collect();
        values.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let (max, Reverse(seed_of_max)) = *values.last()?;
        let nearest = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1].0;
        Some(Spread {
            scenario: scenario.to_owned(),
            figure: figure.to_owned(),
            runs: values.len() as u64,
            min: values[0].0,
            p50: nearest(50),
            p90: nearest(90),
            max,
            seed_of_max,
        })
    };
    MEASURES.iter().filter_map(|measure| spread(measure.name)).collect()
}

fn coverage(scenario: &Swept, runs: &[Run]) -> Vec<Coverage> {
    let required: BTreeSet<&str> = scenario.required_marks.iter().map(String::as_str).collect();
    let mut reached: BTreeMap<&str, (u64, u64)> = required.iter().map(|mark| (*mark, (0, 0))).collect();
    for run in runs.iter().filter(|run| run.scenario == scenario.name) {
        for (mark, count) in &run.marks {
            let (runs, times) = reached.entry(mark).or_default();
            *runs += u64::from(*count > 0);
            *times += count;
        }
    }
    let coverage = |(mark, (runs, times)): (&str, (u64, u64))| Coverage {
        scenario: scenario.name.clone(),
        mark: mark.to_owned(),
        required: required.contains(mark),
        runs,
        times,
    };
    reached.into_iter().map(coverage).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::testing::{head, run, sweep};

    #[test]
    fn the_worst_run_decides() {
        use SweptVerdict::{Crashed, Liveness, Passed, Safety};
        for (runs, expected) in [
            (&[Passed, Passed][..], SweepVerdict::Passed),
            (&[Passed, Crashed], SweepVerdict::Crashed),
            (&[Liveness, Crashed, Passed], SweepVerdict::Liveness),
            (&[Liveness, Safety], SweepVerdict::Safety),
        ] {
            let all = (1..).zip(runs).map(|(seed, verdict)| run(seed, *verdict)).collect();
            let report = SweepReport::of(head(runs.len() as u64), all, Ended::Complete, Machine::default());
            assert_eq!(report.verdict, expected, "{runs:?}");
        }
    }

    #[test]
    fn a_required_mark_that_no_run_reached_fails_a_whole_sweep_and_no_part_of_one() {
        let runs = || vec![run(2, SweptVerdict::Passed), run(4, SweptVerdict::Passed)];
        let verdict = |shard, ended| {
            SweepReport::of(Head { shard, ..head(2) }, runs(), ended, Machine::default()).verdict
        };
        assert_eq!(verdict(None, Ended::Complete), SweepVerdict::Unreached);
        assert_eq!(verdict(Some(Shard { index: 1, of: 2 }), Ended::Complete), SweepVerdict::Passed);
        assert_eq!(verdict(None, Ended::Interrupted), SweepVerdict::Interrupted);
    }

    #[test]
    fn figures_are_spread_over_seeds() {
        let report = sweep(10, &[]);
        let facts = report.spreads.iter().find(|spread| spread.figure == "facts").unwrap();
        assert_eq!((facts.min, facts.p50, facts.p90, facts.max), (1.0, 5.0, 9.0, 10.0));
        assert_eq!((facts.runs, facts.seed_of_max), (10, Seed(10)));
        assert_eq!((report.marks[0].runs, report.marks[0].times, report.marks[0].required), (5, 5, true));
    }

    #[test]
    fn a_report_is_read_back_as_it_was_written() {
        let report = sweep(3, &[2]);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<SweepReport>(&text).unwrap(), report);
    }

    #[test]
    fn the_order_in_which_runs_end_changes_nothing() {
        let report = sweep(5, &[2]);
        let mut runs = report.runs.clone();
        runs.reverse();
        assert_eq!(SweepReport::of(head(5), runs, Ended::Complete, report.machine.clone()), report);
    }
}
