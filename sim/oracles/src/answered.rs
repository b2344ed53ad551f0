//! **answered**: every turn ends, once, and an answer is exactly what OpenCode said.
//!
//! - Every turn ends as completed, failed or expired (within the liveness bound, once faults have stopped).
//! - It does not wait for a worker that is gone: one that was not heard of for ten minutes, and that is as old itself, has
//!   ended two minutes later at the latest (a check comes late, and once more when the deployment stood still), whatever
//!   goes wrong and whoever else's turns are to end. A worker is heard of when it says that it is ready, or beats.
//! - It ends once: an ended turn never changes again.
//! - The text of a completed turn, its chunks in order, equals the reply to its prompt byte for byte (compared by
//!   length and hash), and that reply had finished.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::{Findings, Oracle, Pending};
use sim_model::trace::{Caller, Digest, Event, Fact, Micros, Name, ReplyOutcome, TurnState};

/// For so long a turn may wait for a worker that is gone.
const GONE: Micros = 12 * 60 * SECOND;
const SECOND: Micros = 1_000_000;
/// Time between two looks at those that wait.
const LOOK: Micros = 10 * SECOND;

/// See the file's comment.
#[derive(Default)]
pub(super) struct Answered {
    /// When each worker was heard of last.
    heard: BTreeMap<Name, Micros>,
    /// By worker: when its open turns were sent. One that waited too long is told once.
    waiting: BTreeMap<Name, BTreeSet<(Micros, Name)>>,
    looked: Micros,
    turns: BTreeMap<Name, Turn>,
    by_text: BTreeMap<Name, Name>,
    /// The turn of each prompt, by host, OpenCode session and message; removed when the reply ends.
    by_prompt: BTreeMap<(Name, Name, Name), Name>,
    open: usize,
}

struct Turn {
    sent: Micros,
    worker: Name,
    session: Name,
    state: TurnState,
    written: Digest,
    reply: Option<(Digest, ReplyOutcome)>,
}

impl Answered {
    fn changed(&mut self, name: &Name, to: TurnState, verdict: &mut Findings) {
        let Some(turn) = self.turns.get_mut(name) else { return };
        let before = std::mem::replace(&mut turn.state, to);
        let about = [name, &turn.session];
        if before.has_ended() {
            verdict.violation(format!("turn {name} had ended as {before:?} and became {to:?}"), &about);
            return;
        }
        if to.has_ended() {
            self.open -= 1;
            if let Some(waiting) = self.waiting.get_mut(&turn.worker) {
                waiting.remove(&(turn.sent, Name::clone(name)));
            }
        }
        if to == TurnState::Completed {
            match turn.reply {
                None => {
                    verdict.violation(format!("turn {name} was completed before its reply ended"), &about)
                }
                Some((_, outcome)) if outcome != ReplyOutcome::Finished => {
                    verdict.violation(
                        format!("turn {name} was completed, but its reply ended as {outcome:?}"),
                        &about,
                    );
                }
                Some((reply, _)) if reply != turn.written => {
                    let written = turn.written;
                    let message = format!("turn {name} holds {written}, but OpenCode said {reply}");
                    verdict.violation(message, &about);
                }
                Some(_) => {}
            }
        }
    }
}

impl Answered {
    fn sent(&mut self, at: Micros, turn: &Name, session: &Name, worker: &Name) {
        let (session, worker) = (Name::clone(session), Name::clone(worker));
        self.waiting.entry(Name::clone(&worker)).or_default().insert((at, Name::clone(turn)));
        let (state, written) = (TurnState::Pending, Digest::of(""));
        let new = Turn { sent: at, worker, session, state, written, reply: None };
        self.turns.insert(Name::clone(turn), new);
        self.open += 1;
    }

    /// Looks now and then for turns that wait for workers that are gone.
    fn look(&mut self, now: Micros, verdict: &mut Findings) {
        if now < self.looked + LOOK {
            return;
        }
        self.looked = now;
        for (worker, waiting) in &mut self.waiting {
            let heard = self.heard.get(worker).copied().unwrap_or_default();
            while let Some((sent, turn)) = waiting.first()
                && now > heard.max(*sent) + GONE
            {
                let [silent, old] = [heard, *sent].map(|then| (now - then) / SECOND);
                let message = format!(
                    "turn {turn} is {old} s old and waits for {worker}, which was not heard of for {silent} s"
                );
                verdict.violation(message, &[turn, worker]);
                waiting.pop_first();
            }
        }
    }
}

impl Oracle for Answered {
    fn id(&self) -> &'static str {
        "answered"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        self.look(fact.at, verdict);
        match &fact.event {
            Event::Sent { turn, session, worker, text, .. } => {
                self.by_text.insert(Name::clone(text), Name::clone(turn));
                self.sent(fact.at, turn, session, worker);
            }
            Event::Executed { caller: Caller::Worker(worker), function, error: None, .. }
                if matches!(&**function, "workers:heartbeat" | "workers:markConnected") =>
            {
                self.heard.insert(Name::clone(worker), fact.at);
            }
            Event::Prompted { opencode_session, message, text } => {
                let Some(turn) = self.by_text.get(text) else { return };
                let prompt = [&fact.host, opencode_session, message].map(Name::clone).into();
                self.by_prompt.insert(prompt, Name::clone(turn));
            }
            Event::ReplyEnded { opencode_session, message, reply, outcome } => {
                let prompt = [&fact.host, opencode_session, message].map(Name::clone).into();
                let Some(turn) = self.by_prompt.remove(&prompt) else { return };
                self.turns.get_mut(&turn).expect("prompts belong to known turns").reply =
                    Some((*reply, *outcome));
            }
            Event::ChunkWritten { turn, total, .. } => {
                if let Some(turn) = self.turns.get_mut(turn) {
                    turn.written = *total;
                }
            }
            Event::TurnChanged { turn, to, .. } => self.changed(turn, *to, verdict),
            _ => {}
        }
    }

    fn pending(&self) -> Option<Pending> {
        let (name, turn) = self.turns.iter().find(|(_, turn)| !turn.state.has_ended())?;
        let count = self.open;
        let reason = format!("{count} turns have not ended, among them {name} ({:?})", turn.state);
        Some(Pending { reason, about: vec![Name::clone(name), Name::clone(&turn.session)] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        Call, at, changed, chunk, claimed, completed, judge, prompted, ready, replied, sent,
    };

    #[track_caller]
    fn check(events: &[Event], expected: &[&str]) {
        assert_eq!(judge(Answered::default(), (0..).zip(events.iter().cloned())), expected);
    }

    #[test]
    fn a_turn_completed_with_what_opencode_said_is_answered() {
        let turn = [sent("t1", 1.0), claimed("t1"), prompted("t1")];
        let reply =
            [chunk("t1", 0, "he"), replied("t1", "hello"), chunk("t1", 1, "hello"), completed("t1", 2)];
        check(&[&turn[..], &reply[..]].concat(), &[]);
    }

    #[test]
    fn an_empty_reply_is_an_answer_too() {
        check(&[sent("t1", 1.0), claimed("t1"), prompted("t1"), replied("t1", ""), completed("t1", 0)], &[]);
    }

    #[test]
    fn a_text_that_differs_is_seen() {
        let events = [
            sent("t1", 1.0),
            prompted("t1"),
            chunk("t1", 0, "hel"),
            replied("t1", "hello"),
            completed("t1", 1),
        ];
        let (written, said) = (Digest::of("hel"), Digest::of("hello"));
        check(&events, &[&format!("turn t1 holds {written}, but OpenCode said {said}")]);
    }

    #[test]
    fn completing_before_the_reply_ended_is_seen() {
        check(
            &[sent("t1", 1.0), prompted("t1"), completed("t1", 0), replied("t1", "")],
            &["turn t1 was completed before its reply ended"],
        );
    }

    #[test]
    fn an_ended_turn_that_changes_is_seen() {
        check(
            &[
                sent("t1", 1.0),
                changed("t1", TurnState::Pending, TurnState::Expired),
                changed("t1", TurnState::Expired, TurnState::Failed),
            ],
            &["turn t1 had ended as Expired and became Failed"],
        );
    }

    /// What is said of a turn that a worker had claimed and never ended, `minutes` after its last beat.
    fn gone(minutes: f64) -> Vec<String> {
        let beat = Call { function: "workers:heartbeat", ..Call::default() }.event();
        let facts =
            [(1.0, sent("t1", 1.0)), (2.0, claimed("t1")), (300.0, beat), (300.0 + 60.0 * minutes, ready())];
        let facts = facts.map(|(seconds, event)| (at(seconds), event));
        judge(Answered::default(), facts)
    }

    #[test]
    fn a_turn_of_a_worker_that_is_gone_waits_for_minutes_and_not_for_ever() {
        let pending = "pending: 1 turns have not ended, among them t1 (Claimed)";
        assert_eq!(gone(11.9), [pending]);
        let waits = "turn t1 is 1025 s old and waits for worker-1, which was not heard of for 726 s";
        assert_eq!(gone(12.1), [waits, pending]);
    }

    #[test]
    fn a_turn_that_has_not_ended_is_waited_for() {
        check(
            &[
                sent("t1", 1.0),
                sent("t2", 1.0),
                claimed("t2"),
                changed("t1", TurnState::Pending, TurnState::Failed),
            ],
            &["pending: 1 turns have not ended, among them t2 (Claimed)"],
        );
    }
}
