//! In which way a run fails.

use std::time::Duration;

use sim_oracles::Class;
use sim_report::Report;

/// In which way a run fails: a smaller one must fail in the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The oracle.
    pub oracle: String,
    /// Which promise was broken.
    pub class: Class,
    /// When it was first.
    pub at: Duration,
}

impl Failure {
    /// The failure that a run's report tells of first; with `oracle`, the first of that oracle.
    #[must_use]
    pub fn of(report: &Report, oracle: Option<&str>) -> Option<Self> {
        let mut violations = report.violations.iter();
        let first = violations.find(|violation| oracle.is_none_or(|oracle| violation.oracle == oracle))?;
        let at = Duration::from_micros(first.at);
        Some(Self { oracle: first.oracle.to_string(), class: first.class, at })
    }

    /// The same failure in another run's report.
    #[must_use]
    pub fn again(&self, report: &Report) -> Option<Self> {
        Self::of(report, Some(&self.oracle)).filter(|failure| failure.class == self.class)
    }
}

#[cfg(test)]
mod tests {
    use sim_oracles::Violation;
    use sim_report::testing;

    use super::*;

    #[test]
    fn a_failure_is_the_same_if_oracle_and_class_are() {
        let report = |oracle: &'static str, class| {
            let violation =
                Violation { oracle: oracle.into(), class, at: 7, message: String::new(), story: Vec::new() };
            Report { violations: vec![violation], ..testing::passed() }
        };
        let failure = Failure::of(&report("stale", Class::Safety), None).unwrap();
        assert_eq!(failure.again(&report("stale", Class::Safety)), Some(failure.clone()));
        assert_eq!(failure.again(&report("stale", Class::Liveness)), None);
        assert_eq!(failure.again(&report("memory", Class::Safety)), None);
        assert_eq!(Failure::of(&testing::passed(), None), None);
    }
}
