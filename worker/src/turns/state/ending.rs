//! How a turn comes to its end: by its last message, or because its patience is over.

use std::time::Duration;

use super::{
    End, Step, Turn, TurnAction, permit,
    phase::{Ending, Phase},
};
use crate::{convex::api::Written, turns::failure::Failure};

impl Turn {
    pub(super) fn written(&mut self, written: Written, now: Duration, actions: &mut Vec<TurnAction>) -> Step {
        self.reply.written();
        match written {
            Written::Written => Ok(()),
            Written::Ended => self.abort(Ending::Gone, now, actions),
        }
    }

    pub(super) fn tick(&mut self, now: Duration, actions: &mut Vec<TurnAction>) -> Step {
        if self.patience_ends().is_none_or(|end| now < end) {
            return Ok(());
        }
        match self.phase {
            Phase::Prompted => self.ask_again(actions),
            Phase::Working if self.is_answered() => self.ask_again(actions),
            Phase::Working if self.retries.until().is_some_and(|until| now >= until) => {
                self.give_up_the_model(now, actions)
            }
            Phase::Working if self.questions.are_open() => {
                self.last_sign = now;
                permit(self.questions.expire(now), actions)
            }
            Phase::Working if now < self.last_sign + self.idle_timeout => {
                self.begin_look(actions);
                Ok(())
            }
            Phase::Working => {
                let silent = Failure::silent(self.idle_timeout);
                self.abort(self.retries.failure().unwrap_or(silent), now, actions)
            }
            Phase::Idle(ref mut idle) => {
                idle.since = now;
                self.idle_for_long(actions)
            }
            Phase::Aborting(_) => {
                self.still_aborting(now, actions);
                Ok(())
            }
        }
    }

    pub(super) fn give_up_the_model(&mut self, now: Duration, actions: &mut Vec<TurnAction>) -> Step {
        let failure = self.retries.failure().expect("it is given up because it refused");
        self.abort(failure, now, actions)
    }

    /// The session has been idle for a while. Only a write may still be under way; else something is missing.
    fn idle_for_long(&mut self, actions: &mut Vec<TurnAction>) -> Step {
        match &self.error {
            _ if self.is_answered() && !self.is_doubtful() => Ok(()),
            Some(error) => Err(Failure::model_error(error).into()),
            None if self.is_cut_off() => Err(Failure::cut_off().into()),
            None => {
                if let Phase::Idle(idle) = &mut self.phase {
                    idle.is_overdue = true;
                }
                self.ask_again(actions)
            }
        }
    }

    /// Returns true if the last step's message is complete and no further step follows.
    pub(super) fn is_answered(&self) -> bool {
        self.last_ended(End::Final)
    }

    /// Returns true if the last step that is known called tools, and its successor never came.
    pub(super) fn stopped_after_tools(&self) -> bool {
        self.last_ended(End::Tools)
    }

    /// Returns true if the last step was stopped, and nothing follows.
    pub(super) fn is_cut_off(&self) -> bool {
        self.last_ended(End::Cut)
    }

    fn last_ended(&self, end: End) -> bool {
        !self.thread.is_open() && self.answers.last().is_some_and(|answer| answer.end == end)
    }

    /// Ends the turn if everything that its end needs is there. May ask for what is missing.
    pub(super) fn conclude(&mut self, now: Duration, actions: &mut Vec<TurnAction>) -> Step {
        match self.phase {
            Phase::Aborting(_) => self.stopped(now),
            Phase::Idle(_) if self.is_answered() => self.answered(actions),
            Phase::Idle(_) if self.answers.is_empty() => match &self.error {
                Some(error) => Err(Failure::model_error(error).into()),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn answered(&mut self, actions: &mut Vec<TurnAction>) -> Step {
        match self.answers.last().and_then(|answer| answer.error.as_ref()) {
            Some(error) => Err(Failure::model_error(error).into()),
            // One that has just been in vain is repeated after a while.
            None if self.is_doubtful() && self.rereads == 0 => self.ask_again(actions),
            None if self.is_doubtful() => Ok(()),
            None if self.reply.is_writing() => Ok(()),
            None => Err(self
                .reply
                .diverged()
                .map_or(Ending::Completed, |diverged| Failure::contradiction(diverged).into())),
        }
    }

    /// Returns true if the reply may be more than what was heard. The session's idleness is told twice, so the answer
    /// to a re-read must have come, not only have been asked for.
    fn is_doubtful(&self) -> bool {
        let is_confirmed = matches!(&self.phase, Phase::Idle(idle) if idle.is_confirmed);
        self.reply.is_incomplete() || !(self.reply.is_whole() || is_confirmed)
    }
}
