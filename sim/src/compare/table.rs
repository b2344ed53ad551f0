//! Changes as a table.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use super::{
    change::{Change, Meaning},
    figure_set::Figure,
    rule::Rule,
};

/// The most rows that are shown: whoever changed more than that reads the baseline's diff.
pub(crate) const ROWS: usize = 100;
/// The columns of [`row`].
pub(crate) const HEAD: [&str; 8] = ["run", "figure", "before", "now", "change", "worse is", "tolerated", ""];

/// `changes` as a table of at most `ROWS` rows; a sentence if there is none.
#[must_use]
pub fn table(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no figure changed".into();
    }
    let several = changes.iter().any(|change| !change.run.is_empty());
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(HEAD.into_iter().skip(usize::from(!several)));
    for change in changes.iter().take(ROWS) {
        table.add_row(row(change).into_iter().skip(usize::from(!several)));
    }
    let first_number = if several { 2 } else { 1 };
    for column in table.column_iter_mut().skip(first_number).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.to_string();
    if let Some(more) = changes.len().checked_sub(ROWS).filter(|more| *more > 0) {
        let _ = write!(text, "\nand {more} more");
    }
    text
}

/// A change, in the columns of [`HEAD`].
pub(crate) fn row(change: &Change) -> [String; 8] {
    let meaning = match change.meaning {
        Meaning::Worse => "WORSE",
        Meaning::Better => "better",
        Meaning::Tolerated => "tolerated",
        Meaning::Neutral => "changed",
    };
    let rule = Rule::of(&change.figure);
    let tolerated = match change.meaning {
        Meaning::Neutral => String::new(),
        _ => rule.tolerance.to_string(),
    };
    let (before, after) = (&change.before, &change.after);
    [
        change.run.clone(),
        change.figure.clone(),
        before.to_string(),
        after.to_string(),
        difference(before, after),
        rule.worse.to_string(),
        tolerated,
        meaning.to_owned(),
    ]
}

fn difference(before: &Figure, after: &Figure) -> String {
    let (Figure::Count(before), Figure::Count(after)) = (before, after) else { return String::new() };
    let difference = after.saturating_sub(*before);
    match before {
        0 => format!("{difference:+}"),
        _ => format!("{difference:+} ({:+.1}%)", difference as f64 * 100.0 / *before as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{FigureSet, changes};

    fn sets() -> (FigureSet, FigureSet) {
        let text = |hash: &str| ("trace.hash".to_owned(), Figure::Text(hash.to_owned()));
        let count = |name: &str, count| (name.to_owned(), Figure::Count(count));
        let calls = "functions.chat:claim.calls";
        let before = [
            count(calls, 30),
            count("creates", 5),
            count("peak_heap.worker-1", 10_000),
            count("kills", 4),
            count("turns.completed", 9),
            text("aa"),
        ];
        let after = [
            count(calls, 60),
            count("creates", 4),
            count("peak_heap.worker-1", 10_010),
            count("kills", 3),
            count("turns.completed", 8),
            text("bb"),
        ];
        (before.into(), after.into())
    }

    #[test]
    fn the_worse_comes_first_and_each_figure_says_which_direction_that_is() {
        let (before, after) = sets();
        insta::assert_snapshot!(table(&changes("smoke 0x1", &before, &after)));
    }

    #[test]
    fn one_run_needs_no_name() {
        let (before, after) = sets();
        assert!(!table(&changes("", &before, &after)).contains("│ run"));
        assert_eq!(table(&changes("", &before, &before)), "no figure changed");
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let many: FigureSet = (0..103).map(|number| (format!("f{number}"), Figure::Count(1))).collect();
        assert!(table(&changes("", &FigureSet::new(), &many)).ends_with("\nand 3 more"));
    }
}
