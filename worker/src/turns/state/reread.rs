//! What was missed: the session's messages are read again.

use std::time::Duration;

use super::{Action, Phase, Step, Turn};
use crate::{
    opencode::{Message, Part, PartKind},
    turns::failure::Failure,
};

/// Re-reads without a result after which a turn fails.
const MAX_REREADS: u32 = 5;

impl Turn {
    pub(super) fn gap(&mut self, actions: &mut Vec<Action>) -> Step {
        self.reply.gap();
        self.look(actions);
        self.ask_again(actions)
    }

    /// Asks for the messages, unless that is under way. The answer may be older than what comes meanwhile, so a
    /// reply that is incomplete at its end is read once more.
    pub(super) fn ask_again(&mut self, actions: &mut Vec<Action>) -> Step {
        if self.rereading {
            return Ok(());
        }
        if self.rereads >= MAX_REREADS {
            // The session may be idle, but its messages do not say so.
            if self.phase != Phase::Aborting {
                self.phase = Phase::Working;
            }
            return Err(Failure::no_reply().into());
        }
        self.rereading = true;
        self.rereads += 1;
        actions.push(Action::Reread { since: self.thread.prompt().to_owned() });
        Ok(())
    }

    pub(super) fn reread(
        &mut self,
        messages: Result<Vec<Message>, String>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) -> Step {
        self.rereading = false;
        let messages = match messages {
            Ok(messages) => messages,
            Err(reason) => {
                tracing::warn!(%reason, "the session's messages cannot be read again");
                return self.retry_later(now, actions);
            }
        };
        let ours = self.thread.find(&messages);
        for message in &ours {
            self.message(message.info.clone());
        }
        let parts = ours.iter().flat_map(|message| &message.parts).filter_map(text_of);
        self.reply.reread(parts, now);
        self.confirmed = matches!(self.phase, Phase::Idle(_));
        self.after_reread(
            messages.iter().any(|message| message.info.id == self.thread.prompt()),
            now,
            actions,
        )
    }

    /// What the messages say about a turn of which no event told the end.
    fn after_reread(&mut self, prompt_is_known: bool, now: Duration, actions: &mut Vec<Action>) -> Step {
        match self.phase {
            Phase::Prompted if prompt_is_known => self.works(),
            Phase::Prompted => {
                return Err(Failure::prompt_lost().into());
            }
            // The last step is over and events were lost: the idle event may have been among them.
            Phase::Working if self.is_answered() => self.phase = Phase::Idle(now),
            Phase::Idle(_) if self.settled && self.stopped_after_tools() && !self.reply.is_incomplete() => {
                return Err(self.questions.failure().unwrap_or_else(Failure::stopped_after_tools).into());
            }
            Phase::Idle(_) if !self.is_answered() || self.reply.is_incomplete() => {
                return self.retry_later(now, actions);
            }
            _ => {}
        }
        if self.phase == Phase::Working {
            self.rereads = 0;
        }
        Ok(())
    }

    /// Lets some time pass before the next re-read: a settled phase asks again at its deadline.
    fn retry_later(&mut self, now: Duration, actions: &mut Vec<Action>) -> Step {
        match self.phase {
            Phase::Idle(_) => self.phase = Phase::Idle(now),
            Phase::Prompted | Phase::Working => self.last_sign = now,
            Phase::Aborting => {}
        }
        if self.rereads >= MAX_REREADS { self.ask_again(actions) } else { Ok(()) }
    }
}

/// A text part's id, and its text if it is final.
fn text_of(part: &Part) -> Option<(&str, Option<&str>)> {
    matches!(part.kind, PartKind::Text { .. }).then(|| (part.id.as_str(), part.text()))
}
