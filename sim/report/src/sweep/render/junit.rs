//! A sweep for build servers: one suite for each scenario, one case for each seed.

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use crate::sweep::render::text::failure;
use crate::sweep::{
    outcome::{Run, SweptVerdict},
    report::{SweepReport, Swept},
};

/// Runs that passed are cases up to so many; of a larger sweep only the failures are, since build servers choke on more.
const CASES: usize = 10_000;

/// The report as JUnit XML. Nothing in it depends on the machine, hence no times.
#[must_use]
pub fn junit(report: &SweepReport) -> String {
    let mut document = quick_junit::Report::new("sim");
    let all = report.runs.len() <= CASES;
    for scenario in &report.head.scenarios {
        let mut suite = TestSuite::new(&*scenario.name);
        suite.add_property(("digest", &*scenario.digest));
        suite.add_property(("runs", &*report.runs_of(&scenario.name).count().to_string()));
        let shown = report.runs_of(&scenario.name).filter(|run| all || run.has_failed());
        suite.add_test_cases(shown.map(case));
        suite.add_test_cases(missing(report, scenario));
        document.add_test_suite(suite);
    }
    document.to_string().expect("writing into memory, without times")
}

fn case(run: &Run) -> TestCase {
    let mut case = TestCase::new(run.seed.to_string(), status(run));
    case.set_classname(&*run.scenario);
    case
}

fn status(run: &Run) -> TestCaseStatus {
    let Some(first) = run.first.as_ref().filter(|_| run.has_failed()) else {
        return TestCaseStatus::success();
    };
    let crashed = run.verdict == SweptVerdict::Crashed;
    let kind = if crashed { NonSuccessKind::Error } else { NonSuccessKind::Failure };
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(&*first.oracle);
    status.set_message(&*first.message);
    status.set_description(format!("{}\nrun it again: {}", failure(run, false), run.replay));
    status
}

/// A case for each state that had to be reached and was not.
fn missing(report: &SweepReport, scenario: &Swept) -> Vec<TestCase> {
    let missing = report.marks.iter().filter(|mark| mark.scenario == scenario.name && mark.is_missing());
    let case = |mark: &crate::sweep::report::Coverage| {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_type("unreached");
        status.set_message("no run reached it");
        let mut case = TestCase::new(format!("reaches {}", mark.mark), status);
        case.set_classname(&*scenario.name);
        case
    };
    missing.map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::report::testing;

    #[test]
    fn each_seed_is_a_case_and_a_failure_says_how_to_see_it_again() {
        insta::assert_snapshot!(junit(&testing::sweep(3, &[2])));
    }

    #[test]
    fn a_state_that_no_run_reached_is_a_failed_case() {
        let mut report = testing::sweep(2, &[]);
        report.marks[0].runs = 0;
        assert!(junit(&report).contains(r#"<testcase name="reaches reply-cut" classname="some">"#));
    }
}
