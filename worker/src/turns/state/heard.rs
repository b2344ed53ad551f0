//! What OpenCode's events say about a turn.

use std::time::Duration;

use super::{Action, Answer, Phase, Step, Turn, questions::permit};
use crate::{
    opencode::{EventKind, MessageInfo, Part, PartKind, Role, Status},
    turns::failure::{Failure, Reason},
};

impl Turn {
    pub(super) fn opencode(&mut self, kind: EventKind, now: Duration, actions: &mut Vec<Action>) -> Step {
        self.last_sign = now;
        match kind {
            EventKind::Message(info) => self.message(info),
            EventKind::Part(part) => return self.part(part, now),
            EventKind::Delta(delta) if delta.field == "text" => {
                self.reply.delta(&delta.part, &delta.delta, now)
            }
            EventKind::Status(Status::Idle) | EventKind::Idle => self.idle(now),
            EventKind::Status(_) => self.is_busy(),
            // The end of an earlier turn, whose abort took longer than it was waited for.
            EventKind::Error(error) if error.is_abort() && self.phase == Phase::Prompted => {}
            EventKind::Error(error) => {
                self.works();
                self.error = Some(error);
            }
            EventKind::PermissionAsked(asked) => return self.asked(asked, now, actions),
            EventKind::PermissionReplied { id } => return permit(self.questions.settled(&id), actions),
            EventKind::QuestionAsked { .. } => return self.abort(Reason::Asked, now, actions),
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
        if info.role != Role::Assistant || info.parent.as_deref() != Some(&self.prompt) {
            return;
        }
        self.works();
        // A step that called tools is followed by another one, unless a refusal or a tool ended the turn.
        let called_tools = info.finish.as_deref() == Some("tool-calls");
        let has_ended = info.completed.is_some();
        let answer = Answer {
            id: info.id,
            completed: has_ended && !called_tools,
            has_successor: has_ended && called_tools,
            error: info.error,
        };
        // Ids ascend with time. After a gap a later step may be seen before an earlier one is read.
        match self.answers.binary_search_by(|known| known.id.cmp(&answer.id)) {
            Ok(known) => self.answers[known] = answer,
            Err(place) => self.answers.insert(place, answer),
        }
    }

    fn part(&mut self, part: Part, now: Duration) -> Step {
        let PartKind::Text { text, ended, .. } = part.kind else { return Ok(()) };
        if !self.answers.iter().any(|answer| answer.id == part.message) {
            self.reply.overlook();
            return Ok(());
        }
        if ended {
            return self
                .reply
                .end(&part.id, &text, now)
                .map_err(|diverged| Failure::contradiction(&diverged).into());
        }
        self.reply.begin(&part.id);
        Ok(())
    }

    pub(super) fn works(&mut self) {
        if self.phase == Phase::Prompted {
            self.phase = Phase::Working;
        }
    }

    /// Work that goes on after an idleness shows that the idleness was an earlier turn's.
    fn is_busy(&mut self) {
        if !matches!(self.phase, Phase::Aborting(..)) {
            self.phase = Phase::Working;
            (self.settled, self.confirmed) = (false, false);
        }
    }

    /// Idleness before any sign of work belongs to an earlier turn.
    fn idle(&mut self, now: Duration) {
        if self.phase == Phase::Working {
            self.phase = Phase::Idle(now);
        }
    }
}
