//! The report for the summary of a CI step: verdict, key figures, violations.

use std::fmt::Write as _;

use crate::{
    data::{Report, RunVerdict},
    text,
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
    let (name, meaning) = (escape(&report.scenario), text::meaning(report.verdict));
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
    let (oracle, at, message) = (violation.oracle, text::seconds(violation.at), escape(&story.message));
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
        let [p50, p90, p99, max] = [latency.p50, latency.p90, latency.p99, latency.max].map(text::millis);
        [latency.stage.to_owned(), latency.count.to_string(), p50, p90, p99, max]
    });
    table(page, [crate::load::latency_head(report), "count", "p50", "p90", "p99", "max"], rows);
}

/// A table whose columns after the first are aligned to the right.
pub(crate) fn table<const N: usize>(
    page: &mut String,
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) {
    let _ = writeln!(page, "| {} |\n|:---{}|", head.join(" | "), "|---:".repeat(N - 1));
    for row in rows {
        let _ = writeln!(page, "| {} |", row.join(" | "));
    }
    page.push('\n');
}

/// Text that Markdown shows as it is, in a table too.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '|' | '[' | ']' | '~' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A block of code, in a fence longer than any within it.
pub(crate) fn fenced(code: &str) -> String {
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}text\n{code}\n{fence}\n")
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

    #[test]
    fn text_from_outside_cannot_change_the_page() {
        insta::assert_snapshot!(escape("a|b\n<script> *x* `y`"), @r"a\|b &lt;script> \*x\* \`y\`");
        insta::assert_snapshot!(fenced("a\n```\nb"), @r"
        ````text
        a
        ```
        b
        ````
        ");
    }
}
