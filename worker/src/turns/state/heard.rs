//! What OpenCode's events say about a turn.

use std::time::Duration;

use super::{Action, Answer, End, MAX_ANSWERS, Phase, Step, Turn, questions::permit};
use crate::{
    opencode::{EventKind, MessageInfo, Part, PartKind, Status},
    turns::failure::Failure,
};

impl Turn {
    pub(super) fn opencode(&mut self, kind: EventKind, now: Duration, actions: &mut Vec<Action>) -> Step {
        self.last_sign = now;
        match kind {
            EventKind::Message(info) => self.message(info),
            EventKind::Part(part) => self.part(part, now),
            EventKind::Delta(delta) if delta.field == "text" => {
                self.reply.delta(&delta.part, &delta.delta, now)
            }
            EventKind::Status(Status::Idle) | EventKind::Idle => self.idle(now),
            EventKind::Status(Status::Retry { attempt, message }) => {
                self.is_busy();
                return self.put_off(attempt, message, now, actions);
            }
            EventKind::Status(_) => self.is_busy(),
            // The end of an earlier turn, whose abort took longer than it was waited for.
            EventKind::Error(error) if error.is_abort() && self.phase == Phase::Prompted => {}
            EventKind::Error(error) => {
                self.works();
                self.error = Some(error);
            }
            EventKind::PermissionAsked(asked) => return self.asked(asked, now, actions),
            EventKind::PermissionReplied { id } => return permit(self.questions.settled(&id), actions),
            EventKind::QuestionAsked { .. } => return self.abort(Failure::asked(), now, actions),
            EventKind::SessionDeleted(_) => {
                return Err(Failure::session_deleted().into());
            }
            _ => {}
        }
        Ok(())
    }

    /// A session that a tool of this turn started: it shows life, and its questions hold up the turn.
    pub(super) fn child(&mut self, kind: EventKind, now: Duration, actions: &mut Vec<Action>) -> Step {
        match kind {
            EventKind::PermissionAsked(_)
            | EventKind::PermissionReplied { .. }
            | EventKind::QuestionAsked { .. } => self.opencode(kind, now, actions),
            _ => {
                self.last_sign = now;
                Ok(())
            }
        }
    }

    pub(super) fn message(&mut self, info: MessageInfo) {
        if !self.thread.takes(&info) {
            return;
        }
        self.works();
        let end = match info.finish.as_deref() {
            _ if info.completed.is_none() => End::Open,
            // Followed by another step, unless a refusal or a tool ended the turn.
            Some("tool-calls") => End::Tools,
            None if info.error.is_none() => End::Cut,
            _ => End::Final,
        };
        let answer = Answer { id: info.id, end, error: info.error };
        // Ids ascend with time. After a gap a later step may be seen before an earlier one is read.
        match self.answers.binary_search_by(|known| known.id.cmp(&answer.id)) {
            Ok(known) => self.answers[known] = answer,
            Err(place) => self.answers.insert(place, answer),
        }
        if self.answers.len() > MAX_ANSWERS {
            self.answers.remove(0);
        }
    }

    fn part(&mut self, part: Part, now: Duration) {
        self.retries.are_over();
        self.thread.takes_part(&part);
        let PartKind::Text { text, ended, .. } = part.kind else { return };
        if !self.answers.iter().any(|answer| answer.id == part.message) {
            self.reply.overlook();
        } else if ended {
            self.reply.end(&part.id, &text, now);
        } else {
            self.reply.begin(&part.id);
        }
    }

    /// What the session does, as far as no event told it. That it is busy says nothing new.
    pub(super) fn status(
        &mut self,
        status: Result<Option<Status>, String>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) -> Step {
        match status {
            Ok(None | Some(Status::Idle)) => self.idle(now),
            Ok(Some(Status::Retry { attempt, message })) if self.phase == Phase::Working => {
                return self.put_off(attempt, message, now, actions);
            }
            Ok(Some(_)) => {}
            Err(reason) => tracing::warn!(%reason, "what the session does cannot be read"),
        }
        Ok(())
    }

    pub(super) fn works(&mut self) {
        if self.phase == Phase::Prompted {
            self.phase = Phase::Working;
        }
    }

    /// Work that goes on after an idleness shows that the idleness was an earlier turn's.
    fn is_busy(&mut self) {
        if self.phase != Phase::Aborting {
            self.phase = Phase::Working;
            (self.settled, self.confirmed) = (false, false);
        }
    }

    /// Idleness before any sign of work belongs to an earlier turn.
    fn idle(&mut self, now: Duration) {
        match self.phase {
            Phase::Working => self.phase = Phase::Idle(now),
            Phase::Aborting => self.aborted_is_idle(now),
            Phase::Prompted | Phase::Idle(_) => {}
        }
    }
}
