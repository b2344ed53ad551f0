//! What OpenCode's events say about a turn.

use std::time::Duration;

use super::{Answer, End, MAX_ANSWERS, Phase, Step, Turn, TurnAction, permit};
use crate::{
    opencode::{EventKind, MessageInfo, Part, PartKind, SessionStatus},
    turns::failure::Failure,
};

impl Turn {
    pub(super) fn opencode(&mut self, kind: EventKind, now: Duration, actions: &mut Vec<TurnAction>) -> Step {
        self.last_sign = now;
        match kind {
            EventKind::Message(info) => self.message(info),
            EventKind::Part(part) => self.part(part, now),
            EventKind::Delta(delta) if delta.field == "text" => {
                self.reply.delta(&delta.part, &delta.delta, now)
            }
            EventKind::Status(SessionStatus::Idle) | EventKind::Idle => self.session_became_idle(now),
            EventKind::Status(SessionStatus::Retry { attempt, message }) => {
                self.session_became_busy();
                return self.put_off(attempt, message, now, actions);
            }
            EventKind::Status(_) => self.session_became_busy(),
            // The end of an earlier turn, whose abort took longer than it was waited for.
            EventKind::Error(error) if error.is_abort() && matches!(self.phase, Phase::Prompted) => {}
            EventKind::Error(error) => {
                self.note_work();
                self.error = Some(error);
            }
            EventKind::PermissionAsked(asked) => return self.asked(asked, now, actions),
            EventKind::PermissionReplied { id } => return permit(self.questions.replied(&id), actions),
            EventKind::QuestionAsked { .. } => return self.abort(Failure::asked(), now, actions),
            EventKind::SessionDeleted(_) => {
                return Err(Failure::session_deleted().into());
            }
            _ => {}
        }
        Ok(())
    }

    /// A session that a tool of this turn started: it shows life, and its questions hold up the turn.
    pub(super) fn child(&mut self, kind: EventKind, now: Duration, actions: &mut Vec<TurnAction>) -> Step {
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
        if !self.thread.take_message(&info) {
            return;
        }
        self.note_work();
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
        self.retries.reset();
        self.thread.take_part(&part);
        let PartKind::Text { text, ended, .. } = part.kind else { return };
        if !self.answers.iter().any(|answer| answer.id == part.message) {
            self.reply.overlook();
        } else if ended {
            self.reply.end(&part.id, &text, now);
        } else {
            self.reply.begin(&part.id);
        }
    }

    /// Takes in what the session does, as far as no event told it. That it is busy says nothing new.
    pub(super) fn status(
        &mut self,
        status: Result<Option<SessionStatus>, String>,
        now: Duration,
        actions: &mut Vec<TurnAction>,
    ) -> Step {
        match status {
            Ok(None | Some(SessionStatus::Idle)) => self.session_became_idle(now),
            Ok(Some(SessionStatus::Retry { attempt, message })) if matches!(self.phase, Phase::Working) => {
                return self.put_off(attempt, message, now, actions);
            }
            Ok(Some(_)) => {}
            Err(reason) => tracing::warn!(%reason, "what the session does cannot be read"),
        }
        Ok(())
    }

    /// The model has refused; `attempt` counts its refusals.
    fn put_off(&mut self, attempt: u64, said: String, now: Duration, actions: &mut Vec<TurnAction>) -> Step {
        if self.retries.refused(attempt, said, now) { Ok(()) } else { self.give_up_the_model(now, actions) }
    }

    /// OpenCode shows that it works on the prompt.
    pub(super) fn note_work(&mut self) {
        if matches!(self.phase, Phase::Prompted) {
            self.phase = Phase::Working;
        }
    }

    /// Work that goes on after an idleness shows that the idleness was an earlier turn's.
    fn session_became_busy(&mut self) {
        if !self.phase.is_aborting() {
            self.phase = Phase::Working;
        }
    }

    /// Idleness before any sign of work belongs to an earlier turn.
    fn session_became_idle(&mut self, now: Duration) {
        match &mut self.phase {
            Phase::Working => self.phase = Phase::idle(now),
            Phase::Aborting(abort) => drop(abort.idle.get_or_insert(now)),
            Phase::Prompted | Phase::Idle(_) => {}
        }
    }
}
