//! The live queries of a connection: which there are, which have to run, and what the client knows of them.

use convex::Value;
use convex_sync_types::{Query, QueryId, QuerySetModification, StateModification};

use super::{
    Connection,
    events::{Action, QueryRequest, QueryResult},
    live_query::LiveQuery,
};

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
        self.queries.insert(id, LiveQuery::new(path, args, query.journal.flatten()));
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
        self.queries.get_mut(&result.id.get_id())?.tell(result)
    }

    pub(super) fn stale_queries(&mut self) -> Vec<QueryRequest> {
        let queries = self.queries.iter_mut();
        queries.filter_map(|(id, query)| query.request(QueryId::new(*id), self.identity.as_ref())).collect()
    }
}
