//! A report's exact figures by name, as whole numbers.

use serde_json::Value;

use super::{
    figure_set::{Figure, FigureSet, collect, stages},
    real_time::{self, is_real_time},
};
use sim_report::SCHEMA;

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
