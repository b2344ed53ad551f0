//! The latency that the worker itself adds: from the moment at which it has a reason to write, to the write's arrival.
//!
//! A worker collects a reply's text for `coalesce_interval`, or until it has `coalesce_bytes` of it, on purpose, and has at
//! most one write of a turn under way. So a write is *due* at the latest of
//!
//! - what gives the reason, whichever is first: the chunk's first piece plus the interval, the piece that fills it, the
//!   end of the reply; a chunk that came before all of these, for a reason of its own, is due at its last piece;
//! - the commit of the turn's write before, because until then the worker may not write.
//!
//! What is added is arrival minus due. Moments are those of the fakes: a piece counts from when its event was published,
//! a write from when its message was read from the socket. Their own delays are in between, so the true figure is lower.
//!
//! A worker that stands still makes fewer writes, and the one late write that makes up for them must not be all that
//! counts (coordinated omission). So a write counts once for each write that was due until it arrived: what the worker
//! would have collected is taken apart again, interval by interval. And a write that never came counts as late as it was
//! when the turn ended or the run was over, unless the worker or its OpenCode was killed: then nobody owes it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hdrhistogram::Histogram;
use serde::Deserialize;

use sim_model::trace::{Micros, Name};

/// Follows the replies that are under way. Grows with turns in progress and what is not written of them yet.
#[derive(Debug)]
pub struct Probe {
    collects: Collects,
    /// By the text of the message.
    turns_by_text: BTreeMap<String, String>,
    /// By host, OpenCode session and user message.
    turns_by_prompt: BTreeMap<(Name, String, String), String>,
    replies: BTreeMap<String, Reply>,
    added: Histogram<u64>,
    never_came: u64,
    said: u64,
}

/// How much text a worker collects before it writes.
#[derive(Debug, Clone, Copy)]
pub struct Collects {
    /// For so long at most, in µs.
    pub interval: Micros,
    /// So much at most, in bytes.
    pub bytes: usize,
}

/// A piece of a reply.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Where it ends, in bytes of the reply.
    end: usize,
    said: Micros,
}

/// A reply under way.
#[derive(Debug, Default)]
struct Reply {
    prompt: Option<(Name, String, String)>,
    /// Those that are not written yet.
    pieces: VecDeque<Piece>,
    said: usize,
    ended: Option<Micros>,
    written: usize,
    /// How much was before the last write.
    begin: usize,
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
    /// For a worker that collects so much text.
    #[must_use]
    pub fn new(collects: Collects) -> Self {
        Self {
            collects,
            turns_by_text: BTreeMap::new(),
            turns_by_prompt: BTreeMap::new(),
            replies: BTreeMap::new(),
            added: Histogram::new(3).expect("three digits are allowed"),
            never_came: 0,
            said: 0,
        }
    }

    /// What was added so far, in µs.
    #[must_use]
    pub fn added(&self) -> &Histogram<u64> {
        &self.added
    }

    /// How many of these are of writes that never came.
    #[must_use]
    pub fn never_came(&self) -> u64 {
        self.never_came
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
        reply.pieces.push_back(Piece { end: reply.said, said: at });
    }

    fn reply_ended(&mut self, prompt: &(Name, String, String), at: Micros) {
        if let Some(reply) = self.of(prompt) {
            reply.ended = Some(at);
        }
    }

    /// A write came in that adds `bytes` to the reply of `turn`; a completion may add nothing.
    fn arrived(&mut self, turn: &str, bytes: usize, at: Micros) {
        let collects = self.collects;
        let Some(reply) = self.replies.get_mut(turn) else { return };
        let due = reply.due(bytes, collects, at);
        self.note(&due, at);
    }

    /// Counts writes that were due at `due` and came, or were given up, at `at`.
    fn note(&mut self, due: &[Micros], at: Micros) {
        for due in due {
            // Not `saturating_record`: that clamps to what the histogram holds so far.
            self.added.record(at.saturating_sub(*due)).expect("it grows with its values");
        }
    }

    fn committed(&mut self, turn: &str, at: Micros) {
        if let Some(reply) = self.replies.get_mut(turn) {
            reply.committed = at;
        }
    }

    /// The turn has ended; `in_full` if all of its reply is written.
    fn turn_ended(&mut self, turn: &str, in_full: bool, at: Micros) {
        let Some(reply) = self.replies.remove(turn) else { return };
        if let Some(prompt) = &reply.prompt {
            self.turns_by_prompt.remove(prompt);
        }
        if !in_full {
            self.give_up(reply, at);
        }
    }

    /// The server on `host` is gone, and its worker with it or about to start another: nobody owes its replies.
    fn server_gone(&mut self, host: &Name) {
        let is_there = |prompt: &(Name, String, String)| prompt.0 == *host;
        self.replies.retain(|_, reply| !reply.prompt.as_ref().is_some_and(is_there));
        self.turns_by_prompt.retain(|prompt, _| !is_there(prompt));
    }

    /// The run is over, at `at`: what is owed still never came.
    pub fn close(&mut self, at: Micros) {
        self.turns_by_prompt.clear();
        for (_, reply) in std::mem::take(&mut self.replies) {
            self.give_up(reply, at);
        }
    }

    fn give_up(&mut self, mut reply: Reply, at: Micros) {
        let rest = reply.take(reply.said.saturating_sub(reply.written));
        let due = reply.overdue(&rest, self.collects, at);
        self.never_came += due.len() as u64;
        self.note(&due, at);
    }

    #[cfg(test)]
    pub(super) fn note_for_test(&mut self, added: Micros) {
        self.note(&[0], added);
    }
}

impl Reply {
    /// When the writes were due that the next `bytes` bytes, which came at `at`, stand for. None if their reason was not
    /// seen: the text is not what was said (the `answered` oracle tells of that).
    fn due(&mut self, bytes: usize, collects: Collects, at: Micros) -> Vec<Micros> {
        let taken = self.take(bytes);
        let due = self.overdue(&taken, collects, at);
        match taken.last() {
            Some(last) if due.is_empty() => vec![last.said.max(self.committed)],
            Some(_) => due,
            // The reply's end alone.
            None => self.ended.map(|ended| ended.max(self.committed)).into_iter().collect(),
        }
    }

    /// Takes the next `bytes` bytes off what is not written.
    fn take(&mut self, bytes: usize) -> Vec<Piece> {
        self.begin = self.written;
        self.written += bytes;
        let is_taken = |piece: &Piece| piece.end <= self.written;
        let count = self.pieces.iter().take_while(|piece| is_taken(piece)).count();
        self.pieces.drain(..count).collect()
    }

    /// When the writes were due by `at` that would have carried `pieces`, the last that were written.
    fn overdue(&self, pieces: &[Piece], collects: Collects, at: Micros) -> Vec<Micros> {
        let ended = self.ended.unwrap_or(Micros::MAX);
        let (mut due, mut rest) = (Vec::new(), pieces);
        // A piece that is written in part belongs to the write that ends it.
        let mut begin = self.begin;
        while let Some(first) = rest.first() {
            let filled = rest.iter().find(|piece| piece.end >= begin + collects.bytes);
            let filled = filled.map_or(Micros::MAX, |piece| piece.said);
            let reason = (first.said + collects.interval).min(filled).min(ended).max(self.committed);
            if reason > at {
                break;
            }
            due.push(reason);
            // What was said by then would have gone with it.
            let (gone, left) = rest.split_at(rest.partition_point(|piece| piece.said <= reason));
            begin = gone.last().map_or(begin, |piece| piece.end);
            rest = left;
        }
        due
    }
}

/// The probe, as the fakes' threads share it.
#[derive(Debug, Clone)]
pub struct SharedProbe(Arc<Mutex<Probe>>);

impl SharedProbe {
    /// For a worker that collects so much text.
    #[must_use]
    pub fn new(collects: Collects) -> Self {
        Self(Arc::new(Mutex::new(Probe::new(collects))))
    }

    /// The probe itself.
    pub fn lock(&self) -> MutexGuard<'_, Probe> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows what a machine's OpenCode does at `at`.
    pub fn opencode(&self, host: &Name, observation: &fake_opencode::Observation<'_>, at: Micros) {
        use fake_opencode::Observation::{Prompted, ReplyEnded, Said, ServerStopped};
        let prompt =
            |session: &str, message: &str| (Name::clone(host), session.to_owned(), message.to_owned());
        match *observation {
            Prompted { session, message, text } => self.lock().prompted(prompt(session, message), text),
            Said { session, message, bytes } => self.lock().piece(&prompt(session, message), bytes, at),
            ServerStopped { .. } => self.lock().server_gone(host),
            ReplyEnded { session, message, .. } => self.lock().reply_ended(&prompt(session, message), at),
            _ => {}
        }
    }

    /// Follows what the backend does at `at`.
    pub fn convex(&self, observation: &fake_convex::Observation<'_>, at: Micros) {
        match observation {
            fake_convex::Observation::Received { path, args, .. }
                if ["chat:writeChunk", "chat:completeMessage"].contains(path) =>
            {
                if let Ok([WriteArgs { turn, text }]) = serde_json::from_str::<[WriteArgs; 1]>(args) {
                    self.lock().arrived(&turn, text.len(), at);
                }
            }
            fake_convex::Observation::Committed { writes, .. } => {
                writes.iter().for_each(|write| self.wrote(write, at));
            }
            _ => {}
        }
    }

    fn wrote(&self, write: &fake_convex::Write, at: Micros) {
        let Some(new) = &write.new else { return };
        let text = |field| match new.fields().get(field) {
            Some(convex::Value::String(text)) => text.as_str(),
            _ => "",
        };
        match (&*write.table, &write.old) {
            ("messages", None) => self.lock().sent(text("turn"), text("content")),
            ("turns", Some(_)) if !["pending", "claimed"].contains(&text("state")) => {
                let in_full = text("state") == "completed";
                self.lock().turn_ended(write.id.as_str(), in_full, at);
            }
            ("chunks", None) => self.lock().committed(text("turn"), at),
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
        Failed,
        ServerGone,
        Over,
    }
    use Step::{Arrived, Committed, Ended, Failed, Over, Said, ServerGone};

    /// What steps at some moments (ms) add, with an interval of 250 ms and chunks of 1,000 bytes, in ms, in ascending order; and how many of it
    /// never came.
    #[track_caller]
    fn check_all(steps: &[(u64, Step)], expected: &[u64], never_came: u64) {
        let mut probe = Probe::new(Collects { interval: 250 * MS, bytes: 1000 });
        let host = Name::from("opencode-1");
        let prompt = (host.clone(), "ses_1".to_owned(), "msg_1".to_owned());
        probe.sent("t1", "hello");
        probe.prompted(prompt.clone(), "hello");
        for (at, step) in steps {
            let at = at * MS;
            match step {
                Said(bytes) => probe.piece(&prompt, *bytes, at),
                Ended => probe.reply_ended(&prompt, at),
                Arrived(bytes) => probe.arrived("t1", *bytes, at),
                Committed => probe.committed("t1", at),
                Failed => probe.turn_ended("t1", false, at),
                ServerGone => probe.server_gone(&host),
                Over => probe.close(at),
            }
        }
        let all = probe.added().iter_recorded();
        let all = all.flat_map(|value| {
            let times = usize::try_from(value.count_at_value()).unwrap();
            std::iter::repeat_n(value.value_iterated_to() / MS, times)
        });
        assert_eq!((&all.collect::<Vec<_>>()[..], probe.never_came()), (expected, never_came));
    }

    #[track_caller]
    fn check(steps: &[(u64, Step)], expected: &[u64]) {
        check_all(steps, expected, 0);
    }

    /// A piece of 5 bytes every 100 ms, from 100 ms on.
    fn stream(pieces: u64) -> Vec<(u64, Step)> {
        (1..=pieces).map(|number| (number * 100, Said(5))).collect()
    }

    fn then(mut steps: Vec<(u64, Step)>, more: impl IntoIterator<Item = (u64, Step)>) -> Vec<(u64, Step)> {
        steps.extend(more);
        steps
    }

    #[test]
    fn a_chunk_that_was_collected_is_due_an_interval_after_its_first_piece() {
        check(&[(100, Said(5)), (200, Said(5)), (353, Arrived(10))], &[3]);
    }

    #[test]
    fn a_chunk_that_came_for_a_reason_of_its_own_is_due_at_its_last_piece() {
        check(&[(100, Said(5)), (200, Said(5)), (204, Arrived(10))], &[4]);
    }

    #[test]
    fn a_chunk_that_is_full_is_due_at_the_piece_that_filled_it_however_late_it_comes() {
        let full = |at| [(100, Said(600)), (200, Said(400)), (at, Arrived(1000))];
        check(&full(204), &[4]);
        check(&full(353), &[153]);
        // The second chunk was full at 240, the third is not.
        let two = [(100, Said(600)), (200, Said(400)), (230, Said(500)), (240, Said(500)), (250, Said(1))];
        check(&then(two.into(), [(300, Arrived(2001))]), &[60, 100]);
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

    #[test]
    fn a_worker_that_stood_still_owes_every_write_that_it_left_out() {
        // Writes were due at 350, 650, 950, 1250, 1550 and 1850; the last piece, at 2000, not before 2150.
        let still = then(stream(20), [(2050, Arrived(100))]);
        check(&still, &[200, 500, 800, 1100, 1400, 1700]);
    }

    #[test]
    fn a_backend_that_stood_still_is_not_the_workers_fault() {
        let steps = [(100, Said(5)), (350, Arrived(5))];
        let waits = then(steps.into(), (4..=19).map(|number| (number * 100, Said(5))));
        check(&then(waits, [(1950, Committed), (1953, Arrived(80))]), &[0, 3]);
    }

    #[test]
    fn what_fills_a_chunk_late_does_not_hide_how_late_it_is() {
        // Due at 350; a piece at 900 comes with it, and is itself not due before 1150.
        check(&[(100, Said(5)), (900, Said(5)), (902, Arrived(10))], &[552]);
    }

    #[test]
    fn a_write_that_never_came_counts_until_the_turn_failed_or_the_run_was_over() {
        check_all(&then(stream(3), [(1350, Failed)]), &[1000], 1);
        check_all(&then(stream(3), [(2350, Over)]), &[2000], 1);
        // Nothing was due yet.
        check_all(&[(100, Said(5)), (200, Failed)], &[], 0);
    }

    #[test]
    fn what_a_killed_server_has_said_is_owed_by_nobody() {
        check_all(&then(stream(3), [(400, ServerGone), (900, Failed), (1000, Over)]), &[], 0);
    }
}
