//! A client and its connection, with everything between them in the test's hands.

use std::rc::Rc;

use ::convex::base_client::{BaseConvexClient, FunctionResult, SubscriberId};
use convex_sync_types::SessionId;
use rand::SeedableRng;
use tokio::sync::{Notify, oneshot};

use super::super::*;
use crate::{
    Convex,
    call::Call,
    subscriptions::{Subscription, take_invalid},
    tests::{START, field, fixture::item},
};

pub(super) enum Todo {
    Mutate(Mutation),
    Act(Invocation),
    Deliver(u64, Vec<QueryResult>),
}

/// A client and its connection, with everything between them in the test's hands.
pub(super) struct Link {
    pub(super) convex: Convex,
    pub(super) client: BaseConvexClient,
    pub(super) session: Uuid,
    pub(super) connects: u32,
    pub(super) connection: Connection,
    pub(super) subscriptions: BTreeMap<u32, Subscription>,
    pub(super) wake: Rc<Notify>,
    pub(super) to_client: VecDeque<ServerMessage<Value>>,
    /// What the connection asked for and nobody has done yet.
    pub(super) todo: VecDeque<Todo>,
    pub(super) closed: Option<Option<(u16, &'static str)>>,
    /// Everything that the client was sent, in short.
    pub(super) log: Vec<String>,
    /// What `items:names` answers at each timestamp at which something was committed.
    pub(super) history: BTreeMap<u64, Vec<Value>>,
    /// The queries that ran, by number, in order.
    pub(super) ran: Vec<u32>,
    /// The timestamp that the client has been brought to.
    pub(super) shown: u64,
}

impl Link {
    pub(super) async fn new(convex: Convex, sync: SyncOptions) -> Self {
        let mut link = Self {
            convex,
            client: BaseConvexClient::new(),
            session: Uuid::from_u128(7),
            connects: 0,
            connection: Connection::new(sync, ChaCha8Rng::seed_from_u64(1)),
            subscriptions: BTreeMap::new(),
            wake: Rc::default(),
            to_client: VecDeque::new(),
            todo: VecDeque::new(),
            closed: None,
            log: Vec::new(),
            history: BTreeMap::from([(0, Vec::new())]),
            ran: Vec::new(),
            shown: 0,
        };
        link.connect(sync).await;
        link
    }

    /// Opens a new connection in place of the old one, as a transport with a constant session does.
    pub(super) async fn connect(&mut self, sync: SyncOptions) {
        self.connection = Connection::new(sync, ChaCha8Rng::seed_from_u64(u64::from(self.connects)));
        self.subscriptions.clear();
        self.to_client.clear();
        self.todo.clear();
        self.closed = None;
        self.message(ClientMessage::Connect {
            session_id: SessionId::new(self.session),
            connection_count: self.connects,
            last_close_reason: "test".into(),
            max_observed_timestamp: self.client.max_observed_timestamp(),
            client_ts: Some(START / 1_000_000),
        });
        if self.connects > 0 {
            self.client.resend_ongoing_queries_mutations().await;
        }
        self.connects += 1;
    }

    pub(super) fn message(&mut self, message: ClientMessage) {
        let json = serde_json::Value::try_from(message).unwrap();
        self.event(said(ClientMessage::try_from(json).unwrap()));
    }

    pub(super) fn event(&mut self, event: Event) {
        let invalidated = take_invalid(&mut self.subscriptions);
        let actions = self.connection.handle(event, &Present { invalidated, ..self.convex.present() });
        for action in actions {
            match action {
                Action::Send(message) => self.to_client.push_back(message),
                Action::Close(frame) => self.closed = Some(frame),
                Action::Forget(id) => drop(self.subscriptions.remove(&id.get_id())),
                Action::Mutate(mutation) => self.todo.push_back(Todo::Mutate(mutation)),
                Action::Act(action) => self.todo.push_back(Todo::Act(action)),
                Action::Compute(requests) => {
                    let (ts, results) = self.compute(requests);
                    self.todo.push_back(Todo::Deliver(ts, results));
                }
            }
        }
    }

    /// Hands the client's next message to the server.
    pub(super) fn send_one(&mut self) -> bool {
        let message = self.client.pop_next_message();
        message.map(|message| self.message(message)).is_some()
    }

    /// Hands the server's next message to the client. That a request was answered already is no error: after a
    /// reconnect the client's library sends again what may have arrived.
    pub(super) fn receive_one(&mut self) -> bool {
        let Some(message) = self.to_client.pop_front() else { return false };
        let is_transition = matches!(message, ServerMessage::Transition { .. });
        if let ServerMessage::Transition { end_version, .. } = &message {
            self.shown = end_version.ts.into();
        }
        self.log.push(short(&message));
        match self.client.receive_message(message) {
            Ok(_) => {}
            Err(why) if why == "Invalid request id from server" => {}
            Err(why) => panic!("{why}; {:?}", self.log),
        }
        if is_transition {
            self.event(Event::TransitionSent);
        }
        true
    }

    /// Does the next thing that the connection asked for.
    pub(super) async fn work_one(&mut self) -> bool {
        match self.todo.pop_front() {
            None => return false,
            Some(Todo::Mutate(mutation)) => {
                let outcome = self.execute(mutation).await;
                let names = self.convex.table("items").iter().map(|item| field(item, "name")).collect();
                self.history.insert(self.convex.present().last_ts, names);
                self.event(Event::MutationDone(outcome));
            }
            Some(Todo::Act(Invocation { request_id, path, args, identity })) => {
                let call = Call { path, args, identity, caller: "test".into(), public: true };
                let run = self.convex.run_action(&call).await;
                self.event(Event::ActionDone { request_id, run });
            }
            Some(Todo::Deliver(ts, results)) => self.event(Event::Computed { ts, results }),
        }
        true
    }

    pub(super) async fn execute(&self, mutation: Mutation) -> Result<Committed, MutationError> {
        let Mutation { request_id, session, path, args, identity } = mutation;
        let call = Call { path, args, identity, caller: "test".into(), public: true };
        self.convex.run_mutation(&call, session.map(|session| (session, request_id)), None).await
    }

    pub(super) fn compute(&mut self, requests: Vec<QueryRequest>) -> (u64, Vec<QueryResult>) {
        let results =
            requests.into_iter().map(|QueryRequest { id, path, args, journal, identity, rerun }| {
                let call = Call { path, args, identity, caller: "test".into(), public: true };
                let run = self.convex.run_query(&call, journal, rerun);
                let subscription = Subscription::new(&self.convex.0.subscriptions, run.reads, &self.wake);
                self.subscriptions.insert(id.get_id(), subscription);
                QueryResult { id, result: run.result, logs: run.logs, journal: run.journal }
            });
        let results: Vec<QueryResult> = results.collect();
        self.ran.extend(results.iter().map(|result| result.id.get_id()));
        (self.convex.present().last_ts, results)
    }

    pub(super) fn notice_invalidations(&mut self) -> bool {
        let any = self.subscriptions.values().any(Subscription::is_invalid);
        if any {
            self.event(Event::Invalidated);
        }
        any
    }

    pub(super) async fn settle(&mut self) {
        while self.send_one() || self.work_one().await || self.notice_invalidations() || self.receive_one() {}
    }

    pub(super) fn subscribe(&mut self, path: &str) -> SubscriberId {
        self.client.subscribe(path.parse().unwrap(), BTreeMap::new())
    }

    pub(super) fn add(&mut self, name: &str) -> oneshot::Receiver<FunctionResult> {
        self.client.mutation("items:add".parse().unwrap(), item(name, 1.0, None))
    }

    pub(super) fn act(&mut self, path: &str) -> oneshot::Receiver<FunctionResult> {
        self.client.action(path.parse().unwrap(), BTreeMap::new())
    }

    pub(super) fn latest(&self, subscriber: &SubscriberId) -> Option<Value> {
        match self.client.latest_results().get(subscriber) {
            Some(FunctionResult::Value(value)) => Some(value.clone()),
            _ => None,
        }
    }

    pub(super) fn take_log(&mut self) -> String {
        std::mem::take(&mut self.log).join("\n")
    }
}

pub(super) fn said(message: ClientMessage) -> Event {
    Event::Message(Box::new(message))
}

/// A message in one line; timestamps are left out.
pub(super) fn short(message: &ServerMessage<Value>) -> String {
    match message {
        ServerMessage::Transition { start_version, end_version, modifications, .. } => {
            let moved = if start_version.ts == end_version.ts { "same ts" } else { "later ts" };
            let set = (start_version.query_set, end_version.query_set);
            let modified: Vec<_> = modifications.iter().map(modified).collect();
            format!("Transition {}→{} {moved} {}", set.0, set.1, modified.join(" "))
        }
        ServerMessage::MutationResponse { request_id, result, .. } => {
            format!("MutationResponse {request_id} {}", if result.is_ok() { "ok" } else { "failed" })
        }
        ServerMessage::ActionResponse { request_id, result, .. } => {
            format!("ActionResponse {request_id} {}", if result.is_ok() { "ok" } else { "failed" })
        }
        other => serde_json::Value::from(other.clone()).to_string(),
    }
}

fn modified(modification: &StateModification<Value>) -> String {
    match modification {
        StateModification::QueryUpdated { query_id, value, .. } => format!("{query_id}={value:?}"),
        StateModification::QueryFailed { query_id, .. } => format!("{query_id} failed"),
        StateModification::QueryRemoved { query_id } => format!("{query_id} removed"),
    }
}
