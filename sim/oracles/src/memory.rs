//! **memory**: what a worker holds is bounded by what it does, never by history.
//!
//! A worker is *at rest* between two measurements if all that time it was ready, ran no turn and its machine ran no
//! OpenCode server. What a worker at rest holds is its *idle heap*: it is so before the first turn, and again whenever
//! the server was stopped because nobody needed it.
//!
//! - At rest its heap is at most `worker_heap_idle`, however much it did before.
//! - Otherwise it is at most `worker_heap_idle` + `worker_heap_above_idle` (OpenCode's connections) +
//!   `worker_heap_per_turn` for each turn that was in progress at some moment since the previous measurement.
//! - Measured is the exact peak between two measurements, so no spike is missed.
//! - It never remembers more than `cached_sessions` OpenCode sessions.
//!
//! What it leaves behind when it ends is a matter of `cleanup`.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::{Findings, Oracle};
use sim_model::{
    scenario::Limits,
    trace::{Event, Fact, Name, TurnState, worker_of},
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
    servers: u64,
    /// Whether it was at rest at every moment since the previous measurement.
    rested: bool,
    in_progress: BTreeSet<Name>,
    /// The most turns in progress since the previous measurement.
    most: usize,
}

impl Watched {
    fn rests(&self) -> bool {
        self.ready && self.servers == 0 && self.in_progress.is_empty()
    }
}

impl Memory {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), workers: BTreeMap::new() }
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Watched)) {
        if !self.workers.contains_key(name) {
            self.workers.insert(Name::from(name), Watched::default());
        }
        let worker = self.workers.get_mut(name).expect("put there if it was missing");
        change(worker);
        worker.rested &= worker.rests();
        worker.most = worker.most.max(worker.in_progress.len());
    }

    fn measured(&mut self, name: &Name, peak: i64, verdict: &mut Findings) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let turns = std::mem::replace(&mut worker.most, worker.in_progress.len());
        let rests = worker.rests();
        let rested = std::mem::replace(&mut worker.rested, rests);
        if worker.gone {
            return;
        }
        let limits = &self.limits;
        let idle = limits.worker_heap_idle.signed();
        if rested {
            if peak > idle {
                verdict.violation(format!("{name} held {peak} bytes at rest, more than {idle}"), &[name]);
            }
            return;
        }
        let per_turn = limits.worker_heap_per_turn.signed() * i64::try_from(turns).unwrap_or(i64::MAX);
        let limit = idle + limits.worker_heap_above_idle.signed() + per_turn;
        if peak > limit {
            let above = peak - limit;
            let message =
                format!("{name} held {peak} bytes with {turns} turns in progress, {above} more than {limit}");
            verdict.violation(message, &[name]);
        }
    }
}

impl Oracle for Memory {
    fn id(&self) -> &'static str {
        "memory"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        let host = &fact.host;
        match &fact.event {
            // Its machine's servers are other processes: they do not begin anew with it.
            Event::WorkerStarted { worker, .. } => self.change(worker, |watched| {
                *watched = Watched { servers: watched.servers, ..Watched::default() };
            }),
            Event::Ready { worker, .. } => self.change(worker, |watched| watched.ready = true),
            Event::Killed { worker } | Event::Exited { worker, .. } => {
                self.change(worker, |watched| watched.gone = true);
            }
            Event::ServerStarted => {
                worker_of(host).into_iter().for_each(|worker| self.change(&worker, |w| w.servers += 1));
            }
            Event::ServerStopped => {
                let fewer = |watched: &mut Watched| watched.servers = watched.servers.saturating_sub(1);
                worker_of(host).into_iter().for_each(|worker| self.change(&worker, fewer));
            }
            Event::TurnChanged { turn, worker, to, .. } => self.change(worker, |watched| {
                if *to == TurnState::Claimed {
                    watched.in_progress.insert(Name::clone(turn));
                } else {
                    watched.in_progress.remove(turn);
                }
            }),
            Event::Heap { worker, peak, .. } => self.measured(worker, *peak, verdict),
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
    use super::*;
    use crate::testing::{claimed, completed, judge, name, ready, started};
    use sim_model::units::Bytes;

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
        let events = vec![
            started(1),
            heap(5, 900),
            ready(),
            heap(900, 900),
            heap(900, 1000),
            claimed("t1"),
            heap(1110, 1110),
        ];
        check(events, &[]);
    }

    #[test]
    fn a_spike_between_two_measurements_is_seen() {
        check(
            vec![started(1), ready(), heap(900, 900), claimed("t1"), completed("t1", 0), heap(900, 1111)],
            &["worker-1 held 1111 bytes with 1 turns in progress, 1 more than 1110"],
        );
    }

    #[test]
    fn turns_that_ended_before_the_previous_measurement_excuse_nothing() {
        let life = vec![
            started(1),
            ready(),
            claimed("t1"),
            Event::ServerStarted,
            completed("t1", 0),
            heap(900, 900),
        ];
        check(
            [life, vec![heap(1101, 1101)]].concat(),
            &["worker-1 held 1101 bytes with 0 turns in progress, 1 more than 1100"],
        );
    }

    #[test]
    fn a_worker_at_rest_has_a_limit_of_its_own_before_the_first_turn_and_after_the_last() {
        let rest = ["worker-1 held 1001 bytes at rest, more than 1000"];
        check(vec![started(1), ready(), heap(1, 1001), heap(1, 1001)], &rest);
        let life = vec![
            started(1),
            ready(),
            claimed("t1"),
            Event::ServerStarted,
            completed("t1", 0),
            heap(1, 1001),
            Event::ServerStopped,
            heap(1, 1001),
        ];
        check(life.clone(), &[]);
        check([life, vec![heap(1, 1001)]].concat(), &rest);
    }

    #[test]
    fn what_a_worker_leaves_behind_is_not_judged_here() {
        let killed = Event::Killed { worker: name("worker-1") };
        check(vec![started(1), ready(), heap(1, 1), killed, heap(8, 5000)], &[]);
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = |sessions| Event::Cache { worker: name("worker-1"), sessions };
        check(vec![cache(2)], &[]);
        check(vec![cache(3)], &["worker-1 remembers 3 sessions, more than 2"]);
    }
}
