//! One claimed turn from its prompt to its end. Event in, actions out; no async, no clock, no I/O.
//!
//! What OpenCode really does shapes the rules (measured on 1.18.33): `prompt_async` answers before anything is
//! stored, so a prompt counts as begun only when an event shows it; `idle` may come before `busy`; after an abort
//! or a model's error `idle` comes before the last part and the completed message; an unknown model gives an error
//! event and no message at all; after a lost event stream only a re-read tells what happened.

use std::time::Duration;

use crate::{
    config::Settings,
    convex::api::Written,
    opencode::{
        EventKind, Message, MessageInfo, Part, PartKind, PermissionAsked, RemoteError, Role, SessionEvent,
        Status,
    },
    stream::{Chunk, Reply},
    turns::{
        failure::{Failure, Reason},
        permissions::{self, Questions},
    },
};

/// A prompt that shows no effect for this long is looked after, and so is a reply that is complete while the
/// session does not become idle.
const OVERDUE: Duration = Duration::from_secs(15);
/// How long the last message may follow the session's idleness.
const SETTLE: Duration = Duration::from_secs(2);
/// How long an abort may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// A turn that is silent for this long may wait for an answer to a question that nobody heard: the open questions are
/// looked at, again and again.
const QUIET: Duration = Duration::from_secs(30);
/// Re-reads without a result after which a turn fails.
const MAX_REREADS: u32 = 5;

/// What happens to a turn.
#[derive(Debug)]
pub enum Event {
    /// The server's event stream said something.
    Opencode(SessionEvent),
    /// OpenCode does not know the session any more.
    Deleted,
    /// The session's newest messages, or why they cannot be had.
    Reread(Result<Vec<Message>, String>),
    /// The session's open permission questions, or why they cannot be had.
    Asking(Result<Vec<PermissionAsked>, String>),
    /// A person has answered a permission question.
    Decided {
        /// Names the question.
        id: String,
        /// What they said.
        allow: bool,
    },
    /// A permission question cannot be shown to anybody.
    NotRelayed {
        /// Names the question.
        id: String,
    },
    /// Nobody's answers can be seen.
    NoAnswers,
    /// The chunk that was being written is stored, or the turn had ended meanwhile.
    Written(Written),
    /// The moment that [`Turn::deadline`] named has come.
    Tick,
    /// A person ended the session.
    Cancel,
    /// The worker stops and the grace period is over.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Store this.
    Write(Chunk),
    /// Fetch the session's newest messages.
    Reread,
    /// Ask OpenCode to stop.
    Abort,
    /// Look which permission questions of the session are open.
    ListQuestions,
    /// Do something about a permission question.
    Permission(permissions::Action),
    /// The turn is over. No event is taken any more.
    End(Ending),
}

/// How a turn ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With a whole reply.
    Completed,
    /// Without one; what came is kept.
    Failed(Failure),
    /// It was ended by somebody else; nothing is to be written.
    Gone,
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// One running turn.
#[derive(Debug)]
pub struct Turn {
    /// The id that the prompt carried: messages that answer it are this turn's.
    prompt: String,
    idle_timeout: Duration,
    /// The reply so far.
    pub reply: Reply,
    /// This turn's assistant messages, in order (one per step).
    answers: Vec<Answer>,
    error: Option<RemoteError>,
    phase: Phase,
    rereading: bool,
    /// Whether the messages were read again since the session became idle.
    confirmed: bool,
    rereads: u32,
    last_sign: Duration,
    questions: Questions,
    /// The open questions are being looked at.
    looking: bool,
    /// When they were looked at last.
    looked: Duration,
    /// The end without a last step was checked: a re-read confirms it or shows what follows.
    settled: bool,
}

/// `Err`: the turn is over, like this.
type Step = Result<(), Ending>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing shows yet that OpenCode works on the prompt.
    Prompted,
    /// It works.
    Working,
    /// It says that it has finished; since when.
    Idle(Duration),
    /// It was asked to stop; since when.
    Aborting(Duration, Reason),
}

#[derive(Debug)]
struct Answer {
    id: String,
    completed: bool,
    /// It is complete, and a further step should follow: it called tools.
    has_successor: bool,
    error: Option<RemoteError>,
}

impl Turn {
    /// A turn whose prompt, with the message id `prompt`, is about to be sent at `now`.
    pub fn new(prompt: String, settings: &Settings, now: Duration) -> Self {
        Self {
            prompt,
            idle_timeout: settings.turns.idle_timeout,
            reply: Reply::new(&settings.turns),
            answers: Vec::new(),
            error: None,
            phase: Phase::Prompted,
            rereading: false,
            confirmed: false,
            rereads: 0,
            last_sign: now,
            questions: Questions::new(&settings.opencode),
            looking: false,
            looked: now,
            settled: false,
        }
    }

    /// A person is being asked for a permission, so their answers must be watched.
    pub fn waits_for_a_person(&self) -> bool {
        self.questions.are_open()
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn deadline(&self) -> Option<Duration> {
        self.patience_ends().into_iter().chain(self.reply.due_at()).min()
    }

    /// When the present phase has lasted too long.
    fn patience_ends(&self) -> Option<Duration> {
        match self.phase {
            Phase::Aborting(since, _) => Some(since + ABORT_TIMEOUT),
            // A re-read is bounded by the time that a request may take.
            _ if self.rereading => None,
            Phase::Prompted => Some(self.last_sign + OVERDUE),
            Phase::Working if self.is_answered() => Some(self.last_sign + OVERDUE),
            Phase::Working => self.questions.until().or(Some(self.next_look())),
            Phase::Idle(since) => Some(since + SETTLE),
        }
    }

    /// When a silent turn's questions are looked at next, or the turn is given up.
    fn next_look(&self) -> Duration {
        let gives_up = self.last_sign + self.idle_timeout;
        if self.looking { gives_up } else { gives_up.min(self.last_sign.max(self.looked) + QUIET) }
    }

    /// Takes in an event at `now` (a duration since any fixed point; it never goes back).
    pub fn apply(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let result = match event {
            Event::Opencode(SessionEvent::Event(event)) => self.opencode(event.kind, now, &mut actions),
            Event::Opencode(SessionEvent::Child(event)) => self.child(event.kind, now, &mut actions),
            Event::Opencode(SessionEvent::Gap) => self.gap(&mut actions),
            Event::Opencode(SessionEvent::ServerLost { reason }) => Err(Failure::server_lost(&reason).into()),
            Event::Deleted => Err(Failure::session_deleted().into()),
            Event::Reread(messages) => self.reread(messages, now, &mut actions),
            Event::Asking(questions) => self.asking(questions, now, &mut actions),
            Event::Decided { id, allow } => {
                self.last_sign = now;
                permit(self.questions.decided(&id, allow), &mut actions)
            }
            Event::NotRelayed { id } => permit(self.questions.unreachable(&id), &mut actions),
            Event::NoAnswers => permit(self.questions.all_unreachable(), &mut actions),
            Event::Written(written) => self.written(written, now, &mut actions),
            Event::Tick => self.tick(now, &mut actions),
            Event::Cancel => self.abort(Reason::Cancelled, now, &mut actions),
            Event::Stop => self.abort(Reason::Stopping, now, &mut actions),
        };
        match result.and_then(|()| self.conclude(&mut actions)) {
            Err(ending) => actions.push(Action::End(ending)),
            Ok(()) => actions.extend(self.reply.due(now).map(Action::Write)),
        }
        actions
    }

    fn opencode(&mut self, kind: EventKind, now: Duration, actions: &mut Vec<Action>) -> Step {
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
    fn child(&mut self, kind: EventKind, now: Duration, actions: &mut Vec<Action>) -> Step {
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

    fn message(&mut self, info: MessageInfo) {
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

    fn asked(&mut self, asked: PermissionAsked, now: Duration, actions: &mut Vec<Action>) -> Step {
        self.works();
        match self.phase {
            Phase::Aborting(..) => permit([self.questions.asked_too_late(asked)], actions),
            _ => permit(self.questions.asked(asked, now), actions),
        }
    }

    fn asking(
        &mut self,
        questions: Result<Vec<PermissionAsked>, String>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) -> Step {
        self.looking = false;
        self.looked = now;
        match questions {
            Ok(questions) => questions.into_iter().try_for_each(|asked| self.asked(asked, now, actions)),
            Err(reason) => {
                tracing::warn!(%reason, "the open permission questions cannot be read");
                Ok(())
            }
        }
    }

    fn look_for_questions(&mut self, actions: &mut Vec<Action>) {
        if !self.looking {
            self.looking = true;
            actions.push(Action::ListQuestions);
        }
    }

    fn works(&mut self) {
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

    fn gap(&mut self, actions: &mut Vec<Action>) -> Step {
        self.reply.gap();
        self.look_for_questions(actions);
        self.ask_again(actions)
    }

    /// Asks for the messages, unless that is under way. The answer may be older than what comes meanwhile, so a
    /// reply that is incomplete at its end is read once more.
    fn ask_again(&mut self, actions: &mut Vec<Action>) -> Step {
        if self.rereading {
            return Ok(());
        }
        if self.rereads >= MAX_REREADS {
            return Err(Failure::no_reply().into());
        }
        self.rereading = true;
        self.rereads += 1;
        actions.push(Action::Reread);
        Ok(())
    }

    fn reread(
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
        let is_ours =
            |m: &&Message| m.info.role == Role::Assistant && m.info.parent.as_ref() == Some(&self.prompt);
        let ours: Vec<&Message> = messages.iter().filter(is_ours).collect();
        for message in &ours {
            self.message(message.info.clone());
        }
        let parts = ours.iter().flat_map(|message| &message.parts).filter_map(text_of);
        self.reply.reread(parts, now).map_err(|diverged| Failure::contradiction(&diverged))?;
        self.confirmed = matches!(self.phase, Phase::Idle(_));
        self.after_reread(messages.iter().any(|m| m.info.id == self.prompt), now, actions)
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
            Phase::Aborting(..) => {}
        }
        if self.rereads >= MAX_REREADS { self.ask_again(actions) } else { Ok(()) }
    }

    fn written(&mut self, written: Written, now: Duration, actions: &mut Vec<Action>) -> Step {
        self.reply.written();
        match written {
            Written::Written => Ok(()),
            Written::Ended => self.abort(Reason::Gone, now, actions),
        }
    }

    fn tick(&mut self, now: Duration, actions: &mut Vec<Action>) -> Step {
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

    fn abort(&mut self, reason: Reason, now: Duration, actions: &mut Vec<Action>) -> Step {
        if !matches!(self.phase, Phase::Aborting(..)) {
            self.phase = Phase::Aborting(now, reason);
            actions.push(Action::Abort);
        }
        Ok(())
    }

    /// Whether the last step's message is complete and no further step follows.
    fn is_answered(&self) -> bool {
        self.answers.last().is_some_and(|answer| answer.completed)
    }

    /// Whether the last step that is known called tools, and its successor never came.
    fn stopped_after_tools(&self) -> bool {
        self.answers.last().is_some_and(|answer| answer.has_successor)
    }

    /// Ends the turn if everything that its end needs is there. May ask for what is missing.
    fn conclude(&mut self, actions: &mut Vec<Action>) -> Step {
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

fn permit(all: impl IntoIterator<Item = permissions::Action>, actions: &mut Vec<Action>) -> Step {
    actions.extend(all.into_iter().map(Action::Permission));
    Ok(())
}

/// A text part's id, and its text if it is final.
fn text_of(part: &Part) -> Option<(&str, Option<&str>)> {
    matches!(part.kind, PartKind::Text { .. }).then(|| (part.id.as_str(), part.text()))
}

#[cfg(test)]
mod tests;
