//! Findings in the form in which GitHub shows them on a change: workflow commands in the output of a step
//! (docs.github.com, “Workflow commands for GitHub Actions”).

use std::fmt;

use sim_model::Label;

use crate::{data::Report, format, verdict::RunVerdict};

/// Annotations of one command, at most: GitHub shows no more than ten errors of a step.
const MOST: usize = 10;

/// A failure, as GitHub shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// The file that it is about, if it is about one.
    pub file: Option<String>,
    /// What it is, in a few words.
    pub title: String,
    /// What happened; may have several lines.
    pub message: String,
}

impl fmt::Display for Annotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "::error ")?;
        if let Some(file) = &self.file {
            write!(f, "file={},", property(file))?;
        }
        write!(f, "title={}::{}", property(&self.title), data(&self.message))
    }
}

/// A message as workflow commands want it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property's value as workflow commands want it.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// `all`, one on each line; if they are too many, the last says how many are left out.
#[must_use]
pub fn commands(all: &[Annotation]) -> String {
    let shown = if all.len() > MOST { &all[..MOST - 1] } else { all };
    let mut lines: Vec<_> = shown.iter().map(ToString::to_string).collect();
    if let Some(more) = all.len().checked_sub(shown.len()).filter(|more| *more > 0) {
        let message = format!("{more} more failures are in the output of this step and in its reports");
        lines.push(Annotation { file: None, title: "More".into(), message }.to_string());
    }
    lines.join("\n")
}

/// One annotation for each oracle that a run broke, with its first violation.
#[must_use]
pub fn annotations(report: &Report) -> Vec<Annotation> {
    if !matches!(report.verdict, RunVerdict::Safety | RunVerdict::Liveness) {
        return Vec::new();
    }
    let broken = report.oracles.iter().filter(|(_, count)| *count > 0);
    let annotation = |(oracle, count): &(Label, u64)| {
        let first = report.violations.iter().find(|violation| violation.oracle == *oracle);
        let what = first.map_or_else(String::new, |first| {
            format!("at {}: {}\n", format::seconds(first.at), crate::story::tell(first).message)
        });
        let number = if *count == 1 { "1 violation".to_owned() } else { format!("{count} violations") };
        Annotation {
            file: Some(report.source.path.clone()),
            title: format!("{} {}: {oracle}", report.scenario, report.seed),
            message: format!("{what}{number}; run it again: {}", report.replay),
        }
    };
    broken.map(annotation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn what_workflow_commands_are_made_of_is_escaped() {
        let annotation = Annotation {
            file: Some("a,b:c.toml".into()),
            title: "50% of a, b: c".into(),
            message: "one: 100%, a::b\r\ntwo ::error::".into(),
        };
        insta::assert_snapshot!(annotation, @"::error file=a%2Cb%3Ac.toml,title=50%25 of a%2C b%3A c::one: 100%25, a::b%0D%0Atwo ::error::");
    }

    #[test]
    fn each_broken_oracle_is_one_line() {
        insta::assert_snapshot!(commands(&annotations(&testing::failed())), @"::error file=some.toml,title=some 0x2a%3A throttle::at 1.500000 s: 6 creations & <b>more</b> ]]> than | 5%0A17 violations; run it again: cargo run -p sim -- some.toml --seed 0x2a --plant throttle-off");
        assert_eq!(commands(&annotations(&testing::passed())), "");
    }

    #[test]
    fn no_more_are_written_than_are_shown() {
        let one = Annotation { file: None, title: "t".into(), message: "m".into() };
        let lines = |count| commands(&vec![one.clone(); count]);
        assert_eq!(lines(MOST).lines().filter(|line| *line == "::error title=t::m").count(), MOST);
        let many = lines(25);
        assert_eq!(many.lines().count(), MOST);
        assert!(
            many.ends_with(
                "::error title=More::16 more failures are in the output of this step and in its reports"
            ),
            "{many}"
        );
    }
}
