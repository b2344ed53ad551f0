//! How a turn comes to its end: by its last message, by an abort, or because its patience is over.

use std::time::Duration;

use super::{Action, Ending, Phase, Step, Turn, questions::permit};
use crate::{
    convex::api::Written,
    turns::failure::{Failure, Reason},
};

impl Turn {
    pub(super) fn written(&mut self, written: Written, now: Duration, actions: &mut Vec<Action>) -> Step {
        self.reply.written();
        match written {
            Written::Written => Ok(()),
            Written::Ended => self.abort(Reason::Gone, now, actions),
        }
    }

    pub(super) fn tick(&mut self, now: Duration, actions: &mut Vec<Action>) -> Step {
        if self.patience_ends().is_none_or(|end| now < end) {
            return Ok(());
        }
        match self.phase {
            Phase::Prompted => self.ask_again(actions),
            Phase::Working if self.is_answered() => self.ask_again(actions),
            Phase::Working if self.questions.are_open() => {
                self.last_sign = now;
                permit(self.questions.expire(now), actions)
            }
            Phase::Working if now < self.last_sign + self.idle_timeout => {
                self.look_for_questions(actions);
                Ok(())
            }
            Phase::Working => self.abort(Reason::Silent, now, actions),
            Phase::Idle(_) => {
                self.phase = Phase::Idle(now);
                self.settle(actions)
            }
            Phase::Aborting(_, reason) => Err(self.ending_of(reason)),
        }
    }

    /// The session has been idle for a while. Only a write may still be under way; else something is missing.
    fn settle(&mut self, actions: &mut Vec<Action>) -> Step {
        match &self.error {
            _ if self.is_answered() && !self.is_doubtful() => Ok(()),
            Some(error) => Err(Failure::model_error(error).into()),
            None => {
                self.settled = true;
                self.ask_again(actions)
            }
        }
    }

    pub(super) fn abort(&mut self, reason: Reason, now: Duration, actions: &mut Vec<Action>) -> Step {
        if !matches!(self.phase, Phase::Aborting(..)) {
            self.phase = Phase::Aborting(now, reason);
            actions.push(Action::Abort);
        }
        Ok(())
    }

    /// Whether the last step's message is complete and no further step follows.
    pub(super) fn is_answered(&self) -> bool {
        self.answers.last().is_some_and(|answer| answer.completed)
    }

    /// Whether the last step that is known called tools, and its successor never came.
    pub(super) fn stopped_after_tools(&self) -> bool {
        self.answers.last().is_some_and(|answer| answer.has_successor)
    }

    /// Ends the turn if everything that its end needs is there. May ask for what is missing.
    pub(super) fn conclude(&mut self, actions: &mut Vec<Action>) -> Step {
        match self.phase {
            Phase::Aborting(_, reason) if self.is_answered() => Err(self.ending_of(reason)),
            Phase::Idle(_) if self.is_answered() => self.answered(actions),
            Phase::Idle(_) if self.answers.is_empty() => match &self.error {
                Some(error) => Err(Failure::model_error(error).into()),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn answered(&mut self, actions: &mut Vec<Action>) -> Step {
        match self.answers.last().and_then(|answer| answer.error.as_ref()) {
            Some(error) => Err(Failure::model_error(error).into()),
            // One that has just been in vain is repeated after a while.
            None if self.is_doubtful() && self.rereads == 0 => self.ask_again(actions),
            None if self.is_doubtful() => Ok(()),
            None if self.reply.is_writing() => Ok(()),
            None => Err(Ending::Completed),
        }
    }

    /// Whether the reply may be more than what was heard. The session's idleness is told twice, so the answer to a
    /// re-read must have come, not only have been asked for.
    fn is_doubtful(&self) -> bool {
        self.reply.is_incomplete() || !(self.reply.is_whole() || self.confirmed)
    }

    fn ending_of(&self, reason: Reason) -> Ending {
        match reason {
            Reason::Gone => Ending::Gone,
            _ => Failure::of(reason, self.idle_timeout).into(),
        }
    }
}
