//! Permission questions: those that are heard, and those that nobody heard and that are looked for.

use std::time::Duration;

use super::{Action, Phase, Step, Turn};
use crate::{opencode::PermissionAsked, turns::permissions};

/// A turn that is silent for this long may wait for an answer to a question that nobody heard: the open questions are
/// looked at, again and again.
const QUIET: Duration = Duration::from_secs(30);

impl Turn {
    /// When a silent turn's questions are looked at next, or the turn is given up.
    pub(super) fn next_look(&self) -> Duration {
        let gives_up = self.last_sign + self.idle_timeout;
        if self.looking { gives_up } else { gives_up.min(self.last_sign.max(self.looked) + QUIET) }
    }

    pub(super) fn asked(&mut self, asked: PermissionAsked, now: Duration, actions: &mut Vec<Action>) -> Step {
        self.works();
        match self.phase {
            Phase::Aborting => permit([self.questions.asked_too_late(asked)], actions),
            _ => permit(self.questions.asked(asked, now), actions),
        }
    }

    pub(super) fn asking(
        &mut self,
        questions: Result<Vec<PermissionAsked>, String>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) -> Step {
        self.looking = false;
        self.looked = now;
        // One after the other: each request holds a connection.
        actions.push(Action::AskStatus);
        match questions {
            Ok(questions) => questions.into_iter().try_for_each(|asked| self.asked(asked, now, actions)),
            Err(reason) => {
                tracing::warn!(%reason, "the open permission questions cannot be read");
                Ok(())
            }
        }
    }

    /// Looks for what no event told: open questions, and that the session has become idle.
    pub(super) fn look(&mut self, actions: &mut Vec<Action>) {
        if !self.looking {
            self.looking = true;
            actions.push(Action::ListQuestions);
        }
    }
}

pub(super) fn permit(all: impl IntoIterator<Item = permissions::Action>, actions: &mut Vec<Action>) -> Step {
    actions.extend(all.into_iter().map(Action::Permission));
    Ok(())
}
