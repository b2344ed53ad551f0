//! What changed between two runs, figure by figure, and which direction is the worse one.
//!
//! A report is flattened to whole numbers by name; a figure that is not there is zero. In simulation they repeat to the
//! last digit, so any difference comes from a change of the code, the scenario or the seed. In real time nothing repeats:
//! such a run has figures of its own, each with room to differ, and is not compared with a simulation.

mod change;
mod figure_set;
mod figures;
mod real_time;
mod rule;
mod rules;
mod table;

use std::collections::BTreeSet;

pub use change::{Change, Meaning};
pub use figure_set::{Figure, FigureSet};
pub use figures::figures;
pub use real_time::conditions;
pub use rule::{Rule, Tolerance, Worse};
pub use rules::tolerances;
pub use table::table;
pub(crate) use table::{HEAD, ROWS, row};

/// The figures in which `after` differs from `before`, the worse ones first, then by name.
#[must_use]
pub fn changes(run: &str, before: &FigureSet, after: &FigureSet) -> Vec<Change> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let value = |set: &FigureSet, name: &String| set.get(name).cloned().unwrap_or(Figure::Count(0));
    let change = |name: &String| {
        let (before, after) = (value(before, name), value(after, name));
        let meaning = Rule::of(name).judge(&before, &after)?;
        Some(Change { run: run.to_owned(), figure: name.clone(), before, after, meaning })
    };
    let mut changes: Vec<_> = names.into_iter().filter_map(change).collect();
    changes.sort_by_key(|change| change.meaning);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<const N: usize>(figures: [(&str, i64); N]) -> FigureSet {
        figures.map(|(name, value)| (name.to_owned(), Figure::Count(value))).into()
    }

    #[track_caller]
    fn check(figure: &str, before: i64, after: i64, expect: Option<Meaning>) {
        let changes = changes("", &set([(figure, before)]), &set([(figure, after)]));
        assert_eq!(changes.first().map(|change| change.meaning), expect, "{figure}: {before} → {after}");
    }

    #[test]
    fn a_count_may_not_grow_by_one() {
        let calls = "functions.chat:claim.calls";
        check(calls, 1_000_000, 1_000_000, None);
        check(calls, 1_000_000, 1_000_001, Some(Meaning::Worse));
        check(calls, 1_000_000, 999_999, Some(Meaning::Better));
    }

    #[test]
    fn fewer_completed_turns_are_worse() {
        check("turns.completed", 20, 19, Some(Meaning::Worse));
        check("turns.completed", 20, 21, Some(Meaning::Better));
        check("turns.failed", 0, 1, Some(Meaning::Worse));
    }

    #[test]
    fn less_that_was_tried_is_not_better() {
        for figure in
            ["faults.kill.begun", "faults.opencode-errors.struck", "kills", "stops", "prompts", "links"]
        {
            check(figure, 9, 8, Some(Meaning::Neutral));
            check(figure, 9, 10, Some(Meaning::Neutral));
        }
    }

    #[test]
    fn heap_and_latencies_have_room_in_both_directions() {
        let heap = "peak_heap.worker-1";
        check(heap, 100_000, 103_000, Some(Meaning::Tolerated));
        check(heap, 100_000, 103_001, Some(Meaning::Worse));
        check(heap, 100_000, 97_000, Some(Meaning::Tolerated));
        check(heap, 100_000, 96_999, Some(Meaning::Better));
        check("latencies.sent → claimed.p99_us", 100_000, 102_000, Some(Meaning::Tolerated));
        check("latencies.sent → claimed.p99_us", 100_000, 102_001, Some(Meaning::Worse));
    }

    #[test]
    fn a_figure_that_is_not_there_is_zero() {
        let calls = set([("functions.chat:new.calls", 1)]);
        assert_eq!(changes("", &set([]), &calls)[0].meaning, Meaning::Worse);
        assert_eq!(changes("", &calls, &set([]))[0].meaning, Meaning::Better);
    }

    #[test]
    fn another_trace_alone_is_not_worse() {
        let hash = |text: &str| FigureSet::from([("trace.hash".to_owned(), Figure::Text(text.to_owned()))]);
        let found = changes("", &hash("a"), &hash("b"));
        assert_eq!((found.len(), found[0].meaning), (1, Meaning::Neutral));
    }
}
