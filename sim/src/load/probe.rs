//! The latency that the worker itself adds: from the moment at which it has a reason to write, to the write's arrival.
//!
//! A worker collects a reply's text for `coalesce_interval` on purpose, and has at most one write of a turn under way.
//! So a write is *due* at the latest of
//!
//! - the piece that gives the reason: the first one of the chunk plus the interval; or, if the chunk came earlier than
//!   that, its last piece (it was full), or the end of the reply;
//! - the commit of the turn's write before, because until then the worker may not write.
//!
//! What is added is arrival minus due. Moments are those of the fakes: a piece counts from when its event was published,
//! a write from when its message was read from the socket. Their own delays are in between, so the true figure is lower.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hdrhistogram::Histogram;
use serde::Deserialize;

use crate::{
    convex, opencode,
    trace::{Micros, Name},
    world::recorder::now,
};

/// Follows the replies that are under way. Grows with turns in progress and what is not written of them yet.
#[derive(Debug)]
pub struct Probe {
    interval: Micros,
    /// By the text of the message.
    turns_by_text: BTreeMap<String, String>,
    /// By host, OpenCode session and user message.
    turns_by_prompt: BTreeMap<(Name, String, String), String>,
    replies: BTreeMap<String, Reply>,
    added: Histogram<u64>,
    /// Of the whole run.
    added_in_all: Histogram<u64>,
    said: u64,
}

/// A reply under way.
#[derive(Debug, Default)]
struct Reply {
    prompt: Option<(Name, String, String)>,
    /// Where each piece that is not written yet ends, in bytes of the reply, and when it was said.
    pieces: VecDeque<(usize, Micros)>,
    said: usize,
    ended: Option<Micros>,
    written: usize,
    /// When the write before was committed.
    committed: Micros,
}

/// The arguments of a write that matter here.
#[derive(Debug, Deserialize)]
struct WriteArgs {
    turn: String,
    text: String,
}

impl Probe {
    /// For a worker that collects text for `interval`.
    #[must_use]
    pub fn new(interval: Micros) -> Self {
        Self {
            interval,
            turns_by_text: BTreeMap::new(),
            turns_by_prompt: BTreeMap::new(),
            replies: BTreeMap::new(),
            added: histogram(),
            added_in_all: histogram(),
            said: 0,
        }
    }

    /// What was added so far, in µs; counting begins anew.
    pub fn take(&mut self) -> Histogram<u64> {
        std::mem::replace(&mut self.added, histogram())
    }

    /// What was added in the whole run so far, in µs.
    #[must_use]
    pub fn in_all(&self) -> &Histogram<u64> {
        &self.added_in_all
    }

    /// Pieces of replies that were said so far.
    #[must_use]
    pub fn said_so_far(&self) -> u64 {
        self.said
    }

    fn sent(&mut self, turn: &str, text: &str) {
        self.turns_by_text.insert(text.to_owned(), turn.to_owned());
    }

    fn prompted(&mut self, prompt: (Name, String, String), text: &str) {
        let Some(turn) = self.turns_by_text.remove(text) else { return };
        self.turns_by_prompt.insert(prompt.clone(), turn.clone());
        self.replies.insert(turn, Reply { prompt: Some(prompt), ..Reply::default() });
    }

    fn of(&mut self, prompt: &(Name, String, String)) -> Option<&mut Reply> {
        self.replies.get_mut(self.turns_by_prompt.get(prompt)?)
    }

    fn piece(&mut self, prompt: &(Name, String, String), bytes: usize, at: Micros) {
        self.said += 1;
        let Some(reply) = self.of(prompt) else { return };
        reply.said += bytes;
        reply.pieces.push_back((reply.said, at));
    }

    fn reply_ended(&mut self, prompt: &(Name, String, String), at: Micros) {
        if let Some(reply) = self.of(prompt) {
            reply.ended = Some(at);
        }
    }

    /// A write came in that adds `bytes` to the reply of `turn`; a completion may add nothing.
    fn arrived(&mut self, turn: &str, bytes: usize, at: Micros) {
        let interval = self.interval;
        let Some(reply) = self.replies.get_mut(turn) else { return };
        if let Some(due) = reply.due(bytes, interval, at) {
            let added = at.saturating_sub(due);
            // Not `saturating_record`: that clamps to what the histogram holds so far.
            for histogram in [&mut self.added, &mut self.added_in_all] {
                histogram.record(added).expect("it grows with its values");
            }
        }
    }

    fn committed(&mut self, turn: &str, at: Micros) {
        if let Some(reply) = self.replies.get_mut(turn) {
            reply.committed = at;
        }
    }

    fn turn_ended(&mut self, turn: &str) {
        if let Some(prompt) = self.replies.remove(turn).and_then(|reply| reply.prompt) {
            self.turns_by_prompt.remove(&prompt);
        }
    }
}

impl Reply {
    /// When a write of the next `bytes` bytes, which came at `at`, was due. Nothing if its reason was not seen: the
    /// text is not what was said (the `answered` oracle tells of that).
    fn due(&mut self, bytes: usize, interval: Micros, at: Micros) -> Option<Micros> {
        let until = self.written + bytes;
        let mut moments = Vec::new();
        while self.pieces.front().is_some_and(|(end, _)| *end <= until) {
            moments.extend(self.pieces.pop_front().map(|(_, said)| said));
        }
        self.written = until;
        let collected = moments.first().map(|first| first + interval);
        let reason = match (collected, self.ended) {
            (Some(collected), Some(ended)) => collected.min(ended),
            (Some(collected), None) if collected <= at => collected,
            (Some(_), None) => *moments.last()?,
            (None, ended) => ended?,
        };
        Some(reason.max(self.committed))
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// The probe, as the fakes' threads share it.
#[derive(Debug, Clone)]
pub struct SharedProbe(Arc<Mutex<Probe>>);

impl SharedProbe {
    /// For a worker that collects text for `interval`.
    #[must_use]
    pub fn new(interval: Micros) -> Self {
        Self(Arc::new(Mutex::new(Probe::new(interval))))
    }

    /// The probe itself.
    pub fn lock(&self) -> MutexGuard<'_, Probe> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows what a machine's OpenCode does.
    pub fn opencode(&self, host: &Name, observation: &opencode::Observation<'_>) {
        use opencode::Observation::{Prompted, ReplyEnded, Said};
        let prompt =
            |session: &str, message: &str| (Name::clone(host), session.to_owned(), message.to_owned());
        match *observation {
            Prompted { session, message, text } => self.lock().prompted(prompt(session, message), text),
            Said { session, message, bytes } => self.lock().piece(&prompt(session, message), bytes, now()),
            ReplyEnded { session, message, .. } => self.lock().reply_ended(&prompt(session, message), now()),
            _ => {}
        }
    }

    /// Follows what the backend does.
    pub fn convex(&self, observation: &convex::Observation<'_>) {
        match observation {
            convex::Observation::Received { path, args, .. }
                if ["chat:writeChunk", "chat:completeMessage"].contains(path) =>
            {
                let at = now();
                if let Ok([WriteArgs { turn, text }]) = serde_json::from_str::<[WriteArgs; 1]>(args) {
                    self.lock().arrived(&turn, text.len(), at);
                }
            }
            convex::Observation::Committed { writes, .. } => {
                writes.iter().for_each(|write| self.wrote(write));
            }
            _ => {}
        }
    }

    fn wrote(&self, write: &convex::Write) {
        let Some(new) = &write.new else { return };
        let text = |field| match new.fields().get(field) {
            Some(::convex::Value::String(text)) => text.as_str(),
            _ => "",
        };
        match (&*write.table, &write.old) {
            ("turns", None) => self.lock().sent(write.id.as_str(), text("content")),
            ("turns", Some(_)) if !["pending", "claimed"].contains(&text("state")) => {
                self.lock().turn_ended(write.id.as_str());
            }
            ("chunks", None) => self.lock().committed(text("turn"), now()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Micros = 1_000;

    enum Step {
        Said(usize),
        Ended,
        Arrived(usize),
        Committed,
    }
    use Step::{Arrived, Committed, Ended, Said};

    /// The latencies that steps at some moments (ms) add, with an interval of 250 ms.
    #[track_caller]
    fn check(steps: &[(u64, Step)], expected: &[u64]) {
        let mut probe = Probe::new(250 * MS);
        let prompt = (Name::from("opencode-1"), "ses_1".to_owned(), "msg_1".to_owned());
        probe.sent("t1", "hello");
        probe.prompted(prompt.clone(), "hello");
        let mut added = Vec::new();
        for (at, step) in steps {
            let at = at * MS;
            match step {
                Said(bytes) => probe.piece(&prompt, *bytes, at),
                Ended => probe.reply_ended(&prompt, at),
                Arrived(bytes) => probe.arrived("t1", *bytes, at),
                Committed => probe.committed("t1", at),
            }
            added.extend(probe.take().iter_recorded().map(|value| value.value_iterated_to() / MS));
        }
        assert_eq!(added, expected);
    }

    #[test]
    fn a_chunk_that_was_collected_is_due_an_interval_after_its_first_piece() {
        check(&[(100, Said(5)), (200, Said(5)), (353, Arrived(10))], &[3]);
    }

    #[test]
    fn a_chunk_that_was_full_is_due_at_its_last_piece() {
        check(&[(100, Said(5)), (200, Said(5)), (204, Arrived(10))], &[4]);
    }

    #[test]
    fn the_end_of_a_reply_is_a_reason_at_once() {
        check(&[(100, Said(5)), (140, Ended), (142, Arrived(5))], &[2]);
        check(&[(100, Said(5)), (351, Arrived(5)), (400, Ended), (407, Arrived(0))], &[1, 7]);
    }

    #[test]
    fn a_write_waits_for_the_one_before_it() {
        let steps = [(100, Said(5)), (350, Arrived(5)), (360, Said(5)), (700, Committed), (702, Arrived(5))];
        check(&steps, &[0, 2]);
    }

    #[test]
    fn a_text_that_nobody_said_is_not_measured() {
        check(&[(10, Arrived(5))], &[]);
    }
}
