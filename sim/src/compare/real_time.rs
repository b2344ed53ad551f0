//! The figures of a run in real time, as whole numbers. None repeats exactly, so each has a name of its own kind, and room
//! to differ.

use serde_json::Value;

use crate::compare::{
    figure_set::{FigureSet, collect, insert, stages, thousandths},
    rules::{Rule, Tolerance, Worse},
};

/// All of them begin with it.
const PREFIX: &str = "real-time.";

/// Whether a report is of a run in real time.
#[must_use]
pub fn is_real_time(report: &Value) -> bool {
    report["load"].is_object()
}

/// The figures of `report`, which is of a run in real time.
pub(super) fn figures(report: &Value) -> FigureSet {
    let (load, mut set) = (&report["load"], FigureSet::new());
    collect(&mut set, "turns", &report["figures"]["turns"]);
    collect(&mut set, "calls-per-turn", &report["figures"]["worker_calls_per_turn"]);
    stages(&mut set, &report["figures"]["latencies"]);
    for quantile in ["p50", "p99", "max"] {
        insert(&mut set, format!("added.{quantile}_us"), thousandths(&load["whole"]["added"][quantile]));
    }
    for figure in ["given_up", "never_came", "processors"] {
        collect(&mut set, figure, &load[figure]);
    }
    collect(&mut set, "cpu.worker_cores", &load["whole"]["worker_cores"]);
    collect(&mut set, "deltas_per_second", &load["whole"]["deltas_per_second"]);
    load["workers"].as_array().into_iter().flatten().for_each(|worker| process(&mut set, worker));
    steps(&mut set, &load["steps"]);
    for goal in load["goals"].as_array().into_iter().flatten() {
        let name = format!("missed.{}", goal["what"].as_str().unwrap_or_default());
        insert(&mut set, name, i64::from(goal["met"] == false));
    }
    for violated in report["oracles"].as_array().into_iter().flatten() {
        let name = format!("violations.{}", violated[0].as_str().unwrap_or_default());
        collect(&mut set, &name, &violated[1]);
    }
    set.into_iter().map(|(name, figure)| (format!("{PREFIX}{name}"), figure)).collect()
}

fn process(set: &mut FigureSet, worker: &Value) {
    let name = worker["name"].as_str().unwrap_or_default();
    let figures = [
        ("rss.idle", "idle_rss"),
        ("rss.peak", "peak_rss"),
        ("heap.idle", "idle_heap"),
        ("heap.peak", "peak_heap"),
        ("cpu.seconds", "cpu_seconds"),
        ("threads", "threads"),
        ("files", "files"),
        ("left.orphans", "orphans"),
        ("left.escaped", "escaped"),
    ];
    for (figure, field) in figures {
        collect(set, &format!("{figure}.{name}"), &worker[field]);
    }
    let mut ready: Vec<_> = worker["ready_ms"].as_array().into_iter().flatten().map(thousandths).collect();
    ready.sort_unstable();
    if let Some(median) = ready.get(ready.len() / 2) {
        insert(set, format!("ready.median_us.{name}"), *median);
    }
}

/// The most that a rising load came to without strain: turns, and deltas per second in each.
fn steps(set: &mut FigureSet, steps: &Value) {
    let good = || steps.as_array().into_iter().flatten().filter(|step| step["strain"].is_null());
    for (name, field) in [("sustained.turns", "turns"), ("sustained.deltas", "deltas_per_turn")] {
        let most = good().filter_map(|step| step[field].as_i64()).max();
        insert(set, name.to_owned(), most.unwrap_or(0));
    }
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
pub fn conditions(report: &Value) -> Vec<(String, String)> {
    let load = &report["load"];
    let named = ["command", "profile", "simulator_is_release", "time_scale", "execution_ms", "processors"];
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    named.iter().filter(|_| load.is_object()).map(|name| ((*name).to_owned(), word(&load[*name]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Meaning, changes, figures as all};
    use sim_report::{
        Goal, LoadFigures,
        testing::{in_real_time, load_figures, passed},
    };

    fn json(load: LoadFigures) -> Value {
        serde_json::to_value(in_real_time(load)).unwrap()
    }

    #[test]
    fn a_run_in_real_time_is_flattened_to_figures_of_its_own() {
        let goal = |what: &str, met| Goal { what: what.into(), goal: "a".into(), measured: "b".into(), met };
        let goals = vec![goal("speed", Some(false)), goal("size", Some(true)), goal("x", None)];
        let report = json(LoadFigures { goals, ..load_figures() });
        assert!(is_real_time(&report) && !is_real_time(&serde_json::to_value(passed()).unwrap()));
        let lines: Vec<_> =
            all(&report).unwrap().into_iter().map(|(name, figure)| format!("{name} {figure}")).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    /// What it means when something about a run has changed.
    #[track_caller]
    fn check(figure: &str, change: fn(&mut LoadFigures), expected: Option<Meaning>) {
        let mut after = load_figures();
        change(&mut after);
        let [before, after] = [load_figures(), after].map(|load| all(&json(load)).unwrap());
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
