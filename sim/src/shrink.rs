//! Makes a failing scenario small: leaves out what the failure does not need.
//!
//! [`Shrinker`] decides and is pure: it proposes a smaller scenario, is told whether that fails in the same way, and
//! proposes the next. What runs them stands in `cli/shrink.rs`. A proposal that fails otherwise, or not at all, is
//! forgotten, so what is left always fails as the original did.

pub mod case;
mod failure;
pub mod steps;

use std::collections::VecDeque;

pub use case::{Case, CaseError};
pub use failure::Failure;
use steps::Step;

/// Proposes smaller and smaller scenarios.
pub struct Shrinker {
    best: Case,
    failure: Failure,
    steps: VecDeque<Step>,
    proposed: Option<(Step, Case)>,
    improved: bool,
}

impl Shrinker {
    /// Begins with a case that fails.
    #[must_use]
    pub fn new(case: Case, failure: Failure) -> Self {
        Self { best: case, failure, steps: steps::round(), proposed: None, improved: false }
    }

    /// The next smaller case to try; none when everything was tried.
    pub fn propose(&mut self) -> Option<&Case> {
        loop {
            let Some(step) = self.steps.pop_front() else {
                if !std::mem::take(&mut self.improved) {
                    return None;
                }
                self.steps = steps::round();
                continue;
            };
            match step.apply(&self.best, &self.failure) {
                Some(case) if case.size() < self.best.size() || step.is_preparation() => {
                    self.proposed = Some((step, case));
                    return self.proposed.as_ref().map(|(_, case)| case);
                }
                // As good as tried.
                Some(_) => self.go_on(step.after(false, &self.best)),
                None => {}
            }
        }
    }

    /// Tells how the proposed case ended: `failure` is there if it fails in the same way.
    ///
    /// # Panics
    /// If nothing was proposed.
    pub fn judge(&mut self, failure: Option<Failure>) {
        let (step, case) = self.proposed.take().expect("a case was proposed");
        let accepted = failure.is_some();
        if let Some(failure) = failure {
            self.improved |= case.size() < self.best.size();
            (self.best, self.failure) = (case, failure);
        }
        self.go_on(step.after(accepted, &self.best));
    }

    fn go_on(&mut self, step: Option<Step>) {
        if let Some(step) = step {
            self.steps.push_front(step);
        }
    }

    /// The smallest case that fails, so far.
    #[must_use]
    pub fn best(&self) -> &Case {
        &self.best
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sim_model::{scenario::Scenario, seed::Seed};
    use sim_oracles::Class;

    use super::*;

    const BIG: &str = "
name = 'big'
duration = '10min'
workers = 2
[population]
sessions = 100
old_messages_per_session = 20
stale_pending = 30
[workload]
turns = 400
end_sessions = 5
[[faults]]
at = '1min'
kind = 'kill'
[[faults]]
at = '2min'
worker = 2
kind = 'stop'
";

    /// Shrinks `BIG` where a case fails if `fails`; returns the case and how many were tried.
    fn shrink(fails: impl Fn(&Scenario) -> bool) -> (Case, usize) {
        let failure =
            || Failure { oracle: "stale".into(), class: Class::Safety, at: Duration::from_secs(300) };
        let case = Case::new(BIG, "big", Seed(7)).unwrap();
        let mut shrinker = Shrinker::new(case, failure());
        let mut tried = 0;
        while let Some(case) = shrinker.propose() {
            let outcome = fails(case.scenario()).then(failure);
            shrinker.judge(outcome);
            tried += 1;
            assert!(tried < 1000, "it comes to no end");
        }
        (shrinker.best().clone(), tried)
    }

    #[test]
    fn what_fails_whatever_is_left_out_becomes_as_small_as_can_be() {
        let (case, tried) = shrink(|_| true);
        assert!(case.size() <= 3 && tried < 100, "{} after {tried}:\n{}", case.size(), case.text());
    }

    #[test]
    fn what_never_fails_again_stays_as_it_was() {
        let (case, _) = shrink(|_| false);
        assert_eq!(case.text(), Case::new(BIG, "big", Seed(7)).unwrap().text());
    }

    #[test]
    fn what_the_failure_needs_is_kept_and_all_else_goes() {
        let needs = |scenario: &Scenario| {
            scenario.faults.iter().any(|restart| *restart.worker.get_ref() == 2)
                && scenario.workload.messages.get_ref().iter().any(|message| message.number == 123)
                && scenario.population.sessions >= 17
        };
        let (case, tried) = shrink(needs);
        let scenario = case.scenario();
        let kept =
            (scenario.faults.len(), scenario.workload.messages.get_ref().len(), scenario.population.sessions);
        assert_eq!(kept, (1, 1, 17), "after {tried}:\n{}", case.text());
        assert_eq!((*scenario.population.stale_pending.get_ref(), scenario.workload.turns), (0, 0));
    }
}
