//! The figures of a run in real time, as whole numbers. None repeats exactly, so each has a name of its own kind, and room
//! to differ.

use sim_report::{Latency, LoadFigures, ProcessFigures, Report, Step};

use super::{
    figure_set::{FigureSet, insert, stages, thousandths, violations},
    rule::{Rule, Tolerance, Worse},
};

/// All of them begin with it.
const PREFIX: &str = "real-time.";

/// The figures of `report`, in which `load` was measured.
pub(super) fn figures(report: &Report, load: &LoadFigures) -> FigureSet {
    let mut set = FigureSet::new();
    for (outcome, count) in &report.figures.turns {
        insert(&mut set, format!("turns.{outcome}"), count.cast_signed());
    }
    number(&mut set, "calls-per-turn", report.figures.worker_calls_per_turn);
    stages(&mut set, &report.figures.latencies);
    let Latency { p50, p99, max, .. } = load.whole.added;
    for (quantile, millis) in [("p50", p50), ("p99", p99), ("max", max)] {
        insert(&mut set, format!("added.{quantile}_us"), thousandths(millis));
    }
    insert(&mut set, "given_up".into(), load.given_up.cast_signed());
    insert(&mut set, "never_came".into(), load.never_came.cast_signed());
    insert(&mut set, "processors".into(), load.processors.cast_signed() as i64);
    number(&mut set, "cpu.worker_cores", load.whole.worker_cores);
    number(&mut set, "deltas_per_second", load.whole.deltas_per_second);
    load.workers.iter().for_each(|worker| process(&mut set, worker));
    steps(&mut set, &load.steps);
    for goal in &load.goals {
        insert(&mut set, format!("missed.{}", goal.what), i64::from(goal.met == Some(false)));
    }
    violations(&mut set, report);
    set.into_iter().map(|(name, figure)| (format!("{PREFIX}{name}"), figure)).collect()
}

fn number(set: &mut FigureSet, name: &str, value: f64) {
    insert(set, format!("{name}_thousandths"), thousandths(value));
}

fn process(set: &mut FigureSet, worker: &ProcessFigures) {
    let ProcessFigures { name, idle_rss, peak_rss, idle_heap, peak_heap, threads, files, .. } = worker;
    let ProcessFigures { ready_ms, cpu_seconds, orphans, .. } = worker;
    let figures = [
        ("rss.idle", idle_rss),
        ("rss.peak", peak_rss),
        ("heap.idle", idle_heap),
        ("heap.peak", peak_heap),
        ("threads", threads),
        ("files", files),
        ("left.orphans", orphans),
    ];
    for (figure, count) in figures {
        insert(set, format!("{figure}.{name}"), count.cast_signed());
    }
    number(set, &format!("cpu.seconds.{name}"), *cpu_seconds);
    let mut ready: Vec<_> = ready_ms.iter().copied().map(thousandths).collect();
    ready.sort_unstable();
    if let Some(median) = ready.get(ready.len() / 2) {
        insert(set, format!("ready.median_us.{name}"), *median);
    }
}

/// The most that a rising load came to without strain: turns, and deltas per second in each.
fn steps(set: &mut FigureSet, steps: &[Step]) {
    let good = || steps.iter().filter(|step| step.strain.is_none());
    let turns = good().map(|step| step.turns.cast_signed() as i64).max();
    let deltas = good().map(|step| i64::from(step.deltas_per_turn)).max();
    insert(set, "sustained.turns".into(), turns.unwrap_or(0));
    insert(set, "sustained.deltas".into(), deltas.unwrap_or(0));
}

const fn room(percent: i64, least: i64) -> Tolerance {
    Tolerance { percent, least }
}

const fn more(percent: i64, least: i64) -> Rule {
    Rule { worse: Worse::More, tolerance: room(percent, least) }
}

/// By the beginning of the names after [`PREFIX`]; the first that fits counts. Times of a machine with other work differ
/// by a third from one run to the next without anybody's doing; memory by some pages.
const RULES: [(&str, Rule); 14] = [
    ("violations.", more(0, 0)),
    ("missed.", more(0, 0)),
    ("left.", more(0, 0)),
    ("processors", Rule { worse: Worse::Neither, tolerance: room(0, 0) }),
    ("deltas_per_second", Rule { worse: Worse::Neither, tolerance: room(0, 0) }),
    ("turns.completed", Rule { worse: Worse::Less, tolerance: room(2, 1) }),
    ("turns.", more(5, 2)),
    ("calls-per-turn", more(10, 500)),
    ("added.", more(50, 2_000)),
    ("latencies.", more(30, 20_000)),
    ("ready.", more(30, 30_000)),
    ("cpu.", more(30, 50)),
    ("sustained.", Rule { worse: Worse::Less, tolerance: room(25, 0) }),
    ("rss.", more(10, 1 << 20)),
];
const OTHERS: Rule = more(15, 2);

/// The rule for a figure of a run in real time; nothing for one of a simulation.
pub(super) fn rule(figure: &str) -> Option<Rule> {
    let name = figure.strip_prefix(PREFIX)?;
    let name = if name.starts_with("heap.") { "rss." } else { name };
    Some(RULES.into_iter().find(|(start, _)| name.starts_with(start)).map_or(OTHERS, |(_, rule)| rule))
}

/// In words, what measures alike: a difference in one of these makes the figures a matter of two machines, or of two loads.
#[must_use]
pub fn conditions(report: &Report) -> Vec<(String, String)> {
    let Some(load) = &report.load else { return Vec::new() };
    let LoadFigures { command, profile, simulator_is_release, time_scale, execution_ms, processors, .. } =
        load;
    let named = [
        ("command", command.clone()),
        ("profile", profile.clone()),
        ("simulator_is_release", simulator_is_release.to_string()),
        ("time_scale", format!("{time_scale:?}")),
        ("execution_ms", format!("{execution_ms:?}")),
        ("processors", processors.to_string()),
    ];
    named.map(|(name, value)| (name.to_owned(), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Meaning, changes, figures as all};
    use sim_report::{
        Goal,
        testing::{in_real_time, load_figures},
    };

    #[test]
    fn a_run_in_real_time_is_flattened_to_figures_of_its_own() {
        let goal = |what: &str, met| Goal { what: what.into(), goal: "a".into(), measured: "b".into(), met };
        let goals = vec![goal("speed", Some(false)), goal("size", Some(true)), goal("x", None)];
        let report = in_real_time(LoadFigures { goals, ..load_figures() });
        let lines: Vec<_> =
            all(&report).into_iter().map(|(name, figure)| format!("{name} {figure}")).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    /// What it means when something about a run has changed.
    #[track_caller]
    fn check(figure: &str, change: fn(&mut LoadFigures), expected: Option<Meaning>) {
        let mut after = load_figures();
        change(&mut after);
        let [before, after] = [load_figures(), after].map(|load| all(&in_real_time(load)));
        let changes = changes("", &before, &after);
        let found = changes.iter().find(|change| change.figure == format!("real-time.{figure}"));
        assert_eq!(found.map(|change| change.meaning), expected, "{changes:?}");
    }

    #[test]
    fn what_is_measured_has_room_and_beyond_it_is_worse() {
        const MIB: u64 = 1 << 20;
        check("rss.peak.worker-1", |load| load.workers[0].peak_rss += MIB, Some(Meaning::Tolerated));
        check("rss.peak.worker-1", |load| load.workers[0].peak_rss += 2 * MIB, Some(Meaning::Worse));
        check("heap.peak.worker-1", |load| load.workers[0].peak_heap += 2 * MIB, Some(Meaning::Worse));
        check(
            "cpu.seconds.worker-1_thousandths",
            |load| load.workers[0].cpu_seconds *= 1.2,
            Some(Meaning::Tolerated),
        );
        check(
            "cpu.seconds.worker-1_thousandths",
            |load| load.workers[0].cpu_seconds *= 2.0,
            Some(Meaning::Worse),
        );
        check("added.p99_us", |load| load.whole.added.p99 += 1.9, Some(Meaning::Tolerated));
        check("added.p99_us", |load| load.whole.added.p99 += 9.0, Some(Meaning::Worse));
        check("added.p99_us", |load| load.whole.added.p99 = 0.1, Some(Meaning::Better));
        check(
            "ready.median_us.worker-1",
            |load| load.workers[0].ready_ms = vec![200.0],
            Some(Meaning::Worse),
        );
        check("left.orphans.worker-1", |load| load.workers[0].orphans = 1, Some(Meaning::Worse));
        check(
            "deltas_per_second_thousandths",
            |load| load.whole.deltas_per_second = 1.0,
            Some(Meaning::Neutral),
        );
    }

    #[test]
    fn a_knee_that_comes_earlier_is_worse() {
        check("sustained.turns", |load| load.steps[0].strain = Some("too much".into()), Some(Meaning::Worse));
        check("sustained.turns", |load| load.steps[0].turns = 9, Some(Meaning::Tolerated));
    }

    #[test]
    fn a_goal_that_is_missed_now_is_worse() {
        let missed = |load: &mut LoadFigures| {
            load.goals =
                vec![Goal { what: "speed".into(), goal: "a".into(), measured: "b".into(), met: Some(false) }];
        };
        check("missed.speed", missed, Some(Meaning::Worse));
    }
}
