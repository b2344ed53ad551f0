//! A sweep for the summary of a CI step.

use std::fmt::Write as _;

use crate::{
    format::seconds,
    markdown::{escape, fenced, table},
    sweep::{
        render::text::{meaning, values},
        report::{SweepReport, SweepVerdict},
    },
};

/// Failed runs told; the others are counted.
const TOLD: usize = 20;

/// The report as GitHub-flavoured Markdown. Nothing in it depends on the machine.
#[must_use]
pub fn markdown(report: &SweepReport) -> String {
    let (sign, word) = match report.verdict {
        SweepVerdict::Passed => ("✅", "passed"),
        SweepVerdict::Interrupted => ("⏹️", "interrupted"),
        _ => ("❌", "failed"),
    };
    let mut page =
        format!("## {sign} Sweep of {} {word}: {}\n\n", escape(&report.name()), escape(&meaning(report)));
    if !report.head.plants.is_empty() {
        let _ = writeln!(page, "**Bugs planted on purpose:** {:?}\n", report.head.plants);
    }
    failures(&mut page, report);
    let spreads = report.spreads.iter().map(|spread| {
        let [min, p50, p90, max] = values(spread);
        [
            escape(&spread.scenario),
            spread.figure.clone(),
            min,
            p50,
            p90,
            max,
            format!("`{}`", spread.seed_of_max),
        ]
    });
    table(&mut page, ["scenario", "figure", "least", "p50", "p90", "most", "seed of the most"], spreads);
    if !report.marks.is_empty() {
        let marks = report.marks.iter().map(|mark| {
            let required = if mark.is_missing() { "**missing**" } else { "" };
            [
                escape(&mark.mark),
                escape(&mark.scenario),
                mark.runs.to_string(),
                mark.times.to_string(),
                required.into(),
            ]
        });
        table(&mut page, ["state reached", "scenario", "runs", "times", ""], marks);
    }
    page
}

fn failures(page: &mut String, report: &SweepReport) {
    let failed: Vec<_> = report.failed().collect();
    for run in failed.iter().take(TOLD) {
        let _ = write!(page, "- **{} `{}`**", escape(&run.scenario), run.seed);
        if let Some(first) = &run.first {
            let (at, message) = (seconds(first.at), escape(&first.message));
            let _ = write!(page, ": **{}** at {at}: {message}", first.oracle);
        }
        let replay = fenced(&run.replay).replace('\n', "\n  ");
        let _ = writeln!(page, "\n\n  {}\n", replay.trim_end());
    }
    if failed.len() > TOLD {
        let _ = writeln!(page, "… and {} more.\n", failed.len() - TOLD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::testing;

    #[test]
    fn a_sweep_with_a_failure_tells_it_first() {
        insta::assert_snapshot!(markdown(&testing::sweep(3, &[2])));
    }

    #[test]
    fn many_failures_are_counted() {
        let seeds: Vec<_> = (1..=25).collect();
        assert!(markdown(&testing::sweep(25, &seeds)).contains("… and 5 more."));
    }
}
