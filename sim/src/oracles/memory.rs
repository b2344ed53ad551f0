//! **memory**: what a worker holds is bounded by what it does, never by history.
//!
//! - The first time that a worker is ready and runs no turn, its heap is at most `worker_heap_idle`: its *idle heap*.
//! - From then on its heap never exceeds the idle heap + `worker_heap_above_idle` + `worker_heap_per_turn` for each turn
//!   that was in progress at some moment since the previous measurement. Measured is the exact peak between two
//!   measurements, so no spike is missed.
//! - It never remembers more than `cached_sessions` OpenCode sessions.
//! - When it is gone (killed or ended), it holds nothing: 0 bytes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Oracle, Verdict};
use crate::{
    scenario::Limits,
    trace::{Event, Fact, Name, TurnState},
};

/// See the file's comment.
pub(super) struct Memory {
    limits: Limits,
    workers: BTreeMap<Name, Watched>,
}

#[derive(Default)]
struct Watched {
    ready: bool,
    gone: bool,
    /// Heap of the first ready and idle moment of this start.
    idle: Option<i64>,
    in_progress: BTreeSet<Name>,
    /// The most turns in progress since the previous measurement.
    most: usize,
}

impl Memory {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), workers: BTreeMap::new() }
    }

    fn worker(&mut self, name: &Name) -> &mut Watched {
        self.workers.entry(Name::clone(name)).or_default()
    }

    fn measured(&mut self, name: &Name, live: i64, peak: i64, verdict: &mut Verdict) {
        let limits = self.limits.clone();
        let worker = self.worker(name);
        let turns = std::mem::replace(&mut worker.most, worker.in_progress.len());
        if worker.gone {
            if live != 0 {
                verdict.violation(format!("{name} is gone and still holds {live} bytes"), &[name]);
            }
            return;
        }
        let Some(idle) = worker.idle else {
            if worker.ready && turns == 0 {
                worker.idle = Some(live);
                let limit = limits.worker_heap_idle.signed();
                if live > limit {
                    verdict.violation(
                        format!("{name} holds {live} bytes when idle, more than {limit}"),
                        &[name],
                    );
                }
            }
            return;
        };
        let per_turn = limits.worker_heap_per_turn.signed() * i64::try_from(turns).unwrap_or(i64::MAX);
        let limit = idle + limits.worker_heap_above_idle.signed() + per_turn;
        if peak > limit {
            let message = format!(
                "{name} held {peak} bytes with {turns} turns in progress: {} above its idle heap of {idle}, {} too many",
                peak - idle,
                peak - limit,
            );
            verdict.violation(message, &[name]);
        }
    }
}

impl Oracle for Memory {
    fn id(&self) -> &'static str {
        "memory"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Verdict) {
        match &fact.event {
            Event::WorkerStarted { worker, .. } => *self.worker(worker) = Watched::default(),
            Event::Ready { worker, .. } => self.worker(worker).ready = true,
            Event::Killed { worker } | Event::Exited { worker, .. } => self.worker(worker).gone = true,
            Event::TurnChanged { turn, worker, to, .. } => {
                let worker = self.worker(worker);
                if *to == TurnState::Claimed {
                    worker.in_progress.insert(Name::clone(turn));
                    worker.most = worker.most.max(worker.in_progress.len());
                } else {
                    worker.in_progress.remove(turn);
                }
            }
            Event::Heap { worker, live, peak } => self.measured(worker, *live, *peak, verdict),
            Event::Cache { worker, sessions } if *sessions > self.limits.cached_sessions => {
                let limit = self.limits.cached_sessions;
                verdict.violation(
                    format!("{worker} remembers {sessions} sessions, more than {limit}"),
                    &[worker],
                );
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{claimed, completed, judge, name, ready, started},
        *,
    };
    use crate::scenario::Bytes;

    fn heap(live: i64, peak: i64) -> Event {
        Event::Heap { worker: name("worker-1"), live, peak }
    }

    fn limits() -> Limits {
        Limits {
            worker_heap_idle: Bytes(1000),
            worker_heap_above_idle: Bytes(100),
            worker_heap_per_turn: Bytes(10),
            cached_sessions: 2,
            ..Limits::default()
        }
    }

    #[track_caller]
    fn check(events: Vec<Event>, expected: &[&str]) {
        assert_eq!(judge(Memory::new(&limits()), (0..).zip(events)), expected);
    }

    #[test]
    fn a_heap_that_follows_the_turns_is_fine() {
        let events =
            vec![started(1), heap(5, 9000), ready(), heap(900, 900), claimed("t1"), heap(1010, 1010)];
        check(events, &[]);
    }

    #[test]
    fn a_spike_between_two_measurements_is_seen() {
        check(
            vec![started(1), ready(), heap(900, 900), claimed("t1"), completed("t1", 0), heap(900, 1011)],
            &[
                "worker-1 held 1011 bytes with 1 turns in progress: 111 above its idle heap of 900, 1 too many",
            ],
        );
    }

    #[test]
    fn turns_that_ended_before_the_previous_measurement_excuse_nothing() {
        let life =
            vec![started(1), ready(), heap(900, 900), claimed("t1"), completed("t1", 0), heap(900, 900)];
        let late = vec![heap(1001, 1001)];
        check(
            [life, late].concat(),
            &[
                "worker-1 held 1001 bytes with 0 turns in progress: 101 above its idle heap of 900, 1 too many",
            ],
        );
    }

    #[test]
    fn an_idle_worker_has_a_limit_of_its_own() {
        check(
            vec![started(1), ready(), heap(1001, 1001)],
            &["worker-1 holds 1001 bytes when idle, more than 1000"],
        );
    }

    #[test]
    fn a_dead_worker_holds_nothing() {
        let killed = Event::Killed { worker: name("worker-1") };
        check(vec![started(1), killed.clone(), heap(0, 500)], &[]);
        check(vec![started(1), killed, heap(8, 8)], &["worker-1 is gone and still holds 8 bytes"]);
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = |sessions| Event::Cache { worker: name("worker-1"), sessions };
        check(vec![cache(2)], &[]);
        check(vec![cache(3)], &["worker-1 remembers 3 sessions, more than 2"]);
    }
}
