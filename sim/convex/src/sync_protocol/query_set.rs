//! The live queries of a connection: which there are, which have to run, and what the client knows of them.

use std::hash::{DefaultHasher, Hash, Hasher};

use convex::Value;
use convex_sync_types::{LogLinesMessage, Query, QueryId, QuerySetModification, StateModification};

use super::{Action, Connection, QueryRequest, QueryResult};
use crate::{encoding::encode, executor::Failure};

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

impl Connection {
    pub(super) fn modify_query_set(&mut self, base: u32, new: u32, modifications: Vec<QuerySetModification>) {
        if base != self.query_set {
            let current = self.query_set;
            return self
                .fatal(format!("Base version {base} passed up doesn't match the current version {current}"));
        }
        if new <= base {
            return self.internal_error();
        }
        for modification in modifications {
            let done = match modification {
                QuerySetModification::Add(query) => self.add(query),
                QuerySetModification::Remove { query_id } => self.remove(query_id),
            };
            if done.is_none() {
                return;
            }
        }
        self.query_set = new;
        self.update = true;
    }

    fn add(&mut self, query: Query) -> Option<()> {
        let id = query.query_id.get_id();
        if self.queries.contains_key(&id) || query.component_path.is_some() {
            self.internal_error();
            return None;
        }
        let args = self.parse_args(&query.args)?;
        let path = String::from(query.udf_path);
        let live = LiveQuery { path, args, journal: query.journal.flatten(), told: None, stale: true };
        self.queries.insert(id, live);
        Some(())
    }

    fn remove(&mut self, id: QueryId) -> Option<()> {
        if self.queries.remove(&id.get_id()).is_none() {
            self.internal_error();
            return None;
        }
        self.removed.push(id);
        self.actions.push(Action::Forget(id));
        Some(())
    }

    pub(super) fn invalidated(&mut self, id: QueryId) {
        if let Some(query) = self.queries.get_mut(&id.get_id()) {
            query.stale = true;
            self.update = true;
        }
    }

    /// What the client is told of an answer; nothing if it knows it, or removed the query meanwhile.
    pub(super) fn modification(&mut self, result: QueryResult) -> Option<StateModification<Value>> {
        let QueryResult { id: query_id, result, logs, journal } = result;
        let query = self.queries.get_mut(&query_id.get_id())?;
        query.journal.clone_from(&journal);
        let hash = fingerprint(&result, &logs);
        if query.told.replace(hash) == Some(hash) {
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

    pub(super) fn stale_queries(&mut self) -> Vec<QueryRequest> {
        let identity = &self.identity;
        let stale = self
            .queries
            .iter_mut()
            .filter_map(|(id, query)| std::mem::take(&mut query.stale).then_some((id, query)));
        let requests = stale.map(|(id, query)| QueryRequest {
            id: QueryId::new(*id),
            path: query.path.clone(),
            args: query.args.clone(),
            journal: query.journal.clone(),
            identity: identity.clone(),
            rerun: query.told.is_some(),
        });
        requests.collect()
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
