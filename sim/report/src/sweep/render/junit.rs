//! Runs for build servers: one suite for each scenario, one case for each seed.

use crate::{
    data::Report,
    junit::{Case, Outcome, document, suite},
    sweep::{
        outcome::{Run, SweptVerdict},
        render::text::failure,
        report::SweepReport,
    },
};

/// Runs that passed are cases up to so many; of a larger sweep only the failures are, since build servers choke on more.
const CASES: usize = 10_000;

/// A sweep as JUnit XML.
#[must_use]
pub fn junit(report: &SweepReport) -> String {
    let all = report.runs.len() <= CASES;
    document(report.head.scenarios.iter().map(|scenario| {
        let runs = report.runs_of(&scenario.name).count().to_string();
        let shown = report.runs_of(&scenario.name).filter(|run| all || run.has_failed());
        let cases = shown.map(case).chain(missing(report, &scenario.name));
        suite(&scenario.name, &[("digest", &scenario.digest), ("runs", &runs)], cases)
    }))
}

/// A single run as JUnit XML.
#[must_use]
pub fn junit_of_run(report: &Report) -> String {
    let case = Run::of(report).as_ref().map_or_else(
        || Case {
            name: report.seed.to_string(),
            outcome: Outcome::Skipped("the run was interrupted: nothing is proved"),
        },
        case,
    );
    document([suite(&report.scenario, &[("digest", &report.source.digest), ("runs", "1")], [case])])
}

fn case(run: &Run) -> Case {
    let outcome = match run.first.as_ref().filter(|_| run.has_failed()) {
        None => Outcome::Passed,
        Some(first) => Outcome::Failed {
            kind: first.oracle.clone(),
            message: first.message.clone(),
            told: format!("{}\nrun it again: {}", failure(run, false), run.replay),
            crashed: run.verdict == SweptVerdict::Crashed,
        },
    };
    Case { name: run.seed.to_string(), outcome }
}

/// A case for each state that had to be reached and was not.
fn missing(report: &SweepReport, scenario: &str) -> impl Iterator<Item = Case> {
    let missing = report.marks.iter().filter(move |mark| mark.scenario == scenario && mark.is_missing());
    missing.map(|mark| Case {
        name: format!("reaches {}", mark.mark),
        outcome: Outcome::Failed {
            kind: "unreached".into(),
            message: "no run reached it".into(),
            told: String::new(),
            crashed: false,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sweep::testing, testing as one, verdict::RunVerdict};

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

    #[test]
    fn a_single_run_is_one_case_and_an_interrupted_one_claims_nothing() {
        let with = |verdict| junit_of_run(&Report { verdict, ..one::passed() });
        assert!(with(RunVerdict::Passed).contains(r#"<testcase name="0x2a""#));
        assert_eq!(with(RunVerdict::Interrupted).matches("<skipped").count(), 1);
        assert!(junit_of_run(&one::failed()).contains("run it again: "));
    }
}
