//! **no-panic**: a worker never panics, whatever happens around it.
//!
//! A panic ends the run: what it left half done proves nothing any more.

use crate::oracle::{Findings, Oracle};
use sim_model::trace::{Event, Fact};

/// See the file's comment.
#[derive(Default)]
pub(super) struct NoPanic;

impl Oracle for NoPanic {
    fn id(&self) -> &'static str {
        "no-panic"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        if let Event::Panicked { worker, message } = &fact.event {
            verdict.violation(format!("{worker} panicked: {message}"), &[worker]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{judge, name, started};

    #[test]
    fn a_panic_is_told_with_its_message() {
        let panicked = Event::Panicked { worker: name("worker-1"), message: name("out of luck") };
        assert_eq!(judge(NoPanic, [(0, started(1)), (1, panicked)]), ["worker-1 panicked: out of luck"]);
        assert!(judge(NoPanic, [(0, started(1))]).is_empty());
    }
}
