//! Permission questions: those that are heard, and those that nobody heard and that are looked for.

use std::time::Duration;

use super::{Look, Phase, Step, Turn, TurnAction, permit};
use crate::opencode::PermissionAsked;

/// A turn that is silent for this long may wait for an answer to a question that nobody heard: the open questions are
/// looked at, again and again.
const QUIET: Duration = Duration::from_secs(30);

impl Turn {
    /// Returns when a silent turn's questions are looked at next, or the turn is given up.
    pub(super) fn next_look(&self) -> Duration {
        let gives_up = self.last_sign + self.idle_timeout;
        match self.look {
            Look::Pending => gives_up,
            Look::Done(looked) => gives_up.min(self.last_sign.max(looked) + QUIET),
        }
    }

    pub(super) fn asked(
        &mut self,
        asked: PermissionAsked,
        now: Duration,
        actions: &mut Vec<TurnAction>,
    ) -> Step {
        self.note_work();
        match self.phase {
            Phase::Aborting(_) => permit([self.questions.refuse_late(asked)], actions),
            _ => permit(self.questions.asked(asked, now), actions),
        }
    }

    pub(super) fn questions_listed(
        &mut self,
        questions: Result<Vec<PermissionAsked>, String>,
        now: Duration,
        actions: &mut Vec<TurnAction>,
    ) -> Step {
        self.look = Look::Done(now);
        // One after the other: each request holds a connection.
        actions.push(TurnAction::AskStatus);
        match questions {
            Ok(questions) => questions.into_iter().try_for_each(|asked| self.asked(asked, now, actions)),
            Err(reason) => {
                tracing::warn!(%reason, "the open permission questions cannot be read");
                Ok(())
            }
        }
    }

    /// Looks for what no event told: open questions, and that the session has become idle.
    pub(super) fn begin_look(&mut self, actions: &mut Vec<TurnAction>) {
        if self.look != Look::Pending {
            self.look = Look::Pending;
            actions.push(TurnAction::ListQuestions);
        }
    }
}
