//! Checks that watch a run. Each file states one property; its doc comment is the specification.
//!
//! Oracles observe facts and state properties; they do not re-implement the system. They see every fact once, in the
//! order of the trace, and may ask for nothing else.

mod answered;
mod bounded_reads;
mod chunks;
mod lazy;
mod memory;
mod stale;
#[cfg(test)]
mod testing;
mod throttle;

use std::collections::BTreeMap;

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
    fn pending(&self) -> Option<String> {
        None
    }
}

/// All oracles, with the limits of `scenario`.
#[must_use]
pub fn all(scenario: &Scenario) -> Vec<Box<dyn Oracle>> {
    let limits = &scenario.limits;
    vec![
        Box::new(memory::Memory::new(limits)),
        Box::new(throttle::Throttle::new(limits, scenario.network_spread())),
        Box::new(stale::Stale::default()),
        Box::new(answered::Answered::default()),
        Box::new(chunks::Chunks::default()),
        Box::new(lazy::Lazy::default()),
        Box::new(bounded_reads::BoundedReads::new(limits)),
    ]
}

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Something forbidden happened.
    Safety,
    /// Something promised did not happen in time.
    Liveness,
}

/// A broken property.
#[derive(Debug, Clone, Serialize)]
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
    pub fn pending(&self) -> Vec<(&'static str, String)> {
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
fn worker_of(host: &str) -> Option<String> {
    host.strip_prefix("opencode-").map(|number| format!("worker-{number}"))
}
