//! Synthetic facts for the oracles' own tests: each oracle is shown a life that is in order, and one that is not.

use std::time::Duration;

use crate::oracle::{Findings, Oracle};
use sim_model::trace::{Caller, Digest, Event, Fact, Micros, Name, ReplyOutcome, TurnState};

/// The moment that `seconds` after the start is, in µs.
pub(crate) fn at(seconds: f64) -> Micros {
    u64::try_from(Duration::from_secs_f64(seconds).as_micros()).unwrap()
}

/// Shows `facts` to `oracle` and returns what it says: violations first, then what it waits for.
pub(crate) fn judge(
    mut oracle: impl Oracle,
    facts: impl IntoIterator<Item = (Micros, Event)>,
) -> Vec<String> {
    let mut verdict = Findings::default();
    for (at, event) in facts {
        let host = Name::from(host_of(&event));
        oracle.observe(&Fact { at, host, event }, &mut verdict);
    }
    let mut said: Vec<_> = verdict.take().into_iter().map(|raised| raised.message).collect();
    said.extend(oracle.pending().map(|pending| format!("pending: {}", pending.reason)));
    said
}

fn host_of(event: &Event) -> &'static str {
    match event {
        Event::ServerStarted
        | Event::ServerStopped
        | Event::CreateStarted { .. }
        | Event::CreateEnded { .. }
        | Event::Prompted { .. }
        | Event::ReplyEnded { .. }
        | Event::EventStreamOpened
        | Event::OpencodeSessionIs { .. }
        | Event::OpencodeSessionDeleted { .. }
        | Event::SessionsListed { .. }
        | Event::EventStreamClosed
        | Event::ModelsListed => "opencode-1",
        Event::WorkerStarted { .. } | Event::Heap { .. } | Event::Cache { .. } => "worker-1",
        _ => "convex",
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::from(text)
}

/// A turn `turn` in session `s1`, sent at `created` (Unix ms), with the text `text of <turn>`.
pub(crate) fn sent(turn: &str, created: f64) -> Event {
    let text = Name::from(format!("text of {turn}"));
    Event::Sent { turn: name(turn), session: name("s1"), worker: name("worker-1"), created, text }
}

pub(crate) fn changed(turn: &str, from: TurnState, to: TurnState) -> Event {
    changed_with(turn, from, to, None)
}

pub(crate) fn changed_with(turn: &str, from: TurnState, to: TurnState, chunks: Option<u64>) -> Event {
    let (session, worker) = (name("s1"), name("worker-1"));
    Event::TurnChanged { turn: name(turn), session, worker, from, to, epoch: Some(1), chunks, error: None }
}

pub(crate) fn claimed(turn: &str) -> Event {
    changed(turn, TurnState::Pending, TurnState::Claimed)
}

pub(crate) fn completed(turn: &str, chunks: u64) -> Event {
    changed_with(turn, TurnState::Claimed, TurnState::Completed, Some(chunks))
}

pub(crate) fn chunk(turn: &str, sequence: u64, total: &str) -> Event {
    Event::ChunkWritten { turn: name(turn), sequence, bytes: 1, total: Digest::of(total) }
}

/// A prompt with the text of `turn`.
pub(crate) fn prompted(turn: &str) -> Event {
    let text = Name::from(format!("text of {turn}"));
    Event::Prompted { opencode_session: name("ses_1"), message: Name::from(format!("msg_{turn}")), text }
}

pub(crate) fn replied(turn: &str, reply: &str) -> Event {
    let (opencode_session, message) = (name("ses_1"), Name::from(format!("msg_{turn}")));
    Event::ReplyEnded { opencode_session, message, reply: Digest::of(reply), outcome: ReplyOutcome::Finished }
}

pub(crate) fn epoch(epoch: u64, stale_before: f64) -> Event {
    Event::EpochBegan { worker: name("worker-1"), epoch, stale_before }
}

pub(crate) fn started(start: u64) -> Event {
    Event::WorkerStarted { worker: name("worker-1"), start }
}

pub(crate) fn ready() -> Event {
    Event::Ready { worker: name("worker-1"), epoch: 1 }
}

/// A call by the worker that read so much.
pub(crate) fn executed(documents_read: u64, bytes_read: u64) -> Event {
    Call { read: (documents_read, bytes_read), ..Call::default() }.event()
}

/// A call by the worker.
pub(crate) struct Call {
    pub(crate) function: &'static str,
    /// Documents and bytes.
    pub(crate) read: (u64, u64),
    /// Documents.
    pub(crate) written: u64,
    pub(crate) epoch: Option<u64>,
    pub(crate) error: Option<&'static str>,
}

impl Default for Call {
    fn default() -> Self {
        Self { function: "chat:claim", read: (0, 0), written: 0, epoch: None, error: None }
    }
}

impl Call {
    pub(crate) fn event(self) -> Event {
        Event::Executed {
            function: name(self.function),
            caller: Caller::Worker(name("worker-1")),
            documents_read: self.read.0,
            bytes_read: self.read.1,
            documents_written: self.written,
            bytes_written: 0,
            attempts: 1,
            rerun: false,
            identity: self.epoch.map(|_| name("worker-1")),
            epoch: self.epoch,
            error: self.error.map(name),
        }
    }
}
