//! What goes into the state machine of a connection and what comes out.

use convex::Value;
use convex_sync_types::{ClientMessage, QueryId, ServerMessage, SessionRequestSeqNumber};
use uuid::Uuid;

use crate::{
    auth::Identity,
    call::{ActionRun, Committed},
    error::{Failure, MutationError},
};

/// Choices that the protocol leaves open.
#[derive(Debug, Clone, Copy)]
pub struct SyncOptions {
    /// How often a mutation's response is followed by a Transition from before the mutation.
    pub stale_transition: f64,
    /// How often the Transition that covers a mutation comes before its response.
    pub early_transition: f64,
}

impl Default for SyncOptions {
    /// Mostly the usual order: response, then the Transition that covers it.
    fn default() -> Self {
        Self { stale_transition: 0.05, early_transition: 0.05 }
    }
}

/// The present, as the deployment sees it.
#[derive(Debug, Clone, Default)]
pub struct Present {
    /// The timestamp of the newest commit.
    pub last_ts: u64,
    /// The wall clock in nanoseconds since the Unix epoch.
    pub now: u64,
    /// The live queries of this connection whose read sets were written. They come with every event: a Transition to
    /// a timestamp has to show everything that was committed until then.
    pub invalidated: Vec<QueryId>,
}

/// What happens to a connection.
#[derive(Debug)]
pub enum Event {
    /// The client sent something.
    Message(Box<ClientMessage>),
    /// The client sent a text that is no message.
    Garbage(String),
    /// The client sent a binary frame.
    Binary,
    /// The running mutation is over.
    MutationDone(Result<Committed, MutationError>),
    /// An action is over.
    ActionDone {
        /// The client's number for it.
        request_id: SessionRequestSeqNumber,
        /// What it came to.
        run: ActionRun,
    },
    /// Something that a live query read was written; what, [`Present`] says.
    Invalidated,
    /// The queries that were asked for have run, all at `ts`.
    Computed {
        /// The snapshot that they read.
        ts: u64,
        /// What they answered.
        results: Vec<QueryResult>,
    },
    /// A Transition has left for the client.
    TransitionSent,
    /// Nothing was sent to the client for 15 s.
    Quiet,
    /// The identity's token has expired.
    IdentityExpired,
}

/// A query's answer.
#[derive(Debug, Clone)]
pub struct QueryResult {
    /// Which query.
    pub id: QueryId,
    /// Its answer.
    pub result: Result<Value, Failure>,
    /// What it logged.
    pub logs: Vec<String>,
    /// Where its page ended.
    pub journal: Option<String>,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Send a message.
    Send(ServerMessage<Value>),
    /// Run a mutation, then report [`Event::MutationDone`]. One at a time.
    Mutate(Mutation),
    /// Run an action, then report [`Event::ActionDone`]. Many at a time.
    Act(Invocation),
    /// Run these queries at once, at the present timestamp, and watch what they read; report [`Event::Computed`] then or
    /// later. One at a time.
    Compute(Vec<QueryRequest>),
    /// Stop watching what a query read.
    Forget(QueryId),
    /// Close the socket, with a code and a reason or without a close frame's content.
    Close(Option<(u16, &'static str)>),
}

/// A mutation to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Mutation {
    /// The client's number for it.
    pub request_id: SessionRequestSeqNumber,
    /// Under which key its answer is recorded.
    pub session: Option<Uuid>,
    /// `module:function`.
    pub path: String,
    /// Its arguments.
    pub args: Value,
    /// Who called, when the message came.
    pub identity: Option<Identity>,
}

/// An action to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The client's number for it.
    pub request_id: SessionRequestSeqNumber,
    /// `module:function`.
    pub path: String,
    /// Its arguments.
    pub args: Value,
    /// Who called, when the message came.
    pub identity: Option<Identity>,
}

/// A query to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryRequest {
    /// Which query.
    pub id: QueryId,
    /// `module:function`.
    pub path: String,
    /// Its arguments.
    pub args: Value,
    /// Where its page ended when it last ran.
    pub journal: Option<String>,
    /// Who asks.
    pub identity: Option<Identity>,
    /// Whether it ran on this connection before.
    pub rerun: bool,
}
