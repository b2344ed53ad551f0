//! Why turns fail: a code for programs, a sentence for the person who reads the chat.

use std::time::Duration;

use crate::{
    error::CallError,
    opencode::{ApiError, RemoteError, ServerError, error::cut},
    stream::Diverged,
};

const MODEL_UNKNOWN: &str = "model_unknown";

/// Why a turn failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What programs tell it by.
    pub code: &'static str,
    /// What the person reads: what happened, and what can be done.
    pub message: String,
}

impl Failure {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn cancelled() -> Self {
        Self::new("session_ended", "The session was ended while this message was being answered.")
    }

    pub(super) fn stopping() -> Self {
        let message = "The worker was stopped while it was answering this message. Send it again if you still need an answer.";
        Self::new("worker_stopped", message)
    }

    pub(super) fn silent(idle_timeout: Duration) -> Self {
        let seconds = idle_timeout.as_secs();
        let message = format!(
            "OpenCode was silent for {seconds} s, so the reply was given up. Send the message again."
        );
        Self::new("idle_timeout", message)
    }

    pub(super) fn asked() -> Self {
        let message = "The model asked a question that nobody here can answer. Send the message again with more detail.";
        Self::new("question_asked", message)
    }

    pub(super) fn gone() -> Self {
        Self::new("gone", "The turn had ended already.")
    }

    /// `said` is what the provider said last.
    pub(super) fn put_off(said: &str, attempts: u64) -> Self {
        let (said, times) = (first_line(said), if attempts == 1 { "once" } else { "again and again" });
        let message = format!(
            "The model's provider puts OpenCode off, which asked it {times}: {said}. Send the message again later, or choose another model."
        );
        Self::new("model_unavailable", message)
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

    pub(super) fn session_busy() -> Self {
        let message = "OpenCode still works on an earlier message of this chat and does not stop. Send the message again later, or in a new chat.";
        Self::new("session_busy", message)
    }

    pub(super) fn model_name(error: &impl std::fmt::Display) -> Self {
        Self::new(MODEL_UNKNOWN, format!("The chosen model cannot be used: {error}"))
    }

    fn unknown_model(said: &str) -> Self {
        let message = format!(
            "OpenCode does not have the model of this message ({}). Choose another model and send it again.",
            first_line(said)
        );
        Self::new(MODEL_UNKNOWN, message)
    }

    /// Returns true if the session keeps a model that does not exist.
    pub(super) fn spoils_session(&self) -> bool {
        self.code == MODEL_UNKNOWN
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
        let message = format!(
            "OpenCode changed the reply after it had been shown: {diverged}. What was shown is kept; OpenCode has the final text."
        );
        Self::new("reply_changed", message)
    }

    pub(super) fn unreadable(why: &str) -> Self {
        let message = format!(
            "The connection to OpenCode was interrupted and what it wrote meanwhile cannot be read: {why}. What came before is kept; send another message to let it go on."
        );
        Self::new("reply_unreadable", message)
    }

    pub(super) fn cut_off() -> Self {
        let message = "The reply was stopped in OpenCode before it was complete. Send the message again.";
        Self::new("aborted", message)
    }

    pub(super) fn model_error(error: &RemoteError) -> Self {
        if error.is_unknown_model() {
            return Self::unknown_model(&error.message);
        }
        let code = if error.is_abort() { "aborted" } else { "model_error" };
        Self::new(code, format!("The model could not answer: {}", error.message))
    }
}

/// Returns what fits into a sentence of what somebody else said.
fn first_line(said: &str) -> &str {
    let line = said.lines().next().unwrap_or_default().trim().trim_end_matches('.');
    if line.is_empty() { "it does not say why" } else { cut(line, RemoteError::MAX_MESSAGE) }
}
