//! What the gate says of its runs, to people and to build servers.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    compare::{self, Change, HEAD, Meaning, ROWS, row},
    gate::runs::name,
};
use sim_report::{
    Annotation, Report, RunVerdict,
    junit::{Case, Outcome, document, suite},
};

/// How to make the baseline anew.
pub const BLESS: &str = "cargo run -p sim -- gate --bless --reason TEXT";
/// Figures named in an annotation; the table has all.
const NAMED: usize = 5;

/// What the runs come to beside the baseline.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// The runs, by name, each with its scenario's file.
    pub runs: BTreeMap<String, String>,
    /// Those in which an oracle was not content: then no figure means anything.
    pub failed: Vec<Report>,
    /// What differs from the baseline, the worse first.
    pub changes: Vec<Change>,
}

/// What to make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateVerdict {
    /// The runs that were accepted, or cheaper ones.
    Passed,
    /// No figure is worse, but the runs took another course: somebody has to say that this was meant.
    Unaccepted,
    /// A figure is worse.
    Worse,
    /// A run failed.
    Failed(RunVerdict),
}

impl Judgement {
    /// What to make of it.
    #[must_use]
    pub fn verdict(&self) -> GateVerdict {
        if let Some(report) = self.failed.first() {
            return GateVerdict::Failed(report.verdict);
        }
        match (self.count(Meaning::Worse), self.other_runs()) {
            (0, 0) => GateVerdict::Passed,
            (0, _) => GateVerdict::Unaccepted,
            _ => GateVerdict::Worse,
        }
    }

    fn count(&self, meaning: Meaning) -> usize {
        self.changes.iter().filter(|change| change.meaning == meaning).count()
    }

    /// Runs whose trace is another one.
    fn other_runs(&self) -> usize {
        self.changes.iter().filter(|change| change.figure == "trace.hash").count()
    }

    fn changes_of<'a>(&'a self, run: &'a str) -> impl Iterator<Item = &'a Change> {
        self.changes.iter().filter(move |change| change.run == run)
    }

    /// The verdict in a sentence or two, which say what to do.
    #[must_use]
    pub fn sentence(&self) -> String {
        let (worse, better) = (figures(self.count(Meaning::Worse)), self.count(Meaning::Better));
        match self.verdict() {
            GateVerdict::Failed(_) => {
                format!("FAILED: {} failed, so no figure means anything", runs(self.failed.len()))
            }
            GateVerdict::Worse => {
                format!("FAILED: {worse} got worse, {better} better; if that is meant, `{BLESS}`")
            }
            GateVerdict::Unaccepted => format!(
                "NOT ACCEPTED: no figure got worse, {better} got better; but {} took another course than the one that \
                 was accepted, as the traces show. If you changed the worker, its functions, a scenario or the \
                 simulator, that is to be expected: `{BLESS}`. If not, something in a run is not deterministic",
                runs(self.other_runs())
            ),
            GateVerdict::Passed if self.changes.is_empty() => "passed: no figure got worse, 0 better".into(),
            GateVerdict::Passed => {
                format!("passed: no figure got worse, {better} better; to keep the change, `{BLESS}`")
            }
        }
    }

    /// What is printed at the end.
    #[must_use]
    pub fn text(&self) -> String {
        match self.verdict() {
            GateVerdict::Failed(_) => self.sentence(),
            _ => format!("{}\n{}", compare::table(&self.changes), self.sentence()),
        }
    }
}

fn figures(count: usize) -> String {
    format!("{count} figure{}", if count == 1 { "" } else { "s" })
}

fn runs(count: usize) -> String {
    format!("{count} run{}", if count == 1 { "" } else { "s" })
}

/// What failed in a run, in one line.
#[must_use]
pub fn failure(report: &Report) -> String {
    report.violations.first().map_or_else(
        || "it did not come to its end".to_owned(),
        |first| format!("{}: {}", first.oracle, first.message),
    )
}

/// The judgement as JUnit XML: a case for each run.
#[must_use]
pub fn junit(judgement: &Judgement) -> String {
    let case = |run: &String| Case { name: run.clone(), outcome: outcome(judgement, run) };
    document([suite("gate", &[], judgement.runs.keys().map(case))])
}

fn outcome(judgement: &Judgement, run: &str) -> Outcome {
    let failed = |kind: &str, message: String, told: String| Outcome::Failed {
        kind: kind.into(),
        message,
        told,
        crashed: false,
    };
    if let Some(report) = judgement.failed.iter().find(|report| name(&report.scenario, report.seed) == run) {
        return failed("failed", failure(report), format!("run it again: {}", report.replay));
    }
    let changes: Vec<_> = judgement.changes_of(run).cloned().collect();
    let one = Judgement { changes, failed: Vec::new(), ..judgement.clone() };
    match one.verdict() {
        // The figures of a gate in which another run failed are not compared.
        GateVerdict::Passed | GateVerdict::Failed(_) => Outcome::Passed,
        GateVerdict::Worse => failed("worse", one.sentence(), compare::table(&one.changes)),
        GateVerdict::Unaccepted => failed("unaccepted", one.sentence(), compare::table(&one.changes)),
    }
}

/// The judgement as GitHub-flavoured Markdown.
#[must_use]
pub fn markdown(judgement: &Judgement) -> String {
    use sim_report::{escape, fenced, table};
    let (sign, word) = match judgement.verdict() {
        GateVerdict::Passed => ("✅", "passed"),
        GateVerdict::Unaccepted => ("❌", "not accepted"),
        GateVerdict::Worse | GateVerdict::Failed(_) => ("❌", "failed"),
    };
    let mut page = format!("## {sign} Gate {word}: {} with fixed seeds\n\n", runs(judgement.runs.len()));
    let _ = writeln!(page, "{}\n", escape(&judgement.sentence()).replace("\\`", "`"));
    for report in &judgement.failed {
        let run = name(&report.scenario, report.seed);
        let _ = writeln!(page, "- **{}**: {}\n", escape(&run), escape(&failure(report)));
        let _ = writeln!(page, "{}\n", fenced(&report.replay));
    }
    if !judgement.changes.is_empty() {
        let rows = judgement.changes.iter().take(ROWS).map(|change| row(change).map(|cell| escape(&cell)));
        table(&mut page, HEAD, rows);
    }
    if let Some(more) = judgement.changes.len().checked_sub(ROWS).filter(|more| *more > 0) {
        let _ = writeln!(page, "… and {more} more.");
    }
    page
}

/// One annotation for each run that is worse, failed or took another course.
#[must_use]
pub fn annotations(judgement: &Judgement) -> Vec<Annotation> {
    if !judgement.failed.is_empty() {
        return judgement.failed.iter().flat_map(sim_report::annotations).collect();
    }
    let meant = match judgement.verdict() {
        GateVerdict::Worse => |change: &Change| change.meaning == Meaning::Worse,
        GateVerdict::Unaccepted => |change: &Change| change.figure == "trace.hash",
        GateVerdict::Passed | GateVerdict::Failed(_) => return Vec::new(),
    };
    let annotation = |(run, path): (&String, &String)| {
        let changes: Vec<_> = judgement.changes_of(run).filter(|change| meant(change)).collect();
        let (first, rest) = (changes.first()?, changes.len().saturating_sub(NAMED));
        let mut message: Vec<_> = changes.iter().take(NAMED).map(|change| in_words(change)).collect();
        if rest > 0 {
            message.push(format!("and {} more", figures(rest)));
        }
        message.push(format!("if that is meant: {BLESS}"));
        let title = match first.meaning {
            Meaning::Worse => format!("{run}: {} got worse", figures(changes.len())),
            _ => format!("{run}: not the run that was accepted"),
        };
        Some(Annotation { file: Some(path.clone()), title, message: message.join("\n") })
    };
    judgement.runs.iter().filter_map(annotation).collect()
}

fn in_words(change: &Change) -> String {
    let [_, figure, before, now, difference, ..] = row(change);
    let difference = if difference.is_empty() { difference } else { format!(", {difference}") };
    format!("{figure}: {before} → {now}{difference}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Figure, FigureSet, changes};
    use sim_report::{commands, testing};

    /// Two runs, in which these figures changed from 10 to what is given, the trace in the second.
    fn judgement(changed: &[(&str, i64)], hash: &str) -> Judgement {
        let of = |value: &dyn Fn(i64) -> i64, hash: &str| {
            let counts = changed.iter().map(|(name, now)| ((*name).to_owned(), Figure::Count(value(*now))));
            let hash = ("trace.hash".to_owned(), Figure::Text(hash.to_owned()));
            counts.chain([hash]).collect::<FigureSet>()
        };
        Judgement {
            runs: ["chaos 0x1", "smoke 0x1"]
                .map(|run| (run.to_owned(), format!("scenarios/{}.toml", &run[..5])))
                .into(),
            failed: Vec::new(),
            changes: changes("smoke 0x1", &of(&|_| 10, "aa"), &of(&|now| now, hash)),
        }
    }

    fn worse() -> Judgement {
        let calls =
            [("functions.chat:claim.calls", 20), ("functions.chat:claim.documents_read", 21), ("creates", 9)];
        judgement(&[calls.as_slice(), &[("kills", 9)]].concat(), "bb")
    }

    fn unaccepted() -> Judgement {
        judgement(&[("creates", 9), ("kills", 11)], "bb")
    }

    fn failed() -> Judgement {
        let runs = BTreeMap::from([("some 0x2a".to_owned(), "some.toml".to_owned())]);
        Judgement { runs, failed: vec![testing::failed()], changes: Vec::new() }
    }

    #[test]
    fn what_got_worse_is_told_to_people() {
        insta::assert_snapshot!(worse().text());
    }

    #[test]
    fn another_course_at_no_more_cost_is_told_apart_from_a_regression() {
        assert_eq!(unaccepted().verdict(), GateVerdict::Unaccepted);
        insta::assert_snapshot!(unaccepted().sentence());
        assert_eq!(judgement(&[("creates", 9)], "aa").verdict(), GateVerdict::Passed);
    }

    #[test]
    fn the_summary_of_a_step_has_the_table() {
        insta::assert_snapshot!("worse.md", markdown(&worse()));
        insta::assert_snapshot!("failed.md", markdown(&failed()));
        assert!(markdown(&judgement(&[], "aa")).starts_with("## ✅ Gate passed: 2 runs"));
    }

    #[test]
    fn build_servers_get_a_case_for_each_run() {
        insta::assert_snapshot!("worse.xml", junit(&worse()));
        insta::assert_snapshot!("failed.xml", junit(&failed()));
    }

    #[test]
    fn annotations_name_what_got_worse_in_each_run() {
        insta::assert_snapshot!("worse", commands(&annotations(&worse())));
        insta::assert_snapshot!("unaccepted", commands(&annotations(&unaccepted())));
        assert!(commands(&annotations(&failed())).contains("some 0x2a%3A throttle"));
        assert_eq!(annotations(&judgement(&[("creates", 9)], "aa")), []);
    }
}
