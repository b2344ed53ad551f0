//! The sync protocol of one connection: events in, actions out. Holds no clock, no socket and no store. It follows
//! `crates/sync/src/{worker,state}.rs` of <https://github.com/get-convex/convex-backend>, and what its clients were recorded
//! to say (`sim/conformance/recordings`).
//!
//! Every update ends in a Transition, even an empty one; all queries of a Transition were run at its end timestamp; a
//! query whose result did not change is left out. Mutations run one at a time, in order of arrival; actions beside them
//! and each other.

use std::collections::{BTreeMap, VecDeque};

use convex::Value;
use convex_sync_types::{
    AuthenticationToken, ClientMessage, LogLinesMessage, QueryId, ServerMessage, SessionRequestSeqNumber,
    StateModification, StateVersion, Timestamp,
    types::{ErrorPayload, SerializedArgs},
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use super::{
    auth::{self, Identity},
    call::{ActionRun, Committed},
    error::{Failure, MutationError},
    limits,
};

mod events;
mod live_query;
mod query_set;

#[cfg(test)]
mod tests;

pub use self::events::{
    Action, Event, Invocation, Mutation, Present, QueryRequest, QueryResult, SyncOptions,
};
use self::live_query::LiveQuery;

/// Transitions that may wait to be sent before no further one is computed.
const UNSENT_TRANSITIONS: usize = 2;

/// What the Transition that is being computed will cover.
#[derive(Debug)]
struct Computing {
    query_set: u32,
    identity: u32,
    removed: Vec<QueryId>,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    options: SyncOptions,
    random: ChaCha8Rng,
    session: Option<Uuid>,
    clock_skew: Option<i64>,
    /// What the client has been brought to by Transitions.
    version: StateVersion,
    query_set: u32,
    identity_version: u32,
    identity: Option<Identity>,
    queries: BTreeMap<u32, LiveQuery>,
    removed: Vec<QueryId>,
    mutations: VecDeque<Mutation>,
    running: Option<SessionRequestSeqNumber>,
    /// Actions that run.
    acting: usize,
    /// Responses that wait for the Transition that covers them.
    held: Vec<(u64, ServerMessage<Value>)>,
    update: bool,
    computing: Option<Computing>,
    unsent: usize,
    closed: bool,
    actions: Vec<Action>,
}

impl Connection {
    /// A new connection. `random` decides between the orders that the protocol allows.
    pub fn new(options: SyncOptions, random: ChaCha8Rng) -> Self {
        Self {
            options,
            random,
            session: None,
            clock_skew: None,
            version: StateVersion::initial(),
            query_set: 0,
            identity_version: 0,
            identity: None,
            queries: BTreeMap::new(),
            removed: Vec::new(),
            mutations: VecDeque::new(),
            running: None,
            acting: 0,
            held: Vec::new(),
            update: false,
            computing: None,
            unsent: 0,
            closed: false,
            actions: Vec::new(),
        }
    }

    /// The client's session, once it said `Connect`.
    pub fn session(&self) -> Option<Uuid> {
        self.session
    }

    /// When the identity's token expires, in seconds since the Unix epoch.
    pub fn expires_at(&self) -> Option<u64> {
        self.identity.as_ref()?.expires_at
    }

    /// Takes an event and says what is to be done, in order. After a close nothing is.
    pub fn handle(&mut self, event: Event, present: &Present) -> Vec<Action> {
        if self.closed {
            return Vec::new();
        }
        present.invalidated.iter().for_each(|id| self.invalidated(*id));
        match event {
            Event::Message(message) => self.message(*message, present),
            Event::Garbage(why) => self.fatal(format!("Received Invalid JSON on websocket: {why}")),
            Event::Binary => self.internal_error(),
            Event::MutationDone(outcome) => self.mutation_done(outcome),
            Event::ActionDone { request_id, run } => self.action_done(request_id, run),
            Event::Invalidated => {}
            Event::Computed { ts, results } => self.computed(ts, results, present),
            Event::TransitionSent => self.unsent = self.unsent.saturating_sub(1),
            Event::Quiet => self.send(ServerMessage::Ping),
            Event::IdentityExpired => self.auth_error("Token expired".into(), false),
        }
        self.pump();
        std::mem::take(&mut self.actions)
    }

    fn message(&mut self, message: ClientMessage, present: &Present) {
        if self.session.is_none() && !matches!(message, ClientMessage::Connect { .. }) {
            return self.internal_error();
        }
        match message {
            ClientMessage::Connect { session_id, max_observed_timestamp, client_ts, .. } => {
                self.connect(session_id.into(), max_observed_timestamp, client_ts, present);
            }
            ClientMessage::ModifyQuerySet { base_version, new_version, modifications } => {
                self.modify_query_set(base_version, new_version, modifications);
            }
            ClientMessage::Mutation { component_path: Some(_), .. }
            | ClientMessage::Action { component_path: Some(_), .. } => self.internal_error(),
            ClientMessage::Mutation { request_id, udf_path, args, component_path: None } => {
                self.mutation(request_id, String::from(udf_path), &args);
            }
            ClientMessage::Action { request_id, udf_path, args, component_path: None } => {
                self.action(request_id, String::from(udf_path), &args);
            }
            ClientMessage::Authenticate { base_version, token } => {
                self.authenticate(base_version, token, present)
            }
            ClientMessage::Event(_) => {}
        }
    }

    fn connect(
        &mut self,
        session: Uuid,
        observed: Option<Timestamp>,
        client_ts: Option<u64>,
        present: &Present,
    ) {
        if self.session.is_some() || observed.is_some_and(|ts| u64::from(ts) > present.last_ts) {
            return self.internal_error();
        }
        self.session = Some(session);
        self.clock_skew = client_ts.map(|client| client as i64 - (present.now / 1_000_000) as i64);
    }

    fn parse_args(&mut self, args: &SerializedArgs) -> Option<Value> {
        match parse_args(args.get()) {
            Ok(args) => Some(args),
            Err(why) => {
                self.fatal(format!("Received Invalid JSON on websocket: {why}"));
                None
            }
        }
    }

    fn mutation(&mut self, request_id: SessionRequestSeqNumber, path: String, args: &SerializedArgs) {
        if self.mutations.len() >= limits::QUEUED_MUTATIONS {
            return self.close(Some((1013, "TooManyConcurrentMutations")));
        }
        let Some(args) = self.parse_args(args) else { return };
        let identity = self.identity.clone();
        self.mutations.push_back(Mutation { request_id, session: self.session, path, args, identity });
    }

    fn mutation_done(&mut self, outcome: Result<Committed, MutationError>) {
        let request_id = self.running.take().expect("a mutation that is over was running");
        let (result, ts, logs) = match outcome {
            Ok(Committed { value, ts, logs }) => (Ok(value), Some(ts), logs),
            Err(MutationError::Failed(failure, logs)) => (Err(payload(failure)), None, logs),
            Err(MutationError::Conflict) => {
                return self.close(Some((1013, "OptimisticConcurrencyControlFailure")));
            }
        };
        let log_lines = LogLinesMessage(logs);
        let response =
            ServerMessage::MutationResponse { request_id, result, ts: ts.map(timestamp), log_lines };
        self.update = true;
        let choice: f64 = self.random.random();
        match ts {
            Some(ts) if choice < self.options.early_transition => self.held.push((ts, response)),
            Some(ts) => {
                self.release_held();
                self.send(response);
                let stale = choice < self.options.early_transition + self.options.stale_transition;
                if stale
                    && self.computing.is_none()
                    && self.version.ts > Timestamp::MIN
                    && self.version.ts < timestamp(ts)
                {
                    self.transition(self.version, Vec::new(), None);
                }
            }
            None => {
                self.release_held();
                self.send(response);
            }
        }
    }

    /// Actions do not wait for each other, nor for mutations.
    fn action(&mut self, request_id: SessionRequestSeqNumber, path: String, args: &SerializedArgs) {
        if self.acting >= limits::RUNNING_ACTIONS {
            return self.close(Some((1013, "TooManyInflightActionsForSingleClient")));
        }
        let Some(args) = self.parse_args(args) else { return };
        self.acting += 1;
        let identity = self.identity.clone();
        self.actions.push(Action::Act(Invocation { request_id, path, args, identity }));
    }

    fn action_done(&mut self, request_id: SessionRequestSeqNumber, run: ActionRun) {
        self.acting -= 1;
        let ActionRun { result, logs } = run;
        let (result, log_lines) = (result.map_err(payload), LogLinesMessage(logs));
        self.send(ServerMessage::ActionResponse { request_id, result, log_lines });
        self.update = true;
    }

    fn authenticate(&mut self, base: u32, token: AuthenticationToken, present: &Present) {
        if base != self.identity_version {
            return self.internal_error();
        }
        let identity = match token {
            AuthenticationToken::None => Ok(None),
            AuthenticationToken::User(token) => auth::decode(&token, present.now).map(Some),
            AuthenticationToken::Admin(..) => Err("the simulator does not model admin keys".into()),
        };
        match identity {
            Ok(identity) => {
                self.identity = identity;
                self.identity_version += 1;
                self.queries.values_mut().for_each(|query| query.stale = true);
                self.update = true;
            }
            Err(why) => self.auth_error(why, true),
        }
    }

    fn computed(&mut self, ts: u64, results: Vec<QueryResult>, present: &Present) {
        let computing = self.computing.take().expect("what was computed was asked for");
        let removed =
            computing.removed.into_iter().map(|query_id| StateModification::QueryRemoved { query_id });
        let mut modifications: Vec<_> = removed.collect();
        modifications.extend(results.into_iter().filter_map(|result| self.modification(result)));
        let end = StateVersion {
            query_set: computing.query_set,
            identity: computing.identity,
            ts: timestamp(ts).max(self.version.ts),
        };
        self.transition(end, modifications, Some(present.now));
        let covered = self.held.iter().take_while(|(committed, _)| *committed <= ts).count();
        if covered > 0 {
            let responses: Vec<_> = self.held.drain(..covered).collect();
            responses.into_iter().for_each(|(_, response)| self.send(response));
            self.update = true;
        }
    }

    fn transition(
        &mut self,
        end_version: StateVersion,
        modifications: Vec<StateModification<Value>>,
        now: Option<u64>,
    ) {
        let start_version = std::mem::replace(&mut self.version, end_version);
        self.unsent += 1;
        self.send(ServerMessage::Transition {
            start_version,
            end_version,
            modifications,
            client_clock_skew: self.clock_skew,
            server_ts: now.map(timestamp),
        });
    }

    /// Starts what can be started: the next mutation, the next Transition.
    fn pump(&mut self) {
        if self.closed {
            return;
        }
        if self.running.is_none()
            && let Some(mutation) = self.mutations.pop_front()
        {
            self.running = Some(mutation.request_id);
            self.actions.push(Action::Mutate(mutation));
        }
        if self.update && self.computing.is_none() && self.unsent < UNSENT_TRANSITIONS {
            self.update = false;
            let removed = std::mem::take(&mut self.removed);
            self.computing =
                Some(Computing { query_set: self.query_set, identity: self.identity_version, removed });
            let requests = self.stale_queries();
            self.actions.push(Action::Compute(requests));
        }
    }

    fn release_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        held.into_iter().for_each(|(_, response)| self.send(response));
    }

    fn auth_error(&mut self, error_message: String, attempted: bool) {
        let base_version = Some(self.version.identity);
        self.send(ServerMessage::AuthError {
            error_message,
            base_version,
            auth_update_attempted: Some(attempted),
        });
        self.close(None);
    }

    fn fatal(&mut self, error_message: String) {
        self.send(ServerMessage::FatalError { error_message });
        self.close(None);
    }

    fn internal_error(&mut self) {
        self.close(Some((1011, "InternalServerError")));
    }

    fn close(&mut self, frame: Option<(u16, &'static str)>) {
        self.closed = true;
        self.actions.push(Action::Close(frame));
    }

    fn send(&mut self, message: ServerMessage<Value>) {
        self.actions.push(Action::Send(message));
    }
}

/// Arguments are a JSON array with one object.
pub fn parse_args(json: &str) -> Result<Value, String> {
    let parsed: serde_json::Value = serde_json::from_str(json).map_err(|why| why.to_string())?;
    let value = match parsed {
        serde_json::Value::Array(mut items) if items.len() <= 1 => {
            items.pop().unwrap_or_else(|| serde_json::json!({}))
        }
        other => return Err(format!("arguments are an array with one object, not {other}")),
    };
    Value::try_from(value).map_err(|why| why.to_string())
}

fn payload(failure: Failure) -> ErrorPayload<Value> {
    match failure {
        Failure { message, data: Some(data) } => ErrorPayload::ErrorData { message, data },
        Failure { message, data: None } => ErrorPayload::Message(message),
    }
}

fn timestamp(ts: u64) -> Timestamp {
    Timestamp::try_from(ts).expect("the simulation ends before the year 2262")
}
