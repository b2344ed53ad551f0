//! What the fake tells whoever watches the run.

/// One thing that happened. The observer is called at once, in order; it must not call back into the fake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation<'a> {
    /// A server process began to start.
    ServerStarted {
        /// Counts from 1 over the life of the machine.
        generation: u64,
    },
    /// A server process ended, by whatever cause.
    ServerStopped {
        /// Which one.
        generation: u64,
        /// Replies that were under way and are lost.
        lost_replies: usize,
    },
    /// A request was answered. One whose client goes away first is not reported; what it began goes on.
    Request {
        /// Such as `GET`.
        method: &'a str,
        /// The route's template, such as `/session/{sessionID}`; `*` for one that does not exist.
        route: &'a str,
        /// The HTTP status.
        status: u16,
    },
    /// A session is being created.
    CreateStarted {
        /// Creations under way, with this one.
        in_flight: usize,
    },
    /// A creation ended.
    CreateEnded {
        /// The new session, or nothing when the caller went away first.
        session: Option<&'a str>,
        /// Creations still under way.
        in_flight: usize,
    },
    /// A prompt was stored as a user message.
    Prompted {
        /// The OpenCode session.
        session: &'a str,
        /// The user message.
        message: &'a str,
        /// Its text parts.
        text: &'a str,
    },
    /// The model said a piece of a reply's text, and the event with it was published.
    Said {
        /// The OpenCode session.
        session: &'a str,
        /// The user message that is being answered.
        message: &'a str,
        /// Bytes of the piece.
        bytes: usize,
    },
    /// The reply to a prompt ended (a crash ends it without this).
    ReplyEnded {
        /// The OpenCode session.
        session: &'a str,
        /// The user message that was answered: the same as in `Prompted`. Of merged prompts, the last.
        message: &'a str,
        /// The whole text of the reply: its parts, with an empty line between them.
        text: &'a str,
        /// How it ended.
        outcome: ReplyOutcome,
    },
    /// Somebody asked to abort a session, whether or not something ran.
    Aborted {
        /// The OpenCode session.
        session: &'a str,
    },
    /// A client opened an event stream.
    EventStreamOpened {
        /// Streams open now.
        open: usize,
    },
    /// An event stream ended.
    EventStreamClosed {
        /// Streams open now.
        open: usize,
    },
    /// A session of the servers' directory that is no child is there with this title: it was made, renamed, or there from the beginning.
    SessionStands {
        /// The session.
        session: &'a str,
        /// Its title.
        title: &'a str,
    },
    /// The same of a session of another directory than the servers'.
    ForeignSessionStands {
        /// The session.
        session: &'a str,
        /// Its title.
        title: &'a str,
    },
    /// A session of the servers' directory that is no child was deleted.
    SessionDeleted {
        /// The session.
        session: &'a str,
    },
    /// Sessions were listed.
    SessionsListed {
        /// So many were in the answer.
        count: usize,
    },
    /// The list of models was asked for.
    ModelsListed,
    /// A request asked for something that the fake does not model. A run in which this happens proves nothing.
    Refused {
        /// Such as `GET`.
        method: &'a str,
        /// The route's template.
        route: &'a str,
        /// What is not modelled.
        what: &'a str,
    },
}

/// How a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// The model stopped by itself.
    Completed,
    /// The model answered with an HTTP status.
    ModelError(u16),
    /// It was aborted; the text is what had come by then.
    Aborted,
    /// The model does not exist: there is no assistant message at all.
    UnknownModel,
    /// Somebody refused the permission that a tool asked for.
    PermissionRefused,
    /// The session was deleted in the middle.
    SessionDeleted,
}
