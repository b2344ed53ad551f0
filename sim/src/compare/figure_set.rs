//! Figures by name, as whole numbers.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sim_report::{Latency, Report};

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

pub(super) fn collect(set: &mut FigureSet, name: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(field, value)| collect(set, &format!("{name}.{field}"), value));
        }
        Value::Number(number) => match number.as_i64() {
            Some(count) => insert(set, name.into(), count),
            None => {
                let value = thousandths(number.as_f64().unwrap_or_default());
                insert(set, format!("{name}_thousandths"), value);
            }
        },
        // Lists are not figures; latencies are read by `stages`.
        _ => {}
    }
}

/// Median and tail of each latency, in µs, as the report has them in ms: to three digits, which is what the histogram
/// keeps.
pub(super) fn stages(set: &mut FigureSet, latencies: &[Latency]) {
    for Latency { stage, p50, p99, .. } in latencies {
        for (quantile, millis) in [("p50", *p50), ("p99", *p99)] {
            insert(set, format!("latencies.{stage}.{quantile}_us"), thousandths(millis));
        }
    }
}

/// How often each oracle was violated.
pub(super) fn violations(set: &mut FigureSet, report: &Report) {
    for (oracle, count) in &report.oracles {
        insert(set, format!("violations.{oracle}"), count.cast_signed());
    }
}

pub(super) fn insert(set: &mut FigureSet, name: String, count: i64) {
    if count != 0 {
        set.insert(name, Figure::Count(count));
    }
}

pub(super) fn thousandths(value: f64) -> i64 {
    (value * 1000.0).round() as i64
}
