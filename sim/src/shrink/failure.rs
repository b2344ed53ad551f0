//! In which way a run fails.

use std::time::Duration;

use serde_json::Value;

/// In which way a run fails: a smaller one must fail in the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The oracle.
    pub oracle: String,
    /// Which promise was broken: `safety` or `liveness`.
    pub class: String,
    /// When it was first.
    pub at: Duration,
}

impl Failure {
    /// The failure that a run's report tells of first; with `oracle`, the first of that oracle.
    #[must_use]
    pub fn of(report: &Value, oracle: Option<&str>) -> Option<Self> {
        let violations = report["violations"].as_array()?;
        let mut failures = violations.iter().filter_map(|violation| {
            Some(Self {
                oracle: violation["oracle"].as_str()?.to_owned(),
                class: violation["class"].as_str()?.to_owned(),
                at: Duration::from_micros(violation["at"].as_u64()?),
            })
        });
        failures.find(|failure| oracle.is_none_or(|oracle| failure.oracle == oracle))
    }

    /// The same failure in another run's report.
    #[must_use]
    pub fn again(&self, report: &Value) -> Option<Self> {
        Self::of(report, Some(&self.oracle)).filter(|failure| failure.class == self.class)
    }
}
