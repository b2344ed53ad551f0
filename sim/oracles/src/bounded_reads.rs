//! **bounded-reads**: what a worker asks of the backend does not grow with what the backend holds.
//!
//! - No call of a worker reads more than `documents_per_call` documents or `bytes_per_call` bytes.
//! - Between a worker's start and the moment when it is ready, its calls read at most `start_documents` documents, and
//!   `start_documents_per_expired` more for each stale turn that they expired: the only work there that may follow a
//!   backlog.

use std::collections::BTreeMap;

use crate::oracle::{Findings, Oracle};
use sim_model::{
    scenario::Limits,
    trace::{Caller, Event, Fact, Name, TurnState},
};

/// See the file's comment.
pub(super) struct BoundedReads {
    limits: Limits,
    starting: BTreeMap<Name, Start>,
}

#[derive(Default)]
struct Start {
    documents: u64,
    expired: u64,
}

impl BoundedReads {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), starting: BTreeMap::new() }
    }

    fn ready(&mut self, worker: &Name, verdict: &mut Findings) {
        let Some(Start { documents, expired }) = self.starting.remove(worker) else { return };
        let limit = self.limits.start_documents + self.limits.start_documents_per_expired * expired;
        if documents > limit {
            let message = format!(
                "{worker} read {documents} documents until it was ready (and expired {expired} turns), more than {limit}"
            );
            verdict.violation(message, &[worker]);
        }
    }

    fn executed(
        &mut self,
        worker: &Name,
        function: &str,
        documents: u64,
        bytes: u64,
        verdict: &mut Findings,
    ) {
        if let Some(start) = self.starting.get_mut(worker) {
            start.documents += documents;
        }
        let Limits { documents_per_call, bytes_per_call, .. } = self.limits;
        if documents > documents_per_call {
            let message =
                format!("{function} read {documents} documents for {worker}, more than {documents_per_call}");
            verdict.violation(message, &[worker]);
        }
        if bytes > bytes_per_call.0 {
            let message =
                format!("{function} read {bytes} bytes for {worker}, more than {}", bytes_per_call.0);
            verdict.violation(message, &[worker]);
        }
    }
}

impl Oracle for BoundedReads {
    fn id(&self) -> &'static str {
        "bounded-reads"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        match &fact.event {
            Event::WorkerStarted { worker, .. } => {
                self.starting.insert(Name::clone(worker), Start::default());
            }
            Event::TurnChanged { worker, to: TurnState::Expired, .. } => {
                if let Some(start) = self.starting.get_mut(worker) {
                    start.expired += 1;
                }
            }
            Event::Ready { worker, .. } => self.ready(worker, verdict),
            Event::Executed {
                caller: Caller::Worker(worker), function, documents_read, bytes_read, ..
            } => {
                self.executed(worker, function, *documents_read, *bytes_read, verdict);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{changed, executed, judge, ready, started};
    use sim_model::units::Bytes;

    #[track_caller]
    fn check(events: &[Event], expected: &[&str]) {
        let limits = Limits {
            documents_per_call: 10,
            bytes_per_call: Bytes(1000),
            start_documents: 20,
            start_documents_per_expired: 5,
            ..Limits::default()
        };
        assert_eq!(judge(BoundedReads::new(&limits), (0..).zip(events.iter().cloned())), expected);
    }

    #[test]
    fn calls_and_a_start_within_the_limits_are_fine() {
        check(&[started(1), executed(10, 1000), executed(10, 1), ready(), executed(10, 1)], &[]);
    }

    #[test]
    fn a_call_that_reads_too_much_is_seen() {
        check(&[executed(11, 1)], &["chat:claim read 11 documents for worker-1, more than 10"]);
        check(&[executed(1, 1001)], &["chat:claim read 1001 bytes for worker-1, more than 1000"]);
    }

    #[test]
    fn a_start_that_reads_too_much_is_seen() {
        check(
            &[started(1), executed(10, 1), executed(10, 1), executed(1, 1), ready()],
            &["worker-1 read 21 documents until it was ready (and expired 0 turns), more than 20"],
        );
    }

    #[test]
    fn expired_turns_excuse_some_reads() {
        let expired = changed("t1", TurnState::Pending, TurnState::Expired);
        check(&[started(1), executed(10, 1), expired, executed(10, 1), executed(5, 1), ready()], &[]);
    }
}
