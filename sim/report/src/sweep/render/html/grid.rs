//! One box for each seed, or for several neighbours when there are many.

use maud::{Markup, html};

use super::failures::{TOLD, anchor};
use crate::sweep::{
    outcome::{Run, SweptVerdict},
    report::SweepReport,
};

/// Boxes of one grid, at most: more than that is slow to draw and too small to see.
const BOXES: usize = 2000;

/// The runs of the scenario called `name`. What failed is told by more than its colour.
pub(super) fn grid(report: &SweepReport, name: &str) -> Markup {
    let runs: Vec<_> = report.runs_of(name).collect();
    if runs.is_empty() {
        return html! { h3 { (name) } p.soft { "No run was made." } };
    }
    let each = runs.len().div_ceil(BOXES);
    let told: Vec<_> = report.failed().take(TOLD).map(anchor).collect();
    html! {
        h3 { (name) " " span.soft { (summary(&runs)) @if each > 1 { ", " (each) " seeds in each box" } } }
        div.grid role="img" aria-label=(format!("{name}: {}", summary(&runs))) {
            @for group in runs.chunks(each) { (cell(group, &told)) }
        }
    }
}

fn summary(runs: &[&Run]) -> String {
    let failed = runs.iter().filter(|run| run.has_failed()).count();
    format!("{} passed, {failed} failed", runs.len() - failed)
}

fn cell(group: &[&Run], told: &[String]) -> Markup {
    let worst = group.iter().max_by_key(|run| run.verdict).expect("a box has runs");
    let (class, sign) = match worst.verdict {
        SweptVerdict::Passed => ("passed", "·"),
        SweptVerdict::Liveness => ("failed", "L"),
        SweptVerdict::Safety => ("failed", "S"),
        SweptVerdict::Crashed => ("failed", "C"),
    };
    let what = worst.first.as_ref().map_or_else(|| "passed".to_owned(), |first| first.oracle.clone());
    let title = match (group.first(), group.last()) {
        (Some(first), Some(last)) if first.seed != last.seed => {
            format!("{} to {}: {what}", first.seed, last.seed)
        }
        _ => format!("{}: {what}", worst.seed),
    };
    let place = anchor(worst);
    html! {
        @if told.contains(&place) { a.(class) href=(format!("#{place}")) title=(title) { (sign) } }
        @else { span.(class) title=(title) { (sign) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::testing;

    #[test]
    fn many_seeds_share_a_box_and_the_worst_of_them_is_shown() {
        let page = grid(&testing::sweep(5000, &[4999]), "some").into_string();
        assert!(page.contains("3 seeds in each box"), "{}", &page[..300]);
        assert_eq!(
            (page.matches("class=\"passed\"").count(), page.matches("class=\"failed\"").count()),
            (1666, 1)
        );
        assert!(page.contains("title=\"0x1387 to 0x1388: stale\""));
    }
}
