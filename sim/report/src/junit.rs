//! The report for build servers: one suite for the scenario, one case for each oracle, and for each goal of a load.

use std::fmt::Write as _;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use crate::{data::Report, format, text, verdict::RunVerdict};
use sim_oracles::{Class, Violation};

/// The report as JUnit XML. Nothing in it depends on the machine, hence no times.
#[must_use]
pub fn junit(report: &Report) -> String {
    let mut suite = TestSuite::new(&*report.scenario);
    suite.add_property(("seed", &*report.seed.to_string()));
    suite.add_property(("replay", &*report.replay));
    suite.add_property(("trace", &*report.trace.hash));
    suite.add_test_cases(report.oracles.iter().map(|(oracle, count)| case(report, oracle, *count)));
    suite.add_test_cases(crate::load::cases(report));
    let mut document = quick_junit::Report::new("sim");
    document.add_test_suite(suite);
    document.to_string().expect("writing into memory, without times")
}

fn case(report: &Report, oracle: &str, count: u64) -> TestCase {
    let mut case = TestCase::new(oracle, status(report, oracle, count));
    case.set_classname(&*report.scenario);
    case
}

fn status(report: &Report, oracle: &str, count: u64) -> TestCaseStatus {
    if count == 0 && report.verdict == RunVerdict::Interrupted {
        let mut status = TestCaseStatus::skipped();
        status.set_message("the run was interrupted: nothing is proved");
        return status;
    }
    if count == 0 {
        return TestCaseStatus::success();
    }
    let kept: Vec<_> = report.violations.iter().filter(|violation| violation.oracle == oracle).collect();
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    if let Some(first) = kept.first() {
        status.set_type(match first.class {
            Class::Safety => "safety",
            Class::Liveness => "liveness",
        });
        status.set_message(&*first.message);
    }
    status.set_description(describe(report, &kept, count));
    status
}

/// All kept violations, the first with its story, and how to see them again.
fn describe(report: &Report, kept: &[&Violation], count: u64) -> String {
    let mut text = format!("run it again: {}\n{count} in all", report.replay);
    for (index, violation) in kept.iter().enumerate() {
        let story = crate::story::tell(violation);
        let _ = write!(text, "\n\nat {}: {}", format::seconds(violation.at), story.message);
        if index == 0 {
            let _ = write!(text, "\n{}", story.columns("  ").trim_end());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_run_that_passed_has_only_good_cases() {
        insta::assert_snapshot!(junit(&testing::passed()));
    }

    #[test]
    fn a_failure_says_what_happened_and_how_to_see_it_again() {
        insta::assert_snapshot!(junit(&testing::failed()));
    }

    #[test]
    fn an_interrupted_run_claims_nothing() {
        let report = Report { verdict: RunVerdict::Interrupted, ..testing::passed() };
        let xml = junit(&report);
        assert_eq!((xml.matches("<skipped").count(), report.oracles.len()), (2, 2), "{xml}");
    }
}
