//! The differences between two records, why those that remain do, and the page that lists them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::suite::{Record, TIMING};
use crate::tools;

/// What is written here stands between these in `docs/fidelity.md`.
const BEGIN: &str = "<!-- begin: written by `cargo run -p conformance` -->";
const END: &str = "<!-- end: written by `cargo run -p conformance` -->";

/// Differences that are known: a part of the step's name, a part of the difference, and why it may stay.
const EXPLAINED: [(&str, &str, &str); 1] = [(
    "GET /config/providers",
    "default.opencode",
    "The real server always offers a remote provider of its own beside the configured one. The worker takes every \
     provider alike.",
)];
/// A cell of the table shows so many characters.
const CELL: usize = 160;

/// One difference, as a row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    step: String,
    real: String,
    fake: String,
    /// When the step is answered; that of both, if they differ.
    timing: String,
}

/// Where two records differ. A list of events is compared as a whole, everything else line by line.
#[must_use]
pub fn differences(real: &Record, fake: &Record) -> Vec<Difference> {
    let steps: BTreeSet<_> = real.keys().chain(fake.keys()).collect();
    let empty = Vec::new();
    let pairs = steps
        .into_iter()
        .map(|step| (step, real.get(step).unwrap_or(&empty), fake.get(step).unwrap_or(&empty)));
    pairs
        .filter(|(_, left, right)| left != right)
        .map(|(step, left, right)| difference(step, left, right))
        .collect()
}

fn difference(step: &str, left: &[String], right: &[String]) -> Difference {
    let only = |these: &[String], those: &[String]| {
        let only = these.iter().filter(|line| !those.contains(line) && !line.starts_with(TIMING));
        if step.contains(": order of ") {
            these.join(" → ")
        } else {
            only.cloned().collect::<Vec<_>>().join("; ")
        }
    };
    let timing = match (timing(left), timing(right)) {
        (left, right) if left == right => left.to_owned(),
        (left, right) => format!("{left} / {right}"),
    };
    Difference { step: step.to_owned(), real: only(left, right), fake: only(right, left), timing }
}

/// When a step was answered.
fn timing(lines: &[String]) -> &str {
    lines.iter().find_map(|line| line.strip_prefix(TIMING)).unwrap_or("-")
}

impl Difference {
    /// Why it may stay; nothing if nobody knows.
    #[must_use]
    pub fn why(&self) -> Option<&'static str> {
        let fits = |(step, what, _): &&(&str, &str, &str)| {
            self.step.contains(step) && (self.real.contains(what) || self.fake.contains(what))
        };
        EXPLAINED.iter().find(fits).map(|(_, _, why)| *why)
    }

    fn row(&self) -> String {
        let Self { step, real, fake, timing } = self;
        let why = self.why().unwrap_or("**not explained**");
        format!("| {} | `{}` | `{}` | {timing} | {why} |\n", cell(step), cell(real), cell(fake))
    }
}

fn cell(text: &str) -> String {
    let cut: String = text.chars().take(CELL).collect();
    let more = if cut.len() < text.len() { " …" } else { "" };
    if text.is_empty() { "nothing".to_owned() } else { cut.replace('|', "\\|") + more }
}

/// What the page says: how much is equal, when the real server answers, and what differs.
#[must_use]
pub fn table(real: &Record, fake: &Record) -> String {
    let differences = differences(real, fake);
    let (equal, rows) = (real.len() - differences.len(), differences.iter().map(Difference::row));
    let mut classes = BTreeMap::<&str, Vec<&str>>::new();
    for (step, lines) in real {
        classes.entry(timing(lines)).or_default().push(step);
    }
    classes.remove("-");
    let classes = classes.iter().map(|(class, steps)| {
        let named = if steps.len() > 4 { format!("{} steps", steps.len()) } else { steps.join("; ") };
        format!("| {class} | {named} |\n")
    });
    format!(
        "{equal} steps are equal, {} differ.\n\n| answered | steps |\n|---|---|\n{}\n\
         | step | real | fake | answered | why |\n|---|---|---|---|---|\n{}",
        differences.len(),
        classes.collect::<String>(),
        rows.collect::<String>()
    )
}

/// Where the page is.
#[must_use]
pub fn page() -> PathBuf {
    Path::new(tools::DIRECTORY).join("../../docs/fidelity.md")
}

/// The page with another table in its place.
///
/// # Errors
/// If it has no place for a table.
pub fn with_table(page: &str, table: &str) -> Result<String, String> {
    let place = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = place.ok_or_else(|| format!("the page lacks `{BEGIN}` or `{END}`"))?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(steps: &[(&str, &[&str])]) -> Record {
        steps
            .iter()
            .map(|(step, lines)| ((*step).into(), lines.iter().map(|line| (*line).into()).collect()))
            .collect()
    }

    #[test]
    fn a_row_says_what_only_one_has_and_when_both_answer() {
        let real =
            record(&[("one", &["status 200", "timing: at once", "a: string"]), ("two", &["status 200"])]);
        let fake = record(&[("one", &["status 200", "timing: late", "a: number"]), ("two", &["status 200"])]);
        let found = differences(&real, &fake);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].row(),
            "| one | `a: string` | `a: number` | at once / late | **not explained** |\n"
        );
        assert_eq!(differences(&real, &real), []);
    }

    #[test]
    fn a_step_that_one_server_does_not_have_differs() {
        let found = differences(&record(&[("one: order of events", &["a", "b"])]), &Record::new());
        assert_eq!((found[0].real.as_str(), found[0].fake.as_str()), ("a → b", ""));
    }

    #[test]
    fn the_table_goes_between_its_marks() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(with_table(&page, "new\n").unwrap(), format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert!(with_table("no marks", "").is_err());
    }
}
