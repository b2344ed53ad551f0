//! **stale**: what a restart made stale is never run again, and nothing is run twice.
//!
//! At the moment when OpenCode accepts a prompt:
//! - its text is that of a turn whose message someone sent in this run (texts are unique by construction);
//! - the turn was created no earlier than the `staleBefore` of its worker's current epoch; a prompt that was on its way
//!   when the epoch began cannot be called back, and one for a turn that was claimed before may come [`ON_ITS_WAY`] later;
//! - a worker has claimed the turn;
//! - the turn has not ended, or [`RECENTLY`]: a prompt that is on its way, or waits at a slow line, cannot be called back;
//! - it is the first prompt for this turn, over all restarts.

use std::collections::BTreeMap;

use crate::oracle::{Findings, Oracle};
use sim_model::trace::{Event, Fact, Micros, Name, TurnState};

/// As long as the worker is sure of a turn without asking again (1 s), and the way to OpenCode.
const ON_ITS_WAY: Micros = 1_500_000;

/// Longer than a request to OpenCode may take (30 s).
const RECENTLY: Micros = 60_000_000;

/// See the file's comment.
#[derive(Default)]
pub(super) struct Stale {
    /// By the text of the message.
    sent: BTreeMap<Name, Sent>,
    /// When each turn was claimed last.
    claimed: BTreeMap<Name, Micros>,
    /// When each turn ended.
    ended: BTreeMap<Name, Micros>,
    /// `staleBefore` of each worker's current epoch, and when that began.
    stale_before: BTreeMap<Name, (f64, Micros)>,
}

struct Sent {
    turn: Name,
    session: Name,
    worker: Name,
    created: f64,
    prompts: u64,
}

impl Stale {
    fn prompted(&mut self, at: Micros, text: &Name, verdict: &mut Findings) {
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
        let (stale_before, began) =
            self.stale_before.get(&sent.worker).copied().unwrap_or((f64::NEG_INFINITY, 0));
        let claimed = self.claimed.get(turn).copied();
        let is_on_its_way = claimed.is_some_and(|at| at < began) && at < began + ON_ITS_WAY;
        if sent.created < stale_before && !is_on_its_way {
            let age = (stale_before - sent.created) / 1000.0;
            let message =
                format!("turn {turn} was prompted, but is stale: sent {age:.3} s before the epoch began");
            verdict.violation(message, &about);
        }
        if let Some(ended) = self.ended.get(turn).filter(|ended| at > **ended + RECENTLY) {
            let ago = (at - ended) / 1_000_000;
            verdict.violation(format!("turn {turn} was prompted {ago} s after it had ended"), &about);
        }
        if claimed.is_none() {
            verdict.violation(format!("turn {turn} was prompted without a claim"), &about);
        }
    }
}

impl Oracle for Stale {
    fn id(&self) -> &'static str {
        "stale"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        match &fact.event {
            Event::Sent { turn, session, worker, created, text } => {
                let [turn, session, worker] = [turn, session, worker].map(Name::clone);
                let sent = Sent { turn, session, worker, created: *created, prompts: 0 };
                self.sent.insert(Name::clone(text), sent);
            }
            Event::EpochBegan { worker, stale_before, .. } => {
                self.stale_before.insert(Name::clone(worker), (*stale_before, fact.at));
            }
            Event::TurnChanged { turn, to: TurnState::Claimed, .. } => {
                self.claimed.insert(Name::clone(turn), fact.at);
            }
            Event::TurnChanged {
                turn,
                to: TurnState::Completed | TurnState::Failed | TurnState::Expired,
                ..
            } => {
                self.ended.insert(Name::clone(turn), fact.at);
            }
            Event::Prompted { text, .. } => self.prompted(fact.at, text, verdict),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{claimed, completed, epoch, judge, prompted, sent};

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
        let stale = ["turn t1 was prompted, but is stale: sent 1.250 s before the epoch began"];
        check(&[sent("t1", 100.0), epoch(2, 1350.0), claimed("t1"), prompted("t1")], &stale);
        let late = [sent("t1", 100.0), claimed("t1"), epoch(2, 1350.0), prompted("t1")];
        assert_eq!(judge(Stale::default(), [0, 1, 2, 2 + ON_ITS_WAY].into_iter().zip(late)), stale);
    }

    #[test]
    fn a_prompt_that_was_on_its_way_when_the_epoch_began_cannot_be_called_back() {
        check(&[sent("t1", 100.0), claimed("t1"), epoch(2, 1350.0), prompted("t1")], &[]);
    }

    #[test]
    fn a_prompt_for_a_turn_that_has_long_ended_is_seen() {
        let prompted_at = |moment| {
            let events = [sent("t1", 5.0), claimed("t1"), completed("t1", 0), prompted("t1")];
            judge(Stale::default(), [0, 1, 2, moment].into_iter().zip(events))
        };
        assert_eq!(prompted_at(2 + RECENTLY), [""; 0]);
        assert_eq!(prompted_at(3 + RECENTLY), ["turn t1 was prompted 60 s after it had ended"]);
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
