//! Changes as a table.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use super::{Change, Figure, Meaning, Rule};

/// The most rows that are printed: whoever changed more than that reads the baseline's diff.
const ROWS: usize = 100;

/// `changes` as a table of at most [`ROWS`] rows; a sentence if there is none.
#[must_use]
pub fn table(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no figure changed".into();
    }
    let several = changes.iter().any(|change| !change.run.is_empty());
    let mut table = Table::new();
    let head = ["run", "figure", "before", "now", "change", "tolerated", ""];
    table.load_style(UTF8_FULL_CONDENSED).set_header(head.into_iter().skip(usize::from(!several)));
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

fn row(change: &Change) -> [String; 7] {
    let meaning = match change.meaning {
        Meaning::Worse => "WORSE",
        Meaning::Better => "better",
        Meaning::Tolerated => "tolerated",
        Meaning::Neutral => "changed",
    };
    let tolerated = match change.meaning {
        Meaning::Neutral => String::new(),
        _ => Rule::of(&change.figure).tolerance.to_string(),
    };
    let (before, after) = (&change.before, &change.after);
    [
        change.run.clone(),
        change.figure.clone(),
        before.to_string(),
        after.to_string(),
        difference(before, after),
        tolerated,
        meaning.to_owned(),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
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
    use super::{
        super::{FigureSet, changes},
        *,
    };

    fn sets() -> (FigureSet, FigureSet) {
        let text = |hash: &str| ("trace.hash".to_owned(), Figure::Text(hash.to_owned()));
        let count = |name: &str, count| (name.to_owned(), Figure::Count(count));
        let calls = "functions.chat:claim.calls";
        let before = [count(calls, 30), count("creates", 5), count("peak_heap.worker-1", 10_000), text("aa")];
        let after = [count(calls, 60), count("creates", 4), count("peak_heap.worker-1", 10_010), text("bb")];
        (before.into(), after.into())
    }

    #[test]
    fn the_worse_comes_first() {
        let (before, after) = sets();
        let text = table(&changes("smoke 0x1", &before, &after));
        let order = ["functions.chat:claim.calls", "creates ", "peak_heap.worker-1", "trace.hash"];
        let lines: Vec<_> = text.lines().skip(3).zip(order).collect();
        assert!(lines.iter().all(|(line, figure)| line.contains(figure)), "{text}");
        let [calls, creates, heap, hash] = [0, 1, 2, 3].map(|row| lines[row].0);
        assert!(calls.contains("+30 (+100.0%)") && calls.contains("WORSE"), "{text}");
        assert!(
            creates.contains("better") && heap.contains("tolerated") && hash.contains("changed"),
            "{text}"
        );
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
