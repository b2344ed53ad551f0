//! What was asked on a connection and is not answered yet, and since when. Pure; time is a duration since any fixed
//! point.
//!
//! Only answers count, not pings or changes of a query's result: these still arrive when nothing of what the worker
//! sends does, and the server takes 120 s to notice.

use std::{collections::BTreeSet, time::Duration};

use convex::Value;
use convex_sync_types::{ClientMessage, ServerMessage};

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    /// Their ids. Bounded by the calls that wait for an answer.
    mutations: BTreeSet<u32>,
    /// The newest version of the query set, until a Transition shows it.
    query_set: Option<u32>,
    /// Since when the server owes an answer: the moment of the last one, or of the request after it.
    since: Option<Duration>,
}

impl Unanswered {
    /// Since when answers are owed, if any are.
    pub(super) fn since(&self) -> Option<Duration> {
        self.since
    }

    /// A message is about to be sent.
    pub(super) fn sent(&mut self, message: &ClientMessage, now: Duration) {
        match message {
            ClientMessage::Mutation { request_id, .. } => drop(self.mutations.insert(*request_id)),
            ClientMessage::ModifyQuerySet { new_version, .. } => self.query_set = Some(*new_version),
            _ => return,
        }
        self.since.get_or_insert(now);
    }

    /// A message was received. Returns whether it is an answer that was owed.
    pub(super) fn received(&mut self, message: &ServerMessage<Value>, now: Duration) -> bool {
        let is_answer = match message {
            ServerMessage::MutationResponse { request_id, .. } => self.mutations.remove(request_id),
            ServerMessage::Transition { end_version, .. } => {
                self.query_set.take_if(|sent| *sent <= end_version.query_set).is_some()
            }
            _ => false,
        };
        if is_answer {
            let is_owed = !self.mutations.is_empty() || self.query_set.is_some();
            self.since = is_owed.then_some(now);
        }
        is_answer
    }
}
