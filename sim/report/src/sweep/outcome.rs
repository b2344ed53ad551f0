//! What came of one run of a sweep, taken from its report.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sim_model::{seed::Seed, trace::Micros};
use sim_oracles::Violation;

use crate::{data::Report, figures::Latency, verdict::RunVerdict};

/// How a run of a sweep ended; the worse one last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SweptVerdict {
    /// Nothing forbidden happened, and everything promised did.
    Passed,
    /// The simulator itself failed, or did not come to an end.
    Crashed,
    /// Something promised did not happen in time.
    Liveness,
    /// Something forbidden happened.
    Safety,
}

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: Seed,
    /// Whether it was run because it failed before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub corpus: bool,
    /// How it ended.
    pub verdict: SweptVerdict,
    /// The first violation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<First>,
    /// Violations of the oracles that saw some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fired: BTreeMap<String, u64>,
    /// The figures of [`MEASURES`], by name.
    pub figures: BTreeMap<String, f64>,
    /// How often states worth reaching were reached.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub marks: BTreeMap<String, u64>,
    /// The hash of the trace.
    pub trace: String,
    /// The command that runs it again.
    pub replay: String,
}

/// The first violation of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct First {
    /// The oracle that saw it, or `crash`.
    pub oracle: String,
    /// When (µs of simulated time).
    pub at: Micros,
    /// What happened.
    pub message: String,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Thousandths of a second.
    Millis,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// A figure that is compared over seeds.
pub struct Measure {
    /// Its name.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    read: fn(&Report) -> Option<f64>,
}

/// The figures that are compared over seeds.
pub const MEASURES: [Measure; 10] = [
    measure("turns", Unit::Count, |report| Some(float(report.figures.turns.values().sum()))),
    measure("sent → completed, p50", Unit::Millis, |report| Some(latency(report, "sent → completed")?.p50)),
    measure("sent → completed, p99", Unit::Millis, |report| Some(latency(report, "sent → completed")?.p99)),
    measure("sent → claimed, p99", Unit::Millis, |report| Some(latency(report, "sent → claimed")?.p99)),
    measure("calls per turn", Unit::Count, |report| Some(report.figures.worker_calls_per_turn)),
    measure("sessions created", Unit::Count, |report| Some(float(report.figures.creates))),
    measure("creates per second", Unit::Count, |report| {
        Some(float(report.figures.creates_per_second as u64))
    }),
    measure("peak worker heap", Unit::Bytes, |report| {
        Some(float(report.figures.peak_heap.values().max()?.unsigned_abs()))
    }),
    measure("facts", Unit::Count, |report| Some(float(report.trace.facts))),
    measure("simulated", Unit::Seconds, |report| Some(report.engine.simulated)),
];

const fn measure(name: &'static str, unit: Unit, read: fn(&Report) -> Option<f64>) -> Measure {
    Measure { name, unit, read }
}

fn float(count: u64) -> f64 {
    count as f64
}

/// A stage in which something was measured.
fn latency<'a>(report: &'a Report, stage: &str) -> Option<&'a Latency> {
    report.figures.latencies.iter().find(|latency| latency.stage == stage && latency.count > 0)
}

impl Run {
    /// What the report of a run says; nothing of a run that was stopped.
    #[must_use]
    pub fn of(report: &Report) -> Option<Self> {
        let fired = report.oracles.iter().filter(|(_, count)| *count > 0);
        Some(Self {
            scenario: report.scenario.clone(),
            seed: report.seed,
            corpus: false,
            verdict: match report.verdict {
                RunVerdict::Passed => SweptVerdict::Passed,
                RunVerdict::Safety => SweptVerdict::Safety,
                RunVerdict::Liveness => SweptVerdict::Liveness,
                RunVerdict::Interrupted => return None,
            },
            first: report.violations.first().map(First::of),
            fired: fired.map(|(oracle, count)| (oracle.to_string(), *count)).collect(),
            figures: MEASURES
                .iter()
                .filter_map(|measure| Some((measure.name.to_owned(), (measure.read)(report)?)))
                .collect(),
            marks: report.marks.iter().map(|(mark, count)| (mark.to_string(), *count)).collect(),
            trace: report.trace.hash.clone(),
            replay: report.replay.clone(),
        })
    }

    /// A run that came to no report.
    #[must_use]
    pub fn crashed(scenario: &str, seed: Seed, message: String, replay: String) -> Self {
        Self {
            scenario: scenario.to_owned(),
            seed,
            corpus: false,
            verdict: SweptVerdict::Crashed,
            first: Some(First { oracle: "crash".into(), at: 0, message }),
            fired: BTreeMap::new(),
            figures: BTreeMap::new(),
            marks: BTreeMap::new(),
            trace: String::new(),
            replay,
        }
    }

    /// Whether it did not pass.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.verdict != SweptVerdict::Passed
    }

    /// A figure of [`MEASURES`]; 0 if the run has none.
    #[must_use]
    pub fn figure(&self, name: &str) -> f64 {
        self.figures.get(name).copied().unwrap_or_default()
    }
}

impl First {
    fn of(violation: &Violation) -> Self {
        let Violation { oracle, at, message, .. } = violation;
        Self { oracle: oracle.to_string(), at: *at, message: message.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn every_measure_is_found_in_the_report_of_a_run() {
        let run = Run::of(&testing::passed()).unwrap();
        let missing: Vec<_> = MEASURES
            .iter()
            .map(|measure| measure.name)
            .filter(|name| !run.figures.contains_key(*name))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!((run.verdict, run.first, run.seed), (SweptVerdict::Passed, None, Seed(42)));
    }

    #[test]
    fn a_failure_is_known_by_its_first_violation() {
        let mut report = testing::failed();
        report.marks = BTreeMap::from([("sse-gap".into(), 3)]);
        let run = Run::of(&report).unwrap();
        assert_eq!((run.verdict, run.first.unwrap().oracle), (SweptVerdict::Safety, "throttle".into()));
        assert_eq!(run.fired, BTreeMap::from([("throttle".into(), 17)]));
        assert_eq!(run.marks, BTreeMap::from([("sse-gap".into(), 3)]));
    }

    #[test]
    fn a_run_that_was_stopped_says_nothing() {
        assert_eq!(Run::of(&Report { verdict: RunVerdict::Interrupted, ..testing::passed() }), None);
    }
}
