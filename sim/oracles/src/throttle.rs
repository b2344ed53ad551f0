//! **throttle**: a worker creates OpenCode sessions slowly, whatever waits for it.
//!
//! Seen at each OpenCode server:
//! - never more than `creates_in_flight` creations at once;
//! - never more than `creates_per_second` creations begun within any window of one second.
//!
//! The worker starts requests, the server sees them arrive. Two requests that a worker starts a second apart can arrive
//! closer together, if the first travels slowly and the second fast, by at most the *spread*: the slowest way to arrive
//! minus the fastest. The window here is therefore one second less the spread; a worker that keeps its promise can
//! never be convicted, and one that breaks it by more than the spread always is.
//! A server that hangs, or a network that holds messages back, lets through at once what was started one by one. What
//! arrives within the window after the end of such a fault is therefore not counted.
//! Every window is checked, not only whole seconds: with each creation, the one `creates_per_second` before it must be
//! a window away.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::oracle::{Findings, Oracle};
use sim_model::{
    scenario::Limits,
    trace::{Event, Fact, Micros, Name, worker_of},
};

/// See the file's comment.
pub(super) struct Throttle {
    in_flight: u64,
    per_window: usize,
    window: Micros,
    /// The last creations of each server, at most `per_window` of them.
    begun: BTreeMap<Name, VecDeque<Micros>>,
    /// When what held messages back ended last, by worker.
    held_back: BTreeMap<Name, Micros>,
}

impl Throttle {
    pub(super) fn new(limits: &Limits, spread: Duration) -> Self {
        let window = Duration::from_secs(1).saturating_sub(spread);
        Self {
            in_flight: limits.creates_in_flight,
            per_window: usize::try_from(limits.creates_per_second).unwrap_or(usize::MAX),
            window: u64::try_from(window.as_micros()).expect("at most a second"),
            begun: BTreeMap::new(),
            held_back: BTreeMap::new(),
        }
    }

    /// Whether what arrives now may have been held back.
    fn was_held_back(&self, host: &str, at: Micros) -> bool {
        let ended = worker_of(host).and_then(|worker| self.held_back.get(&*worker));
        ended.is_some_and(|ended| at < ended + self.window)
    }
}

impl Oracle for Throttle {
    fn id(&self) -> &'static str {
        "throttle"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        if let Event::FaultEnded { kind, worker, .. } = &fact.event
            && kind.holds_back()
        {
            self.held_back.insert(Name::clone(worker), fact.at);
        }
        let Event::CreateStarted { in_flight } = fact.event else { return };
        let host = &fact.host;
        if in_flight > self.in_flight {
            let limit = self.in_flight;
            verdict.violation(format!("{in_flight} creations at once at {host}, more than {limit}"), &[host]);
        }
        if self.was_held_back(host, fact.at) {
            return;
        }
        let begun = self.begun.entry(Name::clone(host)).or_default();
        if begun.len() == self.per_window {
            let first = begun.pop_front().expect("a throttle lets at least one through");
            let passed = fact.at.saturating_sub(first);
            if passed < self.window {
                let (count, limit) = (self.per_window + 1, self.per_window);
                let message =
                    format!("{count} creations within {passed} µs at {host}, more than {limit} per second");
                verdict.violation(message, &[host]);
            }
        }
        begun.push_back(fact.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, judge};
    use sim_model::fault::FaultKind;

    #[track_caller]
    fn check(creations: &[(f64, u64)], expected: &[&str]) {
        let limits = Limits { creates_in_flight: 2, creates_per_second: 3, ..Limits::default() };
        let facts = creations.iter().map(|&(when, in_flight)| (at(when), Event::CreateStarted { in_flight }));
        assert_eq!(judge(Throttle::new(&limits, Duration::from_millis(50)), facts), expected);
    }

    #[test]
    fn what_a_hang_has_held_back_may_come_at_once_but_not_more_than_that() {
        let hang = |when| {
            let (kind, worker) = (FaultKind::OpencodeHang, Name::from("worker-1"));
            (at(when), Event::FaultEnded { fault: 0, kind, worker })
        };
        let limits = Limits { creates_in_flight: 9, creates_per_second: 2, ..Limits::default() };
        let check = |creations: &[f64], expected: &[&str]| {
            let creations = creations.iter().map(|&when| (at(when), Event::CreateStarted { in_flight: 1 }));
            let facts = std::iter::once(hang(1.0)).chain(creations);
            assert_eq!(judge(Throttle::new(&limits, Duration::ZERO), facts), expected);
        };
        check(&[1.0, 1.1, 1.2, 1.3, 2.1, 2.2], &[]);
        check(&[2.1, 2.2, 2.3], &["3 creations within 200000 µs at opencode-1, more than 2 per second"]);
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        check(&[(0.0, 1), (0.1, 2), (0.2, 1), (0.96, 1), (1.06, 2)], &[]);
    }

    #[test]
    fn one_too_many_in_a_window_that_crosses_a_second_is_seen() {
        check(
            &[(0.8, 1), (0.9, 1), (1.2, 1), (1.7, 1)],
            &["4 creations within 900000 µs at opencode-1, more than 3 per second"],
        );
    }

    #[test]
    fn one_too_many_at_once_is_seen() {
        check(&[(0.0, 1), (0.5, 2), (0.9, 3)], &["3 creations at once at opencode-1, more than 2"]);
    }
}
