//! The oracles of one run, and what they found.

use std::collections::BTreeMap;

use sim_model::trace::{Fact, Micros, Trace};

use crate::{
    oracle::{Findings, Oracle, Pending, Raised},
    violation::{Class, Violation},
};

/// Violations kept with their story, for each oracle; more are only counted.
const KEPT_PER_ORACLE: u64 = 5;
/// The facts of one story.
const STORY: usize = 12;

/// The oracles of one run and what they found.
pub struct Oracles {
    oracles: Vec<Box<dyn Oracle>>,
    verdict: Findings,
    violations: Vec<Violation>,
    counts: BTreeMap<&'static str, u64>,
}

impl Oracles {
    /// Oracles that have seen nothing yet.
    #[must_use]
    pub fn new(oracles: Vec<Box<dyn Oracle>>) -> Self {
        let counts = oracles.iter().map(|oracle| (oracle.id(), 0)).collect();
        Self { oracles, verdict: Findings::default(), violations: Vec::new(), counts }
    }

    /// Shows the fact to every oracle. The fact must already be in `trace`.
    pub fn observe(&mut self, fact: &Fact, trace: &Trace) {
        for index in 0..self.oracles.len() {
            let oracle = &mut self.oracles[index];
            oracle.observe(fact, &mut self.verdict);
            if !self.verdict.raised.is_empty() {
                let id = oracle.id();
                self.report(id, Class::Safety, fact.at, trace);
            }
        }
    }

    /// Adds a violation that no oracle sees by a fact: a panic, or work that did not end.
    pub fn raise(&mut self, oracle: &'static str, class: Class, at: Micros, message: String, trace: &Trace) {
        self.verdict.raised.push(Raised { message, about: Vec::new() });
        self.report(oracle, class, at, trace);
    }

    /// What is still pending becomes a violation: its time is up.
    pub fn raise_pending(&mut self, at: Micros, trace: &Trace) {
        for (oracle, Pending { reason, about }) in self.pending() {
            self.verdict.raised.push(Raised { message: reason, about });
            self.report(oracle, Class::Liveness, at, trace);
        }
    }

    fn report(&mut self, oracle: &'static str, class: Class, at: Micros, trace: &Trace) {
        for Raised { message, about } in self.verdict.take() {
            let count = self.counts.entry(oracle).or_default();
            *count += 1;
            if *count <= KEPT_PER_ORACLE {
                let story = trace.story(&about, STORY);
                self.violations.push(Violation { oracle: oracle.into(), class, at, message, story });
            }
        }
    }

    /// What the oracles still wait for, each with its name.
    #[must_use]
    pub fn pending(&self) -> Vec<(&'static str, Pending)> {
        self.oracles.iter().filter_map(|oracle| Some((oracle.id(), oracle.pending()?))).collect()
    }

    /// What was found, in the order in which it happened, at most five for each oracle.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How many violations each oracle saw.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answered::Answered,
        stale::Stale,
        testing::{changed, claimed, name, sent},
    };
    use sim_model::trace::{Event, TurnState};

    fn oracles_after(events: impl IntoIterator<Item = Event>) -> (Oracles, Trace) {
        let mut oracles = Oracles::new(vec![Box::new(Stale::default()), Box::new(Answered::default())]);
        let mut trace = Trace::default();
        for (at, event) in (0..).zip(events) {
            let fact = Fact { at, host: name("convex"), event };
            trace.record(fact.clone());
            oracles.observe(&fact, &trace);
        }
        (oracles, trace)
    }

    #[test]
    fn a_violation_is_told_with_the_facts_of_its_turn() {
        let expired = || changed("t1", TurnState::Claimed, TurnState::Expired);
        let (oracles, _) =
            oracles_after([sent("t2", 0.0), sent("t1", 0.0), claimed("t1"), expired(), expired()]);
        let [violation] = oracles.violations() else { panic!("{:?}", oracles.violations()) };
        assert_eq!((&*violation.oracle, violation.class, violation.at), ("answered", Class::Safety, 4));
        assert!(violation.story.iter().any(|fact| fact.at == 2 && fact.event == claimed("t1")));
    }

    #[test]
    fn many_violations_are_counted_and_a_few_kept() {
        let expired = || changed("t1", TurnState::Claimed, TurnState::Expired);
        let (oracles, _) = oracles_after([sent("t1", 0.0)].into_iter().chain((0..50).map(|_| expired())));
        assert_eq!((oracles.counts()["answered"], oracles.counts()["stale"]), (49, 0));
        assert_eq!(oracles.violations().len(), 5);
    }

    #[test]
    fn what_is_pending_when_time_is_up_is_a_violation_of_liveness() {
        let (mut oracles, trace) = oracles_after([sent("t1", 0.0), claimed("t1")]);
        oracles.raise_pending(9, &trace);
        let [violation] = oracles.violations() else { panic!("{:?}", oracles.violations()) };
        assert_eq!((violation.class, violation.at, violation.story.len()), (Class::Liveness, 9, 2));
    }
}
