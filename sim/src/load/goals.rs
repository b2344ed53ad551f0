//! What the worker is to reach on a machine with two processors, beside what was measured.

use crate::load::{
    order::CEILINGS,
    steps::{Rising, Target},
};
use sim_report::{Goal, Report, Step};

/// The load: turns at the same time, and deltas per second in each.
const LOAD: Target = Target { turns: 200, deltas_per_second: 20 };
/// What may be added to 99 of 100 writes, in ms, the time for which text is collected not counted.
const ADDED_MS: f64 = 10.0;
/// Processors that the worker may keep busy.
const CORES: f64 = 1.0;
/// Start to ready, in ms, round trips not counted: on loopback they are nothing.
const READY_MS: f64 = 150.0;
/// By how much the time to ready, in ms, may differ between few and many sessions, for it to be the same: the noise of a
/// machine that has other work. A start that looked at each of 100,000 sessions would differ by seconds.
const SAME_MS: f64 = 20.0;

/// A run that only starts, over and over, with so many sessions in the backend.
#[derive(Debug)]
pub struct Starts {
    /// Sessions.
    pub sessions: u64,
    /// What it came to.
    pub report: Report,
}

/// The goals, by a run with rising load and by runs that only start. They are what they are, whatever was asked of these
/// runs: what a run did not come to is not measured, and what it should have come to and could not is missed.
#[must_use]
pub fn goals(rising: &Rising, climb: &Report, starts: &[Starts]) -> Vec<Goal> {
    let mut goals = busy(rising, climb);
    goals.extend(starts.iter().flat_map(|starts| [ready(starts), idle(starts)]));
    goals.extend(same(starts));
    goals
}

fn busy(rising: &Rising, climb: &Report) -> Vec<Goal> {
    let Target { turns, deltas_per_second } = LOAD;
    let at = format!("at {turns} turns, {deltas_per_second} deltas/s each");
    let steps = climb.load.as_ref().map_or(&[][..], |load| &load.steps);
    let is_it = |step: &&Step| step.turns == turns && step.deltas_per_turn == deltas_per_second;
    let step = steps.iter().find(is_it).filter(|step| step.running == turns);
    // Steps of another rate may follow, and say nothing here.
    let is_less = |step: &&Step| step.deltas_per_turn == deltas_per_second && step.turns <= turns;
    let end = steps.iter().filter(is_less).find(|step| step.strain.is_some());
    let otherwise = match end {
        _ if !rising.steps.contains(&LOAD) => ("– (not among the steps)".to_owned(), None),
        Some(end) => {
            (format!("nothing: the rise ended at {} of {} turns", end.running, end.turns), Some(false))
        }
        None => ("–".to_owned(), None),
    };
    let goal = |what: &str, goal: String, measured: fn(&Step) -> (String, bool)| {
        let (measured, met) = step.map_or_else(
            || otherwise.clone(),
            |step| {
                let (measured, met) = measured(step);
                (measured, Some(met))
            },
        );
        Goal { what: format!("{what} {at}"), goal, measured, met }
    };
    vec![
        goal("added latency p99", format!("under {ADDED_MS} ms"), |step| {
            let p99 = step.reading.added.p99;
            (format!("{p99:.1} ms"), p99 < ADDED_MS)
        }),
        goal("worker CPU", format!("under {CORES} processor"), |step| {
            let cores = step.reading.worker_cores;
            (format!("{cores:.2}"), cores < CORES)
        }),
        goal("resident memory", format!("under {}", mib(CEILINGS.peak)), |step| {
            (mib(step.rss), step.rss < CEILINGS.peak)
        }),
    ]
}

/// The goals that were missed.
pub fn missed(goals: &[Goal]) -> impl Iterator<Item = &Goal> {
    goals.iter().filter(|goal| goal.met == Some(false))
}

fn median(starts: &Starts) -> Option<f64> {
    let mut times = starts.report.load.as_ref()?.workers.first()?.ready_ms.clone();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

fn ready(starts: &Starts) -> Goal {
    let time = median(starts);
    Goal {
        what: format!("start to ready with {} sessions (median)", starts.sessions),
        goal: format!("under {READY_MS} ms"),
        measured: time.map_or("–".into(), |time| format!("{time:.0} ms")),
        met: time.map(|time| time < READY_MS),
    }
}

fn idle(starts: &Starts) -> Goal {
    let worker = starts.report.load.as_ref().and_then(|load| load.workers.first());
    let rss = worker.map(|worker| worker.idle_rss).filter(|rss| *rss > 0);
    Goal {
        what: format!("idle resident memory with {} sessions", starts.sessions),
        goal: format!("under {}", mib(CEILINGS.idle)),
        measured: rss.map_or("–".into(), mib),
        met: rss.map(|rss| rss < CEILINGS.idle),
    }
}

/// Whether the smallest and the largest world are entered equally fast.
fn same(starts: &[Starts]) -> Option<Goal> {
    let least = starts.iter().min_by_key(|starts| starts.sessions)?;
    let most = starts.iter().max_by_key(|starts| starts.sessions)?;
    let (few, many) = (median(least)?, median(most)?);
    (least.sessions < most.sessions).then(|| Goal {
        what: format!("start to ready, {} sessions beside {}", most.sessions, least.sessions),
        goal: format!("the same (within {SAME_MS} ms)"),
        measured: format!("{many:.1} ms beside {few:.1} ms"),
        met: Some(many - few <= SAME_MS),
    })
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", mebibytes(bytes))
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1_u64 << 20) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use sim_report::testing::{in_real_time, load_figures};

    fn rising(turns: &[u16], rate: u32) -> Rising {
        // A bound of the run is none of the goals'.
        Rising::in_turns(turns, rate, Duration::from_secs(1), Duration::from_secs(9))
    }

    fn step(turns: usize, rate: u32) -> Step {
        let mut step = load_figures().steps.remove(0);
        (step.turns, step.running, step.deltas_per_turn) = (turns, turns, rate);
        (step.rss, step.reading.worker_cores, step.reading.added.p99) = (47 << 20, 0.99, 9.9);
        step
    }

    fn verdicts(rising: &Rising, steps: Vec<Step>) -> Vec<Option<bool>> {
        let mut load = load_figures();
        load.steps = steps;
        goals(rising, &in_real_time(load), &[]).into_iter().map(|goal| goal.met).collect()
    }

    #[test]
    fn a_busy_worker_is_judged_at_the_load_of_the_goal_alone() {
        let usual = rising(&[100, 200], 20);
        let [good, bad] = [Some(true), Some(false)];
        assert_eq!(verdicts(&usual, vec![step(100, 20), step(200, 20)]), [good; 3]);
        let worse = |change: fn(&mut Step)| {
            let mut step = step(200, 20);
            change(&mut step);
            verdicts(&usual, vec![step])
        };
        assert_eq!(worse(|step| step.reading.added.p99 = 10.0), [bad, good, good]);
        assert_eq!(worse(|step| step.reading.worker_cores = 1.0), [good, bad, good]);
        assert_eq!(worse(|step| step.rss = 48 << 20), [good, good, bad]);
    }

    #[test]
    fn what_was_not_tried_is_not_measured_and_what_could_not_be_is_missed() {
        assert_eq!(verdicts(&rising(&[100], 20), vec![step(100, 20)]), [None; 3]);
        assert_eq!(verdicts(&rising(&[200], 30), vec![step(200, 30)]), [None; 3]);
        let strained = Step { strain: Some("too much".into()), ..step(100, 20) };
        // So much the more when steps of a rising rate, which went well, come after it.
        for after in [vec![], vec![step(50, 20), step(50, 200)]] {
            let steps = [vec![strained.clone()], after].concat();
            assert_eq!(verdicts(&rising(&[100, 200], 20), steps), [Some(false); 3]);
        }
        // Too few turns ran at the step itself.
        let held = Step { running: 150, strain: Some("only 150".into()), ..step(200, 20) };
        assert_eq!(verdicts(&rising(&[200], 20), vec![held]), [Some(false); 3]);
        // Somebody has interrupted it.
        assert_eq!(verdicts(&rising(&[100, 200], 20), vec![step(100, 20)]), [None; 3]);
    }

    fn starts(sessions: u64, ready_ms: &[f64], idle_rss: u64) -> Starts {
        let mut load = load_figures();
        (load.workers[0].ready_ms, load.workers[0].idle_rss) = (ready_ms.to_vec(), idle_rss);
        Starts { sessions, report: in_real_time(load) }
    }

    #[track_caller]
    fn check(starts: &[Starts], expected: &[(&str, Option<bool>)]) {
        let none = rising(&[1], 20);
        let goals = goals(&none, &in_real_time(load_figures()), starts);
        let of_starts: Vec<_> = goals[3..].iter().map(|goal| (&*goal.measured, goal.met)).collect();
        assert_eq!(of_starts, expected);
    }

    #[test]
    fn the_median_of_the_starts_counts_and_idle_memory() {
        check(
            &[starts(100, &[900.0, 100.0, 149.0], 16 << 20)],
            &[("149 ms", Some(true)), ("16.0 MiB", Some(false))],
        );
        check(&[starts(100, &[150.0], 15 << 20)], &[("150 ms", Some(false)), ("15.0 MiB", Some(true))]);
        check(&[starts(100, &[], 0)], &[("–", None), ("–", None)]);
    }

    #[test]
    fn few_and_many_sessions_are_entered_equally_fast() {
        let [few, same, slower] = [[50.0], [70.0], [71.0]];
        let of = |many: &[f64]| {
            let all = [starts(100_000, many, 1), starts(100, &few, 1)];
            goals(&rising(&[1], 20), &in_real_time(load_figures()), &all).pop().unwrap()
        };
        assert_eq!(of(&same).what, "start to ready, 100000 sessions beside 100");
        assert_eq!([of(&same).met, of(&slower).met], [Some(true), Some(false)]);
        // A single world is like nothing else.
        check(&[starts(100, &few, 1)], &[("50 ms", Some(true)), ("0.0 MiB", Some(true))]);
    }

    #[test]
    fn a_goal_that_was_not_measured_was_not_missed() {
        let goal = |met| Goal { what: "a".into(), goal: "b".into(), measured: "c".into(), met };
        assert_eq!(missed(&[goal(None), goal(Some(true)), goal(Some(false))]).count(), 1);
    }
}
