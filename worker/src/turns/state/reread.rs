//! What was missed: the session's messages are read again.

use std::time::Duration;

use super::{Phase, Step, Turn, TurnAction};
use crate::{
    opencode::{Message, Part, PartKind},
    turns::failure::Failure,
};

/// Re-reads without a result after which a turn fails.
const MAX_REREADS: u32 = 5;

impl Turn {
    pub(super) fn gap(&mut self, actions: &mut Vec<TurnAction>) -> Step {
        self.reply.gap();
        self.begin_look(actions);
        self.ask_again(actions)
    }

    /// Asks for the messages, unless that is under way. The answer may be older than what comes meanwhile, so a
    /// reply that is incomplete at its end is read once more.
    pub(super) fn ask_again(&mut self, actions: &mut Vec<TurnAction>) -> Step {
        if self.rereading {
            return Ok(());
        }
        if self.rereads >= MAX_REREADS {
            // The session may be idle, but its messages do not say so.
            if !self.phase.is_aborting() {
                self.phase = Phase::Working;
            }
            return Err(Failure::no_reply().into());
        }
        self.rereading = true;
        self.rereads += 1;
        actions.push(TurnAction::Reread { since: self.thread.prompt().to_owned() });
        Ok(())
    }

    pub(super) fn reread(
        &mut self,
        messages: Result<Vec<Message>, String>,
        now: Duration,
        actions: &mut Vec<TurnAction>,
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
        if let Phase::Idle(idle) = &mut self.phase {
            idle.is_confirmed = true;
        }
        self.after_reread(
            messages.iter().any(|message| message.info.id == self.thread.prompt()),
            now,
            actions,
        )
    }

    /// Acts on what the messages say about a turn of which no event told the end.
    fn after_reread(&mut self, prompt_is_known: bool, now: Duration, actions: &mut Vec<TurnAction>) -> Step {
        match self.phase {
            Phase::Prompted if prompt_is_known => self.note_work(),
            Phase::Prompted => {
                return Err(Failure::prompt_lost().into());
            }
            // The last step is over and events were lost: the idle event may have been among them.
            Phase::Working if self.is_answered() => self.phase = Phase::idle(now),
            Phase::Idle(ref idle)
                if idle.is_overdue && self.stopped_after_tools() && !self.reply.is_incomplete() =>
            {
                return Err(self.questions.failure().unwrap_or_else(Failure::stopped_after_tools).into());
            }
            Phase::Idle(_) if !self.is_answered() || self.reply.is_incomplete() => {
                return self.retry_later(now, actions);
            }
            _ => {}
        }
        if matches!(self.phase, Phase::Working) {
            self.rereads = 0;
        }
        Ok(())
    }

    /// Lets some time pass before the next re-read: an idle session's messages are asked for again at the deadline.
    fn retry_later(&mut self, now: Duration, actions: &mut Vec<TurnAction>) -> Step {
        match &mut self.phase {
            Phase::Idle(idle) => idle.since = now,
            Phase::Prompted | Phase::Working => self.last_sign = now,
            Phase::Aborting(_) => {}
        }
        if self.rereads >= MAX_REREADS { self.ask_again(actions) } else { Ok(()) }
    }
}

/// A text part's id, and its text if it is final.
fn text_of(part: &Part) -> Option<(&str, Option<&str>)> {
    matches!(part.kind, PartKind::Text { .. }).then(|| (part.id.as_str(), part.text()))
}
