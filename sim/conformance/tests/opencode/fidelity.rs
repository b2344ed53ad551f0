//! The differences between two records, and why those that remain do.

use std::{fs, path::Path};

use conformance::tools;

use super::suite::Record;

const PAGE: &str = "../../docs/fidelity.md";
/// What the test writes stands between these.
const BEGIN: &str = "<!-- begin: written by the test -->";
const END: &str = "<!-- end: written by the test -->";

/// Differences that are known: a part of the step's name, a part of the difference, and why it may stay.
const EXPLAINED: [(&str, &str, &str); 1] = [(
    "GET /config/providers",
    "default.opencode",
    "The real server always offers a remote provider of its own beside the configured one. The worker takes every \
     provider alike.",
)];
/// A cell of the table shows so many characters.
const CELL: usize = 160;

/// One difference, as a row of a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    step: String,
    real: String,
    fake: String,
}

/// Where two records differ. A list of events is compared as a whole, everything else line by line.
pub(crate) fn differences(real: &Record, fake: &Record) -> Vec<Difference> {
    let steps: std::collections::BTreeSet<_> = real.keys().chain(fake.keys()).collect();
    let mut found = Vec::new();
    for step in steps {
        let empty = Vec::new();
        let (left, right) = (real.get(step).unwrap_or(&empty), fake.get(step).unwrap_or(&empty));
        if left == right {
            continue;
        }
        let only = |these: &[String], those: &[String]| {
            let only: Vec<_> = these.iter().filter(|line| !those.contains(line)).cloned().collect();
            if step.contains(": order of ") { these.join(" → ") } else { only.join("; ") }
        };
        found.push(Difference { step: step.clone(), real: only(left, right), fake: only(right, left) });
    }
    found
}

fn why(difference: &Difference) -> Option<&'static str> {
    let fits = |(step, what, _): &&(&str, &str, &str)| {
        difference.step.contains(step) && (difference.real.contains(what) || difference.fake.contains(what))
    };
    EXPLAINED.iter().find(fits).map(|(_, _, why)| *why)
}

/// Fails on what is not explained, and keeps the page in step.
pub(crate) fn check(real: &Record, fake: &Record) {
    let differences = differences(real, fake);
    let unexplained: Vec<_> = differences.iter().filter(|difference| why(difference).is_none()).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let cell = |text: &str| {
        let cut: String = text.chars().take(CELL).collect();
        let more = if cut.len() < text.len() { " …" } else { "" };
        if text.is_empty() { "nothing".to_owned() } else { cut.replace('|', "\\|") + more }
    };
    let rows = differences.iter().map(|difference| {
        let Difference { step, real, fake } = difference;
        let reason = why(difference).unwrap_or_default();
        format!("| {} | `{}` | `{}` | {reason} |\n", cell(step), cell(real), cell(fake))
    });
    let table = format!(
        "{} steps are equal, {} differ.\n\n| step | real | fake | why |\n|---|---|---|---|\n{}",
        real.len() - differences.len(),
        differences.len(),
        rows.collect::<String>()
    );
    let path = Path::new(tools::DIRECTORY).join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let written = format!("{before}{BEGIN}\n{table}{END}{after}");
    if std::env::var_os("CONFORMANCE_BLESS").is_some() {
        fs::write(&path, &written).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == written,
        "docs/fidelity.md is not up to date; CONFORMANCE_BLESS=1 writes it"
    );
}
