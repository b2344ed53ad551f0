//! The vocabulary of facts: a closed set, so that every oracle and report handles all of it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{digest::Digest, name::Name};
use crate::fault::kind::FaultKind;

/// The states of a turn: `pending → claimed → completed | failed | expired`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TurnState {
    /// Sent, and not taken by a worker.
    Pending,
    /// Taken by a worker; only such a turn may be prompted.
    Claimed,
    /// Answered in full.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended because no worker answered it in time, or the worker that had claimed it was restarted.
    Expired,
}

impl TurnState {
    /// The state by its name in the database.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "pending" => Self::Pending,
            "claimed" => Self::Claimed,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "expired" => Self::Expired,
            _ => return None,
        })
    }

    /// Whether the turn is over, for ever.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Expired)
    }
}

/// How a reply in OpenCode ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReplyOutcome {
    /// In full.
    Finished,
    /// With an error of the model.
    Failed,
    /// Stopped on request.
    Aborted,
    /// The server died.
    Lost,
}

/// Who called a backend function.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    /// A worker, by its name.
    Worker(Name),
    /// A person.
    Person,
    /// A cron or a scheduled function.
    Scheduler,
    /// Someone without credentials.
    Unknown,
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Work under faults: nothing forbidden may happen.
    Safety,
    /// Faults have stopped: everything must come to its end within the bound.
    Liveness,
    /// The workers are asked to end.
    Closing,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// As asked.
    Stopped,
    /// With an error.
    Failed(String),
}

/// What can happen. Workers go by their host's name (`worker-N`), all else by the identifier that it has in its store.
#[expect(
    missing_docs,
    reason = "fields that the variant does not explain are identifiers of what they are named after"
)]
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    // ── People ──
    /// A message was stored: a new turn. `created` is Unix time in ms, as the database has it.
    Sent { turn: Name, session: Name, worker: Name, created: f64, text: Name },
    /// A person ended a session.
    PersonEnded { session: Name },
    /// A worker's owner asked it to connect: to start OpenCode and publish its models.
    ConnectAsked { worker: Name },

    // ── The database, from commits ──
    /// A worker registered: a new incarnation. Turns created before `stale_before` (Unix ms) are stale for it.
    EpochBegan { worker: Name, epoch: u64, stale_before: f64 },
    /// The worker has reported that it is ready.
    Ready { worker: Name, epoch: u64 },
    /// The worker has reported that it is gone.
    Offline { worker: Name },
    /// A turn changed its state. `chunks` is the length of the reply, known once it has ended.
    TurnChanged {
        turn: Name,
        session: Name,
        worker: Name,
        from: TurnState,
        to: TurnState,
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        chunks: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Name>,
    },
    /// A part of a reply was stored. `total` digests the reply up to and with this part.
    ChunkWritten { turn: Name, sequence: u64, bytes: u64, total: Digest },
    /// A session was linked with its OpenCode session.
    SessionLinked { session: Name, opencode_session: Name },
    /// A session as it is now: its link and its title.
    SessionIs {
        session: Name,
        worker: Name,
        #[serde(skip_serializing_if = "Option::is_none")]
        opencode_session: Option<Name>,
        title: Name,
    },
    /// A backend function ran to its end.
    Executed {
        function: Name,
        caller: Caller,
        documents_read: u64,
        bytes_read: u64,
        documents_written: u64,
        bytes_written: u64,
        /// Runs until the transaction passed without conflict.
        attempts: u64,
        /// Whether a subscription ran again because its data changed.
        rerun: bool,
        /// The worker, and its incarnation, that the credentials in the arguments name.
        #[serde(skip_serializing_if = "Option::is_none")]
        identity: Option<Name>,
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
        /// The code or message of the error it ended with.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Name>,
    },
    /// A mutation came that had been answered before: it did not run again, and got the same answer.
    Replayed { function: Name, caller: Caller },
    /// A client's WebSocket was opened; clients go by their host's name.
    Connected { client: Name },
    /// A client's WebSocket was closed.
    Disconnected { client: Name },

    // ── OpenCode ──
    /// A server answers.
    ServerStarted,
    /// A server is gone.
    ServerStopped,
    /// A request came in.
    Request { method: Name, path: Name, status: u16 },
    /// A session is being created; `in_flight` counts it.
    CreateStarted { in_flight: u64 },
    /// A session was created, or its creation was given up.
    CreateEnded {
        #[serde(skip_serializing_if = "Option::is_none")]
        opencode_session: Option<Name>,
        in_flight: u64,
    },
    /// A user message was accepted.
    Prompted { opencode_session: Name, message: Name, text: Name },
    /// The reply to a user message ended; `reply` digests what the model said.
    ReplyEnded { opencode_session: Name, message: Name, reply: Digest, outcome: ReplyOutcome },
    /// A session was asked to stop.
    Aborted { opencode_session: Name },
    /// An event stream was opened.
    EventStreamOpened,
    /// An event stream was closed.
    EventStreamClosed,
    /// A session that is no child is there with this title: made, renamed, or from before the run.
    OpencodeSessionIs { opencode_session: Name, title: Name },
    /// A session that is no child was deleted.
    OpencodeSessionDeleted { opencode_session: Name },
    /// So many sessions were listed.
    SessionsListed { count: u64 },
    /// The models were asked for.
    ModelsListed,

    // ── Workers ──
    /// A worker process began; `start` counts from 1.
    WorkerStarted { worker: Name, start: u64 },
    /// A worker says that it is in this state.
    Lifecycle { worker: Name, state: Name },
    /// The heap of a worker: bytes held now, and at most since the last such fact.
    Heap { worker: Name, live: i64, peak: i64 },
    /// A worker's process as the kernel shows it (only in real time): resident memory now and at most so far, its
    /// proportional share and what of it an allocator may hold (0 where the kernel does not tell), processor time so far,
    /// threads, open files.
    Process {
        worker: Name,
        rss: u64,
        peak_rss: u64,
        pss: u64,
        heap: u64,
        cpu_ms: u64,
        threads: u64,
        files: u64,
    },
    /// OpenCode sessions that a worker remembers.
    Cache { worker: Name, sessions: u64 },
    /// What went through all the connections that a worker opened to `peer`, in bytes; once, when the run ends.
    Transferred { worker: Name, peer: Name, sent: u64, received: u64 },
    /// A worker was killed, and its OpenCode server with it.
    Killed { worker: Name },
    /// A worker was asked to stop.
    StopAsked { worker: Name },
    /// A worker ended by itself.
    Exited { worker: Name, exit: Exit },
    /// What was left of a worker a moment after it ended: bytes of heap, and sockets that it had opened.
    Left { worker: Name, bytes: i64, sockets: u64 },
    /// A worker panicked.
    Panicked { worker: Name, message: Name },

    /// An older process of a worker, which had stood still while a newer one started, ended.
    ZombieExited { worker: Name, start: u64, exit: Exit },

    // ── Faults. `fault` is its number in the plan, `worker` the one that it concerns. ──
    /// A fault began.
    FaultBegan { fault: u64, kind: FaultKind, worker: Name },
    /// A fault struck one opportunity: a request, a mutation, an event, a session.
    FaultStruck { fault: u64, kind: FaultKind, worker: Name },
    /// A fault was over, or was healed.
    FaultEnded { fault: u64, kind: FaultKind, worker: Name },

    // ── The run ──
    /// The backend's functions were loaded: the digest of their sources, bugs planted into them included. Nothing that
    /// they do comes before it, so two runs of different sources differ here first.
    Loaded { sources: Digest },
    /// The run entered a phase.
    PhaseBegan { phase: Phase },
}

impl Event {
    /// What is measured here at regular times, if this is a measurement.
    pub(super) fn measured(&self) -> Option<(&'static str, Name)> {
        match self {
            Self::Heap { worker, .. } => Some(("heap", Name::clone(worker))),
            Self::Cache { worker, .. } => Some(("cache", Name::clone(worker))),
            _ => None,
        }
    }

    /// Whether `name` is one of the things that this fact is about.
    #[must_use]
    pub fn mentions(&self, name: &str) -> bool {
        let among = |names: &[&Name]| names.iter().any(|mentioned| &***mentioned == name);
        match self {
            Self::Sent { turn, session, worker, .. } | Self::TurnChanged { turn, session, worker, .. } => {
                among(&[turn, session, worker])
            }
            Self::ChunkWritten { turn, .. } => among(&[turn]),
            Self::PersonEnded { session } => among(&[session]),
            Self::SessionLinked { session, opencode_session } => among(&[session, opencode_session]),
            Self::SessionIs { session, opencode_session: Some(opencode_session), .. } => {
                among(&[session, opencode_session])
            }
            Self::SessionIs { session, .. } => among(&[session]),
            Self::Executed { caller: Caller::Worker(worker), .. }
            | Self::Replayed { caller: Caller::Worker(worker), .. }
            | Self::ConnectAsked { worker }
            | Self::EpochBegan { worker, .. }
            | Self::Ready { worker, .. }
            | Self::Offline { worker }
            | Self::WorkerStarted { worker, .. }
            | Self::Lifecycle { worker, .. }
            | Self::Heap { worker, .. }
            | Self::Process { worker, .. }
            | Self::Cache { worker, .. }
            | Self::Transferred { worker, .. }
            | Self::Killed { worker }
            | Self::StopAsked { worker }
            | Self::Left { worker, .. }
            | Self::Panicked { worker, .. }
            | Self::Exited { worker, .. }
            | Self::ZombieExited { worker, .. }
            | Self::FaultBegan { worker, .. }
            | Self::FaultStruck { worker, .. }
            | Self::FaultEnded { worker, .. } => among(&[worker]),
            Self::Connected { client } | Self::Disconnected { client } => among(&[client]),
            Self::Prompted { opencode_session, message, text } => among(&[opencode_session, message, text]),
            Self::ReplyEnded { opencode_session, message, .. } => among(&[opencode_session, message]),
            Self::CreateEnded { opencode_session: Some(opencode_session), .. }
            | Self::OpencodeSessionIs { opencode_session, .. }
            | Self::OpencodeSessionDeleted { opencode_session }
            | Self::Aborted { opencode_session } => among(&[opencode_session]),
            Self::Executed { .. }
            | Self::Replayed { .. }
            | Self::Loaded { .. }
            | Self::ServerStarted
            | Self::ServerStopped
            | Self::Request { .. }
            | Self::CreateStarted { .. }
            | Self::CreateEnded { .. }
            | Self::EventStreamOpened
            | Self::EventStreamClosed
            | Self::SessionsListed { .. }
            | Self::ModelsListed
            | Self::PhaseBegan { .. } => false,
        }
    }
}

/// As in the trace file, for people: the kind, then `field=value`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else {
            unreachable!("an event is an object")
        };
        write!(f, "{}", fields["event"].as_str().expect("the tag is text"))?;
        for (name, value) in fields.iter().filter(|(name, _)| *name != "event") {
            match value {
                Value::String(text) => write!(f, " {name}={text}")?,
                other => write!(f, " {name}={other}")?,
            }
        }
        Ok(())
    }
}
