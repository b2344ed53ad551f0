//! **chunks**: a reply is stored in order, without gap and without repetition.
//!
//! - The chunks of a turn are numbered 0, 1, 2, … in the order in which they are stored.
//! - A chunk is stored only while its turn is claimed, and never empty.
//! - An ended turn says how many chunks it has, and has as many.

use std::collections::BTreeMap;

use crate::oracle::{Findings, Oracle};
use sim_model::trace::{Event, Fact, Name, TurnState};

/// See the file's comment.
#[derive(Default)]
pub(super) struct Chunks {
    turns: BTreeMap<Name, Reply>,
}

#[derive(Default)]
struct Reply {
    next: u64,
    state: Option<TurnState>,
}

impl Chunks {
    fn written(&mut self, name: &Name, sequence: u64, bytes: u64, verdict: &mut Findings) {
        let reply = self.turns.entry(Name::clone(name)).or_default();
        if sequence != reply.next {
            let next = reply.next;
            verdict.violation(format!("chunk {sequence} of turn {name} came where {next} was due"), &[name]);
        }
        if let Some(state) = reply.state.filter(|state| *state != TurnState::Claimed) {
            verdict.violation(format!("chunk {sequence} of turn {name} came when it was {state:?}"), &[name]);
        }
        if bytes == 0 {
            verdict.violation(format!("chunk {sequence} of turn {name} is empty"), &[name]);
        }
        reply.next = reply.next.max(sequence + 1);
    }

    fn changed(&mut self, name: &Name, to: TurnState, chunks: Option<u64>, verdict: &mut Findings) {
        let reply = self.turns.entry(Name::clone(name)).or_default();
        reply.state = Some(to);
        if to.has_ended() && chunks != Some(reply.next) {
            let (said, has) = (chunks.map_or("no number".into(), |chunks| chunks.to_string()), reply.next);
            verdict.violation(format!("turn {name} ended with {said} of chunks, and has {has}"), &[name]);
        }
    }
}

impl Oracle for Chunks {
    fn id(&self) -> &'static str {
        "chunks"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        match &fact.event {
            Event::ChunkWritten { turn, sequence, bytes, .. } => {
                self.written(turn, *sequence, *bytes, verdict)
            }
            Event::TurnChanged { turn, to, chunks, .. } => self.changed(turn, *to, *chunks, verdict),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chunk, claimed, completed, judge};

    #[track_caller]
    fn check(events: &[Event], expected: &[&str]) {
        assert_eq!(judge(Chunks::default(), (0..).zip(events.iter().cloned())), expected);
    }

    #[test]
    fn chunks_in_order_are_fine() {
        check(&[claimed("t1"), chunk("t1", 0, "a"), chunk("t1", 1, "ab"), completed("t1", 2)], &[]);
    }

    #[test]
    fn a_gap_is_seen() {
        check(
            &[claimed("t1"), chunk("t1", 0, "a"), chunk("t1", 2, "ac")],
            &["chunk 2 of turn t1 came where 1 was due"],
        );
    }

    #[test]
    fn a_repetition_is_seen() {
        check(
            &[claimed("t1"), chunk("t1", 0, "a"), chunk("t1", 0, "aa")],
            &["chunk 0 of turn t1 came where 1 was due"],
        );
    }

    #[test]
    fn a_chunk_after_the_end_is_seen() {
        check(
            &[claimed("t1"), completed("t1", 0), chunk("t1", 0, "a")],
            &["chunk 0 of turn t1 came when it was Completed"],
        );
    }

    #[test]
    fn a_wrong_count_at_the_end_is_seen() {
        check(
            &[claimed("t1"), chunk("t1", 0, "a"), completed("t1", 2)],
            &["turn t1 ended with 2 of chunks, and has 1"],
        );
    }
}
