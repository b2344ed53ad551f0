//! Why turns fail: a code for programs, a sentence for the person who reads the chat.

use std::time::Duration;

use crate::{
    error::CallError,
    opencode::{ApiError, RemoteError, ServerError},
    stream::Diverged,
};

/// Why a turn failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What programs tell it by.
    pub code: &'static str,
    /// What the person reads: what happened, and what can be done.
    pub message: String,
}

/// Why the worker itself stopped a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A person ended the session.
    Cancelled,
    /// The worker stops.
    Stopping,
    /// OpenCode was silent for too long.
    Silent,
    /// The model asked a question that only a person could answer.
    Asked,
    /// The backend says that the turn has ended already.
    Gone,
}

impl Failure {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn of(reason: Reason, idle_timeout: Duration) -> Self {
        match reason {
            Reason::Cancelled => {
                Self::new("session_ended", "The session was ended while this message was being answered.")
            }
            Reason::Stopping => Self::new(
                "worker_stopped",
                "The worker was stopped while it was answering this message. Send it again if you still need an answer.",
            ),
            Reason::Silent => Self::new(
                "idle_timeout",
                format!(
                    "OpenCode was silent for {} s, so the reply was given up. Send the message again.",
                    idle_timeout.as_secs()
                ),
            ),
            Reason::Asked => Self::new(
                "question_asked",
                "The model asked a question that nobody here can answer. Send the message again with more detail.",
            ),
            Reason::Gone => Self::new("gone", "The turn had ended already."),
        }
    }

    pub(super) fn server_start(error: &ServerError) -> Self {
        Self::new("opencode_unavailable", format!("OpenCode could not be started: {error}"))
    }

    pub(super) fn server_lost(reason: &str) -> Self {
        let message = format!("OpenCode stopped while it was answering ({reason}). Send the message again.");
        Self::new("opencode_lost", message)
    }

    pub(super) fn create(error: &ApiError) -> Self {
        Self::new("session_not_created", format!("OpenCode made no session for this chat: {error}"))
    }

    pub(super) fn prompt(error: &ApiError) -> Self {
        Self::new("prompt_refused", format!("OpenCode did not take the message: {error}"))
    }

    pub(super) fn model_name(error: &impl std::fmt::Display) -> Self {
        Self::new("model_unknown", format!("The chosen model cannot be used: {error}"))
    }

    pub(super) fn not_stored(error: &CallError) -> Self {
        Self::new("not_stored", format!("The reply could not be stored: {error}. Send the message again."))
    }

    pub(super) fn session_deleted() -> Self {
        let message = "The OpenCode session was deleted while it was answering. Send the message again.";
        Self::new("session_deleted", message)
    }

    pub(super) fn no_reply() -> Self {
        Self::new("no_reply", "OpenCode took the message but gave no complete reply. Send it again.")
    }

    pub(super) fn stopped_after_tools() -> Self {
        let message = "OpenCode stopped after using tools and said nothing more. What it wrote before is kept; send another message to let it go on.";
        Self::new("stopped_after_tools", message)
    }

    /// `why` is a whole sentence but for its full stop.
    pub(super) fn permission_refused(why: &str) -> Self {
        let message = format!("{why}. Send the message again if it can be done otherwise.");
        Self::new("permission_refused", message)
    }

    pub(super) fn prompt_lost() -> Self {
        let message = "OpenCode accepted the message but did not begin to answer it. Send it again.";
        Self::new("prompt_lost", message)
    }

    pub(super) fn contradiction(diverged: &Diverged) -> Self {
        let message = format!("The reply changed after it was shown: {diverged}. Send the message again.");
        Self::new("reply_changed", message)
    }

    pub(super) fn model_error(error: &RemoteError) -> Self {
        let code = if error.is_abort() { "aborted" } else { "model_error" };
        Self::new(code, format!("The model could not answer: {}", error.message))
    }
}
