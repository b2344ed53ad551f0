//! One claimed turn from its prompt to its end. TurnEvent in, actions out; no async, no clock, no I/O.
//!
//! What OpenCode really does shapes the rules (measured on 1.18.33): `prompt_async` answers before anything is
//! stored, so a prompt counts as begun only when an event shows it; `idle` may come before `busy`; after an abort
//! or a model's error `idle` comes before the last part and the completed message; an unknown model gives an error
//! event and no message at all; after a lost event stream only a re-read tells what happened.

mod abort;
mod ending;
mod heard;
mod phase;
mod questions;
mod reread;
mod retry;
mod thread;

use std::time::Duration;

pub use self::phase::Ending;
use self::{
    phase::{IDLE_GRACE, Phase},
    retry::Retries,
    thread::Thread,
};
use crate::{
    config::Settings,
    convex::api::Written,
    opencode::{Message, PermissionAsked, RemoteError, SessionEvent, SessionStatus},
    stream::{Chunk, Reply},
    turns::{
        failure::Failure,
        permissions::{NotAsked, PermissionAction, Questions},
    },
};

/// A prompt that shows no effect for this long is looked after, and so is a reply that is complete while the
/// session does not become idle.
const OVERDUE: Duration = Duration::from_secs(15);
/// Steps of one reply that are remembered. What older ones still say is found when the messages are read again.
const MAX_ANSWERS: usize = 64;

/// What happens to a turn.
#[derive(Debug)]
pub enum TurnEvent {
    /// The server's event stream said something.
    Opencode(SessionEvent),
    /// OpenCode does not know the session any more.
    Deleted,
    /// The session's messages, at least from the prompt on if they have it; or why they cannot be had.
    Reread(Result<Vec<Message>, String>),
    /// The session's messages can never be had, and why.
    Unreadable(String),
    /// What the session does (nothing if it is idle), or why that cannot be had.
    Status(Result<Option<SessionStatus>, String>),
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
        /// Why.
        why: NotAsked,
    },
    /// Nobody's answers can be seen.
    NoAnswers,
    /// The chunk that was being written is stored, or the turn had ended meanwhile.
    Written(Written),
    /// The chunk that was being written cannot be stored.
    NotWritten(Failure),
    /// The moment that [`Turn::deadline`] named has come.
    Tick,
    /// A person ended the session.
    Cancel,
    /// The worker stops and the grace period is over.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnAction {
    /// Store this.
    Write(Chunk),
    /// Fetch the session's messages from that one on.
    Reread {
        /// The prompt's.
        since: String,
    },
    /// Ask what the session does.
    AskStatus,
    /// Ask OpenCode to stop.
    Abort,
    /// Look which permission questions of the session are open.
    ListQuestions,
    /// Do something about a permission question.
    Permission(PermissionAction),
    /// The turn is over. No event is taken any more.
    End(Ending),
}

/// One running turn.
#[derive(Debug)]
pub struct Turn {
    thread: Thread,
    idle_timeout: Duration,
    /// The reply so far.
    pub reply: Reply,
    /// This turn's assistant messages, in order (one per step): the newest [`MAX_ANSWERS`].
    answers: Vec<Answer>,
    error: Option<RemoteError>,
    retries: Retries,
    phase: Phase,
    /// The messages are being read again, which may be so in any phase.
    rereading: bool,
    /// Re-reads since one last showed that OpenCode works.
    rereads: u32,
    last_sign: Duration,
    questions: Questions,
    look: Look,
}

/// The last look at the open questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It is under way.
    Pending,
    /// It was over at this moment.
    Done(Duration),
}

/// `Err`: the turn is over, like this.
type Step = Result<(), Ending>;

#[derive(Debug)]
struct Answer {
    id: String,
    end: End,
    error: Option<RemoteError>,
}

/// How a step has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not at all.
    Open,
    /// It called tools: a further step should follow.
    Tools,
    /// Without a word about why: it was stopped while the model was to be asked again, or the model's context was full
    /// (measured).
    Cut,
    /// By what the model said, or by an error.
    Final,
}

impl Turn {
    /// A turn whose prompt, with the message id `prompt`, is about to be sent at `now`.
    pub fn new(prompt: String, settings: &Settings, now: Duration) -> Self {
        Self {
            thread: Thread::new(prompt),
            idle_timeout: settings.turns.idle_timeout,
            reply: Reply::new(&settings.turns),
            answers: Vec::new(),
            error: None,
            retries: Retries::new(&settings.turns),
            phase: Phase::Prompted,
            rereading: false,
            rereads: 0,
            last_sign: now,
            questions: Questions::new(&settings.opencode),
            look: Look::Done(now),
        }
    }

    /// A person is being asked for a permission, so their answers must be watched.
    pub fn waits_for_a_person(&self) -> bool {
        self.questions.are_open()
    }

    /// Returns when [`TurnEvent::Tick`] is due, if nothing else happens before.
    pub fn deadline(&self) -> Option<Duration> {
        self.patience_ends().into_iter().chain(self.reply.due_at()).min()
    }

    /// Returns when the present phase will have lasted too long.
    fn patience_ends(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Aborting(abort) => Some(abort.until()),
            // A re-read is bounded by the time that a request may take.
            _ if self.rereading => None,
            Phase::Prompted => Some(self.last_sign + OVERDUE),
            Phase::Working if self.is_answered() => Some(self.last_sign + OVERDUE),
            Phase::Working => {
                let waits = self.questions.until().unwrap_or_else(|| self.next_look());
                Some(self.retries.until().map_or(waits, |until| until.min(waits)))
            }
            Phase::Idle(idle) => Some(idle.since + IDLE_GRACE),
        }
    }

    /// Takes in an event at `now` (a duration since any fixed point; it never goes back).
    pub fn apply(&mut self, event: TurnEvent, now: Duration) -> Vec<TurnAction> {
        let mut actions = Vec::new();
        let result = self.take_in(event, now, &mut actions);
        match result.and_then(|()| self.conclude(now, &mut actions)) {
            Err(ending) => self.end(ending, now, &mut actions),
            Ok(()) => actions.extend(self.reply.due(now).map(TurnAction::Write)),
        }
        actions
    }

    fn take_in(&mut self, event: TurnEvent, now: Duration, actions: &mut Vec<TurnAction>) -> Step {
        match event {
            TurnEvent::Opencode(SessionEvent::Event(event)) => self.opencode(event.kind, now, actions),
            TurnEvent::Opencode(SessionEvent::Child(event)) => self.child(event.kind, now, actions),
            TurnEvent::Opencode(SessionEvent::Gap) => self.gap(actions),
            TurnEvent::Opencode(SessionEvent::ServerLost { reason }) => self.server_lost(&reason, now),
            TurnEvent::Deleted => Err(Failure::session_deleted().into()),
            TurnEvent::Reread(messages) => self.reread(messages, now, actions),
            TurnEvent::Unreadable(why) => Err(Failure::unreadable(&why).into()),
            TurnEvent::Status(status) => self.status(status, now, actions),
            TurnEvent::Asking(questions) => self.questions_listed(questions, now, actions),
            TurnEvent::Decided { id, allow } => {
                self.last_sign = now;
                permit(self.questions.decided(&id, allow), actions)
            }
            TurnEvent::NotRelayed { id, why } => permit(self.questions.not_asked(&id, why), actions),
            TurnEvent::NoAnswers => permit(self.questions.all_unreachable(), actions),
            TurnEvent::Written(written) => self.written(written, now, actions),
            TurnEvent::NotWritten(failure) => {
                self.reply.abandon();
                Err(failure.into())
            }
            TurnEvent::Tick => self.tick(now, actions),
            TurnEvent::Cancel => self.abort(Failure::cancelled(), now, actions),
            TurnEvent::Stop => self.stop(now, actions),
        }
    }
}

/// Passes on what is to be done about permission questions.
fn permit(all: impl IntoIterator<Item = PermissionAction>, actions: &mut Vec<TurnAction>) -> Step {
    actions.extend(all.into_iter().map(TurnAction::Permission));
    Ok(())
}

#[cfg(test)]
mod tests;
