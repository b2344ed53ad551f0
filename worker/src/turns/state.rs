//! One claimed turn from its prompt to its end. Event in, actions out; no async, no clock, no I/O.
//!
//! What OpenCode really does shapes the rules (measured on 1.18.33): `prompt_async` answers before anything is
//! stored, so a prompt counts as begun only when an event shows it; `idle` may come before `busy`; after an abort
//! or a model's error `idle` comes before the last part and the completed message; an unknown model gives an error
//! event and no message at all; after a lost event stream only a re-read tells what happened.

mod ending;
mod heard;
mod questions;
mod reread;

use std::time::Duration;

use self::questions::permit;
use crate::{
    config::Settings,
    convex::api::Written,
    opencode::{Message, PermissionAsked, RemoteError, SessionEvent},
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
}

#[cfg(test)]
mod tests;
