//! A sweep for people at a terminal.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::{
    format::{Style, seconds, table},
    sweep::{
        outcome::{MEASURES, Run, SweptVerdict},
        render::value::show,
        report::{Coverage, Ended, Head, Spread, SweepReport, SweepVerdict, Swept},
    },
};

/// Failed runs told at the end; the report has all of them.
const TOLD: usize = 10;

/// What is printed before a sweep: everything that decides it. `again` runs are made because they failed before.
#[must_use]
pub fn header(head: &Head, jobs: usize, again: usize) -> String {
    let mut text = String::new();
    for Swept { name, description, seeds, .. } in &head.scenarios {
        let last = seeds.at(seeds.count - 1);
        let _ = writeln!(text, "scenario     {name}");
        if !description.is_empty() {
            let _ = writeln!(text, "             {description}");
        }
        let _ = writeln!(text, "seeds        {} to {last}, {} in all", seeds.first, seeds.count);
    }
    if let Some(shard) = head.shard {
        let _ = writeln!(text, "shard        {} of {}", shard.index, shard.of);
    }
    if again > 0 {
        let _ = writeln!(text, "first        {again} that failed before");
    }
    if !head.plants.is_empty() {
        let _ = writeln!(text, "planted bugs {:?}", head.plants);
    }
    let _ = writeln!(text, "runs         {}, {jobs} at once", head.planned);
    text
}

/// One line for a run that failed.
#[must_use]
pub fn failure(run: &Run, styled: bool) -> String {
    let what = match &run.first {
        None => "no violation is known".to_owned(),
        Some(first) if run.verdict == SweptVerdict::Crashed => format!("the run crashed: {}", first.message),
        Some(first) => format!("{} at {}: {}", first.oracle, seconds(first.at), first.message),
    };
    format!("{}  {} {}  {what}", Style { styled }.bad("FAIL"), run.scenario, run.seed)
}

/// What is printed after a sweep.
#[must_use]
pub fn summary(report: &SweepReport, styled: bool) -> String {
    let style = Style { styled };
    let mut text = String::new();
    let _ = writeln!(text, "\n{}", scenarios(report));
    let _ = writeln!(text, "\n{}", spreads(report));
    let (seen, unseen): (Vec<_>, Vec<_>) =
        report.marks.iter().partition(|mark| mark.required || mark.runs > 0);
    let unseen: BTreeSet<_> = unseen.iter().map(|mark| &*mark.mark).collect();
    let unseen: Vec<_> =
        unseen.into_iter().filter(|mark| seen.iter().all(|seen| seen.mark != **mark)).collect();
    if !seen.is_empty() {
        let _ = writeln!(text, "\n{}", marks(&seen));
    }
    if !unseen.is_empty() {
        let _ = writeln!(text, "\nreached by no run, nor required: {}", unseen.join(", "));
    }
    let failed: Vec<_> = report.failed().collect();
    if !failed.is_empty() {
        text.push('\n');
    }
    for run in failed.iter().take(TOLD) {
        let _ = writeln!(text, "{}\n      {}", failure(run, styled), run.replay);
    }
    if failed.len() > TOLD {
        let _ = writeln!(text, "      and {} more, all of them in the report", failed.len() - TOLD);
    }
    let _ = writeln!(text, "\n{}\n{}", speed(report), verdict(report, &style));
    text
}

fn scenarios(report: &SweepReport) -> comfy_table::Table {
    let rows = report.head.scenarios.iter().map(|Swept { name, .. }| {
        let count = |verdict| report.runs_of(name).filter(|run| run.verdict == verdict).count().to_string();
        let runs = report.runs_of(name).count().to_string();
        let [passed, safety, liveness, crashed] =
            [SweptVerdict::Passed, SweptVerdict::Safety, SweptVerdict::Liveness, SweptVerdict::Crashed]
                .map(count);
        [name.clone(), runs, passed, safety, liveness, crashed]
    });
    table(["scenario", "runs", "passed", "safety", "liveness", "crashed"], rows)
}

fn spreads(report: &SweepReport) -> comfy_table::Table {
    let many = report.head.scenarios.len() > 1;
    let rows = report.spreads.iter().map(|spread| {
        let name =
            if many { format!("{}: {}", spread.scenario, spread.figure) } else { spread.figure.clone() };
        let [min, p50, p90, max] = values(spread);
        [name, min, p50, p90, max, spread.seed_of_max.to_string()]
    });
    table(["over seeds", "least", "p50", "p90", "most", "seed of the most"], rows)
}

/// Least, p50, p90 and most, as people read them.
pub(super) fn values(spread: &Spread) -> [String; 4] {
    let unit = MEASURES.iter().find(|measure| measure.name == spread.figure).map(|measure| measure.unit);
    let unit = unit.unwrap_or(crate::sweep::outcome::Unit::Count);
    [spread.min, spread.p50, spread.p90, spread.max].map(|value| show(unit, value))
}

fn marks(marks: &[&Coverage]) -> comfy_table::Table {
    let rows = marks.iter().map(|mark| {
        let required = match (mark.required, mark.is_missing()) {
            (true, true) => "MISSING",
            (true, false) => "required",
            (false, _) => "",
        };
        [
            mark.mark.clone(),
            mark.scenario.clone(),
            mark.runs.to_string(),
            mark.times.to_string(),
            required.into(),
        ]
    });
    table(["state reached", "scenario", "runs", "times", ""], rows)
}

fn speed(report: &SweepReport) -> String {
    let wall = report.machine.wall.max(1e-9);
    let runs = report.runs.len() as f64;
    format!(
        "{runs} runs in {:.1} s, {} at once: {:.1} runs/s, {:.0} simulated seconds per second, {:.0} turns per second",
        report.machine.wall,
        report.machine.jobs,
        runs / wall,
        report.total("simulated") / wall,
        report.total("turns") / wall,
    )
}

/// What the verdict means, and what is left out.
pub(super) fn meaning(report: &SweepReport) -> String {
    let failed = report.failed().count();
    let meaning = match report.verdict {
        SweepVerdict::Passed => "every oracle is content in every run".to_owned(),
        SweepVerdict::Interrupted => "nothing failed before it was stopped".to_owned(),
        SweepVerdict::Unreached => {
            let missing: Vec<_> =
                report.marks.iter().filter(|mark| mark.is_missing()).map(|mark| &*mark.mark).collect();
            format!("no run reached {}", missing.join(", "))
        }
        SweepVerdict::Crashed | SweepVerdict::Liveness | SweepVerdict::Safety => {
            format!("{failed} of {} runs failed", report.runs.len())
        }
    };
    format!("{meaning}{}", left_out(report))
}

fn left_out(report: &SweepReport) -> String {
    if !report.is_partial() {
        return String::new();
    }
    let why = match report.ended {
        Ended::Complete => "some have no result",
        Ended::TimeLimit => "its time was up",
        Ended::FailFast => "it was to end at the first failure",
        Ended::Interrupted => "it was stopped",
    };
    format!("; only {} of {} runs were made: {why}", report.runs.len(), report.head.planned)
}

fn verdict(report: &SweepReport, style: &Style) -> String {
    let word = match report.verdict {
        SweepVerdict::Passed => style.good("passed"),
        SweepVerdict::Interrupted => "interrupted".to_owned(),
        SweepVerdict::Unreached | SweepVerdict::Crashed | SweepVerdict::Liveness | SweepVerdict::Safety => {
            style.bad("FAILED")
        }
    };
    format!("{word}: {}", meaning(report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::testing;

    #[test]
    fn a_sweep_says_what_it_will_run() {
        insta::assert_snapshot!(header(&testing::head(3), 2, 1));
    }

    #[test]
    fn a_sweep_with_a_failure_names_it_and_how_to_see_it_again() {
        insta::assert_snapshot!(summary(&testing::sweep(3, &[2]), false));
    }
}
