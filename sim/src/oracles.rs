//! Checks that watch a run. Each file states one property; its doc comment is the specification.
//!
//! Oracles observe facts and state properties; they do not re-implement the system. They see every fact once, in the
//! order of the trace, and may ask for nothing else.

mod answered;
mod bounded_reads;
mod calm;
mod chunks;
mod cleanup;
mod converges;
mod fairness;
mod fencing;
mod lazy;
mod lifecycle;
mod memory;
mod no_panic;
mod resident;
mod stale;
mod sync_cost;
#[cfg(test)]
pub(crate) mod testing;
mod throttle;

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    scenario::Scenario,
    trace::{Fact, Micros, Name, Trace},
};

/// A property that a run must have.
pub trait Oracle: Send {
    /// Its name in reports: lower case, stable.
    fn id(&self) -> &'static str;

    /// Looks at the next fact.
    fn observe(&mut self, fact: &Fact, verdict: &mut Verdict);

    /// What still has to happen, if anything: a run ends well only when every oracle waits for nothing.
    fn pending(&self) -> Option<Pending> {
        None
    }
}

pub use resident::Ceilings;

/// The oracles for a worker that is watched from outside, in real time: its process shows no heap and no cache, so
/// resident memory stands for both. Requests travel on loopback: `spread` is by how much they may bunch there.
#[must_use]
pub fn from_outside(scenario: &Scenario, spread: Duration, ceilings: Ceilings) -> Vec<Box<dyn Oracle>> {
    let limits = &scenario.limits;
    let mut oracles: Vec<Box<dyn Oracle>> = vec![
        Box::new(resident::Resident::new(ceilings)),
        Box::new(throttle::Throttle::new(limits, spread)),
        Box::new(stale::Stale::default()),
        Box::new(answered::Answered::default()),
        Box::new(chunks::Chunks::default()),
        Box::new(lazy::Lazy::default()),
        Box::new(bounded_reads::BoundedReads::new(limits)),
        Box::new(sync_cost::SyncCost::new(limits)),
        Box::new(fencing::Fencing::default()),
        Box::new(cleanup::Cleanup::default()),
        Box::new(no_panic::NoPanic),
    ];
    if scenario.settings.sync.enabled {
        oracles.push(Box::new(converges::Converges::new(limits)));
    }
    oracles
}

/// Something that still has to happen.
#[derive(Debug, Clone)]
pub struct Pending {
    /// What is waited for.
    pub reason: String,
    /// What the story is about.
    pub about: Vec<Name>,
}

/// All oracles, with the limits of `scenario`.
#[must_use]
pub fn all(scenario: &Scenario) -> Vec<Box<dyn Oracle>> {
    let limits = &scenario.limits;
    let mut oracles: Vec<Box<dyn Oracle>> = vec![
        Box::new(memory::Memory::new(limits)),
        Box::new(throttle::Throttle::new(limits, scenario.network_spread())),
        Box::new(stale::Stale::default()),
        Box::new(answered::Answered::default()),
        Box::new(chunks::Chunks::default()),
        Box::new(lazy::Lazy::default()),
        Box::new(bounded_reads::BoundedReads::new(limits)),
        Box::new(sync_cost::SyncCost::new(limits)),
        Box::new(fairness::Fairness::new(scenario)),
        Box::new(fencing::Fencing::default()),
        Box::new(lifecycle::Lifecycle::new(scenario)),
        Box::new(cleanup::Cleanup::default()),
        Box::new(no_panic::NoPanic),
    ];
    if scenario.settings.sync.enabled {
        oracles.push(Box::new(converges::Converges::new(limits)));
    }
    oracles
}

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Something forbidden happened.
    Safety,
    /// Something promised did not happen in time.
    Liveness,
}

/// A broken property.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Violation {
    /// The oracle that saw it.
    pub oracle: &'static str,
    /// Which promise was broken.
    pub class: Class,
    /// When (µs of simulated time).
    pub at: Micros,
    /// What happened and what should have been.
    pub message: String,
    /// The facts that led to it, oldest first.
    pub story: Vec<Fact>,
}

/// Where an oracle reports.
#[derive(Debug, Default)]
pub struct Verdict {
    raised: Vec<Raised>,
}

/// A violation before its story is known.
#[derive(Debug)]
pub struct Raised {
    /// What happened and what should have been.
    pub message: String,
    /// What the story is about.
    pub about: Vec<Name>,
}

impl Verdict {
    /// Reports a violation. `about` names the turn, session, worker or host whose facts belong to the story.
    pub fn violation(&mut self, message: impl Into<String>, about: &[&Name]) {
        let about = about.iter().copied().cloned().collect();
        self.raised.push(Raised { message: message.into(), about });
    }

    /// What was reported since the last call.
    pub fn take(&mut self) -> Vec<Raised> {
        std::mem::take(&mut self.raised)
    }
}

/// Violations kept with their story, for each oracle; more are only counted.
const KEPT_PER_ORACLE: u64 = 5;
/// The facts of one story.
const STORY: usize = 12;

/// The oracles of one run and what they found.
pub struct Court {
    oracles: Vec<Box<dyn Oracle>>,
    verdict: Verdict,
    violations: Vec<Violation>,
    counts: BTreeMap<&'static str, u64>,
}

impl Court {
    /// A court without findings.
    #[must_use]
    pub fn new(oracles: Vec<Box<dyn Oracle>>) -> Self {
        let counts = oracles.iter().map(|oracle| (oracle.id(), 0)).collect();
        Self { oracles, verdict: Verdict::default(), violations: Vec::new(), counts }
    }

    /// Shows the fact to every oracle. The fact must already be in `trace`.
    pub fn observe(&mut self, fact: &Fact, trace: &Trace) {
        for index in 0..self.oracles.len() {
            let oracle = &mut self.oracles[index];
            oracle.observe(fact, &mut self.verdict);
            if !self.verdict.raised.is_empty() {
                let id = oracle.id();
                self.convict(id, Class::Safety, fact.at, trace);
            }
        }
    }

    /// Adds a violation that no oracle sees by a fact: a panic, or work that did not end.
    pub fn raise(&mut self, oracle: &'static str, class: Class, at: Micros, message: String, trace: &Trace) {
        self.verdict.raised.push(Raised { message, about: Vec::new() });
        self.convict(oracle, class, at, trace);
    }

    /// What is still pending becomes a violation: its time is up.
    pub fn convict_pending(&mut self, at: Micros, trace: &Trace) {
        for (oracle, Pending { reason, about }) in self.pending() {
            self.verdict.raised.push(Raised { message: reason, about });
            self.convict(oracle, Class::Liveness, at, trace);
        }
    }

    fn convict(&mut self, oracle: &'static str, class: Class, at: Micros, trace: &Trace) {
        for Raised { message, about } in self.verdict.take() {
            let count = self.counts.entry(oracle).or_default();
            *count += 1;
            if *count <= KEPT_PER_ORACLE {
                let story = trace.story(&about, STORY);
                self.violations.push(Violation { oracle, class, at, message, story });
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

/// The worker that owns an OpenCode host: `opencode-3` belongs to `worker-3`.
pub(crate) fn worker_of(host: &str) -> Option<String> {
    host.strip_prefix("opencode-").map(|number| format!("worker-{number}"))
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{changed, claimed, name, sent},
        *,
    };
    use crate::trace::{Event, TurnState};

    fn court_after(events: impl IntoIterator<Item = Event>) -> (Court, Trace) {
        let mut court =
            Court::new(vec![Box::new(stale::Stale::default()), Box::new(answered::Answered::default())]);
        let mut trace = Trace::default();
        for (at, event) in (0..).zip(events) {
            let fact = Fact { at, host: name("convex"), event };
            trace.record(fact.clone());
            court.observe(&fact, &trace);
        }
        (court, trace)
    }

    #[test]
    fn a_violation_is_told_with_the_facts_of_its_turn() {
        let expired = || changed("t1", TurnState::Claimed, TurnState::Expired);
        let (court, _) = court_after([sent("t2", 0.0), sent("t1", 0.0), claimed("t1"), expired(), expired()]);
        let [violation] = court.violations() else { panic!("{:?}", court.violations()) };
        assert_eq!((violation.oracle, violation.class, violation.at), ("answered", Class::Safety, 4));
        assert!(violation.story.iter().any(|fact| fact.at == 2 && fact.event == claimed("t1")));
    }

    #[test]
    fn many_violations_are_counted_and_a_few_kept() {
        let expired = || changed("t1", TurnState::Claimed, TurnState::Expired);
        let (court, _) = court_after([sent("t1", 0.0)].into_iter().chain((0..50).map(|_| expired())));
        assert_eq!((court.counts()["answered"], court.counts()["stale"]), (49, 0));
        assert_eq!(court.violations().len(), 5);
    }

    #[test]
    fn what_is_pending_when_time_is_up_is_a_violation_of_liveness() {
        let (mut court, trace) = court_after([sent("t1", 0.0), claimed("t1")]);
        court.convict_pending(9, &trace);
        let [violation] = court.violations() else { panic!("{:?}", court.violations()) };
        assert_eq!((violation.class, violation.at, violation.story.len()), (Class::Liveness, 9, 2));
    }
}
