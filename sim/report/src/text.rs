//! The report for people.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table};

use crate::{
    data::Report,
    figures::{Summary, WireFigures},
    format::{Style, millis, seconds, size, table},
    load,
    load_figures::LoadFigures,
    verdict::RunVerdict,
};
use sim_model::{Label, mark::unreached, plant::Plant, seed::Seed};
use sim_oracles::Violation;

/// What is printed before a run: everything that decides it.
#[must_use]
pub fn header(
    name: &str,
    description: &str,
    seed: Seed,
    plants: &[Plant],
    options: &[(Label, String)],
) -> String {
    let mut text = format!("scenario     {name}\n");
    if !description.is_empty() {
        let _ = writeln!(text, "             {description}");
    }
    let _ = writeln!(text, "seed         {seed}");
    for (option, value) in options {
        let _ = writeln!(text, "{option:<12} {value}");
    }
    if !plants.is_empty() {
        let _ = writeln!(text, "planted bugs {plants:?}");
    }
    text
}

/// What is printed after a run.
#[must_use]
pub fn summary(report: &Report, styled: bool) -> String {
    let style = Style { styled };
    let mut text = String::new();
    let _ = writeln!(text, "\n{}", turns(&report.figures));
    let _ = writeln!(text, "\n{}", latencies(report));
    if !report.figures.functions.is_empty() {
        let _ = writeln!(text, "\n{}", functions(&report.figures));
    }
    if !report.figures.faults.is_empty() {
        let _ = writeln!(text, "\n{}", faults(&report.figures));
    }
    let _ = writeln!(text, "\n{}", run(report));
    if let Some(load) = &report.load {
        let _ = writeln!(text, "\n{}", real_time(load));
    }
    text.push('\n');
    let _ = writeln!(text, "{}", marks(report));
    for (oracle, count) in &report.oracles {
        let _ = match count {
            0 => writeln!(text, "{}  {oracle}", style.good("ok  ")),
            1 => writeln!(text, "{}  {oracle}: 1 violation", style.bad("FAIL")),
            _ => writeln!(text, "{}  {oracle}: {count} violations", style.bad("FAIL")),
        };
    }
    if let Some(first) = report.violations.first() {
        let _ = write!(text, "\n{}", story(first, &style));
    }
    let _ = writeln!(text, "\n{}", verdict(report, &style));
    text
}

fn story(violation: &Violation, style: &Style) -> String {
    let title = format!("first violation: {}", violation.oracle);
    let told = crate::story::text(violation, "  ");
    format!("{} at {}\n{told}", style.bad(&title), seconds(violation.at))
}

fn verdict(report: &Report, style: &Style) -> String {
    let again = format!("run it again: {}", report.replay);
    let meaning = report.verdict.meaning();
    match report.verdict {
        RunVerdict::Passed => format!("{}: {meaning}", style.good("passed")),
        RunVerdict::Interrupted => format!("interrupted: {meaning}\n{again}"),
        RunVerdict::Safety | RunVerdict::Liveness => format!("{}: {meaning}\n{again}", style.bad("FAILED")),
    }
}

/// The states worth reaching that were reached, and the required ones that were not.
fn marks(report: &Report) -> String {
    let reached = report.marks.iter().filter(|(_, count)| **count > 0);
    let reached: Vec<_> = reached.map(|(mark, count)| format!("{mark} {count}")).collect();
    let mut text =
        format!("marks reached: {}\n", if reached.is_empty() { "none".into() } else { reached.join(", ") });
    let missing = unreached(&report.required_marks, &report.marks);
    if !missing.is_empty() {
        let _ = writeln!(text, "required, but not reached with this seed: {}", missing.join(", "));
    }
    text
}

fn turns(figures: &Summary) -> Table {
    let rows = figures.turns.iter().map(|(outcome, count)| [outcome.to_string(), count.to_string()]);
    table(["turns", "count"], rows)
}

fn latencies(report: &Report) -> Table {
    let rows = report.figures.latencies.iter().map(|latency| {
        let [p50, p90, p99, max] = [latency.p50, latency.p90, latency.p99, latency.max].map(millis);
        [latency.stage.to_string(), latency.count.to_string(), p50, p90, p99, max]
    });
    table([load::latency_head(report), "count", "p50", "p90", "p99", "max"], rows)
}

fn functions(figures: &Summary) -> Table {
    let rows = figures.functions.iter().map(|(name, figures)| {
        let numbers =
            [figures.calls, figures.reruns, figures.conflicts, figures.errors, figures.documents_read];
        let [calls, reruns, conflicts, errors, documents] = numbers.map(|number| number.to_string());
        [name.to_string(), calls, reruns, conflicts, errors, documents, size(figures.bytes_read)]
    });
    table(["backend function", "calls", "reruns", "conflicts", "errors", "documents", "read"], rows)
}

fn faults(figures: &Summary) -> Table {
    let rows = figures.faults.iter().map(|(kind, faults)| {
        let struck = if kind.strikes() { faults.struck.to_string() } else { "".into() };
        [kind.to_string(), faults.begun.to_string(), struck]
    });
    table(["faults", "began", "struck"], rows)
}

fn real_time(load: &LoadFigures) -> String {
    let rows = load::rows(load).into_iter().map(|(name, value)| [name, value]);
    let mut text = left(["in real time", ""], rows).to_string();
    if !load.steps.is_empty() {
        let _ = write!(text, "\n\n{}", table(load::STEP_HEAD, load::steps(&load.steps)));
    }
    if !load.goals.is_empty() {
        let _ = write!(text, "\n\n{}", left(load::GOAL_HEAD, load::goals(&load.goals)));
    }
    if !load.against.is_empty() {
        let rows = load.against.iter().map(|(name, ours, theirs)| [name, ours, theirs].map(String::clone));
        let _ = write!(text, "\n\n{}", left(["beside another worker", "ours", "theirs"], rows));
    }
    text
}

/// A table of words, aligned to the left.
fn left<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let mut table = table(head, rows);
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Left));
    table
}

fn run(report: &Report) -> Table {
    // Of a run in real time there is more to say below.
    let engine = report.load.is_none().then(|| machine(report));
    let rows = facts(report).into_iter().chain(engine.into_iter().flatten());
    table(["run", ""], rows.map(|(name, value)| [name.to_owned(), value]))
}

/// The run in single figures, all of them exact.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let figures = &report.figures;
    let counts = figures.counts;
    let heap =
        |(worker, bytes): (&sim_model::trace::Name, &i64)| format!("{worker} {}", size(bytes.unsigned_abs()));
    let heaps: Vec<_> = figures.peak_heap.iter().map(heap).collect();
    let ends = format!("{} kills, {} stops, {} starts", counts.kills, counts.stops, counts.worker_starts);
    let creates = format!(
        "{}, at most {} at once and {} per second",
        figures.creates, figures.creates_at_once, figures.creates_per_second
    );
    let servers = format!("{} starts, {} event streams", counts.server_starts, counts.event_streams);
    let mut facts = vec![
        ("chunks stored", figures.chunks.to_string()),
        ("prompts", counts.prompts.to_string()),
        ("calls per turn", format!("{:.1}", figures.worker_calls_per_turn)),
        ("sessions created", creates),
        ("peak heap", heaps.join(", ")),
        ("bytes sent", wire(figures, |wire| wire.sent)),
        ("bytes received", wire(figures, |wire| wire.received)),
        ("workers", ends),
        ("OpenCode servers", servers),
        ("trace", format!("{} facts, {}", report.trace.facts, &report.trace.hash[..16])),
    ];
    if report.load.is_some() {
        facts.retain(|(name, _)| !["peak heap", "bytes sent", "bytes received"].contains(name));
    }
    facts
}

fn wire(figures: &Summary, bytes: fn(&WireFigures) -> u64) -> String {
    let kinds = figures.wire.iter().map(|(kind, wire)| format!("{kind} {}", size(bytes(wire))));
    kinds.collect::<Vec<_>>().join(", ")
}

/// What depends on the machine.
pub(super) fn machine(report: &Report) -> [(&'static str, String); 2] {
    let engine = report.engine;
    let wall = engine.wall.max(1e-9);
    let turns = report.figures.turns.values().sum::<u64>() as f64;
    let speed =
        format!("{:.0} simulated seconds and {:.0} turns per second", engine.simulated / wall, turns / wall);
    [
        ("wall time", format!("{:.2} s for {:.0} s, {} steps", engine.wall, engine.simulated, engine.steps)),
        ("speed", speed),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_run_says_first_what_it_will_be() {
        let options = [
            ("duration".into(), "40s".to_owned()),
            ("restarts".into(), "kill worker-1 at 10s for 2s".to_owned()),
        ];
        insta::assert_snapshot!(header("smoke", "everything once", Seed(42), &[Plant::ClaimOff], &options));
    }

    #[test]
    fn a_failed_run_ends_with_its_story_and_how_to_see_it_again() {
        insta::assert_snapshot!(summary(&testing::failed(), false));
    }

    #[test]
    fn colours_are_only_where_they_are_asked_for() {
        let [plain, styled] = [false, true].map(|styled| summary(&testing::failed(), styled));
        assert!(!plain.contains('\u{1b}') && styled.contains("\u{1b}[1;31mFAIL\u{1b}[0m"), "{styled}");
    }
}
