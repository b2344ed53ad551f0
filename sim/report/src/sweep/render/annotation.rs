//! A sweep's failures as GitHub shows them: what no run reached, then the runs that failed.

use crate::{
    annotation::Annotation,
    format::seconds,
    sweep::{
        outcome::Run,
        report::{Coverage, SweepReport},
    },
};

/// One annotation for each required state that no run reached, and one for each run that failed.
#[must_use]
pub fn annotations(report: &SweepReport) -> Vec<Annotation> {
    let path = |name: &str| {
        let scenario = report.head.scenarios.iter().find(|scenario| scenario.name == name);
        scenario.map(|scenario| scenario.path.clone())
    };
    let missing = report.marks.iter().filter(|mark| report.is_judged() && mark.is_missing());
    let missing = missing.map(|mark: &Coverage| Annotation {
        file: path(&mark.scenario),
        title: format!("{}: {} was not reached", mark.scenario, mark.mark),
        message: format!(
            "no run of {} reached this state, which the scenario requires",
            report.runs_of(&mark.scenario).count()
        ),
    });
    let failed = report.failed().map(|run: &Run| Annotation {
        file: path(&run.scenario),
        title: match &run.first {
            Some(first) => format!("{} {}: {}", run.scenario, run.seed, first.oracle),
            None => format!("{} {}", run.scenario, run.seed),
        },
        message: match &run.first {
            Some(first) => {
                format!("at {}: {}\nrun it again: {}", seconds(first.at), first.message, run.replay)
            }
            None => format!("no violation is known\nrun it again: {}", run.replay),
        },
    });
    missing.chain(failed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        annotation::commands,
        sweep::{seeds::Shard, testing},
    };

    #[test]
    fn states_that_no_run_reached_come_before_runs_that_failed() {
        let mut report = testing::sweep(3, &[2]);
        report.marks[0].runs = 0;
        insta::assert_snapshot!(commands(&annotations(&report)), @r"
        ::error file=some.toml,title=some%3A reply-cut was not reached::no run of 3 reached this state, which the scenario requires
        ::error file=some.toml,title=some 0x2%3A stale::at 1.500000 s: a <b>stale</b> | turn%0Arun it again: cargo run -p sim -- some.toml --seed 0x2
        ");
        // A shard cannot know what the others reached.
        report.head.shard = Some(Shard { index: 1, of: 2 });
        assert_eq!(annotations(&report).len(), 1);
        assert_eq!(annotations(&testing::sweep(3, &[])), []);
    }
}
