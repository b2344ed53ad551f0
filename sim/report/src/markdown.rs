//! The report for the summary of a CI step: verdict, key figures, violations.

pub(crate) mod blocks;

use std::fmt::Write as _;

pub use blocks::{escape, fenced, table};

use crate::{
    data::Report,
    format::{millis, seconds},
    text,
    verdict::RunVerdict,
};
use sim_oracles::Violation;

/// Violations told at length; the others are counted.
const TOLD: usize = 5;

/// The report as GitHub-flavoured Markdown. Nothing in it depends on the machine, unless the run was in real time.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let (sign, word) = match report.verdict {
        RunVerdict::Passed => ("✅", "passed"),
        RunVerdict::Safety | RunVerdict::Liveness => ("❌", "failed"),
        RunVerdict::Interrupted => ("⏹️", "interrupted"),
    };
    let (name, meaning) = (escape(&report.scenario), report.verdict.meaning());
    let mut page = format!("## {sign} {name} {word}: {meaning}\n\n");
    if !report.description.is_empty() {
        let _ = writeln!(page, "{}\n", escape(&report.description));
    }
    if !report.plants.is_empty() {
        let _ = writeln!(page, "**Bugs planted on purpose:** {:?}\n", report.plants);
    }
    let _ = writeln!(page, "{}", fenced(&report.replay));
    violations(&mut page, report);
    crate::load::markdown(&mut page, report);
    figures(&mut page, report);
    latencies(&mut page, report);
    page
}

fn violations(page: &mut String, report: &Report) {
    let broken: Vec<_> = report.oracles.iter().filter(|(_, count)| *count > 0).collect();
    if broken.is_empty() {
        return;
    }
    let rows = broken.iter().map(|(oracle, count)| [format!("`{oracle}`"), count.to_string()]);
    table(page, ["oracle", "violations"], rows);
    let told = report.violations.len().min(TOLD);
    for violation in &report.violations[..told] {
        tell(page, violation);
    }
    let left = broken.iter().map(|(_, count)| count).sum::<u64>().saturating_sub(told as u64);
    if left > 0 {
        let _ = writeln!(page, "… and {left} more.\n");
    }
}

fn tell(page: &mut String, violation: &Violation) {
    let story = crate::story::tell(violation);
    let (oracle, at, message) = (&violation.oracle, seconds(violation.at), escape(&story.message));
    let _ = writeln!(page, "- **{oracle}** at {at}: {message}\n");
    if !story.lines.is_empty() {
        let told = story.columns("");
        let _ = writeln!(page, "<details><summary>what led to it</summary>\n\n{}", fenced(told.trim_end()));
        let _ = writeln!(page, "</details>\n");
    }
}

fn figures(page: &mut String, report: &Report) {
    let turns = report.figures.turns.iter().map(|(outcome, count)| format!("{count} {outcome}"));
    let turns = ("turns", turns.collect::<Vec<_>>().join(", "));
    let seed = ("seed", report.seed.to_string());
    let rows = [seed, turns].into_iter().chain(text::facts(report));
    table(page, ["run", ""], rows.map(|(name, value)| [name.to_owned(), escape(&value)]));
}

fn latencies(page: &mut String, report: &Report) {
    let rows = report.figures.latencies.iter().map(|latency| {
        let [p50, p90, p99, max] = [latency.p50, latency.p90, latency.p99, latency.max].map(millis);
        [latency.stage.to_string(), latency.count.to_string(), p50, p90, p99, max]
    });
    table(page, [crate::load::latency_head(report), "count", "p50", "p90", "p99", "max"], rows);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_run_that_passed_is_told_in_figures() {
        insta::assert_snapshot!(markdown(&testing::passed()));
    }

    #[test]
    fn a_run_that_failed_is_told_with_its_violations_first() {
        insta::assert_snapshot!(markdown(&testing::failed()));
    }
}
