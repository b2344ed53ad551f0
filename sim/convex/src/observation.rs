//! What the deployment tells its observer: every execution, every commit, every connection.

use convex::Value;
use uuid::Uuid;

use super::{kind::Kind, store::Write, transaction::Usage};

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Ok,
    /// With a `ConvexError`; its data's `code` if it has one, else the data's text.
    ConvexError(String),
    /// With any other error; its message.
    Error(String),
}

/// Something that happened.
#[derive(Debug)]
pub enum Observation<'a> {
    /// A client's mutation came in. It runs when those that it sent before are done.
    Received {
        /// The peer's name.
        caller: &'a str,
        /// `module:function`.
        path: &'a str,
        /// The arguments as they came: a JSON array with one object.
        args: &'a str,
    },
    /// A function ran to its end (for a mutation: was committed, or failed for good).
    Executed {
        /// The peer's name, or `scheduler` or `cron`.
        caller: &'a str,
        /// What it is.
        kind: Kind,
        /// `module:function`.
        path: &'a str,
        /// With which arguments.
        args: &'a Value,
        /// How it ended.
        outcome: Outcome,
        /// What its last attempt cost.
        usage: Usage,
        /// How often it ran: more than once only after conflicts.
        attempts: u32,
        /// Whether a subscription ran it again.
        rerun: bool,
        /// Whether the answer is that of an earlier execution of the same request.
        replayed: bool,
        /// The size of its result.
        result_bytes: usize,
    },
    /// A transaction wrote.
    Committed {
        /// When, in nanoseconds since the Unix epoch.
        ts: u64,
        /// What.
        writes: &'a [Write],
    },
    /// A client said `Connect`.
    Connected {
        /// The peer's name.
        caller: &'a str,
        /// The client's session.
        session_id: Uuid,
        /// How often that client connected before.
        connection_count: u32,
    },
    /// A WebSocket ended.
    Disconnected {
        /// The peer's name.
        caller: &'a str,
        /// The client's session, if it said `Connect`.
        session_id: Option<Uuid>,
        /// Bytes of messages that came in.
        bytes_received: u64,
        /// Bytes of messages that went out.
        bytes_sent: u64,
    },
}
