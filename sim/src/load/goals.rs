//! What the worker is to reach on a machine with two processors (design: numbers to beat), beside what was measured.

use super::{CEILINGS, figures::Goal, steps::Rising};
use crate::report::Report;

/// Turns at the same time.
const TURNS: usize = 200;
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

/// The goals, by a run with rising load and by runs that only start.
#[must_use]
pub fn goals(rising: &Rising, climb: &Report, starts: &[Starts]) -> Vec<Goal> {
    let mut goals = busy(rising, climb);
    goals.extend(starts.iter().flat_map(|starts| [ready(starts), idle(starts)]));
    goals.extend(same(starts));
    goals
}

fn busy(rising: &Rising, climb: &Report) -> Vec<Goal> {
    let load = climb.load.as_ref();
    let step =
        load.and_then(|load| load.steps.iter().find(|step| step.turns == TURNS && step.running == TURNS));
    let bound = rising.bound.as_secs_f64() * 1000.0;
    let at = |what: &str| format!("{what} at {TURNS} turns, {} deltas/s each", rising.deltas_per_second);
    let mib = |bytes: u64| format!("{:.1} MiB", mebibytes(bytes));
    let goal = |what: &str, goal: String, measured: Option<(String, bool)>| {
        let (measured, met) = measured.map_or(("–".into(), None), |(measured, met)| (measured, Some(met)));
        Goal { what: at(what), goal, measured, met }
    };
    let added = step.map(|step| &step.reading.added);
    vec![
        goal(
            "added latency p99",
            format!("under {bound} ms"),
            added.map(|added| (format!("{:.1} ms", added.p99), added.p99 < bound)),
        ),
        goal(
            "worker CPU",
            "under 1 processor".into(),
            step.map(|step| (format!("{:.2}", step.reading.worker_cores), step.reading.worker_cores < 1.0)),
        ),
        goal(
            "resident memory",
            format!("under {}", mib(CEILINGS.peak)),
            step.map(|step| (mib(step.rss), step.rss < CEILINGS.peak)),
        ),
    ]
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
        goal: format!("under {:.0} MiB", mebibytes(CEILINGS.idle)),
        measured: rss.map_or("–".into(), |rss| format!("{:.1} MiB", mebibytes(rss))),
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

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1_u64 << 20) as f64
}
