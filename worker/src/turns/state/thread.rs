//! Which of a session's messages are the turn's.
//!
//! Its answers name the prompt as their parent. When the model's context is full, OpenCode asks it for a summary by a
//! user's message of its own, and lets it go on by another one, which is the parent of all that follows, within the same
//! run (measured on 1.18.33). The summary is no part of the reply.

use crate::opencode::{Message, MessageInfo, Part, PartKind, Role};

/// See the file's comment. Of the messages that OpenCode puts there, only the newest matter.
#[derive(Debug, Clone)]
pub(super) struct Thread {
    prompt: String,
    /// By which OpenCode lets the model go on.
    latest: Option<String>,
    /// By which it asks for a summary, until it lets the model go on.
    summing_up: Option<String>,
    /// It lets the model go on, and no answer to that is known.
    waits: bool,
}

impl Thread {
    pub(super) fn new(prompt: String) -> Self {
        Self { prompt, latest: None, summing_up: None, waits: false }
    }

    pub(super) fn prompt(&self) -> &str {
        &self.prompt
    }

    /// More is to come, whatever the last answer says.
    pub(super) fn is_open(&self) -> bool {
        self.waits || self.summing_up.is_some()
    }

    /// Takes in a message; true if it is an answer of this turn.
    pub(super) fn take_message(&mut self, info: &MessageInfo) -> bool {
        match info.role {
            Role::User => {
                // Ids ascend, so an older one only tells its news.
                let goes_on = self.summing_up.as_ref().is_some_and(|request| info.id > *request);
                if goes_on && info.id != self.prompt {
                    self.summing_up = None;
                    self.latest = Some(info.id.clone());
                    self.waits = true;
                }
                false
            }
            Role::Assistant if info.is_summary => false,
            Role::Assistant => {
                let answers = |known: &String| info.parent.as_ref() == Some(known);
                let answers_latest = self.latest.as_ref().is_some_and(answers);
                self.waits &= !answers_latest;
                answers_latest || answers(&self.prompt)
            }
            Role::Unknown => false,
        }
    }

    /// Takes in a part, of whatever message.
    pub(super) fn take_part(&mut self, part: &Part) {
        let is_new = self.latest.as_ref().is_none_or(|latest| part.message > *latest);
        if part.kind == (PartKind::Compaction { auto: true }) && is_new {
            self.summing_up = Some(part.message.clone());
        }
    }

    /// The turn's answers among the session's messages, which are in order; what is newer in them is remembered.
    pub(super) fn find<'a>(&mut self, messages: &'a [Message]) -> Vec<&'a Message> {
        let prompt = messages.iter().position(|message| message.info.id == self.prompt);
        let mut seen = prompt.map_or_else(|| self.clone(), |_| Self::new(self.prompt.clone()));
        let mut ours = Vec::new();
        for message in &messages[prompt.unwrap_or(0)..] {
            message.parts.iter().for_each(|part| seen.take_part(part));
            if seen.take_message(&message.info) {
                ours.push(message);
            }
        }
        let newest = |thread: &Self| thread.summing_up.clone().max(thread.latest.clone());
        if newest(&seen) > newest(self) || (newest(&seen) == newest(self) && !seen.is_open()) {
            *self = seen;
        }
        ours
    }
}
