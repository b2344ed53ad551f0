//! **fencing**: once a newer epoch of a worker has begun, nothing that an older one does has an effect.
//!
//! A worker that was cut off, or a second process with the same token, may go on for a while: it may even prompt
//! OpenCode. But in the backend:
//! - no call that carries an epoch older than the newest of its worker writes a document (it is refused; and the
//!   backend validates reads when it commits, so a call that began before the newer epoch cannot slip through);
//! - every call by which a worker writes carries an epoch, but for its registration: what carries none cannot be
//!   refused.

use std::collections::BTreeMap;

use crate::oracle::{Findings, Oracle};
use sim_model::trace::{Caller, Event, Fact, Name};

/// The call that begins an epoch and so carries none.
const REGISTER: &str = "workers:register";

/// See the file's comment.
#[derive(Default)]
pub(super) struct Fencing {
    /// The newest epoch of each worker.
    epochs: BTreeMap<Name, u64>,
}

/// A call that wrote.
struct Effect<'a> {
    function: &'a str,
    caller: &'a Name,
    identity: Option<&'a Name>,
    epoch: Option<u64>,
}

impl Fencing {
    fn wrote(&self, Effect { function, caller, identity, epoch }: Effect<'_>, verdict: &mut Findings) {
        let (Some(worker), Some(epoch)) = (identity, epoch) else {
            if function != REGISTER {
                let message =
                    format!("{function} wrote for {caller} without an epoch: no newer one can refuse it");
                verdict.violation(message, &[caller]);
            }
            return;
        };
        let newest = self.epochs.get(worker).copied().unwrap_or(epoch);
        if epoch < newest {
            let message = format!(
                "{function} wrote for {caller} as epoch {epoch} of {worker}, after epoch {newest} had begun"
            );
            verdict.violation(message, &[caller, worker]);
        }
    }
}

impl Oracle for Fencing {
    fn id(&self) -> &'static str {
        "fencing"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        match &fact.event {
            Event::EpochBegan { worker, epoch, .. } => {
                self.epochs.insert(Name::clone(worker), *epoch);
            }
            Event::Executed {
                function,
                caller: Caller::Worker(caller),
                documents_written: 1..,
                error: None,
                identity,
                epoch,
                ..
            } => self.wrote(Effect { function, caller, identity: identity.as_ref(), epoch: *epoch }, verdict),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Call, epoch, judge};

    #[track_caller]
    fn check(events: &[Event], expected: &[&str]) {
        assert_eq!(judge(Fencing::default(), (0..).zip(events.iter().cloned())), expected);
    }

    fn wrote(epoch: u64) -> Event {
        Call { function: "chat:writeChunk", written: 1, epoch: Some(epoch), ..Call::default() }.event()
    }

    #[test]
    fn the_newest_epoch_may_write() {
        check(&[epoch(1, 0.0), wrote(1), epoch(2, 0.0), wrote(2)], &[]);
    }

    #[test]
    fn an_older_epoch_may_read_and_be_refused_but_not_write() {
        let read = Call { epoch: Some(1), ..Call::default() }.event();
        let refused =
            Call { written: 1, epoch: Some(1), error: Some("superseded"), ..Call::default() }.event();
        check(&[epoch(1, 0.0), epoch(2, 0.0), read, refused], &[]);
        check(
            &[epoch(1, 0.0), epoch(2, 0.0), wrote(1)],
            &["chat:writeChunk wrote for worker-1 as epoch 1 of worker-1, after epoch 2 had begun"],
        );
    }

    #[test]
    fn only_a_registration_writes_without_an_epoch() {
        let call = |function| Call { function, written: 1, ..Call::default() }.event();
        check(&[call(REGISTER)], &[]);
        check(
            &[call("legacy:heartbeat")],
            &["legacy:heartbeat wrote for worker-1 without an epoch: no newer one can refuse it"],
        );
    }
}
