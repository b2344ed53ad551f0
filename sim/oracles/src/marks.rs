//! States worth reaching: a run that passes without ever meeting them proves little.
//!
//! Each mark is recognised from facts, by its effects: whatever fault or chance led to it. A scenario may name the marks
//! that it is there for (`required_marks`); a sweep over many seeds fails if one of them was never reached.

mod known;
mod watch;

use crate::marks::known::Known;
use sim_model::{
    mark::{Counts, MARKS},
    scenario::Scenario,
    trace::Fact,
};

/// Watches a run for marks.
#[derive(Debug)]
pub struct Marks {
    known: Known,
    counts: Counts,
}

impl Marks {
    /// Watches a run of `scenario`.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let counts = MARKS.iter().map(|mark| (mark.id.into(), 0)).collect();
        Self { known: Known::new(scenario), counts }
    }

    /// Follows a fact.
    pub fn observe(&mut self, fact: &Fact) {
        let counts = &mut self.counts;
        watch::before(fact, &self.known, &mut |id| count(counts, id));
        self.known.observe(fact);
        watch::after(fact, &mut self.known, &mut |id| count(counts, id));
    }

    /// How often each was reached.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

fn count(counts: &mut Counts, id: &'static str) {
    *counts.get_mut(id).expect("marks are listed in MARKS") += 1;
}

#[cfg(test)]
mod tests;
