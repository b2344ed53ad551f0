//! **stale**: what a restart made stale is never run again, and nothing is run twice.
//!
//! At the moment when OpenCode accepts a prompt:
//! - its text is that of a turn whose message someone sent in this run (texts are unique by construction);
//! - the turn was created no earlier than the `staleBefore` of its worker's current epoch;
//! - a worker has claimed the turn;
//! - it is the first prompt for this turn, over all restarts.

use std::collections::BTreeMap;

use super::{Oracle, Verdict};
use crate::trace::{Event, Fact, Name, TurnState};

/// See the file's comment.
#[derive(Default)]
pub(super) struct Stale {
    /// By the text of the message.
    sent: BTreeMap<Name, Sent>,
    claimed: BTreeMap<Name, u64>,
    /// `staleBefore` of each worker's current epoch.
    stale_before: BTreeMap<Name, f64>,
}

struct Sent {
    turn: Name,
    session: Name,
    worker: Name,
    created: f64,
    prompts: u64,
}

impl Stale {
    fn prompted(&mut self, text: &Name, verdict: &mut Verdict) {
        let Some(sent) = self.sent.get_mut(text) else {
            verdict.violation(format!("prompt for a text that nobody sent in this run: {text:.60}"), &[text]);
            return;
        };
        sent.prompts += 1;
        let (turn, prompts) = (&sent.turn, sent.prompts);
        let about = [turn, &sent.session, text];
        if prompts > 1 {
            verdict.violation(format!("turn {turn} was prompted {prompts} times"), &about);
        }
        let began = self.stale_before.get(&sent.worker).copied().unwrap_or(f64::NEG_INFINITY);
        if sent.created < began {
            let age = (began - sent.created) / 1000.0;
            let message =
                format!("turn {turn} was prompted, but is stale: sent {age:.3} s before the epoch began");
            verdict.violation(message, &about);
        }
        if !self.claimed.contains_key(turn) {
            verdict.violation(format!("turn {turn} was prompted without a claim"), &about);
        }
    }
}

impl Oracle for Stale {
    fn id(&self) -> &'static str {
        "stale"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Verdict) {
        match &fact.event {
            Event::Sent { turn, session, worker, created, text } => {
                let [turn, session, worker] = [turn, session, worker].map(Name::clone);
                let sent = Sent { turn, session, worker, created: *created, prompts: 0 };
                self.sent.insert(Name::clone(text), sent);
            }
            Event::EpochBegan { worker, stale_before, .. } => {
                self.stale_before.insert(Name::clone(worker), *stale_before);
            }
            Event::TurnChanged { turn, to: TurnState::Claimed, .. } => {
                *self.claimed.entry(Name::clone(turn)).or_default() += 1;
            }
            Event::Prompted { text, .. } => self.prompted(text, verdict),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{claimed, epoch, judge, prompted, sent},
        *,
    };

    #[track_caller]
    fn check(events: &[Event], expected: &[&str]) {
        assert_eq!(judge(Stale::default(), (0..).zip(events.iter().cloned())), expected);
    }

    #[test]
    fn a_fresh_claimed_turn_is_prompted_once() {
        check(&[epoch(1, 100.0), sent("t1", 100.0), claimed("t1"), prompted("t1")], &[]);
    }

    #[test]
    fn a_turn_from_before_the_epoch_is_stale() {
        check(
            &[sent("t1", 100.0), claimed("t1"), epoch(2, 1350.0), prompted("t1")],
            &["turn t1 was prompted, but is stale: sent 1.250 s before the epoch began"],
        );
    }

    #[test]
    fn a_second_prompt_is_seen_also_after_a_restart() {
        check(
            &[epoch(1, 0.0), sent("t1", 5.0), claimed("t1"), prompted("t1"), epoch(2, 0.0), prompted("t1")],
            &["turn t1 was prompted 2 times"],
        );
    }

    #[test]
    fn a_prompt_without_a_claim_or_without_a_sender_is_seen() {
        check(&[sent("t1", 5.0), prompted("t1")], &["turn t1 was prompted without a claim"]);
        check(&[prompted("t1")], &["prompt for a text that nobody sent in this run: text of t1"]);
    }
}
