//! What came of one run of a sweep, taken from its report.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use sim_model::{seed::Seed, trace::Micros};

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
    read: fn(&Value) -> Option<f64>,
}

/// The figures that are compared over seeds.
pub const MEASURES: [Measure; 10] = [
    measure("turns", Unit::Count, |report| sum(&report["figures"]["turns"])),
    measure("sent → completed, p50", Unit::Millis, |report| latency(report, "sent → completed", "p50")),
    measure("sent → completed, p99", Unit::Millis, |report| latency(report, "sent → completed", "p99")),
    measure("sent → claimed, p99", Unit::Millis, |report| latency(report, "sent → claimed", "p99")),
    measure("calls per turn", Unit::Count, |report| report["figures"]["worker_calls_per_turn"].as_f64()),
    measure("sessions created", Unit::Count, |report| report["figures"]["creates"].as_f64()),
    measure("creates per second", Unit::Count, |report| report["figures"]["creates_per_second"].as_f64()),
    measure("peak worker heap", Unit::Bytes, |report| most(&report["figures"]["peak_heap"])),
    measure("facts", Unit::Count, |report| report["trace"]["facts"].as_f64()),
    measure("simulated", Unit::Seconds, |report| report["engine"]["simulated"].as_f64()),
];

const fn measure(name: &'static str, unit: Unit, read: fn(&Value) -> Option<f64>) -> Measure {
    Measure { name, unit, read }
}

fn numbers(object: &Value) -> impl Iterator<Item = f64> {
    object.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_f64())
}

fn sum(object: &Value) -> Option<f64> {
    Some(numbers(object).sum())
}

fn most(object: &Value) -> Option<f64> {
    numbers(object).reduce(f64::max)
}

/// A quantile of a stage; none if nothing was measured.
fn latency(report: &Value, stage: &str, quantile: &str) -> Option<f64> {
    let stages = report["figures"]["latencies"].as_array()?;
    let stage = stages.iter().find(|latency| latency["stage"] == stage && latency["count"] != 0)?;
    stage[quantile].as_f64()
}

/// Why a run's report cannot be taken into a sweep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutcomeError {
    /// It has another shape.
    #[error("report schema {0}, but this program reads schema {schema}", schema = crate::SCHEMA)]
    Schema(String),
    /// It has no verdict that a run comes to by itself.
    #[error("the report's verdict is {0}")]
    Verdict(String),
    /// A part is not there.
    #[error("the report has no `{0}`")]
    Missing(&'static str),
}

impl Run {
    /// What the report of a run says.
    ///
    /// # Errors
    /// If it is no report of the present schema, or of a run that was stopped.
    pub fn of(report: &Value) -> Result<Self, OutcomeError> {
        if report["schema"] != crate::SCHEMA {
            return Err(OutcomeError::Schema(report["schema"].to_string()));
        }
        let verdict = match report["verdict"].as_str() {
            Some("passed") => SweptVerdict::Passed,
            Some("safety") => SweptVerdict::Safety,
            Some("liveness") => SweptVerdict::Liveness,
            _ => return Err(OutcomeError::Verdict(report["verdict"].to_string())),
        };
        let text = |value: &Value, name| value.as_str().map(str::to_owned).ok_or(OutcomeError::Missing(name));
        Ok(Self {
            scenario: text(&report["scenario"], "scenario")?,
            seed: text(&report["seed"], "seed")?.parse().map_err(|_| OutcomeError::Missing("seed"))?,
            corpus: false,
            verdict,
            first: first(&report["violations"][0]),
            fired: fired(report),
            figures: MEASURES
                .iter()
                .filter_map(|measure| Some((measure.name.to_owned(), (measure.read)(report)?)))
                .collect(),
            marks: counts(&report["marks"]),
            trace: text(&report["trace"]["hash"], "trace.hash")?,
            replay: text(&report["replay"], "replay")?,
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

fn first(violation: &Value) -> Option<First> {
    Some(First {
        oracle: violation["oracle"].as_str()?.to_owned(),
        at: violation["at"].as_u64()?,
        message: violation["message"].as_str()?.to_owned(),
    })
}

fn fired(report: &Value) -> BTreeMap<String, u64> {
    let oracles = report["oracles"].as_array().into_iter().flatten();
    let counts = oracles.filter_map(|pair| Some((pair[0].as_str()?.to_owned(), pair[1].as_u64()?)));
    counts.filter(|(_, count)| *count > 0).collect()
}

fn counts(object: &Value) -> BTreeMap<String, u64> {
    let fields = object.as_object().into_iter().flatten();
    fields.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn every_measure_is_found_in_the_report_of_a_run() {
        let run = Run::of(&serde_json::to_value(testing::passed()).unwrap()).unwrap();
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
        let mut report = serde_json::to_value(testing::failed()).unwrap();
        report["marks"] = json!({ "sse-gap": 3 });
        let run = Run::of(&report).unwrap();
        assert_eq!((run.verdict, run.first.unwrap().oracle), (SweptVerdict::Safety, "throttle".into()));
        assert_eq!(run.fired, BTreeMap::from([("throttle".into(), 17)]));
        assert_eq!(run.marks, BTreeMap::from([("sse-gap".into(), 3)]));
    }

    #[test]
    fn what_is_no_report_is_refused() {
        assert_eq!(Run::of(&json!({ "schema": 0 })), Err(OutcomeError::Schema("0".into())));
        let stopped = json!({ "schema": crate::SCHEMA, "verdict": "interrupted" });
        assert_eq!(Run::of(&stopped), Err(OutcomeError::Verdict("\"interrupted\"".into())));
    }
}
