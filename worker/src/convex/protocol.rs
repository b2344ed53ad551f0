//! The sync protocol's client side: frames in, frames and results out. No I/O.
//!
//! The state machine is the official crate's `BaseConvexClient`. What the crate leaves to its transport is here:
//! the `Connect` message with **one session id for the client's whole life**, so that the backend recognises a
//! resent mutation and answers from its record instead of running it again, and the handling of answers that
//! arrive twice.

mod unanswered;

use std::{collections::BTreeMap, time::Duration};

use convex::{
    FunctionResult, Value,
    base_client::{BaseConvexClient, SubscriberId},
};
use convex_sync_types::{ClientMessage, ServerMessage, SessionId, UdfPath};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use self::unanswered::Unanswered;
use super::values::{Args, refusal};
use crate::{config::redact, error::CallError};

/// What a subscription shows: nothing yet, or the latest result.
pub(super) type Latest = Option<Result<Value, CallError>>;

/// An answer to a resent mutation whose first answer had already been accepted. The crate reports it as an error;
/// its state is untouched and the connection is fine.
const ANSWERED_TWICE: &str = "Invalid request id from server";
/// A server that owes answers and gives none for this long does not hear us, though we may hear its pings: a query
/// set is answered within seconds, and a mutation may take 16 s at most (1 s of its own code, 15 s of the database's).
/// On a slow line the answer, or what stands before it, comes in pieces: it counts from the last of them.
const OVERDUE: Duration = Duration::from_secs(30);

/// One client: outlives its connections.
pub(super) struct Protocol {
    client: BaseConvexClient,
    session_id: Uuid,
    connections: u32,
    last_close_reason: String,
    /// Of the present connection.
    unanswered: Unanswered,
    /// Whether a mutation was answered whose effect no Transition has shown since: its caller waits until then.
    unseen: bool,
    subscriptions: BTreeMap<SubscriberId, Watcher>,
}

struct Watcher {
    path: &'static str,
    latest: watch::Sender<Latest>,
}

impl Protocol {
    pub(super) fn new(session_id: Uuid) -> Self {
        Self {
            client: BaseConvexClient::new(),
            session_id,
            connections: 0,
            last_close_reason: "InitialConnect".to_owned(),
            unanswered: Unanswered::default(),
            unseen: false,
            subscriptions: BTreeMap::new(),
        }
    }

    /// A new connection stands: the frames that must be sent first. `now_ms` is the wall clock, `now` a duration since
    /// any fixed point, as everywhere below.
    pub(super) async fn connected(&mut self, now_ms: u64, now: Duration) -> Vec<String> {
        let connect = ClientMessage::Connect {
            session_id: SessionId::new(self.session_id),
            connection_count: self.connections,
            last_close_reason: self.last_close_reason.clone(),
            max_observed_timestamp: self.client.max_observed_timestamp(),
            client_ts: Some(now_ms),
        };
        if self.connections > 0 {
            self.client.resend_ongoing_queries_mutations().await;
        }
        self.connections += 1;
        self.unanswered = Unanswered::default();
        let mut frames = vec![encode(connect)];
        frames.extend(self.outgoing(now));
        frames
    }

    /// The connection ended.
    pub(super) fn disconnected(&mut self, reason: String) {
        self.last_close_reason = reason;
    }

    /// The frames that wait to be sent.
    pub(super) fn outgoing(&mut self, now: Duration) -> Vec<String> {
        let messages = std::iter::from_fn(|| self.client.pop_next_message());
        messages.inspect(|message| self.unanswered.sent(message, now)).map(encode).collect()
    }

    /// Returns when the connection must be given up unless an answer arrives before. `under_way` is the moment of the
    /// last byte of a message that is not whole. What is unanswered then is sent again on the next connection, under the
    /// same request ids, so that nothing runs twice.
    pub(super) fn gives_up_at(&self, under_way: Option<Duration>) -> Option<Duration> {
        self.unanswered.since().map(|since| under_way.map_or(since, |last| last.max(since)) + OVERDUE)
    }

    /// Starts a mutation. The answer outlives connections.
    pub(super) fn mutate(&mut self, path: &'static str, args: Args) -> oneshot::Receiver<FunctionResult> {
        self.client.mutation(udf_path(path), args)
    }

    /// Adds a subscription; its owner ends it by dropping all receivers of `latest`. An abandoned one of the same query
    /// ends first: the new one asks the server, instead of being shown what the old one has seen last.
    pub(super) fn subscribe(&mut self, path: &'static str, args: Args, latest: watch::Sender<Latest>) {
        self.drop_abandoned();
        let id = self.client.subscribe(udf_path(path), args);
        self.subscriptions.insert(id, Watcher { path, latest });
    }

    /// Ends the subscriptions that nobody looks at any more.
    pub(super) fn drop_abandoned(&mut self) {
        let client = &mut self.client;
        self.subscriptions.retain(|id, watcher| {
            let wanted = !watcher.latest.is_closed();
            if !wanted {
                client.unsubscribe(*id);
            }
            wanted
        });
    }

    /// Takes in a frame. `Err` says why the connection must be given up. `Ok(true)`: there was progress, which is a
    /// mutation that is over or a result that differs. The answer to the query set is none: every connection gets it.
    pub(super) fn receive(&mut self, frame: &str, now: Duration) -> Result<bool, String> {
        let message: ServerMessage<Value> = serde_json::from_str::<serde_json::Value>(frame)
            .map_err(|error| format!("MalformedFrame: {error}"))
            .and_then(|json| {
                ServerMessage::try_from(json).map_err(|error| format!("MalformedFrame: {error}"))
            })?;
        let is_mutation = matches!(message, ServerMessage::MutationResponse { .. });
        self.unseen |= self.unanswered.received(&message, now) && is_mutation;
        match self.client.receive_message(message) {
            Ok(Some(results)) => {
                let results = self.subscriptions.iter().filter_map(|(id, to)| Some((to, results.get(id)?)));
                let is_over = std::mem::take(&mut self.unseen);
                Ok(results.fold(is_over, |progress, (watcher, result)| publish(watcher, result) || progress))
            }
            Ok(None) => Ok(false),
            Err(reason) if reason == ANSWERED_TWICE => Ok(false),
            Err(reason) => Err(reason),
        }
    }
}

/// Wakes the subscription's owner if the result changed, and says whether it did.
fn publish(watcher: &Watcher, result: &FunctionResult) -> bool {
    watcher.latest.send_if_modified(|latest| {
        let result = Some(outcome(watcher.path, result.clone()));
        let changed = *latest != result;
        if changed {
            *latest = result;
        }
        changed
    })
}

/// A function's result as the worker sees it.
pub(super) fn outcome(path: &'static str, result: FunctionResult) -> Result<Value, CallError> {
    match result {
        FunctionResult::Value(value) => Ok(value),
        // A deployment of another version shows what it was called with.
        FunctionResult::ErrorMessage(message) => Err(CallError::Failed { path, message: redact(&message) }),
        FunctionResult::ConvexError(error) => Err(refusal(path, error)),
    }
}

fn udf_path(path: &'static str) -> UdfPath {
    path.parse().expect("function paths are constants of this crate")
}

fn encode(message: ClientMessage) -> String {
    serde_json::Value::try_from(message).expect("the crate's own messages serialise").to_string()
}

#[cfg(test)]
mod tests;
