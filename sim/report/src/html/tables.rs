//! Tables of exact figures.

use maud::{Markup, html};

use crate::{data::Report, format, load_figures::LoadFigures};
use sim_model::mark::MARKS;

/// A table in a box that scrolls by itself on narrow screens. The first column names the row.
pub(crate) fn table<const N: usize>(name: &str, head: [&str; N], rows: &[[String; N]]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(name) {
            table {
                thead { tr { @for title in head { th scope="col" { (title) } } } }
                tbody {
                    @for row in rows {
                        tr { th scope="row" { (row[0]) } @for value in &row[1..] { td { (value) } } }
                    }
                }
            }
        }
    }
}

/// A table of names and what is to say about them.
pub(crate) fn words<K: AsRef<str>>(name: &str, rows: &[(K, String)]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(name) {
            table.words {
                tbody { @for (name, value) in rows { tr { th scope="row" { (name.as_ref()) } td { (value) } } } }
            }
        }
    }
}

/// Two workers side by side.
pub(super) fn against(load: &LoadFigures) -> Markup {
    let rows = load.against.iter().map(|(name, ours, theirs)| [name, ours, theirs].map(String::clone));
    table("Beside another worker", ["figure", "ours", "theirs"], &rows.collect::<Vec<_>>())
}

/// What each oracle found.
pub(super) fn oracles(report: &Report) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Oracles" {
            table {
                thead { tr { th scope="col" { "oracle" } th scope="col" { "verdict" } th scope="col" { "violations" } } }
                tbody {
                    @for (oracle, count) in &report.oracles {
                        tr {
                            th scope="row" { (oracle) }
                            @if *count == 0 { td.good { "ok" } } @else { td.bad { strong { "failed" } } }
                            td { (count) }
                        }
                    }
                }
            }
        }
    }
}

/// Which states worth reaching were reached, and how often.
pub(super) fn marks(report: &Report) -> Markup {
    let rows: Vec<_> = MARKS
        .iter()
        .map(|mark| {
            let count = report.marks.get(mark.id).copied().unwrap_or_default();
            let required = if report.required_marks.iter().any(|id| id == mark.id) { "yes" } else { "" };
            [mark.id.to_owned(), count.to_string(), required.to_owned(), mark.about.to_owned()]
        })
        .collect();
    table("Marks", ["mark", "reached", "required", "counts when"], &rows)
}

/// How turns ended.
pub(super) fn turns(report: &Report) -> Markup {
    let turns = report.figures.turns.iter();
    let rows: Vec<_> = turns.map(|(outcome, count)| [outcome.to_string(), count.to_string()]).collect();
    table("Turns", ["turns", "count"], &rows)
}

/// How long the stages of completed turns took.
pub(super) fn latencies(report: &Report) -> Markup {
    let rows = report.figures.latencies.iter().map(|latency| {
        let [p50, p90, p99, max] = [latency.p50, latency.p90, latency.p99, latency.max].map(format::millis);
        [latency.stage.to_string(), latency.count.to_string(), p50, p90, p99, max]
    });
    table("Latencies", ["stage", "count", "p50", "p90", "p99", "max"], &rows.collect::<Vec<_>>())
}

/// What backend functions cost.
pub(super) fn functions(report: &Report) -> Markup {
    let rows = report.figures.functions.iter().map(|(name, figures)| {
        let [calls, reruns, conflicts, errors, read, written] = [
            figures.calls,
            figures.reruns,
            figures.conflicts,
            figures.errors,
            figures.documents_read,
            figures.documents_written,
        ]
        .map(|number| number.to_string());
        let [bytes_read, bytes_written] = [figures.bytes_read, figures.bytes_written].map(format::size);
        let name = name.to_string();
        [name, calls, reruns, conflicts, errors, read, bytes_read, written, bytes_written]
    });
    let head = [
        "function",
        "calls",
        "reruns",
        "conflicts",
        "errors",
        "docs read",
        "read",
        "docs written",
        "written",
    ];
    table("Backend functions", head, &rows.collect::<Vec<_>>())
}
