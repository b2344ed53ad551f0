//! A report's exact figures by name, as whole numbers.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::compare::real_time::{self, is_real_time};
use sim_report::SCHEMA;

/// Figures by name. Those that are zero are left out.
pub type FigureSet = BTreeMap<String, Figure>;

/// One figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Figure {
    /// A number; its unit is in the figure's name unless it is a count or bytes.
    Count(i64),
    /// Something that is the same or is not: the trace's hash.
    Text(String),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Text(text) => write!(f, "{}", text.chars().take(12).collect::<String>()),
        }
    }
}

/// Why a report has no figures to compare.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FiguresError {
    /// It is no report, or one of another version.
    #[error("report schema {found}, but this program compares schema {SCHEMA}; make the report again")]
    Schema {
        /// What stands in it.
        found: String,
    },
    /// A part is not there.
    #[error("the report has no `{0}`; make it again")]
    Missing(&'static str),
}

/// The figures of a report, given as JSON: exact ones of a simulation, others of a run in real time.
///
/// # Errors
/// If it is not a report of the present schema.
pub fn figures(report: &Value) -> Result<FigureSet, FiguresError> {
    if report["schema"] != SCHEMA {
        return Err(FiguresError::Schema { found: report["schema"].to_string() });
    }
    let figures = report["figures"].as_object().ok_or(FiguresError::Missing("figures"))?;
    let hash = report["trace"]["hash"].as_str().ok_or(FiguresError::Missing("trace.hash"))?;
    if is_real_time(report) {
        return Ok(real_time::figures(report));
    }
    let mut set = FigureSet::new();
    for (name, value) in figures {
        collect(&mut set, name, value);
    }
    stages(&mut set, &report["figures"]["latencies"]);
    collect(&mut set, "trace.facts", &report["trace"]["facts"]);
    collect(&mut set, "engine.steps", &report["engine"]["steps"]);
    for violated in report["oracles"].as_array().into_iter().flatten() {
        let name = format!("violations.{}", violated[0].as_str().unwrap_or_default());
        collect(&mut set, &name, &violated[1]);
    }
    set.insert("trace.hash".into(), Figure::Text(hash.into()));
    Ok(set)
}

pub(super) fn collect(set: &mut FigureSet, name: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(field, value)| collect(set, &format!("{name}.{field}"), value));
        }
        Value::Number(number) => match number.as_i64() {
            Some(count) => insert(set, name.into(), count),
            None => insert(set, format!("{name}_thousandths"), thousandths(value)),
        },
        // Lists are not figures; latencies are read by `stages`.
        _ => {}
    }
}

/// Median and tail of each latency, in µs, as the report has them in ms: to three digits, which is what the histogram
/// keeps.
pub(super) fn stages(set: &mut FigureSet, latencies: &Value) {
    for latency in latencies.as_array().into_iter().flatten() {
        let stage = latency["stage"].as_str().unwrap_or_default();
        for quantile in ["p50", "p99"] {
            let name = format!("latencies.{stage}.{quantile}_us");
            insert(set, name, thousandths(&latency[quantile]));
        }
    }
}

pub(super) fn insert(set: &mut FigureSet, name: String, count: i64) {
    if count != 0 {
        set.insert(name, Figure::Count(count));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "figures are far below 2^52")]
pub(super) fn thousandths(value: &Value) -> i64 {
    (value.as_f64().unwrap_or_default() * 1000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_flattened_to_whole_numbers() {
        let report = json!({
            "schema": SCHEMA,
            "figures": {
                "creates": 0,
                "prompts": 24,
                "worker_calls_per_turn": 5.125,
                "latencies": [{ "stage": "a → b", "count": 2, "p50": 37.007, "p90": 3.0, "p99": 1004.0, "max": 2.0 }],
                "functions": { "chat:claim": { "calls": 24, "errors": 0 } },
                "peak_heap": { "worker-1": 251_000 },
            },
            "trace": { "facts": 1207, "hash": "05b2c652b71e0d6f" },
            "oracles": [["memory", 0], ["stale", 2]],
            "engine": { "steps": 4019, "wall": 0.22 },
        });
        let lines: Vec<_> =
            figures(&report).unwrap().into_iter().map(|(name, figure)| format!("{name} {figure}")).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        engine.steps 4019
        functions.chat:claim.calls 24
        latencies.a → b.p50_us 37007
        latencies.a → b.p99_us 1004000
        peak_heap.worker-1 251000
        prompts 24
        trace.facts 1207
        trace.hash 05b2c652b71e
        violations.stale 2
        worker_calls_per_turn_thousandths 5125
        ");
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let error = figures(&json!({ "schema": 0 })).unwrap_err().to_string();
        assert!(error.starts_with("report schema 0, but this program compares schema"), "{error}");
        assert_eq!(figures(&json!({ "schema": SCHEMA })), Err(FiguresError::Missing("figures")));
    }
}
