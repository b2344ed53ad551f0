//! From the parts of a reply to the chunks that are stored. No async, no clock: moments are passed in.
//!
//! OpenCode sends a text part as deltas and, when the part ends, once more as a whole. It keeps no deltas: after a
//! lost event stream, what was missed of an open part only comes with its end. So a part that has a gap is
//! *detached*: its further deltas are dropped and its whole text, which must begin with what was already taken,
//! supplies the rest. The reply's text is that of its text parts, in order, with an empty line between them.
//!
//! What was written is never taken back. A part's whole text may end in other white space than its deltas did; one that
//! differs more (a plugin rewrote it, or events were lost) leaves the reply *diverged*: it goes on to its end, and then
//! its turn does not count as answered.

use std::{
    hash::{DefaultHasher, Hasher},
    time::Duration,
};

use crate::config::TurnSettings;

/// Between two text parts of one reply.
pub const PART_SEPARATOR: &str = "\n\n";
/// The largest chunk (bytes). The backend accepts 200,000 characters.
const MAX_CHUNK: usize = 64 * 1024;
/// What a reply that was cut ends with.
pub const CUT_MARKER: &str = "\n\n[The reply was cut here: it is longer than this worker accepts.]";
/// Text parts of one reply; it is cut where another one would begin. Each takes about 100 bytes as long as the turn runs.
const MAX_PARTS: usize = 1_024;

/// One piece of a reply, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Counts from 0 within the turn.
    pub sequence: u64,
    /// What it adds.
    pub text: String,
}

/// A part's whole text does not begin with the deltas that came before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "part {part} ended with a text that does not begin with the {taken} bytes already taken from its deltas"
)]
pub struct Diverged {
    /// The part.
    pub part: String,
    /// How much of it had been taken.
    pub taken: usize,
}

/// A reply that is being received. Holds only what is not stored yet.
#[derive(Debug)]
pub struct Reply {
    parts: Vec<TextPart>,
    pending: String,
    /// When the oldest pending byte came.
    pending_since: Duration,
    sequence: u64,
    writing: bool,
    /// Bytes taken so far, stored or pending.
    length: usize,
    cut: bool,
    /// Some text is known to be missing until a part's end or a re-read supplies it.
    incomplete: bool,
    /// Events were lost, and no re-read has told yet which parts there are: nothing is taken from a part that is not
    /// known, because another one may belong before it.
    blind: bool,
    /// While blind, there was something to be seen that the re-read under way may be too old to show.
    overlooked: bool,
    /// The first part whose whole text contradicts what was taken of it.
    diverged: Option<Diverged>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    interval: Duration,
    bytes: usize,
    total: usize,
}

#[derive(Debug)]
struct TextPart {
    id: String,
    /// Bytes taken, and their hash, so that the whole text can be compared without keeping it.
    taken: usize,
    hash: DefaultHasher,
    /// The same without the white space at the end.
    solid: (usize, u64),
    detached: bool,
    ended: bool,
}

impl Reply {
    /// An empty reply.
    pub fn new(settings: &TurnSettings) -> Self {
        let limits = Limits {
            interval: settings.coalesce_interval,
            bytes: settings.coalesce_bytes.min(MAX_CHUNK),
            total: settings.max_reply_bytes,
        };
        Self {
            parts: Vec::new(),
            pending: String::new(),
            pending_since: Duration::ZERO,
            sequence: 0,
            writing: false,
            length: 0,
            cut: false,
            incomplete: false,
            blind: false,
            overlooked: false,
            diverged: None,
            limits,
        }
    }

    /// A text part has begun. Parts come one after the other; one that begins before the last has ended waits for
    /// its whole text, so that the order stays right.
    pub fn begin(&mut self, id: &str) {
        if self.blind && self.find(id).is_none() {
            self.overlook();
        } else if self.find(id).is_none() {
            let detached = self.parts.last().is_some_and(|part| !part.ended);
            self.incomplete |= detached;
            self.push(id, detached);
        }
    }

    /// Text was appended to a part. Ignored if the part is unknown (not text, or begun unseen) or detached.
    pub fn delta(&mut self, id: &str, text: &str, now: Duration) {
        let Some(index) = self.find(id) else { return };
        if !self.parts[index].detached && !self.parts[index].ended {
            self.take(index, text, now);
        }
    }

    /// A text part has ended with this whole text.
    pub fn end(&mut self, id: &str, whole: &str, now: Duration) {
        self.begin(id);
        let Some(index) = self.find(id) else { return };
        if self.parts[index].ended {
            return;
        }
        if self.parts[..index].iter().any(|earlier| !earlier.ended) {
            self.incomplete = true;
            return;
        }
        let part = &mut self.parts[index];
        part.ended = true;
        let taken = part.taken;
        match whole.get(..taken) {
            Some(prefix) if hash_of(prefix) == part.hash.finish() => self.take(index, &whole[taken..], now),
            _ if part.differs_in_white_space_only(whole) => {}
            _ => {
                let part = part.id.clone();
                self.diverged.get_or_insert(Diverged { part, taken });
            }
        }
    }

    /// Returns what is wrong with the reply, if what was written of it contradicts what OpenCode says in the end.
    pub fn diverged(&self) -> Option<&Diverged> {
        self.diverged.as_ref()
    }

    /// Events were lost: nothing more is taken from the deltas of a part that was open.
    pub fn gap(&mut self) {
        self.overlook();
        self.incomplete = true;
        self.blind = true;
        for part in self.parts.iter_mut().filter(|part| !part.ended) {
            part.detached = true;
        }
    }

    /// A text part was seen that may or may not be of this reply: its message is not known.
    pub fn overlook(&mut self) {
        self.overlooked |= self.blind;
    }

    /// Takes in the whole reply as it was re-read: its text parts in order, with their text if they have ended.
    pub fn reread<'a>(&mut self, parts: impl Iterator<Item = (&'a str, Option<&'a str>)>, now: Duration) {
        for (id, whole) in parts {
            if self.find(id).is_none() {
                self.push(id, true);
            }
            if let Some(whole) = whole {
                self.end(id, whole, now);
            }
        }
        self.blind = std::mem::take(&mut self.overlooked);
        self.incomplete = self.blind || self.parts.iter().any(|part| !part.ended);
    }

    /// Returns true if a re-read may bring text that no event brought.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Returns true if every part that is known has ended, and there is one. If not, events may have been lost: only a
    /// re-read tells an empty reply from one that was not heard.
    pub fn is_whole(&self) -> bool {
        !self.parts.is_empty() && self.parts.iter().all(|part| part.ended)
    }

    /// The next chunk, if one is due and none is being written. Tell [`Reply::written`] when it is stored.
    pub fn due(&mut self, now: Duration) -> Option<Chunk> {
        let is_due = self.due_at().is_some_and(|due| now >= due);
        if is_due { self.next_chunk(now) } else { None }
    }

    /// Returns when [`Reply::due`] will have a chunk, if nothing else happens.
    pub fn due_at(&self) -> Option<Duration> {
        if self.writing || self.pending.is_empty() {
            None
        } else if self.pending.len() >= self.limits.bytes {
            Some(self.pending_since)
        } else {
            Some(self.pending_since + self.limits.interval)
        }
    }

    /// The chunk that was handed out is stored.
    pub fn written(&mut self) {
        assert!(self.writing, "a chunk was stored that was not handed out");
        self.writing = false;
    }

    /// The chunk that was handed out cannot be stored, so nothing that comes after it may be.
    pub fn abandon(&mut self) {
        self.written();
        self.pending = String::new();
        self.cut = true;
    }

    /// Returns true if a chunk is being written.
    pub fn is_writing(&self) -> bool {
        self.writing
    }

    /// The reply is over: the next chunk of what is pending. `(chunk, true)`: it is the last, and may be empty.
    pub fn finish(&mut self, now: Duration) -> (Chunk, bool) {
        let chunk = self.next_chunk(now);
        let last = self.pending.is_empty();
        (chunk.unwrap_or(Chunk { sequence: self.sequence, text: String::new() }), last)
    }

    /// Bytes of the reply so far.
    pub fn length(&self) -> usize {
        self.length
    }

    fn next_chunk(&mut self, now: Duration) -> Option<Chunk> {
        assert!(!self.writing, "at most one chunk is written at a time");
        if self.pending.is_empty() {
            return None;
        }
        let text = match floor_char_boundary(&self.pending, MAX_CHUNK) {
            all if all == self.pending.len() => std::mem::take(&mut self.pending),
            // What is left stays where it is: it may be megabytes.
            some => {
                let text = self.pending[..some].to_owned();
                drop(self.pending.drain(..some));
                text
            }
        };
        self.pending_since = now;
        self.sequence += 1;
        self.writing = true;
        Some(Chunk { sequence: self.sequence - 1, text })
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.parts.iter().rposition(|part| part.id == id)
    }

    fn push(&mut self, id: &str, detached: bool) {
        if self.parts.len() == MAX_PARTS {
            return self.cut();
        }
        let (hash, solid) = (DefaultHasher::new(), (0, hash_of("")));
        self.parts.push(TextPart { id: id.to_owned(), taken: 0, hash, solid, detached, ended: false });
    }

    fn take(&mut self, index: usize, text: &str, now: Duration) {
        if text.is_empty() {
            return;
        }
        if self.parts[index].taken == 0 && self.length > 0 {
            self.append(PART_SEPARATOR, now);
        }
        self.parts[index].take(text);
        self.append(text, now);
    }

    fn append(&mut self, text: &str, now: Duration) {
        if self.cut {
            return;
        }
        if self.pending.is_empty() {
            self.pending_since = now;
        }
        let room = self.limits.total - self.length;
        let fits = floor_char_boundary(text, room);
        self.pending.push_str(&text[..fits]);
        self.length += fits;
        if fits < text.len() {
            self.cut();
        }
    }

    /// Nothing more is taken.
    fn cut(&mut self) {
        if !std::mem::replace(&mut self.cut, true) {
            self.pending.push_str(CUT_MARKER);
        }
    }
}

impl TextPart {
    fn take(&mut self, text: &str) {
        let (solid, white) = text.split_at(text.trim_end().len());
        if !solid.is_empty() {
            self.hash.write(solid.as_bytes());
            self.solid = (self.taken + solid.len(), self.hash.finish());
        }
        self.hash.write(white.as_bytes());
        self.taken += text.len();
    }

    fn differs_in_white_space_only(&self, whole: &str) -> bool {
        let solid = whole.trim_end();
        (solid.len(), hash_of(solid)) == self.solid
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    hash.write(text.as_bytes());
    hash.finish()
}

/// The largest char boundary of `text` that is at most `limit`.
fn floor_char_boundary(text: &str, limit: usize) -> usize {
    (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).expect("0 is a boundary")
}

#[cfg(test)]
mod tests;
