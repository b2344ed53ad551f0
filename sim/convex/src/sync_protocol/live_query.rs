//! A query that is kept up to date: when it has to run, and what the client knows of it.

use std::hash::{DefaultHasher, Hash, Hasher};

use convex::Value;
use convex_sync_types::{LogLinesMessage, QueryId, StateModification};

use super::events::{QueryRequest, QueryResult};
use crate::{auth::Identity, encoding::encode, error::Failure};

/// A query that the client wants to be kept up to date.
#[derive(Debug)]
pub(super) struct LiveQuery {
    path: String,
    args: Value,
    journal: Option<String>,
    /// Hash of what the client was last told; `None` before the first answer.
    told: Option<u64>,
    pub(super) stale: bool,
}

impl LiveQuery {
    /// A query that has not run.
    pub(super) fn new(path: String, args: Value, journal: Option<String>) -> Self {
        Self { path, args, journal, told: None, stale: true }
    }

    /// What the client is told of an answer; nothing if it knows it.
    pub(super) fn tell(&mut self, result: QueryResult) -> Option<StateModification<Value>> {
        let QueryResult { id: query_id, result, logs, journal } = result;
        self.journal.clone_from(&journal);
        let hash = fingerprint(&result, &logs);
        if self.told.replace(hash) == Some(hash) {
            return None;
        }
        let log_lines = LogLinesMessage(logs);
        Some(match result {
            Ok(value) => StateModification::QueryUpdated { query_id, value, log_lines, journal },
            Err(Failure { message: error_message, data: error_data }) => {
                StateModification::QueryFailed { query_id, error_message, log_lines, journal, error_data }
            }
        })
    }

    /// What has to run, if it is stale; then it no longer is.
    pub(super) fn request(&mut self, id: QueryId, identity: Option<&Identity>) -> Option<QueryRequest> {
        std::mem::take(&mut self.stale).then(|| QueryRequest {
            id,
            path: self.path.clone(),
            args: self.args.clone(),
            journal: self.journal.clone(),
            identity: identity.cloned(),
            rerun: self.told.is_some(),
        })
    }
}

fn fingerprint(result: &Result<Value, Failure>, logs: &[String]) -> u64 {
    let mut bytes = Vec::new();
    let (value, message) = match result {
        Ok(value) => (Some(value), None),
        Err(failure) => (failure.data.as_ref(), Some(stable_message(&failure.message))),
    };
    encode(value, &mut bytes);
    let mut hasher = DefaultHasher::new();
    (bytes, message, logs).hash(&mut hasher);
    hasher.finish()
}

/// A failure's message without its request id, which is new at every run.
fn stable_message(message: &str) -> &str {
    message.split_once("] ").map_or(message, |(_, rest)| rest)
}
