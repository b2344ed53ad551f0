//! A sweep as a page: one file, without scripts and without anything from elsewhere.

mod failures;
mod grid;
mod spread;

use failures::{TOLD, anchor};
use maud::{Markup, html};

use crate::{
    format::seconds,
    html::{document, tables},
    sweep::{
        outcome::Run,
        render::text::{meaning, values},
        report::{SweepReport, SweepVerdict},
    },
};

/// Runs named as the largest.
const LARGEST: usize = 5;

/// The page. All of it repeats to the last byte, but for the section with the id `machine`.
#[must_use]
pub fn page(report: &SweepReport) -> String {
    let (_, word) = words(report.verdict);
    let title = format!("{word}: sweep of {}", report.name());
    document(&title, &html! { (head(report)) main { (body(report)) } (machine(report)) })
}

fn words(verdict: SweepVerdict) -> (&'static str, &'static str) {
    match verdict {
        SweepVerdict::Passed => ("good", "Passed"),
        SweepVerdict::Interrupted => ("open", "Interrupted"),
        _ => ("bad", "Failed"),
    }
}

fn head(report: &SweepReport) -> Markup {
    let (class, word) = words(report.verdict);
    html! {
        header {
            h1 { "Sweep of " (report.name()) " " span.soft { (report.runs.len()) " runs" } }
            @if let [scenario] = &*report.head.scenarios { p.soft { (scenario.description) } }
            div.verdict.(class) {
                strong { (word) } " " span { (meaning(report)) }
                @if !report.head.plants.is_empty() {
                    p { "Bugs were planted on purpose: " (format!("{:?}", report.head.plants)) }
                }
                @if let Some(shard) = report.head.shard {
                    p { "This is shard " (shard.index) " of " (shard.of) "; whether every required state was reached is judged when they are merged." }
                }
            }
        }
    }
}

fn body(report: &SweepReport) -> Markup {
    html! {
        section {
            h2 { "Outcome by seed" }
            @for scenario in &report.head.scenarios { (grid::grid(report, &scenario.name)) }
        }
        @if report.failed().next().is_some() { (failures(report)) }
        @if !report.marks.is_empty() { section { h2 { "States reached" } (marks(report)) } }
        section {
            h2 { "Figures over seeds" }
            @for scenario in &report.head.scenarios { (spread::spreads(report, &scenario.name)) }
            (numbers(report))
        }
        section {
            h2 { "Largest runs" }
            (largest(report))
        }
        section {
            h2 { "What was run" }
            (scenarios(report))
        }
    }
}

fn failures(report: &SweepReport) -> Markup {
    let failed = report.failed().count();
    html! {
        section {
            h2 { "Failed runs" }
            @for run in report.failed().take(TOLD) { (failure(run)) }
            @if failed > TOLD { p { "And " (failed - TOLD) " more." } }
        }
    }
}

fn failure(run: &Run) -> Markup {
    html! {
        div.failure id=(anchor(run)) {
            h3 { (run.scenario) " " span.bad { (run.seed) } }
            @if let Some(first) = &run.first {
                p { strong { (first.oracle) } " at " (seconds(first.at)) ": " (first.message) }
            }
            pre tabindex="0" { code { (run.replay) } }
        }
    }
}

fn marks(report: &SweepReport) -> Markup {
    let several = report.head.scenarios.len() > 1;
    let head = ["state", "scenario", "runs", "times", ""];
    html! {
        div.scroll tabindex="0" role="region" aria-label="States reached" {
            table {
                thead {
                    tr { @for title in head { @if several || title != "scenario" { th scope="col" { (title) } } } }
                }
                tbody {
                    @for mark in &report.marks {
                        tr {
                            th scope="row" { (mark.mark) }
                            @if several { td { (mark.scenario) } }
                            td { (mark.runs) } td { (mark.times) }
                            @if mark.is_missing() { td.bad { strong { "missing" } } }
                            @else if mark.required { td.good { "required" } } @else { td {} }
                        }
                    }
                }
            }
        }
    }
}

fn numbers(report: &SweepReport) -> Markup {
    let rows: Vec<_> = report
        .spreads
        .iter()
        .map(|spread| {
            let [min, p50, p90, max] = values(spread);
            let name = format!("{}: {}", spread.scenario, spread.figure);
            [name, spread.runs.to_string(), min, p50, p90, max, spread.seed_of_max.to_string()]
        })
        .collect();
    tables::table(
        "Figures over seeds",
        ["figure", "runs", "least", "p50", "p90", "most", "seed of the most"],
        &rows,
    )
}

fn largest(report: &SweepReport) -> Markup {
    let figures = ["sent → completed, p99", "facts", "peak worker heap"];
    let rows: Vec<_> = figures
        .iter()
        .flat_map(|figure| {
            let unit = crate::sweep::outcome::MEASURES.iter().find(|measure| measure.name == *figure);
            let unit = unit.expect("a measure").unit;
            report.largest(figure, LARGEST).into_iter().map(move |run| {
                let value = crate::sweep::render::value::show(unit, run.figure(figure));
                [(*figure).to_owned(), run.scenario.clone(), run.seed.to_string(), value]
            })
        })
        .collect();
    tables::table("Largest runs", ["figure", "scenario", "seed", "value"], &rows)
}

fn scenarios(report: &SweepReport) -> Markup {
    let rows: Vec<_> = report
        .head
        .scenarios
        .iter()
        .map(|scenario| {
            let seeds = format!("{} from {}", scenario.seeds.count, scenario.seeds.first);
            let digest = scenario.digest.chars().take(12).collect();
            [scenario.name.clone(), scenario.path.clone(), seeds, digest]
        })
        .collect();
    tables::table("Scenarios", ["scenario", "file", "seeds", "digest"], &rows)
}

/// The only part that depends on the machine, and differs from sweep to sweep.
fn machine(report: &SweepReport) -> Markup {
    let machine = &report.machine;
    let wall = machine.wall.max(1e-9);
    let runs = report.runs.len() as f64;
    let rows = [
        ("wall time", format!("{:.1} s, {} runs at once", machine.wall, machine.jobs)),
        ("runs per second", format!("{:.1}", runs / wall)),
        ("simulated seconds per second", format!("{:.0}", report.total("simulated") / wall)),
        ("turns per second", format!("{:.0}", report.total("turns") / wall)),
    ];
    let slowest: Vec<_> = machine
        .slowest
        .iter()
        .map(|slow| [slow.scenario.clone(), slow.seed.to_string(), format!("{:.2} s", slow.wall)])
        .collect();
    html! {
        footer {
            section #machine {
                h2 { "The machine" }
                p { "This depends on the machine; nothing else on this page does." }
                (tables::words("The machine", &rows))
                h3 { "Slowest runs" }
                (tables::table("Slowest runs", ["scenario", "seed", "took"], &slowest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{report::Machine, testing};

    /// The page without style sheet and drawings.
    fn bones(report: &SweepReport) -> String {
        let page = page(report);
        let (before, rest) = page.split_once("<style>").unwrap();
        let (_, rest) = rest.split_once("</style>").unwrap();
        let mut kept = before.to_owned();
        for (index, part) in rest.split("<svg").enumerate() {
            kept.push_str(if index == 0 { part } else { part.split_once("</svg>").unwrap().1 });
        }
        kept.replace("><", ">\n<")
    }

    #[test]
    fn a_sweep_shows_seeds_failures_and_states() {
        insta::assert_snapshot!(bones(&testing::sweep(3, &[2])));
    }

    #[test]
    fn only_one_section_depends_on_the_machine() {
        let machine =
            |wall| SweepReport { machine: Machine { wall, ..Machine::default() }, ..testing::sweep(3, &[]) };
        let rest = |wall| page(&machine(wall)).split("<section id=\"machine\">").next().unwrap().to_owned();
        assert_eq!(rest(1.0), rest(9.0));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_trusts_no_text() {
        let page = page(&testing::sweep(3, &[2]));
        for foreign in
            ["http://", "https://", "<script", "<link", "<img", "url(", "@import", " src=", "<b>stale"]
        {
            assert!(!page.contains(foreign), "`{foreign}`");
        }
    }

    #[test]
    fn a_sweep_without_runs_has_a_page() {
        assert!(page(&testing::sweep(0, &[])).contains("No run was made."));
    }
}
