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
//! Every window is checked, not only whole seconds: with each creation, the one `creates_per_second` before it must be
//! a window away.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{Oracle, Verdict};
use crate::{
    scenario::Limits,
    trace::{Event, Fact, Micros, Name},
};

/// See the file's comment.
pub(super) struct Throttle {
    in_flight: u64,
    per_window: usize,
    window: Micros,
    /// The last creations of each server, at most `per_window` of them.
    begun: BTreeMap<Name, VecDeque<Micros>>,
}

impl Throttle {
    pub(super) fn new(limits: &Limits, spread: Duration) -> Self {
        let window = Duration::from_secs(1).saturating_sub(spread);
        Self {
            in_flight: limits.creates_in_flight,
            per_window: usize::try_from(limits.creates_per_second).unwrap_or(usize::MAX),
            window: u64::try_from(window.as_micros()).expect("at most a second"),
            begun: BTreeMap::new(),
        }
    }
}

impl Oracle for Throttle {
    fn id(&self) -> &'static str {
        "throttle"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Verdict) {
        let Event::CreateStarted { in_flight } = fact.event else { return };
        let host = &fact.host;
        if in_flight > self.in_flight {
            let limit = self.in_flight;
            verdict.violation(format!("{in_flight} creations at once at {host}, more than {limit}"), &[host]);
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
    use super::{
        super::testing::{at, judge},
        *,
    };

    #[track_caller]
    fn check(creations: &[(f64, u64)], expected: &[&str]) {
        let limits = Limits { creates_in_flight: 2, creates_per_second: 3, ..Limits::default() };
        let facts = creations.iter().map(|&(when, in_flight)| (at(when), Event::CreateStarted { in_flight }));
        assert_eq!(judge(Throttle::new(&limits, Duration::from_millis(50)), facts), expected);
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
