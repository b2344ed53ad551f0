//! What build servers read: JUnit XML, a case for each run. Nothing in it depends on the machine, hence no times.

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

/// What is known of one run, or of something else that was checked.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name within the suite.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a case ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Well.
    Passed,
    /// It was given up before it came to an end; why.
    Skipped(&'static str),
    /// Not well.
    Failed {
        /// What kind of failure, in a word.
        kind: String,
        /// What happened, in a line.
        message: String,
        /// All of it, and how to see it again.
        told: String,
        /// Whether the simulator itself failed.
        crashed: bool,
    },
}

/// A suite with its properties and cases.
#[must_use]
pub fn suite(name: &str, properties: &[(&str, &str)], cases: impl IntoIterator<Item = Case>) -> TestSuite {
    let mut suite = TestSuite::new(name);
    suite.add_properties(properties.iter().copied());
    suite.add_test_cases(cases.into_iter().map(|case| {
        let mut test = TestCase::new(case.name, status(case.outcome));
        test.set_classname(name);
        test
    }));
    suite
}

/// The document with these suites.
#[must_use]
pub fn document(suites: impl IntoIterator<Item = TestSuite>) -> String {
    let mut document = quick_junit::Report::new("sim");
    document.add_test_suites(suites);
    document.to_string().expect("writing into memory, without times")
}

fn status(outcome: Outcome) -> TestCaseStatus {
    match outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Skipped(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why);
            status
        }
        Outcome::Failed { kind, message, told, crashed } => {
            let sort = if crashed { NonSuccessKind::Error } else { NonSuccessKind::Failure };
            let mut status = TestCaseStatus::non_success(sort);
            status.set_type(kind).set_message(message).set_description(told);
            status
        }
    }
}
